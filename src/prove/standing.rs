//! What the paths to one generation of a server are made of, as numbers: equal numbers, equal paths.
//!
//! In: the meshes of state after state. Out: for each generation of a server a [`Standing`]. Invariant: parts that
//! differ never get one number, and every list of a mesh that paths are made of has its place in a
//! standing; what nobody thought of would be one of [`Rest`].

use std::collections::BTreeMap;

use castoff_authz::verdict::Identities;
use rustc_hash::FxHashMap;

use super::alike;
use super::callers::CallerClass;
use super::pins::Pins;
use super::side::Side;
use super::undeclared::PortKnown;
use crate::mesh::ingress::Routed;
use crate::mesh::policy::Attachment;
use crate::mesh::traffic::Traffic;
use crate::mesh::{
    AuthorizationPolicy, ControlPlane, DaemonSetState, Distribution, ExtensionPolicy, Generation,
    Mesh, MeshSettings, PeerAuthentication, RequestAuthentication, RevisionTag, Service, Waypoint,
    WaypointBinding, Workload, WorkloadId,
};
use crate::snapshot::{Gap, ObjectName};

/// Numbers of everything that paths to one generation of a server are made of.
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
    /// Those before Services and pods have their place in each standing; this is for ServiceEntries, where there
    /// are any.
    waypoints: Vec<Waypoint>,
    request_authentications: Vec<RequestAuthentication>,
    peer_authentications: Vec<PeerAuthentication>,
    extension_policies: Vec<ExtensionPolicy>,
    traffic: Traffic,
    gaps: Vec<Gap>,
    routed: Routed,
    /// Whether they count hangs on every workload.
    pins: Pins,
    /// All identities of workloads.
    everybody: Identities,
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

impl<T: Clone> Values<T> {
    /// The number of a value; of those that are alike it is the same.
    fn number(&mut self, value: &T, alike: fn(&T, &T) -> bool, next: &mut u32) -> u32 {
        let is_last = self
            .known
            .get(self.last)
            .is_some_and(|(_, last)| alike(last, value));
        if !is_last {
            let known = self.known.iter().position(|(_, known)| alike(known, value));
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
    workloads: FxHashMap<(ObjectName, usize), (Values<Workload>, Values<Generation>)>,
    services: FxHashMap<ObjectName, Values<Service>>,
    policies: FxHashMap<ObjectName, Values<AuthorizationPolicy>>,
    waypoints: FxHashMap<ObjectName, Values<Waypoint>>,
    bindings: BTreeMap<(WaypointBinding, Option<u32>), u32>,
    target_ports: BTreeMap<Vec<Option<u16>>, u32>,
    /// Identities that count as any other.
    others: Vec<(u32, Identities)>,
}

/// The parts of one mesh, numbered.
pub(super) struct Numbered<'m> {
    mesh: &'m Mesh,
    rest: u32,
    workloads: Vec<u32>,
    generations: Vec<Vec<u32>>,
    /// Of pods' own addresses, by generation.
    bindings: Vec<Vec<u32>>,
    services: Vec<[u32; 2]>,
    /// Ports of pods behind a Service, by backend.
    target_ports: Vec<Vec<u32>>,
    /// Whether callers are led to some pods of a Service alone: then all of its pods count for each.
    has_pins: bool,
    policies: Vec<u32>,
    by_namespace: BTreeMap<&'m str, OfNamespace<'m>>,
    /// For each class the number of its identities, where they count as any other.
    pub(super) others: Vec<Option<u32>>,
    /// The number now, and those of which it leaves out some and adds none.
    narrower: BTreeMap<u32, Vec<u32>>,
}

/// AuthorizationPolicies of one namespace by index, so that those of others are not looked at for each server.
#[derive(Debug, Default)]
struct OfNamespace<'m> {
    /// Those for all pods, or for something else than Services.
    for_all: Vec<usize>,
    /// Those with a selector, by its first label.
    by_label: BTreeMap<(&'m str, &'m str), Vec<usize>>,
    /// Those that target Services alone, by their names.
    by_service: BTreeMap<&'m str, Vec<usize>>,
}

