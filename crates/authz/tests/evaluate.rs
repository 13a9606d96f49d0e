//! What the evaluator decides, as tables written from the sources that each row names.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/words.rs"]
mod words;

use castoff_authz::decision::Outcome;
use castoff_authz::eval::evaluate;
use castoff_authz::path::{IpSeen, PointKind, PortSeen, PrincipalSeen, SniSeen, TokenRule};
use castoff_authz::policy::{Action, Key, Policy, Rule};
use castoff_authz::request::Token;
use castoff_authz::settings::{Authorizer, Release};
use words::*;

fn decides(
    kind: &PointKind,
    policies: &[Policy],
    request: &castoff_authz::request::Request,
) -> Outcome {
    evaluate(request, &path(vec![point(kind.clone(), policies)])).outcome
}

#[test]
fn an_absent_rule_never_matches_and_an_empty_rule_always_does() {
    for kind in [http(), tcp(), PointKind::Ztunnel] {
        for (action, rules, expected) in [
            (Action::Allow, vec![], Outcome::Deny),
            (Action::Deny, vec![], Outcome::Allow),
            (Action::Allow, vec![Rule::default()], Outcome::Allow),
            (Action::Deny, vec![Rule::default()], Outcome::Deny),
            (Action::Audit, vec![Rule::default()], Outcome::Allow),
        ] {
            let policy = Policy::new("shop", "p", action.clone(), rules.clone());
            assert_eq!(
                decides(&kind, &[policy], &get("/")),
                expected,
                "{kind:?} {action:?} {rules:?}"
            );
        }
    }
}

/// (field, value, request, Envoy HTTP matches, ztunnel matches); `model/generator.go`,
/// `matcher/string.go`, ztunnel `src/rbac.rs`.
#[test]
fn strings_of_identities_match_as_each_proxy_matches_them() {
    let web = "cluster.local/ns/shop/sa/web";
    let rows: &[(&str, &str, Option<&str>, bool, bool)] = &[
        ("principals", web, Some(web), true, true),
        (
            "principals",
            "cluster.local/ns/shop/sa/we",
            Some(web),
            false,
            false,
        ),
        (
            "principals",
            "cluster.local/ns/shop/*",
            Some(web),
            true,
            true,
        ),
        ("principals", "*/sa/web", Some(web), true, true),
        ("principals", "*", Some(web), true, true),
        ("principals", "*", None, false, false),
        (
            "principals",
            "spiffe://cluster.local/ns/shop/sa/web",
            Some(web),
            false,
            false,
        ),
        ("principals", "*/ns/shop/*", Some(web), false, false),
        ("namespaces", "shop", Some(web), true, true),
        ("namespaces", "sho*", Some(web), true, true),
        ("namespaces", "*hop", Some(web), true, true),
        ("namespaces", "s*p", Some(web), true, false),
        // The `.*` of an infix may cross slashes: `/ns/s` … `a/` of `/sa/`.
        ("namespaces", "s*a", Some(web), true, false),
        ("namespaces", "Shop", Some(web), false, false),
        ("namespaces", "shop", None, false, false),
        ("serviceAccounts", "web", Some(web), true, true),
        ("serviceAccounts", "shop/web", Some(web), true, true),
        ("serviceAccounts", "bank/web", Some(web), false, false),
        ("serviceAccounts", "w*", Some(web), false, false),
        (
            "serviceAccounts",
            "web",
            Some("other.td/ns/shop/sa/web"),
            true,
            true,
        ),
        // ztunnel drops `trustDomains`; the match is then empty and never holds.
        ("trustDomains", "cluster.local", Some(web), true, false),
        ("trustDomains", "cluster.*", Some(web), true, false),
        ("trustDomains", "*", Some(web), true, false),
        ("trustDomains", "cluster", Some(web), false, false),
    ];
    for (field, value, principal, envoy, ztunnel) in rows {
        let mut request = get("/");
        request.principal = principal.map(str::to_owned);
        for (kind, expected) in [
            (http(), envoy),
            (tcp(), envoy),
            (PointKind::Ztunnel, ztunnel),
        ] {
            let deny = policy(Action::Deny, vec![from(&[(field, value)])]);
            let matched = decides(&kind, &[deny], &request) == Outcome::Deny;
            assert_eq!(
                matched, *expected,
                "{field}: {value} for {principal:?} at {kind:?}"
            );
        }
    }
}

