//! What was proved of earlier states and still holds: which servers are open to nobody new and
//! closed to nobody, however callers of a kind arrive.
//!
//! In: the meshes of state after state, all compared with one baseline. Out: for each server, whether
//! it is indifferent to callers of a kind, where that is known. Invariant: a server is forgotten when anything
//! that its paths are made of differs from the state before; where that is not plain, everything is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use castoff_authz::verdict::Identities;

use super::CallerMode;
use crate::mesh::ingress::Routed;
use crate::mesh::policy::{Attachment, AuthorizationPolicy};
use crate::mesh::{Mesh, ServiceId, WorkloadId};
use crate::snapshot::ObjectName;

/// How callers arrived, how they arrive, and who they are, in words.
pub(super) type Kind = (CallerMode, CallerMode, &'static str);

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Memory {
    last: Option<Last>,
    indifferent: BTreeMap<ObjectName, BTreeMap<Kind, bool>>,
}

#[derive(Debug)]
struct Last {
    mesh: Arc<Mesh>,
    routed: Routed,
    everybody: Identities,
}

impl Memory {
    /// Forgets what a new state may change. `everybody` has all identities of workloads.
    pub(super) fn forget(&mut self, mesh: &Mesh, routed: &Routed, everybody: &Identities) {
        let unaffected = self
            .last
            .as_ref()
            .filter(|last| last.routed == *routed && last.everybody == *everybody)
            .and_then(|last| Difference::between(&last.mesh, mesh));
        match unaffected {
            Some(difference) => self
                .indifferent
                .retain(|server, _| !difference.affects(server)),
            None => self.indifferent.clear(),
        }
    }

    /// Keeps the state, to tell what the next one changes.
    pub(super) fn keep(&mut self, mesh: Arc<Mesh>, routed: Routed, everybody: Identities) {
        self.last = Some(Last {
            mesh,
            routed,
            everybody,
        });
    }

    /// Whether a server is indifferent to callers of a kind; `None` where that is not known.
    pub(super) fn indifferent(&self, server: &ObjectName, kind: Kind) -> Option<bool> {
        self.indifferent.get(server)?.get(&kind).copied()
    }

    /// Records it.
    pub(super) fn learn(&mut self, server: &ObjectName, kinds: Vec<(Kind, bool)>) {
        if !kinds.is_empty() {
            let known = self.indifferent.entry(server.clone()).or_default();
            known.extend(kinds);
        }
    }
}

/// What differs between two states that have the same workloads and Services by name, and otherwise
/// differ in nothing but these and AuthorizationPolicies.
struct Difference<'a> {
    meshes: [&'a Mesh; 2],
    workloads: BTreeSet<WorkloadId>,
    services: BTreeSet<ServiceId>,
    policies: Vec<&'a AuthorizationPolicy>,
    ids: BTreeMap<&'a ObjectName, WorkloadId>,
}

impl<'a> Difference<'a> {
    /// `None` where more differs.
    fn between(before: &'a Mesh, now: &'a Mesh) -> Option<Self> {
        // Every list is named, so that a new one must be thought of here.
        let Mesh {
            settings,
            distribution,
            control_planes,
            revision_tags,
            ztunnel,
            cni_agent,
            namespaces,
            workloads,
            services,
            waypoints,
            authorization_policies,
            request_authentications,
            peer_authentications,
            extension_policies,
            traffic,
            gaps,
            seen_kinds: _,
            index: _,
        } = before;
        let alike = *settings == now.settings
            && *distribution == now.distribution
            && *control_planes == now.control_planes
            && *revision_tags == now.revision_tags
            && *ztunnel == now.ztunnel
            && *cni_agent == now.cni_agent
            && *namespaces == now.namespaces
            && *waypoints == now.waypoints
            && *request_authentications == now.request_authentications
            && *peer_authentications == now.peer_authentications
            && *extension_policies == now.extension_policies
            && *traffic == now.traffic
            && *gaps == now.gaps
            && workloads.len() == now.workloads.len()
            && services.len() == now.services.len();
        let names_alike = || {
            let workloads = workloads.iter().zip(&now.workloads);
            let services = services.iter().zip(&now.services);
            workloads.into_iter().all(|(one, two)| one.name == two.name)
                && services.into_iter().all(|(one, two)| one.name == two.name)
        };
        if !alike || !names_alike() {
            return None;
        }
        Some(Self {
            meshes: [before, now],
            workloads: (0..workloads.len())
                .filter(|index| workloads[*index] != now.workloads[*index])
                .map(WorkloadId)
                .collect(),
            services: (0..services.len())
                .filter(|index| services[*index] != now.services[*index])
                .map(ServiceId)
                .collect(),
            policies: differing(authorization_policies, &now.authorization_policies),
            ids: workloads
                .iter()
                .enumerate()
                .map(|(index, workload)| (&workload.name, WorkloadId(index)))
                .collect(),
        })
    }

    /// Whether paths to a server may differ.
    fn affects(&self, server: &ObjectName) -> bool {
        let Some(id) = self.ids.get(server).copied() else {
            return true;
        };
        if self.workloads.contains(&id) {
            return true;
        }
        self.meshes.iter().any(|mesh| {
            mesh.services_of(id).any(|(service_id, service)| {
                self.services.contains(&service_id)
                    || service
                        .backends
                        .iter()
                        .any(|backend| self.workloads.contains(&backend.workload))
            }) || self
                .policies
                .iter()
                .any(|policy| may_stand_before(mesh, policy, id))
        })
    }
}

/// Policies that are in one list only, or differ; both lists are sorted by name.
fn differing<'a>(
    before: &'a [AuthorizationPolicy],
    now: &'a [AuthorizationPolicy],
) -> Vec<&'a AuthorizationPolicy> {
    let by_name =
        |list: &'a [AuthorizationPolicy]| -> BTreeMap<&'a ObjectName, &'a AuthorizationPolicy> {
            list.iter().map(|one| (&one.name, one)).collect()
        };
    let (left, right) = (by_name(before), by_name(now));
    let missing = |list: &'a [AuthorizationPolicy],
                   other: BTreeMap<&'a ObjectName, &'a AuthorizationPolicy>| {
        list.iter()
            .filter(move |one| other.get(&one.name).is_none_or(|known| *known != *one))
            .collect::<Vec<_>>()
    };
    let mut all = missing(before, right);
    all.extend(missing(now, left));
    all
}

