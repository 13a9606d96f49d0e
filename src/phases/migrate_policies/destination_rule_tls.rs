//! # TLS settings of DestinationRules that do not survive
//!
//! ## What it finds
//! DestinationRules for Services of the mesh whose TLS settings sidecars and waypoints read
//! differently: `ISTIO_MUTUAL` for a headless Service, `ISTIO_MUTUAL` on Istio 1.25.0, certificates in
//! files, and `DISABLE`.
//!
//! ## Why it matters
//! A sidecar replaces `ISTIO_MUTUAL` by HBONE where the server takes it, but never for a headless
//! Service: there it sends mTLS of its own to the pods, which ztunnel does not terminate. On 1.25.0 it
//! sends the one inside the other. A waypoint has none of the files that a sidecar mounts, so a
//! connection that needs them fails. `DISABLE` no longer keeps a connection in plaintext.
//!
//! ## How to fix it
//! Delete `tls` with mode `ISTIO_MUTUAL`: automatic mTLS does the same everywhere. Name certificates by
//! `credentialName`, in a Secret of the waypoint's namespace. A server that must have plaintext stays
//! out of the mesh (`istio.io/dataplane-mode: none`).
//!
//! ## Since and source
//! HBONE replaces ISTIO_MUTUAL since 1.25.1. istio pilot/pkg/networking/core/cluster_tls.go
//! (`applyHBONETransportSocketMatches`, which leaves ORIGINAL_DST clusters out),
//! pilot/pkg/networking/core/cluster_waypoint.go (`buildWaypointTLSContext`); istio issue 53526.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::{Mesh, Service, Version};
use crate::needs::is_mesh_service;
use crate::phases::{Check, Context};
use crate::snapshot::Kind;

