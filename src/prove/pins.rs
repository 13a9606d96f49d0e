//! Pins: a VirtualService that sends callers with sidecars to some pods of a Service, and everybody who
//! comes through its waypoint to the same or to others.
//!
//! In: VirtualServices and DestinationRules of a mesh. Out: for a caller, a Service and some of its pods,
//! whether he is led there. Invariant: only a pin that every sidecar and the waypoint read alike
//! counts; of any other it is assumed that everybody reaches all pods, so that nothing is overlooked.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{CallerMode, Content, Dial, Server};
use crate::mesh::traffic::{DestinationRule, VirtualService};
use crate::mesh::{DataPlaneMode, Distribution, Generation, Mesh, Protocol, Service, ServiceId};
use crate::snapshot::{Kind, Labels, ObjectName};

/// The label that tells a sidecar's pods: the injector sets it on them alone
/// (istio manifests/charts/istio-control/istio-discovery/files/injection-template.yaml).
pub const SIDECAR_LABEL: (&str, &str) = ("security.istio.io/tlsMode", "istio");

/// Where somebody who dials a Service gets, as far as some of its pods go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leads {
    /// To these pods, maybe among others.
    Here,
    /// To other pods of the Service.
    Elsewhere,
    /// To none at all: the subset that he is sent to is empty.
    Nowhere,
}

/// Pins by Service.
#[derive(Debug, Default, Clone, PartialEq)]
pub(super) struct Pins(BTreeMap<ServiceId, Pin>);

/// What one VirtualService does to requests and to bytes.
#[derive(Debug, Clone, PartialEq)]
struct Pin {
    http: Option<Split>,
    tcp: Option<Split>,
}

/// Labels of the pods that callers are sent to.
#[derive(Debug, Clone, PartialEq)]
struct Split {
    sidecars: Labels,
    /// `None`: all pods.
    waypoint: Option<Labels>,
}

impl Pins {
    /// All pins. A sidecar takes the first route whose `sourceLabels` are its own
    /// (istio pilot/pkg/networking/core/route/route.go `sourceMatchHTTP`), a waypoint passes these over
    /// (pilot/pkg/networking/core/listener_waypoint.go `waypointInboundRoute`, `getTCPRouteMatch`).
    pub(super) fn of(mesh: &Mesh) -> Self {
        let mut virtual_services = mesh.traffic.virtual_services.iter().peekable();
        if virtual_services.peek().is_none() || !is_plain(mesh) {
            return Self::default();
        }
        let mut pins = BTreeMap::new();
        for one in virtual_services.filter(|one| has_source_labels(one)) {
            let [host] = one.full_hosts.as_slice() else {
                continue;
            };
            let short = host.split('.').next().unwrap_or_default();
            let name = ObjectName::new(&one.name.namespace, short);
            let found = mesh.service_named(&name);
            if let Some((id, service)) =
                found.filter(|(_, service)| service.host() == host.as_str())
                && let Some(pin) = pin(mesh, one, service)
            {
                pins.insert(id, pin);
            }
        }
        Self(pins)
    }

    /// Where a caller gets who arrives in this mode.
    pub(super) fn leads(
        &self,
        mesh: &Mesh,
        mode: CallerMode,
        dial: Dial,
        server: Server,
        content: Content,
    ) -> Leads {
        let Dial::Service { service: id, port } = dial else {
            return Leads::Here;
        };
        let Some(pin) = self.0.get(&id) else {
            return Leads::Here;
        };
        let service = mesh.service(id);
        let split = match (service.ports[port].protocol, content) {
            (Protocol::Http | Protocol::Http2, _) | (Protocol::Unknown, Content::Http) => &pin.http,
            (Protocol::Tcp, _) | (Protocol::Unknown, Content::Bytes) => &pin.tcp,
            (Protocol::Tls | Protocol::Udp, _) => &None,
        };
        let bound = service.binding.waypoint().is_some();
        let wanted = split.as_ref().and_then(|split| match mode {
            CallerMode::Sidecar => Some(&split.sidecars),
            CallerMode::Ambient if bound => split.waypoint.as_ref(),
            CallerMode::Gateway if bound && service.ingress_uses_waypoint => {
                split.waypoint.as_ref()
            }
            CallerMode::Ambient | CallerMode::Gateway | CallerMode::Plain => None,
        });
        let Some(wanted) = wanted else {
            return Leads::Here;
        };
        let generation = |workload, position: usize| {
            selects(wanted, &mesh.workload(workload).generations[position])
        };
        if generation(server.workload, server.generation) {
            return Leads::Here;
        }
        let mut backends = service.backends.iter();
        if backends.any(|backend| generation(backend.workload, backend.generation)) {
            Leads::Elsewhere
        } else {
            Leads::Nowhere
        }
    }
}

