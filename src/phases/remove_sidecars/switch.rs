//! # Workloads that can leave their sidecars
//!
//! ## What it finds
//!
//! Namespaces and workloads whose labels still ask for a sidecar, and pods that still run one. The
//! commands remove exactly the labels that are there and enrol in ambient mode; then every owner's
//! pods are replaced in the way that its kind needs. Where moving all of them at once would open or break
//! something, the moves that are proved; and the workloads that must keep their sidecars, each with the
//! reason, the witness and the ways out. Those of one namespace with one reason are one finding, about the
//! namespace. A namespace keeps its label where a gateway gets its proxy by it (image `auto`, template `gateway`, no
//! label of its own): then each workload says in its pod template how its pods run.
//!
//! ## Why it matters
//!
//! A pod with a sidecar is never captured by ztunnel, whatever its labels say; and labels change new
//! pods only.
//!
//! ## How to fix it
//!
//! Run the commands. On upstream Istio a namespace's label moves every workload of it at once, and
//! remaining sidecar callers go past the waypoint: order matters there. For a gateway that hangs on the label give its
//! pod template `sidecar.istio.io/inject: "true"` (or `istio.io/rev`, as the namespace has it) first, if the
//! namespace is to be labelled all the same.
//!
//! ## Since and source
//!
//! istio cni/pkg/util (enablement by label, sidecars excluded), pkg/kube/inject/webhook.go,
//! manifests/charts/istio-control/istio-discovery/templates/mutatingwebhook.yaml; istio.io, "Add workloads to the
//! mesh", "Installing Gateways".

use std::collections::BTreeMap;

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::{DataPlaneMode, Injection, Mesh, OwnerKind, Replacement, Workload};
use crate::phases::commands::{LabelChange, label_command, patch_template_labels, restart};
use crate::phases::{Check, Context, ownership, wording};
use crate::snapshot::{Kind, ObjectName};

use super::waiting::blocked;

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "",
    phase: Phase::RemoveSidecars,
    needs: &[Kind::Namespace],
    reads: &[Kind::Pod, Kind::Deployment],
    source: include_str!("switch.rs"),
    find,
};

const CODE: Code = Code("CAST0702");
pub(crate) const INJECT: &str = "sidecar.istio.io/inject";
pub(crate) const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";

/// Labels that a pod template gets where it says for itself how its pods run.
pub(crate) const TEMPLATE_LABELS: [(&str, &str); 2] =
    [(INJECT, "false"), (DATAPLANE_MODE, "ambient")];

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let blocked = blocked(context);
    let mut by_namespace: BTreeMap<&str, Vec<&Workload>> = BTreeMap::new();
    for workload in &mesh.workloads {
        let mine = workload.is_mesh_application()
            && (workload.has_mode(DataPlaneMode::Sidecar)
                || workload.next_mode == DataPlaneMode::Sidecar)
            && context.choice().includes(&workload.name.namespace)
            && !blocked.contains(workload.name.namespace.as_str());
        if mine {
            by_namespace
                .entry(&workload.name.namespace)
                .or_default()
                .push(workload);
        }
    }
    let mut found = Vec::new();
    for (namespace, workloads) in by_namespace {
        let running: Vec<&Workload> = workloads
            .iter()
            .filter(|one| one.has_mode(DataPlaneMode::Sidecar))
            .copied()
            .collect();
        let mut labels = namespace_labels(context, namespace);
        if let Some(labels) = &mut labels {
            // The labels come first, then the restarts: one recommendation in that order.
            labels
                .remedies
                .extend(running.iter().map(|one| restart(one)));
        }
        let labelled = labels.is_some();
        found.extend(labels);
        let gateways = wording_of_gateways(mesh, namespace);
        let changes = |workload: &Workload| match &gateways {
            Some(_) => template_label_changes(workload),
            None => template_changes(workload),
        };
        found.extend(workloads.iter().filter_map(|workload| {
            let changes = changes(workload);
            template_labels(workload, &changes, gateways.as_deref())
        }));
        let (predicted, seen): (Vec<&Workload>, Vec<&Workload>) =
            running.iter().copied().partition(|one| one.predicted);
        found.extend(predictions(namespace, &predicted));
        found.extend(seen.into_iter().map(|one| {
            let changed = gateways.is_some() && !changes(one).is_empty();
            pods(one, labelled || changed)
        }));
    }
    found
}

