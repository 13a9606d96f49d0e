//! What is needed to take an applied manifest back.
//!
//! In: the snapshot before, a manifest. Out: commands that delete what was new and apply what was
//! replaced, and the manifests of the latter. Invariant: what the API server and `kubectl` wrote into
//! an object is not among what is saved.

use serde_json::{Map, Value};

use super::wave::Files;
use crate::manifest;
use crate::snapshot::{AnyObject, Kind, ObjectName, Snapshot};
use crate::source::{self, Place};

/// Kinds and names of the objects of a manifest.
pub(super) fn objects(content: &str) -> Vec<(Kind, ObjectName)> {
    source::parse_objects(&Place::Simulated, content)
        .unwrap_or_default()
        .iter()
        .map(AnyObject::identity)
        .collect()
}

/// The commands that take `kubectl apply -f FILE` back; what it replaces goes to `saved`.
pub(super) fn undo_apply(
    before: &Snapshot,
    file: &str,
    content: &str,
    saved: &mut Files,
) -> Vec<String> {
    let mut undo = Vec::new();
    let mut replaced = Vec::new();
    for (kind, name) in objects(content) {
        match object(before, kind, &name) {
            Some(object) => replaced.push(object),
            None => undo.push(delete_command(kind, &name)),
        }
    }
    if !replaced.is_empty() {
        let name = format!("before-{file}");
        undo.push(format!("kubectl apply -f {name}"));
        saved.insert(name, manifest::documents(&replaced));
    }
    undo
}

/// `kubectl delete KIND -n NAMESPACE NAME`, which can be run again.
pub(super) fn delete_command(kind: Kind, name: &ObjectName) -> String {
    let resource = kind.resource();
    if name.namespace.is_empty() {
        format!("kubectl delete {resource} {} --ignore-not-found", name.name)
    } else {
        format!(
            "kubectl delete {resource} -n {} {} --ignore-not-found",
            name.namespace, name.name
        )
    }
}

/// Waits until ztunnel has been given the policies of a manifest that are for pods: one that it does not know yet
/// closes nothing. What it never takes is not waited for: other actions, dry runs, and what targets a waypoint
/// (istio pilot/pkg/serviceregistry/ambient/authorization.go, `convertAuthorizationPolicy`;
/// pilot/pkg/model/service.go, `ZtunnelAccepted`).
pub(super) fn waits_for_ztunnel(content: &str) -> Vec<String> {
    let objects = source::parse_objects(&Place::Simulated, content).unwrap_or_default();
    let mut waits = Vec::new();
    for object in &objects {
        let AnyObject::Resource(kind, object) = object else {
            continue;
        };
        let name = object.object_name();
        let spec = &object.body["spec"];
        let action = spec["action"].as_str().unwrap_or("ALLOW");
        let is_dry = (object.metadata.annotations).has("istio.io/dry-run", "true");
        let targets = !spec["targetRef"].is_null() || !spec["targetRefs"].is_null();
        let taken = matches!(action, "ALLOW" | "DENY") && !is_dry && !targets;
        if *kind == Kind::AuthorizationPolicy && taken {
            waits.push(format!(
                "kubectl wait --for=condition=ZtunnelAccepted --timeout=5m {}/{} -n {}",
                kind.resource(),
                name.name,
                name.namespace
            ));
        }
    }
    waits
}

/// An Istio or Gateway API object as it can be applied again.
pub(super) fn object(snapshot: &Snapshot, kind: Kind, name: &ObjectName) -> Option<Value> {
    let list = snapshot.resources(kind);
    let wanted = (name.namespace.as_str(), name.name.as_str());
    let index = list
        .binary_search_by(|known| {
            (
                known.metadata.namespace.as_str(),
                known.metadata.name.as_str(),
            )
                .cmp(&wanted)
        })
        .ok()?;
    let object = &list[index];
    let mut body = Value::clone(&object.body);
    let fields = body.as_object_mut()?;
    fields.remove("status");
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), name.name.as_str().into());
    if !name.namespace.is_empty() {
        metadata.insert("namespace".to_owned(), name.namespace.as_str().into());
    }
    for (key, pairs) in [
        ("labels", &object.metadata.labels),
        ("annotations", &object.metadata.annotations),
    ] {
        let pairs: Map<String, Value> = pairs
            .iter()
            .map(|(key, value)| (key.to_owned(), Value::from(value)))
            .collect();
        if !pairs.is_empty() {
            metadata.insert(key.to_owned(), Value::Object(pairs));
        }
    }
    fields.insert("metadata".to_owned(), Value::Object(metadata));
    Some(body)
}
