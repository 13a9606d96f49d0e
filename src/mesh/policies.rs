//! Reads policies from JSON into the mesh's own words.
//!
//! In: raw objects. Out: attachments, JWT rules, mTLS modes, HTTP fields. Invariant: a value that
//! is not understood becomes a [`Misunderstanding`], never a default.

use std::sync::Arc;

use serde_json::Value;
use smol_str::SmolStr;

use super::Mesh;
use super::authorization;
use super::policy::{
    Attachment, AuthorizationPolicy, ExtensionPolicy, JwtRule, MtlsMode, PeerAuthentication,
    RequestAuthentication, TargetReference,
};
use crate::snapshot::{Gap, Kind, Labels, Object, Snapshot};

pub(super) struct Policies {
    pub(super) authorization: Vec<AuthorizationPolicy>,
    pub(super) request_authentication: Vec<RequestAuthentication>,
    pub(super) peer_authentication: Vec<PeerAuthentication>,
    pub(super) extensions: Vec<ExtensionPolicy>,
}

/// What is known of AuthorizationPolicies is taken over where the object is the same.
pub(super) fn read(snapshot: &Snapshot, known: Option<&Mesh>, gaps: &mut Vec<Gap>) -> Policies {
    let kinds = [
        Kind::EnvoyFilter,
        Kind::Telemetry,
        Kind::WasmPlugin,
        Kind::TrafficExtension,
    ];
    Policies {
        authorization: snapshot
            .resources(Kind::AuthorizationPolicy)
            .iter()
            .map(|object| {
                known
                    .and_then(|known| unchanged(known, object))
                    .unwrap_or_else(|| authorization_policy(object))
            })
            .collect(),
        request_authentication: snapshot
            .resources(Kind::RequestAuthentication)
            .iter()
            .map(request_authentication)
            .collect(),
        peer_authentication: snapshot
            .resources(Kind::PeerAuthentication)
            .iter()
            .map(|object| peer_authentication(object, gaps))
            .collect(),
        extensions: kinds
            .into_iter()
            .flat_map(|kind| {
                snapshot
                    .resources(kind)
                    .iter()
                    .map(move |object| extension(kind, object))
            })
            .collect(),
    }
}

/// The policy that was read of an equal object.
fn unchanged(known: &Mesh, object: &Object<Value>) -> Option<AuthorizationPolicy> {
    let name = object.object_name();
    let list = &known.authorization_policies;
    let at = list.binary_search_by(|one| one.name.cmp(&name)).ok()?;
    let policy = &list[at];
    let is_equal = policy.origin == object.origin
        && policy.labels == object.metadata.labels
        && policy.annotations == object.metadata.annotations
        && policy.raw == object.body;
    is_equal.then(|| policy.clone())
}

fn authorization_policy(object: &Object<Value>) -> AuthorizationPolicy {
    let spec = &object.body["spec"];
    AuthorizationPolicy {
        name: object.object_name(),
        labels: object.metadata.labels.clone(),
        annotations: object.metadata.annotations.clone(),
        origin: object.origin.clone(),
        attachment: attachment(spec, "selector", "matchLabels"),
        meaning: authorization::translate(object).map(Arc::new),
        http_fields: authorization::http_fields(spec),
        raw: Arc::clone(&object.body),
    }
}

fn request_authentication(object: &Object<Value>) -> RequestAuthentication {
    let spec = &object.body["spec"];
    RequestAuthentication {
        name: object.object_name(),
        labels: object.metadata.labels.clone(),
        origin: object.origin.clone(),
        attachment: attachment(spec, "selector", "matchLabels"),
        rules: spec["jwtRules"]
            .as_array()
            .into_iter()
            .flatten()
            .map(JwtRule::read)
            .collect(),
        raw: Arc::clone(&object.body),
    }
}

