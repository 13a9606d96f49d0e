//! From a satisfying assignment back to a request, and its replay.
//!
//! In comes a function that is somewhere true, out comes the request it prefers, confirmed by the
//! evaluator. Invariant: nothing here is trusted; a request that the evaluator judges differently
//! becomes a [`Finding::Bug`].

use std::collections::{BTreeMap, BTreeSet};

use super::access::Builder;
use super::diagram::{FALSE, Function, TooManyNodes};
use super::dimension::{AddressAttribute, Coded, TextAttribute};
use crate::decision::{Decision, Outcome};
use crate::eval::evaluate;
use crate::path::{Address, EnforcementPath};
use crate::request::{Http, Request, Token};
use crate::unknown::Unknown;
use crate::verdict::{Comparison, Disagreement, Finding, Proved, Witness};

/// Examples of an attribute that are written out.
const MOST_EXAMPLES: usize = 8;

/// Which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Opens,
    Breaks,
}

/// The request that the function prefers.
pub(crate) fn request_of(
    builder: &Builder<'_>,
    comparison: &Comparison,
    of: Function,
    address: &Address,
) -> Request {
    let dimensions = &builder.dimensions;
    let set: BTreeSet<u32> = builder
        .diagram
        .smallest(of)
        .unwrap_or_default()
        .into_iter()
        .collect();
    let class = |coded: &Coded| {
        (coded.first..coded.first + coded.bits).fold(0, |number, variable| {
            number << 1 | usize::from(set.contains(&variable))
        })
    };
    let text = |attribute: &TextAttribute| {
        let dimension = dimensions.texts.get(attribute)?;
        dimension.examples.get(class(&dimension.coded))?.clone()
    };
    let place = |attribute: &AddressAttribute| {
        let dimension = &dimensions.addresses[attribute];
        let example = dimension.examples.get(class(&dimension.coded));
        *example.expect("the laws admit only numbers of classes")
    };
    let source_ip = place(&AddressAttribute::Source);
    let forwarded = &dimensions.addresses[&AddressAttribute::Forwarded];
    let port = &dimensions.port;
    let surroundings = dimensions
        .addresses
        .keys()
        .filter_map(|attribute| match attribute {
            AddressAttribute::Of(choice, _) => Some((choice.clone(), place(attribute))),
            _ => None,
        });
    let http = comparison.http.then(|| Http {
        method: text(&TextAttribute::Method).unwrap_or_default(),
        path: text(&TextAttribute::Path).unwrap_or_default(),
        host: text(&TextAttribute::Host).unwrap_or_default(),
        headers: dimensions
            .texts
            .keys()
            .filter_map(|attribute| match attribute {
                TextAttribute::Header(name) => Some((name.clone(), text(attribute)?)),
                _ => None,
            })
            .collect(),
        token: set.contains(&dimensions.token).then(|| {
            let mut claims: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
            for (attribute, name) in [
                (TextAttribute::Issuer, "iss"),
                (TextAttribute::Subject, "sub"),
            ] {
                claims.extend(text(&attribute).map(|value| (vec![name.to_owned()], vec![value])));
            }
            for (path, claim) in &dimensions.claims {
                let values: Vec<String> = (claim.first..)
                    .zip(&claim.examples)
                    .filter(|(variable, _)| set.contains(variable))
                    .map(|(_, example)| example.clone())
                    .collect();
                if !values.is_empty() {
                    claims.insert(path.clone(), values);
                }
            }
            let fails = dimensions.fails.iter();
            let fails = fails.filter(|(variable, _)| set.contains(variable));
            Token {
                claims,
                fails: fails.map(|(_, name)| name.clone()).collect(),
            }
        }),
    });
    Request {
        principal: text(&TextAttribute::Identity)
            .map(|uri| uri.strip_prefix("spiffe://").unwrap_or(&uri).to_owned()),
        source_ip,
        forwarded_ip: if forwarded.members.is_empty() {
            source_ip
        } else {
            place(&AddressAttribute::Forwarded)
        },
        destination_ip: place(&AddressAttribute::Destination),
        destination_port: if port.members.is_empty() {
            address.port
        } else {
            port.examples
                .get(class(&port.coded))
                .copied()
                .unwrap_or(address.port)
        },
        sni: text(&TextAttribute::Sni).filter(|name| !name.is_empty()),
        http,
        surroundings: surroundings.collect(),
        answers: BTreeMap::new(),
    }
}

