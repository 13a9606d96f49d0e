//! Which requests a route takes, in the words of policies.
//!
//! In: matches of VirtualServices and of routes of the Gateway API. Out: rules that say the same of a request.
//! Invariant: what cannot be said so (a regular expression, a query) is a condition on something that is not known,
//! equal only to itself, so that what hangs on it is undecided.

use std::sync::Arc;

use castoff_authz::path::{Point, PointKind, PrincipalSeen, Protocol, Proxy};
use castoff_authz::policy::{Action, Condition, Key, Operation, Policy, Rule};
use serde_json::{Map, Value};

use super::Content;

/// Requests that one of some rules means, and none of others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Empty: any.
    pub(super) some: Vec<Rule>,
    pub(super) none: Vec<Rule>,
}

impl Taken {
    /// Whether it is plain to see that no request is taken by both.
    pub(super) fn excludes(&self, other: &Self) -> bool {
        let within = |some: &[Rule], none: &[Rule]| {
            !some.is_empty() && some.iter().all(|one| none.contains(one))
        };
        within(&self.some, &other.none) || within(&other.some, &self.none)
    }

    /// A point that lets through what is taken; `None` where all is.
    pub(super) fn point(&self, object: &str, content: Content) -> Option<Point> {
        let policies = [(Action::Allow, &self.some), (Action::Deny, &self.none)];
        let policies = policies.into_iter().filter(|(_, rules)| !rules.is_empty());
        let policies: Vec<Arc<Policy>> = policies
            .map(|(action, rules)| Arc::new(Policy::new("", "routes", action, rules.clone())))
            .collect();
        let protocol = match content {
            Content::Http => Protocol::Http,
            Content::Bytes => Protocol::Tcp,
        };
        (!policies.is_empty()).then(|| {
            let proxy = Proxy::Route;
            let mut point = Point::new(PointKind::Envoy { proxy, protocol }, object);
            point.policies = policies;
            // No route asks for an identity.
            point.seen.principal = PrincipalSeen::None;
            point
        })
    }
}

/// What a match of a VirtualService's `http` asks of a request, besides what a proxy knows without one; `None`:
/// nothing (istio pilot/pkg/networking/core/route/route.go `TranslateRouteMatch`).
pub(super) fn http(matched: &Value) -> Option<Rule> {
    let mut asked = Asked::default();
    for (field, value) in matched.as_object().into_iter().flatten() {
        match field.as_str() {
            "name" | "statPrefix" | "port" | "gateways" | "sourceLabels" | "sourceNamespace" => {}
            "uri" if value["prefix"] == "/" => {}
            "uri" if matched["ignoreUriCase"] == true => asked.not_known(field, matched),
            "uri" => match pattern(value) {
                Some(pattern) => asked.operation.paths.push(pattern),
                None => asked.not_known(field, value),
            },
            "method" => match pattern(value) {
                Some(pattern) => asked.operation.methods.push(pattern),
                None => asked.not_known(field, value),
            },
            "headers" => asked.headers(value, false),
            "withoutHeaders" => asked.headers(value, true),
            "ignoreUriCase" => {}
            _ if is_empty(value) => {}
            _ => asked.not_known(field, value),
        }
    }
    asked.rule()
}

/// What a match of an HTTPRoute or GRPCRoute asks (istio pilot/pkg/config/kube/gateway/conversion.go
/// `createURIMatch`, `createGRPCURIMatch`, `createHeadersMatch`).
pub(super) fn gateway_api(matched: &Value) -> Option<Rule> {
    let mut asked = Asked::default();
    for (field, value) in matched.as_object().into_iter().flatten() {
        match field.as_str() {
            "path" => match (
                value["type"].as_str().unwrap_or("PathPrefix"),
                value["value"].as_str().unwrap_or("/"),
            ) {
                ("PathPrefix", "/") => {}
                ("PathPrefix", path) if is_plain(path) => asked.below(path),
                ("Exact", path) if is_plain(path) => asked.operation.paths.push(path.to_owned()),
                _ => asked.not_known(field, value),
            },
            "method" if value.is_object() => {
                let part = |name: &str| value[name].as_str().filter(|text| is_plain(text));
                match (
                    value["type"].as_str().unwrap_or("Exact"),
                    part("service"),
                    part("method"),
                ) {
                    ("Exact", Some(service), None) if value.get("method").is_none() => {
                        asked.below(&format!("/{service}"))
                    }
                    ("Exact", Some(service), Some(method)) => {
                        asked.operation.paths.push(format!("/{service}/{method}"))
                    }
                    _ => asked.not_known(field, value),
                }
            }
            "method" => match value.as_str().filter(|text| is_plain(text)) {
                Some(method) => asked.operation.methods.push(method.to_owned()),
                None => asked.not_known(field, value),
            },
            "headers" => {
                for header in value.as_array().into_iter().flatten() {
                    let exact = header["type"].as_str().unwrap_or("Exact") == "Exact";
                    let text = header["value"].as_str().filter(|text| is_plain(text));
                    match (header["name"].as_str(), text) {
                        (Some(name), Some(text)) if exact => {
                            asked.header(name, text.to_owned(), false)
                        }
                        _ => asked.not_known(field, header),
                    }
                }
            }
            _ if is_empty(value) => {}
            _ => asked.not_known(field, value),
        }
    }
    asked.rule()
}

