//! Who may send one request to one Service, and which rule decides it: the everyday question.
//!
//! In: a mesh, a request in words, a Service. Out: one [`Answer`] for each caller, port and kind of
//! pods, those included to which a route of the Service leads. Invariant: the answer is the
//! evaluator's on the same paths that proofs use; what it cannot decide (an external authorizer, an
//! EnvoyFilter, an address that nobody knows) stays undecided. What would let a refused caller in is
//! the prover's, and was tried.

mod taken;
mod ways_in;
mod whence;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use castoff_authz::decision::Outcome;
use castoff_authz::path::{EnforcementPath, HttpSeen, IpSeen, PointKind, PrincipalSeen};
use castoff_authz::request::{Http, Request, Token};

use super::addresses::DialledAddress;
use super::network::{Party, Pods};
use super::past::{Leaves, Pasts};
use super::side::Side;
use super::{Caller, Content, Dial, Server, gateways, tell};
use crate::mesh::{DataPlaneMode, Mesh, Protocol, Role, ServiceId, WorkloadId, ingress};
use crate::snapshot::ObjectName;
use taken::{Taken, taken};
use whence::Settled;

/// What is sent: `GET /admin`, or a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// An HTTP request.
    Http {
        /// Method.
        method: String,
        /// Path, without the query.
        path: String,
        /// Host; `None`: the Service's.
        host: Option<String>,
        /// Headers by lower-case name.
        headers: BTreeMap<String, String>,
        /// A token that its issuer's rules find valid.
        token: Option<Token>,
    },
    /// A connection with bytes that are not HTTP.
    Connection,
}

impl Sent {
    /// Reads `GET /admin`; `connect` (any case) is a connection.
    ///
    /// # Errors
    /// A sentence that says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("connect") {
            return Ok(Self::Connection);
        }
        match text.split_once(' ') {
            Some((method, path)) if path.starts_with('/') && !method.is_empty() => {
                let path = path.split('?').next().unwrap_or(path);
                Ok(Self::Http {
                    method: method.to_owned(),
                    path: path.to_owned(),
                    host: None,
                    headers: BTreeMap::new(),
                    token: None,
                })
            }
            _ => Err(format!(
                "`{text}` is no request: write `GET /path`, or `connect` for a bare connection"
            )),
        }
    }

    /// The path that the proxies of a mesh take its path for, where it is another.
    pub fn taken_as(&self, mesh: &Mesh) -> Option<String> {
        match self.taken(mesh)? {
            (path, Taken::As(taken)) if taken != path => Some(taken),
            _ => None,
        }
    }

    /// Its path, and what proxies take it for.
    fn taken(&self, mesh: &Mesh) -> Option<(&str, Taken)> {
        match self {
            Self::Http { path, .. } => Some((path, taken(path, &mesh.settings.path_normalization))),
            Self::Connection => None,
        }
    }
}

/// What becomes of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum May {
    /// It gets through.
    Yes,
    /// It hangs on something that is not modelled.
    Undecided,
    /// It is refused.
    No,
}

/// The answer for one caller at one port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `namespace/name`, `any other identity` or `outsiders`.
    pub caller: String,
    /// Port of the Service.
    pub port: u16,
    /// The server's workload.
    pub server: ObjectName,
    /// Which of its pods.
    pub pods: DataPlaneMode,
    /// Whether a route of the Service leads there, which else would not.
    pub routed: bool,
    /// Whether it may.
    pub may: May,
    /// Where and by which rule it is decided.
    pub how: String,
    /// What would let a caller in who is refused: `with header hello: world`.
    pub may_with: Option<String>,
}

