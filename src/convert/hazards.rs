//! Fields and neighbours that make a policy mean something else at a waypoint.
//!
//! In: an AuthorizationPolicy, a Service, a waypoint. Out: traps with field paths. Facts: what a
//! waypoint sees is in istio pilot/pkg/xds/filters/filters.go (`ConnectAuthorityFilter`) and
//! pilot/pkg/networking/core/listener_waypoint.go.

use std::collections::BTreeMap;

use serde_json::Value;
use smol_str::SmolStr;

use super::Trap;
use crate::mesh::{AuthorizationPolicy, Mesh, Service, Waypoint};

/// A trap, the field, and words.
pub(super) type Hazard = (Trap, Option<String>, String);

/// What of a policy reads otherwise at any waypoint.
pub(super) fn of_policy(policy: &AuthorizationPolicy) -> Vec<Hazard> {
    let mut found: Vec<Hazard> = Vec::new();
    if let Err(problems) = &policy.meaning {
        found.extend(problems.iter().map(|problem| {
            (
                Trap::NotUnderstood,
                Some(problem.path.to_string()),
                problem.reason.clone(),
            )
        }));
    }
    each_rule(&policy.raw, |path, rule| {
        for (at, entry) in list(&rule["from"]) {
            for field in ["ipBlocks", "notIpBlocks"] {
                if !is_empty(&entry["source"][field]) {
                    found.push((
                        Trap::SourceAddress,
                        Some(format!("{path}.from[{at}].source.{field}")),
                        "a waypoint does not see the address of the connection's client, nor do \
                         the pods behind it"
                            .to_owned(),
                    ));
                }
            }
        }
        for (at, condition) in list(&rule["when"]) {
            let key = condition["key"].as_str().unwrap_or_default();
            let hazard = match key {
                "source.ip" => Some((
                    Trap::SourceAddress,
                    "a waypoint does not see the address of the connection's client",
                )),
                "destination.ip" => Some((
                    Trap::DestinationAddress,
                    "at a waypoint the destination is the Service's address, not the pod's",
                )),
                "connection.sni" => Some((
                    Trap::ServerName,
                    "a waypoint sees no server name on HTTP ports",
                )),
                key if key.eq_ignore_ascii_case("request.headers[x-forwarded-client-cert]") => {
                    Some((
                        Trap::ClientCertificateHeader,
                        "a waypoint does not set this header as a sidecar does",
                    ))
                }
                _ => None,
            };
            found.extend(hazard.map(|(trap, reason)| {
                (
                    trap,
                    Some(format!("{path}.when[{at}].key")),
                    reason.to_owned(),
                )
            }));
        }
    });
    found
}

/// Hosts whose requests a VirtualService rewrites before the server's sidecar authorizes them,
/// with the VirtualService's name.
pub(super) fn rewritten_hosts(mesh: &Mesh) -> BTreeMap<SmolStr, String> {
    mesh.traffic
        .virtual_services
        .iter()
        .filter(|one| one.on_mesh && one.rewrites)
        .flat_map(|one| {
            one.full_hosts
                .iter()
                .chain(&one.destinations)
                .map(|host| (host.clone(), one.name.to_string()))
        })
        .collect()
}

/// Whether a policy looks at what a rewrite changes.
pub(super) fn rewrite(
    policy: &AuthorizationPolicy,
    service: &Service,
    rewritten: &BTreeMap<SmolStr, String>,
) -> Option<Hazard> {
    let by = rewritten.get(service.host().as_str())?;
    let field = policy.http_fields.iter().find(|field| {
        matches!(
            field.name.as_str(),
            "paths" | "notPaths" | "hosts" | "notHosts"
        ) || field.name.starts_with("request.headers")
    })?;
    Some((
        Trap::RewrittenRequest,
        Some(format!("spec.{}", field.path)),
        format!(
            "VirtualService {by} changes requests: the sidecar authorizes them afterwards, a waypoint before"
        ),
    ))
}

