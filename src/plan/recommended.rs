//! What a run of `migrate` recommends, proved: the state now, and each state that its files and
//! commands lead through.
//!
//! In: results of phases and the baseline. Out: [`Access`]. Invariant: only what was written is
//! played; a command that cannot be played is named, never taken for harmless.

use std::collections::{BTreeMap, BTreeSet};

use super::attributed::{self, Attribution, play};
use super::cleanup;
use super::field::Field;
use super::forward::{self, NextMoves, PlanOptions};
use super::lock;
use super::saved;
use super::units::{self, Units};
use super::wave::{Held, State};
use crate::finding::{
    Artefact, CheckOutcome, CheckResult, Code, Finding, Level, Phase, PhaseOutcome, PhaseResult,
    Proof, Remedy, Subject,
};
use crate::mesh::{DataPlaneMode, Distribution, Mesh, MeshOverrides};
use crate::phases::{self, MigrateOptions, wording};
use crate::prove::prover::{self, Prover};
use crate::prove::reached::Reached;
use crate::prove::row::ServerRow;
use crate::snapshot::{Kind, ObjectName, Snapshot};
use castoff_authz::verdict::Limits;

/// Who may call whom now, and after what is recommended.
#[derive(Debug, Clone)]
pub struct Access {
    /// Servers of the mesh that were compared.
    pub servers: usize,
    /// The state that was read.
    pub now: State,
    /// The states that each phase with something to run or to apply leads through, in order.
    pub phases: Vec<(Phase, Vec<State>)>,
    /// Commands that could not be played, with the reason: nothing is proved beyond them.
    pub not_played: Vec<String>,
    /// Every server in the last of these states, and who reaches it how.
    pub rows: Vec<(ServerRow, Option<Reached>)>,
}

impl Access {
    /// All states.
    pub fn states(&self) -> impl Iterator<Item = &State> {
        let after = self.phases.iter().flat_map(|(_, states)| states);
        std::iter::once(&self.now).chain(after)
    }
}

/// Proves the state now and what the results recommend, and says at each recommendation what was proved
/// of it. On upstream Istio the moves of `remove-sidecars` are replaced by those that are proved, where all
/// at once would open or break something.
pub fn prove(
    baseline: &Mesh,
    found: &Snapshot,
    overrides: &MeshOverrides,
    options: &MigrateOptions,
    results: &mut [PhaseResult],
) -> Access {
    let prover = Prover::new(baseline, Limits::default());
    let mut field = Field::new(found.clone(), &prover, overrides, options);
    let mesh = field.mesh();
    let mut rows = prover.noted(&mesh);
    let mut access = Access {
        servers: mesh
            .workloads
            .iter()
            .filter(|workload| workload.is_mesh_application())
            .count(),
        now: State {
            notes: prover::notes(&rows),
            ..field.at_rest("now")
        },
        phases: Vec::new(),
        not_played: Vec::new(),
        rows: Vec::new(),
    };
    for result in results {
        let name = result.phase.name();
        if !access.not_played.is_empty() {
            unproved(result, "it comes after what could not be played");
        } else if result.outcome == PhaseOutcome::Failed {
            unproved(
                result,
                &format!("phase {name} failed, so that what it asks for is not played"),
            );
        } else if result.outcome == PhaseOutcome::Recommends {
            unproved(result, "it cannot be played in memory");
            let before = access.states().last().unwrap_or(&access.now);
            let (states, after, not_played) = phase(&field, result, before, access.servers);
            if !states.is_empty() {
                access.phases.push((result.phase, states));
            }
            access.not_played.extend(not_played);
            field = after;
        }
    }
    let end = field.mesh();
    if !access.phases.is_empty() {
        rows = prover.noted(&end);
    }
    let mut reached = prover.reached(&end);
    let with = |row: ServerRow| {
        let reached = reached.remove(&row.server);
        (row, reached)
    };
    access.rows = rows.into_iter().map(with).collect();
    access
}

