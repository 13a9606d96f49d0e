//! For which callers a server's ambient pods decide otherwise than the baseline did.
//!
//! In: the baseline and a state in which everything runs both ways. Out: a [`Relevant`] a server and
//! kind of difference. Invariant: asked for all callers at once first, then once for each group that
//! no policy of the server tells apart; undecided counts as a difference.

use std::collections::BTreeMap;

use castoff_authz::verdict::{Identities, Limits};
use rayon::prelude::*;

use super::CallerMode;
use super::callers::{self, CallerClass, Member};
use super::row::{PortAnswer, ServerRow};
use super::rows::{Comparer, States};
use super::side::Side;
use crate::mesh::{DataPlaneMode, WorkloadId};
use crate::snapshot::ObjectName;

/// Callers of a server for whom something differs.
#[derive(Debug, Clone)]
pub struct Relevant {
    /// The server.
    pub server: ObjectName,
    /// Who, of the present mesh: workloads alike in everything that decides, each once.
    pub callers: Vec<WorkloadId>,
    /// What differs for the first of them, and so for all.
    pub because: Vec<PortAnswer>,
}

/// For every server's ambient pods: the callers that arrive by `mode` before and now, and for whom
/// something differs.
pub fn relevant(states: &States<'_>, mode: CallerMode, limits: Limits) -> Vec<Relevant> {
    let baseline = Side::of(states.baseline);
    let comparer = Comparer::new(&baseline, states.present, limits);
    let together: Vec<ByPrincipal> = comparer
        .classes
        .iter()
        .filter(|class| {
            class.before == mode && class.now == mode && class.words == callers::WORKLOADS
        })
        .map(ByPrincipal::of)
        .collect();
    // Servers are independent of one another; their order stays.
    states
        .present
        .workload_ids()
        .collect::<Vec<_>>()
        .into_par_iter()
        .flat_map_iter(|id| of_server(&comparer, id, &together))
        .collect()
}

fn of_server(comparer: &Comparer<'_>, id: WorkloadId, together: &[ByPrincipal]) -> Vec<Relevant> {
    let present = comparer.present.mesh.workload(id);
    let Some((baseline_id, _)) = comparer.baseline.workload(&present.name) else {
        return Vec::new();
    };
    let ids = (baseline_id, id);
    let mut found = Vec::new();
    for (generation, one) in present.generations.iter().enumerate() {
        if one.mode != DataPlaneMode::Ambient || !present.is_mesh_application() {
            continue;
        }
        let ask = |classes: &mut dyn Iterator<Item = &CallerClass>| {
            let classes: Vec<&CallerClass> = classes.collect();
            let mut row = ServerRow::of(&present.name);
            comparer.compare_generation(&mut row, ids, generation, classes.into_iter());
            row.differences
        };
        if ask(&mut together.iter().map(|one| one.class)).is_empty() {
            continue;
        }
        for class in together {
            for (mut callers, alone) in class.alike(comparer, ids) {
                let because = ask(&mut std::iter::once(&alone));
                callers.retain(|caller| *caller != id);
                callers.sort_unstable();
                callers.dedup();
                if !because.is_empty() && !callers.is_empty() {
                    found.push(Relevant {
                        server: present.name.clone(),
                        callers,
                        because,
                    });
                }
            }
        }
    }
    found
}

/// The members of a class by identity, sorted.
struct ByPrincipal<'a> {
    class: &'a CallerClass,
    principals: Vec<String>,
    members: Vec<Vec<(&'a Member, WorkloadId)>>,
}

impl<'a> ByPrincipal<'a> {
    fn of(class: &'a CallerClass) -> Self {
        let mut by_principal: BTreeMap<&str, Vec<(&Member, WorkloadId)>> = BTreeMap::new();
        for member in &class.members {
            if let Member::Workload { principal, now, .. } = member {
                by_principal
                    .entry(principal)
                    .or_default()
                    .push((member, now.0));
            }
        }
        Self {
            class,
            principals: by_principal.keys().map(|one| (*one).to_owned()).collect(),
            members: by_principal.into_values().collect(),
        }
    }

    /// The members in groups that no policy on the server's paths tells apart, each with the class of
    /// its first. Where NetworkPolicies see pods, each workload is alone.
    fn alike(
        &self,
        comparer: &Comparer<'_>,
        server: (WorkloadId, WorkloadId),
    ) -> Vec<(Vec<WorkloadId>, CallerClass)> {
        let alone = |member: &Member, principal: &str| CallerClass {
            identities: Identities::Only(vec![principal.to_owned()]),
            members: vec![member.clone()],
            ..self.class.clone_without_members()
        };
        if comparer.has_network_policies() {
            let each = self.principals.iter().zip(&self.members);
            return each
                .flat_map(|(principal, members)| {
                    members
                        .iter()
                        .map(|(member, id)| (vec![*id], alone(member, principal)))
                })
                .collect();
        }
        comparer
            .mentions(server)
            .groups(&self.principals)
            .into_iter()
            .map(|group| {
                let first = group[0];
                let members = group.iter().flat_map(|index| &self.members[*index]);
                let ids = members.map(|(_, id)| *id).collect();
                (
                    ids,
                    alone(self.members[first][0].0, &self.principals[first]),
                )
            })
            .collect()
    }
}
