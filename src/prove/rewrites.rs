//! Routes that change a request, or its transport, on the way: what later points see of it is not
//! what the caller sent.
//!
//! In: VirtualServices, HTTPRoutes and DestinationRules of a mesh. Out: by host, who rewrites at a
//! caller's proxy and who at a waypoint. Invariant: a rewrite is named, so that two paths behind the
//! same one compare equal and any other comparison stays undecided.

use std::collections::BTreeMap;

use castoff_authz::path::HttpSeen;
use serde_json::Value;
use smol_str::SmolStr;

use super::attach::Unmodelled;
use crate::mesh::{Mesh, Service, Waypoint};
use crate::snapshot::ObjectName;

/// An object that acts on requests to a host.
#[derive(Debug, Clone)]
struct Rule {
    object: Unmodelled,
    namespace: SmolStr,
}

/// Rewrites and TLS settings by full host.
#[derive(Debug, Default)]
pub(super) struct Rewrites {
    by_host: BTreeMap<SmolStr, Vec<Rule>>,
    /// Wildcard hosts, as the suffix after `*`.
    by_suffix: Vec<(SmolStr, Rule)>,
    /// All DestinationRules by full host, and those for wildcards, where some say how callers send; else none.
    destination_rules: BTreeMap<SmolStr, Vec<Destination>>,
    wide_destination_rules: Vec<Destination>,
}

/// A DestinationRule for a host, or a wildcard.
#[derive(Debug)]
struct Destination {
    host: SmolStr,
    /// `DestinationRule shop/orders sets tls.mode SIMPLE`, where it turns Istio's mutual TLS off.
    own_tls: Option<String>,
    content: String,
}

impl Rewrites {
    pub(super) fn of(mesh: &Mesh) -> Self {
        let mut rewrites = Self::default();
        for service in mesh
            .traffic
            .virtual_services
            .iter()
            .filter(|one| one.rewrites)
        {
            let rule = Rule {
                object: Unmodelled::new(
                    format!("VirtualService {}", service.name),
                    &service.merged,
                ),
                namespace: service.name.namespace.clone(),
            };
            for host in &service.full_hosts {
                match host.strip_prefix('*') {
                    Some(suffix) => rewrites.by_suffix.push((suffix.into(), rule.clone())),
                    None => rewrites
                        .by_host
                        .entry(host.clone())
                        .or_default()
                        .push(rule.clone()),
                }
            }
        }
        for route in mesh
            .traffic
            .routes
            .iter()
            .filter(|route| has_request_filter(&route.raw))
        {
            let rule = Rule {
                object: Unmodelled::new(
                    format!("{} {}", route.kind.row().name, route.name),
                    &route.raw,
                ),
                namespace: route.name.namespace.clone(),
            };
            for parent in &route.parent_services {
                rewrites
                    .by_host
                    .entry(host_of(parent))
                    .or_default()
                    .push(rule.clone());
            }
        }
        let turns_off = |(mode, _): &(SmolStr, SmolStr)| mode != "ISTIO_MUTUAL";
        let rules = mesh.traffic.destination_rules.iter();
        let mut entries = mesh.traffic.service_entries.iter();
        let concerned = !mesh.settings.auto_mtls
            || entries.any(|one| !one.internal && one.workload_selector.is_some())
            || rules.clone().any(|one| one.tls_modes.iter().any(turns_off));
        for destination in rules.filter(|_| concerned) {
            let mut modes = destination.tls_modes.iter();
            let own = modes.find(|one| turns_off(one));
            let name = &destination.name;
            let host = destination.full_host.clone();
            let rule = Destination {
                host: host.clone(),
                own_tls: own
                    .map(|(mode, _)| format!("DestinationRule {name} sets tls.mode {mode}")),
                content: format!("{name} {}", destination.raw["spec"]),
            };
            if host.starts_with('*') {
                rewrites.wide_destination_rules.push(rule);
            } else {
                rewrites
                    .destination_rules
                    .entry(host)
                    .or_default()
                    .push(rule);
            }
        }
        rewrites
    }

    /// What the caller's own proxy rewrites on the way to a host.
    pub(super) fn at_caller(&self, host: &str) -> Option<HttpSeen> {
        self.seen(host, |_| true)
    }

    /// What the waypoint rewrites: only objects of the Service's or the waypoint's namespace count
    /// (istio pilot/pkg/networking/core/listener_waypoint.go `getVirtualServiceForWaypoint`).
    pub(super) fn at_waypoint(&self, service: &Service, waypoint: &Waypoint) -> Option<HttpSeen> {
        self.seen(&service.host(), |rule| {
            rule.namespace == service.name.namespace || rule.namespace == waypoint.name.namespace
        })
    }

    /// DestinationRules that change the transport to a host at a caller's proxy, by wildcard too. Which one a
    /// proxy follows hangs on namespaces and on the more specific host (istio
    /// pilot/pkg/model/push_context.go `destinationRule`): all of them are content.
    pub(super) fn own_tls(&self, host: &str) -> Option<Unmodelled> {
        let rules = self.rules_for(host);
        let reasons: Vec<&str> = rules.filter_map(|one| one.own_tls.as_deref()).collect();
        (!reasons.is_empty()).then(|| Unmodelled {
            reason: reasons.join(" and "),
            content: self.destinations(host),
        })
    }

    /// What all DestinationRules for a host say.
    pub(super) fn destinations(&self, host: &str) -> String {
        let contents: Vec<&str> = self
            .rules_for(host)
            .map(|one| one.content.as_str())
            .collect();
        contents.join(" and ")
    }

    fn rules_for(&self, host: &str) -> impl Iterator<Item = &Destination> {
        let wide = self.wide_destination_rules.iter();
        let exact = self.destination_rules.get(host).into_iter().flatten();
        exact.chain(wide.filter(move |one| host.ends_with(&one.host[1..])))
    }

    fn seen(&self, host: &str, counts: impl Fn(&Rule) -> bool) -> Option<HttpSeen> {
        if self.by_host.is_empty() && self.by_suffix.is_empty() {
            return None;
        }
        let exact = self.by_host.get(host).into_iter().flatten();
        let wide = self
            .by_suffix
            .iter()
            .filter(|(suffix, _)| host.ends_with(suffix.as_str()))
            .map(|(_, rule)| rule);
        let mut rules: Vec<(&str, &str)> = exact
            .chain(wide)
            .filter(|rule| counts(rule))
            .map(|rule| (rule.object.reason.as_str(), rule.object.content.as_str()))
            .collect();
        rules.sort_unstable();
        rules.dedup();
        let (names, contents): (Vec<&str>, Vec<&str>) = rules.into_iter().unzip();
        (!names.is_empty()).then(|| HttpSeen::Rewritten {
            by: names.join(" and "),
            content: contents.join(" and ").into(),
        })
    }
}

fn host_of(service: &ObjectName) -> SmolStr {
    format!("{}.{}.svc.cluster.local", service.name, service.namespace).into()
}

/// Whether a route changes path, host or headers of requests.
fn has_request_filter(route: &Value) -> bool {
    let rules = route.pointer("/spec/rules").and_then(Value::as_array);
    rules.into_iter().flatten().any(|rule| {
        let backends = rule["backendRefs"].as_array().into_iter().flatten();
        std::iter::once(rule).chain(backends).any(|holder| {
            holder["filters"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|filter| {
                    matches!(
                        filter["type"].as_str(),
                        Some("URLRewrite" | "RequestHeaderModifier" | "ExtensionRef")
                    )
                })
        })
    })
}
