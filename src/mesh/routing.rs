//! Reads routing objects from JSON into the mesh's own words.
//!
//! In: raw VirtualServices, DestinationRules, routes, ServiceEntries, NetworkPolicies. Out:
//! [`Traffic`]. Invariant: hosts are full names; what a waypoint reads otherwise than a sidecar is
//! listed with its field path.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use smol_str::{SmolStr, format_smolstr};

use super::delegates;
use super::policies::labels;
use super::traffic::{
    DestinationRule, NetworkPolicy, PlainObject, Route, ServiceEntry, Traffic, VirtualService,
};
use super::{Workload, WorkloadId};
use crate::snapshot::{Kind, Object, ObjectName, Snapshot};

pub(super) fn read(snapshot: &Snapshot) -> Traffic {
    let routes = [
        Kind::HttpRoute,
        Kind::GrpcRoute,
        Kind::TlsRoute,
        Kind::TcpRoute,
    ];
    let others = [
        Kind::IstioGateway,
        Kind::WorkloadEntry,
        Kind::WorkloadGroup,
        Kind::Sidecar,
        Kind::ProxyConfig,
        Kind::Gateway,
        Kind::ReferenceGrant,
        Kind::Ingress,
        Kind::IngressClass,
    ];
    Traffic {
        virtual_services: snapshot
            .resources(Kind::VirtualService)
            .iter()
            .map(|one| virtual_service(one, snapshot.resources(Kind::VirtualService)))
            .collect(),
        destination_rules: snapshot
            .resources(Kind::DestinationRule)
            .iter()
            .map(destination_rule)
            .collect(),
        routes: routes
            .into_iter()
            .flat_map(|kind| {
                snapshot
                    .resources(kind)
                    .iter()
                    .map(move |object| route(kind, object))
            })
            .collect(),
        service_entries: snapshot
            .resources(Kind::ServiceEntry)
            .iter()
            .map(service_entry)
            .collect(),
        others: others
            .into_iter()
            .flat_map(|kind| {
                snapshot
                    .resources(kind)
                    .iter()
                    .map(move |object| plain(kind, object))
            })
            .collect(),
        network_policies: snapshot
            .network_policies
            .iter()
            .map(|policy| NetworkPolicy {
                name: policy.object_name(),
                origin: policy.origin.clone(),
                labels: policy.metadata.labels.clone(),
                spec: policy.body.spec.clone(),
            })
            .collect(),
    }
}

/// `orders` and `orders.shop` as `orders.shop.svc.cluster.local`
/// (istio pkg/config/resource names: `ResolveShortnameToFQDN`).
pub fn full_host(host: &str, namespace: &str) -> SmolStr {
    let labels = host.split('.').count();
    match labels {
        _ if host.contains('*') => host.into(),
        1 => format_smolstr!("{host}.{namespace}.svc.cluster.local"),
        _ => {
            let mut parts = host.split('.');
            let (name, space, rest) = (parts.next(), parts.next(), parts.next());
            match (name, space, rest) {
                (Some(name), Some(space), Some("svc")) if labels == 3 => {
                    format_smolstr!("{name}.{space}.svc.cluster.local")
                }
                _ => host.into(),
            }
        }
    }
}

fn texts(list: &Value) -> Vec<SmolStr> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(SmolStr::from)
        .collect()
}

fn virtual_service(object: &Object<Value>, all: &[Object<Value>]) -> VirtualService {
    let spec = &object.body["spec"];
    let merged = delegates::merged(object, all);
    let namespace = &object.metadata.namespace;
    let hosts = texts(&spec["hosts"]);
    let gateways = texts(&spec["gateways"]);
    let mut destinations = Vec::new();
    let mut differences = Vec::new();
    let mut rewrites = false;
    for protocol in ["http", "tcp", "tls"] {
        for rule in merged["spec"][protocol].as_array().into_iter().flatten() {
            destinations.extend(led_to(rule, namespace));
            rewrites |= rewrites_requests(rule);
        }
        for (index, rule) in spec[protocol].as_array().into_iter().flatten().enumerate() {
            for (position, matched) in rule["match"].as_array().into_iter().flatten().enumerate() {
                for field in ["sourceLabels", "sourceNamespace", "sourceSubnet"] {
                    if matched.get(field).is_some() {
                        differences.push((
                            format_smolstr!("spec.{protocol}[{index}].match[{position}].{field}"),
                            field.into(),
                        ));
                    }
                }
            }
            if rule.get("delegate").is_some() {
                differences.push((
                    format_smolstr!("spec.{protocol}[{index}].delegate"),
                    "delegate".into(),
                ));
            }
        }
    }
    destinations.sort();
    destinations.dedup();
    VirtualService {
        name: object.object_name(),
        origin: object.origin.clone(),
        created: object.metadata.creation_timestamp.clone(),
        full_hosts: hosts
            .iter()
            .map(|host| full_host(host, namespace))
            .collect(),
        hosts,
        on_mesh: gateways.is_empty() || gateways.iter().any(|one| one == "mesh"),
        gateways: gateways.into_iter().filter(|one| one != "mesh").collect(),
        waypoint_differences: differences,
        destinations,
        rewrites,
        raw: Arc::clone(&object.body),
        merged,
    }
}

