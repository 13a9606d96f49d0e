//! NetworkPolicies as a point of the path: who may open a connection to which port of a pod.
//!
//! In: a mesh, the pods that receive, the pods (or the outside) that send. Out: what is admitted,
//! or nothing where no policy selects the pods. Invariant: the port compared is the one on the
//! wire, 15008 for HBONE; a peer or port that cannot be resolved admits nothing.

use std::collections::BTreeMap;

use castoff_authz::ip::IpBlock;
use castoff_authz::path::NetworkEntry;
use smol_str::SmolStr;

use crate::api::cluster::LabelSelector;
use crate::api::network_policy::{EgressRule, NetworkPolicySpec, Peer, PolicyPort};
use crate::api::pod::ContainerPort;
use crate::mesh::network_policy::{PROBES, PROBES_V6, governs, is_peer, port_range};
use crate::mesh::{Mesh, traffic::NetworkPolicy};
use crate::snapshot::Labels;

/// Pods, as NetworkPolicies see them.
#[derive(Debug, Clone, Copy)]
pub struct Pods<'a> {
    /// Namespace.
    pub namespace: &'a str,
    /// Labels.
    pub labels: &'a Labels,
    /// Declared ports, for ports by name.
    pub ports: &'a [ContainerPort],
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub enum Party<'a> {
    /// These pods.
    Pods(Pods<'a>),
    /// An address outside the cluster: only address blocks admit it.
    Outside,
    /// Pods that are not known: every selector is taken to admit them, in every state alike.
    Anybody,
}

/// NetworkPolicies by namespace.
pub struct NetworkPolicies<'a> {
    mesh: &'a Mesh,
    by_namespace: BTreeMap<&'a SmolStr, Vec<&'a NetworkPolicy>>,
    /// Rules on what goes out that name ports and not addresses alone, each once, with its namespace.
    outgoing: Vec<(&'a SmolStr, &'a EgressRule)>,
}

