//! The report as data: the one shape that `-o json` and `-o yaml` print.
//!
//! In: a [`Report`]. Out: [`WireReport`], versioned by [`API_VERSION`]; `schemas/report.v1.json`
//! is generated from these types. Invariant: nothing else is serialised for output, and a field
//! never changes its meaning within a version.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::access::Verdict;
use super::proof::AccessBlock;
use super::recommended::ProofReport;
use super::{Report, subject_path};
use crate::finding::{CheckOutcome, CheckResult, Finding, Level, PhaseOutcome, Remedy, Subject};
use crate::snapshot::{Origin, ProblemLevel};

/// Version of the shape.
pub const API_VERSION: &str = "castoff/v1";

/// A report.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "castoff report, version 1")]
pub struct WireReport {
    /// `castoff/v1`.
    pub api_version: String,
    /// `Report`.
    pub kind: String,
    /// What was read.
    pub input: String,
    /// The exit code of the run: 0, 2, 3 or 4.
    pub exit_code: u8,
    /// Counts over all phases that ran.
    pub counts: WireCounts,
    /// The phases that ran, in order.
    pub phases: Vec<WirePhase>,
    /// Declined findings.
    pub waived: Vec<WireWaived>,
    /// Waivers that are over.
    pub expired_waivers: Vec<WireWaiver>,
    /// Waivers that declined nothing, although their check ran.
    pub unmatched_waivers: Vec<WireWaiver>,
    /// What could not be read.
    pub gaps: Vec<WireGap>,
    /// What was odd in the input.
    pub problems: Vec<WireProblem>,
    /// Paths of the files that were written.
    pub files: Vec<String>,
    /// Commands to run next, in order.
    pub next: Vec<String>,
    /// Who may call whom now and after what is recommended; `null` when nothing was compared.
    pub access: Option<AccessBlock>,
}

/// Counts over all phases that ran.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WireCounts {
    /// Findings of level `recommendation`.
    pub recommendations: usize,
    /// Findings of level `error`.
    pub errors: usize,
    /// Findings of level `warning`.
    pub warnings: usize,
    /// Checks that lacked an input.
    pub could_not_check: usize,
    /// Declined findings.
    pub waived: usize,
    /// Entries of `problems`.
    pub input_problems: usize,
}

/// A phase that ran.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WirePhase {
    /// `pre-reqs`, `cluster-setup` …
    pub name: String,
    /// How it ended.
    pub outcome: WirePhaseOutcome,
    /// The worst verdict of the states that its recommendations lead through, servers that differed before
    /// included; `null` when it recommends nothing to run or to apply, or nothing was compared. What each
    /// recommendation changes is its `proof`.
    pub verdict: Option<Verdict>,
    /// Its checks.
    pub checks: Vec<WireCheck>,
}

/// How a phase ended.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WirePhaseOutcome {
    /// Nothing to do.
    Succeeded,
    /// Something to apply or run.
    HasRecommendations,
    /// A check failed.
    Failed,
    /// An input was missing.
    CouldNotCheck,
}

/// A check that ran.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WireCheck {
    /// Stable code; `castoff explain CODE` tells more.
    pub code: String,
    /// Name; empty for checks that speak only through findings.
    pub name: String,
    /// How it ended.
    pub outcome: WireCheckOutcome,
    /// Why it could not be checked.
    pub missing: Vec<String>,
    /// What it found.
    pub findings: Vec<WireFinding>,
}

/// How a check ended.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WireCheckOutcome {
    /// Nothing is wrong.
    Passed,
    /// It found errors.
    Failed,
    /// It found only warnings.
    Warned,
    /// An input was missing.
    CouldNotCheck,
}

/// How grave a finding is.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WireLevel {
    /// The phase fails.
    Error,
    /// Something to apply or run.
    Recommendation,
    /// To know before going on.
    Warning,
    /// For information.
    Note,
}

/// A finding.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WireFinding {
    /// Stable code.
    pub code: String,
    /// How grave.
    pub level: WireLevel,
    /// What people read.
    pub message: String,
    /// Lines beneath the message.
    pub details: Vec<String>,
    /// All names behind a line that speaks of many.
    pub names: Vec<String>,
    /// What it is about; absent for the cluster as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<WireObject>,
    /// Other objects that bear on it.
    pub related: Vec<WireObject>,
    /// Facts by name.
    pub facts: BTreeMap<String, Value>,
    /// What to do.
    pub remedies: Vec<WireRemedy>,
    /// What was proved of it; absent where it asks for nothing to run or to apply, or nothing was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<ProofReport>,
}

