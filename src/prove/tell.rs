//! A witness as people read it: the request, where it was decided before, where now.
//!
//! In: structures of `castoff_authz`. Out: sentences, no layout. Invariant: every word rests on
//! the decision; nothing is concluded here.

use std::collections::BTreeSet;

use castoff_authz::decision::{
    Because, CustomRefusal, Decision, Outcome, PointDecision, RuleTrace, TokenRefusal,
};
use castoff_authz::eval::evaluate;
use castoff_authz::path::{
    ANY_OTHER_PORT, Address, AddressKind, EnforcementPath, Point, PointKind, Protocol, Proxy,
};
use castoff_authz::request::{Http, Request};
use castoff_authz::unknown::Unknown;
use castoff_authz::verdict::{Finding, Proved, UndecidedReason, Witness, placeholder_address};

/// `GET /admin from cluster.local/ns/web/sa/front`, or `a connection from …`.
pub fn request(request: &Request) -> String {
    let from = request
        .principal
        .as_deref()
        .unwrap_or("a caller without identity");
    let Some(http) = &request.http else {
        return format!("a connection from {from}");
    };
    let mut text = format!("{} {} from {from}", http.method, http.path);
    if !http.host.is_empty() {
        text.push_str(&format!(", host {}", http.host));
    }
    for part in carried(http) {
        text.push_str(&format!(", {part}"));
    }
    text
}

/// What a request carries besides method, path and host: `header hello: world`, `token iss=… sub=…`.
pub fn carried(http: &Http) -> Vec<String> {
    let headers = http.headers.iter();
    let mut parts: Vec<String> = headers
        .map(|(name, value)| format!("header {name}: {value}"))
        .collect();
    if let Some(token) = &http.token {
        let claims: Vec<String> = token
            .claims
            .iter()
            .map(|(path, values)| format!("{}={}", path.join("."), values.join(",")))
            .collect();
        parts.push(format!("token {}", claims.join(" ")));
    }
    parts
}

/// `port 8080`, or `any other port` for those that nothing names.
pub fn port(number: u16) -> String {
    match number {
        ANY_OTHER_PORT => "any other port".to_owned(),
        number => format!("port {number}"),
    }
}

/// `allowed at the waypoint shop/waypoint by shop/orders-readers rule 1, at the ztunnel of shop/orders by …`.
pub fn decision(decision: &Decision, path: &EnforcementPath) -> String {
    let outcome = match &decision.outcome {
        Outcome::Allow => "allowed",
        Outcome::Deny => "denied",
        Outcome::Depends(_) => "not decided",
    };
    let points: Vec<String> = telling(decision, path)
        .into_iter()
        .filter_map(|one| {
            let point = path.points.get(one.point)?;
            if is_route(point) && one.outcome == Outcome::Deny {
                return Some(format!("at {}: they do not lead it here", place(point)));
            }
            Some(format!("at {}{}", place(point), because(&one.because)))
        })
        .collect();
    if points.is_empty() {
        return format!("{outcome}, nothing on the way enforces anything");
    }
    format!("{outcome} {}", points.join(", "))
}

/// The points that tell a decision: the one that refuses, or that leaves it open; of what is let
/// through those whose rules let it, with the waypoints before them, and the last where no rule does.
fn telling<'a>(decision: &'a Decision, path: &EnforcementPath) -> Vec<&'a PointDecision> {
    let first = match decision.outcome {
        Outcome::Allow => None,
        Outcome::Deny => decision.deciding(),
        Outcome::Depends(_) => {
            let mut points = decision.points.iter();
            points.find(|one| matches!(one.outcome, Outcome::Depends(_)))
        }
    };
    let is_route = |one: &PointDecision| (path.points.get(one.point)).is_some_and(is_route);
    let by_rule =
        |one: &PointDecision| matches!(one.because, Because::AllowedBy(_)) && !is_route(one);
    let last = decision.points.iter().rposition(by_rule);
    let (None, Some(last)) = (first, last) else {
        let other = decision.deciding().filter(|one| !is_route(one));
        return first.or(other).into_iter().collect();
    };
    let is_waypoint = |one: &PointDecision| {
        path.points
            .get(one.point)
            .is_some_and(|point| is_waypoint(&point.kind))
    };
    let points = decision.points[..=last].iter();
    points
        .filter(|one| by_rule(one) || is_waypoint(one))
        .collect()
}

/// A route takes a request or leaves it to others: it lets in nobody.
pub(super) fn is_route(point: &Point) -> bool {
    matches!(
        point.kind,
        PointKind::Envoy {
            proxy: Proxy::Route,
            ..
        }
    )
}

fn is_waypoint(kind: &PointKind) -> bool {
    matches!(
        kind,
        PointKind::Envoy {
            proxy: Proxy::Waypoint,
            ..
        }
    )
}

