//! The output folder: all files of a run or none, and nothing left over that misleads.
//!
//! In: names and bytes. Out: files. Invariant: every file is first written beside its place and
//! synced; only when all are, they take their places. A file of an earlier run that this run did
//! not write is renamed to `<name>.old`, which `kubectl apply -f FOLDER` passes over.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::script;
use crate::source::own;

/// The state before the migration, which the first run saves.
pub const BASELINE: &str = "baseline.json.gz";

/// Names that castoff writes anew with each run; only these are ever put aside.
pub const FILES: [&str; 6] = [
    "recommended-waypoints.yaml",
    "edited-policies.yaml",
    "recommended-policies.yaml",
    "recommended-network-policies.yaml",
    "locks.yaml",
    script::FILE,
];

/// Why the folder could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write `{path}`: {source}; choose another folder with `--output-dir`")]
pub struct FolderError {
    path: String,
    source: std::io::Error,
}

/// Writes files and puts leftovers of earlier runs aside; returns the names of the latter, as
/// they are called now.
///
/// # Errors
/// [`FolderError`] when the folder cannot be made or a file cannot be written; no file of the
/// folder has changed then, unless the very renaming failed.
pub fn write(folder: &Path, files: &[(&str, &str)]) -> Result<Vec<String>, FolderError> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| FolderError { path, source }
    };
    let leftovers: Vec<&str> = FILES
        .into_iter()
        .filter(|name| files.iter().all(|(written, _)| written != name))
        .filter(|name| folder.join(name).is_file())
        .collect();
    if files.is_empty() && leftovers.is_empty() {
        return Ok(Vec::new());
    }
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    mark(folder).map_err(failed(folder))?;
    let mut ready: Vec<(NamedTempFile, PathBuf)> = Vec::with_capacity(files.len());
    for (name, content) in files {
        let place = folder.join(name);
        let mut file = builder().tempfile_in(folder).map_err(failed(&place))?;
        file.write_all(content.as_bytes()).map_err(failed(&place))?;
        file.as_file().sync_all().map_err(failed(&place))?;
        ready.push((file, place));
    }
    let mut put_aside = Vec::new();
    for name in leftovers {
        let old = format!("{name}.old");
        std::fs::rename(folder.join(name), folder.join(&old))
            .map_err(failed(&folder.join(name)))?;
        put_aside.push(format!("{}/{old}", folder.display()));
    }
    for (file, place) in ready {
        file.persist(&place)
            .map_err(|error| failed(&place)(error.error))?;
    }
    Ok(put_aside)
}

/// Marks the folder, so that what castoff writes there is not taken for input.
///
/// # Errors
/// The mark cannot be written.
pub fn mark(folder: &Path) -> std::io::Result<()> {
    let mut names = FILES.to_vec();
    names.push(BASELINE);
    let mut file = builder().tempfile_in(folder)?;
    file.write_all(own::mark(&names).as_bytes())?;
    file.persist(folder.join(own::MARK))
        .map(|_| ())
        .map_err(|error| error.error)
}

/// Temporary files are private by default; these become ordinary ones, less the umask.
fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".castoff-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o644));
    }
    builder
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use std::fs;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_leftover_of_an_earlier_run_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[("recommended-waypoints.yaml", "a\n")]).unwrap();
        let aside = write(folder.path(), &[("commands.sh", "b\n")]).unwrap();
        assert_eq!(aside.len(), 1);
        assert!(aside[0].ends_with("/recommended-waypoints.yaml.old"));
        assert_eq!(
            names(folder.path()),
            [own::MARK, "commands.sh", "recommended-waypoints.yaml.old"]
        );
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("mine.yaml"), "x").unwrap();
        write(folder.path(), &[("commands.sh", "b\n")]).unwrap();
        assert_eq!(
            names(folder.path()),
            [own::MARK, "commands.sh", "mine.yaml"]
        );
    }

    #[test]
    fn nothing_to_write_makes_no_folder() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("out");
        assert_eq!(write(&folder, &[]).unwrap(), Vec::<String>::new());
        assert!(!folder.exists());
    }

    #[test]
    fn a_folder_that_is_a_file_is_refused_with_a_way_out() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("out");
        fs::write(&folder, "").unwrap();
        let message = write(&folder, &[("commands.sh", "b\n")])
            .unwrap_err()
            .to_string();
        assert!(message.contains("--output-dir"), "{message}");
    }
}
