//! The definition of *opens* and *breaks*, asked of concrete requests, with the plain evaluator alone.
//!
//! In: two meshes. Out: every request that is gained or lost, with its server and port. It shares with
//! the proof how a path is found ([`hops`]) and how one request is decided ([`evaluate`]), and nothing
//! else: no prover, no classes of callers, no classes of strings.

#[path = "lost.rs"]
mod lost;
#[path = "told.rs"]
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use castoff::mesh::ingress::{self, Routed};
use castoff::mesh::{
    DataPlaneMode, Mesh, OwnerKind, Role, ServiceId, WaypointId, Workload, WorkloadId,
};
use castoff::prove::addresses::{self, DialledAddress};
use castoff::prove::network::{NetworkPolicies, Party, Pods};
use castoff::prove::pins::Leads;
use castoff::prove::reading::authorization_settings;
use castoff::prove::{Attachments, Caller, CallerMode, Content, Dial, Server, hops, wire};
use castoff::snapshot::ObjectName;
use castoff_authz::decision::Outcome;
use castoff_authz::eval::evaluate;
use castoff_authz::path::{Address, EnforcementPath, PointKind, Protocol, Proxy};
use castoff_authz::request::Request;
use castoff_authz::settings::Settings;

use crate::generator::Random;
use crate::past_sidecars::{Leaves, UNDECLARED, is_meant, leaves};
use crate::requests::request;
use crate::routed::{ByWaypoint, may_lead, routed_ways};

/// Somebody gains or loses: server, its port, and the direction as a verdict names it.
pub(crate) type Key = (ObjectName, u16, &'static str);

/// What was replayed, and what differed, with one example each.
#[derive(Default)]
pub(crate) struct Replayed {
    pub(crate) requests: usize,
    pub(crate) differences: BTreeMap<Key, String>,
}

/// One mesh with its look-ups.
pub(crate) struct Side<'a> {
    mesh: &'a Mesh,
    attachments: Attachments<'a>,
    network: NetworkPolicies<'a>,
    routed: Routed,
    settings: Arc<Settings>,
}

impl<'a> Side<'a> {
    pub(crate) fn of(mesh: &'a Mesh) -> Self {
        Self {
            mesh,
            attachments: Attachments::of(mesh),
            network: NetworkPolicies::of(mesh),
            routed: ingress::routed(mesh),
            settings: Arc::new(authorization_settings(mesh)),
        }
    }

    fn find(&self, name: &ObjectName) -> Option<(WorkloadId, &'a Workload)> {
        let index = self
            .mesh
            .workloads
            .iter()
            .position(|one| one.name == *name)?;
        Some((WorkloadId(index), &self.mesh.workloads[index]))
    }

