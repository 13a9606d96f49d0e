//! Groups pods by their topmost owner, and predicts pods where only templates were given.
//!
//! In: pods and owners of a snapshot, namespaces, revisions. Out: [`Workload`]s, sorted. Invariant:
//! a pod counts once, under its topmost owner; a predicted workload says so.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::control_plane::image_version;
use super::injection::Rules;
use super::workload::{
    AsProxy, DataPlaneMode, Generation, OwnerKind, PodState, Replacement, Role, Workload,
    owner_kind,
};
use crate::api::pod::{Container, ContainerPort, Pod, PodOwner, PodSpec};
use crate::snapshot::{Labels, Metadata, Object, ObjectName, OwnerReference, Snapshot};

/// Labels that controllers put on pods. They would make a generation of every pod or ReplicaSet, so
/// they are left out unless something selects by them.
const CONTROLLER_LABELS: [&str; 12] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
    "batch.kubernetes.io/controller-uid",
    "batch.kubernetes.io/job-name",
    "batch.kubernetes.io/job-completion-index",
    "job-name",
    "job-completion-index",
    "controller-uid",
    "rollouts-pod-template-hash",
];

/// The controllers' labels that nothing selects by: no Service (one for each pod of a StatefulSet,
/// say), no policy, no subset.
pub(super) fn ignored_labels(snapshot: &Snapshot) -> Vec<&'static str> {
    let selectors = snapshot
        .services
        .iter()
        .filter_map(|service| service.body.spec.selector.as_ref());
    let mut ignored = CONTROLLER_LABELS.to_vec();
    let mut select = |key: &str| ignored.retain(|label| *label != key);
    for selector in selectors {
        selector.iter().for_each(|(key, _)| select(key));
    }
    for object in snapshot.resources.values().flatten() {
        let spec = &object.body["spec"];
        let single = [
            &spec["selector"]["matchLabels"],
            &spec["workloadSelector"]["labels"],
            &spec["workloadSelector"]["matchLabels"],
        ];
        let subsets = spec["subsets"].as_array().into_iter().flatten();
        let maps = single
            .into_iter()
            .chain(subsets.map(|subset| &subset["labels"]));
        let keys = maps
            .filter_map(|map| map.as_object())
            .flat_map(|map| map.keys());
        keys.for_each(|key| select(key));
    }
    ignored
}

/// Key of an owner: kind, namespace, name.
type OwnerKey = (OwnerKind, ObjectName);

/// The workloads of the namespaces chosen; none reaches beyond its own.
pub(super) fn build(
    snapshot: &Snapshot,
    rules: &Rules<'_>,
    ignored: &[&str],
    within: impl Fn(&str) -> bool,
) -> Vec<Workload> {
    let owners: BTreeMap<OwnerKey, &Object<PodOwner>> = snapshot
        .owners
        .iter()
        .filter(|owner| within(&owner.metadata.namespace))
        .map(|owner| ((owner_kind(&owner.kind), owner.object_name()), owner))
        .collect();
    let mut pods: BTreeMap<OwnerKey, (SmolStr, Vec<&Object<Pod>>)> = BTreeMap::new();
    let chosen = |pod: &&Object<Pod>| within(&pod.metadata.namespace) && runs(pod);
    for pod in snapshot.pods.iter().filter(chosen) {
        let (key, api_version) = topmost(pod, &owners);
        pods.entry(key)
            .or_insert_with(|| (api_version, Vec::new()))
            .1
            .push(pod);
    }
    let mut workloads = Vec::new();
    for (key, owner) in &owners {
        let ended = key.0 == OwnerKind::Job && has_ended(&owner.body);
        if is_topmost(owner, &owners) && !pods.contains_key(key) && !ended {
            workloads.extend(predict(key, owner, rules));
        }
    }
    for (key, (api_version, pods)) in pods {
        let owner = owners.get(&key).copied();
        workloads.push(observe(key, api_version, owner, &pods, rules, ignored));
    }
    let lent: BTreeMap<OwnerKey, ObjectName> = owners
        .values()
        .filter_map(|owner| {
            let lender = owner.body.spec.workload_ref.as_ref()?;
            let name = ObjectName::new(&owner.metadata.namespace, &lender.name);
            Some(((owner_kind(&lender.kind), name), owner.object_name()))
        })
        .collect();
    if !lent.is_empty() {
        for workload in &mut workloads {
            let key = (workload.owner.clone(), workload.name.clone());
            if let Some(rollout) = lent.get(&key) {
                workload.replacement = Replacement::lent(rollout);
            }
        }
    }
    sort(&mut workloads);
    workloads
}

