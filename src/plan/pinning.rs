//! Circles of callers and servers, moved without a gap: new pods run beside the old ones, and callers
//! with sidecars are pinned to servers with sidecars until all callers are new.
//!
//! In: the state before and who moves. Out: the wave with its states proved, or what stands against it.
//! Invariant: a pin is made only where [`crate::prove::pins`] reads it as every proxy does.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::attempt::move_wave;
use super::field::Field;
use super::saved;
use super::wave::{Files, Step, Wave};
use crate::manifest;
use crate::mesh::traffic::{DestinationRule, VirtualService};
use crate::mesh::{
    Distribution, Mesh, OwnerKind, Protocol, Service, ServiceId, Workload, WorkloadId, ingress,
};
use crate::needs::GENERATED_LABEL;
use crate::phases::commands::{LabelChange, template_labels};
use crate::phases::remove_sidecars::switch::template_label_changes;
use crate::phases::wording;
use crate::prove::pins::{SIDECAR_LABEL, for_sidecars, is_exported, pinnable, rivals};
use crate::snapshot::{Kind, ObjectName, Snapshot};

const SUBSETS_FILE: &str = "pin-subsets.yaml";
const PIN_FILE: &str = "pin.yaml";
const HAND_OVER_FILE: &str = "pin-hand-over.yaml";
const OLD: &str = "castoff-sidecar";
const NEW: &str = "castoff-ambient";
const AMBIENT_LABEL: (&str, &str) = ("istio.io/dataplane-mode", "ambient");

/// How long a Deployment keeps its old pods beside new ones unless it is told otherwise, in seconds:
/// a new pod that is ready counts as available only after this time, and an old one goes only for an
/// available one (kubernetes pkg/controller/deployment/rolling.go `reconcileOldReplicaSets`).
const HELD: u32 = 7 * 24 * 60 * 60;

/// A wave that moves these with old and new pods side by side, its states proved, and the field after it; or
/// why old and new pods cannot be kept apart.
///
/// # Errors
/// The first command that cannot be played.
pub(super) fn attempt<'a>(
    field: &Field<'a>,
    moving: &BTreeSet<ObjectName>,
) -> Result<Result<(Wave, Field<'a>), String>, String> {
    let pinning = match pinning(field.snapshot(), &field.mesh(), moving) {
        Ok(pinning) => pinning,
        Err(why) => return Ok(Err(why)),
    };
    let mut wave = move_wave(
        moving,
        "They call one another, so that none can move before the other: old and new pods run side by side, callers \
         with sidecars reach servers with sidecars alone, and everybody else is handed over to the new ones before the \
         old ones go.",
    );
    wave.temporary = pinning.manifests.keys().cloned().collect();
    wave.manifests = pinning.manifests;
    wave.saved = pinning.saved;
    wave.steps = pinning.steps.into();
    let files: Files = (wave.manifests.iter().chain(&wave.saved))
        .map(|(name, content)| (name.clone(), content.clone()))
        .collect();
    let mut pinned = field.clone();
    pinned.advance(&wave.steps[..2], &files)?;
    let mut handed_over = pinned.clone();
    handed_over.advance(&wave.steps[3..4], &files)?;
    let mut after = pinned.clone();
    after.advance(&wave.steps[2..5], &files)?;
    wave.states = vec![
        pinned.at_rest("with callers pinned"),
        pinned.mixed_by_template(
            moving,
            "while old and new pods run side by side, callers with sidecars pinned to the old ones",
        ),
        handed_over.mixed_by_template(
            moving,
            "while old pods go, and everybody without a sidecar is sent to the new ones",
        ),
        after.at_rest("after the last old pod is gone, with the pins still there"),
    ];
    after.advance(&wave.steps[5..], &files)?;
    wave.states.push(after.at_rest("after the pins are gone"));
    Ok(Ok((wave, after)))
}

/// The steps: subsets, pin, new pods beside old ones, hand over, old pods go, unpin, forget.
struct Pinning {
    steps: [Step; 7],
    manifests: Files,
    /// What the manifests replace.
    saved: Files,
}

