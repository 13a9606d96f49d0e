//! In which order workloads can leave their sidecars so that nobody gains or loses access.
//!
//! In: the mesh of the baseline, and the mesh with waypoints bound and policies copied while all
//! workloads still have sidecars. Out: which caller must move before which server, and an order.
//! Invariant: an edge left out was proved not to matter.

pub mod both;
pub mod edges;
pub mod order;

pub use edges::{Edge, edges};
pub use order::{Order, order};
