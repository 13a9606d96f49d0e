//! What is asked of a server: which ports, by which addresses, with which paths of the baseline.
//!
//! In: the two states of a [`Comparer`]. Out: [`Question`]s and what their comparisons are made of.
//! Invariant: every port of the pods is asked for, itself or by one that is treated alike.

use std::sync::Arc;

use castoff_authz::path::{
    ANY_OTHER_PORT, EnforcementPath, Point, PointKind, PrincipalSeen, Protocol, Proxy,
};
use castoff_authz::policy::Policy;
use castoff_authz::verdict::{self, Comparison};

use super::addresses::{self, DialledAddress};
use super::callers::{self, CallerClass, Member};
use super::identities::Mentions;
use super::past::{Leaves, Past};
use super::rows::Comparer;
use super::undeclared::PortKnown;
use super::{CallerMode, Content, Dial, Server};
use crate::mesh::WorkloadId;

/// One thing to compare: pods before and now, at a port, for a kind of content.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) before: Server,
    pub(super) now: Server,
    pub(super) known: PortKnown,
    pub(super) content: Content,
}

/// Which of the two states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Before,
    Now,
}

/// Who stands for all of a class at points with the same policies: for a class and whether everybody is
/// asked for in its place, the policies, and the identities found.
///
/// A class and a policy are known by their places in memory: what is found here is good while the classes asked for
/// live, and the policies live as long as it does (some are made for one point alone).
#[derive(Default)]
pub(super) struct Represented(Vec<(RepresentedKey, verdict::Identities)>);

type RepresentedKey = (*const CallerClass, bool, Vec<Arc<Policy>>);

/// The paths of a comparison, before and now; none where nothing is to be compared.
type Compared = Option<[Vec<EnforcementPath>; 2]>;

/// When callers of a mode arrive, and by which way they leave to each address, where it is not as the mode says.
type Arrival = (When, CallerMode, Vec<Leaves>, Option<Past>);

/// The points by address that they pass.
type Points = (Arrival, Vec<Option<Vec<Point>>>);

/// The ways to the pods of a question, before and now, as far as they were looked for.
pub(super) struct Ways {
    pub(super) question: Question,
    addresses: [Vec<DialledAddress>; 2],
    points: Vec<Points>,
    /// Paths that were built for a class already, by its place in memory, each to be taken once.
    built: Vec<(*const CallerClass, Compared)>,
    /// What is known from questions before this one.
    pub(super) represented: Represented,
}

impl Ways {
    /// Keeps the paths of a class for the next time that it is asked for.
    pub(super) fn keep(&mut self, class: &CallerClass, built: Compared) {
        self.built.push((std::ptr::from_ref(class), built));
    }

    /// Those that were kept.
    pub(super) fn take(&mut self, class: &CallerClass) -> Option<Compared> {
        let mut kept = self.built.iter();
        let at = kept.position(|(of, _)| std::ptr::eq(*of, class))?;
        Some(self.built.swap_remove(at).1)
    }
}

