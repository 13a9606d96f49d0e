//! Services whose address leads to pods of others alone: who dials such an address is refused where those pods
//! refuse him.
//!
//! In: VirtualServices and HTTPRoutes of a mesh. Out: for an address of a server, what is lost there. Invariant: only
//! an object that alone decides for the whole host counts (one of its kind, an exact host, every rule with
//! destinations that are all known); what its rules match is not looked at, so that a loss is told only where
//! each destination alone is one.

use std::collections::{BTreeMap, BTreeSet};

use castoff_authz::path::{EnforcementPath, PrincipalSeen};
use castoff_authz::verdict::{self, Comparison, Finding, Verdict};
use serde_json::Value;

use super::addresses::DialledAddress;
use super::callers::{CallerClass, Member};
use super::fronts::Front;
use super::network::Party;
use super::question::{Question, representatives};
use super::row::PortAnswer;
use super::rows::Comparer;
use super::side::Side;
use super::{Caller, CallerMode, Content, Dial, Server, hops, wire};
use crate::mesh::routing::full_host;
use crate::mesh::{Mesh, Protocol, ServiceId, WorkloadId};
use crate::snapshot::{Kind, ObjectName};

/// A Service and the port of it that is named.
type Destination = (ServiceId, Option<u16>);

/// What one object makes of a Service's address.
#[derive(Debug)]
struct Diversion {
    destinations: BTreeSet<Destination>,
    /// Namespace of the object.
    namespace: String,
}

/// Diversions by Service.
#[derive(Debug, Default)]
pub(super) struct Diverted(BTreeMap<ServiceId, Diversion>);

