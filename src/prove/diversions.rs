//! What VirtualServices and routes make of a Service's address, where they do not lead to its own pods alone.
//!
//! In: a mesh, and who follows routes. Out: for what is sent to a port of a Service, the [`Branch`]es that its routes
//! have. Invariant: one object that alone decides for the host is followed; where several may, or it is not known who
//! sees it, and one of them leads elsewhere, what becomes of the call is unclear, and never taken for one of them.

use std::collections::{BTreeMap, BTreeSet};

use castoff_authz::path::Point;
use castoff_authz::policy::Rule;
use serde_json::Value;
use smol_str::SmolStr;

use super::Content;
use super::routes::{At, Branch, Follower, Led, Target, chain, list, visible};
use super::taken::{self, Taken};
use crate::mesh::traffic::{Route, VirtualService};
use crate::mesh::{Mesh, ServiceId};
use crate::snapshot::{Kind, ObjectName};

/// Objects that may lead a Service's address elsewhere, by Service.
#[derive(Debug, Default)]
pub(super) struct Diverted<'m>(BTreeMap<ServiceId, Candidates<'m>>);

#[derive(Debug, Default)]
struct Candidates<'m> {
    /// With the length of a wildcard's tail; `None`: for the host itself.
    virtual_services: Vec<(Option<usize>, &'m VirtualService)>,
    routes: Vec<&'m Route>,
}

/// What an object says for one port.
struct Said<'m> {
    object: String,
    raw: &'m Value,
    is_certain: bool,
    branches: Vec<Branch>,
}