#[test]
fn a_caller_without_identity_matches_every_not_field() {
    let mut request = get("/");
    request.principal = None;
    for field in ["notPrincipals", "notNamespaces", "notServiceAccounts"] {
        for kind in [http(), tcp(), PointKind::Ztunnel] {
            let deny = policy(Action::Deny, vec![from(&[(field, "web")])]);
            assert_eq!(
                decides(&kind, &[deny], &request),
                Outcome::Deny,
                "{field} at {kind:?}"
            );
        }
    }
}

/// `matcher/header.go`, `matcher/template.go`, Envoy `uri_template_internal.cc`.
#[test]
fn http_fields_match_as_envoy_matches_them() {
    let rows: &[(&str, &str, &str, &str, bool)] = &[
        ("paths", "/a", "host", "/a", true),
        ("paths", "/a", "host", "/a/", false),
        ("paths", "/a*", "host", "/ab", true),
        ("paths", "*.jpg", "host", "/x.jpg", true),
        ("paths", "*", "host", "/", true),
        ("paths", "/A", "host", "/a", false),
        ("paths", "/v/{*}", "host", "/v/1", true),
        ("paths", "/v/{*}", "host", "/v/", false),
        ("paths", "/v/{*}", "host", "/v/1/2", false),
        ("paths", "/v/{**}", "host", "/v/1/2", true),
        ("paths", "/v/{**}", "host", "/v/", true),
        ("paths", "/v/{**}", "host", "/v", false),
        ("paths", "/{**}/end", "host", "/a/b/end", true),
        ("paths", "/{*}/x/{**}", "host", "/a/x/", true),
        ("paths", "/v/{*}", "host", "/v/a\"b", false),
        ("hosts", "Orders.Shop", "orders.shop", "/", true),
        ("hosts", "orders.shop", "orders.shop:8080", "/", false),
        ("hosts", "*.shop", "a.SHOP", "/", true),
        ("hosts", "orders*", "ORDERS:1", "/", true),
        ("hosts", "*", "", "/", true),
        ("methods", "GET", "h", "/", true),
        ("methods", "get", "h", "/", false),
        ("methods", "G*", "h", "/", true),
    ];
    for (field, value, host, path, expected) in rows {
        let mut request = get(path);
        request.http.as_mut().unwrap().host = (*host).to_owned();
        let deny = policy(Action::Deny, vec![to(&[(field, value)])]);
        let matched = decides(&http(), &[deny], &request) == Outcome::Deny;
        assert_eq!(matched, *expected, "{field}: {value} for {host}{path}");
    }
}

/// `model.go:checkError`: on TCP an ALLOW rule with an HTTP field is gone, a DENY rule loses the field;
/// `authorization.go:handleRule` and `rbac.rs`: at ztunnel an emptied clause never holds.
#[test]
fn a_rule_with_http_fields_narrows_or_widens_where_http_is_not_seen() {
    let methods = || rule(&[], &[("methods", "POST")]);
    let mixed = || rule(&[("principals", "*")], &[("methods", "POST")]);
    let port_and_method = || rule(&[], &[("ports", "8080"), ("methods", "POST")]);
    let two_operations = || {
        let mut rule = rule(&[], &[("methods", "POST")]);
        rule.to.push(operation(&[("ports", "8080")]));
        rule
    };
    let remote = || rule(&[("remoteIpBlocks", "0.0.0.0/0")], &[]);
    let rows = [
        (
            "L7 only",
            methods(),
            Outcome::Deny,
            Outcome::Deny,
            Outcome::Allow,
            Outcome::Deny,
        ),
        (
            "principal and method",
            mixed(),
            Outcome::Deny,
            Outcome::Deny,
            Outcome::Allow,
            Outcome::Deny,
        ),
        (
            "port and method",
            port_and_method(),
            Outcome::Deny,
            Outcome::Deny,
            Outcome::Deny,
            Outcome::Deny,
        ),
        (
            "two operations",
            two_operations(),
            Outcome::Deny,
            Outcome::Deny,
            Outcome::Deny,
            Outcome::Deny,
        ),
        (
            "remoteIpBlocks",
            remote(),
            Outcome::Deny,
            Outcome::Allow,
            Outcome::Allow,
            Outcome::Deny,
        ),
    ];
    for (name, rule, deny_tcp, allow_tcp, deny_ztunnel, allow_ztunnel) in rows {
        let deny = policy(Action::Deny, vec![rule.clone()]);
        let allow = policy(Action::Allow, vec![rule]);
        let request = get("/");
        assert_eq!(
            decides(&tcp(), std::slice::from_ref(&deny), &request),
            deny_tcp,
            "{name}: DENY on TCP"
        );
        assert_eq!(
            decides(&tcp(), std::slice::from_ref(&allow), &request),
            allow_tcp,
            "{name}: ALLOW on TCP"
        );
        assert_eq!(
            decides(&PointKind::Ztunnel, &[deny], &request),
            deny_ztunnel,
            "{name}: DENY at ztunnel"
        );
        assert_eq!(
            decides(&PointKind::Ztunnel, &[allow], &request),
            allow_ztunnel,
            "{name}: ALLOW at ztunnel"
        );
    }
}

