//! The report: one value, complete and sorted, from which every output format is rendered.
//!
//! In: results of phases, gaps and problems of the input, waivers. Out: [`Report`], with counts,
//! verdict and exit code already decided. Invariant: a renderer is a pure function of the report
//! and of a [`text::Style`]; none of them filters, counts or decides.

pub mod access;
mod access_for_machines;
pub mod estimate;
pub mod fleet;
pub mod folder;
pub mod intended;
pub mod junit;
pub mod markdown;
pub mod paint;
pub mod plan;
pub mod proof;
pub mod recommended;
pub mod sarif;
pub mod script;
pub mod text;
pub mod verdicts;
pub mod who_can;
pub mod wire;
pub mod yaml;

use std::collections::BTreeSet;

use crate::exit::Exit;
use crate::finding::{
    Artefact, CheckOutcome, CheckResult, Finding, Level, Phase, PhaseResult, Remedy, Subject,
};
use crate::snapshot::{Gap, Kind, Problem, ProblemLevel};
use crate::source::{self, Place};
use crate::waiver::{Day, Waiver, Waivers};
use proof::AccessBlock;

/// Everything a run of `migrate` has to say.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was read: `the demo mesh`, `files manifests/`.
    pub input: String,
    /// The phases that ran, without what was waived.
    pub phases: Vec<PhaseResult>,
    /// Findings that people declined, with their waivers.
    pub waived: Vec<Waived>,
    /// Waivers whose last day is over; what they declined is back among the findings.
    pub expired_waivers: Vec<Waiver>,
    /// Waivers that hold and matched nothing, although their check ran.
    pub unmatched_waivers: Vec<Waiver>,
    /// What could not be read.
    pub gaps: Vec<Gap>,
    /// What was odd in the input.
    pub problems: Vec<Problem>,
    /// Where files were written; `None` when nothing was written.
    pub output_folder: Option<String>,
    /// Names of the files of this run, as written to the folder.
    pub files: Vec<&'static str>,
    /// Files of an earlier run that this run did not write, put aside under these names.
    pub put_aside: Vec<String>,
    /// The command line that repeats this run.
    pub invocation: String,
    /// Whether the input is a mesh that nobody can apply anything to.
    pub demo: bool,
    /// Who may call whom, compared with the baseline; `None` when nothing was compared.
    pub access: Option<AccessBlock>,
    /// Counts over all phases that ran.
    pub counts: Counts,
    /// How the run ended, for every format alike.
    pub exit: Exit,
}

/// A declined finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Waived {
    /// The phase it was found in.
    pub phase: Phase,
    /// What was found.
    pub finding: Finding,
    /// Who declined it, why, until when.
    pub waiver: Waiver,
}

/// Counts over all phases that ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// 🔮 findings.
    pub recommendations: usize,
    /// ❌ findings.
    pub errors: usize,
    /// ⚠️ findings.
    pub warnings: usize,
    /// Checks that lacked an input.
    pub could_not_check: usize,
    /// Declined findings.
    pub waived: usize,
    /// Documents and files that were left out or look odd.
    pub input_problems: usize,
    /// Phases that ran.
    pub phases: usize,
}

/// Takes waived findings out of a phase, and out of its files what only they asked for.
#[derive(Debug)]
pub struct WaiverReview<'a> {
    waivers: &'a Waivers,
    today: &'a Day,
    waived: Vec<Waived>,
    /// Codes of checks that looked at everything they need.
    looked: BTreeSet<&'static str>,
}

impl<'a> WaiverReview<'a> {
    /// A review with these waivers on this day.
    pub fn new(waivers: &'a Waivers, today: &'a Day) -> Self {
        Self {
            waivers,
            today,
            waived: Vec::new(),
            looked: BTreeSet::new(),
        }
    }

    /// Reviews one phase.
    pub fn review(&mut self, result: &mut PhaseResult) {
        let mut declined = Vec::new();
        for check in &mut result.checks {
            if !matches!(check.outcome, CheckOutcome::CouldNotCheck(_)) {
                self.looked.insert(check.code.0);
            }
            let mut kept = Vec::with_capacity(check.findings.len());
            for finding in std::mem::take(&mut check.findings) {
                match self.waivers.find(&finding, self.today) {
                    Some(waiver) => declined.push(Waived {
                        phase: result.phase,
                        finding,
                        waiver: waiver.clone(),
                    }),
                    None => kept.push(finding),
                }
            }
            check.findings = kept;
            let warned = check
                .findings
                .iter()
                .any(|finding| finding.level == Level::Warning);
            if check.outcome == CheckOutcome::Warned && !warned {
                check.outcome = CheckOutcome::Passed;
            }
        }
        if declined.is_empty() {
            return;
        }
        let wanted: BTreeSet<(&str, Kind, String)> = result
            .checks
            .iter()
            .flat_map(|check| &check.findings)
            .flat_map(applied)
            .collect();
        let unwanted: BTreeSet<(&str, Kind, String)> = declined
            .iter()
            .flat_map(|waived| applied(&waived.finding))
            .filter(|object| !wanted.contains(object))
            .collect();
        for artefact in &mut result.artefacts {
            leave_out(artefact, &unwanted);
        }
        result
            .artefacts
            .retain(|artefact| !artefact.content.is_empty());
        self.waived.append(&mut declined);
    }

