//! Where one request to a Service's address is led, found without the prover.
//!
//! In: a mesh, who sends, and a concrete request. Out: the ends among which a proxy may choose. It reads
//! VirtualServices and routes itself, match by match, so that what the proof makes of them is held against it.

use castoff::mesh::traffic::{Route, VirtualService};
use castoff::mesh::{DataPlaneMode, Distribution, Generation, Mesh, Protocol, Service, ServiceId};
use castoff::prove::{CallerMode, Content};
use castoff::snapshot::Kind;
use castoff_authz::request::Request;
use serde_json::Value;

/// One end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The Service's own pods.
    Own,
    /// A port of another Service, by index.
    Service(ServiceId, usize),
    /// An error.
    Nobody,
}

/// Who sends: how he arrives, and where he runs.
#[derive(Clone, Copy)]
pub(crate) struct From<'a> {
    pub(crate) mode: CallerMode,
    pub(crate) pods: Option<(&'a str, &'a Generation)>,
}

/// Who asks the routes.
enum Asks<'a> {
    Sidecar(Option<(&'a str, &'a Generation)>),
    Waypoint(&'a str),
}

/// The ends of a request, `None` where this reader does not know.
pub(crate) fn ends(
    mesh: &Mesh,
    from: From<'_>,
    (id, port): (ServiceId, usize),
    content: Content,
    request: &Request,
) -> Option<Vec<End>> {
    let service = mesh.service(id);
    let past_sidecar = from.mode == CallerMode::Ambient
        || from.mode == CallerMode::Sidecar && mesh.distribution == Distribution::Solo
        || from.mode == CallerMode::Gateway && service.ingress_uses_waypoint;
    let waypoint = service.binding.waypoint();
    let waypoint = waypoint.filter(|_| past_sidecar && !service.headless);
    let asks = match (waypoint, from.mode) {
        (Some(id), _) => Asks::Waypoint(&mesh.waypoint(id).name.namespace),
        (None, CallerMode::Sidecar) => Asks::Sidecar(from.pods),
        _ => return Some(vec![End::Own]),
    };
    let http = match (service.ports[port].protocol, content) {
        (Protocol::Http | Protocol::Http2 | Protocol::Unknown, Content::Http) => true,
        (Protocol::Tcp, _) | (Protocol::Unknown, Content::Bytes) => false,
        _ => return Some(vec![End::Own]),
    };
    let field = if http { "http" } else { "tcp" };
    let reader = Reader {
        mesh,
        id,
        service,
        port,
        asks,
    };
    let mut objects = mesh.traffic.virtual_services.iter();
    let objects: Vec<&VirtualService> = objects
        .by_ref()
        .filter(|one| one.on_mesh && reader.host_of(one).is_some() && reader.sees(one))
        .filter(|one| !list(&one.raw["spec"][field]).is_empty())
        .collect();
    let wanted: &[Kind] = if http {
        &[Kind::HttpRoute, Kind::GrpcRoute]
    } else {
        &[Kind::TcpRoute]
    };
    let mut routes = mesh.traffic.routes.iter();
    let has_routes = |route: &&Route| {
        wanted.contains(&route.kind) && route.parent_services.contains(&service.name)
    };
    match (objects.as_slice(), routes.by_ref().find(has_routes)) {
        ([], None) => Some(vec![End::Own]),
        ([one], None) => reader.virtual_service(one, field, request),
        ([], Some(route)) if !routes.any(|other| has_routes(&other)) => {
            reader.route(route, request)
        }
        _ => None,
    }
}

struct Reader<'a> {
    mesh: &'a Mesh,
    id: ServiceId,
    service: &'a Service,
    port: usize,
    asks: Asks<'a>,
}

