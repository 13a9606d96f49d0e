//! The whole migration played forward, wave by wave, each state proved.
//!
//! In: the snapshot found. Out: a [`Plan`]. Invariant: a wave is in the plan only when none of its
//! states opens or breaks anything that the one before did not, unless the user accepts gaps; what
//! cannot move so keeps its sidecar and says why.

use std::borrow::Cow;
use std::collections::BTreeSet;

use castoff_authz::verdict::Limits;

use super::attempt::{KnownGaps, Trial, by_own_move, move_wave, new_gaps, opening};
use super::edges::edges;
use super::field::{Field, way_back};
use super::held::held;
use super::sift::sift;
use super::traffic::CallGraph;
use super::wave::{Files, Gap, Held, Plan, PlanEnding, State, Step, Wave};
use super::{cleanup, edits, gaps, lock, moves, order, pinning, prepare, proof, remains, ways_out};
use crate::finding::PhaseOutcome;
use crate::mesh::{Distribution, Mesh, MeshOverrides};
use crate::phases::{MigrateOptions, wording};
use crate::prove::prover::{self, Prover};
use crate::prove::rows::Seen;
use crate::snapshot::{ObjectName, Snapshot};

/// What to do where no order is without a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnGap {
    /// Leave the workloads concerned in their sidecars and say why.
    #[default]
    Stop,
    /// Close what would open by policies that are deleted when the wave is over.
    Deny,
    /// Go on and say what is open or broken, and how long.
    Accept,
}

impl OnGap {
    /// Whether the user lets these gaps be.
    pub(super) fn tolerates(self, gaps: &[Gap]) -> bool {
        match self {
            Self::Stop => gaps.is_empty(),
            Self::Deny => opening(gaps).is_empty(),
            Self::Accept => true,
        }
    }
}

/// What a user chose for `plan`.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// As for `migrate`; namespaces, chosen waypoints and the like.
    pub migrate: MigrateOptions,
    /// Where no order is without a gap.
    pub on_gap: OnGap,
    /// Who was seen calling whom; `None`: whom the policies allow.
    pub calls: Option<CallGraph>,
}

/// More waves of preparation than this mean that two phases undo each other.
const MOST_PREPARATIONS: usize = 12;

/// Plans the migration from `found`; every state is compared with `baseline`.
pub fn plan(
    baseline: &Snapshot,
    found: Snapshot,
    overrides: &MeshOverrides,
    options: &PlanOptions,
) -> Plan {
    let baseline = Mesh::build(baseline, overrides);
    let seen = (options.calls.as_ref())
        .map(|calls| |caller: &ObjectName, server: &ObjectName| calls.saw(caller, server));
    let seen = seen.as_ref().map(|seen| seen as Seen<'_>);
    let prover = Prover::new(&baseline, Limits::default()).for_callers_seen(seen);
    let mut player = Player::new(&prover, found, overrides, options);
    if let Err(ending) = player.play() {
        player.plan.ending = ending;
    }
    let end = player.field.mesh();
    let mut plan = player.plan;
    ways_out::add(&mut plan.held, &player.field);
    if options.calls.is_none() {
        ways_out::add_telemetry(&mut plan.held);
    }
    if let Some(state) = plan
        .waves
        .last_mut()
        .and_then(|wave| wave.states.last_mut())
    {
        state.notes.extend(prover::notes(&prover.noted(&end)));
    }
    plan.gaps = gaps::listed(player.start.as_ref(), &plan.waves);
    plan.remains = remains::sentences(&end, &options.migrate.namespaces, &plan.waves);
    plan
}

/// The next moves that are proved, from a state with waypoints in use, and what cannot move at all.
pub(super) fn next_moves(
    prover: &Prover<'_>,
    found: &Snapshot,
    overrides: &MeshOverrides,
    options: &PlanOptions,
) -> NextMoves {
    let mut player = Player::new(prover, found.clone(), overrides, options);
    player.stops_after_one = true;
    match player.move_workloads() {
        Ok(()) => {
            let mut held = std::mem::take(&mut player.plan.held);
            ways_out::add(&mut held, &player.field);
            let mut next = NextMoves {
                held,
                ..NextMoves::default()
            };
            for wave in player.plan.waves {
                next.steps.extend(wave.steps);
                next.manifests.extend(wave.manifests);
            }
            next
        }
        // What cannot be played cannot be proved: nothing moves.
        Err(_) => NextMoves::default(),
    }
}

/// See [`next_moves`].
#[derive(Debug, Default)]
pub(super) struct NextMoves {
    pub(super) steps: Vec<Step>,
    pub(super) manifests: Files,
    pub(super) held: Vec<Held>,
}

struct Player<'a> {
    field: Field<'a>,
    options: &'a PlanOptions,
    plan: Plan,
    /// Whether to stop when a wave has moved.
    stops_after_one: bool,
    /// Who cannot move before one another.
    circles: Vec<BTreeSet<ObjectName>>,
    /// The state before the first wave.
    start: Option<State>,
}

