//! Where the copies of a policy go: a Service, a waypoint Gateway, or the class of all waypoints.
//!
//! In: policies, and which Services have a waypoint. Out: a [`Draft`] of objects without names.
//! Invariant: a copy for a Gateway or a class is made only where it says the same for every
//! Service behind it; otherwise each Service gets its own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use smol_str::SmolStr;

use super::edit::{self, Rewritten};
use super::exception::{self, Excepted, Exception};
use super::extensions::{self, Policy};
use super::guard;
use super::ports::{self, PortProblem};
use super::{Conversion, Purpose, Refusal, Scope, Trap, alike, class, emit, hazards};
use crate::mesh::{Mesh, ObjectReference, Role, Service, ServiceId, WaypointBinding, WaypointId};
use crate::needs::{
    Choice, Coverage, Placement, WaypointNeeds, coverage, coverage_of_any, covers_pods,
    is_mesh_service, placement,
};
use crate::snapshot::Kind;

/// An object without its final name.
pub(super) struct Pending {
    pub(super) kind: Kind,
    pub(super) namespace: SmolStr,
    /// The name as it would be, were it free and short enough.
    pub(super) name: String,
    pub(super) purpose: Purpose,
    pub(super) services: Vec<ServiceId>,
    pub(super) manifest: Value,
}

