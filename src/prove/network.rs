//! NetworkPolicies as a point of the path: who may open a connection to which port of a pod.
//!
//! In: a mesh, the pods that receive, the pods (or the outside) that send. Out: what is admitted,
//! or nothing where no policy selects the pods. Invariant: the port compared is the one on the
//! wire, 15008 for HBONE; a peer or port that cannot be resolved admits nothing.

use std::collections::BTreeMap;

use castoff_authz::ip::IpBlock;
use castoff_authz::path::NetworkEntry;
use serde_json::Value;
use smol_str::SmolStr;

use crate::api::network_policy::{NetworkPolicySpec, Peer, PolicyPort};
use crate::api::pod::ContainerPort;
use crate::mesh::{Mesh, traffic::NetworkPolicy};
use crate::snapshot::Labels;

/// The port of HBONE tunnels.
pub const HBONE_PORT: u16 = 15008;

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
        Self { mesh, by_namespace }
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
            if !applies(spec, "Ingress") {
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
            if !applies(spec, "Egress") {
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
        let resolved: Vec<(u16, u16)> =
            ports.iter().filter_map(|port| range(port, named)).collect();
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
                (None, Party::Pods(pods)) if self.is_peer(peer, policy_namespace, pods) => {
                    push(None)
                }
                (None, _) => {}
            }
        }
    }

    fn is_peer(&self, peer: &Peer, policy_namespace: &str, pods: Pods<'_>) -> bool {
        let namespace = match &peer.namespace_selector {
            Some(selector) => match self.mesh.namespaces.get(pods.namespace) {
                Some(namespace) => selector.matches(&with_name(&namespace.labels, pods.namespace)),
                None => selector.matches(&with_name(&Labels::default(), pods.namespace)),
            },
            None => pods.namespace == policy_namespace,
        };
        namespace
            && peer
                .pod_selector
                .as_ref()
                .is_none_or(|selector| selector.matches(pods.labels))
    }
}

/// Kubernetes itself puts the namespace's name among its labels.
fn with_name(labels: &Labels, name: &str) -> Labels {
    let mut labels = labels.clone();
    labels.set("kubernetes.io/metadata.name", name);
    labels
}

/// Without `policyTypes`, a policy is for Ingress, and for Egress too if it has `egress` rules.
fn applies(spec: &NetworkPolicySpec, direction: &str) -> bool {
    if spec.policy_types.is_empty() {
        return direction == "Ingress" || spec.egress.is_some();
    }
    spec.policy_types.iter().any(|kind| kind == direction)
}

/// The numbers that one entry of `ports` means; `None` for other protocols and unknown names.
fn range(port: &PolicyPort, named: &[ContainerPort]) -> Option<(u16, u16)> {
    if !port.protocol.is_empty() && port.protocol != "TCP" {
        return None;
    }
    let first = match &port.port {
        None => return Some((0, u16::MAX)),
        Some(Value::String(name)) => {
            let number = name.parse().ok();
            number.or_else(|| {
                named
                    .iter()
                    .find(|one| one.name == name.as_str())
                    .map(|one| one.container_port)
            })?
        }
        Some(number) => u16::try_from(number.as_u64()?).ok()?,
    };
    Some((first, port.end_port.unwrap_or(first).max(first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(json: Value) -> PolicyPort {
        serde_json::from_value(json).expect("a port")
    }

    #[test]
    fn ports_are_numbers_names_ranges_or_all_tcp() {
        let named = [ContainerPort {
            name: "http".into(),
            container_port: 8080,
            protocol: "TCP".into(),
        }];
        assert_eq!(
            range(&port(serde_json::json!({"port": 80})), &named),
            Some((80, 80))
        );
        assert_eq!(
            range(&port(serde_json::json!({"port": "http"})), &named),
            Some((8080, 8080))
        );
        assert_eq!(
            range(&port(serde_json::json!({"port": "other"})), &named),
            None
        );
        assert_eq!(
            range(
                &port(serde_json::json!({"port": 80, "endPort": 90})),
                &named
            ),
            Some((80, 90))
        );
        assert_eq!(
            range(&port(serde_json::json!({})), &named),
            Some((0, 65535))
        );
        assert_eq!(
            range(
                &port(serde_json::json!({"port": 53, "protocol": "UDP"})),
                &named
            ),
            None
        );
    }

    #[test]
    fn a_policy_without_types_is_for_ingress_and_for_egress_only_with_rules() {
        let mut spec = NetworkPolicySpec::default();
        assert!(applies(&spec, "Ingress"));
        assert!(!applies(&spec, "Egress"));
        spec.egress = Some(Vec::new());
        assert!(applies(&spec, "Egress"));
        spec.policy_types = vec!["Egress".into()];
        assert!(!applies(&spec, "Ingress"));
    }
}
