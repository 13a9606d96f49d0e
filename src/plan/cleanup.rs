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
use crate::phases::policy_simplification::{duplicates, leftovers};
use crate::phases::{self, Context, wording};
use crate::snapshot::{Kind, Labels, ObjectName};

/// A policy by kind and name.
type Policy = (Kind, ObjectName);

/// A policy left out because of another is tried again alone, when there are at most so many.
const TRIED_AGAIN: usize = 16;

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
    let migrated = candidates.clone();
    let context = Context::new(&mesh, field.snapshot(), field.options);
    candidates.extend(
        duplicates::repeated(&context)
            .into_iter()
            .map(|(one, _)| (Kind::AuthorizationPolicy, one.name.clone())),
    );
    candidates.extend(
        leftovers::applied_to_nothing(&context)
            .into_iter()
            .map(|(kind, name, _)| (kind, name.clone())),
    );
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
        let which = if group.iter().all(|policy| migrated.contains(policy)) {
            "originals that were migrated"
        } else {
            "policies that nothing needs: originals that were migrated, what another policy says, what applies to nothing"
        };
        let order = if together {
            "in any order"
        } else {
            "before the next step"
        };
        let what = format!("delete {which}, {order}");
        let mut step = step(field, group, index, what, &mut saved_files);
        step.look = vec![
            "`istioctl ztunnel-config policies` and the waypoints' access logs show the copies at work".to_owned(),
        ];
        steps.push(step);
    }
    if !sidecar_objects.is_empty() {
        let what = "delete Sidecar objects, which nothing reads any more".to_owned();
        steps.push(step(
            field,
            &sidecar_objects,
            steps.len(),
            what,
            &mut saved_files,
        ));
    }
    if steps.is_empty() {
        return (None, stays);
    }
    let some_migrated = groups
        .iter()
        .flatten()
        .any(|policy| migrated.contains(policy));
    let (title, why) = if some_migrated || !sidecar_objects.is_empty() {
        (
            "Delete what was migrated",
            match mesh.distribution {
                Distribution::Upstream => {
                    "The waypoints enforce the copies; originals at ambient pods are read by ztunnel, which knows no \
                     request fields."
                }
                Distribution::Solo => {
                    "The waypoints enforce the copies for every caller, with a sidecar or without; at pods that leave \
                     their sidecars ztunnel would read the originals, and it knows no request fields."
                }
            },
        )
    } else {
        (
            "Delete what nothing needs",
            "Another policy says the same, or nothing has it.",
        )
    };
    let wave = Wave {
        slug: "clean-up".to_owned(),
        title: title.to_owned(),
        affected: Vec::new(),
        why: vec![why.to_owned()],
        steps,
        manifests: Files::new(),
        temporary: BTreeSet::new(),
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
    what: String,
    saved_files: &mut Files,
) -> Step {
    let originals: Vec<_> = group
        .iter()
        .filter_map(|(kind, name)| saved::object(field.snapshot(), *kind, name))
        .collect();
    let file = format!("before-{}.yaml", index + 1);
    saved_files.insert(file.clone(), manifest::documents(&originals));
    Step {
        what,
        run: group
            .iter()
            .map(|(kind, name)| saved::delete_command(*kind, name))
            .collect(),
        undo: vec![format!("kubectl apply -f {file}")],
        undo_look: vec![format!(
            "`{file}` holds these policies as you want them back"
        )],
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

/// Those of these policies whose deletion, with that of the others and for every part of it, leaves access
/// as it is; and why each of the rest stays.
pub(super) fn deletable(
    field: &Field<'_>,
    candidates: BTreeSet<Policy>,
) -> (BTreeSet<Policy>, Vec<(Policy, String)>) {
    let (colours, _, stays) = proved(field, &field.mesh(), candidates);
    (colours.into_iter().flatten().collect(), stays)
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
    let mut stays: Vec<(Policy, String)> = Vec::new();
    let mut kept = (Vec::new(), Vec::new());
    while !candidates.is_empty() {
        let tried = attempt(field, mesh, &candidates, &before);
        if tried.differing.is_empty() {
            kept = (tried.colours, tried.states);
            break;
        }
        let meets = |policy: &Policy| {
            let mut reached = reached(mesh, policy).into_iter();
            reached.any(|id| tried.differing.contains(&mesh.workload(id).name))
        };
        let (out, rest): (Vec<Policy>, Vec<Policy>) =
            candidates.iter().cloned().partition(|one| meets(one));
        if out.is_empty() {
            // A server differs that none of them is attached to: nothing is proved then.
            let why = "its deletion could not be proved".to_owned();
            stays.extend(candidates.into_iter().map(|one| (one, why.clone())));
            return (Vec::new(), Vec::new(), stays);
        }
        let servers: Vec<String> = tried.differing.iter().map(ToString::to_string).collect();
        let why = format!(
            "without it access to {} would differ from the baseline",
            wording::first_few(&servers, 3)
        );
        stays.extend(out.into_iter().map(|one| (one, why.clone())));
        candidates = rest.into_iter().collect();
    }
    // Where two of them do not go together, one still may.
    if (2..=TRIED_AGAIN).contains(&stays.len()) {
        for (one, why) in std::mem::take(&mut stays) {
            candidates.insert(one.clone());
            let tried = attempt(field, mesh, &candidates, &before);
            if tried.differing.is_empty() {
                kept = (tried.colours, tried.states);
            } else {
                candidates.remove(&one);
                stays.push((one, why));
            }
        }
    }
    (kept.0, kept.1, stays)
}

/// The deletion of some policies, in any order of arrival.
struct Attempt {
    colours: Vec<Vec<Policy>>,
    states: Vec<State>,
    /// Servers that differ in one of the states and did not before.
    differing: BTreeSet<ObjectName>,
}

fn attempt(
    field: &Field<'_>,
    mesh: &Mesh,
    policies: &BTreeSet<Policy>,
    before: &BTreeSet<ObjectName>,
) -> Attempt {
    let reach = policies
        .iter()
        .map(|policy| (policy, reached(mesh, policy)))
        .collect();
    let colours = coloured(&reach);
    let states = states(field, &colours);
    let rows = states.iter().flat_map(|state| &state.differing);
    let differing = rows
        .map(|row| row.server.clone())
        .filter(|server| !before.contains(server))
        .collect();
    Attempt {
        colours,
        states,
        differing,
    }
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
    states(field, &colours_of(field, policies))
}

/// Whether these states are those of every part of the deletion.
pub(super) fn every_part(field: &Field<'_>, policies: &BTreeSet<Policy>) -> bool {
    colours_of(field, policies).len() <= COLOURS
}

fn colours_of(field: &Field<'_>, policies: &BTreeSet<Policy>) -> Vec<Vec<Policy>> {
    let mesh = field.mesh();
    let reach = policies
        .iter()
        .map(|policy| (policy, reached(&mesh, policy)))
        .collect();
    coloured(&reach)
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
            let policies = || subset.iter().flat_map(|colour| &colours[*colour]);
            snapshot.remove_all(&policies().collect());
            let mesh = if policies().all(|(kind, _)| *kind == Kind::AuthorizationPolicy) {
                let before = field.mesh();
                before.after(&snapshot, field.overrides, &BTreeSet::new())
            } else {
                Mesh::build(&snapshot, field.overrides)
            };
            let gone: Vec<String> = policies()
                .map(|(kind, name)| format!("{} {name}", kind.row().name))
                .collect();
            let when = format!(
                "while {} of {total} originals are deleted: {}",
                gone.len(),
                wording::first_few(&gone, 5)
            );
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