/// Whether a policy may stand on a path to a server; rather too often than not.
pub(super) fn may_stand_before(
    mesh: &Mesh,
    policy: &AuthorizationPolicy,
    server: WorkloadId,
) -> bool {
    let workload = mesh.workload(server);
    let namespace = &policy.name.namespace;
    match &policy.attachment {
        Attachment::Selector(selector) => {
            let reaches =
                *namespace == mesh.settings.root_namespace || *namespace == workload.name.namespace;
            reaches
                && workload.generations.iter().any(|generation| {
                    generation.labels.is_empty() || generation.labels.selected_by(selector)
                })
        }
        Attachment::Namespace | Attachment::EmptySelector { .. } => {
            *namespace == mesh.settings.root_namespace || *namespace == workload.name.namespace
        }
        Attachment::Targets(_) => {
            let at_pods = (0..workload.generations.len())
                .filter_map(|generation| mesh.workload_binding(server, generation).waypoint());
            let waypoints = mesh
                .services_of(server)
                .filter_map(|(_, service)| service.binding.waypoint())
                .chain(at_pods);
            let mut of_waypoints = waypoints.map(|id| &mesh.waypoint(id).name.namespace);
            *namespace == mesh.settings.root_namespace
                || *namespace == workload.name.namespace
                || mesh
                    .services_of(server)
                    .any(|(_, service)| service.name.namespace == *namespace)
                || of_waypoints.any(|one| one == namespace)
        }
    }
}