    fn party(&self, sender: &Sender) -> Party<'a> {
        match sender {
            Sender::Workload(id, generation) => {
                let workload = self.mesh.workload(*id);
                Party::Pods(Pods {
                    namespace: &workload.name.namespace,
                    labels: &workload.generations[*generation].labels,
                    ports: &workload.ports,
                })
            }
            Sender::Nowhere => Party::Anybody,
            Sender::Outside => Party::Outside,
        }
    }

    fn leaves(&self, sender: &Sender, to: &Address) -> Leaves {
        match sender {
            Sender::Workload(id, generation) => leaves(self.mesh.workload(*id), *generation, to),
            Sender::Nowhere | Sender::Outside => Leaves::AsMode,
        }
    }

    fn path(
        &self,
        (caller, sender): (&Caller, &Sender),
        (address, in_use, dial): (&Address, bool, Dial),
        server: Server,
        content: Content,
    ) -> EnforcementPath {
        let hops = hops(self.mesh, &self.attachments, caller, dial, server, content);
        EnforcementPath {
            address: address.clone(),
            in_use,
            settings: Arc::clone(&self.settings),
            points: wire::points(self.mesh, &self.network, self.party(sender), hops, server),
        }
    }

    fn paths(&self, call: &Call, sender: &Sender, server: Server, content: Content) -> Ways {
        let mut ways = Ways::default();
        let (caller, mode) = (&call.caller, call.caller.mode);
        // Past a sidecar nothing shows who calls.
        let plain = Caller {
            mode: CallerMode::Plain,
            principal: None,
            ..caller.clone()
        };
        let dialled = addresses::of(self.mesh, &self.routed, server);
        for one in &dialled {
            let address = &one.address;
            let arrives = match self.leaves(sender, address) {
                Leaves::AsMode => caller,
                Leaves::Past => &plain,
                Leaves::Unclear => continue,
            };
            let leads = self
                .attachments
                .leads(arrives.mode, one.dial, server, content);
            if leads == Leads::Elsewhere {
                ways.elsewhere.insert(address.clone());
                continue;
            }
            let to = (address, call.uses(one), one.dial);
            ways.paths
                .push(self.path((arrives, sender), to, server, content));
            ways.led.push(None);
            // That a sidecar shows no identity at a port to which nothing leads is no rule about access.
            if server.port == UNDECLARED && mode == CallerMode::Sidecar {
                let to = (address, true, Dial::PodByIdentity);
                ways.meant
                    .push(self.path((caller, sender), to, server, content));
            }
        }
        for (address, dial, by_waypoint) in routed_ways(self.mesh, mode, server, &dialled) {
            // Who goes past his sidecar follows none of its routes.
            if self.leaves(sender, &address) == Leaves::AsMode {
                let to = (&address, !call.outsider, dial);
                ways.paths
                    .push(self.path((caller, sender), to, server, content));
                ways.led.push(by_waypoint);
            }
            ways.routed.insert(address);
        }
        let services = dialled.iter().filter_map(|one| match one.dial {
            Dial::Service { service, port } => {
                let at = (service, port);
                Some((one.address.clone(), call.uses(one), at))
            }
            _ => None,
        });
        let services = services.filter(|(to, ..)| self.leaves(sender, to) == Leaves::AsMode);
        ways.services = services.collect();
        ways
    }
}

/// Every way to a server, which addresses are those of Services in front, and which lead to other pods.
#[derive(Default)]
struct Ways {
    paths: Vec<EnforcementPath>,
    /// Ways that would be there, had the caller's sidecar shown who calls.
    meant: Vec<EnforcementPath>,
    /// For each path the port of a Service whose waypoint leads on, where one does, and to which Service.
    led: Vec<Option<ByWaypoint>>,
    /// The Services' own addresses, whether they are in use, and what they are.
    services: Vec<(Address, bool, (ServiceId, usize))>,
    routed: BTreeSet<Address>,
    elsewhere: BTreeSet<Address>,
}

impl Ways {
    /// The paths now, with those of before that lead elsewhere by now: nothing is refused there, and
    /// nothing is new.
    fn since(&self, before: &Ways) -> Vec<EnforcementPath> {
        let mut paths = self.paths.clone();
        let gone = before.paths.iter().filter(|path| {
            let address = &path.address;
            (before.routed.contains(address) || self.elsewhere.contains(address))
                && paths.iter().all(|other| other.address != *address)
        });
        let gone: Vec<EnforcementPath> = gone.cloned().collect();
        paths.extend(gone);
        paths
    }
}

/// Where a caller runs in one state.
#[derive(Clone, Copy)]
enum Sender {
    Workload(WorkloadId, usize),
    /// An identity of the mesh that no workload has.
    Nowhere,
    Outside,
}

/// One caller in one of its modes.
struct Call {
    caller: Caller,
    outsider: bool,
}

impl Call {
    fn uses(&self, dialled: &DialledAddress) -> bool {
        dialled.in_use && (!self.outsider || dialled.from_outside)
    }

    /// The request with the identity that the caller has in this state.
    fn sends(&self, request: &Request) -> Request {
        let mut request = request.clone();
        request.principal.clone_from(&self.caller.principal);
        request
    }
}

/// A caller before and now.
struct Pair {
    name: String,
    /// A waypoint under its own identity: it cannot lose, and is asked for where it does not lead to.
    waypoint: Option<WaypointId>,
    before: (Call, Sender),
    now: (Call, Sender),
}

