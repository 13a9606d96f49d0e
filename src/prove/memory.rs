//! What was proved of earlier states and still holds: rows of servers, and which servers are the same
//! for everybody who arrives in one way.
//!
//! In: the [`Standing`] of a generation of a server in each state, and who calls. Out: what was answered for an
//! equal standing. Invariant: a row is given again only where the paths to these pods are made of the same parts and
//! the callers that its policies tell apart are the same.

use std::collections::BTreeMap;

use castoff_authz::verdict::Identities;
use rustc_hash::FxHashMap;

use super::CallerMode;
use super::callers::{self, CallerClass, Member};
use super::identities::Mentions;
use super::past::Past;
use super::question::Question;
use super::row::ServerRow;
use super::standing::{Numbered, Numbers, Standing};
use crate::mesh::WorkloadId;
use crate::snapshot::ObjectName;

/// How callers arrived, how they arrive, and who they are, in words.
pub(super) type Kind = (CallerMode, CallerMode, Past, Past, &'static str);

/// Standings of one server, of all its generations, that are kept; a plan leads each through few.
const MOST_STANDINGS: usize = 12;

/// Rows of one standing that are kept.
const MOST_ROWS: usize = 2;

/// What is known of earlier states.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) numbers: Numbers,
    servers: FxHashMap<ObjectName, Vec<Known>>,
}

/// What is known of a generation of a server in one standing.
#[derive(Debug)]
pub(super) struct Known {
    standing: Standing,
    indifferent: BTreeMap<Kind, Indifferent>,
    rows: Vec<Remembered>,
    astray: Vec<Astray>,
}

/// For each question the waypoints that were asked for because they do not lead there, and what was found.
type Astray = (Vec<Vec<String>>, ServerRow);

/// Whether nothing differs for anybody who arrives in one way, and of whom that was asked where he counts as
/// any other (`Numbered::others`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Indifferent {
    pub(super) is: bool,
    pub(super) others: Option<u32>,
}

/// What pods beside those that a row is about decide of it: whether some caller is ambient, and whether these
/// pods run beside others of the same server that run otherwise.
pub(super) type Beside = (bool, bool);

/// What is learnt while a row is made.
#[derive(Debug, Default)]
pub(super) struct Learning {
    /// What the policies on the paths compared say of identities.
    pub(super) mentions: Mentions,
    /// Whether [`Beside`] was looked at.
    pub(super) hangs_on_others: bool,
}

/// The row of a generation, and the callers for whom it was asked.
#[derive(Debug)]
pub(super) struct Remembered {
    classes: Vec<(Kind, Option<String>)>,
    mentions: Mentions,
    callers: Vec<u32>,
    /// What it hangs on besides, if it does.
    beside: Option<Beside>,
    row: ServerRow,
}

/// How callers are told apart.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Apart {
    /// By name, where a difference names one of them.
    ByName,
    /// As far as policies do.
    ByPolicies,
}

impl Apart {
    fn of(row: &ServerRow) -> Self {
        if row.differences.is_empty() {
            Self::ByPolicies
        } else {
            Self::ByName
        }
    }
}

/// What was learnt of a generation of a server while one state was proved.
pub(super) struct Learnt {
    pub(super) standing: Standing,
    pub(super) indifferent: Vec<(Kind, Indifferent)>,
    pub(super) row: Option<Remembered>,
    pub(super) astray: Option<Astray>,
}

impl Memory {
    /// What is known of a generation of a server in this standing.
    pub(super) fn of(&self, server: &ObjectName, standing: &Standing) -> Option<&Known> {
        let known = self.servers.get(server)?;
        known.iter().find(|known| known.standing == *standing)
    }

    /// Keeps what was learnt.
    pub(super) fn learn(&mut self, server: &ObjectName, learnt: Learnt) {
        if learnt.indifferent.is_empty() && learnt.row.is_none() && learnt.astray.is_none() {
            return;
        }
        let all = self.servers.entry(server.clone()).or_default();
        let at = all
            .iter()
            .position(|known| known.standing == learnt.standing)
            .unwrap_or_else(|| {
                if all.len() == MOST_STANDINGS {
                    all.remove(0);
                }
                all.push(Known {
                    standing: learnt.standing,
                    indifferent: BTreeMap::new(),
                    rows: Vec::new(),
                    astray: Vec::new(),
                });
                all.len() - 1
            });
        let known = &mut all[at];
        known.indifferent.extend(learnt.indifferent);
        if let Some(row) = learnt.row {
            if known.rows.len() == MOST_ROWS {
                known.rows.remove(0);
            }
            known.rows.push(row);
        }
        if let Some(astray) = learnt.astray {
            if known.astray.len() == MOST_ROWS {
                known.astray.remove(0);
            }
            known.astray.push(astray);
        }
    }
}

