//! Checks of one phase, in the order they are printed.

use super::Check;

/// The checks.
pub const CHECKS: &[Check] = &[];

/// Files that the phase writes.
pub fn artefacts(_context: &super::Context<'_>) -> Vec<crate::finding::Artefact> {
    Vec::new()
}
