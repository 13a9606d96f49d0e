//! # A mesh that lets workloads call known hosts only
//!
//! ## What it finds
//! `outboundTrafficPolicy.mode: REGISTRY_ONLY` in the mesh configuration.
//!
//! ## Why it matters
//! ztunnel passes a connection to an unknown destination on as it is. What kept workloads from calling
//! hosts outside the registry ends with their sidecars.
//!
//! ## How to fix it
//! Fence egress where pods cannot get round it: a NetworkPolicy on egress for every namespace that is
//! migrated, and a waypoint for the ServiceEntries of what may be called.
//!
//! ## Since and source
//! All releases. ztunnel src/proxy/outbound.rs (a destination that is no workload and no service is
//! passed through); istio issue 54281.

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::phases::{Check, Context};
use crate::snapshot::{Kind, ObjectName};

pub(super) const CHECK: Check = Check {
    code: Code("CAST0410"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[],
    reads: &[Kind::ConfigMap],
    source: include_str!("egress_fence.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    if !mesh.settings.registry_only || !context.has_sidecars() {
        return Vec::new();
    }
    let finding = Finding::new(
        CHECK.code,
        Level::Warning,
        "The mesh lets workloads call known hosts only (outboundTrafficPolicy REGISTRY_ONLY), which ztunnel does not \
         enforce: every host can be called once the sidecars are gone",
    )
    .about(
        Kind::ConfigMap,
        &ObjectName::new(&mesh.settings.root_namespace, "istio"),
        mesh.settings.origin.as_ref(),
    )
    .remedy(Remedy::Advice(
        "fence egress with NetworkPolicies, and lead what may be called through a waypoint for its ServiceEntries"
            .to_owned(),
    ));
    vec![finding]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::OwnerKind;
    use crate::phases::testing::{lines, mesh_with, run, workload};

    #[test]
    fn a_fence_matters_as_long_as_there_are_sidecars() {
        let mut mesh = mesh_with(vec![workload(OwnerKind::Deployment, "shop", "web")]);
        assert_eq!(lines(&run(&CHECK, &mesh)), []);
        mesh.settings.registry_only = true;
        assert_eq!(run(&CHECK, &mesh).findings.len(), 1);
        mesh.workloads.clear();
        assert_eq!(lines(&run(&CHECK, &mesh)), []);
    }
}
