//! What one request loses at a Service's address that leads elsewhere.
//!
//! In: what is asked of a server, and where its routes lead. Out: whether it is lost. It is asked of each end by the plain
//! evaluator.

use std::sync::Arc;

use castoff::mesh::{Distribution, ServiceId};
use castoff::prove::{CallerMode, Content, Dial, Server, hops, wire};
use castoff_authz::decision::Outcome;
use castoff_authz::eval::evaluate;
use castoff_authz::path::{Address, AddressKind, EnforcementPath};
use castoff_authz::request::Request;

use super::{Asked, Call, Sender, Side};
use crate::led::{self, End, From};
use crate::routed::ByWaypoint;

impl<'a> Side<'a> {
    /// The paths to an end of a route from a Service; `None` where it is not known who answers.
    fn to_end(
        &self,
        (call, sender): &(Call, Sender),
        (front, port): (ServiceId, usize),
        (id, index): (ServiceId, usize),
        content: Content,
    ) -> Option<Vec<EnforcementPath>> {
        let mode = call.caller.mode;
        let service = self.mesh.service(front);
        let past_sidecar =
            mode != CallerMode::Sidecar || self.mesh.distribution == Distribution::Solo;
        let has_waypoint = service.binding.waypoint().is_some() && !service.headless;
        let by_waypoint = past_sidecar && has_waypoint;
        let (service, port) = if by_waypoint {
            (front, port)
        } else {
            (id, index)
        };
        let dial = Dial::Service { service, port };
        let backends = &self.mesh.service(id).backends;
        let servers = backends.iter().filter_map(|backend| {
            Some(Server {
                workload: backend.workload,
                generation: backend.generation,
                port: backend.target_ports.get(index).copied().flatten()?,
            })
        });
        let paths = servers.map(|server| {
            let hops = hops(
                self.mesh,
                &self.attachments,
                &call.caller,
                dial,
                server,
                content,
            );
            EnforcementPath {
                address: Address {
                    kind: AddressKind::Service,
                    name: "the end of a route".to_owned(),
                    port: 0,
                },
                in_use: true,
                settings: Arc::clone(&self.settings),
                points: wire::points(self.mesh, &self.network, self.party(sender), hops, server),
            }
        });
        let paths: Vec<EnforcementPath> = paths.collect();
        (!paths.is_empty()).then_some(paths)
    }

    fn from(&self, (call, sender): &(Call, Sender)) -> From<'a> {
        let pods = match sender {
            Sender::Workload(id, generation) => {
                let workload = self.mesh.workload(*id);
                let namespace = workload.name.namespace.as_str();
                Some((namespace, &workload.generations[*generation]))
            }
            Sender::Nowhere | Sender::Outside => None,
        };
        let mode = call.caller.mode;
        From { mode, pods }
    }
}

impl Asked<'_> {
    pub(super) fn has_routes(&self) -> bool {
        let mut traffic = self.sides.iter().map(|side| &side.mesh.traffic);
        traffic.any(|one| !one.virtual_services.is_empty() || !one.routes.is_empty())
    }

    fn call(&self, when: usize) -> &(Call, Sender) {
        [&self.pair.before, &self.pair.now][when]
    }

    /// Whether a waypoint leads this request on to a server's Service, as far as that is known.
    pub(super) fn is_led(&self, when: usize, led: Option<ByWaypoint>, request: &Request) -> bool {
        let Some((front, behind)) = led else {
            return true;
        };
        let side = self.sides[when];
        let from = side.from(self.call(when));
        let ends = led::ends(side.mesh, from, front, self.content, request);
        let is_behind = |end: &End| matches!(end, End::Service(id, _) if *id == behind);
        ends.is_none_or(|ends| ends.iter().any(is_behind))
    }

    /// Whether some Service's address of this server, in use, leads to where a request is refused that was accepted:
    /// by all that may answer now where one accepted, by one where all did.
    pub(super) fn is_lost_elsewhere(&self, request: &Request) -> bool {
        if !self.has_routes() {
            return false;
        }
        let in_use = self.services[0].iter().filter(|(_, in_use, _)| *in_use);
        in_use.clone().any(|(address, _, was)| {
            let mut now = self.services[1].iter();
            let Some((_, _, is)) = now.find(|(other, ..)| other == address) else {
                return false;
            };
            let ends = [(0, *was), (1, *is)].map(|(when, at)| {
                let side = self.sides[when];
                led::ends(
                    side.mesh,
                    side.from(self.call(when)),
                    at,
                    self.content,
                    request,
                )
            });
            if ends.iter().all(|ends| *ends == Some(vec![End::Own])) {
                return false;
            }
            let outcomes = |when: usize, at: (ServiceId, usize)| -> Option<Vec<Outcome>> {
                let own = [&self.before[..], &self.now[..self.own]][when];
                let request = self.call(when).0.sends(request);
                let mut outcomes = Vec::new();
                for end in ends[when].as_ref()? {
                    match end {
                        End::Nobody => outcomes.push(Outcome::Deny),
                        End::Own => {
                            let path = own.iter().find(|path| path.address == *address)?;
                            outcomes.push(evaluate(&request, path).outcome);
                        }
                        End::Service(id, port) => {
                            let end = (*id, *port);
                            let call = self.call(when);
                            let paths = self.sides[when].to_end(call, at, end, self.content)?;
                            outcomes
                                .extend(paths.iter().map(|path| evaluate(&request, path).outcome));
                        }
                    }
                }
                Some(outcomes)
            };
            let (Some(before), Some(now)) = (outcomes(0, *was), outcomes(1, *is)) else {
                return false;
            };
            let is = |wanted: Outcome| move |outcome: &Outcome| *outcome == wanted;
            let (allowed, denied) = (is(Outcome::Allow), is(Outcome::Deny));
            (before.iter().any(&allowed) && now.iter().all(&denied))
                || (before.iter().all(&allowed) && now.iter().any(&denied))
        })
    }
}
