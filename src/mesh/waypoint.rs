//! Waypoints, and who uses which.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use smol_str::SmolStr;

use super::workload::{Role, Workload};
use super::{Namespace, WaypointId, WorkloadId};
use crate::api::cluster::LabelSelector;
use crate::snapshot::{Kind, Labels, Object, ObjectName, Origin, Snapshot};

/// Which traffic a waypoint takes (`istio.io/waypoint-for`; default service).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TrafficType {
    /// Traffic to Services.
    Service,
    /// Traffic to pod addresses.
    Workload,
    /// Both.
    All,
    /// None.
    None,
}

/// From which namespaces a waypoint may be used (`allowedRoutes` of its HBONE listener).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedNamespaces {
    /// Its own; the default.
    Same,
    /// All.
    All,
    /// Those with these labels.
    Selector(LabelSelector),
}

/// One waypoint Gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Waypoint {
    /// Namespace and name of the Gateway.
    pub name: ObjectName,
    /// Gateway class: `istio-waypoint`, `istio-agentgateway-waypoint` …
    pub class: SmolStr,
    /// Labels.
    pub labels: Labels,
    /// Labels that istiod copies to its pods: `spec.infrastructure.labels`, else its own (istio
    /// pilot/pkg/config/kube/gatewaycommon/deploymentcontroller.go `extractInfrastructureMetadata`).
    pub infrastructure_labels: Labels,
    /// Where it was read.
    pub origin: Origin,
    /// Which traffic.
    pub traffic_type: TrafficType,
    /// From where.
    pub allowed: AllowedNamespaces,
    /// Whether `status.addresses` is there: without one nothing is sent to it.
    pub has_address: bool,
    /// Condition Programmed: `None` when the input has no status.
    pub programmed: Option<bool>,
    /// Service account of its pods (Gateway name, or the annotation
    /// `gateway.istio.io/service-account`).
    pub service_account: SmolStr,
    /// Its pods, when they were given.
    pub workload: Option<WorkloadId>,
}

impl Waypoint {
    /// Labels of a waypoint's pods: as read, or as istiod's template sets them
    /// (istio manifests/charts/istio-control/istio-discovery/files/waypoint.yaml).
    pub fn pod_labels(&self, mesh: &super::Mesh) -> Labels {
        match self.workload.map(|id| mesh.workload(id)) {
            Some(workload) => workload.generations[0].labels.clone(),
            None => [("istio.io/dataplane-mode", "none")]
                .into_iter()
                .chain(self.infrastructure_labels.iter())
                .chain([
                    (
                        "gateway.networking.k8s.io/gateway-name",
                        self.name.name.as_str(),
                    ),
                    (
                        "gateway.networking.k8s.io/gateway-class-name",
                        self.class.as_str(),
                    ),
                    ("gateway.istio.io/managed", "istio.io-mesh-controller"),
                ])
                .collect(),
        }
    }

    /// The SPIFFE principal of its pods, without `spiffe://`.
    pub fn principal(&self, trust_domain: &str) -> String {
        format!(
            "{trust_domain}/ns/{}/sa/{}",
            self.name.namespace, self.service_account
        )
    }

    /// Whether it takes traffic to Services.
    pub fn serves_services(&self) -> bool {
        matches!(self.traffic_type, TrafficType::Service | TrafficType::All)
    }

    /// Whether it is ready to take traffic as far as the input shows.
    pub fn is_ready(&self) -> bool {
        self.has_address && self.programmed != Some(false)
    }
}

/// Whose label decided a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BindingSource {
    /// The object's own label.
    Object,
    /// Its namespace's label.
    Namespace,
}

/// Which waypoint an object uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaypointBinding {
    /// No label.
    Unbound,
    /// `istio.io/use-waypoint: none`.
    OptedOut,
    /// A waypoint that takes its traffic.
    Bound {
        /// Which.
        waypoint: WaypointId,
        /// By whose label.
        source: BindingSource,
    },
    /// A label that leads nowhere: traffic goes straight to the pods.
    Broken {
        /// The waypoint that the label names.
        wanted: ObjectName,
        /// By whose label.
        source: BindingSource,
        /// Why: missing, not ready, not allowed from this namespace, other traffic type.
        reason: BindingFault,
    },
}

