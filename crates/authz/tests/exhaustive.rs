//! Prover against brute force with the evaluator, over small universes, without gaps.
//!
//! A witness has been replayed, so it cannot be false; what these tests establish is that *never* is
//! answered exactly where brute force finds no request.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/words.rs"]
mod words;

use castoff_authz::decision::Outcome;
use castoff_authz::eval::evaluate;
use castoff_authz::path::{EnforcementPath, PointKind, TokenRule};
use castoff_authz::policy::{Action, Key, Policy, Rule};
use castoff_authz::request::{Request, Token};
use castoff_authz::verdict::{Caller, Comparison, Finding, Limits, compare};
use words::*;

fn is_found(finding: &Finding, context: &dyn Fn() -> String) -> bool {
    match finding {
        Finding::Never => false,
        Finding::Witness(_) => true,
        other => panic!("{}: {other:?}", context()),
    }
}

fn compared(baseline: EnforcementPath, present: EnforcementPath) -> (Finding, Finding) {
    let verdict = compare(
        &Comparison {
            caller: Caller::anybody(),
            http: true,
            baseline: vec![baseline],
            present: vec![present],
        },
        Limits::default(),
    );
    (verdict.opens, verdict.breaks)
}

fn bits(requests: &[Request], path: &EnforcementPath) -> Vec<bool> {
    let accepts = |request| evaluate(request, path).outcome == Outcome::Allow;
    requests.iter().map(accepts).collect()
}

fn validating(kind: PointKind, policies: &[Policy]) -> EnforcementPath {
    let mut at = point(kind, policies);
    at.token_rules = vec![TokenRule {
        issuer: "i".to_owned(),
        audiences: vec![],
        forward: true,
        validation: "keys".to_owned(),
    }];
    path(vec![at])
}

/// Two identities, two paths, two methods, two ports, none or some token, and one of each besides.
fn small_universe() -> Vec<Request> {
    let mut requests = Vec::new();
    let token = |issuer: &str, subject: Option<&str>, fails: bool| {
        let mut token = Token::default();
        token
            .claims
            .insert(vec!["iss".to_owned()], vec![issuer.to_owned()]);
        if let Some(subject) = subject {
            token
                .claims
                .insert(vec!["sub".to_owned()], vec![subject.to_owned()]);
        }
        token.fails.extend(fails.then(|| "keys".to_owned()));
        Some(token)
    };
    let tokens = [
        None,
        token("i", Some("s"), false),
        token("i", Some("t"), false),
        token("i", None, false),
        token("i", Some("s"), true),
        token("j", Some("s"), false),
    ];
    for principal in [
        None,
        Some("td/ns/n/sa/a"),
        Some("td/ns/n/sa/b"),
        Some("td/ns/n/sa/d"),
        Some("td/ns/m/sa/c"),
    ] {
        for path in ["/a", "/b", "/c"] {
            for method in ["GET", "POST", "PUT"] {
                for port in [80, 81, 82] {
                    for token in &tokens {
                        let mut request = get(path);
                        request.principal = principal.map(str::to_owned);
                        request.destination_port = port;
                        let http = request.http.as_mut().unwrap();
                        http.method = method.to_owned();
                        http.token.clone_from(token);
                        requests.push(request);
                    }
                }
            }
        }
    }
    requests
}

