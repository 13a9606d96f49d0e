//! The gaps of a whole plan, as people read them: who gains or loses what, from when until when.
//!
//! In: the state before the first wave, and the waves with their states. Out: [`Gap`]s in the order in which they begin.
//! Invariant: whatever differs in a state is in a gap that lasts then, for each server, direction and class of callers,
//! and the request that a gap shows differs in every state between its two moments.

use std::collections::BTreeMap;

use castoff_authz::verdict::Finding;

use super::moment::begins_after;
use super::wave::{Gap, State, Wave};
use crate::prove::row::{PortAnswer, ServerRow};
use crate::snapshot::ObjectName;

/// What is said of the moment before the first wave, which has the number 0.
const BEFORE: &str = "before the first wave";

/// Whose access, in which direction, for whom.
type Subject<'p> = (&'p ObjectName, &'static str, &'static str);

/// A state of the plan.
struct Moment<'p> {
    place: (usize, String),
    begins_after: Option<String>,
    /// What differs then: requests with what is said of them, the best known first.
    differing: BTreeMap<Subject<'p>, Vec<Vec<String>>>,
}

/// Every gap. What differs before the first wave already is no doing of the plan, and begins there.
pub(super) fn listed(start: Option<&State>, waves: &[Wave]) -> Vec<Gap> {
    let mut moments: Vec<Moment<'_>> = Vec::new();
    moments.extend(start.map(|state| Moment {
        place: (0, BEFORE.to_owned()),
        begins_after: None,
        differing: differing(state),
    }));
    for (index, wave) in waves.iter().enumerate() {
        let states = wave.states.iter().enumerate();
        moments.extend(states.map(|(position, state)| Moment {
            place: (index + 1, state.when.clone()),
            begins_after: begins_after(wave, position),
            differing: differing(state),
        }));
    }
    let mut begun: Vec<(usize, Gap)> = Vec::new();
    let subjects = moments.iter().flat_map(|one| one.differing.keys().copied());
    let subjects: std::collections::BTreeSet<Subject<'_>> = subjects.collect();
    for subject in subjects {
        let mut end = moments.len();
        while end > 0 {
            if !moments[end - 1].differing.contains_key(&subject) {
                end -= 1;
                continue;
            }
            let (begin, gap) = longest(&moments, subject, end);
            begun.push((begin, gap));
            end = begin;
        }
    }
    begun.sort_by_key(|(begin, _)| *begin);
    begun.into_iter().map(|(_, gap)| gap).collect()
}

/// Of the requests that differ in the last moment before `end`, the one that has differed longest, with the moment in
/// which that began.
fn longest(moments: &[Moment<'_>], subject: Subject<'_>, end: usize) -> (usize, Gap) {
    let differs = |moment: usize, request: &str| {
        let told = moments[moment]
            .differing
            .get(&subject)
            .into_iter()
            .flatten();
        told.filter_map(|lines| lines.first())
            .any(|one| one == request)
    };
    let since = |request: &str| {
        let mut begin = end - 1;
        while begin > 0 && differs(begin - 1, request) {
            begin -= 1;
        }
        begin
    };
    let told = &moments[end - 1].differing[&subject];
    let request = |lines: &[String]| lines.first().cloned().unwrap_or_default();
    let oldest = told.iter().min_by_key(|lines| since(&request(lines)));
    let lines = oldest.cloned().unwrap_or_default();
    let wanted = request(&lines);
    let begin = since(&wanted);
    let over = (end..moments.len()).find(|moment| !differs(*moment, &wanted));
    let (server, direction, _) = subject;
    let gap = Gap {
        server: server.clone(),
        direction,
        lines,
        from: moments[begin].place.clone(),
        until: over.map(|moment| moments[moment].place.clone()),
        begins_after: moments[begin].begins_after.clone(),
        ends_after: over.and_then(|moment| moments[moment].begins_after.clone()),
    };
    (begin, gap)
}

fn differing(state: &State) -> BTreeMap<Subject<'_>, Vec<Vec<String>>> {
    let mut found: BTreeMap<Subject<'_>, Vec<Vec<String>>> = BTreeMap::new();
    for row in state.witnessed() {
        for (direction, answer, finding) in witnesses(row) {
            if let Some(lines) = answer.witness_lines(finding) {
                let subject = (&row.server, direction, answer.callers);
                found.entry(subject).or_default().push(lines);
            }
        }
    }
    found
}

/// All witnesses of a row, those first of whom more is known.
fn witnesses(row: &ServerRow) -> Vec<(&'static str, &PortAnswer, &Finding)> {
    let mut found: Vec<_> = (row.differences.iter())
        .flat_map(|answer| {
            [
                ("opens", answer, &answer.verdict.opens),
                ("breaks", answer, &answer.verdict.breaks),
            ]
        })
        .filter(|(_, _, finding)| matches!(finding, Finding::Witness(_)))
        .collect();
    found.sort_by_key(|(direction, answer, _)| match *direction {
        "opens" => answer.told_of_gain.is_empty(),
        _ => !answer.known,
    });
    found
}
