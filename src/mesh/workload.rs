//! Workloads: pods grouped by their topmost owner, and how their pods join the mesh.

use std::net::IpAddr;

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::Version;
use crate::api::pod::{ContainerPort, PodOwnerSpec};
use crate::snapshot::{Labels, ObjectName, Origin};

/// Kind of a pod's topmost owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnerKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// A ReplicaSet that no Deployment owns.
    ReplicaSet,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet.
    DaemonSet,
    /// `batch/v1` Job that no CronJob owns.
    Job,
    /// `batch/v1` CronJob.
    CronJob,
    /// `argoproj.io` Rollout.
    Rollout,
    /// A pod without owner.
    Pod,
    /// Any other, by kind name.
    Other(SmolStr),
}

/// The kind of an owner by its name.
pub(crate) fn owner_kind(kind: &str) -> OwnerKind {
    match kind {
        "Deployment" => OwnerKind::Deployment,
        "ReplicaSet" => OwnerKind::ReplicaSet,
        "StatefulSet" => OwnerKind::StatefulSet,
        "DaemonSet" => OwnerKind::DaemonSet,
        "Job" => OwnerKind::Job,
        "CronJob" => OwnerKind::CronJob,
        "Rollout" => OwnerKind::Rollout,
        "Pod" => OwnerKind::Pod,
        other => OwnerKind::Other(other.into()),
    }
}

/// What a workload is for. Only applications are migrated.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// An ordinary workload, in the mesh or not.
    Application,
    /// An Istio gateway: injected with the gateway template, or deployed with args `proxy router`.
    Gateway,
    /// Pods that istiod runs for a Kubernetes Gateway that is no waypoint; the Gateway's name.
    KubernetesGateway(ObjectName),
    /// Pods that istiod runs for a waypoint; the Gateway's name.
    Waypoint(ObjectName),
    /// istiod.
    ControlPlane,
    /// ztunnel.
    Ztunnel,
    /// The CNI agent.
    CniAgent,
}

impl Role {
    /// Whether it is a gateway, of whatever API.
    pub fn is_gateway(&self) -> bool {
        matches!(self, Self::Gateway | Self::KubernetesGateway(_))
    }
}

/// How pods take part in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataPlaneMode {
    /// An `istio-proxy` sidecar.
    Sidecar,
    /// Captured by ztunnel.
    Ambient,
    /// Outside the mesh.
    None,
}

/// How an owner comes to replace its pods when its template has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replacement {
    /// By itself.
    ByItself,
    /// Only where somebody deletes the old ones: ReplicaSets (kubernetes
    /// pkg/controller/replicaset/replica_set.go), and StatefulSets and DaemonSets with the update
    /// strategy `OnDelete`.
    WhenDeleted {
        /// Its pods, as `kubectl -l` takes them.
        selector: SmolStr,
    },
    /// Not, or not all of them: why, and what changes that, in words.
    Stopped(SmolStr),
}

impl Replacement {
    /// What the specification of an owner says.
    pub fn of(owner: &OwnerKind, name: &ObjectName, spec: &PodOwnerSpec) -> Self {
        let ObjectName {
            namespace,
            name: short,
        } = name;
        let strategy = spec.update_strategy.as_ref();
        let on_delete = strategy.is_some_and(|strategy| strategy["type"] == "OnDelete");
        let partition = strategy
            .and_then(|strategy| strategy.pointer("/rollingUpdate/partition"))
            .and_then(serde_json::Value::as_i64)
            .unwrap_or_default();
        if let Some(lender) = &spec.workload_ref {
            let lender = format!("{} {namespace}/{}", lender.kind, lender.name);
            return Self::Stopped(
                format!(
                    "Rollout {name} takes its pod template from {lender} (spec.workloadRef): write the template into the \
                     Rollout itself, and it can be planned, or change the labels there by hand"
                )
                .into(),
            );
        }
        match owner {
            OwnerKind::Deployment if spec.paused => Self::Stopped(
                format!(
                    "Deployment {name} is paused and replaces no pods: see what else would be rolled out, then \
                     `kubectl rollout resume deployment -n {namespace} {short}`"
                )
                .into(),
            ),
            OwnerKind::Rollout if spec.paused => Self::Stopped(
                format!(
                    "Rollout {name} is paused and replaces no pods: see what else would be rolled out, then \
                     `kubectl argo rollouts promote -n {namespace} {short}`"
                )
                .into(),
            ),
            OwnerKind::StatefulSet if !on_delete && partition > 0 => Self::Stopped(
                format!(
                    "StatefulSet {name} replaces only pods from number {partition} on \
                     (spec.updateStrategy.rollingUpdate.partition): set it to 0 first"
                )
                .into(),
            ),
            OwnerKind::StatefulSet | OwnerKind::DaemonSet if on_delete => {
                Self::when_deleted(owner, spec).unwrap_or_else(|| {
                    Self::Stopped(
                        format!(
                            "{name} replaces pods only where somebody deletes them (update strategy OnDelete), and its \
                             selector names them by more than labels: change its pod template and delete them by hand"
                        )
                        .into(),
                    )
                })
            }
            OwnerKind::ReplicaSet => Self::when_deleted(owner, spec).unwrap_or(Self::ByItself),
            _ => Self::ByItself,
        }
    }

