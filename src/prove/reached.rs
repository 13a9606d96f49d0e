//! How a server is reached: what its row says besides the verdict.
//!
//! In: the two states of a [`Comparer`]. Out: [`Reached`]. Invariant: outsiders are called denied only
//! where each question of every port says so of both states; an address counts only where somebody is
//! known to use it.

use std::collections::{BTreeMap, BTreeSet};

use castoff_authz::path::{AddressKind, EnforcementPath, Point, PointKind};
use castoff_authz::verdict::{Caller, Comparison};
use rayon::prelude::*;

use super::Content;
use super::callers::{CallerClass, Member};
use super::question::{Question, When, never_took_bytes};
use super::rows::Comparer;
use super::undeclared::PortKnown;
use crate::mesh::WorkloadId;
use crate::snapshot::ObjectName;

/// How a server is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reached {
    /// The kinds of its addresses that somebody is known to use: `Service`, `ServiceEntry`, `pod address`.
    pub by: BTreeSet<&'static str>,
    /// Whether nobody without identity gets in by any address, in the baseline and now.
    pub outsiders_denied: bool,
}

impl Comparer<'_> {
    /// How each of the mesh's servers is reached that the baseline has, too.
    pub(super) fn reached(&self) -> BTreeMap<ObjectName, Reached> {
        let outsiders = self.classes.iter();
        let Some(outsiders) = outsiders
            .rev()
            .find(|class| class.members == [Member::Outsiders])
        else {
            return BTreeMap::new();
        };
        let workloads = &self.present.mesh.workloads;
        let found = workloads.par_iter().filter_map(|workload| {
            let (now, _) = self.present.workload(&workload.name)?;
            let (before, _) = self.baseline.workload(&workload.name)?;
            workload
                .is_mesh_application()
                .then(|| (workload.name.clone(), self.of((before, now), outsiders)))
        });
        found.collect()
    }

    fn of(&self, ids: (WorkloadId, WorkloadId), outsiders: &CallerClass) -> Reached {
        let mut reached = Reached {
            outsiders_denied: true,
            ..Reached::default()
        };
        for generation in 0..self.present.mesh.workload(ids.1).generations.len() {
            for question in self.questions(ids, generation) {
                if question.known == PortKnown::Declared {
                    let addresses = self.present.addresses(question.now).into_iter();
                    let used = addresses.filter(|dialled| dialled.in_use);
                    reached
                        .by
                        .extend(used.map(|dialled| words(dialled.address.kind)));
                }
                reached.outsiders_denied =
                    reached.outsiders_denied && self.denied(outsiders, question);
            }
        }
        reached
    }

    /// Whether nobody of a class gets in, in the baseline and now.
    fn denied(&self, class: &CallerClass, question: Question) -> bool {
        let mut ways = self.ways(question);
        let addresses = self.addresses(class, &ways);
        let [member] = class.members.as_slice() else {
            return false;
        };
        let [before, now] = [When::Before, When::Now].map(|when| {
            let list = &addresses[usize::from(when == When::Now)];
            self.paths(when, class, member, list, &mut ways)
        });
        let is_http = question.content == Content::Http;
        if !is_http && never_took_bytes(&before) {
            return true;
        }
        [before, now].into_iter().all(|paths| {
            let comparison = Comparison {
                caller: Caller::outsider(),
                http: is_http,
                baseline: paths.iter().map(stopped).collect(),
                present: paths,
            };
            self.answered.is_same(&comparison, self.limits)
        })
    }
}

/// The same way, on which nobody gets anywhere.
fn stopped(path: &EnforcementPath) -> EnforcementPath {
    let stop = PointKind::Stop {
        reason: "nobody gets in".to_owned(),
    };
    EnforcementPath {
        points: vec![Point::new(stop, &path.address.name)],
        ..path.clone()
    }
}

fn words(kind: AddressKind) -> &'static str {
    match kind {
        AddressKind::Service => "Service",
        AddressKind::ServiceEntry => "ServiceEntry",
        AddressKind::Pod => "pod address",
        AddressKind::Gateway => "gateway",
    }
}
