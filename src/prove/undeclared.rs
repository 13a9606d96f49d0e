//! Ports of a server that no Service leads to and no container declares: `containerPort` is information only
//! (Kubernetes API reference, Container `ports`), so anything may listen there.
//!
//! In: a mesh. Out: for each workload the ports that policies name, and whether there are others. Invariant: two ports
//! that are treated otherwise by some policy on these pods are not one; one number,
//! [`ANY_OTHER_PORT`], stands for all that nothing names.

use std::collections::{BTreeMap, BTreeSet};

use castoff_authz::path::ANY_OTHER_PORT;
use castoff_authz::policy::{Key, Policy};
use smol_str::SmolStr;

use super::network::{NetworkPolicies, Pods};
use crate::mesh::policy::Attachment;
use crate::mesh::{Mesh, Workload, WorkloadId};

/// Ports of the proxies themselves, where no application can listen (istio.io, "Ports used by Istio").
const OF_PROXIES: [u16; 10] = [
    15000, 15001, 15002, 15004, 15006, 15008, 15020, 15021, 15053, 15090,
];

/// What is known of a port of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PortKnown {
    /// A Service or a ServiceEntry leads to it, a container declares it, or it is scraped.
    Declared,
    /// A policy that selects these pods by label names it: whoever wrote it knows of a listener.
    Meant,
    /// Nothing is known to listen there.
    Unknown,
}

/// What policies say of a workload's ports.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Ports, and whether a policy that selects the pods by label names them.
    ports: BTreeMap<u16, bool>,
    /// Ranges of more than one port.
    ranges: BTreeSet<(u16, u16)>,
    /// Whether ports that nothing names are treated otherwise than those that are declared.
    others: bool,
}

impl Named {
    fn add(&mut self, (first, last): (u16, u16), meant: bool) {
        if first == last {
            *self.ports.entry(first).or_default() |= meant;
        } else {
            self.ranges.insert((first, last));
        }
    }

    /// Whether a policy that selects the pods by label names a port.
    pub(super) fn is_meant(&self, port: u16) -> bool {
        self.ports.get(&port) == Some(&true)
    }

    /// What another state says as well.
    pub(super) fn extend(&mut self, other: Self) {
        for (port, meant) in other.ports {
            self.add((port, port), meant);
        }
        self.ranges.extend(other.ranges);
        self.others |= other.others;
    }

    /// The ports to ask for besides those that are declared: each that is named, of each range one that is
    /// not, and one for all others. Where nothing is named, all ports of these pods are decided alike, and
    /// one that is declared stands for the others.
    pub(super) fn beyond(&self, declared: &BTreeSet<u16>) -> Vec<(u16, PortKnown)> {
        let of = |meant| {
            if meant {
                PortKnown::Meant
            } else {
                PortKnown::Unknown
            }
        };
        let exact = self.ports.iter().map(|(port, meant)| (*port, of(*meant)));
        let mut list: BTreeMap<u16, PortKnown> = exact.collect();
        // Where no boundary lies between two ports of a range, and none of the two is named, they are alike.
        let behind = |port: &u16| port.checked_add(1);
        let firsts = self.ranges.iter().map(|(first, _)| *first);
        let lasts = self.ranges.iter().filter_map(|(_, last)| behind(last));
        let singles = self.ports.keys().chain(declared).filter_map(behind);
        for port in firsts.chain(lasts).chain(singles) {
            let inside = (self.ranges.iter()).any(|(first, last)| (first..=last).contains(&&port));
            if inside {
                list.entry(port).or_insert(PortKnown::Unknown);
            }
        }
        let something_named = self.others || !(self.ports.is_empty() && self.ranges.is_empty());
        if (something_named || declared.is_empty()) && !self.cover_everything() {
            list.insert(ANY_OTHER_PORT, PortKnown::Unknown);
        }
        list.retain(|port, _| !declared.contains(port) && !OF_PROXIES.contains(port));
        list.into_iter().collect()
    }

    /// Whether every port is in some range.
    fn cover_everything(&self) -> bool {
        let mut next = 1;
        for (first, last) in &self.ranges {
            if *first > next {
                return false;
            }
            match last.checked_add(1) {
                Some(behind) => next = next.max(behind),
                None => return true,
            }
        }
        false
    }
}

/// The objects of a mesh that name ports of pods, by namespace.
pub(super) struct PortNames<'a> {
    mesh: &'a Mesh,
    /// AuthorizationPolicies by index, with the ports.
    policies: BTreeMap<&'a SmolStr, Vec<(usize, BTreeSet<u16>)>>,
    /// PeerAuthentications by index.
    peers: BTreeMap<&'a SmolStr, Vec<usize>>,
}

