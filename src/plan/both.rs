//! The mesh in which workloads run both ways at once: old and new pods side by side.
//!
//! In: a mesh, and which workloads. Out: the same with an ambient generation beside every sidecar
//! one of these. Invariant: the new generation differs from the old only in what the injector adds.

use crate::mesh::{DataPlaneMode, Generation, Mesh, Role, ServiceId, WorkloadId};
use crate::snapshot::{Labels, ObjectName};

/// Labels that the sidecar injector puts on pods
/// (istio manifests/charts/istio-control/istio-discovery/files/injection-template.yaml).
const INJECTED: [&str; 4] = [
    "security.istio.io/tlsMode",
    "networking.istio.io/tunnel",
    "service.istio.io/canonical-name",
    "service.istio.io/canonical-revision",
];

/// Adds an ambient generation to those applications that have sidecars and no ambient pods.
pub fn with_ambient_generations(mesh: &Mesh, moves: impl Fn(&ObjectName) -> bool) -> Mesh {
    with_labelled_generations(mesh, moves, &[])
}

/// The same, with further labels on the new pods.
pub fn with_labelled_generations(
    mesh: &Mesh,
    moves: impl Fn(&ObjectName) -> bool,
    added_labels: &[(&str, &str)],
) -> Mesh {
    let mode = |name: &ObjectName| moves(name).then_some(DataPlaneMode::Ambient);
    with_generations(mesh, mode, added_labels)
}

/// The same, where each workload that moves says how its new pods run.
pub fn with_generations(
    mesh: &Mesh,
    mode: impl Fn(&ObjectName) -> Option<DataPlaneMode>,
    added_labels: &[(&str, &str)],
) -> Mesh {
    let mut both = mesh.clone();
    for index in 0..both.workloads.len() {
        let workload = &mut both.workloads[index];
        let Some(mode) = mode(&workload.name) else {
            continue;
        };
        if workload.role != Role::Application || workload.has_mode(mode) {
            continue;
        }
        let sidecars: Vec<usize> = (0..workload.generations.len())
            .filter(|position| workload.generations[*position].mode == DataPlaneMode::Sidecar)
            .collect();
        for position in sidecars {
            let services: Vec<ServiceId> = mesh
                .services_of(WorkloadId(index))
                .map(|(id, _)| id)
                .collect();
            let moved = without_sidecar(&workload.generations[position], mode, added_labels);
            let added = workload.generations.len();
            workload.generations.push(moved);
            for service in services {
                let service = &mut both.services[service.0];
                let beside: Vec<_> = service
                    .backends
                    .iter()
                    .filter(|backend| backend.workload.0 == index && backend.generation == position)
                    .cloned()
                    .collect();
                service
                    .backends
                    .extend(beside.into_iter().map(|mut backend| {
                        backend.generation = added;
                        backend
                    }));
            }
        }
    }
    both
}

fn without_sidecar(
    sidecar: &Generation,
    mode: DataPlaneMode,
    added_labels: &[(&str, &str)],
) -> Generation {
    let labels: Labels = sidecar
        .labels
        .iter()
        .filter(|(key, _)| !INJECTED.contains(key))
        .chain(added_labels.iter().copied())
        .collect();
    Generation {
        mode,
        labels,
        accepts_hbone: mode == DataPlaneMode::Ambient,
        native_sidecar: false,
        proxy_version: None,
        revision: Default::default(),
        pods: sidecar.pods.clone(),
    }
}
