//! A wave's kustomize component, through the real `kubectl kustomize`: an overlay with the live
//! objects as resources and the wave under `components`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::Cluster;

/// Everything that a wave may patch or delete.
const KINDS: [&str; 11] = [
    "namespaces",
    "services",
    "deployments",
    "statefulsets",
    "daemonsets",
    "networkpolicies",
    "serviceentries.networking.istio.io",
    "authorizationpolicies.security.istio.io",
    "requestauthentications.security.istio.io",
    "gateways.gateway.networking.k8s.io",
    "httproutes.gateway.networking.k8s.io",
];

/// Kind, namespace, name.
type Key = (String, String, String);

/// What stays of an object that is kept in Git.
fn kept(mut object: Value) -> Value {
    let map = object.as_object_mut().unwrap();
    map.remove("status");
    let metadata = map["metadata"].as_object_mut().unwrap();
    for field in [
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
        "ownerReferences",
    ] {
        metadata.remove(field);
    }
    object
}

fn live(cluster: &Cluster) -> Vec<Value> {
    let kinds = KINDS.join(",");
    let text = cluster.kubectl(&["get", &kinds, "--all-namespaces", "--output=json"]);
    let list: Value = serde_json::from_str(&text).unwrap();
    let items = list["items"].as_array().unwrap().clone();
    items.into_iter().map(kept).collect()
}

/// What a wave is about: labels and specification, for workloads the labels of their pods.
/// A restart leaves its time in the template, in Git there is none.
fn outlines(objects: &[Value]) -> BTreeMap<Key, Value> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    objects
        .iter()
        .map(|object| {
            let metadata = &object["metadata"];
            let key = (
                text(&object["kind"]),
                text(&metadata["namespace"]),
                text(&metadata["name"]),
            );
            let template = &object["spec"]["template"]["metadata"]["labels"];
            let specification = match template.is_object() {
                true => template,
                false => &object["spec"],
            };
            (key, json!([metadata["labels"], specification]))
        })
        .collect()
}

/// What is in Git once the wave is.
pub(crate) struct Expected(BTreeMap<Key, Value>);

/// Builds the overlay; the API server must accept all of it, unknown fields included.
pub(crate) fn build(cluster: &Cluster, wave: &Path) -> Option<Expected> {
    if !wave.join("kustomization.yaml").is_file() {
        return None;
    }
    // Components are named by relative paths: the overlay stands beside the plan.
    let overlay = wave.parent().unwrap().join("overlay");
    std::fs::create_dir_all(&overlay).unwrap();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": live(cluster)});
    std::fs::write(overlay.join("live.yaml"), list.to_string()).unwrap();
    let component = format!("../{}", wave.file_name().unwrap().to_str().unwrap());
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": ["live.yaml"], "components": [component],
    });
    std::fs::write(overlay.join("kustomization.yaml"), kustomization.to_string()).unwrap();
    let built = cluster.kubectl(&["kustomize", overlay.to_str().unwrap()]);
    std::fs::remove_dir_all(&overlay).unwrap();
    let accepted = cluster.try_kubectl(
        &[
            "apply",
            "--server-side",
            "--force-conflicts",
            "--dry-run=server",
            "--validate=strict",
            "--output=json",
            "-f",
            "-",
        ],
        Some(&built),
    );
    let message = String::from_utf8_lossy(&accepted.stderr);
    assert!(accepted.status.success(), "{wave:?}: {message}");
    // Server-side apply keeps what others own; what counts is what kustomize wrote.
    let objects = serde_saphyr::from_multiple::<Value>(&built).unwrap();
    assert!(objects.len() > 3, "{built}");
    Some(Expected(outlines(&objects)))
}

impl Expected {
    /// The scripts of the wave have led to the same objects.
    pub(crate) fn is_live(&self, cluster: &Cluster, wave: &Path) {
        let live = outlines(&live(cluster));
        for (key, expected) in &self.0 {
            let Some(found) = live.get(key) else {
                panic!("{wave:?}: {key:?} is in Git and not in the cluster");
            };
            assert!(
                contains(found, expected),
                "{wave:?}: {key:?}\nin the cluster {found}\nin Git {expected}"
            );
            // Labels are compared both ways: one that Git no longer has must be gone.
            assert!(
                contains(&expected[0], &found[0]),
                "{wave:?}: {key:?}\nin the cluster {found}\nin Git {expected}"
            );
        }
    }
}

/// Whether all of `part` is in `whole`, which may have more fields: defaults.
fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part.iter().all(|(key, value)| {
            whole
                .get(key)
                .is_some_and(|found| contains(found, value))
        }),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len()
                && whole.iter().zip(part).all(|(found, value)| contains(found, value))
        }
        (whole, part) => whole == part,
    }
}
