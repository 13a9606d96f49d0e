//! Who is known to call where access is lost: why he counts, and what can be done for him.
//!
//! In: the losses of a [`ServerRow`], with the states of a [`Comparer`]. Out: sentences beside their witnesses. Invariant:
//! a verdict never changes here; of those who lose, the witness is rather somebody who is known to call; a way out is told
//! only where it exists for this caller, with what it costs.

use std::collections::{BTreeMap, BTreeSet};

use castoff_authz::decision::{Because, Decision, Outcome};
use castoff_authz::path::{Address, AddressKind, EnforcementPath, Point, PointKind, PrincipalSeen};
use castoff_authz::verdict::{self, Comparison, Finding, Identities, Witness};

use super::addresses::scraped_by_annotation;
use super::callers::{CallerClass, Member};
use super::question::representatives;
use super::row::{PortAnswer, ServerRow};
use super::rows::Comparer;
use super::{CallerMode, Content};
use crate::mesh::{Mesh, OwnerKind, Role, Service, Workload, WorkloadId};
use crate::snapshot::ObjectName;

/// Names of programs that scrape pods, as their charts and operators label them
/// (`app.kubernetes.io/name`, `app`) or their owners are called.
const SCRAPERS: [&str; 5] = [
    "prometheus",
    "prometheus-server",
    "vmagent",
    "grafana-agent",
    "alloy",
];

/// Members of the same families that scrape nothing.
const NO_SCRAPERS: [&str; 6] = [
    "operator",
    "exporter",
    "adapter",
    "pushgateway",
    "alertmanager",
    "webhook",
];

/// Names that are written out.
const MOST_NAMES: usize = 4;

/// Callers who are known to call in ways that a waypoint does not see.
#[derive(Debug, Default)]
pub(super) struct KnownCallers {
    /// Workloads that scrape, as far as names tell, by how they arrive.
    scrapers: BTreeMap<Arrival, Vec<Member>>,
    /// Workloads outside the mesh.
    outside: Vec<Member>,
}

/// How callers arrived, how they arrive, and who they are, in words.
pub(super) type Arrival = (CallerMode, CallerMode, &'static str);

/// How those of a class arrive.
pub(super) fn arrival(class: &CallerClass) -> Arrival {
    (class.before, class.now, class.words)
}

/// Whether those who arrive so had no identity and have none.
fn is_plain((before, now, _): Arrival) -> bool {
    before == CallerMode::Plain && now == CallerMode::Plain
}

/// A loss, and who suffers it.
struct Loss<'l> {
    witness: &'l Witness,
    answer: &'l PortAnswer,
    /// How the caller arrives now.
    now: CallerMode,
    server: (WorkloadId, WorkloadId),
    /// Those of the class who are known to call there; empty where the class says it all.
    callers: Vec<WorkloadId>,
    outsiders: bool,
    /// Whether workloads have these identities.
    of_workloads: bool,
    /// Who says that the port is scraped.
    scraped: Option<String>,
}

