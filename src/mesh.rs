//! The model: who is who, who is where, which policy means what. Built once from a snapshot.
//!
//! In: [`crate::snapshot::Snapshot`]. Out: [`Mesh`], immutable, with indexes instead of scans.
//! Invariant: nothing beyond this module looks at Kubernetes objects again, except to copy one.

pub mod authorization;
mod backends;
mod build;
pub mod control_plane;
mod delegates;
pub mod ingress;
mod injection;
mod injector;
pub mod kubernetes_ingress;
pub mod machines;
mod monitors;
pub mod mtls;
pub mod namespace;
pub mod network_policy;
mod policies;
pub mod policy;
pub mod redirection;
pub mod routing;
pub mod service;
pub mod settings;
pub mod traffic;
pub mod version;
pub mod waypoint;
pub mod workload;
mod workloads;

use std::collections::{BTreeMap, BTreeSet};

use smol_str::SmolStr;

use crate::snapshot::{Gap, Kind, ObjectName, Origin};

pub use build::MeshOverrides;
pub(crate) use build::NewPods;
pub use control_plane::{ControlPlane, DaemonSetState, Distribution, RevisionTag};
pub use namespace::{Injection, Namespace};
pub use policy::{
    Attachment, AuthorizationPolicy, ExtensionPolicy, PeerAuthentication, RequestAuthentication,
};
pub use service::{Backend, Protocol, Service, ServicePort};
pub use settings::MeshSettings;
pub use version::Version;
pub use waypoint::{Waypoint, WaypointBinding};
pub use workload::{AsProxy, DataPlaneMode, Generation, OwnerKind, Replacement, Role, Workload};

/// A reference to one object, for findings: enough to find it in a cluster and in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectReference {
    /// Kind, where it is one that castoff reads.
    pub kind: Kind,
    /// Namespace and name.
    pub name: ObjectName,
    /// Where it was read.
    pub origin: Origin,
}

/// Index into [`Mesh::workloads`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadId(pub usize);

/// Index into [`Mesh::services`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub usize);

/// Index into [`Mesh::waypoints`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaypointId(pub usize);

/// The whole mesh. All lists are sorted by namespace and name.
#[derive(Debug, Clone, PartialEq)]
pub struct Mesh {
    /// Root namespace, trust domain, providers and the like.
    pub settings: MeshSettings,
    /// Upstream, or a build whose sidecars route to waypoints.
    pub distribution: Distribution,
    /// Every istiod.
    pub control_planes: Vec<ControlPlane>,
    /// Revision tags and the revisions they name.
    pub revision_tags: Vec<RevisionTag>,
    /// The ztunnel DaemonSet, if there is one.
    pub ztunnel: Option<DaemonSetState>,
    /// The Istio CNI agent's DaemonSet, if there is one.
    pub cni_agent: Option<DaemonSetState>,
    /// Namespaces by name; also those that only objects mention, marked as such.
    pub namespaces: BTreeMap<SmolStr, Namespace>,
    /// Workloads: pods grouped by their topmost owner.
    pub workloads: Vec<Workload>,
    /// Services, ServiceEntries excluded.
    pub services: Vec<Service>,
    /// Waypoint Gateways.
    pub waypoints: Vec<Waypoint>,
    /// AuthorizationPolicies.
    pub authorization_policies: Vec<AuthorizationPolicy>,
    /// RequestAuthentications.
    pub request_authentications: Vec<RequestAuthentication>,
    /// PeerAuthentications.
    pub peer_authentications: Vec<PeerAuthentication>,
    /// Telemetry, WasmPlugin, TrafficExtension, EnvoyFilter: attached alike, contents opaque.
    pub extension_policies: Vec<ExtensionPolicy>,
    /// VirtualServices, DestinationRules, routes, Sidecars, gateways, ServiceEntries.
    pub traffic: traffic::Traffic,
    /// Kinds and objects that castoff could not read or not understand.
    pub gaps: Vec<Gap>,
    /// Kinds that the input held or answered for; see [`crate::snapshot::Snapshot::seen_kinds`].
    pub seen_kinds: BTreeSet<Kind>,
    /// Indexes; private so that they stay in step with the lists.
    pub(crate) index: Index,
}

