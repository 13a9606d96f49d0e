//! What Istio's proxies reserve now, and what ztunnel and waypoints will reserve when every sidecar is gone.
//!
//! In: a snapshot and its mesh. Out: an [`Estimate`], with what it rests on. Invariant: requests are added up as they
//! were read; what was not read is an assumption that is named, or makes the estimate incomplete, never 0 in silence.

pub mod quantity;

use std::collections::BTreeMap;

use smol_str::SmolStr;

use crate::api::pod::{Container, PodSpec};
use crate::mesh::{DataPlaneMode, Mesh, OwnerKind, Role, Workload};
use crate::needs::waypoints_to_come;
use crate::phases::Context;
use crate::snapshot::{Object, ObjectName, Snapshot};
use crate::source::yaml;

/// Processor time and memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Thousandths of a core.
    pub millicores: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What pods of one kind reserve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reserved {
    /// How many.
    pub count: usize,
    /// All their requests.
    pub requests: Amount,
    /// Of how many no request is known to be set: they reserve nothing.
    pub without_requests: usize,
}

/// Proxies now and then.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Sidecars, by namespace.
    pub sidecars: BTreeMap<SmolStr, Reserved>,
    /// ztunnel now.
    pub ztunnel_now: Reserved,
    /// Waypoints now.
    pub waypoints_now: Reserved,
    /// ztunnel on every node; `None` where the number of nodes is not known.
    pub ztunnel_then: Option<Reserved>,
    /// Waypoints that stand and those that are recommended.
    pub waypoints_then: Reserved,
    /// Names of those that are recommended.
    pub new_waypoints: Vec<ObjectName>,
    /// What was assumed, in sentences.
    pub assumptions: Vec<String>,
    /// What is missing, in sentences: the sums are too small by it.
    pub missing: Vec<String>,
}

/// What Istio's charts of release 1.30 set where nobody sets anything else (manifests/charts:
/// istio-control/istio-discovery/values.yaml `global.proxy.resources`, `global.waypoint.resources`; ztunnel/values.yaml
/// `resources`).
const SIDECAR: (&str, &str) = ("100m", "128Mi");
const WAYPOINT: (&str, &str) = ("100m", "128Mi");
const ZTUNNEL: (&str, &str) = ("200m", "512Mi");

impl Amount {
    fn of((cpu, memory): (&str, &str)) -> Self {
        Self {
            millicores: quantity::millicores(cpu).unwrap_or_default(),
            bytes: quantity::bytes(memory).unwrap_or_default(),
        }
    }

