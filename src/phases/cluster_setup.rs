//! Checks of the phase `cluster-setup`, in the order they are printed: is ambient mode installed
//! and ready beside the sidecars?

pub mod ambient_mode;
pub mod daemon_sets;
pub mod enrolment;
pub mod required_crds;
pub mod sidecars;

use super::Check;

/// The checks.
pub const CHECKS: &[Check] = &[
    ambient_mode::CHECK,
    daemon_sets::CHECK,
    sidecars::CHECK,
    required_crds::CHECK,
    enrolment::CHECK,
];