/// Where a DENY at the pods turns the waypoint itself away: sources, which can except it, by rule and
/// position, and conditions, which cannot.
pub(super) fn deny_of_waypoint(
    policy: &AuthorizationPolicy,
    waypoint: &Waypoint,
    trust_domain: &str,
) -> (Vec<(usize, usize)>, Vec<Hazard>) {
    let (mut sources, mut found) = (Vec::new(), Vec::new());
    if policy.raw.pointer("/spec/action") != Some(&Value::from("DENY")) {
        return (sources, found);
    }
    let principal = waypoint.principal(trust_domain);
    let namespace = waypoint.name.namespace.as_str();
    let account = format!("{namespace}/{}", waypoint.service_account);
    let fields = [
        ("principals", "notPrincipals", principal.as_str()),
        ("namespaces", "notNamespaces", namespace),
        ("serviceAccounts", "notServiceAccounts", account.as_str()),
    ];
    let positive = |path: String| -> Hazard {
        (
            Trap::DenyCoversWaypoint,
            Some(path),
            format!(
                "it also matches the waypoint {}, through which all traffic comes; except it here",
                waypoint.name
            ),
        )
    };
    let negative = |path: String| -> Hazard {
        (
            Trap::DenyOfOthers,
            Some(path),
            format!(
                "the waypoint {} is not among those excepted, so all traffic through it is denied at the pods; add it here",
                waypoint.name
            ),
        )
    };
    for (index, rule) in list(&policy.raw["spec"]["rules"]) {
        for (at, entry) in list(&rule["from"]) {
            let source = &entry["source"];
            let (mut hit, mut says_who) = (true, false);
            for (wanted, unwanted, value) in fields {
                if !is_empty(&source[wanted]) {
                    hit &= any_matches(&source[wanted], value);
                    says_who = true;
                }
                if !is_empty(&source[unwanted]) {
                    hit &= !any_matches(&source[unwanted], value);
                    says_who = true;
                }
            }
            if hit && says_who {
                sources.push((index, at));
            }
        }
        let path = format!("spec.rules[{index}]");
        for (at, condition) in list(&rule["when"]) {
            let value = match condition["key"].as_str() {
                Some("source.principal") => principal.as_str(),
                Some("source.namespace") => namespace,
                _ => continue,
            };
            let path = format!("{path}.when[{at}]");
            if !is_empty(&condition["values"]) && any_matches(&condition["values"], value) {
                found.push(positive(format!("{path}.values")));
            } else if !is_empty(&condition["notValues"])
                && !any_matches(&condition["notValues"], value)
            {
                found.push(negative(format!("{path}.notValues")));
            }
        }
    }
    (sources, found)
}

/// Whether a policy asks for what a validated token says.
pub(super) fn reads_token(policy: &AuthorizationPolicy) -> bool {
    policy.http_fields.iter().any(|field| {
        field.name.contains("equestPrincipals") || field.name.starts_with("request.auth")
    })
}

fn each_rule(raw: &Value, mut visit: impl FnMut(&str, &Value)) {
    for (index, rule) in list(&raw["spec"]["rules"]) {
        visit(&format!("spec.rules[{index}]"), rule);
    }
}

fn list(value: &Value) -> impl Iterator<Item = (usize, &Value)> {
    value.as_array().into_iter().flatten().enumerate()
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_none_or(Vec::is_empty)
}

/// Exact, `prefix*`, `*suffix` or `*`; the trust domain of a principal counts as any that the
/// mesh may use, so `*/ns/…` is covered by the suffix form.
fn any_matches(patterns: &Value, value: &str) -> bool {
    list(patterns).any(|(_, pattern)| {
        let Some(pattern) = pattern.as_str() else {
            return true;
        };
        if let Some(prefix) = pattern.strip_suffix('*') {
            match prefix.strip_prefix('*') {
                Some(middle) => value.contains(middle),
                None => value.starts_with(prefix),
            }
        } else if let Some(suffix) = pattern.strip_prefix('*') {
            value.ends_with(suffix)
        } else {
            pattern == value
        }
    })
}