/// A conversion under way.
pub(super) struct Draft<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) out: Conversion,
    pub(super) pending: Vec<Pending>,
    /// For each served Service: its backends that an ALLOW policy covers, and one such policy.
    pub(super) allowed: BTreeMap<ServiceId, (BTreeSet<usize>, ObjectReference)>,
    /// DENY policies that were copied, with the Services that they are for.
    pub(super) denies: Vec<(ObjectReference, Vec<ServiceId>)>,
    /// RequestAuthentications that take the token away, and AuthorizationPolicies that ask for
    /// it, by Service.
    pub(super) strips: BTreeMap<ServiceId, ObjectReference>,
    pub(super) reads_token: BTreeMap<ServiceId, ObjectReference>,
    /// Services whose pods the user's own guard opens to their waypoint.
    pub(super) guarded: BTreeSet<ServiceId>,
    services_in: BTreeMap<SmolStr, Vec<ServiceId>>,
    /// Waypoints that Services of other namespaces use.
    shared: BTreeSet<WaypointId>,
    rewritten: BTreeMap<SmolStr, String>,
    choice: Choice<'a>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(mesh: &'a Mesh, needs: &WaypointNeeds, choice: &Choice<'a>) -> Self {
        let mut out = Conversion::default();
        let mut services_in: BTreeMap<SmolStr, Vec<ServiceId>> = BTreeMap::new();
        let mut shared = BTreeSet::new();
        for (index, service) in mesh.services.iter().enumerate() {
            let id = ServiceId(index);
            if let Some(waypoint) = service.binding.waypoint()
                && mesh.waypoint(waypoint).name.namespace != service.name.namespace
            {
                shared.insert(waypoint);
            }
            if !choice.includes(&service.name.namespace) || !is_mesh_service(mesh, service) {
                continue;
            }
            services_in
                .entry(service.name.namespace.clone())
                .or_default()
                .push(id);
            if !needs.by_service.contains_key(&id) {
                continue;
            }
            let labelled = service.binding != WaypointBinding::Unbound;
            match placement(mesh, service) {
                Placement::OptedOut | Placement::Missing | Placement::Broken { .. } => {
                    if needs.requires(id) {
                        out.waiting.insert(id);
                    }
                }
                Placement::Bound(waypoint)
                | Placement::Deployed(waypoint)
                | Placement::NotReady(waypoint) => {
                    if labelled || needs.requires(id) {
                        out.served.insert(id, waypoint);
                    }
                }
            }
        }
        Self {
            mesh,
            out,
            pending: Vec::new(),
            allowed: BTreeMap::new(),
            denies: Vec::new(),
            strips: BTreeMap::new(),
            reads_token: BTreeMap::new(),
            guarded: BTreeSet::new(),
            services_in,
            shared,
            rewritten: hazards::rewritten_hosts(mesh),
            choice: *choice,
        }
    }

    /// Adds the copies of one policy, or says what stands in the way.
    pub(super) fn place(&mut self, policy: &Policy<'_>) {
        let mut placed = Placed {
            rewritten: policy
                .authorization
                .and_then(|one| edit::for_ztunnel(self.mesh, &self.choice, one)),
            denied_more: policy
                .authorization
                .map(edit::denied_more)
                .unwrap_or_default(),
            ..Placed::default()
        };
        for id in self.candidates(policy) {
            self.place_at(policy, id, &mut placed);
        }
        self.note_pods_without_service(policy, &mut placed);
        if let Some(fields) = placed.elsewhere.take() {
            for (field, port) in fields {
                placed.whole = false;
                placed.stays = Some(format!("port {port} is behind no Service"));
                self.refuse(policy, Trap::PortWithoutService, Some(field), None,
                    format!("no Service leads to port {port}: this part holds at the pods only, so the original must stay"));
            }
        }
        self.emit(policy, &placed);
        self.edit(policy, &mut placed);
        let key = (policy.source.kind, policy.source.name.clone());
        let original = self.out.originals.entry(key).or_default();
        original.copies += placed.copies.len();
        original.stays = original.stays.take().or(placed.stays);
    }

    /// The original, edited so that ztunnel reads it as it was meant and it does not deny the waypoints.
    fn edit(&mut self, policy: &Policy<'_>, placed: &mut Placed) {
        let Some(authorization) = policy.authorization else {
            return;
        };
        let (object, mut because) = match placed.rewritten.take() {
            Some(rewritten) => (rewritten.object, rewritten.because),
            None if placed.exceptions.is_empty() => return,
            None => ((*authorization.raw).clone(), Vec::new()),
        };
        because.extend(placed.exceptions.iter().map(|one| one.because));
        because.sort_unstable();
        because.dedup();
        placed.excepted_for.dedup();
        self.pending.push(Pending {
            kind: policy.source.kind,
            namespace: policy.source.name.namespace.clone(),
            name: policy.source.name.name.to_string(),
            purpose: Purpose::Edit {
                source: policy.source.clone(),
                because,
            },
            services: std::mem::take(&mut placed.excepted_for),
            manifest: exception::excepting(&object, &placed.exceptions),
        });
    }

    fn candidates(&self, policy: &Policy<'_>) -> Vec<ServiceId> {
        if policy.source.name.namespace == self.mesh.settings.root_namespace {
            self.services_in.values().flatten().copied().collect()
        } else {
            self.services_in
                .get(&policy.source.name.namespace)
                .cloned()
                .unwrap_or_default()
        }
    }

    fn place_at(&mut self, policy: &Policy<'_>, id: ServiceId, placed: &mut Placed) {
        let mesh = self.mesh;
        let service = mesh.service(id);
        let namespace = &policy.source.name.namespace;
        let mut covered = coverage(mesh, policy.attachment, namespace, service);
        if covered == Coverage::None {
            return;
        }
        if covered == Coverage::Some {
            // Policies in the same words for the versions behind a Service are one for the Service.
            let all = alike::attachments(mesh, policy);
            covered = coverage_of_any(mesh, &all, namespace, service);
        }
        let Some(waypoint) = self.out.served.get(&id).copied() else {
            placed.stays = Some(format!(
                "it applies to Service {}, which has no waypoint",
                service.name
            ));
            if !service.has_virtual_address() && !policy.works_without_proxy {
                placed.whole = false;
                self.refuse(policy, Trap::HeadlessService, None, Some(service),
                    "clients of the Service dial pods, where nothing can enforce it without a sidecar".to_owned());
            }
            return;
        };
        self.note_for_pods(policy, id, service);
        if covered == Coverage::Some {
            placed.give_up(format!(
                "it applies to some of the pods behind Service {}",
                service.name
            ));
            self.refuse(policy, Trap::SubsetOfPods, Some("spec.selector".to_owned()), Some(service),
                "it applies to some of the pods behind the Service, and a waypoint cannot tell them apart".to_owned());
            return;
        }
        let mut found = Vec::new();
        if let Some(authorization) = policy.authorization {
            found = hazards::of_policy(authorization);
            found.extend(hazards::rewrite(authorization, service, &self.rewritten));
        } else if policy.source.kind == Kind::EnvoyFilter {
            found.extend(extensions::envoy_filter_hazard(policy));
        }
        if !found.is_empty() {
            placed.whole = false;
            for (trap, field, reason) in found {
                placed.stays = Some(reason.clone());
                self.refuse(policy, trap, field, Some(service), reason);
            }
            return;
        }
        if policy.authorization.is_some() && self.is_own_guard(policy, id, waypoint) {
            placed.whole = false;
            return;
        }
        self.copy_for(policy, id, waypoint, placed);
        // Who is excepted must meet the copy.
        if let (Some(authorization), true) = (policy.authorization, placed.copies.contains_key(&id))
        {
            let rewritten = placed.rewritten.as_ref();
            let object = rewritten.map_or(&*authorization.raw, |one| &one.object);
            let ports = guard::led(mesh, service, waypoint);
            let waypoint = Excepted::of(mesh.waypoint(waypoint), &mesh.settings.trust_domain);
            let exceptions = waypoint.denied_by(object, &placed.denied_more, ports.as_ref());
            placed
                .excepted_for
                .extend((!exceptions.is_empty()).then_some(id));
            placed.exceptions.extend(exceptions);
        }
    }

    fn copy_for(
        &mut self,
        policy: &Policy<'_>,
        id: ServiceId,
        waypoint: WaypointId,
        placed: &mut Placed,
    ) {
        let service = self.mesh.service(id);
        let spec = &policy.raw["spec"];
        let translated = if policy.authorization.is_some() {
            ports::translate(spec, service)
        } else if extensions::has_ports(spec) && !extensions::has_equal_ports(service) {
            Err(PortProblem {
                trap: Trap::AmbiguousPort,
                field: "spec.match".to_owned(),
                reason: "it names ports, and those of the Service and its pods differ".to_owned(),
            })
        } else {
            Ok(ports::Translated {
                spec: spec.as_object().cloned().unwrap_or_default(),
                ..ports::Translated::default()
            })
        };
        match translated {
            Err(problem) => {
                placed.give_up(problem.reason.clone());
                self.refuse(
                    policy,
                    problem.trap,
                    Some(problem.field),
                    Some(service),
                    problem.reason,
                );
            }
            Ok(translated) => {
                placed.uniform &= !translated.changed;
                placed.meet_elsewhere(translated.elsewhere);
                let action = spec["action"].as_str().unwrap_or("ALLOW");
                // Only an ALLOW without rules decides anything: it denies all.
                if !(translated.no_rule_left && action != "ALLOW") {
                    placed.copies.insert(id, (waypoint, translated.spec));
                }
            }
        }
    }

    fn emit(&mut self, policy: &Policy<'_>, placed: &Placed) {
        if placed.copies.is_empty() {
            return;
        }
        let mesh = self.mesh;
        let waypoints: BTreeSet<WaypointId> = placed.copies.values().map(|(id, _)| *id).collect();
        let own = &policy.source.name;
        let spec = policy.raw["spec"].as_object().cloned().unwrap_or_default();
        let services: Vec<ServiceId> = placed.copies.keys().copied().collect();
        let same_everywhere = placed.whole && placed.uniform;
        let one_class = waypoints
            .iter()
            .all(|id| mesh.waypoint(*id).class == "istio-waypoint");
        if let Some(authorization) = policy.authorization
            && authorization.raw.pointer("/spec/action") == Some(&Value::from("DENY"))
        {
            self.denies.push((policy.source.clone(), services.clone()));
        }
        if policy.scope == Scope::Mesh
            && same_everywhere
            && one_class
            && self.choice.namespaces.is_empty()
            && !class::would_close(mesh, policy, &services)
        {
            let target = emit::target(
                "gateway.networking.k8s.io",
                "GatewayClass",
                "istio-waypoint",
            );
            self.push(
                policy,
                own.namespace.clone(),
                format!("waypoint-{}", own.name),
                services,
                &spec,
                target,
            );
        } else if policy.scope == Scope::Namespace
            && same_everywhere
            && waypoints.iter().all(|id| {
                mesh.waypoint(*id).name.namespace == own.namespace && !self.shared.contains(id)
            })
        {
            for waypoint in waypoints {
                let behind = services
                    .iter()
                    .filter(|id| self.out.served.get(id) == Some(&waypoint))
                    .copied()
                    .collect();
                let gateway = &mesh.waypoint(waypoint).name.name;
                let target = emit::target("gateway.networking.k8s.io", "Gateway", gateway);
                self.push(
                    policy,
                    own.namespace.clone(),
                    format!("{gateway}-{}", own.name),
                    behind,
                    &spec,
                    target,
                );
            }
        } else if policy.source.kind == Kind::EnvoyFilter {
            // Service references of an EnvoyFilter never match at a waypoint.
            for id in services {
                self.refuse(
                    policy,
                    Trap::EnvoyFilter,
                    None,
                    Some(mesh.service(id)),
                    "an EnvoyFilter reaches a waypoint as a whole only, not one Service of it"
                        .to_owned(),
                );
            }
        } else {
            for (id, (_, spec)) in &placed.copies {
                let service = &mesh.service(*id).name;
                let target = emit::target("", "Service", &service.name);
                self.push(
                    policy,
                    service.namespace.clone(),
                    format!("{}-{}", service.name, own.name),
                    vec![*id],
                    spec,
                    target,
                );
            }
        }
    }

    fn push(
        &mut self,
        policy: &Policy<'_>,
        namespace: SmolStr,
        name: String,
        services: Vec<ServiceId>,
        spec: &Map<String, Value>,
        target: Value,
    ) {
        self.pending.push(Pending {
            kind: policy.source.kind,
            namespace,
            name,
            purpose: Purpose::Copy {
                source: policy.source.clone(),
                scope: policy.scope,
                forwards_token: false,
            },
            services,
            manifest: emit::copy(&policy.source, policy.raw, spec, target),
        });
    }

    /// What guards and tokens need to know of a policy on the pods of a served Service.
    fn note_for_pods(&mut self, policy: &Policy<'_>, id: ServiceId, service: &Service) {
        let mesh = self.mesh;
        if let Some(authorization) = policy.authorization {
            if hazards::reads_token(authorization) {
                self.reads_token
                    .entry(id)
                    .or_insert_with(|| policy.source.clone());
            }
            let action = policy.raw.pointer("/spec/action").and_then(Value::as_str);
            let dry_run = matches!(
                authorization.annotations.get("istio.io/dry-run"),
                Some("true" | "1" | "t" | "T" | "TRUE" | "True")
            );
            if !matches!(action, None | Some("ALLOW")) || dry_run {
                return;
            }
            let entry = self
                .allowed
                .entry(id)
                .or_insert_with(|| (BTreeSet::new(), policy.source.clone()));
            for (index, backend) in service.backends.iter().enumerate() {
                let workload = mesh.workload(backend.workload);
                let labels = &workload.generations[backend.generation].labels;
                if covers_pods(
                    mesh,
                    policy.attachment,
                    &policy.source.name.namespace,
                    &workload.name.namespace,
                    labels,
                ) {
                    entry.0.insert(index);
                }
            }
        } else if policy.source.kind == Kind::RequestAuthentication {
            let strips = policy
                .raw
                .pointer("/spec/jwtRules")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .any(|rule| rule["forwardOriginalToken"] != Value::Bool(true));
            if strips {
                self.strips
                    .entry(id)
                    .or_insert_with(|| policy.source.clone());
            }
        }
    }

    fn note_pods_without_service(&mut self, policy: &Policy<'_>, placed: &mut Placed) {
        let mesh = self.mesh;
        let namespace = &policy.source.name.namespace;
        let all = *namespace == mesh.settings.root_namespace;
        let mut bare = Vec::new();
        let namespaces: Vec<&SmolStr> = if all {
            mesh.namespaces.keys().collect()
        } else {
            vec![namespace]
        };
        for (id, workload) in namespaces
            .into_iter()
            .flat_map(|one| mesh.workloads_in(one))
        {
            let covered = || {
                workload.generations.iter().any(|generation| {
                    covers_pods(
                        mesh,
                        policy.attachment,
                        namespace,
                        &workload.name.namespace,
                        &generation.labels,
                    )
                })
            };
            match &workload.role {
                Role::Gateway | Role::KubernetesGateway(_) if covered() => {
                    placed.stays =
                        Some(format!("it also applies to the gateway {}", workload.name));
                }
                Role::Application
                    if workload.is_mesh_application()
                        && !workload.idle
                        && mesh.services_of(id).next().is_none()
                        && covered() =>
                {
                    placed.stays = Some(format!(
                        "it also applies to {}, which has no Service",
                        workload.name
                    ));
                    if !policy.works_without_proxy {
                        bare.push(workload.name.to_string());
                    }
                }
                _ => {}
            }
        }
        if !bare.is_empty() {
            self.refuse(policy, Trap::PodsWithoutService, None, None,
                format!("no Service stands in front of {}, so nothing can enforce it there without a sidecar", bare.join(", ")));
        }
    }

    pub(super) fn refuse(
        &mut self,
        policy: &Policy<'_>,
        trap: Trap,
        field: Option<String>,
        service: Option<&Service>,
        reason: String,
    ) {
        self.out.refusals.push(Refusal {
            object: policy.source.clone(),
            trap,
            field,
            service: service.map(|one| one.name.clone()),
            reason,
        });
    }
}

