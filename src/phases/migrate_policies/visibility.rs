//! # Services that become visible to all, and hosts that ambient does not know
//!
//! ## What it finds
//! ServiceEntries with `exportTo`, Services with the annotation `networking.istio.io/exportTo`, and
//! ServiceEntries with wildcard hosts, in a mesh with sidecars.
//!
//! ## Why it matters
//! ztunnel and its index do not read `exportTo`: what was visible to some namespaces becomes visible to
//! every ambient workload, and a ServiceEntry for a host that others call directly takes their calls
//! too. A wildcard host is resolved by no ztunnel; only a waypoint takes one, with resolution
//! DYNAMIC_DNS.
//!
//! ## How to fix it
//! Keep callers out by an AuthorizationPolicy or a NetworkPolicy rather than by visibility. List the
//! hosts of a wildcard, or give the ServiceEntry resolution DYNAMIC_DNS and a waypoint (Istio 1.28).
//!
//! ## Since and source
//! All releases. istio pilot/pkg/serviceregistry/ambient/services.go (reads no `exportTo`); istio
//! issues 55163, 60870 and 54540.

use crate::finding::{Code, Finding, Level, Phase, Remedy, Subject};
use crate::mesh::traffic::ServiceEntry;
use crate::needs::is_mesh_service;
use crate::phases::{Check, Context, wording};
use crate::snapshot::{Kind, Labels};

pub(super) const CHECK: Check = Check {
    code: Code("CAST0414"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[],
    reads: &[Kind::ServiceEntry, Kind::Service],
    source: include_str!("visibility.rs"),
    find,
};

const EXPORT_TO: &str = "networking.istio.io/exportTo";

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    if !context.has_sidecars() {
        return Vec::new();
    }
    let entries = |wanted: fn(&ServiceEntry) -> bool| -> Vec<&ServiceEntry> {
        mesh.traffic
            .service_entries
            .iter()
            .filter(|one| context.choice().includes(&one.name.namespace) && wanted(one))
            .collect()
    };
    let mut found = Vec::new();
    found.extend(told(
        &entries(is_narrowed),
        "limited by spec.exportTo, which ambient ignores",
        Some(advice()),
    ));
    found.extend(told(
        &entries(has_unknown_wildcard),
        "for wildcard hosts, which no ztunnel resolves: calls pass through as unknown",
        None,
    ));
    let narrowed: Vec<String> = mesh
        .services
        .iter()
        .filter(|one| {
            context.choice().includes(&one.name.namespace)
                && is_mesh_service(mesh, one)
                && narrows(&one.annotations)
        })
        .map(|one| one.name.to_string())
        .collect();
    if !narrowed.is_empty() {
        let mut finding = Finding::new(
            CHECK.code,
            Level::Warning,
            format!(
                "{} limited by annotation {EXPORT_TO}, which ambient ignores: {}",
                if narrowed.len() == 1 {
                    "1 Service is".to_owned()
                } else {
                    format!("{} Services are", narrowed.len())
                },
                wording::first_few(&narrowed, 5)
            ),
        )
        .remedy(advice());
        finding.names = narrowed;
        found.push(finding);
    }
    found
}

fn narrows(annotations: &Labels) -> bool {
    annotations
        .get(EXPORT_TO)
        .is_some_and(|list| list.split(',').all(|one| one.trim() != "*"))
}

fn is_narrowed(one: &ServiceEntry) -> bool {
    let list = one.raw["spec"]["exportTo"].as_array();
    list.is_some_and(|list| !list.is_empty() && list.iter().all(|one| one != "*"))
}

fn has_unknown_wildcard(one: &ServiceEntry) -> bool {
    one.resolution != "DYNAMIC_DNS" && one.hosts.iter().any(|host| host.starts_with('*'))
}

/// One finding for all, each with its place.
fn told(entries: &[&ServiceEntry], what: &str, remedy: Option<Remedy>) -> Option<Finding> {
    if entries.is_empty() {
        return None;
    }
    let names: Vec<String> = entries.iter().map(|one| one.name.to_string()).collect();
    let mut finding = Finding::new(
        CHECK.code,
        Level::Warning,
        format!(
            "{} {what}: {}",
            if names.len() == 1 {
                "1 ServiceEntry is".to_owned()
            } else {
                format!("{} ServiceEntries are", names.len())
            },
            wording::first_few(&names, 5)
        ),
    );
    if let [only] = entries {
        finding = finding.about(Kind::ServiceEntry, &only.name, Some(&only.origin));
    }
    finding.related = entries
        .iter()
        .map(|one| Subject {
            kind: Kind::ServiceEntry,
            name: one.name.clone(),
            field: None,
            origin: Some(one.origin.clone()),
        })
        .collect();
    finding.names = names;
    finding.remedies.extend(remedy);
    Some(finding)
}

fn advice() -> Remedy {
    Remedy::Advice(
        "keep callers out by an AuthorizationPolicy or a NetworkPolicy where exportTo was meant to"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::testing::{lines, read, run};

    const ENTRY: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: shop}
spec: {hosts: ['*.example.com'], exportTo: ['.'], resolution: NONE}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: open, namespace: shop}
spec: {hosts: [api.example.org], exportTo: ['*'], resolution: DNS}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, annotations: {networking.istio.io/exportTo: '.'}}
spec: {clusterIP: 10.0.0.1, selector: {app: web}}
---
";
    const SIDECAR: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: istio-proxy, image: istio/proxyv2:1.30.0, args: [proxy, sidecar]}]}
";

    #[test]
    fn narrowed_visibility_and_wildcards_are_named_while_there_are_sidecars() {
        let (mesh, _) = read(&format!("{ENTRY}{SIDECAR}"));
        let result = run(&CHECK, &mesh);
        assert_eq!(
            lines(&result),
            [
                (
                    Level::Warning,
                    "1 ServiceEntry is limited by spec.exportTo, which ambient ignores: shop/api"
                ),
                (
                    Level::Warning,
                    "1 ServiceEntry is for wildcard hosts, which no ztunnel resolves: calls pass through as unknown: \
                     shop/api"
                ),
                (
                    Level::Warning,
                    "1 Service is limited by annotation networking.istio.io/exportTo, which ambient ignores: shop/web"
                )
            ]
        );
        assert_eq!(result.findings[0].names, ["shop/api"]);
        let (mesh, _) = read(ENTRY);
        assert_eq!(lines(&run(&CHECK, &mesh)), []);
    }
}