#[test]
fn addresses_and_ports_are_those_seen_at_the_point() {
    let deny = |field, value| policy(Action::Deny, vec![from(&[(field, value)])]);
    let mut at = point(http(), &[deny("ipBlocks", "10.0.0.0/8")]);
    assert_eq!(
        evaluate(&get("/"), &path(vec![at.clone()])).outcome,
        Outcome::Deny
    );
    at.seen.source_ip = IpSeen::NotAnIp;
    assert_eq!(
        evaluate(&get("/"), &path(vec![at.clone()])).outcome,
        Outcome::Allow
    );
    let mut at = point(http(), &[deny("notIpBlocks", "10.0.0.0/8")]);
    at.seen.source_ip = IpSeen::NotAnIp;
    assert_eq!(evaluate(&get("/"), &path(vec![at])).outcome, Outcome::Deny);
    let mut at = point(
        http(),
        &[policy(Action::Deny, vec![to(&[("ports", "80")])])],
    );
    assert_eq!(
        evaluate(&get("/"), &path(vec![at.clone()])).outcome,
        Outcome::Allow
    );
    at.seen.destination_port = PortSeen::Fixed(80);
    assert_eq!(evaluate(&get("/"), &path(vec![at])).outcome, Outcome::Deny);
    let mut at = point(
        PointKind::Ztunnel,
        &[deny("principals", "cluster.local/ns/shop/sa/waypoint")],
    );
    at.seen.principal = PrincipalSeen::Fixed("cluster.local/ns/shop/sa/waypoint".to_owned());
    assert_eq!(evaluate(&get("/"), &path(vec![at])).outcome, Outcome::Deny);
    let mut at = point(
        http(),
        &[policy(
            Action::Deny,
            vec![when(Key::ConnectionSni, "*.shop")],
        )],
    );
    assert_eq!(
        evaluate(&get("/"), &path(vec![at.clone()])).outcome,
        Outcome::Allow
    );
    at.seen.sni = SniSeen::Fixed("orders.shop".to_owned());
    assert_eq!(evaluate(&get("/"), &path(vec![at])).outcome, Outcome::Deny);
}

/// `trustdomain/bundle.go`; ztunnel compares literally.
#[test]
fn trust_domain_aliases_count_in_envoy_only() {
    let rows: &[(&str, &str, bool, bool)] = &[
        ("td1/ns/a/sa/b", "td2/ns/a/sa/b", true, false),
        ("cluster.local/ns/a/sa/b", "td1/ns/a/sa/b", true, false),
        (
            "cluster.local/ns/a/sa/b",
            "cluster.local/ns/a/sa/b",
            false,
            true,
        ),
        ("td9/ns/a/sa/b", "td9/ns/a/sa/b", true, true),
        ("*/ns/a/sa/b", "td9/ns/a/sa/b", true, true),
        ("td1/ns/a/*", "td2/ns/a/sa/b", false, false),
        ("*d1/ns/a/sa/b", "td2/ns/a/sa/b", true, false),
    ];
    for (value, principal, envoy, ztunnel) in rows {
        let mut request = get("/");
        request.principal = Some((*principal).to_owned());
        for (kind, expected) in [(http(), envoy), (PointKind::Ztunnel, ztunnel)] {
            let mut path = path(vec![point(
                kind.clone(),
                &[policy(Action::Deny, vec![from(&[("principals", value)])])],
            )]);
            path.settings = settings(|settings| {
                settings.trust_domain = "td1".to_owned();
                settings.trust_domain_aliases = vec!["td2".to_owned()];
            });
            assert_eq!(
                evaluate(&request, &path).outcome == Outcome::Deny,
                *expected,
                "{value} for {principal} at {kind:?}"
            );
        }
    }
}

