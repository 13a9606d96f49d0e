//! NetworkPolicies that let HBONE through where others would block it.
//!
//! In: the mesh, and which Services have a waypoint. Out: additional NetworkPolicies, each beside one
//! of the user's own. Invariant: NetworkPolicies add up, so nothing is edited and nothing that was
//! admitted is lost; a pod that no policy isolates stays so. A peer that had some ports gets 15008
//! instead of them: which ports it reaches inside the tunnel is then up to authorization policies,
//! and the proof says whether that opens anything.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Presence;
use crate::api::cluster::LabelSelector;
use crate::api::network_policy::{NetworkPolicySpec, Peer, PolicyPort};
use crate::mesh::network_policy::{HBONE_PORT, PROBES, PROBES_V6, governs, is_peer, port_range};
use crate::mesh::traffic::NetworkPolicy;
use crate::mesh::{Mesh, ServiceId, WaypointId, WorkloadId};
use crate::needs::GENERATED_LABEL;
use crate::snapshot::{Labels, ObjectName};

/// Annotation with the NetworkPolicy that a generated one stands beside.
pub const BESIDE_ANNOTATION: &str = "castoff.dev/beside";

/// The generated label's value.
const HBONE: &str = "hbone";

/// One NetworkPolicy to apply.
#[derive(Debug, Clone, PartialEq)]
pub struct HbonePolicy {
    /// Its name.
    pub name: ObjectName,
    /// The user's policy that blocks HBONE; for a waypoint's own, the first that isolates it.
    pub beside: ObjectName,
    /// The object.
    pub manifest: Value,
    /// Whether it is applied already.
    pub presence: Presence,
}

/// All that are needed, sorted by name.
pub fn hbone_policies(mesh: &Mesh, served: &BTreeMap<ServiceId, WaypointId>) -> Vec<HbonePolicy> {
    let policies = &mesh.traffic.network_policies;
    if policies.is_empty() {
        return Vec::new();
    }
    let mut waypoints_of: BTreeMap<WorkloadId, BTreeSet<WaypointId>> = BTreeMap::new();
    for (service, waypoint) in served {
        for backend in &mesh.service(*service).backends {
            waypoints_of
                .entry(backend.workload)
                .or_default()
                .insert(*waypoint);
        }
    }
    let mut found: Vec<HbonePolicy> = policies
        .iter()
        .filter(|policy| !is_ours(policy))
        .filter_map(|policy| beside(mesh, policy, &waypoints_of))
        .collect();
    let waypoints: BTreeSet<WaypointId> = served.values().copied().collect();
    found.extend(
        waypoints
            .into_iter()
            .filter_map(|waypoint| for_waypoint(mesh, waypoint, &waypoints_of)),
    );
    found.sort_by(|left, right| left.name.cmp(&right.name));
    found
}

/// Whether a policy was generated here.
fn is_ours(policy: &NetworkPolicy) -> bool {
    policy.labels.has(GENERATED_LABEL, HBONE)
}

/// Workloads of the mesh that a policy selects.
fn selected<'a>(
    mesh: &'a Mesh,
    policy: &'a NetworkPolicy,
) -> impl Iterator<Item = WorkloadId> + use<'a> {
    mesh.workloads_in(&policy.name.namespace)
        .filter(|(_, workload)| workload.is_mesh_application())
        .filter(|(_, workload)| {
            workload
                .generations
                .iter()
                .any(|one| policy.spec.pod_selector.matches(&one.labels))
        })
        .map(|(id, _)| id)
}

fn beside(
    mesh: &Mesh,
    policy: &NetworkPolicy,
    waypoints_of: &BTreeMap<WorkloadId, BTreeSet<WaypointId>>,
) -> Option<HbonePolicy> {
    let workloads: Vec<WorkloadId> = selected(mesh, policy).collect();
    if workloads.is_empty() {
        return None;
    }
    let spec = &policy.spec;
    let mut new = Map::new();
    if governs(spec, "Ingress") {
        let waypoints: BTreeSet<WaypointId> = workloads
            .iter()
            .filter_map(|id| waypoints_of.get(id))
            .flatten()
            .copied()
            .collect();
        let mut rules: Vec<Value> = spec
            .ingress
            .iter()
            .filter(|rule| !admits_hbone(&rule.ports) && is_about_tcp(&rule.ports))
            .map(|rule| tunnel_rule("from", rule.from.iter().map(peer).collect()))
            .collect();
        let admitted = |waypoint: &WaypointId| {
            let waypoint = mesh.waypoint(*waypoint);
            let labels = waypoint.pod_labels(mesh);
            spec.ingress.iter().any(|rule| {
                let named = rule.from.is_empty()
                    || rule.from.iter().any(|peer| {
                        is_peer(
                            mesh,
                            peer,
                            &policy.name.namespace,
                            &waypoint.name.namespace,
                            &labels,
                        )
                    });
                named && (rule.from.is_empty() || admits_hbone(&rule.ports))
            })
        };
        let unknown: Vec<Value> = waypoints
            .iter()
            .filter(|waypoint| !admitted(waypoint))
            .map(|waypoint| waypoint_peer(mesh, *waypoint))
            .collect();
        if !unknown.is_empty() {
            rules.push(tunnel_rule("from", unknown));
        }
        if !rules.is_empty() {
            // An address of the family that a cluster does not have admits nobody.
            let probes = [PROBES, PROBES_V6].map(|cidr| json!({"ipBlock": {"cidr": cidr}}));
            rules.push(json!({"from": probes}));
            new.insert("ingress".to_owned(), Value::Array(rules));
        }
    }
    if governs(spec, "Egress") {
        let rules = egress(mesh, policy, waypoints_of);
        if !rules.is_empty() {
            new.insert("egress".to_owned(), Value::Array(rules));
        }
    }
    if new.is_empty() {
        return None;
    }
    let name = format!("{}-hbone", policy.name.name);
    Some(finished(
        mesh,
        ObjectName::new(&policy.name.namespace, &name),
        &policy.name,
        selector(&spec.pod_selector),
        new,
    ))
}

