//! # A waypoint must not be used yet
//!
//! ## What it finds
//!
//! Services that need a waypoint and whose label castoff does not recommend yet: the waypoint is
//! missing or has no address, a label leads nowhere, a copy of a policy is not applied, or a policy
//! could not be carried over.
//!
//! ## Why it matters
//!
//! A label that names a waypoint without address has no effect, and requests go past every request
//! rule. A label set before the copies are there leaves requests unchecked at the waypoint.
//!
//! ## How to fix it
//!
//! Do what the line names: wait for the Gateway's address, run the phases `deploy-waypoints` and
//! `migrate-policies` and apply what they wrote, or settle by hand what was refused.
//!
//! ## Since and source
//!
//! All releases with ambient mode; istio pilot/pkg/serviceregistry/ambient/waypoints.go,
//! ztunnel src/state.rs (`fetch_waypoint`).

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::needs::{Placement, placement};
use crate::phases::use_waypoints::enable::is_ready;
use crate::phases::{Check, Context, wording};
use crate::snapshot::Kind;

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "",
    phase: Phase::UseWaypoints,
    needs: &[Kind::Service],
    reads: &[Kind::Gateway, Kind::Namespace, Kind::AuthorizationPolicy],
    source: include_str!("refused.rs"),
    find,
};

const CODE: Code = Code("CAST0502");

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let mut found = Vec::new();
    for (id, _) in context.needs().required() {
        let service = mesh.service(id);
        let placed = placement(mesh, service);
        if matches!(placed, Placement::Bound(_)) || is_ready(context, id) {
            continue;
        }
        let why = match &placed {
            Placement::Missing => {
                "there is no waypoint for it: see phase deploy-waypoints".to_owned()
            }
            Placement::NotReady(waypoint) => format!(
                "waypoint {} has no address yet: kubectl wait --for=condition=programmed gateway/{} -n {}",
                mesh.waypoint(*waypoint).name,
                mesh.waypoint(*waypoint).name.name,
                mesh.waypoint(*waypoint).name.namespace
            ),
            Placement::OptedOut => "its label istio.io/use-waypoint=none opts it out".to_owned(),
            Placement::Broken { wanted, reason } => {
                format!(
                    "its label names waypoint {wanted}, but {}",
                    wording::fault(*reason)
                )
            }
            Placement::Bound(_) | Placement::Deployed(_) => unfinished(context, id),
        };
        found.push(
            Finding::new(
                CODE,
                Level::Recommendation,
                format!(
                    "Service {} requires a waypoint, but must not use one yet: {why}",
                    service.name
                ),
            )
            .about(Kind::Service, &service.name, Some(&service.origin))
            .remedy(Remedy::Advice(format!("Service {}: {why}", service.name))),
        );
    }
    found
}

/// What is not applied, or was refused, for a Service.
fn unfinished(context: &Context<'_>, id: crate::mesh::ServiceId) -> String {
    let service = context.mesh.service(id);
    let conversion = context.conversion();
    let missing: Vec<String> = conversion
        .to_apply()
        .filter(|one| one.services.contains(&id))
        .map(|one| format!("{}/{}", one.kind.row().name, one.name))
        .collect();
    if !missing.is_empty() {
        return format!(
            "not applied: {} (phase migrate-policies)",
            missing.join(", ")
        );
    }
    let refused: Vec<String> = conversion
        .refusals
        .iter()
        .filter(|refusal| refusal.service.as_ref() == Some(&service.name))
        .map(|refusal| format!("{} ({})", refusal.object.name, refusal.trap.name()))
        .collect();
    format!("not carried over: {}", refused.join(", "))
}
