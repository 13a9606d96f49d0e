//! How a request gets from a caller to a server: its legs and the points where they end.
//!
//! In: a mesh, a caller, what it dials and which pods answer. Out: the enforcement points in
//! order, each with its policies and what it sees there. Invariant: a way that this file does not
//! know (a DestinationRule with TLS of its own, a Sidecar with ingress listeners …) is an opaque
//! point, so that nothing is claimed about it.

use std::sync::Arc;

use castoff_authz::path::{Point, PointKind, Protocol as Chain, Proxy};

use castoff_authz::policy::{Key, Policy};

use smol_str::SmolStr;

use super::attach::Unmodelled;
use super::pins::Leads;
use super::reading;
use super::seen::{self, Leg};
use super::{Attachments, Caller, CallerMode, Content, Dial, Server};
use crate::mesh::policy::MtlsMode;
use crate::mesh::traffic::ServiceEntry;
use crate::mesh::{
    DataPlaneMode, Distribution, Generation, Mesh, OwnerKind, Protocol, Service, ServiceId,
    Waypoint, Workload,
};
use crate::snapshot::ObjectName;

/// What carries a leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// Istio mutual TLS between proxies.
    MutualTls,
    /// HBONE: a CONNECT tunnel over mutual TLS, to port 15008.
    Hbone,
    /// Plaintext.
    Plain,
}

/// One enforcement point and the leg that leads into it.
#[derive(Debug, Clone)]
pub struct Hop {
    /// Transport of the leg into it.
    pub transport: Transport,
    /// Whether the point is a waypoint; its name is then the Gateway's.
    pub is_waypoint: bool,
    /// The point.
    pub point: Point,
}

/// Who sends a leg.
#[derive(Debug, Clone, Copy)]
enum Sender<'a> {
    Caller(CallerMode),
    Waypoint(&'a Waypoint),
}

/// Everything that one path is made from.
struct Way<'a> {
    mesh: &'a Mesh,
    attachments: &'a Attachments<'a>,
    caller: &'a Caller,
    dial: Dial,
    server: Server,
    content: Content,
}

/// The points between a caller and a server, in the order crossed; empty where nothing enforces.
pub fn hops(
    mesh: &Mesh,
    attachments: &Attachments<'_>,
    caller: &Caller,
    dial: Dial,
    server: Server,
    content: Content,
) -> Vec<Hop> {
    let way = Way {
        mesh,
        attachments,
        caller,
        dial,
        server,
        content,
    };
    if attachments.leads(caller.mode, dial, server, content) == Leads::Nowhere {
        return vec![way.no_pods()];
    }
    let mut hops = Vec::new();
    let sender = match way.waypoint() {
        Some(waypoint) => {
            let mut hop = way.waypoint_hop(waypoint);
            way.rewrite_by_caller(&mut hop, Sender::Caller(caller.mode));
            hops.push(hop);
            Sender::Waypoint(waypoint)
        }
        None => Sender::Caller(caller.mode),
    };
    if let Some(mut hop) = way.server_hop(sender) {
        way.rewrite_by_caller(&mut hop, sender);
        if let Some(before) = hops.first() {
            hop.point
                .seen
                .headers_set
                .extend(made_from_tokens(&before.point));
        }
        hops.push(hop);
    }
    hops
}

/// What a proxy writes itself, whatever the caller sent (istio pilot/pkg/networking/core/listener.go
/// `buildHTTPConnectionManager`, `forward_client_cert_details`; a waypoint removes it).
const CLIENT_CERTIFICATE: &str = "x-forwarded-client-cert";

/// Headers that a point passes on with values from tokens.
fn made_from_tokens(point: &Point) -> impl Iterator<Item = (String, String)> {
    let set = point.seen.headers_set.iter();
    set.filter(|(name, _)| name != CLIENT_CERTIFICATE).cloned()
}

/// Whether some policy looks at a header (lower case).
fn looks_at(policies: &[Arc<Policy>], header: &str) -> bool {
    let rules = policies.iter().flat_map(|policy| &policy.rules);
    let mut conditions = rules.flat_map(|rule| &rule.when);
    conditions.any(
        |one| matches!(&one.key, Key::RequestHeader(name) if name.eq_ignore_ascii_case(header)),
    )
}

