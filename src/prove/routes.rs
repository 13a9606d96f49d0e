//! What one VirtualService or route of the Gateway API says of a port of a Service.
//!
//! In: the object, and who follows it. Out: its [`Branch`]es, in the order in which a proxy asks them. Invariant: what a
//! proxy knows beforehand (ports, labels, namespaces, gateways) is decided here; of requests a branch says which it
//! takes.

use std::collections::BTreeSet;

use castoff_authz::policy::Rule;
use serde_json::Value;

use super::Content;
use super::past::Past;
use super::pins::selects;
use super::taken::{self, Taken};
use crate::mesh::routing::full_host;
use crate::mesh::traffic::{Route, VirtualService};
use crate::mesh::{Backend, Generation, Mesh, Protocol, Service, ServiceId};
use crate::snapshot::{Kind, Labels, ObjectName};

/// What is led somewhere: each has routes of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Led {
    /// Requests.
    Requests,
    /// Connections.
    Connections,
    /// The same with TLS of the caller's own.
    Tls,
}

impl Led {
    /// What a port's routes are asked for.
    pub(super) fn of(service: &Service, port: usize, content: Content) -> Option<Self> {
        match (service.ports[port].protocol, content) {
            (Protocol::Http | Protocol::Http2 | Protocol::Unknown, Content::Http) => {
                Some(Self::Requests)
            }
            (Protocol::Tcp, _) | (Protocol::Unknown, Content::Bytes) => Some(Self::Connections),
            (Protocol::Tls, _) => Some(Self::Tls),
            (Protocol::Http | Protocol::Http2, Content::Bytes) | (Protocol::Udp, _) => None,
        }
    }
}

/// Who follows routes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Follower<'a> {
    /// The sidecar of pods in a namespace, `None`: of whomever; and what goes past it.
    Sidecar(Option<(&'a str, &'a Generation)>, &'a Past),
    /// A waypoint in a namespace.
    Waypoint(&'a str),
}

/// Where some requests are led.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Branch {
    /// Whose routes.
    pub(super) object: String,
    pub(super) taken: Taken,
    /// Any of these may be chosen.
    pub(super) targets: BTreeSet<Target>,
}

/// One end of a route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// The pods of the Service itself, at the port dialled.
    Own,
    /// A port of a Service, by index.
    Service(ServiceId, usize),
    /// The proxy answers with an error.
    Nobody(String),
    /// It is not known.
    Unclear {
        reason: String,
        content: String,
        /// Where it may lead besides.
        among: BTreeSet<(ServiceId, usize)>,
    },
}

/// A port of a Service whose routes are looked at.
#[derive(Clone, Copy)]
pub(super) struct At<'m> {
    pub(super) mesh: &'m Mesh,
    pub(super) id: ServiceId,
    pub(super) service: &'m Service,
    pub(super) port: usize,
}

/// Rules in the order in which they are asked, up to the first that takes all that is left. What none takes has `rest`.
pub(super) fn chain(
    object: &str,
    entries: impl Iterator<Item = (Vec<Option<Rule>>, BTreeSet<Target>)>,
    rest: &Target,
) -> Option<Vec<Branch>> {
    let mut branches = Vec::new();
    let mut none: Vec<Rule> = Vec::new();
    let branch = |some, none: &[Rule], targets| Branch {
        object: object.to_owned(),
        taken: Taken {
            some,
            none: none.to_vec(),
        },
        targets,
    };
    for (alternatives, targets) in entries {
        if alternatives.is_empty() {
            continue;
        }
        let Some(some) = alternatives.into_iter().collect::<Option<Vec<Rule>>>() else {
            branches.push(branch(Vec::new(), &none, targets));
            return Some(branches);
        };
        branches.push(branch(some.clone(), &none, targets));
        none.extend(some);
    }
    if branches.is_empty() {
        return None;
    }
    branches.push(branch(Vec::new(), &none, [rest.clone()].into()));
    Some(branches)
}

