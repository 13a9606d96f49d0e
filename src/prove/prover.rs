//! State after state compared with one baseline.
//!
//! In: the mesh of the baseline, then one mesh a state. Out: rows, and notes on closed addresses.
//! Invariant: what is remembered of earlier states changes how soon an answer comes, never the answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use castoff_authz::verdict::Limits;

use super::answered::Answered;
use super::memory::Memory;
use super::reached::Reached;
use super::row::ServerRow;
use super::rows::{Comparer, Seen};
use super::side::Side;
use crate::mesh::Mesh;
use crate::snapshot::ObjectName;

/// Compares state after state with one baseline and remembers what need not be asked again.
pub struct Prover<'a> {
    baseline: Side<'a>,
    limits: Limits,
    seen: Option<Seen<'a>>,
    memory: Mutex<Memory>,
    answered: Arc<Answered>,
}

impl<'a> Prover<'a> {
    /// A prover that remembers nothing yet.
    pub fn new(baseline: &'a Mesh, limits: Limits) -> Self {
        Self {
            baseline: Side::of(baseline),
            limits,
            seen: None,
            memory: Mutex::default(),
            answered: Arc::default(),
        }
    }

    /// The same, for which losses count of those workloads alone that were seen at the server.
    #[must_use]
    pub fn for_callers_seen(mut self, seen: Option<Seen<'a>>) -> Self {
        self.seen = seen;
        self
    }

    /// The mesh that everything is compared with.
    pub fn baseline(&self) -> &'a Mesh {
        self.baseline.mesh
    }

    /// The limits of one comparison.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Rows of this state with notes on who loses an address that nobody is known to use.
    pub fn noted(&self, present: &Mesh) -> Vec<ServerRow> {
        let mut comparer = self.comparer(present);
        comparer.notes_closed = true;
        comparer.rows(None)
    }

    /// How the servers of this state are reached.
    pub fn reached(&self, present: &Mesh) -> BTreeMap<ObjectName, Reached> {
        self.comparer(present).reached()
    }

    fn comparer<'c>(&'c self, present: &'c Mesh) -> Comparer<'c> {
        let mut comparer = Comparer::new(&self.baseline, present, self.limits);
        comparer.answered = Arc::clone(&self.answered);
        comparer.seen = self.seen;
        comparer
    }

    /// The same rows as [`rows`](super::rows::rows) without notes on closed addresses, sooner where an earlier state
    /// answered already.
    pub fn rows(&self, present: Arc<Mesh>) -> Vec<ServerRow> {
        // A thread that panicked in the middle of a proof leaves nothing half learnt.
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let comparer = self.comparer(&present);
        let rows = comparer.rows(Some(&mut memory));
        // Wherever tests plan, what is remembered is held against what is asked anew.
        debug_assert_eq!(
            rows,
            comparer.rows(None),
            "an earlier answer no longer holds"
        );
        rows
    }
}

/// What should be known of rows, with the servers that it holds for.
pub fn notes(rows: &[ServerRow]) -> BTreeMap<String, Vec<ObjectName>> {
    let mut notes: BTreeMap<String, Vec<ObjectName>> = BTreeMap::new();
    for row in rows {
        for note in &row.notes {
            let servers = notes.entry(note.clone()).or_default();
            servers.push(row.server.clone());
        }
    }
    notes
}
