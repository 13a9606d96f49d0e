//! The waypoint Gateways to deploy: one a namespace.
//!
//! In: needs. Out: manifests with the Services that they are for. Invariant: nothing is
//! recommended where a waypoint for Services stands, be it ready or not; an existing Gateway is
//! never changed.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use smol_str::SmolStr;

use super::{Placement, WaypointNeeds, placement};
use crate::mesh::waypoint::BindingFault;
use crate::mesh::{DataPlaneMode, Distribution, Injection, Mesh, ServiceId};
use crate::snapshot::{Kind, ObjectName};

/// One Gateway to apply.
#[derive(Debug, Clone, PartialEq)]
pub struct RecommendedWaypoint {
    /// Namespace and name.
    pub name: ObjectName,
    /// The object.
    pub manifest: Value,
    /// Services that need it.
    pub services: Vec<ServiceId>,
}

/// The Gateways to apply, sorted by namespace and name; none that a label would put into use before its policies.
pub fn recommended_waypoints(mesh: &Mesh, needs: &WaypointNeeds) -> Vec<RecommendedWaypoint> {
    waypoints(mesh, needs, !is_used_at_once(mesh))
}

/// All Gateways that are needed and not there, sorted by namespace and name.
pub fn waypoints_to_come(mesh: &Mesh, needs: &WaypointNeeds) -> Vec<RecommendedWaypoint> {
    waypoints(mesh, needs, true)
}

fn waypoints(mesh: &Mesh, needs: &WaypointNeeds, of_labels: bool) -> Vec<RecommendedWaypoint> {
    let mut wanted: BTreeMap<ObjectName, Vec<ServiceId>> = BTreeMap::new();
    for (id, _) in needs.required() {
        let service = mesh.service(id);
        let namespace = &service.name.namespace;
        let name = match placement(mesh, service) {
            Placement::Missing => free_name(mesh, namespace),
            Placement::Broken {
                wanted,
                reason: BindingFault::Missing,
            } if wanted.namespace == *namespace && of_labels => wanted,
            _ => continue,
        };
        wanted.entry(name).or_default().push(id);
    }
    wanted
        .into_iter()
        .map(|(name, services)| RecommendedWaypoint {
            manifest: gateway(mesh, &name),
            name,
            services,
        })
        .collect()
}

/// Whether a waypoint that a label names already is used as soon as it is there, before its policies are. A label that
/// names no Gateway has no effect (istio pilot/pkg/serviceregistry/ambient/waypoints.go `fetchWaypointForTarget`).
pub fn is_used_at_once(mesh: &Mesh) -> bool {
    let mut callers = mesh.workloads.iter();
    mesh.distribution == Distribution::Solo
        || callers.any(|one| one.is_mesh_application() && one.has_mode(DataPlaneMode::Ambient))
        || mesh.services.iter().any(|one| one.ingress_uses_waypoint)
}

/// `waypoint`, unless another Gateway has that name (one for pod addresses, or no waypoint at all).
fn free_name(mesh: &Mesh, namespace: &str) -> ObjectName {
    let plain = ObjectName::new(namespace, "waypoint");
    let taken = mesh.waypoint_named(&plain).is_some()
        || mesh
            .traffic
            .others
            .iter()
            .any(|one| one.kind == Kind::Gateway && one.name == plain);
    if taken {
        ObjectName::new(namespace, "waypoint-for-services")
    } else {
        plain
    }
}

fn gateway(mesh: &Mesh, name: &ObjectName) -> Value {
    let mut metadata = json!({"name": name.name.as_str(), "namespace": name.namespace.as_str()});
    if let Some(revision) = revision(mesh, &name.namespace) {
        metadata["labels"] = json!({"istio.io/rev": revision.as_str()});
    }
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "Gateway",
        "metadata": metadata,
        "spec": {
            "gatewayClassName": "istio-waypoint",
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
        },
    })
}

/// The revision to write on the Gateway. Without one istiod takes the namespace's `istio.io/rev`,
/// which goes when its sidecars go, and then the default revision
/// (istio pkg/revisions/tag_watcher.go `IsMine`). So the label is written where the namespace names
/// a revision, and where no istiod is the default one.
fn revision(mesh: &Mesh, namespace: &str) -> Option<SmolStr> {
    if let Some(Injection::Revision(revision)) =
        mesh.namespaces.get(namespace).map(|one| &one.injection)
    {
        return Some(revision.clone());
    }
    let has_default = mesh.control_planes.is_empty()
        || mesh
            .control_planes
            .iter()
            .any(|one| one.revision == "default")
        || mesh.revision_tags.iter().any(|one| one.tag == "default");
    if has_default {
        return None;
    }
    mesh.workloads_in(namespace)
        .flat_map(|(_, workload)| &workload.generations)
        .find(|generation| {
            generation.mode == DataPlaneMode::Sidecar && !generation.revision.is_empty()
        })
        .map(|generation| generation.revision.clone())
        .or_else(|| mesh.control_planes.first().map(|one| one.revision.clone()))
}
