//! An AuthorizationPolicy in our own words: an action and rules of from, to and when.
//!
//! In comes the user's text, field by field, as strings; what a proxy makes of a text (a prefix, a
//! regular expression, nothing) depends on the proxy and is decided later, in one place. Where a
//! policy applies (selector, targetRefs) is no part of it: it is attached to a
//! [`Point`](crate::path::Point). Invariant: nothing here says what matches; an empty `rules` never
//! does, a rule without from, to and when always does.

/// What happens to a request that a policy matches.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Accept; once one ALLOW exists, what none of them matches is refused.
    Allow,
    /// Refuse.
    Deny,
    /// Write it down; never changes a decision.
    Audit,
    /// Ask an external authorizer.
    Custom {
        /// `spec.provider.name`, a name in `meshConfig.extensionProviders`.
        provider: String,
    },
}

/// Which policy: namespace and name, as `kubectl` writes them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PolicyName {
    /// Namespace of the object; a service account without a namespace means this one.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}

impl std::fmt::Display for PolicyName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}

/// One AuthorizationPolicy (`security.istio.io/v1`), or one that istiod derives from a
/// PeerAuthentication for ztunnel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Policy {
    /// Namespace and name.
    pub name: PolicyName,
    /// `spec.action`.
    pub action: Action,
    /// Annotation `istio.io/dry-run` parses as true.
    pub dry_run: bool,
    /// `spec.rules`, ORed. Empty (or absent): never matches. `[Rule::default()]` (`rules: [{}]`):
    /// always matches.
    pub rules: Vec<Rule>,
}

impl Policy {
    /// A policy with this action and these rules, not in dry-run.
    #[must_use]
    pub fn new(namespace: &str, name: &str, action: Action, rules: Vec<Rule>) -> Self {
        Self {
            name: PolicyName {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            },
            action,
            dry_run: false,
            rules,
        }
    }
}

/// One rule: any of `from`, and any of `to`, and all of `when`; an empty list does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// Who: entries are ORed.
    pub from: Vec<Source>,
    /// What: entries are ORed.
    pub to: Vec<Operation>,
    /// Further conditions, all of which must hold.
    pub when: Vec<Condition>,
}

/// `rules[].from[].source`. All fields that are not empty must hold; the values of one are ORed; a
/// `not_` field must match none.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// `principals`: `cluster.local/ns/shop/sa/web`, with one `*` first or last.
    pub principals: Vec<String>,
    /// `notPrincipals`.
    pub not_principals: Vec<String>,
    /// `requestPrincipals`: `issuer/subject` of a validated token.
    pub request_principals: Vec<String>,
    /// `notRequestPrincipals`.
    pub not_request_principals: Vec<String>,
    /// `namespaces`.
    pub namespaces: Vec<String>,
    /// `notNamespaces`.
    pub not_namespaces: Vec<String>,
    /// `serviceAccounts`: `account` (of the policy's namespace) or `namespace/account`; no wildcard.
    pub service_accounts: Vec<String>,
    /// `notServiceAccounts`.
    pub not_service_accounts: Vec<String>,
    /// `trustDomains` (Istio 1.31).
    pub trust_domains: Vec<String>,
    /// `notTrustDomains` (Istio 1.31).
    pub not_trust_domains: Vec<String>,
    /// `ipBlocks`: the address of the connection's peer.
    pub ip_blocks: Vec<String>,
    /// `notIpBlocks`.
    pub not_ip_blocks: Vec<String>,
    /// `remoteIpBlocks`: the client's address by X-Forwarded-For or PROXY protocol.
    pub remote_ip_blocks: Vec<String>,
    /// `notRemoteIpBlocks`.
    pub not_remote_ip_blocks: Vec<String>,
}

/// `rules[].to[].operation`. Fields are read as in [`Source`].
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Operation {
    /// `hosts`: the `:authority`, ignoring case; a port in it is not cut off.
    pub hosts: Vec<String>,
    /// `notHosts`.
    pub not_hosts: Vec<String>,
    /// `ports`: decimal numbers.
    pub ports: Vec<String>,
    /// `notPorts`.
    pub not_ports: Vec<String>,
    /// `methods`, case-sensitive.
    pub methods: Vec<String>,
    /// `notMethods`.
    pub not_methods: Vec<String>,
    /// `paths`: without the query; one `*` first or last, or a template with `{*}` and `{**}`.
    pub paths: Vec<String>,
    /// `notPaths`.
    pub not_paths: Vec<String>,
}

/// `rules[].when[]`: some of `values` and none of `not_values`; an empty list does not restrict.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Condition {
    /// What is looked at.
    pub key: Key,
    /// `values`, ORed.
    pub values: Vec<String>,
    /// `notValues`.
    pub not_values: Vec<String>,
}

