//! Services whose address leads elsewhere than to their own pods, for all or for some requests: who dials such an
//! address is refused where those pods refuse him.
//!
//! In: the diversions of both states. Out: for an address of a server, what is lost there. Invariant: each pair of a
//! branch before and a branch now is asked for what both take; of several ends each may be chosen, so that what one of
//! them refuses now is lost where all accepted it, and what none accepts now where one did. What is unclear is
//! undecided.

use castoff_authz::path::{EnforcementPath, Point, PointKind};
use castoff_authz::verdict::{self, Comparison, Finding, Identities, Verdict};

use super::addresses::DialledAddress;
use super::callers::{CallerClass, Member, Place};
use super::network::Party;
use super::past::{Leaves, Past};
use super::question::{Question, representatives};
use super::routes::{Branch, Follower, Led, Target};
use super::row::PortAnswer;
use super::rows::Comparer;
use super::side::Side;
use super::taken::Taken;
use super::{Caller, CallerMode, Content, Dial, Server, hops, wire};
use crate::mesh::{Distribution, Service, ServiceId, WaypointId};

/// Where some requests to an address get.
struct Way {
    object: String,
    taken: Taken,
    /// The paths to each end that may be chosen; none for the Service's own pods.
    ends: Vec<Option<Vec<EnforcementPath>>>,
}

/// Paths before and now, and what they answer.
type Asked = ([Vec<EnforcementPath>; 2], Verdict);

/// Members of a class for whom routes lead alike, and one of them.
struct Group<'c> {
    member: &'c Member,
    identities: Identities,
}

impl<'m> Side<'m> {
    /// The waypoint by which a caller in this mode is led, where there is one.
    fn leading_waypoint(&self, mode: CallerMode, service: &Service) -> Option<WaypointId> {
        let to_waypoint = match mode {
            CallerMode::Ambient => true,
            CallerMode::Sidecar => self.mesh.distribution == Distribution::Solo,
            CallerMode::Gateway => service.ingress_uses_waypoint,
            CallerMode::Plain => false,
        };
        // What has no address of its own is no waypoint's.
        let waypoint = service.binding.waypoint();
        waypoint.filter(|_| to_waypoint && !service.headless)
    }

    /// Who follows the routes of a Service for a caller in this mode.
    fn follower<'s>(
        &'s self,
        (mode, past): (CallerMode, &'s Past),
        service: &Service,
        place: Option<Place>,
    ) -> Option<Follower<'s>> {
        if let Some(id) = self.leading_waypoint(mode, service) {
            return Some(Follower::Waypoint(&self.mesh.waypoint(id).name.namespace));
        }
        (mode == CallerMode::Sidecar).then(|| {
            let pods = place.map(|(id, generation)| {
                let workload = &self.mesh.workloads[id.0];
                let namespace = workload.name.namespace.as_str();
                (namespace, &workload.generations[generation])
            });
            Follower::Sidecar(pods, past)
        })
    }

    /// The branches that routes have for who dials this address; none where it leads to its own pods alone.
    fn branches(
        &self,
        (mode, past): (CallerMode, &Past),
        place: Option<Place>,
        (dialled, server): (&DialledAddress, Server),
        content: Content,
    ) -> Option<Vec<Branch>> {
        let Dial::Service { service: id, port } = dialled.dial else {
            return None;
        };
        // What goes past the sidecar, or may, follows no route of its own.
        if self.diverted.is_empty() || self.leaves(past, dialled, server) != Leaves::AsMode {
            return None;
        }
        let service = self.mesh.service(id);
        let follower = self.follower((mode, past), service, place)?;
        let led = Led::of(service, port, content)?;
        self.diverted.branches(self.mesh, (id, port), led, follower)
    }

    /// The paths that who dials this address really takes.
    fn ways(
        &self,
        branches: Vec<Branch>,
        mode: CallerMode,
        sender: Party<'_>,
        dialled: &DialledAddress,
        content: Content,
    ) -> Vec<Way> {
        let Dial::Service { service: id, .. } = dialled.dial else {
            return Vec::new();
        };
        let service = self.mesh.service(id);
        let waypoint = self.leading_waypoint(mode, service);
        let by_waypoint = waypoint.is_some();
        let at = match waypoint {
            Some(id) => format!("the waypoint {}", self.mesh.waypoint(id).name),
            None => "the caller's sidecar".to_owned(),
        };
        let path = |points: Vec<Point>| EnforcementPath {
            address: dialled.address.clone(),
            in_use: dialled.in_use,
            settings: self.settings.clone(),
            points,
        };
        let to = |behind: ServiceId, index: usize| -> Vec<EnforcementPath> {
            let caller = Caller {
                workload: None,
                mode,
                principal: (mode != CallerMode::Plain).then(String::new),
            };
            let dial = match by_waypoint {
                true => dialled.dial,
                false => Dial::Service {
                    service: behind,
                    port: index,
                },
            };
            let rewritten = (!by_waypoint)
                .then(|| self.attachments.rewrites.at_caller(service.host().as_str()))
                .flatten();
            let backends = self.mesh.service(behind).backends.iter();
            let servers = backends.filter_map(|backend| {
                Some(Server {
                    workload: backend.workload,
                    generation: backend.generation,
                    port: backend.target_ports.get(index).copied().flatten()?,
                })
            });
            let paths = servers.map(|server| {
                let mut hops = hops(self.mesh, &self.attachments, &caller, dial, server, content);
                if let Some(rewritten) = &rewritten {
                    for hop in &mut hops {
                        hop.point.seen.http = rewritten.clone();
                    }
                }
                path(wire::points(self.mesh, &self.network, sender, hops, server))
            });
            paths.collect()
        };
        let end = |target: Target| match target {
            Target::Own => None,
            Target::Service(id, port) => Some(to(id, port)),
            Target::Nobody(reason) => Some(vec![path(vec![Point::new(
                PointKind::Stop { reason },
                &at,
            )])]),
            Target::Unclear {
                reason,
                content,
                among,
            } => {
                let among = among.into_iter().flat_map(|(id, port)| to(id, port));
                let among: Vec<Vec<Point>> = among.map(|path| path.points).collect();
                let kind = PointKind::Opaque {
                    reason,
                    content: format!("{content} {among:?}").into(),
                };
                Some(vec![path(vec![Point::new(
                    kind,
                    &service.name.to_string(),
                )])])
            }
        };
        let ways = branches.into_iter().map(|branch| Way {
            object: branch.object,
            taken: branch.taken,
            ends: branch.targets.into_iter().map(end).collect(),
        });
        ways.collect()
    }
}