/// Gateways of a namespace that get their proxy for its labels alone.
pub(crate) fn gateways_by_label<'a>(
    mesh: &'a Mesh,
    namespace: &'a str,
) -> impl Iterator<Item = &'a Workload> {
    mesh.workloads_in(namespace)
        .map(|(_, workload)| workload)
        .filter(|workload| workload.needs_namespace_label)
}

/// The same in words; `None` where there are none.
pub(crate) fn wording_of_gateways(mesh: &Mesh, namespace: &str) -> Option<String> {
    let names: Vec<String> = gateways_by_label(mesh, namespace)
        .map(wording::workload)
        .collect();
    (!names.is_empty()).then(|| wording::first_few(&names, 3))
}

/// Labels of a namespace that ask for sidecars, to be undone, and the one that enrols it. None where a gateway gets
/// its proxy by them.
pub(crate) fn namespace_changes(mesh: &Mesh, name: &str) -> Vec<LabelChange> {
    let Some(namespace) = mesh.namespaces.get(name) else {
        return Vec::new();
    };
    if gateways_by_label(mesh, name).next().is_some() {
        return Vec::new();
    }
    let mut changes = Vec::new();
    match &namespace.injection {
        Injection::Enabled => changes.push(LabelChange::remove("istio-injection", "enabled")),
        Injection::Revision(revision) => {
            changes.push(LabelChange::remove("istio.io/rev", revision))
        }
        Injection::Unlabelled if mesh.settings.injects_by_default => {
            changes.push(LabelChange::set("istio-injection", None, "disabled"));
        }
        Injection::Disabled | Injection::Unlabelled => {}
    }
    if !namespace.ambient {
        changes.push(LabelChange::set(
            DATAPLANE_MODE,
            namespace.labels.get(DATAPLANE_MODE),
            "ambient",
        ));
    }
    changes
}

fn namespace_labels(context: &Context<'_>, name: &str) -> Option<Finding> {
    let mesh = context.mesh;
    let namespace = mesh.namespaces.get(name)?;
    let changes = namespace_changes(mesh, name);
    if changes.is_empty() {
        return None;
    }
    let remedy = with_careful_undo(name, &changes);
    let mut finding = Finding::new(
        CODE,
        Level::Recommendation,
        format!(
            "namespace {name} can disable its sidecars: {}",
            remedy.run_text()
        ),
    )
    .about(
        Kind::Namespace,
        &ObjectName::new("", name),
        namespace.origin.as_ref(),
    )
    .remedy(remedy);
    let captured: Vec<String> = mesh
        .workloads_in(name)
        .map(|(_, workload)| workload)
        .filter(|workload| workload.role == crate::mesh::Role::Application)
        .filter(|workload| {
            workload.has_mode(DataPlaneMode::None)
                && !workload.host_network
                && workload.template_labels.get(DATAPLANE_MODE).is_none()
        })
        .map(wording::workload)
        .collect();
    if !captured.is_empty() && !namespace.ambient {
        finding = finding.detail(format!(
            "captured at once, although outside the mesh now: {}; label their pods {DATAPLANE_MODE}=none to keep \
             them out",
            wording::first_few(&captured, 5)
        ));
    }
    if let Some(line) = ownership::warning(
        &format!("namespace {name}"),
        &namespace.labels,
        &namespace.annotations,
    ) {
        finding = finding.detail(line);
    }
    Some(finding)
}

