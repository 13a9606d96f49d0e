//! Callers before servers: waves of workloads, and the circles that have no order.
//!
//! In: edges. Out: [`Order`]. Invariant: of an edge caller → server the caller's wave is earlier,
//! or both are in one circle.

use std::collections::{BTreeMap, BTreeSet};

use super::edges::Edges;
use crate::snapshot::ObjectName;

/// Waves in the order in which they can move.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Order {
    /// Each wave is a set of workloads; all edges lead from earlier to later ones.
    pub waves: Vec<Wave>,
}

/// Workloads that may move at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// Sorted.
    pub workloads: Vec<ObjectName>,
    /// Whether they wait for one another, so that no order is without a gap.
    pub circle: bool,
}

/// Orders all workloads: a wave holds everything whose callers have moved; a circle is a wave of
/// its own.
pub fn order(workloads: &BTreeSet<ObjectName>, edges: &Edges) -> Order {
    let components = components(workloads, edges);
    let component_of: BTreeMap<&ObjectName, usize> = components
        .iter()
        .enumerate()
        .flat_map(|(index, members)| members.iter().map(move |member| (member, index)))
        .collect();
    let mut waits_for: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); components.len()];
    for (caller, server) in &edges.pairs {
        let (Some(from), Some(to)) = (component_of.get(caller), component_of.get(server)) else {
            continue;
        };
        if from != to {
            waits_for[*to].insert(*from);
        }
    }
    // After everybody: those servers are one component, or one alone, and it comes last.
    let last: BTreeSet<usize> = edges
        .after_everybody
        .iter()
        .filter_map(|server| component_of.get(server).copied())
        .collect();
    for component in &last {
        waits_for[*component] = (0..components.len())
            .filter(|other| !last.contains(other))
            .collect();
    }
    let mut moved: BTreeSet<usize> = BTreeSet::new();
    let mut waves = Vec::new();
    while moved.len() < components.len() {
        let ready: Vec<usize> = (0..components.len())
            .filter(|index| !moved.contains(index) && waits_for[*index].is_subset(&moved))
            .collect();
        let mut together = Vec::new();
        for index in &ready {
            let circle = components[*index].len() > 1;
            if circle {
                waves.push(Wave {
                    workloads: components[*index].clone(),
                    circle,
                });
            } else {
                together.extend(components[*index].iter().cloned());
            }
        }
        if !together.is_empty() {
            together.sort();
            waves.push(Wave {
                workloads: together,
                circle: false,
            });
        }
        moved.extend(ready);
    }
    Order { waves }
}

/// Strongly connected components, each sorted, by the least member.
fn components(workloads: &BTreeSet<ObjectName>, edges: &Edges) -> Vec<Vec<ObjectName>> {
    let names: Vec<&ObjectName> = workloads.iter().collect();
    let index: BTreeMap<&ObjectName, usize> = names
        .iter()
        .enumerate()
        .map(|(at, name)| (*name, at))
        .collect();
    // One node more stands for everybody: all lead to it, and it leads to who waits for all.
    let everybody = names.len();
    let nodes = names.len() + usize::from(!edges.after_everybody.is_empty());
    let mut forward = vec![Vec::new(); nodes];
    let mut backward = vec![Vec::new(); nodes];
    for (caller, server) in &edges.pairs {
        if let (Some(from), Some(to)) = (index.get(caller), index.get(server)) {
            forward[*from].push(*to);
            backward[*to].push(*from);
        }
    }
    for server in edges
        .after_everybody
        .iter()
        .filter_map(|one| index.get(one))
    {
        forward[everybody].push(*server);
        backward[*server].push(everybody);
    }
    if nodes > names.len() {
        for callers in &mut forward[..names.len()] {
            callers.push(everybody);
        }
        backward[everybody].extend(0..names.len());
    }
    let finished = finishing_order(&forward);
    let mut taken = vec![false; nodes];
    let mut components = Vec::new();
    for start in finished.into_iter().rev() {
        if taken[start] {
            continue;
        }
        let mut members = Vec::new();
        let mut stack = vec![start];
        taken[start] = true;
        while let Some(node) = stack.pop() {
            members.extend(names.get(node).map(|name| (*name).clone()));
            for next in &backward[node] {
                if !std::mem::replace(&mut taken[*next], true) {
                    stack.push(*next);
                }
            }
        }
        members.sort();
        if !members.is_empty() {
            components.push(members);
        }
    }
    components.sort();
    components
}

/// Depth-first order in which nodes are left.
fn finishing_order(forward: &[Vec<usize>]) -> Vec<usize> {
    let mut seen = vec![false; forward.len()];
    let mut finished = Vec::new();
    for start in 0..forward.len() {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        let mut stack = vec![(start, 0)];
        while let Some((node, next)) = stack.pop() {
            match forward[node].get(next) {
                Some(child) => {
                    stack.push((node, next + 1));
                    if !std::mem::replace(&mut seen[*child], true) {
                        stack.push((*child, 0));
                    }
                }
                None => finished.push(node),
            }
        }
    }
    finished
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ObjectName {
        ObjectName::new("ns", text)
    }

    fn ordered(
        workloads: &[&str],
        edges: &[(&str, &str)],
        after_everybody: &[&str],
    ) -> Vec<(Vec<String>, bool)> {
        let workloads = workloads.iter().map(|one| name(one)).collect();
        let edges = Edges {
            pairs: edges
                .iter()
                .map(|(caller, server)| (name(caller), name(server)))
                .collect(),
            after_everybody: after_everybody.iter().map(|one| name(one)).collect(),
        };
        order(&workloads, &edges)
            .waves
            .into_iter()
            .map(|wave| {
                (
                    wave.workloads
                        .iter()
                        .map(|one| one.name.to_string())
                        .collect(),
                    wave.circle,
                )
            })
            .collect()
    }

    fn wave(names: &[&str]) -> (Vec<String>, bool) {
        (names.iter().map(ToString::to_string).collect(), false)
    }

    #[test]
    fn callers_move_before_the_servers_that_need_it() {
        assert_eq!(
            ordered(
                &["db", "api", "web", "batch"],
                &[("web", "api"), ("api", "db"), ("batch", "db")],
                &[],
            ),
            [wave(&["batch", "web"]), wave(&["api"]), wave(&["db"])]
        );
    }

    #[test]
    fn a_circle_is_a_wave_of_its_own_that_says_so() {
        assert_eq!(
            ordered(
                &["a", "b", "c", "d"],
                &[("a", "b"), ("b", "a"), ("b", "c")],
                &[],
            ),
            [
                (vec!["a".to_owned(), "b".to_owned()], true),
                wave(&["d"]),
                wave(&["c"]),
            ]
        );
    }

    #[test]
    fn without_edges_everything_moves_at_once() {
        assert_eq!(ordered(&["a", "b"], &[], &[]), [wave(&["a", "b"])]);
    }

    #[test]
    fn who_waits_for_everybody_comes_last_and_several_of_them_are_a_circle() {
        assert_eq!(
            ordered(&["a", "b", "c"], &[("b", "a")], &["c"]),
            [wave(&["b"]), wave(&["a"]), wave(&["c"])]
        );
        assert_eq!(
            ordered(&["a", "b", "c"], &[], &["b", "c"]),
            [wave(&["a"]), (vec!["b".to_owned(), "c".to_owned()], true)]
        );
    }
}