impl Reader<'_> {
    fn host_of<'v>(&self, one: &'v VirtualService) -> Option<&'v str> {
        let host = self.service.host();
        let hosts = one.full_hosts.iter().map(|host| host.as_str());
        let mut matching = hosts.filter(|pattern| match pattern.strip_prefix('*') {
            Some(tail) => host.ends_with(tail),
            None => *pattern == host,
        });
        matching.next()
    }

    fn sees(&self, one: &VirtualService) -> bool {
        let own = one.name.namespace.as_str();
        let namespace = match self.asks {
            Asks::Sidecar(pods) => pods.map_or("nowhere", |(namespace, _)| namespace),
            Asks::Waypoint(waypoint) if own == waypoint || own == self.service.name.namespace => {
                waypoint
            }
            Asks::Waypoint(_) => return false,
        };
        let exports = list(&one.raw["spec"]["exportTo"]);
        exports.is_empty()
            || exports
                .iter()
                .any(|to| to == "*" || to == namespace || (to == "." && own == namespace))
    }

    fn virtual_service(
        &self,
        one: &VirtualService,
        field: &str,
        request: &Request,
    ) -> Option<Vec<End>> {
        let mut any_for_us = false;
        for rule in list(&one.raw["spec"][field]) {
            let matches = list(&rule["match"]);
            let ours: Vec<&Value> = matches
                .iter()
                .filter(|one| self.is_ours(one, field))
                .collect();
            if !matches.is_empty() && ours.is_empty() {
                continue;
            }
            any_for_us = true;
            let mut takes = matches.is_empty();
            for one in ours {
                takes |= field == "tcp" || is_met(one, request)?;
            }
            if takes {
                let routes = list(&rule["route"]);
                let mut ends = Vec::new();
                for route in routes {
                    if routes.len() > 1 && route["weight"] == 0 {
                        continue;
                    }
                    let port = route["destination"]["port"]["number"].as_u64();
                    ends.push(self.end(route["destination"]["host"].as_str()?, port));
                }
                return Some(ends);
            }
        }
        let is_error = any_for_us && field == "http";
        Some(vec![if is_error { End::Nobody } else { End::Own }])
    }

    fn is_ours(&self, one: &Value, field: &str) -> bool {
        let port = one["port"].as_u64().unwrap_or(0);
        if port != 0 && port != u64::from(self.service.ports[self.port].port) {
            return false;
        }
        let labels = one["sourceLabels"].as_object();
        let by_waypoint = matches!(self.asks, Asks::Waypoint(_));
        if by_waypoint && labels.is_some() {
            return false;
        }
        let gateways = list(&one["gateways"]);
        if !gateways.is_empty() {
            let on_mesh = gateways.iter().any(|one| one == "mesh");
            if field == "http" || !on_mesh {
                return on_mesh;
            }
        }
        let wanted = one["sourceNamespace"].as_str();
        match self.asks {
            Asks::Waypoint(own) => wanted.is_none_or(|wanted| field == "http" && wanted == own),
            Asks::Sidecar(None) => labels.is_none() && wanted.is_none(),
            Asks::Sidecar(Some((namespace, pods))) => {
                let has = |(key, value): (&String, &Value)| match key.as_str() {
                    "security.istio.io/tlsMode" => pods.mode == DataPlaneMode::Sidecar,
                    key => pods.labels.get(key) == value.as_str(),
                };
                labels.is_none_or(|all| all.iter().all(has))
                    && wanted.is_none_or(|wanted| wanted == namespace)
            }
        }
    }

    /// The rule whose match says most takes a request.
    fn route(&self, route: &Route, request: &Request) -> Option<Vec<End>> {
        let own = &self.service.name.namespace;
        let namespace = route.name.namespace.as_str();
        let is_seen = namespace == own
            || match self.asks {
                Asks::Sidecar(pods) => pods.is_some_and(|(one, _)| one == namespace),
                Asks::Waypoint(waypoint) => waypoint == namespace,
            };
        let number = u64::from(self.service.ports[self.port].port);
        let mut parents = list(&route.raw["spec"]["parentRefs"]).iter();
        let is_ours = parents.any(|one| {
            one["name"] == self.service.name.name.as_str()
                && one["namespace"].as_str().unwrap_or(namespace) == own
                && one["port"].as_u64().is_none_or(|port| port == number)
        });
        if !is_seen || !is_ours {
            return Some(vec![End::Own]);
        }
        let everything = [Value::Null];
        let mut best: Option<([usize; 4], &Value)> = None;
        for rule in list(&route.raw["spec"]["rules"]) {
            let matches = match list(&rule["matches"]) {
                [] => &everything[..],
                some => some,
            };
            for one in matches {
                if let Some(rank) = rank(one, request)
                    && best.is_none_or(|(known, _)| rank > known)
                {
                    best = Some((rank, rule));
                }
            }
        }
        let Some((_, rule)) = best else {
            return Some(vec![End::Nobody]);
        };
        let backends = list(&rule["backendRefs"]).iter();
        let ends: Vec<End> = backends
            .filter(|one| one["weight"] != 0)
            .map(|one| {
                let namespace = one["namespace"].as_str().unwrap_or(namespace);
                let name = one["name"].as_str().unwrap_or_default();
                let host = format!("{name}.{namespace}.svc.cluster.local");
                self.end(&host, one["port"].as_u64())
            })
            .collect();
        Some(if ends.is_empty() {
            vec![End::Nobody]
        } else {
            ends
        })
    }

    fn end(&self, host: &str, port: Option<u64>) -> End {
        let mut services = self.mesh.services.iter();
        let Some(index) = services.position(|one| one.host() == host) else {
            return End::Nobody;
        };
        let behind = &self.mesh.services[index];
        let dialled = u64::from(self.service.ports[self.port].port);
        let wanted = match (port, behind.ports.as_slice()) {
            (Some(port), _) => port,
            (None, [only]) => u64::from(only.port),
            (None, _) => dialled,
        };
        let mut ports = behind.ports.iter();
        match ports.position(|one| u64::from(one.port) == wanted) {
            Some(port) if (ServiceId(index), port) == (self.id, self.port) => End::Own,
            Some(port) => End::Service(ServiceId(index), port),
            None => End::Nobody,
        }
    }
}

