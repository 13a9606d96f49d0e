//! A plan as data, and what the terminal shows of it.
//!
//! In: a [`Plan`]. Out: [`PlanReport`], versioned like every report; `schemas/plan.v1.json` is
//! generated from these types. Invariant: a wave is never shown better than the worst of its states.

pub mod document;
pub mod ends_with_sidecars;
pub mod folder;
pub mod gap;
pub mod kustomize;
mod look;
mod outcome;
pub mod scripts;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use ends_with_sidecars::EndsWithSidecarsReport;
use gap::{GapReport, differs_already};

use super::access::Verdict;
use super::proof::{StateReport, state, worst};
use super::text::Style;
use crate::exit::Exit;
use crate::finding::PhaseOutcome;
use crate::plan::wave::WayBack;
use crate::plan::{Plan, PlanEnding, Wave};

/// A plan, complete.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "castoff plan, version 1")]
pub struct PlanReport {
    /// `castoff/v1`.
    pub api_version: &'static str,
    /// `Plan`.
    pub kind: &'static str,
    /// What was read.
    pub input: String,
    /// What every state is compared with.
    pub baseline: String,
    /// The exit code of the run.
    pub exit_code: u8,
    /// `done`, `undecided` (done, but not all of it is proved), `partial`, `notReady`, `failed`.
    pub ending: &'static str,
    /// Why it ends so; empty when done.
    pub reasons: Vec<String>,
    /// Servers that were proved in every state.
    pub servers: usize,
    /// Namespaces that were to be planned; empty: all.
    pub namespaces: Vec<String>,
    /// Waves in order.
    pub waves: Vec<WaveReport>,
    /// Workloads that keep their sidecars.
    pub held: Vec<HeldReport>,
    /// What was recommended and is not in the waves, since it opens or breaks something.
    pub left_out: Vec<LeftOutReport>,
    /// Access gained or lost on the way.
    pub gaps: Vec<GapReport>,
    /// What ends with the sidecars besides decisions about access.
    pub ends_with_sidecars: Vec<EndsWithSidecarsReport>,
    /// What the plan rests on and cannot show.
    pub assumptions: Vec<String>,
    /// What has no sidecar to leave, or was not to be planned, and how that stays.
    pub remains: Vec<String>,
    /// What could not be read: access may differ there unseen.
    pub unread: Vec<String>,
}

/// One wave.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaveReport {
    /// Its folder: `03-use-waypoints`.
    pub folder: String,
    /// What changes.
    pub title: String,
    /// The worst verdict of its states.
    pub verdict: Verdict,
    /// Whether all that somebody gains or loses in it is there before the first wave already.
    pub differs_already: bool,
    /// Why now.
    pub why: Vec<String>,
    /// Who is affected: `namespace/name` of workloads.
    pub affected: Vec<String>,
    /// Steps in order.
    pub steps: Vec<StepReport>,
    /// Files to apply.
    pub manifests: Vec<String>,
    /// States it passes through; the last is the state after it.
    pub states: Vec<StateReport>,
    /// `proved`, or why not.
    pub way_back: String,
}

/// One step.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StepReport {
    /// What it does.
    pub what: String,
    /// What to look at first.
    pub look: Vec<String>,
    /// Commands that wait for what it relies on.
    pub waits: Vec<String>,
    /// Commands that change the cluster.
    pub run: Vec<String>,
    /// Commands that take it back.
    pub undo: Vec<String>,
    /// Commands that wait until it took effect.
    pub settled: Vec<String>,
    /// Commands that wait until the way back took effect.
    pub undo_settled: Vec<String>,
    /// What only people can do.
    pub by_hand: Vec<String>,
    /// What to look at before it is taken back.
    pub undo_look: Vec<String>,
    /// What only people can do on the way back.
    pub undo_by_hand: Vec<String>,
}

/// A workload that keeps its sidecar.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeldReport {
    /// `namespace/name`.
    pub workload: String,
    /// Why.
    pub why: String,
    /// The witness, when a proof stands against it.
    pub witness: Vec<String>,
    /// What people can do so that it moves, where castoff knows a way.
    pub ways_out: Vec<String>,
}