impl<'a> Player<'a> {
    fn new(
        prover: &'a Prover<'a>,
        found: Snapshot,
        overrides: &'a MeshOverrides,
        options: &'a PlanOptions,
    ) -> Self {
        Self {
            field: Field::new(found, prover, overrides, &options.migrate),
            options,
            plan: Plan {
                waves: Vec::new(),
                ending: PlanEnding::Done,
                held: Vec::new(),
                left_out: Vec::new(),
                gaps: Vec::new(),
                ends_with_sidecars: Vec::new(),
                unsettled: Vec::new(),
                assumptions: Vec::new(),
                namespaces: options.migrate.namespaces.clone(),
                remains: Vec::new(),
                servers: prover
                    .baseline()
                    .workloads
                    .iter()
                    .filter(|workload| workload.is_mesh_application())
                    .count(),
            },
            stops_after_one: false,
            circles: Vec::new(),
            start: None,
        }
    }

    fn play(&mut self) -> Result<(), PlanEnding> {
        let mesh = self.field.mesh();
        self.assume(&mesh);
        let results = prepare::prerequisites(&self.field);
        if results
            .iter()
            .any(|result| result.outcome != PhaseOutcome::Succeeded)
        {
            return Err(PlanEnding::NotReady(results));
        }
        self.start = Some(self.field.at_rest("before the first wave"));
        self.prepare()?;
        self.plan.ends_with_sidecars = prepare::ends_with_sidecars(&self.field);
        self.plan.unsettled = prepare::unsettled(&self.field);
        let solo = mesh.distribution == Distribution::Solo;
        if solo {
            self.clean_up()?;
        }
        self.move_workloads()?;
        self.label_namespaces()?;
        if !mesh.request_authentications.is_empty() {
            // Tokens are passed on for the time of moving only; and what was left out may go now.
            self.plan.left_out.clear();
            self.prepare()?;
        }
        self.clean_up()?;
        if !(self.plan.held.is_empty() && self.plan.left_out.is_empty()) {
            self.plan.ending = PlanEnding::Partial;
        }
        Ok(())
    }

    /// Says what the proof rests on beyond what was read.
    fn assume(&mut self, mesh: &Mesh) {
        if mesh.distribution == Distribution::Solo {
            self.plan.assumptions.push(
                "sidecars of Solo's builds route like ztunnel, through waypoints: their source is not public, so this \
                 is taken from its documentation"
                    .to_owned(),
            );
        }
        if self.options.calls.is_some() {
            self.plan.assumptions.push(
                "who calls whom is what telemetry saw: a caller that was silent while it was recorded may have to move \
                 earlier"
                    .to_owned(),
            );
        }
    }

    /// Waypoints, policies, labels; what opens or breaks something is left out.
    fn prepare(&mut self) -> Result<(), PlanEnding> {
        let mut left_out = BTreeSet::new();
        for _ in 0..MOST_PREPARATIONS {
            let Some(result) = prepare::next(&self.field, &left_out) else {
                return Ok(());
            };
            let known = self.known_gaps();
            let gap = |wave: &Wave| {
                let gaps = new_gaps(wave, &known);
                let tolerated = self.options.on_gap.tolerates(&gaps);
                gaps.into_iter().next().filter(|_| !tolerated)
            };
            let sifted =
                sift(&self.field, &result, &mut left_out, &gap).map_err(PlanEnding::Failed)?;
            self.plan.left_out.extend(sifted.left_out);
            let Some((mut wave, after)) = sifted.kept else {
                continue;
            };
            let (before, now) = (self.field.mesh(), after.mesh());
            let waits = prepare::waits_for_binding(&before, &now);
            let waits_back = prepare::waits_for_binding(&now, &before);
            if let Some(last) = wave.steps.last_mut() {
                last.settled.extend(waits);
                last.undo_settled.extend(waits_back);
            }
            wave.affected = prepare::newly_bound(&before, &now);
            self.push(wave, after);
        }
        Err(PlanEnding::Failed(
            "waypoints, policies and labels did not come to an end: two recommendations undo each other".to_owned(),
        ))
    }

    /// Adds a wave that was played and proved.
    fn push(&mut self, mut wave: Wave, after: Field<'a>) {
        let before = std::mem::replace(&mut self.field, after);
        complete(&self.field, &mut wave, before.snapshot());
        self.plan.waves.push(wave);
    }

