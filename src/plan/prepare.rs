//! Waypoints, copies and labels before anything moves: what the phases recommend, as waves.
//!
//! In: the field, and what is left out. Out: one wave for the first phase that has something to apply.
//! Invariant: the wave holds exactly what `castoff migrate` would have written there, but for the
//! parts that are left out.

use std::collections::BTreeSet;
use std::fmt;

use super::field::Field;
use super::saved;
use super::wave::{EndsWithSidecars, Files, Step, Wave, WayBack};
use crate::finding::{Code, Level, Phase, PhaseResult, Remedy};
use crate::manifest;
use crate::mesh::{Attachment, Distribution, Mesh, Waypoint, WaypointId};
use crate::phases::migrate_policies::{EDITED_FILE, NETWORK_FILE};
use crate::phases::{self, Context, MigrateOptions};
use crate::snapshot::{Kind, ObjectName};

/// The phases that prepare, in their order.
const PHASES: [Phase; 3] = [
    Phase::DeployWaypoints,
    Phase::MigratePolicies,
    Phase::UseWaypoints,
];

/// Results of the phases that must have passed before anything is planned.
pub(super) fn prerequisites(field: &Field<'_>) -> Vec<PhaseResult> {
    let mesh = field.mesh();
    let options = MigrateOptions {
        first_phase: None,
        ignore_failures: true,
        ..field.options.clone()
    };
    let context = Context::new(&mesh, field.snapshot(), &options);
    [Phase::PreRequisites, Phase::ClusterSetup]
        .into_iter()
        .map(|phase| phases::run_phase(phase, &context))
        .collect()
}

/// Something that a wave of preparation can be carried out without.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// An object of a file.
    Object(String, Kind, ObjectName),
    /// A command.
    Command(String),
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(file, kind, name) => {
                write!(formatter, "{} {name} of {file}", kind.row().name)
            }
            Self::Command(run) => write!(formatter, "`{run}`"),
        }
    }
}

/// The first phase that still has something to apply when some of it is left out.
pub(super) fn next(field: &Field<'_>, left_out: &BTreeSet<Part>) -> Option<PhaseResult> {
    let mesh = field.mesh();
    let context = Context::new(&mesh, field.snapshot(), field.options);
    PHASES
        .into_iter()
        .map(|phase| phases::run_phase(phase, &context))
        .find(|result| parts(result).iter().any(|part| !left_out.contains(part)))
}

/// Policies that are not copied, or not exactly: what they do the proofs tell.
const OF_PROOFS: [Code; 2] = [Code("CAST0401"), Code("CAST0402")];

/// What stands in the way of waypoints and only people can change, a sentence each.
pub(super) fn unsettled(field: &Field<'_>) -> Vec<String> {
    let mesh = field.mesh();
    let context = Context::new(&mesh, field.snapshot(), field.options);
    let result = phases::run_phase(Phase::DeployWaypoints, &context);
    let findings = result.checks.iter().flat_map(|check| &check.findings);
    findings
        .filter(|finding| finding.level == Level::Recommendation)
        .filter_map(|finding| match finding.remedies.as_slice() {
            [Remedy::Advice(advice)] => Some(format!(
                "{}: {advice} ({})",
                finding.message, finding.code.0
            )),
            _ => None,
        })
        .collect()
}

/// What ends with the sidecars besides decisions about access, as far as no wave provides for it.
pub(super) fn ends_with_sidecars(field: &Field<'_>) -> Vec<EndsWithSidecars> {
    let mesh = field.mesh();
    let context = Context::new(&mesh, field.snapshot(), field.options);
    let result = phases::run_phase(Phase::MigratePolicies, &context);
    let told = |level: Level| matches!(level, Level::Recommendation | Level::Warning);
    let is_applied = |remedy: &Remedy| matches!(remedy, Remedy::Apply { .. });
    result
        .checks
        .iter()
        .flat_map(|check| &check.findings)
        .filter(|finding| told(finding.level) && !OF_PROOFS.contains(&finding.code))
        .filter(|finding| !finding.remedies.iter().any(is_applied))
        .map(|finding| EndsWithSidecars {
            code: finding.code.0,
            what: finding.message.trim_end_matches(':').to_owned(),
            details: finding.details.clone(),
            advice: finding
                .remedies
                .iter()
                .filter_map(|remedy| match remedy {
                    Remedy::Advice(advice) => Some(advice.clone()),
                    Remedy::Command { run, .. } => Some(run.clone()),
                    Remedy::Apply { .. } => None,
                })
                .collect(),
        })
        .collect()
}

