//! Calls that a workload's own sidecar never sees, or whose Service it does not know: they leave the pod in
//! plaintext, without identity.
//!
//! In: what is redirected to a workload's sidecar. Out: [`Past`], and by which way a connection to a port and an
//! address leaves. Invariant: the rules are asked in the order of istio tools/istio-iptables/pkg/capture/run.go,
//! `Run`. They stand in the pod's own network, so that the port is the one dialled, a Service's and not its
//! pods'. What hangs on an address that is not known is never guessed.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use castoff_authz::ip::IpBlock;
use smol_str::SmolStr;

use super::addresses::DialledAddress;
use super::side::Side;
use super::sight::{Knows, Scopes, Sight};
use super::{Dial, Server};
use crate::mesh::{AsProxy, DataPlaneMode, Mesh, Role, ServiceId, WorkloadId};

/// What goes past a sidecar; by default nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Past(Option<Arc<Rules>>);

#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Rules {
    /// Who says so.
    by: Vec<String>,
    /// Whether nothing is redirected, or what is cannot be read: applications may still call their sidecar by
    /// its own address.
    unknown: bool,
    /// Whether the application runs as the sidecar's own user, whose calls are never redirected.
    everything: bool,
    excluded_ports: BTreeSet<u16>,
    included_ports: BTreeSet<u16>,
    excluded_ranges: Vec<IpBlock>,
    /// `None`: all.
    included_ranges: Option<Vec<IpBlock>>,
    /// Which Services it knows; `None`: all.
    sight: Option<Sight>,
}

/// By which way a connection leaves a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaves {
    /// As the workload's mode says.
    AsMode,
    /// Past the sidecar, or through it as it came.
    Past,
    /// Not at all: the sidecar refuses what it does not know.
    Blocked,
    /// One of the two.
    Unknown,
}

/// What is looked up for every workload.
pub struct Pasts<'m> {
    mesh: &'m Mesh,
    scopes: Scopes<'m>,
}

impl<'m> Pasts<'m> {
    /// Indexes a mesh once.
    pub fn of(mesh: &'m Mesh) -> Self {
        Self {
            mesh,
            scopes: Scopes::of(mesh),
        }
    }