/// A command or an object that the plan leaves out.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LeftOutReport {
    /// Which.
    pub what: String,
    /// Whom it opens or breaks.
    pub why: String,
    /// The witness.
    pub witness: Vec<String>,
}

/// Workloads that keep their sidecars for one reason.
struct HeldTogether<'r> {
    workloads: Vec<&'r str>,
    why: &'r str,
    witness: &'r [String],
    ways_out: Vec<&'r String>,
}

/// What a user can do where a proof stands against going on.
const ON_GAP: &str = "To go on all the same: `--on-gap deny` closes what would open, as far as that is possible, and \
                      `--on-gap accept` does it and lists each gap with the two commands between which it lasts.";

impl PlanReport {
    /// Makes the report of a plan. `baseline` says what it was compared with.
    pub fn new(plan: &Plan, input: String, baseline: String, unread: Vec<String>) -> Self {
        let names: Vec<String> = (0..plan.waves.len())
            .map(|index| folder_name(plan, index))
            .collect();
        let moment = |(wave, when): &(usize, String)| match wave.checked_sub(1) {
            Some(index) => format!("{}, {when}", names[index]),
            None => when.clone(),
        };
        let (ending, reasons) = outcome::ending(plan);
        Self {
            api_version: super::wire::API_VERSION,
            kind: "Plan",
            input,
            baseline,
            exit_code: exit(plan, &unread).code(),
            ending,
            reasons,
            servers: plan.servers,
            namespaces: plan.namespaces.iter().cloned().collect(),
            waves: plan
                .waves
                .iter()
                .zip(&names)
                .enumerate()
                .map(|(index, (one, folder))| wave(one, folder, differs_already(plan, index)))
                .collect(),
            held: plan
                .held
                .iter()
                .map(|held| HeldReport {
                    workload: held.workload.to_string(),
                    why: held.why.clone(),
                    witness: held.lines.clone(),
                    ways_out: held.ways_out.clone(),
                })
                .collect(),
            left_out: plan
                .left_out
                .iter()
                .map(|left_out| LeftOutReport {
                    what: left_out.what.clone(),
                    why: left_out.why.clone(),
                    witness: left_out.lines.clone(),
                })
                .collect(),
            gaps: plan
                .gaps
                .iter()
                .map(|gap| GapReport::new(gap, moment))
                .collect(),
            ends_with_sidecars: plan
                .ends_with_sidecars
                .iter()
                .map(EndsWithSidecarsReport::from)
                .collect(),
            assumptions: plan.assumptions.clone(),
            remains: plan.remains.clone(),
            unread,
        }
    }

    /// What the terminal shows: a line a wave, then everything that needs somebody.
    pub fn text(&self, style: Style) -> String {
        let ascii = style.ascii;
        let mut out = format!(
            "Plan for {}: {}, {} servers, every state compared with {}\n",
            self.input,
            count(self.waves.len(), "wave"),
            self.servers,
            self.baseline
        );
        for wave in &self.waves {
            look::push_wave(&mut out, wave, style);
        }
        self.push_problems(&mut out, ascii);
        ends_with_sidecars::push(&mut out, &self.ends_with_sidecars, ascii);
        for assumption in &self.assumptions {
            out.push_str(&format!("Note: {assumption}\n"));
        }
        out.push_str(&look::ending(self));
        out
    }

    fn push_problems(&self, out: &mut String, ascii: bool) {
        let [stop, unknown] = if ascii {
            ["[fail]", "[?]"]
        } else {
            ["❌", "❔"]
        };
        for reason in &self.reasons {
            out.push_str(&format!("{stop} {reason}\n"));
        }
        for gap in &self.gaps {
            out.push_str(&format!(
                "{stop} {} {} {}:\n",
                gap.server,
                gap.direction,
                gap.span()
            ));
            for line in &gap.witness {
                out.push_str(&format!("    {line}\n"));
            }
        }
        for unread in &self.unread {
            out.push_str(&format!("{unknown} {unread}\n"));
        }
        for (server, callers, lines) in self.undecided() {
            out.push_str(&format!("{unknown} {server} is undecided for {callers}:\n"));
            for line in lines {
                out.push_str(&format!("    {line}\n"));
            }
        }
        for left_out in &self.left_out {
            out.push_str(&format!(
                "{stop} left out: {}: {}\n",
                left_out.what, left_out.why
            ));
            for line in &left_out.witness {
                out.push_str(&format!("    {line}\n"));
            }
        }
        for held in self.held_together() {
            let keep = match held.workloads.len() {
                1 => "keeps its sidecar",
                _ => "keep their sidecars",
            };
            out.push_str(&format!(
                "{stop} {} {keep}: {}\n",
                held.workloads.join(", "),
                held.why
            ));
            for line in held.witness {
                out.push_str(&format!("    {line}\n"));
            }
            for way in &held.ways_out {
                out.push_str(&format!("    way out: {way}\n"));
            }
        }
        if self.holds_by_proof() {
            out.push_str(&format!("{ON_GAP}\n"));
        }
    }