/// A condition of connections that only their addresses and server names decide.
pub(super) fn not_known(field: &str, value: &Value) -> Rule {
    let mut asked = Asked::default();
    asked.not_known(field, value);
    Rule {
        when: asked.when,
        ..Rule::default()
    }
}

/// How Istio sorts the matches of HTTPRoutes, the highest first (`sortHTTPRoutes`).
pub(super) fn precedence(matched: &Value, of_grpc: bool) -> [usize; 5] {
    let length = |list: &Value| list.as_array().map_or(0, Vec::len);
    let (kind, path) = match (&matched["path"], &matched["method"]) {
        (Value::Object(path), _) => {
            let value = path.get("value").and_then(Value::as_str).unwrap_or("/");
            match path.get("type").and_then(Value::as_str) {
                Some("Exact") => (3, value.len()),
                Some("RegularExpression") => (1, value.len()),
                _ if value == "/" => (2, 1),
                _ => (2, value.trim_end_matches('/').len()),
            }
        }
        (_, Value::Object(method)) => {
            let text = |name: &str| method.get(name).and_then(Value::as_str);
            let exact = text("type").is_none_or(|kind| kind == "Exact");
            match (text("service"), text("method")) {
                (Some(service), Some(method)) if exact => (3, service.len() + method.len() + 2),
                (Some(service), None) if exact => (2, service.len() + 2),
                (service, method) => {
                    let of = |text: Option<&str>, absent: usize| text.map_or(absent, str::len);
                    (1, of(service, 5) + of(method, 2) + 2)
                }
            }
        }
        _ if of_grpc => (0, 0),
        // Without a path the Gateway API means all.
        _ => (2, 1),
    };
    let by_method = usize::from(matched["method"].is_string());
    let (headers, query) = (length(&matched["headers"]), length(&matched["queryParams"]));
    [kind, path, by_method, headers, query]
}

#[derive(Default)]
struct Asked {
    operation: Operation,
    when: Vec<Condition>,
}

impl Asked {
    fn not_known(&mut self, field: &str, value: &Value) {
        self.when.push(Condition {
            key: Key::Experimental(format!("match[{field}]")),
            values: vec![value.to_string()],
            not_values: Vec::new(),
        });
    }

    /// A path and all below it: `/a` and `/a/…`, not `/ab`.
    fn below(&mut self, path: &str) {
        let path = path.trim_end_matches('/');
        let all = [path.to_owned(), format!("{path}/*")];
        self.operation.paths.extend(all);
    }

    fn headers(&mut self, headers: &Value, without: bool) {
        for (name, value) in headers.as_object().unwrap_or(&Map::new()) {
            let is_present = value.as_object().is_some_and(Map::is_empty);
            let pattern = if is_present {
                Some("*".to_owned())
            } else {
                pattern(value)
            };
            match pattern.filter(|_| !name.starts_with('@')) {
                Some(pattern) => self.header(name, pattern, without),
                None if without => self.not_known("withoutHeaders", headers),
                None => self.not_known("headers", headers),
            }
        }
    }

    fn header(&mut self, name: &str, pattern: String, without: bool) {
        let (values, not_values) = match without {
            true => (Vec::new(), vec![pattern]),
            false => (vec![pattern], Vec::new()),
        };
        let key = Key::RequestHeader(name.to_owned());
        self.when.push(Condition {
            key,
            values,
            not_values,
        });
    }

    fn rule(self) -> Option<Rule> {
        let asks = self.operation != Operation::default();
        (asks || !self.when.is_empty()).then(|| Rule {
            to: asks.then_some(self.operation).into_iter().collect(),
            when: self.when,
            ..Rule::default()
        })
    }
}

fn is_empty(value: &Value) -> bool {
    value.is_null()
        || value == ""
        || value.as_array().is_some_and(Vec::is_empty)
        || value.as_object().is_some_and(Map::is_empty)
}

/// Whether a text means itself in a policy.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && !text.contains(['*', '{', '}', '?', '#'])
}

/// `exact` and `prefix` as policies write them.
fn pattern(value: &Value) -> Option<String> {
    let text = |field: &str| value[field].as_str().filter(|text| is_plain(text));
    match (text("exact"), text("prefix")) {
        (Some(exact), _) => Some(exact.to_owned()),
        (None, Some(prefix)) => Some(format!("{prefix}*")),
        (None, None) => None,
    }
}
