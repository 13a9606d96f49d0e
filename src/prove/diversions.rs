//! What VirtualServices and routes make of a Service's address, where they lead to pods of others alone.
//!
//! In: a mesh. Out: for each Service, and for what is sent to it, a [`Diversion`]. Invariant: one object that alone
//! decides for the host is followed; where several may, or not everybody sees it, and one of them leads elsewhere,
//! what becomes of the call is unclear, and never taken for one of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use smol_str::SmolStr;

use super::Content;
use super::pins::is_exported;
use crate::mesh::routing::full_host;
use crate::mesh::traffic::{Route, VirtualService};
use crate::mesh::{Mesh, Protocol, Service, ServiceId, WorkloadId};
use crate::snapshot::{Kind, ObjectName};

/// A Service and the port of it that is named.
pub(super) type Destination = (ServiceId, Option<u16>);

/// What is led somewhere: each has routes of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Led {
    /// Requests.
    Requests,
    /// Connections to a port of the Service, by index.
    Connections(usize),
    /// The same with TLS of the caller's own.
    Tls(usize),
}

impl Led {
    /// What a port's routes are asked for.
    pub(super) fn of(service: &Service, port: usize, content: Content) -> Option<Self> {
        match (service.ports[port].protocol, content) {
            (Protocol::Http | Protocol::Http2 | Protocol::Unknown, Content::Http) => {
                Some(Self::Requests)
            }
            (Protocol::Tcp, _) | (Protocol::Unknown, Content::Bytes) => {
                Some(Self::Connections(port))
            }
            (Protocol::Tls, _) => Some(Self::Tls(port)),
            (Protocol::Http | Protocol::Http2, Content::Bytes) | (Protocol::Udp, _) => None,
        }
    }
}

/// Where a Service's address leads.
#[derive(Debug)]
pub(super) struct Diversion {
    pub(super) destinations: BTreeSet<Destination>,
    /// Namespaces of the objects.
    pub(super) namespaces: BTreeSet<String>,
    /// Why it is not known whether it does, and what the objects say.
    pub(super) unclear: Option<(String, String)>,
}

/// Diversions by Service.
#[derive(Debug, Default)]
pub(super) struct Diverted(BTreeMap<(ServiceId, Led), Diversion>);

/// An object of a host, with its destinations.
struct Object<'m> {
    kind: Kind,
    name: &'m ObjectName,
    exported: bool,
    raw: &'m Value,
    rules: &'m [Value],
    /// What a rule of it does instead of leading somewhere that is known.
    apart: Option<&'static str>,
    /// `None` where not all are known.
    destinations: Option<BTreeSet<Destination>>,
}

impl Diverted {
    pub(super) fn of(mesh: &Mesh) -> Self {
        let mut diverted = Self::default();
        let (virtual_services, routes) = (&mesh.traffic.virtual_services, &mesh.traffic.routes);
        if virtual_services.is_empty() && routes.is_empty() {
            return diverted;
        }
        let mut exact: BTreeMap<&str, Vec<&VirtualService>> = BTreeMap::new();
        let mut wide: Vec<(&str, &VirtualService)> = Vec::new();
        for one in virtual_services.iter().filter(|one| one.on_mesh) {
            for host in &one.full_hosts {
                match host.strip_prefix('*') {
                    Some(tail) => wide.push((tail, one)),
                    None => exact.entry(host).or_default().push(one),
                }
            }
        }
        let mut by_parent: BTreeMap<&ObjectName, Vec<&Route>> = BTreeMap::new();
        for route in routes {
            for parent in &route.parent_services {
                by_parent.entry(parent).or_default().push(route);
            }
        }
        for (index, service) in mesh.services.iter().enumerate() {
            if service.headless {
                continue;
            }
            let host = service.host();
            let mut of_host = exact.get(host.as_str()).cloned().unwrap_or_default();
            if of_host.is_empty() {
                // Of wildcard hosts the most specific counts.
                let matching = wide.iter().filter(|(tail, _)| host.ends_with(tail));
                let longest = matching.clone().map(|(tail, _)| tail.len()).max();
                of_host.extend(
                    matching
                        .filter(|(tail, _)| Some(tail.len()) == longest)
                        .map(|(_, one)| *one),
                );
            }
            let routes = by_parent.get(&service.name).cloned().unwrap_or_default();
            if !of_host.is_empty() || !routes.is_empty() {
                diverted.add(mesh, ServiceId(index), &of_host, &routes);
            }
        }
        diverted
    }

