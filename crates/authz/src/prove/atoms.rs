//! From predicates at a point to sets of classes of the request's own attributes.
//!
//! In come translated policies and what the point sees, out come rules over numbered patterns, and the
//! patterns themselves are written down. Invariant: what does not depend on the request (a fixed port,
//! a proxy's identity) is decided here, so that rules which say the same become equal.

use super::dimension::{AddressAttribute, Occurring, TextAttribute};
use super::world::{on_account, on_namespace};
use crate::enforced::{EnforcedRule, Predicate, Test};
use crate::ip::IpBlock;
use crate::path::{IpSeen, Point, PortSeen, PrincipalSeen, SniSeen};
use crate::sight::host_field;
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

/// An entry: it holds never, always, or by its number.
enum Tested {
    Never,
    Always,
    Open(u32),
}

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
    /// The number of a rule; `None`: never matches.
    pub(crate) fn rule(&mut self, rule: &EnforcedRule<'a>) -> Option<u32> {
        let mut clauses = Vec::with_capacity(rule.clauses.len());
        'clauses: for clause in &rule.clauses {
            let mut entries = Vec::with_capacity(clause.entries.len());
            for entry in &clause.entries {
                match self.entry(&entry.tests) {
                    Tested::Never => {}
                    Tested::Always => continue 'clauses,
                    Tested::Open(entry) => entries.push(entry),
                }
            }
            if entries.is_empty() {
                return None;
            }
            clauses.push(self.clause(entries));
        }
        Some(self.all_of(clauses))
    }

    /// ANDed.
    fn all_of(&mut self, mut clauses: Vec<u32>) -> u32 {
        clauses.sort_unstable();
        clauses.dedup();
        self.occurring.parts.rules.number(&clauses)
    }

    /// ORed.
    fn clause(&mut self, mut entries: Vec<u32>) -> u32 {
        entries.sort_unstable();
        entries.dedup();
        self.occurring.parts.clauses.number(&entries)
    }

    /// A clause of one test.
    fn single(&mut self, negated: bool, atoms: &mut Vec<Atom>) -> u32 {
        let test = self.test(negated, atoms);
        let entry = self.occurring.parts.entries.number(&[test]);
        self.clause(vec![entry])
    }

    fn test(&mut self, negated: bool, atoms: &mut Vec<Atom>) -> u32 {
        atoms.sort_unstable();
        atoms.dedup();
        2 * self.occurring.parts.tests.number(atoms) + u32::from(negated)
    }

    fn entry(&mut self, tests: &[Test<'a>]) -> Tested {
        let mut open = Vec::with_capacity(tests.len());
        let mut atoms = Vec::new();
        'tests: for test in tests {
            atoms.clear();
            for value in &test.values {
                match self.answer(&value.predicate, value.text) {
                    Answer::Known(true) if test.negated => return Tested::Never,
                    Answer::Known(true) => continue 'tests,
                    Answer::Known(false) => {}
                    Answer::Open(atom) => atoms.push(atom),
                    Answer::Either(one, other) => atoms.extend([one, other]),
                }
            }
            match (atoms.is_empty(), test.negated) {
                (true, true) => {}
                (true, false) => return Tested::Never,
                (false, negated) => open.push(self.test(negated, &mut atoms)),
            }
        }
        if open.is_empty() {
            return Tested::Always;
        }
        open.sort_unstable();
        open.dedup();
        Tested::Open(self.occurring.parts.entries.number(&open))
    }

    fn answer(&mut self, predicate: &Predicate<'a>, text: &'a str) -> Answer {
        let seen = &self.point.seen;
        match predicate {
            Predicate::Identity(pattern) => self.identity(pattern, false),
            // ztunnel compares an empty string where there is no identity.
            Predicate::Namespace(pattern) => {
                self.identity(&on_namespace(pattern), pattern.matches(""))
            }
            Predicate::ServiceAccount { namespace, name } => {
                self.identity(&on_account(namespace, name), false)
            }
            Predicate::SourceIp(block) => self.address(&seen.source_ip, *block),
            Predicate::RemoteIp(block) => self.address(&seen.remote_ip, *block),
            Predicate::DestinationIp(block) => self.address(&seen.destination_ip, *block),
            Predicate::DestinationPort(port) => self.port((*port, *port)),
            Predicate::Sni(pattern) => match &seen.sni {
                SniSeen::None => Answer::Known(pattern.matches("")),
                SniSeen::Fixed(name) => Answer::Known(pattern.matches(name)),
                SniSeen::AsSent => self.text(&TextAttribute::Sni, pattern),
            },
            Predicate::Method(pattern) => self.text(&TextAttribute::Method, pattern),
            Predicate::Host(pattern) => match self.rewritten(host_field(pattern), text) {
                Some(question) => question,
                None => self.text(&TextAttribute::Host, pattern),
            },
            Predicate::Path(pattern) => match self.rewritten("path", text) {
                Some(question) => question,
                None => self.text(&TextAttribute::Path, pattern),
            },
            Predicate::Header(name, _) if seen.how_set(name).is_some() => {
                self.question(Unknown::set_header(name, text, self.point))
            }
            Predicate::Header(name, pattern) => {
                match self.rewritten(&format!("header {name}"), text) {
                    Some(question) => question,
                    None if seen.headers_removed.iter().any(|removed| removed == name) => {
                        Answer::Known(false)
                    }
                    None => self.text(&TextAttribute::Header(name.to_string()), pattern),
                }
            }
            Predicate::RequestPrincipal { issuer, subject } if self.validates() => {
                let (_, issuer) = self.occurring.text(&TextAttribute::Issuer, issuer);
                let (_, subject) = self.occurring.text(&TextAttribute::Subject, subject);
                Answer::Open(Atom::RequestPrincipal(issuer, subject))
            }
            Predicate::Claim(path, pattern) if self.validates() && !path.is_empty() => {
                let attribute = match path.as_ref() {
                    [one] if one == "iss" => TextAttribute::Issuer,
                    [one] if one == "sub" => TextAttribute::Subject,
                    path => TextAttribute::Claim(path.to_vec()),
                };
                let (attribute, number) = self.occurring.text(&attribute, pattern);
                Answer::Open(Atom::Token(attribute, number))
            }
            Predicate::RequestPrincipal { .. } | Predicate::Claim(..) => Answer::Known(false),
            Predicate::Unknown(field) => self.question(Unknown::value(field, text, self.point)),
        }
    }

    fn validates(&self) -> bool {
        !self.point.token_rules.is_empty()
    }

    /// `without`: what holds where there is no identity.
    fn identity(&mut self, pattern: &Text<'a>, without: bool) -> Answer {
        match &self.point.seen.principal {
            PrincipalSeen::None => Answer::Known(without),
            PrincipalSeen::Fixed(principal) => {
                Answer::Known(pattern.matches(&format!("spiffe://{principal}")))
            }
            PrincipalSeen::Callers => {
                let (attribute, number) = self.occurring.text(&TextAttribute::Identity, pattern);
                let atom = Atom::Text(attribute, number);
                if without {
                    Answer::Either(atom, Atom::NoIdentity)
                } else {
                    Answer::Open(atom)
                }
            }
        }
    }

    fn text(&mut self, attribute: &TextAttribute, pattern: &Text<'a>) -> Answer {
        if pattern.shape == Shape::There && !matches!(attribute, TextAttribute::Header(_)) {
            return Answer::Known(true);
        }
        let (attribute, number) = self.occurring.text(attribute, pattern);
        Answer::Open(Atom::Text(attribute, number))
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
        let (attribute, number) = self.occurring.address(&attribute, block);
        Answer::Open(Atom::Address(attribute, number))
    }

    fn port(&mut self, range: (u16, u16)) -> Answer {
        match self.point.seen.destination_port {
            PortSeen::Fixed(port) => Answer::Known(range.0 <= port && port <= range.1),
            PortSeen::Dialled => Answer::Open(Atom::Port(self.occurring.ports.number(&range))),
        }
    }

    fn rewritten(&mut self, field: &str, text: &str) -> Option<Answer> {
        let question = Unknown::behind_rewrite(field, text, &self.point.seen.http)?;
        Some(self.question(question))
    }

    fn question(&mut self, question: Unknown) -> Answer {
        Answer::Open(Atom::Question(self.occurring.questions.number(&question)))
    }

    /// One token rule: issuer, audiences and validation as atoms of an unvalidated token.
    pub(crate) fn token_rule(&mut self, rule: &'a crate::path::TokenRule) -> AtomTokenRule {
        let audience = TextAttribute::Claim(vec!["aud".to_owned()]);
        let audiences = rule.audiences.iter();
        let mut number =
            |attribute, text: &'a String| self.occurring.text(attribute, &Text::exact(text)).1;
        AtomTokenRule {
            issuer: number(&TextAttribute::Issuer, &rule.issuer),
            audiences: audiences.map(|one| number(&audience, one)).collect(),
            validation: self.occurring.validations.number(&rule.validation),
            forward: rule.forward,
        }
    }

    /// One entry of NetworkPolicies: its block, exceptions and ports as a rule; `None`: never admits.
    pub(crate) fn network(&mut self, entry: &crate::path::NetworkEntry) -> Option<u32> {
        let seen = &self.point.seen;
        let mut clauses = Vec::new();
        if let Some((block, except)) = &entry.block {
            let blocks =
                std::iter::once((block, false)).chain(except.iter().map(|one| (one, true)));
            for (block, negated) in blocks {
                let mut atoms = match self.address(&seen.source_ip, *block) {
                    Answer::Known(inside) if inside == negated => return None,
                    Answer::Known(_) => continue,
                    Answer::Open(atom) => vec![atom],
                    Answer::Either(one, other) => vec![one, other],
                };
                clauses.push(self.single(negated, &mut atoms));
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
            (false, false) => clauses.push(self.single(false, &mut atoms)),
        }
        Some(self.all_of(clauses))
    }
}
