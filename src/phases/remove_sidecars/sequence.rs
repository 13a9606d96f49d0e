//! # Who calls what, before sidecars go
//!
//! ## What it finds
//!
//! On upstream Istio, Services that use a waypoint while workloads of the mesh still have sidecars.
//!
//! ## Why it matters
//!
//! An upstream sidecar sends straight to the pods. Once those are ambient, ztunnel alone decides on
//! its requests, and cannot check methods, paths, hosts, headers or tokens. Callers must leave their
//! sidecars before the servers whose request rules concern them.
//!
//! ## How to fix it
//!
//! Move callers first. Save the state before the migration and compare with `castoff verify`, which
//! names the request that would be let in or refused.
//!
//! ## Since and source
//!
//! All releases so far; istio pilot/pkg/xds/endpoints/endpoint_builder.go, istio issue 51445.

use crate::finding::{Code, Finding, Level, Phase};
use crate::mesh::Distribution;
use crate::phases::policy_simplification::migrated::workloads_with_sidecars;
use crate::phases::{Check, Context, wording};
use crate::snapshot::Kind;

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "",
    phase: Phase::RemoveSidecars,
    needs: &[Kind::Service],
    reads: &[Kind::Gateway, Kind::Pod],
    source: include_str!("sequence.rs"),
    find,
};

const CODE: Code = Code("CAST0703");

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let sidecars = workloads_with_sidecars(mesh);
    let bound: Vec<String> = mesh
        .services
        .iter()
        .filter(|service| service.binding.waypoint().is_some())
        .map(|service| service.name.to_string())
        .collect();
    if mesh.distribution != Distribution::Upstream || sidecars.is_empty() || bound.is_empty() {
        return Vec::new();
    }
    let mut finding = Finding::new(
        CODE,
        Level::Warning,
        format!(
            "{} with sidecars never use the {} of {}: move callers before the servers they call",
            wording::count(sidecars.len(), "workload"),
            if bound.len() == 1 {
                "waypoint"
            } else {
                "waypoints"
            },
            wording::count(bound.len(), "Service")
        ),
    );
    finding.details = vec![
        format!("with sidecars: {}", wording::first_few(&sidecars, 5)),
        format!("behind waypoints: {}", wording::first_few(&bound, 5)),
    ];
    finding.names = sidecars;
    vec![finding]
}
