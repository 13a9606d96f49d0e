//! Builds the mesh from a snapshot, part by part.
//!
//! In: a [`Snapshot`]. Out: [`Mesh`]. Invariant: parts are built in the order in which they rest
//! on each other: settings, namespaces, workloads, waypoints, Services, policies.

use std::collections::{BTreeMap, BTreeSet};

use smol_str::SmolStr;

use super::injection::{NEVER_INJECTED, Rules, injectors};
use super::injector;
use super::namespace::{Injection, Namespace};
use super::workload::{DataPlaneMode, Role, Workload};
use super::{
    ControlPlane, Distribution, Index, Mesh, MeshSettings, ServiceId, Version, Waypoint,
    WaypointId, WorkloadId, backends, control_plane, monitors, policies, routing, settings,
    waypoint, workloads,
};
use crate::snapshot::{Gap, Kind, Object, ObjectName, Snapshot};

/// What a user knows better than the input shows.
#[derive(Debug, Clone, Default)]
pub struct MeshOverrides {
    /// `--distribution`.
    pub distribution: Option<Distribution>,
    /// `--istio-version`, for all control planes.
    pub istio_version: Option<Version>,
}

impl Mesh {
    /// Builds the model.
    pub fn build(snapshot: &Snapshot, overrides: &MeshOverrides) -> Self {
        Self::build_upon(snapshot, overrides, None)
    }

    /// The mesh of a snapshot that differs from this mesh's in the labels, owners and pods of some
    /// namespaces and in AuthorizationPolicies alone.
    pub(crate) fn after(
        &self,
        snapshot: &Snapshot,
        overrides: &MeshOverrides,
        changed: &BTreeSet<SmolStr>,
    ) -> Self {
        let is_system = |name: &SmolStr| self.namespaces.get(name).is_none_or(|one| one.system);
        let ignored = workloads::ignored_labels(snapshot);
        // Monitors mark workloads by what Services select.
        let is_read_anew = changed.iter().any(is_system)
            || ignored != self.index.ignored_labels
            || monitors::are_there(snapshot);
        let known = (!is_read_anew).then_some((self, changed));
        let mesh = Self::build_upon(snapshot, overrides, known);
        // Wherever tests plan, what is taken over is held against what is built anew.
        debug_assert!(
            known.is_none() || mesh == Self::build(snapshot, overrides),
            "a part of the mesh before no longer holds"
        );
        mesh
    }

