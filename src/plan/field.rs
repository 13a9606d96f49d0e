//! The state of the mesh while a plan is played: commands change it, controllers act, proofs look.
//!
//! In: the snapshot found, commands and manifests of steps. Out: the snapshot after them, and proved
//! states. Invariant: only the written commands and files change it.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use smol_str::SmolStr;

use super::both::{with_ambient_generations, with_generations, with_labelled_generations};
use super::wave::{Files, State, Step, WayBack};
use super::{proof, saved};
use crate::api::{Pod, PodOwner};
use crate::mesh::{DataPlaneMode, Mesh, MeshOverrides};
use crate::phases::MigrateOptions;
use crate::phases::remove_sidecars::switch::TEMPLATE_LABELS;
use crate::prove::prover::Prover;
use crate::simulate::controllers::act;
use crate::simulate::{Command, command, execute};
use crate::snapshot::{Kind, Object, ObjectName, Snapshot};

/// What is played, and what it is compared with.
#[derive(Clone)]
pub(super) struct Field<'a> {
    snapshot: Snapshot,
    /// The mesh of the snapshot, when it was asked for.
    mesh: OnceCell<Arc<Mesh>>,
    pub(super) prover: &'a Prover<'a>,
    pub(super) overrides: &'a MeshOverrides,
    pub(super) options: &'a MigrateOptions,
}

impl<'a> Field<'a> {
    pub(super) fn new(
        snapshot: Snapshot,
        prover: &'a Prover<'a>,
        overrides: &'a MeshOverrides,
        options: &'a MigrateOptions,
    ) -> Self {
        Self {
            snapshot,
            mesh: OnceCell::new(),
            prover,
            overrides,
            options,
        }
    }

    /// What an API server would show now.
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The mesh now.
    pub(super) fn mesh(&self) -> Arc<Mesh> {
        let build = || Arc::new(Mesh::build(&self.snapshot, self.overrides));
        Arc::clone(self.mesh.get_or_init(build))
    }

    /// Carries out the commands of steps, then lets controllers act.
    ///
    /// # Errors
    /// The first command that cannot be carried out, with the reason.
    pub(super) fn advance(&mut self, steps: &[Step], files: &Files) -> Result<(), String> {
        let commands = run(
            &mut self.snapshot,
            steps.iter().flat_map(|step| &step.run),
            files,
        )?;
        let before = self.mesh.take();
        let mesh = match (before, changed(&commands, files)) {
            (Some(before), Some(changed)) => {
                let after = before.after(&self.snapshot, self.overrides, &changed);
                self.mesh = OnceCell::from(Arc::new(after));
                self.mesh()
            }
            _ => self.mesh(),
        };
        if act(&mut self.snapshot, &mesh) {
            self.mesh = OnceCell::new();
        }
        Ok(())
    }

    /// Proves the state now.
    pub(super) fn at_rest(&self, when: impl Into<String>) -> State {
        proof::state(self.prover, self.mesh(), when)
    }

    /// The same, where the new pods' templates say for themselves how they run.
    pub(super) fn mixed_by_template(
        &self,
        moving: &BTreeSet<ObjectName>,
        when: impl Into<String>,
    ) -> State {
        let both =
            with_labelled_generations(&self.mesh(), |name| moving.contains(name), &TEMPLATE_LABELS);
        proof::state(self.prover, Arc::new(both), when)
    }

    /// The same, where each workload says how its new pods run, and all which labels they have besides.
    pub(super) fn mixed_into(
        &self,
        moving: &BTreeMap<ObjectName, DataPlaneMode>,
        labels: &[(&str, &str)],
        when: impl Into<String>,
    ) -> State {
        let both = with_generations(&self.mesh(), |name| moving.get(name).copied(), labels);
        proof::state(self.prover, Arc::new(both), when)
    }

    /// Proves the state in which old and new pods of these workloads run side by side.
    pub(super) fn mixed(&self, moving: &BTreeSet<ObjectName>, when: impl Into<String>) -> State {
        let both = with_ambient_generations(&self.mesh(), |name| moving.contains(name));
        proof::state(self.prover, Arc::new(both), when)
    }
}

fn run<'l>(
    snapshot: &mut Snapshot,
    lines: impl Iterator<Item = &'l String>,
    files: &Files,
) -> Result<Vec<Command>, String> {
    let lines: Vec<&String> = lines.collect();
    let commands: Vec<Command> = lines
        .iter()
        .map(|line| command::parse_line(line).map_err(|reason| format!("`{line}`: {reason}")))
        .collect::<Result<_, _>>()?;
    execute(snapshot, &commands, files)
        .map_err(|(position, error)| format!("`{}`: {error}", lines[position]))?;
    Ok(commands)
}

