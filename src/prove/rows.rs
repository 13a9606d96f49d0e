//! One row a server: who gains, who loses, what could not be decided.
//!
//! In: the mesh of the baseline and the mesh now. Out: [`ServerRow`]s, sorted by server.
//! Invariant: every workload of the mesh, any other identity and outsiders are asked for, at every
//! port that a Service or a container names; a comparison that is left out was equal point by
//! point.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use castoff_authz::path::{Address, AddressKind, EnforcementPath};
use castoff_authz::verdict::{self, Comparison, Finding, Limits, Verdict};

use super::addresses::{self, DialledAddress};
use super::answered::Answered;
use super::callers::{self, CallerClass, Member};
use super::certificates;
use super::exposed;
use super::gateways;
use super::identities::Mentions;
use super::known::{KnownCallers, arrival};
use super::memory::{Learning, Memory};
use super::network::Party;
use super::others::told_by_others;
use super::past::Past;
use super::question::{
    Question, Represented, Ways, When, every_address_in_use, never_took_bytes, representatives,
};
pub use super::row::{self, PortAnswer, RowVerdict, ServerRow};
use super::side::{Admitted, Side};
use super::tell::is_route;
use super::undeclared::PortKnown;
use super::waypoints::NamedWaypoints;
use super::{CallerMode, Content, Server};
use crate::mesh::{DataPlaneMode, Mesh, OwnerKind, WorkloadId};
use crate::snapshot::ObjectName;

/// Two states of one mesh.
pub struct States<'a> {
    /// What access is compared with.
    pub baseline: &'a Mesh,
    /// What it is now.
    pub present: &'a Mesh,
}

/// Whose losses count, beyond those who are known to call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Somebody dials pods, though nothing that was read shows it.
    pub direct: bool,
    /// Somebody without identity calls, though nothing is exposed.
    pub outsiders: bool,
}

/// Compares every server that is in the mesh before or now (one that the baseline lacks is undecided), and
/// notes who loses an address that nobody is known to use.
pub fn rows(states: &States<'_>, limits: Limits) -> Vec<ServerRow> {
    rows_counting(states, limits, Counted::default())
}

/// The same, where more losses count than those of who is known to call.
pub fn rows_counting(states: &States<'_>, limits: Limits, counted: Counted) -> Vec<ServerRow> {
    let baseline = Side::of(states.baseline);
    let mut comparer = Comparer::new(&baseline, states.present, limits);
    comparer.counted = counted;
    comparer.notes_closed = true;
    comparer.rows(None)
}

/// Whether a caller was seen at a server.
pub type Seen<'a> = &'a (dyn Fn(&ObjectName, &ObjectName) -> bool + Sync);

/// Two states with what is looked up again and again.
pub(super) struct Comparer<'a> {
    pub(super) baseline: &'a Side<'a>,
    pub(super) present: Side<'a>,
    pub(super) classes: Vec<CallerClass>,
    /// All identities that workloads have.
    pub(super) everybody: verdict::Identities,
    /// Whether some caller is ambient now. An identity that no workload has is then taken to arrive
    /// as they do, as far as losing goes: nobody is there to lose by another way.
    pub(super) some_are_ambient: bool,
    /// Whether both states have the same settings, those that change paths of requests included.
    pub(super) settings_are_equal: bool,
    pub(super) counted: Counted,
    /// What was asked before.
    pub(super) answered: Arc<Answered>,
    /// Whether to note who loses an address that nobody is known to use.
    pub(super) notes_closed: bool,
    pub(super) limits: Limits,
    /// Whether a caller was seen at a server, where telemetry was given.
    pub(super) seen: Option<Seen<'a>>,
    /// Waypoints that policies name one by one.
    pub(super) named: NamedWaypoints<'a>,
    /// Services that are, or were, reached from outside the cluster.
    pub(super) from_outside: BTreeSet<ObjectName>,
    /// Who is known to call in ways of his own, once somebody asked.
    pub(super) known: OnceLock<KnownCallers>,
}

