//! # A policy that castoff wrote applies to nothing
//!
//! ## What it finds
//!
//! Objects with the label `castoff.dev/generated` whose target, a Service or a waypoint, is gone, or
//! whose selector selects no workload: copies, policies that let a waypoint in, and policies that
//! close pods. Offered when no workload of the mesh has a sidecar any more: it is no condition of moving.
//!
//! ## Why it matters
//!
//! They have no effect now. The next Service or workload with such a name or such labels would get
//! them unasked.
//!
//! ## How to fix it
//!
//! Run the command.
//!
//! ## Since and source
//!
//! All releases. istio pilot/pkg/model/policyattachment.go (`ShouldAttachPolicy`),
//! pilot/pkg/serviceregistry/ambient/workloads.go (`buildWorkloadPolicies`).

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::{Attachment, AuthorizationPolicy, Mesh, RequestAuthentication, Workload};
use crate::needs::is_generated;
use crate::phases::policy_simplification::migrated::workloads_with_sidecars;
use crate::phases::{Check, Context};
use crate::snapshot::{Kind, Labels, ObjectName, Origin};

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "",
    phase: Phase::PolicySimplification,
    needs: &[],
    reads: &[
        Kind::AuthorizationPolicy,
        Kind::RequestAuthentication,
        Kind::Service,
        Kind::Gateway,
        Kind::Pod,
    ],
    source: include_str!("leftovers.rs"),
    find,
};

const CODE: Code = Code("CAST0604");

fn find(context: &Context<'_>) -> Vec<Finding> {
    applied_to_nothing(context)
        .into_iter()
        .map(|(kind, name, origin)| {
            let command = format!(
                "kubectl delete {} -n {} {}",
                kind.resource(),
                name.namespace,
                name.name
            );
            Finding::new(
                CODE,
                Level::Recommendation,
                format!(
                    "{}, which castoff wrote, applies to nothing any more and can be deleted: {command}",
                    kind.row().name
                ),
            )
            .about(kind, name, Some(origin))
            .remedy(Remedy::command_without_undo(command))
        })
        .collect()
}

/// What castoff wrote and nothing has any more.
pub(crate) fn applied_to_nothing<'a>(
    context: &Context<'a>,
) -> Vec<(Kind, &'a ObjectName, &'a Origin)> {
    let mesh = context.mesh;
    if !workloads_with_sidecars(mesh).is_empty() {
        return Vec::new();
    }
    let gone = |name: &ObjectName, labels: &Labels, attachment: &Attachment| {
        is_generated(labels)
            && context.choice().includes(&name.namespace)
            && is_gone(mesh, name, attachment)
    };
    let authorization = mesh
        .authorization_policies
        .iter()
        .filter(|one: &&AuthorizationPolicy| gone(&one.name, &one.labels, &one.attachment))
        .map(|one| (Kind::AuthorizationPolicy, &one.name, &one.origin));
    let authentication = mesh
        .request_authentications
        .iter()
        .filter(|one: &&RequestAuthentication| gone(&one.name, &one.labels, &one.attachment))
        .map(|one| (Kind::RequestAuthentication, &one.name, &one.origin));
    authorization.chain(authentication).collect()
}

/// Whether everything that could have it was read, and nothing has.
fn is_gone(mesh: &Mesh, policy: &ObjectName, attachment: &Attachment) -> bool {
    let seen = |kind: Kind| mesh.seen_kinds.contains(&kind);
    match attachment {
        Attachment::Targets(targets) => targets.iter().all(|target| {
            let name = ObjectName::new(&policy.namespace, &target.name);
            match target.kind.as_str() {
                "Service" => seen(Kind::Service) && mesh.service_named(&name).is_none(),
                "Gateway" => {
                    seen(Kind::Gateway) && mesh.waypoints.iter().all(|one| one.name != name)
                }
                _ => false,
            }
        }),
        Attachment::Selector(selector) => {
            // The labels by which new pods say that they are ambient are on pods, not on owners.
            let own: Labels = selector
                .iter()
                .filter(|(key, _)| !key.contains("istio.io/"))
                .collect();
            let selected = |workload: &Workload| {
                let generations = workload.generations.iter().map(|one| &one.labels);
                generations
                    .chain([&workload.template_labels])
                    .any(|labels| labels.selected_by(&own))
            };
            seen(Kind::Pod)
                && !mesh
                    .workloads_in(&policy.namespace)
                    .any(|(_, workload)| selected(workload))
        }
        Attachment::Namespace | Attachment::EmptySelector { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::MigrateOptions;
    use crate::phases::testing;

    const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {clusterIP: 10.96.0.9, selector: {app: orders}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders}}
    spec: {containers: [{name: app, image: orders}]}
";

    #[test]
    fn what_castoff_wrote_goes_when_its_service_or_its_pods_are_gone() {
        let target =
            |kind: &str, name: &str| format!("targetRefs: [{{kind: {kind}, name: {name}}}]");
        let selector = |labels: &str| format!("selector: {{matchLabels: {{{labels}}}}}");
        let ours = "labels: {castoff.dev/generated: copy}";
        for (metadata, spec, expected) in [
            (ours, target("Service", "stock"), true),
            (ours, target("Service", "orders"), false),
            (ours, target("Gateway", "waypoint"), true),
            (ours, target("GatewayClass", "istio-waypoint"), false),
            (ours, selector("app: stock"), true),
            (
                ours,
                selector("app: orders, istio.io/dataplane-mode: ambient"),
                false,
            ),
            ("labels: {}", target("Service", "stock"), false),
        ] {
            let text = format!(
                "{MESH}---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
                 metadata: {{name: one, namespace: shop, {metadata}}}\nspec: {{{spec}}}\n"
            );
            let (mesh, snapshot) = testing::read(&text);
            let options = MigrateOptions::default();
            let context = Context::new(&mesh, &snapshot, &options);
            let found = applied_to_nothing(&context);
            assert_eq!(!found.is_empty(), expected, "{spec}");
            let (mut unread, _) = testing::read(&text);
            unread.seen_kinds.clear();
            let context = Context::new(&unread, &snapshot, &options);
            assert_eq!(applied_to_nothing(&context), [], "{spec}");
        }
    }
}
