//! # Waypoint labels that lead nowhere
//!
//! ## What it finds
//! Services that need a waypoint, but whose `istio.io/use-waypoint` label opts them out (`none`),
//! or names a Gateway that does not serve them: another namespace's that does not admit theirs, one
//! for other traffic, one that is no waypoint. And labels that name a Gateway of their own namespace
//! which does not exist yet, where somebody would use it at once (callers in ambient mode, gateways
//! with `istio.io/ingress-use-waypoint`, sidecars of Solo).
//!
//! ## Why it matters
//! An object's own label hides its namespace's, and there is no fallback: the Service then has no
//! waypoint, its traffic goes straight to the pods, and nothing reports an error. A label that is
//! there before its Gateway takes effect the moment the Gateway does, before policies for it, and
//! before any that let it reach the pods.
//!
//! ## How to fix it
//! Remove or correct the label, or let the Gateway admit the namespace (`allowedRoutes` of its
//! HBONE listener) or serve Services (`istio.io/waypoint-for: service` or `all`). One that names a
//! Gateway which does not exist has no effect: take it away; phase `use-waypoints` labels what needs
//! the waypoint when it and its policies are there.
//!
//! ## Since and source
//! Istio 1.23 and later (`none`), 1.24 (`istio.io/use-waypoint-namespace`). istio
//! `pilot/pkg/serviceregistry/ambient/waypoints.go` (`fetchWaypointForTarget`).

use std::collections::BTreeMap;

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::waypoint::{BindingFault, BindingSource};
use crate::mesh::{Service, WaypointBinding};
use crate::needs::{Placement, is_used_at_once, placement};
use crate::phases::{Check, Context, wording};
use crate::snapshot::{Kind, ObjectName};

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
    let mut findings = too_early(context);
    let broken = context.needs().required().filter_map(|(id, _)| {
        let service = mesh.service(id);
        match placement(mesh, service) {
            Placement::OptedOut => Some(opted_out(service)),
            Placement::Broken { wanted, reason } => {
                let own_missing =
                    reason == BindingFault::Missing && wanted.namespace == service.name.namespace;
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
    });
    findings.extend(broken);
    findings
}

/// Labels that name a Gateway which is still to be made and that somebody would use at once, each once.
fn too_early(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    if !is_used_at_once(mesh) {
        return Vec::new();
    }
    let mut labels: BTreeMap<(Option<&ObjectName>, &ObjectName), Vec<&Service>> = BTreeMap::new();
    for (id, _) in context.needs().required() {
        let service = mesh.service(id);
        if let WaypointBinding::Broken {
            wanted,
            source,
            reason: BindingFault::Missing,
        } = &service.binding
            && wanted.namespace == service.name.namespace
        {
            let own = (*source == BindingSource::Object).then_some(&service.name);
            labels.entry((own, wanted)).or_default().push(service);
        }
    }
    let findings = labels.into_iter().map(|((own, wanted), services)| {
        let (holder, target) = match own {
            Some(name) => (
                format!("Service \"{name}\""),
                format!("service -n {} {}", name.namespace, name.name),
            ),
            None => (
                format!("Namespace \"{}\"", wanted.namespace),
                format!("namespace {}", wanted.namespace),
            ),
        };
        let finding = Finding::new(
            CHECK.code,
            Level::Recommendation,
            format!(
                "{holder} names the waypoint {wanted}, which does not exist: its label has no effect now, and takes \
                 effect before any policy the moment the waypoint is there; what needs the waypoint is labelled afterwards"
            ),
        );
        let finding = match own {
            Some(name) => finding.about(Kind::Service, name, Some(&services[0].origin)),
            None => {
                let name = ObjectName::new("", &wanted.namespace);
                finding.about(Kind::Namespace, &name, None)
            }
        };
        finding.remedy(Remedy::command(
            format!("kubectl label {target} istio.io/use-waypoint-"),
            format!("kubectl label {target} istio.io/use-waypoint={}", wanted.name),
        ))
    });
    findings.collect()
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
