//! Proved states as data, and what a run of `migrate` shows of them.
//!
//! In: [`State`]s and [`Access`]. Out: [`StateReport`]s, [`AccessBlock`]. Invariant: a state is never
//! shown better than the worst of its servers, and what could not be played is never left out.

use schemars::JsonSchema;
use serde::Serialize;

use super::access::{self, ServerAccess, Verdict};
use super::recommended::Row;
use crate::exit::Exit;
use crate::finding::Phase;
use crate::plan::recommended::Access;
use crate::plan::wave::State;

/// One state.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StateReport {
    /// When.
    pub when: String,
    /// The worst verdict of its servers.
    pub verdict: Verdict,
    /// Comparisons made.
    pub compared: usize,
    /// Servers that are not the same; all others are.
    pub differing: Vec<ServerAccess>,
    /// Waypoints whose identity reaches pods that it did not reach in the baseline.
    pub newly_trusted: Vec<Trusted>,
    /// Other workloads that run under such an identity.
    pub shares_trust: Vec<String>,
    /// What is no difference and should be known: addresses that are closed and nobody is known to use.
    pub notes: Vec<Note>,
}

/// A note with the servers that it holds for.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Note {
    /// In words.
    pub text: String,
    /// `namespace/name` of workloads.
    pub servers: Vec<String>,
}

/// A newly trusted waypoint.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Trusted {
    /// `namespace/name` of the Gateway.
    pub waypoint: String,
    /// Workloads whose pods it reaches.
    pub servers: Vec<String>,
}

/// Who may call whom now and after what is recommended, compared with a baseline.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessBlock {
    /// What it is compared with.
    pub baseline: String,
    /// Servers compared.
    pub servers: usize,
    /// The state that was read.
    pub now: StateReport,
    /// What each phase with something to run or to apply leads through.
    pub phases: Vec<PhaseStates>,
    /// Recommended commands that could not be played, with the reason: what they change is not
    /// proved.
    pub not_played: Vec<String>,
    /// The last of the states above, which `servers_in_the_end` are about.
    pub end: String,
    /// Every server in the last of the states above, those that are the same included: one entry of bounded
    /// length a server, whatever the number of states.
    pub servers_in_the_end: Vec<Row>,
}

/// The states of one phase's recommendations.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PhaseStates {
    /// `use-waypoints` …
    pub phase: String,
    /// The worst verdict of its states.
    pub verdict: Verdict,
    /// The states in order.
    pub states: Vec<StateReport>,
}

impl AccessBlock {
    /// The block of what was proved.
    pub fn new(access: &Access, baseline: String) -> Self {
        Self {
            baseline,
            servers: access.servers,
            now: state(&access.now),
            phases: access
                .phases
                .iter()
                .map(|(phase, states)| {
                    let states: Vec<StateReport> = states.iter().map(state).collect();
                    PhaseStates {
                        phase: phase.name().to_owned(),
                        verdict: worst(states.iter().map(|state| state.verdict)),
                        states,
                    }
                })
                .collect(),
            not_played: access.not_played.clone(),
            end: access.states().last().unwrap_or(&access.now).when.clone(),
            servers_in_the_end: access
                .rows
                .iter()
                .map(|(row, reached)| Row::new(row, reached.as_ref()))
                .collect(),
        }
    }

    /// All states in order.
    pub fn states(&self) -> impl Iterator<Item = &StateReport> {
        std::iter::once(&self.now).chain(self.phases.iter().flat_map(|phase| &phase.states))
    }

    /// Whether there was nothing to compare.
    pub fn is_empty(&self) -> bool {
        self.servers == 0 && self.exit() == Exit::Nothing
    }

    /// The verdict of a phase's recommendations.
    pub fn verdict_of(&self, phase: Phase) -> Option<Verdict> {
        self.phases
            .iter()
            .find(|one| one.phase == phase.name())
            .map(|one| one.verdict)
    }

    /// What the proof means for the exit code.
    pub fn exit(&self) -> Exit {
        match worst(self.states().map(|state| state.verdict)) {
            Verdict::Opens | Verdict::Breaks | Verdict::OpensAndBreaks | Verdict::New => {
                Exit::Failed
            }
            Verdict::Undecided => Exit::Undecided,
            Verdict::Same | Verdict::Intended if self.not_played.is_empty() => Exit::Nothing,
            Verdict::Same | Verdict::Intended => Exit::Undecided,
        }
    }
}

/// One state as data.
pub fn state(state: &State) -> StateReport {
    let differing: Vec<ServerAccess> = state
        .differing
        .iter()
        .map(|row| access::server(row, false))
        .collect();
    StateReport {
        when: state.when.clone(),
        verdict: worst(differing.iter().map(|server| server.verdict)),
        compared: state.compared,
        differing,
        newly_trusted: state
            .newly_trusted
            .iter()
            .map(|(waypoint, servers)| Trusted {
                waypoint: waypoint.clone(),
                servers: servers.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        shares_trust: state.shares_trust.clone(),
        notes: state
            .notes
            .iter()
            .map(|(text, servers)| Note {
                text: text.clone(),
                servers: servers.iter().map(ToString::to_string).collect(),
            })
            .collect(),
    }
}

/// The gravest verdict; none is the same.
pub fn worst(verdicts: impl Iterator<Item = Verdict>) -> Verdict {
    verdicts
        .max_by_key(|verdict| rank(*verdict))
        .unwrap_or(Verdict::Same)
}

/// How grave a verdict is.
pub fn rank(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Same | Verdict::Intended => 0,
        Verdict::Undecided => 1,
        Verdict::Breaks | Verdict::New => 2,
        Verdict::Opens => 3,
        Verdict::OpensAndBreaks => 4,
    }
}