/// Hosts to which a rule of a VirtualService leads, or sends copies, as full names.
pub fn led_to<'v>(rule: &'v Value, namespace: &'v str) -> impl Iterator<Item = SmolStr> + 'v {
    let targets = rule["route"]
        .as_array()
        .into_iter()
        .flatten()
        .chain(rule.get("mirror"))
        .chain(rule["mirrors"].as_array().into_iter().flatten());
    targets.filter_map(move |target| {
        let host = target
            .pointer("/destination/host")
            .or_else(|| target.get("host"));
        Some(full_host(host?.as_str()?, namespace))
    })
}

/// Whether a route changes path, authority or headers before the server sees the request.
fn rewrites_requests(rule: &Value) -> bool {
    let destinations = rule["route"].as_array().into_iter().flatten();
    rule.get("rewrite").is_some()
        || std::iter::once(rule)
            .chain(destinations)
            .any(|holder| holder.pointer("/headers/request").is_some())
}

fn destination_rule(object: &Object<Value>) -> DestinationRule {
    let spec = &object.body["spec"];
    let host = spec["host"].as_str().unwrap_or_default();
    let mut features: Vec<SmolStr> = Vec::new();
    let mut tls_modes = Vec::new();
    let subsets = spec["subsets"].as_array().into_iter().flatten();
    let policies = std::iter::once(("spec.trafficPolicy".to_owned(), &spec["trafficPolicy"]))
        .chain(subsets.clone().enumerate().map(|(index, subset)| {
            (
                format!("spec.subsets[{index}].trafficPolicy"),
                &subset["trafficPolicy"],
            )
        }));
    for (path, policy) in policies {
        let ports = policy["portLevelSettings"]
            .as_array()
            .into_iter()
            .flatten()
            .enumerate();
        let all = std::iter::once((path.clone(), policy))
            .chain(ports.map(|(index, port)| (format!("{path}.portLevelSettings[{index}]"), port)));
        for (path, policy) in all {
            let fields = policy.as_object().into_iter().flat_map(|map| map.keys());
            features.extend(
                fields
                    .filter(|key| !matches!(key.as_str(), "port" | "portLevelSettings"))
                    .map(SmolStr::from),
            );
            if let Some(mode) = policy.pointer("/tls/mode").and_then(Value::as_str) {
                tls_modes.push((mode.into(), format_smolstr!("{path}.tls.mode")));
            }
        }
    }
    features.sort();
    features.dedup();
    DestinationRule {
        name: object.object_name(),
        origin: object.origin.clone(),
        host: host.into(),
        full_host: full_host(host, &object.metadata.namespace),
        subsets: subsets
            .filter_map(|subset| subset["name"].as_str())
            .map(SmolStr::from)
            .collect(),
        proxy_features: features,
        tls_modes,
        has_workload_selector: spec["workloadSelector"].is_object(),
        raw: Arc::clone(&object.body),
    }
}

/// The Gateways that a route names as parents, each with the whole reference.
pub(super) fn gateway_parents(route: &Route) -> impl Iterator<Item = (ObjectName, &Value)> {
    let parents = route.raw["spec"]["parentRefs"].as_array();
    let gateways = parents.into_iter().flatten();
    let gateways = gateways.filter(|one| one["kind"].as_str().unwrap_or("Gateway") == "Gateway");
    gateways.filter_map(|one| {
        let namespace = one["namespace"].as_str().unwrap_or(&route.name.namespace);
        Some((ObjectName::new(namespace, one["name"].as_str()?), one))
    })
}