impl<'m> Diverted<'m> {
    pub(super) fn of(mesh: &'m Mesh) -> Self {
        let mut diverted = Self::default();
        let (virtual_services, routes) = (&mesh.traffic.virtual_services, &mesh.traffic.routes);
        if virtual_services.is_empty() && routes.is_empty() {
            return diverted;
        }
        let mut exact: BTreeMap<&str, Vec<&VirtualService>> = BTreeMap::new();
        let mut wide: Vec<(&str, &VirtualService)> = Vec::new();
        for one in virtual_services.iter().filter(|one| one.on_mesh) {
            for host in &one.full_hosts {
                match host.strip_prefix('*') {
                    Some(tail) => wide.push((tail, one)),
                    None => exact.entry(host).or_default().push(one),
                }
            }
        }
        let mut by_parent: BTreeMap<&ObjectName, Vec<&Route>> = BTreeMap::new();
        for route in routes {
            for parent in &route.parent_services {
                let of_parent = by_parent.entry(parent).or_default();
                if of_parent
                    .last()
                    .is_none_or(|last| !std::ptr::eq(*last, route))
                {
                    of_parent.push(route);
                }
            }
        }
        for (index, service) in mesh.services.iter().enumerate() {
            let host = service.host();
            let of_host = exact.get(host.as_str()).into_iter().flatten();
            let matching = wide.iter().filter(|(tail, _)| host.ends_with(tail));
            let matching = matching.map(|(tail, one)| (Some(tail.len()), *one));
            let candidates = Candidates {
                virtual_services: of_host.map(|one| (None, *one)).chain(matching).collect(),
                routes: by_parent.get(&service.name).cloned().unwrap_or_default(),
            };
            if candidates.may_divert(mesh, ServiceId(index)) {
                diverted.0.insert(ServiceId(index), candidates);
            }
        }
        diverted
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The Services whose addresses may lead elsewhere.
    pub(super) fn services(&self) -> impl Iterator<Item = ServiceId> {
        self.0.keys().copied()
    }

    /// Whether it hangs on the caller's pods where a Service's address leads.
    pub(super) fn tells_callers_apart(&self, mesh: &Mesh, service: ServiceId) -> bool {
        let Some(candidates) = self.0.get(&service) else {
            return false;
        };
        let anybody = |one: &VirtualService| {
            let seen = visible(mesh, &one.raw, &one.name.namespace, None) == Some(true);
            seen && !asks_for_callers(&one.merged["spec"])
        };
        let own = &mesh.service(service).name.namespace;
        !candidates
            .virtual_services
            .iter()
            .all(|(_, one)| anybody(one))
            || candidates
                .routes
                .iter()
                .any(|route| route.name.namespace != *own)
    }

    /// The branches of a port's routes; none where nobody says anything, or all leads to the Service's own pods.
    pub(super) fn branches(
        &self,
        mesh: &'m Mesh,
        (id, port): (ServiceId, usize),
        led: Led,
        follower: Follower<'_>,
    ) -> Option<Vec<Branch>> {
        let candidates = self.0.get(&id)?;
        let service = mesh.service(id);
        let at = At {
            mesh,
            id,
            service,
            port,
        };
        let mut said: Vec<Said<'_>> = candidates.followed(at, led, follower);
        let leads_on = |one: &Said<'_>| {
            let mut targets = one.branches.iter().flat_map(|branch| &branch.targets);
            targets.any(|target| *target != Target::Own)
        };
        if !said.iter().any(leads_on) {
            return None;
        }
        if let [only] = said.as_mut_slice()
            && only.is_certain
        {
            return Some(std::mem::take(&mut only.branches));
        }
        let targets = || {
            let branches = said.iter().flat_map(|one| &one.branches);
            branches.flat_map(|branch| &branch.targets)
        };
        let reasons: BTreeSet<&str> = targets()
            .filter_map(|target| match target {
                Target::Unclear { reason, .. } => Some(reason.as_str()),
                _ => None,
            })
            .collect();
        let names: Vec<&str> = said.iter().map(|one| one.object.as_str()).collect();
        let what = match said.as_slice() {
            [_] => "may not be seen by the caller's sidecar",
            _ => "are for one host",
        };
        let reason = if reasons.is_empty() {
            format!("{} {what}", names.join(" and "))
        } else {
            reasons.into_iter().collect::<Vec<_>>().join(" and ")
        };
        let contents: Vec<String> = said.iter().map(|one| one.raw.to_string()).collect();
        let among = targets().flat_map(|target| match target {
            Target::Service(id, port) => vec![(*id, *port)],
            Target::Unclear { among, .. } => among.iter().copied().collect(),
            Target::Own | Target::Nobody(_) => Vec::new(),
        });
        let target = Target::Unclear {
            reason,
            content: contents.join("\n"),
            among: among.collect(),
        };
        Some(vec![Branch {
            object: names.join(" and "),
            taken: Taken::default(),
            targets: [target].into(),
        }])
    }

    /// A point that lets through what a waypoint sends from a port of a Service to pods of another, where that is not
    /// all that arrives.
    pub(super) fn led_by_waypoint(
        &self,
        mesh: &'m Mesh,
        (id, port): (ServiceId, usize),
        waypoint: &str,
        behind: ServiceId,
        content: Content,
    ) -> Option<Point> {
        let candidates = self.0.get(&id)?;
        let led = Led::of(mesh.service(id), port, content)?;
        let branches = self.branches(mesh, (id, port), led, Follower::Waypoint(waypoint))?;
        let mut targets = branches.iter().flat_map(|branch| &branch.targets);
        let is_unclear = targets.any(|target| matches!(target, Target::Unclear { .. }));
        // Copies are sent besides.
        if is_unclear || candidates.sends_copies() {
            return None;
        }
        let is_behind = |target: &Target| matches!(target, Target::Service(id, _) if *id == behind);
        let leads = |branch: &Branch| branch.targets.iter().any(is_behind);
        let first = branches.iter().position(leads)?;
        let last = branches.iter().rposition(leads)?;
        let block = &branches[first..=last];
        let object = &block[0].object;
        let taken = if !block.iter().all(leads) {
            let rules: Vec<_> = block
                .iter()
                .map(|one| (&one.taken.some, leads(one)))
                .collect();
            Taken {
                some: vec![taken::not_known("routes", &format!("{rules:?}").into())],
                none: Vec::new(),
            }
        } else if block.iter().any(|one| one.taken.some.is_empty()) {
            Taken {
                some: Vec::new(),
                none: block[0].taken.none.clone(),
            }
        } else {
            let some = block.iter().flat_map(|one| one.taken.some.iter().cloned());
            Taken {
                some: some.collect(),
                none: block[0].taken.none.clone(),
            }
        };
        taken.point(object, content)
    }
}

