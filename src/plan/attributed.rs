//! Which recommendation of a phase changes whose access.
//!
//! In: the field before a phase, its [`Unit`]s, and the states of carrying all of them out. Out: a
//! [`Proof`] a unit. Invariant: only states that were played and proved count; where several units were
//! carried out in one go, each has what was found for all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::cleanup;
use super::field::Field;
use super::proof;
use super::units::{Together, Unit};
use super::wave::{Files, State, Step};
use crate::finding::{Differing, Phase, Proof, RowVerdict};
use crate::mesh::{DataPlaneMode, Mesh};
use crate::phases::remove_sidecars::switch::TEMPLATE_LABELS;
use crate::phases::wording;
use crate::prove::row::ServerRow;
use crate::snapshot::{Kind, ObjectName};
use castoff_authz::verdict::Finding;

/// Where nothing differs after a phase, its units are carried out one by one, too, if rows of at most so
/// many servers are to be asked for.
const ONE_BY_ONE: usize = 2_000;

/// Where something differs, rows of so many servers may be asked for to find out whose doing it is.
const MOST_ROWS: usize = 20_000;

/// Servers that one recommendation names.
const MOST_SERVERS: usize = 5;

/// Plays units in one go; the states that they lead through, and the field after them.
pub(super) fn play<'a>(
    field: &Field<'a>,
    phase: Phase,
    units: &[Unit],
    what: &str,
) -> Result<(Vec<State>, Field<'a>), String> {
    if units.is_empty() {
        return Ok((Vec::new(), field.clone()));
    }
    let (applied, after) = carried_out(field, units)?;
    let mut states = Vec::new();
    let moving = moved(&field.mesh(), &after.mesh());
    if !moving.is_empty() {
        let when = format!("while old and new pods run side by side, from {what}");
        let labels: &[_] = if say_for_themselves(&after.mesh(), &moving) {
            &TEMPLATE_LABELS
        } else {
            &[]
        };
        states.push(applied.mixed_into(&moving, labels, when));
    }
    if phase == Phase::PolicySimplification && units.len() > 1 {
        states.extend(cleanup::states_of(field, &deleted(units)));
    }
    states.push(after.at_rest(format!("after {what}")));
    Ok((states, after))
}

/// What units of phase policy-simplification delete.
fn deleted(units: &[Unit]) -> BTreeSet<(Kind, ObjectName)> {
    units.iter().filter_map(|unit| unit.about.clone()).collect()
}

/// The field after the files of units, and after their commands; nothing proved.
fn carried_out<'a>(field: &Field<'a>, units: &[Unit]) -> Result<(Field<'a>, Field<'a>), String> {
    let Together { files, apply, run } = Together::of(units);
    let applied = advanced(field, apply, &files)?;
    let after = advanced(&applied, run, &files)?;
    Ok((applied, after))
}

/// The field after commands, nothing proved.
fn advanced<'a>(field: &Field<'a>, run: Vec<String>, files: &Files) -> Result<Field<'a>, String> {
    let mut after = field.clone();
    if !run.is_empty() {
        let step = Step {
            run,
            ..Step::default()
        };
        after.advance(&[step], files)?;
    }
    Ok(after)
}

/// Whether the templates of all of these say how their new pods run: policies select those by it.
fn say_for_themselves(after: &Mesh, moving: &BTreeMap<ObjectName, DataPlaneMode>) -> bool {
    let mut moved = after
        .workloads
        .iter()
        .filter(|workload| moving.contains_key(&workload.name));
    moved.all(|workload| {
        let labels = &workload.template_labels;
        TEMPLATE_LABELS
            .iter()
            .all(|(key, value)| labels.has(key, value))
    })
}

/// Workloads with sidecars before that have none after, and how they run then.
fn moved(before: &Mesh, after: &Mesh) -> BTreeMap<ObjectName, DataPlaneMode> {
    let had: BTreeSet<&ObjectName> = before
        .workloads
        .iter()
        .filter(|workload| workload.has_mode(DataPlaneMode::Sidecar))
        .map(|workload| &workload.name)
        .collect();
    after
        .workloads
        .iter()
        .filter(|workload| {
            had.contains(&workload.name) && !workload.has_mode(DataPlaneMode::Sidecar)
        })
        .map(|workload| {
            let mode = if workload.has_mode(DataPlaneMode::Ambient) {
                DataPlaneMode::Ambient
            } else {
                DataPlaneMode::None
            };
            (workload.name.clone(), mode)
        })
        .collect()
}

