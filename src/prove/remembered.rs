//! Rows of servers, given again where an earlier state answered already.
//!
//! In: two sides, and what is remembered of earlier states. Out: the rows that asking anew would give, and
//! more to remember. Invariant: only classes of callers for whom something differs are asked one by one.

use std::collections::BTreeSet;

use castoff_authz::verdict;
use rayon::prelude::*;

use super::callers::CallerClass;
use super::memory::{Asked, Callers, Indifferent, Learning, Learnt, Memory};
use super::question::{Represented, Ways};
use super::row::ServerRow;
use super::rows::Comparer;
use super::undeclared::PortKnown;
use crate::mesh::{DataPlaneMode, WorkloadId};
use crate::snapshot::ObjectName;

/// A generation of a server that is asked for: the server before and now, the generation, its ports.
#[derive(Clone, Copy)]
struct Pods<'p> {
    ids: (WorkloadId, WorkloadId),
    generation: usize,
    ports: &'p [(u16, PortKnown)],
}

impl Comparer<'_> {
    /// The rows of these servers, in their order.
    pub(super) fn remembered(
        &self,
        names: BTreeSet<&ObjectName>,
        memory: &mut Memory,
    ) -> Vec<ServerRow> {
        let numbers = memory
            .numbers
            .of(&self.present, &self.everybody, &self.classes);
        let callers = Callers::of(&self.classes, &self.everybody, &numbers);
        let known = &*memory;
        let routed = self.routed();
        // Servers are independent of one another; the order of the names stays.
        let answers: Vec<(ServerRow, Vec<Learnt>)> = names
            .into_par_iter()
            .filter_map(|name| match routed.contains(name) {
                true => Some((self.row(name)?, Vec::new())),
                false => self.remembered_row(name, known, &callers),
            })
            .collect();
        answers
            .into_iter()
            .map(|(row, learnt)| {
                for learnt in learnt {
                    memory.learn(&row.server, learnt);
                }
                row
            })
            .collect()
    }

    /// Servers that hang on more than their own Services, since a route leads from one of these, or to one: what is
    /// remembered does not look at that.
    fn routed(&self) -> BTreeSet<&ObjectName> {
        let mut routed = BTreeSet::new();
        for side in [self.baseline, &self.present] {
            let services = side.fronts.led_to().chain(side.diverted.services());
            let backends = services.flat_map(|id| &side.mesh.service(id).backends);
            routed.extend(backends.map(|backend| &side.mesh.workload(backend.workload).name));
        }
        routed
    }

    /// The same, sooner where an earlier state answered already, and what was learnt.
    fn remembered_row(
        &self,
        name: &ObjectName,
        memory: &Memory,
        callers: &Callers<'_>,
    ) -> Option<(ServerRow, Vec<Learnt>)> {
        let (present_id, present) = self.present.workload(name)?;
        let Some((baseline_id, _)) = self.baseline.workload(name) else {
            return Some((ServerRow::unmatched(name), Vec::new()));
        };
        let ids = (baseline_id, present_id);
        // Gateways on the way to it, who is trusted, and where waypoints lead hang on policies of any
        // namespace: asked each time.
        let mut row = ServerRow::of(name);
        self.exposed(&mut row, present_id);
        let named = self.named_waypoints(ids);
        self.trust(&mut row, ids, &named);
        self.note_aliases(&mut row, ids);
        let ports = self.ports(ids);
        let mut learnt = Vec::new();
        for generation in 0..present.generations.len() {
            let pods = Pods {
                ids,
                generation,
                ports: &ports,
            };
            let (part, new) = self.remembered_pods(name, pods, memory, callers);
            row.add(part);
            learnt.push(new);
        }
        self.explain_losses(&mut row, ids);
        for (generation, learnt) in learnt.iter_mut().enumerate() {
            let asked = self.astray(ids, generation, &named);
            if asked.is_empty() {
                continue;
            }
            let known = memory.of(name, &learnt.standing);
            row.add(match known.and_then(|known| known.astray(&asked)) {
                Some(row) => row.clone(),
                None => {
                    let mut row = ServerRow::of(name);
                    for (question, identities) in &asked {
                        self.compare_astray(&mut row, baseline_id, *question, identities.clone());
                    }
                    let identities = asked.into_iter().map(|(_, identities)| identities);
                    learnt.astray = Some((identities.collect(), row.clone()));
                    row
                }
            });
        }
        Some((row, learnt))
    }

    /// What a row says of one generation, and what was learnt of it.
    fn remembered_pods(
        &self,
        name: &ObjectName,
        pods: Pods<'_>,
        memory: &Memory,
        callers: &Callers<'_>,
    ) -> (ServerRow, Learnt) {
        let present_id = pods.ids.1;
        let present = self.present.mesh.workload(present_id);
        let standing = callers
            .numbers
            .standing(present_id, pods.generation, pods.ports);
        let known = memory.of(name, &standing);
        let mut answers: Vec<Option<bool>> = (self.classes.iter().enumerate())
            .map(|(index, class)| {
                let known = known.filter(|_| class.was.is_none())?;
                known.indifferent(callers, index)
            })
            .collect();
        let new: Vec<usize> = (0..self.classes.len())
            .filter(|index| self.classes[*index].was.is_none() && answers[*index].is_none())
            .collect();
        let mut ways: Vec<Ways> = Vec::new();
        if !new.is_empty() {
            ways = self.ways_of(pods);
            let found = self.indifferent(&mut ways, &new);
            for (index, is) in new.iter().zip(found) {
                answers[*index] = Some(is);
            }
        }
        let learnt_of_classes: Vec<_> = new
            .iter()
            .filter_map(|index| {
                let indifferent = Indifferent {
                    is: answers[*index]?,
                    others: callers.numbers.others[*index],
                };
                Some((callers.kinds[*index].clone(), indifferent))
            })
            .collect();
        let asked: Vec<usize> = (0..self.classes.len())
            .filter(|index| answers[*index] != Some(true))
            .collect();
        let own = present.principal(&self.present.mesh.settings.trust_domain);
        let runs_both_ways =
            present.has_mode(DataPlaneMode::Ambient) && present.has_mode(DataPlaneMode::Sidecar);
        let asking = Asked {
            callers,
            classes: &asked,
            server: (present_id, &own),
            beside: (self.some_are_ambient, runs_both_ways),
        };
        let mut learnt = Learnt {
            standing,
            indifferent: learnt_of_classes,
            row: None,
            astray: None,
        };
        let mut row = ServerRow::of(name);
        let questions = self.questions_at(pods.ids, pods.generation, pods.ports.to_vec());
        row.compared += (self.classes.len() - asked.len()) * questions.count();
        if asked.is_empty() {
            return (row, learnt);
        }
        // Whose loss counts by telemetry hangs on who is in a class, not only on whom policies tell apart.
        let known = known.filter(|_| self.seen.is_none());
        if let Some(row) = known.and_then(|known| known.row(&asking)) {
            return (row.clone(), learnt);
        }
        if ways.is_empty() {
            ways = self.ways_of(pods);
        }
        let mut learning = Learning::default();
        let classes = asked.iter().map(|index| &self.classes[*index]);
        self.compare_ways(&mut row, Some(&mut learning), ways, classes);
        if self.seen.is_none() {
            learnt.row = asking.remembered(learning, row.clone());
        }
        (row, learnt)
    }

    /// The ways of all that is asked of a generation.
    fn ways_of(&self, pods: Pods<'_>) -> Vec<Ways> {
        let questions = self.questions_at(pods.ids, pods.generation, pods.ports.to_vec());
        questions.map(|question| self.ways(question)).collect()
    }

    /// For each of these classes, whether nothing differs for anybody who arrives as it does, whatever
    /// identity of the mesh he has.
    fn indifferent(&self, ways: &mut [Ways], classes: &[usize]) -> Vec<bool> {
        let classes: Vec<&CallerClass> = classes.iter().map(|one| &self.classes[*one]).collect();
        let mut indifferent: Vec<bool> = classes
            .iter()
            .map(|class| !class.members.is_empty())
            .collect();
        let mut represented = Represented::default();
        for ways in ways {
            ways.represented = represented;
            for (class, indifferent) in classes.iter().zip(&mut indifferent) {
                let (true, Some(member)) = (*indifferent, class.members.first()) else {
                    continue;
                };
                let everybody = match &class.identities {
                    verdict::Identities::Only(_) => &self.everybody,
                    other => other,
                };
                let addresses = self.addresses(class, ways);
                let asked = self.comparison(class, (member, everybody), ways, &addresses);
                *indifferent = match asked {
                    None => {
                        ways.keep(class, None);
                        true
                    }
                    Some(comparison) => {
                        let is_same = self.answered.is_same(&comparison, self.limits);
                        ways.keep(class, Some([comparison.baseline, comparison.present]));
                        is_same
                    }
                };
            }
            represented = std::mem::take(&mut ways.represented);
        }
        indifferent
    }
}
