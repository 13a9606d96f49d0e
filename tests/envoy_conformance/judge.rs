//! What castoff's evaluator says of the same request.

use std::collections::BTreeMap;
use std::net::IpAddr;

use castoff_authz::decision::{Decision, Outcome};
use castoff_authz::eval::evaluate;
use castoff_authz::path::{
    Address, AddressKind, EnforcementPath, Point, PointKind, Protocol, Proxy, TokenRule,
};
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
    // Envoy's side accepts every issuer; here the rule is of the token's own.
    point.token_rules.extend(token.map(|token| TokenRule {
        issuer: token.issuer().unwrap().to_owned(),
        audiences: Vec::new(),
        forward: true,
        validation: String::new(),
    }));
    let path = EnforcementPath {
        address: Address {
            kind: AddressKind::Pod,
            name: "foo/httpbin".to_owned(),
            port: wire.port,
        },
        in_use: true,
        settings: Arc::clone(&case.settings),
        points: vec![point],
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
