//! Machines that take a share of the requests to a Service: they are no servers here, and what they let in is not proved.
//!
//! In: the two states of a [`Comparer`]. Out: a row for each WorkloadEntry at which something that decides differs.
//! Invariant: where nothing that asks who calls stands before a machine, or all of it says the same and callers come as
//! they came, there is none; everywhere else it is undecided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use castoff_authz::path::{Address, AddressKind, EnforcementPath, Point, PointKind};
use castoff_authz::verdict::{Caller, Comparison, compare};

use super::row::{PortAnswer, ServerRow};
use super::rows::{Comparer, service_address};
use super::side::Side;
use super::{CallerMode, Content};
use crate::mesh::policy::MtlsMode;
use crate::mesh::{DataPlaneMode, Mesh};
use crate::snapshot::{Labels, ObjectName};

/// What stands before a machine, by what it is in words.
type Before = BTreeMap<String, String>;

/// One machine.
#[derive(Default)]
struct Found {
    /// What leads to it, with an address of each.
    leads: Before,
    addresses: Vec<Address>,
    /// What asks there who calls.
    asks: Before,
    /// The WorkloadEntry.
    own: Before,
}

impl Comparer<'_> {
    /// Machines of which it is not known whether they let in whom they let in before.
    pub(super) fn machines(&self) -> Vec<ServerRow> {
        let before = found(self.baseline);
        let now = found(&self.present);
        let names: BTreeSet<&ObjectName> = before.keys().chain(now.keys()).collect();
        let none = Found::default();
        let rows = names.into_iter().filter_map(|name| {
            let states = [&before, &now].map(|state| state.get(name).unwrap_or(&none));
            // Who is gone lets nobody in.
            if states[1].leads.is_empty() || states.iter().all(|one| one.asks.is_empty()) {
                return None;
            }
            let mut why = differing(&states[0].leads, &states[1].leads);
            why.extend(differing(&states[0].own, &states[1].own));
            why.extend(differing(&states[0].asks, &states[1].asks));
            why.extend(self.arrivals());
            (!why.is_empty()).then(|| self.machine(name, states[1], &why))
        });
        rows.collect()
    }

    /// Callers that arrive otherwise than they did, in words: to a machine that takes no tunnel ztunnel sends plaintext.
    fn arrivals(&self) -> Option<String> {
        let moved = self.classes.iter().any(|class| {
            let plain = CallerMode::Plain;
            class.before != class.now && class.before != plain && class.now != plain
        });
        moved.then(|| "callers leave their sidecars or get them".to_owned())
    }

    fn machine(&self, name: &ObjectName, found: &Found, why: &[String]) -> ServerRow {
        let led: Vec<&str> = found.leads.keys().map(String::as_str).collect();
        let reason = format!(
            "part of the requests to {} goes to machine {name}, where nothing is proved: {} (see what the \
             policies for its labels make of how callers arrive)",
            led.join(", "),
            why.join("; ")
        );
        let path = |content: &str| EnforcementPath {
            address: found.addresses[0].clone(),
            in_use: true,
            settings: Arc::clone(&self.present.settings),
            points: vec![Point::new(
                PointKind::Opaque {
                    reason: reason.clone(),
                    content: content.into(),
                },
                &name.to_string(),
            )],
        };
        let comparison = Comparison {
            caller: Caller::anybody(),
            http: true,
            baseline: vec![path("before")],
            present: vec![path("now")],
        };
        let verdict = compare(&comparison, self.limits);
        let mut row = ServerRow::of(name);
        row.compared = 1;
        let paths = [comparison.baseline, comparison.present];
        let pods = (0, DataPlaneMode::None);
        row.differences.push(PortAnswer::new(
            pods,
            Content::Http,
            "anybody",
            paths,
            verdict,
        ));
        row
    }
}

/// What one state says and the other does not, in words.
fn differing(before: &Before, now: &Before) -> Vec<String> {
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let differ = keys
        .into_iter()
        .filter(|key| before.get(*key) != now.get(*key));
    differ.map(|key| format!("{key} differs")).collect()
}

fn found(side: &Side<'_>) -> BTreeMap<ObjectName, Found> {
    let mesh = side.mesh;
    let machines: Vec<_> = mesh.machines().collect();
    let mut all: BTreeMap<ObjectName, Found> = BTreeMap::new();
    if machines.is_empty() {
        return all;
    }
    for service in &mesh.services {
        for name in Mesh::picked(
            &machines,
            &service.name.namespace,
            service.selector.as_ref(),
        ) {
            let found = all.entry(name.clone()).or_default();
            let waypoint = service.binding.waypoint().map(|id| mesh.waypoint(id));
            let says = format!("{:?} {:?}", service.ports, waypoint.map(|one| &one.name));
            found
                .leads
                .insert(format!("Service {}", service.name), says);
            let port = service.ports.first().map_or(0, |port| port.port);
            found.addresses.push(service_address(&service.name, port));
            if let Some(waypoint) = waypoint {
                let at = side.attachments.at_waypoint(waypoint, Some(service));
                if !at.policies.is_empty() || !at.opaque.is_empty() {
                    let says = format!("{:?} {:?} {:?}", at.policies, at.token_rules, at.opaque);
                    found.asks.insert(
                        format!("what holds for it at waypoint {}", waypoint.name),
                        says,
                    );
                }
            }
        }
    }
    for entry in &mesh.traffic.service_entries {
        for name in Mesh::picked(
            &machines,
            &entry.name.namespace,
            entry.workload_selector.as_ref(),
        ) {
            let found = all.entry(name.clone()).or_default();
            let says = format!("{:?} {:?}", entry.ports, entry.waypoint(mesh));
            found
                .leads
                .insert(format!("ServiceEntry {}", entry.name), says);
            found.addresses.push(Address {
                kind: AddressKind::ServiceEntry,
                name: entry.name.to_string(),
                port: entry.ports.first().map_or(0, |(dialled, _)| *dialled),
            });
        }
    }
    for (machine, labels) in &machines {
        if let Some(found) = all.get_mut(&machine.name) {
            let says = format!("{} {labels:?}", machine.raw["spec"]);
            found
                .own
                .insert(format!("WorkloadEntry {}", machine.name), says);
            asks(side, &machine.name, labels, &mut found.asks);
        }
    }
    all
}

/// What asks at a machine's own proxy who calls.
fn asks(side: &Side<'_>, name: &ObjectName, labels: &Labels, asks: &mut Before) {
    let at = side.attachments.at_proxy(&name.namespace, labels, "", None);
    if !at.policies.is_empty() || !at.token_rules.is_empty() || !at.opaque.is_empty() {
        let says = format!("{:?} {:?} {:?}", at.policies, at.token_rules, at.opaque);
        asks.insert("what policies say of its labels".to_owned(), says);
    }
    let modes = modes(side.mesh, name, labels);
    if modes.iter().any(|(_, mode)| *mode == MtlsMode::Strict) {
        asks.insert("mutual TLS for its labels".to_owned(), format!("{modes:?}"));
    }
}

/// The modes of all ports and of those that a PeerAuthentication names.
fn modes(mesh: &Mesh, name: &ObjectName, labels: &Labels) -> Vec<(u16, MtlsMode)> {
    let named = mesh.peer_authentications.iter();
    let ports = named.flat_map(|one| one.port_modes.iter().map(|(port, _)| *port));
    let ports: BTreeSet<u16> = std::iter::once(0).chain(ports).collect();
    let modes = ports.into_iter();
    let modes = modes.map(|port| (port, mesh.mtls_at_sidecar(&name.namespace, labels, port)));
    modes.collect()
}
