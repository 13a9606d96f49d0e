//! Ports that annotations take past the sidecar: its policies decide nothing there.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use castoff::mesh::{Mesh, MeshOverrides};
use castoff::prove::rows::{RowVerdict, States, rows};
use castoff_authz::decision::Outcome;
use castoff_authz::verdict::{Finding, Limits};

fn annotated(key: &str, value: &str) -> Mesh {
    let snapshot = castoff::demo::snapshot().unwrap();
    let mut mesh = Mesh::build(&snapshot, &MeshOverrides::default());
    let mut workloads = mesh.workloads.iter_mut();
    let catalog = workloads.find(|one| one.name.name == "catalog").unwrap();
    if !key.is_empty() {
        catalog.template_annotations = [(key, value)].into_iter().collect();
    }
    mesh
}

/// istio tools/istio-iptables/pkg/capture/run.go: ports that are excluded, or not included, are not
/// redirected to the sidecar.
#[test]
fn a_port_that_is_not_redirected_is_undecided() {
    let include = "traffic.sidecar.istio.io/includeInboundPorts";
    let exclude = "traffic.sidecar.istio.io/excludeInboundPorts";
    let plain = annotated("", "");
    let (same, undecided) = (RowVerdict::Same, RowVerdict::Undecided);
    for (key, value, expected) in [
        (exclude, "3306", undecided),
        (exclude, "3306, 8080", undecided),
        (exclude, "", same),
        (include, "*", same),
        (include, "8080,9090", undecided),
        (include, "9090", undecided),
        (include, "", undecided),
        ("sidecar.istio.io/interceptionMode", "NONE", undecided),
        ("sidecar.istio.io/interceptionMode", "TPROXY", same),
    ] {
        let present = annotated(key, value);
        let states = States {
            baseline: &plain,
            present: &present,
        };
        let rows = rows(&states, Limits::default());
        let mut catalog = rows.iter().filter(|row| row.server.name == "catalog");
        let verdict = catalog.next().unwrap().verdict();
        assert_eq!(verdict, expected, "{key}: {value}");
    }
}

/// istio cni/pkg/nodeagent `getPodLevelTrafficOverrides`: such pods are captured for what they send alone, and
/// plaintext reaches them past ztunnel.
#[test]
fn pods_that_bypass_inbound_capture_are_open_to_plaintext_and_otherwise_undecided() {
    let moved = |bypass: &str| {
        let mut mesh = annotated("ambient.istio.io/bypass-inbound-capture", bypass);
        let mut workloads = mesh.workloads.iter_mut();
        let catalog = workloads.find(|one| one.name.name == "catalog").unwrap();
        for generation in &mut catalog.generations {
            generation.mode = castoff::mesh::DataPlaneMode::Ambient;
            generation.accepts_hbone = true;
        }
        mesh
    };
    let (plain, bypassed) = (moved("false"), moved("true"));
    let row = |baseline: &Mesh, present: &Mesh| {
        let rows = rows(&States { baseline, present }, Limits::default());
        let mut catalog = rows.into_iter().filter(|row| row.server.name == "catalog");
        catalog.next().unwrap()
    };
    assert_eq!(row(&plain, &moved("no")).verdict(), RowVerdict::Same);
    assert_eq!(row(&bypassed, &bypassed).verdict(), RowVerdict::Same);
    let row = row(&plain, &bypassed);
    assert_eq!(row.verdict(), RowVerdict::Opens);
    let mut undecided = 0;
    for answer in &row.differences {
        match &answer.verdict.opens {
            Finding::Witness(witness) => {
                let (_, now) = (witness.after.iter())
                    .find(|(index, _)| answer.present[*index].address == witness.address)
                    .unwrap();
                assert_eq!(now.outcome, Outcome::Allow, "it shows where it is certain");
            }
            Finding::Undecided(_) => undecided += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(undecided > 0, "what comes by tunnel");
}
