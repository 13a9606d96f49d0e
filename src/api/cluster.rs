//! Objects of the cluster itself: nodes, configuration, webhooks, CRDs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::pod::Condition;
use crate::snapshot::Labels;

/// A kind of which only metadata is used.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Empty {}

/// `v1/Node` without metadata.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Status.
    pub status: NodeStatus,
    /// Specification.
    pub spec: NodeSpec,
}

/// `NodeSpec` as far as it is used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// `gce://…`, `aws://…`: tells the platform.
    #[serde(rename = "providerID")]
    pub provider_id: SmolStr,
}

/// `NodeStatus` as far as it is used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// Versions.
    pub node_info: NodeInfo,
}

/// `status.nodeInfo`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeInfo {
    /// `v1.34.4`.
    pub kubelet_version: SmolStr,
    /// `linux`, `windows`.
    pub operating_system: SmolStr,
}

/// `v1/ConfigMap` without metadata.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConfigMap {
    /// Text by key.
    pub data: BTreeMap<String, String>,
}

/// `MutatingWebhookConfiguration` without metadata.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct MutatingWebhookConfiguration {
    /// Webhooks.
    pub webhooks: Vec<Webhook>,
}

/// One webhook.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Webhook {
    /// Name.
    pub name: SmolStr,
    /// Which namespaces.
    pub namespace_selector: LabelSelector,
    /// Which objects.
    pub object_selector: LabelSelector,
}

/// A Kubernetes label selector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Pairs that must be there.
    pub match_labels: Labels,
    /// Further requirements.
    pub match_expressions: Vec<SelectorRequirement>,
}

/// One requirement of a selector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SelectorRequirement {
    /// The label.
    pub key: SmolStr,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`.
    pub operator: SmolStr,
    /// Values for `In` and `NotIn`.
    pub values: Vec<SmolStr>,
}

impl LabelSelector {
    /// Whether labels satisfy the selector; an unknown operator never does.
    pub fn matches(&self, labels: &Labels) -> bool {
        labels.selected_by(&self.match_labels)
            && self.match_expressions.iter().all(|requirement| {
                let value = labels.get(&requirement.key);
                let among =
                    || value.is_some_and(|value| requirement.values.iter().any(|one| one == value));
                match requirement.operator.as_str() {
                    "In" => among(),
                    "NotIn" => !among(),
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    _ => false,
                }
            })
    }
}

/// `CustomResourceDefinition` without metadata and schemas.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomResourceDefinition {
    /// Specification.
    pub spec: CustomResourceDefinitionSpec,
    /// Status.
    pub status: CustomResourceDefinitionStatus,
}

/// `spec` of a CRD.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomResourceDefinitionSpec {
    /// API group.
    pub group: SmolStr,
    /// Versions.
    pub versions: Vec<CustomResourceDefinitionVersion>,
}

/// One version of a CRD.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomResourceDefinitionVersion {
    /// `v1`.
    pub name: SmolStr,
    /// Whether the API server answers for it.
    pub served: bool,
}

/// `status` of a CRD.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomResourceDefinitionStatus {
    /// `Established` is used.
    pub conditions: Vec<Condition>,
}
