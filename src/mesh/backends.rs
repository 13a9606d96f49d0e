//! Services, the pods behind them port by port, and what their ports speak.
//!
//! In: Services and EndpointSlices, workloads. Out: [`Service`]s. Invariant: workloads are looked
//! up by one label of the selector, so that 10,000 Services over 50,000 pods stay cheap.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::WorkloadId;
use super::service::{Backend, Protocol, Service, ServicePort};
use super::waypoint::{Binder, Traffic};
use super::workload::Workload;
use crate::api;
use crate::snapshot::{Object, ObjectName, Snapshot};

/// Ports whose servers speak first: taken for TCP when undeclared
/// (istio pkg/config/kube/conversion.go `ConvertProtocol`, `wellKnownPorts`).
const SERVER_FIRST: [u16; 4] = [25, 53, 3306, 27017];

pub(super) fn build(
    snapshot: &Snapshot,
    workloads: &[Workload],
    by_namespace: &BTreeMap<SmolStr, Vec<WorkloadId>>,
    binder: &Binder<'_>,
) -> Vec<Service> {
    let by_label = index_labels(workloads, by_namespace);
    let pods = index_pods(workloads);
    let mut slices: BTreeMap<ObjectName, Vec<&Object<api::EndpointSlice>>> = BTreeMap::new();
    for slice in &snapshot.endpoint_slices {
        if let Some(service) = slice.metadata.labels.get("kubernetes.io/service-name") {
            slices
                .entry(ObjectName::new(&slice.metadata.namespace, service))
                .or_default()
                .push(slice);
        }
    }
    snapshot
        .services
        .iter()
        .map(|object| {
            let mut service = bare(object, binder);
            service.backends = match &service.selector {
                Some(selector) if !selector.is_empty() => {
                    selected(&service, selector, workloads, &by_label)
                }
                _ => by_slices(
                    &service,
                    slices.get(&service.name).map_or(&[], Vec::as_slice),
                    &pods,
                ),
            };
            service
        })
        .collect()
}

type LabelIndex<'a> = BTreeMap<(&'a str, &'a str, &'a str), Vec<(WorkloadId, usize)>>;

/// Generations by namespace, label key and value.
fn index_labels<'a>(
    workloads: &'a [Workload],
    by_namespace: &BTreeMap<SmolStr, Vec<WorkloadId>>,
) -> LabelIndex<'a> {
    let mut index: LabelIndex<'a> = BTreeMap::new();
    for id in by_namespace.values().flatten() {
        let workload = &workloads[id.0];
        for (position, generation) in workload.generations.iter().enumerate() {
            for (key, value) in generation.labels.iter() {
                index
                    .entry((&workload.name.namespace, key, value))
                    .or_default()
                    .push((*id, position));
            }
        }
    }
    index
}

fn index_pods(workloads: &[Workload]) -> BTreeMap<ObjectName, (WorkloadId, usize)> {
    let mut index = BTreeMap::new();
    for (id, workload) in workloads.iter().enumerate() {
        for (position, generation) in workload.generations.iter().enumerate() {
            for pod in &generation.pods {
                index.insert(
                    ObjectName::new(&workload.name.namespace, &pod.name),
                    (WorkloadId(id), position),
                );
            }
        }
    }
    index
}

fn bare(object: &Object<api::Service>, binder: &Binder<'_>) -> Service {
    let spec = &object.body.spec;
    let headless = spec.cluster_ip == "None";
    let exposed = match spec.kind.as_str() {
        "NodePort" | "LoadBalancer" => Some(spec.kind.clone()),
        _ if !spec.external_ips.is_empty() => Some("externalIPs".into()),
        _ => None,
    };
    let mut addresses: Vec<SmolStr> = spec.cluster_ips.clone();
    if addresses.is_empty() && !spec.cluster_ip.is_empty() {
        addresses.push(spec.cluster_ip.clone());
    }
    addresses.retain(|address| address != "None");
    let condition = object
        .body
        .status
        .conditions
        .iter()
        .find(|one| one.kind == "istio.io/WaypointBound");
    Service {
        name: object.object_name(),
        labels: object.metadata.labels.clone(),
        annotations: object.metadata.annotations.clone(),
        origin: object.origin.clone(),
        created: object.metadata.creation_timestamp.clone(),
        selector: spec.selector.clone(),
        headless,
        external_name: (spec.kind == "ExternalName").then(|| spec.external_name.clone()),
        addresses,
        ports: spec.ports.iter().map(port).collect(),
        backends: Vec::new(),
        binding: binder.bind(
            &object.metadata.namespace,
            &object.metadata.labels,
            Traffic::ToServices,
        ),
        ingress_uses_waypoint: binder
            .ingress_uses_waypoint(&object.metadata.namespace, &object.metadata.labels),
        exposed,
        bound_condition: condition.map(|one| (one.status == "True", one.reason.clone())),
    }
}

fn port(port: &api::service::ServicePort) -> ServicePort {
    let target = match &port.target_port {
        None => port.port.to_string(),
        Some(serde_json::Value::String(name)) if name.is_empty() => port.port.to_string(),
        Some(serde_json::Value::String(name)) => name.clone(),
        Some(serde_json::Value::Number(number)) if number.as_u64() == Some(0) => {
            port.port.to_string()
        }
        Some(other) => other.to_string(),
    };
    ServicePort {
        name: port.name.clone(),
        port: port.port,
        protocol: protocol(port),
        target: target.into(),
        node_port: port.node_port,
    }
}

