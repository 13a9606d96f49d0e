//! One row a server: who gains, who loses, what could not be decided.
//!
//! In: the mesh of the baseline and the mesh now. Out: [`ServerRow`]s, sorted by server.
//! Invariant: every workload of the mesh, any other identity and outsiders are asked for, at every
//! port that a Service or a container names; a comparison that is left out was equal point by
//! point.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use castoff_authz::path::{Address, AddressKind, EnforcementPath};
use castoff_authz::settings::Settings;
use castoff_authz::verdict::{self, Comparison, Finding, Limits, Verdict};

use super::addresses::{self, DialledAddress};
use super::{Attachments, Caller, CallerMode, Content, Server, hops};
use crate::mesh::{DataPlaneMode, Mesh, Role, Workload, WorkloadId};
use crate::snapshot::ObjectName;

/// Two states of one mesh.
pub struct States<'a> {
    /// What access is compared with.
    pub baseline: &'a Mesh,
    /// What it is now.
    pub present: &'a Mesh,
}

/// The callers that arrive alike, before and now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerClass {
    /// How they arrived in the baseline.
    pub before: CallerMode,
    /// How they arrive now.
    pub now: CallerMode,
    /// Who: principals for workloads, or a set of identities.
    pub identities: verdict::Identities,
    /// In words: `workloads with sidecars`, `any other identity`, `outsiders`.
    pub words: &'static str,
}

/// The answer for one class of callers at one port of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortAnswer {
    /// The pods' port.
    pub port: u16,
    /// Which pods answer now.
    pub generation: DataPlaneMode,
    /// What is sent.
    pub content: Content,
    /// Who calls.
    pub callers: CallerClass,
    /// The verdict.
    pub verdict: Verdict,
}

/// Everything that can be said of one server.
#[derive(Debug, Clone)]
pub struct ServerRow {
    /// The workload.
    pub server: ObjectName,
    /// Answers that are not plainly the same.
    pub differences: Vec<PortAnswer>,
    /// How many comparisons were made, equal ones included.
    pub compared: usize,
    /// Waypoints whose own identity may now reach the pods: the one gain that is meant.
    pub newly_trusted: Vec<String>,
}

/// The one word for a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowVerdict {
    /// Neither gain nor loss, proved.
    Same,
    /// Something could not be decided.
    Undecided,
    /// Somebody loses.
    Breaks,
    /// Somebody gains.
    Opens,
    /// Both.
    OpensAndBreaks,
}

impl ServerRow {
    /// The row in one word; a bug of the prover counts as undecided, never as same.
    pub fn verdict(&self) -> RowVerdict {
        let any = |pick: fn(&Verdict) -> &Finding, wanted: fn(&Finding) -> bool| {
            self.differences.iter().any(|answer| wanted(pick(&answer.verdict)))
        };
        let witness = |finding: &Finding| matches!(finding, Finding::Witness(_));
        let open = |finding: &Finding| matches!(finding, Finding::Undecided(_) | Finding::Bug(_));
        let (opens, breaks) = (any(|verdict| &verdict.opens, witness), any(|verdict| &verdict.breaks, witness));
        match (opens, breaks) {
            (true, true) => RowVerdict::OpensAndBreaks,
            (true, false) => RowVerdict::Opens,
            (false, true) => RowVerdict::Breaks,
            (false, false) if any(|verdict| &verdict.opens, open) || any(|verdict| &verdict.breaks, open) => {
                RowVerdict::Undecided
            }
            (false, false) => RowVerdict::Same,
        }
    }
}

/// Compares every server that is in the mesh before or now.
pub fn rows(states: &States<'_>, limits: Limits) -> Vec<ServerRow> {
    let comparer = Comparer::new(states, limits);
    let names: BTreeSet<&ObjectName> = [states.baseline, states.present]
        .into_iter()
        .flat_map(|mesh| &mesh.workloads)
        .filter(|workload| workload.is_mesh_application())
        .map(|workload| &workload.name)
        .collect();
    names.into_iter().filter_map(|name| comparer.row(name)).collect()
}

struct Comparer<'a> {
    baseline: Side<'a>,
    present: Side<'a>,
    classes: Vec<CallerClass>,
    limits: Limits,
}

/// One mesh with what is looked up again and again.
struct Side<'a> {
    mesh: &'a Mesh,
    attachments: Attachments<'a>,
    settings: Arc<Settings>,
    by_name: BTreeMap<&'a ObjectName, WorkloadId>,
}

impl<'a> Side<'a> {
    fn of(mesh: &'a Mesh) -> Self {
        Self {
            mesh,
            attachments: Attachments::of(mesh),
            settings: Arc::new(super::reading::authorization_settings(mesh)),
            by_name: mesh
                .workloads
                .iter()
                .enumerate()
                .map(|(index, workload)| (&workload.name, WorkloadId(index)))
                .collect(),
        }
    }

    fn workload(&self, name: &ObjectName) -> Option<(WorkloadId, &'a Workload)> {
        self.by_name.get(name).map(|id| (*id, &self.mesh.workloads[id.0]))
    }

    /// The paths by which callers of a mode reach a server.
    fn paths(
        &self,
        mode: CallerMode,
        server: Server,
        addresses: &[DialledAddress],
        content: Content,
    ) -> Vec<EnforcementPath> {
        let caller = Caller {
            workload: None,
            mode,
            principal: (mode != CallerMode::Plain).then(String::new),
        };
        addresses
            .iter()
            .map(|dialled| EnforcementPath {
                address: dialled.address.clone(),
                in_use: dialled.in_use,
                settings: Arc::clone(&self.settings),
                points: hops(self.mesh, &self.attachments, &caller, dialled.dial, server, content)
                    .into_iter()
                    .map(|hop| hop.point)
                    .collect(),
            })
            .collect()
    }
}

