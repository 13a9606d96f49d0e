//! A request as one point sees it.
//!
//! In come a request and a point, out come attributes and the answers to predicates about them.
//! Invariant: an attribute that is not there answers every positive question with no
//! (semantics: Envoy `source/extensions/filters/common/rbac/matchers.cc`, ztunnel `src/rbac.rs`).

use std::net::IpAddr;

use crate::enforced::Predicate;
use crate::path::{HttpSeen, IpSeen, Point, PortSeen, PrincipalSeen, SniSeen};
use crate::request::{Http, Request, Token, namespace_of, parts_of};
use crate::text::Text;
use crate::unknown::Unknown;

/// One request at one point.
pub(crate) struct Sight<'a> {
    request: &'a Request,
    point: &'a Point,
    /// The token that was validated at this point.
    validated: Option<&'a Token>,
    /// The identity with `spiffe://`.
    uri: Option<String>,
}

/// An attribute that surroundings may hide.
pub(crate) enum Seen<T> {
    /// It is this.
    Value(T),
    /// There is none.
    Nothing,
    /// Not known.
    Unknown(String),
}

impl<'a> Sight<'a> {
    pub(crate) fn new(
        request: &'a Request,
        point: &'a Point,
        validated: Option<&'a Token>,
    ) -> Self {
        let mut sight = Self {
            request,
            point,
            validated,
            uri: None,
        };
        sight.uri = sight
            .principal()
            .map(|principal| format!("spiffe://{principal}"));
        sight
    }

    /// The identity without `spiffe://`.
    pub(crate) fn principal(&self) -> Option<&str> {
        match &self.point.seen.principal {
            PrincipalSeen::Callers => self.request.principal.as_deref(),
            PrincipalSeen::None => None,
            PrincipalSeen::Fixed(principal) => Some(principal),
        }
    }

    pub(crate) fn source_ip(&self) -> Seen<IpAddr> {
        self.ip(&self.point.seen.source_ip)
    }

    pub(crate) fn destination_port(&self) -> u16 {
        match self.point.seen.destination_port {
            PortSeen::Fixed(port) => port,
            PortSeen::Dialled => self.request.destination_port,
        }
    }

    fn ip(&self, seen: &IpSeen) -> Seen<IpAddr> {
        match seen {
            IpSeen::Callers => Seen::Value(self.request.source_ip),
            IpSeen::Forwarded => Seen::Value(self.request.forwarded_ip),
            IpSeen::Dialled => Seen::Value(self.request.destination_ip),
            IpSeen::NotAnIp => Seen::Nothing,
            IpSeen::Fixed(address) => Seen::Value(*address),
            IpSeen::Of { owner, .. } => {
                let choice = seen
                    .choice()
                    .and_then(|choice| self.request.surroundings.get(&choice));
                choice.map_or_else(
                    || Seen::Unknown(owner.clone()),
                    |&address| Seen::Value(address),
                )
            }
        }
    }

    /// Envoy keeps it in lower case (`source/common/network/listen_socket_impl.h`).
    fn sni(&self) -> String {
        match &self.point.seen.sni {
            SniSeen::None => String::new(),
            SniSeen::AsSent => self
                .request
                .sni
                .as_deref()
                .unwrap_or("")
                .to_ascii_lowercase(),
            SniSeen::Fixed(name) => name.clone(),
        }
    }

    fn http(&self) -> Option<&Http> {
        self.request.http.as_ref()
    }

    fn header(&self, name: &str) -> Option<&str> {
        if self
            .point
            .seen
            .headers_removed
            .iter()
            .any(|removed| removed == name)
        {
            return None;
        }
        self.http()?.headers.get(name).map(String::as_str)
    }

