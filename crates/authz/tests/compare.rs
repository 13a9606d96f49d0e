//! What the prover answers in the cases that its definition names.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/questions.rs"]
mod questions;
#[path = "support/words.rs"]
mod words;

use castoff_authz::decision::{Because, Outcome};
use castoff_authz::path::{
    AddressKind, NetworkEntry, PointKind, PortSeen, PrincipalSeen, Protocol, Proxy, TokenRule,
};
use castoff_authz::policy::{Condition, Key, Policy, Rule};
use castoff_authz::verdict::{Caller, Finding, Limits, compare};
use questions::*;
use words::*;

#[test]
fn the_same_policies_in_another_order_and_split_are_the_same() {
    let rules = vec![
        rule(&[("principals", WEB)], &[("paths", "/a")]),
        rule(
            &[("namespaces", "bank")],
            &[("methods", "GET"), ("methods", "HEAD")],
        ),
    ];
    let mut second = allow(vec![rules[1].clone()]);
    second.name.name = "second".to_owned();
    let split = [second, allow(vec![rules[0].clone()])];
    assert!(ask(vec![at(http(), &[allow(rules)])], vec![at(http(), &split)]).is_same());
}

#[test]
fn equal_meaning_in_different_words_is_the_same() {
    let rows = [
        (
            to(&[("paths", "/a*"), ("paths", "/ab")]),
            to(&[("paths", "/a*")]),
        ),
        (to(&[("paths", "*")]), Rule::default()),
        (from(&[("principals", "*")]), from(&[("namespaces", "*")])),
        (
            from(&[("namespaces", "shop"), ("principals", "*/sa/web")]),
            from(&[("serviceAccounts", "web")]),
        ),
        (
            from(&[("ipBlocks", "10.0.0.0/9"), ("ipBlocks", "10.128.0.0/9")]),
            from(&[("ipBlocks", "10.0.0.0/8")]),
        ),
        (
            to(&[("paths", "/{**}"), ("notPaths", "/{*}")]),
            to(&[("paths", "/{**}"), ("notPaths", "/{*}")]),
        ),
    ];
    for (one, other) in rows {
        let verdict = ask(
            vec![at(http(), &[allow(vec![one.clone()])])],
            vec![at(http(), &[allow(vec![other.clone()])])],
        );
        assert!(verdict.is_same(), "{one:?} {other:?} {verdict:?}");
    }
}

#[test]
fn a_removed_rule_breaks_with_a_human_witness() {
    let both = vec![
        rule(
            &[("principals", WEB)],
            &[("paths", "/orders"), ("methods", "POST")],
        ),
        rule(&[("principals", WEB)], &[("paths", "/health")]),
    ];
    let verdict = ask(
        vec![at(http(), &[allow(both.clone())])],
        vec![at(http(), &[allow(both[1..].to_vec())])],
    );
    assert_eq!(verdict.opens, Finding::Never);
    let witness = witness(&verdict.breaks);
    let request = witness.request.http.as_ref().unwrap();
    assert_eq!(witness.request.principal.as_deref(), Some(WEB));
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", "/orders")
    );
    assert_eq!(witness.before[0].1.outcome, Outcome::Allow);
    let after = witness.after[0].1.deciding().unwrap();
    let Because::NoAllowMatches { tried, .. } = &after.because else {
        panic!("{after:?}");
    };
    assert_eq!(tried[0].fields[0].field, "to[0].operation.paths");
    assert_eq!(tried[0].fields[0].values, ["/health"]);
    assert_eq!(tried[0].fields[0].seen.as_deref(), Some("/orders"));
}

#[test]
fn an_l7_deny_left_to_ztunnel_opens() {
    let policies = [deny(vec![to(&[("paths", "/admin*")])])];
    let verdict = ask(
        vec![at(http(), &policies)],
        vec![at(PointKind::Ztunnel, &policies)],
    );
    assert_eq!(verdict.breaks, Finding::Never);
    assert_eq!(
        witness(&verdict.opens).request.http.as_ref().unwrap().path,
        "/admin"
    );
}

