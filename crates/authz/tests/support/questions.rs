//! Short words to compare two states in tests.
#![allow(clippy::unwrap_used, missing_docs, dead_code, unreachable_pub)]

use castoff_authz::path::{EnforcementPath, PointKind};
use castoff_authz::policy::{Action, Policy, Rule};
use castoff_authz::verdict::{Caller, Comparison, Finding, Limits, Verdict, Witness, compare};

use crate::words::{path, point, policy};

pub fn question(baseline: Vec<EnforcementPath>, present: Vec<EnforcementPath>) -> Comparison {
    Comparison {
        caller: Caller::anybody(),
        http: true,
        baseline,
        present,
    }
}

pub fn ask(baseline: Vec<EnforcementPath>, present: Vec<EnforcementPath>) -> Verdict {
    compare(&question(baseline, present), Limits::default())
}

pub fn witness(finding: &Finding) -> &Witness {
    match finding {
        Finding::Witness(witness) => witness,
        other => panic!("no witness but {other:?}"),
    }
}

pub fn at(kind: PointKind, policies: &[Policy]) -> EnforcementPath {
    path(vec![point(kind, policies)])
}

pub fn allow(rules: Vec<Rule>) -> Policy {
    policy(Action::Allow, rules)
}

pub fn deny(rules: Vec<Rule>) -> Policy {
    policy(Action::Deny, rules)
}

pub const WEB: &str = "cluster.local/ns/shop/sa/web";
