//! What a run of `migrate` recommends, proved: the state now, and each state that its files and
//! commands lead through.
//!
//! In: results of phases and the baseline. Out: [`Access`]. Invariant: only what was written is
//! played; a command that cannot be played is named, never taken for harmless.

use std::collections::BTreeSet;

use super::cleanup;
use super::field::Field;
use super::forward::{self, NextMoves, PlanOptions};
use super::lock;
use super::wave::{Files, State, Step};
use crate::finding::{
    Artefact, CheckOutcome, CheckResult, Code, Finding, Level, Phase, PhaseOutcome, PhaseResult,
    Remedy,
};
use crate::mesh::{DataPlaneMode, Distribution, Mesh, MeshOverrides};
use crate::phases::{self, MigrateOptions, wording};
use crate::prove::prover::Prover;
use crate::snapshot::{Kind, ObjectName, Snapshot};
use castoff_authz::verdict::Limits;

/// Who may call whom now, and after what is recommended.
#[derive(Debug, Clone)]
pub struct Access {
    /// Servers of the mesh that were compared.
    pub servers: usize,
    /// The state that was read.
    pub now: State,
    /// The states that each phase with recommendations leads through, in order.
    pub phases: Vec<(Phase, Vec<State>)>,
    /// Commands that could not be played, with the reason: nothing is proved beyond them.
    pub not_played: Vec<String>,
}

impl Access {
    /// All states.
    pub fn states(&self) -> impl Iterator<Item = &State> {
        let after = self.phases.iter().flat_map(|(_, states)| states);
        std::iter::once(&self.now).chain(after)
    }
}

/// Proves the state now and what the results recommend. On upstream Istio the moves of
/// `remove-sidecars` are replaced by those that are proved, where all at once would open or break
/// something.
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
    let mut access = Access {
        servers: mesh
            .workloads
            .iter()
            .filter(|workload| workload.is_mesh_application())
            .count(),
        now: State {
            notes: prover.closed(&mesh),
            ..field.at_rest("now")
        },
        phases: Vec::new(),
        not_played: Vec::new(),
    };
    for result in results {
        if result.outcome != PhaseOutcome::Recommends {
            continue;
        }
        let mut outcome = play(&field, result);
        let differs = outcome
            .as_ref()
            .is_ok_and(|(states, _)| states.iter().any(|state| !state.differing.is_empty()));
        let is_move = result.phase == Phase::RemoveSidecars;
        if is_move && differs && mesh.distribution == Distribution::Upstream {
            let plan_options = PlanOptions {
                migrate: options.clone(),
                ..PlanOptions::default()
            };
            let next = forward::next_moves(&prover, field.snapshot(), overrides, &plan_options);
            only_what_is_proved(result, &next, &mesh);
            outcome = play(&field, result);
        }
        if result.phase == Phase::PolicySimplification && differs {
            let (goes, stays) = cleanup::deletable(&field, deleted(result));
            only_proved_deletions(result, &goes, &stays);
            outcome = play(&field, result);
        }
        match outcome {
            Ok((states, after)) => {
                field = after;
                access.phases.push((result.phase, states));
            }
            Err(reason) => access.not_played.push(reason),
        }
    }
    access
}

/// Plays what a phase wrote; returns the states and the field after it.
fn play<'a>(field: &Field<'a>, result: &PhaseResult) -> Result<(Vec<State>, Field<'a>), String> {
    let files: Files = result
        .artefacts
        .iter()
        .map(|artefact| (artefact.file.to_owned(), artefact.content.clone()))
        .collect();
    let mut run: Vec<String> = files
        .keys()
        .map(|file| format!("kubectl apply -f {file}"))
        .collect();
    run.extend(commands(result));
    let steps = [Step {
        run,
        ..Step::default()
    }];
    let mut after = field.clone();
    after.advance(&steps, &files)?;
    let name = result.phase.name();
    let mut states = Vec::new();
    let moving = moved(&field.mesh(), &after.mesh());
    if !moving.is_empty() {
        states.push(field.mixed(
            &moving,
            format!("while old and new pods of phase {name} run side by side"),
        ));
    }
    if result.phase == Phase::PolicySimplification {
        states.extend(cleanup::states_of(field, &deleted(result)));
    }
    states.push(after.at_rest(format!("after the recommendations of phase {name}")));
    Ok((states, after))
}

/// Commands of recommendations, each once.
fn commands(result: &PhaseResult) -> Vec<String> {
    let mut seen = BTreeSet::new();
    recommendations(result)
        .flat_map(|finding| &finding.remedies)
        .filter_map(|remedy| match remedy {
            Remedy::Command { run, .. } if run.starts_with("kubectl ") => Some(run.clone()),
            _ => None,
        })
        .filter(|command| seen.insert(command.clone()))
        .collect()
}

fn recommendations(result: &PhaseResult) -> impl Iterator<Item = &Finding> {
    result
        .checks
        .iter()
        .flat_map(|check| &check.findings)
        .filter(|finding| finding.level == Level::Recommendation)
}

fn deleted(result: &PhaseResult) -> BTreeSet<(Kind, ObjectName)> {
    recommendations(result)
        .filter_map(|finding| finding.subject.as_ref())
        .map(|subject| (subject.kind, subject.name.clone()))
        .collect()
}

/// Workloads with sidecars before that have none after.
fn moved(before: &Mesh, after: &Mesh) -> BTreeSet<ObjectName> {
    let still: BTreeSet<&ObjectName> = after
        .workloads
        .iter()
        .filter(|workload| workload.has_mode(DataPlaneMode::Sidecar))
        .map(|workload| &workload.name)
        .collect();
    before
        .workloads
        .iter()
        .filter(|workload| workload.has_mode(DataPlaneMode::Sidecar))
        .map(|workload| workload.name.clone())
        .filter(|name| !still.contains(name))
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

/// Leaves in the phase only the moves that are proved, and says of the others what they wait for.
fn only_what_is_proved(result: &mut PhaseResult, next: &NextMoves, mesh: &Mesh) {
    const CODE: Code = Code("CAST0702");
    let (steps, held) = (&next.steps, &next.held);
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
                format!("These can leave their sidecars now, proved: {}", step.what),
            );
            // Files are applied before commands are run.
            let commands = step.run.iter().filter(|run| !run.contains(" apply "));
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
            Level::Warning,
            format!(
                "{} keep their sidecars until their callers have moved: {}",
                wording::count(waiting.len(), "workload"),
                wording::first_few(&waiting, 5)
            ),
        )
        .detail("`castoff plan` shows the whole order, each state proved");
        finding.names = waiting;
        findings.push(finding);
    }
    findings.extend(held.iter().map(|one| {
        let mut finding = Finding::new(
            CODE,
            Level::Warning,
            format!("{} must keep its sidecar: {}", one.workload, one.why),
        );
        finding.details = one.lines.clone();
        let ways = one.ways_out.iter().map(|way| format!("way out: {way}"));
        finding.details.extend(ways);
        finding
    }));
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
