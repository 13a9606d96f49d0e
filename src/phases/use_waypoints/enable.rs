//! # A waypoint is ready and not used
//!
//! ## What it finds
//!
//! Services that need a waypoint, have one that is ready and has all copies of their policies, and
//! do not use it. Where every Service of a namespace with pods in the mesh is in that state (or uses
//! it already), one label on the namespace does; else, and with `--per-service`, one a Service.
//!
//! ## Why it matters
//!
//! Until the label is set, requests of ambient callers go straight to the pods, where ztunnel cannot
//! check methods, paths, hosts, headers or tokens.
//!
//! ## How to fix it
//!
//! Run the command. From then on ambient callers go through the waypoint; upstream sidecars never
//! do, so server sidecars see the waypoint's identity for some callers and the callers' own for
//! others, and both must be allowed (that is what the `-from-waypoint` policies are for).
//!
//! ## Since and source
//!
//! All releases with ambient mode; the value `none` since 1.23, `istio.io/use-waypoint-namespace`
//! since 1.24. istio pilot/pkg/xds/endpoints/endpoint_builder.go (`findServiceWaypoint`), istio
//! issue 51445.

use std::collections::{BTreeMap, BTreeSet};

use crate::finding::{Code, Finding, Level, Phase};
use crate::mesh::{ServiceId, WaypointId};
use crate::needs::is_mesh_service;
use crate::needs::{Placement, placement};
use crate::phases::commands::{LabelChange, label};
use crate::phases::{Check, Context, ownership};
use crate::snapshot::Kind;

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "",
    phase: Phase::UseWaypoints,
    needs: &[Kind::Service],
    reads: &[Kind::Gateway, Kind::Namespace, Kind::AuthorizationPolicy],
    source: include_str!("enable.rs"),
    find,
};

const CODE: Code = Code("CAST0503");

pub(super) const USE_WAYPOINT: &str = "istio.io/use-waypoint";
const USE_WAYPOINT_NAMESPACE: &str = "istio.io/use-waypoint-namespace";

/// Whether a Service's waypoint is deployed and everything for it is applied.
pub(super) fn is_ready(context: &Context<'_>, id: ServiceId) -> bool {
    let service = context.mesh.service(id);
    matches!(placement(context.mesh, service), Placement::Deployed(_))
        && context.conversion().is_complete_for(id, &service.name)
}

/// Services of each namespace that are ready for their waypoint.
fn ready<'a>(context: &Context<'a>) -> BTreeMap<&'a str, Vec<(ServiceId, WaypointId)>> {
    let mesh = context.mesh;
    let mut by_namespace: BTreeMap<&str, Vec<(ServiceId, WaypointId)>> = BTreeMap::new();
    for (id, _) in context.needs().required() {
        let service = mesh.service(id);
        if let (Placement::Deployed(waypoint), true) =
            (placement(mesh, service), is_ready(context, id))
        {
            by_namespace
                .entry(&service.name.namespace)
                .or_default()
                .push((id, waypoint));
        }
    }
    by_namespace
}

/// The waypoint that one label on the namespace gives to all that are ready, where one does.
fn of_namespace(
    context: &Context<'_>,
    namespace: &str,
    ready: &[(ServiceId, WaypointId)],
) -> Option<WaypointId> {
    let waypoints: BTreeSet<WaypointId> = ready.iter().map(|(_, waypoint)| *waypoint).collect();
    let only = waypoints.first().filter(|_| waypoints.len() == 1)?;
    (!context.options.per_service && all_want_it(context, namespace, ready)).then_some(*only)
}

/// Namespaces that this check recommends to label as a whole, with their waypoints.
pub(super) fn of_namespaces<'a>(context: &Context<'a>) -> BTreeMap<&'a str, WaypointId> {
    let ready = ready(context).into_iter();
    ready
        .filter_map(|(namespace, ready)| {
            Some((namespace, of_namespace(context, namespace, &ready)?))
        })
        .collect()
}

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (namespace, ready) in ready(context) {
        match of_namespace(context, namespace, &ready) {
            Some(waypoint) => found.push(for_namespace(context, namespace, waypoint)),
            None => found.extend(
                ready
                    .iter()
                    .map(|(id, waypoint)| for_service(context, *id, *waypoint)),
            ),
        }
    }
    found
}

/// Whether every Service that the namespace's label would bind wants the waypoint.
fn all_want_it(context: &Context<'_>, namespace: &str, ready: &[(ServiceId, WaypointId)]) -> bool {
    let mesh = context.mesh;
    mesh.services.iter().enumerate().all(|(index, service)| {
        service.name.namespace != namespace
            || service.labels.get(USE_WAYPOINT).is_some()
            || !is_mesh_service(mesh, service)
            || ready.iter().any(|(id, _)| id.0 == index)
    })
}

fn changes(namespace: &str, waypoint: &crate::mesh::Waypoint) -> Vec<LabelChange> {
    let mut changes = vec![LabelChange::set(USE_WAYPOINT, None, &waypoint.name.name)];
    if waypoint.name.namespace != namespace {
        changes.push(LabelChange::set(
            USE_WAYPOINT_NAMESPACE,
            None,
            &waypoint.name.namespace,
        ));
    }
    changes
}

fn for_namespace(context: &Context<'_>, namespace: &str, waypoint: WaypointId) -> Finding {
    let mesh = context.mesh;
    let remedy = label(
        &format!("namespace {namespace}"),
        &changes(namespace, mesh.waypoint(waypoint)),
    );
    let command = remedy.run_text();
    let mut finding = Finding::new(
        CODE,
        Level::Recommendation,
        format!(
            "Detected namespace {namespace} requires a waypoint, but not configured to use one. \
             Configure it with: {command}"
        ),
    )
    .remedy(remedy);
    if let Some(known) = mesh.namespaces.get(namespace) {
        finding = finding.about(
            Kind::Namespace,
            &crate::snapshot::ObjectName::new("", namespace),
            known.origin.as_ref(),
        );
        if let Some(line) = ownership::warning(
            &format!("namespace {namespace}"),
            &known.labels,
            &known.annotations,
        ) {
            finding = finding.detail(line);
        }
    }
    finding
}

fn for_service(context: &Context<'_>, id: ServiceId, waypoint: WaypointId) -> Finding {
    let mesh = context.mesh;
    let service = mesh.service(id);
    let namespace = &service.name.namespace;
    let remedy = label(
        &format!("service -n {namespace} {}", service.name.name),
        &changes(namespace, mesh.waypoint(waypoint)),
    );
    let command = remedy.run_text();
    let mut finding = Finding::new(
        CODE,
        Level::Recommendation,
        format!(
            "Service {} requires a waypoint, but is not configured to use one. Configure it with: {command}",
            service.name
        ),
    )
    .about(Kind::Service, &service.name, Some(&service.origin))
    .remedy(remedy);
    if let Some(line) = ownership::warning(
        &format!("Service {}", service.name),
        &service.labels,
        &service.annotations,
    ) {
        finding = finding.detail(line);
    }
    finding
}
