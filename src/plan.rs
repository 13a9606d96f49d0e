//! The whole migration at once: waves in an order in which nobody gains or loses access, each state
//! proved, each wave with its way back.
//!
//! In: the snapshot of the baseline and the one found. Out: a [`Plan`]. Invariant: commands are
//! played in memory before they are written, and no state is left unproved: what could not be decided
//! is said.

mod attempt;
mod attributed;
pub mod both;
mod cleanup;
pub mod edges;
mod edits;
mod field;
pub mod forward;
mod gaps;
mod held;
mod lock;
mod moment;
mod moves;
pub mod order;
mod pinning;
mod prepare;
pub mod proof;
pub mod recommended;
mod remains;
mod saved;
mod sift;
pub mod traffic;
mod units;
pub mod wave;
mod ways_out;

pub use edges::{Edges, edges};
pub use forward::{OnGap, PlanOptions, plan};
pub use order::{Order, order};
pub use wave::{Plan, PlanEnding, Wave};
