//! Fields and neighbours that make a policy mean something else at a waypoint.
//!
//! In: an AuthorizationPolicy, a Service, a waypoint. Out: traps with field paths. Facts: what a
//! waypoint sees is in istio pilot/pkg/xds/filters/filters.go (`ConnectAuthorityFilter`) and
//! pilot/pkg/networking/core/listener_waypoint.go.

use std::collections::BTreeMap;

use serde_json::Value;
use smol_str::SmolStr;

use super::Trap;
use crate::mesh::{AuthorizationPolicy, Mesh, Service};

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
                if list(&entry["source"][field]).next().is_some() {
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
