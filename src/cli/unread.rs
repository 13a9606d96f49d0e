//! What a verdict rests on and was not read.
//!
//! In: a snapshot and its mesh. Out: sentences. Invariant: every error and every gap of the input is
//! named, and what is taken for absent without having been asked for is said to be.

use crate::mesh::Mesh;
use crate::snapshot::{Gap, Kind, ProblemLevel, Snapshot};

/// Kinds without which the phases of `migrate` check nothing that bears on access: injection is
/// told by Namespaces, addresses in use by Services.
const NEEDED: [Kind; 2] = [Kind::Namespace, Kind::Service];

/// Kinds that refuse requests. Most meshes lack some of them, and folders of manifests show that by
/// holding none.
const REFUSING: [Kind; 4] = [
    Kind::AuthorizationPolicy,
    Kind::PeerAuthentication,
    Kind::RequestAuthentication,
    Kind::NetworkPolicy,
];

/// What was lost while reading: access may differ there and nobody would see it.
pub(super) fn lost(snapshot: &Snapshot, mesh: &Mesh) -> Vec<String> {
    let problems = snapshot
        .problems
        .iter()
        .filter(|problem| problem.level == ProblemLevel::Error)
        .map(|problem| match &problem.origin {
            Some(origin) => format!("not read: {origin}: {}", problem.message),
            None => format!("not read: {}", problem.message),
        });
    let gaps = mesh.gaps.iter().map(gap);
    let missing = NEEDED
        .into_iter()
        .filter(|kind| is_unasked(*kind, mesh))
        .map(|kind| format!("not read: {}: not among the input", kind.resource()));
    problems.chain(gaps).chain(missing).collect()
}

/// Which kinds are taken for absent because none of them is among the input; `None`: none.
pub(super) fn taken_for_absent(mesh: &Mesh) -> Option<String> {
    let kinds: Vec<&str> = REFUSING
        .into_iter()
        .filter(|kind| is_unasked(*kind, mesh))
        .map(|kind| kind.row().name)
        .collect();
    let (last, others) = kinds.split_last()?;
    let names = if others.is_empty() {
        (*last).to_owned()
    } else {
        format!("{} or {last}", others.join(", "))
    };
    Some(format!(
        "no {names} is among the input: it is taken that the mesh has none"
    ))
}

/// Whether neither an object of the kind nor an answer about it was read.
fn is_unasked(kind: Kind, mesh: &Mesh) -> bool {
    !mesh.seen_kinds.contains(&kind) && mesh.gaps.iter().all(|gap| gap.kind != kind)
}

fn gap(gap: &Gap) -> String {
    let within = match &gap.namespace {
        Some(namespace) => format!(" in namespace {namespace}"),
        None => String::new(),
    };
    format!("not read: {}{within}: {}", gap.kind.resource(), gap.reason)
}
