//! What a NetworkPolicy means: whom it governs, which ports and peers it names.
//!
//! In: specifications as read. Out: answers about one policy. Invariant: what cannot be resolved (an
//! unknown port name, another protocol) admits nothing.

use serde_json::Value;

use super::Mesh;
use crate::api::network_policy::{NetworkPolicySpec, Peer, PolicyPort};
use crate::api::pod::ContainerPort;
use crate::snapshot::Labels;

/// The port of HBONE tunnels.
pub const HBONE_PORT: u16 = 15008;

/// Where the kubelet's probes seem to come from once a pod is captured: a link-local address that
/// nobody else can send from (istio cni/pkg/iptables/iptables.go; istio.io, "Ambient and Kubernetes
/// NetworkPolicy").
pub const PROBES: &str = "169.254.7.127/32";
/// The same where pods have IPv6 addresses.
pub const PROBES_V6: &str = "fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128";

/// Whether pods of a namespace with these labels are meant by a peer. An address block means none.
pub fn is_peer(
    mesh: &Mesh,
    peer: &Peer,
    policy_namespace: &str,
    namespace: &str,
    labels: &Labels,
) -> bool {
    if peer.ip_block.is_some() {
        return false;
    }
    let in_namespace = match &peer.namespace_selector {
        Some(selector) => match mesh.namespaces.get(namespace) {
            Some(known) => selector.matches(&with_name(&known.labels, namespace)),
            None => selector.matches(&with_name(&Labels::default(), namespace)),
        },
        None => namespace == policy_namespace,
    };
    in_namespace
        && peer
            .pod_selector
            .as_ref()
            .is_none_or(|selector| selector.matches(labels))
}

/// Kubernetes itself puts the namespace's name among its labels.
fn with_name(labels: &Labels, name: &str) -> Labels {
    let mut labels = labels.clone();
    labels.set("kubernetes.io/metadata.name", name);
    labels
}

/// Without `policyTypes`, a policy is for Ingress, and for Egress too if it has `egress` rules.
pub fn governs(spec: &NetworkPolicySpec, direction: &str) -> bool {
    if spec.policy_types.is_empty() {
        return direction == "Ingress" || spec.egress.is_some();
    }
    spec.policy_types.iter().any(|kind| kind == direction)
}

/// The numbers that one entry of `ports` means; `None` for other protocols and unknown names.
pub fn port_range(port: &PolicyPort, named: &[ContainerPort]) -> Option<(u16, u16)> {
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
            port_range(&port(serde_json::json!({"port": 80})), &named),
            Some((80, 80))
        );
        assert_eq!(
            port_range(&port(serde_json::json!({"port": "http"})), &named),
            Some((8080, 8080))
        );
        assert_eq!(
            port_range(&port(serde_json::json!({"port": "other"})), &named),
            None
        );
        assert_eq!(
            port_range(
                &port(serde_json::json!({"port": 80, "endPort": 90})),
                &named
            ),
            Some((80, 90))
        );
        assert_eq!(
            port_range(&port(serde_json::json!({})), &named),
            Some((0, 65535))
        );
        assert_eq!(
            port_range(
                &port(serde_json::json!({"port": 53, "protocol": "UDP"})),
                &named
            ),
            None
        );
    }

    #[test]
    fn a_policy_without_types_is_for_ingress_and_for_egress_only_with_rules() {
        let mut spec = NetworkPolicySpec::default();
        assert!(governs(&spec, "Ingress"));
        assert!(!governs(&spec, "Egress"));
        spec.egress = Some(Vec::new());
        assert!(governs(&spec, "Egress"));
        spec.policy_types = vec!["Egress".into()];
        assert!(!governs(&spec, "Ingress"));
    }
}