#[test]
fn a_guard_for_the_waypoint_is_the_same_but_for_the_waypoint_itself() {
    let waypoint_account = "cluster.local/ns/shop/sa/waypoint";
    let original = || allow(vec![rule(&[("principals", WEB)], &[("methods", "GET")])]);
    let guard = || allow(vec![from(&[("principals", waypoint_account)])]);
    let baseline = at(http(), &[original()]);
    let mut first = point(
        PointKind::Envoy {
            proxy: Proxy::Waypoint,
            protocol: Protocol::Http,
        },
        &[original()],
    );
    first.name = "shop/waypoint".to_owned();
    let mut second = point(PointKind::Ztunnel, &[guard()]);
    second.seen.principal = PrincipalSeen::Fixed(waypoint_account.to_owned());
    let by_service = path(vec![first, second]);
    let mut by_pod = path(vec![point(PointKind::Ztunnel, &[guard()])]);
    by_pod.address.kind = AddressKind::Pod;
    by_pod.in_use = false;
    let question = question(vec![baseline], vec![by_service, by_pod]);
    let verdict = compare(&question, Limits::default());
    assert_eq!(verdict.breaks, Finding::Never);
    assert_eq!(
        witness(&verdict.opens).request.principal.as_deref(),
        Some(waypoint_account)
    );
    let but_the_waypoint = question
        .clone()
        .except_identities(&[waypoint_account.to_owned()]);
    assert!(compare(&but_the_waypoint, Limits::default()).is_same());
    assert!(
        compare(
            &question.clone().only_kind(AddressKind::Service),
            Limits::default()
        )
        .is_same()
    );
    let others =
        question.only_identities(&[WEB.to_owned(), "cluster.local/ns/bank/sa/teller".to_owned()]);
    assert!(compare(&others, Limits::default()).is_same());
}

#[test]
fn a_pod_address_that_nobody_uses_opens_only_for_what_it_refused_itself() {
    let service = || at(http(), &[deny(vec![from(&[("principals", WEB)])])]);
    let pod = |policies: &[Policy]| {
        let mut pod = at(http(), policies);
        pod.address.kind = AddressKind::Pod;
        pod.in_use = false;
        pod
    };
    let refuses_get = || deny(vec![rule(&[], &[("methods", "GET")])]);
    // The Service refuses web before and now; the pod took it before and does now.
    let still = ask(
        vec![service(), pod(&[])],
        vec![
            service(),
            pod(&[deny(vec![rule(&[], &[("methods", "PUT")])])]),
        ],
    );
    assert!(still.is_same(), "{still:?}");
    let gained = ask(
        vec![service(), pod(&[refuses_get()])],
        vec![service(), pod(&[])],
    );
    let gained = witness(&gained.opens);
    assert_eq!(gained.address.kind, AddressKind::Pod);
    assert_eq!(gained.request.principal.as_deref(), Some(WEB));
    assert_eq!(gained.request.http.as_ref().unwrap().method, "GET");
}

#[test]
fn an_address_not_in_use_does_not_hide_an_opening_and_its_loss_is_no_break() {
    let mut pod = at(http(), &[]);
    pod.address.kind = AddressKind::Pod;
    pod.in_use = false;
    let service = at(http(), &[deny(vec![from(&[("principals", WEB)])])]);
    let verdict = ask(vec![service.clone(), pod], vec![at(http(), &[])]);
    assert_eq!(
        witness(&verdict.opens).request.principal.as_deref(),
        Some(WEB)
    );
    assert_eq!(verdict.breaks, Finding::Never);
}

#[test]
fn a_caller_fixes_the_identity() {
    let baseline = || vec![at(http(), &[allow(vec![from(&[("principals", WEB)])])])];
    let present = || vec![at(http(), &[allow(vec![from(&[("namespaces", "shop")])])])];
    let mut question = question(baseline(), present());
    question.caller = Caller::workload(WEB);
    assert!(compare(&question, Limits::default()).is_same());
    question.caller = Caller::outsider();
    assert!(compare(&question, Limits::default()).is_same());
    question.caller = Caller::other_identity("cluster.local", &[WEB.to_owned()]);
    let verdict = compare(&question, Limits::default());
    assert_eq!(
        witness(&verdict.opens).request.principal.as_deref(),
        Some("cluster.local/ns/shop/sa/other")
    );
    question.caller = Caller::other_identity("other.example", &[]);
    let verdict = compare(&question, Limits::default());
    assert_eq!(
        witness(&verdict.opens).request.principal.as_deref(),
        Some("other.example/ns/shop/sa/other")
    );
}

