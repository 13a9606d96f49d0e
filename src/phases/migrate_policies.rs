//! Phase `migrate-policies`: policies for waypoints, and what ambient mode passes over.

mod copies;
mod envoy_filter;
mod peer_authentication;
mod refusals;
mod sidecar;

use super::{Check, Context};
use crate::finding::Artefact;
use crate::manifest;

/// The file that the policies are written to.
pub const FILE: &str = "recommended-policies.yaml";

/// The checks, in the order they are printed.
pub const CHECKS: &[Check] = &[
    sidecar::CHECK,
    envoy_filter::CHECK,
    peer_authentication::CHECK,
    refusals::CHECK,
    copies::CHECK,
];

/// Files that the phase writes: the policies to apply, if there are any.
pub fn artefacts(context: &Context<'_>) -> Vec<Artefact> {
    let content = manifest::documents(context.conversion().to_apply().map(|one| &one.manifest));
    if content.is_empty() {
        return Vec::new();
    }
    vec![Artefact {
        file: FILE,
        announced_as: "Recommended policies written to",
        content,
    }]
}