/// Whether a request is what a match of a VirtualService asks for.
fn is_met(one: &Value, request: &Request) -> Option<bool> {
    let http = request.http.as_ref()?;
    let text = |asked: &Value, text: Option<&str>| -> Option<bool> {
        if asked.is_null() {
            return Some(true);
        }
        if let Some(exact) = asked["exact"].as_str() {
            return Some(text == Some(exact));
        }
        let prefix = asked["prefix"].as_str()?;
        Some(text.is_some_and(|text| text.starts_with(prefix)))
    };
    let mut met = text(&one["uri"], Some(&http.path))? && text(&one["method"], Some(&http.method))?;
    for (name, asked) in one["headers"].as_object().into_iter().flatten() {
        met &= text(asked, http.headers.get(name).map(String::as_str))?;
    }
    Some(met)
}

/// How much a match of the Gateway API says that takes a request: exact paths before longer ones, then methods, then
/// headers; `None` where it does not take it.
fn rank(one: &Value, request: &Request) -> Option<[usize; 4]> {
    let http = request.http.as_ref()?;
    let path = one["path"]["value"].as_str().unwrap_or("/");
    let exact = one["path"]["type"] == "Exact";
    let below = || path == "/" || http.path == path || http.path.starts_with(&format!("{path}/"));
    let takes_path = if exact { http.path == path } else { below() };
    let takes_method = one["method"]
        .as_str()
        .is_none_or(|method| method == http.method);
    let headers = list(&one["headers"]);
    let takes_headers = headers.iter().all(|header| {
        let name = header["name"].as_str().unwrap_or_default();
        http.headers.get(name).map(String::as_str) == header["value"].as_str()
    });
    let says = [
        usize::from(exact),
        path.len(),
        usize::from(one["method"].is_string()),
        headers.len(),
    ];
    (takes_path && takes_method && takes_headers).then_some(says)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
