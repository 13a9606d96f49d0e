//! Which callers must have moved before a server may: those for whom the server's ambient pods,
//! reached past the waypoint, decide otherwise than the baseline did.
//!
//! In: the baseline, and the mesh with waypoints bound and copies applied. Out: [`Edge`]s.
//! Invariant: undecided counts as an edge.

use std::collections::BTreeSet;

use castoff_authz::verdict::Limits;

use super::both::with_ambient_generations;
use crate::mesh::Mesh;
use crate::prove::CallerMode;
use crate::prove::rows::{PortAnswer, States, caller_differences};
use crate::snapshot::ObjectName;

/// A caller that must move before a server.
#[derive(Debug, Clone)]
pub struct Edge {
    /// The caller.
    pub caller: ObjectName,
    /// The server.
    pub server: ObjectName,
    /// What would differ; with a witness or the reason why it is not decided.
    pub because: Vec<PortAnswer>,
}

/// All edges, sorted by server, then caller.
pub fn edges(baseline: &Mesh, bound: &Mesh, limits: Limits) -> Vec<Edge> {
    let both = with_ambient_generations(bound, |_| true);
    let states = States {
        baseline,
        present: &both,
    };
    let mut edges: Vec<Edge> = caller_differences(&states, CallerMode::Sidecar, limits)
        .into_iter()
        .filter(|(caller, server, _)| caller != server)
        .map(|(caller, server, because)| Edge {
            caller,
            server,
            because,
        })
        .collect();
    edges.sort_by(|left, right| (&left.server, &left.caller).cmp(&(&right.server, &right.caller)));
    edges
}

/// The pairs alone.
pub fn pairs(edges: &[Edge]) -> BTreeSet<(ObjectName, ObjectName)> {
    edges
        .iter()
        .map(|edge| (edge.caller.clone(), edge.server.clone()))
        .collect()
}