/// By name, then owner.
pub(super) fn sort(workloads: &mut [Workload]) {
    workloads.sort_by(|left, right| (&left.name, &left.owner).cmp(&(&right.name, &right.owner)));
}

/// A pod that has ended, or is on its way out, serves nobody.
fn runs(pod: &Object<Pod>) -> bool {
    !matches!(pod.body.status.phase.as_str(), "Succeeded" | "Failed")
        && pod.metadata.deletion_timestamp.is_none()
}

fn controller(metadata: &Metadata) -> Option<&OwnerReference> {
    metadata
        .owner_references
        .iter()
        .find(|reference| reference.controller)
        .or(metadata.owner_references.first())
}

/// The topmost owner of a pod; owners that were not given are known from references alone.
fn topmost(
    pod: &Object<Pod>,
    owners: &BTreeMap<OwnerKey, &Object<PodOwner>>,
) -> (OwnerKey, SmolStr) {
    let namespace = &pod.metadata.namespace;
    let Some(mut reference) = controller(&pod.metadata) else {
        return ((OwnerKind::Pod, pod.object_name()), pod.api_version.clone());
    };
    // Owner references form a tree of depth three at most; the bound ends a loop in bad input.
    for _ in 0..4 {
        let key = (
            owner_kind(&reference.kind),
            ObjectName::new(namespace, &reference.name),
        );
        match owners
            .get(&key)
            .and_then(|owner| controller(&owner.metadata))
        {
            Some(above) => reference = above,
            None => return (key, reference.api_version.clone()),
        }
    }
    (
        (
            owner_kind(&reference.kind),
            ObjectName::new(namespace, &reference.name),
        ),
        reference.api_version.clone(),
    )
}

fn is_topmost(owner: &Object<PodOwner>, owners: &BTreeMap<OwnerKey, &Object<PodOwner>>) -> bool {
    controller(&owner.metadata).is_none_or(|reference| {
        let above = (
            owner_kind(&reference.kind),
            ObjectName::new(&owner.metadata.namespace, &reference.name),
        );
        // A ReplicaSet of a Deployment that was not given speaks for it, unless it wants no pods.
        !owners.contains_key(&above) && owner.body.spec.replicas != Some(0)
    })
}

/// Whether an owner wants no pods.
fn is_idle(owner: &PodOwner) -> bool {
    owner.spec.replicas == Some(0)
}

/// Whether a Job has ended: it starts no pod again, so that it calls nobody and serves nobody
/// (kubernetes pkg/controller/job/job_controller.go, `IsJobFinished`).
fn has_ended(owner: &PodOwner) -> bool {
    owner.status.conditions.iter().any(|condition| {
        matches!(condition.kind.as_str(), "Complete" | "Failed") && condition.status == "True"
    })
}

