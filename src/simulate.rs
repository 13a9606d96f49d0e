//! Plays a migration forward in memory: what was written is applied to a copy of the snapshot.
//!
//! In: a [`Snapshot`](crate::snapshot::Snapshot) and commands and manifests as castoff wrote them (bytes, parsed). Out: the
//! snapshot that a cluster would show after them, controllers included: a changed pod template
//! replaces its pods, a waypoint Gateway gets an address. Invariant: nothing but those bytes
//! changes the state, and a line that is not understood is an error, never skipped.

pub mod command;
pub mod controllers;
pub mod execute;
pub mod rounds;

pub use command::{Command, CommandError, LabelChange, parse_script};
pub use controllers::settle;
pub use execute::{ExecuteError, execute};
