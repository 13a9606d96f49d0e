//! # Sidecars that must stay until their Services use a waypoint
//!
//! ## What it finds
//!
//! Namespaces with sidecars in which a Service needs a waypoint and does not use it, and workloads with
//! policies on requests that no Service's waypoint could enforce (no Service, or a headless one only).
//!
//! ## Why it matters
//!
//! Without sidecars and without waypoint nothing checks requests: ztunnel drops ALLOW rules with
//! request fields and ignores DENY rules that have nothing else.
//!
//! ## How to fix it
//!
//! Finish the phase `use-waypoints` for the Services named. Put a Service with an address in front of the
//! workloads named; or say their policies in identities and ports alone, which ztunnel enforces.
//!
//! ## Since and source
//!
//! istio pilot/pkg/serviceregistry/ambient/authorization.go, ztunnel src/rbac.rs; istio issue 61126.

use std::collections::{BTreeMap, BTreeSet};

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::{DataPlaneMode, WorkloadId};
use crate::needs::{Placement, UnservableSubject, placement};
use crate::phases::{Check, Context, wording};
use crate::snapshot::{Kind, ObjectName};

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "",
    phase: Phase::RemoveSidecars,
    needs: &[Kind::Service],
    reads: &[
        Kind::Gateway,
        Kind::Namespace,
        Kind::Pod,
        Kind::AuthorizationPolicy,
        Kind::RequestAuthentication,
    ],
    source: include_str!("waiting.rs"),
    find,
};

const CODE: Code = Code("CAST0701");

/// Services that need a waypoint and do not use it, by namespace of the pods behind them.
fn unbound(context: &Context<'_>) -> BTreeMap<String, Vec<String>> {
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

/// Workloads with sidecars whose policies on requests nothing would enforce without them, by
/// namespace, each with a policy.
fn unenforceable(context: &Context<'_>) -> BTreeMap<String, BTreeMap<String, String>> {
    let mesh = context.mesh;
    let mut found: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for unservable in &context.needs().unservable {
        let policy = unservable.reasons.iter().find_map(|reason| {
            let object = reason.object.as_ref()?;
            matches!(
                object.kind,
                Kind::AuthorizationPolicy | Kind::RequestAuthentication
            )
            .then(|| format!("{} {}", object.kind.row().name, object.name))
        });
        let Some(policy) = policy else {
            continue;
        };
        let workloads: Vec<WorkloadId> = match unservable.subject {
            UnservableSubject::NoService(id) => vec![id],
            UnservableSubject::Headless(service) => mesh
                .service(service)
                .backends
                .iter()
                .map(|backend| backend.workload)
                .filter(|id| {
                    mesh.services_of(*id)
                        .all(|(_, service)| !service.has_virtual_address())
                })
                .collect(),
            UnservableSubject::ExternalName(_) => Vec::new(),
        };
        for workload in workloads.into_iter().map(|id| mesh.workload(id)) {
            if workload.has_mode(DataPlaneMode::Sidecar) {
                found
                    .entry(workload.name.namespace.to_string())
                    .or_default()
                    .insert(wording::workload(workload), policy.clone());
            }
        }
    }
    found
}

/// Namespaces whose sidecars must stay, for either reason.
pub(super) fn blocked(context: &Context<'_>) -> BTreeSet<String> {
    unbound(context)
        .into_keys()
        .chain(unenforceable(context).into_keys())
        .collect()
}

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mut found = waiting(context);
    found.extend(unenforceable(context).into_iter().map(|(namespace, workloads)| {
        let names: Vec<String> = workloads.keys().cloned().collect();
        let mut finding = Finding::new(
            CODE,
            Level::Recommendation,
            format!(
                "Sidecars of namespace {namespace} must stay: nothing else would enforce the policies on requests of {}:",
                wording::count(names.len(), "workload")
            ),
        )
        .about(Kind::Namespace, &ObjectName::new("", &namespace), None)
        .remedy(Remedy::Advice(
            "put a Service with an address in front of these workloads, or say their policies in identities and ports \
             alone"
                .to_owned(),
        ));
        let lines: Vec<String> = workloads
            .into_iter()
            .map(|(workload, policy)| format!("{workload}: {policy}"))
            .collect();
        finding.details = wording::few(&lines, 5);
        finding.names = names;
        finding
    }));
    found
}

fn waiting(context: &Context<'_>) -> Vec<Finding> {
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
            .remedy(Remedy::Advice(
                "finish phase use-waypoints for the namespaces named".to_owned(),
            ));
            finding.names = services;
            finding
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::testing::{read, run};

    fn said(service: &str, policy: &str) -> Vec<(String, Vec<String>)> {
        let (mesh, _) = read(&format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: db-0, namespace: shop, labels: {{app: db}}}}
spec: {{containers: [{{name: istio-proxy, image: istio/proxyv2:1.30.0, args: [proxy, sidecar]}}]}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: guard, namespace: shop}}
spec: {{action: DENY, rules: [{policy}]}}
---
{service}
"
        ));
        run(&CHECK, &mesh)
            .findings
            .into_iter()
            .map(|one| (one.message, one.details))
            .collect()
    }

    const REQUESTS: &str = "{to: [{operation: {methods: [DELETE]}}]}";

    fn service(name: &str, address: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{clusterIP: {address}, \
             selector: {{app: db}}, ports: [{{name: http, port: 80}}]}}\n---\n"
        )
    }

    #[test]
    fn policies_on_requests_that_nothing_else_enforces_keep_the_sidecars() {
        let expected = [(
            "Sidecars of namespace shop must stay: nothing else would enforce the policies on requests of 1 workload:"
                .to_owned(),
            vec!["Pod shop/db-0: AuthorizationPolicy shop/guard".to_owned()],
        )];
        assert_eq!(said("", REQUESTS), expected);
        assert_eq!(said(&service("db", "None"), REQUESTS), expected);
    }

    #[test]
    fn a_service_with_an_address_waits_for_its_waypoint_instead() {
        let both = service("db", "None") + &service("db-http", "10.0.0.1");
        assert_eq!(
            said(&both, REQUESTS),
            [(
                "Sidecars of namespace shop must stay: 1 Service without a waypoint in use: shop/db-http".to_owned(),
                Vec::new()
            )]
        );
    }

    #[test]
    fn what_ztunnel_enforces_needs_no_sidecar() {
        assert_eq!(said("", "{to: [{operation: {ports: ['9000']}}]}"), []);
    }
}