    /// Workloads that keep their sidecars, together where reason and witness are the same.
    fn held_together(&self) -> Vec<HeldTogether<'_>> {
        let mut groups: Vec<HeldTogether<'_>> = Vec::new();
        let mut places = BTreeMap::new();
        for held in &self.held {
            let place = *places
                .entry((&held.why, &held.witness))
                .or_insert(groups.len());
            if place == groups.len() {
                groups.push(HeldTogether {
                    workloads: Vec::new(),
                    why: &held.why,
                    witness: &held.witness,
                    ways_out: Vec::new(),
                });
            }
            let group = &mut groups[place];
            group.workloads.push(&held.workload);
            for way in &held.ways_out {
                if !group.ways_out.contains(&way) {
                    group.ways_out.push(way);
                }
            }
        }
        groups
    }

    /// Whether something is not done because a proof stands against it.
    fn holds_by_proof(&self) -> bool {
        !self.left_out.is_empty() || self.held.iter().any(|held| !held.witness.is_empty())
    }

    /// What to do next, given where the folder is.
    pub fn next(&self, folder: &str) -> String {
        match self.waves.first() {
            None => format!("Written to {folder}.\n"),
            Some(first) => format!(
                "Written to {folder}: read plan.md, then begin with {folder}/{}/apply.sh\n",
                first.folder
            ),
        }
    }

    /// Servers that some state leaves undecided, callers in words, and the reason; callers of one reason together.
    pub fn undecided(&self) -> Vec<(&str, String, &[String])> {
        let mut seen: BTreeMap<(&str, &str), &[String]> = BTreeMap::new();
        let states = self.waves.iter().flat_map(|wave| &wave.states);
        for server in states.flat_map(|state| &state.differing) {
            let differences = server.differences.iter();
            for difference in differences.filter(|one| one.direction == "undecided") {
                let known = seen
                    .entry((server.server.as_str(), difference.callers))
                    .or_insert(&difference.lines);
                // What is told in more lines is told of a later state, and graver.
                if difference.lines.len() > known.len() {
                    *known = &difference.lines;
                }
            }
        }
        let mut told: Vec<(&str, String, &[String])> = Vec::new();
        for ((server, callers), lines) in seen {
            let reason = |lines: &[String]| {
                let (first, rest) = lines.split_first()?;
                let what = first
                    .split_once(": ")
                    .map_or(first.as_str(), |(what, _)| what);
                Some((what.to_owned(), rest.to_vec()))
            };
            let same = |one: &&mut (&str, String, &[String])| {
                one.0 == server && reason(one.2) == reason(lines)
            };
            match told.iter_mut().find(same) {
                Some(known) => known.1.push_str(&format!(", {callers}")),
                None => told.push((server, callers.to_owned(), lines)),
            }
        }
        told
    }
}

/// How many states a wave has, and of how many not everything is proved.
fn proved(states: &[StateReport]) -> String {
    let undecided = |state: &&StateReport| {
        state.differing.iter().any(|row| {
            let mut differences = row.differences.iter();
            row.is_unmatched() || differences.any(|one| one.direction == "undecided")
        })
    };
    let count_of = count(states.len(), "state");
    match states.iter().filter(undecided).count() {
        0 => format!("{count_of} proved"),
        all if all == states.len() => format!("{count_of}, undecided"),
        some => format!("{count_of}, {some} undecided"),
    }
}

