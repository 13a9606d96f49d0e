//! How workloads leave their sidecars: the commands of one wave.
//!
//! In: the mesh before the wave, who moves in it, who stays. Out: one [`Step`] a namespace, and one before it
//! that enrols it.
//! Invariant: a namespace is labelled only when nothing in it keeps a sidecar, no gateway in it gets its proxy by the
//! label that goes, and the new one captures nobody from outside the mesh; until then each pod template says for itself how its pods run, in
//! one change, so that no pod is ever started without either. On the way back a namespace stays enrolled until
//! its pods have sidecars: without its label running pods leave the mesh at once
//! (istio cni/pkg/nodeagent/informers.go `reconcilePod`).

use std::collections::{BTreeMap, BTreeSet};

use super::wave::{Held, Step};
use crate::finding::Remedy;
use crate::mesh::{DataPlaneMode, Injection, Mesh, OwnerKind, Replacement, Role, Workload};
use crate::phases::commands::{LabelChange, delete_pods, label, patch_template_labels, restart};
use crate::phases::remove_sidecars::switch::{
    DATAPLANE_MODE, INJECT, namespace_changes, template_changes, template_label_changes,
    wording_of_gateways,
};
use crate::phases::wording;
use crate::snapshot::ObjectName;

/// Why a workload cannot be moved by a command, if so.
pub(super) fn obstacle(workload: &Workload) -> Option<String> {
    let name = &workload.name;
    if let Replacement::Stopped(why) = &workload.replacement {
        return Some(why.to_string());
    }
    let chosen = workload.template_labels.get(DATAPLANE_MODE);
    if let Some(mode) = chosen.filter(|mode| *mode != "ambient") {
        return Some(format!(
            "its pod template has the label {DATAPLANE_MODE}={mode}, so that ztunnel takes none of its calls and new \
             pods without sidecar would be in no mesh: take the label away, and it can move"
        ));
    }
    match &workload.owner {
        _ if workload.host_network => {
            Some("its pods share the node's network, which ztunnel does not capture".to_owned())
        }
        OwnerKind::Deployment
        | OwnerKind::StatefulSet
        | OwnerKind::DaemonSet
        | OwnerKind::ReplicaSet
        | OwnerKind::Rollout
        | OwnerKind::CronJob
            if workload.has_template =>
        {
            None
        }
        OwnerKind::Job => Some(format!(
            "the pod template of Job {name} cannot be changed: let it end, or create it again from a manifest with \
             the labels {INJECT}=\"false\" and {DATAPLANE_MODE}=ambient"
        )),
        OwnerKind::Pod => Some(format!(
            "Pod {name} has no owner that would replace it: create it again from its manifest with the labels \
             {INJECT}=\"false\" and {DATAPLANE_MODE}=ambient"
        )),
        OwnerKind::Other(kind) => Some(format!(
            "castoff does not know how {kind} {name} replaces its pods: change its pod template by hand"
        )),
        _ => Some(format!(
            "its manifest is not among the input, so that its pod template cannot be changed: add {} to it",
            wording::workload(workload)
        )),
    }
}

/// The steps that move these workloads. `stay` are all others that keep a sidecar; `each_by_itself`
/// leaves the namespaces' labels alone.
pub(super) fn steps(
    mesh: &Mesh,
    moving: &BTreeSet<ObjectName>,
    stay: &BTreeSet<ObjectName>,
    each_by_itself: bool,
) -> Vec<Step> {
    let mut by_namespace: BTreeMap<&str, Vec<&Workload>> = BTreeMap::new();
    for workload in &mesh.workloads {
        if moving.contains(&workload.name) {
            by_namespace
                .entry(&workload.name.namespace)
                .or_default()
                .push(workload);
        }
    }
    by_namespace
        .into_iter()
        .flat_map(|(namespace, workloads)| {
            let others = || captured(mesh, namespace).map(wording::workload);
            let because = if each_by_itself {
                "since the policies that close new pods know them by that label".to_owned()
            } else if stay.iter().any(|name| name.namespace == namespace) {
                "since the namespace's label would move others too".to_owned()
            } else if let Some(gateways) = wording_of_gateways(mesh, namespace) {
                format!("since the namespace's label stays, by which a gateway gets its proxy ({gateways})")
            } else if others().next().is_some() {
                let others: Vec<String> = others().collect();
                format!(
                    "since the namespace's label would bring into the mesh what is outside ({})",
                    wording::first_few(&others, 3)
                )
            } else {
                return by_namespace_label(mesh, namespace, &workloads);
            };
            vec![by_template(namespace, &workloads, &because)]
        })
        .collect()
}

