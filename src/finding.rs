//! What checks say: facts, where they were seen, what to do. Words are made next to each check;
//! layout is the report's business.
//!
//! Invariant: a check that lacked an input says so ([`CheckOutcome::CouldNotCheck`]); that is
//! neither passed nor failed.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::snapshot::{Kind, ObjectName, Origin};

/// Stable identity of a check or a kind of finding: `CAST0301`. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub &'static str);

/// The seven phases of a migration, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// `pre-reqs`
    PreRequisites,
    /// `cluster-setup`
    ClusterSetup,
    /// `deploy-waypoints`
    DeployWaypoints,
    /// `migrate-policies`
    MigratePolicies,
    /// `use-waypoints`
    UseWaypoints,
    /// `policy-simplification`
    PolicySimplification,
    /// `remove-sidecars`
    RemoveSidecars,
}

impl Phase {
    /// All phases in order.
    pub const ALL: [Self; 7] = [
        Self::PreRequisites,
        Self::ClusterSetup,
        Self::DeployWaypoints,
        Self::MigratePolicies,
        Self::UseWaypoints,
        Self::PolicySimplification,
        Self::RemoveSidecars,
    ];

    /// The name users type and read.
    pub fn name(self) -> &'static str {
        match self {
            Self::PreRequisites => "pre-reqs",
            Self::ClusterSetup => "cluster-setup",
            Self::DeployWaypoints => "deploy-waypoints",
            Self::MigratePolicies => "migrate-policies",
            Self::UseWaypoints => "use-waypoints",
            Self::PolicySimplification => "policy-simplification",
            Self::RemoveSidecars => "remove-sidecars",
        }
    }
}

/// What kind of line a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// ❌ the phase fails.
    Error,
    /// 🔮 something to apply or run; holds the phase up.
    Recommendation,
    /// ⚠️ to know before going on; does not hold the phase up by itself.
    Warning,
    /// ℹ️ for information.
    Note,
    /// A check looked and the input does not tell. Never reaches a report as a finding: it turns
    /// the check's outcome into [`CheckOutcome::CouldNotCheck`], or, beside errors, is shown as a
    /// warning.
    Undecided,
}

/// A reference to the object that a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    /// Kind, as the table of kinds knows it.
    pub kind: Kind,
    /// Namespace and name.
    pub name: ObjectName,
    /// Field path inside the object, when one field is meant: `spec.rules[0].to[0].operation.methods`.
    pub field: Option<String>,
    /// Where it was read; `None` for an object that does not exist (yet).
    pub origin: Option<Origin>,
}

/// Something that a user can do, as data.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Remedy {
    /// A shell command to copy, with the command that takes it back, if there is one.
    Command {
        /// `kubectl label namespace app1 istio.io/use-waypoint=waypoint`
        run: String,
        /// `kubectl label namespace app1 istio.io/use-waypoint-`
        undo: Option<String>,
    },
    /// An object that was written to an artefact file.
    Apply {
        /// The file's name in the output folder.
        file: &'static str,
        /// Which object in it.
        object: Subject,
    },
    /// Something only people can do, in one sentence.
    Advice(String),
}

/// The one word for whether access is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowVerdict {
    /// Neither gain nor loss, proved.
    Same,
    /// Something could not be decided.
    Undecided,
    /// Somebody loses.
    Breaks,
    /// Somebody gains.
    Opens,
    /// Both.
    OpensAndBreaks,
}

/// What was proved of the states that a recommendation leads to, carried out after those above it.
/// Made by `crate::plan::recommended`; a check has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// Servers whose access differs since then, the worst first; not more than a few.
    pub differing: Vec<Differing>,
    /// How many servers these are, at least.
    pub differing_servers: usize,
    /// Servers that differed before it, and still do in the same way.
    pub already_differing: usize,
    /// What is not proved, and why.
    pub not_proved: Option<String>,
    /// With how many others it was carried out in one go, nothing proved in between.
    pub together_with: usize,
}

/// A server whose access differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differing {
    /// Which.
    pub server: ObjectName,
    /// Whether it differed before, too; whether less than now is not compared.
    pub before: bool,
    /// `opens`, `breaks` or `undecided`, each with its first witness or reason.
    pub directions: BTreeMap<&'static str, Vec<String>>,
}

impl Differing {
    /// In one word.
    pub fn verdict(&self) -> RowVerdict {
        let has = |direction: &str| self.directions.contains_key(direction);
        match (has("opens"), has("breaks")) {
            (true, true) => RowVerdict::OpensAndBreaks,
            (true, false) => RowVerdict::Opens,
            (false, true) => RowVerdict::Breaks,
            (false, false) => RowVerdict::Undecided,
        }
    }
}

