//! Services and EndpointSlices.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use smol_str::SmolStr;

use super::pod::Condition;
use crate::snapshot::Labels;

/// `v1/Service` without metadata.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Specification.
    pub spec: ServiceSpec,
    /// Status; Istio writes `istio.io/WaypointBound` here.
    pub status: ServiceStatus,
}

/// `ServiceSpec` as far as it is used.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ClusterIP` when empty.
    #[serde(rename = "type")]
    pub kind: SmolStr,
    /// First address; `None` for headless Services.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: SmolStr,
    /// All addresses.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<SmolStr>,
    /// Which pods; absent when endpoints are managed by hand.
    pub selector: Option<Labels>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// For `ExternalName`.
    pub external_name: SmolStr,
    /// Whether pods count before they are ready.
    pub publish_not_ready_addresses: bool,
    /// Addresses outside the cluster that lead here.
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<SmolStr>,
}

/// One port of a Service.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Name; its prefix declares the protocol.
    pub name: SmolStr,
    /// Number.
    pub port: u16,
    /// Number or name of the pods' port; absent means the same number.
    pub target_port: Option<Value>,
    /// `TCP` when empty.
    pub protocol: SmolStr,
    /// Declares the protocol, before the name does.
    pub app_protocol: SmolStr,
    /// Port on every node, 0 for none.
    pub node_port: u16,
}

/// Status of a Service.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceStatus {
    /// Conditions.
    pub conditions: Vec<Condition>,
}

/// `discovery.k8s.io/v1/EndpointSlice` without metadata; its Service is named by the label
/// `kubernetes.io/service-name`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Ports, for all endpoints of the slice.
    pub ports: Vec<EndpointPort>,
}

/// One endpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Addresses.
    pub addresses: Vec<SmolStr>,
    /// The pod behind it.
    pub target_ref: Option<TargetReference>,
}

/// `endpoint.targetRef`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetReference {
    /// `Pod`.
    pub kind: SmolStr,
    /// Namespace.
    pub namespace: SmolStr,
    /// Name.
    pub name: SmolStr,
}

/// One port of an EndpointSlice.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointPort {
    /// Name of the Service port.
    pub name: SmolStr,
    /// Number at the endpoint; 0 when absent.
    pub port: u16,
}
