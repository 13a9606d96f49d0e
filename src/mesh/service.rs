//! Services and which pods stand behind them, port by port.

use smol_str::SmolStr;

use super::{WaypointBinding, WorkloadId};
use crate::snapshot::{Labels, ObjectName, Origin};

/// What Istio takes a port's traffic for
/// (istio pkg/config/kube/conversion.go `ConvertProtocol`, pkg/config/protocol).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1, HTTP/2, gRPC, gRPC-web: attributes of requests are seen.
    Http,
    /// HTTP/2 or gRPC in particular: balanced by request only by a proxy.
    Http2,
    /// Declared TCP, TLS, HTTPS, Mongo, MySQL, Redis, or a well-known server-first port.
    Tcp,
    /// TLS or HTTPS: TCP with an SNI.
    Tls,
    /// Undeclared: sniffed.
    Unknown,
    /// UDP: not proxied.
    Udp,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Name; may be empty.
    pub name: SmolStr,
    /// Number clients dial.
    pub port: u16,
    /// What Istio takes it for.
    pub protocol: Protocol,
    /// `targetPort` as written, or the number.
    pub target: SmolStr,
    /// Port on every node, 0 for none.
    pub node_port: u16,
}

/// One workload generation behind a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// The workload.
    pub workload: WorkloadId,
    /// Index into its generations.
    pub generation: usize,
    /// Pods' port number for each port of the Service, in the Service's order; `None` where the
    /// pods declare no port of that name.
    pub target_ports: Vec<Option<u16>>,
    /// Whether all pods of the generation are behind the Service.
    pub all_pods: bool,
}

/// One Service.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Namespace and name.
    pub name: ObjectName,
    /// Labels.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
    /// Where it was read.
    pub origin: Origin,
    /// RFC 3339: of several Services on one pod port the oldest declares the protocol.
    pub created: Option<SmolStr>,
    /// `None` when endpoints are managed by hand.
    pub selector: Option<Labels>,
    /// `clusterIP: None`: clients dial pods.
    pub headless: bool,
    /// `type: ExternalName` with its target: unknown to ambient.
    pub external_name: Option<SmolStr>,
    /// Virtual addresses.
    pub addresses: Vec<SmolStr>,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// Who stands behind it, sorted.
    pub backends: Vec<Backend>,
    /// Which waypoint serves it, and by which label.
    pub binding: WaypointBinding,
    /// Whether gateways send to its waypoint (`istio.io/ingress-use-waypoint`).
    pub ingress_uses_waypoint: bool,
    /// `NodePort` or `LoadBalancer`, or external addresses: reachable from outside the mesh.
    pub exposed: Option<SmolStr>,
    /// Condition `istio.io/WaypointBound`: `Some((true|false, reason))` when istiod wrote one.
    pub bound_condition: Option<(bool, SmolStr)>,
}

impl Service {
    /// `orders.shop.svc.cluster.local`.
    pub fn host(&self) -> String {
        format!(
            "{}.{}.svc.cluster.local",
            self.name.name, self.name.namespace
        )
    }

    /// Whether it has a virtual address, so that a waypoint can serve it.
    pub fn has_virtual_address(&self) -> bool {
        !self.headless && self.external_name.is_none()
    }
}