/// The labels in one command; on the way back the one that enrols goes last, when its pods have sidecars
/// again: without it running pods leave the mesh at once
/// (istio cni/pkg/nodeagent/informers.go `reconcilePod`).
fn with_careful_undo(namespace: &str, changes: &[LabelChange]) -> Remedy {
    let target = format!("ns {namespace}");
    let inverse = |enrols: bool| -> Vec<LabelChange> {
        let chosen = changes
            .iter()
            .filter(|one| (one.key == DATAPLANE_MODE) == enrols);
        chosen.map(LabelChange::inverse).collect()
    };
    let (first, last) = (inverse(false), inverse(true));
    let undo = match (first.as_slice(), last.as_slice()) {
        (_, []) => label_command(&target, &first),
        ([], _) => format!(
            "{}  # not before its pods have sidecars again",
            label_command(&target, &last)
        ),
        _ => format!(
            "{}  # then restart, and when every pod has its sidecar: {}",
            label_command(&target, &first),
            label_command(&target, &last)
        ),
    };
    Remedy::command(label_command(&target, changes), undo)
}

/// Labels of the pod template that ask for a sidecar, to be undone.
pub(crate) fn template_changes(workload: &Workload) -> Vec<LabelChange> {
    let labels = &workload.template_labels;
    let mut changes = Vec::new();
    if labels.has("sidecar.istio.io/inject", "true") {
        changes.push(LabelChange::remove("sidecar.istio.io/inject", "true"));
    }
    if let Some(revision) = labels.get("istio.io/rev") {
        changes.push(LabelChange::remove("istio.io/rev", revision));
    }
    changes
}

/// Changes of a pod template that says for itself how its pods run from then on.
pub(crate) fn template_label_changes(workload: &Workload) -> Vec<LabelChange> {
    let labels = &workload.template_labels;
    let mut changes: Vec<LabelChange> = TEMPLATE_LABELS
        .iter()
        .filter(|(key, value)| !labels.has(key, value))
        .map(|(key, value)| LabelChange::set(key, labels.get(key), value))
        .collect();
    if let Some(revision) = labels.get("istio.io/rev") {
        changes.push(LabelChange::remove("istio.io/rev", revision));
    }
    changes
}

/// Changing the labels of the pod template replaces the pods. `gateways`: for whom the namespace keeps its label.
fn template_labels(
    workload: &Workload,
    changes: &[LabelChange],
    gateways: Option<&str>,
) -> Option<Finding> {
    if changes.is_empty() || !workload.has_template {
        return None;
    }
    let what = wording::workload(workload);
    let namespace = &workload.name.namespace;
    let mut finding = match (patch_template_labels(workload, changes), gateways) {
        (Some(remedy), Some(gateways)) => {
            let finding = Finding::new(
                CODE,
                Level::Recommendation,
                format!(
                    "{what} can leave its sidecar by its pod template, since namespace {namespace} keeps its label for \
                     {gateways}: {}",
                    remedy.run_text()
                ),
            );
            let finding = finding.remedy(remedy);
            if workload.replacement == Replacement::ByItself {
                finding
            } else {
                finding.remedy(restart(workload))
            }
        }
        (None, Some(gateways)) => Finding::new(
            CODE,
            Level::Recommendation,
            format!(
                "{what} can leave its sidecar by labels of its pods ({INJECT}=\"false\", {DATAPLANE_MODE}=ambient), since \
                 namespace {namespace} keeps its label for {gateways}; change its manifest"
            ),
        ),
        (Some(remedy), None) => Finding::new(
            CODE,
            Level::Recommendation,
            format!(
                "{what} asks for a sidecar in its pod template: {}",
                remedy.run_text()
            ),
        )
        .remedy(remedy),
        (None, None) => Finding::new(
            CODE,
            Level::Recommendation,
            format!("{what} asks for a sidecar in its pods' own labels; change its manifest"),
        ),
    };
    if let Some(line) =
        ownership::warning(&what, &workload.owner_labels, &workload.owner_annotations)
    {
        finding = finding.detail(line);
    }
    Some(about(finding, workload))
}