/// What a phase wants applied, in the order in which it is.
pub(super) fn parts(result: &PhaseResult) -> Vec<Part> {
    let files = result.artefacts.iter().flat_map(|artefact| {
        let objects = saved::objects(&artefact.content).into_iter();
        objects.map(|(kind, name)| Part::Object(artefact.file.to_owned(), kind, name))
    });
    let commands = commands(result).map(|(run, _)| Part::Command(run.clone()));
    files.chain(commands).collect()
}

/// The commands of a phase, with their ways back.
fn commands(result: &PhaseResult) -> impl Iterator<Item = (&String, &Option<String>)> {
    result
        .checks
        .iter()
        .flat_map(|check| &check.findings)
        .filter(|finding| finding.level == Level::Recommendation)
        .flat_map(|finding| &finding.remedies)
        .filter_map(|remedy| match remedy {
            Remedy::Command { run, undo } if run.starts_with("kubectl ") => Some((run, undo)),
            _ => None,
        })
}

/// A file without the objects that are left out.
fn without(file: &str, content: &str, left_out: &BTreeSet<Part>) -> String {
    let stays = |document: &&str| {
        saved::objects(document)
            .into_iter()
            .all(|(kind, name)| !left_out.contains(&Part::Object(file.to_owned(), kind, name)))
    };
    let kept: Vec<&str> = manifest::split(content).filter(stays).collect();
    kept.join("---\n")
}

/// What a phase recommends as a wave, without states; `None` when nothing is left to apply.
pub(super) fn wave(
    field: &Field<'_>,
    result: &PhaseResult,
    left_out: &BTreeSet<Part>,
) -> Option<Wave> {
    let manifests: Files = result
        .artefacts
        .iter()
        .map(|artefact| {
            let file = artefact.file.to_owned();
            let content = if left_out.is_empty() {
                artefact.content.clone()
            } else {
                without(&file, &artefact.content, left_out)
            };
            (file, content)
        })
        .filter(|(_, content)| !content.is_empty())
        .collect();
    let mesh = field.mesh();
    let mut saved_files = Files::new();
    let mut steps = Vec::new();
    for (file, content) in &manifests {
        let mut replaced = Files::new();
        let undo = saved::undo_apply(field.snapshot(), file, content, &mut replaced);
        let accepted = |content: &String| {
            let gateways = waits_for_gateways(content).into_iter();
            gateways.chain(saved::waits_for_ztunnel(content))
        };
        let undo_settled = replaced.values().flat_map(accepted);
        let undo_settled = undo_settled.collect();
        saved_files.extend(replaced);
        steps.push(Step {
            what: match result.phase {
                _ if file == EDITED_FILE => {
                    "edit policies of your own that ztunnel or a waypoint would make something else of"
                        .to_owned()
                }
                _ if file == NETWORK_FILE => {
                    "let tunnels (port 15008) and the kubelet's probes through where NetworkPolicies would block them"
                        .to_owned()
                }
                Phase::DeployWaypoints => "deploy the waypoints; nothing uses them yet".to_owned(),
                _ => {
                    "apply the policies for waypoints, and those that let waypoints reach the pods"
                        .to_owned()
                }
            },
            look: look(result.phase, &mesh),
            run: vec![format!("kubectl apply -f {file}")],
            undo,
            settled: accepted(content).collect(),
            undo_look: look_back(result.phase),
            undo_settled,
            ..Step::default()
        });
    }
    let commands: Vec<(&String, &Option<String>)> = commands(result)
        .filter(|(run, _)| !left_out.contains(&Part::Command((*run).clone())))
        .collect();
    if !commands.is_empty() {
        steps.push(Step {
            what: match result.phase {
                Phase::DeployWaypoints if are_early(&commands) => {
                    "take labels away that name waypoints which are not there yet: they have no effect now, and would \
                     take effect before any policy"
                }
                Phase::DeployWaypoints => {
                    "take labels away that keep Services from every waypoint: policies about requests hold for them, \
                     which only a waypoint can enforce in ambient mode"
                }
                _ => "label what uses a waypoint from now on",
            }
            .to_owned(),
            look: look(result.phase, &mesh),
            undo_look: look_back(result.phase),
            run: commands.iter().map(|(run, _)| (*run).clone()).collect(),
            undo: commands
                .iter()
                .rev()
                .filter_map(|(_, undo)| (*undo).clone())
                .collect(),
            ..Step::default()
        });
    }
    if steps.is_empty() {
        return None;
    }
    let to_gateways = commands
        .iter()
        .all(|(run, _)| run.contains(" istio.io/ingress-use-waypoint="));
    let only_edits = commands.is_empty() && manifests.keys().all(|file| file == EDITED_FILE);
    let replaces = steps
        .iter()
        .flat_map(|step| &step.undo)
        .all(|undo| undo.starts_with("kubectl apply "));
    let (slug, title, why) = if result.phase == Phase::MigratePolicies && replaces && !only_edits {
        (
            "policies-again",
            "Apply policies for waypoints once more",
            "They were other while workloads moved; now they are as the originals have them.",
        )
    } else if only_edits {
        (
            "edits",
            "Edit policies",
            "ztunnel would make something else of them.",
        )
    } else if !commands.is_empty() && to_gateways {
        (
            "gateways",
            "Let gateways use waypoints",
            "A gateway sends past a waypoint until it is told otherwise.",
        )
    } else if result.phase == Phase::DeployWaypoints && manifests.is_empty() && are_early(&commands)
    {
        (
            "early-labels",
            "Take labels away that come before their waypoints",
            "A label that names no Gateway has no effect; what needs the waypoint is labelled when it and its policies are there.",
        )
    } else if result.phase == Phase::DeployWaypoints && manifests.is_empty() {
        (
            "opted-out",
            "Let Services use a waypoint that were kept from it",
            "Policies about requests hold for them, which only a waypoint can enforce in ambient mode.",
        )
    } else {
        words(result.phase, field.mesh().distribution)
    };
    if slug == "policies-again" {
        for step in &mut steps {
            step.undo_look =
                vec!["the next thing to be taken back is the move of these workloads".to_owned()];
        }
    }
    Some(Wave {
        slug: slug.to_owned(),
        title: title.to_owned(),
        affected: Vec::new(),
        why: std::iter::once(why.to_owned())
            .chain(reasons_of_edits(result, left_out))
            .collect(),
        steps,
        manifests,
        temporary: BTreeSet::new(),
        saved: saved_files,
        edits: Vec::new(),
        states: Vec::new(),
        way_back: WayBack::NotPlayed("not played yet".to_owned()),
    })
}

