//! A wave of moves on trial: its states proved, before anything of it is in the plan.
//!
//! In: the field before it, who moves, and who differs already. Out: the wave with its states and the field
//! after it, where the user tolerates what it opens or breaks. Invariant: a wave given back was played to its
//! end, and every one of its states proved.

use std::collections::{BTreeMap, BTreeSet};

use super::field::Field;
use super::forward::OnGap;
use super::wave::{Files, Gap, Wave, WayBack};
use super::{lock, moves, proof};
use crate::mesh::{DataPlaneMode, Mesh, WorkloadId};
use crate::phases::wording;
use crate::prove::past::{Past, Pasts};
use crate::prove::row::PortAnswer;
use crate::snapshot::ObjectName;

/// Who differs from the baseline already, and how.
pub(super) type KnownGaps = BTreeSet<(ObjectName, &'static str)>;

/// What a wave is tried upon.
pub(super) struct Trial<'t, 'a> {
    pub(super) field: &'t Field<'a>,
    pub(super) known: &'t KnownGaps,
    pub(super) on_gap: OnGap,
}

impl<'a> Trial<'_, 'a> {
    fn goes(&self, wave: &Wave) -> bool {
        self.on_gap.tolerates(&new_gaps(wave, self.known))
    }

    /// A wave that moves these, and the field after it where it goes. The state with old and new pods side by
    /// side holds every caller and server that the state after it has: where it fails, nothing is played.
    pub(super) fn side_by_side(
        &self,
        moving: &BTreeSet<ObjectName>,
        circle: bool,
    ) -> Result<(Wave, Option<Field<'a>>), String> {
        let why = if circle {
            "They call one another, so that none can move before the other."
        } else {
            "Every caller for whom the way around a waypoint would matter has moved before."
        };
        let mut wave = move_wave(moving, why);
        let when = "while old and new pods run side by side";
        wave.states.push(self.field.mixed(moving, when));
        if !self.goes(&wave) {
            return Ok((wave, None));
        }
        let mesh = self.field.mesh();
        wave.steps = moves::steps(&mesh, moving, &staying(&mesh, moving), false);
        let mut after = self.field.clone();
        after.advance(&wave.steps, &wave.manifests)?;
        wave.states
            .push(after.at_rest("after the last pod is replaced"));
        let goes = self.goes(&wave).then_some(after);
        Ok((wave, goes))
    }

    /// The same with policies that close what would open: while the wave lasts or, where it would be open
    /// without them, for good. `None` where there are none, or where that has gaps too.
    pub(super) fn locked(
        &self,
        moving: &BTreeSet<ObjectName>,
        openings: &lock::Openings,
    ) -> Result<Option<(Wave, Field<'a>)>, String> {
        let mesh = self.field.mesh();
        let Some(locks) = lock::locks(&mesh, openings, moving, false) else {
            return Ok(None);
        };
        let mut wave = move_wave(moving, "");
        wave.why = locks.why;
        wave.manifests = locks.files;
        wave.steps.push(locks.close);
        // What is for new pods alone selects them by a label of their template.
        let for_new_pods = locks.open.is_some();
        let mut locked = self.field.clone();
        locked.advance(&wave.steps, &wave.manifests)?;
        let [mixed, closed] = locks.closed;
        let when = format!("while old and new pods run side by side, {mixed}");
        wave.states.push(if for_new_pods {
            locked.mixed_by_template(moving, when)
        } else {
            locked.mixed(moving, when)
        });
        if !self.goes(&wave) {
            return Ok(None);
        }
        let staying = staying(&mesh, moving);
        wave.steps
            .extend(moves::steps(&mesh, moving, &staying, for_new_pods));
        locked.advance(&wave.steps[1..], &wave.manifests)?;
        wave.states
            .push(locked.at_rest(format!("after the last pod is replaced, {closed}")));
        if !self.goes(&wave) {
            return Ok(None);
        }
        let Some(open) = locks.open else {
            return Ok(Some((wave, locked)));
        };
        let mut opened = locked.clone();
        opened.advance(std::slice::from_ref(&open), &wave.manifests)?;
        wave.states
            .push(opened.at_rest("after these policies are gone again"));
        if self.goes(&wave) {
            wave.temporary = wave.manifests.keys().cloned().collect();
            wave.steps.push(open);
            return Ok(Some((wave, opened)));
        }
        wave.states.pop();
        // The same policies, which say of themselves that they stay.
        let Some(locks) = lock::locks(&mesh, openings, moving, true) else {
            return Ok(None);
        };
        wave.why = locks.why;
        wave.manifests = locks.files;
        wave.steps[0] = locks.close;
        let mut locked = self.field.clone();
        locked.advance(&wave.steps, &wave.manifests)?;
        Ok(Some((wave, locked)))
    }
}