/// Whether somebody who had a sidecar is in no mesh any more.
pub(super) fn leave_the_mesh(before: &Mesh, after: &Mesh) -> bool {
    let mut modes = moved(before, after).into_values();
    modes.any(|mode| mode == DataPlaneMode::None)
}

/// How many of the units can be carried out, one after the other, and why the next one cannot.
pub(super) fn playable(field: &Field<'_>, units: &[Unit]) -> (usize, String) {
    let (mut good, mut bad) = (0, units.len());
    let mut why = String::new();
    while good < bad {
        let middle = usize::midpoint(good, bad);
        match carried_out(field, &units[..=middle]) {
            Ok(_) => good = middle + 1,
            Err(reason) => {
                bad = middle;
                why = reason;
            }
        }
    }
    (good, why)
}

/// Finds out which unit changes whose access.
pub(super) struct Attribution {
    phase: Phase,
    servers: usize,
    /// Rows of servers that may still be asked for.
    left: usize,
    /// States in which a server differs that does not when all units are carried out.
    pub(super) between: Vec<State>,
}

/// A moment of rest, and the servers that differ then.
struct Moment<'f, 'a> {
    field: &'f Field<'a>,
    differing: &'f [ServerRow],
}

impl Attribution {
    pub(super) fn new(phase: Phase, servers: usize) -> Self {
        Self {
            phase,
            servers,
            left: MOST_ROWS,
            between: Vec::new(),
        }
    }

    /// A proof for each unit. `states` are those of carrying all of them out.
    pub(super) fn proofs(
        &mut self,
        field: &Field<'_>,
        before: &State,
        units: &[Unit],
        states: &[State],
    ) -> Vec<Proof> {
        let differing = &before.differing;
        let proofs = self.of(&Moment { field, differing }, units, states);
        let known = states.iter().flat_map(|state| &state.differing);
        let known: BTreeSet<(&ObjectName, RowVerdict)> =
            known.map(|row| (&row.server, row.verdict())).collect();
        self.between.retain(|state| {
            let mut new = news(differing, std::slice::from_ref(state)).into_iter();
            new.any(|row| !known.contains(&(&row.server, row.verdict())))
        });
        proofs
    }

    fn of(&mut self, at: &Moment<'_, '_>, units: &[Unit], states: &[State]) -> Vec<Proof> {
        if let [_] = units {
            return vec![found(at.differing, states, 0)];
        }
        let nothing_new = news(at.differing, states).is_empty();
        let deletes = self.phase == Phase::PolicySimplification;
        if nothing_new && deletes && cleanup::every_part(at.field, &deleted(units)) {
            return vec![found(at.differing, states, 0); units.len()];
        }
        let rows = units.len() * self.servers;
        if rows <= if nothing_new { ONE_BY_ONE } else { self.left } {
            self.left = self.left.saturating_sub(rows);
            return self.one_by_one(at, units);
        }
        let share = || vec![found(at.differing, states, units.len() - 1); units.len()];
        if nothing_new || 2 * self.servers > self.left {
            return share();
        }
        self.left -= 2 * self.servers;
        let (first, second) = units.split_at(units.len() / 2);
        let Ok((states, middle)) = self.play(at.field, first) else {
            return share();
        };
        let mut proofs = self.of(at, first, &states);
        let differing = rest(&states).to_vec();
        self.keep(states);
        let at = Moment {
            field: &middle,
            differing: &differing,
        };
        match self.play(&middle, second) {
            Ok((states, _)) => {
                proofs.extend(self.of(&at, second, &states));
                self.keep(states);
            }
            Err(reason) => proofs.extend(second.iter().map(|_| Proof::none(reason.clone()))),
        }
        proofs
    }

    fn keep(&mut self, states: Vec<State>) {
        let differ = states.into_iter().filter(|one| !one.differing.is_empty());
        self.between.extend(differ);
    }

    fn one_by_one(&mut self, at: &Moment<'_, '_>, units: &[Unit]) -> Vec<Proof> {
        let mut field = at.field.clone();
        let mut differing = at.differing.to_vec();
        let mut proofs = Vec::new();
        for unit in units {
            match self.play(&field, std::slice::from_ref(unit)) {
                Ok((states, after)) => {
                    proofs.push(found(&differing, &states, 0));
                    differing = rest(&states).to_vec();
                    self.keep(states);
                    field = after;
                }
                Err(reason) => {
                    proofs.resize(units.len(), Proof::none(reason));
                    break;
                }
            }
        }
        proofs
    }

