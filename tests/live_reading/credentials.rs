//! As whom castoff asks: impersonation, exec plugins, proxies, contexts that do not exist.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::stub::Stub;

#[test]
fn impersonation_goes_with_every_request() {
    let stub = Stub::start(|_, _| None);
    stub.castoff(&[
        "migrate",
        "--as",
        "ada",
        "--as-group",
        "readers",
        "--as-group",
        "writers",
    ]);
    for request in stub.requests() {
        assert_eq!(
            request.header("impersonate-user"),
            Some("ada"),
            "{request:?}"
        );
        let groups: Vec<&str> = request
            .headers
            .iter()
            .filter(|(name, _)| name == "impersonate-group")
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(groups, ["readers", "writers"]);
    }
}

/// Makes a program in the stub's folder the credential plugin.
fn with_plugin(stub: &Stub, script: &str) {
    let path = stub.folder().join("plugin");
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    stub.kubeconfig(
        &format!(
            "{{exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, \
             command: {}}}}}",
            path.display()
        ),
        "",
    );
}

#[test]
fn the_token_of_an_exec_plugin_is_sent() {
    let stub = Stub::start(|_, _| None);
    with_plugin(
        &stub,
        "#!/bin/sh\necho '{\"apiVersion\":\"client.authentication.k8s.io/v1\",\
         \"kind\":\"ExecCredential\",\"status\":{\"token\":\"from-plugin\"}}'\n",
    );
    let run = stub.castoff(&["migrate"]);
    assert_eq!(run.stderr, "");
    for request in stub.requests() {
        assert_eq!(request.header("authorization"), Some("Bearer from-plugin"));
    }
}

#[test]
fn a_plugin_that_fails_is_named_and_what_it_printed_to_standard_output_is_not_repeated() {
    let stub = Stub::start(|_, _| None);
    with_plugin(
        &stub,
        "#!/bin/sh\necho a-secret-token\necho 'session has ended' >&2\nexit 7\n",
    );
    let run = stub.castoff(&["migrate"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    for part in [
        "plugin` failed (exit status: 7): session has ended",
        "cannot log in",
    ] {
        assert!(run.stderr.contains(part), "{}", run.stderr);
    }
    assert!(!run.stderr.contains("a-secret-token"), "{}", run.stderr);

    stub.kubeconfig(
        "{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, \
         command: /no/such/plugin}}",
        "",
    );
    let run = stub.castoff(&["migrate"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("cannot be run"), "{}", run.stderr);
}

#[test]
fn a_context_that_does_not_exist_is_answered_with_those_that_do() {
    let stub = Stub::start(|_, _| None);
    let run = stub.castoff(&["migrate", "--context", "production"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""));
    assert!(
        run.stderr
            .contains("the kubeconfig has no context `production`; it has `stub`"),
        "{}",
        run.stderr
    );
}

#[test]
fn requests_go_through_the_proxy_of_the_kubeconfig() {
    let stub = Stub::start(|_, _| None);
    let (proxy, tunnels) = proxy();
    stub.kubeconfig("{}", &format!("    proxy-url: http://{proxy}\n"));
    let run = stub.castoff(&["migrate"]);
    assert_eq!(run.stderr, "");
    assert!(run.stdout.contains("Read cluster stub"), "{}", run.stdout);
    assert!(tunnels.load(Ordering::SeqCst) > 0, "nothing came through");
}

/// A proxy that understands CONNECT only; counts the tunnels it made.
fn proxy() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let tunnels = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&tunnels);
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let counter = Arc::clone(&counter);
            std::thread::spawn(move || tunnel(client, &counter));
        }
    });
    (address, tunnels)
}

fn tunnel(mut client: TcpStream, tunnels: &AtomicUsize) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let target = head.strip_prefix("CONNECT ")?.split_whitespace().next()?;
    let mut server = TcpStream::connect(target).ok()?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    tunnels.fetch_add(1, Ordering::SeqCst);
    let (mut to_server, mut from_client) = (server.try_clone().ok()?, client.try_clone().ok()?);
    std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
    std::io::copy(&mut server, &mut client).ok()?;
    Some(())
}
