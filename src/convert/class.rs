//! When one copy for the class of all waypoints would take something away.
//!
//! In: a policy of the root namespace and the Services that it is copied for. Out: whether each gets a copy of its own
//! instead. Invariant: what a copy for the class would close can be left out for that Service alone.

use serde_json::Value;

use super::COPIED_FROM_ANNOTATION;
use super::extensions::Policy;
use crate::mesh::{DataPlaneMode, Mesh, ServiceId};
use crate::needs::is_generated;
use crate::snapshot::Labels;

/// Whether pods of one of the Services are without sidecars behind a waypoint in use, where nothing enforces the policy
/// now: ztunnel cannot. Once a copy for the class is there it stays.
pub(super) fn would_close(mesh: &Mesh, policy: &Policy<'_>, services: &[ServiceId]) -> bool {
    if policy.works_without_proxy {
        return false;
    }
    let mut services = services.iter().map(|id| mesh.service(*id));
    services.any(|service| {
        let mut backends = service.backends.iter();
        service.binding.waypoint().is_some()
            && backends.any(|one| {
                let generations = &mesh.workload(one.workload).generations;
                generations[one.generation].mode == DataPlaneMode::Ambient
            })
    }) && !has_copy(mesh, policy)
}

/// Whether a copy for the class is there.
fn has_copy(mesh: &Mesh, policy: &Policy<'_>) -> bool {
    let source = &policy.source;
    let from = format!("{}/{}", source.kind.row().name, source.name);
    let is_copy = |labels: &Labels, raw: &Value| {
        let mut targets = raw["spec"]["targetRefs"].as_array().into_iter().flatten();
        is_generated(labels)
            && raw["metadata"]["annotations"][COPIED_FROM_ANNOTATION] == from.as_str()
            && targets.any(|target| target["kind"] == "GatewayClass")
    };
    let authorization = mesh.authorization_policies.iter();
    let authentication = mesh.request_authentications.iter();
    let extensions = mesh.extension_policies.iter();
    (authorization.map(|one| (&one.labels, &one.raw)))
        .chain(authentication.map(|one| (&one.labels, &one.raw)))
        .chain(extensions.map(|one| (&one.labels, &one.raw)))
        .any(|(labels, raw)| is_copy(labels, raw))
}
