//! Generated comparisons and requests, over small pools of values, so that patterns meet.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

use castoff_authz::ip::IpBlock;
use castoff_authz::path::{
    AddressKind, EnforcementPath, IpSeen, NetworkEntry, Point, PointKind, PortSeen, PrincipalSeen,
    SniSeen, TokenRule,
};
use castoff_authz::policy::{Action, Condition, Key, Operation, Policy, Rule, Source};
use castoff_authz::request::{Request, Token};
use castoff_authz::settings::Authorizer;
use castoff_authz::verdict::{Caller, Comparison};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::words::*;

const PRINCIPALS: &[&str] = &[
    "cluster.local/ns/shop/sa/web",
    "cluster.local/ns/shop/sa/api",
    "cluster.local/ns/bank/sa/web",
    "old.td/ns/shop/sa/web",
    "cluster.local/ns/ns/sa/sa",
];
const PRINCIPAL_PATTERNS: &[&str] = &[
    "cluster.local/ns/shop/sa/web",
    "cluster.local/ns/bank/sa/web",
    "cluster.local/ns/shop/*",
    "cluster.local/*",
    "*/sa/web",
    "*/ns/shop/sa/web",
    "*b",
    "*",
    "old.td/ns/shop/sa/web",
];
const NAMESPACE_PATTERNS: &[&str] = &["shop", "bank", "sh*", "*k", "s*p", "*", "sa", "s*a"];
const ACCOUNT_PATTERNS: &[&str] = &["web", "bank/web", "shop/api", "api"];
const DOMAIN_PATTERNS: &[&str] = &["cluster.local", "old.td", "*", "cluster.*", "*.td"];
const BLOCKS: &[&str] = &[
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3",
    "0.0.0.0/0",
    "fd00::/8",
    "::/0",
    "nonsense",
];
pub const ADDRESSES: &[&str] = &[
    "10.1.2.3",
    "10.1.9.9",
    "10.9.9.9",
    "11.0.0.1",
    "fd00::1",
    "2001:db8::1",
];
const HOSTS: &[&str] = &["orders.shop", "Orders.Shop", "orders.shop:80", "other.bank"];
const HOST_PATTERNS: &[&str] = &["orders.shop", "ORDERS.*", "*.shop", "*", "*.bank"];
const METHODS: &[&str] = &["GET", "POST", "PUT", "OPTIONS"];
const METHOD_PATTERNS: &[&str] = &["GET", "P*", "*T", "*", "POST"];
const PATHS: &[&str] = &[
    "/", "/a", "/a/b", "/a/b/c", "/ab", "/x.js", "/a/x.js", "/a/",
];
const PATH_PATTERNS: &[&str] = &[
    "/a", "/a/*", "/a*", "*.js", "*", "/{*}", "/a/{**}", "/{**}/c", "/a/{*}/c", "/a/{*}", "/ab",
];
const HEADERS: &[&str] = &["", "one", "onetwo", "two"];
const HEADER_PATTERNS: &[&str] = &["one", "one*", "*two", "*"];
const SNIS: &[&str] = &["orders.shop", "other"];
const SNI_PATTERNS: &[&str] = &["orders.shop", "*.shop", "*", "o*"];
const SUBJECTS: &[&str] = &["me", "meow", "you"];
const REQUEST_PRINCIPAL_PATTERNS: &[&str] =
    &["i/me", "i/*", "*", "*/me", "j/you", "i/me*", "*ow", "*/*"];
const CLAIMS: &[&str] = &["admin", "adder", "user"];
const CLAIM_PATTERNS: &[&str] = &["admin", "ad*", "*er", "*", "user"];

fn some(values: &'static [&'static str], weight: u32) -> impl Strategy<Value = Vec<String>> {
    let values = vec(select(values), 1..3)
        .prop_map(|values| values.into_iter().map(str::to_owned).collect());
    prop_oneof![weight => Just(Vec::new()), 1 => values]
}

fn sources() -> impl Strategy<Value = Source> {
    let identities = (
        some(PRINCIPAL_PATTERNS, 3),
        some(PRINCIPAL_PATTERNS, 6),
        some(NAMESPACE_PATTERNS, 4),
        some(NAMESPACE_PATTERNS, 8),
        some(ACCOUNT_PATTERNS, 8),
        some(ACCOUNT_PATTERNS, 12),
        some(DOMAIN_PATTERNS, 12),
        some(DOMAIN_PATTERNS, 16),
    );
    let others = (
        some(REQUEST_PRINCIPAL_PATTERNS, 8),
        some(REQUEST_PRINCIPAL_PATTERNS, 10),
        some(BLOCKS, 8),
        some(BLOCKS, 10),
        some(BLOCKS, 10),
        some(BLOCKS, 12),
    );
    (identities, others).prop_map(|(identities, others)| Source {
        principals: identities.0,
        not_principals: identities.1,
        namespaces: identities.2,
        not_namespaces: identities.3,
        service_accounts: identities.4,
        not_service_accounts: identities.5,
        trust_domains: identities.6,
        not_trust_domains: identities.7,
        request_principals: others.0,
        not_request_principals: others.1,
        ip_blocks: others.2,
        not_ip_blocks: others.3,
        remote_ip_blocks: others.4,
        not_remote_ip_blocks: others.5,
    })
}