fn predict(key: &OwnerKey, owner: &Object<PodOwner>, rules: &Rules<'_>) -> Option<Workload> {
    let template = owner.body.template()?;
    let role = role(&template.metadata, &template.spec);
    let idle = is_idle(&owner.body);
    let next = rules.next_mode(
        &owner.metadata.namespace,
        &template.metadata,
        &template.spec,
        &role,
    );
    let mut labels = template.metadata.labels.clone();
    let hbone = next.mode == DataPlaneMode::Ambient
        || (next.mode == DataPlaneMode::Sidecar && rules.injects_hbone);
    if next.mode == DataPlaneMode::Sidecar {
        labels.set("security.istio.io/tlsMode", "istio");
        if hbone {
            labels.set("networking.istio.io/tunnel", "http");
        }
    }
    let generation = Generation {
        mode: next.mode,
        labels,
        accepts_hbone: hbone,
        native_sidecar: false,
        proxy_version: None,
        revision: next.revision.clone(),
        pods: vec![PodState {
            name: SmolStr::default(),
            node: SmolStr::default(),
            addresses: Vec::new(),
            ready: !idle,
            redirection: SmolStr::default(),
            origin: owner.origin.clone(),
        }],
    };
    let replicas = usize::try_from(owner.body.spec.replicas.unwrap_or(1)).unwrap_or(0);
    Some(Workload {
        owner: key.0.clone(),
        owner_api_version: owner.api_version.clone(),
        name: key.1.clone(),
        template_labels: template.metadata.labels.clone(),
        template_annotations: template.metadata.annotations.clone(),
        owner_labels: owner.metadata.labels.clone(),
        owner_annotations: owner.metadata.annotations.clone(),
        has_template: true,
        replacement: Replacement::of(&key.0, &key.1, &owner.body.spec),
        waits_for_promotion: owner.body.spec.waits_for_promotion(),
        service_account: account(&template.spec),
        host_network: template.spec.host_network,
        as_proxy: as_proxy(&template.spec),
        ports: ports(&template.spec),
        scraped: BTreeMap::new(),
        generations: vec![generation],
        next_mode: next.mode,
        next_mode_reason: next.reason,
        needs_namespace_label: rules.needs_namespace_label(
            &owner.metadata.namespace,
            &template.metadata,
            &template.spec,
            &role,
        ),
        role,
        predicted: true,
        origin: owner.origin.clone(),
        replicas,
        idle,
    })
}

fn observe(
    key: OwnerKey,
    api_version: SmolStr,
    owner: Option<&Object<PodOwner>>,
    pods: &[&Object<Pod>],
    rules: &Rules<'_>,
    ignored: &[&str],
) -> Workload {
    let first = pods[0];
    let template = owner.and_then(|owner| owner.body.template());
    let (metadata, spec) = template.map_or((&first.metadata, &first.body.spec), |one| {
        (&one.metadata, &one.spec)
    });
    let role = role(&first.metadata, &first.body.spec);
    let next = rules.next_mode(&key.1.namespace, metadata, spec, &role);
    let mut generations: Vec<Generation> = Vec::new();
    for pod in pods {
        let shape = shape(pod, &role, rules, ignored);
        match generations
            .iter_mut()
            .find(|known| same_shape(known, &shape))
        {
            Some(known) => known.pods.extend(shape.pods),
            None => generations.push(shape),
        }
    }
    for generation in &mut generations {
        generation
            .pods
            .sort_by(|left, right| left.name.cmp(&right.name));
    }
    generations.sort_by(|left, right| (left.mode, &left.labels).cmp(&(right.mode, &right.labels)));
    let replacement = owner.map_or(Replacement::ByItself, |owner| {
        Replacement::of(&key.0, &key.1, &owner.body.spec)
    });
    let needs_namespace_label =
        rules.needs_namespace_label(&key.1.namespace, metadata, spec, &role);
    Workload {
        owner: key.0,
        owner_api_version: api_version,
        name: key.1,
        role,
        template_labels: metadata.labels.clone(),
        template_annotations: metadata.annotations.clone(),
        owner_labels: owner
            .map(|owner| owner.metadata.labels.clone())
            .unwrap_or_default(),
        owner_annotations: owner
            .map(|owner| owner.metadata.annotations.clone())
            .unwrap_or_default(),
        has_template: template.is_some(),
        replacement,
        waits_for_promotion: owner.is_some_and(|one| one.body.spec.waits_for_promotion()),
        service_account: account(&first.body.spec),
        host_network: first.body.spec.host_network,
        as_proxy: as_proxy(spec),
        ports: ports(&first.body.spec),
        scraped: BTreeMap::new(),
        generations,
        next_mode: next.mode,
        next_mode_reason: next.reason,
        needs_namespace_label,
        predicted: false,
        origin: owner.map_or_else(|| first.origin.clone(), |owner| owner.origin.clone()),
        replicas: pods.len(),
        idle: false,
    }
}

