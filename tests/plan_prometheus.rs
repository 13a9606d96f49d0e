//! `castoff plan --prometheus`: one query, and every way in which it may fail.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(feature = "cluster")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Output;
use std::thread;

use assert_cmd::Command;

/// Answers one request with this status line and body; yields the request.
fn serve(status: &'static str, body: String) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        while !request.windows(4).any(|end| end == b"\r\n\r\n") {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the request ended early");
            request.extend_from_slice(&buffer[..count]);
        }
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        String::from_utf8(request).unwrap()
    });
    (address, served)
}

fn plan(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["plan", "--demo", "--output-dir", "out"])
        .args(arguments)
        .current_dir(folder.path())
        .env("NO_PROXY", "*")
        .env("CASTOFF_PROMETHEUS_TOKEN", "secret")
        .output()
        .unwrap()
}

fn series(caller: &str, server: &str) -> String {
    let (caller_namespace, caller) = caller.split_once('/').unwrap();
    let (server_namespace, server) = server.split_once('/').unwrap();
    format!(
        r#"{{"metric":{{"source_workload":"{caller}","source_workload_namespace":"{caller_namespace}","destination_workload":"{server}","destination_workload_namespace":"{server_namespace}"}},"value":[1,"3"]}}"#
    )
}

#[test]
fn callers_come_from_the_answer() {
    let body = format!(
        r#"{{"status":"success","data":{{"resultType":"vector","result":[{}]}}}}"#,
        series("bookshop/storefront", "bookshop/catalog")
    );
    let (address, served) = serve("200 OK", body);
    let output = plan(&["--prometheus", &address, "--prometheus-window", "12h"]);
    let request = served.join().unwrap();
    assert!(
        request.starts_with("GET /api/v1/query?query=sum"),
        "{request}"
    );
    assert!(request.contains("12h"), "{request}");
    assert!(
        request
            .to_lowercase()
            .contains("authorization: bearer secret"),
        "{request}"
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("telemetry"), "{text}");
    assert_eq!(output.status.code(), Some(2), "{text}");
}

#[test]
fn an_answer_that_helps_nobody_is_1_with_its_reason() {
    let table = [
        (
            "400 Bad Request",
            r#"{"status":"error","error":"parse error"}"#,
            "parse error",
        ),
        (
            "404 Not Found",
            "<html>nothing here</html>",
            "is this the address of the Prometheus API?",
        ),
        (
            "200 OK",
            "<html>a portal</html>",
            "no series of istio_requests_total",
        ),
        (
            "200 OK",
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
            "no series of istio_requests_total",
        ),
    ];
    for (status, body, expected) in table {
        let (address, served) = serve(status, body.to_owned());
        let output = plan(&["--prometheus", &address]);
        served.join().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{status}: {said}");
        assert!(said.contains(expected), "{status}: {said}");
        assert!(said.contains(address.trim_end_matches('/')), "{said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_dead_server_is_1_and_a_wrong_window_64() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let output = plan(&["--prometheus", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("cannot ask Prometheus")
    );
    for window in ["7", "d7", "7x", ""] {
        let output = plan(&["--prometheus", &address, "--prometheus-window", window]);
        assert_eq!(output.status.code(), Some(64), "{window}");
    }
}