/// Whether labels are taken away that name a waypoint, not `none`.
fn are_early(commands: &[(&String, &Option<String>)]) -> bool {
    let mut undo = commands.iter().filter_map(|(_, undo)| undo.as_deref());
    undo.all(|undo| !undo.ends_with("=none"))
}

/// Why the user's own objects are edited, a sentence each.
fn reasons_of_edits<'r>(
    result: &'r PhaseResult,
    left_out: &'r BTreeSet<Part>,
) -> impl Iterator<Item = String> + 'r {
    let findings = result.checks.iter().flat_map(|check| &check.findings);
    findings.filter_map(|finding| {
        let edits = finding.remedies.iter().any(|remedy| match remedy {
            Remedy::Apply { file, object } => {
                let part = Part::Object((*file).to_owned(), object.kind, object.name.clone());
                *file == EDITED_FILE && !left_out.contains(&part)
            }
            _ => false,
        });
        edits.then(|| format!("{}.", finding.message))
    })
}

fn words(phase: Phase, distribution: Distribution) -> (&'static str, &'static str, &'static str) {
    match phase {
        Phase::DeployWaypoints => (
            "waypoints",
            "Deploy waypoints",
            "A waypoint that nothing uses changes no request.",
        ),
        Phase::MigratePolicies => (
            "policies",
            "Apply policies for waypoints",
            "Copies decide nothing until a Service uses its waypoint; the policies for pods let the waypoint in.",
        ),
        _ => (
            "use-waypoints",
            "Use waypoints",
            match distribution {
                Distribution::Upstream => {
                    "Upstream sidecars never go through a waypoint, so callers with sidecars see no change yet."
                }
                Distribution::Solo => {
                    "Sidecars of Solo's builds go through waypoints as ztunnel does: from here on the waypoints decide \
                     for every caller, with a sidecar or without."
                }
            },
        ),
    }
}