/// Whether it is not known what becomes of the call.
fn is_unclear(paths: &[EnforcementPath]) -> bool {
    let mut points = paths.iter().map(|path| path.points.as_slice());
    points.any(|points| matches!(points, [only] if matches!(only.kind, PointKind::Opaque { .. })))
}

impl Comparer<'_> {
    /// What a class loses at addresses of a server that lead elsewhere, before or now.
    pub(super) fn diverted(
        &self,
        class: &CallerClass,
        (member, identities): (&Member, &Identities),
        question: Question,
        [before, now]: &[Vec<DialledAddress>; 2],
    ) -> Vec<PortAnswer> {
        if self.baseline.diverted.is_empty() && self.present.diverted.is_empty() {
            return Vec::new();
        }
        let mut answers = Vec::new();
        let used = before.iter();
        for was in used.filter(|one| one.front.is_none() && one.in_use) {
            let mut same = now.iter().filter(|one| one.front.is_none());
            let Some(is) = same.find(|one| one.address == was.address) else {
                continue;
            };
            for (led, branches) in self.led(class, (member, identities), question, (was, is)) {
                answers.extend(self.lost(class, &led, question, (was, is), branches));
            }
        }
        answers
    }

    /// Members of a class with the branches that they are led by, before and now; those for whom there is none are left
    /// out.
    fn led<'c>(
        &self,
        class: &'c CallerClass,
        (member, identities): (&'c Member, &Identities),
        question: Question,
        (was, is): (&DialledAddress, &DialledAddress),
    ) -> Vec<(Group<'c>, [Option<Vec<Branch>>; 2])> {
        let branches = |member: &Member| {
            let (then, since) = member.places();
            let content = question.content;
            let arrival = (class.before, &class.was_past);
            let old = (self.baseline).branches(arrival, then, (was, question.before), content);
            let arrival = (class.now, &class.is_past);
            let new = (self.present).branches(arrival, since, (is, question.now), content);
            [old, new]
        };
        let tells = |side: &Side<'_>, dialled: &DialledAddress| match dialled.dial {
            Dial::Service { service, .. } => side.diverted.tells_callers_apart(side.mesh, service),
            _ => false,
        };
        let asked = |principal: &String| match identities {
            Identities::Only(all) => all.contains(principal),
            _ => false,
        };
        let by_sidecar = [class.before, class.now].contains(&CallerMode::Sidecar);
        let apart = by_sidecar && (tells(self.baseline, was) || tells(&self.present, is));
        let mut led: Vec<(Group<'c>, [Option<Vec<Branch>>; 2])> = Vec::new();
        if !apart || !matches!(identities, Identities::Only(_)) {
            let whole = Group {
                member,
                identities: identities.clone(),
            };
            led.push((whole, branches(member)));
        } else {
            for member in &class.members {
                let Member::Workload { principal, .. } = member else {
                    continue;
                };
                if !asked(principal) {
                    continue;
                }
                let own = branches(member);
                let mut known = led.iter_mut();
                // NetworkPolicies see each of them alone.
                let alike = (!self.has_network_policies())
                    .then(|| known.find(|(_, branches)| *branches == own))
                    .flatten();
                match alike {
                    Some((group, _)) => {
                        if let Identities::Only(all) = &mut group.identities {
                            all.push(principal.clone());
                        }
                    }
                    None => led.push((
                        Group {
                            member,
                            identities: Identities::Only(vec![principal.clone()]),
                        },
                        own,
                    )),
                }
            }
        }
        led.retain(|(_, [old, new])| old.is_some() || new.is_some());
        for (group, _) in &mut led {
            if let Identities::Only(all) = &mut group.identities {
                all.sort_unstable();
                all.dedup();
            }
        }
        led
    }

    /// What some callers lose at one address.
    fn lost(
        &self,
        class: &CallerClass,
        led: &Group<'_>,
        question: Question,
        (was, is): (&DialledAddress, &DialledAddress),
        [old, new]: [Option<Vec<Branch>>; 2],
    ) -> Vec<PortAnswer> {
        let content = question.content;
        let (then, since) = led.member.places();
        let whole = || {
            vec![Branch {
                object: String::new(),
                taken: Taken::default(),
                targets: [Target::Own].into(),
            }]
        };
        let party = self.baseline.party(led.member, then);
        let arrival = (class.before, &class.was_past);
        let server = question.before;
        let old = old.unwrap_or_else(whole);
        let old = (self.baseline).ways(old, arrival.0, party, was, content);
        let from_ref = std::slice::from_ref;
        let mut own = [
            (self.baseline).paths(arrival, party, server, from_ref(was), content),
            Vec::new(),
        ];
        let party = self.present.party(led.member, since);
        let arrival = (class.now, &class.is_past);
        let server = question.now;
        let new = new.unwrap_or_else(whole);
        let new = (self.present).ways(new, arrival.0, party, is, content);
        own[1] = (self.present).paths(arrival, party, server, from_ref(is), content);
        let mut found: [Option<Asked>; 2] = [None, None];
        for before in &old {
            for now in &new {
                if before.taken.excludes(&now.taken) {
                    continue;
                }
                let Some(asked) = self.ways_differ(class, led, content, [before, now], &own) else {
                    continue;
                };
                let certain = matches!(asked.1.breaks, Finding::Witness(_) | Finding::Bug(_));
                found[usize::from(!certain)].get_or_insert(asked);
            }
        }
        let workload = self.present.mesh.workload(question.now.workload);
        let mode = workload.generations[question.now.generation].mode;
        let found = found.into_iter().flatten();
        found
            .map(|(paths, verdict)| {
                let pods = (question.now.port, mode);
                PortAnswer::new(pods, content, class.words, paths, verdict)
            })
            .collect()
    }

    /// What differs where two branches take the same requests.
    fn ways_differ(
        &self,
        class: &CallerClass,
        led: &Group<'_>,
        content: Content,
        [before, now]: [&Way; 2],
        own: &[Vec<EnforcementPath>; 2],
    ) -> Option<Asked> {
        let guards: Vec<Point> = {
            let of = |way: &Way| way.taken.point(&way.object, content);
            let mut guards: Vec<Point> = [before, now].into_iter().filter_map(of).collect();
            guards.dedup();
            guards
        };
        let guarded = |paths: &[EnforcementPath]| -> Vec<EnforcementPath> {
            let mut paths = paths.to_vec();
            for path in &mut paths {
                path.points.splice(0..0, guards.iter().cloned());
            }
            paths
        };
        let ask = |was: &Option<Vec<EnforcementPath>>, is: &Option<Vec<EnforcementPath>>| {
            // That both lead to the Service's own pods is compared at their own addresses.
            if was.is_none() && is.is_none() {
                return None;
            }
            let [was, is] =
                [(was, &own[0]), (is, &own[1])].map(|(paths, own)| paths.as_deref().unwrap_or(own));
            // None where a pin leads to others of the Service's pods, which are asked for by themselves.
            if was.is_empty() || is.is_empty() {
                return None;
            }
            let (mut baseline, mut present) = (guarded(was), guarded(is));
            self.as_before(class, &mut baseline);
            self.present.mark_normalization(self.baseline, &mut present);
            if baseline == present {
                return None;
            }
            let comparison = Comparison {
                caller: verdict::Caller {
                    identity: representatives(&led.identities, &baseline, &present),
                    addresses: Vec::new(),
                },
                http: true,
                baseline,
                present,
            };
            let mut verdict = verdict::compare(&comparison, self.limits);
            // What is gained elsewhere is asked for by the addresses of those pods.
            if !is_unclear(was) && !is_unclear(is) {
                verdict.opens = Finding::Never;
            }
            let paths = [comparison.baseline, comparison.present];
            (!verdict.is_same()).then_some((paths, verdict))
        };
        let mut table: Vec<Vec<Option<Asked>>> = (before.ends.iter())
            .map(|was| now.ends.iter().map(|is| ask(was, is)).collect())
            .collect();
        let row = |index: usize| table[index].iter().all(Option::is_some);
        let column = |index: usize| table.iter().all(|row| row[index].is_some());
        let mut best: Option<(usize, usize)> = None;
        for (first, cells) in table.iter().enumerate() {
            for (second, cell) in cells.iter().enumerate() {
                let Some((_, verdict)) = cell.as_ref().filter(|_| row(first) || column(second))
                else {
                    continue;
                };
                if best.is_none() || matches!(verdict.breaks, Finding::Witness(_)) {
                    best = Some((first, second));
                }
            }
        }
        let (first, second) = best?;
        table[first][second].take()
    }
}
