//! The folder of a plan: all of it or nothing.
//!
//! In: a plan. Out: `plan.md`, `plan.json` and one folder a wave. Invariant: the new folder is
//! written beside its place and takes it in one rename; an earlier plan, whose scripts take back what was carried out of
//! it, is kept as `<folder>.old`, `<folder>.old-2` and so on, and a folder that is no plan is never touched.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{PlanReport, document, folder_name, kustomize, scripts};
use crate::plan::Plan;
use crate::report::folder::BASELINE;
use crate::source::own;

/// Why the folder could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PlanFolderError {
    /// The file system refused.
    #[error("cannot write `{path}`: {source}; choose another folder with `--output-dir`")]
    Io {
        /// Which place.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Something else is there.
    #[error(
        "`{0}` is there and holds no plan of castoff; choose another folder with `--output-dir`"
    )]
    NotOurs(String),
}

/// Every file of the plan, by its path in the folder.
pub fn files(plan: &Plan, report: &PlanReport) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    files.insert("plan.md".to_owned(), document::render(plan, report));
    let json = serde_json::to_string_pretty(report)
        .expect("a report has string keys only, which always serialise");
    files.insert(own::PLAN.to_owned(), format!("{json}\n"));
    for (index, (wave, told)) in plan.waves.iter().zip(&report.waves).enumerate() {
        let folder = folder_name(plan, index);
        let mut put = |name: &str, content: String| {
            files.insert(format!("{folder}/{name}"), content);
        };
        put(scripts::APPLY, scripts::apply(told));
        put(scripts::ROLLBACK, scripts::rollback(told));
        for (name, content) in wave.manifests.iter().chain(&wave.saved) {
            put(name, content.clone());
        }
        for (name, content) in kustomize::files(wave) {
            put(&name, content);
        }
    }
    files
}

/// Writes the files, and the bundle of the baseline, in place of an earlier plan, which is kept beside it; where all of
/// them are there already, nothing.
///
/// # Errors
/// [`PlanFolderError`]; nothing has changed then, unless the very renaming failed.
pub fn write(
    folder: &Path,
    files: &BTreeMap<String, String>,
    baseline: Option<&[u8]>,
) -> Result<(), PlanFolderError> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| PlanFolderError::Io { path, source }
    };
    let there = folder.exists();
    if there && !is_replaceable(folder) {
        return Err(PlanFolderError::NotOurs(folder.display().to_string()));
    }
    // What people put beside it stays where it is.
    if there && holds_all(folder, files, baseline) {
        return Ok(());
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    std::fs::create_dir_all(&parent).map_err(failed(&parent))?;
    let unfinished = tempfile::Builder::new()
        .prefix(".castoff-plan-")
        .tempdir_in(&parent)
        .map_err(failed(folder))?;
    for (name, content) in files {
        let path = unfinished.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        std::fs::write(&path, content).map_err(failed(&folder.join(name)))?;
        permit(&path, name.ends_with(".sh")).map_err(failed(&folder.join(name)))?;
    }
    if let Some(baseline) = baseline {
        let path = unfinished.path().join(BASELINE);
        std::fs::write(&path, baseline).map_err(failed(&folder.join(BASELINE)))?;
    }
    permit(unfinished.path(), true).map_err(failed(folder))?;
    if there && own::is_plan(folder) {
        std::fs::rename(folder, old(folder)).map_err(failed(folder))?;
    } else if there {
        std::fs::remove_dir(folder).map_err(failed(folder))?;
    }
    let finished = unfinished.keep();
    std::fs::rename(&finished, folder).map_err(failed(folder))
}

/// Whether everything that would be written is there.
fn holds_all(folder: &Path, files: &BTreeMap<String, String>, baseline: Option<&[u8]>) -> bool {
    let holds = |name: &str, content: &[u8]| {
        std::fs::read(folder.join(name)).is_ok_and(|there| there == content)
    };
    let mut files = files.iter();
    files.all(|(name, content)| holds(name, content.as_bytes()))
        && baseline.is_none_or(|content| holds(BASELINE, content))
}

/// Where an earlier plan is kept: the first place that is free.
fn old(folder: &Path) -> PathBuf {
    let beside = |suffix: &str| {
        let mut path = folder.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    let numbered = (2_u32..).map(|number| beside(&format!(".old-{number}")));
    let mut places = std::iter::once(beside(".old")).chain(numbered);
    let free = places.find(|path| !path.exists());
    free.expect("numbers do not end before folders do")
}

/// An empty folder, or an earlier plan.
fn is_replaceable(folder: &Path) -> bool {
    let is_empty = std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    is_empty || own::is_plan(folder)
}

/// Ordinary permissions; temporary folders are private by default.
fn permit(path: &Path, executable: bool) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = if executable { 0o755 } else { 0o644 };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    }
    #[cfg(not(unix))]
    let _ = (path, executable);
    Ok(())
}
