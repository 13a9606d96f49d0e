//! Rows of servers, given again where an earlier state answered already.
//!
//! In: two sides, and what is remembered of earlier states. Out: the rows that asking anew would give, and
//! more to remember. Invariant: only classes of callers for whom something differs are asked one by one.

use std::collections::BTreeSet;

use castoff_authz::verdict;
use rayon::prelude::*;

use super::callers::CallerClass;
use super::identities::Mentions;
use super::memory::{Asked, Callers, Learnt, Memory};
use super::question::Represented;
use super::row::ServerRow;
use super::rows::Comparer;
use super::standing::Numbered;
use crate::mesh::WorkloadId;
use crate::snapshot::ObjectName;

impl Comparer<'_> {
    /// The rows of these servers, in their order.
    pub(super) fn remembered(
        &self,
        names: BTreeSet<&ObjectName>,
        memory: &mut Memory,
    ) -> Vec<ServerRow> {
        let numbers = memory.numbers.of(
            &self.present,
            &self.everybody,
            &self.classes,
            self.some_are_ambient,
        );
        let callers = Callers::of(&self.classes, &self.everybody);
        let known = &*memory;
        // Servers are independent of one another; the order of the names stays.
        let answers: Vec<(ServerRow, Option<Learnt>)> = names
            .into_par_iter()
            .filter_map(|name| self.remembered_row(name, known, &numbers, &callers))
            .collect();
        answers
            .into_iter()
            .map(|(row, learnt)| {
                if let Some(learnt) = learnt {
                    memory.learn(&row.server, learnt);
                }
                row
            })
            .collect()
    }

    /// The same, sooner where an earlier state answered already, and what was learnt.
    fn remembered_row(
        &self,
        name: &ObjectName,
        memory: &Memory,
        numbers: &Numbered<'_>,
        callers: &Callers<'_>,
    ) -> Option<(ServerRow, Option<Learnt>)> {
        let (present_id, present) = self.present.workload(name)?;
        let Some((baseline_id, _)) = self.baseline.workload(name) else {
            return Some((ServerRow::unmatched(name), None));
        };
        let ids = (baseline_id, present_id);
        let mut learnt = Learnt {
            standing: numbers.standing(present_id),
            indifferent: Vec::new(),
            row: None,
        };
        let known = memory.of(name, &learnt.standing);
        let answer = |class: &CallerClass| {
            let known = known.filter(|_| class.was.is_none())?;
            known.indifferent.get(&class.kind()).copied()
        };
        let new: Vec<&CallerClass> = self
            .classes
            .iter()
            .filter(|class| class.was.is_none() && answer(class).is_none())
            .collect();
        let answers = self.indifferent(ids, &new);
        learnt.indifferent = new.iter().map(|class| class.kind()).zip(answers).collect();
        let is_indifferent = |class: &CallerClass| {
            let new = learnt.indifferent.iter();
            let found = new.filter(|(kind, _)| *kind == class.kind());
            answer(class).or_else(|| found.map(|(_, answer)| *answer).next())
        };
        let asked: Vec<usize> = (0..self.classes.len())
            .filter(|index| {
                let class = &self.classes[*index];
                class.was.is_some() || is_indifferent(class) != Some(true)
            })
            .collect();
        let own = present.principal(&self.present.mesh.settings.trust_domain);
        let asking = Asked {
            callers,
            classes: &asked,
            server: (present_id, &own),
        };
        // Gateways on the way to it, who is trusted, and where waypoints lead hang on policies of any
        // namespace: asked each time.
        let mut row = ServerRow::of(name);
        self.exposed(&mut row, present_id);
        self.trust(&mut row, ids);
        self.note_aliases(&mut row, ids);
        // Whose loss counts by telemetry hangs on who is in a class, not only on whom policies tell apart.
        let known = known.filter(|_| self.seen.is_none());
        row.add(match known.and_then(|known| known.row(&asking)) {
            Some(row) => row.clone(),
            None => {
                let mut row = ServerRow::of(name);
                let mut mentions = Mentions::default();
                let settled = self.classes.len() - asked.len();
                let classes = asked.iter().map(|index| &self.classes[*index]);
                for generation in 0..present.generations.len() {
                    row.compared += settled * self.questions(ids, generation).count();
                    let mentions = Some(&mut mentions);
                    self.compare_generation(&mut row, mentions, ids, generation, classes.clone());
                }
                if self.seen.is_none() {
                    learnt.row = asking.remembered(mentions, row.clone());
                }
                row
            }
        });
        self.explain_losses(&mut row, ids);
        self.compare_waypoints(&mut row, ids);
        Some((row, Some(learnt)))
    }

    /// For each of these classes, whether nothing differs for anybody who arrives as it does, whatever
    /// identity of the mesh he has.
    fn indifferent(&self, ids: (WorkloadId, WorkloadId), classes: &[&CallerClass]) -> Vec<bool> {
        let mut indifferent: Vec<bool> = classes
            .iter()
            .map(|class| !class.members.is_empty())
            .collect();
        let generations = 0..self.present.mesh.workload(ids.1).generations.len();
        let mut represented = Represented::default();
        for question in generations.flat_map(|generation| self.questions(ids, generation)) {
            let mut ways = self.ways_with(question, represented);
            for (class, indifferent) in classes.iter().zip(&mut indifferent) {
                let (true, Some(member)) = (*indifferent, class.members.first()) else {
                    continue;
                };
                let everybody = match &class.identities {
                    verdict::Identities::Only(_) => &self.everybody,
                    other => other,
                };
                let addresses = self.addresses(class, &ways);
                let asked = self.comparison(class, (member, everybody), &mut ways, &addresses);
                *indifferent =
                    asked.is_none_or(|comparison| self.answered.is_same(&comparison, self.limits));
            }
            represented = ways.represented;
        }
        indifferent
    }
}