fn look(phase: Phase, mesh: &Mesh) -> Vec<String> {
    let text = match phase {
        Phase::DeployWaypoints if mesh.control_planes.len() > 1 => {
            "`istioctl version` shows the versions of istiod that you expect, and ztunnel runs on every node"
        }
        Phase::DeployWaypoints => {
            "`istioctl version` shows one version of istiod, and ztunnel runs on every node"
        }
        Phase::MigratePolicies if mesh.waypoints.is_empty() => "ztunnel runs on every node",
        Phase::MigratePolicies => "`istioctl waypoint list -A` shows every waypoint as programmed",
        _ => {
            "`kubectl get authorizationpolicies -A` lists every policy of the waves before this one"
        }
    };
    vec![text.to_owned()]
}

/// What to look at before a phase is taken back.
fn look_back(phase: Phase) -> Vec<String> {
    let text = match phase {
        Phase::DeployWaypoints => {
            "no Service uses these waypoints any more: `istioctl waypoint status -A` and \
             `kubectl get services,namespaces -A -L istio.io/use-waypoint` show it"
        }
        Phase::MigratePolicies => {
            "no Service uses a waypoint any more, and the originals are there: they decide alone from here on"
        }
        _ => "every pod behind these Services has its sidecar again, and the originals are there",
    };
    vec![text.to_owned()]
}

fn waits_for_gateways(content: &str) -> Vec<String> {
    saved::objects(content)
        .iter()
        .filter(|(kind, _)| *kind == Kind::Gateway)
        .map(|(_, name)| {
            format!(
                "kubectl wait --for=condition=Programmed --timeout=5m gateways.gateway.networking.k8s.io/{} -n {}",
                name.name, name.namespace
            )
        })
        .collect()
}

/// Workloads behind Services that a wave bound.
pub(super) fn newly_bound(before: &Mesh, after: &Mesh) -> Vec<ObjectName> {
    let mut names: BTreeSet<ObjectName> = BTreeSet::new();
    for service in &after.services {
        let was = before
            .service_named(&service.name)
            .and_then(|(_, service)| service.binding.waypoint());
        if was.is_none() && service.binding.waypoint().is_some() {
            let backends = service.backends.iter();
            names.extend(backends.map(|backend| after.workload(backend.workload).name.clone()));
        }
    }
    names.into_iter().collect()
}

/// Waits for what a label promises: the Service is bound, the copies are accepted
/// (istio pilot/pkg/serviceregistry/ambient/policies.go, `WaypointPolicyStatusCollection`;
/// pilot/pkg/model/ambient.go, `WaypointBound`).
pub(super) fn waits_for_binding(before: &Mesh, after: &Mesh) -> Vec<String> {
    let mut waits = Vec::new();
    let mut bound: BTreeSet<&ObjectName> = BTreeSet::new();
    for service in &after.services {
        let was = before
            .service_named(&service.name)
            .and_then(|(_, service)| service.binding.waypoint());
        if was.is_none() && service.binding.waypoint().is_some() {
            bound.insert(&service.name);
            waits.push(format!(
                "kubectl wait --for=condition=istio.io/WaypointBound --timeout=5m service/{} -n {}",
                service.name.name, service.name.namespace
            ));
        }
    }
    let bound_to = after
        .services
        .iter()
        .filter(|one| bound.contains(&one.name));
    let bound_to: BTreeSet<WaypointId> =
        bound_to.filter_map(|one| one.binding.waypoint()).collect();
    let waypoints: Vec<&Waypoint> = bound_to.into_iter().map(|id| after.waypoint(id)).collect();
    for policy in &after.authorization_policies {
        let Attachment::Targets(targets) = &policy.attachment else {
            continue;
        };
        let concerned = targets.iter().any(|target| {
            let named = ObjectName::new(&policy.name.namespace, &target.name);
            match target.kind.as_str() {
                "Gateway" => waypoints.iter().any(|one| one.name == named),
                "GatewayClass" => waypoints.iter().any(|one| one.class == target.name),
                _ => bound.contains(&named),
            }
        });
        if concerned {
            waits.push(format!(
                "kubectl wait --for=condition=WaypointAccepted --timeout=5m \
                 authorizationpolicies.security.istio.io/{} -n {}",
                policy.name.name, policy.name.namespace
            ));
        }
    }
    waits
}