impl<'m> OfNamespace<'m> {
    fn add(&mut self, index: usize, policy: &'m AuthorizationPolicy) {
        match &policy.attachment {
            Attachment::Selector(selector) => match selector.iter().next() {
                Some(label) => self.by_label.entry(label).or_default().push(index),
                None => self.for_all.push(index),
            },
            Attachment::Targets(targets) if targets.iter().all(|one| one.kind == "Service") => {
                for target in targets {
                    let of_service = self.by_service.entry(&target.name).or_default();
                    of_service.push(index);
                }
            }
            Attachment::Namespace | Attachment::EmptySelector { .. } | Attachment::Targets(_) => {
                self.for_all.push(index)
            }
        }
    }
}

impl Numbers {
    /// Numbers the parts of a state.
    pub(super) fn of<'m>(
        &mut self,
        side: &Side<'m>,
        everybody: &Identities,
        classes: &[CallerClass],
    ) -> Numbered<'m> {
        let mesh = side.mesh;
        let rest = self.rest(side, everybody);
        let (others, narrower) = self.others(classes);
        let next = &mut self.next;
        // Several workloads may have one name (a Deployment and a Job); their order is fixed.
        let mut workloads = Vec::with_capacity(mesh.workloads.len());
        let mut generations = Vec::with_capacity(mesh.workloads.len());
        let mut namesakes = 0;
        for (index, workload) in mesh.workloads.iter().enumerate() {
            let follows = index > 0 && mesh.workloads[index - 1].name == workload.name;
            namesakes = if follows { namesakes + 1 } else { 0 };
            let values = self
                .workloads
                .entry((workload.name.clone(), namesakes))
                .or_default();
            workloads.push(values.0.number(workload, alike::workloads, next));
            let of_generations = workload.generations.iter();
            let of_generations =
                of_generations.map(|one| values.1.number(one, alike::generations, next));
            generations.push(of_generations.collect());
        }
        let waypoints: Vec<u32> = mesh
            .waypoints
            .iter()
            .map(|waypoint| {
                let values = self.waypoints.entry(waypoint.name.clone()).or_default();
                values.number(waypoint, PartialEq::eq, next)
            })
            .collect();
        let mut binding = |binding: WaypointBinding, next: &mut u32| {
            let waypoint = binding.waypoint().map(|id| waypoints[id.0]);
            *self
                .bindings
                .entry((binding, waypoint))
                .or_insert_with(|| following(next))
        };
        let services = mesh.services.iter().map(|service| {
            let values = self.services.entry(service.name.clone()).or_default();
            [
                values.number(service, alike::services, next),
                binding(service.binding.clone(), next),
            ]
        });
        let services = services.collect();
        let target_ports = mesh.services.iter().map(|service| {
            let ports = service.backends.iter().map(|backend| {
                if let Some(known) = self.target_ports.get(&backend.target_ports) {
                    return *known;
                }
                let number = following(next);
                self.target_ports
                    .insert(backend.target_ports.clone(), number);
                number
            });
            ports.collect()
        });
        let target_ports = target_ports.collect();
        let policies = mesh.authorization_policies.iter().map(|policy| {
            let values = self.policies.entry(policy.name.clone()).or_default();
            values.number(policy, PartialEq::eq, next)
        });
        let policies = policies.collect();
        let bindings = mesh.workload_ids().map(|id| {
            let generations = 0..mesh.workload(id).generations.len();
            let numbers =
                generations.map(|generation| binding(mesh.workload_binding(id, generation), next));
            numbers.collect()
        });
        let bindings = bindings.collect();
        let mut by_namespace: BTreeMap<&str, OfNamespace<'_>> = BTreeMap::new();
        for (index, policy) in mesh.authorization_policies.iter().enumerate() {
            let namespace = policy.name.namespace.as_str();
            by_namespace
                .entry(namespace)
                .or_default()
                .add(index, policy);
        }
        Numbered {
            mesh,
            rest,
            workloads,
            generations,
            bindings,
            services,
            target_ports,
            has_pins: side.attachments.pins != Pins::default(),
            policies,
            by_namespace,
            others,
            narrower,
        }
    }

    /// For each class the number of its identities, where they count as any other; and for each such number those of
    /// which it holds a part alone.
    fn others(&mut self, classes: &[CallerClass]) -> (Vec<Option<u32>>, BTreeMap<u32, Vec<u32>>) {
        let mut others = Vec::with_capacity(classes.len());
        let mut narrower = BTreeMap::new();
        for class in classes {
            let identities = &class.identities;
            if matches!(identities, Identities::Only(_)) {
                others.push(None);
                continue;
            }
            let known = self.others.iter().find(|(_, known)| known == identities);
            let number = known.map(|(number, _)| *number).unwrap_or_else(|| {
                let number = following(&mut self.next);
                self.others.push((number, identities.clone()));
                number
            });
            others.push(Some(number));
            narrower.entry(number).or_insert_with(|| {
                let all = self.others.iter();
                let wider = all.filter(|(_, wider)| alike::is_part(identities, wider));
                wider.map(|(number, _)| *number).collect()
            });
        }
        (others, narrower)
    }

    fn rest(&mut self, side: &Side<'_>, everybody: &Identities) -> u32 {
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
        let of_entries = match traffic.service_entries.is_empty() {
            true => &[],
            false => waypoints.as_slice(),
        };
        let known = self.rests.iter().find(|(_, known)| {
            known.settings == *settings
                && known.distribution == *distribution
                && known.control_planes == *control_planes
                && known.revision_tags == *revision_tags
                && known.ztunnel == *ztunnel
                && known.cni_agent == *cni_agent
                && known.waypoints == of_entries
                && known.request_authentications == *request_authentications
                && known.peer_authentications == *peer_authentications
                && known.extension_policies == *extension_policies
                && known.traffic == *traffic
                && known.gaps == *gaps
                && known.routed == *routed
                && known.pins == *pins
                && known.everybody == *everybody
                && known.names[0]
                    .iter()
                    .eq(workloads.iter().map(|one| &one.name))
                && known.names[1]
                    .iter()
                    .eq(services.iter().map(|one| &one.name))
        });
        if let Some((number, _)) = known {
            return *number;
        }
        let number = following(&mut self.next);
        let rest = Rest {
            settings: settings.clone(),
            distribution: *distribution,
            control_planes: control_planes.clone(),
            revision_tags: revision_tags.clone(),
            ztunnel: ztunnel.clone(),
            cni_agent: cni_agent.clone(),
            waypoints: of_entries.to_vec(),
            request_authentications: request_authentications.clone(),
            peer_authentications: peer_authentications.clone(),
            extension_policies: extension_policies.clone(),
            traffic: traffic.clone(),
            gaps: gaps.clone(),
            routed: routed.clone(),
            pins: pins.clone(),
            everybody: everybody.clone(),
            names: [
                workloads.iter().map(|one| one.name.clone()).collect(),
                services.iter().map(|one| one.name.clone()).collect(),
            ],
        };
        self.rests.push((number, rest));
        number
    }
}

