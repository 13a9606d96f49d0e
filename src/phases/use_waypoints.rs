//! Checks of the phase `use-waypoints`, in the order they are printed: is every waypoint in use,
//! and by all that need it?

mod annotated;
pub mod enable;
mod entries;
mod gateways;
pub mod refused;
pub mod unused;

use super::Check;

/// The checks.
pub const CHECKS: &[Check] = &[
    unused::CHECK,
    annotated::CHECK,
    refused::CHECK,
    enable::CHECK,
    entries::CHECK,
    gateways::CHECK,
];
