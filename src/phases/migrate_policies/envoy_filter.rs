//! # EnvoyFilters that waypoints do not take
//!
//! ## What it finds
//! EnvoyFilters that patch sidecars, when they are not translated (`--enterprise` translates those
//! that can be).
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
//! `targetRefs` since Istio 1.27. istio `pilot/pkg/model/push_context.go`
//! (`getMatchedEnvoyFilters`).

use crate::finding::{Code, Finding, Level, Phase};
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
        return Vec::new();
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