    /// What goes past the sidecars of a generation of a workload's pods.
    pub fn past(&self, (workload, generation): (WorkloadId, usize)) -> Past {
        let mesh = self.mesh;
        let workload = mesh.workload(workload);
        let pods = &workload.generations[generation];
        if pods.mode != DataPlaneMode::Sidecar || workload.role != Role::Application {
            return Past::default();
        }
        let mut rules = Rules {
            sight: self.scopes.sight(&workload.name.namespace, &pods.labels),
            ..Rules::default()
        };
        let mode = mesh.interception_mode(workload);
        if let Some(mode) = mode.filter(|mode| mode.value == "NONE") {
            rules.by.push(format!("{} {}", mode.by, mode.value));
            rules.unknown = true;
        }
        if let Some(interfaces) = mesh.excluded_interfaces(workload) {
            rules
                .by
                .push(format!("{} \"{}\"", interfaces.by, interfaces.value));
            rules.unknown = true;
        }
        // Its library sends as istiod tells it; what else the application sends is redirected to nobody
        // (istio.io, "Proxyless gRPC").
        const TEMPLATES: &str = "inject.istio.io/templates";
        let templates = workload.template_annotations.get(TEMPLATES);
        if let Some(grpc) = templates.filter(|one| one.contains("grpc")) {
            rules.by.push(format!("annotation {TEMPLATES} \"{grpc}\""));
            rules.unknown = true;
        }
        // Whether it sends to ambient pods by tunnel (istio pilot/pkg/model/context.go `DisableHBONESend`).
        const CONFIG: &str = "proxy.istio.io/config";
        let config = workload.template_annotations.get(CONFIG);
        if let Some(config) = config.filter(|one| one.contains("HBONE_SEND")) {
            rules.by.push(format!("annotation {CONFIG} \"{config}\""));
            rules.unknown = true;
        }
        match workload.as_proxy {
            AsProxy::None => {}
            AsProxy::Some => {
                let by = "containers that run as user or group 1337, the sidecar's own";
                rules.by.push(by.to_owned());
                rules.unknown = true;
            }
            AsProxy::All => {
                let by = "the application runs as user or group 1337, the sidecar's own";
                rules.by.push(by.to_owned());
                rules.everything = true;
            }
        }
        let mut read = |name: &str| -> Option<Vec<String>> {
            let found = mesh.redirection(workload, generation, name)?;
            let includes_all = name == "includeOutboundIPRanges" && found.value == "*";
            let says_nothing = found.value.is_empty() && name != "includeOutboundIPRanges";
            if includes_all || says_nothing {
                return None;
            }
            rules.by.push(format!("{} \"{}\"", found.by, found.value));
            let items = found.value.split(',').map(|one| one.trim().to_owned());
            Some(items.filter(|one| !one.is_empty()).collect())
        };
        let [
            excluded_ports,
            included_ports,
            excluded_ranges,
            included_ranges,
        ] = [
            "excludeOutboundPorts",
            "includeOutboundPorts",
            "excludeOutboundIPRanges",
            "includeOutboundIPRanges",
        ]
        .map(&mut read);
        for (items, ports) in [
            (excluded_ports, &mut rules.excluded_ports),
            (included_ports, &mut rules.included_ports),
        ] {
            for item in items.into_iter().flatten() {
                match item.parse() {
                    Ok(port) => _ = ports.insert(port),
                    Err(_) => rules.unknown = true,
                }
            }
        }
        let mut ranges = |items: Vec<String>| -> Vec<IpBlock> {
            let mut blocks = Vec::new();
            for item in items {
                match IpBlock::parse(&item) {
                    Some(block) if is_of_nobody(block) => {}
                    Some(block) => blocks.push(block),
                    None => rules.unknown = true,
                }
            }
            blocks
        };
        rules.excluded_ranges = excluded_ranges.map(&mut ranges).unwrap_or_default();
        rules.included_ranges = included_ranges.map(&mut ranges);
        let takes_all = !rules.unknown
            && !rules.everything
            && rules.excluded_ports.is_empty()
            && rules.excluded_ranges.is_empty()
            && rules.included_ranges.is_none()
            && rules.sight.is_none();
        Past((!takes_all).then(|| Arc::new(rules)))
    }
}

impl Past {
    /// Who takes calls past the sidecar, in words.
    pub fn by_redirection(&self) -> Option<String> {
        let by = &self.0.as_ref()?.by;
        (!by.is_empty()).then(|| by.join(", "))
    }

    /// The same, and who hides Services from it.
    pub(super) fn by(&self) -> Option<String> {
        let sight = self.0.as_ref()?.sight.as_ref().map(Sight::by);
        let by: Vec<String> = self.by_redirection().into_iter().chain(sight).collect();
        (!by.is_empty()).then(|| by.join(", "))
    }

    /// The same where the sidecar knew every Service; `None` where it does.
    pub(super) fn in_sight(&self) -> Option<Self> {
        let rules = self.0.as_ref()?;
        rules.sight.as_ref()?;
        Some(Self(Some(Arc::new(Rules {
            sight: None,
            by: rules.by.clone(),
            unknown: rules.unknown,
            everything: rules.everything,
            excluded_ports: rules.excluded_ports.clone(),
            included_ports: rules.included_ports.clone(),
            excluded_ranges: rules.excluded_ranges.clone(),
            included_ranges: rules.included_ranges.clone(),
        }))))
    }

    /// Whether the sidecar refuses what it does not know.
    pub(super) fn may_block(&self) -> bool {
        let sight = self.0.as_ref().and_then(|rules| rules.sight.as_ref());
        sight.is_some_and(|sight| sight.blocks)
    }

    /// Whether the sidecar reads routes of a namespace for these hosts; `None`: not known.
    pub(super) fn reads(&self, namespace: &str, hosts: &[SmolStr]) -> Option<bool> {
        let sight = self.0.as_ref().and_then(|rules| rules.sight.as_ref());
        match sight.map_or(Knows::Yes, |sight| sight.of_routes(namespace, hosts)) {
            Knows::Yes => Some(true),
            Knows::No => Some(false),
            Knows::Unclear => None,
        }
    }

