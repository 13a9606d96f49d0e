//! # Sidecar objects
//!
//! ## What it finds
//! `Sidecar` objects (networking.istio.io), and what of them would be missed.
//!
//! ## Why it matters
//! ztunnel and waypoints do not read them. Limits on which services a sidecar knows are not needed
//! any more; but an egress fence (`outboundTrafficPolicy`) and listeners that move ports (`ingress`)
//! end with the sidecar.
//!
//! ## How to fix it
//! Nothing for scoping: the object is deleted in a later phase. Where it fences egress, put a
//! NetworkPolicy or an egress waypoint in its place; where it moves ports, let the application listen
//! on the Service's target port.
//!
//! ## Since and source
//! All releases. istio `pilot/pkg/model/push_context.go` (`getSidecarScope`: waypoints always have
//! the default scope); `istioctl analyze` IST0167.

use crate::finding::{Code, Finding, Level, Phase};
use crate::phases::{Check, Context};
use crate::snapshot::Kind;

pub(super) const CHECK: Check = Check {
    code: Code("CAST0403"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[],
    reads: &[Kind::Sidecar],
    source: include_str!("sidecar.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    context
        .mesh
        .traffic
        .others
        .iter()
        .filter(|one| one.kind == Kind::Sidecar && context.choice().includes(&one.name.namespace))
        .map(|one| {
            let spec = &one.raw["spec"];
            let mut finding = Finding::new(
                CHECK.code,
                Level::Warning,
                format!(
                    "Sidecar/{} will be removed in a later step: Found unsupported configurations:",
                    one.name
                ),
            )
            .about(Kind::Sidecar, &one.name, Some(&one.origin));
            if spec["egress"].is_array() {
                finding = finding.detail(
                    "Configuration scoping is detected. Typically, this is used for scalability \
                     purposes, which is not necessary with ambient.",
                );
            }
            if spec["outboundTrafficPolicy"]["mode"] == "REGISTRY_ONLY" {
                finding = finding.detail(
                    "Outbound traffic is limited to known hosts (REGISTRY_ONLY), which ambient does \
                     not enforce.",
                );
            }
            if spec["ingress"].is_array() {
                finding = finding.detail(
                    "Inbound listeners are set, which ambient ignores: applications receive traffic \
                     on the Service's target port.",
                );
            }
            if finding.details.is_empty() {
                finding = finding.detail("Ambient ignores this object.");
            }
            finding
        })
        .collect()
}
