//! What a waypoint's own identity gains: trusted where it leads to, asked for everywhere else.
//!
//! In: the two states and a server. Out: who is newly trusted there, and differences for waypoints that
//! do not lead there. Invariant: only a waypoint that a policy names one by one is asked for; any other is let in
//! with *any other identity*. It leads to pods by a Service that it serves, by a route from one, or by a
//! Service that policies prepare for it, on these ports and no others.

use std::collections::{BTreeMap, BTreeSet};

use castoff_authz::verdict::{Comparison, Finding, Identities, Verdict};
use smol_str::SmolStr;

use super::callers::{CallerClass, Member};
use super::identities::Mentions;
use super::past::Past;
use super::question::{Question, every_address_in_use};
use super::row::{PortAnswer, ServerRow};
use super::rows::Comparer;
use super::side::Side;
use super::standing::may_stand_before;
use super::undeclared::PortKnown;
use super::{CallerMode, Server};
use crate::convert::GUARDS_ANNOTATION;
use crate::mesh::policy::{Attachment, AuthorizationPolicy};
use crate::mesh::{
    Mesh, Protocol, Role, Service, Waypoint, WaypointBinding, WaypointId, WorkloadId,
};
use crate::needs::GENERATED_LABEL;
use crate::snapshot::ObjectName;

/// What such a difference calls the callers.
const ASTRAY: &str = "waypoints that do not lead there";

/// Policies of both states that name a waypoint of the present one by one, and the Services that
/// policies prepare for waypoints.
pub(super) struct NamedWaypoints<'a> {
    /// By namespace of the policy: the state (baseline, present), the policy, whom it names.
    policies: [BTreeMap<&'a SmolStr, Vec<Naming<'a>>>; 2],
    /// Services that policies at a waypoint target, or that a guard of castoff's names.
    prepared: BTreeSet<ObjectName>,
    /// Gateways that policies at a waypoint target.
    gateways: BTreeSet<ObjectName>,
}

type Naming<'a> = (&'a AuthorizationPolicy, BTreeSet<WaypointId>);

impl<'a> NamedWaypoints<'a> {
    pub(super) fn of(baseline: &'a Mesh, present: &'a Mesh) -> Self {
        let mut named = Self {
            policies: [BTreeMap::new(), BTreeMap::new()],
            prepared: BTreeSet::new(),
            gateways: BTreeSet::new(),
        };
        if present.waypoints.is_empty() {
            return named;
        }
        // What follows the trust domain, of which policies may name an alias.
        let mut by_tail: BTreeMap<String, Vec<WaypointId>> = BTreeMap::new();
        for (index, waypoint) in present.waypoints.iter().enumerate() {
            let tail = format!(
                "{}/sa/{}",
                waypoint.name.namespace, waypoint.service_account
            );
            by_tail.entry(tail).or_default().push(WaypointId(index));
        }
        for (mesh, policies) in [baseline, present].into_iter().zip(&mut named.policies) {
            for policy in &mesh.authorization_policies {
                let Ok(meaning) = &policy.meaning else {
                    continue;
                };
                let mentions = Mentions::of_policy(meaning);
                let tails = mentions
                    .principals()
                    .filter_map(|one| one.split_once("/ns/"));
                let waypoints: BTreeSet<WaypointId> = tails
                    .filter_map(|(_, tail)| by_tail.get(tail))
                    .flatten()
                    .copied()
                    .collect();
                if !waypoints.is_empty() {
                    let of_namespace = policies.entry(&policy.name.namespace).or_default();
                    of_namespace.push((policy, waypoints));
                }
            }
        }
        for policy in &present.authorization_policies {
            named.prepare(present, policy);
        }
        named
    }

    fn prepare(&mut self, mesh: &Mesh, policy: &AuthorizationPolicy) {
        if let Attachment::Targets(targets) = &policy.attachment {
            for target in targets {
                let name = ObjectName::new(&policy.name.namespace, &target.name);
                match target.kind.as_str() {
                    "Service" => self.prepared.insert(name),
                    "Gateway" => self.gateways.insert(name),
                    "GatewayClass" => {
                        let all = mesh.waypoints.iter().map(|waypoint| waypoint.name.clone());
                        self.gateways.extend(all);
                        true
                    }
                    _ => false,
                };
            }
        }
        if policy.labels.has(GENERATED_LABEL, "guard")
            && let Some(guarded) = policy.annotations.get(GUARDS_ANNOTATION)
            && let Some((namespace, name)) = guarded
                .strip_prefix("Service/")
                .and_then(|name| name.split_once('/'))
        {
            self.prepared.insert(ObjectName::new(namespace, name));
        }
    }