/// The gaps of a wave that were not there before it.
pub(super) fn new_gaps(wave: &Wave, known: &KnownGaps) -> Vec<Gap> {
    let mut gaps = proof::gaps(std::slice::from_ref(wave));
    gaps.retain(|gap| !known.contains(&(gap.server.clone(), gap.direction)));
    gaps
}

/// Who of those whose calls went past their sidecars is let in or cut off for his own move alone, whatever the
/// servers do; each with the gap that shows it.
pub(super) fn by_own_move(
    wave: &Wave,
    gaps: &[Gap],
    mesh: &Mesh,
    moving: &BTreeSet<ObjectName>,
) -> BTreeMap<ObjectName, Gap> {
    let mut by_principal: BTreeMap<&str, Gap> = BTreeMap::new();
    for row in wave.states.iter().flat_map(|state| state.witnessed()) {
        let answers = row.differences.iter();
        for (principal, direction, lines) in answers.flat_map(PortAnswer::by_own_move) {
            let same = |gap: &&Gap| gap.server == row.server && gap.direction == direction;
            if let Some(gap) = gaps.iter().find(same) {
                let gap = Gap {
                    lines,
                    ..gap.clone()
                };
                by_principal.entry(principal).or_insert(gap);
            }
        }
    }
    let pasts = Pasts::of(mesh);
    let went_past = |id: WorkloadId| {
        let mut generations = 0..mesh.workload(id).generations.len();
        generations.any(|generation| pasts.past((id, generation)) != Past::default())
    };
    mesh.workload_ids()
        .filter(|id| moving.contains(&mesh.workload(*id).name) && went_past(*id))
        .filter_map(|id| {
            let workload = mesh.workload(id);
            let principal = workload.principal(&mesh.settings.trust_domain);
            let gap = by_principal.get(principal.as_str())?;
            Some((workload.name.clone(), gap.clone()))
        })
        .collect()
}

/// Servers that somebody gains.
pub(super) fn opening(gaps: &[Gap]) -> BTreeSet<ObjectName> {
    let opens = gaps.iter().filter(|gap| gap.direction == "opens");
    opens.map(|gap| gap.server.clone()).collect()
}

/// A wave for these workloads, without steps.
pub(super) fn move_wave(moving: &BTreeSet<ObjectName>, why: &str) -> Wave {
    let namespaces: BTreeSet<&str> = moving.iter().map(|name| name.namespace.as_str()).collect();
    let names: Vec<String> = namespaces.into_iter().map(str::to_owned).collect();
    let (slug, noun) = match names.as_slice() {
        [only] => (only.as_str(), "namespace"),
        _ => ("several", "namespaces"),
    };
    Wave {
        slug: format!("move-{slug}"),
        title: format!(
            "Move {} of {noun} {} to ambient mode",
            wording::count(moving.len(), "workload"),
            wording::first_few(&names, 5),
        ),
        affected: moving.iter().cloned().collect(),
        why: vec![why.to_owned()],
        steps: Vec::new(),
        manifests: Files::new(),
        temporary: BTreeSet::new(),
        saved: Files::new(),
        edits: Vec::new(),
        states: Vec::new(),
        way_back: WayBack::NotPlayed("not played yet".to_owned()),
    }
}

/// Workloads that keep a sidecar, or would get one, when these have moved.
fn staying(mesh: &Mesh, moving: &BTreeSet<ObjectName>) -> BTreeSet<ObjectName> {
    mesh.workloads
        .iter()
        .filter(|workload| {
            workload.has_mode(DataPlaneMode::Sidecar)
                || workload.next_mode == DataPlaneMode::Sidecar
        })
        .map(|workload| workload.name.clone())
        .filter(|name| !moving.contains(name))
        .collect()
}
