//! Callers grouped by how they arrive: thousands of workloads, a handful of classes.
//!
//! In: the two states. Out: [`CallerClass`]es that cover every workload that was there before, every
//! other identity of the trust domain, and outsiders. Invariant: waypoints are left out: that a waypoint reaches the
//! pods behind it is meant, and is told apart.

use std::collections::{BTreeMap, BTreeSet};

use castoff_authz::verdict::Identities;

use super::aliases;
use super::past::{Past, Pasts};
use super::rows::States;
use super::{Caller, CallerMode};
use crate::mesh::{Mesh, Role, Workload, WorkloadId};
use crate::snapshot::ObjectName;

/// The callers that arrive alike, before and now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerClass {
    /// How they arrived in the baseline.
    pub before: CallerMode,
    /// How they arrive now.
    pub now: CallerMode,
    /// Which of their calls went past their sidecars in the baseline.
    pub was_past: Past,
    /// Which do now.
    pub is_past: Past,
    /// The identity that they had in the baseline, where that was another: another service account,
    /// another trust domain.
    pub was: Option<String>,
    /// Their identities now.
    pub identities: Identities,
    /// Who, one by one, where that matters (NetworkPolicies).
    pub members: Vec<Member>,
    /// In words.
    pub words: &'static str,
}

/// Where a caller runs: a workload and the index of one of its generations.
pub type Place = (WorkloadId, usize);

/// One member of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Member {
    /// A workload, with its place in either state: workload and generation.
    Workload {
        /// Its identity, without `spiffe://`.
        principal: String,
        /// In the baseline.
        before: (WorkloadId, usize),
        /// Now.
        now: (WorkloadId, usize),
    },
    /// Identities that no workload has.
    OtherIdentities,
    /// Callers outside the cluster or without identity.
    Outsiders,
}

impl Member {
    /// Its places in the baseline and now.
    pub fn places(&self) -> (Option<Place>, Option<Place>) {
        match self {
            Self::Workload { before, now, .. } => (Some(*before), Some(*now)),
            Self::OtherIdentities | Self::Outsiders => (None, None),
        }
    }
}

/// What a class of workloads with identities is called.
pub const WORKLOADS: &str = "workloads of the mesh";

impl CallerClass {
    /// Its identities but for one workload's own; `None` where others share that or nobody else is
    /// in the class.
    pub fn identities_without(&self, workload: WorkloadId, own: &str) -> Option<Identities> {
        let Identities::Only(all) = &self.identities else {
            return None;
        };
        let mut is_member = false;
        for member in &self.members {
            if let Member::Workload { principal, now, .. } = member
                && principal == own
            {
                if now.0 != workload {
                    return None;
                }
                is_member = true;
            }
        }
        is_member.then(|| {
            let others = all.iter().filter(|one| *one != own).cloned();
            Identities::Only(others.collect())
        })
    }

    /// The same class without anybody in it.
    pub fn clone_without_members(&self) -> Self {
        Self {
            before: self.before,
            now: self.now,
            was_past: self.was_past.clone(),
            is_past: self.is_past.clone(),
            was: self.was.clone(),
            identities: Identities::Nobody,
            members: Vec::new(),
            words: self.words,
        }
    }
}

