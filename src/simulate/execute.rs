//! Carries out one command on a snapshot, as an API server would.
//!
//! In: a snapshot, a [`Command`], the files it may name. Out: the same snapshot, changed. What
//! controllers do afterwards is [`super::settle`]'s. Invariant: a command whose object is not
//! there is an error, as `kubectl` would say, never a silent success.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::command::{Command, LabelChange};
use super::controllers::Rollouts;
use crate::api::pod::PodOwnerSpec;
use crate::mesh::workload::{Replacement, owner_kind};
use crate::snapshot::{Kind, Labels, Metadata, ObjectName, Snapshot};
use crate::source;

/// Why a command could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExecuteError {
    /// The object is not in the snapshot.
    #[error("{kind} `{name}` not found")]
    NotFound {
        /// Kind, as `kubectl` takes it.
        kind: String,
        /// Which.
        name: ObjectName,
    },
    /// The command names a file that was not written.
    #[error("`{0}` was not written")]
    NoFile(String),
    /// The file holds something that could not be read.
    #[error("`{file}`: {reason}")]
    BadFile {
        /// Which.
        file: String,
        /// Why.
        reason: String,
    },
    /// A form of the command that is not played, with what it would need.
    #[error("{0}")]
    NotPlayed(String),
}

/// Carries out commands, one after the other. `files` are those that castoff wrote, by name (the
/// last part of a path counts). Pods of rollouts that follow one another are replaced together: none
/// of them changes what the others' new pods look like.
///
/// # Errors
/// The position of the first command that failed, and why: its object or file is missing, or the
/// change touches something that is not modelled.
pub fn execute(
    snapshot: &mut Snapshot,
    commands: &[Command],
    files: &BTreeMap<String, String>,
) -> Result<(), (usize, ExecuteError)> {
    let mut rollouts = Rollouts::default();
    // Objects deleted one after the other leave their lists together.
    let mut gone: BTreeSet<(Kind, ObjectName)> = BTreeSet::new();
    for (position, command) in commands.iter().enumerate() {
        let waits = match command {
            Command::Patch { .. } | Command::Restart { .. } | Command::DeletePods { .. } => false,
            // What new pods look like hangs on the labels of their own namespace alone.
            Command::Label {
                kind: Kind::Namespace,
                name,
                ..
            } => rollouts.are_in(&name.name),
            Command::Label { .. } | Command::Apply { .. } | Command::Delete { .. } => true,
        };
        if waits {
            std::mem::take(&mut rollouts).finish(snapshot);
        }
        if !matches!(command, Command::Delete { .. }) {
            remove(snapshot, &mut gone);
        }
        one(snapshot, command, files, &mut rollouts, &mut gone)
            .map_err(|error| (position, error))?;
    }
    remove(snapshot, &mut gone);
    rollouts.finish(snapshot);
    Ok(())
}

fn remove(snapshot: &mut Snapshot, gone: &mut BTreeSet<(Kind, ObjectName)>) {
    if !gone.is_empty() {
        snapshot.remove_all(&gone.iter().collect());
        gone.clear();
    }
}

fn one(
    snapshot: &mut Snapshot,
    command: &Command,
    files: &BTreeMap<String, String>,
    rollouts: &mut Rollouts,
    gone: &mut BTreeSet<(Kind, ObjectName)>,
) -> Result<(), ExecuteError> {
    match command {
        Command::Apply { file } => {
            let name = file.rsplit('/').next().unwrap_or(file);
            let content = files
                .get(name)
                .ok_or_else(|| ExecuteError::NoFile(file.clone()))?;
            apply(snapshot, name, content)
        }
        Command::Label {
            kind,
            name,
            changes,
        } => edit_metadata(snapshot, *kind, name, |metadata| {
            relabel(&mut metadata.labels, changes)
        }),
        Command::Delete {
            kind,
            name,
            may_be_gone,
        } => {
            let is_there = snapshot.metadata_mut(*kind, name).is_some();
            if (is_there && gone.insert((*kind, name.clone()))) || *may_be_gone {
                Ok(())
            } else {
                Err(not_found(*kind, name))
            }
        }
        Command::DeletePods {
            namespace,
            names,
            selector,
        } => {
            let names: Vec<String> = if selector.is_empty() {
                names.clone()
            } else {
                selected(snapshot, namespace, selector)
            };
            delete_pods(snapshot, namespace, &names, rollouts)
        }
        Command::Patch { kind, name, patch } => patch_owner(snapshot, *kind, name, patch, rollouts),
        Command::Restart {
            kind,
            namespace,
            name,
        } => restart(snapshot, *kind, namespace, name.as_deref(), rollouts),
    }
}

