//! # A NetworkPolicy that blocks HBONE
//!
//! ## What it finds
//! NetworkPolicies that select pods of the mesh, or the pods of a waypoint, and do not admit port
//! 15008: from the peers that they admit now, and from the waypoint in front of the pods.
//!
//! ## Why it matters
//! In ambient mode everything between pods of the mesh arrives at port 15008, from the client's own
//! address or from the waypoint's. A policy that admits only the application's port turns all of it
//! away, although every authorization policy allows it. Probes of the kubelet arrive from
//! 169.254.7.127.
//!
//! ## How to fix it
//! Apply the generated `recommended-network-policies.yaml`. NetworkPolicies add up, so that the
//! originals stay as they are. Inside the tunnel a NetworkPolicy no longer tells ports apart: what it
//! kept closed must be closed by an AuthorizationPolicy, and `castoff plan` and `castoff verify` show
//! what would open.
//!
//! ## Since and source
//! All releases with ambient mode; istio.io, "Ambient and Kubernetes NetworkPolicy".

use super::NETWORK_FILE;
use crate::convert::Presence;
use crate::convert::network::{HbonePolicy, hbone_policies};
use crate::finding::{Code, Finding, Level, Phase, Remedy, Subject};
use crate::phases::{Check, Context};
use crate::snapshot::Kind;

pub(super) const CHECK: Check = Check {
    code: Code("CAST0406"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[],
    reads: &[
        Kind::NetworkPolicy,
        Kind::Service,
        Kind::Pod,
        Kind::Gateway,
        Kind::Namespace,
    ],
    source: include_str!("network_policies.rs"),
    find,
};

/// NetworkPolicies that are not applied as they should be.
pub(super) fn to_apply(context: &Context<'_>) -> Vec<HbonePolicy> {
    let choice = context.choice();
    hbone_policies(context.mesh, &context.conversion().served)
        .into_iter()
        .filter(|one| one.presence != Presence::Equal && choice.includes(&one.name.namespace))
        .collect()
}

fn find(context: &Context<'_>) -> Vec<Finding> {
    to_apply(context)
        .into_iter()
        .map(|one| {
            let mut finding = Finding::new(
                CHECK.code,
                Level::Recommendation,
                format!(
                    "Apply NetworkPolicy/{}: {} blocks port 15008, through which ambient traffic arrives.",
                    one.name, one.beside
                ),
            )
            .about(Kind::NetworkPolicy, &one.name, None)
            .remedy(Remedy::Apply {
                file: NETWORK_FILE,
                object: Subject {
                    kind: Kind::NetworkPolicy,
                    name: one.name.clone(),
                    field: None,
                    origin: None,
                },
            });
            if let Presence::Differs(path) = &one.presence {
                finding = finding.detail(format!("The one that is applied differs in {path}."));
            }
            finding
        })
        .collect()
}
