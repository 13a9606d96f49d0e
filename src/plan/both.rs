//! The mesh in which every workload runs both ways at once: all states of a migration in one.
//!
//! In: a mesh. Out: the same with an ambient generation beside every sidecar one. Invariant: the new
//! generation differs from the old only in what the injector adds.

use crate::mesh::{DataPlaneMode, Generation, Mesh, Role};
use crate::snapshot::Labels;

/// Labels that the sidecar injector puts on pods
/// (istio manifests/charts/istio-control/istio-discovery/files/injection-template.yaml).
const INJECTED: [&str; 4] = [
    "security.istio.io/tlsMode",
    "networking.istio.io/tunnel",
    "service.istio.io/canonical-name",
    "service.istio.io/canonical-revision",
];

/// Adds an ambient generation to every application that has sidecars and no ambient pods.
pub fn with_ambient_generations(mesh: &Mesh) -> Mesh {
    let mut both = mesh.clone();
    for index in 0..both.workloads.len() {
        let workload = &mut both.workloads[index];
        if workload.role != Role::Application || workload.has_mode(DataPlaneMode::Ambient) {
            continue;
        }
        let sidecars: Vec<usize> = (0..workload.generations.len())
            .filter(|position| workload.generations[*position].mode == DataPlaneMode::Sidecar)
            .collect();
        for position in sidecars {
            let moved = ambient(&workload.generations[position]);
            let added = workload.generations.len();
            workload.generations.push(moved);
            for service in &mut both.services {
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

fn ambient(sidecar: &Generation) -> Generation {
    let labels: Labels = sidecar
        .labels
        .iter()
        .filter(|(key, _)| !INJECTED.contains(key))
        .collect();
    Generation {
        mode: DataPlaneMode::Ambient,
        labels,
        accepts_hbone: true,
        native_sidecar: false,
        proxy_version: None,
        revision: Default::default(),
        pods: sidecar.pods.clone(),
    }
}