    /// What becomes of a call that is redirected to the sidecar.
    fn known(&self, knows: impl FnOnce(&Sight) -> Knows) -> Leaves {
        let Some(sight) = self.0.as_ref().and_then(|rules| rules.sight.as_ref()) else {
            return Leaves::AsMode;
        };
        match knows(sight) {
            Knows::Yes => Leaves::AsMode,
            Knows::Unclear => Leaves::Unknown,
            Knows::No if sight.blocks => Leaves::Blocked,
            Knows::No => Leaves::Past,
        }
    }

    /// By which way a connection leaves to a port, at one of these addresses; none: not known.
    fn leaves(&self, port: u16, addresses: &[IpAddr]) -> Leaves {
        let Some(rules) = &self.0 else {
            return Leaves::AsMode;
        };
        if rules.unknown {
            return Leaves::Unknown;
        }
        if rules.everything || rules.excluded_ports.contains(&port) {
            return Leaves::Past;
        }
        let contains = |blocks: &[IpBlock], address: IpAddr| {
            blocks.iter().any(|block| block.contains(address))
        };
        let by_range = |address: Option<IpAddr>| match &rules.included_ranges {
            None => Leaves::AsMode,
            Some(blocks) if blocks.is_empty() => Leaves::Past,
            Some(blocks) => match address {
                None => Leaves::Unknown,
                Some(address) if contains(blocks, address) => Leaves::AsMode,
                Some(_) => Leaves::Past,
            },
        };
        let included = rules.included_ports.contains(&port);
        let by_address = |address: IpAddr| {
            if contains(&rules.excluded_ranges, address) {
                Leaves::Past
            } else if included {
                Leaves::AsMode
            } else {
                by_range(Some(address))
            }
        };
        let mut ways = addresses.iter().map(|address| by_address(*address));
        match ways.next() {
            None if !rules.excluded_ranges.is_empty() => Leaves::Unknown,
            None if included => Leaves::AsMode,
            None => by_range(None),
            Some(first) if ways.all(|way| way == first) => first,
            Some(_) => Leaves::Unknown,
        }
    }
}

/// Whether no Service and no pod has an address of a range: loopback, link-local (metadata of clouds), multicast.
fn is_of_nobody(block: IpBlock) -> bool {
    let families = [
        "127.0.0.0/8",
        "169.254.0.0/16",
        "224.0.0.0/4",
        "::1",
        "fe80::/10",
        "ff00::/8",
    ];
    let mut families = families.into_iter().filter_map(IpBlock::parse);
    families.any(|family| family.contains(block.first()) && family.contains(block.last()))
}

