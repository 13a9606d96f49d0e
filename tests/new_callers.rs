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
        // With itself there is nothing to compare.
        let expected = match row.server.name.as_str() {
            "auditor" => RowVerdict::Undecided,
            _ => RowVerdict::Same,
        };
        assert_eq!(row.verdict(), expected, "{}", row.server);
    }
}

fn with_account(mesh: &Mesh, workload: &str, account: &str) -> Mesh {
    let mut changed = mesh.clone();
    let mut found = changed.workloads.iter_mut();
    let workload = found.find(|one| one.name.name == workload).unwrap();
    workload.service_account = account.into();
    changed
}

/// ledger lets in checkout's service account alone.
#[test]
fn whoever_changes_his_service_account_has_its_access() {
    let baseline = demo(&[]);
    for (workload, account, expected) in [
        ("checkout", "other", RowVerdict::Breaks),
        ("exporter", "checkout", RowVerdict::Opens),
        ("exporter", "other", RowVerdict::Same),
    ] {
        let mut present = with_account(&baseline, workload, account);
        let mut baseline = baseline.clone();
        for mesh in [&mut baseline, &mut present] {
            // The exporter is moved next to checkout, into the mesh.
            let mut found = mesh.workloads.iter_mut();
            let exporter = found.find(|one| one.name.name == "exporter").unwrap();
            exporter.name.namespace = "payments".into();
            for generation in &mut exporter.generations {
                generation.mode = castoff::mesh::DataPlaneMode::Sidecar;
            }
        }
        let states = States {
            baseline: &baseline,
            present: &present,
        };
        let rows = rows(&states, Limits::default());
        let mut ledger = rows.iter().filter(|row| row.server.name == "ledger");
        let verdict = ledger.next().unwrap().verdict();
        assert_eq!(verdict, expected, "{workload} as {account}");
    }
}

/// With the old one as an alias, a new trust domain changes nothing at sidecars.
#[test]
fn a_new_trust_domain_is_another_name_of_the_same_callers() {
    let baseline = demo(&[]);
    let mut present = baseline.clone();
    present.settings.trust_domain = "new.domain".into();
    present.settings.trust_domain_aliases = vec!["cluster.local".into()];
    let states = States {
        baseline: &baseline,
        present: &present,
    };
    for row in rows(&states, Limits::default()) {
        let callers: Vec<_> = row.differences.iter().map(|one| one.callers).collect();
        assert!(
            !callers.contains(&"workloads of the mesh"),
            "{} {callers:?}",
            row.server
        );
    }
}