impl Comparer<'_> {
    /// Says of each loss of a row why the caller counts and what can be done for him.
    pub(super) fn explain_losses(&self, row: &mut ServerRow, server: (WorkloadId, WorkloadId)) {
        for answer in &mut row.differences {
            self.explain_gain(answer);
            let (Some(kind), Finding::Witness(witness)) = (answer.kind, &answer.verdict.breaks)
            else {
                continue;
            };
            let scraped = self.scraped(server.0, &witness.address);
            let first = (self.classes.iter())
                .find(|class| arrival(class) == kind)
                .and_then(|class| class.members.first());
            let outsiders = first == Some(&Member::Outsiders);
            let of_workloads = matches!(first, Some(Member::Workload { .. }));
            let plain = is_plain(kind);
            let known = match (scraped.is_some(), plain) {
                (true, _) => self.known().scrapers.get(&kind),
                (false, true) if !outsiders => Some(&self.known().outside),
                _ => None,
            };
            let mut members: Vec<&Member> = known.into_iter().flatten().collect();
            if let Some(asked) = &answer.member {
                members.retain(|member| self.are_admitted_alike(member, asked, answer, server));
            }
            let mut callers = workloads(&members);
            answer.known = !callers.is_empty();
            if scraped.is_some() && !plain && answer.known {
                let principals = self.principals(&callers);
                if let Some(found) = self.lost_by(answer, &principals) {
                    answer.verdict.breaks = found;
                } else {
                    answer.known = false;
                    callers.clear();
                }
            }
            let Finding::Witness(witness) = &answer.verdict.breaks else {
                continue;
            };
            let loss = Loss {
                witness,
                answer,
                now: kind.1,
                server,
                callers,
                outsiders,
                of_workloads,
                scraped,
            };
            let mut told: Vec<String> = self
                .why(&loss)
                .map(|why| format!("why it counts: {why}"))
                .into_iter()
                .collect();
            told.extend(
                self.ways_out(&loss)
                    .into_iter()
                    .map(|way| format!("way out: {way}")),
            );
            answer.told = told;
        }
    }

    /// Names the workloads outside the mesh that gain, whom nobody would think of.
    fn explain_gain(&self, answer: &mut PortAnswer) {
        let Some(kind) = answer.kind else { return };
        let Finding::Witness(witness) = &answer.verdict.opens else {
            return;
        };
        let outsiders = self.classes.iter().any(|class| {
            arrival(class) == kind && class.members.first() == Some(&Member::Outsiders)
        });
        if !is_plain(kind) || outsiders || answer.member.is_some() {
            return;
        }
        let by_rules = |decision: &Decision| {
            decision.deciding().is_some_and(|one| {
                matches!(
                    one.because,
                    Because::DeniedBy(_) | Because::NoAllowMatches { .. }
                )
            })
        };
        let by_rules = witness.before.iter().any(|(_, one)| by_rules(one));
        let callers = workloads(&self.known().outside.iter().collect::<Vec<_>>());
        if callers.is_empty() {
            return;
        }
        let who = names(self.present.mesh, &callers);
        let why = format!("why it counts: {}", outside_the_mesh(&who, callers.len()));
        answer.told_of_gain = vec![why];
        if by_rules {
            answer.told_of_gain.push(format!(
                "way out: take {who} into the mesh (label `istio.io/dataplane-mode: ambient`): what comes without identity \
                 can then be closed at ztunnel altogether"
            ));
        }
    }

    /// Whether NetworkPolicies treat a member as the one that was asked for.
    fn are_admitted_alike(
        &self,
        member: &Member,
        asked: &Member,
        answer: &PortAnswer,
        (before, now): (WorkloadId, WorkloadId),
    ) -> bool {
        let server = |workload, generation| super::Server {
            workload,
            generation,
            port: answer.port,
        };
        let admitted = |member: &Member| {
            let (then, since) = member.places();
            let baseline =
                (0..self.baseline.mesh.workload(before).generations.len()).map(|index| {
                    let party = self.baseline.party(member, then);
                    self.baseline.admitted(party, server(before, index))
                });
            let present = (0..self.present.mesh.workload(now).generations.len()).map(|index| {
                let party = self.present.party(member, since);
                self.present.admitted(party, server(now, index))
            });
            baseline.chain(present).collect::<Vec<_>>()
        };
        member == asked || admitted(member) == admitted(asked)
    }

    /// Who says that a pod's port is scraped.
    fn scraped(&self, server: WorkloadId, address: &Address) -> Option<String> {
        if address.kind != AddressKind::Pod {
            return None;
        }
        let workload = self.baseline.mesh.workload(server);
        let port = address.port;
        workload.scraped.get(&port).map_or_else(
            || {
                (scraped_by_annotation(workload) == Some(port)).then(|| {
                    format!(
                        "annotations prometheus.io/scrape and prometheus.io/port of {}",
                        workload.name
                    )
                })
            },
            |monitor| Some(monitor.to_string()),
        )
    }

    /// Who is known to call in ways of his own, looked for once.
    fn known(&self) -> &KnownCallers {
        self.known.get_or_init(|| {
            let mesh = self.present.mesh;
            let mut found = KnownCallers::default();
            for class in &self.classes {
                let outside = is_plain(arrival(class));
                for member in &class.members {
                    let Some((id, _)) = member.places().1 else {
                        continue;
                    };
                    if scrapes(mesh.workload(id)) {
                        let scrapers = found.scrapers.entry(arrival(class)).or_default();
                        scrapers.push(member.clone());
                    }
                    if outside {
                        found.outside.push(member.clone());
                    }
                }
            }
            found
        })
    }

    fn principals(&self, workloads: &[WorkloadId]) -> Vec<String> {
        let mesh = self.present.mesh;
        let all = workloads
            .iter()
            .map(|id| mesh.workload(*id).principal(&mesh.settings.trust_domain));
        let sorted: BTreeSet<String> = all.collect();
        sorted.into_iter().collect()
    }

    /// The loss of one of these identities; `None` where none of them loses.
    fn lost_by(&self, answer: &PortAnswer, principals: &[String]) -> Option<Finding> {
        let identities = Identities::Only(principals.to_vec());
        let comparison = Comparison {
            caller: verdict::Caller {
                identity: representatives(&identities, &answer.baseline, &answer.present),
                addresses: Vec::new(),
            },
            http: answer.content == Content::Http,
            baseline: answer.baseline.clone(),
            present: answer.present.clone(),
        };
        let breaks = verdict::compare(&comparison, self.limits).breaks;
        matches!(breaks, Finding::Witness(_)).then_some(breaks)
    }

    /// Which object it is that makes this caller one who is known to call.
    fn why(&self, loss: &Loss<'_>) -> Option<String> {
        let mesh = self.baseline.mesh;
        let address = &loss.witness.address;
        let service = dialled(mesh, address);
        let outside = loss.now == CallerMode::Plain && !loss.outsiders && !loss.callers.is_empty();
        let who = || names(self.present.mesh, &loss.callers);
        if let Some(by) = &loss.scraped {
            let port = address.port;
            let scraper = match loss.callers.as_slice() {
                [] => "nobody who calls so is by his name the one that scrapes it".to_owned(),
                _ if outside => format!("by its name {} does so, from outside the mesh", who()),
                _ => format!("by its name {} does so", who()),
            };
            return Some(format!("port {port} is scraped ({by}); {scraper}"));
        }
        if outside {
            return Some(outside_the_mesh(&who(), loss.callers.len()));
        }
        if loss.outsiders {
            let kind = service.and_then(|service| service.exposed.as_ref())?;
            let name = &address.name;
            return Some(match kind.as_str() {
                "externalIPs" => {
                    format!(
                        "Service {name} has spec.externalIPs: it is there for callers from outside the cluster"
                    )
                }
                kind => format!(
                    "Service {name} is of type {kind}: it is there for callers from outside the cluster"
                ),
            });
        }
        if loss.now == CallerMode::Gateway {
            let (id, _) = mesh.service_named(&name_of(address)?)?;
            let gateways: Vec<String> = (self.baseline.entrances.get(&id)?.keys())
                .map(ToString::to_string)
                .collect();
            return Some(format!(
                "gateway {} leads to Service {}",
                gateways.join(" and "),
                address.name
            ));
        }
        let workload = mesh.workload(loss.server.0);
        let headless = mesh.services_of(loss.server.0).map(|(_, service)| service);
        let headless = headless.into_iter().find(|one| one.headless);
        let of_pods = address.kind == AddressKind::Pod || service.is_some_and(|one| one.headless);
        match headless {
            Some(headless) if of_pods => Some(format!(
                "Service {} is headless, so that its clients dial pods{}",
                headless.name,
                match workload.owner {
                    OwnerKind::StatefulSet =>
                        format!("; those of StatefulSet {} dial one another", workload.name),
                    _ => String::new(),
                }
            )),
            None if address.kind == AddressKind::Pod => Some(format!(
                "nothing but pod addresses leads to {} of {}",
                super::tell::port(address.port),
                workload.name
            )),
            _ => None,
        }
    }

    /// What can be done, each with what it gains and what it costs.
    fn ways_out(&self, loss: &Loss<'_>) -> Vec<String> {
        let Some(refusal) = refusal(loss) else {
            return Vec::new();
        };
        let mesh = self.present.mesh;
        let workload = mesh.workload(loss.server.1);
        let by_identity = matches!(refusal.1.because, Because::IdentityRequired);
        if by_identity && workload.owner == OwnerKind::StatefulSet {
            return vec![format!(
                "let no old pod run beside a new one: scale StatefulSet {} to 0, move it, scale it up again; it is down \
                 that long, and what holds after that `castoff verify` tells",
                workload.name
            )];
        }
        let by_ztunnel = refusal.0.kind == PointKind::Ztunnel
            && matches!(refusal.1.because, Because::NoAllowMatches { .. });
        if !by_ztunnel {
            return Vec::new();
        }
        if loss.outsiders {
            return self.ways_of_outsiders(loss);
        }
        match &loss.witness.request.principal {
            None => self.ways_of_those_outside_the_mesh(loss),
            Some(_) if !loss.of_workloads => Vec::new(),
            Some(principal) => {
                let address = &loss.witness.address;
                let headless = dialled(mesh, address).is_some_and(|service| service.headless);
                if address.kind != AddressKind::Pod && !headless {
                    return Vec::new();
                }
                let seen = refusal.0.seen.principal == PrincipalSeen::Callers;
                self.ways_by_identity(loss, principal, seen)
            }
        }
    }

    fn ways_by_identity(&self, loss: &Loss<'_>, principal: &str, seen: bool) -> Vec<String> {
        let port = super::tell::port(loss.answer.port);
        let unknown = loss.scraped.is_some() && loss.callers.is_empty();
        let principal = if unknown {
            "the principal of whoever scrapes".to_owned()
        } else {
            format!("principal {principal}")
        };
        let exception = format!(
            "an ALLOW policy on these pods for {principal} at {port}: nobody else gets in, and it may send whatever it \
             likes there"
        );
        let mut ways = vec![if seen {
            exception
        } else {
            format!(
                "move it first, then {exception}; until then its sidecar shows no identity to pod addresses"
            )
        }];
        if loss.scraped.is_none() || unknown {
            ways.extend(self.service_instead(loss));
        }
        ways.extend(self.waypoint_for_all(loss, ""));
        ways
    }

    fn ways_of_those_outside_the_mesh(&self, loss: &Loss<'_>) -> Vec<String> {
        let mesh = self.present.mesh;
        let port = super::tell::port(loss.answer.port);
        let mut ways = Vec::new();
        let movable: Vec<WorkloadId> = (loss.callers.iter().copied())
            .filter(|id| !mesh.workload(*id).host_network)
            .collect();
        if !movable.is_empty() {
            let who = names(mesh, &movable);
            let principals = self.principals(&movable).join(" and ");
            if loss.witness.address.kind == AddressKind::Pod {
                ways.push(format!(
                    "take {who} into the mesh (label `istio.io/dataplane-mode: ambient`), with an ALLOW policy on these \
                     pods for principal {principals} at {port}: nobody else gets in, and it may send whatever it likes \
                     there"
                ));
                ways.extend(
                    self.waypoint_for_all(loss, &format!("take {who} into the mesh, and ")),
                );
            } else if dialled(mesh, &loss.witness.address)
                .is_some_and(|service| service.binding.waypoint().is_some())
            {
                ways.push(format!(
                    "take {who} into the mesh (label `istio.io/dataplane-mode: ambient`): the waypoint decides of its \
                     requests as before, as those of {principals}, which policies by identity then apply to"
                ));
            }
        }
        ways.push(format!(
            "an ALLOW policy on these pods at {port} with the addresses that it calls from (`ipBlocks`): nothing changes \
             for it; whoever has such an address may send whatever he likes there, and addresses of pods change"
        ));
        ways
    }

    fn ways_of_outsiders(&self, loss: &Loss<'_>) -> Vec<String> {
        let port = super::tell::port(loss.answer.port);
        let address = &loss.witness.address;
        let mut ways = Vec::new();
        if dialled(self.present.mesh, address).is_some_and(Service::has_virtual_address) {
            ways.push(format!(
                "let them come through an ingress gateway that sends to Service {name}, with the label \
                 `istio.io/ingress-use-waypoint: \"true\"` on it: the waypoint decides of their requests as before; they \
                 must dial the gateway, and policies see its identity and address",
                name = address.name
            ));
        }
        ways.push(format!(
            "an ALLOW policy on these pods at {port} with the addresses that they come from (`ipBlocks`; those of nodes, \
             where spec.externalTrafficPolicy is not Local): nothing changes for them; whoever has such an address may \
             send whatever he likes there"
        ));
        if address.kind == AddressKind::Service {
            ways.push(format!(
                "if nobody calls from outside the cluster, make Service {} one of type ClusterIP first: nobody inside \
                 loses by it",
                address.name
            ));
        }
        ways
    }

    /// A Service with an address that leads to the same port.
    fn service_instead(&self, loss: &Loss<'_>) -> Option<String> {
        let mesh = self.present.mesh;
        let (service, port) = mesh.services_of(loss.server.1).find_map(|(_, service)| {
            let backends = service.backends.iter();
            let mut own = backends.filter(|one| one.workload == loss.server.1);
            let index = own.find_map(|backend| {
                let mut targets = backend.target_ports.iter();
                targets.position(|target| *target == Some(loss.answer.port))
            })?;
            service
                .has_virtual_address()
                .then(|| (&service.name, service.ports[index].port))
        })?;
        Some(format!(
            "let it dial Service {service}:{port}, whose waypoint decides as before once it is ambient: nobody gains; it \
             no longer chooses the pod"
        ))
    }

    /// The waypoint for pod addresses, where a Service of the pods has one.
    fn waypoint_for_all(&self, loss: &Loss<'_>, first: &str) -> Option<String> {
        let mesh = self.present.mesh;
        let waypoint = mesh
            .services_of(loss.server.1)
            .find_map(|(_, service)| service.binding.waypoint())?;
        Some(format!(
            "{first}label the waypoint {} `istio.io/waypoint-for: all`, enrol the pods in it (`istio.io/use-waypoint`) and \
             target the policies at the Gateway, for pod ports: requests are checked as before; only ambient callers \
             come that way, and policies at the Gateway apply to all that it serves",
            mesh.waypoint(waypoint).name
        ))
    }
}

