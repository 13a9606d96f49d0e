//! What istiod makes of policies for ztunnel, and what ztunnel enforces of that.
//!
//! In come policies, out comes the [`Projection`] istiod sends (istio/istio
//! `pilot/pkg/serviceregistry/ambient/authorization.go`) and from it the chain (istio/ztunnel
//! `src/rbac.rs`). Invariant: no HTTP attribute survives; an ALLOW rule that had one is gone, a DENY
//! rule keeps an empty match in its place, which ztunnel skips.

use std::borrow::Cow;

use crate::enforced::{Clause, EnforcedRule, Entry, Part, Predicate, Test, Value, port};
use crate::ip::IpBlock;
use crate::policy::{Action, Key, Operation, Policy, Rule, Source};
use crate::settings::Settings;
use crate::text::{Shape, Text};

/// What istiod sends to ztunnel for a policy (`istio.security.Authorization`, without scope).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projection<'a> {
    /// Whether it is a DENY; else an ALLOW.
    pub deny: bool,
    /// `groups[].rules[].matches[]`: groups are ORed, rules ANDed, matches ORed.
    pub groups: Vec<Group<'a>>,
}

/// One rule of the policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// Index of the rule in the policy.
    pub rule: usize,
    /// In istiod's order: to, from, each when.
    pub rules: Vec<Rules<'a>>,
}

/// A to, a from, or one when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules<'a> {
    /// Which.
    pub part: Part,
    /// Their L4 parts, empty ones included.
    pub matches: Vec<Match<'a>>,
}

