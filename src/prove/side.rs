//! One of the two states that are compared, with its indexes, and the paths in it.
//!
//! In: a mesh. Out: the [`EnforcementPath`]s by which callers reach a server, and what NetworkPolicies
//! admit on the way. Invariant: indexes are built once for a mesh.

use std::collections::BTreeMap;
use std::sync::Arc;

use castoff_authz::path::{EnforcementPath, HttpSeen, NetworkEntry, Point, PointKind};
use castoff_authz::settings::Settings;

use super::addresses::{self, DialledAddress};
use super::callers::Member;
use super::diversions::Diverted;
use super::fronts::Fronts;
use super::network::{NetworkPolicies, Party, Pods};
use super::past::{Leaves, Past};
use super::pins::Leads;
use super::undeclared::{Named, PortNames};
use super::wire;
use super::{Attachments, Caller, CallerMode, Content, Dial, Server, hops};
use crate::mesh::ingress::{self, Entrances, Routed};
use crate::mesh::{Mesh, Workload, WorkloadId};
use crate::snapshot::ObjectName;

/// What NetworkPolicies admit at every pod that a connection may reach; `None`: everything.
pub(super) type Admitted = Vec<Option<Vec<NetworkEntry>>>;

/// One mesh with its indexes.
pub(super) struct Side<'a> {
    pub(super) mesh: &'a Mesh,
    pub(super) attachments: Attachments<'a>,
    pub(super) network: NetworkPolicies<'a>,
    pub(super) routed: Routed,
    pub(super) fronts: Fronts,
    pub(super) diverted: Diverted<'a>,
    pub(super) entrances: Entrances,
    pub(super) settings: Arc<Settings>,
    port_names: PortNames<'a>,
    by_name: BTreeMap<&'a ObjectName, WorkloadId>,
}

impl<'a> Side<'a> {
    pub(super) fn of(mesh: &'a Mesh) -> Self {
        Self {
            mesh,
            attachments: Attachments::of(mesh),
            network: NetworkPolicies::of(mesh),
            routed: ingress::routed(mesh),
            fronts: Fronts::of(mesh),
            diverted: Diverted::of(mesh),
            entrances: ingress::entrances(mesh),
            port_names: PortNames::of(mesh),
            settings: Arc::new(super::reading::authorization_settings(mesh)),
            by_name: mesh
                .workloads
                .iter()
                .enumerate()
                .map(|(index, workload)| (&workload.name, WorkloadId(index)))
                .collect(),
        }
    }

    /// Where another side normalizes paths otherwise, one request is two paths: what rules say of it
    /// is compared no further (istio pilot/pkg/networking/core/listener_builder.go
    /// `buildHTTPConnectionManager`, the same for sidecars, gateways and waypoints).
    pub(super) fn mark_normalization(&self, other: &Side<'_>, paths: &mut [EnforcementPath]) {
        let [own, others] =
            [self, other].map(
                |side| match side.mesh.settings.path_normalization.as_str() {
                    "" | "DEFAULT" => "BASE",
                    chosen => chosen,
                },
            );
        if own == others {
            return;
        }
        let points = paths.iter_mut().flat_map(|path| &mut path.points);
        for point in points.filter(|point| point.seen.http == HttpSeen::AsSent) {
            point.seen.http = HttpSeen::Rewritten {
                by: format!("meshConfig.pathNormalization {own}"),
                content: "".into(),
            };
        }
    }

    pub(super) fn workload(&self, name: &ObjectName) -> Option<(WorkloadId, &'a Workload)> {
        self.by_name
            .get(name)
            .map(|id| (*id, &self.mesh.workloads[id.0]))
    }

    /// What policies say of the ports of a workload's pods.
    pub(super) fn named_ports(&self, workload: WorkloadId) -> Named {
        self.port_names.of_workload(&self.network, workload)
    }

    /// Every address of a server's port.
    pub(super) fn addresses(&self, server: Server) -> Vec<DialledAddress> {
        let mut list = addresses::of(self.mesh, &self.routed, server);
        self.fronts
            .extend(self.mesh, &self.routed, server, &mut list);
        list
    }

    /// The paths by which callers of a mode reach a server. A route that nobody follows is none.
    pub(super) fn paths(
        &self,
        arrival: (CallerMode, &Past),
        sender: Party<'_>,
        server: Server,
        addresses: &[DialledAddress],
        content: Content,
    ) -> Vec<EnforcementPath> {
        let points = self.points(arrival, sender, server, addresses, content);
        self.along(addresses, points)
    }

    /// Paths made of the points found for each address.
    pub(super) fn along(
        &self,
        addresses: &[DialledAddress],
        points: impl IntoIterator<Item = Option<Vec<Point>>>,
    ) -> Vec<EnforcementPath> {
        addresses
            .iter()
            .zip(points)
            .filter_map(|(dialled, points)| Some(self.through(dialled, points?)))
            .collect()
    }

    fn through(&self, dialled: &DialledAddress, points: Vec<Point>) -> EnforcementPath {
        EnforcementPath {
            address: dialled.address.clone(),
            in_use: dialled.in_use,
            settings: Arc::clone(&self.settings),
            points,
        }
    }

    /// The points between callers of a mode and a server, by address; none where that is a route which
    /// nobody follows, or where it leads to other pods.
    pub(super) fn points(
        &self,
        (mode, past): (CallerMode, &Past),
        sender: Party<'_>,
        server: Server,
        addresses: &[DialledAddress],
        content: Content,
    ) -> Vec<Option<Vec<Point>>> {
        let caller = Caller {
            workload: None,
            mode,
            principal: (mode != CallerMode::Plain).then(String::new),
        };
        addresses
            .iter()
            .map(|dialled| self.points_at((&caller, past), sender, server, dialled, content))
            .collect()
    }