impl<'a> NetworkPolicies<'a> {
    /// Indexes a mesh once.
    pub fn of(mesh: &'a Mesh) -> Self {
        let mut by_namespace: BTreeMap<&SmolStr, Vec<&NetworkPolicy>> = BTreeMap::new();
        for policy in &mesh.traffic.network_policies {
            by_namespace
                .entry(&policy.name.namespace)
                .or_default()
                .push(policy);
        }
        let mut outgoing: Vec<(&SmolStr, &EgressRule)> = Vec::new();
        for policy in &mesh.traffic.network_policies {
            if !governs(&policy.spec, "Egress") {
                continue;
            }
            for rule in policy.spec.egress.iter().flatten() {
                let one = (&policy.name.namespace, rule);
                let means_pods =
                    rule.to.is_empty() || rule.to.iter().any(|to| to.ip_block.is_none());
                let names = rule.ports.iter().any(|port| port.port.is_some());
                if means_pods && names && !outgoing.contains(&one) {
                    outgoing.push(one);
                }
            }
        }
        Self {
            mesh,
            by_namespace,
            outgoing,
        }
    }

    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.by_namespace.is_empty()
    }

    /// What may come into `receiver` from `sender`. `None` when no ingress policy selects the
    /// receiver, so that everything may.
    pub fn ingress(&self, receiver: Pods<'_>, sender: Party<'_>) -> Option<Vec<NetworkEntry>> {
        let mut selected = false;
        let mut entries = Vec::new();
        for spec in self.selecting(receiver) {
            if !governs(spec, "Ingress") {
                continue;
            }
            selected = true;
            for rule in &spec.ingress {
                self.admit(
                    &mut entries,
                    &rule.from,
                    &rule.ports,
                    receiver.namespace,
                    sender,
                    receiver.ports,
                );
            }
        }
        selected.then_some(entries)
    }

    /// What may go out of `sender` to `receiver`; `None` when no egress policy selects the sender.
    pub fn egress(&self, sender: Pods<'_>, receiver: Pods<'_>) -> Option<Vec<NetworkEntry>> {
        let mut selected = false;
        let mut entries = Vec::new();
        for spec in self.selecting(sender) {
            if !governs(spec, "Egress") {
                continue;
            }
            selected = true;
            for rule in spec.egress.iter().flatten() {
                self.admit(
                    &mut entries,
                    &rule.to,
                    &rule.ports,
                    sender.namespace,
                    Party::Pods(receiver),
                    receiver.ports,
                );
            }
        }
        selected.then_some(entries)
    }

    /// The ports that policies on what comes into these pods name, first and last of each, and whether the
    /// policy selects by label.
    pub fn named_ports(&self, receiver: Pods<'_>) -> Vec<((u16, u16), bool)> {
        let governing = (self.selecting(receiver)).filter(|spec| governs(spec, "Ingress"));
        governing
            .flat_map(|spec| {
                let by_label = spec.pod_selector != LabelSelector::default();
                let ports = spec.ingress.iter().flat_map(|rule| &rule.ports);
                let named = ports.filter(|port| port.port.is_some());
                let ranges = named.filter_map(|port| port_range(port, receiver.ports));
                ranges.map(move |range| (range, by_label))
            })
            .collect()
    }

    /// The ports that policies on what goes out of other pods name for these.
    pub fn named_by_callers(&self, receiver: Pods<'_>) -> Vec<(u16, u16)> {
        let means = |namespace: &str, to: &Peer| {
            is_peer(
                self.mesh,
                to,
                namespace,
                receiver.namespace,
                receiver.labels,
            )
        };
        let outgoing = self.outgoing.iter();
        let for_these = outgoing.filter(|(namespace, rule)| {
            rule.to.is_empty() || rule.to.iter().any(|to| means(namespace, to))
        });
        let ports = for_these.flat_map(|(_, rule)| &rule.ports);
        let named = ports.filter(|port| port.port.is_some());
        named
            .filter_map(|port| port_range(port, receiver.ports))
            .collect()
    }

    fn selecting(&self, pods: Pods<'_>) -> impl Iterator<Item = &'a NetworkPolicySpec> {
        self.by_namespace
            .get(&SmolStr::from(pods.namespace))
            .into_iter()
            .flatten()
            .map(|policy| &policy.spec)
            .filter(move |spec| spec.pod_selector.matches(pods.labels))
    }

    fn admit(
        &self,
        entries: &mut Vec<NetworkEntry>,
        peers: &[Peer],
        ports: &[PolicyPort],
        policy_namespace: &str,
        other: Party<'_>,
        named: &[ContainerPort],
    ) {
        let resolved: Vec<(u16, u16)> = ports
            .iter()
            .filter_map(|port| port_range(port, named))
            .collect();
        if resolved.is_empty() && !ports.is_empty() {
            return;
        }
        let mut push = |block| {
            entries.push(NetworkEntry {
                block,
                ports: resolved.clone(),
            })
        };
        if peers.is_empty() {
            push(None);
        }
        for peer in peers {
            match (&peer.ip_block, other) {
                // Only the kubelet's probes come from there.
                (Some(block), _) if [PROBES, PROBES_V6].contains(&block.cidr.as_str()) => {}
                (Some(block), _) => {
                    let except = block
                        .except
                        .iter()
                        .filter_map(|text| IpBlock::parse(text))
                        .collect();
                    if let Some(cidr) = IpBlock::parse(&block.cidr) {
                        push(Some((cidr, except)));
                    }
                }
                (None, Party::Anybody) => push(None),
                (None, Party::Pods(pods))
                    if is_peer(
                        self.mesh,
                        peer,
                        policy_namespace,
                        pods.namespace,
                        pods.labels,
                    ) =>
                {
                    push(None)
                }
                (None, _) => {}
            }
        }
    }
}