/// appProtocol, else the name, each up to its first dash; else what the number is known for
/// (istio pkg/config/kube/conversion.go `ConvertProtocol`, pkg/config/protocol/instance.go `Parse`).
pub(super) fn protocol(port: &api::service::ServicePort) -> Protocol {
    if port.protocol == "UDP" {
        return Protocol::Udp;
    }
    let declared = if port.app_protocol.is_empty() {
        port.name.as_str()
    } else {
        // Kubernetes' own names are known for appProtocol alone.
        match port.app_protocol.as_str() {
            "kubernetes.io/h2c" => return Protocol::Http2,
            "kubernetes.io/ws" => return Protocol::Http,
            "kubernetes.io/wss" => return Protocol::Tls,
            other => other,
        }
    };
    let declared = declared.to_ascii_lowercase();
    if declared.starts_with("grpc-web") {
        return Protocol::Http2;
    }
    match declared.split('-').next().unwrap_or_default() {
        "http" | "http_proxy" => Protocol::Http,
        "http2" | "grpc" => Protocol::Http2,
        // A port of TCP that is named for UDP is no UDP.
        "tcp" | "udp" | "mongo" | "mysql" | "redis" | "hbone" => Protocol::Tcp,
        "https" | "tls" => Protocol::Tls,
        _ if SERVER_FIRST.contains(&port.port) => Protocol::Tcp,
        _ => Protocol::Unknown,
    }
}

fn selected(
    service: &Service,
    selector: &crate::snapshot::Labels,
    workloads: &[Workload],
    by_label: &LabelIndex<'_>,
) -> Vec<Backend> {
    // The rarest label of the selector leaves the fewest candidates.
    let candidates = selector
        .iter()
        .map(|(key, value)| {
            by_label
                .get(&(service.name.namespace.as_str(), key, value))
                .map_or(&[][..], Vec::as_slice)
        })
        .min_by_key(|candidates| candidates.len())
        .unwrap_or(&[]);
    candidates
        .iter()
        .filter(|(id, position)| {
            workloads[id.0].generations[*position]
                .labels
                .selected_by(selector)
        })
        .map(|(id, position)| Backend {
            workload: *id,
            generation: *position,
            target_ports: service
                .ports
                .iter()
                .map(|port| target(port, &workloads[id.0]))
                .collect(),
            all_pods: true,
        })
        .collect()
}

fn target(port: &ServicePort, workload: &Workload) -> Option<u16> {
    port.target.parse().ok().or_else(|| {
        workload
            .ports
            .iter()
            .find(|declared| declared.name == port.target)
            .map(|declared| declared.container_port)
    })
}

fn by_slices(
    service: &Service,
    slices: &[&Object<api::EndpointSlice>],
    pods: &BTreeMap<ObjectName, (WorkloadId, usize)>,
) -> Vec<Backend> {
    let mut backends: BTreeMap<(WorkloadId, usize), Backend> = BTreeMap::new();
    for slice in slices {
        for endpoint in &slice.body.endpoints {
            let Some(reference) = endpoint.target_ref.as_ref().filter(|one| one.kind == "Pod")
            else {
                continue;
            };
            let namespace = if reference.namespace.is_empty() {
                &service.name.namespace
            } else {
                &reference.namespace
            };
            let Some((workload, generation)) =
                pods.get(&ObjectName::new(namespace, &reference.name))
            else {
                continue;
            };
            backends
                .entry((*workload, *generation))
                .or_insert_with(|| Backend {
                    workload: *workload,
                    generation: *generation,
                    target_ports: service
                        .ports
                        .iter()
                        .map(|port| {
                            slice
                                .body
                                .ports
                                .iter()
                                .find(|one| one.name == port.name)
                                .map(|one| one.port)
                        })
                        .collect(),
                    all_pods: false,
                });
        }
    }
    backends.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_declared_by_app_protocol_then_name_then_number() {
        let table: [(&str, &str, &str, u16, Protocol); 19] = [
            ("http", "", "TCP", 80, Protocol::Http),
            ("HTTP-web", "", "", 80, Protocol::Http),
            ("http2-api", "", "TCP", 80, Protocol::Http2),
            ("grpc", "", "TCP", 80, Protocol::Http2),
            ("grpc-web", "", "TCP", 80, Protocol::Http2),
            ("grpc-webhook", "", "TCP", 80, Protocol::Http2),
            ("httpserver", "", "TCP", 80, Protocol::Unknown),
            ("https-admin", "", "TCP", 443, Protocol::Tls),
            ("tls", "", "TCP", 443, Protocol::Tls),
            ("mongo-main", "", "TCP", 1, Protocol::Tcp),
            ("udp-name", "", "TCP", 1, Protocol::Tcp),
            ("http", "", "UDP", 53, Protocol::Udp),
            ("dns", "", "TCP", 53, Protocol::Tcp),
            ("smtp", "", "TCP", 25, Protocol::Tcp),
            ("nats", "", "TCP", 4222, Protocol::Unknown),
            ("http", "tcp", "TCP", 80, Protocol::Tcp),
            ("tcp", "kubernetes.io/h2c", "TCP", 80, Protocol::Http2),
            ("kubernetes.io/ws", "", "TCP", 80, Protocol::Unknown),
            ("tcp", "kubernetes.io/wss", "TCP", 80, Protocol::Tls),
        ];
        for (name, app_protocol, transport, number, expected) in table {
            let port = api::service::ServicePort {
                name: name.into(),
                port: number,
                target_port: None,
                protocol: transport.into(),
                app_protocol: app_protocol.into(),
                node_port: 0,
            };
            assert_eq!(protocol(&port), expected, "{name} {app_protocol} {number}");
        }
    }
}
