//! WorkloadEntries behind Services: a share of the requests goes to machines, and what these let in is not proved.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/small_mesh.rs"]
#[allow(dead_code, reason = "each user takes what it needs")]
mod small_mesh;

use assert_cmd::Command;
use serde_json::Value;
use small_mesh::verify;

const MACHINE: &str = "---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: old, namespace: shop}
spec: {address: 192.0.2.7, serviceAccount: orders, labels: {app: orders, runs: machine}}
";

const READERS: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {runs: machine}}
  rules: [{from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]}]
";

/// An entry with a host of its own, which selects machines alone.
const ENTRY: &str = "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: legacy, namespace: shop}
spec:
  hosts: [legacy.example]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  workloadSelector: {labels: {runs: machine}}
";

/// What is said of the machine, where something is.
fn machine(before: &[&str], after: &[&str]) -> Option<Value> {
    let report = verify(before, after);
    let servers = report["servers"].as_array().unwrap();
    let found = servers.iter().find(|one| one["server"] == "shop/old");
    found.cloned()
}

fn why(row: &Value) -> String {
    assert_eq!(row["verdict"], "undecided", "{row}");
    row["differences"][0]["lines"].to_string()
}

#[test]
fn what_asks_at_a_machine_who_calls_makes_it_undecided_where_it_differs() {
    let row = machine(&[MACHINE], &[MACHINE, READERS]).unwrap();
    let said = why(&row);
    assert!(
        said.contains("part of the requests to Service shop/orders")
            && said.contains("goes to machine shop/old, where nothing is proved")
            && said.contains("what policies say of its labels differs"),
        "{said}"
    );
    let other = READERS.replace("sa/web", "sa/batch");
    assert!(machine(&[MACHINE, READERS], &[MACHINE, &other]).is_some());
    // By a ServiceEntry alone.
    let alone = MACHINE.replace("app: orders, ", "");
    let said = why(&machine(&[&alone, ENTRY], &[&alone, ENTRY, READERS]).unwrap());
    assert!(said.contains("ServiceEntry shop/legacy"), "{said}");
    // Nothing leads to it.
    assert!(machine(&[&alone], &[&alone, READERS]).is_none());
}

#[test]
fn where_nothing_asks_or_nothing_differs_there_is_nothing_to_say() {
    assert!(machine(&[MACHINE, READERS], &[MACHINE, READERS]).is_none());
    assert!(machine(&[], &[MACHINE]).is_none());
    // One that is gone lets nobody in.
    assert!(machine(&[MACHINE, READERS], &[READERS]).is_none());
    // One that is new and asks: whom it lets in is compared with nothing.
    assert!(machine(&[READERS], &[MACHINE, READERS]).is_some());
}

/// ztunnel sends plaintext to what takes no tunnel, where sidecars show who calls.
#[test]
fn callers_that_leave_their_sidecars_make_it_undecided() {
    let ambient = "---
apiVersion: v1
kind: Namespace
metadata: {name: late, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: late, namespace: late}
spec:
  selector: {matchLabels: {app: late}}
  template:
    metadata: {labels: {app: late}}
    spec:
      serviceAccountName: late
      containers: [{name: app, image: 'registry.example/late:1'}]
";
    let injected = ambient.replace(
        "istio.io/dataplane-mode: ambient",
        "istio-injection: enabled",
    );
    let strict = "---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {selector: {matchLabels: {runs: machine}}, mtls: {mode: STRICT}}
";
    for asks in [READERS, strict] {
        let row = machine(&[MACHINE, asks, &injected], &[MACHINE, asks, ambient]);
        let said = why(&row.unwrap());
        assert!(said.contains("callers leave their sidecars"), "{said}");
    }
    assert!(machine(&[MACHINE, &injected], &[MACHINE, ambient]).is_none());
}

/// A machine that takes tunnels stands in no plan's way; that it is proved is never said.
#[test]
fn a_plan_that_moves_a_machines_callers_is_not_called_proved() {
    let labels = "name: old, namespace: shop, labels: {networking.istio.io/tunnel: http}";
    let machine = MACHINE.replace("name: old, namespace: shop", labels);
    let folder = tempfile::tempdir().unwrap();
    small_mesh::write(folder.path(), "in", &[&machine, READERS]);
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["plan", "--from-files", "in", "--ascii"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("[?] shop/old is undecided"), "{said}");
}