impl<'a> Comparer<'a> {
    pub(super) fn new(baseline: &'a Side<'a>, present: &'a Mesh, limits: Limits) -> Self {
        let states = States {
            baseline: baseline.mesh,
            present,
        };
        let (classes, (present_side, named)) = rayon::join(
            || callers::classes(&states),
            || {
                rayon::join(
                    || Side::of(present),
                    || NamedWaypoints::of(baseline.mesh, present),
                )
            },
        );
        Self {
            from_outside: exposed::from_outside([baseline, &present_side]),
            baseline,
            settings_are_equal: baseline.settings == present_side.settings
                && baseline.mesh.settings.path_normalization == present.settings.path_normalization,
            present: present_side,
            everybody: verdict::Identities::Only(callers::identities(present)),
            some_are_ambient: classes.iter().any(|class| class.now == CallerMode::Ambient),
            named,
            classes,
            counted: Counted::default(),
            answered: Arc::default(),
            notes_closed: false,
            limits,
            seen: None,
            known: OnceLock::new(),
        }
    }

    pub(super) fn rows(&self, memory: Option<&mut Memory>) -> Vec<ServerRow> {
        let mut rows = self.servers(memory);
        rows.extend(gateways::rows(self.baseline, &self.present, self.limits));
        rows.extend(certificates::rows(
            self.baseline,
            &self.present,
            self.limits,
        ));
        rows.extend(self.machines());
        rows.sort_by(|left, right| left.server.cmp(&right.server));
        rows
    }

    fn servers(&self, memory: Option<&mut Memory>) -> Vec<ServerRow> {
        let names: BTreeSet<&ObjectName> = self
            .present
            .mesh
            .workloads
            .iter()
            .filter(|workload| {
                // One that has left the mesh lets everybody in.
                let was = self.baseline.workload(&workload.name);
                workload.is_mesh_application()
                    || was.is_some_and(|(_, was)| was.is_mesh_application())
            })
            .map(|workload| &workload.name)
            .collect();
        // NetworkPolicies tell callers of one kind apart, so that nothing holds for the whole kind.
        let by_kind = !self.has_network_policies() && !self.aliases_differ();
        let memory = memory.filter(|_| by_kind);
        match memory {
            Some(memory) => self.remembered(names, memory),
            None => names
                .into_par_iter()
                .filter_map(|name| self.row(name))
                .collect(),
        }
    }

    /// A server's row.
    pub(super) fn row(&self, name: &ObjectName) -> Option<ServerRow> {
        let (present_id, present) = self.present.workload(name)?;
        let Some((baseline_id, _)) = self.baseline.workload(name) else {
            return Some(ServerRow::unmatched(name));
        };
        let mut row = ServerRow::of(name);
        self.exposed(&mut row, present_id);
        let ids = (baseline_id, present_id);
        let named = self.named_waypoints(ids);
        self.trust(&mut row, ids, &named);
        self.note_aliases(&mut row, ids);
        for generation in 0..present.generations.len() {
            self.compare_generation(&mut row, ids, generation, self.classes.iter());
        }
        self.explain_losses(&mut row, ids);
        self.compare_waypoints(&mut row, ids, &named);
        Some(row)
    }