    /// Labels namespaces last of all where everybody moved by pod template.
    fn label_namespaces(&mut self) -> Result<(), PlanEnding> {
        let mesh = self.field.mesh();
        let kept = moves::kept_labels(&mesh, |namespace| self.includes(namespace));
        self.plan.assumptions.extend(kept);
        let steps = moves::late_labels(&mesh, |namespace| self.includes(namespace));
        if steps.is_empty() {
            return Ok(());
        }
        let mut wave = move_wave(
            &BTreeSet::new(),
            "Nothing in these namespaces keeps a sidecar.",
        );
        wave.slug = "label-namespaces".to_owned();
        wave.title = format!(
            "Label {} whose workloads have moved",
            wording::count(steps.len(), "namespace")
        );
        wave.steps = steps;
        let mut after = self.field.clone();
        after
            .advance(&wave.steps, &wave.manifests)
            .map_err(PlanEnding::Failed)?;
        wave.states.push(after.at_rest("after the last label"));
        if self
            .options
            .on_gap
            .tolerates(&new_gaps(&wave, &self.known_gaps()))
        {
            self.push(wave, after);
        }
        Ok(())
    }

    fn includes(&self, namespace: &str) -> bool {
        let chosen = &self.options.migrate.namespaces;
        chosen.is_empty() || chosen.contains(namespace)
    }

    fn move_workloads(&mut self) -> Result<(), PlanEnding> {
        let mesh = self.field.mesh();
        let includes = |namespace: &str| self.includes(namespace);
        let (mut movable, held) = moves::movable(&mesh, includes);
        self.plan.held.extend(held);
        let seen = |caller: &ObjectName, server: &ObjectName| {
            let calls = self.options.calls.as_ref();
            calls.is_none_or(|calls| calls.saw(caller, server))
        };
        let found = edges(
            self.field.prover.baseline(),
            &mesh,
            &seen,
            self.field.prover.limits(),
        );
        let waves = order::order(&movable, &found).waves;
        let circles = waves.iter().filter(|wave| wave.circle);
        self.circles = circles
            .map(|wave| wave.workloads.iter().cloned().collect())
            .collect();
        for wave in &waves {
            let names = wave.workloads.iter();
            let moving = names
                .filter(|name| movable.contains(*name))
                .cloned()
                .collect();
            let moved = self.move_together(moving, wave.circle, OnGap::Stop)?;
            if self.stops_after_one && !moved.is_empty() {
                break;
            }
            movable.retain(|name| !moved.contains(name));
        }
        self.try_again()?;
        self.move_with_gaps(&waves)
    }

    /// Moves in their order those for whom there is no way without a gap, where the user lets that be.
    fn move_with_gaps(&mut self, waves: &[order::Wave]) -> Result<(), PlanEnding> {
        if self.options.on_gap == OnGap::Stop {
            return Ok(());
        }
        for wave in waves {
            let (moving, rest): (Vec<Held>, Vec<Held>) = std::mem::take(&mut self.plan.held)
                .into_iter()
                .partition(|held| {
                    !held.lines.is_empty() && wave.workloads.contains(&held.workload)
                });
            self.plan.held = rest;
            let moving = moving.into_iter().map(|held| held.workload).collect();
            self.move_together(moving, wave.circle, self.options.on_gap)?;
        }
        Ok(())
    }

    /// What was held by a proof may move once others have: a policy that closes the way around a
    /// waypoint is harmless when every caller comes through it.
    fn try_again(&mut self) -> Result<(), PlanEnding> {
        loop {
            let (witnessed, rest): (Vec<Held>, Vec<Held>) = std::mem::take(&mut self.plan.held)
                .into_iter()
                .partition(|held| !held.lines.is_empty());
            self.plan.held = rest;
            let moving: BTreeSet<ObjectName> =
                witnessed.iter().map(|held| held.workload.clone()).collect();
            let enough = self.stops_after_one && !self.plan.waves.is_empty();
            if moving.is_empty() || enough {
                self.plan.held.extend(witnessed);
                return Ok(());
            }
            let circle = moving.len() > 1;
            let waves = self.plan.waves.len();
            self.move_together(moving, circle, OnGap::Stop)?;
            if self.plan.waves.len() == waves {
                return Ok(());
            }
        }
    }

