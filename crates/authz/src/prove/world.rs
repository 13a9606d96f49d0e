//! The laws of the world: which requests exist at all.
//!
//! In comes the caller, out comes for each attribute which values it can have, and which of them a
//! witness should prefer. All that the proof assumes about requests is in this file:
//!
//! - An identity has the form `spiffe://DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, its parts made of letters,
//!   digits, `.`, `_` and `-` (istio/istio `pkg/spiffe`; ztunnel reads no other form), or is one of
//!   those that the caller is said to have. Hence a namespace, an account and a trust domain go with it.
//! - Who sends in plaintext has no identity.
//! - A port is 0 to 65535.
//! - A path begins with `/` and holds visible ASCII but `?` and `#`: the proxies cut the query off, and
//!   normalize (`*` of `OPTIONS *` included) unless `meshConfig.pathNormalization` is NONE.
//! - Method, host and SNI are visible ASCII, the SNI without capitals; a method is not empty; every HTTP
//!   request has a host.
//! - A header may be absent, empty or any text without a line break.
//! - A request carries at most one token. Its issuer and subject are single strings or absent; another
//!   claim has any set of strings. If a claim has a value, no claim below it has one.
//! - Only a request with a token has claims, and only a token fails a validation.
//! - What X-Forwarded-For claims is unrelated to the address that the caller sends from.
//! - Headers are unrelated to the token.

use std::net::IpAddr;

use super::access::Builder;
use super::diagram::{Function, TRUE, TooManyNodes};
use super::dimension::{Absence, AddressAttribute, TextAttribute};
use super::strings::Universe;
use crate::ip::IpBlock;
use crate::text::{Piece, Set, Shape, Text};
use crate::verdict::{Caller, Comparison, Identities, placeholder_address};

/// Which requests exist.
pub(crate) struct World<'a> {
    pub(crate) caller: &'a Caller,
    /// Trust domain of the mesh, for examples of identities.
    pub(crate) trust_domain: &'a str,
}

impl<'a> World<'a> {
    /// The world of a comparison.
    pub(crate) fn of(comparison: &'a Comparison) -> Self {
        let mut paths = comparison.present.iter().chain(&comparison.baseline);
        Self {
            caller: &comparison.caller,
            trust_domain: paths
                .next()
                .map_or("cluster.local", |path| &path.settings.trust_domain),
        }
    }
}

