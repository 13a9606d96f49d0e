//! What controllers do after a command: new pods in place of old ones, addresses for waypoints.
//!
//! In: a snapshot after a command. Out: the snapshot as a healthy cluster would show it a moment
//! later. Invariant: a new pod is made from its owner's template by the same injection and
//! enrolment rules that predict pods in `crate::mesh`, so the two cannot disagree.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::api::pod::{Condition, Container, EnvironmentVariable, Pod, PodAddress};
use crate::mesh::{DataPlaneMode, Mesh, MeshOverrides, OwnerKind, Role, Workload};
use crate::snapshot::{Kind, Metadata, Object, ObjectName, Origin, Snapshot};

/// Replaces the pods of an owner by as many new ones, as a rollout does.
pub(crate) fn replace_pods(
    snapshot: &mut Snapshot,
    kind: Kind,
    owner: &ObjectName,
    origin: &Origin,
) {
    let mesh = Mesh::build(snapshot, &MeshOverrides::default());
    let workload = mesh
        .workloads_in(&owner.namespace)
        .map(|(_, workload)| workload)
        .find(|workload| workload.name == *owner && kind_of(&workload.owner) == Some(kind));
    if let Some(workload) = workload {
        let old = pod_names(workload);
        replace(snapshot, &mesh, workload, &old, origin);
    }
}

/// Replaces these pods of a namespace, each by a new one of its owner's template.
pub(crate) fn replace_these_pods(
    snapshot: &mut Snapshot,
    namespace: &str,
    names: &[String],
    origin: &Origin,
) {
    let mesh = Mesh::build(snapshot, &MeshOverrides::default());
    for (_, workload) in mesh.workloads_in(namespace) {
        let mut old = pod_names(workload);
        old.retain(|pod| names.iter().any(|name| name == pod));
        replace(snapshot, &mesh, workload, &old, origin);
    }
}

fn pod_names(workload: &Workload) -> BTreeSet<&str> {
    workload
        .generations
        .iter()
        .flat_map(|generation| &generation.pods)
        .map(|pod| pod.name.as_str())
        .filter(|name| !name.is_empty())
        .collect()
}

fn replace(
    snapshot: &mut Snapshot,
    mesh: &Mesh,
    workload: &Workload,
    old: &BTreeSet<&str>,
    origin: &Origin,
) {
    if old.is_empty() {
        return;
    }
    let kind = kind_of(&workload.owner);
    let Some(template) = snapshot
        .owners
        .iter()
        .find(|one| {
            Kind::of(&one.api_version, &one.kind) == kind && one.object_name() == workload.name
        })
        .and_then(|one| one.body.template())
        .cloned()
    else {
        return;
    };
    for pod in &mut snapshot.pods {
        if pod.metadata.namespace == workload.name.namespace
            && old.contains(pod.metadata.name.as_str())
        {
            renew(
                pod,
                &template.metadata,
                &template.spec,
                workload,
                mesh,
                origin,
            );
        }
    }
}

fn kind_of(owner: &OwnerKind) -> Option<Kind> {
    match owner {
        OwnerKind::Deployment => Some(Kind::Deployment),
        OwnerKind::ReplicaSet => Some(Kind::ReplicaSet),
        OwnerKind::StatefulSet => Some(Kind::StatefulSet),
        OwnerKind::DaemonSet => Some(Kind::DaemonSet),
        OwnerKind::Job => Some(Kind::Job),
        OwnerKind::CronJob => Some(Kind::CronJob),
        OwnerKind::Rollout => Some(Kind::Rollout),
        OwnerKind::Pod => Some(Kind::Pod),
        OwnerKind::Other(_) => None,
    }
}

/// Labels that controllers, not templates, put on pods; a replaced pod keeps them.
const CONTROLLER_LABELS: [&str; 4] = [
    "pod-template-hash",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
];

