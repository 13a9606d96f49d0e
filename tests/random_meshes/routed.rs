//! Routes from one Service to pods of another, and where waypoints lead, found without the prover.
//!
//! In: a mesh and a server. Out: addresses of Services in front, with what is dialled there. It reads
//! VirtualServices and routes itself, so that what the proof makes of them is held against it.

use std::collections::BTreeMap;

use castoff::mesh::traffic::VirtualService;
use castoff::mesh::{Distribution, Mesh, Service, ServiceId, WaypointBinding, WaypointId};
use castoff::prove::addresses::DialledAddress;
use castoff::prove::{CallerMode, Dial, Server};
use castoff_authz::path::{Address, AddressKind};

/// A port of a Service whose waypoint follows a route, and the Service behind.
pub(crate) type ByWaypoint = ((ServiceId, usize), ServiceId);

/// Addresses of Services that do not lead to a server and from which a route does, and what is dialled
/// there: the Service itself where its waypoint follows the route, else the one behind.
pub(crate) fn routed_ways(
    mesh: &Mesh,
    mode: CallerMode,
    server: Server,
    dialled: &[DialledAddress],
) -> Vec<(Address, Dial, Option<ByWaypoint>)> {
    let mut found: BTreeMap<(String, u16), (Address, Dial, Option<ByWaypoint>)> = BTreeMap::new();
    for way in dialled {
        let Dial::Service {
            service: behind, ..
        } = way.dial
        else {
            continue;
        };
        for (index, front) in mesh.services.iter().enumerate() {
            let front_id = ServiceId(index);
            let leads = leads(mesh, front_id, behind);
            let itself = front
                .backends
                .iter()
                .any(|backend| backend.workload == server.workload);
            if front.headless || itself || !leads.by_anybody() {
                continue;
            }
            let past_sidecar = mode == CallerMode::Ambient
                || mode == CallerMode::Sidecar && mesh.distribution == Distribution::Solo
                || mode == CallerMode::Gateway && front.ingress_uses_waypoint;
            for (port, one) in front.ports.iter().enumerate() {
                let by_waypoint = past_sidecar && front.binding.waypoint().is_some();
                let (dial, led) = match (by_waypoint, mode) {
                    (true, _) if leads.by_waypoint => {
                        let service = front_id;
                        let led = ((front_id, port), behind);
                        (Dial::Service { service, port }, Some(led))
                    }
                    (false, CallerMode::Sidecar) if leads.by_sidecar => (way.dial, None),
                    _ => continue,
                };
                let address = Address {
                    kind: AddressKind::Service,
                    name: front.name.to_string(),
                    port: one.port,
                };
                let key = (address.name.clone(), address.port);
                found.entry(key).or_insert((address, dial, led));
            }
        }
    }
    found.into_values().collect()
}

/// Whether a waypoint leads to a server's port, or to a Service there that has no waypoint yet.
pub(crate) fn may_lead(mesh: &Mesh, waypoint: WaypointId, server: Server) -> bool {
    let to_port = |service: &Service| {
        let backends = service.backends.iter();
        backends
            .filter(|one| one.workload == server.workload && one.generation == server.generation)
            .any(|one| one.target_ports.contains(&Some(server.port)))
    };
    let serves = |service: &Service| service.binding.waypoint() == Some(waypoint);
    let before = mesh.services_of(server.workload);
    before
        .filter(|(_, service)| to_port(service))
        .any(|(id, service)| {
            let free = service.binding.waypoint().is_none()
                && service.binding != WaypointBinding::OptedOut;
            let mut fronts = mesh.services.iter().enumerate();
            free || serves(service)
                || fronts.any(|(front, one)| {
                    serves(one) && leads(mesh, ServiceId(front), id).by_anybody()
                })
        })
}

/// Who follows a route from one Service to another.
fn leads(mesh: &Mesh, front: ServiceId, behind: ServiceId) -> Leads {
    let (from, to) = (mesh.service(front), mesh.service(behind));
    let mut leads = Leads::default();
    let versions = to.backends.iter().all(|one| {
        from.backends
            .iter()
            .any(|other| other.workload == one.workload)
    });
    if front == behind || versions {
        return leads;
    }
    let waypoint = from.binding.waypoint().map(|id| mesh.waypoint(id));
    let at_waypoint = |namespace: &str| {
        from.name.namespace == namespace
            || waypoint.is_some_and(|waypoint| waypoint.name.namespace == namespace)
    };
    for route in &mesh.traffic.routes {
        if route.parent_services.contains(&from.name) && route.backends.contains(&to.name) {
            leads.by_sidecar = true;
            leads.by_waypoint |= at_waypoint(&route.name.namespace);
        }
    }
    let host = from.host();
    // The longest host that matches, of all VirtualServices; one without `*` before the others.
    let length = |one: &VirtualService| -> Option<(bool, usize)> {
        let hosts = one.full_hosts.iter();
        hosts
            .filter_map(|pattern| match pattern.strip_prefix('*') {
                Some(tail) => host.ends_with(tail).then_some((false, tail.len())),
                None => (pattern.as_str() == host).then_some((true, 0)),
            })
            .max()
    };
    let all = || mesh.traffic.virtual_services.iter();
    let longest = all().filter_map(length).max();
    for one in all() {
        let matching = length(one);
        let destinations = &one.destinations;
        if matching.is_none() || !destinations.iter().any(|name| name.as_str() == to.host()) {
            continue;
        }
        leads.by_sidecar |= matching == longest || one.raw["spec"]["tcp"].is_array();
        leads.by_waypoint |= at_waypoint(&one.name.namespace);
    }
    leads
}

/// Who follows a route.
#[derive(Default)]
struct Leads {
    by_sidecar: bool,
    by_waypoint: bool,
}

impl Leads {
    fn by_anybody(&self) -> bool {
        self.by_sidecar || self.by_waypoint
    }
}
