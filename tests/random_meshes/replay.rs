//! The definition of *opens* and *breaks*, asked of concrete requests, with the plain evaluator alone.
//!
//! In: two meshes. Out: every request that is gained or lost, with its server and port. It shares with
//! the proof how a path is found ([`hops`]) and how one request is decided ([`evaluate`]), and nothing
//! else: no prover, no classes of callers, no classes of strings.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use castoff::mesh::ingress::{self, Routed};
use castoff::mesh::{DataPlaneMode, Mesh, OwnerKind, Role, WaypointId, Workload, WorkloadId};
use castoff::prove::addresses::{self, DialledAddress};
use castoff::prove::network::{NetworkPolicies, Party, Pods};
use castoff::prove::pins::Leads;
use castoff::prove::reading::authorization_settings;
use castoff::prove::{Attachments, Caller, CallerMode, Content, Dial, Server, hops, wire};
use castoff::snapshot::ObjectName;
use castoff_authz::decision::{Decision, Outcome};
use castoff_authz::eval::evaluate;
use castoff_authz::path::{Address, EnforcementPath, PointKind, Protocol, Proxy};
use castoff_authz::request::Request;
use castoff_authz::settings::Settings;

use crate::generator::Random;
use crate::past_sidecars::{Leaves, UNDECLARED, is_meant, leaves};
use crate::requests::request;
use crate::routed::{may_lead, routed_ways};

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
            Sender::Workload(id, generation) => {
                leaves(self.mesh, self.mesh.workload(*id), *generation, to)
            }
            Sender::Nowhere | Sender::Outside => Leaves::AsMode,
        }
    }

    fn path(
        &self,
        (caller, sender): (&Caller, &Sender),
        (address, dial): (&Address, Dial),
        server: Server,
        content: Content,
    ) -> EnforcementPath {
        let hops = hops(self.mesh, &self.attachments, caller, dial, server, content);
        EnforcementPath {
            address: address.clone(),
            in_use: true,
            settings: Arc::clone(&self.settings),
            points: wire::points(self.mesh, &self.network, self.party(sender), hops, server),
        }
    }

    fn paths(&self, call: &Call, sender: &Sender, server: Server, content: Content) -> Ways {
        let mut ways = Ways::default();
        let plain = Caller {
            mode: CallerMode::Plain,
            principal: None,
            ..call.caller.clone()
        };
        let is_declared = server.port != UNDECLARED;
        let add = |ways: &mut Ways, in_use: bool, to: (&Address, Dial), by: Leaves| {
            let caller = match by {
                Leaves::AsMode => &call.caller,
                Leaves::Past => &plain,
                Leaves::Unclear => return,
            };
            let path = EnforcementPath {
                in_use,
                ..self.path((caller, sender), to, server, content)
            };
            ways.paths.push(Way { path, by });
        };
        let dialled = addresses::of(self.mesh, &self.routed, server);
        for one in &dialled {
            let by = self.leaves(sender, &one.address);
            let mode = match by {
                Leaves::Past => CallerMode::Plain,
                _ => call.caller.mode,
            };
            if self.attachments.leads(mode, one.dial, server, content) == Leads::Elsewhere {
                ways.elsewhere.insert(one.address.clone());
                continue;
            }
            let to = (&one.address, one.dial);
            add(&mut ways, call.uses(one), to, by);
            // What keeps a Service from a sidecar's sight is no rule about access, and so is that a sidecar shows
            // no identity at a port that nothing leads to.
            let seen = match one.dial {
                Dial::Pod if !is_declared => Dial::PodByIdentity,
                Dial::Pod => continue,
                other => other,
            };
            if call.caller.mode == CallerMode::Sidecar && call.uses(one) {
                let address = Address {
                    port: 0,
                    ..one.address.clone()
                };
                let is_hidden = self.leaves(sender, &address) == Leaves::Past;
                let by_redirection = by != Leaves::AsMode && !is_hidden;
                if !by_redirection || seen == Dial::PodByIdentity {
                    let by = Leaves::AsMode;
                    let to = (&one.address, seen);
                    let path = self.path((&call.caller, sender), to, server, content);
                    ways.meant.push(Way { path, by });
                }
            }
        }
        for (address, dial) in routed_ways(self.mesh, call.caller.mode, server, &dialled) {
            // Who goes past his sidecar follows none of its routes.
            let by = self.leaves(sender, &address);
            if by == Leaves::AsMode {
                add(&mut ways, !call.outsider, (&address, dial), by);
            }
            ways.routed.insert(address);
        }
        ways
    }
}

