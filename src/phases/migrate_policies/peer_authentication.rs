//! # PeerAuthentications that switch mTLS off
//!
//! ## What it finds
//! PeerAuthentications with mode DISABLE, for all ports or one.
//!
//! ## Why it matters
//! ztunnel takes DISABLE for PERMISSIVE: it accepts mTLS, and callers in the mesh send it. Where STRICT
//! is inherited it passes over the DISABLE of a port; CAST0401 then writes the mode out.
//!
//! ## How to fix it
//! Remove the mode. A workload that must have plaintext is left out of the mesh with the label
//! `istio.io/dataplane-mode: none`.
//!
//! ## Since and source
//! All releases. istio `pilot/pkg/serviceregistry/ambient/authorization.go`
//! (`convertPeerAuthentication`).

use crate::finding::{Code, Finding, Level, Phase};
use crate::mesh::policy::MtlsMode;
use crate::phases::{Check, Context};
use crate::snapshot::Kind;

pub(super) const CHECK: Check = Check {
    code: Code("CAST0405"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[],
    reads: &[Kind::PeerAuthentication],
    source: include_str!("peer_authentication.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    context
        .mesh
        .peer_authentications
        .iter()
        .filter(|one| context.choice().includes(&one.name.namespace))
        .filter_map(|one| {
            let mut places: Vec<String> = Vec::new();
            if one.mode == MtlsMode::Disable {
                places.push("spec.mtls.mode".to_owned());
            }
            for (port, mode) in &one.port_modes {
                if *mode == MtlsMode::Disable {
                    places.push(format!("spec.portLevelMtls[{port}].mode"));
                }
            }
            (!places.is_empty()).then(|| {
                let mut finding = Finding::new(
                    CHECK.code,
                    Level::Warning,
                    format!(
                        "PeerAuthentication/{} switches mTLS off, which ambient does not do:",
                        one.name
                    ),
                )
                .about(Kind::PeerAuthentication, &one.name, Some(&one.origin));
                finding.details = places
                    .into_iter()
                    .map(|place| format!("{place}: DISABLE is taken for PERMISSIVE."))
                    .collect();
                finding
            })
        })
        .collect()
}
