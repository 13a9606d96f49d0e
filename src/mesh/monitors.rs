//! Which ports of pods Prometheus scrapes, as the monitors of the Prometheus operator say.
//!
//! In: PodMonitors and ServiceMonitors, workloads, Services. Out: for each workload the ports that
//! are dialled at the pods' own addresses, each with the first monitor that says so. Invariant: a monitor
//! chooses by its own namespace unless it names others (prometheus-operator
//! `pkg/apis/monitoring/v1`: `NamespaceSelector`, `PodMetricsEndpoint`, `Endpoint`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use smol_str::SmolStr;

use super::workload::Workload;
use super::{Service, WorkloadId};
use crate::api::cluster::LabelSelector;
use crate::api::pod::ContainerPort;
use crate::snapshot::{Kind, Object, Snapshot};

/// What castoff uses of a PodMonitor or a ServiceMonitor.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Monitor {
    selector: LabelSelector,
    namespace_selector: Namespaces,
    pod_metrics_endpoints: Vec<Endpoint>,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Namespaces {
    any: bool,
    match_names: Vec<SmolStr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Endpoint {
    port: Option<SmolStr>,
    port_number: Option<u16>,
    target_port: Option<Value>,
}

impl Endpoint {
    /// Whether it means this port of the containers; an endpoint that names none means each.
    fn is_container_port(&self, port: &ContainerPort) -> bool {
        match (&self.port, self.port_number, &self.target_port) {
            (Some(name), _, _) => port.name == *name,
            (None, Some(number), _) => port.container_port == number,
            (None, None, Some(Value::String(name))) => port.name == name.as_str(),
            (None, None, Some(number)) => number.as_u64() == Some(port.container_port.into()),
            (None, None, None) => true,
        }
    }
}

/// Whether there are any.
pub(super) fn are_there(snapshot: &Snapshot) -> bool {
    let kinds = [Kind::PodMonitor, Kind::ServiceMonitor];
    kinds
        .iter()
        .any(|kind| !snapshot.resources(*kind).is_empty())
}

/// Fills in [`Workload::scraped`].
pub(super) fn mark(
    snapshot: &Snapshot,
    workloads: &mut [Workload],
    by_namespace: &BTreeMap<SmolStr, Vec<WorkloadId>>,
    services: &[Service],
) {
    for (object, monitor) in monitors(snapshot, Kind::PodMonitor) {
        let chosen: Vec<WorkloadId> = by_namespace
            .iter()
            .filter(|(namespace, _)| chooses(&monitor, object, namespace))
            .flat_map(|(_, ids)| ids.iter().copied())
            .collect();
        for id in chosen {
            let workload = &mut workloads[id.0];
            let selected = workload
                .generations
                .iter()
                .any(|generation| monitor.selector.matches(&generation.labels));
            if !selected {
                continue;
            }
            for endpoint in &monitor.pod_metrics_endpoints {
                let ports = workload.ports.iter();
                let meant = ports.filter(|port| endpoint.is_container_port(port));
                let meant: Vec<u16> = meant.map(|port| port.container_port).collect();
                note(workload, object, meant);
            }
        }
    }
    let monitors = monitors(snapshot, Kind::ServiceMonitor);
    if monitors.is_empty() {
        return;
    }
    for service in services {
        for (object, monitor) in &monitors {
            if !chooses(monitor, object, &service.name.namespace)
                || !monitor.selector.matches(&service.labels)
            {
                continue;
            }
            for endpoint in &monitor.endpoints {
                for backend in &service.backends {
                    let workload = &mut workloads[backend.workload.0];
                    let targets = service.ports.iter().zip(&backend.target_ports);
                    let meant: Vec<u16> = match &endpoint.port {
                        Some(name) => targets
                            .filter(|(port, _)| port.name == *name)
                            .filter_map(|(_, target)| *target)
                            .collect(),
                        None => workload
                            .ports
                            .iter()
                            .filter(|port| endpoint.is_container_port(port))
                            .map(|port| port.container_port)
                            .collect(),
                    };
                    note(workload, object, meant);
                }
            }
        }
    }
}

fn monitors(snapshot: &Snapshot, kind: Kind) -> Vec<(&Object<Value>, Monitor)> {
    let objects = snapshot.resources(kind).iter();
    objects
        .filter_map(|object| {
            let monitor = Monitor::deserialize(&object.body["spec"]).ok()?;
            Some((object, monitor))
        })
        .collect()
}

fn chooses(monitor: &Monitor, object: &Object<Value>, namespace: &str) -> bool {
    let selector = &monitor.namespace_selector;
    if selector.any {
        return true;
    }
    if selector.match_names.is_empty() {
        return object.metadata.namespace == namespace;
    }
    selector.match_names.iter().any(|name| name == namespace)
}

fn note(workload: &mut Workload, monitor: &Object<Value>, ports: Vec<u16>) {
    for port in ports {
        let by = || SmolStr::from(format!("{} {}", monitor.kind, monitor.object_name()));
        workload.scraped.entry(port).or_insert_with(by);
    }
}