impl<'m> At<'m> {
    /// What a VirtualService says; `None`: nothing.
    pub(super) fn of_virtual_service(
        self,
        one: &VirtualService,
        led: Led,
        follower: Follower<'_>,
    ) -> Option<Vec<Branch>> {
        let object = format!("VirtualService {}", one.name);
        let spec = &one.merged["spec"];
        let by_waypoint = matches!(follower, Follower::Waypoint(_));
        let asked = |rule: &Value, read: &dyn Fn(&Value) -> Option<Option<Rule>>| {
            let matches = list(&rule["match"]);
            let kept = matches.iter().filter(|one| self.is_for(one, led, follower));
            match matches {
                [] => vec![None],
                _ => kept.filter_map(read).collect(),
            }
        };
        let of = |field: &str, read: &dyn Fn(&Value) -> Option<Option<Rule>>| {
            let rules = list(&spec[field]).iter();
            // Without destination it is passed over, but for requests.
            let rules = rules.filter(|rule| field == "http" || !list(&rule["route"]).is_empty());
            let entries = rules.map(|rule| (asked(rule, read), self.of_rule(one, rule)));
            entries.collect::<Vec<_>>()
        };
        let host = self.service.host();
        let by_subnet = |one: &Value| {
            let subnets = &one["destinationSubnets"];
            // A waypoint does not look at them.
            let asks = !by_waypoint && !list(subnets).is_empty();
            asks.then(|| taken::not_known("destinationSubnets", subnets))
        };
        let by_name = |one: &Value| {
            let names = list(&one["sniHosts"]);
            let is_host = |name: &Value| name == "*" || *name == host.as_str();
            match names {
                // A waypoint knows the Service's own name alone (`getTLSRouteMatch`).
                [name] if by_waypoint => (*name == host.as_str()).then_some(None),
                _ if by_waypoint => None,
                names if names.iter().any(is_host) => Some(by_subnet(one)),
                _ => Some(Some(taken::not_known("sniHosts", &one["sniHosts"]))),
            }
        };
        match led {
            Led::Requests => {
                let rest = Target::Nobody(format!("no route of {object} takes it"));
                let entries = of("http", &|one| Some(taken::http(one)));
                chain(&object, entries.into_iter(), &rest)
            }
            // A rule without match, or with one that asks for no more than the port, is the last
            // (istio pilot/pkg/networking/core/tls.go `buildSidecarOutboundTCPFilterChainOpts`).
            Led::Connections | Led::Tls if by_waypoint => {
                let mut entries = of("tls", &by_name);
                entries.extend(of("tcp", &|one| Some(by_subnet(one))));
                chain(&object, entries.into_iter(), &Target::Own)
            }
            Led::Connections => {
                let entries = of("tcp", &|one| Some(by_subnet(one)));
                chain(&object, entries.into_iter(), &Target::Own)
            }
            // What no rule matches is refused (`buildSidecarOutboundTLSFilterChainOpts`).
            Led::Tls => {
                let entries = of("tls", &by_name);
                let rest = Target::Nobody(format!("no route of {object} takes it"));
                chain(&object, entries.into_iter(), &rest)
            }
        }
    }

