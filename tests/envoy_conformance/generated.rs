//! Policies that the goldens do not have: every field alone and in company, drawn from small pools.

use std::sync::Arc;

use castoff_authz::path::TokenRule;
use castoff_authz::policy::{Action, Condition, Key, Operation, Policy, Rule, Source};
use castoff_authz::settings::{Release, Settings};

use crate::cases::Case;
use crate::identity::TOKEN_KEYS;
use crate::istiod;
use crate::requests::Random;

const PRINCIPALS: &[&str] = &[
    "cluster.local/ns/foo/sa/web",
    "cluster.local/ns/foo/*",
    "*/sa/web",
    "*",
    "td/ns/b.r/sa/job",
    "spiffe://cluster.local/ns/foo/sa/web",
];
const NAMESPACES: &[&str] = &["foo", "f*", "*o", "f*o", "*", "b.r"];
const ACCOUNTS: &[&str] = &["web", "b.r/job", "foo/w.b"];
const DOMAINS: &[&str] = &["cluster.local", "td", "t*", "*d", "*"];
const DIRECT: &[&str] = &["127.20.0.0/16", "127.20.2.0/24", "127.20.2.3", "127.21.0.1"];
const BLOCKS: &[&str] = &[
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.1.2.3",
    "10.0.0.0/7",
    "192.168.1.1",
];
const TOKENS: &[&str] = &[
    "https://i.test/sub",
    "https://i.test/*",
    "https://i.test/s*",
    "*",
    "*/sub",
    "*.test/sub",
    "*sub",
    "https*",
    "i/j/sub",
    "iss",
];
const HOSTS: &[&str] = &["a.test", "*.test", "a.*", "*", "A.Test", "a.test:8080"];
const PORTS: &[&str] = &["80", "8080", "65535"];
const METHODS: &[&str] = &["GET", "P*", "*T", "*", "get"];
const PATHS: &[&str] = &[
    "/a",
    "/a/*",
    "*/c",
    "*",
    "/a/b/c",
    "/a/{*}/c",
    "/a/{**}",
    "/{*}",
    "/a/{*}/{**}",
    "/{**}/c",
    "/a/{*}/b/{**}",
    "/A",
];
const VALUES: &[&str] = &["one", "o*", "*e", "*", "two", "ONE"];
const NAMES: &[&str] = &["a.test", "*.test", "a.*", "*", "b.test"];

/// One rule of a RequestAuthentication. Several have the same issuer, and their order is not that of
/// their issuers.
fn token_rule(random: &mut Random) -> TokenRule {
    let audiences = match random.below(3) {
        0 => vec!["orders".to_owned()],
        1 => vec!["orders".to_owned(), "payments".to_owned()],
        _ => Vec::new(),
    };
    TokenRule {
        issuer: (*random.of(&["https://i.test", "https://b.test", "i/j"])).to_owned(),
        audiences,
        forward: random.one_in(2),
        validation: (*random.of(&TOKEN_KEYS)).to_owned(),
    }
}

/// Several policies of several actions, as one chain.
pub(crate) fn case(index: usize, tcp: bool, random: &mut Random) -> Case {
    let policies = (0..1 + random.below(3))
        .map(|number| Arc::new(policy(number, random)))
        .collect();
    let kind = if tcp { "tcp" } else { "http" };
    let mut case = Case {
        name: format!("generated/{kind}-{index}"),
        tcp,
        policies,
        settings: Arc::new(Settings::of(Release {
            minor: 32,
            patch: 0,
        })),
        filters: Vec::new(),
        token_rules: Vec::new(),
    };
    if !tcp && index.is_multiple_of(2) {
        case.token_rules = (0..1 + random.below(4))
            .map(|_| token_rule(random))
            .collect();
    }
    case.filters = istiod::filters(&case);
    case
}

