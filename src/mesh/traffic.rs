//! Routing objects: VirtualServices, DestinationRules, Gateway API routes, Sidecars, Istio
//! gateways, ServiceEntries, WorkloadEntries, NetworkPolicies.

use std::sync::Arc;

use serde_json::Value;
use smol_str::SmolStr;

use super::{Mesh, WorkloadId};
use crate::api;
use crate::snapshot::{Kind, Labels, ObjectName, Origin};

/// All routing objects, each list sorted by namespace and name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Traffic {
    /// VirtualServices.
    pub virtual_services: Vec<VirtualService>,
    /// DestinationRules.
    pub destination_rules: Vec<DestinationRule>,
    /// HTTPRoute, GRPCRoute, TLSRoute, TCPRoute.
    pub routes: Vec<Route>,
    /// ServiceEntries.
    pub service_entries: Vec<ServiceEntry>,
    /// Objects of which only existence and shape matter, by kind: Sidecar, Gateway (Istio),
    /// WorkloadEntry, WorkloadGroup, ProxyConfig, ReferenceGrant, Gateway (not a waypoint), Ingress, IngressClass.
    pub others: Vec<PlainObject>,
    /// NetworkPolicies.
    pub network_policies: Vec<NetworkPolicy>,
}

/// A VirtualService.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualService {
    /// Namespace and name.
    pub name: ObjectName,
    /// Where it was read.
    pub origin: Origin,
    /// RFC 3339: the oldest of one host wins at sidecars.
    pub created: Option<SmolStr>,
    /// Hosts as written.
    pub hosts: Vec<SmolStr>,
    /// Hosts as full names (short names resolved in its namespace).
    pub full_hosts: Vec<SmolStr>,
    /// Whether it applies inside the mesh: no `gateways`, or `mesh` among them.
    pub on_mesh: bool,
    /// Gateways named, `mesh` excluded.
    pub gateways: Vec<SmolStr>,
    /// Field paths of things that a waypoint drops or reads otherwise (`sourceLabels`, …).
    pub waypoint_differences: Vec<(SmolStr, SmolStr)>,
    /// Destination hosts, full names, sorted.
    pub destinations: Vec<SmolStr>,
    /// Whether a route rewrites path or authority, or sets headers, before the server sees it.
    pub rewrites: bool,
    /// The object as read.
    pub raw: Arc<Value>,
    /// The object with the routes of its delegates in place of what names them.
    pub merged: Arc<Value>,
}

impl VirtualService {
    /// Whether it routes connections, not only requests.
    pub fn routes_connections(&self) -> bool {
        let spec = &self.raw["spec"];
        spec["tcp"].is_array() || spec["tls"].is_array()
    }
}

/// A DestinationRule.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationRule {
    /// Namespace and name.
    pub name: ObjectName,
    /// Where it was read.
    pub origin: Origin,
    /// Host as written.
    pub host: SmolStr,
    /// Host as a full name.
    pub full_host: SmolStr,
    /// Names of its subsets.
    pub subsets: Vec<SmolStr>,
    /// What only a proxy can apply: `loadBalancer`, `connectionPool`, `outlierDetection`, `tls` …,
    /// as field names found in any traffic policy, sorted.
    pub proxy_features: Vec<SmolStr>,
    /// TLS modes found, with their field paths.
    pub tls_modes: Vec<(SmolStr, SmolStr)>,
    /// `workloadSelector`, which waypoints ignore for Services.
    pub has_workload_selector: bool,
    /// The object as read.
    pub raw: Arc<Value>,
}

/// A Gateway API route.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// HTTPRoute, GRPCRoute, TLSRoute or TCPRoute.
    pub kind: Kind,
    /// Namespace and name.
    pub name: ObjectName,
    /// Where it was read.
    pub origin: Origin,
    /// Services named as parents (`parentRefs` of kind Service), with namespace.
    pub parent_services: Vec<ObjectName>,
    /// Gateways named as parents.
    pub parent_gateways: Vec<ObjectName>,
    /// Services that it sends to.
    pub backends: Vec<ObjectName>,
    /// The object as read.
    pub raw: Arc<Value>,
}

/// A ServiceEntry.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceEntry {
    /// Namespace and name.
    pub name: ObjectName,
    /// Where it was read.
    pub origin: Origin,
    /// Labels (`istio.io/use-waypoint`).
    pub labels: Labels,
    /// Hosts.
    pub hosts: Vec<SmolStr>,
    /// `MESH_EXTERNAL` unless it says MESH_INTERNAL.
    pub internal: bool,
    /// `NONE`, `STATIC`, `DNS`, …
    pub resolution: SmolStr,
    /// Ports: as dialled, and at the pods.
    pub ports: Vec<(u16, u16)>,
    /// Pods it selects.
    pub workload_selector: Option<Labels>,
    /// Workloads of its namespace with such pods, by id.
    pub workloads: Vec<WorkloadId>,
    /// The object as read.
    pub raw: Arc<Value>,
}

impl ServiceEntry {
    /// The waypoint that it names by its own or its namespace's label, where that exists.
    pub fn waypoint(&self, mesh: &Mesh) -> Option<ObjectName> {
        const USE_WAYPOINT: &str = "istio.io/use-waypoint";
        let labels = if self.labels.get(USE_WAYPOINT).is_some() {
            &self.labels
        } else {
            &mesh.namespaces.get(&self.name.namespace)?.labels
        };
        let name = labels.get(USE_WAYPOINT).filter(|name| *name != "none")?;
        let namespace = labels
            .get("istio.io/use-waypoint-namespace")
            .unwrap_or(&self.name.namespace);
        let (_, waypoint) = mesh.waypoint_named(&ObjectName::new(namespace, name))?;
        Some(waypoint.name.clone())
    }
}

/// An object of which only a little is used.
#[derive(Debug, Clone, PartialEq)]
pub struct PlainObject {
    /// Kind.
    pub kind: Kind,
    /// Namespace and name.
    pub name: ObjectName,
    /// Labels.
    pub labels: Labels,
    /// Where it was read.
    pub origin: Origin,
    /// The object as read.
    pub raw: Arc<Value>,
}

/// A NetworkPolicy.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkPolicy {
    /// Namespace and name.
    pub name: ObjectName,
    /// Where it was read.
    pub origin: Origin,
    /// Its labels.
    pub labels: Labels,
    /// What it says.
    pub spec: api::network_policy::NetworkPolicySpec,
}