    /// What was declined, in the order of the phases; and the waivers that hold, whose check
    /// looked, and that declined nothing.
    pub fn finish(self) -> (Vec<Waived>, Vec<Waiver>) {
        let unmatched = self
            .waivers
            .holding(self.today)
            .filter(|waiver| {
                self.looked.contains(waiver.code.as_str())
                    && self.waived.iter().all(|waived| waived.waiver != **waiver)
            })
            .cloned()
            .collect();
        (self.waived, unmatched)
    }
}

fn applied(finding: &Finding) -> impl Iterator<Item = (&'static str, Kind, String)> {
    finding.remedies.iter().filter_map(|remedy| match remedy {
        Remedy::Apply { file, object } => Some((*file, object.kind, object.name.to_string())),
        _ => None,
    })
}

/// Drops documents from an artefact, comments above them included.
fn leave_out(artefact: &mut Artefact, unwanted: &BTreeSet<(&str, Kind, String)>) {
    if !unwanted.iter().any(|(file, ..)| *file == artefact.file) {
        return;
    }
    let kept: Vec<&str> = artefact
        .content
        .split("\n---\n")
        .filter(|document| {
            let Ok(objects) = source::parse_objects(&Place::Simulated, document) else {
                return true;
            };
            !objects.iter().any(|object| {
                let (kind, name) = object.identity();
                unwanted.contains(&(artefact.file, kind, name.to_string()))
            })
        })
        .collect();
    let mut content = kept.join("\n---\n");
    if !content.is_empty() && !content.ends_with('\n') {
        content.push('\n');
    }
    artefact.content = content;
}

/// What [`Report::new`] is made from.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// See [`Report::input`].
    pub input: String,
    /// See [`Report::phases`].
    pub phases: Vec<PhaseResult>,
    /// See [`Report::waived`].
    pub waived: Vec<Waived>,
    /// See [`Report::expired_waivers`].
    pub expired_waivers: Vec<Waiver>,
    /// See [`Report::unmatched_waivers`].
    pub unmatched_waivers: Vec<Waiver>,
    /// See [`Report::gaps`].
    pub gaps: Vec<Gap>,
    /// See [`Report::problems`].
    pub problems: Vec<Problem>,
    /// See [`Report::invocation`].
    pub invocation: String,
    /// See [`Report::demo`].
    pub demo: bool,
    /// See [`Report::access`].
    pub access: Option<AccessBlock>,
}

impl Report {
    /// Counts, and decides the exit code.
    pub fn new(parts: Parts) -> Self {
        let mut counts = Counts {
            waived: parts.waived.len(),
            input_problems: parts.problems.len(),
            phases: parts.phases.len(),
            ..Counts::default()
        };
        counts.could_not_check += parts
            .phases
            .iter()
            .filter(|phase| phase.checks.is_empty())
            .count();
        for check in parts.phases.iter().flat_map(|phase| &phase.checks) {
            if matches!(check.outcome, CheckOutcome::CouldNotCheck(_)) {
                counts.could_not_check += 1;
            }
            for finding in &check.findings {
                match finding.level {
                    Level::Error => counts.errors += 1,
                    Level::Recommendation => counts.recommendations += 1,
                    Level::Warning => counts.warnings += 1,
                    Level::Note | Level::Undecided => {}
                }
            }
        }
        let proved = parts
            .access
            .as_ref()
            .map_or(Exit::Nothing, AccessBlock::exit);
        let exit = exit(&parts, counts).or(proved);
        let mut report = Self {
            input: parts.input,
            phases: parts.phases,
            waived: parts.waived,
            expired_waivers: parts.expired_waivers,
            unmatched_waivers: parts.unmatched_waivers,
            gaps: parts.gaps,
            problems: parts.problems,
            output_folder: None,
            files: Vec::new(),
            put_aside: Vec::new(),
            invocation: parts.invocation,
            demo: parts.demo,
            access: parts.access,
            counts,
            exit,
        };
        report.gaps.sort();
        report.gaps.dedup();
        report.problems.sort();
        report.problems.dedup();
        report
    }

    /// All files that the phases made.
    pub fn artefacts(&self) -> impl Iterator<Item = &Artefact> {
        self.phases.iter().flat_map(|phase| &phase.artefacts)
    }

