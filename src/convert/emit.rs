//! The bytes of a copy: the user's object with another attachment.
//!
//! In: the object as read, the new `spec` fields. Out: a manifest. Invariant: what the user wrote
//! stays, unknown fields included; what the API server, Helm, Argo CD or Flux wrote goes, so that
//! none of them takes the copy for its own and deletes it.

use serde_json::{Map, Value, json};

use crate::mesh::ObjectReference;
use crate::needs::GENERATED_LABEL;
use crate::snapshot::ObjectName;

/// Label with the kind of the original.
pub const COPIED_FROM_KIND_LABEL: &str = "castoff.dev/copied-from-kind";
/// Annotation with the original: `AuthorizationPolicy/app1/policies`.
pub const COPIED_FROM_ANNOTATION: &str = "castoff.dev/copied-from";
/// Annotation with the Service that a guard is for: `Service/app1/echo`.
pub const GUARDS_ANNOTATION: &str = "castoff.dev/guards";

/// A reference of `targetRefs`.
pub(super) fn target(group: &str, kind: &str, name: &str) -> Value {
    json!({"group": group, "kind": kind, "name": name})
}

/// The copy of a policy; its name is set when all names are known.
pub(super) fn copy(
    source: &ObjectReference,
    raw: &Value,
    spec: &Map<String, Value>,
    target: Value,
) -> Value {
    let mut new_spec = Map::new();
    new_spec.insert("targetRefs".to_owned(), Value::Array(vec![target]));
    for (key, value) in spec {
        let attaches = matches!(
            key.as_str(),
            "selector" | "workloadSelector" | "targetRef" | "targetRefs"
        );
        if !attaches {
            new_spec.insert(key.clone(), value.clone());
        }
    }
    let kind = source.kind.row().name;
    let mut labels = kept(&raw["metadata"]["labels"], is_owner_label);
    labels.insert(GENERATED_LABEL.to_owned(), json!("copy"));
    labels.insert(COPIED_FROM_KIND_LABEL.to_owned(), json!(kind));
    let mut annotations = kept(&raw["metadata"]["annotations"], is_owner_annotation);
    annotations.insert(
        COPIED_FROM_ANNOTATION.to_owned(),
        json!(format!("{kind}/{}", source.name)),
    );
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), raw["apiVersion"].clone());
    object.insert("kind".to_owned(), raw["kind"].clone());
    object.insert("metadata".to_owned(), metadata(labels, annotations));
    object.insert("spec".to_owned(), Value::Object(new_spec));
    Value::Object(object)
}

/// The policy that lets a waypoint reach pods.
pub(super) fn guard(
    service: &ObjectName,
    selector: Value,
    principal: &str,
    ports: &[u16],
) -> Value {
    let mut rule = json!({"from": [{"source": {"principals": [principal]}}]});
    if !ports.is_empty() {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        rule["to"] = json!([{"operation": {"ports": ports}}]);
    }
    let mut labels = Map::new();
    labels.insert(GENERATED_LABEL.to_owned(), json!("guard"));
    let mut annotations = Map::new();
    annotations.insert(
        GUARDS_ANNOTATION.to_owned(),
        json!(format!("Service/{service}")),
    );
    json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": metadata(labels, annotations),
        "spec": {
            "selector": {"matchLabels": selector},
            "action": "ALLOW",
            "rules": [rule],
        },
    })
}

fn metadata(labels: Map<String, Value>, annotations: Map<String, Value>) -> Value {
    json!({"name": "", "namespace": "", "labels": labels, "annotations": annotations})
}

fn kept(map: &Value, drop: fn(&str) -> bool) -> Map<String, Value> {
    let mut kept: Vec<(&String, &Value)> = map
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, _)| !drop(key))
        .collect();
    kept.sort_by_key(|(key, _)| *key);
    kept.into_iter()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Labels by which Helm, Argo CD and Flux know what is theirs.
fn is_owner_label(key: &str) -> bool {
    matches!(
        key,
        "app.kubernetes.io/managed-by" | "app.kubernetes.io/instance" | "helm.sh/chart"
    ) || is_owner_prefix(key)
}

fn is_owner_annotation(key: &str) -> bool {
    key == "kubectl.kubernetes.io/last-applied-configuration"
        || key.starts_with("meta.helm.sh/")
        || is_owner_prefix(key)
}

fn is_owner_prefix(key: &str) -> bool {
    [
        "argocd.argoproj.io/",
        "kustomize.toolkit.fluxcd.io/",
        "helm.toolkit.fluxcd.io/",
        "castoff.dev/",
    ]
    .iter()
    .any(|prefix| key.starts_with(prefix))
}