    /// The path by which a caller reaches a server at one address; none where that is a route which
    /// nobody follows, or where it leads to other pods.
    pub(super) fn path(
        &self,
        caller: (&Caller, &Past),
        sender: Party<'_>,
        server: Server,
        dialled: &DialledAddress,
        content: Content,
    ) -> Option<EnforcementPath> {
        let points = self.points_at(caller, sender, server, dialled, content)?;
        Some(self.through(dialled, points))
    }

    fn points_at(
        &self,
        (caller, past): (&Caller, &Past),
        sender: Party<'_>,
        server: Server,
        dialled: &DialledAddress,
        content: Content,
    ) -> Option<Vec<Point>> {
        let as_mode = || self.points_of(caller, sender, server, dialled, content);
        let plain = || {
            let plain = Caller {
                mode: CallerMode::Plain,
                principal: None,
                ..caller.clone()
            };
            self.points_of(&plain, sender, server, dialled, content)
        };
        match self.leaves(past, dialled, server) {
            Leaves::AsMode => as_mode(),
            Leaves::Past => plain(),
            Leaves::Blocked => {
                let by = match dialled.dial {
                    Dial::Pod => "no Service lists the address of the pod".to_owned(),
                    _ => past.by().unwrap_or_default(),
                };
                let kind = PointKind::Stop {
                    reason: format!("REGISTRY_ONLY, and {by}"),
                };
                Some(vec![Point::new(kind, "the caller's sidecar")])
            }
            Leaves::Unknown => {
                let (as_mode, plain) = (as_mode(), plain());
                if as_mode == plain && !past.may_block() {
                    return plain;
                }
                let kind = PointKind::Opaque {
                    reason: past.by().unwrap_or_default(),
                    content: format!("{past:?} {as_mode:?} {plain:?}").into(),
                };
                Some(vec![Point::new(kind, "the caller's sidecar")])
            }
        }
    }

    fn points_of(
        &self,
        caller: &Caller,
        sender: Party<'_>,
        server: Server,
        dialled: &DialledAddress,
        content: Content,
    ) -> Option<Vec<Point>> {
        if self.leads_elsewhere(caller.mode, dialled, server, content) {
            return None;
        }
        let dial = match dialled.front {
            None => dialled.dial,
            Some(front) => front.dial(self.mesh, caller, dialled.dial)?,
        };
        let mut hops = hops(self.mesh, &self.attachments, caller, dial, server, content);
        if let Some(front) = dialled.front
            && dial == dialled.dial
        {
            let service = self.mesh.service(front.service);
            if let Some(rewritten) = self.attachments.rewrites.at_caller(service.host().as_str()) {
                for hop in &mut hops {
                    hop.point.seen.http = rewritten.clone();
                }
            }
        }
        let mut points = wire::points(self.mesh, &self.network, sender, hops, server);
        points.splice(0..0, self.led_by_waypoint(dialled, dial, content));
        Some(points)
    }

    /// What a waypoint leads from the Service dialled to one behind, where that is a part of it.
    fn led_by_waypoint(
        &self,
        dialled: &DialledAddress,
        dial: Dial,
        content: Content,
    ) -> Option<Point> {
        let front = dialled.front.filter(|_| dial != dialled.dial)?;
        let Dial::Service { service, .. } = dialled.dial else {
            return None;
        };
        let id = self.mesh.service(front.service).binding.waypoint()?;
        let waypoint = &self.mesh.waypoint(id).name.namespace;
        let at = (front.service, front.port);
        (self.diverted).led_by_waypoint(self.mesh, at, waypoint, service, content)
    }

    /// Whether who dials this address is sent to other pods than these.
    pub(super) fn leads_elsewhere(
        &self,
        mode: CallerMode,
        dialled: &DialledAddress,
        server: Server,
        content: Content,
    ) -> bool {
        let leads = || self.attachments.leads(mode, dialled.dial, server, content);
        dialled.front.is_none() && leads() == Leads::Elsewhere
    }

    /// What NetworkPolicies admit from a caller: into the server, into every waypoint on the way,
    /// and out of the caller. Equal answers mean equal NetworkPolicy points.
    pub(super) fn admitted(&self, sender: Party<'_>, server: Server) -> Admitted {
        let workload = self.mesh.workload(server.workload);
        let server_pods = Pods {
            namespace: &workload.name.namespace,
            labels: &workload.generations[server.generation].labels,
            ports: &workload.ports,
        };
        let in_front = self.fronts.waypoints(self.mesh, server);
        let waypoints = wire::waypoint_labels(self.mesh, server, in_front);
        let receivers =
            std::iter::once(server_pods).chain(waypoints.iter().map(|(namespace, labels)| Pods {
                namespace,
                labels,
                ports: &[],
            }));
        receivers
            .flat_map(|receiver| {
                let outgoing = match sender {
                    Party::Pods(pods) => self.network.egress(pods, receiver),
                    Party::Outside | Party::Anybody => None,
                };
                [self.network.ingress(receiver, sender), outgoing]
            })
            .collect()
    }

    /// The pods of a caller, as NetworkPolicies see them.
    pub(super) fn party(&self, member: &Member, at: Option<(WorkloadId, usize)>) -> Party<'a> {
        match (member, at) {
            (Member::Outsiders, _) => Party::Outside,
            (Member::Workload { .. }, Some((id, generation))) => {
                let workload = &self.mesh.workloads[id.0];
                Party::Pods(Pods {
                    namespace: &workload.name.namespace,
                    labels: &workload.generations[generation].labels,
                    ports: &workload.ports,
                })
            }
            _ => Party::Anybody,
        }
    }
}