    /// Waypoints that policies which may stand before a server name, in either state.
    fn before(&self, sides: [(&Mesh, WorkloadId); 2]) -> BTreeSet<WaypointId> {
        let mut found = BTreeSet::new();
        for ((mesh, server), policies) in sides.into_iter().zip(&self.policies) {
            if policies.is_empty() {
                continue;
            }
            let own = &mesh.workload(server).name.namespace;
            let at_services = mesh.services_of(server).flat_map(|(_, service)| {
                let waypoint = service.binding.waypoint();
                let of_waypoint = waypoint.map(|id| &mesh.waypoint(id).name.namespace);
                std::iter::once(&service.name.namespace).chain(of_waypoint)
            });
            let namespaces: BTreeSet<&SmolStr> = at_services
                .chain([own, &mesh.settings.root_namespace])
                .collect();
            let list = namespaces.into_iter().filter_map(|name| policies.get(name));
            for (policy, waypoints) in list.flatten() {
                if !waypoints.is_subset(&found) && may_stand_before(mesh, policy, server) {
                    found.extend(waypoints);
                }
            }
        }
        found
    }

    /// Whether policies are ready for a waypoint that is to serve a Service which uses none yet.
    fn is_prepared(&self, service: &Service, waypoint: &Waypoint) -> bool {
        let free = match &service.binding {
            WaypointBinding::Unbound => true,
            WaypointBinding::Broken { wanted, .. } => *wanted == waypoint.name,
            WaypointBinding::Bound { .. } | WaypointBinding::OptedOut => false,
        };
        let at_gateway = waypoint.name.namespace == service.name.namespace
            && self.gateways.contains(&waypoint.name);
        free && service.has_virtual_address()
            && (at_gateway || self.prepared.contains(&service.name))
    }
}

