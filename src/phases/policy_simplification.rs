//! Checks of the phase `policy-simplification`, in the order they are printed: what was copied, or
//! is there twice, and is no longer needed?

pub mod duplicates;
pub mod leftovers;
pub mod migrated;
pub mod sidecar_objects;

use super::Check;

/// The checks.
pub const CHECKS: &[Check] = &[
    migrated::CHECK,
    duplicates::CHECK,
    leftovers::CHECK,
    sidecar_objects::CHECK,
];
