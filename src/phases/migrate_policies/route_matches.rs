//! # Routes that a waypoint reads otherwise
//!
//! ## What it finds
//! VirtualServices for Services of the mesh with a match on who calls (`sourceLabels`,
//! `sourceNamespace`, `sourceSubnet`) or with a delegate; and Services that have both a VirtualService
//! and a Gateway API route.
//!
//! ## Why it matters
//! A sidecar compares such a match with itself. A waypoint drops every match with `sourceLabels`, and
//! compares `sourceNamespace` with its own namespace: a canary or an injected fault meant for some
//! callers is off for all, or on for all. Which of a VirtualService and a route wins is not defined.
//!
//! ## How to fix it
//! Tell callers apart by a header that they send, or by an AuthorizationPolicy on their principals.
//! Keep one kind of routing for a Service.
//!
//! ## Since and source
//! `sourceLabels` are dropped since Istio 1.25. istio pilot/pkg/networking/core/listener_waypoint.go
//! (`waypointInboundRoute`), pilot/pkg/networking/core/route/route.go (`sourceMatchHTTP`); istio issue
//! 51565; istio.io, "Ambient and the Gateway API".

use std::collections::{BTreeMap, BTreeSet};

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::needs::is_mesh_service;
use crate::phases::{Check, Context};
use crate::snapshot::{Kind, ObjectName};

pub(super) const CHECK: Check = Check {
    code: Code("CAST0412"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[Kind::Service],
    reads: &[
        Kind::VirtualService,
        Kind::HttpRoute,
        Kind::GrpcRoute,
        Kind::TlsRoute,
        Kind::TcpRoute,
    ],
    source: include_str!("route_matches.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    // Hosts of Services that a waypoint could serve.
    let hosts: BTreeMap<String, &ObjectName> = mesh
        .services
        .iter()
        .filter(|service| is_mesh_service(mesh, service))
        .map(|service| (service.host(), &service.name))
        .collect();
    let mut found = Vec::new();
    let mut by_service: BTreeMap<&ObjectName, BTreeSet<String>> = BTreeMap::new();
    for one in &mesh.traffic.virtual_services {
        let own: Vec<&ObjectName> = one
            .full_hosts
            .iter()
            .filter_map(|host| hosts.get(host.as_str()).copied())
            .filter(|service| service.namespace == one.name.namespace)
            .collect();
        if !one.on_mesh || own.is_empty() || !context.choice().includes(&one.name.namespace) {
            continue;
        }
        for service in own {
            by_service
                .entry(service)
                .or_default()
                .insert(format!("VirtualService {}", one.name));
        }
        if one.waypoint_differences.is_empty() {
            continue;
        }
        let mut finding = Finding::new(
            CHECK.code,
            Level::Warning,
            format!("VirtualService/{} means something else at a waypoint:", one.name),
        )
        .about(Kind::VirtualService, &one.name, Some(&one.origin))
        .remedy(Remedy::Advice(
            "tell callers apart by a header that they send, or by their principals in an AuthorizationPolicy".to_owned(),
        ));
        if let (Some(subject), Some((path, _))) =
            (&mut finding.subject, one.waypoint_differences.first())
        {
            subject.field = Some(path.to_string());
        }
        finding.details = one
            .waypoint_differences
            .iter()
            .map(|(path, field)| format!("{path}: {}", meaning(field)))
            .collect();
        found.push(finding);
    }
    for route in &mesh.traffic.routes {
        for parent in &route.parent_services {
            if let Some(routing) = by_service.get_mut(parent)
                && route.name.namespace == parent.namespace
            {
                routing.insert(format!("{} {}", route.kind.row().name, route.name));
            }
        }
    }
    for (service, routing) in by_service {
        let kinds: BTreeSet<&str> = routing
            .iter()
            .filter_map(|one| one.split(' ').next())
            .collect();
        if kinds.len() > 1 {
            let mut finding = Finding::new(
                CHECK.code,
                Level::Warning,
                format!(
                    "Service/{service} is routed by a VirtualService and by a Gateway API route; which one its \
                     waypoint follows is not defined:"
                ),
            )
            .about(
                Kind::Service,
                service,
                mesh.service_named(service).map(|(_, one)| &one.origin),
            );
            finding.details = routing.into_iter().collect();
            found.push(finding.remedy(Remedy::Advice(format!(
                "keep one kind of routing for Service {service}"
            ))));
        }
    }
    found
}

fn meaning(field: &str) -> &'static str {
    match field {
        "sourceLabels" => "the match is dropped: the route holds for no caller.",
        "sourceNamespace" => "compared with the waypoint's namespace, not the caller's.",
        "sourceSubnet" => "the waypoint sees no address of the caller.",
        "delegate" => "delegates are merged at waypoints only if they stand in the same namespace.",
        _ => "read otherwise.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::testing::{lines, read, run};

    const SERVER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: istio-proxy, image: istio/proxyv2:1.30.0, args: [proxy, sidecar]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: canary, namespace: shop}
spec:
  hosts: [web]
  http:
  - match: [{sourceLabels: {app: tester}}]
    route: [{destination: {host: web}}]
  - route: [{destination: {host: web}}]
";

    #[test]
    fn a_match_on_the_caller_is_named_with_its_field() {
        let (mesh, _) = read(SERVER);
        let result = run(&CHECK, &mesh);
        assert_eq!(
            lines(&result),
            [(
                Level::Warning,
                "VirtualService/shop/canary means something else at a waypoint:"
            )]
        );
        assert_eq!(
            result.findings[0].details,
            [
                "spec.http[0].match[0].sourceLabels: the match is dropped: the route holds for no caller."
            ]
        );
    }

    #[test]
    fn two_kinds_of_routing_for_one_service_are_named() {
        let route = "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec: {parentRefs: [{group: '', kind: Service, name: web}]}
";
        let (mesh, _) = read(&format!("{SERVER}{route}"));
        let result = run(&CHECK, &mesh);
        assert_eq!(result.findings.len(), 2);
        assert_eq!(
            result.findings[1].details,
            ["HTTPRoute shop/web", "VirtualService shop/canary"]
        );
    }

    #[test]
    fn a_virtual_service_of_a_gateway_is_not_for_waypoints() {
        let (mesh, _) =
            read(&SERVER.replace("hosts: [web]", "hosts: [web]\n  gateways: [ingress]"));
        assert_eq!(lines(&run(&CHECK, &mesh)), []);
    }
}
