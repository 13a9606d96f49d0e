//! # Routing that only the callers' sidecars honour
//!
//! ## What it finds
//! VirtualServices, DestinationRules and routes in the namespace of a caller, for Services of another;
//! and those for hosts outside the mesh whose ServiceEntry has no waypoint.
//!
//! ## Why it matters
//! A sidecar applies what its own namespace says of a server. ztunnel routes nothing, and a waypoint
//! reads only its own namespace and the Service's. Timeouts, retries, splits and mirrors end; a host
//! outside is called in plaintext where a DestinationRule originated TLS, and past the egress gateway
//! where a VirtualService led through one.
//!
//! ## How to fix it
//! Move the object into the Service's namespace, where it holds for all callers. For hosts outside,
//! give the ServiceEntry a waypoint (label `istio.io/use-waypoint`) and keep its routing beside it; one
//! that no Service uses, because policies for a Gateway or a namespace's Services would apply to egress
//! too. Or leave the callers with their sidecars, and say so in a waiver: where TLS or an egress
//! gateway would be lost, the phase does not succeed before.
//!
//! ## Since and source
//! All releases. istio pilot/pkg/networking/core/listener_waypoint.go (`getVirtualServiceForWaypoint`),
//! pilot/pkg/model/push_context.go (`destinationRule`); istio issue 60781 (ServiceEntries).

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::needs::{Because, Unread, unread};
use crate::phases::{Check, Context, wording};
use crate::snapshot::Kind;

pub(super) const CHECK: Check = Check {
    code: Code("CAST0411"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[Kind::Service],
    reads: &[
        Kind::VirtualService,
        Kind::DestinationRule,
        Kind::ServiceEntry,
        Kind::HttpRoute,
        Kind::GrpcRoute,
        Kind::TlsRoute,
        Kind::TcpRoute,
        Kind::Gateway,
    ],
    source: include_str!("unread_routing.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    if !context.has_sidecars() {
        return Vec::new();
    }
    unread(context.mesh)
        .iter()
        .filter(|one| context.choice().includes(&one.object.name.namespace))
        .map(finding)
        .collect()
}

fn finding(one: &Unread) -> Finding {
    let object = &one.object;
    // What leaves in plaintext, or past the gateway that watches it, is no mere loss of comfort.
    let opens = one.originates_tls.is_some() || !one.led_through.is_empty();
    let mut finding = Finding::new(
        CHECK.code,
        if opens {
            Level::Recommendation
        } else {
            Level::Warning
        },
        format!(
            "{}/{} is honoured by the callers' sidecars only, and ends with them:",
            object.kind.row().name,
            object.name
        ),
    )
    .about(object.kind, &object.name, Some(&object.origin));
    if let Some((path, mode)) = &one.originates_tls {
        finding = finding
            .detail(format!(
                "{path}: {mode}: TLS is not originated any more, so that requests leave in plaintext."
            ))
            .fact("opens", "plaintext");
    }
    for host in &one.led_through {
        finding = finding
            .detail(format!(
                "Calls no longer pass {host}, they leave straight from the pods."
            ))
            .fact("opens", "egress");
    }
    let lines: Vec<String> = one
        .hosts
        .iter()
        .map(|(host, because)| match because {
            Because::Elsewhere(service) => format!(
                "Service {service}: its waypoint reads the namespace {} only.",
                service.namespace
            ),
            Because::NoWaypoint(entry) => {
                format!("{host}: ServiceEntry {entry} has no waypoint.")
            }
            Because::ElsewhereThanEntry(entry) => format!(
                "{host}: the waypoint of ServiceEntry {entry} reads the namespace {} only.",
                entry.namespace
            ),
            Because::Unknown => {
                format!(
                    "{host}: neither a Service nor in a ServiceEntry, so no waypoint can take it."
                )
            }
        })
        .collect();
    finding.details.extend(wording::few(&lines, 5));
    finding.names = one.hosts.iter().map(|(host, _)| host.to_string()).collect();
    let inside = one.hosts.iter().any(|(_, because)| !because.is_outside());
    let outside = one.hosts.iter().any(|(_, because)| because.is_outside());
    if inside {
        finding = finding.remedy(Remedy::Advice(
            "move routing into the namespace of the Service that it is for; there it holds for all callers".to_owned(),
        ));
    }
    if outside && !opens {
        finding = finding.remedy(Remedy::Advice(
            "give ServiceEntries that need routing a waypoint: label istio.io/use-waypoint, and the routing in the same \
             namespace"
                .to_owned(),
        ));
    }
    for (_, because) in &one.hosts {
        if let (true, Because::NoWaypoint(entry)) = (opens, because) {
            finding = finding.remedy(Remedy::Advice(format!(
                "before sidecars of namespace {} go: deploy a waypoint of its own for egress, then kubectl label \
                 serviceentry -n {} {} istio.io/use-waypoint=WAYPOINT; policies for the waypoint of Services do not \
                 apply there",
                entry.namespace, entry.namespace, entry.name
            )));
        }
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::testing::{read, run};

    const MESH: &str = "
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
kind: ServiceEntry
metadata: {name: api, namespace: shop}
spec: {hosts: [api.example.com], location: MESH_EXTERNAL, resolution: DNS, ports: [{number: 443, name: tls, protocol: TLS}]}
---
";

    fn said(objects: &str) -> Vec<(String, Vec<String>)> {
        let (mesh, _) = read(&format!("{MESH}{objects}"));
        run(&CHECK, &mesh)
            .findings
            .into_iter()
            .map(|one| (one.message, one.details))
            .collect()
    }

    #[test]
    fn routing_in_the_callers_namespace_is_lost_and_in_the_servers_it_is_not() {
        let rule = |namespace: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: retry, namespace: \
                 {namespace}}}\nspec: {{hosts: [web.shop.svc.cluster.local], http: [{{timeout: 1s, route: \
                 [{{destination: {{host: web.shop.svc.cluster.local}}}}]}}]}}\n"
            )
        };
        assert_eq!(said(&rule("shop")), []);
        assert_eq!(
            said(&rule("callers")),
            [(
                "VirtualService/callers/retry is honoured by the callers' sidecars only, and ends with them:".to_owned(),
                vec!["Service shop/web: its waypoint reads the namespace shop only.".to_owned()]
            )]
        );
    }

    #[test]
    fn a_mesh_wide_destination_rule_is_read_and_one_of_a_caller_is_not() {
        let rule = |namespace: &str| {
            format!(
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: all, namespace: \
                 {namespace}}}\nspec: {{host: '*.shop.svc.cluster.local', trafficPolicy: {{outlierDetection: {{}}}}}}\n"
            )
        };
        assert_eq!(said(&rule("istio-system")), []);
        assert_eq!(said(&rule("callers")).len(), 1);
    }

    #[test]
    fn tls_and_the_egress_gateway_end_for_hosts_outside_unless_their_entry_has_a_waypoint() {
        let objects = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: tls, namespace: shop}
