//! What is said of one server: its answers port by port, in one word, and what should be known
//! besides.
//!
//! In: verdicts of the prover. Out: a [`ServerRow`]. Invariant: what is not decided, and a bug of the
//! prover, is never called the same.

use std::collections::BTreeSet;

use castoff_authz::path::{AddressKind, EnforcementPath};
use castoff_authz::policy::Action;
use castoff_authz::unknown::Unknown;
use castoff_authz::verdict::{Finding, UndecidedReason, Verdict};

use super::callers::Member;
use super::known::Arrival;
use super::{CallerMode, Content, tell};
pub use crate::finding::RowVerdict;
use crate::mesh::{DataPlaneMode, Workload};
use crate::snapshot::ObjectName;

/// The answer for one class of callers at one port of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortAnswer {
    /// The pods' port; [`ANY_OTHER_PORT`](castoff_authz::path::ANY_OTHER_PORT) for all that nothing names.
    pub port: u16,
    /// Which pods answer now.
    pub generation: DataPlaneMode,
    /// What is sent.
    pub content: Content,
    /// Who calls, in words.
    pub callers: &'static str,
    /// The paths of the baseline, for telling a witness.
    pub baseline: Vec<EnforcementPath>,
    /// The paths now.
    pub present: Vec<EnforcementPath>,
    /// The verdict.
    pub verdict: Verdict,
    /// The class of callers, where the answer is for one.
    pub(super) kind: Option<Arrival>,
    /// The member of it for whom it was asked, where NetworkPolicies tell members apart.
    pub(super) member: Option<Member>,
    /// Whether somebody by name is known to call so and to lose by it.
    pub known: bool,
    /// Why the loss counts, and what can be done about it.
    pub told: Vec<String>,
    /// The same of a gain, where those who gain would not be thought of.
    pub told_of_gain: Vec<String>,
}

impl PortAnswer {
    /// An answer for callers of whom nothing more is known or said.
    pub(super) fn new(
        (port, generation): (u16, DataPlaneMode),
        content: Content,
        callers: &'static str,
        [baseline, present]: [Vec<EnforcementPath>; 2],
        verdict: Verdict,
    ) -> Self {
        Self {
            port,
            generation,
            content,
            callers,
            baseline,
            present,
            verdict,
            kind: None,
            member: None,
            known: false,
            told: Vec::new(),
            told_of_gain: Vec::new(),
        }
    }

    /// Who is named as gaining (`opens`) or losing (`breaks`) for his own move alone, with what is said of it: he came
    /// by a sidecar and is ambient now, and the pods that answer are old ones.
    pub fn by_own_move(&self) -> Vec<(&str, &'static str, Vec<String>)> {
        let moved = self
            .kind
            .is_some_and(|(before, now, _)| (before, now) == MOVED);
        if !moved || self.generation != DataPlaneMode::Sidecar {
            return Vec::new();
        }
        let directions = [
            ("opens", &self.verdict.opens),
            ("breaks", &self.verdict.breaks),
        ];
        let told = directions.into_iter().filter_map(|(direction, finding)| {
            let Finding::Witness(witness) = finding else {
                return None;
            };
            let principal = witness.request.principal.as_deref()?;
            Some((principal, direction, self.witness_lines(finding)?))
        });
        told.collect()
    }

    /// Why a direction is not decided, in lines; and which external authorizer is asked no more, which alone keeps
    /// the gain of those whom it refuses from being certain.
    pub fn undecided_lines(&self, finding: &Finding) -> Vec<String> {
        let mut lines = tell::undecided(finding);
        let Finding::Undecided(undecided) = finding else {
            return lines;
        };
        if *finding != self.verdict.opens {
            return lines;
        }
        let UndecidedReason::Unknown { questions, .. } = &undecided.reason else {
            return lines;
        };
        let points = self.present.iter().flat_map(|path| &path.points);
        let policies = points.flat_map(|point| &point.policies);
        let asked: BTreeSet<&str> = policies
            .filter_map(|policy| match &policy.action {
                Action::Custom { provider } => Some(provider.as_str()),
                _ => None,
            })
            .collect();
        let gone: BTreeSet<&str> = questions
            .iter()
            .filter_map(|question| match question {
                Unknown::Authorizer { provider, .. } => Some(provider.as_str()),
                _ => None,
            })
            .filter(|provider| !asked.contains(provider))
            .collect();
        lines.extend(gone.into_iter().map(|provider| {
            format!("external authorizer `{provider}` is asked no more on the way: whomever it refused may get in")
        }));
        lines
    }

