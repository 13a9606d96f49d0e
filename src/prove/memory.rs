//! What was proved of earlier states and still holds: rows of servers, and which servers are the same
//! for everybody who arrives in one way.
//!
//! In: the [`Standing`] of a server in each state, and who calls. Out: what was answered for an equal
//! standing. Invariant: a row is given again only where its server's paths are made of the same parts and
//! the callers that its policies tell apart are the same.

use std::collections::BTreeMap;

use castoff_authz::verdict::Identities;
use rustc_hash::FxHashMap;

use super::CallerMode;
use super::callers::{self, CallerClass, Member};
use super::identities::Mentions;
use super::past::Past;
use super::row::ServerRow;
use super::standing::{Numbers, Standing};
use crate::mesh::WorkloadId;
use crate::snapshot::ObjectName;

/// How callers arrived, how they arrive, and who they are, in words.
pub(super) type Kind = (CallerMode, CallerMode, Past, Past, &'static str);

/// Standings of one server that are kept; a plan leads each through few.
const MOST_STANDINGS: usize = 8;

/// Rows of one standing that are kept.
const MOST_ROWS: usize = 2;

/// What is known of earlier states.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) numbers: Numbers,
    servers: FxHashMap<ObjectName, Vec<Known>>,
}

/// What is known of a server in one standing.
#[derive(Debug)]
pub(super) struct Known {
    standing: Standing,
    /// Whether nothing differs for anybody who arrives in one way.
    pub(super) indifferent: BTreeMap<Kind, bool>,
    rows: Vec<Remembered>,
}

/// A row, and the callers for whom it was asked.
#[derive(Debug)]
pub(super) struct Remembered {
    classes: Vec<(Kind, Option<String>)>,
    /// What the policies on the paths compared say of identities.
    mentions: Mentions,
    callers: Vec<u32>,
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

/// What was learnt of a server while one state was proved.
pub(super) struct Learnt {
    pub(super) standing: Standing,
    pub(super) indifferent: Vec<(Kind, bool)>,
    pub(super) row: Option<Remembered>,
}

impl Memory {
    /// What is known of a server in this standing.
    pub(super) fn of(&self, server: &ObjectName, standing: &Standing) -> Option<&Known> {
        let known = self.servers.get(server)?;
        known.iter().find(|known| known.standing == *standing)
    }

    /// Keeps what was learnt.
    pub(super) fn learn(&mut self, server: &ObjectName, learnt: Learnt) {
        if learnt.indifferent.is_empty() && learnt.row.is_none() {
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
    }
}

impl Known {
    /// The row that was found for the same callers.
    pub(super) fn row(&self, asked: &Asked<'_>) -> Option<&ServerRow> {
        let found = self.rows.iter().find(|known| {
            known.classes.len() == asked.callers.classes.len()
                && known
                    .classes
                    .iter()
                    .zip(asked.callers.classes)
                    .all(|((kind, was), class)| *kind == class.kind() && *was == class.was)
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
    /// All identities of workloads, sorted.
    all: &'c [String],
    /// For each class its identities, by their place among all, and the workload where one alone has
    /// them.
    places: Vec<Vec<(u32, Option<WorkloadId>)>>,
}

impl<'c> Callers<'c> {
    pub(super) fn of(classes: &'c [CallerClass], everybody: &'c Identities) -> Self {
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
            all,
            places: places.collect(),
        }
    }
}

/// The callers that are asked for at one server.
pub(super) struct Asked<'c> {
    pub(super) callers: &'c Callers<'c>,
    /// Indexes of the classes that are asked one by one.
    pub(super) classes: &'c [usize],
    /// The server and its own identity: what it does to itself is told apart.
    pub(super) server: (WorkloadId, &'c str),
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
    pub(super) fn remembered(&self, mentions: Mentions, row: ServerRow) -> Option<Remembered> {
        let classes = self.callers.classes.iter();
        Some(Remembered {
            classes: classes
                .map(|class| (class.kind(), class.was.clone()))
                .collect(),
            callers: self.signature(&mentions, Apart::of(&row))?,
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
