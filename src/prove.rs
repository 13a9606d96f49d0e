//! Asks `castoff_authz` whether access stays the same, and tells what it answered.
//!
//! In: a [`Mesh`](crate::mesh::Mesh) of the baseline and one of the present. Out: a row a server:
//! same, opens, breaks or undecided, with witnesses. Invariant: what could not be modelled is
//! [`PointKind::Opaque`](castoff_authz::path::PointKind) on the path and so undecided, never left
//! out.

pub mod addresses;
mod aliases;
mod alike;
mod answered;
pub mod ask;
pub mod attach;
pub mod caller;
pub mod callers;
mod certificates;
mod diversions;
mod diverted;
mod exposed;
pub mod fronts;
mod gateways;
mod identities;
mod known;
pub mod legs;
mod machines;
mod memory;
pub mod network;
pub mod newcomers;
mod others;
pub mod past;
pub mod pins;
pub mod prover;
mod question;
pub mod reached;
pub mod reading;
pub mod relevant;
mod remembered;
mod rewrites;
mod routes;
pub mod row;
pub mod rows;
mod seen;
mod side;
mod sight;
mod standing;
mod taken;
mod telemetry;
pub mod tell;
mod undeclared;
mod waypoints;
pub mod wire;

pub use attach::Attachments;
pub use caller::{Caller, CallerMode, Content, Dial, Server};
pub use legs::{Hop, Transport, hops};