/// The steps that move these, or why they cannot run both ways side by side.
///
/// # Errors
/// A sentence that names what stands against it.
fn pinning(
    snapshot: &Snapshot,
    mesh: &Mesh,
    moving: &BTreeSet<ObjectName>,
) -> Result<Pinning, String> {
    if mesh.distribution == Distribution::Solo {
        return Err("sidecars of Solo's builds route through waypoints".to_owned());
    }
    let workloads: Vec<&Workload> = mesh
        .workloads
        .iter()
        .filter(|workload| moving.contains(&workload.name))
        .collect();
    let mut rollouts = Vec::new();
    for workload in &workloads {
        rollouts.push(Rollout::of(snapshot, workload)?);
    }
    let services = services(mesh, moving)?;
    let mut subsets = Vec::new();
    let (mut pins, mut hand_over) = (Vec::new(), Vec::new());
    for service in &services {
        let (rule, route) = own_objects(mesh, service)?;
        subsets.push(destination_rule(snapshot, service, rule)?);
        pins.push(virtual_service(snapshot, service, route, None)?);
        hand_over.push(virtual_service(snapshot, service, route, Some(NEW))?);
    }
    let files: Files = [
        (SUBSETS_FILE, &subsets),
        (PIN_FILE, &pins),
        (HAND_OVER_FILE, &hand_over),
    ]
    .map(|(name, objects)| (name.to_owned(), manifest::documents(objects.iter())))
    .into();
    let mut before = Files::new();
    let mut undo = |file: &str| saved::undo_apply(snapshot, file, &files[file], &mut before);
    let (forget, unpin) = (undo(SUBSETS_FILE), undo(PIN_FILE));
    let apply = |file: &str| format!("kubectl apply -f {file}");
    let hosts: Vec<String> = services.iter().map(|service| service.host()).collect();
    let hosts = wording::first_few(&hosts, 3);
    let names: Vec<String> = workloads.iter().map(|one| wording::workload(one)).collect();
    let names = wording::first_few(&names, 5);
    let collect = |line: fn(&Rollout) -> String| rollouts.iter().map(line).collect::<Vec<_>>();
    let both_ready = |new: (&str, &str)| -> Vec<String> {
        (rollouts.iter())
            .flat_map(|one| one.both_ready(new))
            .collect()
    };
    let name = Step {
        what: "give pods with and without sidecars names that routes can use".to_owned(),
        look: vec![
            "nobody deploys these workloads or edits their VirtualServices and DestinationRules until the wave is over; \
             where Argo CD or Flux manage them, their synchronization is suspended"
                .to_owned(),
            "there is room for every pod of these workloads twice".to_owned(),
        ],
        run: vec![apply(SUBSETS_FILE)],
        undo: forget.clone(),
        ..Step::default()
    };
    let pin = Step {
        what: "send callers with sidecars to pods with sidecars alone".to_owned(),
        look: vec![format!(
            "`istioctl proxy-config clusters` of a caller with a sidecar lists subset {OLD} of {hosts}"
        )],
        run: vec![apply(PIN_FILE)],
        undo: unpin.clone(),
        ..Step::default()
    };
    let beside = Step {
        what: format!(
            "start ambient pods of {names} beside the old ones, which stay until step 5 (7 days at most)"
        ),
        look: vec![format!(
            "`istioctl proxy-config routes` of a caller with a sidecar leads to subset {OLD} of {hosts}"
        )],
        run: collect(Rollout::start),
        undo: collect(Rollout::release),
        settled: both_ready(AMBIENT_LABEL),
        undo_settled: collect(Rollout::rolled_out),
        moves: workloads.iter().map(|one| one.name.to_string()).collect(),
        ..Step::default()
    };
    let over = Step {
        what: "send everybody who comes through a waypoint to the new pods alone".to_owned(),
        look: vec![
            "as many new pods as old ones are Ready, and their application works".to_owned(),
        ],
        run: vec![apply(HAND_OVER_FILE)],
        undo: vec![apply(PIN_FILE)],
        ..Step::default()
    };
    let release = Step {
        what: "let the old pods go".to_owned(),
        look: vec![
            "the access logs of the old pods show calls from one another alone".to_owned(),
            "no old pod has work of its own to finish (a timer, a queue): what it calls then can fail, since the old \
             pods of the others may be gone before it"
                .to_owned(),
        ],
        run: collect(Rollout::release),
        undo: collect(Rollout::start_old),
        settled: collect(Rollout::rolled_out),
        undo_settled: both_ready(SIDECAR_LABEL),
        ..Step::default()
    };
    let unpin = Step {
        what: "take the pins away".to_owned(),
        look: vec!["no pod of these workloads has a sidecar".to_owned()],
        run: unpin,
        undo: vec![apply(HAND_OVER_FILE)],
        ..Step::default()
    };
    let forget = Step {
        what: "take the subsets away, which nothing names any more".to_owned(),
        run: forget,
        undo: vec![apply(SUBSETS_FILE)],
        ..Step::default()
    };
    Ok(Pinning {
        steps: [name, pin, beside, over, release, unpin, forget],
        manifests: files,
        saved: before,
    })
}

