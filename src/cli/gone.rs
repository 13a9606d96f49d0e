//! Workloads of the mesh that only the first of two inputs has.
//!
//! In: two meshes. Out: their names, and for each whether what led to it leads now where nothing is compared.
//! Invariant: who is gone lets nobody in and calls nobody; but who dialled his Service may get to something else by it.

use std::collections::{BTreeMap, BTreeSet};

use crate::mesh::{Mesh, Service, WorkloadId};
use crate::prove::fronts;
use crate::snapshot::ObjectName;

/// Workloads of the mesh that only the first input has, and where what led to each leads now, as far as nothing else
/// that is compared tells of it.
pub(super) fn gone(baseline: &Mesh, present: &Mesh) -> BTreeMap<ObjectName, Option<String>> {
    let left: BTreeSet<&ObjectName> = present.workloads.iter().map(|one| &one.name).collect();
    let applications = baseline.workload_ids().filter(|id| {
        let workload = baseline.workload(*id);
        workload.is_mesh_application() && !left.contains(&workload.name)
    });
    applications
        .map(|id| {
            let name = baseline.workload(id).name.clone();
            (name, leads_elsewhere(baseline, present, id))
        })
        .collect()
}

/// What led to a workload that is gone and leads now to no pods of the mesh.
fn leads_elsewhere(baseline: &Mesh, present: &Mesh, gone: WorkloadId) -> Option<String> {
    let services = baseline.services_of(gone);
    let found = services.filter_map(|(_, was)| {
        let (_, is) = present.service_named(&was.name)?;
        let where_to = outside(baseline, present, was, is)?;
        Some(format!(
            "Service {}, which led to it, leads to {where_to}",
            is.name
        ))
    });
    let found: BTreeSet<String> = found.collect();
    (!found.is_empty()).then(|| found.into_iter().collect::<Vec<_>>().join(", "))
}

/// Where a Service leads that no row of the report is about.
fn outside(baseline: &Mesh, present: &Mesh, was: &Service, is: &Service) -> Option<String> {
    if let Some(host) = is.external_name.as_ref().filter(|host| !host.is_empty()) {
        return Some(format!("host {host}"));
    }
    let machines = [(present, is), (baseline, was)].map(|(mesh, service)| {
        let all: Vec<_> = mesh.machines().collect();
        let picked = Mesh::picked(&all, &service.name.namespace, service.selector.as_ref());
        picked.into_iter().cloned().collect::<Vec<ObjectName>>()
    });
    let [machines, old] = machines;
    if let Some(machine) = machines.iter().find(|one| !old.contains(one)) {
        return Some(format!("machine {machine}"));
    }
    let hosts = fronts::elsewhere(present, is);
    let old = fronts::elsewhere(baseline, was);
    if let Some(host) = hosts.iter().find(|host| !old.contains(*host)) {
        return Some(format!("host {host}"));
    }
    let has_selector = is.selector.as_ref().is_some_and(|one| !one.is_empty());
    if !has_selector && is.backends.is_empty() {
        return Some("addresses that are written by hand".to_owned());
    }
    let mut backends = is.backends.iter().map(|one| present.workload(one.workload));
    backends
        .find(|one| !one.is_mesh_application())
        .map(|one| format!("{}, which is outside the mesh", one.name))
}