/// Workloads of which no pods were given: one line a namespace, because nothing was seen.
fn predictions(namespace: &str, workloads: &[&Workload]) -> Option<Finding> {
    if workloads.is_empty() {
        return None;
    }
    let names: Vec<String> = workloads.iter().map(|one| wording::workload(one)).collect();
    let mut finding = Finding::new(
        CODE,
        Level::Note,
        format!(
            "sidecars predicted for {} of namespace {namespace} (no pods were given): {}",
            wording::count(names.len(), "workload"),
            wording::first_few(&names, 5)
        ),
    )
    .about(Kind::Namespace, &ObjectName::new("", namespace), None);
    finding.names = names;
    Some(finding)
}

/// Pods that still run a sidecar: one by name, many as a count. Where nothing else is left to
/// change, their restart is the recommendation.
fn pods(workload: &Workload, labelled: bool) -> Finding {
    let names: Vec<String> = workload
        .generations
        .iter()
        .filter(|generation| generation.mode == DataPlaneMode::Sidecar)
        .flat_map(|generation| &generation.pods)
        .map(|pod| format!("{}/{}", workload.name.namespace, pod.name))
        .collect();
    let message = match names.as_slice() {
        [only] => format!("sidecar found for Pod {only}"),
        many => format!(
            "sidecars found for {} of {}",
            wording::count(many.len(), "pod"),
            wording::workload(workload)
        ),
    };
    let level = if labelled {
        Level::Warning
    } else {
        Level::Recommendation
    };
    let mut finding = about(Finding::new(CODE, level, message), workload);
    finding.names = names;
    if !labelled {
        finding = finding.remedy(restart(workload));
    }
    finding
}

fn about(finding: Finding, workload: &Workload) -> Finding {
    match (&workload.owner, wording::owner_resource(&workload.owner)) {
        (OwnerKind::Other(_), _) | (_, None) => finding,
        (_, Some(kind)) => finding.about(kind, &workload.name, Some(&workload.origin)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::testing::{lines, mesh_with, run, workload};

    #[test]
    fn labels_come_with_their_way_back_and_the_restarts_beneath() {
        let mesh = mesh_with(vec![workload(OwnerKind::StatefulSet, "shop", "db")]);
        let result = run(&CHECK, &mesh);
        assert_eq!(
            lines(&result),
            [
                (
                    Level::Recommendation,
                    "namespace shop can disable its sidecars: kubectl label ns shop istio-injection- \
                     istio.io/dataplane-mode=ambient"
                ),
                (Level::Warning, "sidecar found for Pod shop/db-1")
            ]
        );
        assert_eq!(
            result.findings[0].remedies,
            [
                crate::finding::Remedy::command(
                    "kubectl label ns shop istio-injection- istio.io/dataplane-mode=ambient",
                    "kubectl label ns shop istio-injection=enabled  # then restart, and when every pod has its \
                     sidecar: kubectl label ns shop istio.io/dataplane-mode-"
                ),
                crate::finding::Remedy::command_without_undo(
                    "kubectl rollout restart statefulset -n shop db"
                )
            ]
        );
    }

    #[test]
    fn predictions_are_one_line_a_namespace() {
        let predicted = |name: &str| {
            let mut one = workload(OwnerKind::Deployment, "shop", name);
            one.predicted = true;
            one
        };
        let result = run(
            &CHECK,
            &mesh_with(vec![predicted("web"), predicted("cart")]),
        );
        assert_eq!(
            lines(&result)[1],
            (
                Level::Note,
                "sidecars predicted for 2 workloads of namespace shop (no pods were given): Deployment shop/cart, \
                 Deployment shop/web"
            )
        );
        assert_eq!(result.findings.len(), 2);
    }
}