    /// Whether a match is for this port and for whom follows it, as far as that is known beforehand
    /// (istio pilot/pkg/networking/core/route/route.go `sourceMatchHTTP`, core/tls.go `matchTCP`; a waypoint passes over
    /// what asks for labels, listener_waypoint.go `waypointInboundRoute`).
    fn is_for(self, one: &Value, led: Led, follower: Follower<'_>) -> bool {
        let number = u64::from(self.service.ports[self.port].port);
        let port = one["port"].as_u64().unwrap_or_default();
        if port != 0 && port != number {
            return false;
        }
        let labels = one["sourceLabels"]
            .as_object()
            .filter(|all| !all.is_empty());
        let of_labels = |labels: &serde_json::Map<String, Value>| {
            let Follower::Sidecar(Some((_, pods)), _) = follower else {
                return false;
            };
            let wanted = labels
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()));
            selects(&wanted.collect::<Labels>(), pods)
        };
        let has_labels = labels.is_none_or(of_labels);
        let namespace = one["sourceNamespace"]
            .as_str()
            .filter(|one| !one.is_empty());
        let in_namespace = namespace.is_none_or(|wanted| match follower {
            Follower::Sidecar(pods, _) => pods.is_some_and(|(namespace, _)| namespace == wanted),
            Follower::Waypoint(own) => led == Led::Requests && own == wanted,
        });
        let gateways = list(&one["gateways"]);
        let on_mesh = gateways.iter().any(|one| one == "mesh");
        match (led, follower) {
            (Led::Requests, Follower::Waypoint(_)) if labels.is_some() => false,
            (Led::Requests, _) if !gateways.is_empty() => on_mesh,
            _ => (gateways.is_empty() || on_mesh) && has_labels && in_namespace,
        }
    }

    /// Where a rule of a VirtualService leads.
    pub(super) fn of_rule(self, one: &VirtualService, rule: &Value) -> BTreeSet<Target> {
        let routes = list(&rule["route"]);
        let has_weights = routes
            .iter()
            .any(|route| route["weight"].as_u64() > Some(0));
        // Nothing goes to a weight of nought, where others have one
        // (istio pilot/pkg/networking/core/route/route.go `applyHTTPRouteDestination`).
        let routes = routes.iter();
        let taken = routes.filter(|route| !has_weights || route["weight"].as_u64() > Some(0));
        let mut targets: BTreeSet<Target> = taken
            .map(|route| {
                let destination = &route["destination"];
                let number = destination.pointer("/port/number").and_then(Value::as_u64);
                let host = destination["host"].as_str().unwrap_or_default();
                self.target(&full_host(host, &one.name.namespace), number)
            })
            .collect();
        if let Some(what) = apart(rule) {
            let mut said = rule.clone();
            if let Some(fields) = said.as_object_mut() {
                fields.remove("match");
            }
            let among = targets.iter().filter_map(|target| match target {
                Target::Service(id, port) => Some((*id, *port)),
                _ => None,
            });
            let unclear = Target::Unclear {
                reason: format!("VirtualService {} {what}", one.name),
                content: said.to_string(),
                among: among.collect(),
            };
            return [unclear].into();
        }
        if targets.is_empty() {
            targets.insert(Target::Nobody(format!(
                "a route of VirtualService {} leads nowhere",
                one.name
            )));
        }
        targets
    }

    /// What a route of the Gateway API says of this port, in the order in which its matches are asked.
    pub(super) fn of_route(self, route: &Route) -> Vec<(Option<Rule>, BTreeSet<Target>)> {
        let spec = &route.raw["spec"];
        let namespace = route.name.namespace.as_str();
        let number = u64::from(self.service.ports[self.port].port);
        let is_ours = |one: &&Value| {
            one["kind"] == "Service"
                && one["name"] == self.service.name.name.as_str()
                && one["namespace"].as_str().unwrap_or(namespace) == self.service.name.namespace
                && one["port"].as_u64().is_none_or(|own| own == number)
        };
        let mut parents = list(&spec["parentRefs"]).iter().filter(is_ours).peekable();
        if parents.peek().is_none() {
            return Vec::new();
        }
        let object = format!("{} {}", route.kind.row().name, route.name);
        if parents.all(|one| one.get("sectionName").is_some()) {
            let unclear = Target::Unclear {
                reason: format!("{object} names a section of a Service"),
                content: spec.to_string(),
                among: BTreeSet::new(),
            };
            return vec![(None, [unclear].into())];
        }
        let of_grpc = route.kind == Kind::GrpcRoute;
        let mut entries: Vec<([usize; 5], Option<Rule>, BTreeSet<Target>)> = Vec::new();
        for rule in list(&spec["rules"]) {
            let targets = self.of_backends(route, &object, rule);
            match route.kind {
                Kind::TcpRoute => entries.push(([0; 5], None, targets)),
                Kind::TlsRoute => {
                    let host = self.service.host();
                    let names = list(&spec["hostnames"]);
                    let is_host = |name: &Value| name == "*" || *name == host.as_str();
                    let asks = !names.is_empty() && !names.iter().any(is_host);
                    let rule = asks.then(|| taken::not_known("hostnames", &spec["hostnames"]));
                    entries.push(([0; 5], rule, targets));
                }
                _ => match list(&rule["matches"]) {
                    [] => entries.push((
                        if of_grpc { [0; 5] } else { [2, 1, 0, 0, 0] },
                        None,
                        targets,
                    )),
                    matches => entries.extend(matches.iter().map(|one| {
                        let rank = taken::precedence(one, of_grpc);
                        (rank, taken::gateway_api(one), targets.clone())
                    })),
                },
            }
        }
        entries.sort_by(|(left, ..), (right, ..)| right.cmp(left));
        let entries = entries.into_iter();
        entries.map(|(_, rule, targets)| (rule, targets)).collect()
    }

    /// Where a rule of the Gateway API leads: nowhere with no backend that has a weight
    /// (istio pilot/pkg/config/kube/gateway/conversion.go `convertHTTPRoute`).
    fn of_backends(self, route: &Route, object: &str, rule: &Value) -> BTreeSet<Target> {
        let mut filters = list(&rule["filters"]).iter();
        if filters.any(|filter| filter["type"] == "RequestRedirect") {
            return [Target::Unclear {
                reason: format!("{object} answers requests itself"),
                content: rule["filters"].to_string(),
                among: BTreeSet::new(),
            }]
            .into();
        }
        let backends = list(&rule["backendRefs"]).iter();
        let weighted = backends.filter(|one| one["weight"].as_u64() != Some(0));
        let mut targets: BTreeSet<Target> = weighted
            .map(|one| match one["kind"].as_str().unwrap_or("Service") {
                "Service" => {
                    let namespace = one["namespace"].as_str().unwrap_or(&route.name.namespace);
                    let name = one["name"].as_str().unwrap_or_default();
                    self.target(&full_host(name, namespace), one["port"].as_u64())
                }
                kind => Target::Unclear {
                    reason: format!("{object} leads to a {kind}"),
                    content: one.to_string(),
                    among: BTreeSet::new(),
                },
            })
            .collect();
        if targets.is_empty() {
            targets.insert(Target::Nobody(format!("{object} leads to no backend")));
        }
        targets
    }

    /// Who answers at a host (istio pilot/pkg/networking/core/route/route.go `GetDestinationCluster`).
    fn target(self, host: &str, number: Option<u64>) -> Target {
        let Some(id) = by_host(self.mesh, host) else {
            return self.elsewhere(host);
        };
        let behind = self.mesh.service(id);
        let dialled = self.service.ports[self.port].port;
        let index = match (number, behind.ports.len()) {
            (None, 1) => Some(0),
            (number, _) => {
                let wanted = number.unwrap_or(u64::from(dialled));
                let mut ports = behind.ports.iter();
                ports.position(|one| u64::from(one.port) == wanted)
            }
        };
        let Some(index) = index else {
            return Target::Nobody(format!("Service {} has no such port", behind.name));
        };
        // A version of the same pods (a canary's own Service) is reached by the address anyway.
        let is_own = |one: &Backend| {
            let mut own = self.service.backends.iter();
            own.any(|other| {
                (other.workload, other.generation) == (one.workload, one.generation)
                    && other.target_ports.get(self.port) == one.target_ports.get(index)
            })
        };
        if id == self.id && index == self.port {
            return Target::Own;
        }
        if behind.backends.is_empty() {
            return Target::Unclear {
                reason: format!(
                    "the pods of Service {} are not among the input",
                    behind.name
                ),
                content: format!("{}:{index}", behind.name),
                among: BTreeSet::new(),
            };
        }
        if behind.backends.iter().all(is_own) {
            return Target::Own;
        }
        Target::Service(id, index)
    }

    /// A host that is no Service: an error, where the namespace is known, and no ServiceEntry has it.
    fn elsewhere(self, host: &str) -> Target {
        let has_host = |one: &str| match one.strip_prefix('*') {
            Some(tail) => host.ends_with(tail),
            None => one == host,
        };
        let mut entries = self.mesh.traffic.service_entries.iter();
        let is_entry = entries.any(|one| one.hosts.iter().any(|host| has_host(host)));
        let namespace = host
            .strip_suffix(".svc.cluster.local")
            .and_then(|rest| rest.split_once('.'));
        let services = &self.mesh.services;
        let is_known = namespace.is_some_and(|(_, namespace)| {
            let first = services.partition_point(|one| one.name.namespace.as_str() < namespace);
            services
                .get(first)
                .is_some_and(|one| one.name.namespace == namespace)
        });
        if is_known && !is_entry {
            return Target::Nobody(format!("no Service has the host {host}"));
        }
        Target::Unclear {
            reason: format!("who answers at {host} is not known"),
            content: host.to_owned(),
            among: BTreeSet::new(),
        }
    }
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// What a rule does instead of leading somewhere that is known.
fn apart(rule: &Value) -> Option<&'static str> {
    let answers = ["directResponse", "redirect"];
    if answers.iter().any(|field| rule.get(field).is_some())
        || rule.pointer("/fault/abort").is_some()
    {
        return Some("answers requests itself");
    }
    let delegates = rule.get("delegate").is_some();
    delegates.then_some("names a delegate that is not among the input, or not exported to it")
}

fn by_host(mesh: &Mesh, host: &str) -> Option<ServiceId> {
    let mut labels = host.split('.');
    let (name, namespace) = (labels.next()?, labels.next()?);
    let (id, service) = mesh.service_named(&ObjectName::new(namespace, name))?;
    (service.host() == host).then_some(id)
}

/// Whether an object is seen in a namespace, or by callers of none that runs; `None`: not known.
pub(super) fn visible(
    mesh: &Mesh,
    raw: &Value,
    own: &str,
    namespace: Option<&str>,
) -> Option<bool> {
    let exports = list(&raw["spec"]["exportTo"]);
    if exports.is_empty() {
        return (!mesh.settings.limits_exports).then_some(true);
    }
    if exports.iter().any(|one| one == "*") {
        return Some(true);
    }
    let Some(namespace) = namespace else {
        return Some(false);
    };
    let mut exports = exports.iter().filter_map(Value::as_str);
    Some(exports.any(|one| one == namespace || (one == "." && own == namespace)))
}