fn not_found(kind: Kind, name: &ObjectName) -> ExecuteError {
    ExecuteError::NotFound {
        kind: kind.resource(),
        name: name.clone(),
    }
}

/// Puts every object of a manifest file in the place of the one it names, or adds it.
fn apply(snapshot: &mut Snapshot, file: &str, content: &str) -> Result<(), ExecuteError> {
    match source::apply_text(snapshot, &source::Place::Simulated, content) {
        Ok(_) => Ok(()),
        Err(problems) => Err(ExecuteError::BadFile {
            file: file.to_owned(),
            reason: problems
                .first()
                .map(|problem| problem.message.clone())
                .unwrap_or_default(),
        }),
    }
}

fn relabel(labels: &mut Labels, changes: &[LabelChange]) {
    for change in changes {
        match &change.value {
            Some(value) => labels.set(&change.key, value),
            None => {
                labels.remove(&change.key);
            }
        }
    }
}

fn edit_metadata(
    snapshot: &mut Snapshot,
    kind: Kind,
    name: &ObjectName,
    edit: impl FnOnce(&mut Metadata),
) -> Result<(), ExecuteError> {
    edit(
        snapshot
            .metadata_mut(kind, name)
            .ok_or_else(|| not_found(kind, name))?,
    );
    if let Some(object) = snapshot.resources.get_mut(&kind).and_then(|objects| {
        objects
            .iter_mut()
            .find(|object| object.object_name() == *name)
    }) {
        // The JSON is what policies are read from; it must say the same as the typed metadata.
        let body = Arc::make_mut(&mut object.body);
        body["metadata"]["labels"] = labels_as_json(&object.metadata.labels);
    }
    Ok(())
}

