//! Pods and the objects that own them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol_str::SmolStr;

use super::cluster::LabelSelector;
use crate::snapshot::shared::Recent;
use crate::snapshot::{Labels, Metadata};

/// `v1/Pod` without metadata.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pod {
    /// Specification.
    pub spec: PodSpec,
    /// Status as the kubelet reported it.
    pub status: PodStatus,
}

/// `PodSpec` as far as it is used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
    /// As whom containers run that do not say so themselves.
    #[serde(skip_serializing_if = "SecurityContext::says_nothing")]
    pub security_context: SecurityContext,
    /// Containers.
    pub containers: Containers,
    /// Init containers; native sidecars live here.
    pub init_containers: Containers,
}

/// Containers of a pod: a list that equal pods, read one after the other, share.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Containers(Option<Arc<[Container]>>);

thread_local! {
    static RECENT: Recent<[Container]> = Recent::new();
}

impl Containers {
    /// Adds a container at the end.
    pub fn push(&mut self, container: Container) {
        let mut list = self.to_vec();
        list.push(container);
        *self = list.into();
    }

    /// Keeps the containers for which `keep` says so.
    pub fn retain(&mut self, keep: impl FnMut(&Container) -> bool) {
        let mut list = self.to_vec();
        list.retain(keep);
        *self = list.into();
    }
}

impl std::ops::Deref for Containers {
    type Target = [Container];
    fn deref(&self) -> &[Container] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<'a> IntoIterator for &'a Containers {
    type Item = &'a Container;
    type IntoIter = std::slice::Iter<'a, Container>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Vec<Container>> for Containers {
    fn from(list: Vec<Container>) -> Self {
        if list.is_empty() {
            return Self(None);
        }
        Self(Some(RECENT.with(|recent| recent.share(list))))
    }
}

impl<'de> Deserialize<'de> for Containers {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<Container>::deserialize(deserializer).map(Self::from)
    }
}

impl Serialize for Containers {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// One container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    /// As whom it runs.
    #[serde(skip_serializing_if = "SecurityContext::says_nothing")]
    pub security_context: SecurityContext,
    /// Requests and limits.
    pub resources: Resources,
}

/// As whom a container runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct SecurityContext {
    /// The user's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<i64>,
    /// The group's number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<i64>,
}

impl SecurityContext {
    fn says_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// One environment variable; `value` is absent when it comes from elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct EnvironmentVariable {
    /// Name.
    pub name: SmolStr,
    /// Literal value.
    pub value: Option<SmolStr>,
}

/// One declared port.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// What is reserved.
    pub requests: Labels,
    /// What is the most.
    pub limits: Labels,
}

/// `PodStatus` as far as it is used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodAddress {
    /// The address.
    pub ip: SmolStr,
}

/// A status condition.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodOwner {
    /// Specification.
    pub spec: PodOwnerSpec,
    /// Status counters.
    pub status: PodOwnerStatus,
}

/// Specification of an owner of pods.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
    /// How long a Deployment's new pod must be ready before it counts as available; absent means 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_ready_seconds: Option<i64>,
    /// After how long a Deployment's rollout counts as failed; absent means 600.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress_deadline_seconds: Option<i64>,
    /// How a Deployment replaces pods, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Value>,
    /// How a StatefulSet or DaemonSet replaces pods, as written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_strategy: Option<Value>,
    /// Whether a Deployment or an Argo Rollout leaves its pods as they are for now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    /// The pods that it owns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// The owner whose pod template an Argo Rollout takes for its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_ref: Option<WorkloadRef>,
}

impl PodOwnerSpec {
    /// Whether an Argo Rollout stops on its way until somebody promotes it: a pause without duration among the steps of
    /// a canary, or `autoPromotionEnabled: false` (Argo Rollouts, "Canary" and "BlueGreen").
    pub fn waits_for_promotion(&self) -> bool {
        let Some(strategy) = &self.strategy else {
            return false;
        };
        let steps = strategy.pointer("/canary/steps").and_then(Value::as_array);
        let mut steps = steps.into_iter().flatten();
        let is_endless =
            |step: &Value| step.get("pause").is_some_and(|it| it["duration"].is_null());
        strategy.pointer("/blueGreen/autoPromotionEnabled") == Some(&Value::Bool(false))
            || steps.any(is_endless)
    }
}

/// `Rollout.spec.workloadRef` (Argo Rollouts, "Migrating to Rollouts").
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkloadRef {
    /// Kind of the owner.
    pub kind: SmolStr,
    /// Its name, in the Rollout's namespace.
    pub name: SmolStr,
}

/// `CronJob.spec.jobTemplate`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct JobTemplate {
    /// The Job's specification.
    pub spec: Box<PodOwnerSpec>,
}

/// A pod template.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PodTemplate {
    /// Labels and annotations that pods will carry before injection.
    pub metadata: Metadata,
    /// Specification of the pods.
    pub spec: PodSpec,
}

/// Status counters of an owner.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
