//! For which callers a server's ambient pods decide otherwise than the baseline did.
//!
//! In: the baseline and a state in which everything runs both ways. Out: a [`Relevant`] a server and
//! kind of difference. Invariant: asked for all callers at once first, then once for each group that
//! no policy of the server tells apart; undecided counts as a difference.

use castoff_authz::verdict::{Identities, Limits};

use super::CallerMode;
use super::callers::{self, CallerClass, Member};
use super::rows::{Comparer, PortAnswer, ServerRow, States};
use super::side::Side;
use crate::mesh::{DataPlaneMode, WorkloadId};
use crate::snapshot::ObjectName;

/// Callers of a server for whom something differs.
#[derive(Debug, Clone)]
pub struct Relevant {
    /// The server.
    pub server: ObjectName,
    /// Who: workloads alike in everything that decides.
    pub callers: Vec<ObjectName>,
    /// What differs for the first of them, and so for all.
    pub because: Vec<PortAnswer>,
}

/// For every server's ambient pods: the callers that arrive by `mode` before and now, and for whom
/// something differs.
pub fn relevant(states: &States<'_>, mode: CallerMode, limits: Limits) -> Vec<Relevant> {
    let baseline = Side::of(states.baseline);
    let comparer = Comparer::new(&baseline, states.present, limits);
    let together: Vec<CallerClass> = comparer
        .classes
        .iter()
        .filter(|class| {
            class.before == mode && class.now == mode && class.words == callers::WORKLOADS
        })
        .cloned()
        .collect();
    let mut found = Vec::new();
    for (index, present) in states.present.workloads.iter().enumerate() {
        let Some((baseline_id, _)) = comparer.baseline.workload(&present.name) else {
            continue;
        };
        let ids = (baseline_id, WorkloadId(index));
        for (generation, one) in present.generations.iter().enumerate() {
            if one.mode != DataPlaneMode::Ambient || !present.is_mesh_application() {
                continue;
            }
            let ask = |classes: &[CallerClass]| {
                let mut row = ServerRow::of(&present.name);
                comparer.compare_generation(&mut row, ids, generation, classes.iter());
                row.differences
            };
            if ask(&together).is_empty() {
                continue;
            }
            for class in &together {
                for (callers, alone) in alike(&comparer, class, ids) {
                    let because = ask(std::slice::from_ref(&alone));
                    if because.is_empty() {
                        continue;
                    }
                    let mut callers: Vec<ObjectName> = callers
                        .into_iter()
                        .map(|id| states.present.workload(id).name.clone())
                        .filter(|caller| *caller != present.name)
                        .collect();
                    callers.sort();
                    callers.dedup();
                    if !callers.is_empty() {
                        found.push(Relevant {
                            server: present.name.clone(),
                            callers,
                            because,
                        });
                    }
                }
            }
        }
    }
    found
        .sort_by(|left, right| (&left.server, &left.callers).cmp(&(&right.server, &right.callers)));
    found
}

/// The members of a class in groups that no policy on the server's paths tells apart, each with the
/// class of its first. Where NetworkPolicies see pods, each workload is alone.
fn alike(
    comparer: &Comparer<'_>,
    class: &CallerClass,
    server: (WorkloadId, WorkloadId),
) -> Vec<(Vec<WorkloadId>, CallerClass)> {
    let alone = |member: &Member, principal: &str| CallerClass {
        identities: Identities::Only(vec![principal.to_owned()]),
        members: vec![member.clone()],
        ..class.clone_without_members()
    };
    let mut by_principal: std::collections::BTreeMap<&str, Vec<(&Member, WorkloadId)>> =
        std::collections::BTreeMap::new();
    for member in &class.members {
        if let Member::Workload { principal, now, .. } = member {
            by_principal
                .entry(principal)
                .or_default()
                .push((member, now.0));
        }
    }
    if comparer.has_network_policies() {
        return by_principal
            .into_iter()
            .flat_map(|(principal, members)| {
                members
                    .into_iter()
                    .map(|(member, id)| (vec![id], alone(member, principal)))
                    .collect::<Vec<_>>()
            })
            .collect();
    }
    let principals: Vec<String> = by_principal.keys().map(|one| (*one).to_owned()).collect();
    comparer
        .mentions(server)
        .groups(&principals)
        .into_iter()
        .map(|group| {
            let members: Vec<&(&Member, WorkloadId)> = group
                .iter()
                .flat_map(|index| &by_principal[principals[*index].as_str()])
                .collect();
            let ids = members.iter().map(|(_, id)| *id).collect();
            (ids, alone(members[0].0, &principals[group[0]]))
        })
        .collect()
}
