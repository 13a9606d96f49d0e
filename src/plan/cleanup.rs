//! Which originals go once everything has moved, proved together and for every part already gone.
//!
//! In: the field after the last move. Out: a wave of deletions and what stays, with the reason.
//! Invariant: policies that meet at some server get different colours; every subset of colours is a
//! state that was proved, so that deletions may arrive in any order. Too many colours for that are
//! deleted one colour after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::field::Field;
use super::saved;
use super::wave::{Files, State, Step, Wave, WayBack};
use crate::finding::{Level, Phase, Remedy};
use crate::manifest;
use crate::mesh::{Attachment, DataPlaneMode, Distribution, Mesh, Workload, WorkloadId};
use crate::needs::{Placement, placement};
use crate::phases::{self, Context};
use crate::snapshot::{Kind, Labels, ObjectName};

/// A policy by kind and name.
type Policy = (Kind, ObjectName);

/// Subsets of at most this many colours are all proved: 2⁴ − 1 states.
const COLOURS: usize = 4;

/// The wave that deletes what nothing needs any more, and the originals that stay with the reason.
pub(super) fn wave(field: &Field<'_>) -> (Option<Wave>, Vec<(Policy, String)>) {
    let mesh = field.mesh();
    let mut candidates = candidates(field, &mesh);
    if mesh.distribution == Distribution::Upstream {
        // Sidecars never use a waypoint: at servers that keep them, originals decide.
        candidates.retain(|policy| {
            reached(&mesh, policy)
                .iter()
                .all(|id| !mesh.workload(*id).has_mode(DataPlaneMode::Sidecar))
        });
    }
    let (colours, states, stays) = proved(field, &mesh, candidates);
    let sidecar_objects = sidecar_objects(field, &mesh);
    let mut steps = Vec::new();
    let mut saved_files = Files::new();
    let together = colours.len() <= COLOURS;
    let groups: Vec<Vec<Policy>> = if together {
        vec![colours.into_iter().flatten().collect()]
    } else {
        colours
    };
    for (index, group) in groups.iter().filter(|group| !group.is_empty()).enumerate() {
        steps.push(step(field, group, index, together, &mut saved_files));
    }
    if !sidecar_objects.is_empty() {
        let mut step = step(field, &sidecar_objects, steps.len(), true, &mut saved_files);
        step.what = "delete Sidecar objects, which nothing reads any more".to_owned();
        step.look.clear();
        steps.push(step);
    }
    if steps.is_empty() {
        return (None, stays);
    }
    let wave = Wave {
        slug: "clean-up".to_owned(),
        title: "Delete what was migrated".to_owned(),
        affected: Vec::new(),
        why: vec![
            "The waypoints enforce the copies; originals at ambient pods are read by ztunnel, which knows no request \
             fields."
                .to_owned(),
        ],
        steps,
        manifests: Files::new(),
        saved: saved_files,
        edits: Vec::new(),
        states,
        way_back: WayBack::NotPlayed("not played yet".to_owned()),
    };
    (Some(wave), stays)
}

fn step(
    field: &Field<'_>,
    group: &[Policy],
    index: usize,
    together: bool,
    saved_files: &mut Files,
) -> Step {
    let originals: Vec<_> = group
        .iter()
        .filter_map(|(kind, name)| saved::object(field.snapshot(), *kind, name))
        .collect();
    let file = format!("before-{}.yaml", index + 1);
    saved_files.insert(file.clone(), manifest::documents(&originals));
    let order = if together {
        "in any order"
    } else {
        "before the next step"
    };
    Step {
        what: format!("delete originals that were migrated, {order}"),
        look: vec![
            "`istioctl ztunnel-config policies` and the waypoints' access logs show the copies at work".to_owned(),
        ],
        run: group
            .iter()
            .map(|(kind, name)| saved::delete_command(*kind, name))
            .collect(),
        undo: vec![format!("kubectl apply -f {file}")],
        ..Step::default()
    }
}

