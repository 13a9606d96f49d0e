//! Single texts of a policy in the form that Envoy is given.
//!
//! In comes one value as the user wrote it, out comes what it is matched with. Written from istio/istio
//! `pilot/pkg/security/authz/model/generator.go`, `matcher/*.go` and
//! `pilot/pkg/security/trustdomain/bundle.go`. Invariant: a text that cannot be represented is refused
//! or [`Predicate::Unknown`], never approximated.

use std::borrow::Cow;

use crate::enforced::Predicate;
use crate::settings::{Behaviour, Settings};
use crate::text::{Piece, Set, Shape, Text};

/// `string.go:StringMatcherWithPrefix` with `spiffe://`: a suffix is the regular expression
/// `spiffe://.*<suffix>`, a lone `*` is any identity.
pub(super) fn identity<'a>(
    principal: Cow<'a, str>,
    behaviour: Behaviour,
    text: &str,
) -> Predicate<'a> {
    let shape = if principal == "*" {
        Shape::NotEmpty
    } else if let Some(suffix) = principal.strip_prefix('*') {
        let Some(suffix) = literal(suffix, behaviour.quotes_namespaces) else {
            return Predicate::Unknown(format!("principals: {text}").into());
        };
        let mut pieces = vec![Piece::Literal("spiffe://".into()), Piece::Many(Set::Any)];
        pieces.extend(suffix.into_iter().map(Piece::into_owned));
        Shape::Sequences(vec![pieces])
    } else if let Some(prefix) = principal.strip_suffix('*') {
        Shape::Prefix(["spiffe://", prefix].concat().into())
    } else {
        Shape::Exact(["spiffe://", &principal].concat().into())
    };
    Predicate::Identity(Text::new(shape))
}

pub(super) fn trust_domain(text: &str) -> Text<'_> {
    Text::new(if text == "*" {
        Shape::Prefix("spiffe://".into())
    } else if let Some((before, after)) = text.split_once('*') {
        Shape::Sequences(vec![vec![
            Piece::Literal(format!("spiffe://{before}").into()),
            Piece::Many(Set::NotSlash),
            Piece::Literal(format!("{after}/").into()),
            Piece::Many(Set::Any),
        ]])
    } else {
        Shape::Prefix(format!("spiffe://{text}/").into())
    })
}

/// A text inside a regular expression. Where the release quotes it, it is itself. Where it does not,
/// `.` is any character, and other characters with a meaning give up.
pub(super) fn literal(text: &str, quoted: bool) -> Option<Vec<Piece<'_>>> {
    if quoted || !text.contains(|c: char| ".+*?()|[]{}^$\\".contains(c)) {
        return Some(vec![Piece::Literal(text.into())]);
    }
    if text.contains(|c: char| "+*?()|[]{}^$\\".contains(c)) {
        return None;
    }
    let mut pieces = Vec::new();
    for (index, part) in text.split('.').enumerate() {
        if index > 0 {
            pieces.push(Piece::One(Set::Any));
        }
        pieces.push(Piece::Literal(part.into()));
    }
    Some(pieces)
}

impl Piece<'_> {
    fn into_owned(self) -> Piece<'static> {
        match self {
            Piece::Literal(text) => Piece::Literal(text.into_owned().into()),
            Piece::One(set) => Piece::One(set),
            Piece::Many(set) => Piece::Many(set),
        }
    }
}

/// `{*}` is one segment, `{**}` any number, in Envoy's alphabet for path segments
/// (`uri_template_internal.cc`). `None`: Envoy or istiod's validation refuses it
/// (`pkg/config/security/security.go:CheckValidPathTemplate`).
pub(super) fn template(text: &str) -> Option<Text<'_>> {
    let rest = text.strip_prefix('/')?;
    let segments: Vec<&str> = rest.split('/').collect();
    let mut pieces = Vec::new();
    let mut any_seen = false;
    for (index, &segment) in segments.iter().enumerate() {
        pieces.push(Piece::Literal("/".into()));
        match segment {
            "{*}" | "{**}" if any_seen => return None,
            "{*}" => pieces.extend([Piece::One(Set::Segment), Piece::Many(Set::Segment)]),
            "{**}" => {
                any_seen = true;
                pieces.push(Piece::Many(Set::Segments));
            }
            // A trailing slash.
            "" if index > 0 && index == segments.len() - 1 => {}
            _ if !segment.is_empty() && segment.chars().all(|c| Set::Segment.holds(c)) => {
                pieces.push(Piece::Literal(segment.into()));
            }
            _ => return None,
        }
    }
    Some(Text::new(Shape::Sequences(vec![pieces])))
}

/// `bundle.go:ReplaceTrustDomainAliases` for one principal: where its trust domain is one of the
/// mesh's, or the literal `cluster.local`, it stands for all of them.
pub(super) fn with_aliases<'a>(principal: &'a str, settings: &Settings) -> Vec<Cow<'a, str>> {
    let mut parts = principal.splitn(2, '/');
    let (Some(domain), Some(rest)) = (parts.next(), parts.next()) else {
        return vec![principal.into()];
    };
    if domain == "*" || principal.split('/').count() != 5 {
        return vec![principal.into()];
    }
    let suffix = |text: &str, pattern: &str| {
        pattern
            .strip_prefix('*')
            .is_some_and(|pattern| text.ends_with(pattern))
    };
    let prefix = |text: &str, pattern: &str| {
        pattern
            .strip_suffix('*')
            .is_some_and(|pattern| text.starts_with(pattern))
    };
    let known = || std::iter::once(&settings.trust_domain).chain(&settings.trust_domain_aliases);
    let ours = known().any(|known| {
        known == domain
            || known == "*"
            || prefix(domain, known)
            || prefix(known, domain)
            || suffix(domain, known)
            || suffix(known, domain)
    });
    if !ours && domain != "cluster.local" {
        return vec![principal.into()];
    }
    let mut all: Vec<Cow<'a, str>> = Vec::new();
    for known in known() {
        let one: Cow<'a, str> = if known == domain || suffix(known, domain) {
            principal.into()
        } else {
            format!("{known}/{rest}").into()
        };
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all
}