fn call(mode: CallerMode, principal: Option<&str>, workload: Option<&ObjectName>) -> Call {
    Call {
        caller: Caller {
            workload: workload.cloned(),
            mode,
            principal: principal
                .filter(|_| mode != CallerMode::Plain)
                .map(str::to_owned),
        },
        outsider: false,
    }
}

/// Generations that one now is compared with: of its own mode, else all.
fn counterparts(before: &Workload, mode: DataPlaneMode) -> Vec<usize> {
    let alike = |index: &usize| before.generations[*index].mode == mode;
    let all = 0..before.generations.len();
    let same: Vec<usize> = all.clone().filter(alike).collect();
    if same.is_empty() { all.collect() } else { same }
}

/// Every workload in every mode, an identity that no workload has, and somebody from outside.
fn pairs(before: &Side<'_>, now: &Side<'_>) -> Vec<Pair> {
    let domain = now.mesh.settings.trust_domain.as_str();
    let waypoints: BTreeSet<String> = now
        .mesh
        .waypoints
        .iter()
        .map(|waypoint| waypoint.principal(domain))
        .collect();
    let mut pairs = Vec::new();
    let mut modes = BTreeSet::new();
    for (index, workload) in now.mesh.workloads.iter().enumerate() {
        let principal = workload.principal(domain);
        let Some((was_id, was)) = before.find(&workload.name) else {
            continue;
        };
        if workload.role != Role::Application || waypoints.contains(&principal) {
            continue;
        }
        for (generation, is) in workload.generations.iter().enumerate() {
            for old in counterparts(was, is.mode) {
                let mode = |workload: &Workload, generation: usize| {
                    Caller::mode_of(&workload.role, workload.generations[generation].mode)
                };
                let (then, since) = (mode(was, old), mode(workload, generation));
                modes.insert((then, since));
                let had = was.principal(&before.mesh.settings.trust_domain);
                let make = |mode, principal| call(mode, Some(principal), Some(&workload.name));
                pairs.push(Pair {
                    name: workload.name.to_string(),
                    waypoint: None,
                    before: (make(then, &had), Sender::Workload(was_id, old)),
                    now: (
                        make(since, &principal),
                        Sender::Workload(WorkloadId(index), generation),
                    ),
                });
            }
        }
    }
    let stranger = format!("{domain}/ns/nowhere/sa/nobody");
    for (then, since) in modes {
        if then != CallerMode::Plain && since != CallerMode::Plain {
            pairs.push(Pair {
                name: "any other identity".to_owned(),
                waypoint: None,
                before: (call(then, Some(&stranger), None), Sender::Nowhere),
                now: (call(since, Some(&stranger), None), Sender::Nowhere),
            });
        }
    }
    let outsider = || Call {
        caller: Caller::outsider(),
        outsider: true,
    };
    for (index, waypoint) in now.mesh.waypoints.iter().enumerate() {
        let principal = waypoint.principal(domain);
        let make = || call(CallerMode::Ambient, Some(&principal), None);
        pairs.push(Pair {
            name: format!("waypoint {}", waypoint.name),
            waypoint: Some(WaypointId(index)),
            before: (make(), Sender::Nowhere),
            now: (make(), Sender::Nowhere),
        });
    }
    pairs.push(Pair {
        name: "outsiders".to_owned(),
        waypoint: None,
        before: (outsider(), Sender::Outside),
        now: (outsider(), Sender::Outside),
    });
    pairs
}

