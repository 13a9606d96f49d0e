//! Which Services gateways send to, and by which gateway those outside the cluster get to one.
//!
//! In: VirtualServices with gateways, Gateway API routes of Gateways, objects `Ingress`. Out: [`Routed`],
//! [`Entrance`]s. Invariant: where gateways run and nothing shows what they route (a route that was not given), every
//! Service counts as routed.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use smol_str::SmolStr;

use super::{Mesh, Role, ServiceId, WorkloadId, kubernetes_ingress};
use crate::snapshot::{Kind, Labels, ObjectName};

/// Services that gateways send to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routed {
    /// These, as routes show.
    Services(BTreeSet<ServiceId>),
    /// Not known: any may be.
    Any,
}

impl Routed {
    /// Whether gateways send to this Service, as far as is known.
    pub fn contains(&self, service: ServiceId) -> bool {
        match self {
            Self::Services(services) => services.contains(&service),
            Self::Any => true,
        }
    }
}

/// Works out what gateways route.
pub fn routed(mesh: &Mesh) -> Routed {
    let by_host: BTreeMap<String, ServiceId> = mesh
        .services
        .iter()
        .enumerate()
        .map(|(index, service)| (service.host(), ServiceId(index)))
        .collect();
    let mut services = BTreeSet::new();
    for one in &mesh.traffic.virtual_services {
        if !one.gateways.is_empty() {
            let hosts = one.destinations.iter();
            services.extend(hosts.filter_map(|host| by_host.get(host.as_str())).copied());
        }
    }
    for route in &mesh.traffic.routes {
        if !route.parent_gateways.is_empty() {
            let backends = route.backends.iter();
            services.extend(
                backends
                    .filter_map(|name| mesh.service_named(name))
                    .map(|(id, _)| id),
            );
        }
    }
    let ways = kubernetes_ingress::ways(mesh).into_iter();
    services.extend(ways.filter_map(|way| Some(mesh.service_named(&way.service)?.0)));
    let has_gateways = mesh
        .workloads
        .iter()
        .any(|workload| workload.role.is_gateway());
    if services.is_empty() && has_gateways {
        Routed::Any
    } else {
        Routed::Services(services)
    }
}

/// A gateway that leads to a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entrance {
    /// The pods that serve it, where they are known.
    pub workloads: BTreeSet<WorkloadId>,
    /// Whether some route leads there whatever host and path are asked for.
    pub for_every_request: bool,
    /// The listeners that routes name (`sectionName`, `port`), where every route that leads there names some.
    pub listeners: Option<BTreeSet<String>>,
}

impl Entrance {
    /// Whether it leads by listeners by which another does not.
    pub fn has_other_listeners(&self, other: &Self) -> bool {
        match (&self.listeners, &other.listeners) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(own), Some(others)) => !own.is_subset(others),
        }
    }
}

/// Entrances of Services, by the name of the Gateway.
pub type Entrances = BTreeMap<ServiceId, BTreeMap<ObjectName, Entrance>>;