impl Side<'_> {
    /// By which way a connection of a caller with a sidecar leaves.
    pub(super) fn leaves(&self, past: &Past, dialled: &DialledAddress, server: Server) -> Leaves {
        if past.0.is_none() {
            return Leaves::AsMode;
        }
        let dial = match dialled.front {
            Some(front) => Dial::Service {
                service: front.service,
                port: front.port,
            },
            None => dialled.dial,
        };
        match dial {
            Dial::Service { service, port } => {
                let dialled = self.mesh.service(service);
                let port = dialled.ports[port].port;
                match past.leaves(port, &self.service_addresses(service, server)) {
                    Leaves::AsMode => past.known(|one| one.of_service(self.mesh, dialled, port)),
                    other => other,
                }
            }
            Dial::ServiceEntry { entry, port } => {
                let entry = &self.mesh.traffic.service_entries[entry];
                let port = entry.ports[port].0;
                // Where the host leads without the sidecar, only its own name server knows.
                match past.leaves(port, &[]) {
                    Leaves::AsMode => past.known(|one| one.of_entry(self.mesh, entry, port)),
                    _ => Leaves::Unknown,
                }
            }
            Dial::Pod => match past.leaves(server.port, &self.pod_addresses(server)) {
                Leaves::AsMode if past.may_block() && !self.is_listed(server) => Leaves::Blocked,
                other => other,
            },
            Dial::PodByIdentity => Leaves::AsMode,
        }
    }

    /// The same for each address; none where all leave as the mode says.
    pub(super) fn all_leave(
        &self,
        past: &Past,
        addresses: &[DialledAddress],
        server: Server,
    ) -> Vec<Leaves> {
        if past.0.is_none() {
            return Vec::new();
        }
        let leaves = addresses.iter();
        let leaves: Vec<Leaves> = leaves.map(|one| self.leaves(past, one, server)).collect();
        if leaves.iter().all(|one| *one == Leaves::AsMode) {
            return Vec::new();
        }
        leaves
    }

    /// Whether sidecars know pods' own addresses: a headless Service leads to this port of theirs.
    fn is_listed(&self, server: Server) -> bool {
        let mut services = self.mesh.services_of(server.workload);
        services.any(|(_, service)| {
            let mut backends = service.backends.iter();
            service.headless
                && backends.any(|one| {
                    one.workload == server.workload && one.target_ports.contains(&Some(server.port))
                })
        })
    }

    fn service_addresses(&self, service: ServiceId, server: Server) -> Vec<IpAddr> {
        let service = self.mesh.service(service);
        if service.headless {
            return self.pod_addresses(server);
        }
        // One that cannot be read makes the whole list unknown.
        let addresses = service.addresses.iter().map(|one| one.parse().ok());
        addresses.collect::<Option<_>>().unwrap_or_default()
    }

    fn pod_addresses(&self, server: Server) -> Vec<IpAddr> {
        let workload = self.mesh.workload(server.workload);
        let pods = workload.generations[server.generation].pods.iter();
        pods.flat_map(|pod| pod.addresses.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn past(ports: [&[u16]; 2], excluded: &[&str], included: Option<&[&str]>) -> Past {
        let blocks = |list: &[&str]| -> Vec<IpBlock> {
            list.iter().filter_map(|one| IpBlock::parse(one)).collect()
        };
        let [excluded_ports, included_ports] = ports.map(|list| list.iter().copied().collect());
        Past(Some(Arc::new(Rules {
            excluded_ports,
            included_ports,
            excluded_ranges: blocks(excluded),
            included_ranges: included.map(blocks),
            ..Rules::default()
        })))
    }

    /// istio tools/istio-iptables/pkg/capture/run.go, `Run`: excluded ports, excluded ranges, included ports,
    /// included ranges; what none takes is not redirected.
    #[test]
    fn the_first_rule_that_fits_decides() {
        use Leaves::{AsMode, Past as Passes, Unknown};
        let service = ["10.96.0.9".parse().expect("an address")];
        let other = ["10.97.0.9".parse().expect("an address")];
        let both = [service[0], other[0]];
        let range: &[&str] = &["10.96.0.0/16"];
        for (rules, port, addresses, expected) in [
            (past([&[80], &[80]], &[], None), 80, &service[..], Passes),
            (past([&[80], &[]], &[], None), 8080, &service, AsMode),
            (past([&[], &[80]], range, None), 80, &service, Passes),
            (past([&[], &[]], range, None), 80, &other, AsMode),
            (past([&[], &[]], range, None), 80, &both, Unknown),
            (past([&[], &[80]], range, None), 80, &[], Unknown),
            (past([&[], &[80]], &[], Some(range)), 80, &other, AsMode),
            (past([&[], &[80]], &[], Some(range)), 81, &other, Passes),
            (past([&[], &[]], &[], Some(range)), 80, &service, AsMode),
            (past([&[], &[]], &[], Some(range)), 80, &[], Unknown),
            (past([&[], &[]], &[], Some(&[])), 80, &[], Passes),
            (past([&[], &[80]], &[], Some(&[])), 80, &[], AsMode),
            (Past::default(), 80, &service, AsMode),
        ] {
            assert_eq!(rules.leaves(port, addresses), expected, "{rules:?} {port}");
        }
    }

    #[test]
    fn ranges_that_no_pod_has_an_address_of_take_nothing_past() {
        let is = |text: &str| IpBlock::parse(text).is_some_and(is_of_nobody);
        assert!(is("169.254.169.254/32") && is("127.0.0.1/24") && is("169.254.0.0/16"));
        assert!(!is("10.0.0.0/8") && !is("0.0.0.0/0") && !is("168.0.0.0/7"));
    }
}
