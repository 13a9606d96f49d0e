//! Services whose address leads to pods of others alone: who dials such an address is refused where those pods
//! refuse him.
//!
//! In: the diversions of both states. Out: for an address of a server, what is lost there. Invariant: what the rules
//! of an object match is not looked at, so that a loss is told only where each destination alone is one; what is
//! unclear is undecided.

use castoff_authz::path::{EnforcementPath, Point, PointKind, PrincipalSeen};
use castoff_authz::verdict::{self, Comparison, Finding};

use super::addresses::DialledAddress;
use super::callers::{CallerClass, Member};
use super::diversions::Led;
use super::fronts::Front;
use super::network::Party;
use super::past::{Leaves, Past};
use super::question::{Question, representatives};
use super::row::PortAnswer;
use super::rows::Comparer;
use super::side::Side;
use super::{Caller, CallerMode, Content, Dial, Server, hops, wire};

impl Side<'_> {
    /// The paths that who dials this address really takes, one list a destination, where it leads to other pods
    /// alone.
    fn diverted_paths(
        &self,
        (mode, past): (CallerMode, &Past),
        sender: Party<'_>,
        (dialled, server): (&DialledAddress, Server),
        content: Content,
    ) -> Option<Vec<Vec<EnforcementPath>>> {
        // What goes past the sidecar, or may, follows no route of its own.
        if self.leaves(past, dialled, server) != Leaves::AsMode {
            return None;
        }
        let Dial::Service { service: id, port } = dialled.dial else {
            return None;
        };
        let service = self.mesh.service(id);
        let diversion = self.diverted.get(id, Led::of(service, port, content)?)?;
        let caller = Caller {
            workload: None,
            mode,
            principal: (mode != CallerMode::Plain).then(String::new),
        };
        let waypoint = service.binding.waypoint().map(|id| self.mesh.waypoint(id));
        let is_of_object = |namespace: &str| diversion.namespaces.contains(namespace);
        let by_waypoint = is_of_object(&service.name.namespace)
            || waypoint.is_some_and(|one| is_of_object(&one.name.namespace));
        let front = Front::new(id, port, by_waypoint);
        let mut all: Vec<Vec<EnforcementPath>> = Vec::new();
        if diversion.destinations.is_empty() {
            // Nobody answers where nobody follows the route.
            front.dial(self.mesh, &caller, dialled.dial)?;
        }
        for (destination, number) in &diversion.destinations {
            let behind = self.mesh.service(*destination);
            let dialled_port = service.ports[port].port;
            let index = match (number, behind.ports.len()) {
                (None, 1) => Some(0),
                (number, _) => {
                    let wanted = number.unwrap_or(dialled_port);
                    behind.ports.iter().position(|one| one.port == wanted)
                }
            }?;
            let dial = front.dial(
                self.mesh,
                &caller,
                Dial::Service {
                    service: *destination,
                    port: index,
                },
            )?;
            let backends = behind.backends.iter();
            let servers = backends.filter_map(|backend| {
                Some(Server {
                    workload: backend.workload,
                    generation: backend.generation,
                    port: backend.target_ports.get(index).copied().flatten()?,
                })
            });
            let paths = servers.map(|server| {
                let hops = hops(self.mesh, &self.attachments, &caller, dial, server, content);
                EnforcementPath {
                    address: dialled.address.clone(),
                    in_use: dialled.in_use,
                    settings: self.settings.clone(),
                    points: wire::points(self.mesh, &self.network, sender, hops, server),
                }
            });
            all.push(paths.collect());
        }
        if let Some((reason, said)) = &diversion.unclear {
            let all: Vec<&Vec<Point>> = all.iter().flatten().map(|one| &one.points).collect();
            let kind = PointKind::Opaque {
                reason: reason.clone(),
                content: format!("{said} {all:?}").into(),
            };
            let unclear = EnforcementPath {
                address: dialled.address.clone(),
                in_use: dialled.in_use,
                settings: self.settings.clone(),
                points: vec![Point::new(kind, &service.name.to_string())],
            };
            return Some(vec![vec![unclear]]);
        }
        Some(all)
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
        (member, identities): (&Member, &verdict::Identities),
        question: Question,
        [before, now]: &[Vec<DialledAddress>; 2],
    ) -> Vec<PortAnswer> {
        if self.baseline.diverted.is_empty() && self.present.diverted.is_empty() {
            return Vec::new();
        }
        let (then, since) = member.places();
        let content = question.content;
        let mut answers = Vec::new();
        for was in before
            .iter()
            .filter(|one| one.front.is_none() && one.in_use)
        {
            let mut same = now.iter().filter(|one| one.front.is_none());
            let Some(is) = same.find(|one| one.address == was.address) else {
                continue;
            };
            let party = self.baseline.party(member, then);
            let old = {
                let arrival = (class.before, &class.was_past);
                (self.baseline).diverted_paths(arrival, party, (was, question.before), content)
            };
            let party = self.present.party(member, since);
            let new = {
                let arrival = (class.now, &class.is_past);
                (self.present).diverted_paths(arrival, party, (is, question.now), content)
            };
            if old.is_none() && new.is_none() {
                continue;
            }
            let mut baseline = match old {
                Some(paths) => paths.into_iter().flatten().collect(),
                None => self.baseline_paths(class, member, question, std::slice::from_ref(was)),
            };
            if let Some(was) = &class.was {
                for point in baseline.iter_mut().flat_map(|path| &mut path.points) {
                    if point.seen.principal == PrincipalSeen::Callers {
                        point.seen.principal = PrincipalSeen::Fixed(was.clone());
                    }
                }
            }
            self.baseline
                .mark_normalization(&self.present, &mut baseline);
            let here = || {
                let addresses = std::slice::from_ref(is);
                let arrival = (class.now, &class.is_past);
                vec![(self.present).paths(arrival, party, question.now, addresses, content)]
            };
            let gains = is_unclear(&baseline);
            let mut first = None;
            let destinations = new.unwrap_or_else(here);
            let lost = destinations.into_iter().all(|mut present| {
                self.present.mark_normalization(self.baseline, &mut present);
                let comparison = Comparison {
                    caller: verdict::Caller {
                        identity: representatives(identities, &baseline, &present),
                        addresses: Vec::new(),
                    },
                    http: true,
                    baseline: baseline.clone(),
                    present,
                };
                let mut verdict = verdict::compare(&comparison, self.limits);
                // What is gained elsewhere is asked for by the addresses of those pods.
                if !gains && !is_unclear(&comparison.present) {
                    verdict.opens = Finding::Never;
                }
                let differs = verdict.breaks != Finding::Never || verdict.opens != Finding::Never;
                first.get_or_insert((comparison.present, verdict));
                differs
            });
            let Some((present, verdict)) = first.filter(|_| lost) else {
                continue;
            };
            let now = self.present.mesh.workload(question.now.workload);
            let mode = now.generations[question.now.generation].mode;
            answers.push(PortAnswer::new(
                (question.now.port, mode),
                content,
                class.words,
                [baseline, present],
                verdict,
            ));
        }
        answers
    }
}
