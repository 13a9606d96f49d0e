//! What a server's paths are made of, as numbers: equal numbers, equal paths.
//!
//! In: the meshes of state after state. Out: for each server a [`Standing`]. Invariant: parts that
//! differ never get one number, and every list of a mesh that paths are made of has its place in a
//! standing; what nobody thought of would be one of [`Rest`].

use std::collections::BTreeMap;

use castoff_authz::verdict::Identities;
use rustc_hash::FxHashMap;

use super::callers::CallerClass;
use super::pins::Pins;
use super::side::Side;
use crate::mesh::ingress::Routed;
use crate::mesh::policy::Attachment;
use crate::mesh::traffic::Traffic;
use crate::mesh::{
    AuthorizationPolicy, ControlPlane, DaemonSetState, Distribution, ExtensionPolicy, Mesh,
    MeshSettings, PeerAuthentication, RequestAuthentication, RevisionTag, Service, Waypoint,
    WaypointBinding, Workload, WorkloadId,
};
use crate::snapshot::{Gap, ObjectName};

/// Numbers of everything that paths to one server are made of.
pub(super) type Standing = Box<[u32]>;

/// What all servers share.
#[derive(Debug, PartialEq)]
struct Rest {
    settings: MeshSettings,
    distribution: Distribution,
    control_planes: Vec<ControlPlane>,
    revision_tags: Vec<RevisionTag>,
    ztunnel: Option<DaemonSetState>,
    cni_agent: Option<DaemonSetState>,
    waypoints: Vec<Waypoint>,
    request_authentications: Vec<RequestAuthentication>,
    peer_authentications: Vec<PeerAuthentication>,
    extension_policies: Vec<ExtensionPolicy>,
    traffic: Traffic,
    gaps: Vec<Gap>,
    routed: Routed,
    /// Whether they count hangs on every workload.
    pins: Pins,
    /// All identities of workloads, and those that count as any other, each once.
    identities: Vec<Identities>,
    some_are_ambient: bool,
    /// Of workloads and Services: what names them by their place means the same ones.
    names: [Vec<ObjectName>; 2],
}

/// Values of one part that were seen, each with its number; few, since a workload or a policy has few
/// states in a plan.
#[derive(Debug)]
struct Values<T> {
    known: Vec<(u32, T)>,
    /// The one seen last.
    last: usize,
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Self {
            known: Vec::new(),
            last: 0,
        }
    }
}

impl<T: Clone + PartialEq> Values<T> {
    fn number(&mut self, value: &T, next: &mut u32) -> u32 {
        let is_last = self
            .known
            .get(self.last)
            .is_some_and(|(_, last)| last == value);
        if !is_last {
            let known = self.known.iter().position(|(_, known)| known == value);
            self.last = known.unwrap_or_else(|| {
                *next += 1;
                self.known.push((*next, value.clone()));
                self.known.len() - 1
            });
        }
        self.known[self.last].0
    }
}

/// The numbers given so far.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    next: u32,
    rests: Vec<(u32, Rest)>,
    workloads: FxHashMap<(ObjectName, usize), Values<Workload>>,
    services: FxHashMap<ObjectName, Values<Service>>,
    policies: FxHashMap<ObjectName, Values<AuthorizationPolicy>>,
    bindings: BTreeMap<WaypointBinding, u32>,
}

/// The parts of one mesh, numbered.
pub(super) struct Numbered<'m> {
    mesh: &'m Mesh,
    rest: u32,
    workloads: Vec<u32>,
    services: Vec<u32>,
    policies: Vec<u32>,
    /// Indexes of policies by namespace.
    by_namespace: BTreeMap<&'m str, Vec<usize>>,
    bindings: Vec<Vec<u32>>,
}

