//! Whose request shows a difference, where several do.
//!
//! In: a verdict with its question, and the class of callers. Out: the verdict, told by somebody else than the
//! server itself. Invariant: only witnesses change; what is
//! opened, broken or not decided stays so.

use castoff_authz::verdict::{self, Comparison, Finding, Limits, Verdict};

use super::callers::CallerClass;
use super::question::representatives;
use crate::mesh::{Mesh, WorkloadId};

/// Takes witnesses of anybody but the server, whose calls to itself are the least likely ones, where somebody
/// else of the class shows the same.
pub(super) fn told_by_others(
    mut verdict: Verdict,
    comparison: &Comparison,
    class: &CallerClass,
    server: WorkloadId,
    mesh: &Mesh,
    limits: Limits,
) -> Verdict {
    let own = mesh.workload(server).principal(&mesh.settings.trust_domain);
    let is_own = |finding: &Finding| matches!(finding, Finding::Witness(witness) if witness.request.principal.as_deref() == Some(&own));
    if !is_own(&verdict.opens) && !is_own(&verdict.breaks) {
        return verdict;
    }
    let Some(identities) = class.identities_without(server, &own) else {
        return verdict;
    };
    let mut others = comparison.clone();
    others.caller.identity = representatives(&identities, &others.baseline, &others.present);
    let again = verdict::compare(&others, limits);
    for (finding, other) in [
        (&mut verdict.opens, again.opens),
        (&mut verdict.breaks, again.breaks),
    ] {
        if is_own(finding) && matches!(other, Finding::Witness(_)) {
            *finding = other;
        }
    }
    verdict
}
