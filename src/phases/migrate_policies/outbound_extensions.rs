//! # Extensions for requests that workloads send
//!
//! ## What it finds
//! WasmPlugins and TrafficExtensions with `match.mode: CLIENT`, Telemetry overrides for `CLIENT`, and
//! EnvoyFilters that patch `SIDECAR_OUTBOUND`, on workloads with sidecars.
//!
//! ## Why it matters
//! Without a sidecar nothing of Envoy stands on the caller's side: what they add to outgoing requests
//! (headers, tokens, rate limits, metrics) ends, and no copy at a waypoint brings it back, because a
//! waypoint stands before the server.
//!
//! ## How to fix it
//! Attach it to the waypoints of the servers that are called, or to an egress waypoint for what leaves
//! the mesh; do it in the application; or leave the workload with its sidecar.
//!
//! ## Since and source
//! All releases. istio pilot/pkg/model/extensions.go (`matchTrafficSelector`: a waypoint is SERVER),
//! pilot/pkg/model/telemetry.go, pilot/pkg/networking/core/listener_waypoint.go (patch context
//! SIDECAR_INBOUND).

use serde_json::Value;

use crate::finding::{Code, Finding, Level, Phase};
use crate::mesh::{Attachment, ExtensionPolicy};
use crate::needs::is_generated;
use crate::phases::{Check, Context};
use crate::snapshot::Kind;

pub(super) const CHECK: Check = Check {
    code: Code("CAST0409"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[],
    reads: &[
        Kind::WasmPlugin,
        Kind::TrafficExtension,
        Kind::Telemetry,
        Kind::EnvoyFilter,
    ],
    source: include_str!("outbound_extensions.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    context
        .mesh
        .extension_policies
        .iter()
        .filter(|one| {
            context.choice().includes(&one.name.namespace)
                && !is_generated(&one.labels)
                && !matches!(one.attachment, Attachment::Targets(_))
        })
        .filter_map(|one| {
            let places = match one.kind {
                // Without `--enterprise` the whole filter is reported by its own check.
                Kind::EnvoyFilter if !context.options.enterprise => return None,
                Kind::EnvoyFilter => outbound_patches(&one.raw),
                Kind::Telemetry => client_overrides(&one.raw),
                _ => client_matches(&one.raw),
            };
            (!places.is_empty()).then(|| finding(one, places))
        })
        .collect()
}

fn finding(one: &ExtensionPolicy, places: Vec<String>) -> Finding {
    let mut finding = Finding::new(
        CHECK.code,
        Level::Warning,
        format!(
            "{}/{} is for requests that workloads send, and ends with their sidecars:",
            one.kind.row().name,
            one.name
        ),
    )
    .about(one.kind, &one.name, Some(&one.origin));
    if let (Some(subject), Some((field, _))) = (
        &mut finding.subject,
        places.first().and_then(|place| place.split_once(':')),
    ) {
        subject.field = Some(field.to_owned());
    }
    finding.details = places;
    finding
}

fn list(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}

/// Traffic selectors; one that names no mode is for both directions, and a plugin without selectors
/// too (api extensions/v1alpha1 `TrafficSelector`): on requests that are sent it ends all the same.
fn client_matches(raw: &Value) -> Vec<String> {
    list(&raw["spec"]["match"])
        .filter_map(|(index, one)| match one["mode"].as_str() {
            Some("CLIENT") => Some(format!("spec.match[{index}].mode: CLIENT")),
            Some("CLIENT_AND_SERVER") => Some(format!(
                "spec.match[{index}].mode: CLIENT_AND_SERVER (its server half is carried over)"
            )),
            _ => None,
        })
        .collect()
}

fn client_overrides(raw: &Value) -> Vec<String> {
    let spec = &raw["spec"];
    let metrics = list(&spec["metrics"]).flat_map(|(index, metric)| {
        list(&metric["overrides"])
            .filter(|(_, one)| one["match"]["mode"] == "CLIENT")
            .map(move |(position, _)| {
                format!("spec.metrics[{index}].overrides[{position}].match.mode: CLIENT")
            })
            .collect::<Vec<_>>()
    });
    let of = |key: &'static str| {
        list(&spec[key])
            .filter(|(_, one)| one["match"]["mode"] == "CLIENT")
            .map(move |(index, _)| format!("spec.{key}[{index}].match.mode: CLIENT"))
            .collect::<Vec<_>>()
    };
    metrics
        .chain(of("tracing"))
        .chain(of("accessLogging"))
        .collect()
}

fn outbound_patches(raw: &Value) -> Vec<String> {
    list(&raw["spec"]["configPatches"])
        .filter(|(_, patch)| patch["match"]["context"] == "SIDECAR_OUTBOUND")
        .map(|(index, _)| format!("spec.configPatches[{index}].match.context: SIDECAR_OUTBOUND"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::MigrateOptions;
    use crate::phases::testing::{lines, read, run, run_with};

    const EXTENSIONS: &str = "
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: sign, namespace: shop}
spec: {url: oci://x, match: [{mode: CLIENT}]}
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: check, namespace: shop}
spec: {url: oci://x, match: [{mode: SERVER}]}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: less, namespace: shop}
spec: {metrics: [{overrides: [{match: {mode: CLIENT}, disabled: true}]}]}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: limit, namespace: shop}
spec:
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_OUTBOUND}
    patch: {operation: INSERT_BEFORE, value: {name: x}}
";

    #[test]
    fn what_is_sent_and_never_comes_back_is_named_with_its_field() {
        let (mesh, snapshot) = read(EXTENSIONS);
        let result = run(&CHECK, &mesh);
        let ends = "is for requests that workloads send, and ends with their sidecars:";
        assert_eq!(
            lines(&result),
            [
                (
                    Level::Warning,
                    format!("Telemetry/shop/less {ends}").as_str()
                ),
                (
                    Level::Warning,
                    format!("WasmPlugin/shop/sign {ends}").as_str()
                ),
            ]
        );
        assert_eq!(result.findings[1].details, ["spec.match[0].mode: CLIENT"]);
        let options = MigrateOptions {
            enterprise: true,
            ..MigrateOptions::default()
        };
        let result = run_with(&CHECK, &mesh, &snapshot, &options);
        assert!(
            lines(&result).contains(&(
                Level::Warning,
                format!("EnvoyFilter/shop/limit {ends}").as_str()
            )),
            "{result:?}"
        );
    }

    #[test]
    fn a_mesh_without_any_says_nothing() {
        assert_eq!(lines(&run(&CHECK, &crate::phases::testing::mesh())), []);
    }
}
