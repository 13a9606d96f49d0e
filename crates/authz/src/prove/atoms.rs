//! From predicates at a point to sets of classes of the request's own attributes.
//!
//! In come translated policies and what the point sees, out come rules over numbered patterns, and the
//! patterns themselves are written down. Invariant: what does not depend on the request (a fixed port,
//! a proxy's identity) is decided here, so that rules which say the same become equal.

use super::dimension::{AddressAttribute, Occurring, TextAttribute};
use super::world::{on_account, on_namespace};
use crate::enforced::{EnforcedRule, Predicate, Test};
use crate::ip::IpBlock;
use crate::path::{HttpSeen, IpSeen, Point, PortSeen, PrincipalSeen, SniSeen};
use crate::text::{Shape, Text};
use crate::unknown::Unknown;

/// A question about a request, its attribute and the number of a pattern there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Atom {
    /// Number of the attribute among [`Occurring::text_attributes`], and of the pattern.
    Text(u32, u32),
    /// The same, if the token was validated here.
    Token(u32, u32),
    /// Issuer and subject, if the token was validated here.
    RequestPrincipal(u32, u32),
    /// Number of the attribute among [`Occurring::address_attributes`], and of the block.
    Address(u32, u32),
    Port(u32),
    /// Is there no identity?
    NoIdentity,
    Question(u32),
}

/// Yes, no, or a question.
enum Answer {
    Known(bool),
    Open(Atom),
    /// Either of these.
    Either(Atom, Atom),
}

/// Any of the atoms, or none of them.
pub(crate) type AtomTest = (bool, Vec<Atom>);
/// ANDed.
pub(crate) type AtomEntry = Vec<AtomTest>;
/// ORed.
pub(crate) type AtomClause = Vec<AtomEntry>;
/// ANDed; shared, since it is kept both by number and to find its number.
pub(crate) type AtomRule = std::sync::Arc<Vec<AtomClause>>;

/// A token rule over numbered patterns.
#[derive(Clone, Debug)]
pub(crate) struct AtomTokenRule {
    pub(crate) issuer: u32,
    /// On the claim `aud`; none: any.
    pub(crate) audiences: Vec<u32>,
    pub(crate) validation: u32,
    pub(crate) forward: bool,
}

/// Turns predicates into atoms.
pub(crate) struct Atoms<'o, 'a> {
    pub(crate) occurring: &'o mut Occurring<'a>,
    pub(crate) point: &'a Point,
}