/// Originals whose copies are applied and whose Services all use their waypoint.
fn candidates(field: &Field<'_>, mesh: &Mesh) -> BTreeSet<Policy> {
    let context = Context::new(mesh, field.snapshot(), field.options);
    let conversion = context.conversion();
    let mut bound: BTreeMap<Policy, bool> = BTreeMap::new();
    for generated in &conversion.generated {
        if let crate::convert::Purpose::Copy { source, .. } = &generated.purpose {
            let all = generated
                .services
                .iter()
                .all(|id| matches!(placement(mesh, mesh.service(*id)), Placement::Bound(_)));
            *bound
                .entry((source.kind, source.name.clone()))
                .or_insert(true) &= all;
        }
    }
    conversion
        .deletable()
        .into_iter()
        .filter(|policy| bound.get(policy) == Some(&true))
        .collect()
}

/// The `Sidecar` objects that phase policy-simplification would delete.
fn sidecar_objects(field: &Field<'_>, mesh: &Mesh) -> Vec<Policy> {
    let context = Context::new(mesh, field.snapshot(), field.options);
    phases::run_phase(Phase::PolicySimplification, &context)
        .checks
        .iter()
        .flat_map(|check| &check.findings)
        .filter(|finding| finding.level == Level::Recommendation)
        .filter(|finding| {
            finding
                .remedies
                .iter()
                .any(|remedy| matches!(remedy, Remedy::Command { run, .. } if run.starts_with("kubectl delete ")))
        })
        .filter_map(|finding| finding.subject.as_ref())
        .filter(|subject| subject.kind == Kind::Sidecar)
        .map(|subject| (subject.kind, subject.name.clone()))
        .collect()
}

/// Colours the candidates, proves every subset of colours (or every prefix), and leaves out those
/// that meet a server that differs, until the rest is proved.
fn proved(
    field: &Field<'_>,
    mesh: &Mesh,
    mut candidates: BTreeSet<Policy>,
) -> (Vec<Vec<Policy>>, Vec<State>, Vec<(Policy, String)>) {
    let before: BTreeSet<ObjectName> = field
        .at_rest("")
        .differing
        .into_iter()
        .map(|row| row.server)
        .collect();
    let mut stays = Vec::new();
    while !candidates.is_empty() {
        let reach: BTreeMap<&Policy, BTreeSet<WorkloadId>> = candidates
            .iter()
            .map(|policy| (policy, reached(mesh, policy)))
            .collect();
        let colours = coloured(&reach);
        let states = states(field, &colours);
        let differing: BTreeSet<ObjectName> = states
            .iter()
            .flat_map(|state| &state.differing)
            .map(|row| row.server.clone())
            .filter(|server| !before.contains(server))
            .collect();
        if differing.is_empty() {
            return (colours, states, stays);
        }
        let meets = |policy: &Policy| {
            reach[policy]
                .iter()
                .any(|id| differing.contains(&mesh.workload(*id).name))
        };
        let (out, rest): (Vec<Policy>, Vec<Policy>) =
            candidates.iter().cloned().partition(|one| meets(one));
        if out.is_empty() {
            // A server differs that none of them is attached to: nothing is proved then.
            stays.extend(
                candidates
                    .into_iter()
                    .map(|one| (one, "its deletion could not be proved".to_owned())),
            );
            return (Vec::new(), Vec::new(), stays);
        }
        let servers: Vec<String> = differing.iter().map(ToString::to_string).collect();
        let why = format!(
            "without it access to {} would differ from the baseline",
            crate::phases::wording::first_few(&servers, 3)
        );
        stays.extend(out.into_iter().map(|one| (one, why.clone())));
        candidates = rest.into_iter().collect();
    }
    (Vec::new(), Vec::new(), stays)
}