impl<'m> Candidates<'m> {
    fn sends_copies(&self) -> bool {
        let by_virtual_service = |one: &VirtualService| {
            let mut rules = list(&one.merged["spec"]["http"]).iter();
            rules.any(|rule| rule.get("mirror").is_some() || rule.get("mirrors").is_some())
        };
        let by_route = |route: &Route| {
            let rules = list(&route.raw["spec"]["rules"]).iter();
            let holders = rules.flat_map(|rule| list(&rule["backendRefs"]).iter().chain([rule]));
            let mut filters = holders.flat_map(|holder| list(&holder["filters"]));
            filters.any(|filter| filter["type"] == "RequestMirror")
        };
        let mut virtual_services = self.virtual_services.iter();
        virtual_services.any(|(_, one)| by_virtual_service(one))
            || self.routes.iter().any(|route| by_route(route))
    }

    /// Whether some request may be led elsewhere, whoever sends it.
    fn may_divert(&self, mesh: &'m Mesh, id: ServiceId) -> bool {
        let service = mesh.service(id);
        let ports = 0..service.ports.len();
        let mut at = ports.map(|port| At {
            mesh,
            id,
            service,
            port,
        });
        let is_own = |targets: &BTreeSet<Target>| targets.iter().all(|one| *one == Target::Own);
        at.any(|at| {
            let all = self.virtual_services.iter().map(|(_, one)| {
                ["http", "tcp", "tls"].into_iter().all(|field| {
                    let rules = list(&one.merged["spec"][field]);
                    let own = rules.iter().all(|rule| is_own(&at.of_rule(one, rule)));
                    let matches = || rules.iter().map(|rule| list(&rule["match"]));
                    let asks = |one: &Value| taken::http(one).is_some();
                    let takes_rest = matches().any(<[Value]>::is_empty)
                        || matches().flatten().all(|one| !asks(one));
                    own && (field != "http" || takes_rest)
                })
            });
            let mut routes = self.routes.iter().map(|route| {
                let entries = at.of_route(route);
                let asks = |(one, _): &(Option<Rule>, _)| one.is_some();
                !entries.iter().all(asks) && entries.iter().all(|(_, targets)| is_own(targets))
            });
            let mut all = all;
            !(all.all(|plain| plain) && routes.all(|plain| plain))
        })
    }