    fn add(
        &mut self,
        mesh: &Mesh,
        id: ServiceId,
        virtual_services: &[&VirtualService],
        routes: &[&Route],
    ) {
        let service = mesh.service(id);
        let ports = 0..service.ports.len();
        let all = std::iter::once(Led::Requests)
            .chain(ports.clone().map(Led::Connections))
            .chain(ports.map(Led::Tls));
        for led in all {
            let of_hosts = virtual_services.iter().filter_map(|one| {
                Some(Object {
                    kind: Kind::VirtualService,
                    name: &one.name,
                    exported: is_exported(mesh, &one.raw),
                    raw: &one.merged,
                    rules: rules(&one.merged["spec"]["http"]),
                    apart: apart(rules(&one.merged["spec"]["http"]))
                        .filter(|_| led == Led::Requests),
                    destinations: virtual_service(mesh, one, service, led)?,
                })
            });
            let wanted: &[Kind] = match led {
                Led::Requests => &[Kind::HttpRoute, Kind::GrpcRoute],
                Led::Connections(_) => &[Kind::TcpRoute],
                Led::Tls(_) => &[Kind::TlsRoute],
            };
            let of_parents = routes.iter().filter(|route| wanted.contains(&route.kind));
            let of_parents = of_parents.map(|route| Object {
                kind: route.kind,
                name: &route.name,
                // One of another namespace is for callers there alone (Gateway API, "consumer" routes).
                exported: route.name.namespace == service.name.namespace,
                raw: &route.raw,
                rules: rules(&route.raw["spec"]["rules"]),
                apart: apart(rules(&route.raw["spec"]["rules"])),
                destinations: gateway_route(mesh, service, &route.name.namespace, &route.raw),
            });
            let objects: Vec<Object<'_>> = of_hosts.chain(of_parents).collect();
            if let Some(diversion) = diversion(mesh, id, &objects) {
                self.0.insert((id, led), diversion);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, service: ServiceId, led: Led) -> Option<&Diversion> {
        self.0.get(&(service, led))
    }
}

/// What the objects of a host make of it together.
fn diversion(mesh: &Mesh, id: ServiceId, objects: &[Object<'_>]) -> Option<Diversion> {
    let pods = |id: ServiceId| -> BTreeSet<WorkloadId> {
        let backends = mesh.service(id).backends.iter();
        backends.map(|one| one.workload).collect()
    };
    let own = pods(id);
    let elsewhere = |(id, _): &Destination| {
        let pods = pods(*id);
        !pods.is_empty() && pods.is_disjoint(&own)
    };
    let known = objects.iter().filter_map(|one| one.destinations.as_ref());
    let destinations: BTreeSet<Destination> = known.flatten().copied().collect();
    let apart = || objects.iter().filter_map(|one| Some((one, one.apart?)));
    if apart().next().is_some() {
        let reasons: Vec<String> = apart()
            .map(|(one, what)| format!("{} {} {what}", one.kind.row().name, one.name))
            .collect();
        // Of an object that is alone only what it does with requests counts; else which one is followed.
        let contents: Vec<String> = match objects {
            [only] => only.rules.iter().map(|rule| rule.to_string()).collect(),
            _ => objects.iter().map(|one| one.raw.to_string()).collect(),
        };
        let namespaces = objects.iter().map(|one| one.name.namespace.to_string());
        return Some(Diversion {
            destinations: BTreeSet::new(),
            namespaces: namespaces.collect(),
            unclear: Some((reasons.join(" and "), contents.join("\n"))),
        });
    }
    let unclear = match objects {
        _ if !destinations.iter().any(elsewhere) => return None,
        [only] => {
            if !destinations.iter().all(elsewhere) {
                return None;
            }
            (!only.exported).then_some("is not exported to every namespace")
        }
        _ => Some("are for one host"),
    };
    let unclear = unclear.map(|what| {
        let name = |one: &Object<'_>| format!("{} {}", one.kind.row().name, one.name);
        let names: Vec<String> = objects.iter().map(name).collect();
        let raws: Vec<String> = objects.iter().map(|one| one.raw.to_string()).collect();
        (format!("{} {what}", names.join(" and ")), raws.join("\n"))
    });
    let namespaces = objects.iter().map(|one| one.name.namespace.to_string());
    Some(Diversion {
        destinations,
        namespaces: namespaces.collect(),
        unclear,
    })
}

/// The destinations of a VirtualService that leads all of this somewhere; `Some(None)` where they are not plain, and
/// `None` where it says nothing of it, or where what it does not match goes on as without it.
fn virtual_service(
    mesh: &Mesh,
    one: &VirtualService,
    service: &Service,
    led: Led,
) -> Option<Option<BTreeSet<Destination>>> {
    let spec = &one.merged["spec"];
    let destinations = |rules: &[&Value]| -> Option<BTreeSet<Destination>> {
        let mut destinations = BTreeSet::new();
        for rule in rules {
            for one_of in rule["route"].as_array()? {
                // Nothing goes to a weight of nought, where others have one.
                if one_of["weight"] == 0 && rule["route"].as_array()?.len() > 1 {
                    continue;
                }
                let destination = &one_of["destination"];
                let port = destination.pointer("/port/number");
                let port = port.map(|port| port.as_u64()?.try_into().ok());
                let host = full_host(destination["host"].as_str()?, &one.name.namespace);
                destinations.insert((by_host(mesh, &host)?, port.flatten()));
            }
        }
        (!destinations.is_empty()).then_some(destinations)
    };
    let rules = |field: &str| -> Option<Vec<&Value>> {
        let rules: Vec<&Value> = spec[field].as_array()?.iter().collect();
        (!rules.is_empty()).then_some(rules)
    };
    match led {
        Led::Requests => Some(destinations(&rules("http")?)),
        // A rule without match, or with one that asks for no more than the port, is the last
        // (istio pilot/pkg/networking/core/tls.go `buildSidecarOutboundTCPFilterChainOpts`).
        Led::Connections(port) => {
            let number = service.ports[port].port;
            let mut taken = Vec::new();
            for rule in rules("tcp")? {
                let Some(matches) = rule["match"].as_array().filter(|list| !list.is_empty()) else {
                    taken.push(rule);
                    return Some(destinations(&taken));
                };
                let here: Vec<&Value> = (matches.iter())
                    .filter(|one| is_of_port(one, number))
                    .collect();
                taken.extend((!here.is_empty()).then_some(rule));
                if here.iter().any(|one| asks_for_port_alone(one)) {
                    return Some(destinations(&taken));
                }
            }
            None
        }
        // What no rule matches is refused (`buildSidecarOutboundTLSFilterChainOpts`).
        Led::Tls(port) => {
            let number = service.ports[port].port;
            let mut rules = rules("tls")?;
            rules.retain(|rule| {
                let mut matches = rule["match"].as_array().into_iter().flatten();
                matches.any(|one| is_of_port(one, number))
            });
            (!rules.is_empty()).then(|| destinations(&rules))
        }
    }
}

/// Whether a match of connections may be of this port, in the mesh.
fn is_of_port(one: &Value, port: u16) -> bool {
    let gateways = one["gateways"].as_array().filter(|list| !list.is_empty());
    one["port"]
        .as_u64()
        .is_none_or(|wanted| wanted == 0 || wanted == u64::from(port))
        && gateways.is_none_or(|list| list.iter().any(|gateway| gateway == "mesh"))
}

fn asks_for_port_alone(one: &Value) -> bool {
    let mut fields = one.as_object().into_iter().flat_map(|fields| fields.keys());
    fields.all(|field| field == "port" || field == "gateways")
}

fn rules(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

/// What one of the rules does instead of leading somewhere that is known.
fn apart(rules: &[Value]) -> Option<&'static str> {
    let answers = |rule: &Value| {
        let mut filters = rule["filters"].as_array().into_iter().flatten();
        let fields = ["directResponse", "redirect"];
        fields.iter().any(|field| rule.get(field).is_some())
            || rule.pointer("/fault/abort").is_some()
            || filters.any(|filter| filter["type"] == "RequestRedirect")
    };
    if rules.iter().any(answers) {
        return Some("answers requests itself");
    }
    let mut rules = rules.iter();
    rules
        .any(|rule| rule.get("delegate").is_some())
        .then_some("names a delegate that is not among the input, or not exported to it")
}

/// The destinations of a route of the Gateway API, where it is for every port of a Service; `None` where it is not, or
/// they are not plain.
fn gateway_route(
    mesh: &Mesh,
    service: &Service,
    namespace: &SmolStr,
    raw: &Value,
) -> Option<BTreeSet<Destination>> {
    let spec = &raw["spec"];
    let parents = spec["parentRefs"].as_array()?;
    if parents.iter().any(|one| one.get("sectionName").is_some()) {
        return None;
    }
    let of_service = || {
        parents.iter().filter(|one| {
            one["kind"] == "Service"
                && one["name"] == service.name.name.as_str()
                && one["namespace"].as_str().unwrap_or(namespace) == service.name.namespace
        })
    };
    let whole = service.ports.iter().all(|port| {
        of_service().any(|one| {
            one["port"]
                .as_u64()
                .is_none_or(|own| own == u64::from(port.port))
        })
    });
    if !whole {
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

fn by_host(mesh: &Mesh, host: &str) -> Option<ServiceId> {
    let mut labels = host.split('.');
    let (name, namespace) = (labels.next()?, labels.next()?);
    let (id, service) = mesh.service_named(&ObjectName::new(namespace, name))?;
    (service.host() == host).then_some(id)
}
