//! # A waypoint that nothing uses
//!
//! ## What it finds
//!
//! Waypoint Gateways that no Service and no pod uses, neither by a label `istio.io/use-waypoint` of
//! its own nor by its namespace's.
//!
//! ## Why it matters
//!
//! Policies that target such a waypoint are enforced nowhere: traffic goes straight to the pods.
//!
//! ## How to fix it
//!
//! Label the Services or the namespace that need it, with the commands of this phase, or delete the
//! Gateway.
//!
//! ## Since and source
//!
//! All releases with ambient mode; istio pilot/pkg/serviceregistry/ambient/waypoints.go
//! (`fetchWaypointForTarget`).

use std::collections::BTreeSet;

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::WaypointId;
use crate::needs::placement;
use crate::phases::{Check, Context};
use crate::snapshot::Kind;

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "",
    phase: Phase::UseWaypoints,
    needs: &[],
    reads: &[Kind::Gateway, Kind::Service, Kind::Namespace],
    source: include_str!("unused.rs"),
    find,
};

const CODE: Code = Code("CAST0501");

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let used: BTreeSet<WaypointId> = mesh
        .services
        .iter()
        .filter_map(|service| service.binding.waypoint())
        .chain(mesh.workload_ids().flat_map(|id| {
            (0..mesh.workload(id).generations.len())
                .filter_map(move |generation| mesh.workload_binding(id, generation).waypoint())
        }))
        .collect();
    // A waypoint that this phase leads traffic to needs no advice besides.
    let wanted: BTreeSet<WaypointId> = context
        .needs()
        .required()
        .filter_map(|(id, _)| placement(mesh, mesh.service(id)).waypoint())
        .collect();
    mesh.waypoints
        .iter()
        .enumerate()
        .filter(|(index, waypoint)| {
            !used.contains(&WaypointId(*index))
                && context.choice().includes(&waypoint.name.namespace)
        })
        .map(|(index, waypoint)| {
            let finding = Finding::new(
                CODE,
                Level::Warning,
                format!(
                    "Warning: detected waypoint {} but it is not used by anything",
                    waypoint.name
                ),
            )
            .about(Kind::Gateway, &waypoint.name, Some(&waypoint.origin));
            if wanted.contains(&WaypointId(index)) {
                return finding;
            }
            finding.remedy(Remedy::Advice(format!(
                "label what should use waypoint {}, or delete its Gateway",
                waypoint.name
            )))
        })
        .collect()
}
