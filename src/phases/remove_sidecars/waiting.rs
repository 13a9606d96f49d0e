//! # Sidecars that must stay until their Services use a waypoint
//!
//! ## What it finds
//!
//! Namespaces with sidecars in which a Service needs a waypoint and does not use it.
//!
//! ## Why it matters
//!
//! Without sidecars and without waypoint nothing checks requests: ztunnel drops ALLOW rules with
//! request fields and ignores DENY rules that have nothing else.
//!
//! ## How to fix it
//!
//! Finish the phase `use-waypoints` for the Services named.
//!
//! ## Since and source
//!
//! istio pilot/pkg/serviceregistry/ambient/authorization.go, ztunnel src/rbac.rs; istio issue 61126.

use std::collections::BTreeMap;

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::DataPlaneMode;
use crate::needs::{Placement, placement};
use crate::phases::{Check, Context, wording};
use crate::snapshot::{Kind, ObjectName};

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "",
    phase: Phase::RemoveSidecars,
    needs: &[Kind::Service],
    reads: &[Kind::Gateway, Kind::Namespace, Kind::AuthorizationPolicy],
    source: include_str!("waiting.rs"),
    find,
};

const CODE: Code = Code("CAST0701");

/// Services that need a waypoint and do not use it, by namespace of the pods behind them.
pub(super) fn unbound(context: &Context<'_>) -> BTreeMap<String, Vec<String>> {
    let mesh = context.mesh;
    let mut by_namespace: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (id, _) in context.needs().required() {
        let service = mesh.service(id);
        if matches!(placement(mesh, service), Placement::Bound(_)) {
            continue;
        }
        let mut namespaces: Vec<&str> = service
            .backends
            .iter()
            .map(|backend| mesh.workload(backend.workload))
            .filter(|workload| workload.has_mode(DataPlaneMode::Sidecar))
            .map(|workload| workload.name.namespace.as_str())
            .collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        for namespace in namespaces {
            by_namespace
                .entry(namespace.to_owned())
                .or_default()
                .push(service.name.to_string());
        }
    }
    by_namespace
}

fn find(context: &Context<'_>) -> Vec<Finding> {
    unbound(context)
        .into_iter()
        .map(|(namespace, services)| {
            let mut finding = Finding::new(
                CODE,
                Level::Recommendation,
                format!(
                    "Sidecars of namespace {namespace} must stay: {} without a waypoint in use: {}",
                    wording::count(services.len(), "Service"),
                    wording::first_few(&services, 5)
                ),
            )
            .about(Kind::Namespace, &ObjectName::new("", &namespace), None)
            .remedy(Remedy::Advice(format!(
                "finish phase use-waypoints for namespace {namespace}"
            )));
            finding.names = services;
            finding
        })
        .collect()
}