fn place(point: &Point) -> String {
    match &point.kind {
        PointKind::Envoy {
            proxy: Proxy::Sidecar,
            ..
        } => format!("the sidecar of {}", point.name),
        PointKind::Envoy {
            proxy: Proxy::Waypoint,
            ..
        } => format!("the waypoint {}", point.name),
        PointKind::Envoy {
            proxy: Proxy::Gateway,
            ..
        } => format!("the gateway {}", point.name),
        PointKind::Envoy {
            proxy: Proxy::Route,
            ..
        } => format!("the routes of {}", point.name),
        PointKind::Ztunnel => format!("the ztunnel of {}", point.name),
        PointKind::NetworkPolicy { .. } => format!("the NetworkPolicies of {}", point.name),
        PointKind::Stop { reason } => format!("{} ({reason})", point.name),
        PointKind::Opaque { reason, .. } => format!("{} (not modelled: {reason})", point.name),
    }
}

fn because(because: &Because) -> String {
    match because {
        Because::Stopped | Because::NotModelled => String::new(),
        Because::NotHttp => ": the bytes are not HTTP".to_owned(),
        Because::IdentityRequired => ": mutual TLS is required and no identity is seen".to_owned(),
        Because::NetworkPolicy { entry: Some(entry) } => format!(": entry {} admits it", entry + 1),
        Because::NetworkPolicy { entry: None } => ": no entry admits it".to_owned(),
        Because::TokenRefused(TokenRefusal::UnknownIssuer) => {
            ": no rule names the token's issuer".to_owned()
        }
        Because::TokenRefused(TokenRefusal::Audience) => {
            ": the token has another audience".to_owned()
        }
        Because::TokenRefused(TokenRefusal::Invalid) => ": the token is not valid".to_owned(),
        Because::Custom { rule, refused } => {
            let why = match refused {
                None => "its authorizer decides",
                Some(CustomRefusal::UnknownProvider) => "its provider is not configured",
                Some(CustomRefusal::SeveralProviders) => "several providers meet on one chain",
                Some(CustomRefusal::Assumed) => "if its authorizer refuses",
            };
            format!(" by {} ({why})", rule_name(rule))
        }
        Because::DeniedBy(rule) | Because::AllowedBy(rule) => format!(" by {}", rule_name(rule)),
        Because::NoAllowMatches {
            tried,
            without_rules,
        } => {
            let mut names: Vec<String> = tried.iter().map(|rule| rule.policy.to_string()).collect();
            names.extend(without_rules.iter().map(ToString::to_string));
            names.sort();
            names.dedup();
            format!(": no ALLOW matches ({})", names.join(", "))
        }
        Because::NothingRefuses => ": nothing refuses it".to_owned(),
    }
}

/// `shop/deny-admin rule 1`.
fn rule_name(rule: &RuleTrace) -> String {
    format!("{} rule {}", rule.policy, rule.rule + 1)
}

/// A witness in two or three lines.
pub fn witness(
    witness: &Witness,
    baseline: &[EnforcementPath],
    present: &[EnforcementPath],
) -> Vec<String> {
    let told = plain_request(witness, baseline, present);
    let mut lines = vec![format!("{} to {}", request(&told), witness.address)];
    lines.extend(side("before", &witness.before, baseline, witness));
    lines.extend(side("now", &witness.after, present, witness));
    if !witness.if_accepted_by.is_empty() {
        lines.push(format!(
            "if {} accepts it",
            witness.if_accepted_by.join(" and ")
        ));
    }
    lines
}

/// The request as it is told: without what makes no difference. Bytes where nothing on the way speaks
/// HTTP, and no host where any name of the address dialled does as well. Every decision is asked for
/// again and must say the same, point by point.
fn plain_request(
    witness: &Witness,
    baseline: &[EnforcementPath],
    present: &[EnforcementPath],
) -> Request {
    let decided: Vec<(&Decision, &EnforcementPath)> =
        [(&witness.before, baseline), (&witness.after, present)]
            .into_iter()
            .flat_map(|(decisions, paths)| {
                let found = decisions.iter();
                found.filter_map(|(index, one)| Some((one, paths.get(*index)?)))
            })
            .collect();
    let holds = |request: &Request| {
        decided.iter().all(|(one, path)| {
            let again = evaluate(request, path);
            again.outcome == one.outcome && decision(&again, path) == decision(one, path)
        })
    };
    let with = |host: &str| {
        let mut request = witness.request.clone();
        if let Some(http) = &mut request.http {
            http.host = host.to_owned();
        }
        request
    };
    let speaks = |wanted: Protocol| {
        let mut points = decided.iter().flat_map(|(_, path)| &path.points);
        points.any(
            |point| matches!(point.kind, PointKind::Envoy { protocol, .. } if protocol == wanted),
        )
    };
    if speaks(Protocol::Tcp) && !speaks(Protocol::Http) {
        let bytes = Request {
            http: None,
            ..witness.request.clone()
        };
        if holds(&bytes) {
            return bytes;
        }
    }
    let hosts = own_hosts(&witness.address);
    let matters = |host: &String| !holds(&with(host));
    match hosts.first() {
        Some(_) if !hosts.iter().any(matters) => with(""),
        Some(whole) if !matters(whole) => with(whole),
        _ => witness.request.clone(),
    }
}