impl Numbers {
    /// Numbers the parts of a state.
    pub(super) fn of<'m>(
        &mut self,
        side: &Side<'m>,
        everybody: &Identities,
        classes: &[CallerClass],
        some_are_ambient: bool,
    ) -> Numbered<'m> {
        let mesh = side.mesh;
        let rest = self.rest(side, everybody, classes, some_are_ambient);
        let next = &mut self.next;
        // Several workloads may have one name (a Deployment and a Job); their order is fixed.
        let mut workloads = Vec::with_capacity(mesh.workloads.len());
        let mut namesakes = 0;
        for (index, workload) in mesh.workloads.iter().enumerate() {
            let follows = index > 0 && mesh.workloads[index - 1].name == workload.name;
            namesakes = if follows { namesakes + 1 } else { 0 };
            let values = self
                .workloads
                .entry((workload.name.clone(), namesakes))
                .or_default();
            workloads.push(values.number(workload, next));
        }
        let services = mesh.services.iter().map(|service| {
            let values = self.services.entry(service.name.clone()).or_default();
            values.number(service, next)
        });
        let services = services.collect();
        let policies = mesh.authorization_policies.iter().map(|policy| {
            let values = self.policies.entry(policy.name.clone()).or_default();
            values.number(policy, next)
        });
        let policies = policies.collect();
        let bindings = mesh.workload_ids().map(|id| {
            let generations = 0..mesh.workload(id).generations.len();
            let numbers = generations.map(|generation| {
                let binding = mesh.workload_binding(id, generation);
                *self.bindings.entry(binding).or_insert_with(|| {
                    *next += 1;
                    *next
                })
            });
            numbers.collect()
        });
        let bindings = bindings.collect();
        let mut by_namespace: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, policy) in mesh.authorization_policies.iter().enumerate() {
            let namespace = policy.name.namespace.as_str();
            by_namespace.entry(namespace).or_default().push(index);
        }
        Numbered {
            mesh,
            rest,
            workloads,
            services,
            policies,
            by_namespace,
            bindings,
        }
    }

    fn rest(
        &mut self,
        side: &Side<'_>,
        everybody: &Identities,
        classes: &[CallerClass],
        some_are_ambient: bool,
    ) -> u32 {
        let routed = &side.routed;
        let pins = &side.attachments.pins;
        // Every list is named, so that a new one must be thought of here.
        let Mesh {
            settings,
            distribution,
            control_planes,
            revision_tags,
            ztunnel,
            cni_agent,
            // Their labels bind pods to waypoints and are what NetworkPolicies select by: where there
            // are any of these, nothing is remembered.
            namespaces: _,
            workloads,
            services,
            waypoints,
            authorization_policies: _,
            request_authentications,
            peer_authentications,
            extension_policies,
            traffic,
            gaps,
            seen_kinds: _,
            index: _,
        } = side.mesh;
        let others = classes
            .iter()
            .map(|class| &class.identities)
            .filter(|identities| !matches!(identities, Identities::Only(_)));
        let mut identities: Vec<&Identities> = vec![everybody];
        for other in others {
            if !identities.contains(&other) {
                identities.push(other);
            }
        }
        let known = self.rests.iter().find(|(_, known)| {
            known.settings == *settings
                && known.distribution == *distribution
                && known.control_planes == *control_planes
                && known.revision_tags == *revision_tags
                && known.ztunnel == *ztunnel
                && known.cni_agent == *cni_agent
                && known.waypoints == *waypoints
                && known.request_authentications == *request_authentications
                && known.peer_authentications == *peer_authentications
                && known.extension_policies == *extension_policies
                && known.traffic == *traffic
                && known.gaps == *gaps
                && known.routed == *routed
                && known.pins == *pins
                && known.some_are_ambient == some_are_ambient
                && known.names[0]
                    .iter()
                    .eq(workloads.iter().map(|one| &one.name))
                && known.names[1]
                    .iter()
                    .eq(services.iter().map(|one| &one.name))
                && known.identities.iter().eq(identities.iter().copied())
        });
        if let Some((number, _)) = known {
            return *number;
        }
        self.next += 1;
        let rest = Rest {
            settings: settings.clone(),
            distribution: *distribution,
            control_planes: control_planes.clone(),
            revision_tags: revision_tags.clone(),
            ztunnel: ztunnel.clone(),
            cni_agent: cni_agent.clone(),
            waypoints: waypoints.clone(),
            request_authentications: request_authentications.clone(),
            peer_authentications: peer_authentications.clone(),
            extension_policies: extension_policies.clone(),
            traffic: traffic.clone(),
            gaps: gaps.clone(),
            routed: routed.clone(),
            pins: pins.clone(),
            identities: identities.into_iter().cloned().collect(),
            some_are_ambient,
            names: [
                workloads.iter().map(|one| one.name.clone()).collect(),
                services.iter().map(|one| one.name.clone()).collect(),
            ],
        };
        self.rests.push((self.next, rest));
        self.next
    }
}