/// Asks for every caller (or the one named), sorted by answer, then caller.
pub fn who_can(
    mesh: &Mesh,
    sent: &Sent,
    service: ServiceId,
    from: Option<&ObjectName>,
) -> Vec<Answer> {
    let asker = Asker {
        side: Side::of(mesh),
        pasts: Pasts::of(mesh),
        sent,
        taken: sent.taken(mesh).map(|(_, taken)| taken),
        knows_identities: ingress::asks_for_identities(mesh),
    };
    let routed = asker.side.fronts.behind(service);
    let mut servers: BTreeSet<Server> = BTreeSet::new();
    for id in std::iter::once(service).chain(routed) {
        for backend in &mesh.service(id).backends {
            let ports = backend.target_ports.iter().flatten();
            servers.extend(ports.map(|port| Server {
                workload: backend.workload,
                generation: backend.generation,
                port: *port,
            }));
        }
    }
    let named = callers(mesh, from);
    let mut asked = Vec::new();
    for server in servers {
        let pods = mesh.workload(server.workload);
        for dialled in asker.side.addresses(server) {
            let Some((index, routed)) = way(&dialled, service) else {
                continue;
            };
            let port = &mesh.service(service).ports[index];
            if port.protocol == Protocol::Udp {
                continue;
            }
            for (name, caller, place) in &named {
                let question = asker.asked(caller, *place, &dialled, service, server);
                let Some((request, path, past)) = question else {
                    continue;
                };
                let addresses = whence::addresses(&path, &addresses_of(mesh, *place));
                let (may, how) = match whence::settle(&request, &path, &addresses) {
                    Settled::Alike(decision) => {
                        let may = match decision.outcome {
                            Outcome::Allow => May::Yes,
                            Outcome::Deny => May::No,
                            Outcome::Depends(_) => May::Undecided,
                        };
                        (may, tell::decision(&decision, &path))
                    }
                    Settled::Hangs(how) => (May::Undecided, how),
                };
                let onwards = if may != May::No && pods.role.is_gateway() {
                    "; where it leads on from there is not asked"
                } else {
                    ""
                };
                let answer = Answer {
                    caller: name.clone(),
                    port: port.port,
                    server: pods.name.clone(),
                    pods: pods.generations[server.generation].mode,
                    routed,
                    may,
                    how: how + &past + onwards,
                    may_with: None,
                };
                asked.push(Asked {
                    answer,
                    request,
                    path,
                    addresses,
                });
            }
        }
    }
    ways_in::find(&mut asked);
    let mut answers: Vec<Answer> = asked.into_iter().map(|one| one.answer).collect();
    answers.sort_by(|left, right| {
        (
            left.may,
            left.port,
            &left.server,
            left.pods,
            left.routed,
            &left.how,
            &left.may_with,
            &left.caller,
        )
            .cmp(&(
                right.may,
                right.port,
                &right.server,
                right.pods,
                right.routed,
                &right.how,
                &right.may_with,
                &right.caller,
            ))
    });
    answers.dedup();
    answers
}

/// The index of the Service's port by which an address is reached, and whether a route leads on from there;
/// none for addresses of others.
fn way(dialled: &DialledAddress, wanted: ServiceId) -> Option<(usize, bool)> {
    match (dialled.front, dialled.dial) {
        (Some(front), _) => (front.service == wanted).then_some((front.port, true)),
        (None, Dial::Service { service, port }) => (service == wanted).then_some((port, false)),
        (None, _) => None,
    }
}

/// An answer with what it rests on.
struct Asked {
    answer: Answer,
    request: Request,
    path: EnforcementPath,
    addresses: Vec<whence::Address>,
}

/// A caller with its name and its place, where it has pods.
type Named = (String, Caller, Option<(WorkloadId, usize)>);

/// The addresses of a caller's pods, as far as they are known.
fn addresses_of(mesh: &Mesh, place: Option<(WorkloadId, usize)>) -> Vec<IpAddr> {
    let pods = place.map(|(id, generation)| &mesh.workload(id).generations[generation].pods);
    let pods = pods.into_iter().flatten();
    pods.flat_map(|pod| pod.addresses.iter().copied()).collect()
}

fn callers(mesh: &Mesh, from: Option<&ObjectName>) -> Vec<Named> {
    let mut list: Vec<Named> = Vec::new();
    for (index, workload) in mesh.workloads.iter().enumerate() {
        let other = matches!(
            workload.role,
            Role::Waypoint(_) | Role::ControlPlane | Role::Ztunnel | Role::CniAgent
        );
        if other || from.is_some_and(|from| *from != workload.name) {
            continue;
        }
        for (generation, one) in workload.generations.iter().enumerate() {
            let mode = Caller::mode_of(&workload.role, one.mode);
            let id = WorkloadId(index);
            list.push((
                workload.name.to_string(),
                Caller::of(mesh, id, mode),
                Some((id, generation)),
            ));
        }
    }
    if from.is_none() {
        list.push(("outsiders".to_owned(), Caller::outsider(), None));
    }
    list
}

struct Asker<'a> {
    side: Side<'a>,
    pasts: Pasts<'a>,
    sent: &'a Sent,
    /// What the path is taken for.
    taken: Option<Taken>,
    /// Whether some gateway asks its callers for the mesh's certificates: sidecars send to all others in plaintext,
    /// since their pods have no label `security.istio.io/tlsMode` (istio
    /// manifests/charts/istio-control/istio-discovery/files/gateway-injection-template.yaml).
    knows_identities: bool,
}