/// The keys of `when`, closed: another key makes istiod skip the whole rule, see [`Key::Invalid`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `request.headers[NAME]`; the name as the user wrote it (compared without case).
    RequestHeader(String),
    /// `source.ip`
    SourceIp,
    /// `remote.ip`
    RemoteIp,
    /// `source.namespace`
    SourceNamespace,
    /// `source.principal`
    SourcePrincipal,
    /// `source.serviceAccount`
    SourceServiceAccount,
    /// `source.trustDomain` (Istio 1.31)
    SourceTrustDomain,
    /// `request.auth.principal`
    RequestAuthPrincipal,
    /// `request.auth.audiences`
    RequestAuthAudiences,
    /// `request.auth.presenter`
    RequestAuthPresenter,
    /// `request.auth.claims[A][B]`: the path `A`, `B`
    RequestAuthClaim(Vec<String>),
    /// `destination.ip`
    DestinationIp,
    /// `destination.port`
    DestinationPort,
    /// `connection.sni`
    ConnectionSni,
    /// `experimental.envoy.filters.…[…]`, whole: metadata of a filter that we do not model.
    Experimental(String),
    /// Any other text: Envoy drops the rule, ztunnel treats it as an HTTP attribute.
    Invalid(String),
}

impl Key {
    /// Reads a key as the user wrote it. Never fails: what no release knows is [`Key::Invalid`].
    /// Bracketed names follow istiod's own parser (`pilot/pkg/security/authz/model/util.go`).
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let invalid = || Self::Invalid(text.to_owned());
        match text {
            "source.ip" => Self::SourceIp,
            "remote.ip" => Self::RemoteIp,
            "source.namespace" => Self::SourceNamespace,
            "source.principal" => Self::SourcePrincipal,
            "source.serviceAccount" => Self::SourceServiceAccount,
            "source.trustDomain" => Self::SourceTrustDomain,
            "request.auth.principal" => Self::RequestAuthPrincipal,
            "request.auth.audiences" => Self::RequestAuthAudiences,
            "request.auth.presenter" => Self::RequestAuthPresenter,
            "destination.ip" => Self::DestinationIp,
            "destination.port" => Self::DestinationPort,
            "connection.sni" => Self::ConnectionSni,
            _ => {
                if let Some(name) = text.strip_prefix("request.headers") {
                    return in_brackets(name)
                        .map_or_else(invalid, |name| Self::RequestHeader(name.to_owned()));
                }
                if let Some(names) = text.strip_prefix("request.auth.claims") {
                    return in_nested_brackets(names).map_or_else(invalid, Self::RequestAuthClaim);
                }
                if text.starts_with("experimental.envoy.filters.") {
                    return Self::Experimental(text.to_owned());
                }
                invalid()
            }
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fixed = match self {
            Self::RequestHeader(name) => return write!(out, "request.headers[{name}]"),
            Self::RequestAuthClaim(path) => {
                return write!(out, "request.auth.claims[{}]", path.join("]["));
            }
            Self::Experimental(text) | Self::Invalid(text) => text,
            Self::SourceIp => "source.ip",
            Self::RemoteIp => "remote.ip",
            Self::SourceNamespace => "source.namespace",
            Self::SourcePrincipal => "source.principal",
            Self::SourceServiceAccount => "source.serviceAccount",
            Self::SourceTrustDomain => "source.trustDomain",
            Self::RequestAuthPrincipal => "request.auth.principal",
            Self::RequestAuthAudiences => "request.auth.audiences",
            Self::RequestAuthPresenter => "request.auth.presenter",
            Self::DestinationIp => "destination.ip",
            Self::DestinationPort => "destination.port",
            Self::ConnectionSni => "connection.sni",
        };
        out.write_str(fixed)
    }
}

/// `[name]` to `name`.
fn in_brackets(text: &str) -> Option<&str> {
    text.strip_prefix('[')?.strip_suffix(']')
}

/// `[a][b]` to `a`, `b`; nothing to no name; a bracket inside a name makes it one single name, as istiod does.
fn in_nested_brackets(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let Some(inner) = rest.strip_prefix('[') else {
            return in_brackets(text).map(|name| vec![name.to_owned()]);
        };
        match inner.find(['[', ']']) {
            Some(end) if inner.as_bytes()[end] == b']' => {
                names.push(inner[..end].to_owned());
                rest = &inner[end + 1..];
            }
            _ => return in_brackets(text).map(|name| vec![name.to_owned()]),
        }
    }
    Some(names)
}
