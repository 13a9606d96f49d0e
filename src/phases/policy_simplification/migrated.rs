//! # A policy was migrated and can be deleted
//!
//! ## What it finds
//!
//! Originals whose every copy is applied at the waypoints, all of whose Services use their waypoint,
//! and that nothing else needs any more. On upstream Istio an original is not offered while a pod of
//! the mesh still has a sidecar: sidecars never send to a waypoint, so that the original at the
//! server is all that checks their requests.
//!
//! ## Why it matters
//!
//! An original with request rules that outlives the sidecars is harmful: ztunnel drops ALLOW rules
//! with request fields (which refuses what they allowed) and ignores DENY rules that have nothing
//! else (which refuses nothing).
//!
//! ## How to fix it
//!
//! Run the command once you have seen the waypoint enforce the copy. The undo is to apply the
//! original again: keep a backup.
//!
//! ## Since and source
//!
//! istio pilot/pkg/serviceregistry/ambient/authorization.go (`convertAuthorizationPolicy`), ztunnel
//! src/rbac.rs; istio issues 51445 and 61126.

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::{DataPlaneMode, Distribution, Mesh};
use crate::needs::{Placement, placement};
use crate::phases::{Check, Context, wording};
use crate::snapshot::{Kind, ObjectName};

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "",
    phase: Phase::PolicySimplification,
    needs: &[Kind::Service],
    reads: &[
        Kind::AuthorizationPolicy,
        Kind::RequestAuthentication,
        Kind::Pod,
    ],
    source: include_str!("migrated.rs"),
    find,
};

const CODE: Code = Code("CAST0601");

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let conversion = context.conversion();
    let bound = |kind: Kind, name: &ObjectName| {
        conversion
            .generated
            .iter()
            .filter(|one| one.is_copy_of(kind, name))
            .flat_map(|one| &one.services)
            .all(|id| matches!(placement(mesh, mesh.service(*id)), Placement::Bound(_)))
    };
    let deletable: Vec<(Kind, ObjectName)> = conversion
        .deletable()
        .into_iter()
        .filter(|(kind, name)| bound(*kind, name))
        .collect();
    let mut found = Vec::new();
    let sidecars = workloads_with_sidecars(mesh);
    if mesh.distribution == Distribution::Upstream && !sidecars.is_empty() && !deletable.is_empty()
    {
        let names: Vec<String> = deletable
            .iter()
            .map(|(kind, name)| format!("{}/{name}", kind.row().name))
            .collect();
        let mut note = Finding::new(
            CODE,
            Level::Note,
            format!(
                "{} migrated and will be deletable when no workload has a sidecar: upstream sidecars never use a \
                 waypoint, so these policies are all that checks their requests. `castoff plan` deletes sooner what it proves \
                 that nobody needs, `castoff verify` shows what would open",
                wording::count(deletable.len(), "original policy").replace("policys", "policies")
            ),
        );
        note.names = names;
        note.details = vec![format!(
            "workloads with sidecars: {}",
            wording::first_few(&sidecars, 5)
        )];
        found.push(note);
        return found;
    }
    for (kind, name) in deletable {
        let row = kind.row();
        let command = format!(
            "kubectl delete {} -n {} {}",
            kind.resource(),
            name.namespace,
            name.name
        );
        found.push(
            Finding::new(
                CODE,
                Level::Recommendation,
                format!("{} was migrated and can be deleted: {command}", row.name),
            )
            .about(kind, &name, None)
            .remedy(Remedy::command_without_undo(command)),
        );
    }
    for (kind, name, why) in conversion.staying() {
        found.push(
            Finding::new(
                CODE,
                Level::Note,
                format!("{} {name} was migrated and stays: {why}", kind.row().name),
            )
            .about(kind, name, None),
        );
    }
    found
}

/// Workloads of the mesh that still have sidecars, by name.
pub(crate) fn workloads_with_sidecars(mesh: &Mesh) -> Vec<String> {
    mesh.workloads
        .iter()
        .filter(|workload| {
            workload.is_mesh_application() && workload.has_mode(DataPlaneMode::Sidecar)
        })
        .map(|workload| workload.name.to_string())
        .collect()
}