/// All shapes of one rule from these sources, operations and conditions, as ALLOW and as DENY.
fn small_policies() -> Vec<Policy> {
    let sources: [&[(&str, &str)]; 8] = [
        &[],
        &[("principals", "td/ns/n/sa/a")],
        &[("notPrincipals", "td/ns/n/sa/a")],
        &[("namespaces", "n"), ("notPrincipals", "td/ns/n/sa/b")],
        &[("requestPrincipals", "i/s")],
        &[("notRequestPrincipals", "*")],
        &[("principals", "td/ns/n/sa/b"), ("requestPrincipals", "*")],
        &[("notNamespaces", "n")],
    ];
    let operations: [&[(&str, &str)]; 9] = [
        &[],
        &[("paths", "/a")],
        &[("notPaths", "/a")],
        &[("methods", "GET"), ("methods", "POST")],
        &[("notMethods", "POST"), ("paths", "/b")],
        &[("ports", "80")],
        &[("notPorts", "80")],
        &[("ports", "81"), ("methods", "GET")],
        &[("paths", "/a"), ("ports", "80"), ("ports", "81")],
    ];
    let mut rules = Vec::new();
    for source in sources {
        for operation in operations {
            rules.push(rule(source, operation));
        }
    }
    let mut two_operations = to(&[("methods", "GET")]);
    two_operations.to.push(operation(&[("ports", "80")]));
    rules.push(two_operations);
    let mut two_sources = from(&[("principals", "td/ns/n/sa/a")]);
    two_sources
        .from
        .push(source(&[("requestPrincipals", "i/t")]));
    rules.push(two_sources);
    let mut with_when = rule(&[("principals", "*")], &[("paths", "/a")]);
    with_when.when = when(Key::DestinationPort, "80").when;
    rules.push(with_when);
    let mut policies = vec![policy(Action::Allow, vec![]), policy(Action::Deny, vec![])];
    for rule in rules {
        for action in [Action::Allow, Action::Deny] {
            policies.push(policy(action, vec![rule.clone()]));
        }
    }
    policies
}

#[test]
fn all_pairs_of_small_policies_at_all_kinds_of_points() {
    let requests = small_universe();
    let policies = small_policies();
    let kinds = [http(), tcp(), PointKind::Ztunnel];
    let mut states: Vec<(EnforcementPath, Vec<bool>)> = Vec::new();
    for policy in &policies {
        for kind in &kinds {
            let path = validating(kind.clone(), std::slice::from_ref(policy));
            let accepted = bits(&requests, &path);
            states.push((path, accepted));
        }
    }
    let mut differences = 0;
    let mut pairs = 0;
    // All pairs at HTTP chains, and every seventh of the others unless asked for all of them.
    let stride = if std::env::var_os("CASTOFF_AUTHZ_ALL_PAIRS").is_some() {
        1
    } else {
        7
    };
    for (index, (before, was)) in states.iter().enumerate() {
        for (other, (after, is)) in states.iter().enumerate() {
            let both_http = index % kinds.len() == 0 && other % kinds.len() == 0;
            if !both_http && (index + other) % stride != 0 {
                continue;
            }
            let opens = was.iter().zip(is).any(|(was, is)| !was && *is);
            let breaks = was.iter().zip(is).any(|(was, is)| *was && !is);
            let (found_opens, found_breaks) = compared(before.clone(), after.clone());
            let context = || format!("{before:?}\n{after:?}");
            assert_eq!(
                is_found(&found_opens, &context),
                opens,
                "opens: {}",
                context()
            );
            assert_eq!(
                is_found(&found_breaks, &context),
                breaks,
                "breaks: {}",
                context()
            );
            pairs += 1;
            differences += usize::from(opens || breaks);
        }
    }
    assert!(pairs >= policies.len() * policies.len(), "{pairs}");
    assert!(
        differences > pairs / 2 && differences < pairs,
        "{differences} of {pairs}"
    );
}

#[test]
fn all_pairs_of_two_small_policies_together() {
    let requests = small_universe();
    let some: Vec<Policy> = small_policies().into_iter().step_by(5).collect();
    let mut states = Vec::new();
    for (index, one) in some.iter().enumerate() {
        for other in &some[index + 1..] {
            let path = validating(http(), &[one.clone(), other.clone()]);
            let accepted = bits(&requests, &path);
            states.push((path, accepted));
        }
    }
    for (before, was) in states.iter().step_by(3) {
        for (after, is) in states.iter().step_by(7) {
            let opens = was.iter().zip(is).any(|(was, is)| !was && *is);
            let breaks = was.iter().zip(is).any(|(was, is)| *was && !is);
            let (found_opens, found_breaks) = compared(before.clone(), after.clone());
            let context = || format!("{before:?}\n{after:?}");
            assert_eq!(
                is_found(&found_opens, &context),
                opens,
                "opens: {}",
                context()
            );
            assert_eq!(
                is_found(&found_breaks, &context),
                breaks,
                "breaks: {}",
                context()
            );
        }
    }
}

