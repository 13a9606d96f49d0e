//! # Pod annotations that ambient passes over
//!
//! ## What it finds
//! Annotations `traffic.sidecar.istio.io/…` on pods with sidecars: ports and address ranges that the
//! sidecar leaves alone, or alone takes.
//!
//! ## Why it matters
//! ztunnel captures all TCP of a pod and reads none of them. A port that was left alone comes under
//! STRICT mTLS and under every policy for the pod, so callers without identity are refused; calls that
//! went past the mesh go through it.
//!
//! ## How to fix it
//! Give an inbound port mode PERMISSIVE by `portLevelMtls` and allow it in the policies, or let the pod
//! bypass inbound capture as a whole with `ambient.istio.io/bypass-inbound-capture: "true"`. Excluded
//! outbound traffic mostly needs nothing: unknown destinations pass through. Virtual interfaces are
//! named by `istio.io/reroute-virtual-interfaces`.
//!
//! ## Since and source
//! All releases. istio issue 49829; istio api annotation/annotations.yaml; ztunnel and cni/pkg/iptables
//! read none of them but the ambient ones.

use std::collections::BTreeMap;

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::DataPlaneMode;
use crate::phases::{Check, Context, wording};
use crate::snapshot::{Kind, ObjectName};

pub(super) const CHECK: Check = Check {
    code: Code("CAST0407"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[],
    reads: &[
        Kind::Pod,
        Kind::Deployment,
        Kind::StatefulSet,
        Kind::DaemonSet,
    ],
    source: include_str!("pod_annotations.rs"),
    find,
};

const PREFIX: &str = "traffic.sidecar.istio.io/";

/// Annotation, what its end means, and what to do.
const KNOWN: [(&str, &str, &str); 8] = [
    (
        "excludeInboundPorts",
        "these ports come under mTLS and policies",
        INBOUND,
    ),
    (
        "includeInboundPorts",
        "all other ports come under mTLS and policies too",
        INBOUND,
    ),
    (
        "excludeOutboundPorts",
        "calls to these ports go through ztunnel",
        OUTBOUND,
    ),
    (
        "includeOutboundPorts",
        "calls to all ports go through ztunnel",
        OUTBOUND,
    ),
    (
        "excludeOutboundIPRanges",
        "calls to these addresses go through ztunnel",
        OUTBOUND,
    ),
    (
        "includeOutboundIPRanges",
        "calls to all addresses go through ztunnel",
        OUTBOUND,
    ),
    (
        "excludeInterfaces",
        "traffic of these interfaces is captured",
        INTERFACES,
    ),
    (
        "kubevirtInterfaces",
        "traffic of these interfaces is not taken for outbound",
        INTERFACES,
    ),
];

const INBOUND: &str = "give the ports mode PERMISSIVE by portLevelMtls and allow them in policies, or let the pods \
                       bypass inbound capture: annotation ambient.istio.io/bypass-inbound-capture=true";
const OUTBOUND: &str = "try the calls named above once from an ambient pod; destinations unknown to the mesh pass through \
                        as they are";
const INTERFACES: &str =
    "name virtual interfaces by the annotation istio.io/reroute-virtual-interfaces";

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mut found: BTreeMap<(&str, usize), Vec<String>> = BTreeMap::new();
    for workload in &context.mesh.workloads {
        if !workload.is_mesh_application()
            || !workload.has_mode(DataPlaneMode::Sidecar)
            || !context.choice().includes(&workload.name.namespace)
        {
            continue;
        }
        for (key, value) in workload.template_annotations.iter() {
            let Some(rest) = key.strip_prefix(PREFIX) else {
                continue;
            };
            // An empty exclusion excludes nothing; `*` includes all, as ztunnel does.
            if value.is_empty() && rest.starts_with("exclude") || value == "*" {
                continue;
            }
            if let Some(index) = KNOWN.iter().position(|(name, _, _)| *name == rest) {
                found
                    .entry((&workload.name.namespace, index))
                    .or_default()
                    .push(format!("{}: \"{value}\"", wording::workload(workload)));
            }
        }
    }
    found
        .into_iter()
        .map(|((namespace, index), mut workloads)| {
            let (name, meaning, remedy) = KNOWN[index];
            workloads.sort();
            let mut finding = Finding::new(
                CHECK.code,
                Level::Warning,
                format!("Namespace {namespace}: annotation {PREFIX}{name} ends with the sidecar: {meaning}:"),
            )
            .about(Kind::Namespace, &ObjectName::new("", namespace), None)
            .remedy(Remedy::Advice(remedy.to_owned()));
            finding.details = wording::few(&workloads, 5);
            finding.names = workloads;
            finding
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::OwnerKind;
    use crate::phases::testing::{lines, mesh_with, run, workload};

    #[test]
    fn annotations_are_told_by_namespace_with_their_values() {
        let annotated = |name: &str, pairs: &[(&str, &str)]| {
            let mut one = workload(OwnerKind::Deployment, "shop", name);
            one.template_annotations = pairs.iter().copied().collect();
            one
        };
        let mesh = mesh_with(vec![
            annotated(
                "db",
                &[("traffic.sidecar.istio.io/excludeInboundPorts", "3306")],
            ),
            annotated(
                "cache",
                &[("traffic.sidecar.istio.io/excludeInboundPorts", "6379")],
            ),
            annotated(
                "web",
                &[
                    ("traffic.sidecar.istio.io/includeInboundPorts", "*"),
                    ("traffic.sidecar.istio.io/excludeOutboundPorts", ""),
                ],
            ),
        ]);
        let result = run(&CHECK, &mesh);
        assert_eq!(
            lines(&result),
            [(
                Level::Warning,
                "Namespace shop: annotation traffic.sidecar.istio.io/excludeInboundPorts ends with the sidecar: \
                 these ports come under mTLS and policies:"
            )]
        );
        assert_eq!(
            result.findings[0].details,
            [
                "Deployment shop/cache: \"6379\"",
                "Deployment shop/db: \"3306\""
            ]
        );
    }

    #[test]
    fn a_pod_without_a_sidecar_has_nothing_to_lose() {
        let mut one = workload(OwnerKind::Deployment, "shop", "db");
        one.template_annotations = [("traffic.sidecar.istio.io/excludeInboundPorts", "3306")]
            .into_iter()
            .collect();
        one.generations = vec![crate::phases::testing::pods(
            DataPlaneMode::Ambient,
            &["db-0"],
        )];
        assert_eq!(lines(&run(&CHECK, &mesh_with(vec![one]))), []);
    }
}
