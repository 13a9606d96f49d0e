//! Where documents come from: files, standard input, the demo; a live cluster and bundles hand
//! their documents to the same functions.
//!
//! In: text (YAML or JSON) with a [`Place`], and gaps. Out: a [`Snapshot`]. Invariant: every
//! source goes through [`Collector`], so whatever comes after cannot tell them apart but by origin.

#[cfg(feature = "cluster")]
pub mod cluster;
mod decode;
mod files;
mod harvest;
mod json;
mod object;
pub mod own;
#[cfg(feature = "cluster")]
pub mod prometheus;
pub mod recording;
#[cfg(feature = "cluster")]
pub mod redact;
pub mod role;
pub mod saved;
mod split;
pub mod yaml;

use std::path::PathBuf;
use std::sync::Arc;

use crate::snapshot::{AnyObject, Gap, Kind, Origin, Problem, ProblemLevel, Snapshot};

/// Why nothing could be read at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No file held an object that castoff reads (exit code 65).
    #[error("the files given hold nothing usable: {}", first_reason(.problems))]
    NothingUsable {
        /// What was wrong with each of them.
        problems: Vec<Problem>,
    },
}

fn first_reason(problems: &[Problem]) -> String {
    match problems {
        [] => {
            "no Kubernetes objects of the kinds that castoff reads; see `castoff migrate --help` \
               for what `--from-files` needs"
                .to_owned()
        }
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

/// Where a text came from; gives its objects their [`Origin`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file, by the path that messages show.
    File(Arc<str>),
    /// Standard input.
    StandardInput,
    /// A live cluster, by its context.
    Cluster(Arc<str>),
    /// A file of the mesh inside the binary.
    Demo(&'static str),
    /// Made in memory.
    Simulated,
}

impl Place {
    /// The origin of an object whose first key stands on this 1-based line.
    pub fn origin(&self, line: u32) -> Origin {
        match self {
            Self::File(path) => Origin::File {
                path: Arc::clone(path),
                line,
            },
            Self::StandardInput => Origin::StandardInput { line },
            Self::Cluster(context) => Origin::Cluster {
                context: Arc::clone(context),
            },
            Self::Demo(file) => Origin::Demo { file, line },
            Self::Simulated => Origin::Simulated,
        }
    }

    /// The kind that a file is named after: `pods.yaml`.
    fn kind_by_name(&self) -> Option<Kind> {
        match self {
            Self::File(path) => harvest::kind_by_file_name(path),
            Self::Demo(file) => harvest::kind_by_file_name(file),
            _ => None,
        }
    }
}

/// Gathers what sources deliver and makes a snapshot of it.
#[derive(Debug, Default)]
pub struct Collector {
    snapshot: Snapshot,
}

impl Collector {
    /// An empty collector.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds all objects of a text: YAML or JSON, one or many documents, lists of any kind. Broken
    /// documents become problems of the snapshot.
    pub fn add_text(&mut self, place: &Place, text: &str) {
        let parts = harvest::harvest(place, text);
        self.add_parts(parts);
    }

    /// Adds the bytes of a file: text in UTF-8 or UTF-16, or either of them in gzip.
    pub fn add_bytes(&mut self, place: &Place, bytes: Vec<u8>) {
        match decode::decode(place, bytes) {
            Ok(decoded) => {
                self.snapshot.problems.extend(decoded.problems);
                let parts = harvest::harvest(place, &decoded.text);
                drop(decoded.text);
                self.add_parts(parts);
            }
            Err(problem) => self.snapshot.problems.push(problem),
        }
    }

    fn add_parts(&mut self, parts: Vec<Snapshot>) {
        let so_far = std::mem::take(&mut self.snapshot);
        self.snapshot = Snapshot::joined(std::iter::once(so_far).chain(parts).collect());
    }

    /// Records that a kind could not be read.
    pub fn add_gap(&mut self, gap: Gap) {
        self.snapshot.gaps.push(gap);
    }

    /// Records something odd.
    pub fn add_problem(&mut self, problem: Problem) {
        self.snapshot.problems.push(problem);
    }

    /// Records that the source answered for a kind, be it with an empty list.
    pub fn saw(&mut self, kind: Kind) {
        self.snapshot.seen_kinds.insert(kind);
    }

    /// Sorts everything; of two objects with one name the one added later stays.
    pub fn finish(mut self) -> Snapshot {
        self.snapshot.finish();
        self.snapshot
    }
}

/// Reads files, folders (recursively) and, for `-`, standard input.
///
/// # Errors
/// [`ReadError::NothingUsable`] when no object of a kind that castoff reads was found. Everything
/// less is in [`Snapshot::problems`].
pub fn read_files(paths: &[PathBuf]) -> Result<Snapshot, ReadError> {
    read_files_and(paths, &mut std::io::stdin().lock())
}

/// [`read_files`] with something else in place of standard input.
///
/// # Errors
/// As [`read_files`].
pub fn read_files_and(
    paths: &[PathBuf],
    standard_input: &mut dyn std::io::Read,
) -> Result<Snapshot, ReadError> {
    let mut collector = Collector::new();
    files::read(paths, standard_input, &mut collector);
    usable(collector.finish())
}

/// Reads one text, as the demo does.
///
/// # Errors
/// As [`read_files`].
pub fn read_text(place: &Place, text: &str) -> Result<Snapshot, ReadError> {
    let mut collector = Collector::new();
    collector.add_text(place, text);
    usable(collector.finish())
}

/// The objects of a text, for a change of a snapshot in memory ([`Snapshot::upsert`]).
///
/// # Errors
/// The problems of the text, when any document of it is broken.
pub fn parse_objects(place: &Place, text: &str) -> Result<Vec<AnyObject>, Vec<Problem>> {
    let found = Snapshot::joined(harvest::harvest(place, text));
    let errors: Vec<Problem> = found
        .problems
        .iter()
        .filter(|problem| problem.level == ProblemLevel::Error)
        .cloned()
        .collect();
    if errors.is_empty() {
        Ok(found.into_objects())
    } else {
        Err(errors)
    }
}

/// Applies manifests to a finished snapshot, as `kubectl apply` would: each object replaces the
/// one of its name or is new. Returns how many objects the text held.
///
/// # Errors
/// The problems of the text, when any document of it is broken; the snapshot is then unchanged.
pub fn apply_text(
    snapshot: &mut Snapshot,
    place: &Place,
    text: &str,
) -> Result<usize, Vec<Problem>> {
    let objects = parse_objects(place, text)?;
    let count = objects.len();
    snapshot.upsert_all(objects);
    Ok(count)
}

fn usable(snapshot: Snapshot) -> Result<Snapshot, ReadError> {
    if snapshot.is_empty() {
        return Err(ReadError::NothingUsable {
            problems: snapshot.problems,
        });
    }
    Ok(snapshot)
}
