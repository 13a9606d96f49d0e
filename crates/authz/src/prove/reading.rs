//! From paths to rules over numbered patterns.
//!
//! In come paths, out comes each point with its stages, and all patterns that occur are written down.
//! Invariant: equal points are read once, and the order of patterns is that of the paths.

use std::sync::Arc;

use super::atoms::{AtomTokenRule, Atoms};
use super::dimension::Occurring;
use crate::enforced::{CustomThen, chain, preflight};
use crate::path::{EnforcementPath, PointKind, PrincipalSeen, Protocol};
use crate::policy::Policy;
use crate::unknown::{custom_question, opaque_question};

/// Rules by number, ascending, each once: ORed.
pub(super) type Rules = Vec<u32>;

/// A point over numbered patterns.
pub(super) enum Prepared {
    Refuses,
    Opaque(u32),
    Network(Rules),
    Chain(Stages),
}

/// What an Envoy or ztunnel does, in order.
pub(super) struct Stages {
    /// Whether a request without identity is refused, and what the point sees then.
    pub(super) identity: Identity,
    pub(super) custom: Vec<(Rules, CustomAction)>,
    pub(super) tokens: Vec<AtomTokenRule>,
    /// Requests whose token is not looked at; `None`: there are none.
    pub(super) preflight: Option<u32>,
    pub(super) deny: Rules,
    /// `None`: no ALLOW policy.
    pub(super) allow: Option<Rules>,
}

pub(super) enum Identity {
    NotRequired,
    Missing,
    Callers,
}

pub(super) enum CustomAction {
    Refuse,
    Ask(u32),
}

/// Reads paths into numbered patterns.
pub(super) struct Reading<'o, 'a> {
    pub(super) occurring: &'o mut Occurring<'a>,
    pub(super) http: bool,
    /// Points read before, to read equal ones once.
    pub(super) known: Vec<(&'a EnforcementPath, usize, Arc<Prepared>)>,
}

impl<'a> Reading<'_, 'a> {
    pub(super) fn path(&mut self, path: &'a EnforcementPath) -> Vec<Arc<Prepared>> {
        let mut points = Vec::new();
        for index in 0..path.points.len() {
            let known = self.known.iter().find(|(other, other_index, _)| {
                other.settings == path.settings && other.points[*other_index] == path.points[index]
            });
            let prepared = match known {
                Some((_, _, prepared)) if asks_nothing(prepared) => Arc::clone(prepared),
                _ => Arc::new(self.point(path, index)),
            };
            let last = matches!(*prepared, Prepared::Refuses | Prepared::Opaque(_));
            if self.known.len() < 64 {
                self.known.push((path, index, Arc::clone(&prepared)));
            }
            points.push(prepared);
            if last {
                break;
            }
        }
        points
    }

    fn point(&mut self, path: &'a EnforcementPath, index: usize) -> Prepared {
        let point = &path.points[index];
        let mut atoms = Atoms {
            occurring: &mut *self.occurring,
            point,
        };
        let http_chain = match &point.kind {
            PointKind::Stop { .. } => return Prepared::Refuses,
            PointKind::Opaque { reason, .. } => {
                let question = opaque_question(reason, path, index);
                return Prepared::Opaque(self.occurring.questions.number(&question));
            }
            PointKind::NetworkPolicy { admits } => {
                let rules = admits.iter().filter_map(|entry| atoms.network(entry));
                return Prepared::Network(rules.collect());
            }
            PointKind::Envoy { protocol, .. } => *protocol == Protocol::Http,
            PointKind::Ztunnel => false,
        };
        if http_chain && !self.http {
            return Prepared::Refuses;
        }
        let chain = chain(point, &path.settings);
        let mut rules = |policies: &[&'a Policy]| -> Rules {
            let mut numbers = Vec::new();
            for rule in policies.iter().flat_map(|policy| chain.rules(policy)) {
                numbers.extend(atoms.rule(&rule));
            }
            numbers.sort_unstable();
            numbers.dedup();
            numbers
        };
        let deny = rules(&chain.deny);
        let allow = (!chain.allow.is_empty()).then(|| rules(&chain.allow));
        let custom: Vec<(Rules, &str, CustomThen)> = chain
            .custom
            .iter()
            .map(|custom| (rules(&[custom.policy]), custom.provider, custom.then))
            .collect();
        let custom = custom.into_iter().map(|(rules, provider, then)| {
            let action = match then {
                CustomThen::Refuse(_) => CustomAction::Refuse,
                CustomThen::Ask | CustomThen::Unclear => {
                    let question = custom_question(provider, then, path, index);
                    CustomAction::Ask(atoms.occurring.questions.number(&question))
                }
            };
            (rules, action)
        });
        let custom = custom.collect();
        let tokens = point.token_rules.iter().filter(|_| http_chain);
        let tokens: Vec<AtomTokenRule> = tokens.map(|rule| atoms.token_rule(rule)).collect();
        let preflight = if tokens.is_empty() {
            None
        } else {
            atoms.rule(&preflight())
        };
        Prepared::Chain(Stages {
            identity: match (point.identity_required, &point.seen.principal) {
                (false, _) | (true, PrincipalSeen::Fixed(_)) => Identity::NotRequired,
                (true, PrincipalSeen::None) => Identity::Missing,
                (true, PrincipalSeen::Callers) => Identity::Callers,
            },
            custom,
            tokens,
            preflight,
            deny,
            allow,
        })
    }
}

/// Questions of CUSTOM depend on what comes before the point.
fn asks_nothing(prepared: &Prepared) -> bool {
    match prepared {
        Prepared::Opaque(_) => false,
        Prepared::Chain(stages) => stages.custom.is_empty(),
        Prepared::Refuses | Prepared::Network(_) => true,
    }
}
