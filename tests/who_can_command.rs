//! `castoff who-can`: what a request carries, and what would let a refused caller in.
#![allow(missing_docs, clippy::unwrap_used)]

use assert_cmd::Command;

const MESH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: \"trustDomain: cluster.local\"}
---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {clusterIP: 10.0.0.1, selector: {app: orders}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: orders, namespace: shop, labels: {app: orders, security.istio.io/tlsMode: istio}, annotations: {sidecar.istio.io/status: '{}'}}
spec:
  serviceAccountName: orders
  containers:
  - {name: orders, image: orders, ports: [{containerPort: 8080}]}
  - {name: istio-proxy, image: docker.io/istio/proxyv2:1.28.0, args: [proxy, sidecar]}
status: {phase: Running, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}]}
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: jwt, namespace: shop}
spec: {jwtRules: [{issuer: https://issuer.example/a}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules:
";

const BY_HEADER: &str = "  - when: [{key: 'request.headers[hello]', values: [world]}]\n";
const BY_TOKEN: &str =
    "  - from: [{source: {requestPrincipals: [https://issuer.example/a/somebody]}}]\n";
const BY_HOST: &str = "  - to: [{operation: {hosts: [admin.example]}}]\n";
const BY_PATH: &str = "  - to: [{operation: {paths: [/admin]}}]\n";

fn ask(rules: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mesh.yaml"), format!("{MESH}{rules}")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["who-can", "--from-files", ".", "--ascii"])
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn who_is_refused_is_told_what_would_let_him_in() {
    for (rules, with) in [
        (BY_HEADER, "header hello: world"),
        (BY_TOKEN, "token iss=https://issuer.example/a sub=somebody"),
        (BY_HOST, "host admin.example"),
    ] {
        let (exit, said) = ask(rules, &["GET /", "shop/orders"]);
        assert_eq!(exit, Some(0), "{said}");
        assert!(
            said.starts_with("GET / to Service shop/orders, without token and headers\n"),
            "{said}"
        );
        assert!(
            said.contains(&format!("(shop/orders); may with {with}\n")),
            "{said}"
        );
        assert!(said.contains("[no] may not"), "{said}");
        assert!(!said.contains("[yes]"), "{said}");
    }
}

#[test]
fn nothing_is_promised_where_only_another_path_is_let_in() {
    let (_, said) = ask(BY_PATH, &["GET /", "shop/orders"]);
    assert!(said.contains("[no] may not"), "{said}");
    assert!(!said.contains("may with"), "{said}");
}

#[test]
fn headers_host_and_token_of_the_request_count() {
    for (rules, argument) in [
        (BY_HEADER, ["--header", "Hello=world"]),
        (BY_TOKEN, ["--token", "https://issuer.example/a/somebody"]),
        (BY_HOST, ["--host", "admin.example"]),
    ] {
        let asked = ["GET /", "shop/orders", argument[0], argument[1]];
        let (exit, said) = ask(rules, &asked);
        assert_eq!(exit, Some(0), "{said}");
        assert!(said.contains("[yes] may"), "{said}");
        assert!(!said.contains("[no]"), "{said}");
        assert!(!said.contains("without token and headers"), "{said}");
    }
}

#[test]
fn a_bare_connection_carries_nothing() {
    let (exit, said) = ask(BY_HEADER, &["connect", "shop/orders", "--header", "a=b"]);
    assert_eq!(exit, Some(64), "{said}");
    let (exit, _) = ask(BY_HEADER, &["GET /", "shop/orders", "--header", "Host=b"]);
    assert_eq!(exit, Some(64));
}

#[test]
fn ways_in_that_were_not_looked_for_are_said_to_be() {
    let mut mesh = String::new();
    for index in 0..60 {
        mesh.push_str(&format!(
            "  - from: [{{source: {{principals: [cluster.local/ns/shop/sa/c{index}]}}}}]\n    when: [{{key: 'request.headers[h{index}]', values: [v]}}]\n"
        ));
    }
    for index in 0..60 {
        mesh.push_str(&format!(
            "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: c{index}, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: c{index}}}}}
  template:
    metadata: {{labels: {{app: c{index}}}}}
    spec: {{serviceAccountName: c{index}, containers: [{{name: app, image: app}}]}}
"
        ));
    }
    let (_, said) = ask(&mesh, &["GET /", "shop/orders"]);
    assert_eq!(said.matches("; may with header").count(), 50, "{said}");
    assert_eq!(said.matches("was not asked").count(), 1, "{said}");
}
