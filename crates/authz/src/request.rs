//! One request: who sends it and what it says.
//!
//! In comes what a caller controls, plus what the surroundings add (addresses of proxies, answers of
//! authorizers) and the request cannot know. Each enforcement point sees its own picture of it, see
//! [`Seen`](crate::path::Seen). Invariant: a request stands for one kind of content, HTTP or bytes
//! that are not HTTP; the two are compared apart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::unknown::Unknown;

/// A request, or a connection when `http` is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Identity of the caller, without `spiffe://`: `cluster.local/ns/shop/sa/web`. `None`: it shows
    /// no certificate (plaintext).
    pub principal: Option<String>,
    /// Address that the caller sends from.
    pub source_ip: IpAddr,
    /// Address that X-Forwarded-For claims for the client, where a proxy believes it; the caller's
    /// own where the header is absent.
    pub forwarded_ip: IpAddr,
    /// Address dialled, where the path does not fix it.
    pub destination_ip: IpAddr,
    /// Port dialled, where the path does not fix it.
    pub destination_port: u16,
    /// Server name of the caller's own TLS, if it speaks TLS.
    pub sni: Option<String>,
    /// The HTTP request; `None` for bytes that are not HTTP.
    pub http: Option<Http>,
    /// Addresses that surroundings choose, by [`IpSeen::choice`](crate::path::IpSeen::choice).
    pub surroundings: BTreeMap<String, IpAddr>,
    /// Answers assumed for what is not modelled; a question not in here stays open.
    pub answers: BTreeMap<Unknown, bool>,
}

/// The HTTP part of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// `:method`, as sent.
    pub method: String,
    /// `:path`, normalized as the mesh does and without the query.
    pub path: String,
    /// `:authority`, as sent, with its port if it has one.
    pub host: String,
    /// Other headers by lower-case name; an absent one is not in here, an empty one is.
    pub headers: BTreeMap<String, String>,
    /// The JWT that it carries, if any.
    pub token: Option<Token>,
}

impl Http {
    /// A request with these, without headers and token.
    #[must_use]
    pub fn new(method: &str, host: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            host: host.to_owned(),
            headers: BTreeMap::new(),
            token: None,
        }
    }
}

/// The namespace in a principal of the form `TRUST-DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, which is the only
/// one that ztunnel reads (istio/ztunnel `src/identity/manager.rs`).
#[must_use]
pub fn namespace_of(principal: &str) -> Option<&str> {
    parts_of(principal).map(|(_, namespace, _)| namespace)
}

/// Trust domain, namespace and account of a principal.
#[must_use]
pub fn parts_of(principal: &str) -> Option<(&str, &str, &str)> {
    let mut parts = principal.split('/');
    let domain = parts.next()?;
    let (ns, namespace) = (parts.next()?, parts.next()?);
    let (sa, account) = (parts.next()?, parts.next()?);
    (ns == "ns" && sa == "sa" && parts.next().is_none()).then_some((domain, namespace, account))
}

/// A JWT. Claims by path; `iss` and `sub` are single strings, others may be lists (a string is a
/// list of one). A claim that is neither a string nor a list of strings matches nothing: absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Token {
    /// Claim path (`["iss"]`, `["realm_access", "roles"]`) to its values.
    pub claims: BTreeMap<Vec<String>, Vec<String>>,
    /// Which validations (by [`TokenRule::validation`](crate::path::TokenRule)) it fails, though its
    /// issuer is theirs: wrong signature, expired …
    pub fails: BTreeSet<String>,
}

impl Token {
    /// The `iss` claim.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.claims
            .get(&vec!["iss".to_owned()])?
            .first()
            .map(String::as_str)
    }
}