/// The finding that the preferred request of a certain difference is, after its replay.
pub(crate) fn witness(
    builder: &Builder<'_>,
    comparison: &Comparison,
    side: Side,
    certain: Function,
    address: &Address,
) -> Finding {
    let mut request = request_of(builder, comparison, certain, address);
    let authorizers = builder.dimensions.questions.iter();
    let authorizers =
        authorizers.filter(|(_, question)| matches!(question, Unknown::Authorizer { .. }));
    let authorizers: Vec<Unknown> = authorizers.map(|(_, question)| question.clone()).collect();
    let mut if_accepted_by = BTreeSet::new();
    if !authorizers.is_empty() {
        let accepting = match side {
            Side::Opens => &comparison.present,
            Side::Breaks => &comparison.baseline,
        };
        for question in asked(&decisions(&request, accepting)) {
            if let Unknown::Authorizer { provider, .. } = question {
                if_accepted_by.insert(provider);
            }
        }
    }
    request
        .answers
        .extend(authorizers.into_iter().map(|question| (question, true)));
    let before = decisions(&request, &comparison.baseline);
    let after = decisions(&request, &comparison.present);
    let mut open = asked(&before);
    open.extend(asked(&after));
    let open: Vec<Unknown> = open.into_iter().collect();
    let confirmed = if open.is_empty() {
        shows(side, comparison, &before, &after, address)
    } else {
        assignments(open.len()).iter().all(|answers| {
            let mut assumed = request.clone();
            assumed
                .answers
                .extend(open.iter().cloned().zip(answers.iter().copied()));
            let before = decisions(&assumed, &comparison.baseline);
            let after = decisions(&assumed, &comparison.present);
            shows(side, comparison, &before, &after, address)
        })
    };
    let witness = Witness {
        before: before.into_iter().enumerate().collect(),
        after: after.into_iter().enumerate().collect(),
        address: address.clone(),
        if_accepted_by: if_accepted_by.into_iter().collect(),
        request,
    };
    if confirmed {
        Finding::Witness(Box::new(witness))
    } else {
        let expected = match side {
            Side::Opens => format!(
                "accepted now at {address}, refused in the baseline there and by every address in use"
            ),
            Side::Breaks => format!("accepted in the baseline at {address}, refused now"),
        };
        Finding::Bug(Box::new(Disagreement { witness, expected }))
    }
}

/// All answers to so many questions; where that is too many, all yes and all no.
fn assignments(questions: usize) -> Vec<Vec<bool>> {
    if questions > 6 {
        return vec![vec![true; questions], vec![false; questions]];
    }
    let rows = 0..1_usize << questions;
    rows.map(|row| {
        (0..questions)
            .map(|question| row >> question & 1 == 1)
            .collect()
    })
    .collect()
}

fn decisions(request: &Request, paths: &[EnforcementPath]) -> Vec<Decision> {
    paths.iter().map(|path| evaluate(request, path)).collect()
}

/// The questions that the decisions hang on.
fn asked(decisions: &[Decision]) -> BTreeSet<Unknown> {
    let mut questions = BTreeSet::new();
    for decision in decisions {
        if let Outcome::Depends(more) = &decision.outcome {
            questions.extend(more.iter().cloned());
        }
    }
    questions
}

