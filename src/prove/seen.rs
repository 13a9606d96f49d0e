//! What an enforcement point sees of a request, by the leg that leads into it.
//!
//! In: a leg. Out: [`Seen`]. Invariant: where the true value is not known (an address that only
//! the cluster knows), the answer names whose it is, so that nothing is claimed from it.

use std::net::IpAddr;

use castoff_authz::path::{
    HttpSeen, IpSeen, PortSeen, PrincipalSeen, Protocol as Chain, Seen, SniSeen,
};

use super::{Caller, Dial, Server, Transport};
use crate::mesh::{Mesh, Protocol, Service, Waypoint};

/// Where a leg ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Into<'a> {
    /// A waypoint; with the Service and port index when a Service's address was dialled.
    Waypoint {
        service: Option<(&'a Service, usize)>,
    },
    /// The server's sidecar.
    Sidecar { dial: Dial },
    /// The ztunnel of the server's node.
    Ztunnel,
}

/// One leg.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leg<'a> {
    pub(super) from_waypoint: Option<&'a Waypoint>,
    pub(super) into: Into<'a>,
    pub(super) transport: Transport,
    pub(super) chain: Chain,
}

impl Leg<'_> {
    pub(super) fn seen(&self, mesh: &Mesh, caller: &Caller, server: Server) -> Seen {
        let workload = mesh.workload(server.workload);
        let pod = || IpSeen::Of {
            owner: workload.name.to_string(),
            among: Vec::new(),
        };
        let destination_ip = match self.into {
            Into::Waypoint {
                service: Some((service, _)),
            } => {
                let addresses = service.addresses.iter();
                // One that cannot be read makes the whole list unknown.
                let parsed: Option<Vec<IpAddr>> = addresses.map(|one| one.parse().ok()).collect();
                let parsed = parsed.unwrap_or_default();
                match parsed.as_slice() {
                    [only] => IpSeen::Fixed(*only),
                    _ => IpSeen::Of {
                        owner: format!("Service {}", service.name),
                        among: parsed,
                    },
                }
            }
            _ => pod(),
        };
        let port = match self.into {
            Into::Waypoint {
                service: Some((service, port)),
            } => service.ports[port].port,
            _ => server.port,
        };
        Seen {
            principal: self.principal(mesh, caller),
            source_ip: self.source_ip(),
            remote_ip: self.remote_ip(),
            destination_ip,
            destination_port: PortSeen::Fixed(port),
            sni: self.sni(mesh),
            http: HttpSeen::AsSent,
            headers_removed: Vec::new(),
            headers_set: Vec::new(),
        }
    }

    fn principal(&self, mesh: &Mesh, caller: &Caller) -> PrincipalSeen {
        match (self.transport, self.from_waypoint) {
            (Transport::Plain, _) => PrincipalSeen::None,
            (_, Some(waypoint)) => {
                PrincipalSeen::Fixed(waypoint.principal(&mesh.settings.trust_domain))
            }
            (_, None) if caller.principal.is_none() => PrincipalSeen::None,
            (_, None) => PrincipalSeen::Callers,
        }
    }

    /// Over HBONE an Envoy sees its own internal client, which is no IP address; ztunnel sees the
    /// peer of the tunnel (istio pilot/pkg/networking/core/listener_waypoint.go; ztunnel
    /// src/proxy/inbound.rs).
    fn source_ip(&self) -> IpSeen {
        match (self.into, self.transport, self.from_waypoint) {
            (Into::Waypoint { .. } | Into::Sidecar { .. }, Transport::Hbone, _) => IpSeen::NotAnIp,
            (_, _, Some(waypoint)) => waypoint_address(waypoint),
            (_, _, None) => IpSeen::Callers,
        }
    }

    fn remote_ip(&self) -> IpSeen {
        match (self.from_waypoint, self.chain) {
            // A waypoint adds no X-Forwarded-For: without one from the caller the waypoint's own
            // address shows, with one the caller's claim. Which, is not known here.
            (Some(waypoint), _) => waypoint_address(waypoint),
            (None, Chain::Http) => IpSeen::Forwarded,
            (None, _) => IpSeen::Callers,
        }
    }

    fn sni(&self, mesh: &Mesh) -> SniSeen {
        match (self.into, self.transport) {
            (
                Into::Sidecar {
                    dial: Dial::Service { service, port },
                },
                Transport::MutualTls,
            ) => {
                let service = mesh.service(service);
                SniSeen::Fixed(format!(
                    "outbound_.{}_._.{}",
                    service.ports[port].port,
                    service.host()
                ))
            }
            (
                Into::Sidecar {
                    dial: Dial::ServiceEntry { entry, port },
                },
                Transport::MutualTls,
            ) => {
                let entry = &mesh.traffic.service_entries[entry];
                match entry.hosts.as_slice() {
                    [host] => {
                        SniSeen::Fixed(format!("outbound_.{}_._.{host}", entry.ports[port].0))
                    }
                    _ => SniSeen::AsSent,
                }
            }
            (Into::Sidecar { .. }, Transport::MutualTls) => SniSeen::AsSent,
            (Into::Sidecar { .. }, Transport::Plain) if self.chain == Chain::Tcp => SniSeen::AsSent,
            (
                Into::Waypoint {
                    service: Some((service, port)),
                },
                _,
            ) if service.ports[port].protocol == Protocol::Tls => SniSeen::AsSent,
            _ => SniSeen::None,
        }
    }
}

fn waypoint_address(waypoint: &Waypoint) -> IpSeen {
    IpSeen::Of {
        owner: waypoint.name.to_string(),
        among: Vec::new(),
    }
}
