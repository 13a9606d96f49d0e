//! A ServiceEntry that selects pods is one more way to them, which no waypoint of theirs guards.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

const POLICY: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]
    to: [{operation: {methods: [GET]}}]
";

fn entry(labels: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: inside, namespace: shop, labels: {labels}}}
spec:
  hosts: [orders.internal]
  addresses: [240.0.0.9]
  location: MESH_INTERNAL
  resolution: STATIC
  workloadSelector: {{labels: {{app: orders}}}}
  ports: [{{number: 90, name: http, protocol: HTTP, targetPort: 8080}}]
"
    )
}

fn castoff(folder: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn write(folder: &Path, state: &str, more: &[&str]) {
    let state = folder.join(state);
    std::fs::create_dir_all(&state).unwrap();
    for (name, text) in &castoff::demo::FILES[..2] {
        std::fs::write(state.join(name.replace('/', "-")), text).unwrap();
    }
    let mesh = std::fs::read_to_string("tests/fixtures/traps/mesh.yaml").unwrap();
    std::fs::write(state.join("mesh.yaml"), mesh).unwrap();
    std::fs::write(state.join("more.yaml"), more.concat()).unwrap();
}

fn orders(report: &Value) -> &Value {
    let mut servers = report["servers"].as_array().unwrap().iter();
    servers.find(|one| one["server"] == "shop/orders").unwrap()
}

#[test]
fn a_server_with_request_policies_stays_where_a_service_entry_leads_past_its_waypoint() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "before", &[POLICY]);
    let plan = castoff(
        folder.path(),
        &["plan", "--from-files", "before", "-o", "json"],
    );
    assert_eq!(plan["ending"], "done");
    assert_eq!(plan["held"], serde_json::json!([]));

    // ztunnel knows no methods: the rule is gone there, so that whoever comes this way is refused.
    write(folder.path(), "before", &[POLICY, &entry("{}")]);
    let arguments = [
        "plan",
        "--output-dir",
        "another-mesh",
        "--per-service",
        "--from-files",
        "before",
        "-o",
        "json",
    ];
    let plan = castoff(folder.path(), &arguments);
    assert_eq!(plan["ending"], "partial", "{plan:#}");
    let held = &plan["held"][0];
    assert_eq!(held["workload"], "shop/orders");
    let witness = held["witness"][0].as_str().unwrap();
    assert_eq!(
        witness,
        "GET / from cluster.local/ns/desk/sa/web, host other.example to ServiceEntry shop/inside:90"
    );
}

#[test]
fn a_waypoint_of_a_service_entry_is_undecided() {
    let folder = tempfile::tempdir().unwrap();
    let waypoint = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: entries, namespace: shop, labels: {istio.io/waypoint-for: service}}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
";
    let ambient = "---
apiVersion: v1
kind: Namespace
metadata: {name: desk, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
";
    write(
        folder.path(),
        "before",
        &[POLICY, waypoint, ambient, &entry("{}")],
    );
    let bound = entry("{istio.io/use-waypoint: entries}");
    write(folder.path(), "after", &[POLICY, waypoint, ambient, &bound]);
    let report = castoff(folder.path(), &["verify", "before", "after", "-o", "json"]);
    assert_eq!(orders(&report)["verdict"], "undecided", "{report:#}");
    let text = orders(&report).to_string();
    assert!(
        text.contains("waypoint shop/entries of ServiceEntry shop/inside"),
        "{text}"
    );
}

#[test]
fn closing_a_service_entry_is_a_loss() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "before", &[POLICY, &entry("{}")]);
    write(folder.path(), "after", &[POLICY]);
    let report = castoff(folder.path(), &["verify", "before", "after", "-o", "json"]);
    assert_eq!(orders(&report)["verdict"], "breaks", "{report:#}");
}
