//! A plan as data: waves, their steps, the states they pass through, and where access differs.
//!
//! Invariant: every command of a step is one that [`crate::simulate`] understands, or stands in
//! `by_hand`; every state says which servers differ from the baseline, none is left out.

use std::collections::{BTreeMap, BTreeSet};

use crate::finding::PhaseResult;
use crate::prove::row::{RowVerdict, ServerRow};
use crate::snapshot::ObjectName;

/// The whole migration.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Waves in order, numbered from 1 by their place.
    pub waves: Vec<Wave>,
    /// How it ends.
    pub ending: PlanEnding,
    /// Workloads that keep their sidecars, with the reason.
    pub held: Vec<Held>,
    /// What was recommended and is not in the waves, since it opens or breaks something.
    pub left_out: Vec<LeftOut>,
    /// Access that somebody gains or loses on the way, in the order of appearance.
    pub gaps: Vec<Gap>,
    /// What stands in the way of waypoints and only people can change.
    pub unsettled: Vec<String>,
    /// What sidecars do besides deciding about access, which ends with them.
    pub ends_with_sidecars: Vec<EndsWithSidecars>,
    /// What the plan rests on and cannot show.
    pub assumptions: Vec<String>,
    /// Servers of the mesh.
    pub servers: usize,
    /// Namespaces that were to be planned; empty: all.
    pub namespaces: BTreeSet<String>,
    /// What has no sidecar to leave, or was not to be planned, and how that stays; in words.
    pub remains: Vec<String>,
}

/// How a plan ends.
#[derive(Debug, Clone, PartialEq)]
pub enum PlanEnding {
    /// Every workload that can move has moved, nothing is left to apply.
    Done,
    /// Some workloads stay in their sidecars, see [`Plan::held`], or something is not applied, see
    /// [`Plan::left_out`].
    Partial,
    /// A phase before the waypoints failed or could not be checked: people must act first.
    NotReady(Vec<PhaseResult>),
    /// A command could not be played; the plan ends before it.
    Failed(String),
}

/// A workload that the plan does not move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Which.
    pub workload: ObjectName,
    /// Why, in one sentence.
    pub why: String,
    /// The witness, when a proof stands against it.
    pub lines: Vec<String>,
    /// Whose access the witness is about.
    pub server: Option<ObjectName>,
    /// What the witness shows: `opens` or `breaks`.
    pub direction: Option<&'static str>,
    /// What people can do so that it moves; a sentence each.
    pub ways_out: Vec<String>,
}

/// Something that sidecars honour and ambient mode does not, or otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndsWithSidecars {
    /// Code of the check that found it.
    pub code: &'static str,
    /// What, in one sentence.
    pub what: String,
    /// Of what and why.
    pub details: Vec<String>,
    /// What people can do before the sidecars go.
    pub advice: Vec<String>,
}

/// A command or an object that the plan leaves out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Which.
    pub what: String,
    /// Whom it opens or breaks.
    pub why: String,
    /// The witness.
    pub lines: Vec<String>,
}

/// One folder of the plan: what is done between two moments of rest.
#[derive(Debug, Clone)]
pub struct Wave {
    /// Name of its folder without the number: `waypoints`, `move-shop`.
    pub slug: String,
    /// One line: what changes.
    pub title: String,
    /// Who is affected.
    pub affected: Vec<ObjectName>,
    /// Why now; one sentence each.
    pub why: Vec<String>,
    /// Steps in order.
    pub steps: Vec<Step>,
    /// Manifests to apply, by file name.
    pub manifests: Files,
    /// Those of them that are gone again when the wave is over.
    pub temporary: BTreeSet<String>,
    /// Manifests as they were before, for the way back, by file name.
    pub saved: Files,
    /// Changes to objects that are not in `manifests`, for those who deploy from Git.
    pub edits: Vec<Edit>,
    /// The states that the mesh passes through, proved one by one; the last is the state after.
    pub states: Vec<State>,
    /// What the way back was found to be.
    pub way_back: WayBack,
}

/// File names and contents.
pub type Files = BTreeMap<String, String>;

/// Something to do, what to see first, and how to take it back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// One sentence: what it does.
    pub what: String,
    /// What to look at before going on, in words.
    pub look: Vec<String>,
    /// Commands that wait for what the step relies on.
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
    /// What to look at before it is taken back, in words.
    pub undo_look: Vec<String>,
    /// What only people can do on the way back.
    pub undo_by_hand: Vec<String>,
    /// Workloads that it moves, by name.
    pub moves: Vec<String>,
}

/// A change of labels of one object, and where the object was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// `apiVersion` of the object.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Which.
    pub name: ObjectName,
    /// Where its source was read: `apps/shop.yaml:12`; `None` when not from a file.
    pub origin: Option<String>,
    /// What changes.
    pub change: EditChange,
}

/// What changes in an object of the user's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EditChange {
    /// Labels of the object; `None` removes one.
    Labels(BTreeMap<String, Option<String>>),
    /// Labels of its pod template; a CronJob's is one level deeper.
    TemplateLabels(BTreeMap<String, Option<String>>),
    /// The object becomes what this file of the wave says.
    Replace(String),
    /// The object goes.
    Delete,
}

/// One state of the mesh, compared with the baseline.
#[derive(Debug, Clone)]
pub struct State {
    /// When: `while the pods of shop/cart are replaced`.
    pub when: String,
    /// Comparisons made.
    pub compared: usize,
    /// Servers that are not plainly the same.
    pub differing: Vec<ServerRow>,
    /// Waypoints newly trusted, with the servers they may reach.
    pub newly_trusted: BTreeMap<String, Vec<ObjectName>>,
    /// Other workloads that run under a newly trusted identity.
    pub shares_trust: Vec<String>,
    /// What is no difference and should be known, with the servers that it holds for.
    pub notes: BTreeMap<String, Vec<ObjectName>>,
}

impl State {
    /// Servers with a witness: somebody gains or loses.
    pub fn witnessed(&self) -> impl Iterator<Item = &ServerRow> {
        self.differing
            .iter()
            .filter(|row| row.verdict() != RowVerdict::Undecided)
    }

    /// Servers for which it could not be decided.
    pub fn undecided(&self) -> usize {
        self.differing.len() - self.witnessed().count()
    }
}

/// What is known of the way back of a wave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WayBack {
    /// Played: the state after it equals the state before the wave, and passes only through states
    /// that were proved on the way here.
    Proved,
    /// Played, and the state after it is another; what differs.
    Differs(Vec<String>),
    /// It could not be played; why.
    NotPlayed(String),
}

/// Access that is gained or lost between two moments of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Whose.
    pub server: ObjectName,
    /// `opens` or `breaks`.
    pub direction: &'static str,
    /// The request, and where it was decided in the baseline and then.
    pub lines: Vec<String>,
    /// From when: number of the wave, and the words of its state; 0 for what differs before the first wave already.
    pub from: (usize, String),
    /// Until when; `None` when it lasts to the end of the plan.
    pub until: Option<(usize, String)>,
    /// The command after which it begins.
    pub begins_after: Option<String>,
    /// The command after which it is over.
    pub ends_after: Option<String>,
}

impl Plan {
    /// Whether some state could not be decided.
    pub fn undecided(&self) -> usize {
        self.waves
            .iter()
            .flat_map(|wave| &wave.states)
            .map(State::undecided)
            .max()
            .unwrap_or_default()
    }
}