/// `istio.security.Match`. Strings are in the user's syntax.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match<'a> {
    /// `namespaces`
    pub namespaces: Vec<&'a str>,
    /// `notNamespaces`
    pub not_namespaces: Vec<&'a str>,
    /// `serviceAccounts`, as the user's text, namespace and name.
    pub service_accounts: Vec<(&'a str, &'a str, &'a str)>,
    /// `notServiceAccounts`
    pub not_service_accounts: Vec<(&'a str, &'a str, &'a str)>,
    /// `principals`
    pub principals: Vec<&'a str>,
    /// `notPrincipals`
    pub not_principals: Vec<&'a str>,
    /// `sourceIps`, as the user's text and the block.
    pub source_ips: Vec<(&'a str, IpBlock)>,
    /// `notSourceIps`
    pub not_source_ips: Vec<(&'a str, IpBlock)>,
    /// `destinationIps`
    pub destination_ips: Vec<(&'a str, IpBlock)>,
    /// `notDestinationIps`
    pub not_destination_ips: Vec<(&'a str, IpBlock)>,
    /// `destinationPorts`, as the user's text and the number.
    pub destination_ports: Vec<(&'a str, u16)>,
    /// `notDestinationPorts`
    pub not_destination_ports: Vec<(&'a str, u16)>,
}

impl Match<'_> {
    /// ztunnel skips an empty match: it never matches (`rbac.rs:RbacMatch::is_empty`).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Match::default()
    }
}

/// What istiod sends to ztunnel for a policy that has no targetRef; `None`: nothing, because ztunnel
/// knows neither AUDIT nor CUSTOM, or because the policy is in dry-run.
///
/// `authorization.go:convertAuthorizationPolicy`. With `AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY`
/// a policy in dry-run is sent but decides nothing, which is the same here.
#[must_use]
pub fn project_for_ztunnel<'a>(policy: &'a Policy, settings: &Settings) -> Option<Projection<'a>> {
    is_sent(policy, settings).then(|| Projection {
        deny: policy.action == Action::Deny,
        groups: (0..policy.rules.len())
            .filter_map(|index| group(policy, index))
            .collect(),
    })
}

/// Whether istiod sends the policy to ztunnel at all.
pub(crate) fn is_sent(policy: &Policy, settings: &Settings) -> bool {
    let known = matches!(policy.action, Action::Allow | Action::Deny);
    known && (!policy.dry_run || settings.behaviour.ztunnel_enforces_dry_run)
}

/// A rule as it is sent; `None`: it is not, since it would allow too much.
fn group(policy: &Policy, index: usize) -> Option<Group<'_>> {
    let rule = &policy.rules[index];
    (policy.action == Action::Deny || !has_http(rule)).then(|| Group {
        rule: index,
        rules: clauses(rule, &policy.name.namespace),
    })
}

/// `authorization.go:httpOperations`, `httpSources`, `l4WhenAttributes`. `trustDomains` is in none of
/// them: it is dropped without a trace.
fn has_http(rule: &Rule) -> bool {
    let operation = |operation: &Operation| {
        [
            &operation.hosts,
            &operation.not_hosts,
            &operation.methods,
            &operation.not_methods,
            &operation.paths,
            &operation.not_paths,
        ]
        .iter()
        .any(|values| !values.is_empty())
    };
    let source = |source: &Source| {
        [
            &source.remote_ip_blocks,
            &source.not_remote_ip_blocks,
            &source.request_principals,
            &source.not_request_principals,
        ]
        .iter()
        .any(|values| !values.is_empty())
    };
    let known = |key: &Key| {
        matches!(
            key,
            Key::SourceIp
                | Key::SourceNamespace
                | Key::SourcePrincipal
                | Key::DestinationIp
                | Key::DestinationPort
        )
    };
    rule.to.iter().any(operation)
        || rule.from.iter().any(source)
        || rule.when.iter().any(|condition| !known(&condition.key))
}

/// `authorization.go:handleRule`.
fn clauses<'a>(rule: &'a Rule, namespace: &'a str) -> Vec<Rules<'a>> {
    let mut clauses = Vec::new();
    if !rule.to.is_empty() {
        let matches = rule.to.iter().map(|operation| Match {
            destination_ports: ports(&operation.ports),
            not_destination_ports: ports(&operation.not_ports),
            ..Match::default()
        });
        clauses.push(Rules {
            part: Part::To,
            matches: matches.collect(),
        });
    }
    if !rule.from.is_empty() {
        let matches = rule.from.iter().map(|source| Match {
            source_ips: blocks(&source.ip_blocks),
            not_source_ips: blocks(&source.not_ip_blocks),
            namespaces: texts(&source.namespaces),
            not_namespaces: texts(&source.not_namespaces),
            service_accounts: accounts(&source.service_accounts, namespace),
            not_service_accounts: accounts(&source.not_service_accounts, namespace),
            principals: texts(&source.principals),
            not_principals: texts(&source.not_principals),
            ..Match::default()
        });
        clauses.push(Rules {
            part: Part::From,
            matches: matches.collect(),
        });
    }
    for (index, condition) in rule.when.iter().enumerate() {
        let (values, not_values) = (&condition.values, &condition.not_values);
        let mut one = Match::default();
        match condition.key {
            Key::SourceNamespace => {
                one.namespaces = texts(values);
                one.not_namespaces = texts(not_values);
            }
            Key::SourcePrincipal => {
                one.principals = texts(values);
                one.not_principals = texts(not_values);
            }
            Key::SourceIp => {
                one.source_ips = blocks(values);
                one.not_source_ips = blocks(not_values);
            }
            Key::DestinationPort => {
                one.destination_ports = ports(values);
                one.not_destination_ports = ports(not_values);
            }
            Key::DestinationIp => {
                one.destination_ips = blocks(values);
                one.not_destination_ips = blocks(not_values);
            }
            _ => {}
        }
        clauses.push(Rules {
            part: Part::When(index),
            matches: vec![one],
        });
    }
    clauses
}

fn texts(values: &[String]) -> Vec<&str> {
    values.iter().map(String::as_str).collect()
}

/// `authorization.go:stringToPort`: what is no port is left out.
fn ports(values: &[String]) -> Vec<(&str, u16)> {
    values
        .iter()
        .filter_map(|text| Some((text.as_str(), port(text)?)))
        .collect()
}

/// `authorization.go:stringToIP`: what is no address is left out.
fn blocks(values: &[String]) -> Vec<(&str, IpBlock)> {
    values
        .iter()
        .filter_map(|text| Some((text.as_str(), IpBlock::parse(text)?)))
        .collect()
}

fn accounts<'a>(values: &'a [String], namespace: &'a str) -> Vec<(&'a str, &'a str, &'a str)> {
    values
        .iter()
        .map(|text| match text.split_once('/') {
            Some((namespace, name)) => (text.as_str(), namespace, name),
            None => (text.as_str(), namespace, text.as_str()),
        })
        .collect()
}

/// One rule of a policy as ztunnel enforces it (`rbac.rs:Authorization::matches`): it matches if every
/// clause does, a clause if some match that is not empty does; a clause without matches is no
/// restriction. `None`: it never matches.
pub(crate) fn rule(policy: &Policy, index: usize) -> Option<EnforcedRule<'_>> {
    let clauses = group(policy, index)?.rules.into_iter().map(enforced_clause);
    Some(EnforcedRule {
        index,
        clauses: clauses.collect::<Option<_>>()?,
    })
}