impl World<'_> {
    /// Attributes that every request has, whether or not a policy names them.
    pub(crate) const ALWAYS: [TextAttribute; 7] = [
        TextAttribute::Identity,
        TextAttribute::Sni,
        TextAttribute::Method,
        TextAttribute::Host,
        TextAttribute::Path,
        TextAttribute::Issuer,
        TextAttribute::Subject,
    ];

    /// The strings that exist for an attribute, and those that a witness prefers: what the patterns
    /// name, then what is ordinary.
    pub(crate) fn strings(
        &self,
        attribute: &TextAttribute,
        patterns: &[Text<'_>],
    ) -> (Universe, Vec<String>) {
        let mut preferred: Vec<String> = patterns
            .iter()
            .filter_map(|pattern| match &pattern.shape {
                Shape::Exact(text) => Some(text.to_string()),
                _ => None,
            })
            .collect();
        let some = |set| vec![Piece::One(set), Piece::Many(set)];
        let law = match attribute {
            TextAttribute::Identity => return self.identities(preferred, patterns),
            TextAttribute::Sni => {
                // An absent one is the empty string, and preferred.
                preferred.insert(0, String::new());
                vec![Piece::Many(Set::ServerName)]
            }
            TextAttribute::Method => {
                preferred.extend(["GET", "POST", "DELETE"].map(str::to_owned));
                // Every token rule names it ([`preflight`](crate::enforced)), hardly ever a policy.
                preferred.sort_by_key(|method| method == "OPTIONS");
                some(Set::Visible)
            }
            TextAttribute::Host => {
                preferred.push("other.example".to_owned());
                vec![Piece::Many(Set::Visible)]
            }
            TextAttribute::Path => {
                preferred.extend(["/", "/other"].map(str::to_owned));
                vec![Piece::Literal("/".into()), Piece::Many(Set::Path)]
            }
            TextAttribute::Header(_) => {
                preferred.push("other".to_owned());
                vec![Piece::Many(Set::Any)]
            }
            TextAttribute::Issuer => {
                preferred.push("https://issuer.example".to_owned());
                vec![Piece::Many(Set::Any)]
            }
            TextAttribute::Subject => {
                preferred.push("someone".to_owned());
                vec![Piece::Many(Set::Any)]
            }
            TextAttribute::Claim(_) => {
                preferred.push("other".to_owned());
                vec![Piece::Many(Set::Any)]
            }
        };
        (Universe::Matching(vec![law]), preferred)
    }

    /// The identities that the caller may have, as the proxies write them.
    fn identities(
        &self,
        mut preferred: Vec<String>,
        patterns: &[Text<'_>],
    ) -> (Universe, Vec<String>) {
        let uri = |principal: &String| format!("spiffe://{principal}");
        let name = || [Piece::One(Set::Name), Piece::Many(Set::Name)];
        let law = |domain: Vec<Piece<'static>>| {
            let mut pieces = vec![Piece::Literal("spiffe://".into())];
            pieces.extend(domain);
            pieces.push(Piece::Literal("/ns/".into()));
            pieces.extend(name());
            pieces.push(Piece::Literal("/sa/".into()));
            pieces.extend(name());
            Universe::Matching(vec![pieces])
        };
        let domain = match &self.caller.identity {
            Identities::Only(principals) => {
                return (
                    Universe::Only(principals.iter().map(uri).collect()),
                    preferred,
                );
            }
            Identities::Nobody => return (Universe::Only(Vec::new()), preferred),
            Identities::OfTrustDomain { trust_domain, .. } => trust_domain.as_str(),
            Identities::Anybody { .. } => self.trust_domain,
        };
        preferred.extend(
            patterns
                .iter()
                .filter_map(|pattern| example(pattern, domain)),
        );
        preferred.push(format!("spiffe://{domain}/ns/other/sa/other"));
        match &self.caller.identity {
            Identities::OfTrustDomain { .. } => (
                law(vec![Piece::Literal(domain.to_owned().into())]),
                preferred,
            ),
            _ => (law(name().to_vec()), preferred),
        }
    }

    /// Whether an attribute can be absent.
    pub(crate) fn absent(&self, attribute: &TextAttribute) -> Absence {
        match attribute {
            TextAttribute::Identity => match self.caller.identity {
                Identities::Nobody | Identities::Anybody { .. } => Absence::Last,
                Identities::Only(_) | Identities::OfTrustDomain { .. } => Absence::Never,
            },
            TextAttribute::Header(_) => Absence::First,
            TextAttribute::Issuer | TextAttribute::Subject => Absence::Last,
            TextAttribute::Sni
            | TextAttribute::Method
            | TextAttribute::Host
            | TextAttribute::Path
            | TextAttribute::Claim(_) => Absence::Never,
        }
    }

    /// The addresses that exist for an attribute (none: all), and those that a witness prefers.
    pub(crate) fn addresses(&self, attribute: &AddressAttribute) -> (Vec<IpBlock>, Vec<IpAddr>) {
        match attribute {
            AddressAttribute::Source => {
                let blocks = self.caller.addresses.clone();
                let preferred = blocks
                    .iter()
                    .map(IpBlock::first)
                    .chain([placeholder_address()]);
                let preferred = preferred.collect();
                (blocks, preferred)
            }
            AddressAttribute::Forwarded => {
                let firsts = self.caller.addresses.iter().map(IpBlock::first);
                (Vec::new(), firsts.chain([placeholder_address()]).collect())
            }
            AddressAttribute::Destination => (Vec::new(), vec![placeholder_address()]),
            AddressAttribute::Of(_, among) => {
                let blocks = among.iter().map(|&address| IpBlock::new(address, u8::MAX));
                let mut preferred = among.clone();
                preferred.push(placeholder_address());
                (blocks.collect(), preferred)
            }
        }
    }

    /// The identities that the caller is said not to have, as a pattern each.
    pub(crate) fn excepted(&self) -> Vec<Text<'static>> {
        match &self.caller.identity {
            Identities::OfTrustDomain { but, .. } | Identities::Anybody { but } => but
                .iter()
                .map(|principal| Text::exact(format!("spiffe://{principal}")))
                .collect(),
            Identities::Only(_) | Identities::Nobody => Vec::new(),
        }
    }

    /// Whether nobody is asked about.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.caller.identity, Identities::Only(principals) if principals.is_empty())
    }
}