pub(super) const CHECK: Check = Check {
    code: Code("CAST0413"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[Kind::Service],
    reads: &[Kind::DestinationRule, Kind::Pod],
    source: include_str!("destination_rule_tls.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let services: BTreeMap<String, &Service> = mesh
        .services
        .iter()
        .filter(|service| is_mesh_service(mesh, service))
        .map(|service| (service.host(), service))
        .collect();
    let nested = nests_mutual_tls(mesh);
    let mut found = Vec::new();
    for rule in &mesh.traffic.destination_rules {
        let Some(service) = services.get(rule.full_host.as_str()) else {
            continue;
        };
        if !context.choice().includes(&rule.name.namespace) {
            continue;
        }
        let mut details = Vec::new();
        let mut advice = Vec::new();
        for (mode, path) in &rule.tls_modes {
            match mode.as_str() {
                "ISTIO_MUTUAL" if service.headless => {
                    details.push(format!(
                        "{path}: ISTIO_MUTUAL on a headless Service: sidecars fail to reach its ambient pods."
                    ));
                    advice.push(DELETE);
                }
                "ISTIO_MUTUAL" if nested => {
                    details.push(format!(
                        "{path}: ISTIO_MUTUAL is sent inside HBONE by Istio 1.25.0, and fails."
                    ));
                    advice.push("upgrade to Istio 1.25.1 or later before pods become ambient");
                }
                "SIMPLE" | "MUTUAL" => {
                    let files = files(&rule.raw, path);
                    if !files.is_empty() {
                        details.push(format!(
                            "{path}: {mode} with files of the sidecar ({}), which a waypoint does not have.",
                            files.join(", ")
                        ));
                        advice.push(CREDENTIAL);
                    }
                }
                "DISABLE" => {
                    details.push(format!(
                        "{path}: DISABLE no longer keeps connections in plaintext: ambient pods are reached by HBONE."
                    ));
                }
                _ => {}
            }
        }
        if details.is_empty() {
            continue;
        }
        let mut finding = Finding::new(
            CHECK.code,
            Level::Warning,
            format!(
                "DestinationRule/{} has TLS settings that do not survive:",
                rule.name
            ),
        )
        .about(Kind::DestinationRule, &rule.name, Some(&rule.origin));
        finding.details = details;
        advice.sort_unstable();
        advice.dedup();
        found.push(advice.into_iter().fold(finding, |finding, advice| {
            finding.remedy(Remedy::Advice(advice.to_owned()))
        }));
    }
    found
}

const DELETE: &str = "delete tls with mode ISTIO_MUTUAL from DestinationRules: automatic mTLS does the same everywhere";
const CREDENTIAL: &str =
    "name certificates by credentialName, in a Secret of the waypoint's namespace";

/// Whether some sidecar or istiod is of the release that nests mTLS in HBONE.
fn nests_mutual_tls(mesh: &Mesh) -> bool {
    let old = |version: &Version| (version.major, version.minor, version.patch) <= (1, 25, 0);
    mesh.control_planes
        .iter()
        .filter_map(|one| one.version.as_ref())
        .any(old)
}

/// Fields with file names beside a mode's path (`….tls.mode`).
fn files(raw: &Value, mode_path: &str) -> Vec<&'static str> {
    let pointer = mode_path
        .trim_end_matches(".mode")
        .replace('[', ".")
        .replace(']', "")
        .replace('.', "/");
    let Some(tls) = raw.pointer(&format!("/{pointer}")) else {
        return Vec::new();
    };
    ["clientCertificate", "privateKey", "caCertificates"]
        .into_iter()
        .filter(|field| {
            tls[*field]
                .as_str()
                .is_some_and(|file| !file.is_empty() && file != "system")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::testing::{read, run};

    fn said(address: &str, istiod: &str, tls: &str) -> Vec<String> {
        let (mesh, _) = read(&format!(
            "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: istiod, namespace: istio-system, labels: {{app: istiod}}}}
spec:
  template:
    metadata: {{labels: {{app: istiod}}}}
    spec: {{containers: [{{name: discovery, image: 'istio/pilot:{istiod}'}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: shop, labels: {{app: web}}}}
spec: {{containers: [{{name: istio-proxy, image: istio/proxyv2:1.30.0, args: [proxy, sidecar]}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec: {{clusterIP: {address}, selector: {{app: web}}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web, namespace: shop}}
spec: {{host: web, trafficPolicy: {{portLevelSettings: [{{port: {{number: 80}}, tls: {tls}}}]}}}}
"
        ));
        run(&CHECK, &mesh)
            .findings
            .into_iter()
            .flat_map(|one| one.details)
            .collect()
    }

    #[test]
    fn each_mode_is_told_where_it_fails_and_only_there() {
        let path = "spec.trafficPolicy.portLevelSettings[0].tls.mode";
        let table = [
            ("10.0.0.1", "1.30.0", "{mode: ISTIO_MUTUAL}", None),
            (
                "None",
                "1.30.0",
                "{mode: ISTIO_MUTUAL}",
                Some(
                    "ISTIO_MUTUAL on a headless Service: sidecars fail to reach its ambient pods.",
                ),
            ),
            (
                "10.0.0.1",
                "1.25.0",
                "{mode: ISTIO_MUTUAL}",
                Some("ISTIO_MUTUAL is sent inside HBONE by Istio 1.25.0, and fails."),
            ),
            (
                "10.0.0.1",
                "1.30.0",
                "{mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: system}",
                Some(
                    "MUTUAL with files of the sidecar (clientCertificate, privateKey), which a waypoint does not have.",
                ),
            ),
            (
                "10.0.0.1",
                "1.30.0",
                "{mode: SIMPLE, credentialName: c}",
                None,
            ),
            (
                "10.0.0.1",
                "1.30.0",
                "{mode: DISABLE}",
                Some(
                    "DISABLE no longer keeps connections in plaintext: ambient pods are reached by HBONE.",
                ),
            ),
        ];
        for (address, istiod, tls, expected) in table {
            let expected: Vec<String> = expected
                .iter()
                .map(|line| format!("{path}: {line}"))
                .collect();
            assert_eq!(
                said(address, istiod, tls),
                expected,
                "{tls} at {address}, {istiod}"
            );
        }
    }
}