/// `None`: all its matches are empty, so it never holds.
fn enforced_clause(clause: Rules<'_>) -> Option<Clause<'_>> {
    let entries: Vec<Entry<'_>> = clause
        .matches
        .into_iter()
        .enumerate()
        .filter(|(_, one)| !one.is_empty())
        .map(|(index, one)| Entry {
            index,
            tests: tests(one, clause.part),
        })
        .collect();
    (!entries.is_empty()).then_some(Clause {
        part: clause.part,
        entries,
    })
}

fn tests<'a>(one: Match<'a>, part: Part) -> Vec<Test<'a>> {
    let mut tests = Vec::new();
    let mut add = |field: &'static str, negated, values: Vec<Value<'a>>| {
        let field = match part {
            Part::When(_) if negated => "notValues",
            Part::When(_) => "values",
            Part::From | Part::To => field,
        };
        if !values.is_empty() {
            tests.push((field, negated, values));
        }
    };
    add("principals", false, values(one.principals, principal));
    add("notPrincipals", true, values(one.not_principals, principal));
    add("namespaces", false, values(one.namespaces, namespace));
    add("notNamespaces", true, values(one.not_namespaces, namespace));
    add(
        "serviceAccounts",
        false,
        account_values(one.service_accounts),
    );
    add(
        "notServiceAccounts",
        true,
        account_values(one.not_service_accounts),
    );
    add(
        "ipBlocks",
        false,
        typed(one.source_ips, Predicate::SourceIp),
    );
    add(
        "notIpBlocks",
        true,
        typed(one.not_source_ips, Predicate::SourceIp),
    );
    add(
        "values",
        false,
        typed(one.destination_ips, Predicate::DestinationIp),
    );
    add(
        "notValues",
        true,
        typed(one.not_destination_ips, Predicate::DestinationIp),
    );
    add(
        "ports",
        false,
        typed(one.destination_ports, Predicate::DestinationPort),
    );
    add(
        "notPorts",
        true,
        typed(one.not_destination_ports, Predicate::DestinationPort),
    );
    tests
        .into_iter()
        .map(|(field, negated, values)| Test {
            field,
            key: None,
            negated,
            values,
        })
        .collect()
}

fn values<'a>(texts: Vec<&'a str>, translate: fn(&'a str) -> Predicate<'a>) -> Vec<Value<'a>> {
    let values = texts.into_iter().map(|text| Value {
        text,
        predicate: translate(text),
    });
    values.collect()
}

fn account_values<'a>(accounts: Vec<(&'a str, &'a str, &'a str)>) -> Vec<Value<'a>> {
    let values = accounts.into_iter().map(|(text, namespace, name)| Value {
        text,
        predicate: Predicate::ServiceAccount {
            namespace: Cow::Borrowed(namespace),
            name: Cow::Borrowed(name),
        },
    });
    values.collect()
}

fn typed<'a, T>(typed: Vec<(&'a str, T)>, predicate: fn(T) -> Predicate<'a>) -> Vec<Value<'a>> {
    let values = typed.into_iter().map(|(text, value)| Value {
        text,
        predicate: predicate(value),
    });
    values.collect()
}

/// `rbac.rs:StringMatch::matches_principal`: `spiffe://` is cut off first, and must be there. No alias of
/// a trust domain counts: `authorization.go:stringToMatch` takes the text as it is.
fn principal(text: &str) -> Predicate<'_> {
    Predicate::Identity(match Text::wildcard(text).shape {
        Shape::Exact(text) => Text::new(Shape::Exact(format!("spiffe://{text}").into())),
        Shape::Prefix(text) => Text::new(Shape::Prefix(format!("spiffe://{text}").into())),
        Shape::Suffix(text) => Text::new(Shape::Sequences(vec![vec![
            crate::text::Piece::Literal("spiffe://".into()),
            crate::text::Piece::Many(crate::text::Set::Any),
            crate::text::Piece::Literal(text),
        ]])),
        other => Text::new(other),
    })
}

/// `rbac.rs`: compared with the namespace of the identity; a `*` inside is itself.
fn namespace(text: &str) -> Predicate<'_> {
    Predicate::Namespace(Text::wildcard(text))
}