#[test]
fn tokens_validated_stripped_and_refused_change_access() {
    let rule = |forward| TokenRule {
        issuer: "https://issuer.example".to_owned(),
        audiences: vec![],
        forward,
        validation: "keys".to_owned(),
    };
    let sidecar = |rules: &[TokenRule]| {
        let mut at = point(
            http(),
            &[deny(vec![from(&[("notRequestPrincipals", "*")])])],
        );
        at.token_rules = rules.to_vec();
        at
    };
    let waypoint = |forward| {
        let mut at = point(http(), &[]);
        at.token_rules = vec![rule(forward)];
        at
    };
    let baseline = || vec![path(vec![sidecar(&[rule(true)])])];
    assert!(
        ask(
            baseline(),
            vec![path(vec![waypoint(true), sidecar(&[rule(true)])])]
        )
        .is_same()
    );
    let stripped = ask(
        baseline(),
        vec![path(vec![waypoint(false), sidecar(&[rule(true)])])],
    );
    assert_eq!(stripped.opens, Finding::Never);
    let token = witness(&stripped.breaks)
        .request
        .http
        .as_ref()
        .unwrap()
        .token
        .as_ref()
        .unwrap();
    assert_eq!(token.issuer(), Some("https://issuer.example"));
    // Without the RequestAuthentication nothing has a request principal.
    let missing = ask(baseline(), vec![path(vec![sidecar(&[])])]);
    assert_eq!(missing.opens, Finding::Never);
    witness(&missing.breaks);
    // A RequestAuthentication that goes lets bad tokens through.
    let gone = ask(vec![path(vec![waypoint(true)])], vec![path(vec![])]);
    assert!(
        witness(&gone.opens)
            .request
            .http
            .as_ref()
            .unwrap()
            .token
            .is_some()
    );
}

#[test]
fn a_cors_preflight_has_no_request_principal_and_is_no_break_where_only_principals_are_denied() {
    let with = |rules: Vec<Rule>| {
        let mut at = point(http(), &[deny(rules)]);
        at.token_rules = vec![TokenRule {
            issuer: "https://issuer.example".to_owned(),
            audiences: vec![],
            forward: false,
            validation: "keys".to_owned(),
        }];
        vec![path(vec![at])]
    };
    let denied = |method: &str| {
        let mut rule = from(&[("requestPrincipals", "*")]);
        rule.to = to(&[("methods", method)]).to;
        for name in ["origin", "access-control-request-method"] {
            rule.when.push(Condition {
                key: Key::RequestHeader(name.to_owned()),
                values: vec!["h*".to_owned()],
                not_values: vec![],
            });
        }
        rule
    };
    let nothing = || with(vec![to(&[("paths", "/never")])]);
    let also = |method| with(vec![to(&[("paths", "/never")]), denied(method)]);
    assert!(ask(nothing(), also("OPTIONS")).is_same());
    let get = ask(nothing(), also("GET"));
    let request = &witness(&get.breaks).request;
    assert_eq!(request.http.as_ref().unwrap().method, "GET");
}

#[test]
fn claims_may_have_several_values() {
    let claim = |values: &[&str]| {
        let rules = values
            .iter()
            .map(|value| when(Key::parse("request.auth.claims[groups]"), value));
        let mut at = point(http(), &[allow(rules.collect())]);
        at.token_rules = vec![TokenRule {
            issuer: "i".to_owned(),
            audiences: vec![],
            forward: true,
            validation: "keys".to_owned(),
        }];
        at
    };
    let both = |one: &str, other: &str| path(vec![claim(&[one]), claim(&[other])]);
    assert!(ask(vec![both("a", "b")], vec![both("b", "a")]).is_same());
    // A list may hold `a` and `b`, so it is not true that both at once never happens.
    let verdict = ask(
        vec![path(vec![point(
            PointKind::Stop {
                reason: String::new(),
            },
            &[],
        )])],
        vec![both("a", "b")],
    );
    let token = witness(&verdict.opens)
        .request
        .http
        .as_ref()
        .unwrap()
        .token
        .as_ref()
        .unwrap()
        .clone();
    assert_eq!(token.claims[&vec!["groups".to_owned()]], ["a", "b"]);
}

#[test]
fn network_policies_admit_by_address_and_port() {
    let network = |block: &str, port: u16| {
        let mut at = point(
            PointKind::NetworkPolicy {
                admits: vec![NetworkEntry {
                    block: Some((castoff_authz::ip::IpBlock::parse(block).unwrap(), vec![])),
                    ports: vec![(port, port)],
                }],
            },
            &[],
        );
        at.seen.destination_port = PortSeen::Fixed(15008);
        vec![path(vec![at])]
    };
    assert!(ask(network("10.0.0.0/8", 15008), network("10.0.0.0/8", 15008)).is_same());
    let closed = ask(network("10.0.0.0/8", 15008), network("10.0.0.0/8", 8080));
    assert_eq!(
        witness(&closed.breaks).request.source_ip.to_string(),
        "10.0.0.0"
    );
    let wider = ask(network("10.0.0.0/9", 15008), network("10.0.0.0/8", 15008));
    assert_eq!(
        witness(&wider.opens).request.source_ip.to_string(),
        "10.128.0.0"
    );
}

#[test]
fn bytes_that_are_not_http_never_pass_an_http_chain() {
    let mut bytes = question(vec![at(tcp(), &[])], vec![at(http(), &[])]);
    bytes.http = false;
    let verdict = compare(&bytes, Limits::default());
    assert_eq!(verdict.opens, Finding::Never);
    assert_eq!(
        witness(&verdict.breaks).after[0]
            .1
            .deciding()
            .unwrap()
            .because,
        Because::NotHttp
    );
}