/// One way to a server.
#[derive(Clone, PartialEq)]
struct Way {
    path: EnforcementPath,
    by: Leaves,
}

impl Way {
    fn decision(&self, call: &Call, request: &Request) -> Decision {
        let mut request = call.sends(request);
        if self.by == Leaves::Past {
            request.principal = None;
        }
        evaluate(&request, &self.path)
    }
}

/// Every way to a server, which addresses are those of Services in front, and which lead to other pods.
#[derive(Default)]
struct Ways {
    paths: Vec<Way>,
    /// Ways that would be there, had the caller's sidecar known where it sends.
    meant: Vec<Way>,
    routed: BTreeSet<Address>,
    elsewhere: BTreeSet<Address>,
}

impl Ways {
    /// The paths now, with those of before that lead elsewhere by now: nothing is refused there, and
    /// nothing is new.
    fn since(self, before: &Ways) -> Vec<Way> {
        let mut paths = self.paths;
        let gone = before.paths.iter().filter(|way| {
            let address = &way.path.address;
            (before.routed.contains(address) || self.elsewhere.contains(address))
                && paths.iter().all(|other| other.path.address != *address)
        });
        let gone: Vec<Way> = gone.cloned().collect();
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
                                own: present.paths.len(),
                                now: present.since(&ways),
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
    server: &'a Workload,
    port: u16,
    content: Content,
    some_are_ambient: bool,
    before: Vec<Way>,
    meant: Vec<Way>,
    now: Vec<Way>,
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
        let parsed = |way: &Way| way.path.points.iter().any(|point| point.kind == http);
        if self.content == Content::Bytes && self.before.iter().all(parsed) {
            return;
        }
        if self.before == self.now || self.is_unnamed_waypoint() {
            return;
        }
        for _ in 0..each {
            let points = (self.before.iter().chain(&self.now)).flat_map(|way| &way.path.points);
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
        let outcomes = |ways: &[Way], call: &Call| -> Vec<Outcome> {
            let decide = |way: &Way| way.decision(call, request).outcome;
            ways.iter().map(decide).collect()
        };
        let before = outcomes(&self.before, &self.pair.before.0);
        let (own, gone) = self.now.split_at(self.own);
        let mut now = outcomes(own, &self.pair.now.0);
        now.extend(outcomes(gone, &self.pair.before.0));
        // Whoever has no identity is seen alike wherever it dials.
        let plain = self.pair.before.0.caller.mode == CallerMode::Plain;
        let all_count = plain || self.port == UNDECLARED;
        let refused = |address: &Address| {
            self.before.iter().zip(&before).all(|(way, outcome)| {
                let counts = way.path.in_use || all_count || way.path.address == *address;
                !counts || *outcome == Outcome::Deny
            })
        };
        let meant = outcomes(&self.meant, &self.pair.before.0);
        let was_meant = meant.contains(&Outcome::Allow);
        let opens = self.now.iter().zip(&now).any(|(way, outcome)| {
            *outcome == Outcome::Allow
                && refused(&way.path.address)
                && !was_meant
                && !self.is_detour(&way.path)
        });
        let breaks = self.before.iter().zip(&before).any(|(way, outcome)| {
            let mut here = self
                .now
                .iter()
                .zip(&now)
                .filter(|(other, _)| other.path.address == way.path.address)
                .peekable();
            let gone = here.peek().is_none();
            way.path.in_use
                && *outcome == Outcome::Allow
                && (gone || here.any(|(_, outcome)| *outcome == Outcome::Deny))
        });
        let mut found = Vec::new();
        if opens {
            found.push("opens");
        }
        if breaks && !self.nobody_loses() {
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
            .flat_map(|way| &way.path.points);
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

    fn told(&self, request: &Request) -> String {
        let lines = |ways: &[Way], call: &Call| -> Vec<String> {
            let line = |way: &Way| {
                let decision = way.decision(call, request);
                let used = if way.path.in_use { "" } else { " (not in use)" };
                format!(
                    "  {}{used}, {:?}: {}",
                    way.path.address,
                    way.by,
                    castoff::prove::tell::decision(&decision, &way.path)
                )
            };
            ways.iter().map(line).collect()
        };
        format!(
            "{} ({:?}, was {:?}) to {}:{} {:?}\n before:\n{}\n now:\n{}\n {request:?}",
            self.pair.name,
            self.pair.now.0.caller.mode,
            self.pair.before.0.caller.mode,
            self.server.name,
            self.port,
            self.content,
            lines(&self.before, &self.pair.before.0).join("\n"),
            lines(&self.now, &self.pair.now.0).join("\n"),
        )
    }
}
