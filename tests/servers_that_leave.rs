//! What is gone now was there before: servers that left the mesh, ports that nothing names any more.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use castoff::mesh::{DataPlaneMode, Mesh, MeshOverrides};
use castoff::prove::rows::{RowVerdict, States, rows};
use castoff::source::{Collector, Place};
use castoff_authz::verdict::Limits;

fn demo(change: impl Fn(&str, &str) -> String) -> Mesh {
    let mut collector = Collector::new();
    for (file, text) in &castoff::demo::FILES {
        collector.add_text(&Place::Demo(file), &change(file, text));
    }
    let snapshot = collector.finish();
    assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
    Mesh::build(&snapshot, &MeshOverrides::default())
}

fn verdict(baseline: &Mesh, present: &Mesh, server: &str) -> Option<RowVerdict> {
    let rows = rows(&States { baseline, present }, Limits::default());
    let mut found = rows.iter().filter(|row| row.server.name == server);
    found.next().map(castoff::prove::rows::ServerRow::verdict)
}

#[test]
fn a_server_without_its_sidecar_is_open_to_everybody() {
    let baseline = demo(|_, text| text.to_owned());
    let mut present = baseline.clone();
    for workload in &mut present.workloads {
        if workload.name.name == "ledger" {
            for generation in &mut workload.generations {
                generation.mode = DataPlaneMode::None;
            }
        }
    }
    assert_eq!(
        verdict(&baseline, &present, "ledger"),
        Some(RowVerdict::Opens)
    );
    assert_eq!(
        verdict(&present, &baseline, "ledger"),
        Some(RowVerdict::Breaks)
    );
}

#[test]
fn a_port_that_no_service_leads_to_any_more_is_lost() {
    let second = "  - name: http-more\n    port: 81\n    targetPort: 8181\n    protocol: TCP\n";
    let with = |port: &'static str| {
        demo(move |file, text| {
            if file != "bookshop.yaml" {
                return text.to_owned();
            }
            let first = "    app: reviews\n  ports:\n";
            assert!(text.contains(first));
            text.replace(first, &format!("{first}{port}"))
        })
    };
    let (baseline, present) = (with(second), with(""));
    assert_eq!(
        verdict(&baseline, &present, "reviews-v1"),
        Some(RowVerdict::Breaks)
    );
}
