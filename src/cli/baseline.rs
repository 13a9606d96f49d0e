//! The state before the migration, which every verdict is compared with.
//!
//! In: what the user named, or what an earlier run saved in the output folder. Out: a snapshot and
//! words for it. Invariant: the first run saves the state it read; a saved state is never overwritten,
//! and one of another mesh is never compared with.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write as _};
use std::path::Path;

use super::{CliError, input};
use crate::mesh::Mesh;
use crate::report::access::NOT_IN_BASELINE;
use crate::report::folder::{self, BASELINE};
use crate::snapshot::{Object, ObjectName, Snapshot};
use crate::source::saved;

/// The baseline of a run.
pub(super) struct Baseline {
    /// The state; `None` for the one read now.
    pub(super) snapshot: Option<Snapshot>,
    /// What reports call it.
    pub(super) words: String,
}

/// The baseline that was given, or the saved one, or the state read now, which is saved.
///
/// # Errors
/// The one given cannot be read, or the state cannot be saved.
pub(super) fn of_run(
    given: Option<&Path>,
    present: &Snapshot,
    input_words: &str,
    output_dir: &Path,
) -> Result<Baseline, CliError> {
    if let Some(path) = given {
        return read(path);
    }
    let path = output_dir.join(BASELINE);
    if path.is_file() {
        let found = read(&path)?;
        if found
            .snapshot
            .as_ref()
            .is_some_and(|one| of_one_mesh(one, present))
        {
            return Ok(found);
        }
        return Ok(Baseline {
            snapshot: None,
            words: format!(
                "the state read now (the baseline {} is of another mesh; give one with `--baseline`, or another \
                 `--output-dir`)",
                path.display()
            ),
        });
    }
    save(present, input_words, &path)?;
    Ok(Baseline {
        snapshot: None,
        // The same words as in later runs: equal input gives equal output.
        words: format!("the baseline {}", path.display()),
    })
}

fn read(path: &Path) -> Result<Baseline, CliError> {
    let (snapshot, _) = input::read_files(std::slice::from_ref(&path.to_owned()))?;
    Ok(Baseline {
        snapshot: Some(snapshot),
        words: format!("the baseline {}", path.display()),
    })
}

/// The servers that are not in a baseline, as one sentence; `None` where all are.
///
/// # Errors
/// None of them is: the baseline is of another mesh.
pub(super) fn unmatched(
    baseline: &Mesh,
    present: &Mesh,
    path: &Path,
) -> Result<Option<String>, CliError> {
    let before: BTreeSet<&ObjectName> = baseline.workloads.iter().map(|one| &one.name).collect();
    let now = present
        .workloads
        .iter()
        .filter(|one| one.is_mesh_application());
    let (known, new): (Vec<&ObjectName>, Vec<&ObjectName>) = now
        .map(|one| &one.name)
        .partition(|name| before.contains(name));
    if new.is_empty() {
        return Ok(None);
    }
    if known.is_empty() {
        return Err(CliError::UnusableInput(format!(
            "the baseline `{}` has none of the {} workloads of this mesh: it is of another mesh; give the state of \
             this one before the migration",
            path.display(),
            new.len()
        )));
    }
    let names: Vec<String> = new.into_iter().map(ToString::to_string).collect();
    Ok(Some(format!(
        "undecided, {NOT_IN_BASELINE}: {}",
        names.join(", ")
    )))
}

/// Whether two snapshots show one mesh at two times: half of the fewer owners of pods are in both.
fn of_one_mesh(one: &Snapshot, other: &Snapshot) -> bool {
    let owners = |snapshot: &Snapshot| -> BTreeSet<ObjectName> {
        let services = snapshot.services.iter().map(Object::object_name);
        let owners = snapshot.owners.iter().map(Object::object_name);
        owners.chain(services).collect()
    };
    let (one, other) = (owners(one), owners(other));
    let common = one.intersection(&other).count();
    2 * common >= one.len().min(other.len())
}

/// Saves a state, whole or not at all, readable by its owner only.
fn save(snapshot: &Snapshot, name: &str, path: &Path) -> Result<(), CliError> {
    let failed = |error: std::io::Error| {
        CliError::CouldNotRun(format!(
            "cannot save the baseline `{}`: {error}; choose another folder with `--output-dir`",
            path.display()
        ))
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(failed)?;
    folder::mark(folder).map_err(failed)?;
    let mut file = tempfile::Builder::new()
        .prefix(".castoff-")
        .tempfile_in(folder)
        .map_err(failed)?;
    saved::record(snapshot, name)
        .write_bundle(BufWriter::new(&mut file))
        .and_then(|()| file.flush())
        .map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}