/// Tunnels to whom a policy lets its pods send, and to the waypoints in front of these.
fn egress(
    mesh: &Mesh,
    policy: &NetworkPolicy,
    waypoints_of: &BTreeMap<WorkloadId, BTreeSet<WaypointId>>,
) -> Vec<Value> {
    let mut rules = Vec::new();
    let mut reached: BTreeSet<WaypointId> = BTreeSet::new();
    for rule in policy.spec.egress.iter().flatten() {
        if !admits_hbone(&rule.ports) && is_about_tcp(&rule.ports) {
            rules.push(tunnel_rule("to", rule.to.iter().map(peer).collect()));
        }
        if rule.to.is_empty() {
            continue;
        }
        for (workload, waypoints) in waypoints_of {
            let workload = mesh.workload(*workload);
            let namespace = &workload.name.namespace;
            let meant = rule.to.iter().any(|peer| {
                workload
                    .generations
                    .iter()
                    .any(|one| is_peer(mesh, peer, &policy.name.namespace, namespace, &one.labels))
            });
            if meant {
                reached.extend(waypoints);
            }
        }
    }
    if !reached.is_empty() {
        let peers = reached
            .into_iter()
            .map(|waypoint| waypoint_peer(mesh, waypoint))
            .collect();
        rules.push(tunnel_rule("to", peers));
    }
    rules
}

/// Where a policy isolates a waypoint's own pods: whoever may reach the pods behind it may reach it.
fn for_waypoint(
    mesh: &Mesh,
    waypoint: WaypointId,
    waypoints_of: &BTreeMap<WorkloadId, BTreeSet<WaypointId>>,
) -> Option<HbonePolicy> {
    let one = mesh.waypoint(waypoint);
    let labels = one.pod_labels(mesh);
    let policies = || mesh.traffic.network_policies.iter();
    let name = ObjectName::new(&one.name.namespace, &format!("{}-hbone", one.name.name));
    let isolating = |direction: &'static str| {
        let labels = &labels;
        let name = &name;
        policies().find(move |policy| {
            policy.name.namespace == one.name.namespace
                && policy.name != *name
                && governs(&policy.spec, direction)
                && policy.spec.pod_selector.matches(labels)
        })
    };
    let (ingress, egress) = (isolating("Ingress"), isolating("Egress"));
    let beside = ingress.or(egress)?;
    let mut new = Map::new();
    if ingress.is_some() {
        let mut peers: Vec<Value> = Vec::new();
        let mut anybody = false;
        for (workload, waypoints) in waypoints_of {
            if !waypoints.contains(&waypoint) {
                continue;
            }
            let mut isolated = false;
            for policy in policies().filter(|policy| !is_ours(policy)) {
                let governs = governs(&policy.spec, "Ingress")
                    && policy.name.namespace == mesh.workload(*workload).name.namespace
                    && mesh
                        .workload(*workload)
                        .generations
                        .iter()
                        .any(|one| policy.spec.pod_selector.matches(&one.labels));
                if !governs {
                    continue;
                }
                isolated = true;
                for rule in &policy.spec.ingress {
                    anybody |= rule.from.is_empty();
                    peers.extend(
                        rule.from
                            .iter()
                            .map(|one| peer_of_namespace(one, &policy.name.namespace)),
                    );
                }
            }
            anybody |= !isolated;
        }
        if anybody {
            peers.clear();
        }
        peers.sort_by_key(Value::to_string);
        peers.dedup();
        if anybody || !peers.is_empty() {
            new.insert("ingress".to_owned(), json!([tunnel_rule("from", peers)]));
        }
    }
    if egress.is_some() {
        // To istiod, DNS and the pods: what those admit is their own policies' affair.
        new.insert("egress".to_owned(), json!([{}]));
    }
    let selector =
        json!({"matchLabels": {"gateway.networking.k8s.io/gateway-name": one.name.name.as_str()}});
    Some(finished(mesh, name, &beside.name, selector, new))
}