impl Known {
    /// Whether nothing differs for anybody of a class, if that is known. What holds for some identities holds
    /// for a part of them.
    pub(super) fn indifferent(&self, callers: &Callers<'_>, class: usize) -> Option<bool> {
        let known = self.indifferent.get(&callers.kinds[class])?;
        let holds = match (known.others, callers.numbers.others[class]) {
            (Some(then), Some(now)) => {
                then == now || (known.is && callers.numbers.is_part(now, then))
            }
            (then, now) => then == now,
        };
        holds.then_some(known.is)
    }

    /// What was found for the same waypoints, question by question.
    pub(super) fn astray(&self, asked: &[(Question, Vec<String>)]) -> Option<&ServerRow> {
        let asked = || asked.iter().map(|(_, identities)| identities);
        let found = self
            .astray
            .iter()
            .find(|(known, _)| known.iter().eq(asked()));
        found.map(|(_, row)| row)
    }

    /// The row that was found for the same callers.
    pub(super) fn row(&self, asked: &Asked<'_>) -> Option<&ServerRow> {
        let callers = asked.callers;
        let found = self.rows.iter().find(|known| {
            known.classes.len() == callers.classes.len()
                && known.beside.is_none_or(|beside| beside == asked.beside)
                && known
                    .classes
                    .iter()
                    .zip(callers.kinds.iter().zip(callers.classes))
                    .all(|((kind, was), (now, class))| kind == now && *was == class.was)
                && asked
                    .signature(&known.mentions, Apart::of(&known.row))
                    .as_ref()
                    == Some(&known.callers)
        });
        found.map(|known| &known.row)
    }
}

/// The classes of a state, with what is looked up for every server.
pub(super) struct Callers<'c> {
    classes: &'c [CallerClass],
    pub(super) kinds: Vec<Kind>,
    pub(super) numbers: &'c Numbered<'c>,
    /// All identities of workloads, sorted.
    all: &'c [String],
    /// For each class its identities, by their place among all, and the workload where one alone has
    /// them.
    places: Vec<Vec<(u32, Option<WorkloadId>)>>,
}

impl<'c> Callers<'c> {
    pub(super) fn of(
        classes: &'c [CallerClass],
        everybody: &'c Identities,
        numbers: &'c Numbered<'c>,
    ) -> Self {
        let all: &[String] = match everybody {
            Identities::Only(all) => all,
            _ => &[],
        };
        let places = classes.iter().map(|class| {
            let Identities::Only(identities) = &class.identities else {
                return Vec::new();
            };
            let mut owners: BTreeMap<&str, Option<WorkloadId>> = BTreeMap::new();
            for member in &class.members {
                if let Member::Workload { principal, now, .. } = member {
                    owners
                        .entry(principal)
                        .and_modify(|owner| *owner = owner.filter(|one| *one == now.0))
                        .or_insert(Some(now.0));
                }
            }
            let places = identities.iter().map(|identity| {
                let place = all.binary_search(identity).unwrap_or(usize::MAX);
                let owner = owners.get(identity.as_str()).copied().flatten();
                (u32::try_from(place).unwrap_or(u32::MAX), owner)
            });
            places.collect()
        });
        Self {
            classes,
            kinds: classes.iter().map(CallerClass::kind).collect(),
            numbers,
            all,
            places: places.collect(),
        }
    }
}

/// The callers that are asked for at one generation of a server.
pub(super) struct Asked<'c> {
    pub(super) callers: &'c Callers<'c>,
    /// Indexes of the classes that are asked one by one.
    pub(super) classes: &'c [usize],
    /// The server and its own identity: what it does to itself is told apart.
    pub(super) server: (WorkloadId, &'c str),
    pub(super) beside: Beside,
}

