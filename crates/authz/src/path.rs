//! The way of a request to a server: enforcement points in the order crossed, each with its policies
//! and with what it sees of the request.
//!
//! In comes what a model of the mesh resolved (attachment, transport, addresses, ports); nothing here
//! knows Kubernetes. Invariant: a request gets through a path if every point of it lets it through.
//! A path is for one caller, one dialled address, one server generation and one kind of content.

use std::net::IpAddr;
use std::sync::Arc;

use crate::ip::IpBlock;
use crate::policy::Policy;
use crate::settings::Settings;

/// Which address is dialled; the key that pairs a path of the baseline with one of the present.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// What kind of address.
    pub kind: AddressKind,
    /// In words, unique per kind: `shop/orders` for a Service, `shop/orders-0` or an owner for pods.
    pub name: String,
    /// Port dialled; [`ANY_OTHER_PORT`] for those of pods that nothing names.
    pub port: u16,
}

/// Stands for every port of pods that no policy, no Service and no container names. Nothing listens at
/// port 0, and no rule can mean it.
pub const ANY_OTHER_PORT: u16 = 0;

impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            AddressKind::Service => "Service",
            AddressKind::ServiceEntry => "ServiceEntry",
            AddressKind::Pod => "pod",
            AddressKind::Gateway => "gateway",
        };
        if (self.kind, self.port) == (AddressKind::Pod, ANY_OTHER_PORT) {
            return write!(out, "any other port of pod {}", self.name);
        }
        write!(out, "{kind} {}:{}", self.name, self.port)
    }
}

/// The kinds of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressKind {
    /// The virtual address of a Service.
    Service,
    /// A host of a ServiceEntry that selects pods.
    ServiceEntry,
    /// The address of a pod, dialled directly or through a headless Service.
    Pod,
    /// An ingress gateway that leads on to the server.
    Gateway,
}

/// The points between one caller and one server, by one address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnforcementPath {
    /// The address dialled.
    pub address: Address,
    /// Whether somebody is known to use that address; see the crate's guarantee.
    pub in_use: bool,
    /// Settings of the mesh in this state.
    pub settings: Arc<Settings>,
    /// In the order crossed; empty: nothing enforces.
    pub points: Vec<Point>,
}

/// One enforcement point.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Point {
    /// In words: `shop/orders` for a sidecar or ztunnel, the Gateway's name for a waypoint.
    pub name: String,
    /// What enforces.
    pub kind: PointKind,
    /// The policies attached here, shared between paths; the order does not matter.
    pub policies: Vec<Arc<Policy>>,
    /// What it sees of the request.
    pub seen: Seen,
    /// A client certificate is required (mutual TLS STRICT on this port): without an identity seen
    /// here there is no filter chain. At ztunnel use the converted policies instead.
    pub identity_required: bool,
    /// Token rules of the RequestAuthentications attached here; HTTP chains only.
    pub token_rules: Vec<TokenRule>,
}

impl Point {
    /// A point without policies that sees all as the caller sent it and requires nothing.
    #[must_use]
    pub fn new(kind: PointKind, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            policies: Vec::new(),
            seen: Seen::as_sent(),
            identity_required: false,
            token_rules: Vec::new(),
        }
    }
}

/// What enforces at a point.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PointKind {
    /// An Envoy chain: HTTP filters, or network filters for a TCP chain.
    Envoy {
        /// Which proxy; only words, they all read policies the same.
        proxy: Proxy,
        /// What the chain speaks.
        protocol: Protocol,
    },
    /// The ztunnel of the server's node.
    Ztunnel,
    /// The NetworkPolicies that select the server, as one: some entry must admit the connection.
    /// `source_ip` and `destination_port` of [`Point::seen`] count, nothing else.
    NetworkPolicy {
        /// Entries, ORed; empty: nothing is admitted.
        admits: Vec<NetworkEntry>,
    },
    /// No filter chain or route takes the connection: nothing gets through.
    Stop {
        /// Why, in words.
        reason: String,
    },
    /// What we do not model stands here (EnvoyFilter, Wasm, another dataplane): from here on the
    /// decision is unknown, and equal only where the rest of the path is equal too.
    Opaque {
        /// Why, in words that tell two of them apart (kind, namespace, name).
        reason: String,
        /// What it says, as a text that is equal exactly when two of one name do the same; not shown.
        content: Arc<str>,
    },
}

/// An Envoy's role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Proxy {
    /// A sidecar, on its inbound side.
    Sidecar,
    /// A waypoint.
    Waypoint,
    /// An ingress gateway.
    Gateway,
    /// No proxy but a route of one: what its policies refuse is sent elsewhere.
    Route,
}

impl std::fmt::Display for Proxy {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Sidecar => "sidecar",
            Self::Waypoint => "waypoint",
            Self::Gateway => "gateway",
            Self::Route => "route",
        })
    }
}

/// What an Envoy chain speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP: request attributes are seen.
    Http,
    /// Bytes: request attributes are not, and rules that need them are narrowed or widened.
    Tcp,
}