    /// Builds the model; what is known of it holds but for the namespaces that changed.
    fn build_upon(
        snapshot: &Snapshot,
        overrides: &MeshOverrides,
        known: Option<(&Mesh, &BTreeSet<SmolStr>)>,
    ) -> Self {
        let ground = Ground::of(snapshot, overrides);
        let (rules, unread) = ground.rules(snapshot);
        let ignored_labels = workloads::ignored_labels(snapshot);
        let mut workloads = match known {
            None => workloads::build(snapshot, &rules, &ignored_labels, |_| true),
            Some((known, changed)) => {
                let within = |namespace: &str| changed.contains(namespace);
                let new = workloads::build(snapshot, &rules, &ignored_labels, within);
                let stay = known.workloads.iter();
                let stay = stay.filter(|workload| !changed.contains(&workload.name.namespace));
                let mut all: Vec<Workload> = stay.cloned().chain(new).collect();
                workloads::sort(&mut all);
                all
            }
        };
        let Ground {
            control_planes,
            settings,
            namespaces,
            mut gaps,
        } = ground;
        gaps.extend(unread);
        let waypoints = waypoint::build(snapshot, &workloads);
        let waypoints_by_name: BTreeMap<_, _> = waypoints
            .iter()
            .enumerate()
            .map(|(index, waypoint)| (waypoint.name.clone(), WaypointId(index)))
            .collect();
        let other_gateways: BTreeSet<ObjectName> = snapshot
            .resources(Kind::Gateway)
            .iter()
            .map(Object::object_name)
            .filter(|name| !waypoints_by_name.contains_key(name))
            .collect();
        let binder = waypoint::Binder {
            other_gateways: &other_gateways,
            waypoints: &waypoints,
            by_name: &waypoints_by_name,
            namespaces: &namespaces,
        };
        let workloads_by_namespace = by_namespace(&workloads);
        let mut services = backends::build(snapshot, &workloads, &workloads_by_namespace, &binder);
        let followed = control_planes
            .iter()
            .all(control_plane::ControlPlane::routes_gateways_through_waypoints);
        for service in &mut services {
            service.ingress_uses_waypoint &= followed;
        }
        monitors::mark(snapshot, &mut workloads, &workloads_by_namespace, &services);
        let mut services_by_workload: BTreeMap<WorkloadId, Vec<ServiceId>> = BTreeMap::new();
        for (index, service) in services.iter().enumerate() {
            let behind: BTreeSet<WorkloadId> = service
                .backends
                .iter()
                .map(|backend| backend.workload)
                .collect();
            for workload in behind {
                services_by_workload
                    .entry(workload)
                    .or_default()
                    .push(ServiceId(index));
            }
        }
        let mesh_nodes = mesh_nodes(&workloads);
        let ztunnel =
            control_plane::daemon_set(snapshot, ("app", "ztunnel"), &workloads, &mesh_nodes);
        let cni_agent = control_plane::daemon_set(
            snapshot,
            ("k8s-app", "istio-cni-node"),
            &workloads,
            &mesh_nodes,
        );
        let known = known.map(|(known, _)| known);
        let policies = policies::read(snapshot, known, &mut gaps);
        let mut traffic = match known {
            Some(known) => known.traffic.clone(),
            None => routing::read(snapshot),
        };
        routing::select_workloads(&mut traffic, &workloads, &workloads_by_namespace);
        let mut entries_by_workload: BTreeMap<WorkloadId, Vec<usize>> = BTreeMap::new();
        for (index, entry) in traffic.service_entries.iter().enumerate() {
            for workload in &entry.workloads {
                let entries = entries_by_workload.entry(*workload).or_default();
                entries.push(index);
            }
        }
        let mut peers_by_namespace: BTreeMap<SmolStr, Vec<usize>> = BTreeMap::new();
        for (index, one) in policies.peer_authentication.iter().enumerate() {
            peers_by_namespace
                .entry(one.name.namespace.clone())
                .or_default()
                .push(index);
        }
        Self {
            distribution: overrides
                .distribution
                .unwrap_or_else(|| control_plane::distribution(&control_planes)),
            revision_tags: control_plane::revision_tags(snapshot),
            ztunnel,
            cni_agent,
            authorization_policies: policies.authorization,
            request_authentications: policies.request_authentication,
            peer_authentications: policies.peer_authentication,
            extension_policies: policies.extensions,
            traffic,
            gaps,
            seen_kinds: snapshot.seen_kinds.clone(),
            index: Index {
                workloads_by_namespace,
                services_by_name: services
                    .iter()
                    .enumerate()
                    .map(|(index, service)| (service.name.clone(), ServiceId(index)))
                    .collect(),
                services_by_workload,
                service_entries_by_workload: entries_by_workload,
                waypoints_by_name,
                peer_authentications_by_namespace: peers_by_namespace,
                other_gateways,
                ignored_labels,
            },
            settings,
            control_planes,
            namespaces,
            workloads,
            services,
            waypoints,
        }
    }
}

/// What workloads rest on.
struct Ground {
    control_planes: Vec<ControlPlane>,
    settings: MeshSettings,
    namespaces: BTreeMap<SmolStr, Namespace>,
    gaps: Vec<Gap>,
}

impl Ground {
    fn of(snapshot: &Snapshot, overrides: &MeshOverrides) -> Self {
        let mut control_planes = control_plane::control_planes(snapshot);
        if let Some(version) = &overrides.istio_version {
            for one in &mut control_planes {
                one.version = Some(version.clone());
            }
        }
        let mut gaps = snapshot.gaps.clone();
        let settings = settings::read(snapshot, &control_planes, &mut gaps);
        let namespaces = namespaces(snapshot, &settings, &control_planes);
        Self {
            control_planes,
            settings,
            namespaces,
            gaps,
        }
    }

    /// What decides about new pods, and what of it could not be read.
    fn rules<'a>(&'a self, snapshot: &'a Snapshot) -> (Rules<'a>, Vec<Gap>) {
        let mut gaps = Vec::new();
        let rules = Rules {
            namespaces: &self.namespaces,
            injectors: injectors(snapshot),
            injects_by_default: self.settings.injects_by_default,
            configurations: injector::read(snapshot, &mut gaps),
            // Where Istio itself is not among the input, its absence shows nothing.
            ambient_installed: self.control_planes.is_empty() || has_ztunnel(snapshot),
            injects_hbone: self
                .settings
                .proxy_metadata
                .get("ISTIO_META_ENABLE_HBONE")
                .is_some_and(|value| value == "true"),
        };
        (rules, gaps)
    }
}

/// The workloads of some namespaces, and what new pods of theirs are made from.
pub(crate) struct NewPods {
    pub(crate) workloads: Vec<Workload>,
    pub(crate) settings: MeshSettings,
    pub(crate) control_planes: Vec<ControlPlane>,
}

