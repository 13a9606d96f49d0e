//! # Who calls what, before sidecars go
//!
//! ## What it finds
//!
//! For workloads with sidecars: Services that they may call, that need a waypoint for their routing
//! and use none yet. On upstream Istio also Services that use a waypoint while callers still have
//! sidecars. Who may call is read from the AuthorizationPolicies; without any, everyone may.
//!
//! ## Why it matters
//!
//! A request gets its routing (timeouts, retries, splits) from a sidecar at the caller or from a
//! waypoint before the server. A caller that leaves its sidecar before the server has a waypoint goes
//! without; the server's policies go on at its own sidecar. And an upstream sidecar sends straight to the
//! pods: once those are ambient, ztunnel alone decides on its requests, and cannot check methods, paths,
//! hosts, headers or tokens.
//!
//! ## How to fix it
//!
//! Enable the waypoints of the Services named before their callers leave their sidecars. On upstream
//! Istio move callers before the servers whose request rules concern them: `castoff plan` finds an order
//! and proves each step.
//!
//! ## Since and source
//!
//! All releases so far; istio pilot/pkg/xds/endpoints/endpoint_builder.go, istio issue 51445;
//! ambientmesh.io, "Sequencing waypoint enablement and sidecar removal".

use std::collections::{BTreeMap, BTreeSet};

use super::callers::{Callers, Directory};
use super::waiting::blocked;
use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::Distribution;
use crate::needs::{Placement, Reason, placement};
use crate::phases::policy_simplification::migrated::workloads_with_sidecars;
use crate::phases::{Check, Context, wording};
use crate::snapshot::{Kind, ObjectName};

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "",
    phase: Phase::RemoveSidecars,
    needs: &[Kind::Service],
    reads: &[Kind::Gateway, Kind::Pod, Kind::AuthorizationPolicy],
    source: include_str!("sequence.rs"),
    find,
};

const CODE: Code = Code("CAST0703");

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mut found = callers_of_unmigrated(context);
    found.extend(past_waypoints(context));
    found
}

/// Callers grouped by namespace and by the Services that they would reach without routing.
fn callers_of_unmigrated(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let directory = Directory::of(mesh);
    let servers: Vec<(&ObjectName, Callers)> = context
        .needs()
        .required()
        .filter(|(_, need)| need.reasons.iter().any(is_routing))
        .map(|(id, _)| mesh.service(id))
        .filter(|service| !matches!(placement(mesh, service), Placement::Bound(_)))
        .map(|service| (&service.name, directory.callers(service)))
        .collect();
    if servers.is_empty() {
        return Vec::new();
    }
    let stay = blocked(context);
    let mut found = Vec::new();
    for (namespace, clients) in directory.clients() {
        // Where sidecars must stay, nothing is lost yet.
        if stay.contains(namespace.as_str()) || !context.choice().includes(namespace) {
            continue;
        }
        let mut groups: BTreeMap<Vec<&ObjectName>, Vec<String>> = BTreeMap::new();
        for id in clients {
            let called: Vec<&ObjectName> = servers
                .iter()
                .filter(|(_, callers)| callers.include(*id))
                .map(|(name, _)| *name)
                .collect();
            if !called.is_empty() {
                groups
                    .entry(called)
                    .or_default()
                    .push(wording::workload(mesh.workload(*id)));
            }
        }
        for (called, clients) in groups {
            found.push(finding(namespace, &called, clients));
        }
    }
    found
}

fn finding(namespace: &str, called: &[&ObjectName], clients: Vec<String>) -> Finding {
    let servers: Vec<String> = called.iter().map(ToString::to_string).collect();
    let others: BTreeSet<&str> = called.iter().map(|name| name.namespace.as_str()).collect();
    let mut finding = Finding::new(
        CODE,
        Level::Warning,
        format!(
            "{} of namespace {namespace} may call {} whose routing ends with the callers' sidecars, because no \
             waypoint is in use for them yet:",
            wording::count(clients.len(), "workload"),
            wording::count(servers.len(), "Service")
        ),
    )
    .about(Kind::Namespace, &ObjectName::new("", namespace), None)
    .detail(format!("callers: {}", wording::first_few(&clients, 5)))
    .detail(format!("not migrated yet: {}", wording::first_few(&servers, 5)))
    .fact("callers", clients.clone())
    .fact("servers", servers)
    .remedy(Remedy::Advice(format!(
        "finish phase use-waypoints for {} before sidecars of their callers go",
        if others.len() == 1 { "namespace " } else { "namespaces " }.to_owned()
            + &others.into_iter().collect::<Vec<_>>().join(", ")
    )));
    finding.names = clients;
    finding
}

