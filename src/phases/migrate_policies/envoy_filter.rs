//! # EnvoyFilters that waypoints do not take
//!
//! ## What it finds
//! EnvoyFilters that patch sidecars, when they are not translated (`--enterprise` translates those
//! that can be); and translated ones that the Istio in use is too old for.
//!
//! ## Why it matters
//! ztunnel is no Envoy, and waypoints heed only EnvoyFilters that name them in `targetRefs`. What
//! the filter did, be it authorization, rate limits or headers, ends with the sidecar.
//!
//! ## How to fix it
//! Say it with Istio's own objects (WasmPlugin, VirtualService, Telemetry, mesh configuration), or
//! leave the workload with its sidecar.
//!
//! ## Since and source
//! `targetRefs` to a Gateway since Istio 1.27, to a GatewayClass since 1.28; before, a waypoint passes
//! such a filter over. istio `pilot/pkg/model/push_context.go`
//! (`getMatchedEnvoyFilters`).

use crate::convert::Generated;
use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::Attachment;
use crate::phases::{Check, Context};
use crate::snapshot::Kind;

pub(super) const CHECK: Check = Check {
    code: Code("CAST0404"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[],
    reads: &[Kind::EnvoyFilter],
    source: include_str!("envoy_filter.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    if context.options.enterprise {
        return too_old(context);
    }
    context
        .mesh
        .extension_policies
        .iter()
        .filter(|one| {
            one.kind == Kind::EnvoyFilter
                && context.choice().includes(&one.name.namespace)
                && !matches!(one.attachment, Attachment::Targets(_))
                && (one.contexts.is_empty()
                    || one.contexts.iter().any(|context| context != "GATEWAY"))
        })
        .map(|one| {
            Finding::new(
                CHECK.code,
                Level::Warning,
                format!("EnvoyFilter/{} has no effect in ambient mode:", one.name),
            )
            .about(one.kind, &one.name, Some(&one.origin))
            .detail(format!(
                "It patches sidecars ({}).",
                if one.contexts.is_empty() {
                    "ANY".to_owned()
                } else {
                    one.contexts.join(", ")
                }
            ))
        })
        .collect()
}

/// Translated filters that waypoints of the oldest istiod do not take.
fn too_old(context: &Context<'_>) -> Vec<Finding> {
    let oldest = context
        .mesh
        .control_planes
        .iter()
        .filter_map(|one| one.version.as_ref())
        .min();
    let Some(oldest) = oldest else {
        return Vec::new();
    };
    context
        .conversion()
        .generated
        .iter()
        .filter(|one| one.kind == Kind::EnvoyFilter)
        .filter_map(|one| {
            let minor = needed_minor(one);
            (!oldest.at_least(1, minor)).then(|| {
                Finding::new(
                    CHECK.code,
                    Level::Recommendation,
                    format!(
                        "EnvoyFilter/{} would have no effect: its targetRefs are read since Istio 1.{minor}, and this \
                         is {oldest}",
                        one.name
                    ),
                )
                .about(one.kind, &one.name, None)
                .remedy(Remedy::Advice(format!(
                    "upgrade Istio to 1.{minor} before EnvoyFilters move to waypoints"
                )))
            })
        })
        .collect()
}

/// The minor release of Istio 1 since which the targets of a filter are read.
fn needed_minor(one: &Generated) -> u32 {
    let targets = one.manifest.pointer("/spec/targetRefs");
    let of_class = targets
        .and_then(serde_json::Value::as_array)
        .into_iter()
        .flatten()
        .any(|target| target["kind"] == "GatewayClass");
    if of_class { 28 } else { 27 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::MigrateOptions;
    use crate::phases::testing::{lines, read, run_with};

    fn said(version: &str, enterprise: bool) -> Vec<(Level, String)> {
        let (mesh, snapshot) = read(&format!(
            "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: istiod, namespace: istio-system, labels: {{app: istiod}}}}
spec:
  template:
    metadata: {{labels: {{app: istiod}}}}
    spec: {{containers: [{{name: discovery, image: 'istio/pilot:{version}'}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: shop, labels: {{app: web}}}}
spec: {{containers: [{{name: istio-proxy, image: istio/proxyv2:1.30.0, args: [proxy, sidecar]}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec: {{clusterIP: 10.0.0.1, selector: {{app: web}}, ports: [{{name: http, port: 80}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: waypoint, namespace: shop}}
spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]}}
status: {{addresses: [{{value: 10.0.0.2}}], conditions: [{{type: Programmed, status: 'True'}}]}}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: lua, namespace: shop}}
spec:
  configPatches:
  - applyTo: HTTP_FILTER
    match: {{context: SIDECAR_INBOUND}}
    patch: {{operation: INSERT_BEFORE, value: {{name: lua}}}}
"
        ));
        let options = MigrateOptions {
            enterprise,
            ..MigrateOptions::default()
        };
        lines(&run_with(&CHECK, &mesh, &snapshot, &options))
            .into_iter()
            .map(|(level, line)| (level, line.to_owned()))
            .collect()
    }

    #[test]
    fn without_translation_a_filter_of_sidecars_is_warned_of() {
        assert_eq!(
            said("1.30.0", false),
            [(
                Level::Warning,
                "EnvoyFilter/shop/lua has no effect in ambient mode:".to_owned()
            )]
        );
    }

    #[test]
    fn a_translated_filter_needs_an_istio_that_reads_its_target() {
        assert_eq!(
            said("1.26.2", true),
            [(
                Level::Recommendation,
                "EnvoyFilter/shop/waypoint-lua would have no effect: its targetRefs are read since Istio 1.27, and \
                 this is 1.26.2"
                    .to_owned()
            )]
        );
        assert_eq!(said("1.27.0", true), []);
    }
}
