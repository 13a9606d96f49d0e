//! # A Sidecar object can be deleted
//!
//! ## What it finds
//!
//! `Sidecar` objects in namespaces where no pod has a sidecar any more.
//!
//! ## Why it matters
//!
//! ztunnel and waypoints ignore them, so that they only mislead readers. While sidecars are there,
//! they still limit what those see, and must stay.
//!
//! ## How to fix it
//!
//! Delete the object. If it listed egress hosts as a fence, replace the fence first: nothing in
//! ambient mode enforces it.
//!
//! ## Since and source
//!
//! istio pilot/pkg/model/push_context.go (`getSidecarScope`); istioctl analysis message IST0167.

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::DataPlaneMode;
use crate::phases::{Check, Context};
use crate::snapshot::Kind;

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "",
    phase: Phase::PolicySimplification,
    needs: &[],
    reads: &[Kind::Sidecar, Kind::Pod],
    source: include_str!("sidecar_objects.rs"),
    find,
};

const CODE: Code = Code("CAST0602");

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let root = mesh.settings.root_namespace.as_str();
    let has_sidecars = |namespace: &str| {
        mesh.workloads.iter().any(|workload| {
            workload.has_mode(DataPlaneMode::Sidecar)
                && (namespace == root || workload.name.namespace == namespace)
        })
    };
    // A namespace of which the input holds no workload may run any.
    let workloads_known = |namespace: &str| {
        mesh.seen_kinds.contains(&Kind::Pod) || mesh.workloads_in(namespace).next().is_some()
    };
    mesh.traffic
        .others
        .iter()
        .filter(|object| {
            object.kind == Kind::Sidecar && context.choice().includes(&object.name.namespace)
        })
        .filter(|object| workloads_known(&object.name.namespace))
        .filter(|object| !has_sidecars(&object.name.namespace))
        .map(|object| {
            let command = format!(
                "kubectl delete {} -n {} {}",
                Kind::Sidecar.resource(),
                object.name.namespace,
                object.name.name
            );
            Finding::new(
                CODE,
                Level::Recommendation,
                format!("Sidecar has no effect any more and can be deleted: {command}"),
            )
            .about(Kind::Sidecar, &object.name, Some(&object.origin))
            .remedy(Remedy::command_without_undo(command))
        })
        .collect()
}
