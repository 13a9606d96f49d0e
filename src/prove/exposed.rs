//! Servers that those outside the cluster can reach now and could not before: by a gateway that leads to them, or a
//! Service that was made a NodePort or a LoadBalancer.
//!
//! In: the two states of a [`Comparer`]. Out: answers and notes of a server's row. Invariant: whether a gateway is
//! let in is asked of the policies on its way, those at the gateway included; where hosts or paths decide what its
//! routes match, or its pods are not known, it is undecided.

use std::collections::BTreeSet;
use std::sync::Arc;

use castoff_authz::path::{Address, AddressKind, EnforcementPath, Point, PointKind, PrincipalSeen};
use castoff_authz::verdict::{self, Comparison, Finding};

use super::network::{Party, Pods};
use super::row::{PortAnswer, ServerRow};
use super::rows::{Comparer, service_address};
use super::side::Side;
use super::undeclared::ports_of;
use super::{Caller, CallerMode, Content, Dial, Server, gateways, hops, wire};
use crate::mesh::ingress::Entrance;
use crate::mesh::{ServiceId, WorkloadId};
use crate::snapshot::ObjectName;

const THROUGH_A_GATEWAY: &str = "outsiders, through a gateway";
const FROM_OUTSIDE: &str = "outsiders, from outside the cluster";

/// Services that are, or were, reached from outside the cluster.
pub(super) fn from_outside(sides: [&Side<'_>; 2]) -> BTreeSet<ObjectName> {
    let of_side = |side: &Side<'_>| {
        let services = side.mesh.services.iter().enumerate();
        let found = services.filter(|(index, service)| {
            service.exposed.is_some() || side.entrances.contains_key(&ServiceId(*index))
        });
        let names = found.map(|(_, service)| service.name.clone());
        names.collect::<BTreeSet<ObjectName>>()
    };
    sides.into_iter().flat_map(of_side).collect()
}

