//! What we do not model, named: each is an uninterpreted yes or no.
//!
//! Two questions with equal values here have the same answer, before and after; questions that
//! differ may be answered differently. Invariant: a question holds all that its answer may depend
//! on besides the request itself.

use std::sync::Arc;

use crate::enforced::CustomThen;
use crate::path::{EnforcementPath, HttpSeen, Point, PointKind, Protocol, Seen, TokenRule};
use crate::settings::Settings;

/// One question whose answer is not ours to give.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unknown {
    /// Does this external authorizer (CUSTOM) accept the request, seen so? `true`: it accepts.
    Authorizer {
        /// Name of the provider.
        provider: String,
        /// What it is ([`Authorizer::definition`](crate::settings::Authorizer)).
        definition: String,
        /// What the authorizer is told.
        seen: Box<Seen>,
        /// Token rules of points before, that do not pass a token on; sorted.
        stripped: Vec<TokenRule>,
        /// Asked about a bare connection, not about an HTTP request.
        tcp: bool,
    },
    /// Does what is not modelled here (EnvoyFilter, Wasm …) let the request through? `true`: it does.
    Opaque {
        /// The reason, and all that tells two of them apart.
        reason: String,
        /// The point and what comes after it; a filter may change what later points see.
        after: Vec<Point>,
        /// Token rules of points before, that do not pass a token on; sorted.
        stripped: Vec<TokenRule>,
        /// Settings under which they are read.
        settings: Arc<Settings>,
    },
    /// Does this value of a condition hold, which reads what we cannot know? `true`: it matches.
    Value {
        /// `experimental.envoy.filters.…`, or the field that a rewrite hides.
        field: String,
        /// The user's text.
        text: String,
        /// Point, or rewrite, that decides it.
        at: String,
        /// What a rewrite says; else empty.
        content: Arc<str>,
        /// What the point sees, where it is a point.
        seen: Option<Box<Seen>>,
    },
}

impl Unknown {
    /// The question for a value of a condition on something that is not modelled.
    pub(crate) fn value(field: &str, text: &str, point: &Point) -> Self {
        Self::Value {
            field: field.to_owned(),
            text: text.to_owned(),
            at: match point.kind {
                PointKind::Envoy { proxy, .. } => format!("{proxy} {}", point.name),
                _ => point.name.clone(),
            },
            content: "".into(),
            seen: Some(Box::new(point.seen.clone())),
        }
    }

    /// The question for a header that a proxy on the way sets.
    pub(crate) fn set_header(name: &str, text: &str, point: &Point) -> Self {
        Self::value(&format!("request.headers[{name}]"), text, point)
    }

    /// The question for a field that a rewrite on the way hides; `None` where nothing rewrites.
    pub(crate) fn behind_rewrite(field: &str, text: &str, http: &HttpSeen) -> Option<Self> {
        let HttpSeen::Rewritten { by, content } = http else {
            return None;
        };
        Some(Self::Value {
            field: field.to_owned(),
            text: text.to_owned(),
            at: by.clone(),
            content: Arc::clone(content),
            seen: None,
        })
    }
}

/// Token rules of the points before one that do not pass a token on, sorted.
fn stripped(path: &EnforcementPath, index: usize) -> Vec<TokenRule> {
    let before = path.points[..index]
        .iter()
        .flat_map(|point| &point.token_rules);
    let mut stripped: Vec<TokenRule> = before.filter(|rule| !rule.forward).cloned().collect();
    stripped.sort();
    stripped.dedup();
    stripped
}

/// The question whether what stands at a point that is not modelled lets a request through.
pub(crate) fn opaque_question(reason: &str, path: &EnforcementPath, index: usize) -> Unknown {
    Unknown::Opaque {
        reason: reason.to_owned(),
        after: path.points[index..].to_vec(),
        stripped: stripped(path, index),
        settings: Arc::clone(&path.settings),
    }
}

/// The question that a CUSTOM policy of this provider asks at a point of a path.
pub(crate) fn custom_question(
    provider: &str,
    then: CustomThen,
    path: &EnforcementPath,
    index: usize,
) -> Unknown {
    let point = &path.points[index];
    if then == CustomThen::Unclear {
        return Unknown::value("CUSTOM in dry-run", provider, point);
    }
    let tcp = matches!(
        point.kind,
        PointKind::Envoy {
            protocol: Protocol::Tcp,
            ..
        }
    );
    let authorizers = &path.settings.authorizers;
    let entry = authorizers.iter().find(|entry| entry.name == provider);
    Unknown::Authorizer {
        provider: provider.to_owned(),
        definition: entry.map_or_else(String::new, |entry| entry.definition.clone()),
        seen: Box::new(point.seen.clone()),
        stripped: stripped(path, index),
        tcp,
    }
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Authorizer { provider, .. } => write!(out, "external authorizer `{provider}`"),
            Self::Opaque { reason, .. } => write!(out, "{reason}"),
            Self::Value {
                field, text, at, ..
            } => write!(out, "`{field}: {text}` at {at}"),
        }
    }
}