/// All strings over the characters with at most so many of them, the empty one included.
fn strings(characters: &[&str], length: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    let mut last = all.clone();
    for _ in 0..length {
        last = last
            .iter()
            .flat_map(|string| {
                characters
                    .iter()
                    .map(move |character| format!("{string}{character}"))
            })
            .collect();
        all.extend(last.iter().cloned());
    }
    all
}

/// For every pattern, and every pair of patterns plain and negated: what is accepted.
fn patterns_pairwise(
    requests: &[Request],
    patterns: &[String],
    rule_of: &dyn Fn(&[&str], &[&str]) -> Rule,
    stride: usize,
) {
    let path_of = |rule: Rule| path(vec![point(http(), &[policy(Action::Allow, vec![rule])])]);
    let accepted: Vec<Vec<bool>> = patterns
        .iter()
        .map(|pattern| bits(requests, &path_of(rule_of(&[pattern], &[]))))
        .collect();
    for (one, is_one) in patterns.iter().zip(&accepted) {
        for (other, is_other) in patterns.iter().zip(&accepted).step_by(stride) {
            let some = |join: fn(bool, bool) -> bool| {
                is_one.iter().zip(is_other).any(|(&a, &b)| join(a, b))
            };
            // one ≟ other
            let context = || format!("{one} against {other}");
            let (opens, breaks) = compared(
                path_of(rule_of(&[other], &[])),
                path_of(rule_of(&[one], &[])),
            );
            check(&opens, some(|a, b| a && !b), &context);
            check(&breaks, some(|a, b| !a && b), &context);
            // one ≟ one but not other; nothing ≟ one but not other
            let context = || format!("{one} but not {other}");
            let but_not = || path_of(rule_of(&[one], &[other]));
            let (opens, breaks) = compared(path_of(rule_of(&[one], &[])), but_not());
            assert_eq!(opens, Finding::Never, "{}", context());
            check(&breaks, some(|a, b| a && b), &context);
            let (opens, _) = compared(
                path(vec![point(
                    PointKind::Stop {
                        reason: String::new(),
                    },
                    &[],
                )]),
                but_not(),
            );
            check(&opens, some(|a, b| a && !b), &context);
        }
    }
}

/// The universe of brute force is smaller than the prover's (it has no longer strings and no other
/// characters), so the prover may know a difference that it does not; every such witness was replayed.
fn check(finding: &Finding, brute_force: bool, context: &dyn Fn() -> String) {
    let found = is_found(finding, context);
    assert!(
        found || !brute_force,
        "the prover missed a difference: {}",
        context()
    );
    if let (Finding::Witness(witness), false) = (finding, brute_force) {
        let inside = |text: &str| text.len() <= 5 && text.chars().all(|c| "ab/".contains(c));
        let http = witness.request.http.as_ref().unwrap();
        let header = http.headers.get("x").is_none_or(|value| inside(value));
        let namespace = witness
            .request
            .principal
            .as_deref()
            .and_then(|it| it.split('/').nth(2));
        assert!(
            !(inside(&http.path) && header && namespace.is_none_or(inside)),
            "a witness that brute force should have met: {} {witness:?}",
            context()
        );
    }
}

#[test]
fn all_short_headers_against_all_short_patterns() {
    let mut requests = vec![get("/")];
    for value in strings(&["a", "b", "/"], 5) {
        let mut request = get("/");
        request
            .http
            .as_mut()
            .unwrap()
            .headers
            .insert("x".to_owned(), value);
        requests.push(request);
    }
    let patterns: Vec<String> = strings(&["a", "b", "/", "*"], 3)
        .into_iter()
        .filter(|pattern| !pattern.is_empty())
        .collect();
    assert_eq!(patterns.len(), 4 + 16 + 64);
    let rule_of = |values: &[&str], not_values: &[&str]| {
        let mut rule = when(Key::parse("request.headers[X]"), "");
        rule.when[0].values = values.iter().map(ToString::to_string).collect();
        rule.when[0].not_values = not_values.iter().map(ToString::to_string).collect();
        rule
    };
    patterns_pairwise(&requests, &patterns, &rule_of, 1);
}

