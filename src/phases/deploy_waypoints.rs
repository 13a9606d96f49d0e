//! Phase `deploy-waypoints`: which Services need a waypoint, and the Gateways to apply.

pub(crate) mod advice;
mod broken;
mod captured;
mod not_ready;
mod required;
mod unservable;

use super::{Check, Context};
use crate::finding::Artefact;
use crate::manifest;
use crate::needs::{Reason, recommended_waypoints};

/// The file that the Gateways are written to.
pub const FILE: &str = "recommended-waypoints.yaml";

/// The checks, in the order they are printed.
pub const CHECKS: &[Check] = &[
    required::CHECK,
    not_ready::CHECK,
    captured::CHECK,
    broken::CHECK,
    unservable::CHECK,
    advice::CHECK,
];

/// Files that the phase writes: the Gateways to apply, if there are any.
pub fn artefacts(context: &Context<'_>) -> Vec<Artefact> {
    let recommended = recommended_waypoints(context.mesh, context.needs());
    if recommended.is_empty() {
        return Vec::new();
    }
    vec![Artefact {
        file: FILE,
        announced_as: "Generated waypoints written to",
        content: manifest::documents(recommended.iter().map(|one| &one.manifest)),
    }]
}

/// `depends on VirtualService "application/hello-world"`, with what of it decides where that is
/// not the whole object.
pub(crate) fn reason_words(reason: &Reason) -> String {
    match &reason.object {
        None => format!("is {}", reason.why),
        Some(object) => {
            let kind = object.kind.row().name;
            if reason.why.is_empty() {
                format!("depends on {kind} \"{}\"", object.name)
            } else {
                format!("depends on {kind} \"{}\": {}", object.name, reason.why)
            }
        }
    }
}
