//! Policies at gateways decide what comes in from outside; they are compared at the gateway itself.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use castoff::mesh::{Mesh, MeshOverrides, Role};
use castoff::prove::rows::{RowVerdict, States, rows};
use castoff::source::{Collector, Place};
use castoff_authz::verdict::Limits;

fn demo(more: &str) -> Mesh {
    let mut collector = Collector::new();
    for (file, text) in &castoff::demo::FILES {
        collector.add_text(&Place::Demo(file), text);
    }
    collector.add_text(&Place::File("more.yaml".into()), more);
    let snapshot = collector.finish();
    assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
    Mesh::build(&snapshot, &MeshOverrides::default())
}

/// Rows that are not the same, in words.
fn differing(baseline: &Mesh, present: &Mesh) -> Vec<(String, RowVerdict)> {
    rows(&States { baseline, present }, Limits::default())
        .iter()
        .filter(|row| row.verdict() != RowVerdict::Same)
        .map(|row| (row.server.to_string(), row.verdict()))
        .collect()
}

fn closed(selector: &str, kind: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: no-admin, namespace: istio-system}}
spec:
  selector: {{matchLabels: {{{selector}}}}}
  action: {kind}
  rules: [{{to: [{{operation: {{paths: ['/admin*']}}}}]}}]
"
    )
}

#[test]
fn what_a_gateway_lets_in_is_compared() {
    let plain = demo("");
    let mut gateways = plain.workloads.iter();
    let gateway = gateways.find(|one| one.role == Role::Gateway).unwrap();
    let labels = &gateway.generations[0].labels;
    let (key, value) = labels.iter().next().unwrap();
    let selector = format!("{key}: {value}");
    let name = gateway.name.to_string();
    let deny = demo(&closed(&selector, "DENY"));
    let allow = demo(&closed(&selector, "ALLOW"));
    let one = |verdict| vec![(name.clone(), verdict)];
    assert_eq!(differing(&deny, &plain), one(RowVerdict::Opens));
    assert_eq!(differing(&plain, &deny), one(RowVerdict::Breaks));
    assert_eq!(differing(&deny, &allow), one(RowVerdict::OpensAndBreaks));
    assert_eq!(differing(&deny, &deny), []);
}
