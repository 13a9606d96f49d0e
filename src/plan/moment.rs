//! The command of a wave after which each of its states begins.
//!
//! In: a wave with its steps and states. Out: command lines of its own. Invariant: a state in which
//! pods are being replaced begins with the first command that replaces some, one at rest with the wait for
//! the last.

use super::lock;
use super::wave::{Step, Wave};

/// The command after which a state of the wave begins, by its position.
pub(super) fn begins_after(wave: &Wave, state: usize) -> Option<String> {
    let steps = &wave.steps;
    let is_last = state + 1 == wave.states.len();
    let is_pinned = !wave.temporary.is_empty() && !wave.temporary.contains(lock::FILE);
    if is_pinned && !is_last {
        // After the subsets: callers pinned, new pods beside old ones, handed over, old pods gone.
        let step = steps.get(state + 1)?;
        return if step.moves.is_empty() {
            last(step)
        } else {
            step.run.first().cloned()
        };
    }
    let mut moving = steps.iter().filter(|step| !step.moves.is_empty());
    let whole = || steps.iter().rev().find_map(last);
    if is_last {
        whole()
    } else if wave.states[state].when.starts_with("while ") {
        let first = moving.next().or(steps.first())?;
        first.run.first().cloned()
    } else {
        moving.next_back().map_or_else(whole, last)
    }
}

/// What is done last in a step.
fn last(step: &Step) -> Option<String> {
    step.settled.last().or(step.run.last()).cloned()
}