fn operations() -> impl Strategy<Value = Operation> {
    const PORTS: &[&str] = &["80", "8080", "9090", "http"];
    (
        some(HOST_PATTERNS, 5),
        some(HOST_PATTERNS, 8),
        some(PORTS, 5),
        some(PORTS, 8),
        some(METHOD_PATTERNS, 3),
        some(METHOD_PATTERNS, 8),
        some(PATH_PATTERNS, 2),
        some(PATH_PATTERNS, 5),
    )
        .prop_map(|fields| Operation {
            hosts: fields.0,
            not_hosts: fields.1,
            ports: fields.2,
            not_ports: fields.3,
            methods: fields.4,
            not_methods: fields.5,
            paths: fields.6,
            not_paths: fields.7,
        })
}

fn conditions(experimental: bool) -> BoxedStrategy<Condition> {
    let condition = |key: &'static str, values: &'static [&'static str]| {
        (some(values, 1), some(values, 2)).prop_map(move |(values, not_values)| Condition {
            key: Key::parse(key),
            values,
            not_values,
        })
    };
    let known = prop_oneof![
        condition("request.headers[X-Kind]", HEADER_PATTERNS),
        condition("request.headers[origin]", HEADER_PATTERNS),
        condition("request.headers[host]", HOST_PATTERNS),
        condition("source.ip", BLOCKS),
        condition("remote.ip", BLOCKS),
        condition("source.namespace", NAMESPACE_PATTERNS),
        condition("source.principal", PRINCIPAL_PATTERNS),
        condition("source.serviceAccount", ACCOUNT_PATTERNS),
        condition("source.trustDomain", DOMAIN_PATTERNS),
        condition("request.auth.principal", REQUEST_PRINCIPAL_PATTERNS),
        condition("request.auth.audiences", CLAIM_PATTERNS),
        condition("request.auth.presenter", CLAIM_PATTERNS),
        condition("request.auth.claims[groups]", CLAIM_PATTERNS),
        condition("request.auth.claims[groups][deep]", CLAIM_PATTERNS),
        condition("request.auth.claims[sub]", &["me", "m*"]),
        condition("destination.ip", BLOCKS),
        condition("destination.port", &["80", "8080"]),
        condition("connection.sni", SNI_PATTERNS),
        condition("no.such.key", &["x"]),
    ];
    if experimental {
        prop_oneof![3 => known, 1 => condition("experimental.envoy.filters.a[b]", &["x", "y"])]
            .boxed()
    } else {
        known.boxed()
    }
}

fn policies(unknown: bool) -> impl Strategy<Value = Policy> {
    let rules = (
        vec(sources(), 0..3),
        vec(operations(), 0..3),
        prop_oneof![2 => vec(conditions(unknown), 0..1), 1 => vec(conditions(unknown), 1..3)],
    )
        .prop_map(|(from, to, when)| Rule { from, to, when });
    let actions = if unknown {
        prop_oneof![
            3 => Just(Action::Allow),
            3 => Just(Action::Deny),
            1 => Just(Action::Audit),
            2 => select(&["gate", "door", "nobody"][..])
                .prop_map(|provider| Action::Custom { provider: provider.to_owned() }),
        ]
        .boxed()
    } else {
        prop_oneof![5 => Just(Action::Allow), 5 => Just(Action::Deny), 1 => Just(Action::Audit)]
            .boxed()
    };
    (
        select(&["a", "b", "c"][..]),
        actions,
        prop_oneof![9 => Just(false), 1 => Just(true)],
        vec(rules, 0..4),
    )
        .prop_map(|(name, action, dry_run, rules)| Policy {
            dry_run,
            ..Policy::new("shop", name, action, rules)
        })
}

