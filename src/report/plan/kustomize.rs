//! A wave for those who deploy from Git: a kustomize component with manifests and patches.
//!
//! In: a wave. Out: files for `components:` of an overlay that holds the patched objects. Invariant:
//! every label, pod-template and delete command has its patch; a restart has none and is named; what a wave
//! needs only on the way is not among them, and said.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::manifest;
use crate::phases::migrate_policies::EDITED_FILE;
use crate::plan::Wave;
use crate::plan::wave::{Edit, EditChange, Files};

/// Name of the file with patches.
pub const PATCHES: &str = "patches.yaml";

/// `kustomization.yaml` and, where there are any, `patches.yaml`.
pub fn files(wave: &Wave) -> Files {
    let mut component = Map::new();
    component.insert(
        "apiVersion".into(),
        json!("kustomize.config.k8s.io/v1alpha1"),
    );
    component.insert("kind".into(), json!("Component"));
    // An object that is in the overlay already is patched: a second one of its name would be refused.
    let documents = |text: &String| manifest::split(text).count();
    let lasting = (wave.manifests.keys()).filter(|file| !wave.temporary.contains(*file));
    let (edited, added): (Vec<&String>, Vec<&String>) = lasting.partition(|file| {
        let replaced = wave.saved.get(&format!("before-{file}")).map(documents);
        file.as_str() == EDITED_FILE || replaced == wave.manifests.get(*file).map(documents)
    });
    if !added.is_empty() {
        component.insert("resources".into(), json!(added));
    }
    let mut patches: Vec<Value> = edited.iter().map(|file| json!({"path": file})).collect();
    let mut files = Files::new();
    let is_deletion = |edit: &&Edit| matches!(edit.change, EditChange::Delete);
    let (deletions, changes): (Vec<&Edit>, Vec<&Edit>) = wave.edits.iter().partition(is_deletion);
    let changes: Vec<Value> = changes.into_iter().filter_map(patch).collect();
    if !changes.is_empty() {
        patches.push(json!({"path": PATCHES}));
        files.insert(PATCHES.to_owned(), manifest::documents(&changes));
    }
    // Several deletions in one file let kustomize crash (kubernetes-sigs/kustomize#5552).
    let deletions = deletions.into_iter().filter_map(patch);
    patches.extend(deletions.map(|deletion| json!({"patch": manifest::document(&deletion)})));
    if !patches.is_empty() {
        component.insert("patches".into(), Value::Array(patches));
    }
    let text = manifest::document(&Value::Object(component));
    let mut head = "# For those who deploy from Git: name this folder under `components:` of the overlay that holds these \
                    objects.\n"
        .to_owned();
    if !wave.temporary.is_empty() {
        head.push_str(
            "# This is the state after the wave alone. On the way there it needs what is gone again at its end: carry \
             apply.sh\n# out with the synchronization of these objects suspended, then commit this and resume it.\n",
        );
    }
    for run in not_in_git(wave) {
        head.push_str(&format!("# When it is applied, run: {run}\n"));
    }
    files.insert("kustomization.yaml".to_owned(), format!("{head}{text}"));
    files
}

/// Commands of a wave that no file can hold: labels change new pods only, and these make new pods.
pub fn not_in_git(wave: &Wave) -> impl Iterator<Item = &str> {
    let replaces = |run: &&str| {
        let starts = [
            "kubectl rollout restart ",
            "kubectl argo rollouts restart ",
            "kubectl delete pods ",
        ];
        starts.iter().any(|start| run.starts_with(start))
    };
    let runs = wave.steps.iter().flat_map(|step| &step.run);
    runs.map(String::as_str).filter(replaces)
}

/// The patch of an edit; `None` where a file of the wave is the patch.
fn patch(edit: &Edit) -> Option<Value> {
    let mut metadata = Map::new();
    metadata.insert("name".into(), json!(edit.name.name));
    if !edit.name.namespace.is_empty() {
        metadata.insert("namespace".into(), json!(edit.name.namespace));
    }
    let mut object = Map::new();
    object.insert("apiVersion".into(), json!(edit.api_version));
    object.insert("kind".into(), json!(edit.kind));
    match &edit.change {
        EditChange::Labels(labels) => {
            metadata.insert("labels".into(), values(labels));
            object.insert("metadata".into(), Value::Object(metadata));
        }
        EditChange::TemplateLabels(labels) => {
            object.insert("metadata".into(), Value::Object(metadata));
            let template = json!({"template": {"metadata": {"labels": values(labels)}}});
            let spec = if edit.kind == "CronJob" {
                json!({"jobTemplate": {"spec": template}})
            } else {
                template
            };
            object.insert("spec".into(), spec);
        }
        EditChange::Replace(_) => return None,
        EditChange::Delete => {
            object.insert("$patch".into(), json!("delete"));
            object.insert("metadata".into(), Value::Object(metadata));
        }
    }
    Some(Value::Object(object))
}

fn values(labels: &BTreeMap<String, Option<String>>) -> Value {
    let pairs = labels.iter().map(|(key, value)| {
        let value = value.as_ref().map_or(Value::Null, |value| json!(value));
        (key.clone(), value)
    });
    Value::Object(pairs.collect())
}