/// What the plan cannot show of such a wave.
pub(super) fn assumption(moving: &BTreeSet<ObjectName>) -> String {
    let names: Vec<String> = moving.iter().map(ToString::to_string).collect();
    format!(
        "while the old pods of {} go, no Service leads callers in the mesh to them but themselves (whoever dials pods or comes from outside still \
         reaches them): what one of them still \
         calls of its own accord (a timer, a queue) fails when the old pods of the one that it calls are gone",
        wording::first_few(&names, 5)
    )
}

/// A Deployment that is held with old and new pods, and how it replaces pods otherwise.
struct Rollout {
    name: ObjectName,
    /// Labels of its pods, old and new.
    pods: String,
    labels: Vec<LabelChange>,
    /// `spec` without its template, as it is now.
    now: Value,
}

impl Rollout {
    fn of(snapshot: &Snapshot, workload: &Workload) -> Result<Self, String> {
        let name = &workload.name;
        let owner = snapshot
            .owner(Kind::Deployment, name)
            .filter(|_| workload.owner == OwnerKind::Deployment)
            .ok_or_else(|| {
                format!(
                    "{} cannot keep pods of both kinds for a while",
                    wording::workload(workload)
                )
            })?;
        let spec = &owner.body.spec;
        let strategy = spec.strategy.as_ref().unwrap_or(&Value::Null);
        if strategy["type"] == "Recreate" {
            return Err(format!(
                "Deployment {name} replaces all its pods at once (strategy Recreate)"
            ));
        }
        let surge = |key: &str| strategy["rollingUpdate"][key].clone();
        if spec.replicas == Some(0) {
            return Err(format!("Deployment {name} has no pods"));
        }
        let Some(selector) = &spec.selector else {
            return Err(format!("Deployment {name} has no selector"));
        };
        let pods: Vec<String> = (selector.match_labels.iter())
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        Ok(Self {
            name: name.clone(),
            pods: pods.join(","),
            labels: template_label_changes(workload),
            now: json!({
                "minReadySeconds": spec.min_ready_seconds,
                "progressDeadlineSeconds": spec.progress_deadline_seconds,
                "strategy": {"rollingUpdate": {
                    "maxSurge": surge("maxSurge"),
                    "maxUnavailable": surge("maxUnavailable"),
                }},
            }),
        })
    }

    fn patch(&self, spec: &Value) -> String {
        let ObjectName { namespace, name } = &self.name;
        let patch = json!({"spec": spec});
        format!("kubectl patch deployment -n {namespace} {name} --type=merge -p '{patch}'")
    }

