//! Policies that say the same of different pods.
//!
//! In: a policy with a selector. Out: the attachments of all of its kind and namespace that differ from
//! it in the selector alone, its own included. Invariant: what decides is the same in each, so that
//! where they reach every pod of a Service together, each copy says at its waypoint what they all say.

use serde_json::Value;

use super::exception;
use super::extensions::Policy;
use crate::mesh::{Attachment, Mesh};
use crate::needs::is_generated;
use crate::snapshot::{Kind, Labels, ObjectName};

/// See the module.
pub(super) fn attachments<'a>(mesh: &'a Mesh, policy: &Policy<'a>) -> Vec<&'a Attachment> {
    let own = decides(policy.raw);
    let like = |name: &ObjectName, labels: &Labels, raw: &Value| {
        name.namespace == policy.source.name.namespace
            && !is_generated(labels)
            && decides(raw) == own
    };
    match policy.source.kind {
        Kind::AuthorizationPolicy => mesh
            .authorization_policies
            .iter()
            .filter(|one| like(&one.name, &one.labels, &one.raw))
            .map(|one| &one.attachment)
            .collect(),
        Kind::RequestAuthentication => mesh
            .request_authentications
            .iter()
            .filter(|one| like(&one.name, &one.labels, &one.raw))
            .map(|one| &one.attachment)
            .collect(),
        _ => vec![policy.attachment],
    }
}

/// What decides of a policy as the user wrote it, but for the pods that it selects.
fn decides(raw: &Value) -> [Value; 6] {
    let restored = exception::restored(raw);
    let raw = restored.as_ref().unwrap_or(raw);
    let (spec, metadata) = (&raw["spec"], &raw["metadata"]);
    [
        &spec["action"],
        &spec["rules"],
        &spec["provider"],
        &spec["jwtRules"],
        &metadata["annotations"]["istio.io/dry-run"],
        &metadata["labels"]["istio.io/rev"],
    ]
    .map(Value::clone)
}