impl Way<'_> {
    fn workload(&self) -> &Workload {
        self.mesh.workload(self.server.workload)
    }

    fn generation(&self) -> &Generation {
        &self.workload().generations[self.server.generation]
    }

    /// The Service dialled.
    fn service(&self) -> Option<(ServiceId, &Service, usize)> {
        match self.dial {
            Dial::Service { service, port } => Some((service, self.mesh.service(service), port)),
            Dial::ServiceEntry { .. } | Dial::Pod | Dial::PodByIdentity => None,
        }
    }

    /// The ServiceEntry dialled.
    fn service_entry(&self) -> Option<&ServiceEntry> {
        match self.dial {
            Dial::ServiceEntry { entry, .. } => Some(&self.mesh.traffic.service_entries[entry]),
            Dial::Service { .. } | Dial::Pod | Dial::PodByIdentity => None,
        }
    }

    /// Where a proxy is told to send to pods that are not there.
    fn no_pods(&self) -> Hop {
        let name = self
            .service()
            .map(|(_, service, _)| service.name.to_string());
        let reason = "it is sent to a subset of the Service without pods".to_owned();
        Hop {
            transport: Transport::Plain,
            is_waypoint: false,
            point: Point::new(PointKind::Stop { reason }, &name.unwrap_or_default()),
        }
    }

    /// Hosts by which it is dialled; none for a pod address.
    fn hosts(&self) -> Vec<SmolStr> {
        match (self.service(), self.service_entry()) {
            (Some((_, service, _)), _) => vec![service.host().into()],
            (None, Some(entry)) => entry.hosts.clone(),
            (None, None) => Vec::new(),
        }
    }

    /// A waypoint of a ServiceEntry's own stands before its pods, and castoff knows no policies there.
    fn waypoint_of_entry(&self) -> Option<Unmodelled> {
        let entry = self.service_entry()?;
        let passes = match self.caller.mode {
            CallerMode::Ambient => true,
            CallerMode::Sidecar => self.mesh.distribution == Distribution::Solo,
            CallerMode::Gateway => entry.labels.has("istio.io/ingress-use-waypoint", "true"),
            CallerMode::Plain => false,
        };
        let waypoint = entry.waypoint(self.mesh).filter(|_| passes)?;
        Some(Unmodelled::new(
            format!("waypoint {waypoint} of ServiceEntry {}", entry.name),
            &entry.raw,
        ))
    }

    /// The Service dialled, if it has an address of its own.
    fn virtual_service_address(&self) -> Option<(&Service, usize)> {
        self.service()
            .filter(|(_, service, _)| !service.headless)
            .map(|(_, service, port)| (service, port))
    }

    /// The waypoint that this caller's traffic goes through. Upstream sidecars never use one
    /// (istio pilot/pkg/xds/endpoints/endpoint_builder.go `findServiceWaypoint`; issue 51445).
    fn waypoint(&self) -> Option<&Waypoint> {
        let like_ztunnel = match self.caller.mode {
            CallerMode::Ambient => true,
            CallerMode::Sidecar => self.mesh.distribution == Distribution::Solo,
            CallerMode::Gateway => self
                .virtual_service_address()
                .is_some_and(|(service, _)| service.ingress_uses_waypoint),
            CallerMode::Plain => false,
        };
        if !like_ztunnel || self.service_entry().is_some() {
            return None;
        }
        let binding = match self.virtual_service_address() {
            Some((service, _)) => service.binding.waypoint(),
            None => self
                .mesh
                .workload_binding(self.server.workload, self.server.generation)
                .waypoint(),
        };
        binding.map(|id| self.mesh.waypoint(id))
    }

    /// Lets a point see what the proxy before it makes of the request: routes that rewrite it, and
    /// transports of their own.
    fn rewrite_by_caller(&self, hop: &mut Hop, sender: Sender<'_>) {
        let hosts = self.hosts();
        let rewrites = &self.attachments.rewrites;
        let routed_by_caller = matches!(sender, Sender::Caller(CallerMode::Gateway))
            || self.is_routed_by_sidecar(sender);
        let rewritten = match sender {
            Sender::Waypoint(waypoint) => self
                .service()
                .and_then(|(_, service, _)| rewrites.at_waypoint(service, waypoint)),
            Sender::Caller(_) if routed_by_caller => {
                hosts.iter().find_map(|host| rewrites.at_caller(host))
            }
            Sender::Caller(_) => None,
        };
        if let Some(rewritten) = rewritten {
            hop.point.seen.http = rewritten;
        }
        if routed_by_caller {
            let mut opaque = self.transport_by_settings(&hosts, hop.transport);
            opaque.extend(hosts.iter().find_map(|host| rewrites.own_tls(host)));
            let at = super::attach::AtPoint {
                opaque,
                ..Default::default()
            };
            if let Some(kind) = at.opaque_kind() {
                hop.point.kind = kind;
            }
        }
    }

    /// What decides, besides DestinationRules with TLS of their own, how a sidecar or gateway sends to hosts and is
    /// not modelled: without auto mTLS, and to what is outside the mesh, it encrypts only where a DestinationRule
    /// says so (istio pilot/pkg/networking/core/cluster_tls.go `buildUpstreamTLSSettings`); a proxy can be told to
    /// send no HBONE (istio pkg/model/proxy.go `DisableHBONESend`).
    fn transport_by_settings(&self, hosts: &[SmolStr], transport: Transport) -> Vec<Unmodelled> {
        const NO_HBONE: &str = "ISTIO_META_DISABLE_HBONE_SEND";
        let settings = &self.mesh.settings;
        let rules = |host: &SmolStr| self.attachments.rewrites.destinations(host);
        let rules = || hosts.iter().map(rules).collect::<Vec<_>>().join(" and ");
        let mut list = Vec::new();
        if !settings.auto_mtls && transport != Transport::Plain {
            list.push(Unmodelled {
                reason: "meshConfig.enableAutoMtls false".to_owned(),
                content: rules(),
            });
        }
        if let Some(entry) = self.service_entry().filter(|entry| !entry.internal) {
            let reason = format!("ServiceEntry {} is MESH_EXTERNAL", entry.name);
            list.push(Unmodelled {
                reason,
                content: format!("{} {}", entry.raw["spec"], rules()),
            });
        }
        if let Some(value) = settings.proxy_metadata.get(NO_HBONE)
            && transport == Transport::Hbone
        {
            list.push(Unmodelled {
                reason: format!("proxyMetadata {NO_HBONE}"),
                content: value.to_string(),
            });
        }
        list
    }

    /// A sidecar routes by itself, but for builds whose sidecars leave that to the waypoint.
    fn is_routed_by_sidecar(&self, sender: Sender<'_>) -> bool {
        matches!(sender, Sender::Caller(CallerMode::Sidecar)) && self.waypoint().is_none()
    }

    fn waypoint_hop(&self, waypoint: &Waypoint) -> Hop {
        let service = self.virtual_service_address();
        let at = self
            .attachments
            .at_waypoint(waypoint, service.map(|(service, _)| service));
        let chain = match service {
            Some((service, port)) => self.chain(service.ports[port].protocol),
            // Chains for pod addresses sniff, whatever the Services declare
            // (istio pilot/pkg/networking/core/listener_waypoint.go `buildWaypointInternal`).
            None => self.chain(Protocol::Unknown),
        };
        let leg = Leg {
            from_waypoint: None,
            into: seen::Into::Waypoint { service },
            transport: Transport::Hbone,
            chain,
        };
        let point = self.point(&waypoint.name, Proxy::Waypoint, chain, at, &leg, true);
        Hop {
            transport: Transport::Hbone,
            is_waypoint: true,
            point,
        }
    }

    fn server_hop(&self, sender: Sender<'_>) -> Option<Hop> {
        let generation = self.generation();
        let transport = self.transport(sender);
        let from_waypoint = match sender {
            Sender::Waypoint(waypoint) => Some(waypoint),
            Sender::Caller(_) => None,
        };
        let namespace = &self.workload().name.namespace;
        match generation.mode {
            DataPlaneMode::None => None,
            DataPlaneMode::Ambient => {
                let bypass = reading::past_ztunnel(self.workload());
                if bypass.is_some() && transport == Transport::Plain {
                    return None;
                }
                let mut at = {
                    let owned = self.workload().owner != OwnerKind::Pod;
                    self.attachments
                        .at_ztunnel(namespace, &generation.labels, owned)
                };
                at.policies.extend(
                    self.mesh
                        .ztunnel_mtls_policies(namespace, &generation.labels)
                        .into_iter()
                        .chain(reading::implicit_waypoint_policies(self.mesh, self.server))
                        .map(Arc::new),
                );
                at.opaque.extend(self.waypoint_of_entry());
                at.opaque.extend(bypass);
                let leg = Leg {
                    from_waypoint,
                    into: seen::Into::Ztunnel,
                    transport,
                    chain: Chain::Tcp,
                };
                let mut point = Point::new(PointKind::Ztunnel, &self.workload().name.to_string());
                let opaque = at.opaque_kind();
                point.policies = at.policies;
                point.seen = leg.seen(self.mesh, self.caller, self.server);
                if let Some(opaque) = opaque {
                    point.kind = opaque;
                }
                Some(Hop {
                    transport,
                    is_waypoint: false,
                    point,
                })
            }
            DataPlaneMode::Sidecar => {
                let mut at = self.attachments.at_proxy(
                    namespace,
                    &generation.labels,
                    &generation.revision,
                    None,
                );
                at.opaque.extend(self.ingress_listeners());
                at.opaque.extend(self.waypoint_of_entry());
                at.opaque
                    .extend(reading::past_sidecar(self.mesh, self.server));
                at.opaque.extend(reading::own_hbone(
                    self.mesh,
                    self.workload(),
                    transport == Transport::Hbone,
                ));
                let chain = self.chain(reading::inbound_protocol(self.mesh, self.server));
                let mode =
                    self.mesh
                        .mtls_at_sidecar(namespace, &generation.labels, self.server.port);
                let strict = transport == Transport::Hbone || mode == MtlsMode::Strict;
                let leg = Leg {
                    from_waypoint,
                    into: seen::Into::Sidecar { dial: self.dial },
                    transport,
                    chain,
                };
                let point = self.point(
                    &self.workload().name,
                    Proxy::Sidecar,
                    chain,
                    at,
                    &leg,
                    strict,
                );
                Some(Hop {
                    transport,
                    is_waypoint: false,
                    point,
                })
            }
        }
    }

    fn point(
        &self,
        name: &ObjectName,
        proxy: Proxy,
        protocol: Chain,
        at: super::attach::AtPoint,
        leg: &Leg<'_>,
        identity_required: bool,
    ) -> Point {
        let kind = at
            .opaque_kind()
            .unwrap_or(PointKind::Envoy { proxy, protocol });
        let mut point = Point::new(kind, &name.to_string());
        point.policies = at.policies;
        if protocol == Chain::Http {
            point.token_rules = at.token_rules;
        }
        point.identity_required = identity_required;
        point.seen = leg.seen(self.mesh, self.caller, self.server);
        if protocol == Chain::Http {
            point.seen.headers_set = at.headers_set;
            if looks_at(&point.policies, CLIENT_CERTIFICATE) {
                let set = (CLIENT_CERTIFICATE.to_owned(), format!("the {proxy}"));
                point.seen.headers_set.push(set);
            }
        }
        point
    }

    /// The chain that takes this content. Bytes on a chain that speaks HTTP are refused there.
    fn chain(&self, protocol: Protocol) -> Chain {
        match (protocol, self.content) {
            (Protocol::Http | Protocol::Http2, _) | (Protocol::Unknown, Content::Http) => {
                Chain::Http
            }
            (Protocol::Tcp | Protocol::Tls | Protocol::Udp, _)
            | (Protocol::Unknown, Content::Bytes) => Chain::Tcp,
        }
    }

    /// What carries the leg into the server's pods.
    fn transport(&self, sender: Sender<'_>) -> Transport {
        let generation = self.generation();
        let hbone_or_plain = if generation.accepts_hbone {
            Transport::Hbone
        } else {
            Transport::Plain
        };
        match sender {
            _ if generation.mode == DataPlaneMode::None => Transport::Plain,
            Sender::Caller(CallerMode::Plain) => Transport::Plain,
            // ztunnel and waypoints do not speak the sidecars' mutual TLS
            // (istio pilot/pkg/networking/core/cluster_waypoint.go; ztunnel src/proxy/outbound.rs).
            Sender::Waypoint(_) | Sender::Caller(CallerMode::Ambient) => hbone_or_plain,
            Sender::Caller(mode @ (CallerMode::Sidecar | CallerMode::Gateway)) => {
                self.envoy_transport(mode)
            }
        }
    }

    /// How a sidecar or a gateway sends.
    fn envoy_transport(&self, mode: CallerMode) -> Transport {
        let generation = self.generation();
        if self.dial == Dial::Pod {
            // The listener of a headless TCP port takes the pod's address; any other pod address
            // falls to PassthroughCluster, which has no transport socket
            // (istio pilot/pkg/networking/core/cluster_builder.go `buildDefaultPassthroughCluster`).
            return match self.headless_tcp_listener() {
                Some(service) if self.all_endpoints_have_sidecars(service) => Transport::MutualTls,
                _ => Transport::Plain,
            };
        }
        let headless = self
            .service()
            .map(|(_, service, _)| service)
            .filter(|service| service.headless);
        // One endpoint without sidecar takes mutual TLS from all pods of a headless Service
        // (istio pilot/pkg/model/push_context.go `BestEffortInferServiceMTLSMode`; issue 54921).
        let headless_and_mixed =
            headless.is_some_and(|service| !self.all_endpoints_have_sidecars(service));
        match generation.mode {
            DataPlaneMode::None => Transport::Plain,
            DataPlaneMode::Ambient if headless.is_some() && mode == CallerMode::Sidecar => {
                Transport::Plain
            }
            DataPlaneMode::Ambient if !reading::sends_hbone(self.mesh) => Transport::Plain,
            DataPlaneMode::Ambient => Transport::Hbone,
            DataPlaneMode::Sidecar if headless_and_mixed => Transport::Plain,
            DataPlaneMode::Sidecar => {
                let namespace = &self.workload().name.namespace;
                match self
                    .mesh
                    .mtls_at_sidecar(namespace, &generation.labels, self.server.port)
                {
                    MtlsMode::Disable => Transport::Plain,
                    _ if generation.accepts_hbone && reading::prefers_hbone(self.mesh) => {
                        Transport::Hbone
                    }
                    _ => Transport::MutualTls,
                }
            }
        }
    }

    fn all_endpoints_have_sidecars(&self, service: &Service) -> bool {
        service.backends.iter().all(|backend| {
            self.mesh.workload(backend.workload).generations[backend.generation].mode
                == DataPlaneMode::Sidecar
        })
    }

    /// The headless Service whose TCP port has a listener for this pod's address.
    fn headless_tcp_listener(&self) -> Option<&Service> {
        if self.caller.mode != CallerMode::Sidecar {
            return None;
        }
        self.mesh
            .services_of(self.server.workload)
            .map(|(_, service)| service)
            .find(|service| {
                service.headless
                    && service.backends.iter().any(|backend| {
                        backend.workload == self.server.workload
                            && backend.generation == self.server.generation
                            && service.ports.iter().zip(&backend.target_ports).any(
                                |(port, target)| {
                                    *target == Some(self.server.port)
                                        && matches!(port.protocol, Protocol::Tcp | Protocol::Tls)
                                },
                            )
                    })
            })
    }

    fn ingress_listeners(&self) -> Option<Unmodelled> {
        reading::ingress_listeners(
            self.mesh,
            &self.workload().name.namespace,
            &self.generation().labels,
        )
    }
}