/// Workloads outside the mesh that the namespace's label would capture at once.
fn captured<'a>(mesh: &'a Mesh, namespace: &'a str) -> impl Iterator<Item = &'a Workload> {
    mesh.workloads_in(namespace)
        .map(|(_, workload)| workload)
        .filter(|workload| {
            workload.role == Role::Application
                && workload.has_mode(DataPlaneMode::None)
                && !workload.host_network
                && workload.template_labels.get(DATAPLANE_MODE).is_none()
        })
}

fn by_template(namespace: &str, workloads: &[&Workload], because: &str) -> Step {
    let mut step = started(namespace, workloads);
    step.what.push_str(&format!(
        ", each by one change of its pod template, {because}"
    ));
    for workload in workloads {
        let changes = template_label_changes(workload);
        match patch_template_labels(workload, &changes) {
            // Its template says so already, and only its pods are old: no change would replace them.
            Some(_) if changes.is_empty() => take_both_ways(&mut step, restart(workload)),
            Some(remedy) => {
                take(&mut step, remedy);
                delete_old(&mut step, workload);
            }
            None => step.by_hand.extend(obstacle(workload)),
        }
        wait_for(&mut step, workload);
    }
    step
}

/// Deletes the pods of an owner that does not replace them by itself, here and on the way back.
fn delete_old(step: &mut Step, workload: &Workload) {
    if let Replacement::WhenDeleted { selector } = &workload.replacement {
        let delete = delete_pods(&workload.name.namespace, selector);
        step.run.push(delete.clone());
        step.undo.push(delete);
    }
}

/// The labels of namespaces in which everybody has moved by pod template: whatever is deployed there from then
/// on starts in ambient mode, too.
pub(super) fn late_labels(mesh: &Mesh, includes: impl Fn(&str) -> bool) -> Vec<Step> {
    let moved_by_template = |namespace: &str| {
        let mut applications = mesh
            .workloads_in(namespace)
            .map(|(_, workload)| workload)
            .filter(|workload| workload.is_mesh_application());
        let mut any = false;
        applications.all(|workload| {
            any |= workload.template_labels.has(DATAPLANE_MODE, "ambient");
            !workload.has_mode(DataPlaneMode::Sidecar)
                && workload.next_mode != DataPlaneMode::Sidecar
        }) && any
    };
    let mut steps = Vec::new();
    for namespace in mesh.namespaces.keys() {
        let changes = namespace_changes(mesh, namespace);
        if changes.is_empty()
            || !includes(namespace)
            || !moved_by_template(namespace)
            || captured(mesh, namespace).next().is_some()
        {
            continue;
        }
        let mut step = Step {
            what: format!("label namespace {namespace}: new workloads start in ambient mode"),
            look: vec![ready(namespace)],
            undo_look: vec![format!(
                "nothing that relies on the label was deployed to namespace {namespace} since"
            )],
            ..Step::default()
        };
        take(&mut step, label(&format!("ns {namespace}"), &changes));
        steps.push(step);
    }
    steps
}