    /// Moves as many of these as can be moved without a gap; returns who moved.
    fn move_together(
        &mut self,
        mut moving: BTreeSet<ObjectName>,
        circle: bool,
        on_gap: OnGap,
    ) -> Result<BTreeSet<ObjectName>, PlanEnding> {
        let known = self.known_gaps();
        let mut no_pin = None;
        let mut first = circle;
        while !moving.is_empty() {
            let trial = Trial {
                field: &self.field,
                known: &known,
                on_gap,
            };
            let tried = trial.side_by_side(&moving, circle);
            let (mut wave, mut goes) = tried.map_err(PlanEnding::Failed)?;
            let gaps = new_gaps(&wave, &known);
            if std::mem::take(&mut first) && !gaps.is_empty() {
                match pinning::attempt(&self.field, &moving).map_err(PlanEnding::Failed)? {
                    // Files and commands take turns there, and `migrate` has one of each.
                    Ok(_) if self.stops_after_one => {
                        no_pin = Some("`migrate` cannot, `castoff plan` tries".to_owned());
                    }
                    Ok((wave, after)) => match new_gaps(&wave, &known).first() {
                        None => {
                            self.plan.assumptions.push(pinning::assumption(&moving));
                            self.push(wave, after);
                            return Ok(moving);
                        }
                        Some(gap) => {
                            no_pin = Some(format!(
                                "with callers pinned it still {} {} {}",
                                gap.direction, gap.server, gap.from.1
                            ));
                        }
                    },
                    Err(why) => no_pin = Some(why),
                }
            }
            let opens = opening(&gaps);
            if goes.is_none() && !opens.is_empty() {
                let openings = lock::openings(&wave, &opens);
                let locked = trial.locked(&moving, &openings);
                if let Some((locked, after)) = locked.map_err(PlanEnding::Failed)? {
                    wave = locked;
                    goes = Some(after);
                }
            }
            if let Some(after) = goes {
                self.push(wave, after);
                return Ok(moving);
            }
            let callers = by_own_move(&wave, &gaps, &self.field.mesh(), &moving);
            if !callers.is_empty() {
                for (caller, gap) in callers {
                    self.plan.held.push(held(&caller, &[gap], &BTreeSet::new()));
                    moving.remove(&caller);
                }
                continue;
            }
            let culprits: BTreeSet<ObjectName> = gaps
                .iter()
                .map(|gap| gap.server.clone())
                .filter(|server| moving.contains(server))
                .collect();
            // Where a server that stays would be open or closed to those who move, nobody moves.
            let out = if culprits.is_empty() {
                moving.clone()
            } else {
                culprits
            };
            for workload in &out {
                let in_circle = self.circle_of(workload, &moving);
                let mut held = held(workload, &gaps, &in_circle);
                if let Some(why) = no_pin.as_ref().filter(|_| in_circle.len() > 1) {
                    held.why.push_str(&format!(
                        "; old and new pods cannot be kept apart while both run: {why}"
                    ));
                }
                self.plan.held.push(held);
            }
            moving.retain(|name| !out.contains(name));
        }
        Ok(BTreeSet::new())
    }

    /// Who of those who were to move stands in a circle with a workload.
    fn circle_of(
        &self,
        workload: &ObjectName,
        moving: &BTreeSet<ObjectName>,
    ) -> BTreeSet<ObjectName> {
        let mut circles = self.circles.iter();
        let own = circles.find(|circle| circle.contains(workload));
        own.map(|circle| circle & moving).unwrap_or_default()
    }

    /// Who differs from the baseline now, and how.
    fn known_gaps(&self) -> KnownGaps {
        let proved = self.plan.waves.last().and_then(|wave| wave.states.last());
        let now = match proved.or(self.start.as_ref()) {
            Some(state) => Cow::Borrowed(state),
            None => Cow::Owned(self.field.at_rest("")),
        };
        now.witnessed()
            .flat_map(|row| {
                let found = proof::witnesses(row).into_iter();
                found.map(|(direction, _)| (row.server.clone(), direction))
            })
            .collect()
    }

    fn clean_up(&mut self) -> Result<(), PlanEnding> {
        let (wave, stays) = cleanup::wave(&self.field);
        for ((kind, name), why) in stays {
            let text = format!("{}/{name} stays: {why}", kind.row().name);
            if !self.plan.assumptions.contains(&text) {
                self.plan.assumptions.push(text);
            }
        }
        let Some(mut wave) = wave else {
            return Ok(());
        };
        let mut after = self.field.clone();
        after
            .advance(&wave.steps, &wave.manifests)
            .map_err(PlanEnding::Failed)?;
        wave.states.push(after.at_rest("after the last deletion"));
        self.push(wave, after);
        Ok(())
    }
}

/// Adds to a wave that was carried out what changes the user's sources, and its way back.
fn complete(field: &Field<'_>, wave: &mut Wave, before: &Snapshot) {
    wave.edits = edits::edits(before, wave);
    let files: Files = wave
        .manifests
        .iter()
        .chain(&wave.saved)
        .map(|(name, content)| (name.clone(), content.clone()))
        .collect();
    wave.way_back = way_back(before, field.snapshot(), &wave.steps, &files);
}
