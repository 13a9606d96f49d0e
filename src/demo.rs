//! The mesh inside the binary: two namespaces of a bookshop in sidecars, ready for ambient mode,
//! and one namespace outside the mesh.
//!
//! In: files of `demo/`, as a dump of a cluster would hold them. Out: a [`Snapshot`], read by the
//! same code as any other input.

use crate::snapshot::Snapshot;
use crate::source::{Collector, Place};

/// The files, by name.
pub const FILES: [(&str, &str); 5] = [
    ("cluster.yaml", include_str!("../demo/cluster.yaml")),
    (
        "control-plane.yaml",
        include_str!("../demo/control-plane.yaml"),
    ),
    ("bookshop.yaml", include_str!("../demo/bookshop.yaml")),
    ("workloads.yaml", include_str!("../demo/workloads.yaml")),
    ("policies.yaml", include_str!("../demo/policies.yaml")),
];

/// Reads the demo.
///
/// # Errors
/// A sentence about the first document that cannot be read; a test holds that there is none.
pub fn snapshot() -> Result<Snapshot, String> {
    let mut collector = Collector::new();
    for (name, text) in FILES {
        collector.add_text(&Place::Demo(name), text);
    }
    let snapshot = collector.finish();
    match snapshot.problems.first() {
        None => Ok(snapshot),
        Some(problem) => Err(problem.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_is_read_without_a_problem() {
        assert!(snapshot().is_ok(), "{:?}", snapshot().err());
    }
}
