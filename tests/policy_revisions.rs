//! An object with the label `istio.io/rev` is read by the istiod of that revision alone.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use castoff::mesh::{Mesh, MeshOverrides};
use castoff::prove::rows::{RowVerdict, States, rows};
use castoff::source::{Collector, Place};
use castoff_authz::verdict::Limits;

/// The demo, whose one istiod is of revision `default`, with a policy that refuses everything at catalog.
fn demo(labels: &str) -> Mesh {
    let mut collector = Collector::new();
    for (file, text) in &castoff::demo::FILES {
        collector.add_text(&Place::Demo(file), text);
    }
    let policy = format!(
        "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: catalog-closed, namespace: bookshop, labels: {{{labels}}}}}
spec:
  selector: {{matchLabels: {{app: catalog}}}}
  action: DENY
  rules: [{{}}]
"
    );
    collector.add_text(&Place::File("more.yaml".into()), &policy);
    let snapshot = collector.finish();
    assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
    Mesh::build(&snapshot, &MeshOverrides::default())
}

fn catalog(baseline: &Mesh, present: &Mesh) -> RowVerdict {
    let rows = rows(&States { baseline, present }, Limits::default());
    let mut found = rows.iter().filter(|row| row.server.name == "catalog");
    found.next().unwrap().verdict()
}

#[test]
fn a_policy_of_another_revision_refuses_nobody() {
    let (ours, theirs) = (demo("istio.io/rev: default"), demo("istio.io/rev: canary"));
    let plain = demo("");
    assert_eq!(catalog(&plain, &ours), RowVerdict::Same);
    assert_eq!(catalog(&plain, &theirs), RowVerdict::Opens);
    assert_eq!(catalog(&theirs, &plain), RowVerdict::Breaks);
}

#[test]
fn whom_an_unknown_revision_reads_is_undecided() {
    let unknown = |labels| {
        let mut mesh = demo(labels);
        mesh.control_planes.clear();
        for workload in &mut mesh.workloads {
            for generation in &mut workload.generations {
                generation.revision = Default::default();
            }
        }
        mesh
    };
    let verdict = catalog(&unknown(""), &unknown("istio.io/rev: canary"));
    assert_eq!(verdict, RowVerdict::Undecided);
}