    fn when_deleted(owner: &OwnerKind, spec: &PodOwnerSpec) -> Option<Self> {
        let selector = spec.selector.as_ref()?;
        let pairs = selector.match_labels.iter();
        let mut parts: Vec<String> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
        if parts.is_empty() || !selector.match_expressions.is_empty() {
            return None;
        }
        // A Deployment may have pods with the same labels, and they have this one besides (kubernetes
        // pkg/controller/deployment/sync.go, `getNewReplicaSet`); so may those of a ReplicaSet that it left.
        if *owner != OwnerKind::ReplicaSet {
            parts.push("!pod-template-hash".to_owned());
        }
        Some(Self::WhenDeleted {
            selector: parts.join(",").into(),
        })
    }

    /// The same of an owner whose pod template an Argo Rollout takes for its own.
    pub(super) fn lent(rollout: &ObjectName) -> Self {
        Self::Stopped(
            format!(
                "Rollout {rollout} takes its pod template for its own (spec.workloadRef): to change it is to replace the \
                 Rollout's pods"
            )
            .into(),
        )
    }
}

/// Containers that run as the user of the sidecar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AsProxy {
    /// None is known to.
    #[default]
    None,
    /// Some of several.
    Some,
    /// All.
    All,
}

/// The topmost owner and its pods.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Kind of the owner.
    pub owner: OwnerKind,
    /// `apiVersion` of the owner.
    pub owner_api_version: SmolStr,
    /// Namespace and name of the owner.
    pub name: ObjectName,
    /// What it is for.
    pub role: Role,
    /// Labels of the pod template; of the pods when no template was given.
    pub template_labels: Labels,
    /// Annotations of the pod template; of the pods when no template was given.
    pub template_annotations: Labels,
    /// Labels and annotations of the owner object (GitOps and Helm ownership).
    pub owner_labels: Labels,
    /// Annotations of the owner object.
    pub owner_annotations: Labels,
    /// Whether the owner's manifest was given: without it a template cannot be changed.
    pub has_template: bool,
    /// How its pods come to be replaced.
    pub replacement: Replacement,
    /// Whether that waits for people on its way: an Argo Rollout with a pause that has no end, or that promotes nothing
    /// by itself.
    pub waits_for_promotion: bool,
    /// Service account, `default` when unset.
    pub service_account: SmolStr,
    /// Whether its pods share the node's network.
    pub host_network: bool,
    /// Which of its containers, the sidecar's own aside, run as the user or group by which redirection knows the
    /// sidecar, so that what they send is not redirected to it.
    pub as_proxy: AsProxy,
    /// Ports that containers declare, sidecar excluded, sorted.
    pub ports: Vec<ContainerPort>,
    /// Ports that Prometheus scrapes at the pods' own addresses, with the monitor that says so:
    /// `PodMonitor shop/orders`.
    pub scraped: BTreeMap<u16, SmolStr>,
    /// Pods by how they run. Several while a rollout is under way. Never empty; sorted.
    pub generations: Vec<Generation>,
    /// What new pods will be, by the labels as they are now.
    pub next_mode: DataPlaneMode,
    /// Why: the label or rule that decides `next_mode`, in words for a report.
    pub next_mode_reason: SmolStr,
    /// Whether it is a gateway whose new pods get their proxy for the labels of their namespace alone: without these
    /// the injector's webhook passes them over.
    pub needs_namespace_label: bool,
    /// Whether no pod was given and the one generation was derived from the template.
    pub predicted: bool,
    /// Where the owner (or the pod) was read.
    pub origin: Origin,
    /// Desired pods, or pods seen.
    pub replicas: usize,
    /// Whether the owner wants no pods (scaled to 0).
    pub idle: bool,
}

/// Pods of one workload that run alike.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// Sidecar, ambient or none.
    pub mode: DataPlaneMode,
    /// Labels that select them, without `pod-template-hash` and the like.
    pub labels: Labels,
    /// Whether peers may send HBONE to the sidecar: label `networking.istio.io/tunnel=http` or env
    /// `ISTIO_META_ENABLE_HBONE=true`. True for ambient pods.
    pub accepts_hbone: bool,
    /// Whether the sidecar is a native one (an init container).
    pub native_sidecar: bool,
    /// Version of the sidecar's image.
    pub proxy_version: Option<Version>,
    /// Revision that injected the pods.
    pub revision: SmolStr,
    /// The pods; one entry without name when predicted.
    pub pods: Vec<PodState>,
}

/// One pod.
#[derive(Debug, Clone, PartialEq)]
pub struct PodState {
    /// Name; empty when predicted.
    pub name: SmolStr,
    /// Node; empty when unknown.
    pub node: SmolStr,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether the pod is ready.
    pub ready: bool,
    /// `ambient.istio.io/redirection`: `enabled`, `pending`, or empty.
    pub redirection: SmolStr,
    /// Where it was read.
    pub origin: Origin,
}

impl Workload {
    /// Whether any pod runs in this mode.
    pub fn has_mode(&self, mode: DataPlaneMode) -> bool {
        self.generations
            .iter()
            .any(|generation| generation.mode == mode)
    }

    /// Whether it is an application with pods in the mesh.
    pub fn is_mesh_application(&self) -> bool {
        self.role == Role::Application
            && (self.has_mode(DataPlaneMode::Sidecar) || self.has_mode(DataPlaneMode::Ambient))
    }

    /// The SPIFFE principal of its pods, without `spiffe://`.
    pub fn principal(&self, trust_domain: &str) -> String {
        format!(
            "{trust_domain}/ns/{}/sa/{}",
            self.name.namespace, self.service_account
        )
    }
}
