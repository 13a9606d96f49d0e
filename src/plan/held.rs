//! Why a workload keeps its sidecar, where a proof stands against its move.
//!
//! In: who was to move together, who of them stands in a circle, and the gaps of that. Out: a [`Held`] with one
//! witness. Invariant: those of a circle have the same reason and witness, so that a reader meets it once.

use std::collections::BTreeSet;

use super::wave::{Gap, Held};
use crate::phases::wording;
use crate::snapshot::ObjectName;

/// The reason of one of those who were to move. `circle`: who of them, itself among them, cannot move before one
/// another.
pub(super) fn held(workload: &ObjectName, gaps: &[Gap], circle: &BTreeSet<ObjectName>) -> Held {
    let own = gaps.iter().find(|gap| gap.server == *workload);
    // One witness for the whole of a circle, of who gains rather than of who loses.
    let in_circle = circle.len() > 1;
    let worst = |counts: &dyn Fn(&&Gap) -> bool| {
        let mut opens = gaps
            .iter()
            .filter(counts)
            .filter(|gap| gap.direction == "opens");
        opens.next().or_else(|| gaps.iter().find(counts))
    };
    let gap = own
        .filter(|_| !in_circle)
        .or_else(|| worst(&|gap| circle.contains(&gap.server)))
        .or_else(|| worst(&|_| true));
    let why = match gap {
        Some(gap) if in_circle => format!(
            "in a circle of callers and servers ({}): moving them {} {}",
            wording::first_few(
                &circle.iter().map(ToString::to_string).collect::<Vec<_>>(),
                4
            ),
            gap.direction,
            gap.server
        ),
        Some(gap) => format!("moving it {} {} {}", gap.direction, gap.server, gap.from.1),
        None => "moving it could not be proved".to_owned(),
    };
    Held {
        workload: workload.clone(),
        why,
        lines: gap.map(|gap| gap.lines.clone()).unwrap_or_default(),
        server: own.or(gap).map(|gap| gap.server.clone()),
        direction: gap.map(|gap| gap.direction),
        ways_out: Vec::new(),
    }
}
