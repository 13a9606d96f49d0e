//! Which policies of a chain decide anything, and what a CUSTOM does there.
//!
//! In come the policies of an HTTP or TCP chain, out comes for each CUSTOM who is asked or why it
//! refuses. Written from istio/istio `pilot/pkg/security/authz/builder/builder.go`. Invariant: a policy
//! that is left out here can change no decision.

use std::collections::BTreeSet;

use crate::decision::CustomRefusal;
use crate::enforced::{Custom, CustomThen};
use crate::policy::{Action, Policy};
use crate::settings::{Behaviour, Settings};

/// Whether an ALLOW or DENY policy decides anything. In dry-run its rules go to the shadow rules, which
/// decide nothing; a dry-run ALLOW does not make the others default to deny (`builder.go:build`,
/// `hasEnforcePolicy`).
pub(crate) fn decides(policy: &Policy) -> bool {
    !policy.dry_run
}

/// The CUSTOM policies of an HTTP or TCP chain. The policies must be sorted.
pub(crate) fn custom<'a>(
    policies: &[&'a Policy],
    settings: &Settings,
    tcp: bool,
) -> Vec<Custom<'a>> {
    let several = several_providers(policies, settings.behaviour);
    let custom = policies.iter().filter_map(|&policy| match &policy.action {
        Action::Custom { provider } => Some(Custom {
            policy,
            provider,
            then: custom_then(policy, provider, settings, several, tcp)?,
        }),
        Action::Allow | Action::Deny | Action::Audit => None,
    });
    custom.collect()
}

/// More than one provider on a chain where the release can do only one (`builder.go:buildHTTP`).
/// Policies in dry-run count.
fn several_providers(policies: &[&Policy], behaviour: Behaviour) -> bool {
    let providers: BTreeSet<&str> = policies
        .iter()
        .filter_map(|policy| match &policy.action {
            Action::Custom { provider } => Some(provider.as_str()),
            _ => None,
        })
        .collect();
    providers.len() > 1 && !behaviour.multiple_custom_providers
}

/// `None`: the policy has no effect.
fn custom_then(
    policy: &Policy,
    provider: &str,
    settings: &Settings,
    several: bool,
    tcp: bool,
) -> Option<CustomThen> {
    if policy.dry_run {
        return settings
            .behaviour
            .dry_run_custom_unclear
            .then_some(CustomThen::Unclear);
    }
    if several {
        return Some(CustomThen::Refuse(CustomRefusal::SeveralProviders));
    }
    match settings
        .authorizers
        .iter()
        .find(|authorizer| authorizer.name == provider)
    {
        None if !settings.authorizers_known => Some(CustomThen::Ask),
        None => Some(CustomThen::Refuse(CustomRefusal::UnknownProvider)),
        // `builder.go:buildTCP`: "ignored CUSTOM action with HTTP provider on TCP filter chain".
        Some(authorizer) if tcp && authorizer.http_only => None,
        Some(_) => Some(CustomThen::Ask),
    }
}
