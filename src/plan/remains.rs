//! What is as it was when a plan is at its end, besides workloads that keep their sidecars for a reason.
//!
//! In: the mesh at the end, the namespaces that were to be planned, the waves. Out: clauses without a full stop. Invariant:
//! a workload that is not in ambient mode then, and is not said to be held, is among them.

use std::collections::{BTreeMap, BTreeSet};

use super::saved;
use super::wave::Wave;
use crate::mesh::{DataPlaneMode, Mesh, Role, WaypointId, Workload};
use crate::phases::wording;
use crate::snapshot::{Kind, ObjectName};

/// Names that are written out.
const MOST_NAMES: usize = 5;

/// What remains; empty where every workload is in ambient mode or held.
pub(super) fn sentences(mesh: &Mesh, chosen: &BTreeSet<String>, waves: &[Wave]) -> Vec<String> {
    let included = |namespace: &str| chosen.is_empty() || chosen.contains(namespace);
    let own = |namespace: &str| {
        let namespace = mesh.namespaces.get(namespace);
        namespace.is_none_or(|one| !one.system)
    };
    let applications: Vec<&Workload> = (mesh.workloads.iter())
        .filter(|one| one.role == Role::Application && own(&one.name.namespace))
        .collect();
    let mut found = Vec::new();
    let (mut sidecars, mut outside) = (Vec::new(), Vec::new());
    let mut returning: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for workload in applications {
        let name = workload.name.to_string();
        let is_planned = included(&workload.name.namespace);
        if workload.has_mode(DataPlaneMode::Sidecar) {
            if !is_planned {
                sidecars.push(name);
            }
        } else if is_planned && workload.next_mode == DataPlaneMode::Sidecar {
            let why = workload.next_mode_reason.as_str();
            returning.entry(why).or_default().push(name);
        } else if is_planned && workload.has_mode(DataPlaneMode::None) {
            outside.push(name);
        }
    }
    if !chosen.is_empty() {
        let names: Vec<String> = chosen.iter().cloned().collect();
        let (noun, was) = match names.len() {
            1 => ("namespace", "was"),
            _ => ("namespaces", "were"),
        };
        let others = match sidecars.as_slice() {
            [] => "no workload of another has a sidecar".to_owned(),
            _ => format!(
                "{} of others with sidecars {} not ({})",
                wording::count(sidecars.len(), "workload"),
                if sidecars.len() == 1 { "was" } else { "were" },
                wording::first_few(&sidecars, MOST_NAMES)
            ),
        };
        let names = wording::first_few(&names, MOST_NAMES);
        found.push(format!("only {noun} {names} {was} planned, and {others}"));
        let written: BTreeSet<String> = (waves.iter())
            .flat_map(|wave| wave.manifests.values())
            .flat_map(|content| saved::objects(content))
            .map(|(_, name)| name.namespace.to_string())
            .filter(|namespace| !namespace.is_empty() && !included(namespace))
            .collect();
        if !written.is_empty() {
            let names: Vec<String> = written.into_iter().collect();
            found.push(format!(
                "objects are written outside of it all the same, where access would change without them: namespace {}",
                wording::first_few(&names, MOST_NAMES)
            ));
        }
    }
    if !outside.is_empty() {
        let stay = if outside.len() == 1 { "stays" } else { "stay" };
        found.push(format!(
            "{} {stay} outside the mesh: {}",
            wording::count(outside.len(), "workload"),
            wording::first_few(&outside, MOST_NAMES)
        ));
    }
    for (why, names) in returning {
        let (get, their) = match names.len() {
            1 => ("gets", "its"),
            _ => ("get", "their"),
        };
        found.push(format!(
            "{} {get} a sidecar when {their} pods are next replaced, since {why}",
            wording::first_few(&names, MOST_NAMES)
        ));
    }
    let unused = unused_waypoints(mesh, waves);
    if !unused.is_empty() {
        found.push(format!(
            "nothing uses {} {} then: delete the Gateway, or label what is to use it",
            if unused.len() == 1 {
                "waypoint"
            } else {
                "waypoints"
            },
            wording::first_few(&unused, MOST_NAMES)
        ));
    }
    found
}

/// Waypoints that waves deploy and nothing uses at the end.
fn unused_waypoints(mesh: &Mesh, waves: &[Wave]) -> Vec<String> {
    let deployed: BTreeSet<ObjectName> = (waves.iter())
        .flat_map(|wave| wave.manifests.values())
        .flat_map(|content| saved::objects(content))
        .filter(|(kind, _)| *kind == Kind::Gateway)
        .map(|(_, name)| name)
        .collect();
    let services = mesh.services.iter().map(|one| one.binding.waypoint());
    let pods = mesh.workload_ids().flat_map(|id| {
        let generations = 0..mesh.workload(id).generations.len();
        generations.map(move |generation| mesh.workload_binding(id, generation).waypoint())
    });
    let used: BTreeSet<WaypointId> = services.chain(pods).flatten().collect();
    let waypoints = mesh.waypoints.iter().enumerate();
    waypoints
        .filter(|(index, one)| deployed.contains(&one.name) && !used.contains(&WaypointId(*index)))
        .map(|(_, one)| one.name.to_string())
        .collect()
}
