//! The seven phases, run from the top until one has something to say.
//!
//! In: a [`Mesh`](crate::mesh::Mesh) and the user's choices. Out: one [`PhaseResult`] a phase that ran. Each phase is
//! a list of [`Check`]s; a check is one file that holds its code, what it reads, its explanation
//! (the file's own header) and its `run`. Invariant: checks are pure; what several of them need
//! is computed once, in [`Context`].

pub mod check;
pub mod cluster_setup;
pub mod commands;
pub mod deploy_waypoints;
pub mod installation;
pub mod migrate_policies;
pub mod ownership;
pub mod platform;
pub mod policy_simplification;
pub mod pre_reqs;
pub mod remove_sidecars;
#[cfg(test)]
pub(crate) mod testing;
pub mod use_waypoints;
pub mod wording;

use std::collections::BTreeSet;

pub use check::{Check, Context};

use crate::finding::{CheckOutcome, CheckResult, Level, Phase, PhaseOutcome, PhaseResult};
use crate::snapshot::ObjectName;

/// What a user chose for `migrate`.
#[derive(Debug, Clone, Default)]
pub struct MigrateOptions {
    /// Multicluster, VMs and SPIRE become warnings; EnvoyFilters are translated.
    pub enterprise: bool,
    /// Label Services rather than namespaces.
    pub per_service: bool,
    /// Services that get a waypoint although nothing requires it (`--waypoint NS/SERVICE`).
    pub chosen_waypoints: BTreeSet<ObjectName>,
    /// Only these namespaces are migrated; empty: all.
    pub namespaces: BTreeSet<String>,
    /// Start here, leaving out what comes before.
    pub first_phase: Option<Phase>,
    /// Go on after a phase that failed or recommends.
    pub ignore_failures: bool,
}

/// Runs phases from the first (or the chosen one) and stops after the first that fails or
/// recommends, unless failures are ignored. A phase that could not be checked says so and holds
/// nothing up; the summary and the exit code remember it. `policy-simplification` is optional and
/// never holds the run up.
pub fn run(context: &Context<'_>) -> Vec<PhaseResult> {
    run_reviewed(context, &mut |_| {})
}

/// [`run`], with somebody who looks at each phase's checks and files before it is decided how the
/// phase ended: a waiver takes findings out.
pub fn run_reviewed(
    context: &Context<'_>,
    review: &mut dyn FnMut(&mut PhaseResult),
) -> Vec<PhaseResult> {
    let first = context.options.first_phase.unwrap_or(Phase::PreRequisites);
    let mut results = Vec::new();
    for phase in Phase::ALL.into_iter().filter(|phase| *phase >= first) {
        let mut result = run_phase(phase, context);
        review(&mut result);
        result.outcome = outcome(&result.checks);
        let go_on = matches!(
            result.outcome,
            PhaseOutcome::Succeeded | PhaseOutcome::CouldNotCheck
        ) || (phase == Phase::PolicySimplification
            && result.outcome == PhaseOutcome::Recommends)
            || context.options.ignore_failures;
        results.push(result);
        if !go_on {
            break;
        }
    }
    results
}

/// The checks of a phase, in the order they are printed.
pub fn checks(phase: Phase) -> &'static [Check] {
    match phase {
        Phase::PreRequisites => pre_reqs::CHECKS,
        Phase::ClusterSetup => cluster_setup::CHECKS,
        Phase::DeployWaypoints => deploy_waypoints::CHECKS,
        Phase::MigratePolicies => migrate_policies::CHECKS,
        Phase::UseWaypoints => use_waypoints::CHECKS,
        Phase::PolicySimplification => policy_simplification::CHECKS,
        Phase::RemoveSidecars => remove_sidecars::CHECKS,
    }
}

/// Runs the checks of one phase.
pub fn run_phase(phase: Phase, context: &Context<'_>) -> PhaseResult {
    let checks: Vec<CheckResult> = checks(phase)
        .iter()
        .map(|check| check.run(context))
        .collect();
    let artefacts = match phase {
        Phase::DeployWaypoints => deploy_waypoints::artefacts(context),
        Phase::MigratePolicies => migrate_policies::artefacts(context),
        _ => Vec::new(),
    };
    PhaseResult {
        phase,
        outcome: outcome(&checks),
        checks,
        artefacts,
    }
}

/// How a phase with these checks ended.
pub(crate) fn outcome(checks: &[CheckResult]) -> PhaseOutcome {
    let has = |level: Level| {
        checks
            .iter()
            .flat_map(|check| &check.findings)
            .any(|finding| finding.level == level)
    };
    if checks
        .iter()
        .any(|check| check.outcome == CheckOutcome::Failed)
        || has(Level::Error)
    {
        PhaseOutcome::Failed
    } else if has(Level::Recommendation) {
        PhaseOutcome::Recommends
    } else if checks.is_empty()
        || checks
            .iter()
            .any(|check| matches!(check.outcome, CheckOutcome::CouldNotCheck(_)))
    {
        // A phase without checks has looked at nothing.
        PhaseOutcome::CouldNotCheck
    } else {
        PhaseOutcome::Succeeded
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::check::EXPLANATION_HEADINGS;
    use super::*;

    fn all_checks() -> impl Iterator<Item = &'static Check> {
        Phase::ALL.into_iter().flat_map(checks)
    }

    #[test]
    fn codes_are_unique_and_begin_with_the_phase() {
        let mut seen = BTreeSet::new();
        for (index, phase) in Phase::ALL.into_iter().enumerate() {
            for check in checks(phase) {
                assert_eq!(check.phase, phase, "{}", check.code.0);
                let prefix = format!("CAST{:02}", index + 1);
                assert!(check.code.0.starts_with(&prefix), "{}", check.code.0);
                assert_eq!(check.code.0.len(), 8, "{}", check.code.0);
                assert!(seen.insert(check.code), "{} is used twice", check.code.0);
            }
        }
    }

    #[test]
    fn every_check_explains_itself_under_the_same_headings() {
        for check in all_checks() {
            let explanation = check.explanation();
            assert!(
                explanation.starts_with("# "),
                "{} has no title",
                check.code.0
            );
            let places: Vec<Option<usize>> = EXPLANATION_HEADINGS
                .iter()
                .map(|heading| explanation.find(heading))
                .collect();
            assert!(
                places.iter().all(Option::is_some) && places.is_sorted(),
                "{}: headings at {places:?}",
                check.code.0
            );
        }
    }
}