fn following(next: &mut u32) -> u32 {
    *next += 1;
    *next
}

impl Numbered<'_> {
    /// The standing of a generation of a server, which is asked at these ports.
    pub(super) fn standing(
        &self,
        id: WorkloadId,
        generation: usize,
        ports: &[(u16, PortKnown)],
    ) -> Standing {
        let mut numbers = vec![
            self.rest,
            self.workloads[id.0],
            self.generations[id.0][generation],
            self.bindings[id.0][generation],
            // A port more or less means another list.
            ports.len() as u32,
        ];
        numbers.extend(
            ports
                .iter()
                .map(|(port, known)| u32::from(*port) << 2 | *known as u32),
        );
        for (service_id, service) in self.mesh.services_of(id) {
            numbers.extend(self.services[service_id.0]);
            let target_ports = &self.target_ports[service_id.0];
            let backends = || service.backends.iter().zip(target_ports);
            let own = backends()
                .find(|(one, _)| one.workload == id && one.generation == generation)
                .map_or(0, |(_, ports)| *ports);
            numbers.push(own);
            // Whoever dials a headless Service is sent as the least of its pods asks for.
            if service.headless || self.has_pins {
                numbers.push(service.backends.len() as u32);
                for (backend, ports) in backends() {
                    let other = backend.workload.0;
                    numbers.extend([
                        self.workloads[other],
                        self.generations[other][backend.generation],
                        *ports,
                    ]);
                }
            }
        }
        let mut namespaces = self.namespaces(id, generation);
        namespaces.sort_unstable();
        namespaces.dedup();
        for namespace in namespaces {
            let before = self.policies_before(namespace, id, generation);
            numbers.extend(before.into_iter().map(|index| self.policies[index]));
        }
        numbers.into()
    }

    /// Policies of a namespace that may stand before these pods, by index.
    fn policies_before(&self, namespace: &str, id: WorkloadId, generation: usize) -> Vec<usize> {
        let Some(all) = self.by_namespace.get(namespace) else {
            return Vec::new();
        };
        let mut found = all.for_all.clone();
        let labels = &self.mesh.workload(id).generations[generation].labels;
        if labels.is_empty() {
            found.extend(all.by_label.values().flatten());
        } else {
            let selected = labels.iter().filter_map(|label| all.by_label.get(&label));
            found.extend(selected.flatten());
        }
        for (_, service) in self.mesh.services_of(id) {
            if service.name.namespace == namespace {
                let of_service = all.by_service.get(service.name.name.as_str());
                found.extend(of_service.into_iter().flatten());
            }
        }
        found.sort_unstable();
        found.dedup();
        let stands = |index: &usize| {
            let policy = &self.mesh.authorization_policies[*index];
            may_stand_before_pods(self.mesh, policy, id, generation)
                && !self.is_of_others(policy, id)
        };
        found.retain(stands);
        debug_assert!(
            {
                let policies = self.mesh.authorization_policies.iter().enumerate();
                let of_namespace = policies.filter(|(_, one)| one.name.namespace == namespace);
                let indexes = of_namespace.map(|(index, _)| index).filter(stands);
                indexes.eq(found.iter().copied())
            },
            "a policy was not looked at"
        );
        found
    }

    /// Whether identities of one number are all among those of another.
    pub(super) fn is_part(&self, number: u32, wider: u32) -> bool {
        let wider_ones = self.narrower.get(&number);
        wider_ones.is_some_and(|all| all.contains(&wider))
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
    fn namespaces(&self, id: WorkloadId, generation: usize) -> Vec<&str> {
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
        let waypoint = mesh.workload_binding(id, generation).waypoint();
        let waypoint = waypoint.map(|id| mesh.waypoint(id));
        namespaces.extend(waypoint.map(|waypoint| waypoint.name.namespace.as_str()));
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
    let mut generations = 0..mesh.workload(server).generations.len();
    generations.any(|generation| may_stand_before_pods(mesh, policy, server, generation))
}

/// The same for one generation of its pods.
fn may_stand_before_pods(
    mesh: &Mesh,
    policy: &AuthorizationPolicy,
    server: WorkloadId,
    generation: usize,
) -> bool {
    let workload = mesh.workload(server);
    let namespace = &policy.name.namespace;
    let in_reach =
        || *namespace == mesh.settings.root_namespace || *namespace == workload.name.namespace;
    match &policy.attachment {
        Attachment::Selector(selector) => {
            let labels = &workload.generations[generation].labels;
            in_reach() && (labels.is_empty() || labels.selected_by(selector))
        }
        Attachment::Namespace | Attachment::EmptySelector { .. } => in_reach(),
        Attachment::Targets(_) => true,
    }
}
