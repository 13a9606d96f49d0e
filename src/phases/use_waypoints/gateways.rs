//! # A gateway goes past a waypoint
//!
//! ## What it finds
//!
//! Services that use their waypoint, that gateways send to (by VirtualService or Gateway API route),
//! and whose request policies were copied to the waypoint, without `istio.io/ingress-use-waypoint`.
//! Where gateways run and no route was given, every such Service.
//!
//! ## Why it matters
//!
//! A gateway sends straight to the pods. While these have sidecars the originals decide; once the
//! pods are ambient, ztunnel alone does, which refuses what an ALLOW rule with request fields let in
//! and lets in what a DENY rule with request fields refused.
//!
//! ## How to fix it
//!
//! Run the command: the gateway then sends to the waypoint. Where a VirtualService names both the
//! gateway and `mesh`, its rules are applied twice from then on.
//!
//! ## Since and source
//!
//! The label on a Service since Istio 1.24, on a namespace since 1.25; istio
//! pilot/pkg/xds/endpoints/endpoint_builder.go (`findServiceWaypoint`), istio issue 54994.

use std::collections::BTreeSet;

use crate::convert::Purpose;
use crate::finding::{Code, Finding, Level, Phase};
use crate::mesh::ingress::{Routed, routed};
use crate::mesh::{ControlPlane, ServiceId};
use crate::needs::{Placement, placement};
use crate::phases::commands::{LabelChange, label};
use crate::phases::{Check, Context, ownership};
use crate::snapshot::Kind;

/// The check.
pub(super) const CHECK: Check = Check {
    code: CODE,
    name: "",
    phase: Phase::UseWaypoints,
    needs: &[Kind::Service],
    reads: &[
        Kind::Gateway,
        Kind::VirtualService,
        Kind::HttpRoute,
        Kind::AuthorizationPolicy,
        Kind::RequestAuthentication,
    ],
    source: include_str!("gateways.rs"),
    find,
};

const CODE: Code = Code("CAST0504");
const INGRESS_USE_WAYPOINT: &str = "istio.io/ingress-use-waypoint";

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let mut control_planes = mesh.control_planes.iter();
    if !control_planes.all(ControlPlane::routes_gateways_through_waypoints) {
        // The label would change nothing: the proof sees gateways go past waypoints.
        return Vec::new();
    }
    let routed = routed(mesh);
    let mut found = Vec::new();
    for id in copied(context)
        .into_iter()
        .filter(|id| routed.contains(*id))
    {
        let service = mesh.service(id);
        let bound = matches!(placement(mesh, service), Placement::Bound(_));
        if !bound || service.ingress_uses_waypoint {
            continue;
        }
        let name = &service.name;
        let remedy = label(
            &format!("service -n {} {}", name.namespace, name.name),
            &[LabelChange::set(
                INGRESS_USE_WAYPOINT,
                service.labels.get(INGRESS_USE_WAYPOINT),
                "true",
            )],
        );
        let mut finding = Finding::new(
            CODE,
            Level::Recommendation,
            format!(
                "Gateways send to Service {name} past its waypoint. Let them use it with: {}",
                remedy.run_text()
            ),
        )
        .about(Kind::Service, name, Some(&service.origin))
        .remedy(remedy);
        if routed == Routed::Any {
            finding = finding.detail(
                "no route among the input shows what gateways send to; where they do not send to it, the label changes \
                 nothing",
            );
        }
        let host = service.host();
        for one in &mesh.traffic.virtual_services {
            let twice = one.on_mesh
                && !one.gateways.is_empty()
                && one.full_hosts.iter().any(|known| known.as_str() == host);
            if twice {
                finding = finding.detail(format!(
                    "VirtualService {} names a gateway and mesh: the waypoint applies it again to what the gateway \
                     sends",
                    one.name
                ));
            }
        }
        if let Some(line) = ownership::warning(
            &format!("Service {name}"),
            &service.labels,
            &service.annotations,
        ) {
            finding = finding.detail(line);
        }
        found.push(finding);
    }
    found
}

/// Services that some request policy was copied for.
fn copied(context: &Context<'_>) -> BTreeSet<ServiceId> {
    let policies = [Kind::AuthorizationPolicy, Kind::RequestAuthentication];
    context
        .conversion()
        .generated
        .iter()
        .filter(|one| policies.contains(&one.kind) && matches!(one.purpose, Purpose::Copy { .. }))
        .flat_map(|one| one.services.iter().copied())
        .collect()
}