fn same_shape(left: &Generation, right: &Generation) -> bool {
    left.mode == right.mode
        && left.labels == right.labels
        && left.accepts_hbone == right.accepts_hbone
        && left.native_sidecar == right.native_sidecar
        && left.revision == right.revision
        && left.proxy_version == right.proxy_version
}

/// How one pod runs.
fn shape(pod: &Object<Pod>, role: &Role, rules: &Rules<'_>, ignored: &[&str]) -> Generation {
    let spec = &pod.body.spec;
    let sidecar = (*role == Role::Application)
        .then(|| sidecar(spec))
        .flatten();
    let redirection: SmolStr = pod
        .metadata
        .annotations
        .get("ambient.istio.io/redirection")
        .unwrap_or_default()
        .into();
    let mode = if sidecar.is_some() {
        DataPlaneMode::Sidecar
    } else if *role == Role::Application && rules.is_captured(pod) {
        DataPlaneMode::Ambient
    } else {
        DataPlaneMode::None
    };
    let metadata_hbone = sidecar.as_ref().is_some_and(|(container, _)| {
        environment(container, "ISTIO_META_ENABLE_HBONE").is_some_and(|value| value == "true")
    });
    let labels: Labels = pod
        .metadata
        .labels
        .iter()
        .filter(|(key, _)| !ignored.contains(key))
        .collect();
    let accepts_hbone = match mode {
        DataPlaneMode::Ambient => true,
        DataPlaneMode::Sidecar => {
            labels.has("networking.istio.io/tunnel", "http") || metadata_hbone
        }
        DataPlaneMode::None => false,
    };
    let addresses = if spec_addresses(pod).is_empty() {
        Vec::new()
    } else {
        spec_addresses(pod)
    };
    Generation {
        mode,
        labels,
        accepts_hbone,
        native_sidecar: sidecar.as_ref().is_some_and(|(_, native)| *native),
        proxy_version: sidecar
            .as_ref()
            .and_then(|(container, _)| image_version(&container.image)),
        revision: pod
            .metadata
            .annotations
            .get("istio.io/rev")
            .unwrap_or_default()
            .into(),
        pods: vec![PodState {
            name: pod.metadata.name.clone(),
            node: spec.node_name.clone(),
            addresses,
            ready: pod
                .body
                .status
                .conditions
                .iter()
                .any(|condition| condition.kind == "Ready" && condition.status == "True"),
            redirection,
            origin: pod.origin.clone(),
        }],
    }
}

fn spec_addresses(pod: &Object<Pod>) -> Vec<std::net::IpAddr> {
    let status = &pod.body.status;
    let all = status.pod_ips.iter().map(|one| one.ip.as_str());
    let mut list: Vec<std::net::IpAddr> = all
        .chain(std::iter::once(status.pod_ip.as_str()))
        .filter_map(|text| text.parse().ok())
        .collect();
    list.dedup();
    if list.len() > 1 && list.first() == list.last() {
        list.pop();
    }
    list
}

/// The sidecar container, and whether it is a native one.
fn sidecar(spec: &PodSpec) -> Option<(&Container, bool)> {
    let named = |container: &&Container| {
        container.name == "istio-proxy" && proxy_type(container) != Some("ztunnel")
    };
    spec.containers
        .iter()
        .find(named)
        .map(|container| (container, false))
        .or_else(|| {
            spec.init_containers
                .iter()
                .find(named)
                .map(|container| (container, true))
        })
}