/// Works out by which gateways each Service is reached from outside, as far as routes show.
pub fn entrances(mesh: &Mesh) -> Entrances {
    let mut entrances = Entrances::new();
    let mut add = |service: ServiceId, gateway: ObjectName, by: Entrance| {
        let of_service = entrances.entry(service).or_default();
        match of_service.get_mut(&gateway) {
            None => _ = of_service.insert(gateway, by),
            Some(entrance) => {
                entrance.workloads.extend(by.workloads);
                entrance.for_every_request |= by.for_every_request;
                let both = entrance.listeners.take().zip(by.listeners);
                entrance.listeners = both.map(|(own, others)| &own | &others);
            }
        }
    };
    let gateways = |kind: Kind| -> BTreeMap<&ObjectName, &Value> {
        let objects = mesh.traffic.others.iter().filter(|one| one.kind == kind);
        objects.map(|one| (&one.name, one.raw.as_ref())).collect()
    };
    let (of_istio, of_kubernetes) = (gateways(Kind::IstioGateway), gateways(Kind::Gateway));
    for one in mesh
        .traffic
        .virtual_services
        .iter()
        .filter(|one| !one.gateways.is_empty())
    {
        let any_host = one.hosts.iter().any(|host| host == "*");
        for host in &one.destinations {
            let Some(service) = by_host(mesh, host) else {
                continue;
            };
            let any_request = leads_always(&one.merged["spec"]["http"], |rule| {
                let mut routes = rule["route"].as_array().into_iter().flatten();
                rule.get("match").is_none()
                    && routes.any(|to| {
                        let to = to["destination"]["host"].as_str().unwrap_or_default();
                        super::routing::full_host(to, &one.name.namespace) == *host
                    })
            });
            for gateway in &one.gateways {
                let name = match gateway.split_once('/') {
                    Some((namespace, name)) => ObjectName::new(namespace, name),
                    None => ObjectName::new(&one.name.namespace, gateway),
                };
                let object = of_istio.get(&name).copied();
                let open = object.is_some_and(serves_every_host);
                let pods = object
                    .map(|object| selected(mesh, object))
                    .unwrap_or_default();
                let entrance = Entrance {
                    workloads: pods,
                    for_every_request: any_host && any_request && open,
                    listeners: None,
                };
                add(service, name, entrance);
            }
        }
    }
    let ways = kubernetes_ingress::ways(mesh);
    let pods = match ways.is_empty() {
        true => BTreeSet::new(),
        false => kubernetes_ingress::pods(mesh),
    };
    for way in ways {
        if let Some((service, _)) = mesh.service_named(&way.service) {
            let entrance = Entrance {
                workloads: pods.clone(),
                for_every_request: way.for_every_request,
                listeners: None,
            };
            add(service, way.gateway, entrance);
        }
    }
    for route in mesh
        .traffic
        .routes
        .iter()
        .filter(|one| !one.parent_gateways.is_empty())
    {
        let spec = &route.raw["spec"];
        let any_host = spec["hostnames"].as_array().is_none_or(Vec::is_empty);
        for (service, target) in
            (route.backends.iter()).filter_map(|name| Some((mesh.service_named(name)?.0, name)))
        {
            let any_request = leads_always(&spec["rules"], |rule| {
                let mut backends = rule["backendRefs"].as_array().into_iter().flatten();
                let everything = |one: &Value| {
                    let only_a_path = one.as_object().is_some_and(|one| one.len() == 1);
                    only_a_path
                        && one["path"]["type"].as_str().unwrap_or("PathPrefix") == "PathPrefix"
                        && one["path"]["value"] == "/"
                };
                let matches = rule["matches"].as_array();
                matches.is_none_or(|list| list.is_empty() || list.iter().any(everything))
                    && backends.any(|one| one["name"] == target.name.as_str())
            });
            for (name, parent) in super::routing::gateway_parents(route) {
                let object = of_kubernetes.get(&name).copied();
                let listeners = object.and_then(|object| object["spec"]["listeners"].as_array());
                let [section, port] = ["sectionName", "port"].map(|key| parent.get(key));
                let is_meant = |listener: &&Value| {
                    section.is_none_or(|name| listener["name"] == *name)
                        && port.is_none_or(|port| listener["port"] == *port)
                };
                let meant = listeners.map(|list| list.iter().filter(is_meant).collect::<Vec<_>>());
                // It is attached to none (istio pilot/pkg/config/kube/gateway/conversion.go `referenceAllowed`).
                if meant.as_ref().is_some_and(Vec::is_empty) {
                    continue;
                }
                let mut meant = meant.into_iter().flatten();
                let open = meant.any(|listener| listener.get("hostname").is_none());
                let named = [section, port].into_iter().flatten();
                let named = named.map(Value::to_string).collect::<Vec<_>>().join(" ");
                let pods = (mesh.workloads.iter().enumerate())
                    .filter(|(_, one)| one.role == Role::KubernetesGateway(name.clone()))
                    .map(|(index, _)| WorkloadId(index))
                    .collect();
                let entrance = Entrance {
                    workloads: pods,
                    for_every_request: any_host && any_request && open,
                    listeners: (!named.is_empty()).then(|| BTreeSet::from([named])),
                };
                add(service, name, entrance);
            }
        }
    }
    entrances
}

/// Whether some Istio Gateway asks its callers for certificates of the mesh.
pub fn asks_for_identities(mesh: &Mesh) -> bool {
    let mut gateways = (mesh.traffic.others.iter()).filter(|one| one.kind == Kind::IstioGateway);
    gateways.any(|one| {
        let servers = one.raw["spec"]["servers"].as_array();
        let mut servers = servers.into_iter().flatten();
        servers.any(|server| server["tls"]["mode"] == "ISTIO_MUTUAL")
    })
}

fn by_host(mesh: &Mesh, host: &SmolStr) -> Option<ServiceId> {
    let mut labels = host.split('.');
    let (name, namespace) = (labels.next()?, labels.next()?);
    let (id, service) = mesh.service_named(&ObjectName::new(namespace, name))?;
    (service.host() == *host).then_some(id)
}

fn leads_always(rules: &Value, leads: impl Fn(&Value) -> bool) -> bool {
    rules
        .as_array()
        .is_some_and(|rules| rules.iter().any(leads))
}

/// Whether a server of an Istio Gateway takes every host.
fn serves_every_host(gateway: &Value) -> bool {
    let servers = gateway["spec"]["servers"].as_array().into_iter().flatten();
    let mut hosts = servers.flat_map(|server| server["hosts"].as_array().into_iter().flatten());
    hosts.any(|host| host == "*" || host == "*/*")
}

/// The gateways' pods that an Istio Gateway selects, of whatever namespace (istio
/// pilot/pkg/model/push_context.go `mergeGateways`; without `PILOT_SCOPE_GATEWAY_TO_NAMESPACE`).
pub(crate) fn selected(mesh: &Mesh, gateway: &Value) -> BTreeSet<WorkloadId> {
    let selector: Labels = gateway["spec"]["selector"]
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect();
    let workloads = mesh.workloads.iter().enumerate();
    workloads
        .filter(|(_, one)| one.role == Role::Gateway)
        .filter(|(_, one)| {
            let mut generations = one.generations.iter();
            generations.any(|generation| generation.labels.selected_by(&selector))
        })
        .map(|(index, _)| WorkloadId(index))
        .collect()
}
