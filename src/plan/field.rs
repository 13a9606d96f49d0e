//! The state of the mesh while a plan is played: commands change it, controllers act, proofs look.
//!
//! In: the snapshot found, commands and manifests of steps. Out: the snapshot after them, and proved
//! states. Invariant: only the written commands and files change it.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::both::{with_ambient_generations, with_labelled_generations};
use super::moves::TEMPLATE_LABELS;
use super::proof;
use super::wave::{Files, State, Step, WayBack};
use crate::mesh::{Mesh, MeshOverrides};
use crate::phases::MigrateOptions;
use crate::prove::prover::Prover;
use crate::simulate::controllers::{act, settle};
use crate::simulate::{Command, command, execute};
use crate::snapshot::{Kind, ObjectName, Snapshot};

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
        run(
            &mut self.snapshot,
            steps.iter().flat_map(|step| &step.run),
            files,
        )?;
        self.mesh = OnceCell::new();
        let mesh = self.mesh();
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
) -> Result<(), String> {
    let lines: Vec<&String> = lines.collect();
    let commands: Vec<Command> = lines
        .iter()
        .map(|line| command::parse_line(line).map_err(|reason| format!("`{line}`: {reason}")))
        .collect::<Result<_, _>>()?;
    execute(snapshot, &commands, files)
        .map_err(|(position, error)| format!("`{}`: {error}", lines[position]))
}

/// Plays the way back of a wave from the state after it and compares with the state before it.
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
    settle(&mut back);
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
    let mut compare = |what: &str, left: Vec<String>, right: Vec<String>| {
        let (left, right): (BTreeSet<String>, BTreeSet<String>) =
            (left.into_iter().collect(), right.into_iter().collect());
        found.extend(
            left.difference(&right)
                .map(|one| format!("{what} {one} is not restored")),
        );
        found.extend(
            right
                .difference(&left)
                .map(|one| format!("{what} {one} is left over")),
        );
    };
    let namespaces = |snapshot: &Snapshot| {
        let list = snapshot.namespaces.iter();
        list.map(|one| format!("{} {:?}", one.metadata.name, one.metadata.labels))
            .collect::<Vec<_>>()
    };
    compare("namespace", namespaces(before), namespaces(after));
    let services = |snapshot: &Snapshot| {
        let list = snapshot.services.iter();
        list.map(|one| format!("{} {:?}", one.object_name(), one.metadata.labels))
            .collect::<Vec<_>>()
    };
    compare("Service", services(before), services(after));
    let owners = |snapshot: &Snapshot| {
        let list = snapshot.owners.iter();
        list.map(|one| {
            let template = one
                .body
                .template()
                .map(|template| &template.metadata.labels);
            let spec = &one.body.spec;
            let rollout = (
                spec.min_ready_seconds,
                spec.progress_deadline_seconds,
                &spec.strategy,
            );
            format!(
                "{} {} {template:?} {rollout:?}",
                one.kind,
                one.object_name()
            )
        })
        .collect::<Vec<_>>()
    };
    compare("pod template of", owners(before), owners(after));
    let pods = |snapshot: &Snapshot| {
        let list = snapshot.pods.iter();
        list.map(|one| {
            let sidecar = one
                .metadata
                .annotations
                .get("sidecar.istio.io/status")
                .is_some();
            let mode = if sidecar { "with" } else { "without" };
            format!("{} {mode} sidecar", one.object_name())
        })
        .collect::<Vec<_>>()
    };
    compare("Pod", pods(before), pods(after));
    let resources = |snapshot: &Snapshot| {
        let lists = snapshot.resources.iter();
        lists
            .flat_map(|(kind, list)| list.iter().map(move |one| (*kind, one)))
            .map(|(kind, one): (Kind, _)| {
                format!(
                    "{} {} {}",
                    kind.row().name,
                    one.object_name(),
                    one.body["spec"]
                )
            })
            .collect::<Vec<_>>()
    };
    compare("object", resources(before), resources(after));
    found
}