/// A reference to an object.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WireObject {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty for objects of the whole cluster.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Path of one field, when one is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Where it was read; absent for an object that does not exist yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<WireOrigin>,
}

/// Where something was read.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WireOrigin {
    /// `file`, `standardInput`, `cluster`, `demo` or `simulated`.
    pub source: String,
    /// Path of the file, or context of the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// 1-based line; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

/// Something to do.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", tag = "type")]
pub enum WireRemedy {
    /// A shell command.
    Command {
        /// The command.
        run: String,
        /// The command that takes it back.
        #[serde(skip_serializing_if = "Option::is_none")]
        undo: Option<String>,
    },
    /// An object of a file that was written.
    Apply {
        /// Name of the file.
        file: String,
        /// The object.
        object: WireObject,
    },
    /// Something only people can do.
    Advice {
        /// One sentence.
        text: String,
    },
}

/// A declined finding.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WireWaived {
    /// The phase it was found in.
    pub phase: String,
    /// What was found.
    pub finding: WireFinding,
    /// The waiver.
    pub waiver: WireWaiver,
}

/// A waiver.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WireWaiver {
    /// `Kind/namespace/name`.
    pub object: String,
    /// Code of the finding.
    pub code: String,
    /// Why.
    pub reason: String,
    /// Last day, `YYYY-MM-DD`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// A kind, or a part of it, that could not be read.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WireGap {
    /// `pods`, `authorizationpolicies.security.istio.io` …
    pub resource: String,
    /// The namespace, when the rest was readable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Why.
    pub reason: String,
}

/// Something odd in the input.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WireProblem {
    /// Whether something was left out (`error`) or read with doubt (`warning`).
    pub level: WireLevel,
    /// One sentence.
    pub message: String,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<WireOrigin>,
    /// 1-based column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
}

impl From<&Report> for WireReport {
    fn from(report: &Report) -> Self {
        let counts = report.counts;
        let folder = report.output_folder.as_deref().unwrap_or_default();
        Self {
            api_version: API_VERSION.to_owned(),
            kind: "Report".to_owned(),
            input: report.input.clone(),
            exit_code: report.exit.code(),
            counts: WireCounts {
                recommendations: counts.recommendations,
                errors: counts.errors,
                warnings: counts.warnings,
                could_not_check: counts.could_not_check,
                waived: counts.waived,
                input_problems: counts.input_problems,
            },
            phases: report
                .phases
                .iter()
                .map(|phase| WirePhase {
                    name: phase.phase.name().to_owned(),
                    outcome: match phase.outcome {
                        PhaseOutcome::Succeeded => WirePhaseOutcome::Succeeded,
                        PhaseOutcome::Recommends => WirePhaseOutcome::HasRecommendations,
                        PhaseOutcome::Failed => WirePhaseOutcome::Failed,
                        PhaseOutcome::CouldNotCheck => WirePhaseOutcome::CouldNotCheck,
                    },
                    verdict: report
                        .access
                        .as_ref()
                        .and_then(|access| access.verdict_of(phase.phase)),
                    checks: phase.checks.iter().map(check).collect(),
                })
                .collect(),
            waived: report
                .waived
                .iter()
                .map(|waived| WireWaived {
                    phase: waived.phase.name().to_owned(),
                    finding: finding(&waived.finding),
                    waiver: waiver(&waived.waiver),
                })
                .collect(),
            expired_waivers: report.expired_waivers.iter().map(waiver).collect(),
            unmatched_waivers: report.unmatched_waivers.iter().map(waiver).collect(),
            gaps: report
                .gaps
                .iter()
                .map(|gap| WireGap {
                    resource: gap.kind.resource(),
                    namespace: gap.namespace.clone(),
                    reason: gap.reason.clone(),
                })
                .collect(),
            problems: report
                .problems
                .iter()
                .map(|problem| WireProblem {
                    level: match problem.level {
                        ProblemLevel::Error => WireLevel::Error,
                        ProblemLevel::Warning => WireLevel::Warning,
                    },
                    message: problem.message.clone(),
                    origin: problem.origin.as_ref().map(origin),
                    column: problem.column,
                })
                .collect(),
            files: report
                .files
                .iter()
                .map(|file| format!("{folder}/{file}"))
                .collect(),
            next: report.next_commands(),
            access: report.access.clone(),
        }
    }
}