/// Look-ups built once.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Index {
    pub(crate) workloads_by_namespace: BTreeMap<SmolStr, Vec<WorkloadId>>,
    pub(crate) services_by_name: BTreeMap<ObjectName, ServiceId>,
    pub(crate) services_by_workload: BTreeMap<WorkloadId, Vec<ServiceId>>,
    /// Indexes into `traffic.service_entries`.
    pub(crate) service_entries_by_workload: BTreeMap<WorkloadId, Vec<usize>>,
    pub(crate) waypoints_by_name: BTreeMap<ObjectName, WaypointId>,
    /// Indexes into `peer_authentications`.
    pub(crate) peer_authentications_by_namespace: BTreeMap<SmolStr, Vec<usize>>,
    /// Gateways of the Gateway API that are no waypoints.
    pub(crate) other_gateways: BTreeSet<ObjectName>,
    /// Labels of pods that tell no generations apart.
    pub(crate) ignored_labels: Vec<&'static str>,
}

impl Mesh {
    /// The workload of an id.
    pub fn workload(&self, id: WorkloadId) -> &Workload {
        &self.workloads[id.0]
    }

    /// The Service of an id.
    pub fn service(&self, id: ServiceId) -> &Service {
        &self.services[id.0]
    }

    /// The waypoint of an id.
    pub fn waypoint(&self, id: WaypointId) -> &Waypoint {
        &self.waypoints[id.0]
    }

    /// All workloads, by id.
    pub fn workload_ids(&self) -> impl Iterator<Item = WorkloadId> + use<> {
        (0..self.workloads.len()).map(WorkloadId)
    }

    /// ServiceEntries that select pods of a workload, by index.
    pub fn service_entries_of(
        &self,
        workload: WorkloadId,
    ) -> impl Iterator<Item = (usize, &traffic::ServiceEntry)> {
        let entries = self.index.service_entries_by_workload.get(&workload);
        let entries = entries.into_iter().flatten();
        entries.map(|index| (*index, &self.traffic.service_entries[*index]))
    }

    /// Workloads of a namespace.
    pub fn workloads_in(&self, namespace: &str) -> impl Iterator<Item = (WorkloadId, &Workload)> {
        self.index
            .workloads_by_namespace
            .get(namespace)
            .into_iter()
            .flatten()
            .map(|id| (*id, self.workload(*id)))
    }

    /// Services whose endpoints include pods of a workload.
    pub fn services_of(&self, workload: WorkloadId) -> impl Iterator<Item = (ServiceId, &Service)> {
        self.index
            .services_by_workload
            .get(&workload)
            .into_iter()
            .flatten()
            .map(|id| (*id, self.service(*id)))
    }

    /// The Service of a name.
    pub fn service_named(&self, name: &ObjectName) -> Option<(ServiceId, &Service)> {
        self.index
            .services_by_name
            .get(name)
            .map(|id| (*id, self.service(*id)))
    }

    /// The waypoint of a name.
    pub fn waypoint_named(&self, name: &ObjectName) -> Option<(WaypointId, &Waypoint)> {
        self.index
            .waypoints_by_name
            .get(name)
            .map(|id| (*id, self.waypoint(*id)))
    }

    /// Which waypoint takes what is sent to the addresses of these pods: the pods' own label, else
    /// their namespace's.
    pub fn workload_binding(&self, workload: WorkloadId, generation: usize) -> WaypointBinding {
        let workload = self.workload(workload);
        let binder = waypoint::Binder {
            waypoints: &self.waypoints,
            by_name: &self.index.waypoints_by_name,
            other_gateways: &self.index.other_gateways,
            namespaces: &self.namespaces,
        };
        binder.bind(
            &workload.name.namespace,
            &workload.generations[generation].labels,
            waypoint::Traffic::ToPods,
        )
    }
}
