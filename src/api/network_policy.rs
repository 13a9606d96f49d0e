//! `networking.k8s.io/v1/NetworkPolicy`.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol_str::SmolStr;

use super::cluster::LabelSelector;

/// A NetworkPolicy without metadata.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkPolicy {
    /// Specification.
    pub spec: NetworkPolicySpec,
}

/// `spec`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicySpec {
    /// Which pods of its namespace.
    pub pod_selector: LabelSelector,
    /// `Ingress`, `Egress`; when empty: Ingress, and Egress if `egress` is there.
    pub policy_types: Vec<SmolStr>,
    /// What may come in.
    pub ingress: Vec<IngressRule>,
    /// What may go out; `None` when the field is absent.
    pub egress: Option<Vec<EgressRule>>,
}

/// One ingress rule; empty lists mean "any".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct IngressRule {
    /// Peers.
    pub from: Vec<Peer>,
    /// Ports.
    pub ports: Vec<PolicyPort>,
}

/// One egress rule; empty lists mean "any".
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EgressRule {
    /// Peers.
    pub to: Vec<Peer>,
    /// Ports.
    pub ports: Vec<PolicyPort>,
}

/// One peer: selectors or an address block.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Peer {
    /// Pods; with no namespace selector, of the policy's own namespace.
    pub pod_selector: Option<LabelSelector>,
    /// Namespaces.
    pub namespace_selector: Option<LabelSelector>,
    /// Addresses.
    pub ip_block: Option<AddressBlock>,
}

/// An address block with exceptions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AddressBlock {
    /// CIDR.
    pub cidr: SmolStr,
    /// CIDRs taken out.
    pub except: Vec<SmolStr>,
}

/// One port; absent number means every port.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyPort {
    /// Number or name.
    pub port: Option<Value>,
    /// Last number of a range.
    pub end_port: Option<u16>,
    /// `TCP` when empty.
    pub protocol: SmolStr,
}