/// Plays a phase, proves it, and says so at its recommendations. Gives the states, the field after them,
/// and what could not be played.
fn phase<'a>(
    field: &Field<'a>,
    result: &mut PhaseResult,
    before: &State,
    servers: usize,
) -> (Vec<State>, Field<'a>, Option<String>) {
    let mesh = field.mesh();
    let mut units = Units::of(result);
    let what = format!("the recommendations of phase {}", result.phase.name());
    let mut outcome = play(field, result.phase, &units.units, &what);
    let differs = outcome
        .as_ref()
        .is_ok_and(|(states, _)| states.iter().any(|state| !state.differing.is_empty()));
    let is_move = result.phase == Phase::RemoveSidecars;
    let goes_wrong = || match &outcome {
        Ok((_, after)) => differs || attributed::leave_the_mesh(&mesh, &after.mesh()),
        Err(_) => true,
    };
    if is_move && goes_wrong() && mesh.distribution == Distribution::Upstream {
        let plan_options = PlanOptions {
            migrate: field.options.clone(),
            ..PlanOptions::default()
        };
        let next = forward::next_moves(
            field.prover,
            field.snapshot(),
            field.overrides,
            &plan_options,
        );
        only_what_is_proved(result, &next, &mesh);
        units = Units::of(result);
        outcome = play(field, result.phase, &units.units, &what);
    }
    if result.phase == Phase::PolicySimplification && differs {
        let (goes, stays) = cleanup::deletable(field, deleted(result));
        only_proved_deletions(result, &goes, &stays);
        units = Units::of(result);
        outcome = play(field, result.phase, &units.units, &what);
    }
    let Units { units, of_findings } = units;
    let mut proofs: Vec<Proof> = Vec::new();
    let mut not_played = None;
    let (mut states, after) = outcome.unwrap_or_else(|_| {
        let (good, reason) = attributed::playable(field, &units);
        let after = &units[good..];
        let stopped = after.first().map_or("", |unit| &unit.words);
        let what = format!("{what} before {stopped}");
        proofs.push(Proof::none(reason.clone()));
        let beyond = Proof::none("it comes after what could not be played");
        proofs.resize(after.len(), beyond);
        not_played = Some(reason);
        play(field, result.phase, &units[..good], &what).unwrap_or((Vec::new(), field.clone()))
    });
    let played = &units[..units.len() - proofs.len()];
    let mut attribution = Attribution::new(result.phase, servers);
    let mut all = attribution.proofs(field, before, played, &states);
    all.extend(proofs);
    let last = states.len().saturating_sub(1);
    states.splice(last..last, attribution.between);
    let findings = result
        .checks
        .iter_mut()
        .flat_map(|check| &mut check.findings);
    for (finding, units) in findings.zip(of_findings) {
        let by_hand = finding
            .remedies
            .iter()
            .any(|one| matches!(one, Remedy::Command { run, .. } if !run.starts_with("kubectl ")));
        let of_finding: Vec<Proof> = units.iter().map(|unit| all[*unit].clone()).collect();
        if !of_finding.is_empty() && !by_hand {
            finding.proof = Some(attributed::joined(of_finding));
        }
    }
    (states, after, not_played)
}

/// Says of each recommendation of a phase that nothing is proved of it, and why.
fn unproved(result: &mut PhaseResult, why: &str) {
    let checks = result.checks.iter_mut();
    for finding in checks.flat_map(|check| &mut check.findings) {
        let is_asked_for = matches!(finding.level, Level::Error | Level::Recommendation)
            && finding
                .remedies
                .iter()
                .any(|remedy| !matches!(remedy, Remedy::Advice(_)));
        finding.proof = is_asked_for.then(|| Proof::none(why));
    }
}

fn recommendations(result: &PhaseResult) -> impl Iterator<Item = &Finding> {
    units::findings(result).filter(|finding| finding.level == Level::Recommendation)
}

fn deleted(result: &PhaseResult) -> BTreeSet<(Kind, ObjectName)> {
    recommendations(result)
        .filter_map(|finding| finding.subject.as_ref())
        .map(|subject| (subject.kind, subject.name.clone()))
        .collect()
}

/// Leaves in the phase only deletions that are proved together, and says of the others why they stay.
fn only_proved_deletions(
    result: &mut PhaseResult,
    goes: &BTreeSet<(Kind, ObjectName)>,
    stays: &[((Kind, ObjectName), String)],
) {
    for finding in result
        .checks
        .iter_mut()
        .flat_map(|check| &mut check.findings)
    {
        let Some(subject) = &finding.subject else {
            continue;
        };
        let policy = (subject.kind, subject.name.clone());
        if finding.level != Level::Recommendation || goes.contains(&policy) {
            continue;
        }
        let why = stays.iter().find(|(one, _)| *one == policy);
        let why = why.map_or("its deletion could not be proved", |(_, why)| why.as_str());
        finding.level = Level::Note;
        finding.message = format!("{} {} stays: {why}", policy.0.row().name, policy.1);
        finding.remedies.clear();
    }
    result.outcome = phases::outcome(&result.checks);
}

const CODE: Code = Code("CAST0702");