#[test]
fn an_address_that_is_gone_breaks() {
    let verdict = ask(vec![at(http(), &[])], vec![]);
    assert_eq!(verdict.opens, Finding::Never);
    assert_eq!(
        witness(&verdict.breaks)
            .request
            .http
            .as_ref()
            .unwrap()
            .method,
        "GET"
    );
}

/// Found by generated pairs: an attribute with a single value has no variable, and must not be taken
/// for the attribute behind it.
#[test]
fn an_attribute_with_one_value_is_not_mistaken_for_the_next() {
    let first = deny(vec![Rule::default(), to(&[("methods", "GET")])]);
    let second = deny(vec![from(&[("trustDomains", "cluster.local")])]);
    let mut question = question(vec![at(http(), &[first]), at(http(), &[second])], vec![]);
    question.caller = Caller::workload(WEB);
    assert!(compare(&question, Limits::default()).is_same());
}

/// `{*}` stops at a slash that no pattern names, so slashes are tried where they are not named.
#[test]
fn a_template_of_one_segment_does_not_cover_two() {
    let one = allow(vec![to(&[("paths", "/v/{*}"), ("paths", "/v/")])]);
    let many = allow(vec![to(&[("paths", "/v/{**}")])]);
    let verdict = ask(vec![at(http(), &[one])], vec![at(http(), &[many])]);
    assert_eq!(verdict.breaks, Finding::Never);
    assert_eq!(
        witness(&verdict.opens).request.http.as_ref().unwrap().path,
        "/v//"
    );
}

/// A path told to somebody: `GET /admin` from `shop/web` to `orders:8080`.
#[test]
fn a_decision_tells_point_policy_rule_and_field() {
    let sidecar = point(
        http(),
        &[deny(vec![rule(
            &[("namespaces", "shop")],
            &[("paths", "/admin*")],
        )])],
    );
    let decision = castoff_authz::eval::evaluate(
        &get("/admin"),
        &path(vec![point(PointKind::Ztunnel, &[]), sidecar]),
    );
    assert_eq!(decision.outcome, Outcome::Deny);
    assert_eq!(decision.points[0].because, Because::NothingRefuses);
    let deciding = decision.deciding().unwrap();
    assert_eq!(deciding.point, 1);
    let Because::DeniedBy(rule) = &deciding.because else {
        panic!("{deciding:?}");
    };
    assert_eq!(
        (rule.policy.to_string().as_str(), rule.rule),
        ("shop/policy", 0)
    );
    let told: Vec<(&str, Option<&str>, Option<&str>)> = rule
        .fields
        .iter()
        .map(|field| {
            (
                field.field.as_str(),
                field.matched.as_deref(),
                field.seen.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("from[0].source.namespaces", Some("shop"), Some(WEB)),
            ("to[0].operation.paths", Some("/admin*"), Some("/admin")),
        ]
    );
}

/// A pattern on a claim holds for every kind of value that it covers, not only for one.
#[test]
fn a_prefix_on_a_claim_covers_more_than_one_value() {
    let claim = |value: &str| {
        let mut at = point(
            http(),
            &[allow(vec![when(
                Key::parse("request.auth.claims[groups]"),
                value,
            )])],
        );
        at.token_rules = vec![TokenRule {
            issuer: "i".to_owned(),
            audiences: vec![],
            forward: true,
            validation: "keys".to_owned(),
        }];
        vec![path(vec![at])]
    };
    let verdict = ask(claim("admin"), claim("ad*"));
    assert_eq!(verdict.breaks, Finding::Never);
    let token = witness(&verdict.opens)
        .request
        .http
        .as_ref()
        .unwrap()
        .token
        .as_ref()
        .unwrap();
    assert_eq!(token.claims[&vec!["groups".to_owned()]], ["ad"]);
}

#[test]
fn a_server_name_with_a_capital_is_no_difference() {
    let with = |value: &str| {
        let deny = deny(vec![when(Key::parse("connection.sni"), value)]);
        vec![at(tcp(), &[deny])]
    };
    let mut comparison = question(with("WWW.Example.com"), vec![at(tcp(), &[])]);
    comparison.http = false;
    let verdict = compare(&comparison, Limits::default());
    assert!(verdict.is_same(), "{verdict:?}");
    let mut comparison = question(with("www.example.com"), vec![at(tcp(), &[])]);
    comparison.http = false;
    let verdict = compare(&comparison, Limits::default());
    assert!(matches!(verdict.opens, Finding::Witness(_)), "{verdict:?}");
}
