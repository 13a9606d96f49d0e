//! Prover against evaluator over generated pairs of states.
//!
//! A pair is two lists of paths with one or two points each and all fields of policies, over small
//! pools of values, so that patterns meet. Requests are drawn from the same pools. The ordinary run
//! takes 20,000 pairs; a long one:
//!
//! ```text
//! CASTOFF_AUTHZ_PAIRS=1000000 cargo test --release -p castoff-authz --test random -- --nocapture
//! ```
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "random/generated.rs"]
mod generated;
#[path = "support/words.rs"]
mod words;

use std::cell::Cell;

use castoff_authz::decision::Outcome;
use castoff_authz::eval::evaluate;
use castoff_authz::path::{Address, EnforcementPath, IpSeen};
use castoff_authz::request::Request;
use castoff_authz::verdict::{Comparison, Finding, Limits, UndecidedReason, compare};
use generated::{ADDRESSES, comparisons, requests};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// The request as this comparison's caller would send it.
fn adapted(request: &Request, comparison: &Comparison) -> Option<Request> {
    let mut request = request.clone();
    request.http = request.http.filter(|_| comparison.http);
    match &comparison.caller.identity {
        castoff_authz::verdict::Identities::Only(all) => request.principal = all.first().cloned(),
        castoff_authz::verdict::Identities::Nobody => request.principal = None,
        castoff_authz::verdict::Identities::OfTrustDomain { trust_domain, but } => {
            let principal = request.principal.as_ref()?;
            if !principal.starts_with(&format!("{trust_domain}/")) || but.contains(principal) {
                return None;
            }
        }
        castoff_authz::verdict::Identities::Anybody { .. } => {}
    }
    let choice = request.surroundings.remove("choice").unwrap();
    for path in comparison.baseline.iter().chain(&comparison.present) {
        for point in &path.points {
            for seen in [
                &point.seen.source_ip,
                &point.seen.remote_ip,
                &point.seen.destination_ip,
            ] {
                if let (Some(name), IpSeen::Of { among, .. }) = (seen.choice(), seen) {
                    let index = ADDRESSES
                        .iter()
                        .position(|one| one.parse() == Ok(choice))
                        .unwrap();
                    let address = if among.is_empty() {
                        choice
                    } else {
                        among[index % among.len()]
                    };
                    request.surroundings.insert(name, address);
                }
            }
        }
    }
    Some(request)
}

fn outcomes(request: &Request, paths: &[EnforcementPath]) -> Vec<Outcome> {
    paths
        .iter()
        .map(|path| evaluate(request, path).outcome)
        .collect()
}

fn opens(request: &Request, comparison: &Comparison) -> bool {
    let now = outcomes(request, &comparison.present);
    let before = outcomes(request, &comparison.baseline);
    let refused = |address: &Address| {
        let mut before = comparison.baseline.iter().zip(&before);
        before.all(|(path, outcome)| {
            let counts = path.in_use || path.address == *address;
            !counts || *outcome == Outcome::Deny
        })
    };
    let mut now = comparison.present.iter().zip(now);
    now.any(|(path, outcome)| outcome == Outcome::Allow && refused(&path.address))
}

fn breaks(request: &Request, comparison: &Comparison) -> bool {
    let now = outcomes(request, &comparison.present);
    let before = outcomes(request, &comparison.baseline);
    comparison
        .baseline
        .iter()
        .zip(before)
        .any(|(path, outcome)| {
            let mut here = comparison
                .present
                .iter()
                .zip(&now)
                .filter(|(other, _)| other.address == path.address);
            let gone = here.clone().next().is_none();
            path.in_use
                && outcome == Outcome::Allow
                && (gone || here.any(|(_, outcome)| *outcome == Outcome::Deny))
        })
}

fn pairs() -> u32 {
    std::env::var("CASTOFF_AUTHZ_PAIRS")
        .ok()
        .map_or(20_000, |text| text.parse().unwrap())
}

fn percent(part: u32, all: u32) -> f64 {
    100.0 * f64::from(part) / f64::from(all)
}

#[derive(Default)]
struct Counts {
    same: Cell<u32>,
    opens: Cell<u32>,
    breaks: Cell<u32>,
    undecided: Cell<u32>,
}

impl Counts {
    fn add(cell: &Cell<u32>) {
        cell.set(cell.get() + 1);
    }
}

fn run(cases: u32, unknown: bool, counts: &Counts) {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    // A fixed seed for ordinary runs; long ones draw new pairs.
    let mut runner = if cases > 20_000 {
        TestRunner::new(config)
    } else {
        let seed = proptest::test_runner::TestRng::deterministic_rng(config.rng_algorithm);
        TestRunner::new_with_rng(config, seed)
    };
    let strategy = (comparisons(unknown), vec(requests(), 16));
    let result = runner.run(&strategy, |(comparison, requests)| {
        let verdict = compare(&comparison, Limits::default());
        for finding in [&verdict.opens, &verdict.breaks] {
            prop_assert!(!matches!(finding, Finding::Bug(_)), "{finding:?}");
            if let Finding::Undecided(undecided) = finding {
                prop_assert!(unknown, "{finding:?}");
                let too_large = matches!(undecided.reason, UndecidedReason::TooLarge { .. });
                prop_assert!(!too_large, "{finding:?}");
            }
        }
        for request in &requests {
            let Some(request) = adapted(request, &comparison) else {
                continue;
            };
            if opens(&request, &comparison) {
                prop_assert!(
                    verdict.opens != Finding::Never,
                    "missed an opening: {request:?}"
                );
            }
            if breaks(&request, &comparison) {
                prop_assert!(
                    verdict.breaks != Finding::Never,
                    "missed a break: {request:?}"
                );
            }
        }
        let counted = [
            (verdict.is_same(), &counts.same),
            (matches!(verdict.opens, Finding::Witness(_)), &counts.opens),
            (
                matches!(verdict.breaks, Finding::Witness(_)),
                &counts.breaks,
            ),
            (
                matches!(verdict.opens, Finding::Undecided(_))
                    || matches!(verdict.breaks, Finding::Undecided(_)),
                &counts.undecided,
            ),
        ];
        counted
            .iter()
            .filter(|(is, _)| *is)
            .for_each(|(_, cell)| Counts::add(cell));
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn modelled_pairs_are_decided_and_never_wrongly() {
    let counts = Counts::default();
    run(pairs(), false, &counts);
    let [same, opens, breaks, undecided] = [
        &counts.same,
        &counts.opens,
        &counts.breaks,
        &counts.undecided,
    ]
    .map(Cell::get);
    eprintln!(
        "{} pairs: {same} same, {opens} open, {breaks} break, {undecided} undecided ({:.2} %)",
        pairs(),
        percent(undecided, pairs())
    );
    assert_eq!(undecided, 0);
    assert!(same > pairs() / 10 && opens > pairs() / 20 && breaks > pairs() / 20);
}

#[test]
fn pairs_with_unmodelled_parts_are_never_decided_wrongly() {
    let counts = Counts::default();
    let cases = pairs() / 4;
    run(cases, true, &counts);
    let [same, opens, breaks, undecided] = [
        &counts.same,
        &counts.opens,
        &counts.breaks,
        &counts.undecided,
    ]
    .map(Cell::get);
    eprintln!(
        "{cases} pairs with CUSTOM, EnvoyFilter, experimental conditions and unknown addresses: \
         {same} same, {opens} open, {breaks} break, {undecided} undecided ({:.2} %)",
        percent(undecided, cases)
    );
    assert!(undecided > 0 && same > 0 && opens > 0 && breaks > 0);
}
