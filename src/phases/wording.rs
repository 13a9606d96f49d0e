//! Words that several checks share: counts, owners, groups of pods.
//!
//! Invariant: many pods of one owner are one line with a count; one pod keeps its own name.

use crate::mesh::waypoint::BindingFault;
use crate::mesh::workload::{OwnerKind, Workload};
use crate::snapshot::Kind;

/// `Deployment`, `StatefulSet`, … as people write it.
pub fn owner_kind(owner: &OwnerKind) -> &str {
    match owner {
        OwnerKind::Deployment => "Deployment",
        OwnerKind::ReplicaSet => "ReplicaSet",
        OwnerKind::StatefulSet => "StatefulSet",
        OwnerKind::DaemonSet => "DaemonSet",
        OwnerKind::Job => "Job",
        OwnerKind::CronJob => "CronJob",
        OwnerKind::Rollout => "Rollout",
        OwnerKind::Pod => "Pod",
        OwnerKind::Other(kind) => kind,
    }
}

/// The kind that castoff reads owners of this kind as.
pub fn owner_resource(owner: &OwnerKind) -> Option<Kind> {
    Some(match owner {
        OwnerKind::Deployment => Kind::Deployment,
        OwnerKind::ReplicaSet => Kind::ReplicaSet,
        OwnerKind::StatefulSet => Kind::StatefulSet,
        OwnerKind::DaemonSet => Kind::DaemonSet,
        OwnerKind::Job => Kind::Job,
        OwnerKind::CronJob => Kind::CronJob,
        OwnerKind::Rollout => Kind::Rollout,
        OwnerKind::Pod => Kind::Pod,
        OwnerKind::Other(_) => return None,
    })
}

/// `Deployment default/reviews-v1`.
pub fn workload(workload: &Workload) -> String {
    format!("{} {}", owner_kind(&workload.owner), workload.name)
}

/// `1 pod`, `3 pods`.
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// Why a `use-waypoint` label leads nowhere.
pub fn fault(reason: BindingFault) -> &'static str {
    match reason {
        BindingFault::Missing => "there is no such Gateway",
        BindingFault::NotReady => "it is not ready",
        BindingFault::NotAllowed => "its allowedRoutes do not admit the Service's namespace",
        BindingFault::OtherTraffic => "its istio.io/waypoint-for label is for other traffic",
        BindingFault::NotAWaypoint => "it is no waypoint",
    }
}

/// `1 workload has`, `3 workloads have`.
pub fn have(number: usize, noun: &str) -> String {
    let verb = if number == 1 { "has" } else { "have" };
    format!("{} {verb}", count(number, noun))
}

/// The first few of a list, one a line, with the number of the others last.
pub fn few(items: &[String], most: usize) -> Vec<String> {
    if items.len() <= most {
        return items.to_vec();
    }
    let mut lines = items[..most].to_vec();
    lines.push(format!("and {} more", items.len() - most));
    lines
}

/// The first few of a list: `a, b, c and 4 more`.
pub fn first_few(items: &[String], most: usize) -> String {
    if items.len() <= most {
        return items.join(", ");
    }
    format!(
        "{} and {} more",
        items[..most].join(", "),
        items.len() - most
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_and_counted() {
        let items: Vec<String> = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(first_few(&items, 3), "a, b, c");
        assert_eq!(first_few(&items, 2), "a, b and 1 more");
    }
}
