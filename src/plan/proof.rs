//! States of the plan, proved against the baseline, and the gaps between them.
//!
//! In: a prover with its baseline, and the mesh now. Out: a [`State`]. Invariant: a mixed state holds the
//! old and the new pods of every workload that is moving, so that each mixture is covered: a caller
//! is compared in each of its modes with each generation of the server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use castoff_authz::verdict::Finding;

use super::moment::begins_after;
use super::wave::{Gap, State, Wave};
use crate::mesh::Mesh;
use crate::prove::prover::Prover;
use crate::prove::row::{PortAnswer, RowVerdict, ServerRow};
use crate::snapshot::ObjectName;

/// Proves one state.
pub fn state(prover: &Prover<'_>, present: Arc<Mesh>, when: impl Into<String>) -> State {
    let rows = prover.rows(present);
    let mut state = State {
        when: when.into(),
        compared: rows.iter().map(|row| row.compared).sum(),
        differing: Vec::new(),
        newly_trusted: BTreeMap::new(),
        shares_trust: Vec::new(),
        notes: BTreeMap::new(),
    };
    let mut shares = BTreeSet::new();
    for row in rows {
        for waypoint in &row.newly_trusted {
            let servers = state.newly_trusted.entry(waypoint.clone()).or_default();
            servers.push(row.server.clone());
        }
        shares.extend(row.shares_trust.iter().cloned());
        for note in &row.notes {
            let servers = state.notes.entry(note.clone()).or_default();
            servers.push(row.server.clone());
        }
        if row.verdict() != RowVerdict::Same {
            state.differing.push(row);
        }
    }
    state.shares_trust = shares.into_iter().collect();
    state
}

/// The witnesses of a row, told: direction and lines, one of each direction.
pub fn witnesses(row: &ServerRow) -> Vec<(&'static str, Vec<String>)> {
    let mut found: Vec<(&'static str, Vec<String>)> = Vec::new();
    let mut add = |direction, finding, answer: &PortAnswer| {
        if found.iter().all(|(known, _)| *known != direction)
            && let Some(lines) = answer.witness_lines(finding)
        {
            found.push((direction, lines));
        }
    };
    // Rather somebody who is known to call.
    let mut known = row.differences.iter().filter(|answer| answer.known);
    let mut gaining = (row.differences.iter()).filter(|answer| !answer.told_of_gain.is_empty());
    for answer in &row.differences {
        if matches!(answer.verdict.opens, Finding::Witness(_)) {
            let answer = gaining.next().unwrap_or(answer);
            add("opens", &answer.verdict.opens, answer);
        }
        if matches!(answer.verdict.breaks, Finding::Witness(_)) {
            let answer = known.next().unwrap_or(answer);
            add("breaks", &answer.verdict.breaks, answer);
        }
    }
    found
}

/// Every gap of the waves: from the first state that shows it to the one in which it is gone.
pub fn gaps(waves: &[Wave]) -> Vec<Gap> {
    let mut open: BTreeMap<(ObjectName, &'static str), usize> = BTreeMap::new();
    let mut gaps: Vec<Gap> = Vec::new();
    for (index, wave) in waves.iter().enumerate() {
        for (position, state) in wave.states.iter().enumerate() {
            let moment = (index + 1, state.when.clone());
            let mut seen = BTreeSet::new();
            for row in state.witnessed() {
                for (direction, lines) in witnesses(row) {
                    let key = (row.server.clone(), direction);
                    seen.insert(key.clone());
                    open.entry(key).or_insert_with(|| {
                        gaps.push(Gap {
                            server: row.server.clone(),
                            direction,
                            lines,
                            from: moment.clone(),
                            until: None,
                            begins_after: begins_after(wave, position),
                            ends_after: None,
                        });
                        gaps.len() - 1
                    });
                }
            }
            open.retain(|key, gap| {
                let lasts = seen.contains(key);
                if !lasts {
                    gaps[*gap].until = Some(moment.clone());
                    gaps[*gap].ends_after = begins_after(wave, position);
                }
                lasts
            });
        }
    }
    gaps
}
