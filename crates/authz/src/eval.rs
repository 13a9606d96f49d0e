//! The plain evaluator: one request, one path, one decision.
//!
//! In come a request and a path, out comes what every point says and why, in the order of the filters.
//! It reads the translated policies value by value, without any cleverness; the prover's witnesses are
//! replayed through it. Invariant: where an answer that is not ours is missing, the outcome is
//! [`Outcome::Depends`], never a guess.

use std::collections::BTreeSet;

use crate::decision::{
    Because, CustomRefusal, Decision, FieldTrace, Outcome, PointDecision, RuleTrace, TokenRefusal,
};
use crate::enforced::{
    Chain, Clause, CustomThen, EnforcedRule, Entry, Part, Test, chain, preflight,
};
use crate::path::{EnforcementPath, NetworkEntry, Point, PointKind, Protocol};
use crate::policy::Policy;
use crate::request::{Request, Token};
use crate::sight::{Seen as Seeing, Sight};
use crate::unknown::{Unknown, custom_question, opaque_question};

/// Decides one request on one path.
#[must_use]
pub fn evaluate(request: &Request, path: &EnforcementPath) -> Decision {
    let mut points = Vec::new();
    let mut questions = BTreeSet::new();
    let mut token = request.http.as_ref().and_then(|http| http.token.as_ref());
    for (index, point) in path.points.iter().enumerate() {
        let (decision, passed_on) = decide(request, path, index, token);
        if let Outcome::Depends(asked) = &decision.outcome {
            questions.extend(asked.iter().cloned());
        }
        let stops = decision.outcome == Outcome::Deny;
        points.push(decision);
        if stops {
            return Decision {
                outcome: Outcome::Deny,
                points,
            };
        }
        // Behind what is not modelled nothing is known; its question covers the rest of the path.
        if matches!(point.kind, PointKind::Opaque { .. }) {
            break;
        }
        token = passed_on;
    }
    let outcome = if questions.is_empty() {
        Outcome::Allow
    } else {
        Outcome::Depends(questions.into_iter().collect())
    };
    Decision { outcome, points }
}

/// What a point says, and the token that it passes on.
fn decide<'r>(
    request: &'r Request,
    path: &EnforcementPath,
    index: usize,
    token: Option<&'r Token>,
) -> (PointDecision, Option<&'r Token>) {
    let point = &path.points[index];
    let answer = |outcome, because| PointDecision {
        point: index,
        outcome,
        because,
    };
    match &point.kind {
        PointKind::Stop { .. } => (answer(Outcome::Deny, Because::Stopped), token),
        PointKind::Opaque { reason, .. } => {
            let question = opaque_question(reason, path, index);
            let outcome = match request.answers.get(&question) {
                Some(true) => Outcome::Allow,
                Some(false) => Outcome::Deny,
                None => Outcome::Depends(vec![question]),
            };
            (answer(outcome, Because::NotModelled), token)
        }
        PointKind::NetworkPolicy { admits } => {
            let entry = admits
                .iter()
                .position(|entry| admitted(entry, request, point));
            let outcome = if entry.is_some() {
                Outcome::Allow
            } else {
                Outcome::Deny
            };
            (answer(outcome, Because::NetworkPolicy { entry }), token)
        }
        PointKind::Envoy { .. } | PointKind::Ztunnel => {
            let chain = chain(point, &path.settings);
            Evaluation {
                request,
                path,
                point,
                token,
            }
            .run(index, &chain)
        }
    }
}

/// Kubernetes' NetworkPolicy: some entry's peer and port both match. An address that is not known
/// counts as outside every block.
fn admitted(entry: &NetworkEntry, request: &Request, point: &Point) -> bool {
    let sight = Sight::new(request, point, None);
    let peer = entry.block.as_ref().is_none_or(|(block, except)| {
        let inside =
            |address| block.contains(address) && !except.iter().any(|part| part.contains(address));
        matches!(sight.source_ip(), Seeing::Value(address) if inside(address))
    });
    let port = sight.destination_port();
    peer && (entry.ports.is_empty()
        || entry
            .ports
            .iter()
            .any(|&(first, last)| first <= port && port <= last))
}

struct Evaluation<'r, 'p> {
    request: &'r Request,
    path: &'p EnforcementPath,
    point: &'p Point,
    token: Option<&'r Token>,
}

/// Whether a rule matches, and on which questions that hangs.
struct Matched {
    held: Option<bool>,
    trace: RuleTrace,
    questions: Vec<Unknown>,
}

