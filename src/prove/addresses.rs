//! The addresses by which a server's port is reached, and which of them somebody is known to use.
//!
//! In: a mesh and a server. Out: its Services' addresses, those of ServiceEntries, and its pod address. Invariant: a pod
//! address counts as used where nothing else leads to the port, and where somebody is known to
//! dial pods (a headless Service, scrape annotations, a PodMonitor or ServiceMonitor). Gateways use what their routes name.

use std::collections::BTreeSet;

use castoff_authz::path::{Address, AddressKind};

use super::fronts::Front;
use super::rows::service_address;
use super::{Dial, Server};
use crate::mesh::ingress::Routed;
use crate::mesh::{Mesh, Workload, WorkloadId};

/// One address of a server.
#[derive(Debug, Clone)]
pub struct DialledAddress {
    /// In words.
    pub address: Address,
    /// For the model.
    pub dial: Dial,
    /// The Service whose route leads there, where that one's address is dialled.
    pub front: Option<Front>,
    /// Whether somebody is known to use it.
    pub in_use: bool,
    /// Whether callers outside the mesh are known to come this way.
    pub from_outside: bool,
    /// Whether gateways send this way, as far as routes show.
    pub from_gateways: bool,
}

/// Ports of a workload that something is known to listen at: those that Services and ServiceEntries lead to,
/// that containers declare, and that are scraped.
pub fn ports(mesh: &Mesh, workload: WorkloadId) -> BTreeSet<u16> {
    let declared = mesh
        .workload(workload)
        .ports
        .iter()
        .filter(|port| port.protocol.is_empty() || port.protocol == "TCP")
        .map(|port| port.container_port);
    let targets = mesh
        .services_of(workload)
        .flat_map(|(_, service)| &service.backends)
        .filter(|backend| backend.workload == workload)
        .flat_map(|backend| backend.target_ports.iter().flatten().copied());
    let entries = mesh.service_entries_of(workload);
    let of_entries = entries.flat_map(|(_, entry)| entry.ports.iter().map(|(_, target)| *target));
    let scraped = scraped_by_annotation(mesh.workload(workload));
    let monitored = mesh.workload(workload).scraped.keys().copied();
    (declared.chain(targets).chain(of_entries))
        .chain(scraped)
        .chain(monitored)
        .collect()
}

/// The port that annotations ask Prometheus to scrape at the pods' own addresses.
pub(super) fn scraped_by_annotation(workload: &Workload) -> Option<u16> {
    let annotations = &workload.template_annotations;
    let port = annotations.get("prometheus.io/port")?;
    annotations
        .has("prometheus.io/scrape", "true")
        .then(|| port.parse().ok())?
}

/// Every address of a server's port.
pub fn of(mesh: &Mesh, routed: &Routed, server: Server) -> Vec<DialledAddress> {
    let workload = mesh.workload(server.workload);
    let mut list = Vec::new();
    let mut pods_in_use = false;
    for (id, service) in mesh.services_of(server.workload) {
        let Some(backend) = service.backends.iter().find(|backend| {
            backend.workload == server.workload && backend.generation == server.generation
        }) else {
            continue;
        };
        for (index, port) in service.ports.iter().enumerate() {
            if backend.target_ports.get(index).copied().flatten() != Some(server.port) {
                continue;
            }
            pods_in_use |= service.headless;
            list.push(DialledAddress {
                address: service_address(&service.name, port.port),
                dial: Dial::Service {
                    service: id,
                    port: index,
                },
                front: None,
                in_use: true,
                from_outside: service.exposed.is_some(),
                from_gateways: routed.contains(id),
            });
        }
    }
    let labels = &workload.generations[server.generation].labels;
    for (id, entry) in mesh.service_entries_of(server.workload) {
        let selector = entry.workload_selector.as_ref();
        if !selector.is_some_and(|selector| labels.selected_by(selector)) {
            continue;
        }
        for (index, (dialled, target)) in entry.ports.iter().enumerate() {
            if *target != server.port {
                continue;
            }
            list.push(DialledAddress {
                address: Address {
                    kind: AddressKind::ServiceEntry,
                    name: entry.name.to_string(),
                    port: *dialled,
                },
                dial: Dial::ServiceEntry {
                    entry: id,
                    port: index,
                },
                front: None,
                in_use: true,
                from_outside: false,
                from_gateways: false,
            });
        }
    }
    let scraped = scraped_by_annotation(workload) == Some(server.port);
    let monitored = workload.scraped.contains_key(&server.port);
    let only_way = list.is_empty();
    list.push(DialledAddress {
        address: Address {
            kind: AddressKind::Pod,
            name: workload.name.to_string(),
            port: server.port,
        },
        dial: Dial::Pod,
        front: None,
        in_use: pods_in_use || scraped || monitored || only_way,
        // Whose Prometheus it is the monitor does not say.
        from_outside: monitored,
        from_gateways: false,
    });
    list
}