impl Numbered<'_> {
    /// The standing of a server.
    pub(super) fn standing(&self, id: WorkloadId) -> Standing {
        let mut numbers = vec![self.rest, self.workloads[id.0]];
        numbers.extend(&self.bindings[id.0]);
        for (service_id, service) in self.mesh.services_of(id) {
            numbers.push(self.services[service_id.0]);
            let backends = service.backends.iter();
            numbers.extend(backends.map(|backend| self.workloads[backend.workload.0]));
        }
        let mut namespaces = self.namespaces(id);
        namespaces.sort_unstable();
        namespaces.dedup();
        for index in namespaces
            .into_iter()
            .filter_map(|namespace| self.by_namespace.get(namespace))
            .flatten()
        {
            let policy = &self.mesh.authorization_policies[*index];
            if may_stand_before(self.mesh, policy, id) && !self.is_of_others(policy, id) {
                numbers.push(self.policies[*index]);
            }
        }
        numbers.into()
    }

    /// Whether a policy targets Services alone, and none of a server's.
    fn is_of_others(&self, policy: &AuthorizationPolicy, server: WorkloadId) -> bool {
        let Attachment::Targets(targets) = &policy.attachment else {
            return false;
        };
        let namespace = &policy.name.namespace;
        targets.iter().all(|target| {
            target.kind == "Service"
                && !self.mesh.services_of(server).any(|(_, service)| {
                    service.name.namespace == *namespace && service.name.name == target.name
                })
        })
    }

    /// Namespaces whose policies may stand before a server.
    fn namespaces(&self, id: WorkloadId) -> Vec<&str> {
        let mesh = self.mesh;
        let workload = mesh.workload(id);
        let mut namespaces = vec![
            mesh.settings.root_namespace.as_str(),
            workload.name.namespace.as_str(),
        ];
        for (_, service) in mesh.services_of(id) {
            namespaces.push(&service.name.namespace);
            let waypoint = service.binding.waypoint().map(|id| mesh.waypoint(id));
            namespaces.extend(waypoint.map(|waypoint| waypoint.name.namespace.as_str()));
        }
        for generation in 0..workload.generations.len() {
            let waypoint = mesh.workload_binding(id, generation).waypoint();
            let waypoint = waypoint.map(|id| mesh.waypoint(id));
            namespaces.extend(waypoint.map(|waypoint| waypoint.name.namespace.as_str()));
        }
        namespaces
    }
}

/// Whether a policy of one of a server's namespaces, or of those in front of it, may stand on a path to it;
/// rather too often than not.
pub(super) fn may_stand_before(
    mesh: &Mesh,
    policy: &AuthorizationPolicy,
    server: WorkloadId,
) -> bool {
    let workload = mesh.workload(server);
    let namespace = &policy.name.namespace;
    let in_reach =
        || *namespace == mesh.settings.root_namespace || *namespace == workload.name.namespace;
    match &policy.attachment {
        Attachment::Selector(selector) => {
            in_reach()
                && workload.generations.iter().any(|generation| {
                    generation.labels.is_empty() || generation.labels.selected_by(selector)
                })
        }
        Attachment::Namespace | Attachment::EmptySelector { .. } => in_reach(),
        Attachment::Targets(_) => true,
    }
}
