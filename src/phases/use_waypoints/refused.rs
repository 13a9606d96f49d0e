//! # A waypoint must not be used yet
//!
//! ## What it finds
//!
//! Services that need a waypoint and whose label castoff does not recommend yet: the waypoint is
//! missing or has no address, a label leads nowhere, a copy of a policy is not applied, or a policy
//! could not be carried over.
//!
//! ## Why it matters
//!
//! A label that names a waypoint without address has no effect, and requests go past every request
//! rule. A label set before the copies are there leaves requests unchecked at the waypoint.
//!
//! ## How to fix it
//!
//! Do what the line names: wait for the Gateway's address, run the phases `deploy-waypoints` and
//! `migrate-policies` and apply what they wrote, or settle by hand what was refused.
//!
//! ## Since and source
//!
//! All releases with ambient mode; istio pilot/pkg/serviceregistry/ambient/waypoints.go,
//! ztunnel src/state.rs (`fetch_waypoint`).

use std::collections::BTreeMap;

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::Service;
use crate::needs::{Placement, placement};
use crate::phases::use_waypoints::enable::is_ready;
use crate::phases::{Check, Context, wording};
use crate::snapshot::{Kind, ObjectName};

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "",
    phase: Phase::UseWaypoints,
    needs: &[Kind::Service],
    reads: &[Kind::Gateway, Kind::Namespace, Kind::AuthorizationPolicy],
    source: include_str!("refused.rs"),
    find,
};

const CODE: Code = Code("CAST0502");

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    // What stands in the way, what helps, and the Services that wait for it, by namespace.
    let mut waiting: BTreeMap<(&str, String, Option<Remedy>), Vec<&Service>> = BTreeMap::new();
    for (id, _) in context.needs().required() {
        let service = mesh.service(id);
        let placed = placement(mesh, service);
        if matches!(placed, Placement::Bound(_)) || is_ready(context, id) {
            continue;
        }
        let (why, remedy) = match &placed {
            Placement::Missing => (
                "there is no waypoint: see phase deploy-waypoints".to_owned(),
                None,
            ),
            Placement::NotReady(waypoint) => {
                let name = &mesh.waypoint(*waypoint).name;
                (
                    format!("waypoint {name} has no address yet"),
                    Some(Remedy::Advice(format!(
                        "wait for it: kubectl wait --for=condition=programmed gateway/{} -n {}",
                        name.name, name.namespace
                    ))),
                )
            }
            Placement::OptedOut => (
                "the label istio.io/use-waypoint=none opts out".to_owned(),
                None,
            ),
            Placement::Broken { wanted, reason } => (
                format!(
                    "the label istio.io/use-waypoint names {wanted}, but {}",
                    wording::fault(*reason)
                ),
                None,
            ),
            Placement::Bound(_) | Placement::Deployed(_) => (unfinished(context, id), None),
        };
        waiting
            .entry((&service.name.namespace, why, remedy))
            .or_default()
            .push(service);
    }
    waiting
        .into_iter()
        .map(|((namespace, why, remedy), services)| finding(namespace, &why, remedy, &services))
        .collect()
}

fn finding(namespace: &str, why: &str, remedy: Option<Remedy>, services: &[&Service]) -> Finding {
    let refused = "requires a waypoint, but must not use one yet";
    let mut finding = match services {
        [only] => Finding::new(
            CODE,
            Level::Recommendation,
            format!("Service {} {refused}: {why}", only.name),
        )
        .about(Kind::Service, &only.name, Some(&only.origin)),
        many => {
            let names: Vec<String> = many.iter().map(|one| one.name.name.to_string()).collect();
            let mut finding = Finding::new(
                CODE,
                Level::Recommendation,
                format!(
                    "{} of namespace {namespace} require a waypoint, but must not use one yet: {why}",
                    wording::count(many.len(), "Service")
                ),
            )
            .about(Kind::Namespace, &ObjectName::new("", namespace), None)
            .detail(wording::first_few(&names, 8));
            finding.names = many.iter().map(|one| one.name.to_string()).collect();
            finding
        }
    };
    finding.remedies.extend(remedy);
    finding
}

/// What is not applied, or was refused, for a Service.
fn unfinished(context: &Context<'_>, id: crate::mesh::ServiceId) -> String {
    let service = context.mesh.service(id);
    let conversion = context.conversion();
    let missing: Vec<String> = conversion
        .to_apply()
        .filter(|one| one.services.contains(&id))
        .map(|one| format!("{}/{}", one.kind.row().name, one.name))
        .collect();
    if !missing.is_empty() {
        return format!(
            "not applied: {} (phase migrate-policies)",
            missing.join(", ")
        );
    }
    let refused: Vec<String> = conversion
        .refusals
        .iter()
        .filter(|refusal| refusal.service.as_ref() == Some(&service.name))
        .map(|refusal| format!("{} ({})", refusal.object.name, refusal.trap.name()))
        .collect();
    format!("not carried over: {}", refused.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::testing::{lines, read, run};

    fn service(name: &str, labels: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: \
             {name}}}}}\nspec: {{containers: [{{name: istio-proxy, image: istio/proxyv2:1.30.0, args: [proxy, \
             sidecar]}}]}}\n---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop, labels: \
             {{{labels}}}}}\nspec: {{clusterIP: 10.0.0.1, selector: {{app: {name}}}, ports: [{{name: http, port: \
             80}}]}}\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, \
             namespace: shop}}\nspec: {{hosts: [{name}], http: [{{timeout: 1s, route: [{{destination: {{host: \
             {name}}}}}]}}]}}\n"
        )
    }

    fn said(objects: &[String]) -> Vec<(Level, String)> {
        let (mesh, _) = read(&objects.concat());
        lines(&run(&CHECK, &mesh))
            .into_iter()
            .map(|(level, line)| (level, line.to_owned()))
            .collect()
    }

    #[test]
    fn services_that_wait_for_the_same_are_told_together() {
        assert_eq!(
            said(&[service("web", ""), service("db", "")]),
            [(
                Level::Recommendation,
                "2 Services of namespace shop require a waypoint, but must not use one yet: there is no waypoint: \
                 see phase deploy-waypoints"
                    .to_owned()
            )]
        );
    }

    #[test]
    fn a_waypoint_without_an_address_and_a_label_that_leads_nowhere_are_named() {
        let gateway = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
";
        assert_eq!(
            said(&[
                service("web", ""),
                service("db", "istio.io/use-waypoint: gone"),
                gateway.to_owned()
            ]),
            [
                (
                    Level::Recommendation,
                    "Service shop/db requires a waypoint, but must not use one yet: the label istio.io/use-waypoint \
                     names shop/gone, but there is no such Gateway"
                        .to_owned()
                ),
                (
                    Level::Recommendation,
                    "Service shop/web requires a waypoint, but must not use one yet: waypoint shop/waypoint has no \
                     address yet"
                        .to_owned()
                ),
            ]
        );
    }
}
