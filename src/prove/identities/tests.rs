//! Groups of identities, and that no policy decides otherwise within one.

use std::sync::Arc;

use castoff_authz::decision::Outcome;
use castoff_authz::eval::evaluate;
use castoff_authz::path::{Point, PointKind, Protocol, Proxy};
use castoff_authz::policy::Action;
use castoff_authz::request::Request;
use castoff_authz::settings::{Release, Settings};

use super::*;
use crate::snapshot::ObjectName;

fn identities() -> Vec<String> {
    let mut all: Vec<String> = ["a/x", "a/y", "ab/x", "b/x", "b/y", "prod-a/x", "prod-b/x"]
        .iter()
        .map(|one| {
            let (namespace, account) = one.split_once('/').unwrap_or_default();
            format!("cluster.local/ns/{namespace}/sa/{account}")
        })
        .collect();
    all.sort();
    all
}

fn words(mentions: &Mentions) -> Vec<String> {
    let all = identities();
    let short = |index: &usize| {
        all[*index]
            .replace("cluster.local/ns/", "")
            .replace("/sa/", "/")
    };
    mentions
        .groups(&all)
        .iter()
        .map(|group| group.iter().map(short).collect::<Vec<_>>().join(" "))
        .collect()
}

fn source(source: Source) -> Mentions {
    let mut mentions = Mentions::default();
    mentions.add_source(&source, "own");
    mentions
}

#[test]
fn nothing_mentioned_is_one_group() {
    assert_eq!(
        words(&Mentions::default()),
        ["a/x a/y ab/x b/x b/y prod-a/x prod-b/x"]
    );
}

#[test]
fn who_is_named_stands_alone_under_any_alias_of_the_trust_domain() {
    let named = source(Source {
        principals: vec!["old.domain/ns/b/sa/x".to_owned()],
        ..Source::default()
    });
    assert_eq!(words(&named), ["a/x a/y ab/x b/y prod-a/x prod-b/x", "b/x"]);
}

#[test]
fn a_namespace_is_not_a_prefix_of_another() {
    let named = source(Source {
        namespaces: vec!["a".to_owned()],
        ..Source::default()
    });
    assert_eq!(words(&named), ["a/x a/y", "ab/x b/x b/y prod-a/x prod-b/x"]);
}

#[test]
fn prefixes_suffixes_and_pieces_make_groups() {
    let named = source(Source {
        namespaces: vec!["prod*".to_owned(), "*-b".to_owned()],
        ..Source::default()
    });
    assert_eq!(
        words(&named),
        ["a/x a/y ab/x b/x b/y", "prod-a/x", "prod-b/x"]
    );
    let named = source(Source {
        principals: vec!["*/y".to_owned()],
        ..Source::default()
    });
    assert_eq!(words(&named), ["a/x ab/x b/x prod-a/x prod-b/x", "a/y b/y"]);
}

/// `bundle.go:ReplaceTrustDomainAliases`: `*-td` is expanded to every trust domain of the mesh
/// when one of them ends so.
#[test]
fn a_wildcard_for_the_trust_domain_may_stand_for_the_meshs_own() {
    let named = source(Source {
        principals: vec!["*-td/ns/b/sa/x".to_owned()],
        ..Source::default()
    });
    assert_eq!(words(&named), ["a/x a/y ab/x b/y prod-a/x prod-b/x", "b/x"]);
}

/// `generator.go:srcNamespaceGenerator` writes `.*/ns/p.*a/.*`, and `/sa/` ends in `a`, too.
#[test]
fn a_star_in_a_namespace_reaches_beyond_it() {
    let named = source(Source {
        namespaces: vec!["p*a".to_owned()],
        ..Source::default()
    });
    assert_eq!(words(&named), ["a/x a/y ab/x b/x b/y", "prod-a/x prod-b/x"]);
    let named = source(Source {
        namespaces: vec!["sa".to_owned()],
        ..Source::default()
    });
    let all = ["a", "ns"].map(|one| format!("cluster.local/ns/{one}/sa/x"));
    assert_eq!(named.groups(&all), [[0], [1]]);
}

/// Releases before 1.30.0, 1.29.3 and 1.28.7 do not quote it.
#[test]
fn a_dot_may_be_any_character() {
    let groups = |source_of: Source| words(&source(source_of));
    assert_eq!(
        groups(Source {
            namespaces: vec!["prod.a".to_owned()],
            ..Source::default()
        }),
        ["a/x a/y ab/x b/x b/y prod-b/x", "prod-a/x"]
    );
    for of_b in [
        Source {
            service_accounts: vec!["b/.".to_owned()],
            ..Source::default()
        },
        Source {
            principals: vec!["*/ns/b/sa/.".to_owned()],
            ..Source::default()
        },
    ] {
        assert_eq!(groups(of_b), ["a/x a/y ab/x prod-a/x prod-b/x", "b/x b/y"]);
    }
}

