//! Waypoints, and who uses which.

use smol_str::SmolStr;

use super::{WaypointId, WorkloadId};
use crate::api::cluster::LabelSelector;
use crate::snapshot::{Labels, ObjectName, Origin};

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
#[derive(Debug, Clone)]
pub struct Waypoint {
    /// Namespace and name of the Gateway.
    pub name: ObjectName,
    /// Gateway class: `istio-waypoint`, `istio-agentgateway-waypoint` …
    pub class: SmolStr,
    /// Labels.
    pub labels: Labels,
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