/// What is to be known of namespaces that keep the label of sidecars for a gateway, although workloads of theirs have
/// moved.
pub(super) fn kept_labels(mesh: &Mesh, includes: impl Fn(&str) -> bool) -> Vec<String> {
    let mut notes = Vec::new();
    for (name, namespace) in mesh.namespaces.iter().filter(|(name, _)| includes(name)) {
        let own = match &namespace.injection {
            Injection::Revision(revision) => format!("istio.io/rev={revision}"),
            _ => format!("{INJECT}=\"true\""),
        };
        let moved = mesh.workloads_in(name).any(|(_, workload)| {
            let by_template = workload.template_labels.has(DATAPLANE_MODE, "ambient");
            workload.is_mesh_application() && by_template
        });
        if let Some(gateways) = wording_of_gateways(mesh, name).filter(|_| moved) {
            notes.push(format!(
                "namespace {name} keeps the label by which a gateway gets its proxy ({gateways}), so that what is deployed \
                 there later gets a sidecar unless its pod template has the labels {INJECT}=\"false\" and \
                 {DATAPLANE_MODE}=ambient; with the label {own} in the pod template of {gateways} the namespace can be \
                 labelled instead"
            ));
        }
    }
    notes
}

fn by_namespace_label(mesh: &Mesh, namespace: &str, workloads: &[&Workload]) -> Vec<Step> {
    let target = format!("ns {namespace}");
    let changes = namespace_changes(mesh, namespace).into_iter();
    let (enrol, inject): (Vec<LabelChange>, Vec<LabelChange>) =
        changes.partition(|change| change.key == DATAPLANE_MODE);
    let mut steps = Vec::new();
    if !enrol.is_empty() {
        let mut step = Step {
            what: format!(
                "enrol namespace {namespace}: pods keep their sidecars until they are replaced"
            ),
            look: vec![ready(namespace)],
            undo_look: vec![format!(
                "every pod of namespace {namespace} that is to have a sidecar has it and is Ready: without the label \
                 the others leave the mesh at once"
            )],
            ..Step::default()
        };
        take(&mut step, label(&target, &enrol));
        steps.push(step);
    }
    let mut step = started(namespace, workloads);
    if !inject.is_empty() {
        take(&mut step, label(&target, &inject));
    }
    for workload in workloads {
        let patch = template_changes(workload);
        match patch_template_labels(workload, &patch) {
            // The patch replaces the pods.
            Some(remedy) if !patch.is_empty() => {
                take(&mut step, remedy);
                delete_old(&mut step, workload);
            }
            // Its next run does.
            _ if workload.owner == OwnerKind::CronJob => {}
            // After the labels are taken back, the same command brings the sidecars back.
            _ => take_both_ways(&mut step, restart(workload)),
        }
        wait_for(&mut step, workload);
    }
    steps.push(step);
    steps
}

/// What to see before pods of a namespace are replaced.
fn ready(namespace: &str) -> String {
    format!(
        "all pods of namespace {namespace} are Ready, and `istioctl ztunnel-config workloads` lists the node's ztunnel"
    )
}

fn started(namespace: &str, workloads: &[&Workload]) -> Step {
    let names: Vec<String> = workloads
        .iter()
        .map(|workload| wording::workload(workload))
        .collect();
    Step {
        what: format!("move {} to ambient mode", wording::first_few(&names, 5)),
        look: vec![ready(namespace)],
        undo_look: vec![
            "every policy that later waves deleted is there again: `kubectl get authorizationpolicies,\
             requestauthentications -A`"
                .to_owned(),
        ],
        moves: workloads
            .iter()
            .map(|workload| workload.name.to_string())
            .collect(),
        ..Step::default()
    }
}

fn take(step: &mut Step, remedy: Remedy) {
    match remedy {
        Remedy::Command { run, undo } => {
            step.run.push(run);
            step.undo.extend(undo);
        }
        Remedy::Advice(advice) => step.by_hand.push(advice),
        Remedy::Apply { .. } => {}
    }
}

/// The same, where the command is its own way back.
fn take_both_ways(step: &mut Step, remedy: Remedy) {
    if let Remedy::Command { run, .. } = &remedy {
        step.undo.push(run.clone());
    }
    take(step, remedy);
}

