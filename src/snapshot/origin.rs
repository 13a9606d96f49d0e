//! Where an object came from, so that a finding can point at the line to edit.

use std::fmt;
use std::sync::Arc;

/// The place an object was read from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A file; `line` is 1-based and is the first line of the object.
    File {
        /// The path as the user gave it, joined with what was found below it.
        path: Arc<str>,
        /// 1-based line of the object's first key; 0 for the file as a whole.
        line: u32,
    },
    /// Standard input.
    StandardInput {
        /// 1-based line of the object's first key.
        line: u32,
    },
    /// A live API server.
    Cluster {
        /// The kubeconfig context, or `in-cluster`.
        context: Arc<str>,
    },
    /// The mesh inside the binary.
    Demo {
        /// File name inside the demo.
        file: &'static str,
        /// 1-based line.
        line: u32,
    },
    /// Made in memory while a migration was played forward.
    Simulated,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => formatter.write_str(path),
            Self::File { path, line } => write!(formatter, "{path}:{line}"),
            Self::StandardInput { line } => write!(formatter, "standard input:{line}"),
            Self::Cluster { context } => write!(formatter, "cluster {context}"),
            Self::Demo { file, line } => write!(formatter, "demo/{file}:{line}"),
            Self::Simulated => write!(formatter, "simulated"),
        }
    }
}