impl<'a> Comparer<'a> {
    fn new(states: &States<'a>, limits: Limits) -> Self {
        Self {
            baseline: Side::of(states.baseline),
            present: Side::of(states.present),
            classes: caller_classes(states),
            limits,
        }
    }

    fn row(&self, name: &ObjectName) -> Option<ServerRow> {
        let (present_id, present) = self.present.workload(name)?;
        let (baseline_id, baseline) = self.baseline.workload(name)?;
        let mut row = ServerRow {
            server: name.clone(),
            differences: Vec::new(),
            compared: 0,
            newly_trusted: Vec::new(),
        };
        for (generation, now) in present.generations.iter().enumerate() {
            let before = baseline.generations.iter().position(|one| one.mode == now.mode).unwrap_or(0);
            for port in addresses::ports(self.present.mesh, present_id) {
                let now_server = Server { workload: present_id, generation, port };
                let before_server = Server { workload: baseline_id, generation: before, port };
                for content in [Content::Http, Content::Bytes] {
                    self.compare(&mut row, before_server, now_server, content);
                }
            }
        }
        Some(row)
    }

    fn compare(&self, row: &mut ServerRow, before: Server, now: Server, content: Content) {
        let before_addresses = addresses::of(self.baseline.mesh, before);
        let now_addresses = addresses::of(self.present.mesh, now);
        for class in &self.classes {
            row.compared += 1;
            let outsiders = class.identities == verdict::Identities::Nobody;
            let in_use = |list: &[DialledAddress]| -> Vec<DialledAddress> {
                list.iter()
                    .cloned()
                    .map(|mut dialled| {
                        dialled.in_use &= !outsiders || dialled.from_outside;
                        dialled
                    })
                    .collect()
            };
            let baseline = self.baseline.paths(class.before, before, &in_use(&before_addresses), content);
            let present = self.present.paths(class.now, now, &in_use(&now_addresses), content);
            if baseline == present {
                continue;
            }
            let comparison = Comparison {
                caller: verdict::Caller { identity: class.identities.clone(), addresses: Vec::new() },
                http: content == Content::Http,
                baseline,
                present,
            };
            let verdict = castoff_authz::compare(&comparison, self.limits);
            if !verdict.is_same() {
                row.differences.push(PortAnswer {
                    port: now.port,
                    generation: self.present.mesh.workload(now.workload).generations[now.generation].mode,
                    content,
                    callers: class.clone(),
                    verdict,
                });
            }
        }
    }
}

/// Callers grouped by how they arrive in the two states: thousands of workloads, a handful of
/// classes. Waypoints are left out: that they reach the pods is meant, and told apart.
fn caller_classes(states: &States<'_>) -> Vec<CallerClass> {
    let mut by_modes: BTreeMap<(CallerMode, CallerMode), BTreeSet<String>> = BTreeMap::new();
    let waypoints: BTreeSet<String> = states
        .present
        .waypoints
        .iter()
        .map(|waypoint| waypoint.principal(&states.present.settings.trust_domain))
        .collect();
    let before: BTreeMap<&ObjectName, BTreeSet<CallerMode>> =
        states.baseline.workloads.iter().map(|workload| (&workload.name, modes(workload))).collect();
    for workload in &states.present.workloads {
        if matches!(workload.role, Role::Waypoint(_) | Role::Ztunnel | Role::CniAgent | Role::ControlPlane) {
            continue;
        }
        let now = modes(workload);
        let was = before.get(&workload.name).unwrap_or(&now);
        for before_mode in was {
            for now_mode in &now {
                if *before_mode == CallerMode::Plain && *now_mode == CallerMode::Plain {
                    continue;
                }
                by_modes
                    .entry((*before_mode, *now_mode))
                    .or_default()
                    .insert(workload.principal(&states.present.settings.trust_domain));
            }
        }
    }
    let known: Vec<String> = by_modes.values().flatten().cloned().chain(waypoints.iter().cloned()).collect();
    let mut classes = Vec::new();
    for ((before, now), principals) in by_modes {
        classes.push(CallerClass {
            before,
            now,
            identities: verdict::Identities::Only(
                principals.into_iter().filter(|one| !waypoints.contains(one)).collect(),
            ),
            words: "workloads of the mesh",
        });
        if before != CallerMode::Plain && now != CallerMode::Plain {
            classes.push(CallerClass {
                before,
                now,
                identities: verdict::Identities::OfTrustDomain {
                    trust_domain: states.present.settings.trust_domain.to_string(),
                    but: known.clone(),
                },
                words: "any other identity",
            });
        }
    }
    classes.push(CallerClass {
        before: CallerMode::Plain,
        now: CallerMode::Plain,
        identities: verdict::Identities::Nobody,
        words: "outsiders",
    });
    classes
}

fn modes(workload: &Workload) -> BTreeSet<CallerMode> {
    workload.generations.iter().map(|generation| Caller::mode_of(&workload.role, generation.mode)).collect()
}

/// An address in words, unique within a mesh.
pub(super) fn service_address(name: &ObjectName, port: u16) -> Address {
    Address { kind: AddressKind::Service, name: name.to_string(), port }
}