/// `sidecar`, `router`, `waypoint` of `proxy sidecar`; `ztunnel` of `proxy ztunnel`.
fn proxy_type(container: &Container) -> Option<&str> {
    let mut arguments = container.args.iter();
    arguments.find(|argument| *argument == "proxy")?;
    arguments.next().map(SmolStr::as_str)
}

fn environment<'a>(container: &'a Container, name: &str) -> Option<&'a str> {
    container
        .env
        .iter()
        .find(|one| one.name == name)?
        .value
        .as_deref()
}

/// What pods are for, by labels that Istio's own charts and controllers set
/// (istio manifests/charts, pilot/pkg/config/kube/gatewaycommon).
fn role(metadata: &Metadata, spec: &PodSpec) -> Role {
    let labels = &metadata.labels;
    let proxy = spec
        .containers
        .iter()
        .chain(&spec.init_containers)
        .find_map(proxy_type);
    let gateway_name = labels
        .get("gateway.networking.k8s.io/gateway-name")
        .or_else(|| labels.get("istio.io/gateway-name"))
        .map(|name| ObjectName::new(&metadata.namespace, name));
    let managed = labels.get("gateway.istio.io/managed").unwrap_or_default();
    match (gateway_name, proxy) {
        (Some(name), Some("waypoint")) => return Role::Waypoint(name),
        (Some(name), _) if managed.contains("mesh-controller") || managed.contains("waypoint") => {
            return Role::Waypoint(name);
        }
        (Some(name), _) => return Role::KubernetesGateway(name),
        (None, Some("waypoint")) => return Role::Waypoint(ObjectName::default()),
        (None, _) => {}
    }
    let template = metadata
        .annotations
        .get("inject.istio.io/templates")
        .unwrap_or_default();
    if proxy == Some("router") || template.split(',').any(|one| one.trim() == "gateway") {
        return Role::Gateway;
    }
    if labels.has("app", "ztunnel") || proxy == Some("ztunnel") {
        return Role::Ztunnel;
    }
    if labels.has("k8s-app", "istio-cni-node") {
        return Role::CniAgent;
    }
    if labels.has("app", "istiod")
        || (labels.has("istio", "pilot")
            && spec.containers.iter().any(|one| one.name == "discovery"))
    {
        return Role::ControlPlane;
    }
    Role::Application
}

fn account(spec: &PodSpec) -> SmolStr {
    if spec.service_account_name.is_empty() {
        "default".into()
    } else {
        spec.service_account_name.clone()
    }
}

/// User and group of the sidecar (istio tools/istio-iptables/pkg/constants/constants.go `DefaultProxyUID`; where
/// OpenShift gives another one, that is not known here).
const PROXY: i64 = 1337;

fn as_proxy(spec: &PodSpec) -> AsProxy {
    let own = &spec.security_context;
    let applications = spec.containers.iter();
    let applications = applications.filter(|one| one.name != "istio-proxy");
    let runs: Vec<bool> = applications
        .map(|one| {
            let user = one.security_context.run_as_user.or(own.run_as_user);
            let group = one.security_context.run_as_group.or(own.run_as_group);
            user == Some(PROXY) || group == Some(PROXY)
        })
        .collect();
    match (runs.contains(&true), runs.contains(&false)) {
        (false, _) => AsProxy::None,
        (true, true) => AsProxy::Some,
        (true, false) => AsProxy::All,
    }
}

fn ports(spec: &PodSpec) -> Vec<ContainerPort> {
    let mut list: Vec<ContainerPort> = spec
        .containers
        .iter()
        .filter(|container| container.name != "istio-proxy" || proxy_type(container).is_none())
        .flat_map(|container| container.ports.iter().cloned())
        .collect();
    list.sort();
    list.dedup();
    list
}
