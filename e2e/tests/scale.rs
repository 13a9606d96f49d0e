//! 20,000 objects: read in pages, as fast as kubectl reads them, and a continue token that expires
//! on the way.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use kube::client::Body;
use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Plural, path of the group, how many.
const OBJECTS: [(&str, &str, usize); 3] = [
    ("authorizationpolicies", "apis/security.istio.io/v1", 10_000),
    ("services", "api/v1", 5_000),
    ("serviceaccounts", "api/v1", 5_000),
];

/// Requests under way at once while objects are created.
const SIDE_BY_SIDE: usize = 24;

fn object(plural: &str, number: usize) -> Value {
    let metadata = json!({"name": format!("object-{number}"), "namespace": "scale"});
    match plural {
        "authorizationpolicies" => json!({
            "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": metadata,
            "spec": {
                "selector": {"matchLabels": {"app": format!("app-{number}")}},
                "action": "ALLOW",
                "rules": [{
                    "from": [{"source": {"principals": [format!("cluster.local/ns/scale/sa/object-{number}")]}}],
                    "to": [{"operation": {"methods": ["GET"], "paths": [format!("/api/{number}/*")]}}],
                }],
            },
        }),
        "services" => json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata,
            "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
        }),
        _ => json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
    }
}

/// Creates everything, side by side.
fn fill(cluster: &Cluster) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let kubeconfig = kube::config::Kubeconfig::read_from(&cluster.kubeconfig).unwrap();
    runtime.block_on(async {
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
            .await
            .unwrap();
        let client = kube::Client::try_from(config).unwrap();
        let mut work = Vec::new();
        for (plural, root, count) in OBJECTS {
            for number in 0..count {
                work.push((format!("/{root}/namespaces/scale/{plural}"), plural, number));
            }
        }
        let work = Arc::new(work);
        let next = Arc::new(AtomicUsize::new(0));
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..SIDE_BY_SIDE {
            let (client, work, next) = (client.clone(), Arc::clone(&work), Arc::clone(&next));
            tasks.spawn(async move {
                while let Some((path, plural, number)) =
                    work.get(next.fetch_add(1, Ordering::Relaxed))
                {
                    let body = object(plural, *number).to_string().into_bytes();
                    let request = http::Request::post(path)
                        .header("content-type", "application/json")
                        .body(Body::from(body))
                        .unwrap();
                    let response = client.send(request).await.unwrap();
                    assert_eq!(response.status(), 201, "{path}");
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    });
}

fn counted(bundle: &str) -> usize {
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(bundle).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    serde_json::Deserializer::from_str(&text)
        .into_iter::<Value>()
        .filter_map(|document| document.unwrap()["items"].as_array().cloned())
        .flatten()
        .filter(|item| item["metadata"]["namespace"] == "scale")
        .filter(|item| {
            item["metadata"]["name"]
                .as_str()
                .unwrap()
                .starts_with("object-")
        })
        .count()
}

#[test]
fn twenty_thousand_objects_are_read_in_pages_and_an_expired_token_costs_a_second_attempt() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    cluster.install_definitions("istio-1.30.3-crd-all.gen.yaml");
    let namespace = cluster.namespace("scale");
    let begun = Instant::now();
    fill(&cluster);
    println!(
        "20,000 objects created in {:.1} s",
        begun.elapsed().as_secs_f64()
    );

    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("scale.json.gz");
    let bundle = bundle.to_str().unwrap();
    let run = cluster.castoff(&["collect", bundle]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(counted(bundle), 20_000);
    println!(
        "castoff collect: {:.1} s; {}",
        run.took.as_secs_f64(),
        run.stdout
    );
    let begun = Instant::now();
    let kinds = "authorizationpolicies,services,serviceaccounts";
    cluster.kubectl(&["get", kinds, "--all-namespaces", "--output=json"]);
    println!(
        "kubectl get {kinds}: {:.1} s",
        begun.elapsed().as_secs_f64()
    );

    if let Some(etcd) = std::env::var_os("CASTOFF_E2E_ETCD") {
        let etcd = etcd.into_string().unwrap();
        expired(
            &cluster,
            etcd.strip_prefix("http://").unwrap(),
            folder.path(),
        );
    } else {
        crate::cluster::skip("(the expired token) needs the address of etcd");
    }
    drop(namespace);
}

/// Reads through a forwarder that lets etcd forget the revision of a list between its pages.
fn expired(cluster: &Cluster, etcd: &str, folder: &std::path::Path) {
    let (mut proxy, address) = kubectl_proxy(cluster);
    let compactions = Arc::new(AtomicUsize::new(0));
    let refused = Arc::new(Mutex::new(Vec::new()));
    let forwarder = {
        let (compactions, refused) = (Arc::clone(&compactions), Arc::clone(&refused));
        let (etcd, kubeconfig) = (etcd.to_owned(), cluster.kubeconfig.clone());
        let kubectl = cluster.kubectl_folder().join("kubectl");
        forward(
            address,
            move |line| {
                let second_page =
                    line.contains("/authorizationpolicies?") && line.contains("continue=");
                if second_page && compactions.fetch_add(1, Ordering::SeqCst) == 0 {
                    // A write makes a new revision, which becomes the oldest that etcd remembers.
                    let status = Command::new(&kubectl)
                        .env("KUBECONFIG", &kubeconfig)
                        .args([
                            "label",
                            "--overwrite",
                            "namespace",
                            "scale",
                            "compacted=yes",
                        ])
                        .stdout(Stdio::null())
                        .status()
                        .unwrap();
                    assert!(status.success());
                    compact(&etcd);
                }
            },
            move |line, status| {
                if status != 200 {
                    refused.lock().unwrap().push((line.to_owned(), status));
                }
            },
        )
    };
    let kubeconfig = folder.join("forwarded");
    std::fs::write(
        &kubeconfig,
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: forwarded\n\
             clusters: [{{name: forwarded, cluster: {{server: \"http://{forwarder}\"}}}}]\n\
             users: [{{name: none, user: {{}}}}]\n\
             contexts: [{{name: forwarded, context: {{cluster: forwarded, user: none}}}}]\n"
        ),
    )
    .unwrap();
    let bundle = folder.join("again.json.gz");
    let bundle = bundle.to_str().unwrap();
    let run = cluster.castoff_with(&kubeconfig, &["collect", bundle]);
    proxy.kill().unwrap();
    proxy.wait().unwrap();
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(counted(bundle), 20_000);
    let refused = refused.lock().unwrap();
    let gone: Vec<_> = refused
        .iter()
        .filter(|(_, status)| *status == 410)
        .collect();
    let of_policies = gone
        .iter()
        .filter(|(line, _)| line.contains("/authorizationpolicies?"));
    assert_eq!(of_policies.count(), 1, "{refused:?}");
}

fn kubectl_proxy(cluster: &Cluster) -> (Child, String) {
    let mut child = Command::new(cluster.kubectl_folder().join("kubectl"))
        .env("KUBECONFIG", &cluster.kubeconfig)
        .args(["proxy", "--port=0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line.trim().rsplit(' ').next().unwrap().to_owned();
    (child, address)
}

/// Forwards HTTP requests, one a connection; tells of each before and after.
fn forward(
    target: String,
    before: impl Fn(&str) + Send + Sync + 'static,
    after: impl Fn(&str, u16) + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (before, after) = (Arc::new(before), Arc::new(after));
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let (target, before, after) = (target.clone(), Arc::clone(&before), Arc::clone(&after));
            std::thread::spawn(move || -> Option<()> {
                let mut reader = BufReader::new(client.try_clone().ok()?);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if reader.read_line(&mut head).ok()? == 0 {
                        return None;
                    }
                }
                let line = head.lines().next()?.to_owned();
                before(&line);
                let mut server = TcpStream::connect(&target).ok()?;
                let host = format!("Host: {target}\r\nConnection: close\r\n\r\n");
                let lines: Vec<&str> = head
                    .trim_end()
                    .lines()
                    .filter(|line| !line.to_lowercase().starts_with("host:"))
                    .collect();
                let head = format!("{}\r\n{host}", lines.join("\r\n"));
                server.write_all(head.as_bytes()).ok()?;
                let mut answer = Vec::new();
                server.read_to_end(&mut answer).ok()?;
                let text = String::from_utf8_lossy(&answer[..answer.len().min(20)]).into_owned();
                after(&line, text.split(' ').nth(1)?.parse().ok()?);
                client.write_all(&answer).ok()
            });
        }
    });
    address
}

/// Lets etcd forget all revisions but the newest.
fn compact(etcd: &str) {
    let range = post(etcd, "/v3/kv/range", &json!({"key": "AA=="}));
    let revision = range["header"]["revision"].clone();
    post(
        etcd,
        "/v3/kv/compaction",
        &json!({"revision": revision, "physical": true}),
    );
}

fn post(address: &str, path: &str, body: &Value) -> Value {
    let body = body.to_string();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "POST {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}
