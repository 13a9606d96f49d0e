//! Identities that no policy on a path tells apart: thousands of callers, a handful of kinds.
//!
//! In: identities, sorted, and the policies of the paths compared. Out: groups whose members every
//! matcher of these policies treats alike. Invariant: a matcher that cannot be read as a range of the
//! sorted list is tried on every identity, so that two in one group never differ.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use castoff_authz::path::EnforcementPath;
use castoff_authz::policy::{Condition, Key, Policy, Rule, Source};
use castoff_authz::request::namespace_of;
use castoff_authz::text::{Piece, Set, Shape, Text};

/// Texts of policies that tell identities apart.
#[derive(Debug, Default)]
pub(super) struct Mentions {
    principals: BTreeSet<String>,
    namespaces: BTreeSet<String>,
    trust_domains: BTreeSet<String>,
}

impl Mentions {
    /// What the policies of these paths mention.
    pub(super) fn of<'a>(paths: impl IntoIterator<Item = &'a EnforcementPath>) -> Self {
        let mut mentions = Self::default();
        let mut seen: BTreeSet<*const Policy> = BTreeSet::new();
        for policy in paths
            .into_iter()
            .flat_map(|path| &path.points)
            .flat_map(|point| &point.policies)
        {
            if seen.insert(std::sync::Arc::as_ptr(policy)) {
                mentions.extend(Self::of_policy(policy));
            }
        }
        mentions
    }

    /// What one policy mentions.
    pub(super) fn of_policy(policy: &Policy) -> Self {
        let mut mentions = Self::default();
        for rule in &policy.rules {
            mentions.add(rule, &policy.name.namespace);
        }
        mentions
    }

    /// Identities as policies write them, each once.
    pub(super) fn principals(&self) -> impl Iterator<Item = &str> {
        self.principals.iter().map(String::as_str)
    }

    /// Adds those of others.
    pub(super) fn extend(&mut self, other: Self) {
        self.principals.extend(other.principals);
        self.namespaces.extend(other.namespaces);
        self.trust_domains.extend(other.trust_domains);
    }

    /// Those of the identities, sorted, that some policy names one by one, under any alias of their
    /// trust domain.
    pub(super) fn named(&self, identities: &[String]) -> Vec<String> {
        let mut named: Vec<String> = Vec::new();
        let domains = trust_domains(identities);
        for text in &self.principals {
            let tail = text.split_once("/ns/").map(|(_, tail)| tail);
            let aliases = tail.into_iter().flat_map(|tail| {
                domains
                    .iter()
                    .map(move |domain| format!("{domain}/ns/{tail}"))
            });
            for wanted in std::iter::once(text.clone()).chain(aliases) {
                if identities.binary_search(&wanted).is_ok() {
                    named.push(wanted);
                }
            }
        }
        named.sort_unstable();
        named.dedup();
        named
    }

    fn add(&mut self, rule: &Rule, namespace: &str) {
        for source in &rule.from {
            self.add_source(source, namespace);
        }
        for condition in &rule.when {
            self.add_condition(condition, namespace);
        }
    }

    fn add_source(&mut self, source: &Source, namespace: &str) {
        let principals = source.principals.iter().chain(&source.not_principals);
        self.principals.extend(principals.cloned());
        let namespaces = source.namespaces.iter().chain(&source.not_namespaces);
        self.namespaces.extend(namespaces.cloned());
        let accounts = source
            .service_accounts
            .iter()
            .chain(&source.not_service_accounts);
        self.principals
            .extend(accounts.map(|account| of_account(account, namespace)));
        let domains = source.trust_domains.iter().chain(&source.not_trust_domains);
        self.trust_domains.extend(domains.cloned());
    }

    fn add_condition(&mut self, condition: &Condition, namespace: &str) {
        let values = condition.values.iter().chain(&condition.not_values);
        match condition.key {
            Key::SourcePrincipal => self.principals.extend(values.cloned()),
            Key::SourceNamespace => self.namespaces.extend(values.cloned()),
            Key::SourceServiceAccount => self
                .principals
                .extend(values.map(|account| of_account(account, namespace))),
            Key::SourceTrustDomain => self.trust_domains.extend(values.cloned()),
            _ => {}
        }
    }

    /// Groups of indexes into `identities`, which are sorted, the group of the first member first.
    pub(super) fn groups(&self, identities: &[String]) -> Vec<Vec<usize>> {
        let groups = self.ranges(identities).into_iter();
        groups
            .map(|ranges| ranges.into_iter().flatten().collect())
            .collect()
    }

    /// The first of each group, without a look at the others.
    pub(super) fn firsts(&self, identities: &[String]) -> Vec<usize> {
        let groups = self.ranges(identities);
        groups.iter().map(|ranges| ranges[0].start).collect()
    }

    /// Where ranges of one group begin, ascending, each with the place at which the group begins.
    pub(super) fn cells(&self, identities: &[String]) -> Vec<(usize, usize)> {
        let groups = self.ranges(identities);
        let mut cells: Vec<(usize, usize)> = groups
            .iter()
            .flat_map(|ranges| ranges.iter().map(|range| (range.start, ranges[0].start)))
            .collect();
        cells.sort_unstable();
        cells
    }

    fn ranges(&self, identities: &[String]) -> Vec<Vec<Range<usize>>> {
        let domains = trust_domains(identities);
        // Ranges of the sorted list, one a matcher and trust domain; and lists of single matches.
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        let mut scattered: Vec<Vec<usize>> = Vec::new();
        let range = |start: &str, exact: bool| {
            let from = identities.partition_point(|one| one.as_str() < start);
            let until = if exact {
                from + usize::from(identities.get(from).is_some_and(|one| one == start))
            } else {
                from + identities[from..].partition_point(|one| one.starts_with(start))
            };
            (from, until)
        };
        let scan = |matches: &dyn Fn(&str) -> bool| -> Vec<usize> {
            (0..identities.len())
                .filter(|index| matches(&identities[*index]))
                .collect()
        };
        for text in &self.principals {
            if text == "*" {
                continue;
            }
            // The trust domain may be written as an alias, or as a part of one that istiod replaces
            // (istio pilot/pkg/security/trustdomain/bundle.go): what follows it counts.
            let tail = text.split_once("/ns/").map(|(_, tail)| tail);
            if let Some(end) = text.strip_prefix('*') {
                scattered.push(scan(&|one| one.ends_with(end)));
                if end.contains('.') {
                    let pattern = unquoted(&[Piece::Many(Set::Any)], end);
                    scattered.push(scan(&|one| pattern.matches(one)));
                }
            }
            match (tail, text.strip_suffix('*')) {
                (Some(tail), prefix) => {
                    for domain in &domains {
                        let whole = format!("{domain}/ns/{}", tail.trim_end_matches('*'));
                        ranges.push(range(&whole, prefix.is_none()));
                    }
                    if tail.contains('.') {
                        let start = [Piece::Many(Set::NotSlash), Piece::Literal("/ns/".into())];
                        let pattern = unquoted(&start, tail);
                        scattered.push(scan(&|one| pattern.matches(one)));
                    }
                }
                (None, _) if text.starts_with('*') => {}
                (None, Some(prefix)) => ranges.push(range(prefix, false)),
                (None, None) => ranges.push(range(text, true)),
            }
        }
        for text in &self.namespaces {
            if text == "*" {
                continue;
            }
            let plain = text.strip_suffix('*').unwrap_or(text);
            let name = |one: char| one.is_ascii_alphanumeric() || one == '-';
            if !plain.chars().all(name) || "sa".starts_with(plain) {
                // What Envoy makes of it reaches beyond the namespace; what ztunnel does, not.
                let beyond = [
                    namespace_pattern(text, false),
                    namespace_pattern(text, true),
                ];
                for pattern in beyond {
                    scattered.push(scan(&|one| pattern.matches(one)));
                }
                let alone = Text::wildcard(text);
                scattered.push(scan(&|one| {
                    namespace_of(one).is_some_and(|namespace| alone.matches(namespace))
                }));
                continue;
            }
            for domain in &domains {
                let end = if plain == text { "/" } else { "" };
                ranges.push(range(&format!("{domain}/ns/{plain}{end}"), false));
            }
        }
        if !self.trust_domains.is_empty() {
            for domain in &domains {
                ranges.push(range(&format!("{domain}/ns/"), false));
            }
        }
        grouped(identities.len(), &ranges, &scattered)
    }
}