#[test]
fn all_short_paths_against_all_short_patterns_and_templates() {
    let requests: Vec<Request> = strings(&["a", "b", "/"], 4)
        .iter()
        .map(|rest| get(&format!("/{rest}")))
        .collect();
    let mut patterns: Vec<String> = strings(&["a", "/", "*"], 3).into_iter().skip(1).collect();
    let segments = ["/a", "/b", "/{*}", "/{**}"];
    let templates = strings(&segments, 3);
    let templates = templates
        .iter()
        .flat_map(|template| [template.clone(), format!("{template}/")]);
    patterns.extend(templates.filter(|template| {
        // What istiod or Envoy refuses is undecided, not decided: nothing wild behind `{**}`.
        let behind = template.split_once("{**}").map_or("", |(_, behind)| behind);
        template.contains("{*") && !behind.contains('{')
    }));
    assert!(
        patterns
            .iter()
            .filter(|pattern| pattern.contains("{**}"))
            .count()
            > 8
    );
    let rule_of = |values: &[&str], not_values: &[&str]| {
        let values = values.iter().map(|value| ("paths", *value));
        let fields: Vec<(&str, &str)> = values
            .chain(not_values.iter().map(|value| ("notPaths", *value)))
            .collect();
        to(&fields)
    };
    patterns_pairwise(&requests, &patterns, &rule_of, 1);
}

/// Infix wildcards, which may cross the slashes of an identity: `s*a` matches by the `sa/` behind it.
#[test]
fn all_short_namespaces_against_all_short_patterns() {
    let mut requests = Vec::new();
    for namespace in strings(&["a", "b"], 5).iter().skip(1) {
        let mut request = get("/");
        request.principal = Some(format!("a/ns/{namespace}/sa/b"));
        requests.push(request);
    }
    for namespace in ["sa", "ns", "s", "n"] {
        let mut request = get("/");
        request.principal = Some(format!("ns/ns/{namespace}/sa/ns"));
        requests.push(request);
    }
    let mut patterns: Vec<String> = strings(&["a", "b", "*"], 3).into_iter().skip(1).collect();
    patterns.extend(["sa", "ns", "s*", "*s", "ns/ns", "a/sa", "*/sa/*"].map(str::to_owned));
    let rule_of = |values: &[&str], not_values: &[&str]| {
        let values = values.iter().map(|value| ("namespaces", *value));
        let fields: Vec<(&str, &str)> = values
            .chain(not_values.iter().map(|value| ("notNamespaces", *value)))
            .collect();
        from(&fields)
    };
    let path_of = |rule: Rule| path(vec![point(http(), &[policy(Action::Allow, vec![rule])])]);
    let accepted: Vec<Vec<bool>> = patterns
        .iter()
        .map(|pattern| bits(&requests, &path_of(rule_of(&[pattern], &[]))))
        .collect();
    for (one, is_one) in patterns.iter().zip(&accepted) {
        for (other, is_other) in patterns.iter().zip(&accepted) {
            let context = || format!("{one} against {other}");
            let (opens, breaks) = compared(
                path_of(rule_of(&[other], &[])),
                path_of(rule_of(&[one], &[])),
            );
            let missed = |finding: &Finding, brute: bool| brute && !is_found(finding, &context);
            let opening = is_one.iter().zip(is_other).any(|(&a, &b)| a && !b);
            let breaking = is_one.iter().zip(is_other).any(|(&a, &b)| !a && b);
            assert!(
                !missed(&opens, opening) && !missed(&breaks, breaking),
                "{}",
                context()
            );
            let but_not = path_of(rule_of(&[one], &[other]));
            let (_, breaks) = compared(path_of(rule_of(&[one], &[])), but_not);
            let both = is_one.iter().zip(is_other).any(|(&a, &b)| a && b);
            assert!(!missed(&breaks, both), "{one} but not {other}");
        }
    }
}
