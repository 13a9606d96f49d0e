//! # Waypoint labels that lead nowhere
//!
//! ## What it finds
//! Services that need a waypoint, but whose `istio.io/use-waypoint` label opts them out (`none`),
//! or names a Gateway that does not serve them: another namespace's that does not admit theirs, one
//! for other traffic, one that is no waypoint.
//!
//! ## Why it matters
//! An object's own label hides its namespace's, and there is no fallback: the Service then has no
//! waypoint, its traffic goes straight to the pods, and nothing reports an error.
//!
//! ## How to fix it
//! Remove or correct the label, or let the Gateway admit the namespace (`allowedRoutes` of its
//! HBONE listener) or serve Services (`istio.io/waypoint-for: service` or `all`).
//!
//! ## Since and source
//! Istio 1.23 and later (`none`), 1.24 (`istio.io/use-waypoint-namespace`). istio
//! `pilot/pkg/serviceregistry/ambient/waypoints.go` (`fetchWaypointForTarget`).

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::Service;
use crate::mesh::waypoint::BindingFault;
use crate::needs::{Placement, placement};
use crate::phases::{Check, Context, wording};
use crate::snapshot::Kind;

pub(super) const CHECK: Check = Check {
    code: Code("CAST0303"),
    name: "",
    phase: Phase::DeployWaypoints,
    needs: &[],
    reads: &[Kind::Gateway, Kind::Service, Kind::Namespace],
    source: include_str!("broken.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    context
        .needs()
        .required()
        .filter_map(|(id, _)| {
            let service = mesh.service(id);
            match placement(mesh, service) {
                Placement::OptedOut => Some(opted_out(service)),
                Placement::Broken { wanted, reason } => {
                    let own_missing = reason == BindingFault::Missing
                        && wanted.namespace == service.name.namespace;
                    (!own_missing).then(|| {
                        Finding::new(
                            CHECK.code,
                            Level::Recommendation,
                            format!(
                                "Service \"{}\" needs a waypoint and names {wanted}, but {}",
                                service.name,
                                wording::fault(reason)
                            ),
                        )
                        .about(Kind::Service, &service.name, Some(&service.origin))
                        .remedy(Remedy::Advice(
                            "correct the label istio.io/use-waypoint, or the Gateway that it names"
                                .to_owned(),
                        ))
                    })
                }
                _ => None,
            }
        })
        .collect()
}

fn opted_out(service: &Service) -> Finding {
    let own = service.labels.get("istio.io/use-waypoint").is_some();
    let finding = Finding::new(
        CHECK.code,
        Level::Recommendation,
        format!(
            "Service \"{}\" needs a waypoint, but {} label istio.io/use-waypoint=none keeps it from having one",
            service.name,
            if own { "its" } else { "its namespace's" }
        ),
    )
    .about(Kind::Service, &service.name, Some(&service.origin));
    let (target, name) = if own {
        (
            "service",
            format!("-n {} {}", service.name.namespace, service.name.name),
        )
    } else {
        ("namespace", service.name.namespace.to_string())
    };
    finding.remedy(Remedy::command(
        format!("kubectl label {target} {name} istio.io/use-waypoint-"),
        format!("kubectl label {target} {name} istio.io/use-waypoint=none"),
    ))
}