/// Whether every sidecar reads a pin as it is meant: none is told by a Sidecar object what it may see,
/// each has the label, and waypoints know TCP routes (since Istio 1.26).
fn is_plain(mesh: &Mesh) -> bool {
    let mut control_planes = mesh.control_planes.iter();
    let known = control_planes.all(|one| {
        one.version
            .as_ref()
            .is_some_and(|version| version.at_least(1, 26))
    });
    let mut generations = mesh.workloads.iter().flat_map(|one| &one.generations);
    let mut others = mesh.traffic.others.iter();
    mesh.distribution != Distribution::Solo
        && known
        && !mesh.control_planes.is_empty()
        && others.all(|one| one.kind != Kind::Sidecar)
        && generations.all(|one| {
            let (key, value) = SIDECAR_LABEL;
            one.mode != DataPlaneMode::Sidecar || one.pods.is_empty() || one.labels.has(key, value)
        })
}

fn has_source_labels(one: &VirtualService) -> bool {
    let mut fields = one.waypoint_differences.iter();
    fields.any(|(_, field)| field == "sourceLabels")
}

/// Objects that route or describe a Service's host besides a pin; a pin counts only without them.
pub fn rivals<'m>(
    mesh: &'m Mesh,
    service: &Service,
) -> (Vec<&'m VirtualService>, Vec<&'m DestinationRule>, bool) {
    let host = service.host();
    let covers = |pattern: &str| match pattern.strip_prefix('*') {
        Some(suffix) => host.ends_with(suffix),
        None => host == pattern,
    };
    let virtual_services = mesh.traffic.virtual_services.iter();
    let rules = mesh.traffic.destination_rules.iter();
    let mut routes = mesh.traffic.routes.iter();
    (
        virtual_services
            .filter(|one| one.on_mesh && one.full_hosts.iter().any(|host| covers(host)))
            .collect(),
        rules.filter(|one| covers(&one.full_host)).collect(),
        routes.any(|route| route.parent_services.contains(&service.name)),
    )
}

/// Whether an object is seen in every namespace.
pub fn is_exported(mesh: &Mesh, raw: &Value) -> bool {
    match raw["spec"].get("exportTo").and_then(Value::as_array) {
        Some(list) if !list.is_empty() => list.len() == 1 && list[0] == "*",
        _ => !mesh.settings.limits_exports,
    }
}

fn pin(mesh: &Mesh, one: &VirtualService, service: &Service) -> Option<Pin> {
    let (virtual_services, rules, routes) = rivals(mesh, service);
    let ([_], [rule], false) = (virtual_services.as_slice(), rules.as_slice(), routes) else {
        return None;
    };
    let alone = one.gateways.is_empty() && one.on_mesh && service.has_virtual_address();
    let own = rule.name.namespace == service.name.namespace && !rule.has_workload_selector;
    if !(alone && own && is_exported(mesh, &one.raw) && is_exported(mesh, &rule.raw)) {
        return None;
    }
    let split = |protocol: &str| split(&one.raw["spec"][protocol], service, rule);
    Some(Pin {
        http: split("http"),
        tcp: split("tcp"),
    })
}

/// What stands against a pin within a VirtualService of the user's own: in front of each of its routes the same one
/// for sidecars alone is to come.
///
/// # Errors
/// What of it is not the same for every caller, or leads elsewhere.
pub fn pinnable(mesh: &Mesh, one: &VirtualService, service: &Service) -> Result<(), &'static str> {
    let spec = &one.raw["spec"];
    let mut routes = ["http", "tcp"]
        .into_iter()
        .filter_map(|protocol| spec.get(protocol)?.as_array())
        .flatten();
    if one.name.namespace != service.name.namespace {
        Err("is of another namespace, whose VirtualServices its waypoint passes over")
    } else if one.full_hosts != [service.host().as_str()] {
        Err("is for other hosts too")
    } else if !one.gateways.is_empty() {
        Err("is for gateways too")
    } else if !is_exported(mesh, &one.raw) {
        Err("is read by some callers alone")
    } else if !one.waypoint_differences.is_empty() {
        Err("is read by waypoints otherwise than by sidecars")
    } else if spec.get("tls").is_some() {
        Err("routes by server name")
    } else if !routes.all(|route| subset(route, service) == Some(None)) {
        Err("does more than to lead to all pods of the Service")
    } else {
        Ok(())
    }
}

