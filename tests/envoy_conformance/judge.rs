//! What castoff's evaluator says of the same request.

use std::collections::BTreeMap;
use std::net::IpAddr;

use castoff_authz::decision::{Decision, Outcome};
use castoff_authz::eval::evaluate;
use castoff_authz::path::{
    Address, AddressKind, EnforcementPath, Point, PointKind, Protocol, Proxy, TokenRule,
};
use castoff_authz::policy::{Action, Condition, Key, Policy, Rule};
use castoff_authz::request::{Http, Request, Token};
use castoff_authz::unknown::Unknown;
use std::sync::Arc;

use crate::cases::Case;
use crate::client::Wire;
use crate::requests::{Atoms, Content};

/// The decision, with the questions answered as the surroundings of the test do: authorizers refuse,
/// metadata is what the request carries.
pub(crate) fn decide(
    case: &Case,
    atoms: &Atoms,
    wire: &Wire,
    content: Option<&Content>,
) -> Decision {
    decide_with(case, atoms, wire, content, None)
}

/// Whether the request still carries its token when it got through: asked of a second point, which
/// accepts the token's issuer and lets tokens only through.
pub(crate) fn token_passed_on(case: &Case, atoms: &Atoms, wire: &Wire, content: &Content) -> bool {
    let decision = decide_with(case, atoms, wire, Some(content), Some(Action::Allow));
    decision.outcome == Outcome::Allow
}

/// A rule that accepts this token whatever it is.
fn accepting(token: &Token) -> TokenRule {
    TokenRule {
        issuer: token.issuer().unwrap_or_default().to_owned(),
        audiences: Vec::new(),
        forward: true,
        validation: String::new(),
    }
}

fn any_token(action: Action) -> Policy {
    let condition = Condition {
        key: Key::RequestAuthClaim(vec!["iss".to_owned()]),
        values: vec!["*".to_owned()],
        not_values: Vec::new(),
    };
    let rule = Rule {
        when: vec![condition],
        ..Rule::default()
    };
    Policy::new("foo", "token", action, vec![rule])
}

fn decide_with(
    case: &Case,
    atoms: &Atoms,
    wire: &Wire,
    content: Option<&Content>,
    behind: Option<Action>,
) -> Decision {
    let protocol = if case.tcp {
        Protocol::Tcp
    } else {
        Protocol::Http
    };
    let mut point = Point::new(
        PointKind::Envoy {
            proxy: Proxy::Sidecar,
            protocol,
        },
        "foo/httpbin",
    );
    point.policies = case.policies.iter().map(Arc::clone).collect();
    let token = content
        .and_then(|content| content.token)
        .map(|index| &atoms.tokens[index].1);
    point.token_rules.clone_from(&case.token_rules);
    if case.token_rules.is_empty() {
        // Envoy's side accepts every issuer; here the rule is of the token's own.
        point.token_rules.extend(token.map(accepting));
    }
    let mut points = vec![point];
    points.extend(behind.map(|action| {
        let mut point = Point::new(points[0].kind.clone(), "behind");
        point.token_rules.extend(token.map(accepting));
        point.policies = vec![Arc::new(any_token(action))];
        point
    }));
    let path = EnforcementPath {
        address: Address {
            kind: AddressKind::Pod,
            name: "foo/httpbin".to_owned(),
            port: wire.port,
        },
        in_use: true,
        settings: Arc::clone(&case.settings),
        points,
    };
    let mut request = request(wire, content, token);
    let metadata = content.and_then(|content| content.metadata.as_deref());
    loop {
        let decision = evaluate(&request, &path);
        let Outcome::Depends(questions) = &decision.outcome else {
            return decision;
        };
        for question in questions {
            let answer = match question {
                Unknown::Authorizer { .. } => false,
                Unknown::Value { text, .. } => metadata.is_some_and(|value| matches(text, value)),
                Unknown::Opaque { .. } => panic!("nothing opaque is here"),
            };
            request.answers.insert(question.clone(), answer);
        }
    }
}

/// Istio's generic syntax, written again so as not to test the evaluator with itself.
fn matches(pattern: &str, value: &str) -> bool {
    if pattern == "*" {
        !value.is_empty()
    } else if let Some(suffix) = pattern.strip_prefix('*') {
        value.ends_with(suffix)
    } else if let Some(prefix) = pattern.strip_suffix('*') {
        value.starts_with(prefix)
    } else {
        value == pattern
    }
}

fn request(wire: &Wire, content: Option<&Content>, token: Option<&Token>) -> Request {
    let forwarded = content.and_then(|content| content.forwarded);
    Request {
        principal: wire.principal.clone(),
        source_ip: IpAddr::V4(wire.source),
        forwarded_ip: IpAddr::V4(forwarded.unwrap_or(wire.remote)),
        destination_ip: IpAddr::V4(wire.destination),
        destination_port: wire.port,
        sni: wire.sni.clone(),
        http: content.map(|content| Http {
            method: content.method.clone(),
            path: content.path.clone(),
            host: content.host.clone(),
            headers: content.headers.clone(),
            token: token.cloned(),
        }),
        surroundings: BTreeMap::new(),
        answers: BTreeMap::new(),
    }
}