impl Proof {
    /// Nothing is proved.
    pub fn none(why: impl Into<String>) -> Self {
        Self {
            not_proved: Some(why.into()),
            ..Self::default()
        }
    }

    /// The verdict of the worst server; what is not proved is undecided.
    pub fn verdict(&self) -> RowVerdict {
        let unproved = self.not_proved.as_ref().map(|_| RowVerdict::Undecided);
        let differing = self.differing.iter().map(Differing::verdict);
        differing.chain(unproved).max().unwrap_or(RowVerdict::Same)
    }
}

/// One thing that a check found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Stable code.
    pub code: Code,
    /// How grave.
    pub level: Level,
    /// What it is about; `None` for the cluster as a whole.
    pub subject: Option<Subject>,
    /// The line that people read, without symbol and without trailing newline. It may be several
    /// lines; further ones are printed beneath.
    pub message: String,
    /// Lines beneath the message, printed with a star: reasons, objects, pods.
    pub details: Vec<String>,
    /// All names behind a line that speaks of many (`-v`, JSON).
    pub names: Vec<String>,
    /// Other objects that bear on it.
    pub related: Vec<Subject>,
    /// Facts as data, for JSON.
    pub facts: BTreeMap<&'static str, Value>,
    /// What to do.
    pub remedies: Vec<Remedy>,
    /// What was proved of it, where it recommends something to run or to apply.
    pub proof: Option<Proof>,
}

impl Finding {
    /// A finding with a message and nothing else.
    pub fn new(code: Code, level: Level, message: impl Into<String>) -> Self {
        Self {
            code,
            level,
            subject: None,
            message: message.into(),
            details: Vec::new(),
            names: Vec::new(),
            related: Vec::new(),
            facts: BTreeMap::new(),
            remedies: Vec::new(),
            proof: None,
        }
    }

    /// The same finding, about this object.
    pub fn about(mut self, kind: Kind, name: &ObjectName, origin: Option<&Origin>) -> Self {
        self.subject = Some(Subject {
            kind,
            name: name.clone(),
            field: None,
            origin: origin.cloned(),
        });
        self
    }

    /// The same finding with one more line beneath.
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// The same finding with one more fact.
    pub fn fact(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.facts.insert(name, value.into());
        self
    }

    /// The same finding with one more thing to do.
    pub fn remedy(mut self, remedy: Remedy) -> Self {
        self.remedies.push(remedy);
        self
    }
}

impl Remedy {
    /// A command with the command that takes it back.
    pub fn command(run: impl Into<String>, undo: impl Into<String>) -> Self {
        Self::Command {
            run: run.into(),
            undo: Some(undo.into()),
        }
    }

    /// The command to run; empty where there is none.
    pub fn run_text(&self) -> &str {
        match self {
            Self::Command { run, .. } => run,
            Self::Apply { .. } | Self::Advice(_) => "",
        }
    }

    /// A command that needs no taking back, such as a restart.
    pub fn command_without_undo(run: impl Into<String>) -> Self {
        Self::Command {
            run: run.into(),
            undo: None,
        }
    }
}

/// How one named check of a phase ended.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckOutcome {
    /// Everything it needed was there, and nothing is wrong.
    Passed,
    /// It found errors; they are among the findings with its code.
    Failed,
    /// Errors that the user chose to take for warnings.
    Warned,
    /// An input was missing; why.
    CouldNotCheck(Vec<String>),
}

/// One check that ran, with what it found.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckResult {
    /// Its code.
    pub code: Code,
    /// Name as printed: `Istio version compatibility`. Empty for checks that print only findings.
    pub name: &'static str,
    /// How it ended.
    pub outcome: CheckOutcome,
    /// What it found, sorted by the phase.
    pub findings: Vec<Finding>,
}

/// How a phase ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PhaseOutcome {
    /// ✅
    Succeeded,
    /// ⚠️ has recommendations.
    Recommends,
    /// ❌
    Failed,
    /// Neither passed nor failed: an input was missing and nothing else was found.
    CouldNotCheck,
}

/// A file that a phase wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// `recommended-waypoints.yaml`
    pub file: &'static str,
    /// The line that announces it: `Generated waypoints written to`.
    pub announced_as: &'static str,
    /// Its bytes.
    pub content: String,
}

/// Everything one phase has to say.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseResult {
    /// Which phase.
    pub phase: Phase,
    /// How it ended.
    pub outcome: PhaseOutcome,
    /// Its checks in the order they are printed.
    pub checks: Vec<CheckResult>,
    /// Files it writes.
    pub artefacts: Vec<Artefact>,
}