/// Whether the evaluator's decisions show the difference.
fn shows(
    side: Side,
    comparison: &Comparison,
    before: &[Decision],
    after: &[Decision],
    address: &Address,
) -> bool {
    let mut baseline = comparison.baseline.iter().zip(before);
    match side {
        Side::Opens => comparison.present.iter().zip(after).any(|(path, now)| {
            let mut counts = baseline
                .clone()
                .filter(|(before, _)| before.in_use || before.address == path.address);
            now.outcome == Outcome::Allow
                && counts.all(|(_, before)| before.outcome == Outcome::Deny)
        }),
        Side::Breaks => {
            let now = comparison.present.iter().zip(after);
            let mut now = now.filter(|(path, _)| path.address == *address);
            let gone = now.clone().next().is_none();
            let accepted = |(path, before): (&EnforcementPath, &Decision)| {
                path.in_use && path.address == *address && before.outcome == Outcome::Allow
            };
            baseline.any(accepted) && (gone || now.any(|(_, now)| now.outcome == Outcome::Deny))
        }
    }
}

/// Where the undecided requests are: everything outside is proved.
pub(crate) fn region(
    builder: &mut Builder<'_>,
    undecided: Function,
    addresses: &[(Address, Function)],
) -> Result<Proved, TooManyNodes> {
    let mut touched = Vec::new();
    for (address, here) in addresses {
        if builder.diagram.and(undecided, *here)? != FALSE {
            touched.push(address.clone());
        }
    }
    touched.sort();
    touched.dedup();
    let support = builder.diagram.support(undecided);
    let law = builder.law()?;
    let mut attributes = Vec::new();
    let texts: Vec<(String, Coded, Vec<String>)> = builder
        .dimensions
        .texts
        .iter()
        .map(|(attribute, dimension)| {
            let examples = dimension.examples.iter();
            let examples =
                examples.map(|example| example.clone().unwrap_or_else(|| "none".to_owned()));
            (told(attribute), dimension.coded.clone(), examples.collect())
        })
        .collect();
    let places: Vec<(String, Coded, Vec<String>)> = builder
        .dimensions
        .addresses
        .iter()
        .map(|(attribute, dimension)| {
            let name = match attribute {
                AddressAttribute::Source => "source address".to_owned(),
                AddressAttribute::Forwarded => "client address".to_owned(),
                AddressAttribute::Destination => "destination address".to_owned(),
                AddressAttribute::Of(choice, _) => format!("address of {choice}"),
            };
            let examples = dimension.examples.iter().map(ToString::to_string).collect();
            (name, dimension.coded.clone(), examples)
        })
        .collect();
    for (name, coded, examples) in texts.into_iter().chain(places) {
        if !support
            .iter()
            .any(|variable| (coded.first..coded.first + coded.bits).contains(variable))
        {
            continue;
        }
        let mut inside = Vec::new();
        let mut possible = 0;
        for class in 0..coded.classes {
            let here = builder.set(&coded, vec![class])?;
            possible += usize::from(builder.diagram.and(law, here)? != FALSE);
            if builder.diagram.and(undecided, here)? != FALSE {
                inside.push(class);
            }
        }
        if inside.len() < possible {
            let shown = inside.iter().take(MOST_EXAMPLES);
            let mut told: Vec<String> = shown
                .map(|&class| examples[class as usize].clone())
                .collect();
            if inside.len() > MOST_EXAMPLES {
                told.push(format!("{} more", inside.len() - MOST_EXAMPLES));
            }
            attributes.push((name, told));
        }
    }
    Ok(Proved::Outside {
        addresses: touched,
        attributes,
    })
}

/// An attribute in words.
pub(crate) fn told(attribute: &TextAttribute) -> String {
    match attribute {
        TextAttribute::Identity => "identity".to_owned(),
        TextAttribute::Sni => "SNI".to_owned(),
        TextAttribute::Method => "method".to_owned(),
        TextAttribute::Host => "host".to_owned(),
        TextAttribute::Path => "path".to_owned(),
        TextAttribute::Header(name) => format!("header `{name}`"),
        TextAttribute::Issuer => "issuer of the token".to_owned(),
        TextAttribute::Subject => "subject of the token".to_owned(),
        TextAttribute::Claim(path) => format!("claim `{}` of the token", path.join("][")),
    }
}
