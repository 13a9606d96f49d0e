//! Which Services gateways send to.
//!
//! In: VirtualServices with gateways, Gateway API routes of Gateways. Out: [`Routed`]. Invariant: where
//! gateways run and nothing shows what they route (an Ingress, a route that was not given), every
//! Service counts as routed.

use std::collections::BTreeSet;

use super::{Mesh, Role, ServiceId};

/// Services that gateways send to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routed {
    /// These, as routes show.
    Services(BTreeSet<ServiceId>),
    /// Not known: any may be.
    Any,
}

impl Routed {
    /// Whether gateways send to this Service, as far as is known.
    pub fn contains(&self, service: ServiceId) -> bool {
        match self {
            Self::Services(services) => services.contains(&service),
            Self::Any => true,
        }
    }
}

/// Works out what gateways route.
pub fn routed(mesh: &Mesh) -> Routed {
    let by_host: std::collections::BTreeMap<String, ServiceId> = mesh
        .services
        .iter()
        .enumerate()
        .map(|(index, service)| (service.host(), ServiceId(index)))
        .collect();
    let mut services = BTreeSet::new();
    for one in &mesh.traffic.virtual_services {
        if !one.gateways.is_empty() {
            let hosts = one.destinations.iter();
            services.extend(hosts.filter_map(|host| by_host.get(host.as_str())).copied());
        }
    }
    for route in &mesh.traffic.routes {
        if !route.parent_gateways.is_empty() {
            let backends = route.backends.iter();
            services.extend(
                backends
                    .filter_map(|name| mesh.service_named(name))
                    .map(|(id, _)| id),
            );
        }
    }
    let has_gateways = mesh
        .workloads
        .iter()
        .any(|workload| matches!(workload.role, Role::Gateway | Role::KubernetesGateway(_)));
    if services.is_empty() && has_gateways {
        Routed::Any
    } else {
        Routed::Services(services)
    }
}
