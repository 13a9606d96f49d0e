//! # Services that would lose what a sidecar gives unasked
//!
//! ## What it finds
//! Services with HTTP or gRPC ports that nothing requires a waypoint for and that have none.
//!
//! ## Why it matters
//! A sidecar balances requests; ztunnel balances connections. Clients that keep connections open,
//! gRPC above all, then stay with one pod. HTTP metrics and traces come from proxies that see
//! requests; ztunnel reports connections only.
//!
//! ## How to fix it
//! Nothing has to be done. Where balancing by request or HTTP telemetry matters, choose a waypoint:
//! `--waypoint NAMESPACE/SERVICE`.
//!
//! ## Since and source
//! All releases. <https://istio.io/latest/docs/ambient/overview/>,
//! <https://istio.io/latest/docs/ambient/usage/waypoint/>.

use std::collections::BTreeMap;

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::Protocol;
use crate::needs::{Placement, placement};
use crate::phases::{Check, Context};
use crate::snapshot::{Kind, ObjectName};

pub(super) const CHECK: Check = Check {
    code: Code("CAST0305"),
    name: "",
    phase: Phase::DeployWaypoints,
    needs: &[],
    reads: &[Kind::Service],
    source: include_str!("advice.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let mut by_namespace: BTreeMap<&str, Vec<&crate::mesh::Service>> = BTreeMap::new();
    for (id, need) in &context.needs().by_service {
        let service = mesh.service(*id);
        if need.reasons.is_empty()
            && need.loses_request_balancing
            && !matches!(placement(mesh, service), Placement::Bound(_))
        {
            by_namespace
                .entry(&service.name.namespace)
                .or_default()
                .push(service);
        }
    }
    by_namespace
        .into_iter()
        .map(|(namespace, services)| {
            let mut finding = Finding::new(
                CHECK.code,
                Level::Note,
                format!(
                    "Namespace \"{namespace}\": without a waypoint, requests to these services are \
                     balanced by connection and HTTP telemetry ends; nothing requires one:"
                ),
            )
            .about(Kind::Namespace, &ObjectName::new("", namespace), None);
            for service in services {
                let grpc = service
                    .ports
                    .iter()
                    .any(|port| port.protocol == Protocol::Http2);
                finding.names.push(service.name.to_string());
                finding.details.push(format!(
                    "Service \"{}\" ({})",
                    service.name,
                    if grpc { "HTTP/2 or gRPC" } else { "HTTP" }
                ));
            }
            finding.remedy(Remedy::Advice(
                "choose a waypoint for a service with --waypoint NAMESPACE/SERVICE".to_owned(),
            ))
        })
        .collect()
}
