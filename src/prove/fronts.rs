//! Routes that lead from one Service to pods of another: who dials the first reaches the second.
//!
//! In: VirtualServices and routes of a mesh. Out: by server, the Services in front of it, and what is
//! dialled where a route is followed. Invariant: a sidecar follows a route itself and asks what the
//! second Service's address would ask; a waypoint asks the policies of the first and goes on to the pods,
//! past the second's (istio pilot/pkg/networking/core/listener_waypoint.go
//! `getWaypointDestinationCluster`).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use smol_str::SmolStr;

use super::addresses::DialledAddress;
use super::routes::{list, visible};
use super::rows::service_address;
use super::{Caller, CallerMode, Dial, Server};
use crate::mesh::ingress::Routed;
use crate::mesh::routing::{full_host, led_to};
use crate::mesh::traffic::VirtualService;
use crate::mesh::{Distribution, Mesh, Protocol, Service, ServiceId, WaypointId, WorkloadId};

/// A Service whose route leads elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Front {
    /// The Service.
    pub service: ServiceId,
    /// The index of its port.
    pub port: usize,
    followed: Followed,
}

/// Who follows a route.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Followed {
    /// Whether sidecars do: where hosts overlap, that of the most specific host alone (istio
    /// pilot/pkg/model/sidecar.go `computeWildcardHostVirtualServiceIndex`), but for routes of
    /// connections (pilot/pkg/networking/core/tls.go `getConfigsForHost`).
    by_sidecar: bool,
    /// Whether the Service's waypoint does: only routes of its own or the Service's namespace count
    /// there, and all whose hosts match (istio pilot/pkg/networking/core/listener_waypoint.go
    /// `getVirtualServiceForWaypoint`).
    by_waypoint: bool,
}

impl Followed {
    fn add(&mut self, other: Self) {
        self.by_sidecar |= other.by_sidecar;
        self.by_waypoint |= other.by_waypoint;
    }
}

impl Front {
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
            return self.followed.by_waypoint.then_some(Dial::Service {
                service: self.service,
                port: self.port,
            });
        }
        (caller.mode == CallerMode::Sidecar && self.followed.by_sidecar).then_some(behind)
    }
}

/// Hosts to which routes of a Service lead and that are no Service of the mesh.
pub fn elsewhere(mesh: &Mesh, service: &Service) -> BTreeSet<SmolStr> {
    let host = service.host();
    let matches = |pattern: &SmolStr| match pattern.strip_prefix('*') {
        Some(tail) => host.ends_with(tail),
        None => *pattern == host.as_str(),
    };
    let on_mesh = mesh.traffic.virtual_services.iter();
    let virtual_services = on_mesh.filter(|one| one.on_mesh && one.full_hosts.iter().any(matches));
    let routes = mesh.traffic.routes.iter();
    let routes = routes.filter(|route| route.parent_services.contains(&service.name));
    let of_routes = routes
        .flat_map(|route| &route.backends)
        .filter(|name| mesh.service_named(name).is_none())
        .map(|name| full_host(&name.name, &name.namespace));
    let hosts: BTreeSet<SmolStr> = virtual_services
        .flat_map(|one| one.destinations.iter().cloned())
        .chain(of_routes)
        .collect();
    let known: BTreeSet<String> = mesh.services.iter().map(Service::host).collect();
    let unknown = hosts.into_iter();
    unknown
        .filter(|host| !known.contains(host.as_str()))
        .collect()
}

/// Whether a rule may take what somebody sends in the mesh, or through a waypoint in this namespace, which passes over
/// what asks for labels (istio pilot/pkg/networking/core/listener_waypoint.go `waypointInboundRoute`,
/// `getTCPRouteMatch`).
fn may_take(field: &str, rule: &Value, waypoint: Option<&SmolStr>) -> bool {
    let matches = list(&rule["match"]);
    let takes = |one: &Value| {
        let gateways = list(&one["gateways"]);
        let on_mesh = gateways.is_empty() || gateways.iter().any(|one| one == "mesh");
        let asks = |field: &str| one.get(field).is_some_and(|asked| *asked != "");
        let of_waypoint = waypoint.is_none_or(|waypoint| {
            let is_its = field == "http" && one["sourceNamespace"] == waypoint.as_str();
            let in_namespace = !asks("sourceNamespace") || is_its;
            // Of requests, gateways that are named stand before the namespace.
            let named = field == "http" && !gateways.is_empty();
            !asks("sourceLabels") && (in_namespace || named)
        });
        on_mesh && of_waypoint
    };
    matches.is_empty() || matches.iter().any(takes)
}

