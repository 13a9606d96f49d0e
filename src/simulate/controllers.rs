//! What controllers do after a command: new pods in place of old ones, addresses for waypoints.
//!
//! In: a snapshot after a command. Out: the snapshot as a healthy cluster would show it a moment
//! later. Invariant: a new pod is made from its owner's template by the same injection and
//! enrolment rules that predict pods in `crate::mesh`, so the two cannot disagree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::api::pod::{Condition, Container, EnvironmentVariable, Pod, PodAddress, PodTemplate};
use crate::mesh::{
    DataPlaneMode, Mesh, MeshOverrides, NewPods, OwnerKind, Role, Waypoint, Workload,
};
use crate::snapshot::{Kind, Metadata, Object, ObjectName, Origin, Snapshot};

/// Pods that controllers are about to replace, each by a new one of its owner's template.
#[derive(Debug, Default)]
pub(super) struct Rollouts {
    owners: BTreeSet<(Kind, ObjectName)>,
    pods: BTreeSet<ObjectName>,
}

impl Rollouts {
    /// All pods of an owner.
    pub(super) fn of_owner(&mut self, kind: Kind, owner: ObjectName) {
        self.owners.insert((kind, owner));
    }

    /// One pod.
    pub(super) fn of_pod(&mut self, pod: ObjectName) {
        self.pods.insert(pod);
    }

    /// Whether pods of a namespace are among them.
    pub(super) fn are_in(&self, namespace: &str) -> bool {
        let owners = self.owners.iter().map(|(_, owner)| owner);
        owners
            .chain(&self.pods)
            .any(|name| name.namespace == namespace)
    }

    /// Replaces them. A pod whose owner was not read stays as it is.
    pub(super) fn finish(self, snapshot: &mut Snapshot) {
        if self.owners.is_empty() && self.pods.is_empty() {
            return;
        }
        let namespaces: BTreeSet<&str> = self
            .owners
            .iter()
            .map(|(_, owner)| owner)
            .chain(&self.pods)
            .map(|name| name.namespace.as_str())
            .collect();
        let mesh = NewPods::of(snapshot, &MeshOverrides::default(), |namespace| {
            namespaces.contains(namespace)
        });
        let mut new: BTreeMap<ObjectName, (&Workload, PodTemplate)> = BTreeMap::new();
        for workload in &mesh.workloads {
            let Some(kind) = kind_of(&workload.owner) else {
                continue;
            };
            let owner = (kind, workload.name.clone());
            let whole = self.owners.contains(&owner);
            let old: Vec<ObjectName> = pod_names(workload)
                .filter(|pod| whole || self.pods.contains(pod))
                .collect();
            if old.is_empty() {
                continue;
            }
            let template = snapshot
                .owner(kind, &workload.name)
                .and_then(|owner| owner.body.template());
            if let Some(template) = template {
                new.extend(
                    old.into_iter()
                        .map(|pod| (pod, (workload, template.clone()))),
                );
            }
        }
        for pod in &mut snapshot.pods {
            if let Some((workload, template)) = new.get(&pod.object_name()) {
                renew(pod, template, workload, &mesh);
            }
        }
    }
}

fn pod_names(workload: &Workload) -> impl Iterator<Item = ObjectName> {
    workload
        .generations
        .iter()
        .flat_map(|generation| &generation.pods)
        .filter(|pod| !pod.name.is_empty())
        .map(|pod| ObjectName::new(&workload.name.namespace, &pod.name))
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

/// Says that the CNI agent redirects a pod to ztunnel (istio pkg/constants, `AmbientRedirection`).
const REDIRECTION: &str = "ambient.istio.io/redirection";

/// Labels that controllers, not templates, put on pods; a replaced pod keeps them.
const CONTROLLER_LABELS: [&str; 4] = [
    "pod-template-hash",
    "controller-revision-hash",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
];

fn renew(pod: &mut Object<Pod>, template: &PodTemplate, workload: &Workload, mesh: &NewPods) {
    let mut labels = template.metadata.labels.clone();
    for key in CONTROLLER_LABELS {
        if let Some(value) = pod.metadata.labels.get(key) {
            labels.set(key, value);
        }
    }
    pod.metadata.labels = labels;
    pod.metadata.annotations = template.metadata.annotations.clone();
    pod.origin = Origin::Simulated;
    let body = Arc::make_mut(&mut pod.body);
    let node = std::mem::take(&mut body.spec.node_name);
    body.spec = template.spec.clone();
    body.spec.node_name = node;
    body.status.phase = "Running".into();
    body.status.conditions = vec![Condition {
        kind: "Ready".into(),
        status: "True".into(),
        ..Condition::default()
    }];
    if body.status.pod_ips.is_empty() && !body.status.pod_ip.is_empty() {
        body.status.pod_ips = vec![PodAddress {
            ip: body.status.pod_ip.clone(),
        }];
    }
    match workload.next_mode {
        DataPlaneMode::Sidecar => inject(pod, mesh),
        DataPlaneMode::Ambient => pod.metadata.annotations.set(REDIRECTION, "enabled"),
        DataPlaneMode::None => {}
    }
}

/// What the injector adds, as far as the mesh model reads it.
fn inject(pod: &mut Object<Pod>, mesh: &NewPods) {
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
    Arc::make_mut(&mut pod.body)
        .spec
        .containers
        .push(Container {
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
    let pods = NewPods::of(snapshot, &MeshOverrides::default(), |_| true);
    let waypoints = pods.waypoints(snapshot);
    act_on(snapshot, &pods.workloads, &waypoints);
}

/// Lets controllers act on a snapshot, of which `mesh` was made; whether they changed anything.
pub(crate) fn act(snapshot: &mut Snapshot, mesh: &Mesh) -> bool {
    act_on(snapshot, &mesh.workloads, &mesh.waypoints)
}

fn act_on(snapshot: &mut Snapshot, workloads: &[Workload], waypoints: &[Waypoint]) -> bool {
    let programmed = program_waypoints(snapshot, waypoints);
    capture_pods(snapshot, workloads) || programmed
}

fn program_waypoints(snapshot: &mut Snapshot, waypoints: &[Waypoint]) -> bool {
    let waiting: Vec<ObjectName> = waypoints
        .iter()
        .filter(|waypoint| !waypoint.has_address)
        .map(|waypoint| waypoint.name.clone())
        .collect();
    for gateway in snapshot.resources.entry(Kind::Gateway).or_default() {
        if waiting.contains(&gateway.object_name()) {
            Arc::make_mut(&mut gateway.body)["status"] = programmed_status(&gateway.metadata);
        }
    }
    !waiting.is_empty()
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
fn capture_pods(snapshot: &mut Snapshot, workloads: &[Workload]) -> bool {
    let mut ambient: BTreeSet<ObjectName> = BTreeSet::new();
    for workload in workloads
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
    let mut changed = false;
    for pod in &mut snapshot.pods {
        let captured = ambient.contains(&pod.object_name());
        let annotations = &mut pod.metadata.annotations;
        let known = annotations.get(REDIRECTION).is_some();
        if captured && !annotations.has(REDIRECTION, "enabled") {
            annotations.set(REDIRECTION, "enabled");
            changed = true;
        } else if !captured && known && annotations.get("sidecar.istio.io/status").is_some() {
            annotations.remove(REDIRECTION);
            changed = true;
        }
    }
    changed
}