    /// What the objects say that somebody follows.
    fn followed(&self, at: At<'m>, led: Led, follower: Follower<'_>) -> Vec<Said<'m>> {
        let by_waypoint = matches!(follower, Follower::Waypoint(_));
        if led != Led::Requests && by_waypoint && !waypoints_lead_connections(at.mesh) {
            return Vec::new();
        }
        let own = &at.service.name.namespace;
        let mut seen: Vec<(Option<usize>, Said<'m>)> = Vec::new();
        for (tail, one) in &self.virtual_services {
            let namespace = &one.name.namespace;
            let visible = match follower {
                Follower::Sidecar(pods, past) => {
                    let own = pods.map(|(namespace, _)| namespace);
                    let visible = visible(at.mesh, &one.raw, namespace, own);
                    both(visible, past.reads(namespace, &one.full_hosts))
                }
                // Only those of its own or the Service's namespace count there
                // (istio pilot/pkg/networking/core/listener_waypoint.go `getVirtualServiceForWaypoint`).
                Follower::Waypoint(waypoint) if namespace == own || namespace == waypoint => {
                    visible(at.mesh, &one.raw, namespace, Some(waypoint))
                }
                Follower::Waypoint(_) => Some(false),
            };
            let branches = at.of_virtual_service(one, led, follower);
            if let (Some(branches), true) = (branches, visible != Some(false)) {
                let said = Said {
                    object: format!("VirtualService {}", one.name),
                    raw: &one.merged,
                    is_certain: visible.is_some(),
                    branches,
                };
                seen.push((*tail, said));
            }
        }
        // For requests sidecars follow the most specific host alone (istio pilot/pkg/model/sidecar.go
        // `computeWildcardHostVirtualServiceIndex`).
        if (led, matches!(follower, Follower::Sidecar(..))) == (Led::Requests, true) {
            let specific = |tail: &Option<usize>| tail.unwrap_or(usize::MAX);
            let longest = seen.iter().map(|(tail, _)| specific(tail)).max();
            let surely = seen
                .iter()
                .any(|(tail, said)| said.is_certain && Some(specific(tail)) == longest);
            seen.retain(|(tail, _)| !surely || Some(specific(tail)) == longest);
        }
        let mut said: Vec<Said<'m>> = seen.into_iter().map(|(_, said)| said).collect();
        let wanted: &[Kind] = match led {
            Led::Requests => &[Kind::HttpRoute, Kind::GrpcRoute],
            Led::Connections => &[Kind::TcpRoute],
            Led::Tls => &[Kind::TlsRoute],
        };
        for route in self
            .routes
            .iter()
            .filter(|route| wanted.contains(&route.kind))
        {
            // One of another namespace is for callers there alone (Gateway API, "consumer" routes).
            let namespace = &route.name.namespace;
            let visible = match follower {
                Follower::Sidecar(pods, past) => {
                    let is_consumer = pods.is_some_and(|(one, _)| one == namespace);
                    let host = SmolStr::from(at.service.host());
                    let visible = Some(namespace == own || is_consumer);
                    both(visible, past.reads(namespace, &[host]))
                }
                Follower::Waypoint(waypoint) => Some(namespace == own || waypoint == namespace),
            };
            let object = format!("{} {}", route.kind.row().name, route.name);
            let entries = at.of_route(route).into_iter();
            let entries = entries.map(|(one, targets)| (vec![one], targets));
            let rest = Target::Nobody(format!("no rule of {object} takes it"));
            if let (Some(branches), true) = (chain(&object, entries, &rest), visible != Some(false))
            {
                said.push(Said {
                    object,
                    raw: &route.raw,
                    is_certain: visible.is_some(),
                    branches,
                });
            }
        }
        said
    }
}

/// Since Istio 1.26 (listener_waypoint.go `getWaypointTCPRoutes`).
fn waypoints_lead_connections(mesh: &Mesh) -> bool {
    let mut versions = mesh.control_planes.iter().map(|one| one.version.as_ref());
    mesh.control_planes.is_empty()
        || versions.any(|one| one.is_none_or(|version| version.at_least(1, 26)))
}

/// Whether both hold; `None`: not known.
fn both(left: Option<bool>, right: Option<bool>) -> Option<bool> {
    match (left, right) {
        (Some(false), _) | (_, Some(false)) => Some(false),
        (Some(true), Some(true)) => Some(true),
        _ => None,
    }
}

/// Whether some match asks who calls.
fn asks_for_callers(spec: &Value) -> bool {
    let rules = ["http", "tcp", "tls"].into_iter();
    let mut matches = rules.flat_map(|field| {
        let rules = list(&spec[field]).iter();
        rules.flat_map(|rule| list(&rule["match"]))
    });
    matches.any(|one| {
        ["sourceLabels", "sourceNamespace"]
            .iter()
            .any(|it| one.get(it).is_some())
    })
}
