//! # Waypoints that are not ready
//!
//! ## What it finds
//! Waypoint Gateways that a Service needs or uses and that have no address yet, or that istiod has
//! not programmed.
//!
//! ## Why it matters
//! While a waypoint has no address, traffic goes straight to the pods: policies at the waypoint are
//! then not enforced, without any error. So no later step is taken until it is ready.
//!
//! ## How to fix it
//! Wait for it: `kubectl wait --for=condition=programmed gateway/waypoint -n NAMESPACE`. If it does
//! not become ready, `kubectl describe gateway` and the events of its Deployment say why (quota,
//! image pull, pod security, a revision that no istiod has). Where manifests are read, and not a
//! cluster, there is no status to look at; then this could not be checked.
//!
//! ## Since and source
//! All releases with ambient mode. istio `pilot/pkg/serviceregistry/ambient/waypoints.go`
//! (`gatewayToWaypointTransform`): a Gateway without addresses is no waypoint.

use std::collections::BTreeSet;

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::{Waypoint, WaypointId};
use crate::needs::{Placement, placement};
use crate::phases::{Check, Context};
use crate::snapshot::Kind;

pub(super) const CHECK: Check = Check {
    code: Code("CAST0302"),
    name: "",
    phase: Phase::DeployWaypoints,
    needs: &[],
    reads: &[Kind::Gateway, Kind::Service],
    source: include_str!("not_ready.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let waiting: BTreeSet<WaypointId> = context
        .needs()
        .by_service
        .iter()
        .filter_map(|(id, need)| match placement(mesh, mesh.service(*id)) {
            Placement::NotReady(waypoint)
                if !need.reasons.is_empty()
                    || mesh.service(*id).binding != crate::mesh::WaypointBinding::Unbound =>
            {
                Some(waypoint)
            }
            _ => None,
        })
        .collect();
    waiting
        .into_iter()
        .map(|id| finding(mesh.waypoint(id)))
        .collect()
}

fn finding(waypoint: &Waypoint) -> Finding {
    let name = &waypoint.name;
    let no_status = waypoint.programmed.is_none() && !waypoint.has_address;
    let finding = if no_status {
        Finding::new(
            CHECK.code,
            Level::Undecided,
            format!(
                "Gateway {name} has no status among the input, so nobody can tell whether it is ready"
            ),
        )
    } else {
        let why = match (waypoint.has_address, waypoint.programmed) {
            (false, _) => "it has no address",
            (true, _) => "istiod has not programmed it",
        };
        Finding::new(
            CHECK.code,
            Level::Recommendation,
            format!("Waypoint {name} is not ready: {why}. Wait until it is, then run again"),
        )
    };
    finding
        .about(Kind::Gateway, name, Some(&waypoint.origin))
        .remedy(Remedy::Advice(format!(
            "kubectl wait --for=condition=programmed gateway/{} -n {}",
            name.name, name.namespace
        )))
}