impl NewPods {
    /// The same as in the whole mesh, for less.
    pub(crate) fn of(
        snapshot: &Snapshot,
        overrides: &MeshOverrides,
        within: impl Fn(&str) -> bool,
    ) -> Self {
        let ground = Ground::of(snapshot, overrides);
        let (rules, _) = ground.rules(snapshot);
        let ignored = workloads::ignored_labels(snapshot);
        Self {
            workloads: workloads::build(snapshot, &rules, &ignored, within),
            settings: ground.settings,
            control_planes: ground.control_planes,
        }
    }

    /// The waypoints, where all workloads are here.
    pub(crate) fn waypoints(&self, snapshot: &Snapshot) -> Vec<Waypoint> {
        waypoint::build(snapshot, &self.workloads)
    }
}

fn by_namespace(workloads: &[Workload]) -> BTreeMap<SmolStr, Vec<WorkloadId>> {
    let mut map: BTreeMap<SmolStr, Vec<WorkloadId>> = BTreeMap::new();
    for (index, workload) in workloads.iter().enumerate() {
        map.entry(workload.name.namespace.clone())
            .or_default()
            .push(WorkloadId(index));
    }
    map
}

fn has_ztunnel(snapshot: &Snapshot) -> bool {
    let mut templates = snapshot
        .owners
        .iter()
        .filter(|owner| owner.kind == "DaemonSet")
        .filter_map(|owner| owner.body.template());
    templates.any(|template| template.metadata.labels.has("app", "ztunnel"))
        || snapshot
            .pods
            .iter()
            .any(|pod| pod.metadata.labels.has("app", "ztunnel"))
}

/// Nodes that run pods of the mesh.
fn mesh_nodes(workloads: &[Workload]) -> BTreeSet<SmolStr> {
    workloads
        .iter()
        .filter(|workload| workload.role == Role::Application)
        .flat_map(|workload| &workload.generations)
        .filter(|generation| generation.mode != DataPlaneMode::None)
        .flat_map(|generation| &generation.pods)
        .map(|pod| pod.node.clone())
        .filter(|node| !node.is_empty())
        .collect()
}

fn namespaces(
    snapshot: &Snapshot,
    settings: &MeshSettings,
    control_planes: &[ControlPlane],
) -> BTreeMap<SmolStr, Namespace> {
    let system = |name: &str| {
        NEVER_INJECTED.contains(&name)
            || name == settings.root_namespace
            || control_planes
                .iter()
                .any(|one| one.object.name.namespace == name)
    };
    let mut map: BTreeMap<SmolStr, Namespace> = BTreeMap::new();
    for object in &snapshot.namespaces {
        let labels = object.metadata.labels.clone();
        let injection = match (labels.get("istio-injection"), labels.get("istio.io/rev")) {
            (Some("enabled"), _) => Injection::Enabled,
            // Any other value keeps every webhook away, as `disabled` does.
            (Some(_), _) => Injection::Disabled,
            (None, Some(revision)) => Injection::Revision(revision.into()),
            (None, None) => Injection::Unlabelled,
        };
        let name = object.metadata.name.clone();
        map.insert(
            name.clone(),
            Namespace {
                ambient: labels.has("istio.io/dataplane-mode", "ambient"),
                discovered: settings.discovery_selectors.is_empty()
                    || settings
                        .discovery_selectors
                        .iter()
                        .any(|selector| selector.matches(&labels)),
                system: system(&name),
                name,
                annotations: object.metadata.annotations.clone(),
                origin: Some(object.origin.clone()),
                injection,
                labels,
            },
        );
    }
    for name in mentioned(snapshot) {
        map.entry(name.clone()).or_insert_with(|| Namespace {
            system: system(&name),
            name,
            labels: crate::snapshot::Labels::default(),
            annotations: crate::snapshot::Labels::default(),
            origin: None,
            injection: Injection::Unlabelled,
            ambient: false,
            discovered: settings.discovery_selectors.is_empty(),
        });
    }
    map
}

/// Namespaces that objects live in.
fn mentioned(snapshot: &Snapshot) -> BTreeSet<SmolStr> {
    // Objects of one namespace stand together, or nearly.
    fn names<T>(objects: &[Object<T>]) -> impl Iterator<Item = SmolStr> {
        let one = |object: &Object<T>| object.metadata.namespace.clone();
        let groups =
            objects.chunk_by(|left, right| left.metadata.namespace == right.metadata.namespace);
        groups.map(move |group| one(&group[0]))
    }
    names(&snapshot.pods)
        .chain(names(&snapshot.services))
        .chain(names(&snapshot.owners))
        .chain(
            snapshot
                .resources
                .values()
                .flat_map(|objects| names(objects)),
        )
        .filter(|name| !name.is_empty())
        .collect()
}