fn route(kind: Kind, object: &Object<Value>) -> Route {
    let spec = &object.body["spec"];
    let own = &object.metadata.namespace;
    let reference = |value: &Value| -> Option<ObjectName> {
        Some(ObjectName::new(
            value["namespace"].as_str().unwrap_or(own),
            value["name"].as_str()?,
        ))
    };
    let parents = || spec["parentRefs"].as_array().into_iter().flatten();
    let kind_of = |value: &Value| value["kind"].as_str().unwrap_or("Gateway").to_owned();
    Route {
        kind,
        name: object.object_name(),
        origin: object.origin.clone(),
        parent_services: parents()
            .filter(|one| kind_of(one) == "Service")
            .filter_map(reference)
            .collect(),
        parent_gateways: parents()
            .filter(|one| kind_of(one) == "Gateway")
            .filter_map(reference)
            .collect(),
        backends: spec["rules"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|rule| {
                let backends = rule["backendRefs"].as_array().into_iter().flatten();
                let holders = std::iter::once(rule).chain(backends.clone());
                let filters =
                    holders.flat_map(|holder| holder["filters"].as_array().into_iter().flatten());
                backends.chain(filters.filter_map(|one| one.pointer("/requestMirror/backendRef")))
            })
            .filter(|one| one["kind"].as_str().unwrap_or("Service") == "Service")
            .filter_map(reference)
            .collect(),
        raw: Arc::clone(&object.body),
    }
}

fn service_entry(object: &Object<Value>) -> ServiceEntry {
    let spec = &object.body["spec"];
    ServiceEntry {
        name: object.object_name(),
        origin: object.origin.clone(),
        labels: object.metadata.labels.clone(),
        hosts: texts(&spec["hosts"]),
        internal: spec["location"] == "MESH_INTERNAL",
        resolution: spec["resolution"].as_str().unwrap_or("NONE").into(),
        ports: ports(&spec["ports"]),
        workload_selector: spec["workloadSelector"]["labels"].as_object().map(labels),
        workloads: Vec::new(),
        raw: Arc::clone(&object.body),
    }
}

/// Ports as dialled and at the pods; without `targetPort` they are the same.
fn ports(list: &Value) -> Vec<(u16, u16)> {
    let number = |value: &Value| u16::try_from(value.as_u64()?).ok();
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|port| {
        let dialled = number(&port["number"])?;
        Some((dialled, number(&port["targetPort"]).unwrap_or(dialled)))
    })
    .collect()
}

/// Fills in which workloads ServiceEntries select, in their own namespaces
/// (istio pilot/pkg/serviceregistry/serviceentry/controller.go).
pub(super) fn select_workloads(
    traffic: &mut Traffic,
    workloads: &[Workload],
    by_namespace: &BTreeMap<SmolStr, Vec<WorkloadId>>,
) {
    for entry in &mut traffic.service_entries {
        let Some(selector) = &entry.workload_selector else {
            continue;
        };
        let own = by_namespace
            .get(&entry.name.namespace)
            .into_iter()
            .flatten();
        entry.workloads = own
            .filter(|id| {
                let generations = &workloads[id.0].generations;
                generations
                    .iter()
                    .any(|one| one.labels.selected_by(selector))
            })
            .copied()
            .collect();
    }
}

fn plain(kind: Kind, object: &Object<Value>) -> PlainObject {
    PlainObject {
        kind,
        name: object.object_name(),
        labels: object.metadata.labels.clone(),
        origin: object.origin.clone(),
        raw: Arc::clone(&object.body),
    }
}

#[cfg(test)]
mod tests {
    use super::full_host;

    #[test]
    fn short_hosts_are_resolved_in_their_namespace() {
        assert_eq!(full_host("orders", "shop"), "orders.shop.svc.cluster.local");
        assert_eq!(
            full_host("orders.shop.svc", "web"),
            "orders.shop.svc.cluster.local"
        );
        assert_eq!(
            full_host("orders.shop.svc.cluster.local", "web"),
            "orders.shop.svc.cluster.local"
        );
        assert_eq!(full_host("api.example.com", "web"), "api.example.com");
        assert_eq!(full_host("*.example.com", "web"), "*.example.com");
    }
}