impl Asker<'_> {
    /// The request of a caller, its way, and who takes it past the caller's sidecar; none where the caller follows no route to this address.
    fn asked(
        &self,
        caller: &Caller,
        place: Option<(WorkloadId, usize)>,
        dialled: &DialledAddress,
        service: ServiceId,
        server: Server,
    ) -> Option<(Request, EnforcementPath, String)> {
        let mesh = self.side.mesh;
        let content = match self.sent {
            Sent::Http { .. } => Content::Http,
            Sent::Connection => Content::Bytes,
        };
        let sender = match place {
            Some((id, generation)) => {
                let workload = mesh.workload(id);
                Party::Pods(Pods {
                    namespace: &workload.name.namespace,
                    labels: &workload.generations[generation].labels,
                    ports: &workload.ports,
                })
            }
            None => Party::Outside,
        };
        let past = place
            .map(|place| self.pasts.past(place))
            .unwrap_or_default();
        let mut path = (self.side).path((caller, &past), sender, server, dialled, content)?;
        if mesh.workload(server.workload).role.is_gateway() {
            let mut at_gateway = gateways::path(&self.side, server, content).points;
            if !self.knows_identities {
                for point in &mut at_gateway {
                    point.seen.principal = PrincipalSeen::None;
                }
            }
            path.points.extend(at_gateway);
        }
        if let Some(Taken::Unknown(by)) = &self.taken {
            not_read(&mut path, by);
        }
        let address = addresses_of(mesh, place).first().copied();
        let host = mesh.service(service).host();
        let request = self.request(caller, address, &host, &path);
        let is_past = self.side.leaves(&past, dialled, server) == Leaves::Past;
        let by = past.by().filter(|_| is_past);
        let by = by.map(|by| format!("; the caller's own sidecar does not see it or know its Service, so that it has no identity: {by}"));
        Some((request, path, by.unwrap_or_default()))
    }

    fn request(
        &self,
        caller: &Caller,
        address: Option<IpAddr>,
        host: &str,
        path: &EnforcementPath,
    ) -> Request {
        // Documentation addresses stand in where the cluster's are not known.
        let source_ip = address.unwrap_or(Ipv4Addr::new(192, 0, 2, 1).into());
        let stand_in: IpAddr = Ipv4Addr::new(192, 0, 2, 2).into();
        let surroundings: BTreeMap<String, IpAddr> = path
            .points
            .iter()
            .flat_map(|point| {
                [
                    &point.seen.source_ip,
                    &point.seen.remote_ip,
                    &point.seen.destination_ip,
                ]
            })
            .filter_map(|seen| match seen {
                IpSeen::Of { among, .. } => {
                    let address = among.first().copied().unwrap_or(stand_in);
                    Some((seen.choice()?, address))
                }
                _ => None,
            })
            .collect();
        Request {
            principal: caller.principal.clone(),
            source_ip,
            forwarded_ip: source_ip,
            destination_ip: stand_in,
            destination_port: path.address.port,
            sni: None,
            http: match self.sent {
                Sent::Http {
                    method,
                    path,
                    host: named,
                    headers,
                    token,
                } => Some(Http {
                    method: method.clone(),
                    path: match &self.taken {
                        Some(Taken::As(taken)) => taken.clone(),
                        _ => path.clone(),
                    },
                    host: named.clone().unwrap_or_else(|| host.to_owned()),
                    headers: headers.clone(),
                    token: token.clone(),
                }),
                Sent::Connection => None,
            },
            surroundings,
            answers: BTreeMap::new(),
        }
    }
}

/// Marks the proxies that read a path as seeing another one, not known.
fn not_read(path: &mut EnforcementPath, by: &str) {
    let points = path.points.iter_mut();
    let proxies = points.filter(|point| matches!(point.kind, PointKind::Envoy { .. }));
    for point in proxies.filter(|point| point.seen.http == HttpSeen::AsSent) {
        point.seen.http = HttpSeen::Rewritten {
            by: by.to_owned(),
            content: "".into(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_method_and_a_path() {
        let http = |method: &str, path: &str| {
            Ok(Sent::Http {
                method: method.into(),
                path: path.into(),
                host: None,
                headers: BTreeMap::new(),
                token: None,
            })
        };
        assert_eq!(Sent::parse("GET /admin?x=1"), http("GET", "/admin"));
        assert_eq!(Sent::parse("connect"), Ok(Sent::Connection));
        assert!(Sent::parse("/admin").is_err());
        assert!(Sent::parse("GET admin").is_err());
    }
}
