//! Which callers must have moved before a server may: those for whom the server's ambient pods,
//! reached past the waypoint, decide otherwise than the baseline did.
//!
//! In: the baseline, and the mesh with waypoints bound and copies applied. Out: [`Edges`].
//! Invariant: undecided counts as an edge.

use std::collections::{BTreeMap, BTreeSet};

use castoff_authz::verdict::{Finding, Limits};

use super::both::with_ambient_generations;
use crate::mesh::Mesh;
use crate::prove::CallerMode;
use crate::prove::relevant::{Relevant, relevant};
use crate::prove::rows::States;
use crate::snapshot::ObjectName;

/// A server with more relevant callers than this waits for everybody, so that a mesh in which
/// everyone matters to everyone costs no more than its size.
const MANY: usize = 256;

/// Who must move before whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edges {
    /// Caller and server.
    pub pairs: BTreeSet<(ObjectName, ObjectName)>,
    /// Servers before which everybody else must move.
    pub after_everybody: BTreeSet<ObjectName>,
}

/// All edges. `matters` leaves out callers for whom a loss does not count, since nobody saw them
/// call; a gain always counts.
pub fn edges(
    baseline: &Mesh,
    bound: &Mesh,
    matters: &dyn Fn(&ObjectName, &ObjectName) -> bool,
    limits: Limits,
) -> Edges {
    let both = with_ambient_generations(bound, |_| true);
    let states = States {
        baseline,
        present: &both,
    };
    let mut edges = Edges::default();
    let mut counts: BTreeMap<ObjectName, usize> = BTreeMap::new();
    for one in relevant(&states, CallerMode::Sidecar, limits) {
        let gains = gains(&one);
        let count = counts.entry(one.server.clone()).or_default();
        for caller in &one.callers {
            if *count > MANY {
                break;
            }
            let caller = &both.workload(*caller).name;
            if gains || matters(caller, &one.server) {
                *count += 1;
                edges.pairs.insert((caller.clone(), one.server.clone()));
            }
        }
        if *count > MANY {
            edges.after_everybody.insert(one.server);
        }
    }
    let Edges {
        pairs,
        after_everybody,
    } = &mut edges;
    pairs.retain(|(_, server)| !after_everybody.contains(server));
    edges
}

/// Whether somebody gains, or that is not decided.
fn gains(one: &Relevant) -> bool {
    one.because
        .iter()
        .any(|answer| answer.verdict.opens != Finding::Never)
}