fn peer_authentication(object: &Object<Value>, gaps: &mut Vec<Gap>) -> PeerAuthentication {
    let spec = &object.body["spec"];
    let mut misunderstood = |path: &str, value: &Value| {
        gaps.push(Gap {
            kind: Kind::PeerAuthentication,
            namespace: Some(object.metadata.namespace.to_string()),
            except: Vec::new(),
            reason: format!(
                "`{}` at {} has {value} at `{path}`, which castoff does not understand",
                object.metadata.name, object.origin
            ),
        });
    };
    for (name, value) in spec.as_object().into_iter().flatten() {
        if !["selector", "mtls", "portLevelMtls"].contains(&name.as_str()) {
            misunderstood(name, value);
        }
    }
    let mut read_mode = |path: &str, value: &Value| {
        mode(value).unwrap_or_else(|| {
            misunderstood(path, value);
            MtlsMode::Unset
        })
    };
    let workload_mode = read_mode("mtls.mode", &spec["mtls"]["mode"]);
    let mut port_modes: Vec<(u16, MtlsMode)> = Vec::new();
    for (port, value) in spec["portLevelMtls"].as_object().into_iter().flatten() {
        let path = format!("portLevelMtls.{port}.mode");
        let mode = read_mode(&path, &value["mode"]);
        // istiod's validation lets no other number in; no port has it, so nothing is lost.
        port_modes.extend(port.parse().ok().map(|port: u16| (port, mode)));
    }
    port_modes.sort_unstable();
    let selector = spec["selector"]["matchLabels"]
        .as_object()
        .map(labels)
        .filter(|labels| !labels.is_empty());
    PeerAuthentication {
        name: object.object_name(),
        origin: object.origin.clone(),
        created: object.metadata.creation_timestamp.clone(),
        selector,
        mode: workload_mode,
        port_modes,
        raw: Arc::clone(&object.body),
    }
}

/// `None` for what is no mode.
fn mode(value: &Value) -> Option<MtlsMode> {
    match value {
        Value::Null => Some(MtlsMode::Unset),
        Value::String(text) => match text.as_str() {
            "STRICT" => Some(MtlsMode::Strict),
            "PERMISSIVE" => Some(MtlsMode::Permissive),
            "DISABLE" => Some(MtlsMode::Disable),
            "UNSET" => Some(MtlsMode::Unset),
            _ => None,
        },
        _ => None,
    }
}

fn extension(kind: Kind, object: &Object<Value>) -> ExtensionPolicy {
    let spec = &object.body["spec"];
    let (selector, inner) = if kind == Kind::EnvoyFilter {
        ("workloadSelector", "labels")
    } else {
        ("selector", "matchLabels")
    };
    let mut contexts: Vec<SmolStr> = spec["configPatches"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|patch| {
            patch
                .pointer("/match/context")
                .and_then(Value::as_str)
                .unwrap_or("ANY")
                .into()
        })
        .collect();
    contexts.sort();
    contexts.dedup();
    ExtensionPolicy {
        kind,
        name: object.object_name(),
        labels: object.metadata.labels.clone(),
        origin: object.origin.clone(),
        attachment: attachment(spec, selector, inner),
        contexts,
        raw: Arc::clone(&object.body),
    }
}

fn attachment(spec: &Value, selector: &str, inner: &str) -> Attachment {
    let many = spec["targetRefs"].as_array().into_iter().flatten();
    let one = spec.get("targetRef").filter(|target| target.is_object());
    let targets: Vec<TargetReference> = many.chain(one).map(target).collect();
    if !targets.is_empty() {
        return Attachment::Targets(targets);
    }
    match spec.get(selector) {
        None | Some(Value::Null) => Attachment::Namespace,
        Some(selector) => match selector.get(inner) {
            Some(Value::Object(map)) if !map.is_empty() => Attachment::Selector(labels(map)),
            written => Attachment::EmptySelector {
                match_labels_written: matches!(written, Some(Value::Object(_))),
            },
        },
    }
}

fn target(target: &Value) -> TargetReference {
    let text = |key: &str| SmolStr::from(target[key].as_str().unwrap_or_default());
    TargetReference {
        group: text("group"),
        kind: text("kind"),
        name: text("name"),
    }
}

pub(super) fn labels(map: &serde_json::Map<String, Value>) -> Labels {
    map.iter()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect()
}
