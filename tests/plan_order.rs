//! Which callers must move first, on a mesh captured from a real istiod.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use castoff::mesh::{Mesh, MeshOverrides};
use castoff::plan::edges;
use castoff::plan::order;
use castoff::snapshot::ObjectName;
use castoff_authz::verdict::Limits;

fn mesh(state: &str) -> Option<Mesh> {
    let folder = PathBuf::from("../shared/corpus/path-goldens")
        .join(state)
        .join("snapshot");
    if !folder.is_dir() {
        eprintln!("SKIPPED: {} is not here", folder.display());
        return None;
    }
    Some(Mesh::build(
        &castoff::source::read_files(&[folder]).expect("readable"),
        &MeshOverrides::default(),
    ))
}

#[test]
fn callers_of_a_server_with_request_rules_move_before_it() {
    let (Some(baseline), Some(bound)) = (mesh("01-sidecars"), mesh("03-bound")) else {
        return;
    };
    let edges = edges(&baseline, &bound, &|_, _| true, Limits::default());
    let pairs = &edges.pairs;
    let edge = |caller: (&str, &str), server: (&str, &str)| {
        pairs.contains(&(
            ObjectName::new(caller.0, caller.1),
            ObjectName::new(server.0, server.1),
        ))
    };
    // cart lets web GET and batch POST; past the waypoint nobody checks methods any more.
    assert!(edge(("desk", "web"), ("shop", "cart")));
    assert!(edge(("desk", "batch"), ("shop", "cart")));
    // The root namespace's DENY by namespace holds at ztunnel too.
    assert!(!edge(("quarantine", "probe"), ("shop", "cart")));
    let workloads: BTreeSet<_> = bound
        .workloads
        .iter()
        .filter(|one| one.is_mesh_application())
        .map(|one| one.name.clone())
        .collect();
    let waves: Vec<(Vec<String>, bool)> = order(&workloads, &edges)
        .waves
        .into_iter()
        .map(|wave| {
            (
                wave.workloads.iter().map(ToString::to_string).collect(),
                wave.circle,
            )
        })
        .collect();
    let wave = |names: &[&str], circle| {
        (
            names.iter().map(ToString::to_string).collect::<Vec<_>>(),
            circle,
        )
    };
    assert_eq!(
        waves,
        [
            wave(&["desk/batch", "desk/web", "quarantine/probe"], false),
            wave(&["shop/cart"], false),
            wave(&["shop/ledger"], false),
            // One Service stands before both, and nothing keeps either from calling it.
            wave(&["shop/feed", "shop/feed-next"], true),
        ]
    );
}