spec: {host: api.example.com, trafficPolicy: {tls: {mode: SIMPLE}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: out, namespace: shop}
spec:
  hosts: [api.example.com]
  gateways: [mesh, egress]
  http: [{route: [{destination: {host: egress.istio-system.svc.cluster.local}}]}]
";
        let ends = "is honoured by the callers' sidecars only, and ends with them:";
        assert_eq!(
            said(objects),
            [
                (
                    format!("VirtualService/shop/out {ends}"),
                    vec![
                        "Calls no longer pass egress.istio-system.svc.cluster.local, they leave straight from the pods.".to_owned(),
                        "api.example.com: ServiceEntry shop/api has no waypoint.".to_owned()
                    ]
                ),
                (
                    format!("DestinationRule/shop/tls {ends}"),
                    vec![
                        "spec.trafficPolicy.tls.mode: SIMPLE: TLS is not originated any more, so that requests leave \
                         in plaintext."
                            .to_owned(),
                        "api.example.com: ServiceEntry shop/api has no waypoint.".to_owned()
                    ]
                ),
            ]
        );
        let waypoint = "---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/use-waypoint: waypoint}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
";
        assert_eq!(said(&format!("{objects}{waypoint}")), []);
    }

    #[test]
    fn what_sidecars_honoured_is_past_when_there_is_none() {
        let (mut mesh, _) = read(&format!(
            "{MESH}
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: tls, namespace: shop}}
spec: {{host: api.example.com, trafficPolicy: {{tls: {{mode: SIMPLE}}}}}}
"
        ));
        let result = run(&CHECK, &mesh);
        assert_eq!(result.findings[0].level, Level::Recommendation);
        mesh.workloads.clear();
        assert_eq!(run(&CHECK, &mesh).findings, []);
    }

    #[test]
    fn dead_routing_is_not_reported() {
        let dead = "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: gone, namespace: callers}
spec: {hosts: [gone.shop.svc.cluster.local, gone.shop], http: [{route: [{destination: {host: web.shop.svc.cluster.local}}]}]}
";
        assert_eq!(said(dead), []);
    }
}