/// Why a `use-waypoint` label has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BindingFault {
    /// No such Gateway.
    Missing,
    /// The Gateway has no address yet.
    NotReady,
    /// `allowedRoutes` does not admit the namespace.
    NotAllowed,
    /// `istio.io/waypoint-for` is for other traffic.
    OtherTraffic,
    /// The Gateway is no waypoint.
    NotAWaypoint,
}

impl WaypointBinding {
    /// The waypoint in effect.
    pub fn waypoint(&self) -> Option<WaypointId> {
        match self {
            Self::Bound { waypoint, .. } => Some(*waypoint),
            _ => None,
        }
    }
}

/// Which traffic a binding is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Traffic {
    /// To a Service's address.
    ToServices,
    /// To a pod's address.
    ToPods,
}

/// Resolves `istio.io/use-waypoint` labels
/// (istio pilot/pkg/serviceregistry/ambient/waypoints.go `fetchWaypointForTarget`).
pub(super) struct Binder<'a> {
    pub(super) waypoints: &'a [Waypoint],
    pub(super) by_name: &'a BTreeMap<ObjectName, WaypointId>,
    /// Gateways of the Gateway API that are no waypoints.
    pub(super) other_gateways: &'a BTreeSet<ObjectName>,
    pub(super) namespaces: &'a BTreeMap<SmolStr, Namespace>,
}

impl Binder<'_> {
    /// The object's own label, else its namespace's; the two are never merged.
    pub(super) fn bind(
        &self,
        namespace: &str,
        labels: &Labels,
        traffic: Traffic,
    ) -> WaypointBinding {
        let of_namespace = self.namespaces.get(namespace).map(|one| &one.labels);
        let (labels, source) = match (labels.get(USE_WAYPOINT), of_namespace) {
            (Some(_), _) => (labels, BindingSource::Object),
            (None, Some(labels)) => (labels, BindingSource::Namespace),
            (None, None) => return WaypointBinding::Unbound,
        };
        let Some(name) = labels.get(USE_WAYPOINT) else {
            return WaypointBinding::Unbound;
        };
        if name == "none" {
            return WaypointBinding::OptedOut;
        }
        let wanted = ObjectName::new(
            labels.get(USE_WAYPOINT_NAMESPACE).unwrap_or(namespace),
            name,
        );
        let broken = |reason| WaypointBinding::Broken {
            wanted: wanted.clone(),
            source,
            reason,
        };
        let Some(id) = self.by_name.get(&wanted) else {
            return broken(if self.other_gateways.contains(&wanted) {
                BindingFault::NotAWaypoint
            } else {
                BindingFault::Missing
            });
        };
        let waypoint = &self.waypoints[id.0];
        if !waypoint.has_address {
            return broken(BindingFault::NotReady);
        }
        if !self.allows(waypoint, namespace) {
            return broken(BindingFault::NotAllowed);
        }
        let takes = match traffic {
            Traffic::ToServices => waypoint.serves_services(),
            Traffic::ToPods => matches!(
                waypoint.traffic_type,
                TrafficType::Workload | TrafficType::All
            ),
        };
        if takes {
            WaypointBinding::Bound {
                waypoint: *id,
                source,
            }
        } else {
            broken(BindingFault::OtherTraffic)
        }
    }

    fn allows(&self, waypoint: &Waypoint, namespace: &str) -> bool {
        match &waypoint.allowed {
            AllowedNamespaces::Same => waypoint.name.namespace == namespace,
            AllowedNamespaces::All => true,
            AllowedNamespaces::Selector(selector) => {
                let mut labels = self
                    .namespaces
                    .get(namespace)
                    .map(|one| one.labels.clone())
                    .unwrap_or_default();
                labels.set("kubernetes.io/metadata.name", namespace);
                selector.matches(&labels)
            }
        }
    }

    /// `istio.io/ingress-use-waypoint`: the Service's label wins over the namespace's.
    pub(super) fn ingress_uses_waypoint(&self, namespace: &str, labels: &Labels) -> bool {
        let of_namespace = self
            .namespaces
            .get(namespace)
            .and_then(|one| one.labels.get(INGRESS_USE_WAYPOINT));
        labels.get(INGRESS_USE_WAYPOINT).or(of_namespace) == Some("true")
    }
}

const USE_WAYPOINT: &str = "istio.io/use-waypoint";
const USE_WAYPOINT_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
const INGRESS_USE_WAYPOINT: &str = "istio.io/ingress-use-waypoint";