impl<'a> Atoms<'_, 'a> {
    /// `None`: never matches.
    pub(crate) fn rule(&mut self, rule: &EnforcedRule<'a>) -> Option<AtomRule> {
        let mut clauses = Vec::with_capacity(rule.clauses.len());
        for clause in &rule.clauses {
            let mut entries = Vec::with_capacity(clause.entries.len());
            for entry in &clause.entries {
                if let Some(tests) = self.entry(&entry.tests) {
                    entries.push(tests);
                }
            }
            if entries.iter().any(Vec::is_empty) {
                continue;
            }
            if entries.is_empty() {
                return None;
            }
            entries.sort_unstable();
            entries.dedup();
            clauses.push(entries);
        }
        clauses.sort_unstable();
        clauses.dedup();
        Some(clauses.into())
    }

    /// `None`: never holds.
    fn entry(&mut self, tests: &[Test<'a>]) -> Option<AtomEntry> {
        let mut open = Vec::with_capacity(tests.len());
        'tests: for test in tests {
            let mut atoms = Vec::with_capacity(test.values.len());
            for value in &test.values {
                match self.answer(&value.predicate, value.text) {
                    Answer::Known(true) if test.negated => return None,
                    Answer::Known(true) => continue 'tests,
                    Answer::Known(false) => {}
                    Answer::Open(atom) => atoms.push(atom),
                    Answer::Either(one, other) => atoms.extend([one, other]),
                }
            }
            if atoms.is_empty() {
                if test.negated {
                    continue;
                }
                return None;
            }
            atoms.sort_unstable();
            atoms.dedup();
            open.push((test.negated, atoms));
        }
        open.sort_unstable();
        Some(open)
    }

    fn answer(&mut self, predicate: &Predicate<'a>, text: &'a str) -> Answer {
        let seen = &self.point.seen;
        match predicate {
            Predicate::Identity(pattern) => {
                self.identity(|uri| pattern.matches(uri), || pattern.clone(), false)
            }
            Predicate::Namespace(pattern) => self.identity(
                |uri| on_namespace(pattern).matches(uri),
                || on_namespace(pattern),
                // ztunnel compares an empty string where there is no identity.
                pattern.matches(""),
            ),
            Predicate::ServiceAccount { namespace, name } => {
                let pattern = on_account(namespace, name);
                self.identity(|uri| pattern.matches(uri), || pattern.clone(), false)
            }
            Predicate::SourceIp(block) => self.address(&seen.source_ip, *block),
            Predicate::RemoteIp(block) => self.address(&seen.remote_ip, *block),
            Predicate::DestinationIp(block) => self.address(&seen.destination_ip, *block),
            Predicate::DestinationPort(port) => self.port((*port, *port)),
            Predicate::Sni(pattern) => match &seen.sni {
                SniSeen::None => Answer::Known(pattern.matches("")),
                SniSeen::Fixed(name) => Answer::Known(pattern.matches(name)),
                SniSeen::AsSent => self.text(TextAttribute::Sni, pattern),
            },
            Predicate::Method(pattern) => self.text(TextAttribute::Method, pattern),
            Predicate::Host(pattern) => match self.rewritten("host", text) {
                Some(question) => question,
                None => self.text(TextAttribute::Host, pattern),
            },
            Predicate::Path(pattern) => match self.rewritten("path", text) {
                Some(question) => question,
                None => self.text(TextAttribute::Path, pattern),
            },
            Predicate::Header(name, pattern) => {
                match self.rewritten(&format!("header {name}"), text) {
                    Some(question) => question,
                    None if seen.headers_removed.iter().any(|removed| removed == name) => {
                        Answer::Known(false)
                    }
                    None => self.text(TextAttribute::Header(name.to_string()), pattern),
                }
            }
            Predicate::RequestPrincipal { issuer, subject } if self.validates() => {
                let issuer = self.number(TextAttribute::Issuer, issuer);
                let subject = self.number(TextAttribute::Subject, subject);
                Answer::Open(Atom::RequestPrincipal(issuer, subject))
            }
            Predicate::Claim(path, pattern) if self.validates() => {
                let attribute = match path.as_ref() {
                    [one] if one == "iss" => TextAttribute::Issuer,
                    [one] if one == "sub" => TextAttribute::Subject,
                    path => TextAttribute::Claim(path.to_vec()),
                };
                let number = self.number(attribute.clone(), pattern);
                Answer::Open(Atom::Token(self.attribute(&attribute), number))
            }
            Predicate::RequestPrincipal { .. } | Predicate::Claim(..) => Answer::Known(false),
            Predicate::Unknown(field) => self.question(Unknown::value(field, text, self.point)),
        }
    }

    fn validates(&self) -> bool {
        !self.point.token_rules.is_empty()
    }

    fn identity(
        &mut self,
        matches: impl Fn(&str) -> bool,
        pattern: impl Fn() -> Text<'a>,
        without: bool,
    ) -> Answer {
        match &self.point.seen.principal {
            PrincipalSeen::None => Answer::Known(without),
            PrincipalSeen::Fixed(principal) => {
                Answer::Known(matches(&format!("spiffe://{principal}")))
            }
            PrincipalSeen::Callers => {
                let number = self.number(TextAttribute::Identity, &pattern());
                let atom = Atom::Text(self.attribute(&TextAttribute::Identity), number);
                if without {
                    Answer::Either(atom, Atom::NoIdentity)
                } else {
                    Answer::Open(atom)
                }
            }
        }
    }

    fn text(&mut self, attribute: TextAttribute, pattern: &Text<'a>) -> Answer {
        if pattern.shape == Shape::There && !matches!(attribute, TextAttribute::Header(_)) {
            return Answer::Known(true);
        }
        let id = self.attribute(&attribute);
        Answer::Open(Atom::Text(id, self.number(attribute, pattern)))
    }

    fn attribute(&mut self, attribute: &TextAttribute) -> u32 {
        self.occurring.text_attributes.number(attribute)
    }

    pub(crate) fn number(&mut self, attribute: TextAttribute, pattern: &Text<'a>) -> u32 {
        self.occurring
            .texts
            .entry(attribute)
            .or_default()
            .number(pattern)
    }

    fn address(&mut self, seen: &IpSeen, block: IpBlock) -> Answer {
        let attribute = match seen {
            IpSeen::NotAnIp => return Answer::Known(false),
            IpSeen::Fixed(address) => return Answer::Known(block.contains(*address)),
            IpSeen::Callers => AddressAttribute::Source,
            IpSeen::Forwarded => AddressAttribute::Forwarded,
            IpSeen::Dialled => AddressAttribute::Destination,
            IpSeen::Of { owner, among } => AddressAttribute::Of(
                seen.choice().unwrap_or_else(|| owner.clone()),
                among.clone(),
            ),
        };
        let id = self.occurring.address_attributes.number(&attribute);
        let blocks = self.occurring.addresses.entry(attribute).or_default();
        Answer::Open(Atom::Address(id, blocks.number(&block)))
    }

    fn port(&mut self, range: (u16, u16)) -> Answer {
        match self.point.seen.destination_port {
            PortSeen::Fixed(port) => Answer::Known(range.0 <= port && port <= range.1),
            PortSeen::Dialled => Answer::Open(Atom::Port(self.occurring.ports.number(&range))),
        }
    }

    fn rewritten(&mut self, field: &str, text: &str) -> Option<Answer> {
        let HttpSeen::Rewritten(rewrite) = &self.point.seen.http else {
            return None;
        };
        Some(self.question(Unknown::Value {
            field: field.to_owned(),
            text: text.to_owned(),
            at: rewrite.clone(),
            seen: None,
        }))
    }

    fn question(&mut self, question: Unknown) -> Answer {
        Answer::Open(Atom::Question(self.occurring.questions.number(&question)))
    }

    /// One token rule: issuer, audiences and validation as atoms of an unvalidated token.
    pub(crate) fn token_rule(&mut self, rule: &'a crate::path::TokenRule) -> AtomTokenRule {
        let audience = TextAttribute::Claim(vec!["aud".to_owned()]);
        let audiences = rule.audiences.iter();
        AtomTokenRule {
            issuer: self.number(TextAttribute::Issuer, &Text::exact(rule.issuer.as_str())),
            audiences: audiences
                .map(|one| self.number(audience.clone(), &Text::exact(one.as_str())))
                .collect(),
            validation: self.occurring.validations.number(&rule.validation),
            forward: rule.forward,
        }
    }

    /// One entry of NetworkPolicies: its block, exceptions and ports as a rule; `None`: never admits.
    pub(crate) fn network(&mut self, entry: &crate::path::NetworkEntry) -> Option<AtomRule> {
        let seen = &self.point.seen;
        let mut rule = Vec::new();
        if let Some((block, except)) = &entry.block {
            match self.address(&seen.source_ip, *block) {
                Answer::Known(false) => return None,
                Answer::Known(true) => {}
                Answer::Open(atom) => rule.push(vec![vec![(false, vec![atom])]]),
                Answer::Either(one, other) => rule.push(vec![vec![(false, vec![one, other])]]),
            }
            for block in except {
                match self.address(&seen.source_ip, *block) {
                    Answer::Known(true) => return None,
                    Answer::Known(false) => {}
                    Answer::Open(atom) => rule.push(vec![vec![(true, vec![atom])]]),
                    Answer::Either(one, other) => rule.push(vec![vec![(true, vec![one, other])]]),
                }
            }
        }
        let mut atoms = Vec::new();
        let mut known = entry.ports.is_empty();
        for &range in &entry.ports {
            match self.port(range) {
                Answer::Known(answer) => known |= answer,
                Answer::Open(atom) => atoms.push(atom),
                Answer::Either(one, other) => atoms.extend([one, other]),
            }
        }
        match (known, atoms.is_empty()) {
            (true, _) => {}
            (false, true) => return None,
            (false, false) => rule.push(vec![vec![(false, atoms)]]),
        }
        Some(rule.into())
    }
}
