//! # Settings of the sidecar proxy
//!
//! ## What it finds
//! `ProxyConfig` objects, and pod annotations `proxy.istio.io/config`.
//!
//! ## Why it matters
//! They set up sidecars. ztunnel reads none of them. A waypoint takes those without a selector, of its
//! own namespace and of the root namespace, once, when it is deployed; annotations of applications never
//! reach it.
//!
//! ## How to fix it
//! Nothing for what only sidecars have (`concurrency`, `holdApplicationUntilProxyStarts`). What a
//! waypoint needs, such as `gatewayTopology` or tracing, goes into a `ProxyConfig` without a selector,
//! or into the mesh configuration, before the waypoint is deployed. Delete the rest with the sidecars.
//!
//! ## Since and source
//! All releases. istio pilot/pkg/config/kube/gateway/deploymentcontroller.go (`GetProxyConfigOrDefault`
//! for the Gateway's namespace and labels).

use crate::finding::{Code, Finding, Level, Phase};
use crate::mesh::DataPlaneMode;
use crate::phases::{Check, Context, wording};
use crate::snapshot::Kind;

pub(super) const CHECK: Check = Check {
    code: Code("CAST0408"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[],
    reads: &[Kind::ProxyConfig, Kind::Pod],
    source: include_str!("proxy_config.rs"),
    find,
};

const ANNOTATION: &str = "proxy.istio.io/config";

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let mut found: Vec<Finding> = mesh
        .traffic
        .others
        .iter()
        .filter(|one| {
            one.kind == Kind::ProxyConfig && context.choice().includes(&one.name.namespace)
        })
        .map(|one| {
            let spec = &one.raw["spec"];
            let fields: Vec<&str> = spec
                .as_object()
                .into_iter()
                .flat_map(|spec| spec.keys())
                .map(String::as_str)
                .filter(|key| *key != "selector")
                .collect();
            let selects = spec["selector"]["matchLabels"]
                .as_object()
                .is_some_and(|labels| !labels.is_empty());
            Finding::new(
                CHECK.code,
                Level::Warning,
                format!(
                    "ProxyConfig/{} sets up sidecars, which ambient does not have:",
                    one.name
                ),
            )
            .about(Kind::ProxyConfig, &one.name, Some(&one.origin))
            .detail(format!(
                "ztunnel ignores it{}.{}",
                if selects {
                    ", and waypoints do, unless its selector names their pods"
                } else {
                    "; a waypoint takes it when it is deployed"
                },
                if fields.is_empty() {
                    String::new()
                } else {
                    format!(" It sets {}.", fields.join(", "))
                }
            ))
        })
        .collect();
    let mut annotated: Vec<String> = mesh
        .workloads
        .iter()
        .filter(|one| {
            one.is_mesh_application()
                && one.has_mode(DataPlaneMode::Sidecar)
                && context.choice().includes(&one.name.namespace)
                && one.template_annotations.get(ANNOTATION).is_some()
        })
        .map(wording::workload)
        .collect();
    annotated.sort();
    if !annotated.is_empty() {
        let mut note = Finding::new(
            CHECK.code,
            Level::Note,
            format!(
                "{} settings for the sidecar by annotation {ANNOTATION}, which end with it: {}",
                wording::have(annotated.len(), "workload"),
                wording::first_few(&annotated, 5)
            ),
        );
        note.names = annotated;
        found.push(note);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::testing::{lines, read, run};

    #[test]
    fn objects_are_warned_of_and_annotations_noted() {
        let (mesh, _) = read(
            "
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: threads, namespace: shop}
spec: {selector: {matchLabels: {app: web}}, concurrency: 2}
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: all, namespace: shop}
spec: {image: {imageType: debug}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, annotations: {proxy.istio.io/config: 'concurrency: 1'}}
spec:
  containers:
  - {name: istio-proxy, image: istio/proxyv2:1.30.0, args: [proxy, sidecar]}
",
        );
        let result = run(&CHECK, &mesh);
        assert_eq!(
            lines(&result),
            [
                (
                    Level::Warning,
                    "ProxyConfig/shop/all sets up sidecars, which ambient does not have:"
                ),
                (
                    Level::Warning,
                    "ProxyConfig/shop/threads sets up sidecars, which ambient does not have:"
                ),
                (
                    Level::Note,
                    "1 workload has settings for the sidecar by annotation proxy.istio.io/config, which end with \
                     it: Pod shop/web"
                )
            ]
        );
        assert_eq!(
            [
                &result.findings[0].details[0],
                &result.findings[1].details[0]
            ],
            [
                "ztunnel ignores it; a waypoint takes it when it is deployed. It sets image.",
                "ztunnel ignores it, and waypoints do, unless its selector names their pods. It sets concurrency."
            ]
        );
    }

    #[test]
    fn a_mesh_without_any_says_nothing() {
        assert_eq!(lines(&run(&CHECK, &crate::phases::testing::mesh())), []);
    }
}
