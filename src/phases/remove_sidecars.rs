//! Checks of the phase `remove-sidecars`, in the order they are printed: what still runs a sidecar,
//! and how it leaves?

mod callers;
pub mod sequence;
pub mod switch;
pub mod waiting;

use super::Check;

/// The checks.
pub const CHECKS: &[Check] = &[waiting::CHECK, switch::CHECK, sequence::CHECK];
