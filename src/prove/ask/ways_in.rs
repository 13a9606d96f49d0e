//! What would let a refused caller in: another host, a header, a token.
//!
//! In: answers with their requests and paths. Out: words at those that are refused. Invariant: what is
//! named was tried on the caller's own request; who is not named was not found a way, which is no proof
//! that there is none.

use std::sync::Arc;

use castoff_authz::decision::Outcome;
use castoff_authz::path::{EnforcementPath, Point, PointKind, Protocol, Proxy};
use castoff_authz::policy::{Action, Operation, Policy, Rule};
use castoff_authz::request::Http;
use castoff_authz::verdict::{self, Comparison, Finding, Identities, Limits};

use super::whence::{Settled, settle};
use super::{Asked, May, tell};

/// Ways in that are looked for, at most: most meshes have one for many callers.
const MOST: usize = 50;

/// What is said of those beyond.
const NOT_ASKED: &str =
    " (whether another header, host or token lets them in was not asked: too many ways in)";

/// Finds ways in for those who are refused, those of one path together.
pub(super) fn find(asked: &mut [Asked]) {
    let mut left: Vec<usize> = (0..asked.len())
        .filter(|index| asked[*index].answer.may == May::No)
        .filter(|index| asked[*index].request.http.is_some())
        .collect();
    let mut questions = 0;
    while let Some(first) = left.first().copied() {
        let alike: Vec<usize> = left
            .iter()
            .copied()
            .filter(|index| asked[*index].path == asked[first].path)
            .filter(|index| {
                asked[*index].request.principal.is_some()
                    == asked[first].request.principal.is_some()
            })
            .collect();
        left.retain(|index| !alike.contains(index));
        let mut without = alike;
        while !without.is_empty() {
            if questions == MOST {
                for index in without {
                    asked[index].answer.how.push_str(NOT_ASKED);
                }
                break;
            }
            questions += 1;
            let Some(way) = way_in(asked, &without) else {
                break;
            };
            let before = without.len();
            without.retain(|index| {
                let words = lets_in(&asked[*index], &way);
                let found = words.is_some();
                if found {
                    asked[*index].answer.may_with = words;
                }
                !found
            });
            if without.len() == before {
                break;
            }
        }
    }
}

/// A request with the same method and path that lets one of these callers in, first with the same host.
fn way_in(asked: &[Asked], callers: &[usize]) -> Option<Http> {
    let one = &asked[*callers.first()?];
    let http = one.request.http.as_ref()?;
    let names: Vec<String> = callers
        .iter()
        .filter_map(|index| asked[*index].request.principal.clone())
        .collect();
    let identity = if names.is_empty() {
        Identities::Nobody
    } else {
        Identities::Only(names)
    };
    let pattern = |text: &str| text.contains(['*', '{', '}']);
    if pattern(&http.path) || pattern(&http.method) || pattern(&http.host) {
        return None;
    }
    [vec![http.host.clone()], Vec::new()]
        .into_iter()
        .find_map(|hosts| {
            let comparison = Comparison {
                caller: verdict::Caller {
                    identity: identity.clone(),
                    addresses: Vec::new(),
                },
                http: true,
                baseline: vec![refusing(&one.path)],
                present: vec![only(&one.path, http, hosts)],
            };
            match verdict::compare(&comparison, Limits::default()).opens {
                Finding::Witness(witness) => witness.request.http,
                _ => None,
            }
        })
}

/// The path on which nothing gets through.
fn refusing(path: &EnforcementPath) -> EnforcementPath {
    let reason = "nothing gets through".to_owned();
    EnforcementPath {
        points: vec![Point::new(PointKind::Stop { reason }, "nobody")],
        ..path.clone()
    }
}

/// The path for requests with this method and path, and one of these hosts, if any are given.
fn only(path: &EnforcementPath, http: &Http, hosts: Vec<String>) -> EnforcementPath {
    let operation = Operation {
        methods: vec![http.method.clone()],
        paths: vec![http.path.clone()],
        hosts,
        ..Operation::default()
    };
    let rule = Rule {
        to: vec![operation],
        ..Rule::default()
    };
    let kind = PointKind::Envoy {
        proxy: Proxy::Gateway,
        protocol: Protocol::Http,
    };
    let mut gate = Point::new(kind, "the question");
    gate.policies = vec![Arc::new(Policy::new(
        "",
        "the-question",
        Action::Allow,
        vec![rule],
    ))];
    let mut narrowed = path.clone();
    narrowed.points.insert(0, gate);
    narrowed
}

/// Tries a request's host, headers and token on a caller; in words, if they let him in.
fn lets_in(asked: &Asked, way: &Http) -> Option<String> {
    let mut request = asked.request.clone();
    let http = request.http.as_mut()?;
    let mut parts = Vec::new();
    if !way.host.eq_ignore_ascii_case(&http.host) {
        parts.push(format!("host {}", way.host));
        http.host.clone_from(&way.host);
    }
    http.headers.clone_from(&way.headers);
    http.token.clone_from(&way.token);
    parts.extend(tell::carried(http));
    let settled = settle(&request, &asked.path, &asked.addresses);
    let allowed = matches!(settled, Settled::Alike(decision) if decision.outcome == Outcome::Allow);
    (allowed && !parts.is_empty()).then(|| parts.join(" and "))
}