/// Greedy colours: policies that reach a common workload differ.
fn coloured(reach: &BTreeMap<&Policy, BTreeSet<WorkloadId>>) -> Vec<Vec<Policy>> {
    let mut colours: Vec<(BTreeSet<WorkloadId>, Vec<Policy>)> = Vec::new();
    for (policy, workloads) in reach {
        let free = colours
            .iter()
            .position(|(taken, _)| taken.is_disjoint(workloads));
        let index = free.unwrap_or_else(|| {
            colours.push((BTreeSet::new(), Vec::new()));
            colours.len() - 1
        });
        colours[index].0.extend(workloads);
        colours[index].1.push((*policy).clone());
    }
    colours.into_iter().map(|(_, policies)| policies).collect()
}

/// The states of these policies' deletion, in any order of arrival.
pub(super) fn states_of(field: &Field<'_>, policies: &BTreeSet<Policy>) -> Vec<State> {
    let mesh = field.mesh();
    let reach = policies
        .iter()
        .map(|policy| (policy, reached(&mesh, policy)))
        .collect();
    states(field, &coloured(&reach))
}

fn states(field: &Field<'_>, colours: &[Vec<Policy>]) -> Vec<State> {
    let subsets: Vec<Vec<usize>> = if colours.len() <= COLOURS {
        (1..1_usize << colours.len())
            .map(|bits| {
                (0..colours.len())
                    .filter(|at| bits >> at & 1 == 1)
                    .collect()
            })
            .collect()
    } else {
        (1..=colours.len())
            .map(|most| (0..most).collect())
            .collect()
    };
    let total: usize = colours.iter().map(Vec::len).sum();
    subsets
        .into_iter()
        .map(|subset| {
            let mut snapshot = field.snapshot().clone();
            let gone: BTreeSet<&Policy> =
                subset.iter().flat_map(|colour| &colours[*colour]).collect();
            snapshot.remove_all(&gone);
            let only_policies = gone
                .iter()
                .all(|(kind, _)| *kind == Kind::AuthorizationPolicy);
            let gone = gone.len();
            let mesh = if only_policies {
                let before = field.mesh();
                before.after(&snapshot, field.overrides, &BTreeSet::new())
            } else {
                Mesh::build(&snapshot, field.overrides)
            };
            let when = format!("while {gone} of {total} originals are deleted");
            super::proof::state(field.prover, Arc::new(mesh), when)
        })
        .collect()
}

/// Workloads whose pods a policy selects.
fn reached(mesh: &Mesh, (kind, name): &Policy) -> BTreeSet<WorkloadId> {
    let attachment = match kind {
        Kind::AuthorizationPolicy => {
            let list = &mesh.authorization_policies;
            let at = list.binary_search_by(|one| one.name.cmp(name)).ok();
            at.map(|at| &list[at].attachment)
        }
        Kind::RequestAuthentication => {
            let list = &mesh.request_authentications;
            let at = list.binary_search_by(|one| one.name.cmp(name)).ok();
            at.map(|at| &list[at].attachment)
        }
        _ => return BTreeSet::new(),
    };
    let everywhere = name.namespace == mesh.settings.root_namespace;
    let selects = |labels: &Labels| match attachment {
        Some(Attachment::Selector(selector)) => {
            selector.iter().all(|(key, value)| labels.has(key, value))
        }
        Some(Attachment::Targets(_)) | None => false,
        Some(Attachment::Namespace | Attachment::EmptySelector { .. }) => true,
    };
    let selected = |workload: &Workload| {
        let mut generations = workload.generations.iter();
        generations.any(|generation| selects(&generation.labels))
    };
    if everywhere {
        let all = mesh.workload_ids();
        return all.filter(|id| selected(mesh.workload(*id))).collect();
    }
    mesh.workloads_in(&name.namespace)
        .filter(|(_, workload)| selected(workload))
        .map(|(id, _)| id)
        .collect()
}
