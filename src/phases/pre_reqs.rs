//! Checks of the phase `pre-reqs`, in the order they are printed: can this cluster run ambient
//! mode at all?

pub mod cni;
pub mod istio_version;
pub mod multicluster;
pub mod spire;
pub mod virtual_machines;

use super::Check;

/// The checks.
pub const CHECKS: &[Check] = &[
    cni::CHECK,
    istio_version::CHECK,
    multicluster::CHECK,
    virtual_machines::CHECK,
    spire::CHECK,
];
