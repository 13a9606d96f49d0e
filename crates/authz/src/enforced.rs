//! What a proxy enforces: the policies of a point after istiod translated them for that proxy.
//!
//! In comes a [`Point`](crate::path::Point), out comes a [`Chain`]: rules without wildcards-by-convention,
//! with dropped fields dropped and aliases expanded. Both the evaluator and the prover read this form,
//! so the translation exists once; see [`envoy`](crate::envoy) and [`ztunnel`](crate::ztunnel).
//! Invariant: a rule without clauses always matches; a policy without rules never does.

use std::borrow::Cow;

use crate::decision::CustomRefusal;
use crate::ip::IpBlock;
use crate::path::{Point, PointKind, Protocol};
use crate::policy::{Action, Key, Policy};
use crate::settings::Settings;
use crate::text::{Shape, Text};

/// The policies of a point, by the stage in which they are evaluated. AUDIT is left out: it never
/// decides. Sorted by policy name within a stage. Rules are translated one by one when they are asked
/// for ([`Chain::rules`]), since there may be thousands and one may decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain<'a> {
    /// CUSTOM, evaluated before tokens are validated.
    pub custom: Vec<Custom<'a>>,
    /// DENY.
    pub deny: Vec<&'a Policy>,
    /// ALLOW; if there is one and none matches, the request is refused.
    pub allow: Vec<&'a Policy>,
    proxy: Translator,
    settings: &'a Settings,
}

/// For whom istiod translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Translator {
    Envoy {
        tcp: bool,
    },
    Ztunnel,
    /// Nothing is enforced.
    Nobody,
}

/// A CUSTOM policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Custom<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// Its provider.
    pub provider: &'a str,
    /// What happens when it matches.
    pub then: CustomThen,
}

/// What happens to a request that a CUSTOM policy matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CustomThen {
    /// The authorizer is asked.
    Ask,
    /// It is refused.
    Refuse(CustomRefusal),
    /// Not known, see [`Behaviour::dry_run_custom_unclear`](crate::settings::Behaviour).
    Unclear,
}

/// A rule as enforced: all clauses must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnforcedRule<'a> {
    /// Index in the policy's rules.
    pub index: usize,
    /// ANDed.
    pub clauses: Vec<Clause<'a>>,
}

/// A from, a to, or one when: some entry must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause<'a> {
    /// Where it comes from.
    pub part: Part,
    /// ORed.
    pub entries: Vec<Entry<'a>>,
}

/// A part of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `from`
    From,
    /// `to`
    To,
    /// `when[i]`
    When(usize),
}

/// One entry of a clause: all tests must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Index in `from` or `to`; 0 for `when`.
    pub index: usize,
    /// ANDed; empty: always holds.
    pub tests: Vec<Test<'a>>,
}

/// One field: some value must match, or none if it is negated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test<'a> {
    /// Name of the field: `notPrincipals`, `values`.
    pub field: &'static str,
    /// The key, for `when`.
    pub key: Option<&'a Key>,
    /// None of the values may match.
    pub negated: bool,
    /// ORed.
    pub values: Vec<Value<'a>>,
}

/// One value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    /// The user's text.
    pub text: &'a str,
    /// What it became.
    pub predicate: Predicate<'a>,
}