/// Says how to see that an owner has replaced its pods, here and on the way back.
fn wait_for(step: &mut Step, workload: &Workload) {
    if workload.waits_for_promotion {
        let ObjectName { namespace, name } = &workload.name;
        let promote = format!(
            "Rollout {namespace}/{name} waits for people on its way: whenever it is Paused and its new pods are well, run \
             `kubectl argo rollouts promote -n {namespace} {name}` from another terminal; the next command ends when it \
             is through"
        );
        step.by_hand.push(promote.clone());
        step.undo_by_hand.push(promote);
    }
    match replaced(workload) {
        Some(wait) => {
            step.settled.push(wait.clone());
            step.undo_settled.push(wait);
        }
        None => {
            step.by_hand.extend(seen_by_people(workload, "without"));
            step.undo_by_hand.extend(seen_by_people(workload, "with"));
        }
    }
    if matches!(workload.replacement, Replacement::WhenDeleted { .. }) {
        step.look.push(format!(
            "{} can do without any pod for a moment, or its pods are deleted one after the other instead: they are \
             replaced only where somebody deletes them",
            wording::workload(workload)
        ));
    }
}

/// Waits until an owner has replaced its pods; `None` where no command can.
fn replaced(workload: &Workload) -> Option<String> {
    let ObjectName { namespace, name } = &workload.name;
    let rolls = workload.replacement == Replacement::ByItself;
    let (resource, ready) = match workload.owner {
        // <https://argoproj.github.io/argo-rollouts/generated/kubectl-argo-rollouts/kubectl-argo-rollouts_status/>
        OwnerKind::Rollout => {
            // Without a timeout it waits as long as people take.
            let timeout = if workload.waits_for_promotion {
                ""
            } else {
                " --timeout=10m"
            };
            return Some(format!(
                "kubectl argo rollouts status -n {namespace} {name}{timeout}"
            ));
        }
        OwnerKind::Deployment => ("deployment", "readyReplicas"),
        OwnerKind::StatefulSet => ("statefulset", "readyReplicas"),
        OwnerKind::ReplicaSet => ("replicaset", "readyReplicas"),
        OwnerKind::DaemonSet => ("daemonset", "numberReady"),
        _ => return None,
    };
    // `kubectl rollout status` knows neither ReplicaSets nor the update strategy OnDelete
    // (kubectl pkg/polymorphichelpers/rollout_status.go).
    if rolls && workload.owner != OwnerKind::ReplicaSet {
        return Some(format!(
            "kubectl rollout status {resource} -n {namespace} {name} --timeout=10m"
        ));
    }
    let is_counted = workload.owner != OwnerKind::DaemonSet || !workload.predicted;
    (is_counted && workload.replicas > 0).then(|| {
        format!(
            "kubectl wait {resource} -n {namespace} {name} --for=jsonpath='{{.status.{ready}}}'={} --timeout=10m",
            workload.replicas
        )
    })
}

/// What people must see where no command waits for it.
fn seen_by_people(workload: &Workload, with: &str) -> Option<String> {
    let ObjectName { namespace, name } = &workload.name;
    match workload.owner {
        OwnerKind::CronJob => Some(format!(
            "CronJob {namespace}/{name} starts pods {with} sidecars with its next run: go on when you have seen one \
             succeed (`kubectl create job -n {namespace} --from=cronjob/{name} {name}-by-hand` starts one now) and no \
             pod of an earlier run is left"
        )),
        OwnerKind::DaemonSet => Some(format!(
            "go on when every pod of DaemonSet {namespace}/{name} is Ready {with} a sidecar"
        )),
        _ => None,
    }
}

/// Workloads that have sidecars and can be moved by a command, and those that cannot.
pub(super) fn movable(
    mesh: &Mesh,
    includes: impl Fn(&str) -> bool,
) -> (BTreeSet<ObjectName>, Vec<Held>) {
    let mut movable = BTreeSet::new();
    let mut held = Vec::new();
    for workload in &mesh.workloads {
        let has_sidecar = workload.has_mode(DataPlaneMode::Sidecar);
        if !workload.is_mesh_application() || !has_sidecar || !includes(&workload.name.namespace) {
            continue;
        }
        match obstacle(workload) {
            None => {
                movable.insert(workload.name.clone());
            }
            Some(why) => held.push(Held {
                workload: workload.name.clone(),
                why,
                lines: Vec::new(),
                server: None,
                direction: None,
                ways_out: Vec::new(),
            }),
        }
    }
    (movable, held)
}