    fn held(&self, labels: &[LabelChange]) -> String {
        self.patch(&json!({
            "minReadySeconds": HELD,
            "progressDeadlineSeconds": HELD + 600,
            "strategy": {"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}},
            "template": {"metadata": {"labels": template_labels(labels)}},
        }))
    }

    /// New pods beside old ones.
    fn start(&self) -> String {
        self.held(&self.labels)
    }

    /// Pods with sidecars beside ambient ones: the way back.
    fn start_old(&self) -> String {
        let back: Vec<LabelChange> = self.labels.iter().map(LabelChange::inverse).collect();
        self.held(&back)
    }

    /// The pods of the earlier template go.
    fn release(&self) -> String {
        self.patch(&self.now)
    }

    /// Waits until there are as many pods of the new template as are wanted now, and all of them are Ready: first
    /// for the controller to have seen the template, since until then it counts pods of the one before (`kubectl wait`
    /// takes a condition for met only where `status.observedGeneration` is the newest; kubectl pkg/cmd/wait/condition.go).
    fn both_ready(&self, (key, value): (&str, &str)) -> [String; 3] {
        let ObjectName { namespace, name } = &self.name;
        let deployment = format!("deployment -n {namespace} {name}");
        let comma = if self.pods.is_empty() { "" } else { "," };
        [
            format!("kubectl wait {deployment} --for=condition=Progressing --timeout=10m"),
            format!(
                "kubectl wait {deployment} --for=jsonpath='{{.status.updatedReplicas}}'=\"$(kubectl get {deployment} -o \
                 jsonpath='{{.spec.replicas}}')\" --timeout=10m"
            ),
            format!(
                "kubectl wait pods -n {namespace} -l {}{comma}{key}={value} --for=condition=Ready --timeout=10m",
                self.pods
            ),
        ]
    }

    fn rolled_out(&self) -> String {
        let ObjectName { namespace, name } = &self.name;
        format!("kubectl rollout status deployment -n {namespace} {name} --timeout=10m")
    }
}

/// The Services of those who move, or what keeps one from being pinned.
fn services<'m>(mesh: &'m Mesh, moving: &BTreeSet<ObjectName>) -> Result<Vec<&'m Service>, String> {
    let routed = ingress::routed(mesh);
    let mut found = Vec::new();
    for (index, service) in mesh.services.iter().enumerate() {
        let (inside, outside): (Vec<_>, Vec<_>) = service
            .backends
            .iter()
            .map(|backend| &mesh.workload(backend.workload).name)
            .partition(|name| moving.contains(*name));
        if inside.is_empty() {
            continue;
        }
        let name = &service.name;
        let bound = service.binding.waypoint().is_some();
        let by_gateway = routed.contains(ServiceId(index)) && !service.ingress_uses_waypoint;
        let against = if !service.has_virtual_address() {
            "is headless: it has no address at which calls could be told apart"
        } else if !bound {
            "has no waypoint"
        } else if !outside.is_empty() {
            "leads to workloads besides that do not move"
        } else if service.exposed.is_some() {
            "is open to callers outside the cluster, who reach old and new pods alike"
        } else if by_gateway {
            "is called by gateways past its waypoint (label istio.io/ingress-use-waypoint)"
        } else if service
            .ports
            .iter()
            .any(|one| one.protocol == Protocol::Tls)
        {
            "has a TLS port, which is routed by server name"
        } else {
            found.push(service);
            continue;
        };
        return Err(format!("Service {name} {against}"));
    }
    let entries = mesh.workloads.iter().enumerate();
    for (index, workload) in entries.filter(|(_, one)| moving.contains(&one.name)) {
        if let Some((_, entry)) = mesh.service_entries_of(WorkloadId(index)).next() {
            return Err(format!(
                "ServiceEntry {} leads to {} too",
                entry.name, workload.name
            ));
        }
    }
    Ok(found)
}

/// The DestinationRule and the VirtualService that a Service has already, which the subsets and the pin go into.
fn own_objects<'m>(
    mesh: &'m Mesh,
    service: &Service,
) -> Result<(Option<&'m DestinationRule>, Option<&'m VirtualService>), String> {
    let (virtual_services, rules, routes) = rivals(mesh, service);
    let own = match virtual_services.as_slice() {
        [] => None,
        [only] => {
            let against = |what| format!("VirtualService {} {what}", only.name);
            pinnable(mesh, only, service).map_err(against)?;
            Some(*only)
        }
        [first, second, ..] => {
            return Err(format!(
                "VirtualServices {} and {} both route calls to {}",
                first.name,
                second.name,
                service.host()
            ));
        }
    };
    if routes {
        return Err(format!(
            "a route of Service {} exists already",
            service.name
        ));
    }
    match rules.as_slice() {
        [] => Ok((None, own)),
        [rule]
            if rule.name.namespace == service.name.namespace
                && !rule.has_workload_selector
                && !rule.full_host.contains('*')
                && is_exported(mesh, &rule.raw) =>
        {
            Ok((Some(rule), own))
        }
        [rule, ..] => Err(format!(
            "DestinationRule {} is read by some callers alone, or is not the only one for {}",
            rule.name,
            service.host()
        )),
    }
}