fn labels_as_json(labels: &Labels) -> Value {
    labels
        .iter()
        .map(|(key, value)| (key.to_owned(), Value::from(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Merge patches of labels and annotations, on the object and on its pod template, and of how a
/// Deployment replaces pods: the only ones that castoff writes.
fn patch_owner(
    snapshot: &mut Snapshot,
    kind: Kind,
    name: &ObjectName,
    patch: &Value,
    rollouts: &mut Rollouts,
) -> Result<(), ExecuteError> {
    let owner = snapshot
        .owner_mut(kind, name)
        .ok_or_else(|| not_found(kind, name))?;
    merge_metadata(&mut owner.metadata, patch.get("metadata"));
    merge_rollout(&mut Arc::make_mut(&mut owner.body).spec, &patch["spec"]);
    let template_path = if kind == Kind::CronJob {
        "/spec/jobTemplate/spec/template/metadata"
    } else {
        "/spec/template/metadata"
    };
    let Some(change) = patch.pointer(template_path) else {
        return Ok(());
    };
    let spec = &mut Arc::make_mut(&mut owner.body).spec;
    let template = match (&mut spec.template, &mut spec.job_template) {
        (Some(template), _) => Some(template),
        (None, Some(job)) => job.spec.template.as_mut(),
        (None, None) => None,
    }
    .ok_or_else(|| {
        ExecuteError::NotPlayed(format!("{} `{name}` has no pod template", kind.resource()))
    })?;
    merge_metadata(&mut template.metadata, Some(change));
    match kind {
        // New pods come with the next run.
        Kind::CronJob => Ok(()),
        Kind::Job => Err(ExecuteError::NotPlayed(format!(
            "the pod template of Job `{name}` cannot be changed"
        ))),
        _ => {
            if replacement(kind, name, spec) == Replacement::ByItself {
                rollouts.of_owner(kind, name.clone());
            }
            Ok(())
        }
    }
}

/// How an owner of this kind comes to replace its pods.
fn replacement(kind: Kind, name: &ObjectName, spec: &PodOwnerSpec) -> Replacement {
    Replacement::of(&owner_kind(kind.row().name), name, spec)
}

/// Pods with all these labels.
fn selected(
    snapshot: &Snapshot,
    namespace: &str,
    selector: &[(String, Option<String>)],
) -> Vec<String> {
    snapshot
        .pods
        .iter()
        .map(|pod| &pod.metadata)
        .filter(|metadata| metadata.namespace == namespace)
        .filter(|metadata| {
            let mut pairs = selector.iter();
            pairs.all(|(key, value)| metadata.labels.get(key) == value.as_deref())
        })
        .map(|metadata| metadata.name.to_string())
        .collect()
}

/// Merges how a Deployment replaces pods; when it is done with replacing them is not played.
fn merge_rollout(spec: &mut PodOwnerSpec, change: &Value) {
    for (field, value) in [
        ("minReadySeconds", &mut spec.min_ready_seconds),
        (
            "progressDeadlineSeconds",
            &mut spec.progress_deadline_seconds,
        ),
    ] {
        if let Some(new) = change.get(field) {
            *value = new.as_i64();
        }
    }
    let Some(new) = change
        .pointer("/strategy/rollingUpdate")
        .and_then(Value::as_object)
    else {
        return;
    };
    let strategy = spec.strategy.get_or_insert_with(|| json!({}));
    for (key, value) in new {
        let rolling = &mut strategy["rollingUpdate"];
        match (value, rolling.as_object_mut()) {
            (Value::Null, Some(fields)) => {
                fields.remove(key);
            }
            (Value::Null, None) => {}
            _ => rolling[key] = value.clone(),
        }
    }
    if strategy["rollingUpdate"]
        .as_object()
        .is_none_or(Map::is_empty)
        && let Some(fields) = strategy.as_object_mut()
    {
        fields.remove("rollingUpdate");
    }
    if *strategy == json!({}) {
        spec.strategy = None;
    }
}

fn merge_metadata(metadata: &mut Metadata, change: Option<&Value>) {
    for (field, labels) in [
        ("labels", &mut metadata.labels),
        ("annotations", &mut metadata.annotations),
    ] {
        let Some(changes) = change
            .and_then(|change| change.get(field))
            .and_then(Value::as_object)
        else {
            continue;
        };
        for (key, value) in changes {
            match value.as_str() {
                Some(value) => labels.set(key, value),
                None => {
                    labels.remove(key);
                }
            }
        }
    }
}

fn restart(
    snapshot: &mut Snapshot,
    kind: Kind,
    namespace: &str,
    name: Option<&str>,
    rollouts: &mut Rollouts,
) -> Result<(), ExecuteError> {
    if let Some(name) = name {
        let name = ObjectName::new(namespace, name);
        let owner = snapshot
            .owner(kind, &name)
            .ok_or_else(|| not_found(kind, &name))?;
        match replacement(kind, &name, &owner.body.spec) {
            Replacement::ByItself => rollouts.of_owner(kind, name),
            Replacement::WhenDeleted { .. } => {}
            Replacement::Stopped(why) => return Err(ExecuteError::NotPlayed(why.to_string())),
        }
        return Ok(());
    }
    for owner in &snapshot.owners {
        let is_of_kind = Kind::of(&owner.api_version, &owner.kind) == Some(kind);
        let name = owner.object_name();
        let by_itself = replacement(kind, &name, &owner.body.spec) == Replacement::ByItself;
        if is_of_kind && by_itself && owner.metadata.namespace == namespace {
            rollouts.of_owner(kind, owner.object_name());
        }
    }
    Ok(())
}

/// Deletes pods; what a controller makes in their place comes at once. A pod without a controller is
/// gone.
fn delete_pods(
    snapshot: &mut Snapshot,
    namespace: &str,
    names: &[String],
    rollouts: &mut Rollouts,
) -> Result<(), ExecuteError> {
    for name in names {
        let name = ObjectName::new(namespace, name);
        let pod = snapshot
            .pods
            .iter()
            .find(|pod| pod.metadata.name == name.name && pod.metadata.namespace == name.namespace)
            .ok_or_else(|| not_found(Kind::Pod, &name))?;
        if pod.metadata.owner_references.is_empty() {
            snapshot.remove(Kind::Pod, &name);
        } else {
            rollouts.of_pod(name);
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use crate::simulate::command::parse_line;

    /// A ReplicaSet with two pods, an Argo Rollout with one, and a pod of its own, all with sidecars
    /// in a namespace that is ambient by now.
    const MESH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: ztunnel, namespace: istio-system, labels: {app: ztunnel}}
spec:
  template:
    metadata: {labels: {app: ztunnel}}
    spec: {containers: [{name: istio-proxy, image: istio/ztunnel:1.30.0}]}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: db, namespace: shop}
spec: {template: {metadata: {labels: {app: db}}, spec: {containers: [{name: db, image: db}]}}}
---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: web, namespace: shop}
spec: {template: {metadata: {labels: {app: web}}, spec: {containers: [{name: web, image: web}]}}}
";

    fn pod(name: &str, app: &str, owner: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: {{app: {app}}}, \
             annotations: {{sidecar.istio.io/status: '{{}}'}}{owner}}}\nspec: {{containers: [{{name: {app}, image: \
             {app}}}, {{name: istio-proxy, image: istio/proxyv2:1.30.0, args: [proxy, sidecar]}}]}}\n"
        )
    }

    fn after(line: &str) -> Result<Vec<(String, bool)>, ExecuteError> {
        let owned = |kind: &str, version: &str, name: &str| {
            format!(
                ", ownerReferences: [{{apiVersion: {version}, kind: {kind}, name: {name}, controller: true}}]"
            )
        };
        let text = [
            MESH.to_owned(),
            pod("db-x", "db", &owned("ReplicaSet", "apps/v1", "db")),
            pod("db-y", "db", &owned("ReplicaSet", "apps/v1", "db")),
            pod(
                "web-x",
                "web",
                &owned("Rollout", "argoproj.io/v1alpha1", "web"),
            ),
            pod("lone", "lone", ""),
        ]
        .concat();
        let mut collector = source::Collector::new();
        collector.add_text(&source::Place::Demo("test.yaml"), &text);
        let mut snapshot = collector.finish();
        execute(
            &mut snapshot,
            &[parse_line(line).unwrap()],
            &BTreeMap::new(),
        )
        .map_err(|(_, error)| error)?;
        let mut pods: Vec<(String, bool)> = snapshot
            .pods
            .iter()
            .map(|pod| {
                let sidecar = pod.body.spec.containers.len() > 1;
                (pod.metadata.name.to_string(), sidecar)
            })
            .collect();
        pods.sort();
        Ok(pods)
    }

    fn sidecars(db_x: bool, db_y: bool, web: bool) -> Vec<(String, bool)> {
        [
            ("db-x", db_x),
            ("db-y", db_y),
            ("lone", true),
            ("web-x", web),
        ]
        .map(|(name, sidecar)| (name.to_owned(), sidecar))
        .to_vec()
    }

    #[test]
    fn deleted_pods_are_made_anew_by_their_controller_and_others_stay() {
        assert_eq!(
            after("kubectl delete pods -n shop db-x"),
            Ok(sidecars(false, true, true))
        );
        assert_eq!(
            after("kubectl delete pods -n shop db-x db-y"),
            Ok(sidecars(false, false, true))
        );
    }

    #[test]
    fn a_pod_without_a_controller_is_gone_and_one_that_is_not_there_is_an_error() {
        let left = after("kubectl delete pods -n shop lone").unwrap();
        assert!(left.iter().all(|(name, _)| name != "lone"), "{left:?}");
        assert!(after("kubectl delete pods -n shop db-z").is_err());
    }

    #[test]
    fn a_rollout_is_restarted_by_its_plugin() {
        assert_eq!(
            after("kubectl argo rollouts restart -n shop web"),
            Ok(sidecars(true, true, false))
        );
        assert!(after("kubectl argo rollouts restart -n shop gone").is_err());
    }
}
