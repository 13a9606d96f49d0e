//! Which waypoint a Service has, will have once it is labelled, or lacks.
//!
//! In: the mesh and a Service. Out: [`Placement`]. Invariant: a label that leads nowhere is never
//! taken for a waypoint (istio pilot/pkg/serviceregistry/ambient/waypoints.go
//! `fetchWaypointForTarget`: no fallback to the namespace's waypoint).

use crate::mesh::waypoint::BindingFault;
use crate::mesh::{Mesh, Service, Waypoint, WaypointBinding, WaypointId};
use crate::snapshot::ObjectName;

/// Where a Service's waypoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// It uses this waypoint already.
    Bound(WaypointId),
    /// A waypoint for Services stands in its namespace, ready to be used by it.
    Deployed(WaypointId),
    /// A waypoint is there (used or not), but it has no address yet.
    NotReady(WaypointId),
    /// There is none.
    Missing,
    /// `istio.io/use-waypoint: none`.
    OptedOut,
    /// Its label names a waypoint that does not serve it.
    Broken {
        /// Which.
        wanted: ObjectName,
        /// Why not.
        reason: BindingFault,
    },
}

impl Placement {
    /// The waypoint, ready or not.
    pub fn waypoint(&self) -> Option<WaypointId> {
        match self {
            Self::Bound(id) | Self::Deployed(id) | Self::NotReady(id) => Some(*id),
            Self::Missing | Self::OptedOut | Self::Broken { .. } => None,
        }
    }
}

/// Where the waypoint of a Service is.
pub fn placement(mesh: &Mesh, service: &Service) -> Placement {
    match &service.binding {
        WaypointBinding::Bound { waypoint, .. } => ready(mesh, *waypoint, Placement::Bound),
        WaypointBinding::OptedOut => Placement::OptedOut,
        WaypointBinding::Unbound => candidate(mesh, &service.name.namespace)
            .map_or(Placement::Missing, |id| {
                ready(mesh, id, Placement::Deployed)
            }),
        WaypointBinding::Broken { wanted, reason, .. } => {
            match (reason, mesh.waypoint_named(wanted)) {
                (BindingFault::NotReady, Some((id, waypoint))) if waypoint.serves_services() => {
                    Placement::NotReady(id)
                }
                _ => Placement::Broken {
                    wanted: wanted.clone(),
                    reason: *reason,
                },
            }
        }
    }
}

fn ready(mesh: &Mesh, id: WaypointId, when_ready: fn(WaypointId) -> Placement) -> Placement {
    if mesh.waypoint(id).is_ready() {
        when_ready(id)
    } else {
        Placement::NotReady(id)
    }
}

/// The waypoint for Services in a namespace: the one named `waypoint`, else a ready one, else the
/// first by name.
fn candidate(mesh: &Mesh, namespace: &str) -> Option<WaypointId> {
    let named = mesh.waypoint_named(&ObjectName::new(namespace, "waypoint"));
    if let Some((id, waypoint)) = named
        && waypoint.serves_services()
    {
        return Some(id);
    }
    let first = mesh
        .waypoints
        .partition_point(|waypoint| waypoint.name.namespace.as_str() < namespace);
    let own = || {
        mesh.waypoints[first..]
            .iter()
            .take_while(|waypoint| waypoint.name.namespace == namespace)
            .enumerate()
            .filter(|(_, waypoint)| waypoint.serves_services())
    };
    own()
        .find(|(_, waypoint)| Waypoint::is_ready(waypoint))
        .or_else(|| own().next())
        .map(|(offset, _)| WaypointId(first + offset))
}