/// The DestinationRule with the two subsets: the user's own with these added, or a new one.
fn destination_rule(
    snapshot: &Snapshot,
    service: &Service,
    own: Option<&DestinationRule>,
) -> Result<Value, String> {
    let subset =
        |name: &str, (key, value): (&str, &str)| json!({"name": name, "labels": {key: value}});
    let added = [subset(OLD, SIDECAR_LABEL), subset(NEW, AMBIENT_LABEL)];
    let Some(own) = own else {
        let mut rule = generated(snapshot, Kind::DestinationRule, service)?;
        rule["spec"] = json!({
            "host": service.host(),
            "exportTo": ["*"],
            "subsets": added,
        });
        return Ok(rule);
    };
    let mut rule = saved::object(snapshot, Kind::DestinationRule, &own.name)
        .ok_or_else(|| format!("DestinationRule {} is not among the input", own.name))?;
    match rule
        .pointer_mut("/spec/subsets")
        .and_then(Value::as_array_mut)
    {
        Some(subsets) => subsets.extend(added),
        None => rule["spec"]["subsets"] = json!(added),
    }
    Ok(rule)
}

/// The pin: callers with sidecars first, then everybody, to all pods or to a subset; within the user's own routes
/// where there are any.
fn virtual_service(
    snapshot: &Snapshot,
    service: &Service,
    own: Option<&VirtualService>,
    everybody: Option<&str>,
) -> Result<Value, String> {
    let whole = json!([{"route": [{"destination": {"host": service.host()}}]}]);
    let routes = |protocol: &str| {
        let own = own.and_then(|own| own.raw["spec"].get(protocol));
        let routes = own
            .unwrap_or(&whole)
            .as_array()
            .cloned()
            .unwrap_or_default();
        let pinned = routes.iter().map(|route| {
            let mut pinned = json!({"match": for_sidecars(route)});
            if let (Some(pinned), Some(route)) = (pinned.as_object_mut(), route.as_object()) {
                let others = route.iter().filter(|(field, _)| *field != "match");
                pinned.extend(others.map(|(field, value)| (field.clone(), value.clone())));
            }
            pinned["route"][0]["destination"]["subset"] = json!(OLD);
            pinned
        });
        let pinned: Vec<Value> = pinned.collect();
        let others = routes.into_iter().map(|mut route| {
            if let Some(subset) = everybody {
                route["route"][0]["destination"]["subset"] = json!(subset);
            }
            route
        });
        pinned.into_iter().chain(others).collect::<Value>()
    };
    let has = |wanted: &[Protocol]| {
        service
            .ports
            .iter()
            .any(|one| wanted.contains(&one.protocol))
    };
    let mut object = match own {
        Some(own) => saved::object(snapshot, Kind::VirtualService, &own.name)
            .ok_or_else(|| format!("VirtualService {} is not among the input", own.name))?,
        None => {
            let mut object = generated(snapshot, Kind::VirtualService, service)?;
            object["spec"] = json!({"hosts": [service.host()], "exportTo": ["*"]});
            object
        }
    };
    if has(&[Protocol::Http, Protocol::Http2, Protocol::Unknown]) {
        object["spec"]["http"] = routes("http");
    }
    if has(&[Protocol::Tcp, Protocol::Unknown]) {
        object["spec"]["tcp"] = routes("tcp");
    }
    Ok(object)
}

/// The name of what is made for a Service.
fn object_name(service: &Service) -> ObjectName {
    ObjectName::new(
        &service.name.namespace,
        &format!("{}-pinned", service.name.name),
    )
}

/// An object of ours for a Service, without `spec`.
fn generated(snapshot: &Snapshot, kind: Kind, service: &Service) -> Result<Value, String> {
    let name = object_name(service);
    if saved::object(snapshot, kind, &name).is_some() {
        return Err(format!("{} {name} exists already", kind.row().name));
    }
    Ok(json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": kind.row().name,
        "metadata": {"name": name.name.as_str(), "namespace": name.namespace.as_str(), "labels": {GENERATED_LABEL: "pin"}},
    }))
}
