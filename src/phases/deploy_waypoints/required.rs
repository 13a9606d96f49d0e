//! # Services that need a waypoint
//!
//! ## What it finds
//! Services with mesh pods behind them that rely on something which only an HTTP proxy can do, and
//! that have no waypoint: authorization by HTTP attributes, action CUSTOM or AUDIT, JWT validation,
//! VirtualServices, DestinationRules, routes with the Service as parent, Wasm and Envoy extensions,
//! Telemetry for certain pods, ingress through a waypoint. Every reason is listed with its object. A
//! namespace default-deny, or a policy that names only identities, addresses and ports, is enforced
//! by ztunnel and is no reason.
//!
//! ## Why it matters
//! In ambient mode ztunnel carries connections, not requests. Without a waypoint an ALLOW rule with
//! HTTP attributes admits nobody, a DENY rule with them may deny nobody, CUSTOM rules are not
//! enforced at all, and routing rules are ignored.
//!
//! ## How to fix it
//! Apply the generated `recommended-waypoints.yaml`: one Gateway of class `istio-waypoint` for each
//! namespace. Nothing uses it yet: a later phase does that. A Service that needs none but should
//! have one is named with `--waypoint NAMESPACE/SERVICE`.
//!
//! ## Since and source
//! Istio 1.24 and later. What ztunnel can check: istio
//! `pilot/pkg/serviceregistry/ambient/authorization.go`; waypoints:
//! <https://istio.io/latest/docs/ambient/usage/waypoint/>.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{FILE, reason_words};
use crate::finding::{Code, Finding, Level, Phase, Remedy, Subject};
use crate::needs::{RecommendedWaypoint, recommended_waypoints};
use crate::phases::{Check, Context};
use crate::snapshot::{Kind, ObjectName};

pub(super) const CHECK: Check = Check {
    code: Code("CAST0301"),
    name: "",
    phase: Phase::DeployWaypoints,
    needs: &[Kind::Service],
    reads: &[
        Kind::Namespace,
        Kind::Pod,
        Kind::AuthorizationPolicy,
        Kind::RequestAuthentication,
        Kind::VirtualService,
        Kind::DestinationRule,
        Kind::Telemetry,
        Kind::WasmPlugin,
        Kind::TrafficExtension,
        Kind::EnvoyFilter,
        Kind::Gateway,
        Kind::HttpRoute,
        Kind::GrpcRoute,
        Kind::TlsRoute,
        Kind::TcpRoute,
    ],
    source: include_str!("required.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mut by_namespace: BTreeMap<String, Vec<RecommendedWaypoint>> = BTreeMap::new();
    for one in recommended_waypoints(context.mesh, context.needs()) {
        by_namespace
            .entry(one.name.namespace.to_string())
            .or_default()
            .push(one);
    }
    let mut findings: Vec<Finding> = by_namespace
        .into_iter()
        .map(|(namespace, waypoints)| recommendation(context, &namespace, &waypoints))
        .collect();
    for name in &context.needs().bad_choices {
        findings.push(
            Finding::new(
                CHECK.code,
                Level::Warning,
                format!(
                    "Service \"{name}\" was chosen with --waypoint, but no Service of that name has \
                     an address of its own and pods of the mesh behind it"
                ),
            )
            .about(Kind::Service, name, None),
        );
    }
    findings
}

fn recommendation(
    context: &Context<'_>,
    namespace: &str,
    waypoints: &[RecommendedWaypoint],
) -> Finding {
    let mut services: Vec<_> = waypoints.iter().flat_map(|one| &one.services).collect();
    services.sort();
    let mut finding = Finding::new(
        CHECK.code,
        Level::Recommendation,
        format!("Namespace \"{namespace}\" may require a waypoint for the following services:"),
    )
    .about(Kind::Namespace, &ObjectName::new("", namespace), None);
    finding.facts.insert(
        "services",
        services
            .iter()
            .map(|id| Value::from(context.mesh.service(**id).name.to_string()))
            .collect(),
    );
    for id in services {
        let service = context.mesh.service(*id);
        finding.names.push(service.name.to_string());
        for reason in &context.needs().by_service[id].reasons {
            finding.details.push(format!(
                "Service \"{}\" {}",
                service.name,
                reason_words(reason)
            ));
            finding
                .related
                .extend(reason.object.as_ref().map(|object| Subject {
                    kind: object.kind,
                    name: object.name.clone(),
                    field: reason.field.clone(),
                    origin: Some(object.origin.clone()),
                }));
        }
    }
    finding.related.sort();
    finding.related.dedup();
    for waypoint in waypoints {
        finding.remedies.push(Remedy::Apply {
            file: FILE,
            object: Subject {
                kind: Kind::Gateway,
                name: waypoint.name.clone(),
                field: None,
                origin: None,
            },
        });
    }
    finding
}