impl Comparer<'_> {
    /// What is compared of one generation of a server.
    pub(super) fn questions(
        &self,
        ids: (WorkloadId, WorkloadId),
        generation: usize,
    ) -> impl Iterator<Item = Question> + use<> {
        self.questions_at(ids, generation, self.ports(ids))
    }

    /// The same for a waypoint: a port to which it leads stands for no other.
    pub(super) fn questions_of_waypoints(
        &self,
        ids: (WorkloadId, WorkloadId),
        generation: usize,
    ) -> impl Iterator<Item = Question> + use<> {
        let mut ports = self.ports(ids);
        if ports.iter().all(|(_, known)| *known == PortKnown::Declared) {
            ports.push((ANY_OTHER_PORT, PortKnown::Unknown));
        }
        self.questions_at(ids, generation, ports)
    }

    /// The ports at which a server is asked for.
    pub(super) fn ports(
        &self,
        (baseline_id, present_id): (WorkloadId, WorkloadId),
    ) -> Vec<(u16, PortKnown)> {
        let mut declared = addresses::ports(self.present.mesh, present_id);
        declared.extend(addresses::ports(self.baseline.mesh, baseline_id));
        let mut named = self.present.named_ports(present_id);
        named.extend(self.baseline.named_ports(baseline_id));
        let beyond = named.beyond(&declared);
        let ports = declared.into_iter().map(|port| (port, PortKnown::Declared));
        ports.chain(beyond).collect()
    }

    /// What is compared of one generation of a server at these ports.
    pub(super) fn questions_at(
        &self,
        (baseline_id, present_id): (WorkloadId, WorkloadId),
        generation: usize,
        ports: Vec<(u16, PortKnown)>,
    ) -> impl Iterator<Item = Question> + use<> {
        let counterparts = callers::counterparts(
            self.baseline.mesh.workload(baseline_id),
            self.present.mesh.workload(present_id),
            generation,
        );
        counterparts.into_iter().flat_map(move |before| {
            ports.clone().into_iter().flat_map(move |(port, known)| {
                let server = |workload, generation| Server {
                    workload,
                    generation,
                    port,
                };
                let (before, now) = (server(baseline_id, before), server(present_id, generation));
                [Content::Http, Content::Bytes].map(|content| Question {
                    before,
                    now,
                    known,
                    content,
                })
            })
        })
    }

    /// The ways that a question is about.
    pub(super) fn ways(&self, question: Question) -> Ways {
        let Question { before, now, .. } = question;
        Ways {
            question,
            addresses: [self.baseline.addresses(before), self.present.addresses(now)],
            points: Vec::new(),
            built: Vec::new(),
            represented: Represented::default(),
        }
    }

    /// One identity for all that no policy on the way tells apart.
    pub(super) fn representatives(
        &self,
        class: &CallerClass,
        identities: &verdict::Identities,
        [baseline, present]: [&[EnforcementPath]; 2],
        represented: &mut Represented,
    ) -> verdict::Identities {
        let is_everybody = std::ptr::eq(identities, &self.everybody);
        if !is_everybody && !std::ptr::eq(identities, &class.identities) {
            return representatives(identities, baseline, present);
        }
        let points = baseline.iter().chain(present).flat_map(|path| &path.points);
        let mut policies: Vec<&Arc<Policy>> = points.flat_map(|point| &point.policies).collect();
        policies.sort_unstable_by_key(|policy| Arc::as_ptr(policy));
        policies.dedup_by(|one, other| Arc::ptr_eq(one, other));
        let mut known = represented.0.iter();
        let known = known.find(|((of, everybody, of_policies), _)| {
            std::ptr::eq(*of, class)
                && *everybody == is_everybody
                && of_policies.len() == policies.len()
                && (of_policies.iter().zip(&policies)).all(|(one, other)| Arc::ptr_eq(one, other))
        });
        if let Some((_, identities)) = known {
            return identities.clone();
        }
        let found = representatives(identities, baseline, present);
        let policies = policies.into_iter().cloned().collect();
        let key = (std::ptr::from_ref(class), is_everybody, policies);
        represented.0.push((key, found.clone()));
        found
    }

    /// The addresses of a server before and now, with who of this class uses them.
    pub(super) fn addresses(&self, class: &CallerClass, ways: &Ways) -> [Vec<DialledAddress>; 2] {
        let outsiders = class.members == [Member::Outsiders];
        let gateways = class.before == CallerMode::Gateway;
        ways.addresses.clone().map(|mut list| {
            for dialled in &mut list {
                dialled.in_use &= ways.question.known != PortKnown::Unknown;
                dialled.in_use |= self.counted.direct && dialled.dial == Dial::Pod;
                dialled.in_use &= !outsiders || dialled.from_outside || self.counted.outsiders;
                dialled.in_use &= !gateways || dialled.from_gateways;
            }
            list
        })
    }

    /// Whether the paths of a class are the same before and now, point by point, without building them; where they
    /// are not, or may not be, they are compared themselves.
    pub(super) fn are_plainly_equal(
        &self,
        class: &CallerClass,
        member: &Member,
        [before, now]: [&[DialledAddress]; 2],
        ways: &mut Ways,
    ) -> bool {
        let alike = |one: &DialledAddress, other: &DialledAddress| {
            one.in_use == other.in_use && one.address == other.address
        };
        if self.has_network_policies()
            || class.was.is_some()
            || !self.settings_are_equal
            || before.len() != now.len()
            || !before.iter().zip(now).all(|(one, other)| alike(one, other))
        {
            return false;
        }
        let was = self.points_found(When::Before, class, member, before, ways);
        let is = self.points_found(When::Now, class, member, now, ways);
        ways.points[was].1 == ways.points[is].1
    }

    /// Where the points of a class are among those found, without NetworkPolicies.
    fn points_found(
        &self,
        when: When,
        class: &CallerClass,
        member: &Member,
        addresses: &[DialledAddress],
        ways: &mut Ways,
    ) -> usize {
        let question = ways.question;
        let (then, since) = member.places();
        let (side, mode, past, place, server) = match when {
            When::Before => (
                self.baseline,
                class.before,
                &class.was_past,
                then,
                question.before,
            ),
            When::Now => (
                &self.present,
                class.now,
                &class.is_past,
                since,
                question.now,
            ),
        };
        let leaves = side.all_leave(past, addresses, server);
        let is_certain = |one: &Leaves| matches!(one, Leaves::AsMode | Leaves::Past);
        let who = (!leaves.iter().all(is_certain)).then(|| past.clone());
        let key = (when, mode, leaves, who);
        let known = ways.points.iter().position(|(known, _)| *known == key);
        known.unwrap_or_else(|| {
            let sender = side.party(member, place);
            let points = side.points((mode, past), sender, server, addresses, question.content);
            ways.points.push((key, points));
            ways.points.len() - 1
        })
    }

    /// The paths of one member of a class to these addresses of the question, before or now. Their points do
    /// not hang on who of a mode calls but for NetworkPolicies.
    pub(super) fn paths(
        &self,
        when: When,
        class: &CallerClass,
        member: &Member,
        addresses: &[DialledAddress],
        ways: &mut Ways,
    ) -> Vec<EnforcementPath> {
        let side = match when {
            When::Before => self.baseline,
            When::Now => &self.present,
        };
        let mut paths = if side.network.is_empty() {
            let at = self.points_found(when, class, member, addresses, ways);
            side.along(addresses, ways.points[at].1.iter().cloned())
        } else {
            let question = ways.question;
            let (then, since) = member.places();
            let (arrival, place, server) = match when {
                When::Before => ((class.before, &class.was_past), then, question.before),
                When::Now => ((class.now, &class.is_past), since, question.now),
            };
            let sender = side.party(member, place);
            side.paths(arrival, sender, server, addresses, question.content)
        };
        match when {
            When::Before => self.as_before(class, &mut paths),
            When::Now => self.present.mark_normalization(self.baseline, &mut paths),
        }
        paths
    }

    /// Shows on paths of the baseline who a class was then.
    pub(super) fn as_before(&self, class: &CallerClass, paths: &mut [EnforcementPath]) {
        if let Some(was) = &class.was {
            for point in paths.iter_mut().flat_map(|path| &mut path.points) {
                if point.seen.principal == PrincipalSeen::Callers {
                    point.seen.principal = PrincipalSeen::Fixed(was.clone());
                }
            }
        }
        self.baseline.mark_normalization(&self.present, paths);
    }

    /// The paths of the baseline for one member of a class, to whatever addresses.
    pub(super) fn baseline_paths(
        &self,
        class: &CallerClass,
        member: &Member,
        question: Question,
        addresses: &[DialledAddress],
    ) -> Vec<EnforcementPath> {
        let (then, _) = member.places();
        let mut paths = self.baseline.paths(
            (class.before, &class.was_past),
            self.baseline.party(member, then),
            question.before,
            addresses,
            question.content,
        );
        self.as_before(class, &mut paths);
        paths
    }

    /// The ways to the server, had the caller's sidecar known every Service. What is kept from its sight is no
    /// policy about access: whether he gains is asked of the policies.
    pub(super) fn in_sight(
        &self,
        class: &CallerClass,
        member: &Member,
        question: Question,
    ) -> Option<Vec<EnforcementPath>> {
        let mut seeing = class.clone_without_members();
        seeing.was_past = class.was_past.in_sight()?;
        let mut addresses = self.baseline.addresses(question.before);
        let blocks = class.was_past.may_block();
        addresses.retain(|dialled| match dialled.dial {
            Dial::Pod => blocks,
            _ => dialled.in_use,
        });
        Some(self.baseline_paths(&seeing, member, question, &addresses))
    }

    /// The way to a port that nothing leads to, had the caller's sidecar shown his identity there. That it
    /// did not was nobody's rule: whether he gains is asked of the policies.
    pub(super) fn by_identity(
        &self,
        class: &CallerClass,
        member: &Member,
        question: Question,
    ) -> Vec<EnforcementPath> {
        let mut addresses = self.baseline.addresses(question.before);
        addresses.retain(|dialled| dialled.dial == Dial::Pod);
        for dialled in &mut addresses {
            dialled.dial = Dial::PodByIdentity;
            dialled.in_use = true;
        }
        self.baseline_paths(class, member, question, &addresses)
    }
}