/// What is said of workloads that must keep their sidecars: those of a namespace together where reason
/// and witness are the same, so that a finding has an object by which it can be waived.
fn kept(held: &[Held], mesh: &Mesh, level: Level) -> Vec<Finding> {
    let mut groups: BTreeMap<(&str, &str, &[String]), Vec<&Held>> = BTreeMap::new();
    for one in held {
        let key = (
            one.workload.namespace.as_str(),
            one.why.as_str(),
            one.lines.as_slice(),
        );
        groups.entry(key).or_default().push(one);
    }
    groups
        .into_iter()
        .map(|((namespace, why, lines), group)| {
            let names: Vec<String> = group.iter().map(|one| one.workload.to_string()).collect();
            let keep = match names.len() {
                1 => "must keep its sidecar",
                _ => "must keep their sidecars",
            };
            let message = format!("{} {keep}: {why}", wording::first_few(&names, 5));
            let mut finding = Finding::new(CODE, level, message);
            finding.details = lines.to_vec();
            let ways: BTreeSet<&String> = group.iter().flat_map(|one| &one.ways_out).collect();
            let said = ways.iter().map(|way| format!("way out: {way}"));
            finding.details.extend(said);
            let ways: Vec<String> = ways.into_iter().cloned().collect();
            finding = (finding.fact("workloads", names.clone()))
                .fact("reason", why)
                .fact("witness", lines.to_vec())
                .fact("waysOut", ways);
            finding = match group.as_slice() {
                [one] => about(finding, &one.workload, mesh),
                _ => {
                    let origin = mesh.namespaces.get(namespace);
                    let origin = origin.and_then(|found| found.origin.as_ref());
                    finding.about(Kind::Namespace, &ObjectName::new("", namespace), origin)
                }
            };
            if names.len() > 1 {
                finding.names = names;
            }
            finding
        })
        .collect()
}

/// The finding about the owner of a workload, where that is of a kind that is read.
fn about(finding: Finding, name: &ObjectName, mesh: &Mesh) -> Finding {
    let workload = mesh.workloads.iter().find(|one| one.name == *name);
    let owner = workload.and_then(|one| Some((wording::owner_resource(&one.owner)?, &one.origin)));
    match owner {
        Some((kind, origin)) => finding.about(kind, name, Some(origin)),
        None => finding,
    }
}

/// Leaves in the phase only the moves that are proved, and says of the others what they wait for.
fn only_what_is_proved(result: &mut PhaseResult, next: &NextMoves, mesh: &Mesh) {
    let (steps, held) = (&next.steps, &next.held);
    // Where nothing can move, what stands against it is what is left to do.
    let level = if steps.is_empty() {
        Level::Recommendation
    } else {
        Level::Warning
    };
    result.artefacts = next
        .manifests
        .values()
        .map(|content| Artefact {
            file: lock::FILE,
            announced_as: "Policies that close the way around waypoints written to",
            content: content.clone(),
        })
        .collect();
    let mut findings: Vec<Finding> = steps
        .iter()
        .map(|step| {
            let mut finding = Finding::new(
                CODE,
                Level::Recommendation,
                format!("These can leave their sidecars now: {}", step.what),
            );
            // Files are applied before commands are run.
            const APPLY: &str = "kubectl apply -f ";
            let files = step.run.iter().filter_map(|run| run.strip_prefix(APPLY));
            for content in files.filter_map(|file| next.manifests.get(file)) {
                for (kind, name) in saved::objects(content) {
                    let object = Subject {
                        kind,
                        name,
                        field: None,
                        origin: None,
                    };
                    let file = lock::FILE;
                    finding = finding.remedy(Remedy::Apply { file, object });
                }
            }
            let commands = step.run.iter().filter(|run| !run.starts_with(APPLY));
            for (index, run) in commands.enumerate() {
                finding.details.push(run.clone());
                finding = finding.remedy(match step.undo.get(index) {
                    Some(undo) => Remedy::command(run.clone(), undo.clone()),
                    None => Remedy::command_without_undo(run.clone()),
                });
            }
            finding
        })
        .collect();
    let moving: BTreeSet<&str> = steps
        .iter()
        .flat_map(|step| step.moves.iter().map(String::as_str))
        .collect();
    let waiting: Vec<String> = mesh
        .workloads
        .iter()
        .filter(|workload| {
            workload.is_mesh_application() && workload.has_mode(DataPlaneMode::Sidecar)
        })
        .map(|workload| workload.name.to_string())
        .filter(|name| !moving.contains(name.as_str()))
        .filter(|name| held.iter().all(|one| one.workload.to_string() != *name))
        .collect();
    if !waiting.is_empty() {
        let mut finding = Finding::new(
            CODE,
            level,
            format!(
                "{} until their callers have moved: {}",
                if waiting.len() == 1 {
                    "1 workload keeps its sidecar".to_owned()
                } else {
                    format!("{} workloads keep their sidecars", waiting.len())
                },
                wording::first_few(&waiting, 5)
            ),
        )
        .detail("`castoff plan` shows the whole order, each state proved");
        finding.names = waiting;
        findings.push(finding);
    }
    findings.extend(kept(held, mesh, level));
    for check in &mut result.checks {
        if check.code == CODE {
            *check = CheckResult {
                code: CODE,
                name: check.name,
                outcome: CheckOutcome::Warned,
                findings: std::mem::take(&mut findings),
            };
        }
    }
}
