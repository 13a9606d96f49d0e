//! The model of real meshes: how many applications, how they run, how many policies are understood.
//!
//! `live-*` were dumped from real clusters, so sidecars are seen on pods; `snap-*` hold templates
//! only, so pods are predicted.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use castoff::mesh::{DataPlaneMode, Mesh, MeshOverrides, Role};

/// Applications, with sidecar, accepting HBONE, native, predicted, policies.
type Counts = [usize; 6];

const MESHES: [(&str, Counts); 20] = [
    ("live-aws-workshop-ambient-ready", [4, 4, 4, 0, 0, 2]),
    ("live-aws-workshop-sidecar", [4, 4, 0, 0, 0, 2]),
    ("live-bookinfo-ambient-ready", [6, 6, 6, 0, 0, 0]),
    ("live-bookinfo-native-ambient-ready", [6, 6, 6, 6, 0, 0]),
    ("live-bookinfo-sidecar", [6, 6, 0, 0, 0, 0]),
    (
        "live-boutique-security-intro-ambient-ready",
        [12, 12, 12, 0, 0, 2],
    ),
    ("live-boutique-security-intro-sidecar", [12, 12, 0, 0, 0, 2]),
    // The plaintext client namespace has no sidecar.
    ("live-hello-istio-secure-ambient-ready", [6, 5, 5, 0, 0, 3]),
    ("live-hello-istio-secure-sidecar", [6, 5, 0, 0, 0, 3]),
    ("live-kiali-travels-ambient-ready", [16, 16, 16, 0, 0, 0]),
    ("live-online-boutique-ambient-ready", [12, 12, 12, 0, 0, 13]),
    ("live-online-boutique-sidecar", [12, 12, 0, 0, 0, 13]),
    // Pods ask for injection by annotation alone, which no webhook selects on.
    ("live-redhat-tutorial-ambient-ready", [4, 0, 0, 0, 0, 5]),
    ("snap-aws-workshop", [4, 4, 0, 0, 4, 2]),
    ("snap-bank-of-anthos-traffic", [9, 9, 0, 0, 9, 0]),
    ("snap-bookinfo", [6, 6, 0, 0, 6, 0]),
    ("snap-boutique-security-intro", [12, 12, 0, 0, 12, 2]),
    ("snap-hello-istio-secure", [6, 5, 0, 0, 6, 3]),
    ("snap-kiali-travels", [16, 16, 0, 0, 16, 0]),
    ("snap-redhat-tutorial", [4, 0, 0, 0, 4, 5]),
];

fn counts(mesh: &Mesh) -> Counts {
    let applications: Vec<_> = mesh
        .workloads
        .iter()
        .filter(|workload| workload.role == Role::Application)
        .collect();
    let with = |wanted: &dyn Fn(&castoff::mesh::Generation) -> bool| {
        applications
            .iter()
            .filter(|workload| workload.generations.iter().any(wanted))
            .count()
    };
    [
        applications.len(),
        with(&|one| one.mode == DataPlaneMode::Sidecar),
        with(&|one| one.mode == DataPlaneMode::Sidecar && one.accepts_hbone),
        with(&|one| one.native_sidecar),
        applications
            .iter()
            .filter(|workload| workload.predicted)
            .count(),
        mesh.authorization_policies
            .iter()
            .filter(|policy| policy.meaning.is_ok())
            .count(),
    ]
}

#[test]
fn real_meshes_are_read_as_they_are() {
    let corpus = PathBuf::from("../shared/corpus");
    if !corpus.is_dir() {
        eprintln!(
            "SKIPPED: {} is not here, no real mesh was read",
            corpus.display()
        );
        return;
    }
    for (name, expected) in MESHES {
        let snapshot = castoff::source::read_files(&[corpus.join(name)]).expect("readable");
        let mesh = Mesh::build(&snapshot, &MeshOverrides::default());
        assert_eq!(counts(&mesh), expected, "{name}");
        assert_eq!(mesh.gaps, [], "{name}");
        let istiods: Vec<String> = mesh
            .control_planes
            .iter()
            .map(|one| one.version.as_ref().unwrap().to_string())
            .collect();
        let expected_istiods: &[&str] = if name.starts_with("live-") {
            &["1.30.3"]
        } else {
            &[]
        };
        assert_eq!(istiods, expected_istiods, "{name}");
    }
}