/// Services in front of others, by the Service behind; with who follows.
#[derive(Debug, Default)]
pub(super) struct Fronts(BTreeMap<ServiceId, BTreeMap<ServiceId, Followed>>);

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
        let on_mesh = || {
            mesh.traffic
                .virtual_services
                .iter()
                .filter(|one| one.on_mesh)
        };
        let mut wide: Vec<(&str, &VirtualService)> = Vec::new();
        let mut exact: BTreeSet<ServiceId> = BTreeSet::new();
        for one in on_mesh() {
            let front = known(&one.full_hosts);
            fronts.add_rules(mesh, one, &front, &by_host, true);
            exact.extend(front);
            let tails = one
                .full_hosts
                .iter()
                .filter_map(|host| host.strip_prefix('*'));
            wide.extend(tails.map(|tail| (tail, one)));
        }
        for (host, id) in wide.first().map(|_| &by_host).into_iter().flatten() {
            let matching = || wide.iter().filter(|(tail, _)| host.ends_with(tail));
            // Of one host the oldest counts (istio pilot/pkg/model/config.go `sortConfigByCreationTime`).
            let chosen = matching()
                .max_by_key(|(tail, one)| (tail.len(), Reverse((&one.created, &one.name.name))))
                .filter(|_| !exact.contains(id));
            for (_, one) in matching() {
                let is_chosen = chosen.is_some_and(|(_, chosen)| chosen.name == one.name);
                let by_sidecar = is_chosen || one.routes_connections();
                fronts.add_rules(mesh, one, &[*id], &by_host, by_sidecar);
            }
        }
        for route in &mesh.traffic.routes {
            let [front, behind] = [&route.parent_services, &route.backends].map(|names| {
                let ids = names.iter().filter_map(|name| mesh.service_named(name));
                ids.map(|(id, _)| id).collect::<Vec<_>>()
            });
            let namespace = &route.name.namespace;
            fronts.add(mesh, &front, &behind, |service, waypoint| Followed {
                by_sidecar: true,
                by_waypoint: service.name.namespace == *namespace || waypoint == Some(namespace),
            });
        }
        fronts
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what each rule of a VirtualService leads to.
    fn add_rules(
        &mut self,
        mesh: &Mesh,
        one: &VirtualService,
        front: &[ServiceId],
        by_host: &BTreeMap<String, ServiceId>,
        by_sidecar: bool,
    ) {
        let own = &one.name.namespace;
        for field in ["http", "tcp", "tls"] {
            for rule in list(&one.merged["spec"][field]) {
                let hosts = led_to(rule, own);
                let behind: Vec<ServiceId> = hosts
                    .filter_map(|host| by_host.get(host.as_str()).copied())
                    .collect();
                self.add(mesh, front, &behind, |service, waypoint| {
                    let counts = |waypoint: &SmolStr| {
                        (service.name.namespace == *own || waypoint == own)
                            && visible(mesh, &one.raw, own, Some(waypoint)) != Some(false)
                            && may_take(field, rule, Some(waypoint))
                    };
                    Followed {
                        by_sidecar: by_sidecar && may_take(field, rule, None),
                        by_waypoint: waypoint.is_some_and(counts),
                    }
                });
            }
        }
    }

    fn add(
        &mut self,
        mesh: &Mesh,
        front: &[ServiceId],
        behind: &[ServiceId],
        followed: impl Fn(&Service, Option<&SmolStr>) -> Followed,
    ) {
        for id in front {
            let service = mesh.service(*id);
            let waypoint = service.binding.waypoint().map(|id| mesh.waypoint(id));
            let followed = followed(service, waypoint.map(|one| &one.name.namespace));
            if followed == Followed::default() {
                continue;
            }
            // A version of the same pods (a canary's own Service) is reached by the front's address anyway.
            let own: BTreeSet<WorkloadId> =
                service.backends.iter().map(|one| one.workload).collect();
            let leads_on = |other: &ServiceId| {
                let mut backends = mesh.service(*other).backends.iter();
                other != id && !backends.all(|one| own.contains(&one.workload))
            };
            for other in behind.iter().filter(|other| leads_on(other)) {
                let in_front = self.0.entry(*other).or_default();
                in_front.entry(*id).or_default().add(followed);
            }
        }
    }

    /// Services to whose pods routes of others lead.
    pub(super) fn led_to(&self) -> impl Iterator<Item = ServiceId> {
        self.0.keys().copied()
    }

    /// Services to whose pods routes of one lead.
    pub(super) fn behind(&self, front: ServiceId) -> impl Iterator<Item = ServiceId> {
        let all = self.0.iter();
        all.filter(move |(_, in_front)| in_front.contains_key(&front))
            .map(|(behind, _)| *behind)
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
            for (front, followed) in self.0.get(&service).into_iter().flatten() {
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
                                followed: *followed,
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
        ways.dedup_by(|later, kept| {
            let same = later.address == kept.address;
            if let (true, Some(front), Some(before)) = (same, later.front, &mut kept.front) {
                if !before.followed.by_sidecar {
                    kept.dial = later.dial;
                }
                before.followed.add(front.followed);
            }
            same
        });
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