fn policy(number: usize, random: &mut Random) -> Policy {
    let action = match random.below(8) {
        0 => Action::Audit,
        1..=3 => Action::Deny,
        _ => Action::Allow,
    };
    let rules = (0..random.below(4)).map(|_| rule(random)).collect();
    let mut policy = Policy::new("foo", &format!("policy-{number}"), action, rules);
    policy.dry_run = random.one_in(8);
    policy
}

fn rule(random: &mut Random) -> Rule {
    let count = |random: &mut Random| [0, 1, 1, 2][random.below(4)];
    Rule {
        from: (0..count(random)).map(|_| source(random)).collect(),
        to: (0..count(random)).map(|_| operation(random)).collect(),
        when: (0..[0, 0, 1, 2][random.below(4)])
            .map(|_| condition(random))
            .collect(),
    }
}

/// One or two values of the pool.
fn some(pool: &[&str], random: &mut Random) -> Vec<String> {
    (0..1 + random.below(2))
        .map(|_| random.of(pool).to_string())
        .collect()
}

/// Fills one or two of the lists: a positive one rather than a negative one.
fn fill<const N: usize>(lists: [(&mut Vec<String>, &[&str]); N], random: &mut Random) {
    let mut chosen = [false; N];
    for _ in 0..1 + random.below(2) {
        let at = random.below(N);
        chosen[if random.one_in(3) { at } else { at & !1 }] = true;
    }
    for ((list, pool), chosen) in lists.into_iter().zip(chosen) {
        if chosen {
            *list = some(pool, random);
        }
    }
}

fn source(random: &mut Random) -> Source {
    let mut source = Source::default();
    let lists = [
        (&mut source.principals, PRINCIPALS),
        (&mut source.not_principals, PRINCIPALS),
        (&mut source.request_principals, TOKENS),
        (&mut source.not_request_principals, TOKENS),
        (&mut source.namespaces, NAMESPACES),
        (&mut source.not_namespaces, NAMESPACES),
        (&mut source.service_accounts, ACCOUNTS),
        (&mut source.not_service_accounts, ACCOUNTS),
        (&mut source.trust_domains, DOMAINS),
        (&mut source.not_trust_domains, DOMAINS),
        (&mut source.ip_blocks, DIRECT),
        (&mut source.not_ip_blocks, DIRECT),
        (&mut source.remote_ip_blocks, BLOCKS),
        (&mut source.not_remote_ip_blocks, BLOCKS),
    ];
    fill(lists, random);
    source
}

fn operation(random: &mut Random) -> Operation {
    let mut operation = Operation::default();
    let lists = [
        (&mut operation.hosts, HOSTS),
        (&mut operation.not_hosts, HOSTS),
        (&mut operation.ports, PORTS),
        (&mut operation.not_ports, PORTS),
        (&mut operation.methods, METHODS),
        (&mut operation.not_methods, METHODS),
        (&mut operation.paths, PATHS),
        (&mut operation.not_paths, PATHS),
    ];
    fill(lists, random);
    operation
}

fn condition(random: &mut Random) -> Condition {
    let keys = [
        ("request.headers[X-One]", VALUES),
        ("request.headers[x-two]", VALUES),
        ("source.ip", DIRECT),
        ("remote.ip", BLOCKS),
        ("source.namespace", NAMESPACES),
        ("source.principal", PRINCIPALS),
        ("source.serviceAccount", ACCOUNTS),
        ("source.trustDomain", DOMAINS),
        ("request.auth.principal", TOKENS),
        ("request.auth.audiences", VALUES),
        ("request.auth.presenter", VALUES),
        ("request.auth.claims[groups]", VALUES),
        ("request.auth.claims[realm][roles]", VALUES),
        ("destination.ip", BLOCKS),
        ("destination.port", PORTS),
        ("connection.sni", NAMES),
        ("no.such.key", VALUES),
    ];
    let (key, pool) = random.of(&keys);
    let (values, not_values) = match random.below(4) {
        0 => (Vec::new(), some(pool, random)),
        1 => (some(pool, random), some(pool, random)),
        _ => (some(pool, random), Vec::new()),
    };
    Condition {
        key: Key::parse(key),
        values,
        not_values,
    }
}
