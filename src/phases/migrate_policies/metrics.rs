//! # Metrics that are scraped through the sidecar
//!
//! ## What it finds
//! Pods with sidecars and the annotation `prometheus.io/scrape: "true"` whose port is under STRICT mTLS,
//! or behind a policy that allows only some.
//!
//! ## Why it matters
//! The injector points such pods' scrape annotations at the sidecar's port 15020, which merges the
//! metrics and takes plaintext, whatever the mTLS mode. Without a sidecar Prometheus dials the
//! application's own port: ztunnel refuses it there in plaintext, and alerts go quiet.
//!
//! ## How to fix it
//! Enrol Prometheus in ambient mode and allow its principal on the port, or give the port mode
//! PERMISSIVE by `portLevelMtls`. Change rules and dashboards that filter on
//! `reporter="destination"`: a waypoint reports as `waypoint`.
//!
//! ## Since and source
//! All releases. istio.io, "Prometheus: option 1, metrics merging"; istio pkg/kube/inject/webhook.go
//! (`applyPrometheusMerge`); istio issue 61815 (reporters).

use std::collections::BTreeMap;

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::{DataPlaneMode, Workload};
use crate::phases::{Check, Context, wording};
use crate::snapshot::{Kind, ObjectName};

pub(super) const CHECK: Check = Check {
    code: Code("CAST0415"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[],
    reads: &[Kind::Pod, Kind::PeerAuthentication],
    source: include_str!("metrics.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let mut refused: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for workload in &mesh.workloads {
        if !workload.is_mesh_application()
            || !context.choice().includes(&workload.name.namespace)
            || !is_merged(workload)
        {
            continue;
        }
        let strict = workload.generations.iter().any(|one| {
            one.mode == DataPlaneMode::Sidecar && refuses_plaintext(context, workload, &one.labels)
        });
        if strict {
            refused
                .entry(&workload.name.namespace)
                .or_default()
                .push(wording::workload(workload));
        }
    }
    refused
        .into_iter()
        .map(|(namespace, mut workloads)| {
            workloads.sort();
            let mut finding = Finding::new(
                CHECK.code,
                Level::Warning,
                format!(
                    "Namespace {namespace}: {} metrics scraped through the sidecar's port 15020 in plaintext, and \
                     mTLS is STRICT for their own ports: {}",
                    wording::have(workloads.len(), "workload"),
                    wording::first_few(&workloads, 5)
                ),
            )
            .about(Kind::Namespace, &ObjectName::new("", namespace), None)
            .remedy(Remedy::Advice(
                "enrol Prometheus in ambient mode and allow it on the metrics ports, or give these mode PERMISSIVE by \
                 portLevelMtls"
                    .to_owned(),
            ));
            finding.names = workloads;
            finding
        })
        .collect()
}

fn is_merged(workload: &Workload) -> bool {
    let annotations = &workload.template_annotations;
    annotations.has("prometheus.io/scrape", "true")
        && !annotations.has("prometheus.istio.io/merge-metrics", "false")
}

/// Whether ztunnel is told to refuse plaintext on the port that is scraped; without a port in the
/// annotations, on any.
fn refuses_plaintext(
    context: &Context<'_>,
    workload: &Workload,
    labels: &crate::snapshot::Labels,
) -> bool {
    // The injector writes its own port over the application's; a template still has that.
    let port = workload
        .template_annotations
        .get("prometheus.io/port")
        .filter(|port| *port != "15020");
    context
        .mesh
        .ztunnel_mtls_policies(&workload.name.namespace, labels)
        .iter()
        .flat_map(|policy| &policy.rules)
        .any(|rule| match (rule.to.first(), port) {
            (None, _) | (Some(_), None) => true,
            (Some(to), Some(port)) => {
                let among = |list: &[String]| list.iter().any(|one| one == port);
                if to.ports.is_empty() {
                    !among(&to.not_ports)
                } else {
                    among(&to.ports)
                }
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::testing::{read, run};

    fn said(annotations: &str, mtls: &str) -> Vec<String> {
        let (mesh, _) = read(&format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: shop, labels: {{app: web}}, annotations: {{{annotations}}}}}
spec: {{containers: [{{name: istio-proxy, image: istio/proxyv2:1.30.0, args: [proxy, sidecar]}}]}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: web, namespace: shop}}
spec: {{{mtls}}}
"
        ));
        run(&CHECK, &mesh)
            .findings
            .into_iter()
            .map(|one| one.message)
            .collect()
    }

    #[test]
    fn scraping_under_strict_mtls_is_warned_of_and_nothing_else() {
        let scraped = "prometheus.io/scrape: 'true', prometheus.io/port: '9090'";
        let strict = "mtls: {mode: STRICT}";
        let expected = "Namespace shop: 1 workload has metrics scraped through the sidecar's port 15020 in plaintext, \
                        and mTLS is STRICT for their own ports: Pod shop/web";
        let but = |port: u16| {
            format!(
                "selector: {{matchLabels: {{app: web}}}}, mtls: {{mode: STRICT}}, portLevelMtls: {{{port}: {{mode: \
                 PERMISSIVE}}}}"
            )
        };
        let table = [
            (scraped, strict.to_owned(), true),
            (scraped, "mtls: {mode: PERMISSIVE}".to_owned(), false),
            (scraped, but(9090), false),
            (scraped, but(8080), true),
            ("prometheus.io/scrape: 'false'", strict.to_owned(), false),
            (
                "prometheus.io/scrape: 'true', prometheus.istio.io/merge-metrics: 'false'",
                strict.to_owned(),
                false,
            ),
        ];
        for (annotations, mtls, warned) in table {
            let lines = if warned {
                vec![expected.to_owned()]
            } else {
                Vec::new()
            };
            assert_eq!(said(annotations, &mtls), lines, "{annotations}, {mtls}");
        }
    }
}