impl<'r> Evaluation<'r, '_> {
    /// The stages of Envoy's filters (istio/istio `listener_builder.go:buildHTTPConnectionManager`):
    /// filter chain match, CUSTOM, token validation, DENY, ALLOW. ztunnel (`state.rs:assert_rbac`) has
    /// the last two.
    fn run(&self, index: usize, chain: &Chain<'_>) -> (PointDecision, Option<&'r Token>) {
        let answer = |outcome, because| PointDecision {
            point: index,
            outcome,
            because,
        };
        let http = matches!(
            self.point.kind,
            PointKind::Envoy {
                protocol: Protocol::Http,
                ..
            }
        );
        if http && self.request.http.is_none() {
            return (answer(Outcome::Deny, Because::NotHttp), self.token);
        }
        let before_tokens = Sight::new(self.request, self.point, None);
        if self.point.identity_required && before_tokens.principal().is_none() {
            return (answer(Outcome::Deny, Because::IdentityRequired), self.token);
        }
        let mut questions: BTreeSet<Unknown> = BTreeSet::new();
        let mut first_question = None;
        for custom in &chain.custom {
            for matched in tried(&before_tokens, chain, custom.policy) {
                if matched.held == Some(false) {
                    continue;
                }
                let certain = matched.held == Some(true);
                let refused = match custom.then {
                    CustomThen::Refuse(refusal) => Some(refusal),
                    CustomThen::Ask | CustomThen::Unclear => {
                        let question =
                            custom_question(custom.provider, custom.then, self.path, index);
                        match self.request.answers.get(&question) {
                            Some(true) => continue,
                            Some(false) => Some(CustomRefusal::Assumed),
                            None => {
                                questions.insert(question);
                                None
                            }
                        }
                    }
                };
                questions.extend(matched.questions);
                let because = Because::Custom {
                    rule: matched.trace,
                    refused,
                };
                if certain && refused.is_some() {
                    return (answer(Outcome::Deny, because), self.token);
                }
                first_question.get_or_insert(because);
            }
        }
        let (preflight, asked) = self.preflight(http);
        let (validated, passed_on) = match (preflight, self.tokens()) {
            // What follows differs in too much: the questions are to be answered first.
            (None, _) => {
                questions.extend(asked);
                let depends = Outcome::Depends(questions.into_iter().collect());
                return (answer(depends, Because::NotModelled), self.token);
            }
            (Some(true), _) => (None, self.token),
            (Some(false), Ok(tokens)) => tokens,
            (Some(false), Err(refusal)) => {
                return (
                    answer(Outcome::Deny, Because::TokenRefused(refusal)),
                    self.token,
                );
            }
        };
        let sight = Sight::new(self.request, self.point, validated);
        for &policy in &chain.deny {
            for matched in tried(&sight, chain, policy) {
                match matched.held {
                    Some(false) => {}
                    Some(true) => {
                        return (
                            answer(Outcome::Deny, Because::DeniedBy(matched.trace)),
                            self.token,
                        );
                    }
                    None => {
                        questions.extend(matched.questions);
                        first_question.get_or_insert(Because::DeniedBy(matched.trace));
                    }
                }
            }
        }
        let allowed = allowed(&sight, chain, &mut questions);
        let because = match allowed {
            (Some(false), because) => return (answer(Outcome::Deny, because), self.token),
            (Some(true), because) => first_question.unwrap_or(because),
            (None, because) => because,
        };
        let outcome = if questions.is_empty() {
            Outcome::Allow
        } else {
            Outcome::Depends(questions.into_iter().collect())
        };
        (answer(outcome, because), passed_on)
    }

    /// Whether the token is not looked at, because the request is a CORS preflight.
    fn preflight(&self, http: bool) -> (Option<bool>, Vec<Unknown>) {
        if !http || self.token.is_none() || self.point.token_rules.is_empty() {
            return (Some(false), Vec::new());
        }
        let sight = Sight::new(self.request, self.point, None);
        let rule = preflight();
        let (held, _, questions) = clause_holds(&sight, &rule.clauses[0]);
        (held, questions)
    }

    /// RequestAuthentication: no token passes; a token of an unknown issuer, or one that fails, is
    /// refused with 401, one with another audience with 403. The first rule of its issuer that accepts
    /// it counts (Envoy `jwt_authn` with `requires_any` and `allow_missing`;
    /// `pilot/pkg/security/authn/policy_applier.go`). Yields the validated token and what is passed on.
    fn tokens(&self) -> Result<(Option<&'r Token>, Option<&'r Token>), TokenRefusal> {
        let http = matches!(
            self.point.kind,
            PointKind::Envoy {
                protocol: Protocol::Http,
                ..
            }
        );
        let Some(token) = self.token.filter(|_| http) else {
            return Ok((None, self.token));
        };
        if self.point.token_rules.is_empty() {
            return Ok((None, Some(token)));
        }
        let mut refusal = TokenRefusal::UnknownIssuer;
        let audience = vec!["aud".to_owned()];
        for rule in &self.point.token_rules {
            if token.issuer() != Some(rule.issuer.as_str()) {
                continue;
            }
            let audiences = token.claims.get(&audience).map_or(&[][..], Vec::as_slice);
            if token.fails.contains(&rule.validation) {
                refusal = TokenRefusal::Invalid;
            } else if !rule.audiences.is_empty()
                && !rule.audiences.iter().any(|one| audiences.contains(one))
            {
                refusal = TokenRefusal::Audience;
            } else {
                return Ok((Some(token), Some(token).filter(|_| rule.forward)));
            }
        }
        Err(refusal)
    }
}