/// Replays `each` random requests for every caller, server, port and kind of content.
pub(crate) fn replay(
    before: &Side<'_>,
    now: &Side<'_>,
    each: usize,
    random: &mut Random,
) -> Replayed {
    let mut replayed = Replayed::default();
    let pairs = pairs(before, now);
    let ambient = pairs
        .iter()
        .any(|pair| pair.now.0.caller.mode == CallerMode::Ambient);
    for (index, workload) in now.mesh.workloads.iter().enumerate() {
        let Some((was_id, was)) = before.find(&workload.name) else {
            continue;
        };
        if !workload.is_mesh_application() && !was.is_mesh_application() {
            continue;
        }
        for (generation, is) in workload.generations.iter().enumerate() {
            for old in counterparts(was, is.mode) {
                let mut ports = addresses::ports(now.mesh, WorkloadId(index));
                ports.extend(addresses::ports(before.mesh, was_id));
                if is_meant(before.mesh, was) || is_meant(now.mesh, workload) {
                    ports.insert(UNDECLARED);
                }
                for port in ports {
                    let server = |workload, generation| Server {
                        workload,
                        generation,
                        port,
                    };
                    let servers = (server(was_id, old), server(WorkloadId(index), generation));
                    let asked = |pair: &&Pair| {
                        pair.waypoint
                            .is_none_or(|waypoint| !may_lead(now.mesh, waypoint, servers.1))
                    };
                    for pair in pairs.iter().filter(asked) {
                        for content in [Content::Http, Content::Bytes] {
                            let (then, since) = (&pair.before, &pair.now);
                            let ways = before.paths(&then.0, &then.1, servers.0, content);
                            let present = now.paths(&since.0, &since.1, servers.1, content);
                            let asked = Asked {
                                pair,
                                server: workload,
                                port,
                                content,
                                some_are_ambient: ambient,
                                sides: [before, now],
                                own: present.paths.len(),
                                now: present.since(&ways),
                                led: [ways.led, present.led],
                                services: [ways.services, present.services],
                                before: ways.paths,
                                meant: ways.meant,
                            };
                            asked.replay(each, random, &mut replayed);
                        }
                    }
                }
            }
        }
    }
    replayed
}

/// One caller, one server, one port, one kind of content.
struct Asked<'a> {
    pair: &'a Pair,
    sides: [&'a Side<'a>; 2],
    led: [Vec<Option<ByWaypoint>>; 2],
    services: [Vec<(Address, bool, (ServiceId, usize))>; 2],
    server: &'a Workload,
    port: u16,
    content: Content,
    some_are_ambient: bool,
    before: Vec<EnforcementPath>,
    meant: Vec<EnforcementPath>,
    now: Vec<EnforcementPath>,
    /// How many of them are of now; those behind are followed no more, and stay as they were.
    own: usize,
}

