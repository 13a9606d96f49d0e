//! Pods and the objects that own them.

use serde::Deserialize;
use smol_str::SmolStr;

use crate::snapshot::{Labels, Metadata};

/// `v1/Pod` without metadata.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Specification.
    pub spec: PodSpec,
    /// Status as the kubelet reported it.
    pub status: PodStatus,
}

/// `PodSpec` as far as it is used.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// Service account; empty means `default`.
    pub service_account_name: SmolStr,
    /// The node, once scheduled.
    pub node_name: SmolStr,
    /// Whether the pod shares the node's network: never captured by ambient.
    pub host_network: bool,
    /// Hostname, for StatefulSet peers.
    pub subdomain: SmolStr,
    /// Containers.
    pub containers: Vec<Container>,
    /// Init containers; native sidecars live here.
    pub init_containers: Vec<Container>,
}

/// One container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Container {
    /// Name; the sidecar is `istio-proxy`.
    pub name: SmolStr,
    /// Image reference.
    pub image: SmolStr,
    /// Arguments; `proxy sidecar`, `proxy router`, `proxy waypoint` tell Istio proxies apart.
    pub args: Vec<SmolStr>,
    /// Environment.
    pub env: Vec<EnvironmentVariable>,
    /// Declared ports.
    pub ports: Vec<ContainerPort>,
    /// `Always` on an init container makes it a native sidecar.
    pub restart_policy: SmolStr,
    /// Requests and limits.
    pub resources: Resources,
}

/// One environment variable; `value` is absent when it comes from elsewhere.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct EnvironmentVariable {
    /// Name.
    pub name: SmolStr,
    /// Literal value.
    pub value: Option<SmolStr>,
}

/// One declared port.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Name, which a Service may use as targetPort.
    pub name: SmolStr,
    /// Number.
    pub container_port: u16,
    /// `TCP` when absent.
    pub protocol: SmolStr,
}

/// Requests and limits, as quantities in text (`100m`, `128Mi`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// What is reserved.
    pub requests: Labels,
    /// What is the most.
    pub limits: Labels,
}

/// `PodStatus` as far as it is used.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Running`, `Pending`, `Succeeded`, `Failed`.
    pub phase: SmolStr,
    /// First address.
    #[serde(rename = "podIP")]
    pub pod_ip: SmolStr,
    /// All addresses.
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodAddress>,
    /// Conditions; `Ready` is used.
    pub conditions: Vec<Condition>,
}

/// One entry of `status.podIPs`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodAddress {
    /// The address.
    pub ip: SmolStr,
}

/// A status condition.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Type.
    #[serde(rename = "type")]
    pub kind: SmolStr,
    /// `True`, `False`, `Unknown`.
    pub status: SmolStr,
    /// Machine-readable reason.
    pub reason: SmolStr,
    /// For people.
    pub message: SmolStr,
}

/// Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob or Argo Rollout.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodOwner {
    /// Specification.
    pub spec: PodOwnerSpec,
    /// Status counters.
    pub status: PodOwnerStatus,
}

/// Specification of an owner of pods.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodOwnerSpec {
    /// Desired pods; absent means 1 (or, for a DaemonSet, one a node).
    pub replicas: Option<i64>,
    /// The pod template; a CronJob has it one level deeper.
    pub template: Option<PodTemplate>,
    /// A CronJob's template of a Job.
    pub job_template: Option<JobTemplate>,
    /// The headless Service of a StatefulSet.
    pub service_name: SmolStr,
}

/// `CronJob.spec.jobTemplate`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct JobTemplate {
    /// The Job's specification.
    pub spec: Box<PodOwnerSpec>,
}

/// A pod template.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PodTemplate {
    /// Labels and annotations that pods will carry before injection.
    pub metadata: Metadata,
    /// Specification of the pods.
    pub spec: PodSpec,
}

/// Status counters of an owner.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodOwnerStatus {
    /// Deployments, ReplicaSets, StatefulSets.
    pub ready_replicas: i64,
    /// DaemonSets.
    pub desired_number_scheduled: i64,
    /// DaemonSets.
    pub number_ready: i64,
    /// Jobs that ended.
    pub succeeded: i64,
    /// Whether a Job has ended, and other conditions.
    pub conditions: Vec<Condition>,
}

impl PodOwner {
    /// The pod template, wherever the kind keeps it.
    pub fn template(&self) -> Option<&PodTemplate> {
        self.spec.template.as_ref().or_else(|| {
            self.spec
                .job_template
                .as_ref()
                .and_then(|job| job.spec.template.as_ref())
        })
    }
}