/// No ALLOW policy: nothing refuses. Else some rule must match.
fn allowed(
    sight: &Sight<'_>,
    chain: &Chain<'_>,
    questions: &mut BTreeSet<Unknown>,
) -> (Option<bool>, Because) {
    if chain.allow.is_empty() {
        return (Some(true), Because::NothingRefuses);
    }
    let mut rules = Vec::new();
    let mut without_rules = Vec::new();
    let mut maybe = None;
    let mut asked = Vec::new();
    for &policy in &chain.allow {
        let mut has_rules = false;
        for matched in tried(sight, chain, policy) {
            has_rules = true;
            match matched.held {
                Some(true) => return (Some(true), Because::AllowedBy(matched.trace)),
                Some(false) => rules.push(matched.trace),
                None => {
                    asked.extend(matched.questions);
                    maybe.get_or_insert(Because::AllowedBy(matched.trace));
                }
            }
        }
        if !has_rules {
            without_rules.push(policy.name.clone());
        }
    }
    if let Some(because) = maybe {
        questions.extend(asked);
        return (None, because);
    }
    let because = Because::NoAllowMatches {
        tried: rules,
        without_rules,
    };
    (Some(false), because)
}

/// The rules of a policy, each tried when it is asked for.
fn tried<'a>(
    sight: &Sight<'_>,
    chain: &Chain<'a>,
    policy: &'a Policy,
) -> impl Iterator<Item = Matched> {
    let rules = chain.rules(policy);
    rules.map(move |rule| rule_matches(sight, policy, &rule))
}

fn rule_matches(sight: &Sight<'_>, policy: &Policy, rule: &EnforcedRule<'_>) -> Matched {
    let mut held = Some(true);
    let mut fields = Vec::new();
    let mut questions = Vec::new();
    for clause in &rule.clauses {
        let (clause_held, clause_fields, clause_questions) = clause_holds(sight, clause);
        if clause_held == Some(false) {
            held = Some(false);
            fields = clause_fields;
            questions.clear();
            break;
        }
        held = if clause_held.is_none() { None } else { held };
        fields.extend(clause_fields);
        questions.extend(clause_questions);
    }
    Matched {
        held,
        trace: RuleTrace {
            policy: policy.name.clone(),
            action: policy.action.clone(),
            rule: rule.index,
            fields,
        },
        questions,
    }
}

/// Some entry holds; its fields are told. If none does, the first field that failed in each.
fn clause_holds(
    sight: &Sight<'_>,
    clause: &Clause<'_>,
) -> (Option<bool>, Vec<FieldTrace>, Vec<Unknown>) {
    let mut failed = Vec::new();
    let mut maybe: Option<Vec<FieldTrace>> = None;
    let mut questions = Vec::new();
    for entry in &clause.entries {
        let (held, fields, asked) = entry_holds(sight, clause.part, entry);
        match held {
            Some(true) => return (Some(true), fields, Vec::new()),
            Some(false) => failed.extend(fields),
            None => {
                maybe.get_or_insert(fields);
                questions.extend(asked);
            }
        }
    }
    match maybe {
        Some(fields) => (None, fields, questions),
        None => (Some(false), failed, Vec::new()),
    }
}

fn entry_holds(
    sight: &Sight<'_>,
    part: Part,
    entry: &Entry<'_>,
) -> (Option<bool>, Vec<FieldTrace>, Vec<Unknown>) {
    let mut held = Some(true);
    let mut fields = Vec::new();
    let mut questions = Vec::new();
    for test in &entry.tests {
        let (test_held, trace, asked) = test_holds(sight, part, entry.index, test);
        if test_held == Some(false) {
            return (Some(false), vec![trace], Vec::new());
        }
        held = if test_held.is_none() { None } else { held };
        fields.push(trace);
        questions.extend(asked);
    }
    (held, fields, questions)
}

fn test_holds(
    sight: &Sight<'_>,
    part: Part,
    entry: usize,
    test: &Test<'_>,
) -> (Option<bool>, FieldTrace, Vec<Unknown>) {
    let mut matched = None;
    let mut questions = Vec::new();
    for value in &test.values {
        match sight.holds(&value.predicate, value.text) {
            Ok(true) => {
                matched = Some(value.text.to_owned());
                break;
            }
            Ok(false) => {}
            Err(question) => questions.push(question),
        }
    }
    let any = if matched.is_some() {
        questions.clear();
        Some(true)
    } else if questions.is_empty() {
        Some(false)
    } else {
        None
    };
    let held = any.map(|any| any != test.negated);
    let field = match (part, test.key) {
        (Part::From, _) => format!("from[{entry}].source.{}", test.field),
        (Part::To, _) => format!("to[{entry}].operation.{}", test.field),
        (Part::When(index), Some(key)) => format!("when[{index}].{} of {key}", test.field),
        (Part::When(index), None) => format!("when[{index}].{}", test.field),
    };
    let trace = FieldTrace {
        field,
        values: test
            .values
            .iter()
            .map(|value| value.text.to_owned())
            .collect(),
        matched,
        seen: test
            .values
            .first()
            .and_then(|value| sight.describe(&value.predicate)),
        held,
    };
    (held, trace, questions)
}