impl<'a> PortNames<'a> {
    /// Indexes a mesh once.
    pub(super) fn of(mesh: &'a Mesh) -> Self {
        let mut names = Self {
            mesh,
            policies: BTreeMap::new(),
            peers: BTreeMap::new(),
        };
        for (index, policy) in mesh.authorization_policies.iter().enumerate() {
            let ports = policy.meaning.as_ref().map(|meaning| ports_of(meaning));
            let ports = ports.unwrap_or_default();
            if !ports.is_empty() {
                let list = names.policies.entry(&policy.name.namespace).or_default();
                list.push((index, ports));
            }
        }
        for (index, peer) in mesh.peer_authentications.iter().enumerate() {
            if !peer.port_modes.is_empty() && peer.selector.is_some() {
                let list = names.peers.entry(&peer.name.namespace).or_default();
                list.push(index);
            }
        }
        names
    }

    /// What policies say of the ports of a workload's pods.
    pub(super) fn of_workload(&self, network: &NetworkPolicies<'_>, id: WorkloadId) -> Named {
        let workload = self.mesh.workload(id);
        let namespace = &workload.name.namespace;
        let root = &self.mesh.settings.root_namespace;
        let mut named = Named::default();
        let own = self.policies.get(namespace).into_iter();
        let of_root = self.policies.get(root).filter(|_| root != namespace);
        for (index, ports) in own.chain(of_root).flatten() {
            let selected = match &self.mesh.authorization_policies[*index].attachment {
                Attachment::Namespace | Attachment::EmptySelector { .. } => Some(false),
                Attachment::Selector(selector) => has(workload, selector).then_some(true),
                Attachment::Targets(_) => None,
            };
            if let Some(meant) = selected {
                for port in ports {
                    named.add((*port, *port), meant);
                }
            }
        }
        for index in self.peers.get(namespace).into_iter().flatten() {
            let peer = &self.mesh.peer_authentications[*index];
            if (peer.selector.as_ref()).is_some_and(|selector| has(workload, selector)) {
                for (port, _) in &peer.port_modes {
                    named.add((*port, *port), true);
                }
            }
        }
        for index in 0..workload.generations.len() {
            self.past_sidecar(workload, index, &mut named);
        }
        for generation in &workload.generations {
            let pods = Pods {
                namespace,
                labels: &generation.labels,
                ports: &workload.ports,
            };
            for (range, meant) in network.named_ports(pods) {
                named.add(range, meant);
            }
            for range in network.named_by_callers(pods) {
                named.add(range, false);
            }
        }
        named
    }

    /// Ports that annotations take past the sidecar, and those that they leave to it alone.
    fn past_sidecar(&self, workload: &Workload, generation: usize, named: &mut Named) {
        let setting = |name: &str| self.mesh.redirection(workload, generation, name);
        let included = setting("includeInboundPorts").filter(|one| one.value != "*");
        named.others |= included.is_some();
        let excluded = setting("excludeInboundPorts");
        for one in included.into_iter().chain(excluded) {
            let ports = one.value.split(',');
            for port in ports.filter_map(|port| port.trim().parse().ok()) {
                named.add((port, port), true);
            }
        }
    }
}

fn has(workload: &Workload, selector: &crate::snapshot::Labels) -> bool {
    let mut generations = workload.generations.iter();
    generations.any(|generation| generation.labels.selected_by(selector))
}

/// The ports that a policy names.
pub(super) fn ports_of(policy: &Policy) -> BTreeSet<u16> {
    let rules = policy.rules.iter();
    let texts = rules.flat_map(|rule| {
        let operations = rule.to.iter();
        let of_operations = operations.flat_map(|one| one.ports.iter().chain(&one.not_ports));
        let conditions = rule.when.iter();
        let conditions = conditions.filter(|one| one.key == Key::DestinationPort);
        of_operations.chain(conditions.flat_map(|one| one.values.iter().chain(&one.not_values)))
    });
    texts.filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(ports: &[u16], ranges: &[(u16, u16)], declared: &[u16]) -> Vec<u16> {
        let mut named = Named::default();
        for port in ports {
            named.add((*port, *port), false);
        }
        for range in ranges {
            named.add(*range, false);
        }
        let declared = declared.iter().copied().collect();
        let beyond = named.beyond(&declared).into_iter();
        beyond.map(|(port, _)| port).collect()
    }

    #[test]
    fn each_port_that_is_named_one_of_each_part_of_a_range_and_one_for_the_others() {
        assert_eq!(asked(&[], &[], &[8080]), Vec::<u16>::new());
        assert_eq!(asked(&[], &[], &[]), [ANY_OTHER_PORT]);
        assert_eq!(asked(&[8080], &[], &[8080]), [ANY_OTHER_PORT]);
        assert_eq!(asked(&[9090], &[], &[8080]), [ANY_OTHER_PORT, 9090]);
        assert_eq!(
            asked(&[82], &[(80, 90), (85, 95)], &[80]),
            [ANY_OTHER_PORT, 81, 82, 83, 85, 91]
        );
        assert_eq!(asked(&[], &[(1, 100), (101, u16::MAX)], &[1]), [2, 101]);
    }
}