/// One identity for all that no policy on the way tells apart.
pub(super) fn representatives(
    identities: &verdict::Identities,
    baseline: &[EnforcementPath],
    present: &[EnforcementPath],
) -> verdict::Identities {
    match identities {
        verdict::Identities::Only(all) if all.len() > 1 => {
            let firsts = Mentions::of(baseline.iter().chain(present)).firsts(all);
            let chosen = firsts.into_iter().map(|index| all[index].clone());
            verdict::Identities::Only(chosen.collect())
        }
        // Of the identities left out only those that a policy names one by one make a difference:
        // besides any other, endlessly many are treated alike.
        verdict::Identities::OfTrustDomain { trust_domain, but } => {
            let mentions = Mentions::of(baseline.iter().chain(present));
            verdict::Identities::OfTrustDomain {
                trust_domain: trust_domain.clone(),
                but: mentions.named(but),
            }
        }
        other => other.clone(),
    }
}

/// Whether only HTTP ever got through: bytes that are no HTTP died in a parser, which is no decision
/// about access. A ztunnel lets them pass where it lets requests pass, and requests are compared.
pub(super) fn never_took_bytes(baseline: &[EnforcementPath]) -> bool {
    baseline.iter().all(|path| {
        path.points.iter().any(|point| {
            let http = PointKind::Envoy {
                proxy: Proxy::Sidecar,
                protocol: Protocol::Http,
            };
            point.kind == http
        })
    })
}

/// The same question with every address of the baseline in use. A caller without identity is
/// seen alike by whatever address it comes, and a gateway shows its identity wherever it sends, so
/// what one address let them do they could do; a sidecar, which shows its identity to Services and
/// not to bare pods, is asked the narrower question.
pub(super) fn every_address_in_use(comparison: &Comparison) -> Comparison {
    let mut wider = comparison.clone();
    for path in &mut wider.baseline {
        path.in_use = true;
    }
    wider
}
