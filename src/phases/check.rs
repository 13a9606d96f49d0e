//! What a check is, and what it is given.
//!
//! Invariant: a check whose needed kinds were not readable does not run; its result says why.

use std::cell::OnceCell;

use crate::convert::{self, Conversion};
use crate::finding::{CheckOutcome, CheckResult, Code, Finding, Level, Phase};
use crate::mesh::{DataPlaneMode, Mesh};
use crate::needs::{self, Choice, WaypointNeeds};
use crate::phases::MigrateOptions;
use crate::snapshot::{Kind, Snapshot};

/// Everything a check may look at.
pub struct Context<'a> {
    /// The model.
    pub mesh: &'a Mesh,
    /// The snapshot behind it, for copying objects only.
    pub snapshot: &'a Snapshot,
    /// The user's choices.
    pub options: &'a MigrateOptions,
    /// Computed when first asked for.
    needs: OnceCell<WaypointNeeds>,
    /// Computed when first asked for.
    conversion: OnceCell<Conversion>,
}

impl<'a> Context<'a> {
    /// What checks look at.
    pub fn new(mesh: &'a Mesh, snapshot: &'a Snapshot, options: &'a MigrateOptions) -> Self {
        Self {
            mesh,
            snapshot,
            options,
            needs: OnceCell::new(),
            conversion: OnceCell::new(),
        }
    }

    /// What the user chose that bears on waypoints and policies.
    pub fn choice(&self) -> Choice<'a> {
        Choice {
            chosen_waypoints: &self.options.chosen_waypoints,
            namespaces: &self.options.namespaces,
            enterprise: self.options.enterprise,
        }
    }

    /// Whether any application still has a sidecar: what only sidecars honour is lost with the last.
    pub fn has_sidecars(&self) -> bool {
        self.mesh
            .workloads
            .iter()
            .any(|one| one.is_mesh_application() && one.has_mode(DataPlaneMode::Sidecar))
    }

    /// Which Services need a waypoint.
    pub fn needs(&self) -> &WaypointNeeds {
        self.needs
            .get_or_init(|| needs::waypoint_needs(self.mesh, &self.choice()))
    }

    /// Which policies are copied to waypoints, and what cannot be.
    pub fn conversion(&self) -> &Conversion {
        self.conversion
            .get_or_init(|| convert::convert(self.mesh, self.needs(), &self.choice()))
    }
}

/// One check.
pub struct Check {
    /// Stable code: `CAST0101`. The first two digits are the phase.
    pub code: Code,
    /// Name as printed (`Istio version compatibility`); empty for checks that print only findings.
    pub name: &'static str,
    /// Phase.
    pub phase: Phase,
    /// Kinds without which nothing can be said: not readable or not given means "could not check".
    pub needs: &'static [Kind],
    /// Kinds it also looks at: not readable means "could not check", not given means none.
    pub reads: &'static [Kind],
    /// The check's own source file (`include_str!`): its header is the explanation.
    pub source: &'static str,
    /// What it finds. Pure.
    pub find: fn(&Context<'_>) -> Vec<Finding>,
}

/// The headings that every check's explanation has, in this order.
pub const EXPLANATION_HEADINGS: [&str; 4] = [
    "## What it finds",
    "## Why it matters",
    "## How to fix it",
    "## Since and source",
];

impl Check {
    /// The explanation for users, as Markdown: the header of the check's own file.
    pub fn explanation(&self) -> String {
        let mut text = String::new();
        for line in self.source.lines() {
            let Some(line) = line.strip_prefix("//!") else {
                break;
            };
            text.push_str(line.strip_prefix(' ').unwrap_or(line));
            text.push('\n');
        }
        text
    }

    /// Runs the check, or says why it cannot. What [`Level::Undecided`] findings say becomes the
    /// reason why nothing could be checked, unless there are errors: then it stays as a warning.
    ///
    /// Where a kind was read in some namespaces only, checks of single namespaces run on those and
    /// still say what is missing; what they take for an error may lie outside and is undecided.
    pub fn run(&self, context: &Context<'_>) -> CheckResult {
        let mut missing = self.missing_inputs(context);
        let partly = !missing.is_empty() && self.can_run_on_a_part(context);
        let mut findings = if missing.is_empty() || partly {
            (self.find)(context)
        } else {
            Vec::new()
        };
        if partly {
            for finding in &mut findings {
                if finding.level == Level::Error {
                    finding.level = Level::Undecided;
                }
            }
        }
        let has =
            |findings: &[Finding], level| findings.iter().any(|finding| finding.level == level);
        let failed = has(&findings, Level::Error);
        if failed {
            for finding in &mut findings {
                if finding.level == Level::Undecided {
                    finding.level = Level::Warning;
                }
            }
        } else {
            missing.extend(
                findings
                    .extract_if(.., |finding| finding.level == Level::Undecided)
                    .map(|finding| finding.message),
            );
        }
        let outcome = if failed {
            CheckOutcome::Failed
        } else if !missing.is_empty() {
            CheckOutcome::CouldNotCheck(missing)
        } else if has(&findings, Level::Warning) {
            CheckOutcome::Warned
        } else {
            CheckOutcome::Passed
        };
        CheckResult {
            code: self.code,
            name: self.name,
            outcome,
            findings,
        }
    }

    /// Whether a gap of this kind keeps the check from being made: it looks at the kind, or at
    /// what the model makes of it. Workloads are pods put together by owners and predicted by
    /// injectors; what stands behind a Service is told by EndpointSlices, too.
    pub fn rests_on(&self, kind: Kind) -> bool {
        let looks_at = |kind: Kind| self.needs.contains(&kind) || self.reads.contains(&kind);
        looks_at(kind)
            || match kind {
                Kind::Deployment
                | Kind::ReplicaSet
                | Kind::StatefulSet
                | Kind::Job
                | Kind::CronJob
                | Kind::Rollout
                | Kind::MutatingWebhookConfiguration => looks_at(Kind::Pod),
                Kind::EndpointSlice => looks_at(Kind::Service),
                _ => false,
            }
    }

    /// Cluster-wide phases need all of a kind; so do those that delete and move things.
    fn can_run_on_a_part(&self, context: &Context<'_>) -> bool {
        let gaps = &context.mesh.gaps;
        let seen = &context.mesh.seen_kinds;
        (Phase::DeployWaypoints..=Phase::UseWaypoints).contains(&self.phase)
            && self.needs.iter().all(|kind| seen.contains(kind))
            && gaps
                .iter()
                .filter(|gap| self.rests_on(gap.kind))
                .all(|gap| !gap.except.is_empty())
    }

    fn missing_inputs(&self, context: &Context<'_>) -> Vec<String> {
        let mesh = context.mesh;
        let gaps = mesh
            .gaps
            .iter()
            .filter(|gap| self.rests_on(gap.kind))
            .map(|gap| match &gap.namespace {
                Some(namespace) => format!(
                    "{} in namespace {namespace}: {}",
                    gap.kind.resource(),
                    gap.reason
                ),
                None => format!("{}: {}", gap.kind.resource(), gap.reason),
            });
        let unseen = self
            .needs
            .iter()
            .filter(|kind| {
                !mesh.seen_kinds.contains(kind) && !mesh.gaps.iter().any(|gap| gap.kind == **kind)
            })
            .map(|kind| format!("{}: not among the input", kind.resource()));
        gaps.chain(unseen).collect()
    }
}
