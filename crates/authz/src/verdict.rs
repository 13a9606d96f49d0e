//! The question whether two states give the same access, and its answer.
//!
//! In comes, for one caller, one server generation and one target port, the paths of the baseline and
//! of the present; out goes same, opens, breaks, both, or undecided with what was proved around it.
//! Invariant: a [`Witness`] has been replayed by the evaluator before it leaves the crate.

use std::net::IpAddr;

use crate::decision::Decision;
use crate::ip::IpBlock;
use crate::path::{Address, AddressKind, EnforcementPath};
use crate::request::Request;
use crate::unknown::Unknown;

pub use crate::prove::compare::compare;

/// Who calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its identity, or the set of identities meant.
    pub identity: Identities,
    /// Addresses that it may send from; empty: any.
    pub addresses: Vec<IpBlock>,
}

impl Caller {
    /// A workload with a known identity, from any address. The principal is without `spiffe://`.
    #[must_use]
    pub fn workload(principal: &str) -> Self {
        Self::with(Identities::Only(vec![principal.to_owned()]))
    }

    /// Any identity of a trust domain but these.
    #[must_use]
    pub fn other_identity(trust_domain: &str, but: &[String]) -> Self {
        Self::with(Identities::OfTrustDomain {
            trust_domain: trust_domain.to_owned(),
            but: but.to_vec(),
        })
    }

    /// Somebody without an identity.
    #[must_use]
    pub fn outsider() -> Self {
        Self::with(Identities::Nobody)
    }

    /// Anybody: any identity, or none.
    #[must_use]
    pub fn anybody() -> Self {
        Self::with(Identities::Anybody { but: Vec::new() })
    }

    fn with(identity: Identities) -> Self {
        Self {
            identity,
            addresses: Vec::new(),
        }
    }
}

/// A set of identities, principals without `spiffe://`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identities {
    /// One of these.
    Only(Vec<String>),
    /// Any of this trust domain, but these.
    OfTrustDomain {
        /// The trust domain.
        trust_domain: String,
        /// Those that are not meant.
        but: Vec<String>,
    },
    /// No identity at all.
    Nobody,
    /// Any identity or none, but these.
    Anybody {
        /// Those that are not meant.
        but: Vec<String>,
    },
}

/// What is compared: one caller, one server generation, one target port, one kind of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    /// Who calls.
    pub caller: Caller,
    /// Whether the content is HTTP; else bytes that are not.
    pub http: bool,
    /// The paths of the baseline.
    pub baseline: Vec<EnforcementPath>,
    /// The paths now. Several with one address: the connection may take any of them.
    pub present: Vec<EnforcementPath>,
}

impl Comparison {
    /// The same question for only those callers that have one of these identities.
    #[must_use]
    pub fn only_identities(mut self, present_in_mesh: &[String]) -> Self {
        let keep = |principal: &String| present_in_mesh.contains(principal);
        self.caller.identity = Identities::Only(match self.caller.identity {
            Identities::Only(all) => all.into_iter().filter(keep).collect(),
            Identities::OfTrustDomain { trust_domain, but } => present_in_mesh
                .iter()
                .filter(|principal| principal.split('/').next() == Some(trust_domain.as_str()))
                .filter(|principal| !but.contains(principal))
                .cloned()
                .collect(),
            Identities::Nobody => Vec::new(),
            Identities::Anybody { but } => present_in_mesh
                .iter()
                .filter(|principal| !but.contains(principal))
                .cloned()
                .collect(),
        });
        self
    }

    /// The same question without callers of these identities (a waypoint's own).
    #[must_use]
    pub fn except_identities(mut self, excepted: &[String]) -> Self {
        match &mut self.caller.identity {
            Identities::Only(all) => all.retain(|principal| !excepted.contains(principal)),
            Identities::OfTrustDomain { but, .. } | Identities::Anybody { but } => {
                but.extend_from_slice(excepted)
            }
            Identities::Nobody => {}
        }
        self
    }

    /// The same question for only the addresses with this dialled port.
    #[must_use]
    pub fn only_port(self, port: u16) -> Self {
        self.only_addresses(|address| address.port == port)
    }

    /// The same question for only the addresses of this kind.
    #[must_use]
    pub fn only_kind(self, kind: AddressKind) -> Self {
        self.only_addresses(|address| address.kind == kind)
    }

    /// The same question for only some addresses.
    #[must_use]
    pub fn only_addresses(mut self, keep: impl Fn(&Address) -> bool) -> Self {
        self.baseline.retain(|path| keep(&path.address));
        self.present.retain(|path| keep(&path.address));
        self
    }
}

/// How much work a comparison may do before it gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Nodes of the decision diagram.
    pub nodes: usize,
    /// Classes of strings of one attribute, and states visited to find them.
    pub states: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            nodes: 2_000_000,
            states: 400_000,
        }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// A request that is accepted now by some address, and in the baseline neither there nor by any in use.
    pub opens: Finding,
    /// A request that an address in use accepted in the baseline and does not accept now.
    pub breaks: Finding,
}

impl Verdict {
    /// Neither opens nor breaks, proved for every request.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.opens == Finding::Never && self.breaks == Finding::Never
    }
}

/// The answer for one direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// No request does it; proved.
    Never,
    /// This one does.
    Witness(Box<Witness>),
    /// Not decided.
    Undecided(Undecided),
    /// Prover and evaluator disagree: a bug in castoff, to be reported; never a verdict.
    Bug(Box<Disagreement>),
}

/// A request that shows a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The request.
    pub request: Request,
    /// The address where it shows.
    pub address: Address,
    /// The decisions of the baseline, by index of its paths.
    pub before: Vec<(usize, Decision)>,
    /// The decisions of the present, by index of its paths.
    pub after: Vec<(usize, Decision)>,
    /// It holds only if these external authorizers accept the request.
    pub if_accepted_by: Vec<String>,
}

/// Why a direction is not decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// Why.
    pub reason: UndecidedReason,
    /// What was proved nevertheless.
    pub proved: Proved,
}

/// Why a direction is not decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UndecidedReason {
    /// It hangs on what is not modelled: an authorizer asked differently, an EnvoyFilter …
    Unknown {
        /// The questions, sorted.
        questions: Vec<Unknown>,
        /// A request that hangs on them.
        example: Box<Request>,
        /// The address where it does.
        address: Address,
    },
    /// It hangs on addresses of these owners that are not known, sorted.
    AddressesNotKnown {
        /// The owners.
        owners: Vec<String>,
        /// A request and addresses that hang on them.
        example: Box<Request>,
        /// The address where it does.
        address: Address,
    },
    /// The limits were reached.
    TooLarge {
        /// Which limit, in words.
        limit: String,
    },
}

/// What was proved around an undecided part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proved {
    /// Nothing.
    Nothing,
    /// No difference for any request outside a region, described by the conditions that all requests
    /// inside it satisfy: these addresses only, and these attributes take only these values.
    Outside {
        /// The addresses that the region touches, sorted.
        addresses: Vec<Address>,
        /// Attribute in words, and examples of the values it takes inside the region, for each
        /// attribute that the region restricts: one for all values that are treated alike, and
        /// `3 more` at the end where not all fit.
        attributes: Vec<(String, Vec<String>)>,
    },
}

/// A witness that the evaluator does not confirm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// What the prover found.
    pub witness: Witness,
    /// What was expected, in words.
    pub expected: String,
}

/// An address for a witness, where one must be shown and none is given.
#[must_use]
pub fn placeholder_address() -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1))
}