/// What became of one policy.
struct Placed {
    copies: BTreeMap<ServiceId, (WaypointId, Map<String, Value>)>,
    /// Whether nothing was refused for any Service that it applies to.
    whole: bool,
    /// Whether every copy says the same.
    uniform: bool,
    stays: Option<String>,
    /// Ports that no Service met so far leads to; `None` before the first.
    elsewhere: Option<Vec<(String, String)>>,
    /// The original in words that ztunnel reads as sidecars do, where it has others.
    rewritten: Option<Rewritten>,
    /// Where ztunnel denies more than it says.
    denied_more: BTreeSet<edit::Part>,
    /// Waypoints that it denies, and where.
    exceptions: Vec<Exception>,
    /// Services behind these.
    excepted_for: Vec<ServiceId>,
}

impl Default for Placed {
    fn default() -> Self {
        Self {
            copies: BTreeMap::new(),
            rewritten: None,
            denied_more: BTreeSet::new(),
            exceptions: Vec::new(),
            excepted_for: Vec::new(),
            whole: true,
            uniform: true,
            stays: None,
            elsewhere: None,
        }
    }
}

impl Placed {
    fn give_up(&mut self, reason: String) {
        self.whole = false;
        self.stays = Some(reason);
    }

    fn meet_elsewhere(&mut self, more: Vec<(String, String)>) {
        self.elsewhere = Some(match self.elsewhere.take() {
            None => more,
            Some(known) => known.into_iter().filter(|one| more.contains(one)).collect(),
        });
    }
}