/// `generator.go:requestPrincipalGenerator`.
#[test]
fn request_principals_split_at_the_last_slash() {
    let rows: &[(&str, &str, Option<&str>, bool)] = &[
        (
            "https://a.example/me",
            "https://a.example",
            Some("me"),
            true,
        ),
        ("*", "i", Some("s"), true),
        ("*", "i", None, false),
        ("*/s", "i", Some("s"), true),
        ("*i/s", "xi", Some("s"), true),
        ("*s", "i", Some("xs"), true),
        ("i/*", "i", Some("s"), true),
        ("i/s*", "i", Some("sx"), true),
        ("i*", "ix", Some("s"), true),
        ("*/*", "i", Some("s"), false),
        ("i", "i", Some("s"), false),
    ];
    for (value, issuer, subject, expected) in rows {
        let mut token = Token::default();
        token
            .claims
            .insert(vec!["iss".to_owned()], vec![(*issuer).to_owned()]);
        if let Some(subject) = subject {
            token
                .claims
                .insert(vec!["sub".to_owned()], vec![(*subject).to_owned()]);
        }
        let mut request = get("/");
        request.http.as_mut().unwrap().token = Some(token);
        let mut at = point(
            http(),
            &[policy(
                Action::Deny,
                vec![from(&[("requestPrincipals", value)])],
            )],
        );
        at.token_rules = vec![TokenRule {
            issuer: (*issuer).to_owned(),
            audiences: vec![],
            forward: false,
            validation: "keys".to_owned(),
        }];
        let denied = evaluate(&request, &path(vec![at])).outcome == Outcome::Deny;
        assert_eq!(denied, *expected, "{value} for {issuer} {subject:?}");
    }
}

#[test]
fn a_stripped_token_is_not_seen_behind_the_point_that_strips_it() {
    let rule = |forward| TokenRule {
        issuer: "i".to_owned(),
        audiences: vec![],
        forward,
        validation: "keys".to_owned(),
    };
    let mut token = Token::default();
    token
        .claims
        .insert(vec!["iss".to_owned()], vec!["i".to_owned()]);
    token
        .claims
        .insert(vec!["sub".to_owned()], vec!["s".to_owned()]);
    let mut request = get("/");
    request.http.as_mut().unwrap().token = Some(token);
    for (forward, expected) in [(true, Outcome::Allow), (false, Outcome::Deny)] {
        let mut waypoint = point(http(), &[]);
        waypoint.token_rules = vec![rule(forward)];
        let mut sidecar = point(
            http(),
            &[policy(
                Action::Deny,
                vec![from(&[("notRequestPrincipals", "*")])],
            )],
        );
        sidecar.token_rules = vec![rule(true)];
        assert_eq!(
            evaluate(&request, &path(vec![waypoint, sidecar])).outcome,
            expected,
            "forward {forward}"
        );
    }
}