fn token_rules() -> impl Strategy<Value = Vec<TokenRule>> {
    let rule = (
        select(&["i", "j"][..]),
        prop_oneof![3 => Just(vec![]), 1 => Just(vec!["admin".to_owned()])],
        any::<bool>(),
        select(&["k1", "k2"][..]),
    )
        .prop_map(|(issuer, audiences, forward, keys)| TokenRule {
            issuer: issuer.to_owned(),
            audiences,
            forward,
            validation: keys.to_owned(),
        });
    prop_oneof![1 => vec(rule, 0..1), 2 => vec((select(&["i", "j"][..]), any::<bool>()).prop_map(|(issuer, forward)| TokenRule {
        issuer: issuer.to_owned(), audiences: vec![], forward, validation: "k1".to_owned() }), 1..3)]
}

fn points(unknown: bool) -> impl Strategy<Value = Point> {
    let network = (
        select(&BLOCKS[..6]),
        select(&BLOCKS[..6]),
        vec(select(&[(80, 80), (8000, 8090)][..]), 0..2),
    )
        .prop_map(|(block, except, ports)| {
            let parse = |text: &str| IpBlock::parse(text).unwrap();
            let block = Some((parse(block), vec![parse(except)]));
            PointKind::NetworkPolicy {
                admits: vec![
                    NetworkEntry {
                        block,
                        ports: ports.clone(),
                    },
                    NetworkEntry { block: None, ports },
                ],
            }
        });
    let opaque = if unknown { 1 } else { 0 };
    let kinds = prop_oneof![
        8 => Just(http()),
        3 => Just(tcp()),
        4 => Just(PointKind::Ztunnel),
        1 => network,
        opaque => select(&["EnvoyFilter a", "EnvoyFilter b"][..])
            .prop_map(|reason| PointKind::Opaque { reason: reason.to_owned(), content: "".into() }),
    ];
    let principal = prop_oneof![
        8 => Just(PrincipalSeen::Callers),
        1 => Just(PrincipalSeen::None),
        1 => select(PRINCIPALS).prop_map(|one| PrincipalSeen::Fixed(one.to_owned())),
    ];
    let surrounding = |unknown: bool| {
        let among = vec(select(ADDRESSES), usize::from(!unknown)..3);
        among.prop_map(|among| IpSeen::Of {
            owner: "shop/waypoint".to_owned(),
            among: among.iter().map(|one| one.parse().unwrap()).collect(),
        })
    };
    let address = move |own: IpSeen| {
        prop_oneof![
            8 => Just(own),
            1 => Just(IpSeen::NotAnIp),
            1 => select(ADDRESSES).prop_map(|one| IpSeen::Fixed(one.parse().unwrap())),
            1 => surrounding(unknown),
        ]
    };
    let port = prop_oneof![
        Just(PortSeen::Dialled),
        select(&[80, 8080][..]).prop_map(PortSeen::Fixed)
    ];
    let sni = prop_oneof![
        2 => Just(SniSeen::AsSent),
        1 => Just(SniSeen::None),
        1 => Just(SniSeen::Fixed("orders.shop".to_owned())),
    ];
    let seen = (
        principal,
        address(IpSeen::Callers),
        address(IpSeen::Forwarded),
        address(IpSeen::Dialled),
        port,
        sni,
        prop_oneof![5 => Just(vec![]), 1 => Just(vec!["x-kind".to_owned()])],
    );
    let required = prop_oneof![5 => Just(false), 1 => Just(true)];
    (
        kinds,
        seen,
        required,
        vec(policies(unknown), 0..4),
        token_rules(),
    )
        .prop_map(|(kind, seen, identity_required, policies, token_rules)| {
            let mut at = point(kind, &policies);
            at.seen.principal = seen.0;
            at.seen.source_ip = seen.1;
            at.seen.remote_ip = seen.2;
            at.seen.destination_ip = seen.3;
            at.seen.destination_port = seen.4;
            at.seen.sni = seen.5;
            at.seen.headers_removed = seen.6;
            at.identity_required = identity_required;
            at.token_rules = token_rules;
            at
        })
}

fn paths(unknown: bool) -> impl Strategy<Value = EnforcementPath> {
    (
        prop_oneof![6 => vec(points(unknown), 1..2), 2 => vec(points(unknown), 2..3)],
        prop_oneof![5 => Just(AddressKind::Service), 1 => Just(AddressKind::Pod)],
        prop_oneof![5 => Just(true), 1 => Just(false)],
    )
        .prop_map(|(points, kind, in_use)| {
            let mut path = path(points);
            path.address.kind = kind;
            path.in_use = in_use;
            path.settings = settings(|settings| {
                settings.trust_domain_aliases = vec!["old.td".to_owned()];
                settings.authorizers = ["gate", "door"]
                    .map(|name| Authorizer {
                        name: name.to_owned(),
                        http_only: name == "door",
                        definition: String::new(),
                    })
                    .to_vec();
            });
            path
        })
}