/// The hosts that a caller sends who dials an address, the longest first.
fn own_hosts(address: &Address) -> Vec<String> {
    match (address.kind, address.name.split_once('/')) {
        (AddressKind::Service, Some((namespace, name))) => vec![
            format!("{name}.{namespace}.svc.cluster.local"),
            format!("{name}.{namespace}.svc"),
            format!("{name}.{namespace}"),
            name.to_owned(),
        ],
        (AddressKind::Pod, _) => vec![placeholder_address().to_string()],
        _ => Vec::new(),
    }
}

/// The decision at the witness's own address, and others only where it has none there.
fn side<'a>(
    when: &'a str,
    decisions: &'a [(usize, Decision)],
    paths: &'a [EnforcementPath],
    witness: &'a Witness,
) -> impl Iterator<Item = String> + 'a {
    let at_address = |index: &usize| {
        paths
            .get(*index)
            .is_some_and(|path| path.address == witness.address)
    };
    let any_there = decisions.iter().any(|(index, _)| at_address(index));
    decisions
        .iter()
        .filter(move |(index, _)| !any_there || at_address(index))
        .filter_map(move |(index, one)| {
            let path = paths.get(*index)?;
            let by = if path.address == witness.address {
                String::new()
            } else {
                format!(" by {}", path.address)
            };
            Some(format!("{when}{by}: {}", decision(one, path)))
        })
}

/// Why a direction is not decided, in lines.
pub fn undecided(finding: &Finding) -> Vec<String> {
    match finding {
        Finding::Never | Finding::Witness(_) => Vec::new(),
        Finding::Bug(disagreement) => vec![format!(
            "castoff's prover and evaluator disagree, please report this: expected {}, for {}",
            disagreement.expected,
            request(&disagreement.witness.request)
        )],
        Finding::Undecided(undecided) => {
            let mut lines = vec![match &undecided.reason {
                UndecidedReason::Unknown {
                    questions,
                    example,
                    address,
                } => format!(
                    "hangs on {}: {} to {address}",
                    named_once(questions).join(" and "),
                    request(example)
                ),
                UndecidedReason::AddressesNotKnown {
                    owners,
                    example,
                    address,
                } => format!(
                    "hangs on the addresses of {}: {} to {address}",
                    owners.join(" and "),
                    request(example)
                ),
                UndecidedReason::TooLarge { limit } => format!("too large: {limit}"),
            }];
            if let Proved::Outside { attributes, .. } = &undecided.proved {
                let region: Vec<String> = attributes
                    .iter()
                    .map(|(name, values)| format!("{name} {}", values.join(", ")))
                    .collect();
                lines.push(if region.is_empty() {
                    "nothing else differs".to_owned()
                } else {
                    format!(
                        "proved the same for all requests but those that policies treat like {}",
                        region.join("; ")
                    )
                });
            }
            lines
        }
    }
}

/// One thing may be asked in several ways, as by pods and by a waypoint; it has one name.
fn named_once(questions: &[Unknown]) -> Vec<String> {
    let names: BTreeSet<String> = questions.iter().map(ToString::to_string).collect();
    names.into_iter().collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use std::sync::Arc;

    use castoff_authz::path::Point;
    use castoff_authz::settings::{Release, Settings};
    use castoff_authz::verdict::{Caller, Comparison, Limits, compare};

    use super::*;

    fn path(point: Point) -> EnforcementPath {
        EnforcementPath {
            address: Address {
                kind: AddressKind::Service,
                name: "shop/queue".to_owned(),
                port: 9092,
            },
            in_use: true,
            settings: Arc::new(Settings::of(Release {
                minor: 30,
                patch: 0,
            })),
            points: vec![point],
        }
    }

    fn told(protocol: Protocol) -> String {
        let sidecar = PointKind::Envoy {
            proxy: Proxy::Sidecar,
            protocol,
        };
        let stop = PointKind::Stop {
            reason: "a test".to_owned(),
        };
        let question = Comparison {
            caller: Caller::workload("cluster.local/ns/shop/sa/web"),
            http: true,
            baseline: vec![path(Point::new(sidecar, "shop/queue"))],
            present: vec![path(Point::new(stop, "shop/queue"))],
        };
        let Finding::Witness(found) = compare(&question, Limits::default()).breaks else {
            panic!("it breaks");
        };
        witness(&found, &question.baseline, &question.present)
            .first()
            .unwrap()
            .clone()
    }

    #[test]
    fn bytes_are_told_as_a_connection_and_any_host_is_not_told() {
        let from = "from cluster.local/ns/shop/sa/web to Service shop/queue:9092";
        assert_eq!(told(Protocol::Tcp), format!("a connection {from}"));
        assert_eq!(told(Protocol::Http), format!("GET / {from}"));
    }
}