/// A yes-or-no question about a request as a point sees it. A question about something that is not
/// there is answered no.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Predicate<'a> {
    /// About the identity, with `spiffe://`.
    Identity(Text<'a>),
    /// About the namespace in the identity, an empty string where there is no identity (ztunnel).
    Namespace(Text<'a>),
    /// Is the identity this account of this namespace, in any trust domain (ztunnel)?
    ServiceAccount {
        /// Its namespace.
        namespace: Cow<'a, str>,
        /// Its name.
        name: Cow<'a, str>,
    },
    /// Is the peer's address in the block?
    SourceIp(IpBlock),
    /// Is the client's address in the block?
    RemoteIp(IpBlock),
    /// Is the local address in the block?
    DestinationIp(IpBlock),
    /// Is this the local port?
    DestinationPort(u16),
    /// About the server name, an empty string where there is none.
    Sni(Text<'a>),
    /// About the host.
    Host(Text<'a>),
    /// About the method.
    Method(Text<'a>),
    /// About the path.
    Path(Text<'a>),
    /// About a header, by its name in lower case.
    Header(Cow<'a, str>, Text<'a>),
    /// About issuer and subject of the validated token.
    RequestPrincipal {
        /// The issuer.
        issuer: Text<'a>,
        /// The subject.
        subject: Text<'a>,
    },
    /// About some value of a claim of the validated token.
    Claim(Cow<'a, [String]>, Text<'a>),
    /// Not ours to answer; the name of the field or key.
    Unknown(Cow<'a, str>),
}

/// What is enforced at a point that has policies; nothing at points of other kinds.
#[must_use]
pub fn chain<'a>(point: &'a Point, settings: &'a Settings) -> Chain<'a> {
    let mut chain = Chain {
        custom: Vec::new(),
        deny: Vec::new(),
        allow: Vec::new(),
        proxy: match point.kind {
            PointKind::Envoy { protocol, .. } => Translator::Envoy {
                tcp: protocol == Protocol::Tcp,
            },
            PointKind::Ztunnel => Translator::Ztunnel,
            PointKind::NetworkPolicy { .. } | PointKind::Stop { .. } | PointKind::Opaque { .. } => {
                Translator::Nobody
            }
        },
        settings,
    };
    let mut policies: Vec<&Policy> = point.policies.iter().map(AsRef::as_ref).collect();
    policies.sort();
    let mut add = |policy: &'a Policy| match policy.action {
        Action::Allow => chain.allow.push(policy),
        Action::Deny => chain.deny.push(policy),
        Action::Audit | Action::Custom { .. } => {}
    };
    match chain.proxy {
        Translator::Envoy { tcp } => {
            let decides = |policy: &&&Policy| crate::envoy::decides(policy);
            policies
                .iter()
                .filter(decides)
                .for_each(|policy| add(policy));
            chain.custom = crate::envoy::custom(&policies, settings, tcp);
        }
        Translator::Ztunnel => {
            let sent = |policy: &&&Policy| crate::ztunnel::is_sent(policy, settings);
            policies.iter().filter(sent).for_each(|policy| add(policy));
        }
        Translator::Nobody => {}
    }
    chain
}

impl<'a> Chain<'a> {
    /// The rules of one of its policies that are left for this proxy, in their order, ORed.
    pub fn rules(&self, policy: &'a Policy) -> impl Iterator<Item = EnforcedRule<'a>> + use<'a> {
        let (proxy, settings) = (self.proxy, self.settings);
        (0..policy.rules.len()).filter_map(move |index| match proxy {
            Translator::Envoy { tcp } => crate::envoy::rule(policy, index, settings, tcp),
            Translator::Ztunnel => crate::ztunnel::rule(policy, index),
            Translator::Nobody => None,
        })
    }
}

/// A CORS preflight: no token of it is looked at, so that it passes with a bad one and has no request
/// principal with a good one (`policy_applier.go:convertToEnvoyJwtConfig`, `BypassCorsPreflight`; Envoy
/// `source/extensions/filters/http/jwt_authn/filter.cc:isCorsPreflightRequest`). Not a rule of a policy,
/// but in the form of one.
pub(crate) fn preflight() -> EnforcedRule<'static> {
    let test = |field, text, predicate| Test {
        field,
        key: None,
        negated: false,
        values: vec![Value { text, predicate }],
    };
    let filled = |name| {
        let predicate = Predicate::Header(Cow::Borrowed(name), Text::new(Shape::NotEmpty));
        test("headers", "(not empty)", predicate)
    };
    let method = Predicate::Method(Text::exact("OPTIONS"));
    let tests = vec![
        test("methods", "OPTIONS", method),
        filled("origin"),
        filled("access-control-request-method"),
    ];
    EnforcedRule {
        index: 0,
        clauses: vec![Clause {
            part: Part::To,
            entries: vec![Entry { index: 0, tests }],
        }],
    }
}

/// A port as istiod reads it (`convertToPort`): decimal digits, at most 65535.
pub(crate) fn port(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}
