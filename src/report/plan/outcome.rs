//! How a plan ends, and why.
//!
//! In: a [`Plan`]. Out: one word for data, and a line for each reason. Invariant: what could not be checked names the
//! check and what it lacked.

use crate::finding::{CheckOutcome, CheckResult, Level, PhaseOutcome};
use crate::plan::{Plan, PlanEnding};

/// The word, and the reasons; none where it is done.
pub(super) fn ending(plan: &Plan) -> (&'static str, Vec<String>) {
    match &plan.ending {
        PlanEnding::Done if plan.undecided() > 0 => ("undecided", Vec::new()),
        PlanEnding::Done => ("done", Vec::new()),
        PlanEnding::Partial => ("partial", plan.unsettled.clone()),
        PlanEnding::Failed(reason) => (
            "failed",
            vec![format!("a command cannot be carried out: {reason}")],
        ),
        PlanEnding::NotReady(results) => {
            let reasons = results
                .iter()
                .filter(|result| result.outcome != PhaseOutcome::Succeeded)
                .flat_map(|result| {
                    let what = match result.outcome {
                        PhaseOutcome::Failed => "failed",
                        PhaseOutcome::Recommends => "has recommendations",
                        _ => "could not be checked",
                    };
                    let phase = format!("phase {} {what}", result.phase.name());
                    let mut told: Vec<String> = (result.checks.iter().flat_map(reasons))
                        .map(|reason| format!("{phase}: {reason}"))
                        .collect();
                    if told.is_empty() {
                        told.push(phase);
                    }
                    told
                });
            ("notReady", reasons.collect())
        }
    }
}

/// Why a check did not pass.
fn reasons(check: &CheckResult) -> Vec<String> {
    let named = |reason: &str| match check.name {
        "" => reason.to_owned(),
        name => format!("{name}: {reason}"),
    };
    match &check.outcome {
        CheckOutcome::CouldNotCheck(why) => why.iter().map(|why| named(why)).collect(),
        CheckOutcome::Failed => {
            let errors = check.findings.iter();
            let mut errors = errors.filter(|finding| finding.level == Level::Error);
            let first = errors.next().and_then(|one| one.message.lines().next());
            let more = match errors.count() {
                0 => String::new(),
                more => format!(" (and {more} more: `castoff migrate` names all)"),
            };
            first
                .map(|first| named(first) + &more)
                .into_iter()
                .collect()
        }
        CheckOutcome::Passed | CheckOutcome::Warned => Vec::new(),
    }
}