fn check(check: &CheckResult) -> WireCheck {
    let (outcome, missing) = match &check.outcome {
        CheckOutcome::Passed => (WireCheckOutcome::Passed, Vec::new()),
        CheckOutcome::Failed => (WireCheckOutcome::Failed, Vec::new()),
        CheckOutcome::Warned => (WireCheckOutcome::Warned, Vec::new()),
        CheckOutcome::CouldNotCheck(reasons) => (WireCheckOutcome::CouldNotCheck, reasons.clone()),
    };
    WireCheck {
        code: check.code.0.to_owned(),
        name: check.name.to_owned(),
        outcome,
        missing,
        findings: check.findings.iter().map(finding).collect(),
    }
}

fn finding(finding: &Finding) -> WireFinding {
    WireFinding {
        code: finding.code.0.to_owned(),
        level: match finding.level {
            Level::Error => WireLevel::Error,
            Level::Recommendation => WireLevel::Recommendation,
            Level::Warning | Level::Undecided => WireLevel::Warning,
            Level::Note => WireLevel::Note,
        },
        message: finding.message.clone(),
        details: finding.details.clone(),
        names: finding.names.clone(),
        subject: finding.subject.as_ref().map(object),
        related: finding.related.iter().map(object).collect(),
        facts: finding
            .facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
        remedies: finding.remedies.iter().map(remedy).collect(),
        proof: finding.proof.as_ref().map(ProofReport::from),
    }
}

fn remedy(remedy: &Remedy) -> WireRemedy {
    match remedy {
        Remedy::Command { run, undo } => WireRemedy::Command {
            run: run.clone(),
            undo: undo.clone(),
        },
        Remedy::Apply { file, object: one } => WireRemedy::Apply {
            file: (*file).to_owned(),
            object: object(one),
        },
        Remedy::Advice(text) => WireRemedy::Advice { text: text.clone() },
    }
}

fn object(subject: &Subject) -> WireObject {
    let row = subject.kind.row();
    WireObject {
        group: row.group.to_owned(),
        kind: row.name.to_owned(),
        namespace: subject.name.namespace.to_string(),
        name: subject.name.name.to_string(),
        field: subject.field.clone(),
        origin: subject.origin.as_ref().map(origin),
    }
}

fn origin(origin: &Origin) -> WireOrigin {
    let (source, path, line) = match origin {
        Origin::File { path, line } => ("file", Some(path.to_string()), Some(*line)),
        Origin::StandardInput { line } => ("standardInput", None, Some(*line)),
        Origin::Cluster { context } => ("cluster", Some(context.to_string()), None),
        Origin::Demo { file, line } => ("demo", Some((*file).to_owned()), Some(*line)),
        Origin::Simulated => ("simulated", None, None),
    };
    WireOrigin {
        source: source.to_owned(),
        path,
        line: line.filter(|line| *line > 0),
    }
}

fn waiver(waiver: &crate::waiver::Waiver) -> WireWaiver {
    WireWaiver {
        object: waiver.object.clone(),
        code: waiver.code.clone(),
        reason: waiver.reason.clone(),
        until: waiver.until.as_ref().map(ToString::to_string),
    }
}

/// The report as a JSON value.
pub fn value(report: &Report) -> Value {
    serde_json::to_value(WireReport::from(report)).expect("wire types hold only JSON")
}

/// The report as indented JSON.
pub fn json(report: &Report) -> String {
    pretty(&value(report))
}

/// Indented JSON with a newline at the end.
pub(crate) fn pretty(value: &Value) -> String {
    let mut text = serde_json::to_string_pretty(value).expect("a JSON value is always written");
    text.push('\n');
    text
}

/// The JSON Schema of [`WireReport`].
pub fn schema() -> String {
    pretty(&schemars::schema_for!(WireReport).to_value())
}

/// `Namespace/app1`, empty for the cluster.
pub(crate) fn subject_of(finding: &Finding) -> String {
    finding
        .subject
        .as_ref()
        .map_or_else(String::new, subject_path)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::super::samples::full;
    use super::*;

    #[test]
    fn the_committed_schema_is_the_one_of_the_types_and_reports_obey_it() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/report.v1.json");
        if std::env::var_os("CASTOFF_BLESS").is_some() {
            std::fs::write(path, schema()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap();
        assert_eq!(committed, schema(), "run the tests with CASTOFF_BLESS=1");
        let schema: Value = serde_json::from_str(&committed).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let report = value(&full());
        let errors: Vec<String> = validator
            .iter_errors(&report)
            .map(|error| error.to_string())
            .collect();
        assert_eq!(errors, Vec::<String>::new());
        assert!(!validator.is_valid(&serde_json::json!({"kind": "Report"})));
    }
}
