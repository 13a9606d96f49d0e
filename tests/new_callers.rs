//! A workload that only the second input has is a caller like any other.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use castoff::mesh::{Mesh, MeshOverrides};
use castoff::prove::rows::{RowVerdict, States, rows};
use castoff::source::{Collector, Place};
use castoff_authz::verdict::Limits;

fn demo(more: &[&str]) -> Mesh {
    let mut collector = Collector::new();
    for (file, text) in &castoff::demo::FILES {
        collector.add_text(&Place::Demo(file), text);
    }
    for text in more {
        collector.add_text(&Place::File("more.yaml".into()), text);
    }
    let snapshot = collector.finish();
    assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
    Mesh::build(&snapshot, &MeshOverrides::default())
}

const AUDITOR: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: auditor, namespace: bookshop}
spec:
  selector: {matchLabels: {app: auditor}}
  template:
    metadata: {labels: {app: auditor}}
    spec:
      serviceAccountName: auditor
      containers: [{name: app, image: app}]
";

const LETS_IT_IN: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ledger-from-auditor, namespace: payments}
spec:
  selector: {matchLabels: {app: ledger}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/bookshop/sa/auditor]}}]
";

#[test]
fn whoever_is_let_in_together_with_his_policy_gains_access() {
    let baseline = demo(&[]);
    for more in [&[LETS_IT_IN][..], &[LETS_IT_IN, AUDITOR]] {
        let present = demo(more);
        let states = States {
            baseline: &baseline,
            present: &present,
        };
        let rows = rows(&states, Limits::default());
        let mut ledger = rows.iter().filter(|row| row.server.name == "ledger");
        assert_eq!(ledger.next().unwrap().verdict(), RowVerdict::Opens);
    }
}

#[test]
fn a_new_workload_alone_changes_nobodys_access() {
    let (baseline, present) = (demo(&[]), demo(&[AUDITOR]));
    let states = States {
        baseline: &baseline,
        present: &present,
    };
    for row in rows(&states, Limits::default()) {
        assert_eq!(row.verdict(), RowVerdict::Same, "{}", row.server);
    }
}