/// Envoy `jwt_authn/filter.cc:isCorsPreflightRequest`; every row was seen at a real Envoy too.
#[test]
fn the_token_of_a_cors_preflight_is_not_looked_at() {
    let rows: &[(&str, Option<&str>, Option<&str>, &str, Outcome)] = &[
        (
            "OPTIONS",
            Some("https://a"),
            Some("GET"),
            "bad",
            Outcome::Allow,
        ),
        ("OPTIONS", Some(""), Some("GET"), "bad", Outcome::Deny),
        ("OPTIONS", Some("https://a"), Some(""), "bad", Outcome::Deny),
        ("OPTIONS", Some("https://a"), None, "bad", Outcome::Deny),
        ("OPTIONS", None, Some("GET"), "bad", Outcome::Deny),
        (
            "options",
            Some("https://a"),
            Some("GET"),
            "bad",
            Outcome::Deny,
        ),
        ("GET", Some("https://a"), Some("GET"), "bad", Outcome::Deny),
        // A good token gives it no request principal, so that this DENY does not match.
        (
            "OPTIONS",
            Some("https://a"),
            Some("GET"),
            "good",
            Outcome::Allow,
        ),
        ("GET", Some("https://a"), Some("GET"), "good", Outcome::Deny),
    ];
    for (method, origin, asks, token, expected) in rows {
        let mut claims = Token::default();
        for name in ["iss", "sub"] {
            let value = vec!["i".to_owned()];
            claims.claims.insert(vec![name.to_owned()], value);
        }
        if *token == "bad" {
            claims.fails.insert("keys".to_owned());
        }
        let mut request = get("/");
        let http_part = request.http.as_mut().unwrap();
        http_part.method = (*method).to_owned();
        http_part.token = Some(claims);
        for (name, value) in [("origin", origin), ("access-control-request-method", asks)] {
            let value = value.map(str::to_owned);
            let headers = &mut http_part.headers;
            headers.extend(value.map(|value| (name.to_owned(), value)));
        }
        let rule = from(&[("requestPrincipals", "*")]);
        let mut at = point(http(), &[policy(Action::Deny, vec![rule])]);
        at.token_rules = vec![TokenRule {
            issuer: "i".to_owned(),
            audiences: vec![],
            forward: false,
            validation: "keys".to_owned(),
        }];
        assert_eq!(
            evaluate(&request, &path(vec![at])).outcome,
            *expected,
            "{method} {origin:?} {asks:?} with a {token} token"
        );
    }
}

#[test]
fn an_untranslatable_value_takes_an_allow_rule_with_it_and_only_itself_out_of_a_deny() {
    let bad = || rule(&[], &[("ports", "http"), ("methods", "POST")]);
    let mut request = get("/");
    request.http.as_mut().unwrap().method = "POST".to_owned();
    let deny = policy(Action::Deny, vec![bad()]);
    assert_eq!(decides(&http(), &[deny], &request), Outcome::Deny);
    let allow = policy(Action::Allow, vec![bad()]);
    assert_eq!(decides(&http(), &[allow], &request), Outcome::Deny);
    let unknown_key = policy(Action::Deny, vec![when(Key::parse("source.nonsense"), "x")]);
    assert_eq!(decides(&http(), &[unknown_key], &request), Outcome::Allow);
}

#[test]
fn dry_run_decides_nothing_but_at_an_old_ztunnel() {
    let mut deny = policy(Action::Deny, vec![Rule::default()]);
    deny.dry_run = true;
    let mut allow = policy(Action::Allow, vec![]);
    allow.dry_run = true;
    let policies = [deny, allow];
    for kind in [http(), tcp(), PointKind::Ztunnel] {
        assert_eq!(
            decides(&kind, &policies, &get("/")),
            Outcome::Allow,
            "{kind:?}"
        );
    }
    let mut old = path(vec![point(PointKind::Ztunnel, &policies)]);
    old.settings = std::sync::Arc::new(castoff_authz::settings::Settings::of(Release {
        minor: 25,
        patch: 1,
    }));
    assert_eq!(evaluate(&get("/"), &old).outcome, Outcome::Deny);
}

/// `builder.go:buildHTTP`, `buildTCP`; ztunnel is never sent CUSTOM.
#[test]
fn custom_asks_refuses_or_vanishes() {
    let custom = |provider: &str| {
        let mut policy = policy(
            Action::Custom {
                provider: provider.to_owned(),
            },
            vec![to(&[("paths", "/admin*")])],
        );
        policy.name.name = provider.to_owned();
        policy
    };
    let with = |kind: PointKind, policies: &[Policy], http_only: bool| {
        let mut path = path(vec![point(kind, policies)]);
        path.settings = settings(|settings| {
            settings.authorizers = vec![Authorizer {
                name: "gate".to_owned(),
                http_only,
                definition: String::new(),
            }];
        });
        evaluate(&get("/admin"), &path).outcome
    };
    let asks = |outcome: &Outcome| matches!(outcome, Outcome::Depends(_));
    assert!(asks(&with(http(), &[custom("gate")], true)));
    assert_eq!(with(tcp(), &[custom("gate")], true), Outcome::Allow);
    assert!(asks(&with(tcp(), &[custom("gate")], false)));
    assert_eq!(with(http(), &[custom("nobody")], true), Outcome::Deny);
    assert_eq!(
        with(http(), &[custom("gate"), custom("other")], true),
        Outcome::Deny
    );
    assert_eq!(
        with(PointKind::Ztunnel, &[custom("gate")], true),
        Outcome::Allow
    );
}
