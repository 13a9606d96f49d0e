//! All policies that are copied, in one shape.
//!
//! In: the mesh's lists. Out: [`Policy`] values in the order of kinds and names. Invariant: what
//! castoff generated itself, what already names its targets, and what applies at waypoints as it
//! stands (Telemetry of a namespace: istio pilot/pkg/model/telemetry.go `applicableTelemetries`)
//! is left out.

use serde_json::Value;

use super::{Scope, Trap, hazards};
use crate::mesh::{Attachment, AuthorizationPolicy, Mesh, ObjectReference, Service};
use crate::needs::policies::only_outbound;
use crate::needs::{Choice, is_generated};
use crate::snapshot::{Kind, Labels, ObjectName, Origin};

/// One policy to copy.
pub(super) struct Policy<'a> {
    pub(super) source: ObjectReference,
    pub(super) attachment: &'a Attachment,
    pub(super) raw: &'a Value,
    pub(super) scope: Scope,
    /// The same, when it is one.
    pub(super) authorization: Option<&'a AuthorizationPolicy>,
    /// Whether ztunnel goes on enforcing it for pods that no waypoint serves.
    pub(super) works_without_proxy: bool,
    /// For an EnvoyFilter: whether every patch is for what comes in.
    pub(super) only_inbound: bool,
}

pub(super) fn policies<'a>(mesh: &'a Mesh, choice: &Choice<'_>) -> Vec<Policy<'a>> {
    let mut list = Vec::new();
    let wanted = |attachment: &Attachment, labels: &Labels| {
        !is_generated(labels) && !matches!(attachment, Attachment::Targets(_))
    };
    for one in &mesh.authorization_policies {
        if wanted(&one.attachment, &one.labels) {
            let mut policy = policy(
                mesh,
                Kind::AuthorizationPolicy,
                &one.name,
                &one.origin,
                &one.attachment,
                &one.raw,
            );
            policy.works_without_proxy = crate::needs::policies::authorization(one).is_none();
            policy.authorization = Some(one);
            list.push(policy);
        }
    }
    for one in &mesh.request_authentications {
        if wanted(&one.attachment, &one.labels) {
            list.push(policy(
                mesh,
                Kind::RequestAuthentication,
                &one.name,
                &one.origin,
                &one.attachment,
                &one.raw,
            ));
        }
    }
    for one in &mesh.extension_policies {
        let copied = match one.kind {
            Kind::EnvoyFilter => {
                choice.enterprise && crate::needs::policies::extension(one).is_some()
            }
            Kind::Telemetry => matches!(one.attachment, Attachment::Selector(_)),
            _ => !only_outbound(&one.raw),
        };
        if copied && wanted(&one.attachment, &one.labels) {
            let mut policy = policy(
                mesh,
                one.kind,
                &one.name,
                &one.origin,
                &one.attachment,
                &one.raw,
            );
            policy.only_inbound = one
                .contexts
                .iter()
                .all(|context| context == "SIDECAR_INBOUND");
            list.push(policy);
        }
    }
    list
}

fn policy<'a>(
    mesh: &Mesh,
    kind: Kind,
    name: &ObjectName,
    origin: &Origin,
    attachment: &'a Attachment,
    raw: &'a Value,
) -> Policy<'a> {
    let scope = match attachment {
        Attachment::Selector(_) | Attachment::Targets(_) => Scope::Workload,
        _ if name.namespace == mesh.settings.root_namespace => Scope::Mesh,
        _ => Scope::Namespace,
    };
    Policy {
        source: ObjectReference {
            kind,
            name: name.clone(),
            origin: origin.clone(),
        },
        attachment,
        raw,
        scope,
        authorization: None,
        works_without_proxy: false,
        only_inbound: true,
    }
}

/// What of an EnvoyFilter no waypoint takes.
pub(super) fn envoy_filter_hazard(policy: &Policy<'_>) -> Option<hazards::Hazard> {
    let reason = if policy.scope == Scope::Workload {
        "it selects pods; an EnvoyFilter reaches a waypoint as a whole only"
    } else if !policy.only_inbound {
        "not all of its patches are for SIDECAR_INBOUND, the only context of a waypoint"
    } else {
        return None;
    };
    Some((Trap::EnvoyFilter, None, reason.to_owned()))
}

/// Whether a WasmPlugin or TrafficExtension names ports.
pub(super) fn has_ports(spec: &Value) -> bool {
    spec["match"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|one| one["ports"].as_array().is_some_and(|list| !list.is_empty()))
}

/// Whether the pods' ports are the Service's.
pub(super) fn has_equal_ports(service: &Service) -> bool {
    service.backends.iter().all(|backend| {
        service
            .ports
            .iter()
            .zip(&backend.target_ports)
            .all(|(port, target)| *target == Some(port.port))
    })
}
