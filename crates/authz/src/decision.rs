//! The answer for one request on one path, told so that it can be explained.
//!
//! Out goes structure, not prose: which point, which policy, which rule, which field with which value
//! held or failed. Invariant: the outcome of a decision is the AND of the outcomes of its points.

use crate::policy::{Action, PolicyName};
use crate::unknown::Unknown;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It gets through.
    Allow,
    /// It is refused.
    Deny,
    /// Neither is certain: it hangs on these questions, sorted.
    Depends(Vec<Unknown>),
}

/// The decision of a whole path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of the request.
    pub outcome: Outcome,
    /// One entry a point crossed, up to and including the first that refuses.
    pub points: Vec<PointDecision>,
}

impl Decision {
    /// The point that decided: the first that refuses, else the last crossed.
    #[must_use]
    pub fn deciding(&self) -> Option<&PointDecision> {
        self.points
            .iter()
            .find(|point| point.outcome == Outcome::Deny)
            .or(self.points.last())
    }
}

/// The decision of one point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointDecision {
    /// Index in [`EnforcementPath::points`](crate::path::EnforcementPath).
    pub point: usize,
    /// What this point says, taken alone.
    pub outcome: Outcome,
    /// Why.
    pub because: Because,
}

/// Why a point decided so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Because {
    /// There is no chain: see the reason in the path.
    Stopped,
    /// The chain speaks HTTP and the content is not HTTP.
    NotHttp,
    /// The port requires a client certificate and none is seen.
    IdentityRequired,
    /// The NetworkPolicies admit it, or do not.
    NetworkPolicy {
        /// Index of the first entry that admits it.
        entry: Option<usize>,
    },
    /// What stands here is not modelled.
    NotModelled,
    /// The token is not of an issuer accepted here, fails its validation, or has the wrong audience.
    TokenRefused(TokenRefusal),
    /// A CUSTOM policy matches; its authorizer decides, was assumed to refuse, or cannot be asked.
    Custom {
        /// The policy and rule that match.
        rule: RuleTrace,
        /// Why it refuses without being asked, if it does.
        refused: Option<CustomRefusal>,
    },
    /// This DENY rule matches.
    DeniedBy(RuleTrace),
    /// ALLOW policies exist and none matches: every rule tried, with what failed. A policy without
    /// rules is not listed here but in `without_rules`.
    NoAllowMatches {
        /// Rules tried.
        tried: Vec<RuleTrace>,
        /// ALLOW policies that have no rule here (never had one, or lost them on this chain).
        without_rules: Vec<PolicyName>,
    },
    /// This ALLOW rule matches.
    AllowedBy(RuleTrace),
    /// No ALLOW policy is attached and nothing refuses.
    NothingRefuses,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRefusal {
    /// No rule here names its issuer.
    UnknownIssuer,
    /// Its audience is none of the rule's.
    Audience,
    /// It fails the rule's validation.
    Invalid,
}

/// Why a CUSTOM policy refuses without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CustomRefusal {
    /// The provider is not configured.
    UnknownProvider,
    /// Several providers on one chain, which this release cannot do.
    SeveralProviders,
    /// The authorizer is assumed to refuse.
    Assumed,
}

/// A rule as it was tried on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTrace {
    /// The policy.
    pub policy: PolicyName,
    /// Its action.
    pub action: Action,
    /// Index of the rule in `spec.rules`, from 0.
    pub rule: usize,
    /// The fields that decided: for a match all that held, for a miss, per entry tried, the first that
    /// failed. Empty: the rule has no condition on this chain.
    pub fields: Vec<FieldTrace>,
}

/// A field as it was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldTrace {
    /// Where it stands: `from[0].source.principals`, `to[1].operation.notPaths`, `when[0].values`.
    pub field: String,
    /// The user's texts in that field.
    pub values: Vec<String>,
    /// The value that matched, if one did (for a `not` field this is what made it fail).
    pub matched: Option<String>,
    /// What the point sees there; `None`: nothing.
    pub seen: Option<String>,
    /// Whether the field held; `None`: unknown.
    pub held: Option<bool>,
}
