//! What we do not model, named: each is an uninterpreted yes or no.
//!
//! Two questions with equal values here have the same answer, before and after; questions that
//! differ may be answered differently. Invariant: a question holds all that its answer may depend
//! on besides the request itself.

use crate::path::Seen;

/// One question whose answer is not ours to give.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unknown {
    /// Does this external authorizer (CUSTOM) accept the request, seen so? `true`: it accepts.
    Authorizer {
        /// Name of the provider.
        provider: String,
        /// What the authorizer is told.
        seen: Box<Seen>,
        /// Asked about a bare connection, not about an HTTP request.
        tcp: bool,
    },
    /// Does what is not modelled here (EnvoyFilter, Wasm …) let the request through? `true`: it does.
    Opaque {
        /// The reason, and all that tells two of them apart.
        reason: String,
        /// The point and what comes after it; a filter may change what later points see.
        after: String,
    },
    /// Does this value of a condition hold, which reads what we cannot know? `true`: it matches.
    Value {
        /// `experimental.envoy.filters.…`, or the field that a rewrite hides.
        field: String,
        /// The user's text.
        text: String,
        /// Point, or rewrite, that decides it.
        at: String,
    },
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Authorizer { provider, .. } => write!(out, "external authorizer `{provider}`"),
            Self::Opaque { reason, .. } => write!(out, "{reason}"),
            Self::Value { field, text, at } => write!(out, "`{field}: {text}` at {at}"),
        }
    }
}