impl Comparer<'_> {
    /// Adds to a row who can get to the server from outside the cluster and could not before.
    pub(super) fn exposed(&self, row: &mut ServerRow, id: WorkloadId) {
        for (service_id, service) in self.present.mesh.services_of(id) {
            if !self.from_outside.contains(&service.name) {
                continue;
            }
            let before = self.baseline.mesh.service_named(&service.name);
            let was_exposed = before.and_then(|(_, service)| service.exposed.as_ref());
            let none = Default::default();
            let old = before.and_then(|(id, _)| self.baseline.entrances.get(&id));
            let old = old.unwrap_or(&none);
            let new = self.present.entrances.get(&service_id).unwrap_or(&none);
            let led_here = !old.is_empty() || was_exposed.is_some();
            for gone in old.keys().filter(|name| !new.contains_key(*name)) {
                row.notes.insert(format!(
                    "gateway {gone} leads no longer to Service {}",
                    service.name
                ));
            }
            for (name, entrance) in new {
                if let Some(known) = old.get(name) {
                    if entrance.has_other_listeners(known) {
                        let by_others = Entrance {
                            for_every_request: false,
                            ..entrance.clone()
                        };
                        self.by_gateway(row, (id, service_id), name, &by_others);
                    }
                } else if led_here {
                    row.notes.insert(format!(
                        "gateway {name} leads to Service {} now, which was reached from outside before",
                        service.name
                    ));
                } else {
                    self.by_gateway(row, (id, service_id), name, entrance);
                }
            }
            match (&service.exposed, was_exposed) {
                (Some(kind), None) if old.is_empty() => {
                    self.by_itself(row, (id, service_id), kind);
                }
                (Some(kind), None) => {
                    row.notes
                        .insert(format!("Service {} is {kind} now", service.name));
                }
                (None, Some(kind)) => {
                    row.notes
                        .insert(format!("Service {} is {kind} no longer", service.name));
                }
                _ => {}
            }
        }
    }

    /// Who comes through a gateway that leads to this Service now.
    fn by_gateway(
        &self,
        row: &mut ServerRow,
        (id, service_id): (WorkloadId, ServiceId),
        name: &ObjectName,
        entrance: &Entrance,
    ) {
        let mesh = self.present.mesh;
        let service = mesh.service(service_id);
        let caller = Caller {
            workload: None,
            mode: CallerMode::Gateway,
            principal: Some(String::new()),
        };
        // Where its pods are not known, neither is its identity.
        let mut gateways: Vec<Option<WorkloadId>> =
            entrance.workloads.iter().copied().map(Some).collect();
        if gateways.is_empty() {
            gateways.push(None);
        }
        for gateway in gateways {
            for (index, server) in self.servers_behind(id, service_id) {
                let dial = Dial::Service {
                    service: service_id,
                    port: index,
                };
                let content = Content::Http;
                let attachments = &self.present.attachments;
                let mut hops = hops(mesh, attachments, &caller, dial, server, content);
                let mut points = match gateway {
                    Some(id) => {
                        let gateway = Server {
                            workload: id,
                            generation: 0,
                            port: server.port,
                        };
                        gateways::path(&self.present, gateway, content).points
                    }
                    None => Vec::new(),
                };
                // The port that the gateway listens at is not looked up.
                let mut policies = points.iter().flat_map(|point| &point.policies);
                let by_port = policies.any(|policy| !ports_of(policy).is_empty());
                if by_port {
                    points.clear();
                }
                let party = match gateway.map(|id| mesh.workload(id)) {
                    Some(workload) => {
                        let principal = workload.principal(&mesh.settings.trust_domain);
                        for hop in &mut hops {
                            if hop.point.seen.principal == PrincipalSeen::Callers {
                                hop.point.seen.principal = PrincipalSeen::Fixed(principal.clone());
                            }
                        }
                        Party::Pods(Pods {
                            namespace: &workload.name.namespace,
                            labels: &workload.generations[0].labels,
                            ports: &workload.ports,
                        })
                    }
                    None => Party::Anybody,
                };
                points.extend(wire::points(
                    mesh,
                    &self.present.network,
                    party,
                    hops,
                    server,
                ));
                let alone = service.ports.len() == 1;
                if gateway.is_none() {
                    let why = format!("the pods of gateway {name}, which are not among the input");
                    points.push(opaque(&why, name));
                } else if by_port || !alone || !entrance.for_every_request {
                    let why = format!("which requests the routes of gateway {name} lead there");
                    points.push(opaque(&why, name));
                }
                let address = Address {
                    kind: AddressKind::Gateway,
                    name: name.to_string(),
                    port: service.ports[index].port,
                };
                let nowhere = format!("no route of it leads to Service {}", service.name);
                let paths = [
                    (stop(name, nowhere), &self.baseline.settings),
                    (points, &self.present.settings),
                ];
                let [before, now] = paths.map(|(points, settings)| EnforcementPath {
                    address: address.clone(),
                    in_use: true,
                    settings: Arc::clone(settings),
                    points,
                });
                let who = match gateway {
                    Some(_) => (THROUGH_A_GATEWAY, verdict::Caller::outsider()),
                    None => (THROUGH_A_GATEWAY, verdict::Caller::anybody()),
                };
                self.newly_exposed(row, server, content, who, before, now);
            }
        }
    }

    /// Who comes from outside the cluster to a Service that is exposed now.
    fn by_itself(
        &self,
        row: &mut ServerRow,
        (id, service_id): (WorkloadId, ServiceId),
        kind: &str,
    ) {
        let mesh = self.present.mesh;
        let service = mesh.service(service_id);
        for (index, server) in self.servers_behind(id, service_id) {
            let dial = Dial::Service {
                service: service_id,
                port: index,
            };
            for content in [Content::Http, Content::Bytes] {
                let attachments = &self.present.attachments;
                let hops = hops(
                    mesh,
                    attachments,
                    &Caller::outsider(),
                    dial,
                    server,
                    content,
                );
                let points =
                    wire::points(mesh, &self.present.network, Party::Outside, hops, server);
                let nowhere = format!("it was no {kind}");
                let paths = [
                    (stop(&service.name, nowhere), &self.baseline.settings),
                    (points, &self.present.settings),
                ];
                let [before, now] = paths.map(|(points, settings)| EnforcementPath {
                    address: service_address(&service.name, service.ports[index].port),
                    in_use: true,
                    settings: Arc::clone(settings),
                    points,
                });
                let who = (FROM_OUTSIDE, verdict::Caller::outsider());
                self.newly_exposed(row, server, content, who, before, now);
            }
        }
    }

    /// The pods of a workload behind the ports of a Service, with the index of the port.
    fn servers_behind(&self, id: WorkloadId, service: ServiceId) -> BTreeSet<(usize, Server)> {
        let backends = self.present.mesh.service(service).backends.iter();
        backends
            .filter(|backend| backend.workload == id)
            .flat_map(|backend| {
                let ports = backend.target_ports.iter().enumerate();
                ports.filter_map(|(index, port)| {
                    let server = Server {
                        workload: id,
                        generation: backend.generation,
                        port: (*port)?,
                    };
                    Some((index, server))
                })
            })
            .collect()
    }

    fn newly_exposed(
        &self,
        row: &mut ServerRow,
        server: Server,
        content: Content,
        (callers, caller): (&'static str, verdict::Caller),
        before: EnforcementPath,
        now: EnforcementPath,
    ) {
        row.compared += 1;
        let comparison = Comparison {
            caller,
            http: content == Content::Http,
            baseline: vec![before],
            present: vec![now],
        };
        let verdict = verdict::compare(&comparison, self.limits);
        if verdict.opens != Finding::Never {
            let workload = self.present.mesh.workload(server.workload);
            let pods = (server.port, workload.generations[server.generation].mode);
            let paths = [comparison.baseline, comparison.present];
            let answer = PortAnswer::new(pods, content, callers, paths, verdict);
            row.differences.push(answer);
        }
    }
}

fn stop(name: &ObjectName, reason: String) -> Vec<Point> {
    vec![Point::new(PointKind::Stop { reason }, &name.to_string())]
}

fn opaque(reason: &str, name: &ObjectName) -> Point {
    let kind = PointKind::Opaque {
        reason: reason.to_owned(),
        content: "".into(),
    };
    Point::new(kind, &name.to_string())
}