/// One thing that a NetworkPolicy admits, after its peers were resolved for this caller.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkEntry {
    /// `None`: this caller, wherever it sends from. Else its source address must be in the block
    /// and in none of the exceptions.
    pub block: Option<(IpBlock, Vec<IpBlock>)>,
    /// Ranges of ports, both ends included; empty: every port.
    pub ports: Vec<(u16, u16)>,
}

/// How the attributes of a request appear at a point.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seen {
    /// Identity of the peer.
    pub principal: PrincipalSeen,
    /// Address of the connection's peer (`ipBlocks`, `source.ip`).
    pub source_ip: IpSeen,
    /// Address of the client (`remoteIpBlocks`, `remote.ip`).
    pub remote_ip: IpSeen,
    /// Local address (`destination.ip`): a Service's at its waypoint, else the pod's.
    pub destination_ip: IpSeen,
    /// Local port: the Service port at a waypoint, else the target port.
    pub destination_port: PortSeen,
    /// Server name of the TLS that ends here.
    pub sni: SniSeen,
    /// Whether path, host, method and headers are those the caller sent.
    pub http: HttpSeen,
    /// Headers (lower case) that a proxy on the way removed, `authorization` included.
    pub headers_removed: Vec<String>,
    /// Headers (lower case) that a proxy on the way set, this one included, and how, in words that tell
    /// two ways apart: what they hold is unknown, and equal only where a point sees all alike.
    pub headers_set: Vec<(String, String)>,
}

impl Seen {
    /// All attributes as the caller sent them; X-Forwarded-For is believed.
    #[must_use]
    pub fn as_sent() -> Self {
        Self {
            principal: PrincipalSeen::Callers,
            source_ip: IpSeen::Callers,
            remote_ip: IpSeen::Forwarded,
            destination_ip: IpSeen::Dialled,
            destination_port: PortSeen::Dialled,
            sni: SniSeen::AsSent,
            http: HttpSeen::AsSent,
            headers_removed: Vec::new(),
            headers_set: Vec::new(),
        }
    }
}

impl Seen {
    /// How a proxy on the way sets a header (lower case), if one does.
    #[must_use]
    pub fn how_set(&self, header: &str) -> Option<&str> {
        let mut set = self.headers_set.iter();
        set.find(|(name, _)| name == header)
            .map(|(_, how)| how.as_str())
    }
}

/// Which identity a point sees.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrincipalSeen {
    /// The caller's, or none if it has none.
    Callers,
    /// None: the leg into it is plaintext.
    None,
    /// That of a proxy in between, without `spiffe://`: `cluster.local/ns/shop/sa/waypoint`.
    Fixed(String),
}

/// Which address a point sees.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpSeen {
    /// The caller's own.
    Callers,
    /// What X-Forwarded-For claims (HTTP chains), else the caller's.
    Forwarded,
    /// The address that was dialled, not known to us.
    Dialled,
    /// No IP address at all (Envoy's internal client, behind HBONE): no block contains it, so
    /// `ipBlocks` never match and `notIpBlocks` always do.
    NotAnIp,
    /// This one.
    Fixed(IpAddr),
    /// An address of this owner (`shop/waypoint`): the same address before and after, one of
    /// `among`, or any at all where `among` is empty. A difference that rests on the choice is
    /// undecided unless `among` is known.
    Of {
        /// Whose address; the name of the choice.
        owner: String,
        /// The addresses it may have; empty: not known.
        among: Vec<IpAddr>,
    },
}

impl IpSeen {
    /// The name under which [`Request::surroundings`](crate::request::Request) holds the choice, for
    /// an address of an owner: two choices among different addresses are different choices.
    #[must_use]
    pub fn choice(&self) -> Option<String> {
        let Self::Of { owner, among } = self else {
            return None;
        };
        let among: Vec<String> = among.iter().map(IpAddr::to_string).collect();
        Some(if among.is_empty() {
            owner.clone()
        } else {
            format!("{owner} ({})", among.join(", "))
        })
    }
}

/// Which port a point sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PortSeen {
    /// This one.
    Fixed(u16),
    /// The one dialled, whichever it is.
    Dialled,
}

/// Which server name a point sees.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SniSeen {
    /// None.
    None,
    /// That of the caller's own TLS.
    AsSent,
    /// That of Istio mutual TLS: `outbound_.8080_._.orders.shop.svc.cluster.local`.
    Fixed(String),
}

/// Whether HTTP attributes are those the caller sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HttpSeen {
    /// They are.
    AsSent,
    /// A route on the way rewrites path, host or headers: matches on them are unknown, and equal only
    /// behind the same rewrite. The method and the token stay.
    Rewritten {
        /// What rewrites, in words.
        by: String,
        /// How, as a text that is equal exactly when two of one name do the same; not shown.
        content: Arc<str>,
    },
}

/// One `jwtRules[]` of a RequestAuthentication attached to a point. A token of this issuer is
/// validated here; a token of an issuer that no rule here names is refused with 401.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenRule {
    /// `issuer`.
    pub issuer: String,
    /// `audiences`; empty: any.
    pub audiences: Vec<String>,
    /// Whether the token is passed on (`forwardOriginalToken`).
    pub forward: bool,
    /// All else that decides whether a token is valid and where it is looked for (keys, headers,
    /// parameters), as a text that is equal exactly when these are equal.
    pub validation: String,
}
