//! Phase `migrate-policies`: policies for waypoints, and what ambient mode passes over.

mod copies;
mod destination_rule_tls;
mod dry_run;
mod egress_fence;
mod envoy_filter;
mod metrics;
mod network_policies;
mod outbound_extensions;
mod peer_authentication;
mod pod_annotations;
mod proxy_config;
mod refusals;
mod route_matches;
mod sidecar;
mod unread_routing;
mod visibility;

use super::{Check, Context};
use crate::convert::{Generated, Purpose};
use crate::finding::Artefact;
use crate::manifest;

/// The file that the policies are written to.
pub const FILE: &str = "recommended-policies.yaml";

/// The file that edited policies of the user's own are written to.
pub const EDITED_FILE: &str = "edited-policies.yaml";

/// The file that the NetworkPolicies are written to.
pub const NETWORK_FILE: &str = "recommended-network-policies.yaml";

/// The checks, in the order they are printed.
pub const CHECKS: &[Check] = &[
    sidecar::CHECK,
    envoy_filter::CHECK,
    outbound_extensions::CHECK,
    peer_authentication::CHECK,
    unread_routing::CHECK,
    route_matches::CHECK,
    destination_rule_tls::CHECK,
    visibility::CHECK,
    egress_fence::CHECK,
    dry_run::CHECK,
    pod_annotations::CHECK,
    metrics::CHECK,
    proxy_config::CHECK,
    refusals::CHECK,
    copies::CHECK,
    network_policies::CHECK,
];

/// The file that an object is written to. The user's own objects stand apart: who deploys from Git has
/// them there already.
fn file_of(one: &Generated) -> &'static str {
    match one.purpose {
        Purpose::Edit { .. } => EDITED_FILE,
        Purpose::Copy { .. } | Purpose::Guard { .. } => FILE,
    }
}

/// Files that the phase writes: what there is to apply.
pub fn artefacts(context: &Context<'_>) -> Vec<Artefact> {
    let of = |edited: bool| {
        let wanted = context.conversion().to_apply();
        let wanted = wanted.filter(|one| file_of(one) == if edited { EDITED_FILE } else { FILE });
        manifest::documents(wanted.map(|one| &one.manifest))
    };
    let (policies, edited) = (of(false), of(true));
    let hbone = network_policies::to_apply(context);
    let network_policies = manifest::documents(hbone.iter().map(|one| &one.manifest));
    [
        (FILE, "Recommended policies written to", policies),
        (EDITED_FILE, "Edited policies written to", edited),
        (
            NETWORK_FILE,
            "Recommended NetworkPolicies written to",
            network_policies,
        ),
    ]
    .into_iter()
    .filter(|(_, _, content)| !content.is_empty())
    .map(|(file, announced_as, content)| Artefact {
        file,
        announced_as,
        content,
    })
    .collect()
}
