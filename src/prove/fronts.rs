//! Routes that lead from one Service to pods of another: who dials the first reaches the second.
//!
//! In: VirtualServices and routes of a mesh. Out: by server, the Services in front of it, and what is
//! dialled where a route is followed. Invariant: a sidecar follows a route itself and asks what the
//! second Service's address would ask; a waypoint asks the policies of the first and goes on to the pods,
//! past the second's (istio pilot/pkg/networking/core/listener_waypoint.go
//! `getWaypointDestinationCluster`). Not followed: routes of wildcard hosts.

use std::collections::{BTreeMap, BTreeSet};

use smol_str::SmolStr;

use super::addresses::DialledAddress;
use super::rows::service_address;
use super::{Caller, CallerMode, Dial, Server};
use crate::mesh::ingress::Routed;
use crate::mesh::{Distribution, Mesh, Protocol, ServiceId, WaypointId, WorkloadId};

/// A Service whose route leads elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Front {
    /// The Service.
    pub service: ServiceId,
    /// The index of its port.
    pub port: usize,
    /// Whether its waypoint follows the route: only those of its own or the Service's namespace count
    /// there (istio pilot/pkg/networking/core/listener_waypoint.go `getVirtualServiceForWaypoint`).
    by_waypoint: bool,
}

impl Front {
    /// A port of a Service whose route leads elsewhere.
    pub(super) fn new(service: ServiceId, port: usize, by_waypoint: bool) -> Self {
        Self {
            service,
            port,
            by_waypoint,
        }
    }

    /// What is dialled for a caller that arrives in this mode: the Service in front where its waypoint
    /// follows the route, the one behind where the caller's sidecar does; nothing where nobody does.
    pub(super) fn dial(self, mesh: &Mesh, caller: &Caller, behind: Dial) -> Option<Dial> {
        let service = mesh.service(self.service);
        let to_waypoint = match caller.mode {
            CallerMode::Ambient => true,
            CallerMode::Sidecar => mesh.distribution == Distribution::Solo,
            CallerMode::Gateway => service.ingress_uses_waypoint,
            CallerMode::Plain => false,
        };
        if to_waypoint && service.binding.waypoint().is_some() {
            return self.by_waypoint.then_some(Dial::Service {
                service: self.service,
                port: self.port,
            });
        }
        (caller.mode == CallerMode::Sidecar).then_some(behind)
    }
}

/// Services in front of others, by the Service behind; with whether the waypoint follows.
#[derive(Debug, Default)]
pub(super) struct Fronts(BTreeMap<ServiceId, BTreeSet<(ServiceId, bool)>>);

impl Fronts {
    pub(super) fn of(mesh: &Mesh) -> Self {
        let mut fronts = Self::default();
        if mesh.traffic.virtual_services.is_empty() && mesh.traffic.routes.is_empty() {
            return fronts;
        }
        let by_host: BTreeMap<String, ServiceId> = mesh
            .services
            .iter()
            .enumerate()
            .map(|(index, service)| (service.host(), ServiceId(index)))
            .collect();
        let known = |hosts: &[SmolStr]| -> Vec<ServiceId> {
            let ids = hosts.iter().filter_map(|host| by_host.get(host.as_str()));
            ids.copied().collect()
        };
        for one in mesh
            .traffic
            .virtual_services
            .iter()
            .filter(|one| one.on_mesh)
        {
            let behind = known(&one.destinations);
            fronts.add(mesh, &one.name.namespace, &known(&one.full_hosts), &behind);
        }
        for route in &mesh.traffic.routes {
            let [front, behind] = [&route.parent_services, &route.backends].map(|names| {
                let ids = names.iter().filter_map(|name| mesh.service_named(name));
                ids.map(|(id, _)| id).collect::<Vec<_>>()
            });
            fronts.add(mesh, &route.name.namespace, &front, &behind);
        }
        fronts
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, mesh: &Mesh, namespace: &SmolStr, front: &[ServiceId], behind: &[ServiceId]) {
        for id in front {
            let service = mesh.service(*id);
            let waypoint = service.binding.waypoint().map(|id| mesh.waypoint(id));
            let follows = service.name.namespace == *namespace
                || waypoint.is_some_and(|waypoint| waypoint.name.namespace == *namespace);
            // A version of the same pods (a canary's own Service) is reached by the front's address anyway.
            let own: BTreeSet<WorkloadId> =
                service.backends.iter().map(|one| one.workload).collect();
            let leads_on = |other: &ServiceId| {
                let mut backends = mesh.service(*other).backends.iter();
                other != id && !backends.all(|one| own.contains(&one.workload))
            };
            for other in behind.iter().filter(|other| leads_on(other)) {
                self.0.entry(*other).or_default().insert((*id, follows));
            }
        }
    }

    /// Adds the ways through Services in front to a server's addresses.
    pub(super) fn extend(
        &self,
        mesh: &Mesh,
        routed: &Routed,
        server: Server,
        list: &mut Vec<DialledAddress>,
    ) {
        if self.is_empty() {
            return;
        }
        let mut ways = Vec::new();
        for dialled in list.iter() {
            let Dial::Service { service, .. } = dialled.dial else {
                continue;
            };
            for (front, by_waypoint) in self.0.get(&service).into_iter().flatten() {
                let before = mesh.service(*front);
                let itself = before
                    .backends
                    .iter()
                    .any(|backend| backend.workload == server.workload);
                if before.headless || itself {
                    continue;
                }
                for (index, port) in before.ports.iter().enumerate() {
                    if port.protocol != Protocol::Udp {
                        ways.push(DialledAddress {
                            address: service_address(&before.name, port.port),
                            dial: dialled.dial,
                            front: Some(Front {
                                service: *front,
                                port: index,
                                by_waypoint: *by_waypoint,
                            }),
                            in_use: true,
                            from_outside: false,
                            from_gateways: routed.contains(*front),
                        });
                    }
                }
            }
        }
        ways.sort_by(|left, right| (&left.address, left.front).cmp(&(&right.address, right.front)));
        ways.dedup_by(|left, right| left.address == right.address);
        list.extend(ways);
    }

    /// The waypoints of Services in front of a server's.
    pub(super) fn waypoints(&self, mesh: &Mesh, server: Server) -> BTreeSet<WaypointId> {
        if self.is_empty() {
            return BTreeSet::new();
        }
        mesh.services_of(server.workload)
            .filter_map(|(id, _)| self.0.get(&id))
            .flatten()
            .filter_map(|(front, _)| mesh.service(*front).binding.waypoint())
            .collect()
    }
}