impl Diverted {
    pub(super) fn of(mesh: &Mesh) -> Self {
        let mut all: BTreeMap<ServiceId, Vec<Option<Diversion>>> = BTreeMap::new();
        let by_host = |host: &str| {
            let mut labels = host.split('.');
            let name = (labels.next()?, labels.next()?);
            let (id, service) = mesh.service_named(&ObjectName::new(name.1, name.0))?;
            (service.host() == host).then_some(id)
        };
        let virtual_services = mesh.traffic.virtual_services.iter();
        for one in virtual_services.filter(|one| one.on_mesh) {
            let namespace = &one.name.namespace;
            let destinations =
                virtual_service(&one.raw, |host| by_host(&full_host(host, namespace)));
            for front in one.full_hosts.iter().filter_map(|host| by_host(host)) {
                let diversion = destinations.clone().map(|destinations| Diversion {
                    destinations,
                    namespace: namespace.to_string(),
                });
                all.entry(front).or_default().push(diversion);
            }
        }
        for route in &mesh.traffic.routes {
            let namespace = &route.name.namespace;
            let destinations = (route.kind == Kind::HttpRoute)
                .then(|| http_route(mesh, namespace, &route.raw))
                .flatten();
            for name in &route.parent_services {
                if let Some((front, _)) = mesh.service_named(name) {
                    let diversion = destinations.clone().map(|destinations| Diversion {
                        destinations,
                        namespace: namespace.to_string(),
                    });
                    all.entry(front).or_default().push(diversion);
                }
            }
        }
        let pods = |id: ServiceId| -> BTreeSet<WorkloadId> {
            let backends = mesh.service(id).backends.iter();
            backends.map(|one| one.workload).collect()
        };
        let alone = all.into_iter().filter_map(|(front, mut objects)| {
            let diversion = objects.pop().flatten().filter(|_| objects.is_empty())?;
            let own = pods(front);
            let mut others = diversion.destinations.iter().map(|(id, _)| pods(*id));
            let elsewhere = others.all(|pods| !pods.is_empty() && pods.is_disjoint(&own));
            (elsewhere && !mesh.service(front).headless).then_some((front, diversion))
        });
        Self(alone.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The destinations of a VirtualService that sends every HTTP request somewhere; `None` where that is not plain.
fn virtual_service(
    raw: &Value,
    service: impl Fn(&str) -> Option<ServiceId>,
) -> Option<BTreeSet<Destination>> {
    let spec = &raw["spec"];
    let exported = spec["exportTo"].as_array();
    if exported.is_some_and(|list| list.iter().any(|to| to != "*")) {
        return None;
    }
    let mut destinations = BTreeSet::new();
    for rule in spec["http"].as_array()? {
        for one in rule["route"].as_array()? {
            let destination = &one["destination"];
            let port = destination.pointer("/port/number");
            let port = port.map(|port| port.as_u64()?.try_into().ok());
            destinations.insert((service(destination["host"].as_str()?)?, port.flatten()));
        }
    }
    (!destinations.is_empty()).then_some(destinations)
}

/// The same of an HTTPRoute.
fn http_route(mesh: &Mesh, namespace: &str, raw: &Value) -> Option<BTreeSet<Destination>> {
    let spec = &raw["spec"];
    let mut parents = spec["parentRefs"].as_array()?.iter();
    if parents.any(|one| one.get("port").is_some() || one.get("sectionName").is_some()) {
        return None;
    }
    let mut destinations = BTreeSet::new();
    for rule in spec["rules"].as_array()? {
        for one in rule["backendRefs"].as_array()? {
            let namespace = one["namespace"].as_str().unwrap_or(namespace);
            let name = ObjectName::new(namespace, one["name"].as_str()?);
            let port = one["port"].as_u64().and_then(|port| port.try_into().ok());
            destinations.insert((mesh.service_named(&name)?.0, port));
        }
    }
    (!destinations.is_empty()).then_some(destinations)
}

impl Side<'_> {
    /// The paths that who dials this address really takes, one list a destination, where it leads to other pods
    /// alone.
    fn diverted_paths(
        &self,
        mode: CallerMode,
        sender: Party<'_>,
        dialled: &DialledAddress,
        content: Content,
    ) -> Option<Vec<Vec<EnforcementPath>>> {
        let Dial::Service { service: id, port } = dialled.dial else {
            return None;
        };
        let diversion = self.diverted.0.get(&id)?;
        let service = self.mesh.service(id);
        let http = matches!(
            service.ports[port].protocol,
            Protocol::Http | Protocol::Http2 | Protocol::Unknown
        );
        if !http || content != Content::Http {
            return None;
        }
        let caller = Caller {
            workload: None,
            mode,
            principal: (mode != CallerMode::Plain).then(String::new),
        };
        let waypoint = service.binding.waypoint().map(|id| self.mesh.waypoint(id));
        let by_waypoint = service.name.namespace == diversion.namespace
            || waypoint.is_some_and(|one| one.name.namespace == diversion.namespace);
        let front = Front::new(id, port, by_waypoint);
        let mut all = Vec::new();
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
        Some(all)
    }
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
            let old = (self.baseline).diverted_paths(class.before, party, was, content);
            let party = self.present.party(member, since);
            let new = (self.present).diverted_paths(class.now, party, is, content);
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
                vec![(self.present).paths(class.now, party, question.now, addresses, content)]
            };
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
                let breaks = verdict::compare(&comparison, self.limits).breaks;
                let lost = breaks != Finding::Never;
                first.get_or_insert((comparison.present, breaks));
                lost
            });
            let Some((present, breaks)) = first.filter(|_| lost) else {
                continue;
            };
            let now = self.present.mesh.workload(question.now.workload);
            answers.push(PortAnswer {
                port: question.now.port,
                generation: now.generations[question.now.generation].mode,
                content,
                callers: class.words,
                baseline,
                present,
                verdict: Verdict {
                    opens: Finding::Never,
                    breaks,
                },
                kind: None,
                member: None,
                known: false,
                told: Vec::new(),
                told_of_gain: Vec::new(),
            });
        }
        answers
    }
}
