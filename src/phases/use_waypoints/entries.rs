//! # Hosts outside the mesh behind a waypoint's policies
//!
//! ## What it finds
//!
//! ServiceEntries without pods whose calls go through a waypoint, by their own label
//! `istio.io/use-waypoint` or by that of their namespace (set already, or recommended in this phase),
//! where an AuthorizationPolicy for the whole waypoint or for its GatewayClass stands.
//!
//! ## Why it matters
//!
//! The label of a namespace binds its ServiceEntries as well as its Services. A policy for the waypoint was
//! meant for the Services behind it; it now decides about calls to the hosts outside, too, which no
//! AuthorizationPolicy ever did at a sidecar. Where the policy allows, everything that it does not
//! name is refused. castoff does not compare access to hosts outside the mesh.
//!
//! ## How to fix it
//!
//! Set `istio.io/use-waypoint: none` on the ServiceEntry, or name it in a policy of its own
//! (`targetRefs` of kind ServiceEntry) that allows what should be called.
//!
//! ## Since and source
//!
//! All releases with ambient mode; `none` since 1.23. istio
//! pilot/pkg/serviceregistry/ambient/waypoints.go (`fetchWaypointForService`, for Services and
//! ServiceEntries alike), pilot/pkg/model/policyattachment.go.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::enable;
use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::policy::{Attachment, AuthorizationPolicy};
use crate::mesh::traffic::ServiceEntry;
use crate::mesh::{Mesh, Waypoint};
use crate::phases::{Check, Context, wording};
use crate::snapshot::Kind;
use castoff_authz::policy::Action;

/// The check.
pub(super) const CHECK: Check = Check {
    code: Code("CAST0506"),
    name: "",
    phase: Phase::UseWaypoints,
    needs: &[],
    reads: &[
        Kind::ServiceEntry,
        Kind::AuthorizationPolicy,
        Kind::Gateway,
        Kind::Namespace,
    ],
    source: include_str!("entries.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let outside = mesh
        .traffic
        .service_entries
        .iter()
        .filter(|entry| entry.workloads.is_empty() && !is_local(entry))
        .filter(|entry| context.choice().includes(&entry.name.namespace));
    let mut recommended = None;
    outside
        .filter_map(|entry| {
            let used = entry.waypoint(mesh);
            let is_used = used.is_some();
            let waypoint = used
                .as_ref()
                .and_then(|name| mesh.waypoint_named(name))
                .map(|(_, waypoint)| waypoint)
                .or_else(|| {
                    let unlabelled = entry.labels.get(enable::USE_WAYPOINT).is_none();
                    let list = recommended.get_or_insert_with(|| enable::of_namespaces(context));
                    let id = list
                        .get(entry.name.namespace.as_str())
                        .filter(|_| unlabelled);
                    id.map(|id| mesh.waypoint(*id))
                })?;
            let policies: Vec<&AuthorizationPolicy> = mesh
                .authorization_policies
                .iter()
                .filter(|policy| stands_before_all(mesh, policy, waypoint))
                .collect();
            (!policies.is_empty()).then(|| finding(entry, waypoint, is_used, &policies))
        })
        .collect()
}

/// Whether all its endpoints are in the caller's own pod, as for an authorizer beside each proxy.
fn is_local(entry: &ServiceEntry) -> bool {
    let endpoints = entry.raw.pointer("/spec/endpoints");
    let endpoints = endpoints.and_then(|list| list.as_array());
    endpoints.is_some_and(|list| {
        let mut addresses = list
            .iter()
            .map(|one| one["address"].as_str().unwrap_or_default());
        !list.is_empty()
            && addresses.all(|one| {
                one.starts_with("unix:") || one.parse().is_ok_and(|one: IpAddr| one.is_loopback())
            })
    })
}

/// Whether a policy is for everything that goes through a waypoint.
fn stands_before_all(mesh: &Mesh, policy: &AuthorizationPolicy, waypoint: &Waypoint) -> bool {
    let Attachment::Targets(targets) = &policy.attachment else {
        return false;
    };
    let namespace = &policy.name.namespace;
    targets.iter().any(|target| match target.kind.as_str() {
        "Gateway" => *namespace == waypoint.name.namespace && target.name == waypoint.name.name,
        // It stands for all waypoints that are Envoys.
        "GatewayClass" => {
            *namespace == mesh.settings.root_namespace && target.name == "istio-waypoint"
        }
        _ => false,
    })
}

fn finding(
    entry: &ServiceEntry,
    waypoint: &Waypoint,
    is_used: bool,
    policies: &[&AuthorizationPolicy],
) -> Finding {
    let allows = policies.iter().any(|policy| {
        policy
            .meaning
            .as_ref()
            .is_ok_and(|one| one.action == Action::Allow)
    });
    let names: BTreeSet<String> = policies.iter().map(|one| one.name.to_string()).collect();
    let names: Vec<String> = names.into_iter().collect();
    let name = &entry.name;
    let goes = if is_used { "go" } else { "will go" };
    let effect = if allows {
        "what they do not allow is refused"
    } else {
        "they decide there too"
    };
    let mut finding = Finding::new(
        CHECK.code,
        Level::Warning,
        format!(
            "Calls to ServiceEntry {name} (outside the mesh) {goes} through waypoint {}, and so past \
             AuthorizationPolicies that stand there for everything ({}): {effect}",
            waypoint.name,
            wording::first_few(&names, 3),
        ),
    )
    .about(Kind::ServiceEntry, name, Some(&entry.origin))
    .remedy(Remedy::Advice(format!(
        "set istio.io/use-waypoint=none on ServiceEntry {name}, or allow its calls in a policy of its own"
    )));
    finding.names = names;
    finding
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::CheckOutcome;
    use crate::phases::testing::{lines, read, run};
    use crate::snapshot::Gap;

    const MESH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/use-waypoint: waypoint}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: waypoint}]
  rules: [{to: [{operation: {methods: [GET]}}]}]