    /// Whether the predicate holds; a question where that is not ours to say.
    pub(crate) fn holds(&self, predicate: &Predicate<'_>, text: &str) -> Result<bool, Unknown> {
        let block = |seen: &IpSeen, block: &crate::ip::IpBlock| match self.ip(seen) {
            Seen::Value(address) => Ok(block.contains(address)),
            Seen::Nothing => Ok(false),
            Seen::Unknown(owner) => self.ask(Unknown::Value {
                field: format!("address of {owner}"),
                text: text.to_owned(),
                at: owner,
                content: "".into(),
                seen: None,
            }),
        };
        let seen = &self.point.seen;
        Ok(match predicate {
            Predicate::Identity(pattern) => {
                self.uri.as_deref().is_some_and(|uri| pattern.matches(uri))
            }
            Predicate::Namespace(pattern) => {
                pattern.matches(self.principal().and_then(namespace_of).unwrap_or(""))
            }
            Predicate::ServiceAccount { namespace, name } => {
                let parts = self.principal().and_then(parts_of);
                parts.is_some_and(|(_, its_namespace, its_name)| {
                    its_namespace == namespace && its_name == name
                })
            }
            Predicate::SourceIp(one) => return block(&seen.source_ip, one),
            Predicate::RemoteIp(one) => return block(&seen.remote_ip, one),
            Predicate::DestinationIp(one) => return block(&seen.destination_ip, one),
            Predicate::DestinationPort(port) => self.destination_port() == *port,
            Predicate::Sni(pattern) => pattern.matches(&self.sni()),
            Predicate::Method(pattern) => self
                .http()
                .is_some_and(|http| pattern.matches(&http.method)),
            Predicate::Host(pattern) => self
                .rewritten(host_field(pattern), text)?
                .unwrap_or_else(|| self.http().is_some_and(|http| pattern.matches(&http.host))),
            Predicate::Path(pattern) => self
                .rewritten("path", text)?
                .unwrap_or_else(|| self.http().is_some_and(|http| pattern.matches(&http.path))),
            Predicate::Header(name, _) if self.sets(name).is_some() => {
                return self.ask(Unknown::set_header(name, text, self.point));
            }
            Predicate::Header(name, pattern) => self
                .rewritten(&format!("header {name}"), text)?
                .unwrap_or_else(|| {
                    self.header(name)
                        .is_some_and(|value| pattern.matches(value))
                }),
            Predicate::RequestPrincipal { issuer, subject } => {
                let one = |name: &str| self.claim(&[name.to_owned()]).first().map(String::as_str);
                one("iss").is_some_and(|value| issuer.matches(value))
                    && one("sub").is_some_and(|value| subject.matches(value))
            }
            Predicate::Claim(path, pattern) => {
                self.claim(path).iter().any(|value| pattern.matches(value))
            }
            Predicate::Unknown(field) => return self.ask(Unknown::value(field, text, self.point)),
        })
    }

    fn sets(&self, name: &str) -> Option<&str> {
        self.point.seen.how_set(name)
    }

    /// The values of a claim of the validated token; a claim without a name is the whole payload, which
    /// is neither a string nor a list.
    fn claim(&self, path: &[String]) -> &[String] {
        self.validated
            .filter(|_| !path.is_empty())
            .and_then(|token| token.claims.get(path))
            .map_or(&[], Vec::as_slice)
    }

    /// What a rewrite on the way hides: `Ok(None)` if there is none.
    fn rewritten(&self, field: &str, text: &str) -> Result<Option<bool>, Unknown> {
        match Unknown::behind_rewrite(field, text, &self.point.seen.http) {
            None => Ok(None),
            Some(question) => self.ask(question).map(Some),
        }
    }

    fn ask(&self, question: Unknown) -> Result<bool, Unknown> {
        match self.request.answers.get(&question) {
            Some(answer) => Ok(*answer),
            None => Err(question),
        }
    }

    /// What a predicate looks at, for an explanation; `None`: nothing is there.
    pub(crate) fn describe(&self, predicate: &Predicate<'_>) -> Option<String> {
        let address = |seen: &IpSeen| match self.ip(seen) {
            Seen::Value(address) => Some(address.to_string()),
            Seen::Nothing | Seen::Unknown(_) => None,
        };
        let seen = &self.point.seen;
        match predicate {
            Predicate::Identity(_) | Predicate::ServiceAccount { .. } => {
                self.principal().map(str::to_owned)
            }
            Predicate::Namespace(_) => self.principal().and_then(namespace_of).map(str::to_owned),
            Predicate::SourceIp(_) => address(&seen.source_ip),
            Predicate::RemoteIp(_) => address(&seen.remote_ip),
            Predicate::DestinationIp(_) => address(&seen.destination_ip),
            Predicate::DestinationPort(_) => Some(self.destination_port().to_string()),
            Predicate::Sni(_) => Some(self.sni()).filter(|name| !name.is_empty()),
            Predicate::Method(_) => Some(self.http()?.method.clone()),
            Predicate::Host(_) if seen.http == HttpSeen::AsSent => Some(self.http()?.host.clone()),
            Predicate::Path(_) if seen.http == HttpSeen::AsSent => Some(self.http()?.path.clone()),
            Predicate::Header(name, _)
                if seen.http == HttpSeen::AsSent && self.sets(name).is_none() =>
            {
                self.header(name).map(str::to_owned)
            }
            Predicate::RequestPrincipal { .. } => {
                let one = |name: &str| self.claim(&[name.to_owned()]).first().cloned();
                Some(format!("{}/{}", one("iss")?, one("sub")?))
            }
            Predicate::Claim(path, _) => {
                Some(self.claim(path).join(", ")).filter(|text| !text.is_empty())
            }
            Predicate::Host(_)
            | Predicate::Path(_)
            | Predicate::Header(..)
            | Predicate::Unknown(_) => None,
        }
    }
}

/// The name of the question about the host: `hosts` ignores case, the header `host` does not.
pub(crate) fn host_field(pattern: &Text<'_>) -> &'static str {
    if pattern.ignore_case {
        "host"
    } else {
        "header host"
    }
}
