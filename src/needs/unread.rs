//! Routing objects that sidecars honour and that nothing in ambient mode reads.
//!
//! In: a [`Mesh`]. Out: [`Unread`], one an object, with each host that it loses and why. Invariant:
//! a host counts only where a sidecar applies the object to it today: a Service of the mesh, or a host
//! outside the cluster. A waypoint reads VirtualServices of its own and of the Service's namespace,
//! DestinationRules of these and of the root namespace, routes of the Service's namespace (istio
//! pilot/pkg/networking/core/listener_waypoint.go `getVirtualServiceForWaypoint`,
//! pilot/pkg/model/push_context.go `destinationRule`).

use std::collections::{BTreeMap, BTreeSet};

use smol_str::SmolStr;

use super::policies::reference;
use super::routing::matches_host;
use super::{is_mesh_service, placement};
use crate::mesh::traffic::ServiceEntry;
use crate::mesh::{Mesh, ObjectReference, Service};
use crate::snapshot::{Kind, ObjectName};

/// Why nothing reads a routing object for a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Because {
    /// It stands in neither the Service's namespace nor its waypoint's.
    Elsewhere(ObjectName),
    /// The host's ServiceEntry has no waypoint.
    NoWaypoint(ObjectName),
    /// The ServiceEntry has a waypoint, but the object stands in neither namespace.
    ElsewhereThanEntry(ObjectName),
    /// The host is neither a Service nor in a ServiceEntry.
    Unknown,
}

/// One object with what it loses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// VirtualService, DestinationRule or route.
    pub object: ObjectReference,
    /// Hosts with the reason, sorted.
    pub hosts: Vec<(SmolStr, Because)>,
    /// TLS that a DestinationRule originates for hosts outside the mesh: field path and mode.
    pub originates_tls: Option<(SmolStr, SmolStr)>,
    /// Hosts of the cluster, such as an egress gateway's, that a VirtualService leads such calls to.
    pub led_through: Vec<SmolStr>,
}

/// All such objects, by kind and name.
pub fn unread(mesh: &Mesh) -> Vec<Unread> {
    let index = Index::of(mesh);
    let mut found = Vec::new();
    for one in &mesh.traffic.virtual_services {
        if !one.on_mesh {
            continue;
        }
        let hosts = index.lost(&one.full_hosts, &one.name.namespace, false);
        if hosts.is_empty() {
            continue;
        }
        let outside = hosts.iter().any(|(_, because)| because.is_outside());
        found.push(Unread {
            object: reference(Kind::VirtualService, &one.name, &one.origin),
            hosts,
            originates_tls: None,
            led_through: one
                .destinations
                .iter()
                .filter(|host| outside && host.ends_with(CLUSTER))
                .cloned()
                .collect(),
        });
    }
    for one in &mesh.traffic.destination_rules {
        let hosts = index.lost(
            std::slice::from_ref(&one.full_host),
            &one.name.namespace,
            true,
        );
        if hosts.is_empty() || (one.proxy_features.is_empty() && one.subsets.is_empty()) {
            continue;
        }
        let outside = hosts.iter().any(|(_, because)| because.is_outside());
        found.push(Unread {
            object: reference(Kind::DestinationRule, &one.name, &one.origin),
            hosts,
            originates_tls: one
                .tls_modes
                .iter()
                .find(|(mode, _)| outside && matches!(mode.as_str(), "SIMPLE" | "MUTUAL"))
                .map(|(mode, path)| (path.clone(), mode.clone())),
            led_through: Vec::new(),
        });
    }
    for one in &mesh.traffic.routes {
        let hosts: Vec<(SmolStr, Because)> = one
            .parent_services
            .iter()
            .filter(|parent| parent.namespace != one.name.namespace)
            .filter_map(|parent| mesh.service_named(parent))
            .filter(|(_, service)| is_mesh_service(mesh, service))
            .map(|(_, service)| {
                (
                    service.host().into(),
                    Because::Elsewhere(service.name.clone()),
                )
            })
            .collect();
        if !hosts.is_empty() {
            found.push(Unread {
                object: reference(one.kind, &one.name, &one.origin),
                hosts,
                originates_tls: None,
                led_through: Vec::new(),
            });
        }
    }
    found.sort_by(|left, right| left.object.cmp(&right.object));
    found
}