/// The namespaces whose labels, owners and pods commands changed; `None` where they changed more than
/// that and AuthorizationPolicies.
fn changed(commands: &[Command], files: &Files) -> Option<BTreeSet<SmolStr>> {
    let mut namespaces = BTreeSet::new();
    for command in commands {
        match command {
            Command::Label {
                kind: Kind::Namespace,
                name,
                ..
            } => {
                namespaces.insert(name.name.clone());
            }
            // Only owners of pods are patched.
            Command::Patch { name, .. } => {
                namespaces.insert(name.namespace.clone());
            }
            Command::Restart { namespace, .. } | Command::DeletePods { namespace, .. } => {
                namespaces.insert(namespace.into());
            }
            Command::Apply { file } => {
                let objects = saved::objects(files.get(file)?);
                let only_policies = objects
                    .iter()
                    .all(|(kind, _)| *kind == Kind::AuthorizationPolicy);
                only_policies.then_some(())?;
            }
            Command::Delete {
                kind: Kind::AuthorizationPolicy,
                ..
            } => {}
            Command::Label { .. } | Command::Delete { .. } => return None,
        }
    }
    Some(namespaces)
}

/// Plays the way back of a wave from the state after it and compares with the state before it. What
/// controllers do later hangs on what is compared, and is none of it.
pub(super) fn way_back(
    before: &Snapshot,
    after: &Snapshot,
    steps: &[Step],
    saved: &Files,
) -> WayBack {
    let mut back = after.clone();
    let undo = steps.iter().rev().flat_map(|step| &step.undo);
    if let Err(error) = run(&mut back, undo, saved) {
        return WayBack::NotPlayed(error);
    }
    let differences = differences(before, &back);
    if differences.is_empty() {
        WayBack::Proved
    } else {
        WayBack::Differs(differences)
    }
}

/// What differs between two snapshots in what castoff changes: labels of namespaces and Services,
/// pod templates, how pods run, and Istio and Gateway API objects.
fn differences(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let mut found = Vec::new();
    compare(
        &mut found,
        "namespace",
        [&before.namespaces, &after.namespaces],
        |one| &one.metadata.labels,
        |one| format!("{} {:?}", one.metadata.name, one.metadata.labels),
    );
    compare(
        &mut found,
        "Service",
        [&before.services, &after.services],
        |one| &one.metadata.labels,
        |one| format!("{} {:?}", one.object_name(), one.metadata.labels),
    );
    let rollout = |one: &Object<PodOwner>| {
        let labels = one.body.template().map(|one| one.metadata.labels.clone());
        let spec = &one.body.spec;
        (
            labels,
            spec.min_ready_seconds,
            spec.progress_deadline_seconds,
            spec.strategy.clone(),
        )
    };
    compare(
        &mut found,
        "pod template of",
        [&before.owners, &after.owners],
        rollout,
        |one| {
            let (template, seconds, deadline, strategy) = rollout(one);
            let rollout = (seconds, deadline, strategy);
            let name = one.object_name();
            format!("{} {name} {template:?} {rollout:?}", one.kind)
        },
    );
    let has_sidecar = |one: &Object<Pod>| {
        let annotations = &one.metadata.annotations;
        annotations.get("sidecar.istio.io/status").is_some()
    };
    compare(
        &mut found,
        "Pod",
        [&before.pods, &after.pods],
        has_sidecar,
        |one| {
            let mode = if has_sidecar(one) { "with" } else { "without" };
            format!("{} {mode} sidecar", one.object_name())
        },
    );
    let kinds: BTreeSet<Kind> = before
        .resources
        .keys()
        .chain(after.resources.keys())
        .copied()
        .collect();
    for kind in kinds {
        compare(
            &mut found,
            "object",
            [before.resources(kind), after.resources(kind)],
            |one| &one.body["spec"],
            |one| {
                let spec = &one.body["spec"];
                format!("{} {} {spec}", kind.row().name, one.object_name())
            },
        );
    }
    found
}

/// Names what is in one of two sorted lists only, or differs; `part` is what is looked at besides the
/// name, `words` tell both.
fn compare<'o, T, P: PartialEq>(
    found: &mut Vec<String>,
    what: &str,
    [before, after]: [&'o [Object<T>]; 2],
    part: impl Fn(&'o Object<T>) -> P,
    words: impl Fn(&'o Object<T>) -> String,
) {
    let alike = |(one, other): (&'o Object<T>, &'o Object<T>)| {
        one.kind == other.kind
            && one.metadata.name == other.metadata.name
            && one.metadata.namespace == other.metadata.namespace
            && part(one) == part(other)
    };
    if before.len() == after.len() && before.iter().zip(after).all(alike) {
        return;
    }
    let told = |list: &'o [Object<T>]| list.iter().map(&words).collect::<BTreeSet<String>>();
    let (left, right) = (told(before), told(after));
    let missing = left.difference(&right);
    found.extend(missing.map(|one| format!("{what} {one} is not restored")));
    let added = right.difference(&left);
    found.extend(added.map(|one| format!("{what} {one} is left over")));
}