/// `03-use-waypoints`.
pub fn folder_name(plan: &Plan, index: usize) -> String {
    let number = number(index + 1, plan.waves.len());
    format!("{number}-{}", plan.waves[index].slug)
}

/// A number as wide as the last one, so that names sort as the waves go.
fn number(number: usize, last: usize) -> String {
    let width = last.to_string().len().max(2);
    format!("{number:0width$}")
}

/// The exit code: the gravest of what the plan says.
pub fn exit(plan: &Plan, unread: &[String]) -> Exit {
    let witnessed_hold = plan.held.iter().any(|held| !held.lines.is_empty());
    match &plan.ending {
        PlanEnding::Failed(_) => Exit::CouldNotRun,
        PlanEnding::NotReady(results)
            if results
                .iter()
                .any(|result| result.outcome == PhaseOutcome::Failed) =>
        {
            Exit::Failed
        }
        PlanEnding::NotReady(_) => Exit::Undecided,
        _ if !plan.gaps.is_empty() || !plan.left_out.is_empty() || witnessed_hold => Exit::Failed,
        _ if !unread.is_empty()
            || plan.undecided() > 0
            || plan
                .waves
                .iter()
                .any(|wave| wave.way_back != WayBack::Proved) =>
        {
            Exit::Undecided
        }
        _ if plan.waves.is_empty() && plan.held.is_empty() => Exit::Nothing,
        _ => Exit::Recommendations,
    }
}

fn wave(wave: &Wave, folder: &str, differs_already: bool) -> WaveReport {
    let states: Vec<StateReport> = wave.states.iter().map(state).collect();
    WaveReport {
        folder: folder.to_owned(),
        title: wave.title.clone(),
        verdict: worst(states.iter().map(|state| state.verdict)),
        differs_already,
        why: wave.why.clone(),
        affected: wave.affected.iter().map(ToString::to_string).collect(),
        steps: wave
            .steps
            .iter()
            .map(|step| StepReport {
                what: step.what.clone(),
                look: step.look.clone(),
                waits: step.waits.clone(),
                run: step.run.clone(),
                undo: step.undo.clone(),
                settled: step.settled.clone(),
                undo_settled: step.undo_settled.clone(),
                by_hand: step.by_hand.clone(),
                undo_look: step.undo_look.clone(),
                undo_by_hand: step.undo_by_hand.clone(),
            })
            .collect(),
        manifests: wave.manifests.keys().cloned().collect(),
        states,
        way_back: match &wave.way_back {
            WayBack::Proved => "proved".to_owned(),
            WayBack::Differs(what) => format!("leaves a difference: {}", what.join("; ")),
            WayBack::NotPlayed(why) => format!("could not be played: {why}"),
        },
    }
}

fn count(number: usize, noun: &str) -> String {
    crate::phases::wording::count(number, noun)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use crate::mesh::MeshOverrides;
    use crate::plan::{PlanOptions, plan};

    #[test]
    fn numbers_sort_as_the_waves_go() {
        assert_eq!(number(7, 9), "07");
        for last in [9, 99, 100, 1_000] {
            let names: Vec<String> = (1..=last).map(|one| number(one, last)).collect();
            assert!(names.is_sorted(), "{last}");
        }
    }

    #[test]
    fn the_committed_schema_is_the_one_of_the_types_and_plans_obey_it() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/plan.v1.json");
        let schema = schemars::schema_for!(PlanReport);
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if std::env::var_os("CASTOFF_BLESS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap();
        assert_eq!(committed, text, "run the tests with CASTOFF_BLESS=1");
        let demo = crate::demo::snapshot().unwrap();
        let plan = plan(
            &demo,
            demo.clone(),
            &MeshOverrides::default(),
            &PlanOptions::default(),
        );
        let report = PlanReport::new(&plan, String::new(), String::new(), Vec::new());
        let value = serde_json::to_value(&report).unwrap();
        let validator = jsonschema::validator_for(&serde_json::to_value(&schema).unwrap()).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect();
        assert_eq!(errors, Vec::<String>::new());
        assert_eq!(exit(&plan, &[]), Exit::Recommendations);
    }
}