fn renew(
    pod: &mut Object<Pod>,
    template: &Metadata,
    spec: &crate::api::pod::PodSpec,
    workload: &Workload,
    mesh: &Mesh,
    origin: &Origin,
) {
    let mut labels = template.labels.clone();
    for key in CONTROLLER_LABELS {
        if let Some(value) = pod.metadata.labels.get(key) {
            labels.set(key, value);
        }
    }
    pod.metadata.labels = labels;
    pod.metadata.annotations = template.annotations.clone();
    pod.origin = origin.clone();
    let node = pod.body.spec.node_name.clone();
    pod.body.spec = spec.clone();
    pod.body.spec.node_name = node;
    pod.body.status.phase = "Running".into();
    pod.body.status.conditions = vec![Condition {
        kind: "Ready".into(),
        status: "True".into(),
        ..Condition::default()
    }];
    if pod.body.status.pod_ips.is_empty() && !pod.body.status.pod_ip.is_empty() {
        pod.body.status.pod_ips = vec![PodAddress {
            ip: pod.body.status.pod_ip.clone(),
        }];
    }
    match workload.next_mode {
        DataPlaneMode::Sidecar => inject(pod, mesh),
        DataPlaneMode::Ambient => pod
            .metadata
            .annotations
            .set("ambient.istio.io/redirection", "enabled"),
        DataPlaneMode::None => {}
    }
}

/// What the injector adds, as far as the mesh model reads it.
fn inject(pod: &mut Object<Pod>, mesh: &Mesh) {
    pod.metadata
        .annotations
        .set("sidecar.istio.io/status", "{}");
    pod.metadata
        .labels
        .set("security.istio.io/tlsMode", "istio");
    let hbone = mesh
        .settings
        .proxy_metadata
        .get("ISTIO_META_ENABLE_HBONE")
        .is_some_and(|value| value == "true");
    let mut environment = Vec::new();
    if hbone {
        pod.metadata
            .labels
            .set("networking.istio.io/tunnel", "http");
        environment.push(EnvironmentVariable {
            name: "ISTIO_META_ENABLE_HBONE".into(),
            value: Some("true".into()),
        });
    }
    let image = mesh
        .control_planes
        .first()
        .map(|control_plane| format!("{}/proxyv2:{}", control_plane.hub, control_plane.tag))
        .unwrap_or_default();
    pod.body.spec.containers.push(Container {
        name: "istio-proxy".into(),
        image: image.into(),
        args: vec!["proxy".into(), "sidecar".into()],
        env: environment,
        ..Container::default()
    });
}

/// Lets controllers act on what was applied: every waypoint Gateway without an address gets one
/// and is programmed; every running pod that is enrolled and has no sidecar is captured.
pub fn settle(snapshot: &mut Snapshot) {
    program_waypoints(snapshot);
    capture_pods(snapshot);
}

fn program_waypoints(snapshot: &mut Snapshot) {
    let mesh = Mesh::build(snapshot, &MeshOverrides::default());
    let waiting: Vec<ObjectName> = mesh
        .waypoints
        .iter()
        .filter(|waypoint| !waypoint.has_address)
        .map(|waypoint| waypoint.name.clone())
        .collect();
    for gateway in snapshot.resources.entry(Kind::Gateway).or_default() {
        if waiting.contains(&gateway.object_name()) {
            gateway.body["status"] = programmed_status(&gateway.metadata);
        }
    }
}

fn programmed_status(metadata: &Metadata) -> Value {
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": kind});
    json!({
        "addresses": [{
            "type": "Hostname",
            "value": format!("{}.{}.svc.cluster.local", metadata.name, metadata.namespace),
        }],
        "conditions": [condition("Accepted"), condition("Programmed")],
    })
}

/// The CNI agent redirects enrolled pods without a restart
/// (istio cni/pkg/nodeagent; istio.io "Add workloads to the mesh").
fn capture_pods(snapshot: &mut Snapshot) {
    let mesh = Mesh::build(snapshot, &MeshOverrides::default());
    let mut ambient: BTreeSet<ObjectName> = BTreeSet::new();
    for workload in mesh
        .workloads
        .iter()
        .filter(|workload| workload.role == Role::Application)
    {
        for generation in workload
            .generations
            .iter()
            .filter(|one| one.mode != DataPlaneMode::Sidecar)
        {
            if workload.next_mode == DataPlaneMode::Ambient {
                ambient.extend(
                    generation
                        .pods
                        .iter()
                        .map(|pod| ObjectName::new(&workload.name.namespace, &pod.name)),
                );
            }
        }
    }
    for pod in &mut snapshot.pods {
        if ambient.contains(&pod.object_name()) {
            pod.metadata
                .annotations
                .set("ambient.istio.io/redirection", "enabled");
        } else if pod
            .metadata
            .annotations
            .get("sidecar.istio.io/status")
            .is_some()
        {
            pod.metadata
                .annotations
                .remove("ambient.istio.io/redirection");
        }
    }
}