/// A present that is often the baseline with something changed, so that *same* is common too.
pub fn comparisons(unknown: bool) -> impl Strategy<Value = Comparison> {
    let callers = prop_oneof![
        4 => Just(Caller::anybody()),
        2 => select(PRINCIPALS).prop_map(Caller::workload),
        1 => Just(Caller::outsider()),
        1 => Just(Caller::other_identity("cluster.local", &[PRINCIPALS[0].to_owned()])),
    ];
    let changes = (
        0_usize..6,
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
    );
    (
        callers,
        vec(paths(unknown), 1..3),
        vec(paths(unknown), 1..3),
        changes,
        any::<bool>(),
    )
        .prop_map(|(caller, baseline, other, (change, one, two), http)| {
            let mut present = if change == 0 { other } else { baseline.clone() };
            let path = one.index(present.len());
            let path = &mut present[path];
            let point = two.index(path.points.len());
            let point = &mut path.points[point];
            match change {
                1 => point.policies.reverse(),
                2 => drop(point.policies.pop()),
                3 => {
                    if let Some(policy) = point.policies.first_mut() {
                        let mut changed = policy.as_ref().clone();
                        changed.rules.pop();
                        *policy = changed.into();
                    }
                }
                4 => {
                    if let Some(policy) = point.policies.first_mut() {
                        // The same rules in two policies.
                        let mut first = policy.as_ref().clone();
                        let mut second = first.clone();
                        second.rules = first.rules.split_off(first.rules.len() / 2);
                        second.name.name.push('2');
                        *policy = first.into();
                        point.policies.push(second.into());
                    }
                }
                5 => point.kind = PointKind::Ztunnel,
                _ => {}
            }
            Comparison {
                caller,
                // Bytes seldom: they pass no HTTP chain.
                http: http || change != 1,
                baseline,
                present,
            }
        })
}

pub fn requests() -> impl Strategy<Value = Request> {
    let token = (
        select(&["i", "j", "k"][..]),
        proptest::option::weighted(0.8, select(SUBJECTS)),
        vec(select(CLAIMS), 0..3),
        vec(select(CLAIMS), 0..2),
        vec(select(CLAIMS), 0..3),
        any::<bool>(),
        vec(select(&["k1", "k2"][..]), 0..2),
    )
        .prop_map(
            |(issuer, subject, audiences, presenter, groups, deep, fails)| {
                let mut token = Token::default();
                let mut set = |path: &[&str], values: Vec<&str>| {
                    if !values.is_empty() {
                        let path = path.iter().map(ToString::to_string).collect();
                        token
                            .claims
                            .insert(path, values.into_iter().map(str::to_owned).collect());
                    }
                };
                set(&["iss"], vec![issuer]);
                set(&["sub"], subject.into_iter().collect());
                set(&["aud"], audiences);
                set(&["azp"], presenter);
                set(
                    if deep {
                        &["groups", "deep"]
                    } else {
                        &["groups"]
                    },
                    groups,
                );
                token.fails = fails.into_iter().map(str::to_owned).collect();
                token
            },
        );
    (
        (
            proptest::option::weighted(0.8, select(PRINCIPALS)),
            select(ADDRESSES),
            select(ADDRESSES),
            select(ADDRESSES),
            select(&[80_u16, 8080, 9090, 1][..]),
            proptest::option::of(select(SNIS)),
        ),
        (
            select(HOSTS),
            select(METHODS),
            select(PATHS),
            proptest::option::of(select(HEADERS)),
            proptest::option::of(token),
            0..ADDRESSES.len(),
            proptest::option::weighted(0.4, select(HEADERS)),
        ),
    )
        .prop_map(|(low, high)| {
            let mut request = get(high.2);
            request.principal = low.0.map(str::to_owned);
            request.source_ip = low.1.parse().unwrap();
            request.forwarded_ip = low.2.parse().unwrap();
            request.destination_ip = low.3.parse().unwrap();
            request.destination_port = low.4;
            request.sni = low.5.map(str::to_owned);
            let http = request.http.as_mut().unwrap();
            http.host = high.0.to_owned();
            http.method = high.1.to_owned();
            http.headers
                .extend(high.3.map(|value| ("x-kind".to_owned(), value.to_owned())));
            http.token = high.4;
            // What makes an OPTIONS a CORS preflight.
            for name in ["origin", "access-control-request-method"] {
                let value = high.6.map(str::to_owned);
                http.headers
                    .extend(value.map(|value| (name.to_owned(), value)));
            }
            // Which of the addresses of a proxy is chosen; filled in for each comparison.
            request
                .surroundings
                .insert("choice".to_owned(), ADDRESSES[high.5].parse().unwrap());
            request
        })
}
