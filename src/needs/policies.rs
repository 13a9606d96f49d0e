//! Reasons for a waypoint that policies give.
//!
//! In: policies by namespace, a Service or a workload. Out: reasons. What ztunnel can check is
//! istiod's own list (pilot/pkg/serviceregistry/ambient/authorization.go); CUSTOM and AUDIT are
//! never sent to it.

use serde_json::Value;

use super::Reason;
use super::attach::{ByNamespace, Coverage, coverage, covers_workload, is_generated};
use crate::mesh::{
    Attachment, AuthorizationPolicy, ExtensionPolicy, Mesh, ObjectReference, RequestAuthentication,
    Service, WorkloadId,
};
use crate::snapshot::{Kind, Labels, ObjectName, Origin};

/// Reasons for a Service: policies on the pods behind it, and policies that name it.
pub(super) fn reasons(mesh: &Mesh, policies: &ByNamespace<'_>, service: &Service) -> Vec<Reason> {
    let namespace = &service.name.namespace;
    let applies = |attachment: &Attachment, policy: &ObjectName, labels: &Labels| match attachment {
        Attachment::Targets(targets) => {
            policy.namespace == *namespace
                && targets.iter().any(|target| {
                    target.kind == "Service"
                        && target.group.is_empty()
                        && target.name == service.name.name
                })
        }
        _ if is_generated(labels) => false,
        attachment => coverage(mesh, attachment, &policy.namespace, service) != Coverage::None,
    };
    collect(policies, namespace, applies)
}

/// Reasons that policies on the pods of a workload give.
pub(super) fn reasons_on_pods(
    mesh: &Mesh,
    policies: &ByNamespace<'_>,
    workload: WorkloadId,
) -> Vec<Reason> {
    let applies = |attachment: &Attachment, policy: &ObjectName, labels: &Labels| {
        !is_generated(labels) && covers_workload(mesh, attachment, &policy.namespace, workload)
    };
    collect(policies, &mesh.workload(workload).name.namespace, applies)
}

fn collect(
    policies: &ByNamespace<'_>,
    namespace: &str,
    applies: impl Fn(&Attachment, &ObjectName, &Labels) -> bool,
) -> Vec<Reason> {
    let mut found = Vec::new();
    for policy in policies.authorization(namespace) {
        if let Some(reason) = authorization(policy)
            && applies(&policy.attachment, &policy.name, &policy.labels)
        {
            found.push(reason);
        }
    }
    for policy in policies.authentication(namespace) {
        if applies(&policy.attachment, &policy.name, &policy.labels) {
            found.push(authentication(policy));
        }
    }
    for policy in policies.extensions(namespace) {
        if let Some(reason) = extension(policy)
            && applies(&policy.attachment, &policy.name, &policy.labels)
        {
            found.push(reason);
        }
    }
    found
}

/// What about an AuthorizationPolicy only a proxy can enforce; `None` where ztunnel can.
pub(crate) fn authorization(policy: &AuthorizationPolicy) -> Option<Reason> {
    let object = reference(Kind::AuthorizationPolicy, &policy.name, &policy.origin);
    let reason = |field: Option<String>, why: String| {
        Some(Reason {
            object: Some(object.clone()),
            field,
            why,
        })
    };
    let action = policy.raw.pointer("/spec/action").and_then(Value::as_str);
    if let Some(action @ ("CUSTOM" | "AUDIT")) = action {
        return reason(Some("spec.action".to_owned()), format!("action {action}"));
    }
    if let Some(first) = policy.http_fields.first() {
        let mut names: Vec<&str> = policy
            .http_fields
            .iter()
            .map(|field| field.name.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        return reason(
            Some(format!("spec.{}", first.path)),
            format!("HTTP attributes ({})", names.join(", ")),
        );
    }
    if let Some(path) = starred_namespace(&policy.raw["spec"]) {
        return reason(
            Some(format!("spec.{path}")),
            "a star within the name of a namespace".to_owned(),
        );
    }
    // Whatever names a Service is enforced at its waypoint or nowhere.
    matches!(&policy.attachment, Attachment::Targets(_))
        .then(|| reason(Some("spec.targetRefs".to_owned()), "targetRefs".to_owned()))
        .flatten()
}

/// Where namespaces are named with a star that neither begins nor ends the name: a proxy takes it for
/// any characters (istio pilot/pkg/security/authz/model/generator.go, `srcNamespaceGenerator`),
/// ztunnel for itself (ztunnel src/rbac.rs).
fn starred_namespace(spec: &Value) -> Option<String> {
    let starred = |list: &Value| {
        let mut names = list.as_array().into_iter().flatten();
        names.any(|name| {
            let name = name.as_str().unwrap_or_default();
            let inner = name.strip_suffix('*').or_else(|| name.strip_prefix('*'));
            inner.unwrap_or(name).contains('*')
        })
    };
    for (rule, body) in items(&spec["rules"]) {
        for (at, entry) in items(&body["from"]) {
            for field in ["namespaces", "notNamespaces"] {
                if starred(&entry["source"][field]) {
                    return Some(format!("rules[{rule}].from[{at}].source.{field}"));
                }
            }
        }
        for (at, condition) in items(&body["when"]) {
            let values = [&condition["values"], &condition["notValues"]];
            if condition["key"] == "source.namespace" && values.into_iter().any(starred) {
                return Some(format!("rules[{rule}].when[{at}]"));
            }
        }
    }
    None
}

fn items(list: &Value) -> impl Iterator<Item = (usize, &Value)> {
    list.as_array().into_iter().flatten().enumerate()
}

fn authentication(policy: &RequestAuthentication) -> Reason {
    Reason {
        object: Some(reference(
            Kind::RequestAuthentication,
            &policy.name,
            &policy.origin,
        )),
        field: None,
        why: String::new(),
    }
}

/// A Telemetry for a whole namespace or mesh is no reason (what it asks for is advice); one for
/// certain pods or Services is.
pub(crate) fn extension(policy: &ExtensionPolicy) -> Option<Reason> {
    let counts = match policy.kind {
        Kind::Telemetry => matches!(
            policy.attachment,
            Attachment::Selector(_) | Attachment::Targets(_)
        ),
        Kind::EnvoyFilter => {
            policy.contexts.is_empty()
                || policy
                    .contexts
                    .iter()
                    .any(|context| matches!(context.as_str(), "ANY" | "SIDECAR_INBOUND"))
        }
        _ => !only_outbound(&policy.raw),
    };
    counts.then(|| Reason {
        object: Some(reference(policy.kind, &policy.name, &policy.origin)),
        field: None,
        why: String::new(),
    })
}

/// Whether every traffic selector of a WasmPlugin or TrafficExtension is for requests that the
/// pods send (`mode: CLIENT`), which no waypoint of theirs sees.
pub(crate) fn only_outbound(raw: &Value) -> bool {
    raw.pointer("/spec/match")
        .and_then(Value::as_array)
        .is_some_and(|selectors| {
            !selectors.is_empty() && selectors.iter().all(|one| one["mode"] == "CLIENT")
        })
}

pub(super) fn reference(kind: Kind, name: &ObjectName, origin: &Origin) -> ObjectReference {
    ObjectReference {
        kind,
        name: name.clone(),
        origin: origin.clone(),
    }
}