    fn times(self, count: usize) -> Self {
        let count = count as u64;
        Self {
            millicores: self.millicores.saturating_mul(count),
            bytes: self.bytes.saturating_mul(count),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            millicores: self.millicores.saturating_add(other.millicores),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl Reserved {
    fn add(&mut self, count: usize, amount: Option<Amount>) {
        self.count += count;
        match amount {
            Some(amount) => self.requests = self.requests.plus(amount.times(count)),
            None => self.without_requests += count,
        }
    }
}

/// Adds up what was read.
pub fn estimate(context: &Context<'_>) -> Estimate {
    let (mesh, snapshot) = (context.mesh, context.snapshot);
    let mut found = Estimate::default();
    let values = chart_values(snapshot);
    sidecars(context, &values, &mut found);
    ztunnel(mesh, snapshot, &mut found);
    waypoints(context, &values, &mut found);
    found.assumptions.push(
        "every workload with a sidecar moves; gateways keep their proxies and are not counted, nor are istiod and istio-cni"
            .to_owned(),
    );
    if !context.options.namespaces.is_empty() {
        found.assumptions.push(
            "sidecars and waypoints of the namespaces asked for alone are counted; ztunnel serves every namespace".to_owned(),
        );
    }
    found
}

/// The values that the chart of istiod was installed with, as its injector keeps them (ConfigMap
/// `istio-sidecar-injector`, key `values`).
fn chart_values(snapshot: &Snapshot) -> Vec<serde_json::Value> {
    let maps = snapshot
        .config_maps
        .iter()
        .filter(|map| map.metadata.name.starts_with("istio-sidecar-injector"));
    maps.filter_map(|map| yaml::parse_value(map.body.data.get("values")?).ok())
        .collect()
}

/// `global.<who>.resources.requests` of the chart, else its default; and whether it was read.
fn of_chart(values: &[serde_json::Value], who: &str, default: (&str, &str)) -> (Amount, bool) {
    let read = values.iter().find_map(|value| {
        let requests = value.pointer(&format!("/global/{who}/resources/requests"))?;
        Some(Amount {
            millicores: quantity::millicores(requests["cpu"].as_str()?)?,
            bytes: quantity::bytes(requests["memory"].as_str()?)?,
        })
    });
    (read.unwrap_or(Amount::of(default)), read.is_some())
}

/// What a container asks for; `None` where it asks for nothing, or for what is no quantity.
fn requests(container: &Container) -> Option<Amount> {
    let resources = &container.resources;
    // A limit without a request is the request (kubernetes.io, "Resource Management for Pods and Containers").
    let either = |name: &str| {
        let requests = resources.requests.get(name);
        requests.or_else(|| resources.limits.get(name))
    };
    let cpu = either("cpu").and_then(quantity::millicores);
    let memory = either("memory").and_then(quantity::bytes);
    (cpu.is_some() || memory.is_some()).then(|| Amount {
        millicores: cpu.unwrap_or_default(),
        bytes: memory.unwrap_or_default(),
    })
}

/// The proxy of a pod, as a container or as a native sidecar.
fn proxy(spec: &PodSpec) -> Option<&Container> {
    let mut all = spec.containers.iter().chain(&*spec.init_containers);
    all.find(|one| one.name == "istio-proxy")
}

/// Pods by name.
fn pods(snapshot: &Snapshot) -> BTreeMap<ObjectName, &PodSpec> {
    (snapshot.pods.iter())
        .map(|pod| (pod.object_name(), &pod.body.spec))
        .collect()
}

fn sidecars(context: &Context<'_>, values: &[serde_json::Value], found: &mut Estimate) {
    let (mesh, snapshot) = (context.mesh, context.snapshot);
    let pods = pods(snapshot);
    let (usual, was_read) = of_chart(values, "proxy", SIDECAR);
    let mut predicted = 0;
    let mut missing = Vec::new();
    let includes = |workload: &&Workload| context.choice().includes(&workload.name.namespace);
    let applications = mesh
        .workloads
        .iter()
        .filter(|one| one.role == Role::Application);
    for workload in applications.filter(includes) {
        let namespace = &workload.name.namespace;
        let with_sidecar = workload.generations.iter();
        for generation in with_sidecar.filter(|one| one.mode == DataPlaneMode::Sidecar) {
            for pod in &generation.pods {
                let reserved = found.sidecars.entry(namespace.clone()).or_default();
                let spec = pods.get(&ObjectName::new(namespace, &pod.name));
                match spec.and_then(|spec| proxy(spec)) {
                    Some(container) => reserved.add(1, requests(container)),
                    None if workload.idle => {}
                    None => {
                        let (count, unknown) = expected(workload, snapshot);
                        predicted += count;
                        reserved.add(count, Some(of_pod(workload, usual)));
                        missing.extend(unknown);
                    }
                }
            }
        }
    }
    found.sidecars.retain(|_, reserved| reserved.count > 0);
    found.missing.extend(missing);
    if predicted > 0 {
        found.assumptions.push(format!(
            "{} {} not among the input: counted from the replicas of their owners (of a DaemonSet without \
             status: one on every node), each sidecar with what {}, or what \
             annotations of the pod say",
            crate::phases::wording::count(predicted, "pod"),
            if predicted == 1 { "is" } else { "are" },
            source(was_read),
        ));
    }
}

/// How many pods an owner wants whose pods were not read, and what is not known of it.
fn expected(workload: &Workload, snapshot: &Snapshot) -> (usize, Option<String>) {
    if workload.owner != OwnerKind::DaemonSet {
        return (workload.replicas.max(1), None);
    }
    let mut owners = snapshot.owners.iter();
    let owner =
        owners.find(|owner| owner.kind == "DaemonSet" && owner.object_name() == workload.name);
    let scheduled = owner
        .and_then(|owner| usize::try_from(owner.body.status.desired_number_scheduled).ok())
        .unwrap_or_default();
    match (scheduled, snapshot.nodes.len()) {
        (0, 0) => (
            1,
            Some(format!(
                "on how many nodes {} runs: its DaemonSet has no status, and no Node is among the input; counted once",
                workload.name
            )),
        ),
        (0, nodes) => (nodes, None),
        (scheduled, _) => (scheduled, None),
    }
}

/// What a sidecar that is not there yet will ask for (annotations `sidecar.istio.io/proxyCPU` and `proxyMemory`: istio
/// manifests/charts/istio-control/istio-discovery/files/injection-template.yaml).
fn of_pod(workload: &Workload, usual: Amount) -> Amount {
    let said = |key: &str| workload.template_annotations.get(key);
    let cpu = said("sidecar.istio.io/proxyCPU").and_then(quantity::millicores);
    let memory = said("sidecar.istio.io/proxyMemory").and_then(quantity::bytes);
    if cpu.is_none() && memory.is_none() {
        return usual;
    }
    // Where one is given, the chart's own does not apply to the other.
    Amount {
        millicores: cpu.unwrap_or_default(),
        bytes: memory.unwrap_or_default(),
    }
}

fn source(was_read: bool) -> &'static str {
    if was_read {
        "the values of istiod's chart say"
    } else {
        "Istio's chart of release 1.30 says"
    }
}

fn ztunnel(mesh: &Mesh, snapshot: &Snapshot, found: &mut Estimate) {
    let state = mesh.ztunnel.as_ref();
    let template = state.and_then(|state| {
        let is_it = |owner: &&Object<_>| {
            owner.kind == "DaemonSet" && owner.object_name() == state.object.name
        };
        let owner = snapshot.owners.iter().find(is_it)?;
        owner.body.template()?.spec.containers.first()
    });
    let amount = match template {
        Some(container) => requests(container),
        None => Some(Amount::of(ZTUNNEL)),
    };
    if let (Some(state), Some(_)) = (state, template) {
        let pods = state.desired.and_then(|count| usize::try_from(count).ok());
        found.ztunnel_now.add(pods.unwrap_or_default(), amount);
        if pods.is_none() {
            found
                .missing
                .push("on how many nodes ztunnel runs now: its DaemonSet has no status".to_owned());
        }
    } else {
        found.assumptions.push(format!(
            "no DaemonSet of ztunnel is among the input: it is taken to ask for {} CPU and {} memory, as {}",
            ZTUNNEL.0,
            ZTUNNEL.1,
            source(false)
        ));
    }
    let nodes = match (snapshot.nodes.len(), found.ztunnel_now.count) {
        (0, 0) => None,
        (0, running) => Some(running),
        (nodes, _) => Some(nodes),
    };
    match nodes {
        Some(nodes) => {
            let mut then = Reserved::default();
            then.add(nodes, amount);
            found.ztunnel_then = Some(then);
        }
        None => found
            .missing
            .push("on how many nodes ztunnel will run: no Node is among the input".to_owned()),
    }
}

fn waypoints(context: &Context<'_>, values: &[serde_json::Value], found: &mut Estimate) {
    let (mesh, snapshot) = (context.mesh, context.snapshot);
    let (usual, was_read) = of_chart(values, "waypoint", WAYPOINT);
    let mut assumed = 0;
    let pods = pods(snapshot);
    let asked = |name: &SmolStr| context.choice().includes(name);
    for waypoint in (mesh.waypoints.iter()).filter(|one| asked(&one.name.namespace)) {
        let workload = waypoint.workload.map(|id| mesh.workload(id));
        let container = workload.and_then(|workload| {
            let of_pods = (workload.generations.iter())
                .flat_map(|generation| &generation.pods)
                .find_map(|pod| pods.get(&ObjectName::new(&workload.name.namespace, &pod.name)));
            let mut owners = snapshot.owners.iter();
            let of_owner = || {
                let owner = owners.find(|owner| {
                    owner.kind == "Deployment" && owner.object_name() == workload.name
                })?;
                Some(&owner.body.template()?.spec)
            };
            of_pods.copied().or_else(of_owner).and_then(proxy)
        });
        let count = workload.map_or(1, |workload| workload.replicas.max(1));
        let amount = match container {
            Some(container) => requests(container),
            None => {
                assumed += 1;
                Some(usual)
            }
        };
        found.waypoints_now.add(count, amount);
    }
    found.waypoints_then = found.waypoints_now.clone();
    let new = waypoints_to_come(mesh, context.needs());
    found.waypoints_then.add(new.len(), Some(usual));
    assumed += new.len();
    found.new_waypoints = new.into_iter().map(|one| one.name).collect();
    if assumed > 0 {
        found.assumptions.push(format!(
            "{} of which no pod and no Deployment is among the input: one pod each, with what {}",
            crate::phases::wording::count(assumed, "waypoint"),
            source(was_read)
        ));
    }
}