/// Where the request is refused now, at the witness's own address; `None` where it was not accepted there
/// before.
fn refusal<'l>(loss: &Loss<'l>) -> Option<(&'l Point, &'l castoff_authz::decision::PointDecision)> {
    let Loss {
        witness, answer, ..
    } = loss;
    let there =
        |path: Option<&EnforcementPath>| path.is_some_and(|it| it.address == witness.address);
    let was_allowed = witness.before.iter().any(|(index, decision)| {
        there(answer.baseline.get(*index)) && decision.outcome == Outcome::Allow
    });
    let refused = |decision: &Decision| decision.outcome == Outcome::Deny;
    let (index, decision) = (witness.after.iter())
        .find(|(index, decision)| there(answer.present.get(*index)) && refused(decision))?;
    let deciding = decision.deciding()?;
    let point = answer.present.get(*index)?.points.get(deciding.point)?;
    was_allowed.then_some((point, deciding))
}

fn outside_the_mesh(who: &str, count: usize) -> String {
    let run = if count == 1 { "runs" } else { "run" };
    format!("{who} {run} outside the mesh, and whoever does may call any server")
}

fn scrapes(workload: &Workload) -> bool {
    let labels = &workload.template_labels;
    let named = ["app.kubernetes.io/name", "app"]
        .iter()
        .filter_map(|key| labels.get(key))
        .any(|value| SCRAPERS.contains(&value));
    let name = workload.name.name.as_str();
    let of_family = named || SCRAPERS.iter().any(|one| name.starts_with(one));
    workload.role == Role::Application
        && of_family
        && !NO_SCRAPERS.iter().any(|other| name.contains(other))
}

fn workloads(members: &[&Member]) -> Vec<WorkloadId> {
    let places = members.iter().filter_map(|member| member.places().1);
    let sorted: BTreeSet<WorkloadId> = places.map(|(id, _)| id).collect();
    sorted.into_iter().collect()
}

fn names(mesh: &Mesh, workloads: &[WorkloadId]) -> String {
    let mut names: Vec<String> = (workloads.iter().take(MOST_NAMES))
        .map(|id| mesh.workload(*id).name.to_string())
        .collect();
    match workloads.len() - names.len() {
        0 => {}
        more => names.push(format!("{more} more")),
    }
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

fn name_of(address: &Address) -> Option<ObjectName> {
    let (namespace, name) = address.name.split_once('/')?;
    (address.kind == AddressKind::Service).then(|| ObjectName::new(namespace, name))
}

/// The Service whose address it is.
fn dialled<'m>(mesh: &'m Mesh, address: &Address) -> Option<&'m Service> {
    let (_, service) = mesh.service_named(&name_of(address)?)?;
    Some(service)
}
