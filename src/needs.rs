//! Which Services need a waypoint, and every reason.
//!
//! In: a [`Mesh`] and what the user chose. Out: [`WaypointNeeds`]. Invariant: only Services with
//! pods of the mesh behind them count; gateways, system namespaces and istiod never do. A policy
//! that ztunnel enforces as it stands (layer 4, a default-deny) is no reason.

mod attach;
mod gateway;
mod placement;
pub(crate) mod policies;
pub(crate) mod routing;
mod unread;

use std::collections::{BTreeMap, BTreeSet};

use crate::mesh::{Mesh, ObjectReference, Protocol, Service, ServiceId, WorkloadId};
use crate::snapshot::ObjectName;

pub use attach::{Coverage, coverage, coverage_of_any, covers_pods, is_generated};
pub use gateway::{RecommendedWaypoint, is_used_at_once, recommended_waypoints, waypoints_to_come};
pub use placement::{Placement, placement};
pub use unread::{Because, Unread, unread};

/// Label on every object that castoff generates: what it is (`copy`, `guard`, `hbone`).
pub const GENERATED_LABEL: &str = "castoff.dev/generated";

/// What a user chose that bears on needs.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// Services that get a waypoint although nothing requires it.
    pub chosen_waypoints: &'a BTreeSet<ObjectName>,
    /// Only these namespaces are migrated; empty: all.
    pub namespaces: &'a BTreeSet<String>,
    /// EnvoyFilters are translated.
    pub enterprise: bool,
}

impl Choice<'_> {
    /// Whether objects of a namespace are migrated.
    pub fn includes(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }
}

/// Why a Service needs a waypoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// The object that only a proxy can honour; `None` when the user chose the waypoint.
    pub object: Option<ObjectReference>,
    /// Field of the object that decides, where one does.
    pub field: Option<String>,
    /// In a few words, for a report: `HTTP attributes (methods, paths)`; may be empty.
    pub why: String,
}

/// One Service that needs a waypoint, or would be better off with one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceNeed {
    /// Why it needs one, in the order of kinds and names. Empty: nothing requires it.
    pub reasons: Vec<Reason>,
    /// Whether its HTTP requests are balanced one by one now, and by connection without a waypoint.
    pub loses_request_balancing: bool,
}

/// Something that needs a waypoint which no Service's waypoint can give.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unservable {
    /// The headless Service, or the workload that has no Service with an address.
    pub subject: UnservableSubject,
    /// What needs a proxy there.
    pub reasons: Vec<Reason>,
}

/// See [`Unservable`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum UnservableSubject {
    /// A Service without an address of its own: its clients dial pods.
    Headless(ServiceId),
    /// `ExternalName` that names a Service of the mesh: ambient does not know it.
    ExternalName(ServiceId),
    /// Pods that no Service with an address stands in front of.
    NoService(WorkloadId),
}

/// Which Services need a waypoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WaypointNeeds {
    /// Services with mesh pods behind them and an address that a waypoint can take over.
    pub by_service: BTreeMap<ServiceId, ServiceNeed>,
    /// What cannot be served, sorted.
    pub unservable: Vec<Unservable>,
    /// Chosen Services (`--waypoint`) that do not exist or cannot have a waypoint.
    pub bad_choices: Vec<ObjectName>,
}

impl WaypointNeeds {
    /// Whether something requires a waypoint for this Service.
    pub fn requires(&self, service: ServiceId) -> bool {
        self.by_service
            .get(&service)
            .is_some_and(|need| !need.reasons.is_empty())
    }

    /// Services that require one, in order.
    pub fn required(&self) -> impl Iterator<Item = (ServiceId, &ServiceNeed)> {
        self.by_service
            .iter()
            .filter(|(_, need)| !need.reasons.is_empty())
            .map(|(id, need)| (*id, need))
    }
}

/// Whether a Service belongs to the migration: pods of mesh applications stand behind it.
pub fn is_mesh_service(mesh: &Mesh, service: &Service) -> bool {
    !is_system(mesh, &service.name.namespace)
        && service
            .backends
            .iter()
            .any(|backend| mesh.workload(backend.workload).is_mesh_application())
}

/// Whether a namespace is never migrated.
pub(crate) fn is_system(mesh: &Mesh, namespace: &str) -> bool {
    mesh.namespaces
        .get(namespace)
        .is_some_and(|one| one.system || !one.discovered)
}

/// Works out which Services need a waypoint.
pub fn waypoint_needs(mesh: &Mesh, choice: &Choice<'_>) -> WaypointNeeds {
    let attached = attach::ByNamespace::new(mesh);
    let routes = routing::ByHost::new(mesh);
    let mut needs = WaypointNeeds::default();
    for (index, service) in mesh.services.iter().enumerate() {
        let id = ServiceId(index);
        if !choice.includes(&service.name.namespace) || !is_mesh_service(mesh, service) {
            continue;
        }
        let mut reasons = policies::reasons(mesh, &attached, service);
        reasons.extend(routing::reasons(&routes, service));
        if choice.chosen_waypoints.contains(&service.name) {
            reasons.push(Reason {
                object: None,
                field: None,
                why: "chosen with --waypoint".to_owned(),
            });
        }
        reasons.sort();
        reasons.dedup();
        if service.has_virtual_address() {
            let loses_request_balancing = service
                .ports
                .iter()
                .any(|port| matches!(port.protocol, Protocol::Http | Protocol::Http2));
            needs.by_service.insert(
                id,
                ServiceNeed {
                    reasons,
                    loses_request_balancing,
                },
            );
        } else if !reasons.is_empty() {
            let subject = if service.headless {
                UnservableSubject::Headless(id)
            } else {
                UnservableSubject::ExternalName(id)
            };
            needs.unservable.push(Unservable { subject, reasons });
        }
    }
    for (index, workload) in mesh.workloads.iter().enumerate() {
        let id = WorkloadId(index);
        if !choice.includes(&workload.name.namespace)
            || is_system(mesh, &workload.name.namespace)
            || !workload.is_mesh_application()
            || workload.idle
            || mesh.services_of(id).next().is_some()
        {
            continue;
        }
        let mut reasons = policies::reasons_on_pods(mesh, &attached, id);
        reasons.sort();
        reasons.dedup();
        if !reasons.is_empty() {
            needs.unservable.push(Unservable {
                subject: UnservableSubject::NoService(id),
                reasons,
            });
        }
    }
    needs.unservable.sort();
    needs.bad_choices = choice
        .chosen_waypoints
        .iter()
        .filter(|name| {
            mesh.service_named(name)
                .is_none_or(|(id, _)| !needs.by_service.contains_key(&id))
        })
        .cloned()
        .collect();
    needs
}
