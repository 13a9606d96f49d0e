//! Reasons for a waypoint that routing objects give.
//!
//! In: VirtualServices, DestinationRules and routes by host. Out: reasons for a Service. A
//! waypoint uses VirtualServices of the Service's namespace, and DestinationRules of it or of the
//! root namespace (istio pilot/pkg/networking/core/listener_waypoint.go
//! `getVirtualServiceForWaypoint`, pilot/pkg/model/push_context.go `destinationRule`); what stands
//! elsewhere is no reason for one, because it would not help.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::Reason;
use super::policies::reference;
use crate::mesh::traffic::{DestinationRule, Route, VirtualService};
use crate::mesh::{Mesh, Service};
use crate::snapshot::{Kind, ObjectName};

/// Routing objects by the host or Service that they are for.
pub(super) struct ByHost<'a> {
    virtual_services: BTreeMap<&'a str, Vec<&'a VirtualService>>,
    wildcard_virtual_services: Vec<(&'a str, &'a VirtualService)>,
    destination_rules: BTreeMap<&'a str, Vec<&'a DestinationRule>>,
    wildcard_destination_rules: Vec<&'a DestinationRule>,
    routes: BTreeMap<&'a ObjectName, Vec<&'a Route>>,
    root: SmolStr,
}

impl<'a> ByHost<'a> {
    pub(super) fn new(mesh: &'a Mesh) -> Self {
        let mut index = Self {
            virtual_services: BTreeMap::new(),
            wildcard_virtual_services: Vec::new(),
            destination_rules: BTreeMap::new(),
            wildcard_destination_rules: Vec::new(),
            routes: BTreeMap::new(),
            root: mesh.settings.root_namespace.clone(),
        };
        for one in mesh
            .traffic
            .virtual_services
            .iter()
            .filter(|one| one.on_mesh)
        {
            for host in &one.full_hosts {
                if host.contains('*') {
                    index.wildcard_virtual_services.push((host, one));
                } else {
                    index.virtual_services.entry(host).or_default().push(one);
                }
            }
        }
        for one in &mesh.traffic.destination_rules {
            if one.full_host.contains('*') {
                index.wildcard_destination_rules.push(one);
            } else {
                index
                    .destination_rules
                    .entry(&one.full_host)
                    .or_default()
                    .push(one);
            }
        }
        for route in &mesh.traffic.routes {
            for parent in &route.parent_services {
                index.routes.entry(parent).or_default().push(route);
            }
        }
        index
    }
}

/// Reasons for a Service.
pub(super) fn reasons(index: &ByHost<'_>, service: &Service) -> Vec<Reason> {
    let host = service.host();
    let own = service.name.namespace.as_str();
    let mut found = Vec::new();
    let exact = index.virtual_services.get(host.as_str());
    let wild = index
        .wildcard_virtual_services
        .iter()
        .filter(|(pattern, _)| matches_host(pattern, &host))
        .map(|(_, one)| one);
    for one in exact.into_iter().flatten().chain(wild) {
        if one.name.namespace == own {
            found.push(Reason {
                object: Some(reference(Kind::VirtualService, &one.name, &one.origin)),
                field: None,
                why: String::new(),
            });
        }
    }
    let exact = index.destination_rules.get(host.as_str());
    let wild = index
        .wildcard_destination_rules
        .iter()
        .filter(|one| matches_host(&one.full_host, &host));
    for one in exact.into_iter().flatten().chain(wild) {
        let near = one.name.namespace == own || one.name.namespace == index.root;
        let features = proxy_features(one);
        if near && !one.has_workload_selector && !features.is_empty() {
            found.push(Reason {
                object: Some(reference(Kind::DestinationRule, &one.name, &one.origin)),
                field: Some("spec.trafficPolicy".to_owned()),
                why: features.join(", "),
            });
        }
    }
    for route in index.routes.get(&service.name).into_iter().flatten() {
        // Routes of a consumer's namespace are for its callers alone; no waypoint reads them.
        if route.name.namespace == own {
            found.push(Reason {
                object: Some(reference(route.kind, &route.name, &route.origin)),
                field: None,
                why: String::new(),
            });
        }
    }
    if service.ingress_uses_waypoint {
        found.push(Reason {
            object: Some(reference(Kind::Service, &service.name, &service.origin)),
            field: Some("metadata.labels".to_owned()),
            why: "istio.io/ingress-use-waypoint".to_owned(),
        });
    }
    found
}

/// What a DestinationRule asks for that ztunnel does not do. TLS between workloads of the mesh is
/// ztunnel's own.
pub(crate) fn proxy_features(rule: &DestinationRule) -> Vec<&str> {
    let own_tls = rule
        .tls_modes
        .iter()
        .all(|(mode, _)| matches!(mode.as_str(), "ISTIO_MUTUAL" | "DISABLE"));
    rule.proxy_features
        .iter()
        .map(SmolStr::as_str)
        .filter(|feature| *feature != "tls" || !own_tls)
        .collect()
}

/// Whether a host with a leading `*` covers a name.
pub(super) fn matches_host(pattern: &str, host: &str) -> bool {
    pattern
        .strip_prefix('*')
        .is_some_and(|tail| host.ends_with(tail))
}
