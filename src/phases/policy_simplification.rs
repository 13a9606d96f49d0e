//! Checks of the phase `policy-simplification`, in the order they are printed: what was copied and
//! is no longer needed?

pub mod migrated;
pub mod sidecar_objects;

use super::Check;

/// The checks.
pub const CHECKS: &[Check] = &[migrated::CHECK, sidecar_objects::CHECK];
