//! A folder of manifests, and what reading it says.

use std::path::PathBuf;

use castoff::snapshot::{ProblemLevel, Snapshot};
use castoff::source::{ReadError, read_files};

/// A manifest that is read.
pub(crate) const GOOD: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: good\n";

/// A folder with manifests.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn with(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn read(&self) -> Result<Snapshot, ReadError> {
        read_files(&[self.0.path().to_owned()])
    }

    /// Problems as they are printed, with paths from this folder on.
    pub(crate) fn said(&self, snapshot: &Snapshot) -> Vec<String> {
        let prefix = format!("{}/", self.0.path().display());
        snapshot
            .problems
            .iter()
            .map(|problem| {
                let level = match problem.level {
                    ProblemLevel::Error => "error",
                    ProblemLevel::Warning => "warning",
                };
                format!("{level}: {}", problem.to_string().replace(&prefix, ""))
            })
            .collect()
    }
}

/// Namespaces that were read.
pub(crate) fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot
        .namespaces
        .iter()
        .map(|namespace| namespace.metadata.name.as_str())
        .collect()
}