    fn play<'a>(
        &self,
        field: &Field<'a>,
        units: &[Unit],
    ) -> Result<(Vec<State>, Field<'a>), String> {
        let what = match units {
            [one] => one.words.clone(),
            [one, others @ ..] => format!("{} and {} more", one.words, others.len()),
            [] => String::new(),
        };
        play(field, self.phase, units, &what)
    }
}

/// The servers that differ at rest, after the last of the states.
fn rest(states: &[State]) -> &[ServerRow] {
    states
        .last()
        .map_or(&[], |state| state.differing.as_slice())
}

/// Rows of the states that differ, and not as they did before.
fn news<'s>(before: &[ServerRow], states: &'s [State]) -> Vec<&'s ServerRow> {
    let known: BTreeMap<&ObjectName, &ServerRow> =
        before.iter().map(|row| (&row.server, row)).collect();
    let is_new = |row: &&ServerRow| {
        let known = known.get(&row.server);
        let was = |answer| known.is_some_and(|known| known.differences.contains(answer));
        !row.unmatched && !row.differences.iter().all(was)
    };
    let rows = states.iter().flat_map(|state| &state.differing);
    rows.filter(is_new).collect()
}

/// What the states that units lead through say of them.
fn found(before: &[ServerRow], states: &[State], together_with: usize) -> Proof {
    let mut servers: BTreeMap<&ObjectName, BTreeMap<&'static str, Vec<String>>> = BTreeMap::new();
    for row in news(before, states) {
        let directions = servers.entry(&row.server).or_default();
        for (direction, lines) in told(row) {
            directions.entry(direction).or_insert(lines);
        }
    }
    let last = rest(states);
    let already = last
        .iter()
        .filter(|row| !row.unmatched && !servers.contains_key(&row.server));
    let unmatched: Vec<String> = last
        .iter()
        .filter(|row| row.unmatched)
        .map(|row| row.server.to_string())
        .collect();
    let mut differing: Vec<Differing> = servers
        .iter()
        .map(|(server, directions)| Differing {
            server: (*server).clone(),
            before: before.iter().any(|row| row.server == **server),
            directions: directions.clone(),
        })
        .collect();
    differing.sort_by_key(|one| std::cmp::Reverse(one.verdict()));
    differing.truncate(MOST_SERVERS);
    Proof {
        differing,
        differing_servers: servers.len(),
        already_differing: already.count(),
        not_proved: (!unmatched.is_empty()).then(|| {
            format!(
                "not in the baseline, so that nothing is compared: {}",
                wording::first_few(&unmatched, MOST_SERVERS)
            )
        }),
        together_with,
    }
}

/// What is said of several units at one recommendation.
pub(super) fn joined(proofs: Vec<Proof>) -> Proof {
    let joined = proofs.into_iter().reduce(|mut one, other| {
        for differing in other.differing {
            let mut known = one.differing.iter_mut();
            match known.find(|known| known.server == differing.server) {
                Some(known) => {
                    for (direction, lines) in differing.directions {
                        known.directions.entry(direction).or_insert(lines);
                    }
                }
                None => one.differing.push(differing),
            }
        }
        let more = one.differing_servers.max(other.differing_servers);
        one.differing_servers = more.max(one.differing.len());
        one.already_differing = one.already_differing.max(other.already_differing);
        one.not_proved = one.not_proved.or(other.not_proved);
        one.together_with = one.together_with.max(other.together_with);
        one
    });
    let mut joined = joined.unwrap_or_default();
    joined
        .differing
        .sort_by_key(|one| std::cmp::Reverse(one.verdict()));
    joined.differing.truncate(MOST_SERVERS);
    joined
}

