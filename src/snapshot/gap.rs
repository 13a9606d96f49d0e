//! What could not be read, as values: checks that need it report "could not check".

use super::{Kind, Origin};

/// A kind (or a part of it) that the source could not deliver.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gap {
    /// Which kind.
    pub kind: Kind,
    /// The namespace, when the rest of the kind was readable.
    pub namespace: Option<String>,
    /// Namespaces that were read all the same; everything else is missing.
    pub except: Vec<String>,
    /// Why: `forbidden: cannot list pods`, `not among the files given` …
    pub reason: String,
}

/// How bad a problem of the input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemLevel {
    /// Something was left out: a broken document, an unreadable file.
    Error,
    /// Something was read, but perhaps not as meant: a duplicate key or object.
    Warning,
}

/// Something odd in the input that is not about the mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where; `None` for the input as a whole.
    pub origin: Option<Origin>,
    /// 1-based column, where the reader knows it.
    pub column: Option<u32>,
    /// Whether something was lost.
    pub level: ProblemLevel,
    /// One sentence, lower case, with the remedy.
    pub message: String,
}

impl std::fmt::Display for Problem {
    /// `manifests/pods.yaml:12:5: message`; no column where none is known.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(origin) = &self.origin {
            write!(formatter, "{origin}:")?;
            if let Some(column) = self.column {
                write!(formatter, "{column}:")?;
            }
            formatter.write_str(" ")?;
        }
        formatter.write_str(&self.message)
    }
}