fn finished(
    mesh: &Mesh,
    name: ObjectName,
    beside: &ObjectName,
    selector: Value,
    rules: Map<String, Value>,
) -> HbonePolicy {
    let types: Vec<&str> = [("ingress", "Ingress"), ("egress", "Egress")]
        .into_iter()
        .filter(|(field, _)| rules.contains_key(*field))
        .map(|(_, word)| word)
        .collect();
    let mut spec = Map::new();
    spec.insert("podSelector".to_owned(), selector);
    spec.insert("policyTypes".to_owned(), json!(types));
    spec.extend(rules);
    let spec = Value::Object(spec);
    let manifest = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {
            "name": name.name.as_str(),
            "namespace": name.namespace.as_str(),
            "labels": {GENERATED_LABEL: HBONE},
            "annotations": {BESIDE_ANNOTATION: format!("NetworkPolicy/{beside}")},
        },
        "spec": spec,
    });
    let known = mesh
        .traffic
        .network_policies
        .iter()
        .find(|policy| policy.name == name);
    let presence = match (known, serde_json::from_value::<NetworkPolicySpec>(spec)) {
        (None, _) => Presence::Missing,
        (Some(known), Ok(wanted)) if known.spec == wanted => Presence::Equal,
        _ => Presence::Differs("spec".to_owned()),
    };
    HbonePolicy {
        name,
        beside: beside.clone(),
        manifest,
        presence,
    }
}

fn admits_hbone(ports: &[PolicyPort]) -> bool {
    ports.is_empty()
        || ports
            .iter()
            .filter_map(|port| port_range(port, &[]))
            .any(|(first, last)| (first..=last).contains(&HBONE_PORT))
}

/// Whether a rule admits TCP, the one protocol that ztunnel carries (istio.io, "Ambient and the Istio CNI": UDP is not
/// captured).
fn is_about_tcp(ports: &[PolicyPort]) -> bool {
    let is_tcp = |port: &PolicyPort| matches!(port.protocol.as_str(), "" | "TCP");
    ports.is_empty() || ports.iter().any(is_tcp)
}

/// A rule for the tunnel's port; no peers: anybody.
fn tunnel_rule(direction: &str, peers: Vec<Value>) -> Value {
    let mut rule = Map::new();
    if !peers.is_empty() {
        rule.insert(direction.to_owned(), Value::Array(peers));
    }
    rule.insert(
        "ports".to_owned(),
        json!([{"port": HBONE_PORT, "protocol": "TCP"}]),
    );
    Value::Object(rule)
}

fn waypoint_peer(mesh: &Mesh, waypoint: WaypointId) -> Value {
    let waypoint = mesh.waypoint(waypoint);
    json!({
        "namespaceSelector": {
            "matchLabels": {"kubernetes.io/metadata.name": waypoint.name.namespace.as_str()},
        },
        "podSelector": {
            "matchLabels": {"gateway.networking.k8s.io/gateway-name": waypoint.name.name.as_str()},
        },
    })
}

fn peer(peer: &Peer) -> Value {
    let mut out = Map::new();
    if let Some(block) = &peer.ip_block {
        let mut address = json!({"cidr": block.cidr.as_str()});
        if !block.except.is_empty() {
            let except: Vec<&str> = block.except.iter().map(|one| one.as_str()).collect();
            address["except"] = json!(except);
        }
        out.insert("ipBlock".to_owned(), address);
    }
    if let Some(one) = &peer.namespace_selector {
        out.insert("namespaceSelector".to_owned(), selector(one));
    }
    if let Some(one) = &peer.pod_selector {
        out.insert("podSelector".to_owned(), selector(one));
    }
    Value::Object(out)
}

/// The same peer, named from another namespace.
fn peer_of_namespace(one: &Peer, namespace: &str) -> Value {
    let mut value = peer(one);
    if one.ip_block.is_none() && one.namespace_selector.is_none() {
        value["namespaceSelector"] =
            json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
    }
    value
}

fn selector(one: &LabelSelector) -> Value {
    let mut out = Map::new();
    let pairs = |labels: &Labels| -> Map<String, Value> {
        labels
            .iter()
            .map(|(key, value)| (key.to_owned(), Value::from(value)))
            .collect()
    };
    if !one.match_labels.is_empty() {
        out.insert(
            "matchLabels".to_owned(),
            Value::Object(pairs(&one.match_labels)),
        );
    }
    if !one.match_expressions.is_empty() {
        let expressions: Vec<Value> = one
            .match_expressions
            .iter()
            .map(|expression| {
                let mut value = json!({
                    "key": expression.key.as_str(),
                    "operator": expression.operator.as_str(),
                });
                if !expression.values.is_empty() {
                    let values: Vec<&str> =
                        expression.values.iter().map(|one| one.as_str()).collect();
                    value["values"] = json!(values);
                }
                value
            })
            .collect();
        out.insert("matchExpressions".to_owned(), Value::Array(expressions));
    }
    Value::Object(out)
}