/// A pattern on the namespace of an identity, as one on the identity.
pub(crate) fn on_namespace<'a>(pattern: &Text<'a>) -> Text<'a> {
    let part = || [Piece::One(Set::NotSlash), Piece::Many(Set::NotSlash)];
    let within = match &pattern.shape {
        Shape::Exact(text) => vec![Piece::Literal(text.clone())],
        Shape::Prefix(text) => vec![Piece::Literal(text.clone()), Piece::Many(Set::NotSlash)],
        Shape::Suffix(text) => vec![Piece::Many(Set::NotSlash), Piece::Literal(text.clone())],
        Shape::NotEmpty => part().to_vec(),
        Shape::There => vec![Piece::Many(Set::NotSlash)],
        Shape::Sequences(_) => return pattern.clone(),
    };
    let mut pieces = vec![Piece::Literal("spiffe://".into())];
    pieces.extend(part());
    pieces.push(Piece::Literal("/ns/".into()));
    pieces.extend(within);
    pieces.push(Piece::Literal("/sa/".into()));
    pieces.extend(part());
    Text::new(Shape::Sequences(vec![pieces]))
}

/// A namespace and account of an identity in any trust domain, as a pattern on the identity.
pub(crate) fn on_account(namespace: &str, name: &str) -> Text<'static> {
    Text::new(Shape::Sequences(vec![vec![
        Piece::Literal("spiffe://".into()),
        Piece::One(Set::NotSlash),
        Piece::Many(Set::NotSlash),
        Piece::Literal(format!("/ns/{namespace}/sa/{name}").into()),
    ]]))
}

/// An identity that a pattern on namespace or account suggests, for a witness to read well; it need
/// not match.
fn example(pattern: &Text<'_>, domain: &str) -> Option<String> {
    let literals = match &pattern.shape {
        Shape::Prefix(text) => text.to_string(),
        Shape::Sequences(sequences) => {
            let pieces = sequences.first()?.iter();
            pieces
                .filter_map(|piece| match piece {
                    Piece::Literal(text) => Some(text.as_ref()),
                    Piece::One(_) | Piece::Many(_) => None,
                })
                .collect()
        }
        _ => return None,
    };
    let (before, after) = literals.split_once("/ns/")?;
    let named = before
        .strip_prefix("spiffe://")
        .filter(|named| !named.is_empty());
    let mut parts = after.split('/');
    let namespace = parts.next().filter(|part| !part.is_empty())?;
    let account = parts
        .nth(1)
        .filter(|part| !part.is_empty())
        .unwrap_or("other");
    Some(format!(
        "spiffe://{}/ns/{namespace}/sa/{account}",
        named.unwrap_or(domain)
    ))
}

/// The laws as a function: true for requests that exist.
pub(crate) fn law(builder: &mut Builder<'_>) -> Result<Function, TooManyNodes> {
    let mut law = TRUE;
    for coded in builder.coded() {
        let numbered = builder.numbered(&coded)?;
        law = builder.diagram.and(law, numbered)?;
    }
    let excepted = builder.excepted()?;
    law = builder.diagram.and_not(law, excepted)?;
    let token_only = builder.token_only()?;
    law = builder.diagram.and(law, token_only)?;
    let nested = builder.nested_claims()?;
    builder.diagram.and(law, nested)
}