/// The trust domains of identities, which are sorted, so that those of one stand together.
fn trust_domains(identities: &[String]) -> Vec<&str> {
    let mut domains = Vec::new();
    let mut at = 0;
    while let Some(identity) = identities.get(at) {
        match identity.split_once("/ns/") {
            Some((domain, _)) => {
                domains.push(domain);
                let same = |one: &String| {
                    one.strip_prefix(domain)
                        .is_some_and(|rest| rest.starts_with("/ns/"))
                };
                at += identities[at..].partition_point(same);
            }
            None => at += 1,
        }
    }
    domains
}

/// Members of the same ranges and lists, by sweeping over the cuts.
fn grouped(
    length: usize,
    ranges: &[(usize, usize)],
    scattered: &[Vec<usize>],
) -> Vec<Vec<Range<usize>>> {
    let mut cuts: BTreeSet<usize> = [0, length].into();
    for (from, until) in ranges {
        cuts.extend([*from, *until]);
    }
    for index in scattered.iter().flatten() {
        cuts.extend([*index, *index + 1]);
    }
    let scattered: Vec<BTreeSet<usize>> = scattered
        .iter()
        .map(|list| list.iter().copied().collect())
        .collect();
    let mut groups: BTreeMap<Vec<bool>, usize> = BTreeMap::new();
    let mut found: Vec<Vec<Range<usize>>> = Vec::new();
    let cuts: Vec<usize> = cuts.into_iter().collect();
    for pair in cuts.windows(2) {
        let (from, until) = (pair[0], pair[1]);
        let signature: Vec<bool> = ranges
            .iter()
            .map(|range| range.0 <= from && from < range.1)
            .chain(scattered.iter().map(|list| list.contains(&from)))
            .collect();
        let group = *groups.entry(signature).or_insert_with(|| {
            found.push(Vec::new());
            found.len() - 1
        });
        found[group].push(from..until);
    }
    found
}

