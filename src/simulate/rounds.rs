//! Run, apply what was written, run again: a whole migration in memory.
//!
//! In: a snapshot, the user's choices, and a function that renders results to the files a user
//! would get. Out: one [`Round`] a run, and how it ended. Invariant: only the rendered bytes change
//! the state between two rounds.

use std::collections::BTreeMap;

use super::command::{CommandError, parse_script};
use super::execute::{ExecuteError, execute};
use super::{Command, settle};
use crate::finding::{PhaseOutcome, PhaseResult};
use crate::mesh::{Mesh, MeshOverrides};
use crate::phases::{self, Context, MigrateOptions};
use crate::snapshot::Snapshot;

/// What one run wrote, by file name; `commands.sh` among it when there are commands.
pub type Files = BTreeMap<String, String>;

/// One run and what was applied after it.
#[derive(Debug, Clone)]
pub struct Round {
    /// What the phases said.
    pub results: Vec<PhaseResult>,
    /// What was written.
    pub files: Files,
}

/// How a migration played in memory ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// Every phase succeeded.
    Done,
    /// A phase failed, or could not be checked: people must act first.
    Refused,
    /// Recommendations remain that no written file and no command answers.
    NothingToApply,
    /// The bound of rounds was reached: two rounds undo each other, or castoff never ends.
    TooManyRounds,
    /// A written command could not be carried out.
    Failed(PlayError),
}

/// Why a written file could not be applied.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlayError {
    /// The script holds a line that is not understood.
    #[error("commands.sh: {0}")]
    Script(CommandError),
    /// A command failed.
    #[error("{0}")]
    Execute(ExecuteError),
}

/// Plays a migration from a snapshot until nothing is left to do, at most `bound` rounds.
pub fn play(
    mut snapshot: Snapshot,
    overrides: &MeshOverrides,
    options: &MigrateOptions,
    write: &dyn Fn(&Snapshot, &[PhaseResult]) -> Files,
    bound: usize,
) -> (Vec<Round>, Ending) {
    let mut rounds = Vec::new();
    for _ in 0..bound {
        let results = {
            let mesh = Mesh::build(&snapshot, overrides);
            let context = Context::new(&mesh, &snapshot, options);
            phases::run(&context)
        };
        let files = write(&snapshot, &results);
        let ending = ending(&results);
        rounds.push(Round {
            results,
            files: files.clone(),
        });
        if let Some(ending) = ending {
            return (rounds, ending);
        }
        match apply(&mut snapshot, &files) {
            Ok(0) => return (rounds, Ending::NothingToApply),
            Ok(_) => settle(&mut snapshot),
            Err(error) => return (rounds, Ending::Failed(error)),
        }
    }
    (rounds, Ending::TooManyRounds)
}

fn ending(results: &[PhaseResult]) -> Option<Ending> {
    let stopped = |wanted: &[PhaseOutcome]| {
        results
            .iter()
            .any(|result| wanted.contains(&result.outcome))
    };
    if stopped(&[PhaseOutcome::Failed]) {
        return Some(Ending::Refused);
    }
    if stopped(&[PhaseOutcome::Recommends]) {
        return None;
    }
    Some(if stopped(&[PhaseOutcome::CouldNotCheck]) {
        Ending::Refused
    } else {
        Ending::Done
    })
}

/// Applies manifests, then carries out the commands; returns how many changes there were.
fn apply(snapshot: &mut Snapshot, files: &Files) -> Result<usize, PlayError> {
    let manifests = files.keys().filter(|name| name.ends_with(".yaml"));
    let mut commands: Vec<Command> = manifests
        .map(|file| Command::Apply { file: file.clone() })
        .collect();
    if let Some(script) = files.get("commands.sh") {
        commands.extend(parse_script(script).map_err(PlayError::Script)?);
    }
    execute(snapshot, &commands, files).map_err(|(_, error)| PlayError::Execute(error))?;
    Ok(commands.len())
}