impl Asked<'_> {
    /// The identities that stand for all others, by what policies mention; `None` where one of them
    /// is unknown. Equal signatures mean equal questions, but for names where only policies tell apart.
    fn signature(&self, mentions: &Mentions, apart: Apart) -> Option<Vec<u32>> {
        let cells = match apart {
            Apart::ByName => Vec::new(),
            Apart::ByPolicies => mentions.cells(self.callers.all),
        };
        // The place itself, or the first of those that policies treat alike.
        let told = |place: u32| match cells.partition_point(|(start, _)| *start <= place as usize) {
            0 => place,
            _ if place == u32::MAX => place,
            behind => cells[behind - 1].1 as u32,
        };
        let told = |places: &mut dyn Iterator<Item = u32>| {
            let mut told: Vec<u32> = places.map(told).collect();
            if apart == Apart::ByPolicies {
                told.sort_unstable();
            }
            told
        };
        let mut signature = Vec::new();
        for index in self.classes {
            signature.push(*index as u32);
            let class = &self.callers.classes[*index];
            let Identities::Only(all) = &class.identities else {
                signature.extend(self.callers.numbers.others[*index]);
                continue;
            };
            let places = &self.callers.places[*index];
            let firsts = mentions.firsts(all);
            signature.extend(told(&mut firsts.iter().map(|first| places[*first].0)));
            let (server, own) = self.server;
            let Ok(at) = all.binary_search_by(|one| one.as_str().cmp(own)) else {
                continue;
            };
            // Where it stands for others, the next one does when it is left out.
            if places[at].1 != Some(server) {
                signature.push(u32::MAX - 1);
            } else if firsts.contains(&at) {
                signature.push(u32::MAX - 2);
                let others = class.identities_without(server, own)?;
                let Identities::Only(others) = others else {
                    return None;
                };
                let firsts = mentions.firsts(&others).into_iter();
                // The place among the others is one less behind the one left out.
                let mut places = firsts.map(|first| places[first + usize::from(first >= at)].0);
                signature.extend(told(&mut places));
            } else {
                signature.push(u32::MAX - 3);
            }
        }
        (!signature.contains(&u32::MAX)).then_some(signature)
    }

    /// What to remember of a row.
    pub(super) fn remembered(&self, learning: Learning, row: ServerRow) -> Option<Remembered> {
        let Learning {
            mentions,
            hangs_on_others,
        } = learning;
        let classes = self.callers.kinds.iter().zip(self.callers.classes);
        Some(Remembered {
            classes: classes
                .map(|(kind, class)| (kind.clone(), class.was.clone()))
                .collect(),
            callers: self.signature(&mentions, Apart::of(&row))?,
            beside: hangs_on_others.then_some(self.beside),
            mentions,
            row,
        })
    }
}

impl callers::CallerClass {
    /// How its members arrived, how they arrive, and who they are.
    pub(super) fn kind(&self) -> Kind {
        (
            self.before,
            self.now,
            self.was_past.clone(),
            self.is_past.clone(),
            self.words,
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

    use castoff_authz::verdict::Limits;

    use super::*;
    use crate::mesh::{DataPlaneMode, Generation, Mesh, MeshOverrides};
    use crate::prove::rows::Comparer;
    use crate::prove::side::Side;
    use crate::source::{Place, read_text};

    const WEB: &str = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio-injection: enabled}}\n\
                       ---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\n\
                       spec: {clusterIP: 10.0.0.1, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}\n\
                       ---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\n\
                       spec:\n  selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n\
                       \x20   spec: {containers: [{name: app, image: web, ports: [{containerPort: 8080}]}]}\n";

    #[test]
    fn new_pods_are_not_asked_again_when_the_old_ones_are_gone() {
        let snapshot = read_text(&Place::Simulated, WEB).unwrap();
        let before = Mesh::build(&snapshot, &MeshOverrides::default());
        assert!(before.workloads[0].has_mode(DataPlaneMode::Sidecar));
        let ambient = Generation {
            mode: DataPlaneMode::Ambient,
            accepts_hbone: true,
            ..before.workloads[0].generations[0].clone()
        };
        let mut mixed = before.clone();
        mixed.workloads[0].generations.push(ambient.clone());
        let mut beside = mixed.services[0].backends[0].clone();
        beside.generation = 1;
        mixed.services[0].backends.push(beside);
        let mut moved = before.clone();
        moved.workloads[0].generations = vec![ambient];
        let mut labelled = before.clone();
        labelled.workloads[0].next_mode = DataPlaneMode::Ambient;
        let mut without = before.clone();
        without.services[0].ports[0].port = 81;

        let baseline = Side::of(&before);
        let mut memory = Memory::default();
        let mut known = |present: &Mesh| -> usize {
            let comparer = Comparer::new(&baseline, present, Limits::default());
            let rows = comparer.rows(Some(&mut memory));
            assert_eq!(rows, comparer.rows(None));
            memory.servers.values().map(Vec::len).sum()
        };
        assert_eq!(known(&before), 1);
        assert_eq!(known(&mixed), 2);
        assert_eq!(known(&moved), 2);
        assert_eq!(known(&labelled), 2);
        assert_eq!(known(&without), 3);
    }
}