/// Every Gateway whose class is a waypoint's.
pub(super) fn build(snapshot: &Snapshot, workloads: &[Workload]) -> Vec<Waypoint> {
    let classes: BTreeMap<&str, &str> = snapshot
        .resources(Kind::GatewayClass)
        .iter()
        .filter_map(|class| {
            Some((
                class.metadata.name.as_str(),
                class.body.pointer("/spec/controllerName")?.as_str()?,
            ))
        })
        .collect();
    let class_labels: BTreeMap<&str, &Labels> = snapshot
        .resources(Kind::GatewayClass)
        .iter()
        .map(|class| (class.metadata.name.as_str(), &class.metadata.labels))
        .collect();
    let pods: BTreeMap<&ObjectName, WorkloadId> = workloads
        .iter()
        .enumerate()
        .filter_map(|(index, workload)| match &workload.role {
            Role::Waypoint(gateway) => Some((gateway, WorkloadId(index))),
            _ => None,
        })
        .collect();
    snapshot
        .resources(Kind::Gateway)
        .iter()
        .filter_map(|gateway| {
            let class = gateway.body.pointer("/spec/gatewayClassName")?.as_str()?;
            is_waypoint_class(class, classes.get(class).copied())
                .then(|| waypoint(gateway, class, class_labels.get(class).copied(), &pods))
        })
        .collect()
}

fn is_waypoint_class(class: &str, controller: Option<&str>) -> bool {
    class == "istio-waypoint"
        || class == "istio-agentgateway-waypoint"
        || controller == Some("istio.io/mesh-controller")
        || controller == Some("istio.io/agentgateway-waypoint-controller")
}

fn waypoint(
    gateway: &Object<Value>,
    class: &str,
    class_labels: Option<&Labels>,
    pods: &BTreeMap<&ObjectName, WorkloadId>,
) -> Waypoint {
    let name = gateway.object_name();
    // The Gateway's own label wins over its class's (`gatewayToWaypointTransform`).
    let waypoint_for = |labels: &'_ Labels| labels.get("istio.io/waypoint-for").map(SmolStr::from);
    let traffic_type = match waypoint_for(&gateway.metadata.labels)
        .or_else(|| class_labels.and_then(waypoint_for))
        .as_deref()
    {
        Some("workload") => TrafficType::Workload,
        Some("all") => TrafficType::All,
        Some("none") => TrafficType::None,
        _ => TrafficType::Service,
    };
    let listeners = gateway
        .body
        .pointer("/spec/listeners")
        .and_then(Value::as_array);
    let allowed = listeners
        .into_iter()
        .flatten()
        .find(|listener| listener["protocol"] == "HBONE" || listener["port"] == 15008)
        .and_then(|listener| listener.pointer("/allowedRoutes/namespaces"))
        .map_or(
            AllowedNamespaces::Same,
            |namespaces| match namespaces["from"].as_str() {
                Some("All") => AllowedNamespaces::All,
                Some("Selector") => AllowedNamespaces::Selector(
                    serde_json::from_value(namespaces["selector"].clone()).unwrap_or_default(),
                ),
                _ => AllowedNamespaces::Same,
            },
        );
    let has_address = gateway
        .body
        .pointer("/status/addresses")
        .and_then(Value::as_array)
        .is_some_and(|list| !list.is_empty());
    let programmed = gateway
        .body
        .pointer("/status/conditions")
        .and_then(Value::as_array)
        .and_then(|conditions| {
            conditions
                .iter()
                .find(|condition| condition["type"] == "Programmed")
        })
        .map(|condition| condition["status"] == "True");
    let infrastructure = gateway.body.pointer("/spec/infrastructure/labels");
    let infrastructure_labels = match infrastructure.and_then(Value::as_object) {
        Some(map) => super::policies::labels(map),
        None => gateway.metadata.labels.clone(),
    };
    Waypoint {
        class: class.into(),
        labels: gateway.metadata.labels.clone(),
        infrastructure_labels,
        origin: gateway.origin.clone(),
        traffic_type,
        allowed,
        has_address,
        programmed,
        service_account: gateway
            .metadata
            .annotations
            .get("gateway.istio.io/service-account")
            .unwrap_or(&name.name)
            .into(),
        workload: pods.get(&name).copied(),
        name,
    }
}