/// Whatever a policy says of identities, at either proxy, in releases that quote and in those that
/// do not, with and without aliases: two of one group are decided alike.
#[test]
fn two_of_one_group_are_never_decided_otherwise() {
    let mut identities: Vec<String> = Vec::new();
    for domain in ["cluster.local", "new-td"] {
        for namespace in ["a", "a-b", "ns", "prod-a", "sa"] {
            for account in ["x", "x.y", "x-y", "default"] {
                identities.push(format!("{domain}/ns/{namespace}/sa/{account}"));
            }
        }
    }
    identities.sort();
    let domains = ["", "*", "*-td", "cluster.local", "cluster*", "old"];
    let namespaces = ["a", "*", "a*", "*a", "a.b", "*-b", "s*", "sa", "p*a", "ns"];
    let accounts = ["x", "x.y", "*", "x*", "*y"];
    let mut sources = Vec::new();
    let one = |text: String| vec![text];
    for namespace in namespaces {
        sources.push(Source {
            namespaces: one(namespace.to_owned()),
            ..Source::default()
        });
        for account in accounts {
            sources.push(Source {
                service_accounts: one(format!("{namespace}/{account}")),
                ..Source::default()
            });
            for domain in domains {
                let text = format!("{domain}/ns/{namespace}/sa/{account}");
                for text in [
                    text.trim_start_matches('/').to_owned(),
                    format!("*{account}"),
                ] {
                    sources.push(Source {
                        principals: one(text),
                        ..Source::default()
                    });
                }
            }
        }
    }
    for domain in domains {
        sources.push(Source {
            trust_domains: one(domain.to_owned()),
            ..Source::default()
        });
        sources.push(Source {
            principals: one(format!("{domain}*")),
            ..Source::default()
        });
    }
    let mut settings = Vec::new();
    for minor in [25, 31] {
        for aliases in [vec![], vec!["new-td".to_owned(), "old".to_owned()]] {
            let mut one = Settings::of(Release { minor, patch: 0 });
            one.trust_domain_aliases = aliases;
            settings.push(Arc::new(one));
        }
    }
    for source in sources {
        let mut mentions = Mentions::default();
        mentions.add_source(&source, "own");
        let groups = mentions.groups(&identities);
        let rule = Rule {
            from: vec![source.clone()],
            ..Rule::default()
        };
        let policy = Arc::new(Policy::new("own", "one", Action::Allow, vec![rule]));
        for settings in &settings {
            for kind in [
                PointKind::Ztunnel,
                PointKind::Envoy {
                    proxy: Proxy::Sidecar,
                    protocol: Protocol::Tcp,
                },
            ] {
                let outcome = |identity: &String| decided(identity, &kind, &policy, settings);
                for group in &groups {
                    let first = outcome(&identities[group[0]]);
                    for member in group {
                        assert_eq!(
                            outcome(&identities[*member]),
                            first,
                            "{source:?} {kind:?}: {} and {}",
                            identities[group[0]],
                            identities[*member]
                        );
                    }
                }
            }
        }
    }
}

fn decided(
    identity: &str,
    kind: &PointKind,
    policy: &Arc<Policy>,
    settings: &Arc<Settings>,
) -> Outcome {
    let mut point = Point::new(kind.clone(), "own/server");
    point.policies = vec![Arc::clone(policy)];
    let path = EnforcementPath {
        address: super::super::rows::service_address(&ObjectName::new("own", "server"), 80),
        in_use: true,
        settings: Arc::clone(settings),
        points: vec![point],
    };
    let address = castoff_authz::verdict::placeholder_address();
    let request = Request {
        principal: Some(identity.to_owned()),
        source_ip: address,
        forwarded_ip: address,
        destination_ip: address,
        destination_port: 80,
        sni: None,
        http: None,
        surroundings: BTreeMap::new(),
        answers: BTreeMap::new(),
    };
    evaluate(&request, &path).outcome
}

#[test]
fn only_who_is_named_one_by_one_is_told_from_all_others() {
    let named = source(Source {
        principals: vec![
            "old.domain/ns/b/sa/x".to_owned(),
            "cluster.local/ns/a/*".to_owned(),
            "cluster.local/ns/nobody/sa/x".to_owned(),
        ],
        ..Source::default()
    });
    assert_eq!(named.named(&identities()), ["cluster.local/ns/b/sa/x"]);
}

#[test]
fn an_account_without_namespace_is_of_the_policys_own() {
    let named = source(Source {
        service_accounts: vec!["x".to_owned(), "b/y".to_owned()],
        ..Source::default()
    });
    assert_eq!(words(&named), ["a/x a/y ab/x b/x prod-a/x prod-b/x", "b/y"]);
}
