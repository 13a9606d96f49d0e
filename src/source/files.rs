//! Paths to bytes: files, folders below folders, standard input, and what must not be opened.
//!
//! In: the paths of `--from-files`. Out: the bytes of every manifest, in the order of the paths and,
//! inside a folder, by name. Invariant: it ends, whatever it is pointed at: links that lead in
//! circles, pipes, devices and endless files are explained and skipped. What castoff wrote is read
//! only where it is named.

use std::collections::BTreeSet;
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::decode::MAX_BYTES;
use super::own::{self, Own};
use super::{Collector, Place};
use crate::snapshot::{Origin, Problem, ProblemLevel};

/// Deeper folders than this are not manifests.
const MAX_DEPTH: usize = 64;

/// Reads everything that the paths name.
pub(crate) fn read(paths: &[PathBuf], standard_input: &mut dyn Read, collector: &mut Collector) {
    let mut folders = BTreeSet::new();
    let mut read_standard_input = false;
    for path in paths {
        if path.as_os_str() == "-" {
            if !std::mem::replace(&mut read_standard_input, true) {
                from_standard_input(standard_input, collector);
            }
            continue;
        }
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => folder(path, 0, &mut folders, collector),
            Ok(metadata) => file(path, &metadata, true, collector),
            Err(error) => report(
                collector,
                path,
                format!("cannot read this path: {}; check its name", reason(&error)),
            ),
        }
    }
}

fn from_standard_input(standard_input: &mut dyn Read, collector: &mut Collector) {
    let mut bytes = Vec::new();
    let limited = standard_input.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    let message = match limited {
        Err(error) => format!("cannot read standard input: {}", reason(&error)),
        Ok(_) if bytes.len() as u64 > MAX_BYTES => too_large(),
        Ok(_) => {
            collector.add_bytes(&Place::StandardInput, bytes);
            return;
        }
    };
    collector.add_problem(Problem {
        origin: Some(Origin::StandardInput { line: 1 }),
        column: None,
        level: ProblemLevel::Error,
        message,
    });
}

fn folder(path: &Path, depth: usize, seen: &mut BTreeSet<PathBuf>, collector: &mut Collector) {
    if let Ok(real) = path.canonicalize()
        && !seen.insert(real)
    {
        warn(
            collector,
            path,
            "this folder was read before, a link leads back to it: skipped".to_owned(),
        );
        return;
    }
    if depth > MAX_DEPTH {
        report(
            collector,
            path,
            format!("folders are nested more than {MAX_DEPTH} deep: skipped; give it by itself"),
        );
        return;
    }
    let entries = std::fs::read_dir(path).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>, _>>()
    });
    let mut entries = match entries {
        Ok(entries) => entries,
        Err(error) => {
            report(
                collector,
                path,
                format!(
                    "cannot read this folder: {}; what is in it is missing from the result",
                    reason(&error)
                ),
            );
            return;
        }
    };
    entries.sort();
    let own = if depth == 0 {
        Own::Files(BTreeSet::new())
    } else {
        own::of(path)
    };
    if own == Own::Whole {
        passed_over(collector, path, "this folder");
        return;
    }
    let mut wrote_some = false;
    for entry in entries {
        let hidden = entry
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        if is_own(&own, &entry) {
            wrote_some = true;
            continue;
        }
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => folder(&entry, depth + 1, seen, collector),
            Ok(metadata) if is_manifest(&entry) => file(&entry, &metadata, false, collector),
            Ok(_) => {}
            Err(error) if is_manifest(&entry) || entry.is_symlink() => report(
                collector,
                &entry,
                format!(
                    "cannot read this file: {}; mend the link or take it away",
                    reason(&error)
                ),
            ),
            Err(_) => {}
        }
    }
    if wrote_some {
        passed_over(collector, path, "files in this folder");
    }
}

fn is_own(own: &Own, entry: &Path) -> bool {
    match own {
        Own::Whole => true,
        Own::Files(names) => entry
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| names.contains(name)),
    }
}

fn passed_over(collector: &mut Collector, path: &Path, what: &str) {
    warn(
        collector,
        path,
        format!("castoff wrote {what}: passed over; name it by itself to have it read"),
    );
}

fn is_manifest(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    // What kustomize is to do; it may leave out `kind`.
    if ["kustomization.yaml", "kustomization.yml"].contains(&name) {
        return false;
    }
    [".yaml", ".yml", ".json"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

fn file(path: &Path, metadata: &Metadata, named_by_user: bool, collector: &mut Collector) {
    let from_shell = named_by_user && (path.starts_with("/dev/fd") || path.starts_with("/proc"));
    if !(metadata.is_file() || from_shell) {
        report(
            collector,
            path,
            "this is a pipe, a socket or a device, not a file: skipped; feed it to standard input \
             and give `-`"
                .to_owned(),
        );
        return;
    }
    if metadata.len() > MAX_BYTES {
        report(collector, path, too_large());
        return;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0) + 1);
    let read = File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => report(
            collector,
            path,
            format!(
                "cannot read this file: {}; what is in it is missing from the result",
                reason(&error)
            ),
        ),
        Ok(_) if bytes.len() as u64 > MAX_BYTES => report(collector, path, too_large()),
        Ok(_) => collector.add_bytes(&Place::File(shown(path)), bytes),
    }
}

fn shown(path: &Path) -> Arc<str> {
    Arc::from(path.to_string_lossy().as_ref())
}

fn too_large() -> String {
    format!(
        "this is larger than {} GiB: skipped; give one file a kind, and only the kinds that are \
         needed",
        MAX_BYTES >> 30
    )
}

/// An I/O error in words, without its number.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters
        .next()
        .map(|first| first.to_lowercase().collect::<String>() + characters.as_str())
        .unwrap_or_default()
}

fn report(collector: &mut Collector, path: &Path, message: String) {
    add(collector, path, ProblemLevel::Error, message);
}

fn warn(collector: &mut Collector, path: &Path, message: String) {
    add(collector, path, ProblemLevel::Warning, message);
}

fn add(collector: &mut Collector, path: &Path, level: ProblemLevel, message: String) {
    collector.add_problem(Problem {
        origin: Some(Origin::File {
            path: shown(path),
            line: 0,
        }),
        column: None,
        level,
        message,
    });
}