    /// What is said of a loss or a gain: the request, where it was decided, and for a loss why it counts.
    pub fn witness_lines(&self, finding: &Finding) -> Option<Vec<String>> {
        let Finding::Witness(witness) = finding else {
            return None;
        };
        let mut lines = tell::witness(witness, &self.baseline, &self.present);
        let told = if *finding == self.verdict.breaks {
            &self.told
        } else {
            &self.told_of_gain
        };
        lines.extend(told.iter().cloned());
        Some(lines)
    }
}

/// How somebody arrived who has moved, and how he arrives.
const MOVED: (CallerMode, CallerMode) = (CallerMode::Sidecar, CallerMode::Ambient);

/// Everything that can be said of one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerRow {
    /// The workload.
    pub server: ObjectName,
    /// Answers that are not plainly the same.
    pub differences: Vec<PortAnswer>,
    /// How many comparisons were made, equal ones included.
    pub compared: usize,
    /// The baseline has no such server: there is nothing to compare it with.
    pub unmatched: bool,
    /// Waypoints whose own identity may now reach the pods, by Gateway: the one gain that is meant.
    pub newly_trusted: Vec<String>,
    /// Workloads that run under a newly trusted waypoint's service account and so share its trust.
    pub shares_trust: Vec<String>,
    /// What changes neither colour nor exit code and should be known.
    pub notes: BTreeSet<String>,
}

impl ServerRow {
    /// A row without any comparison yet.
    pub(super) fn of(server: &ObjectName) -> Self {
        Self {
            server: server.clone(),
            differences: Vec::new(),
            compared: 0,
            unmatched: false,
            newly_trusted: Vec::new(),
            shares_trust: Vec::new(),
            notes: BTreeSet::new(),
        }
    }

    /// The row of a server that the baseline does not have.
    pub(super) fn unmatched(server: &ObjectName) -> Self {
        Self {
            unmatched: true,
            ..Self::of(server)
        }
    }

    /// Adds what another row says of the same server.
    pub(super) fn add(&mut self, other: Self) {
        let Self {
            server: _,
            differences,
            compared,
            unmatched,
            newly_trusted,
            shares_trust,
            notes,
        } = other;
        self.differences.extend(differences);
        self.compared += compared;
        self.unmatched |= unmatched;
        self.newly_trusted.extend(newly_trusted);
        self.shares_trust.extend(shares_trust);
        self.notes.extend(notes);
    }

    /// The row in one word; a bug of the prover, and a server that nothing was compared with, count as
    /// undecided, never as same.
    pub fn verdict(&self) -> RowVerdict {
        let any = |pick: fn(&Verdict) -> &Finding, wanted: fn(&Finding) -> bool| {
            self.differences
                .iter()
                .any(|answer| wanted(pick(&answer.verdict)))
        };
        let witness = |finding: &Finding| matches!(finding, Finding::Witness(_));
        let open = |finding: &Finding| matches!(finding, Finding::Undecided(_) | Finding::Bug(_));
        let (opens, breaks) = (
            any(|verdict| &verdict.opens, witness),
            any(|verdict| &verdict.breaks, witness),
        );
        match (opens, breaks) {
            (true, true) => RowVerdict::OpensAndBreaks,
            (true, false) => RowVerdict::Opens,
            (false, true) => RowVerdict::Breaks,
            (false, false)
                if self.unmatched
                    || any(|verdict| &verdict.opens, open)
                    || any(|verdict| &verdict.breaks, open) =>
            {
                RowVerdict::Undecided
            }
            (false, false) => RowVerdict::Same,
        }
    }
}

/// Who is known to dial the pods that a caller cannot dial any more.
pub(super) fn scraped(verdict: &Verdict, server: &Workload) -> Option<String> {
    let Finding::Witness(witness) = &verdict.breaks else {
        return None;
    };
    let by = server.scraped.get(&witness.address.port)?;
    (witness.address.kind == AddressKind::Pod)
        .then(|| format!("port {} is scraped as {by} says", witness.address.port))
}