/// `namespace/account`, or `account` of the policy's own namespace, as a principal of any domain.
fn of_account(account: &str, namespace: &str) -> String {
    let (namespace, account) = account.split_once('/').unwrap_or((namespace, account));
    format!("any/ns/{namespace}/sa/{account}")
}

/// What a release that does not quote makes of a text inside a regular expression: `.` is any
/// character (istio pilot/pkg/security/authz/model/generator.go). Other characters with a meaning leave
/// the whole value undecided and need no look here.
fn unquoted<'a>(before: &[Piece<'a>], text: &'a str) -> Text<'a> {
    let mut pieces = before.to_vec();
    pieces.extend(dotted(text));
    Text::new(Shape::Sequences(vec![pieces]))
}

fn dotted(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for (index, part) in text.split('.').enumerate() {
        if index > 0 {
            pieces.push(Piece::One(Set::Any));
        }
        pieces.push(Piece::Literal(part.into()));
    }
    pieces
}

/// `generator.go:srcNamespaceGenerator`: `.*/ns/<text>/.*`, each `*` of the text being `.*`.
fn namespace_pattern(text: &str, quoted: bool) -> Text<'_> {
    let mut pieces = vec![Piece::Many(Set::Any), Piece::Literal("/ns/".into())];
    for (index, part) in text.split('*').enumerate() {
        if index > 0 {
            pieces.push(Piece::Many(Set::Any));
        }
        if quoted {
            pieces.push(Piece::Literal(part.into()));
        } else {
            pieces.extend(dotted(part));
        }
    }
    pieces.extend([Piece::Literal("/".into()), Piece::Many(Set::Any)]);
    Text::new(Shape::Sequences(vec![pieces]))
}

#[cfg(test)]
mod tests;