impl Because {
    /// Whether the host is outside the mesh.
    pub fn is_outside(&self) -> bool {
        !matches!(self, Self::Elsewhere(_))
    }
}

struct Index<'a> {
    mesh: &'a Mesh,
    services: BTreeMap<String, &'a Service>,
    entries: BTreeMap<&'a str, Vec<&'a ServiceEntry>>,
    wildcard_entries: Vec<(&'a str, &'a ServiceEntry)>,
}

impl<'a> Index<'a> {
    fn of(mesh: &'a Mesh) -> Self {
        let mut index = Self {
            mesh,
            services: BTreeMap::new(),
            entries: BTreeMap::new(),
            wildcard_entries: Vec::new(),
        };
        for service in &mesh.services {
            index.services.insert(service.host(), service);
        }
        for entry in &mesh.traffic.service_entries {
            for host in &entry.hosts {
                if host.starts_with('*') {
                    index.wildcard_entries.push((host, entry));
                } else {
                    index.entries.entry(host).or_default().push(entry);
                }
            }
        }
        index
    }

    /// The hosts for which an object of a namespace is lost.
    fn lost(
        &self,
        hosts: &[SmolStr],
        namespace: &str,
        root_counts: bool,
    ) -> Vec<(SmolStr, Because)> {
        let root = root_counts && namespace == self.mesh.settings.root_namespace;
        let mut lost = BTreeSet::new();
        for host in hosts {
            // `*` alone is for everything and says nothing of any host.
            if host == "*" {
                continue;
            }
            if host.starts_with('*') {
                let covered = self
                    .services
                    .iter()
                    .filter(|(name, _)| matches_host(host, name));
                lost.extend(
                    covered.filter_map(|(_, service)| self.service(service, namespace, root)),
                );
                let entries = self
                    .entries
                    .iter()
                    .filter(|(name, _)| matches_host(host, name));
                for (name, entries) in entries {
                    lost.extend(self.entry((*name).into(), entries, namespace, root));
                }
            } else if let Some(service) = self.services.get(host.as_str()) {
                lost.extend(self.service(service, namespace, root));
            } else if !self.names_a_service(host) {
                let wild: Vec<&ServiceEntry>;
                let entries = match self.entries.get(host.as_str()) {
                    Some(entries) => entries,
                    None => {
                        wild = self
                            .wildcard_entries
                            .iter()
                            .filter(|(pattern, _)| matches_host(pattern, host))
                            .map(|(_, entry)| *entry)
                            .collect();
                        &wild
                    }
                };
                lost.extend(self.entry(host.clone(), entries, namespace, root));
            }
        }
        lost.into_iter().collect()
    }

    /// Whether a host has the form of a Service's name: one that is not there is dead, not outside.
    fn names_a_service(&self, host: &str) -> bool {
        let short = |(_, namespace): (&str, &str)| {
            !namespace.contains('.') && self.mesh.namespaces.contains_key(namespace)
        };
        host.ends_with(CLUSTER) || !host.contains('.') || host.split_once('.').is_some_and(short)
    }

    fn service(
        &self,
        service: &Service,
        namespace: &str,
        root: bool,
    ) -> Option<(SmolStr, Because)> {
        if root || service.name.namespace == namespace || !is_mesh_service(self.mesh, service) {
            return None;
        }
        let waypoint = placement(self.mesh, service).waypoint();
        if waypoint.is_some_and(|id| self.mesh.waypoint(id).name.namespace == namespace) {
            return None;
        }
        Some((
            service.host().into(),
            Because::Elsewhere(service.name.clone()),
        ))
    }

    fn entry(
        &self,
        host: SmolStr,
        entries: &[&ServiceEntry],
        namespace: &str,
        root: bool,
    ) -> Option<(SmolStr, Because)> {
        let Some(first) = entries.first() else {
            return Some((host, Because::Unknown));
        };
        let mut because = Because::NoWaypoint(first.name.clone());
        for entry in entries {
            if let Some(waypoint) = entry.waypoint(self.mesh) {
                if root || entry.name.namespace == namespace || waypoint.namespace == namespace {
                    return None;
                }
                because = Because::ElsewhereThanEntry(entry.name.clone());
            }
        }
        Some((host, because))
    }
}

const CLUSTER: &str = ".svc.cluster.local";