    /// Compares one generation of a server, at all its ports, for the callers given.
    pub(super) fn compare_generation<'c>(
        &self,
        row: &mut ServerRow,
        ids: (WorkloadId, WorkloadId),
        generation: usize,
        classes: impl Iterator<Item = &'c CallerClass> + Clone,
    ) {
        let questions = self.questions(ids, generation);
        let ways = questions.map(|question| self.ways(question));
        self.compare_ways(row, None, ways, classes);
    }

    /// The same by ways to it, of which some may be known.
    pub(super) fn compare_ways<'c>(
        &self,
        row: &mut ServerRow,
        mut learning: Option<&mut Learning>,
        ways: impl IntoIterator<Item = Ways>,
        classes: impl Iterator<Item = &'c CallerClass> + Clone,
    ) {
        let mut represented = Represented::default();
        for mut ways in ways {
            ways.represented = represented;
            for class in classes.clone() {
                self.compare(row, learning.as_deref_mut(), &mut ways, class);
            }
            represented = ways.represented;
        }
    }

    /// Whether NetworkPolicies tell callers of one identity apart.
    pub(super) fn has_network_policies(&self) -> bool {
        !self.baseline.network.is_empty() || !self.present.network.is_empty()
    }

    /// What the policies on all paths to a server mention of identities, before and now.
    pub(super) fn mentions(&self, (before, now): (WorkloadId, WorkloadId)) -> Mentions {
        let mut mentions = Mentions::default();
        for (side, id) in [(self.baseline, before), (&self.present, now)] {
            for generation in 0..side.mesh.workload(id).generations.len() {
                for port in addresses::ports(side.mesh, id) {
                    let server = Server {
                        workload: id,
                        generation,
                        port,
                    };
                    let dialled = side.addresses(server);
                    for content in [Content::Http, Content::Bytes] {
                        for mode in [CallerMode::Sidecar, CallerMode::Ambient] {
                            let arrival = (mode, &Past::default());
                            let paths =
                                side.paths(arrival, Party::Anybody, server, &dialled, content);
                            mentions.extend(Mentions::of(&paths));
                        }
                    }
                }
            }
        }
        mentions
    }

    /// The question for one member of a class and those like it; `None` where the paths are the
    /// same, or nothing but HTTP was ever let through.
    pub(super) fn comparison(
        &self,
        class: &CallerClass,
        (member, identities): (&Member, &verdict::Identities),
        ways: &mut Ways,
        [before_addresses, now_addresses]: &[Vec<DialledAddress>; 2],
    ) -> Option<Comparison> {
        let [baseline, present] = match ways.take(class) {
            Some(built) => built?,
            None => self.compared_paths(class, member, ways, [before_addresses, now_addresses])?,
        };
        Some(Comparison {
            caller: verdict::Caller {
                identity: self.representatives(
                    class,
                    identities,
                    [&baseline, &present],
                    &mut ways.represented,
                ),
                addresses: Vec::new(),
            },
            http: ways.question.content == Content::Http,
            baseline,
            present,
        })
    }

    /// The paths of a comparison, before and now.
    fn compared_paths(
        &self,
        class: &CallerClass,
        member: &Member,
        ways: &mut Ways,
        [before_addresses, now_addresses]: [&[DialledAddress]; 2],
    ) -> Option<[Vec<EnforcementPath>; 2]> {
        let addresses = [before_addresses, now_addresses];
        if self.are_plainly_equal(class, member, addresses, ways) {
            return None;
        }
        let Question { now, content, .. } = ways.question;
        let mut baseline = self.paths(When::Before, class, member, before_addresses, ways);
        if content == Content::Bytes && never_took_bytes(&baseline) {
            return None;
        }
        let mut present = self.paths(When::Now, class, member, now_addresses, ways);
        // Where a route is followed no more, or leads to other pods, the request goes elsewhere: what these
        // pods accepted is neither refused nor new.
        let is_gone = |path: &&EnforcementPath| {
            let mut fronts = before_addresses.iter().filter(|one| one.front.is_some());
            let mut same = now_addresses
                .iter()
                .filter(|one| one.address == path.address);
            !present.iter().any(|other| other.address == path.address)
                && (fronts.any(|one| one.address == path.address)
                    || same.any(|one| self.present.leads_elsewhere(class.now, one, now, content)))
        };
        let gone: Vec<EnforcementPath> = baseline.iter().filter(is_gone).cloned().collect();
        present.extend(gone);
        as_led_now(&mut baseline, &present);
        (baseline != present).then_some([baseline, present])
    }

    fn compare(
        &self,
        row: &mut ServerRow,
        mut learning: Option<&mut Learning>,
        ways: &mut Ways,
        class: &CallerClass,
    ) {
        let question = ways.question;
        let Question {
            before,
            now,
            content,
            ..
        } = question;
        let addresses = self.addresses(class, ways);
        for (member, identities) in self.groups(class, before, now) {
            row.compared += 1;
            row.differences.extend(self.diverted(
                class,
                (member, &identities),
                question,
                &addresses,
            ));
            let Some(comparison) = self.comparison(class, (member, &identities), ways, &addresses)
            else {
                continue;
            };
            let (verdict, hangs_on_others) = self.ask(&comparison, class, member, question, row);
            if let Some(learning) = &mut learning {
                let paths = comparison.baseline.iter().chain(&comparison.present);
                learning.mentions.extend(Mentions::of(paths));
                learning.hangs_on_others |= hangs_on_others;
            }
            let verdict = self.lost_by_seen(verdict, &comparison, (class, &identities), now, row);
            let verdict = told_by_others(
                verdict,
                &comparison,
                class,
                now.workload,
                self.present.mesh,
                self.limits,
            );
            if self.notes_closed && verdict.breaks == Finding::Never {
                row.notes.extend(self.closed(&comparison, class));
            }
            row.notes.extend(row::scraped(
                &verdict,
                self.present.mesh.workload(now.workload),
            ));
            if !verdict.is_same() {
                row.notes
                    .extend(self.past_sidecars(class, question, &addresses));
                let workload = self.present.mesh.workload(now.workload);
                let pods = (now.port, workload.generations[now.generation].mode);
                let paths = [comparison.baseline, comparison.present];
                row.differences.push(PortAnswer {
                    kind: Some(arrival(class)),
                    member: self.has_network_policies().then(|| member.clone()),
                    ..PortAnswer::new(pods, content, class.words, paths, verdict)
                });
            }
        }
    }

    /// Whose sidecars do not see or know some of the calls that are compared, in words.
    fn past_sidecars(
        &self,
        class: &CallerClass,
        question: Question,
        [before, now]: &[Vec<DialledAddress>; 2],
    ) -> Option<String> {
        let is_now = self.present.all_leave(&class.is_past, now, question.now);
        let was = self
            .baseline
            .all_leave(&class.was_past, before, question.before);
        let by = match (is_now.is_empty(), was.is_empty()) {
            (false, _) => class.is_past.by(),
            (true, false) => class.was_past.by(),
            (true, true) => None,
        };
        by.map(|by| format!("some callers' own sidecars do not see these calls, or do not know the Service: {by}"))
    }

    /// Who loses an address that nobody is known to use, in words.
    fn closed(&self, comparison: &Comparison, class: &CallerClass) -> Option<String> {
        if comparison.baseline.iter().all(|path| path.in_use) {
            return None;
        }
        let every = every_address_in_use(comparison);
        let Finding::Witness(witness) = self.answered.compare(&every, self.limits).breaks else {
            return None;
        };
        Some(match witness.address.kind {
            AddressKind::Pod => format!(
                "pod addresses closed to {} (nobody is known to dial them)",
                class.words
            ),
            _ => format!("closed to {} (none is known to call)", class.words),
        })
    }

    /// The prover's answer, narrowed to losses that somebody can have and gains that are new; and whether it hangs
    /// on how callers and other pods of the server run.
    fn ask(
        &self,
        comparison: &Comparison,
        class: &CallerClass,
        member: &Member,
        question: Question,
        row: &mut ServerRow,
    ) -> (Verdict, bool) {
        let server = question.now;
        let mut verdict = self.answered.compare(comparison, self.limits);
        let undeclared = question.known != PortKnown::Declared;
        let narrowed =
            undeclared || matches!(class.before, CallerMode::Plain | CallerMode::Gateway);
        if verdict.opens != Finding::Never {
            let mut wider = if narrowed {
                every_address_in_use(comparison)
            } else {
                comparison.clone()
            };
            if undeclared && class.before == CallerMode::Sidecar {
                let by_identity = self.by_identity(class, member, question);
                wider.baseline.extend(by_identity);
            }
            let in_sight = self.in_sight(class, member, question);
            let is_wider = narrowed || in_sight.is_some();
            wider.baseline.extend(in_sight.into_iter().flatten());
            if is_wider {
                verdict.opens = self.answered.compare(&wider, self.limits).opens;
            }
        }
        if verdict.breaks == Finding::Never || class.now == CallerMode::Ambient {
            return (verdict, false);
        }
        let workload = self.present.mesh.workload(server.workload);
        let mixed =
            workload.has_mode(DataPlaneMode::Ambient) && workload.has_mode(DataPlaneMode::Sidecar);
        if *member == Member::OtherIdentities && self.some_are_ambient {
            verdict.breaks = Finding::Never;
        } else if mixed && workload.owner != OwnerKind::StatefulSet {
            let own = workload.principal(&self.present.mesh.settings.trust_domain);
            if let Some(identity) = class.identities_without(server.workload, &own) {
                let mut others = comparison.clone();
                others.caller.identity =
                    representatives(&identity, &others.baseline, &others.present);
                let breaks = self.answered.compare(&others, self.limits).breaks;
                if breaks == Finding::Never {
                    row.notes.insert(
                        "its own old pods cannot call its new pods while both run; nobody is known to do that"
                            .to_owned(),
                    );
                }
                verdict.breaks = breaks;
            }
        }
        (verdict, true)
    }

    /// Members of a class that NetworkPolicies treat alike on the way to this server, each group
    /// with one of its members. Without NetworkPolicies the class is one group.
    pub(super) fn groups<'c>(
        &self,
        class: &'c CallerClass,
        before: Server,
        now: Server,
    ) -> Vec<(&'c Member, Cow<'c, verdict::Identities>)> {
        let Some(first) = class.members.first() else {
            return Vec::new();
        };
        if !self.has_network_policies() {
            return vec![(first, Cow::Borrowed(&class.identities))];
        }
        let mut groups: BTreeMap<[Admitted; 2], (&Member, Vec<String>)> = BTreeMap::new();
        for member in &class.members {
            let Member::Workload { principal, .. } = member else {
                return vec![(member, Cow::Borrowed(&class.identities))];
            };
            let (then, since) = member.places();
            let signature = [
                self.baseline
                    .admitted(self.baseline.party(member, then), before),
                self.present
                    .admitted(self.present.party(member, since), now),
            ];
            groups
                .entry(signature)
                .or_insert((member, Vec::new()))
                .1
                .push(principal.clone());
        }
        groups
            .into_values()
            .map(|(member, mut principals)| {
                principals.sort_unstable();
                principals.dedup();
                let identities = match &class.identities {
                    verdict::Identities::Only(_) => {
                        Cow::Owned(verdict::Identities::Only(principals))
                    }
                    other => Cow::Borrowed(other),
                };
                (member, identities)
            })
            .collect()
    }
}

/// What a waypoint does not lead to these pods any more goes to others: it is no loss here.
fn as_led_now(baseline: &mut [EnforcementPath], present: &[EnforcementPath]) {
    let led = |path: &EnforcementPath| path.points.first().filter(|point| is_route(point)).cloned();
    for path in baseline {
        let mut now = present.iter().filter(|one| one.address == path.address);
        let point = now.next().and_then(led);
        if point.is_some() && point != led(path) {
            path.points.splice(0..0, point);
        }
    }
}

/// An address in words, unique within a mesh.
pub(super) fn service_address(name: &ObjectName, port: u16) -> Address {
    Address {
        kind: AddressKind::Service,
        name: name.to_string(),
        port,
    }
}