/// All classes, in a fixed order.
pub fn classes(states: &States<'_>) -> Vec<CallerClass> {
    let trust_domain = states.present.settings.trust_domain.as_str();
    let waypoints: BTreeSet<String> = states
        .present
        .waypoints
        .iter()
        .map(|waypoint| waypoint.principal(trust_domain))
        .collect();
    type Arrival = (CallerMode, CallerMode, Past, Past, Option<String>);
    let mut by_modes: BTreeMap<Arrival, Vec<Member>> = BTreeMap::new();
    let before_by_name = by_name(states.baseline);
    let before_pasts = Pasts::of(states.baseline);
    let now_pasts = Pasts::of(states.present);
    for (index, workload) in states.present.workloads.iter().enumerate() {
        if matches!(
            workload.role,
            Role::Waypoint(_) | Role::Ztunnel | Role::CniAgent | Role::ControlPlane
        ) {
            continue;
        }
        // Who runs under the account of a waypoint is a caller like any other.
        let principal = workload.principal(trust_domain);
        let now_id = WorkloadId(index);
        // One that is new is asked for among the identities that no workload had.
        let (before_mesh, before_id) = match before_by_name.get(&workload.name) {
            Some(id) => (states.baseline, *id),
            None => continue,
        };
        let before_workload = before_mesh.workload(before_id);
        let in_system = states
            .present
            .namespaces
            .get(&workload.name.namespace)
            .is_some_and(|namespace| namespace.system);
        for (now_generation, is) in workload.generations.iter().enumerate() {
            let now = Caller::mode_of(&workload.role, is.mode);
            for before_generation in counterparts(before_workload, workload, now_generation) {
                let was = &before_workload.generations[before_generation];
                let before = Caller::mode_of(&before_workload.role, was.mode);
                // Kubernetes' own components are not taken for callers of applications.
                if in_system && before == CallerMode::Plain && now == CallerMode::Plain {
                    continue;
                }
                let had = before_workload.principal(&states.baseline.settings.trust_domain);
                let changed = before != CallerMode::Plain && had != principal;
                let was_past = before_pasts.past((before_id, before_generation));
                let is_past = now_pasts.past((now_id, now_generation));
                by_modes
                    .entry((before, now, was_past, is_past, changed.then_some(had)))
                    .or_default()
                    .push(Member::Workload {
                        principal: principal.clone(),
                        before: (before_id, before_generation),
                        now: (now_id, now_generation),
                    });
            }
        }
    }
    // Whoever is not asked for by himself is one of the others: a workload that is new, one outside the
    // mesh, istiod.
    let known: BTreeSet<String> = by_modes
        .iter()
        .filter(|((before, now, ..), _)| (*before, *now) != (CallerMode::Plain, CallerMode::Plain))
        .flat_map(|(_, members)| principals(members))
        .chain(waypoints)
        .collect();
    let mut classes = Vec::new();
    let mut others: BTreeSet<(CallerMode, CallerMode)> = BTreeSet::new();
    for ((before, now, was_past, is_past, was), members) in by_modes {
        // Workloads outside the mesh have no identity: they are told apart from outsiders only by
        // what NetworkPolicies see of them.
        let identities = if before == CallerMode::Plain && now == CallerMode::Plain {
            Identities::Nobody
        } else {
            Identities::Only(principals(&members))
        };
        let plain = identities == Identities::Nobody;
        let words = if plain {
            "workloads outside the mesh"
        } else {
            WORKLOADS
        };
        classes.push(CallerClass {
            before,
            now,
            was_past,
            is_past,
            was,
            identities,
            members,
            words,
        });
        let in_mesh = !plain && before != CallerMode::Plain && now != CallerMode::Plain;
        if in_mesh && others.insert((before, now)) {
            classes.push(CallerClass {
                before,
                now,
                was_past: Past::default(),
                is_past: Past::default(),
                was: None,
                identities: Identities::OfTrustDomain {
                    trust_domain: trust_domain.to_owned(),
                    but: known.iter().cloned().collect(),
                },
                members: vec![Member::OtherIdentities],
                words: "any other identity",
            });
        }
    }
    classes.extend(aliases::classes(states));
    classes.push(CallerClass {
        before: CallerMode::Plain,
        now: CallerMode::Plain,
        was_past: Past::default(),
        is_past: Past::default(),
        was: None,
        identities: Identities::Nobody,
        members: vec![Member::Outsiders],
        words: "outsiders",
    });
    classes
}

/// Identities of all workloads that may be callers, sorted.
pub(super) fn identities(mesh: &Mesh) -> Vec<String> {
    let trust_domain = mesh.settings.trust_domain.as_str();
    let callers = mesh.workloads.iter().filter(|workload| {
        !matches!(
            workload.role,
            Role::Waypoint(_) | Role::Ztunnel | Role::CniAgent | Role::ControlPlane
        )
    });
    let set: BTreeSet<String> = callers
        .map(|workload| workload.principal(trust_domain))
        .collect();
    set.into_iter().collect()
}

/// The generations of the baseline that a generation now is compared with: those of its own mode,
/// or, where the workload has moved, all.
pub(super) fn counterparts(before: &Workload, now: &Workload, generation: usize) -> Vec<usize> {
    let mode = now.generations[generation].mode;
    let alike: Vec<usize> = (0..before.generations.len())
        .filter(|index| before.generations[*index].mode == mode)
        .collect();
    if alike.is_empty() {
        (0..before.generations.len()).collect()
    } else {
        alike
    }
}

fn principals(members: &[Member]) -> Vec<String> {
    let set: BTreeSet<String> = members
        .iter()
        .filter_map(|member| match member {
            Member::Workload { principal, .. } => Some(principal.clone()),
            _ => None,
        })
        .collect();
    set.into_iter().collect()
}

fn by_name(mesh: &Mesh) -> BTreeMap<&ObjectName, WorkloadId> {
    mesh.workloads
        .iter()
        .enumerate()
        .map(|(index, workload)| (&workload.name, WorkloadId(index)))
        .collect()
}