impl Asked<'_> {
    fn replay(&self, each: usize, random: &mut Random, replayed: &mut Replayed) {
        // Bytes that only ever met a parser for HTTP were no access.
        let http = PointKind::Envoy {
            proxy: Proxy::Sidecar,
            protocol: Protocol::Http,
        };
        let parsed = |path: &EnforcementPath| path.points.iter().any(|point| point.kind == http);
        if self.content == Content::Bytes && self.before.iter().all(parsed) {
            return;
        }
        let is_led = self.services.iter().flatten().next().is_some() && self.has_routes();
        if (self.before == self.now && !is_led) || self.is_unnamed_waypoint() {
            return;
        }
        for _ in 0..each {
            let points = (self.before.iter().chain(&self.now)).flat_map(|path| &path.points);
            let is_http = self.content == Content::Http;
            let request = request((self.server, self.port), is_http, points, random);
            replayed.requests += 1;
            for direction in self.differs(&request) {
                let key = (self.server.name.clone(), self.port, direction);
                replayed
                    .differences
                    .entry(key)
                    .or_insert_with(|| self.told(&request));
            }
        }
    }

    fn differs(&self, request: &Request) -> Vec<&'static str> {
        let outcomes = |paths: &[EnforcementPath], call: &Call| -> Vec<Outcome> {
            let request = call.sends(request);
            let decide = |path| evaluate(&request, path).outcome;
            paths.iter().map(decide).collect()
        };
        let before = outcomes(&self.before, &self.pair.before.0);
        let (own, gone) = self.now.split_at(self.own);
        let mut now = outcomes(own, &self.pair.now.0);
        now.extend(outcomes(gone, &self.pair.before.0));
        // What a waypoint does not lead on arrives nowhere here.
        let led = |when: usize| -> Vec<bool> {
            let all = self.led[when].iter();
            all.map(|led| self.is_led(when, *led, request)).collect()
        };
        let (led_before, mut led_now) = (led(0), led(1));
        led_now.resize(self.now.len(), true);
        // Whoever has no identity is seen alike wherever it dials.
        let plain = self.pair.before.0.caller.mode == CallerMode::Plain;
        let all_count = plain || self.port == UNDECLARED;
        let was_meant = outcomes(&self.meant, &self.pair.before.0).contains(&Outcome::Allow);
        let refused = |address: &Address| {
            let paths = self.before.iter().zip(&before).zip(&led_before);
            paths.filter(|(_, led)| **led).all(|((path, outcome), _)| {
                let counts = path.in_use || all_count || path.address == *address;
                !counts || *outcome == Outcome::Deny
            })
        };
        let paths_now = self.now.iter().zip(&now).zip(&led_now);
        let opens = paths_now
            .filter(|(_, led)| **led)
            .any(|((path, outcome), _)| {
                *outcome == Outcome::Allow
                    && refused(&path.address)
                    && !was_meant
                    && !self.is_detour(path)
            });
        let paths_before = self.before.iter().zip(&before).zip(&led_before);
        let breaks = paths_before
            .filter(|(_, led)| **led)
            .any(|((path, outcome), _)| {
                let mut elsewhere = self.now.iter().zip(&led_now);
                if elsewhere.any(|(other, led)| other.address == path.address && !led) {
                    return false;
                }
                let mut here = self
                    .now
                    .iter()
                    .zip(&now)
                    .filter(|(other, _)| other.address == path.address)
                    .peekable();
                let gone = here.peek().is_none();
                path.in_use
                    && *outcome == Outcome::Allow
                    && (gone || here.any(|(_, outcome)| *outcome == Outcome::Deny))
            });
        let mut found = Vec::new();
        if opens {
            found.push("opens");
        }
        if (breaks || self.is_lost_elsewhere(request)) && !self.nobody_loses() {
            found.push("breaks");
        }
        found
    }

    /// A waypoint that no policy on the way names is among the identities that no workload has.
    fn is_unnamed_waypoint(&self) -> bool {
        let caller = &self.pair.now.0.caller;
        let Some(principal) = caller
            .principal
            .as_ref()
            .filter(|_| self.pair.waypoint.is_some())
        else {
            return false;
        };
        let tail = principal
            .split_once('/')
            .map_or(principal.as_str(), |(_, tail)| tail);
        let mut points = self
            .before
            .iter()
            .chain(&self.now)
            .flat_map(|path| &path.points);
        !points.any(|point| format!("{:?}", point.policies).contains(tail))
    }

    /// A waypoint sends straight to pods, never by another waypoint
    /// (istio pilot/pkg/networking/core/cluster_waypoint.go).
    fn is_detour(&self, path: &EnforcementPath) -> bool {
        let at_waypoint = |kind: &PointKind| {
            let proxy = Proxy::Waypoint;
            matches!(kind, PointKind::Envoy { proxy: at, .. } if *at == proxy)
        };
        self.pair.waypoint.is_some() && path.points.iter().any(|point| at_waypoint(&point.kind))
    }

    /// Losses that nobody can have: an identity without pods arrives as the others do now; a
    /// workload's old pods do not call its new ones.
    fn nobody_loses(&self) -> bool {
        if self.pair.waypoint.is_some() {
            return true;
        }
        if self.pair.now.0.caller.mode == CallerMode::Ambient {
            return false;
        }
        let mixed = self.server.has_mode(DataPlaneMode::Ambient)
            && self.server.has_mode(DataPlaneMode::Sidecar);
        match self.pair.now.1 {
            Sender::Nowhere => self.some_are_ambient,
            Sender::Workload(..) => {
                mixed
                    && self.server.owner != OwnerKind::StatefulSet
                    && self.pair.name == self.server.name.to_string()
            }
            Sender::Outside => false,
        }
    }
}