    /// Checks that lacked an input, with their phase and the reasons.
    pub fn unchecked(&self) -> impl Iterator<Item = (Phase, &CheckResult, &[String])> {
        self.phases.iter().flat_map(|phase| {
            phase
                .checks
                .iter()
                .filter_map(move |check| match &check.outcome {
                    CheckOutcome::CouldNotCheck(reasons) => {
                        Some((phase.phase, check, reasons.as_slice()))
                    }
                    _ => None,
                })
        })
    }

    /// Whether all seven phases ran.
    pub fn reached_the_end(&self) -> bool {
        self.phases
            .last()
            .is_some_and(|phase| phase.phase == Phase::RemoveSidecars)
    }

    /// Whether something that only people can run, such as an installer, comes before the commands.
    pub fn has_commands_by_hand(&self) -> bool {
        self.phases
            .iter()
            .flat_map(|phase| &phase.checks)
            .flat_map(|check| &check.findings)
            .filter(|finding| matches!(finding.level, Level::Error | Level::Recommendation))
            .flat_map(|finding| &finding.remedies)
            .any(|remedy| matches!(remedy, Remedy::Command { run, .. } if !run.starts_with("kubectl ")))
    }

    /// What to run next, exactly; empty when nothing is left.
    pub fn next_commands(&self) -> Vec<String> {
        let Some(folder) = &self.output_folder else {
            return Vec::new();
        };
        if self.demo {
            return Vec::new();
        }
        let mut commands = Vec::new();
        for file in &self.files {
            if file.ends_with(".yaml") {
                commands.push(format!(
                    "kubectl apply -f {}",
                    shell_word(&format!("{folder}/{file}"))
                ));
            }
        }
        if self.files.contains(&script::FILE) {
            commands.push(format!(
                "sh {}",
                shell_word(&format!("{folder}/{}", script::FILE))
            ));
        }
        if !commands.is_empty() {
            commands.push(self.invocation.clone());
        }
        commands
    }
}

/// A word as a shell takes it.
pub fn shell_word(word: &str) -> String {
    let plain = !word.is_empty()
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_./=:,@%+".contains(&byte));
    if plain {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// `Kind/namespace/name`, or `Kind/name`.
pub(crate) fn subject_path(subject: &Subject) -> String {
    format!("{}/{}", subject.kind.row().name, subject.name)
}

fn exit(parts: &Parts, counts: Counts) -> Exit {
    let mut exit = Exit::Nothing;
    if counts.recommendations > 0 {
        exit = exit.or(Exit::Recommendations);
    }
    let lost_input = parts
        .problems
        .iter()
        .any(|problem| problem.level == ProblemLevel::Error);
    if counts.could_not_check > 0 || lost_input || !parts.gaps.is_empty() {
        exit = exit.or(Exit::Undecided);
    }
    let failed = parts
        .phases
        .iter()
        .flat_map(|phase| &phase.checks)
        .any(|check| check.outcome == CheckOutcome::Failed);
    if failed || counts.errors > 0 {
        exit = exit.or(Exit::Failed);
    }
    exit
}

#[cfg(test)]
pub(crate) mod samples;

#[cfg(test)]
mod tests {
    use super::samples::*;
    use super::*;

    #[test]
    fn the_gravest_finding_decides_the_exit_code() {
        let table = [
            (vec![], Exit::Nothing),
            (vec![Level::Note, Level::Warning], Exit::Nothing),
            (vec![Level::Recommendation], Exit::Recommendations),
            (vec![Level::Recommendation, Level::Error], Exit::Failed),
        ];
        for (levels, expected) in table {
            assert_eq!(report_of(&levels, false).exit, expected, "{levels:?}");
        }
        let unchecked = report_of(&[Level::Recommendation], true);
        assert_eq!(unchecked.exit, Exit::Undecided);
        assert_eq!(report_of(&[Level::Error], true).exit, Exit::Failed);
    }

    #[test]
    fn a_broken_document_is_never_a_clean_run() {
        let mut parts = parts_of(&[], false);
        parts.problems.push(problem(ProblemLevel::Warning));
        assert_eq!(Report::new(parts.clone()).exit, Exit::Nothing);
        parts.problems.push(problem(ProblemLevel::Error));
        assert_eq!(Report::new(parts).exit, Exit::Undecided);
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(shell_word("a/b-c.yaml"), "a/b-c.yaml");
        assert_eq!(shell_word("it's here"), r"'it'\''s here'");
        assert_eq!(shell_word(""), "''");
    }

    #[test]
    fn a_waived_document_leaves_the_file_and_the_others_stay() {
        let day = Day::from_unix_seconds(0);
        let waivers = waiver_for("Namespace/app1");
        let mut review = WaiverReview::new(&waivers, &day);
        let mut result = waypoints_for(&["app1", "app2"]);
        review.review(&mut result);
        assert_eq!(result.artefacts[0].content, waypoint_manifest("app2"));
        assert_eq!(review.finish().0.len(), 1);
    }
}