/// The matches of a route, as they are met by callers with sidecars alone; `None` where they tell callers apart
/// already.
pub fn for_sidecars(route: &Value) -> Option<Value> {
    let (key, value) = SIDECAR_LABEL;
    let own = route.get("match").and_then(Value::as_array);
    let mut matches = match own {
        Some(list) if !list.is_empty() => list.clone(),
        _ => vec![Value::Object(Map::new())],
    };
    for one in &mut matches {
        let fields = one.as_object_mut()?;
        let telling = [
            "sourceLabels",
            "sourceNamespace",
            "gateways",
            "sourceSubnet",
        ];
        if telling.iter().any(|field| fields.contains_key(*field)) {
            return None;
        }
        fields.insert("sourceLabels".to_owned(), json!({key: value}));
    }
    Some(Value::Array(matches))
}

/// Routes of which the first half is for sidecars, and the second half the same for all others.
fn split(routes: &Value, service: &Service, rule: &DestinationRule) -> Option<Split> {
    let routes = routes.as_array()?;
    let (pinned, others) = routes.split_at(routes.len() / 2);
    if pinned.is_empty() || pinned.len() != others.len() {
        return None;
    }
    let mut leading: Vec<[Option<String>; 2]> = Vec::new();
    for (first, second) in pinned.iter().zip(others) {
        let alike = |field: &str| first.get(field) == second.get(field);
        if first.get("match") != for_sidecars(second).as_ref() || !HARMLESS.into_iter().all(alike) {
            return None;
        }
        leading.push([subset(first, service)?, subset(second, service)?]);
    }
    leading.dedup();
    let [[sidecars, waypoint]] = leading.as_slice() else {
        return None;
    };
    let labels = |name: &str| {
        let mut subsets = rule.raw["spec"]["subsets"].as_array()?.iter();
        let subset = subsets.find(|subset| subset["name"] == name)?;
        let pairs = subset["labels"].as_object()?.iter();
        let pairs: Option<Vec<(&str, &str)>> = pairs
            .map(|(key, value)| Some((key.as_str(), value.as_str()?)))
            .collect();
        Some(pairs?.into_iter().collect::<Labels>())
    };
    Some(Split {
        sidecars: labels(sidecars.as_ref()?)?,
        waypoint: match waypoint {
            Some(name) => Some(labels(name)?),
            None => None,
        },
    })
}

/// What a route may say besides, which lets nobody in or out.
const HARMLESS: [&str; 2] = ["timeout", "retries"];

/// The subset that a route leads to, or `Some(None)` where it leads to the whole Service; `None` where it
/// does more than that.
fn subset(route: &Value, service: &Service) -> Option<Option<String>> {
    let mut fields = route.as_object()?.keys();
    let plain = |field: &str| matches!(field, "name" | "match" | "route");
    if !fields.all(|field| plain(field) || HARMLESS.contains(&field.as_str())) {
        return None;
    }
    let [target] = route["route"].as_array()?.as_slice() else {
        return None;
    };
    let destination = target["destination"].as_object()?;
    let mut beside = target.as_object()?.keys();
    let only = beside.all(|field| matches!(field.as_str(), "destination" | "weight"));
    // A name without dots is of the VirtualService's namespace, which is the Service's
    // (istio pilot/pkg/model/virtualservice.go `resolveVirtualServiceShortnames`).
    let host = destination.get("host")?.as_str()?;
    let is_ours = host == service.host() || host == service.name.name;
    if !only || destination.contains_key("port") || !is_ours {
        return None;
    }
    match destination.get("subset") {
        Some(subset) => Some(Some(subset.as_str()?.to_owned())),
        None => Some(None),
    }
}

/// Whether pods are of a subset. Those that are predicted from a template get the injector's label.
pub(super) fn selects(wanted: &Labels, generation: &Generation) -> bool {
    wanted.iter().all(|(key, value)| {
        if (key, value) == SIDECAR_LABEL {
            return generation.mode == DataPlaneMode::Sidecar;
        }
        generation.labels.has(key, value)
    })
}