";

    fn entry(labels: &str) -> String {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: payments, namespace: shop, labels: {labels}}}
spec: {{hosts: [api.example.com], ports: [{{number: 443, name: tls, protocol: TLS}}], resolution: DNS}}
"
        )
    }

    #[test]
    fn a_host_outside_that_a_namespaces_label_binds_is_named() {
        let (mesh, _) = read(&format!("{MESH}{}", entry("{}")));
        assert_eq!(
            lines(&run(&CHECK, &mesh)),
            [(
                Level::Warning,
                "Calls to ServiceEntry shop/payments (outside the mesh) go through waypoint shop/waypoint, and so \
                 past AuthorizationPolicies that stand there for everything (shop/readers): what they do not \
                 allow is refused"
            )]
        );
    }

    #[test]
    fn one_in_the_callers_own_pod_is_not() {
        let local = entry("{}").replace(
            "resolution: DNS",
            "resolution: STATIC, endpoints: [{address: 127.0.0.1}]",
        );
        let (mesh, _) = read(&format!("{MESH}{local}"));
        assert!(lines(&run(&CHECK, &mesh)).is_empty());
    }

    #[test]
    fn one_that_opts_out_or_has_policies_for_services_only_is_not() {
        let (mesh, _) = read(&format!("{MESH}{}", entry("{istio.io/use-waypoint: none}")));
        assert!(lines(&run(&CHECK, &mesh)).is_empty());
        let of_service = MESH
            .replace(
                "gateway.networking.k8s.io, kind: Gateway",
                "'', kind: Service",
            )
            .replace("name: waypoint}]\n  rules", "name: orders}]\n  rules");
        let (mesh, _) = read(&format!("{of_service}{}", entry("{}")));
        assert!(lines(&run(&CHECK, &mesh)).is_empty());
    }

    #[test]
    fn service_entries_that_could_not_be_read_are_not_taken_for_none() {
        let (mut mesh, _) = read(MESH);
        mesh.gaps.push(Gap {
            kind: Kind::ServiceEntry,
            namespace: None,
            except: Vec::new(),
            reason: "forbidden".to_owned(),
        });
        let result = run(&CHECK, &mesh);
        assert!(matches!(result.outcome, CheckOutcome::CouldNotCheck(_)));
    }
}