/// Directions of a row with their first witness, or the reason why it is not decided.
fn told(row: &ServerRow) -> Vec<(&'static str, Vec<String>)> {
    let mut found = proof::witnesses(row);
    if found.is_empty() {
        let answers = row.differences.iter();
        let mut findings = answers.flat_map(|answer| {
            let both = [&answer.verdict.opens, &answer.verdict.breaks];
            both.map(|finding| (answer, finding))
        });
        let open = findings.find(|(_, one)| matches!(one, Finding::Undecided(_) | Finding::Bug(_)));
        let lines = open.map(|(answer, finding)| answer.undecided_lines(finding));
        found.push(("undecided", lines.unwrap_or_default()));
    }
    found
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::super::units::Units;
    use super::*;
    use crate::finding::{
        CheckOutcome, CheckResult, Code, Finding, Level, PhaseOutcome, PhaseResult, Remedy,
    };
    use crate::mesh::MeshOverrides;
    use crate::phases::MigrateOptions;
    use crate::prove::prover::Prover;
    use castoff_authz::verdict::Limits;

    /// Verdicts of commands on the demo, taken for a mesh of so many servers, and with how many others each
    /// was carried out in one go.
    fn verdicts(commands: &[&str], servers: usize, most: usize) -> Vec<(RowVerdict, usize)> {
        let findings = commands.iter().map(|command| {
            Finding::new(Code("CAST0000"), Level::Recommendation, *command)
                .remedy(Remedy::command_without_undo(*command))
        });
        let result = PhaseResult {
            phase: Phase::UseWaypoints,
            outcome: PhaseOutcome::Recommends,
            checks: vec![CheckResult {
                code: Code("CAST0000"),
                name: "",
                outcome: CheckOutcome::Passed,
                findings: findings.collect(),
            }],
            artefacts: Vec::new(),
        };
        let (overrides, options) = (MeshOverrides::default(), MigrateOptions::default());
        let snapshot = crate::demo::snapshot().unwrap();
        let baseline = Mesh::build(&snapshot, &overrides);
        let prover = Prover::new(&baseline, Limits::default());
        let field = Field::new(snapshot, &prover, &overrides, &options);
        let Units { units, .. } = Units::of(&result);
        let (states, _) = play(&field, result.phase, &units, "all").unwrap();
        let mut attribution = Attribution::new(result.phase, servers);
        attribution.left = most;
        let proofs = attribution.proofs(&field, &field.at_rest("now"), &units, &states);
        let said = proofs.iter();
        said.map(|proof| (proof.verdict(), proof.together_with))
            .collect()
    }

    const COMMANDS: [&str; 4] = [
        "kubectl label namespace bookshop team=books",
        "kubectl delete authorizationpolicies.security.istio.io -n bookshop catalog-readers",
        "kubectl label namespace payments team=money",
        "kubectl label namespace payments team-",
    ];

    /// What one unit leaves undecided another may open.
    #[test]
    fn a_recommendation_of_several_units_says_the_worst_of_each_server() {
        let proof = |direction: &'static str, before: bool| Proof {
            differing: vec![Differing {
                server: ObjectName::new("shop", "orders"),
                before,
                directions: BTreeMap::from([(direction, vec![direction.to_owned()])]),
            }],
            differing_servers: 1,
            ..Proof::default()
        };
        let joined = joined(vec![proof("undecided", true), proof("opens", false)]);
        assert_eq!(joined.verdict(), RowVerdict::Opens);
        let [orders] = joined.differing.as_slice() else {
            panic!("one server: {joined:?}");
        };
        assert!(orders.before, "it differed before the first of them");
        assert_eq!(joined.differing_servers, 1);
    }

    #[test]
    fn a_large_phase_is_halved_until_it_is_clear_who_opens() {
        const MANY: usize = 1_000_000;
        let (same, opens) = (RowVerdict::Same, RowVerdict::Opens);
        let alone = [(same, 0), (opens, 0), (same, 0), (same, 0)];
        assert_eq!(verdicts(&COMMANDS, MANY, 4 * MANY), alone);
        assert_eq!(
            verdicts(&COMMANDS, MANY, 3 * MANY),
            [(opens, 1), (opens, 1), (same, 1), (same, 1)]
        );
        let more: Vec<String> = (0..4)
            .map(|number| format!("kubectl label namespace payments team-{number}=money"))
            .collect();
        let more = more.iter().map(String::as_str);
        let eight: Vec<&str> = COMMANDS.into_iter().chain(more).collect();
        assert_eq!(
            verdicts(&eight, MANY, 7 * MANY),
            [alone, [(same, 3); 4]].concat()
        );
        assert_eq!(verdicts(&COMMANDS, MANY, 0), [(opens, 3); 4]);
        let harmless = [COMMANDS[0], COMMANDS[2]];
        assert_eq!(verdicts(&harmless, MANY, 9 * MANY), [(same, 1), (same, 1)]);
        assert_eq!(verdicts(&harmless, 7, 0), [(same, 0), (same, 0)]);
    }
}
