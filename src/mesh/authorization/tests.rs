#![expect(clippy::unwrap_used, reason = "tests may fail by panic")]

use castoff_authz::policy::{Action, Condition, Key, Operation, Policy, Rule, Source};
use serde_json::{Value, json};

use super::{DRY_RUN, http_fields, translate_spec};
use crate::mesh::policy::{HttpField, JwtRule, Misunderstanding};
use crate::snapshot::{Labels, ObjectName};

fn name() -> ObjectName {
    ObjectName::new("foo", "httpbin")
}

fn read(spec: &Value) -> Result<Policy, Vec<Misunderstanding>> {
    translate_spec(&name(), &Labels::default(), spec)
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn misunderstood(spec: &Value) -> Vec<(String, String)> {
    let problems = read(spec).unwrap_err().into_iter();
    problems
        .map(|problem| (problem.path.to_string(), problem.reason))
        .collect()
}

#[test]
fn every_field_of_the_schema_is_taken_over() {
    let source = |prefix: &str| {
        let one = |name: &str| vec![format!("{prefix}{name}")];
        json!({
            "principals": one("p"), "notPrincipals": one("np"),
            "requestPrincipals": one("r"), "notRequestPrincipals": one("nr"),
            "namespaces": one("n"), "notNamespaces": one("nn"),
            "serviceAccounts": one("s"), "notServiceAccounts": one("ns"),
            "trustDomains": one("t"), "notTrustDomains": one("nt"),
            "ipBlocks": ["10.0.0.0/8"], "notIpBlocks": ["10.1.0.0/16"],
            "remoteIpBlocks": ["1.2.3.4"], "notRemoteIpBlocks": ["::1"],
        })
    };
    let spec = json!({
        "selector": {"matchLabels": {"app": "httpbin"}},
        "action": "DENY",
        "rules": [{
            "from": [{"source": source("a")}, {}],
            "to": [{"operation": {
                "hosts": ["h"], "notHosts": ["nh"], "ports": [80, "90"], "notPorts": [8000],
                "methods": ["GET"], "notMethods": ["PUT"], "paths": ["/a/{*}"], "notPaths": ["/b*"],
            }}],
            "when": [
                {"key": "request.headers[X-Tenant]", "values": ["a"], "notValues": ["b"]},
                {"key": "destination.port", "values": [443]},
                {"key": "request.auth.claims[a][b]", "values": ["c"]},
                {"key": "no.such.key", "values": ["c"]},
            ],
        }, {}],
    });
    let condition = |key: Key, values: &[&str], not_values: &[&str]| Condition {
        key,
        values: texts(values),
        not_values: texts(not_values),
    };
    let first = Rule {
        from: vec![
            Source {
                principals: texts(&["ap"]),
                not_principals: texts(&["anp"]),
                request_principals: texts(&["ar"]),
                not_request_principals: texts(&["anr"]),
                namespaces: texts(&["an"]),
                not_namespaces: texts(&["ann"]),
                service_accounts: texts(&["as"]),
                not_service_accounts: texts(&["ans"]),
                trust_domains: texts(&["at"]),
                not_trust_domains: texts(&["ant"]),
                ip_blocks: texts(&["10.0.0.0/8"]),
                not_ip_blocks: texts(&["10.1.0.0/16"]),
                remote_ip_blocks: texts(&["1.2.3.4"]),
                not_remote_ip_blocks: texts(&["::1"]),
            },
            Source::default(),
        ],
        to: vec![Operation {
            hosts: texts(&["h"]),
            not_hosts: texts(&["nh"]),
            ports: texts(&["80", "90"]),
            not_ports: texts(&["8000"]),
            methods: texts(&["GET"]),
            not_methods: texts(&["PUT"]),
            paths: texts(&["/a/{*}"]),
            not_paths: texts(&["/b*"]),
        }],
        when: vec![
            condition(Key::RequestHeader("X-Tenant".to_owned()), &["a"], &["b"]),
            condition(Key::DestinationPort, &["443"], &[]),
            condition(Key::RequestAuthClaim(texts(&["a", "b"])), &["c"], &[]),
            condition(Key::Invalid("no.such.key".to_owned()), &["c"], &[]),
        ],
    };
    let expected = Policy::new("foo", "httpbin", Action::Deny, vec![first, Rule::default()]);
    assert_eq!(read(&spec), Ok(expected));
}

#[test]
fn absent_and_null_and_empty_rules_are_no_rule_and_one_empty_rule_is_a_rule() {
    let rules = |spec: &Value| read(spec).map(|policy| policy.rules.len());
    let specs = [
        json!(null),
        json!({}),
        json!({"rules": null}),
        json!({"rules": []}),
    ];
    for spec in specs {
        assert_eq!(rules(&spec), Ok(0), "{spec}");
    }
    assert_eq!(rules(&json!({"rules": [{}]})), Ok(1));
    assert_eq!(rules(&json!({"rules": [{"from": null, "to": []}]})), Ok(1));
}

#[test]
fn actions_and_providers_are_read_as_istiod_does() {
    let action = |spec: Value| read(&spec).map(|policy| policy.action);
    let custom = |provider: &str| Action::Custom {
        provider: provider.to_owned(),
    };
    assert_eq!(action(json!({})), Ok(Action::Allow));
    assert_eq!(action(json!({"action": "AUDIT"})), Ok(Action::Audit));
    assert_eq!(action(json!({"action": "CUSTOM"})), Ok(custom("")));
    let with_provider = json!({"action": "CUSTOM", "provider": {"name": "opa"}});
    assert_eq!(action(with_provider), Ok(custom("opa")));
    let reason = "`allow` is none of ALLOW, DENY, AUDIT, CUSTOM".to_owned();
    assert_eq!(
        misunderstood(&json!({"action": "allow"})),
        [("action".to_owned(), reason)]
    );
}

#[test]
fn dry_run_is_what_go_parses_as_true() {
    let table = [
        ("true", true),
        ("1", true),
        ("T", true),
        ("True", true),
        ("false", false),
        ("0", false),
        ("yes", false),
        ("tRUE", false),
        ("", false),
    ];
    for (text, expected) in table {
        let mut annotations = Labels::default();
        annotations.set(DRY_RUN, text);
        let policy = translate_spec(&name(), &annotations, &json!({})).unwrap();
        assert_eq!(policy.dry_run, expected, "`{text}`");
    }
}

#[test]
fn nothing_that_the_schema_does_not_have_is_passed_over() {
    let spec = json!({
        "selector": {"matchExpressions": []},
        "targetRefs": [{"kind": "Service", "name": "a", "sectionName": "http"}],
        "jwtRules": [],
        "provider": {"nam": "x"},
        "rules": [{
            "form": [],
            "from": [{"source": {"principal": ["x"], "namespaces": "shop"}, "sources": {}}],
            "to": [{"operation": {"method": ["GET"], "paths": [1], "ports": [1.5]}}, null],
            "when": [{"key": 1, "value": ["x"], "values": {"a": 1}}],
        }],
    });
    let paths: Vec<String> = misunderstood(&spec)
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert_eq!(
        paths,
        [
            "jwtRules",
            "provider.nam",
            "rules[0].form",
            "rules[0].from[0].source.namespaces",
            "rules[0].from[0].source.principal",
            "rules[0].from[0].sources",
            "rules[0].to[0].operation.method",
            "rules[0].to[0].operation.paths[0]",
            "rules[0].to[0].operation.ports[0]",
            "rules[0].to[1]",
            "rules[0].when[0].key",
            "rules[0].when[0].value",
            "rules[0].when[0].values",
            "selector.matchExpressions",
            "targetRefs[0].sectionName",
        ]
    );
}

#[test]
fn the_fields_that_ztunnel_cannot_check_are_listed_with_their_paths() {
    let spec = json!({"rules": [{
        "from": [{"source": {"principals": ["a"], "requestPrincipals": ["*"], "remoteIpBlocks": []}}],
        "to": [{"operation": {"ports": ["80"], "methods": ["GET"]}}],
        "when": [
            {"key": "source.ip", "values": ["10.0.0.1"]},
            {"key": "source.serviceAccount", "values": ["a/b"]},
        ],
    }]});
    let field = |name: &str, path: &str| HttpField {
        name: name.into(),
        path: path.into(),
    };
    assert_eq!(
        http_fields(&spec),
        [
            field(
                "requestPrincipals",
                "rules[0].from[0].source.requestPrincipals"
            ),
            field("methods", "rules[0].to[0].operation.methods"),
            field("source.serviceAccount", "rules[0].when[1]"),
        ]
    );
}

#[test]
fn token_rules_with_the_same_keys_and_locations_validate_alike() {
    let rule = |value: Value| JwtRule::read(&value).token_rule();
    let first = rule(json!({
        "issuer": "i", "audiences": ["a", "b"], "forwardOriginalToken": true,
        "jwksUri": "https://i/keys", "fromHeaders": [{"name": "x"}],
    }));
    let second = rule(json!({
        "fromHeaders": [{"name": "x"}], "jwksUri": "https://i/keys", "issuer": "i",
        "outputPayloadToHeader": "x-payload",
    }));
    let other = rule(json!({"issuer": "i", "jwksUri": "https://j/keys"}));
    assert_eq!(
        (first.issuer.as_str(), first.forward, first.audiences),
        ("i", true, texts(&["a", "b"]))
    );
    assert_eq!(first.validation, second.validation);
    assert_ne!(first.validation, other.validation);
    assert!(!second.forward);
}
