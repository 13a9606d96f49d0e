//! Checks of one phase, in the order they are printed.

use super::Check;

/// The checks.
pub const CHECKS: &[Check] = &[];
