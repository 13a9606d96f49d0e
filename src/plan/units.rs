//! What the recommendations of a phase change, one by one: documents of its files, commands.
//!
//! In: what a phase said and wrote. Out: [`Unit`]s in the order in which they are carried out, and which
//! of them each finding asks for. Invariant: each document and each `kubectl` command is in one unit,
//! whether a finding names it or not; nothing else is played.

use std::collections::{BTreeMap, BTreeSet};

use super::saved;
use super::wave::Files;
use crate::finding::{Finding, Level, PhaseResult, Remedy};
use crate::snapshot::{Kind, ObjectName};

/// What is carried out as one.
#[derive(Debug, Clone, Default)]
pub(super) struct Unit {
    /// Documents to apply, each with its file.
    documents: Vec<(String, String)>,
    /// Commands to run then.
    commands: Vec<String>,
    /// What the finding is about, where it is to be deleted.
    pub(super) about: Option<(Kind, ObjectName)>,
    /// What is done, in words: "`kubectl label …`".
    pub(super) words: String,
}

/// The units of a phase.
#[derive(Debug, Default)]
pub(super) struct Units {
    pub(super) units: Vec<Unit>,
    /// For each finding, in the order in which they are told, its units.
    pub(super) of_findings: Vec<BTreeSet<usize>>,
}

/// All findings of a phase, in the order in which they are told.
pub(super) fn findings(result: &PhaseResult) -> impl Iterator<Item = &Finding> {
    result.checks.iter().flat_map(|check| &check.findings)
}

impl Units {
    /// The units of what a phase recommends.
    pub(super) fn of(result: &PhaseResult) -> Self {
        let mut units = Vec::new();
        let mut of_findings = Vec::new();
        let mut commands: BTreeMap<&str, usize> = BTreeMap::new();
        let mut objects: BTreeMap<(&str, Kind, &ObjectName), usize> = BTreeMap::new();
        for finding in findings(result) {
            let mut of_finding = BTreeSet::new();
            let mut unit = Unit {
                about: finding
                    .subject
                    .as_ref()
                    .map(|one| (one.kind, one.name.clone())),
                ..Unit::default()
            };
            let remedies = finding.remedies.iter();
            for remedy in remedies.filter(|_| finding.level == Level::Recommendation) {
                let at = units.len();
                match remedy {
                    Remedy::Command { run, .. } if run.starts_with("kubectl ") => {
                        let at = *commands.entry(run).or_insert_with(|| {
                            unit.commands.push(run.clone());
                            at
                        });
                        of_finding.insert(at);
                    }
                    Remedy::Apply { file, object } => {
                        let key = (*file, object.kind, &object.name);
                        of_finding.insert(*objects.entry(key).or_insert(at));
                    }
                    Remedy::Command { .. } | Remedy::Advice(_) => {}
                }
            }
            units.push(unit);
            of_findings.push(of_finding);
        }
        // What no finding names is said of all.
        let unnamed = units.len();
        units.push(Unit::default());
        for of_finding in of_findings.iter_mut().filter(|units| !units.is_empty()) {
            of_finding.insert(unnamed);
        }
        let mut order = vec![usize::MAX; units.len()];
        let mut place = 0;
        for artefact in &result.artefacts {
            let file = artefact.file;
            let documents = artefact.content.split("\n---\n");
            for document in documents.filter(|one| !one.trim().is_empty()) {
                let names = saved::objects(document);
                let found = names
                    .iter()
                    .find_map(|(kind, name)| objects.get(&(file, *kind, name)));
                let at = found.copied().unwrap_or(unnamed);
                order[at] = order[at].min(place);
                place += 1;
                let unit = &mut units[at];
                if let (true, Some((kind, name))) = (unit.words.is_empty(), names.first()) {
                    unit.words = format!("{} {name} is applied", kind.row().name);
                }
                unit.documents.push((file.to_owned(), document.to_owned()));
            }
        }
        for unit in &mut units {
            if let (true, Some(first)) = (unit.words.is_empty(), unit.commands.first()) {
                unit.words = format!("`{first}`");
            }
        }
        Self { units, of_findings }.in_order(&order)
    }

    /// Files are applied before commands are run; what is nothing goes.
    fn in_order(self, order: &[usize]) -> Self {
        let mut kept: Vec<usize> = (0..self.units.len())
            .filter(|at| !self.units[*at].is_nothing())
            .collect();
        kept.sort_by_key(|at| (order[*at], *at));
        let places: BTreeMap<usize, usize> = kept
            .iter()
            .enumerate()
            .map(|(to, from)| (*from, to))
            .collect();
        let moved = |units: &BTreeSet<usize>| {
            let kept = units.iter().filter_map(|from| places.get(from));
            kept.copied().collect()
        };
        let of_findings = self.of_findings.iter().map(moved).collect();
        Self {
            units: kept.iter().map(|at| self.units[*at].clone()).collect(),
            of_findings,
        }
    }
}

impl Unit {
    fn is_nothing(&self) -> bool {
        self.documents.is_empty() && self.commands.is_empty()
    }
}

/// Several units, carried out in one go.
#[derive(Debug, Default)]
pub(super) struct Together {
    pub(super) files: Files,
    /// Applies them, in order.
    pub(super) apply: Vec<String>,
    /// What is run then.
    pub(super) run: Vec<String>,
}

impl Together {
    pub(super) fn of(units: &[Unit]) -> Self {
        let mut all = Self::default();
        for (file, document) in units.iter().flat_map(|unit| &unit.documents) {
            let content: &mut String = all.files.entry(file.clone()).or_default();
            if content.is_empty() {
                all.apply.push(format!("kubectl apply -f {file}"));
            } else {
                content.push_str("\n---\n");
            }
            content.push_str(document);
        }
        let commands = units.iter().flat_map(|unit| &unit.commands);
        all.run = commands.cloned().collect();
        all
    }
}
