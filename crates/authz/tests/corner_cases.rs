//! Fine points of single fields, from the proxies' sources.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/words.rs"]
mod words;

use castoff_authz::decision::Outcome;
use castoff_authz::eval::evaluate;
use castoff_authz::path::PointKind;
use castoff_authz::policy::{Action, Condition, Key, Policy, Rule};
use castoff_authz::request::Request;
use words::*;

fn decides(kind: &PointKind, policies: &[Policy], request: &Request) -> Outcome {
    evaluate(request, &path(vec![point(kind.clone(), policies)])).outcome
}

/// Envoy `source/common/network/listen_socket_impl.h`: a server name is kept in lower case, so that a
/// value with a capital never matches.
#[test]
fn a_server_name_is_seen_in_lower_case() {
    let mut request = get("/");
    request.sni = Some("WWW.Example.com".to_owned());
    for (value, matched) in [
        ("www.example.com", true),
        ("*.example.com", true),
        ("WWW.Example.com", false),
        ("*.Example.com", false),
    ] {
        let deny = policy(
            Action::Deny,
            vec![when(Key::parse("connection.sni"), value)],
        );
        let outcome = decides(&tcp(), &[deny], &request);
        assert_eq!(outcome == Outcome::Deny, matched, "{value}");
    }
}

/// `model/util.go:extractNameInNestedBrackets` takes no brackets at all for no name: the whole payload,
/// which is neither a string nor a list.
#[test]
fn a_claim_without_a_name_holds_for_nobody() {
    let key = || Key::parse("request.auth.claims");
    let condition = |values: &[&str], not_values: &[&str]| {
        let words = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        vec![Rule {
            when: vec![Condition {
                key: key(),
                values: words(values),
                not_values: words(not_values),
            }],
            ..Rule::default()
        }]
    };
    let request = get("/");
    for (action, rules, accepted) in [
        (Action::Allow, condition(&["x"], &[]), false),
        (Action::Allow, condition(&[], &["x"]), true),
        (Action::Deny, condition(&["x"], &[]), true),
        (Action::Deny, condition(&[], &["x"]), false),
    ] {
        let one = policy(action, rules);
        let outcome = decides(&http(), &[one], &request);
        assert_eq!(outcome == Outcome::Allow, accepted);
    }
}
