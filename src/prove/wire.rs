//! The connections that a path is made of, and the NetworkPolicies that each must pass.
//!
//! In: the hops of a path and the pods at both ends. Out: the path's points with a NetworkPolicy
//! point before each leg that some policy selects. Invariant: a leg into a waypoint or over HBONE
//! is judged at port 15008, any other at the pods' own port.

use std::collections::BTreeSet;

use castoff_authz::path::{IpSeen, Point, PointKind, PortSeen, Seen};

use super::network::{NetworkPolicies, Party, Pods};
use super::reading;
use super::{Hop, Server, Transport};
use crate::mesh::network_policy::HBONE_PORT;
use crate::mesh::{Mesh, Waypoint, WaypointId};
use crate::snapshot::{Labels, ObjectName};

/// Points of a path, NetworkPolicies included.
pub fn points(
    mesh: &Mesh,
    network: &NetworkPolicies<'_>,
    sender: Party<'_>,
    hops: Vec<Hop>,
    server: Server,
) -> Vec<Point> {
    if network.is_empty() {
        return hops.into_iter().map(|hop| hop.point).collect();
    }
    let workload = mesh.workload(server.workload);
    let server_pods = Pods {
        namespace: &workload.name.namespace,
        labels: &workload.generations[server.generation].labels,
        ports: &workload.ports,
    };
    let mut points = Vec::new();
    let mut from = Sender {
        party: sender,
        name: "the caller".to_owned(),
        is_caller: true,
    };
    let mut waypoint_labels = Vec::with_capacity(hops.len());
    let mut reached_server = false;
    let waypoints: Vec<Option<&Waypoint>> = hops.iter().map(|hop| waypoint_of(mesh, hop)).collect();
    for waypoint in waypoints.iter().flatten() {
        waypoint_labels.push(waypoint.pod_labels(mesh));
    }
    let mut labels = waypoint_labels.iter();
    for (hop, waypoint) in hops.into_iter().zip(waypoints) {
        let receiver = match (waypoint, labels.as_slice().first()) {
            (Some(waypoint), Some(waypoint_labels)) => {
                labels.next();
                Pods {
                    namespace: &waypoint.name.namespace,
                    labels: waypoint_labels,
                    ports: &[],
                }
            }
            _ => server_pods,
        };
        let port = if hop.transport == Transport::Hbone {
            HBONE_PORT
        } else {
            server.port
        };
        reached_server |= waypoint.is_none();
        leg(&mut points, network, &from, receiver, &hop.point.name, port);
        from = Sender {
            party: Party::Pods(receiver),
            name: hop.point.name.clone(),
            is_caller: false,
        };
        points.push(hop.point);
    }
    if !reached_server {
        leg(
            &mut points,
            network,
            &from,
            server_pods,
            &workload.name.to_string(),
            server.port,
        );
    }
    points
}

struct Sender<'a> {
    party: Party<'a>,
    name: String,
    is_caller: bool,
}

fn leg(
    points: &mut Vec<Point>,
    network: &NetworkPolicies<'_>,
    from: &Sender<'_>,
    receiver: Pods<'_>,
    receiver_name: &str,
    port: u16,
) {
    let outgoing = match from.party {
        Party::Pods(pods) => network
            .egress(pods, receiver)
            .map(|admits| (from.name.as_str(), admits)),
        Party::Outside | Party::Anybody => None,
    };
    let incoming = network
        .ingress(receiver, from.party)
        .map(|admits| (receiver_name, admits));
    for (name, admits) in outgoing.into_iter().chain(incoming) {
        let mut point = Point::new(PointKind::NetworkPolicy { admits }, name);
        let source_ip = if from.is_caller {
            IpSeen::Callers
        } else {
            IpSeen::Of {
                owner: from.name.clone(),
                among: Vec::new(),
            }
        };
        point.seen = Seen {
            source_ip,
            destination_port: PortSeen::Fixed(port),
            ..Seen::as_sent()
        };
        points.push(point);
    }
}

fn waypoint_of<'a>(mesh: &'a Mesh, hop: &Hop) -> Option<&'a Waypoint> {
    if !hop.is_waypoint {
        return None;
    }
    let (namespace, name) = hop.point.name.split_once('/')?;
    mesh.waypoint_named(&ObjectName::new(namespace, name))
        .map(|(_, waypoint)| waypoint)
}

/// Namespace and pod labels of every waypoint that may stand before a server.
pub fn waypoint_labels(
    mesh: &Mesh,
    server: Server,
    in_front: BTreeSet<WaypointId>,
) -> Vec<(String, Labels)> {
    let mut all = reading::waypoints_of(mesh, server);
    all.extend(in_front);
    all.into_iter()
        .map(|id| mesh.waypoint(id))
        .map(|waypoint| {
            (
                waypoint.name.namespace.to_string(),
                waypoint.pod_labels(mesh),
            )
        })
        .collect()
}