impl Comparer<'_> {
    /// Names the waypoints that stand before the server now, or are let in to do so, and did not in the
    /// baseline.
    pub(super) fn trust(
        &self,
        row: &mut ServerRow,
        (baseline, present): (WorkloadId, WorkloadId),
        named: &BTreeSet<WaypointId>,
    ) {
        let bound = |side: &Side<'_>, id: WorkloadId| -> BTreeSet<ObjectName> {
            let services = side
                .mesh
                .services_of(id)
                .filter_map(|(_, service)| service.binding.waypoint());
            services
                .map(|waypoint| side.mesh.waypoint(waypoint).name.clone())
                .collect()
        };
        let mesh = self.present.mesh;
        let before = bound(self.baseline, baseline);
        let mut now = bound(&self.present, present);
        for id in named {
            let waypoint = mesh.waypoint(*id);
            let mut services = mesh.services_of(present);
            if services.any(|(_, service)| self.named.is_prepared(service, waypoint)) {
                now.insert(waypoint.name.clone());
            }
        }
        for name in now.difference(&before) {
            row.newly_trusted.push(name.to_string());
            let Some((_, waypoint)) = mesh.waypoint_named(name) else {
                continue;
            };
            let sharing = mesh.workloads_in(&name.namespace).filter(|(_, workload)| {
                workload.service_account == waypoint.service_account
                    && !matches!(workload.role, Role::Waypoint(_))
            });
            row.shares_trust
                .extend(sharing.map(|(_, workload)| workload.name.to_string()));
        }
    }

    /// Waypoints that policies which may stand before a server name, in either state.
    pub(super) fn named_waypoints(
        &self,
        (baseline, present): (WorkloadId, WorkloadId),
    ) -> BTreeSet<WaypointId> {
        self.named
            .before([(self.baseline.mesh, baseline), (self.present.mesh, present)])
    }

    /// Asks what waypoints that policies name gain at a server's ports to which they do not lead.
    pub(super) fn compare_waypoints(
        &self,
        row: &mut ServerRow,
        ids: (WorkloadId, WorkloadId),
        named: &BTreeSet<WaypointId>,
    ) {
        for generation in 0..self.present.mesh.workload(ids.1).generations.len() {
            for (question, identities) in self.astray(ids, generation, named) {
                self.compare_astray(row, ids.0, question, identities);
            }
        }
    }

    /// What is asked of one generation, each with the identities of the waypoints that do not lead there; nothing
    /// where all do.
    pub(super) fn astray(
        &self,
        ids: (WorkloadId, WorkloadId),
        generation: usize,
        named: &BTreeSet<WaypointId>,
    ) -> Vec<(Question, Vec<String>)> {
        if named.is_empty() {
            return Vec::new();
        }
        let mesh = self.present.mesh;
        let mut asked: Vec<(Question, Vec<String>)> = Vec::new();
        for question in self.questions_of_waypoints(ids, generation) {
            let known = asked.last().filter(|(last, _)| last.now == question.now);
            let identities = known.map(|(_, identities)| identities.clone());
            let identities = identities.unwrap_or_else(|| {
                let (led, astray): (Vec<WaypointId>, Vec<WaypointId>) =
                    named.iter().partition(|id| self.leads(**id, question.now));
                let principals = |list: Vec<WaypointId>| -> BTreeSet<String> {
                    let list = list.into_iter().map(|id| mesh.waypoint(id));
                    list.map(|one| one.principal(&mesh.settings.trust_domain))
                        .collect()
                };
                let (led, astray) = (principals(led), principals(astray));
                astray.difference(&led).cloned().collect()
            });
            asked.push((question, identities));
        }
        if asked.iter().all(|(_, identities)| identities.is_empty()) {
            asked.clear();
        }
        asked
    }

    /// Asks what waypoints of these identities gain. A waypoint sends as ztunnel does. That one loses what it is not
    /// meant to have is no loss.
    pub(super) fn compare_astray(
        &self,
        row: &mut ServerRow,
        baseline_id: WorkloadId,
        question: Question,
        identities: Vec<String>,
    ) {
        if identities.is_empty() {
            return;
        }
        let mesh = self.present.mesh;
        let Question { now, content, .. } = question;
        let class = CallerClass {
            before: CallerMode::Ambient,
            now: CallerMode::Ambient,
            was_past: Past::default(),
            is_past: Past::default(),
            was: None,
            identities: Identities::Only(identities),
            members: vec![Member::OtherIdentities],
            words: ASTRAY,
        };
        row.compared += 1;
        let mut ways = self.ways(question);
        let addresses = self.addresses(&class, &ways);
        let member = (&class.members[0], &class.identities);
        let asked = self.comparison(&class, member, &mut ways, &addresses);
        let Some(mut comparison) = asked else {
            return;
        };
        let undeclared = question.known != PortKnown::Declared;
        if undeclared {
            // As for other callers: what the baseline's policies say of it where its identity is seen.
            let shown = CallerClass {
                before: CallerMode::Sidecar,
                ..class.clone()
            };
            comparison = every_address_in_use(&comparison);
            let by_identity = self.by_identity(&shown, &class.members[0], question);
            comparison.baseline.extend(by_identity);
        }
        let verdict = Verdict {
            breaks: Finding::Never,
            ..self.answered.compare(&comparison, self.limits)
        };
        let is_meant = || self.baseline.named_ports(baseline_id).is_meant(now.port);
        if undeclared && !is_meant() && !matches!(verdict.opens, Finding::Bug(_)) {
            row.notes
                .extend(self.let_in_beyond(&class, &comparison, &verdict.opens));
        } else if !verdict.is_same() {
            let mode = mesh.workload(now.workload).generations[now.generation].mode;
            let paths = [comparison.baseline, comparison.present];
            let pods = (now.port, mode);
            let answer = PortAnswer::new(pods, content, ASTRAY, paths, verdict);
            row.differences.push(answer);
        }
    }

    /// Who is let in at a port where nothing is known to listen, in words. A policy for pods of several Services,
    /// whose ports differ, excepts a waypoint at all of these.
    fn let_in_beyond(
        &self,
        class: &CallerClass,
        asked: &Comparison,
        opens: &Finding,
    ) -> Option<String> {
        let is = match opens {
            Finding::Never => return None,
            Finding::Witness(_) => "is",
            _ => "may be",
        };
        let Identities::Only(all) = &class.identities else {
            return None;
        };
        let is_let_in = |one: &&String| {
            let mut alone = asked.clone();
            alone.caller.identity = Identities::Only(vec![one.to_string()]);
            self.answered.compare(&alone, self.limits).opens != Finding::Never
        };
        let principals: Vec<&str> = all.iter().filter(is_let_in).map(String::as_str).collect();
        let address = &asked.present.first()?.address;
        Some(format!(
            "a waypoint {is} let in at {address} too, where it does not lead and nothing is known to listen: {}",
            principals.join(", ")
        ))
    }

    /// Whether a waypoint leads to a server's port, or is about to.
    fn leads(&self, id: WaypointId, server: Server) -> bool {
        let mesh = self.present.mesh;
        let waypoint = mesh.waypoint(id);
        let to_pods = mesh.workload_binding(server.workload, server.generation);
        let routed = self.present.fronts.waypoints(mesh, server).contains(&id);
        let reaches = |service: &Service| {
            let backends = service.backends.iter().filter(|backend| {
                backend.workload == server.workload && backend.generation == server.generation
            });
            let mut targets =
                backends.flat_map(|backend| service.ports.iter().zip(&backend.target_ports));
            targets.any(|(port, target)| {
                port.protocol != Protocol::Udp && *target == Some(server.port)
            })
        };
        to_pods.waypoint() == Some(id)
            || mesh.services_of(server.workload).any(|(_, service)| {
                let serves = routed
                    || service.binding.waypoint() == Some(id)
                    || self.named.is_prepared(service, waypoint);
                serves && reaches(service)
            })
    }
}