/// Whether a reason is one for the caller's side: what a server's own sidecar enforces goes on there.
fn is_routing(reason: &Reason) -> bool {
    reason.object.as_ref().is_some_and(|object| {
        matches!(
            object.kind,
            Kind::VirtualService
                | Kind::DestinationRule
                | Kind::HttpRoute
                | Kind::GrpcRoute
                | Kind::TlsRoute
                | Kind::TcpRoute
        )
    })
}

fn past_waypoints(context: &Context<'_>) -> Option<Finding> {
    let mesh = context.mesh;
    let sidecars = workloads_with_sidecars(mesh);
    let bound: Vec<String> = mesh
        .services
        .iter()
        .filter(|service| service.binding.waypoint().is_some())
        .map(|service| service.name.to_string())
        .collect();
    if mesh.distribution != Distribution::Upstream || sidecars.is_empty() || bound.is_empty() {
        return None;
    }
    let mut finding = Finding::new(
        CODE,
        Level::Warning,
        format!(
            "{} the {} of {}: move callers before the servers they call",
            if sidecars.len() == 1 {
                "1 workload with a sidecar never uses".to_owned()
            } else {
                format!("{} workloads with sidecars never use", sidecars.len())
            },
            if bound.len() == 1 {
                "waypoint"
            } else {
                "waypoints"
            },
            wording::count(bound.len(), "Service")
        ),
    )
    .remedy(Remedy::Advice(
        "`castoff plan` orders callers before servers and proves each step".to_owned(),
    ));
    finding.details = vec![
        "a namespace's label moves all its workloads with their next restart, servers and callers alike".to_owned(),
        format!("with sidecars: {}", wording::first_few(&sidecars, 5)),
        format!("behind waypoints: {}", wording::first_few(&bound, 5)),
    ];
    finding.names = sidecars;
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::testing::{read, run};

    fn pod(namespace: &str, name: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: \
             {name}}}}}\nspec: {{serviceAccountName: {name}, containers: [{{name: istio-proxy, image: \
             'solo/istio/proxyv2:1.30.0-solo', args: [proxy, sidecar]}}]}}\n"
        )
    }

    const SERVER: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: istiod, namespace: istio-system, labels: {app: istiod}}
spec:
  template:
    metadata: {labels: {app: istiod}}
    spec: {containers: [{name: discovery, image: 'us-docker.pkg.dev/soloio-img/istio/pilot:1.30.0-solo'}]}
---
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {clusterIP: 10.0.0.1, selector: {app: reviews}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec: {hosts: [reviews], http: [{timeout: 1s, route: [{destination: {host: reviews}}]}]}
";

    fn said(more: &str) -> Vec<(String, Vec<String>)> {
        let mesh = [
            SERVER.to_owned(),
            pod("shop", "reviews"),
            pod("web", "front"),
            pod("web", "batch"),
            format!("---\n{more}"),
        ]
        .concat();
        let (mesh, _) = read(&mesh);
        run(&CHECK, &mesh)
            .findings
            .into_iter()
            .map(|one| (one.message, one.details))
            .collect()
    }

    #[test]
    fn callers_in_other_namespaces_are_told_which_servers_are_not_migrated() {
        assert_eq!(
            said(""),
            [(
                "2 workloads of namespace web may call 1 Service whose routing ends with the callers' sidecars, \
                 because no waypoint is in use for them yet:"
                    .to_owned(),
                vec![
                    "callers: Pod web/batch, Pod web/front".to_owned(),
                    "not migrated yet: shop/reviews".to_owned()
                ]
            )]
        );
    }

    #[test]
    fn policies_of_the_server_tell_who_calls() {
        let only = |source: &str| {
            format!(
                "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: only, namespace: \
                 shop}}\nspec: {{selector: {{matchLabels: {{app: reviews}}}}, rules: [{{from: [{{source: \
                 {source}}}]}}]}}\n"
            )
        };
        let callers = |source: &str| -> Vec<String> {
            said(&only(source))
                .into_iter()
                .map(|(_, details)| details[0].clone())
                .collect()
        };
        assert_eq!(
            callers("{principals: [cluster.local/ns/web/sa/front]}"),
            ["callers: Pod web/front"]
        );
        assert_eq!(
            callers("{namespaces: [web]}"),
            ["callers: Pod web/batch, Pod web/front"]
        );
        assert_eq!(
            callers("{principals: [cluster.local/ns/else/sa/x]}"),
            [""; 0]
        );
        assert_eq!(
            callers("{ipBlocks: [10.0.0.0/8]}"),
            ["callers: Pod web/batch, Pod web/front"]
        );
    }

    #[test]
    fn a_server_that_uses_its_waypoint_is_migrated() {
        let waypoint = "apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/use-waypoint: waypoint}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status: {addresses: [{value: 10.0.0.2}], conditions: [{type: Programmed, status: 'True'}]}
";
        assert_eq!(said(waypoint), []);
    }
}
