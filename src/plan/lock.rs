//! Policies that close what moving would open: a server's ambient pods to everybody but the waypoint on the way
//! around it, or ports of its pods that no Service leads to and nobody could reach before.
//!
//! In: servers that would open, with the ports. Out: DENY policies. Invariant: they fail closed; what closes the
//! way around a waypoint is for ambient pods only and deleted where it is not needed when the wave is over, what
//! closes a port stays until its owner wants it open.

use std::collections::{BTreeMap, BTreeSet};

use castoff_authz::path::ANY_OTHER_PORT;
use castoff_authz::verdict::Finding;
use serde_json::{Map, Value, json};

use super::saved;
use super::wave::{Files, Step, Wave};
use crate::manifest;
use crate::mesh::{Distribution, Mesh, Workload, WorkloadId};
use crate::needs::GENERATED_LABEL;
use crate::phases::wording;
use crate::prove::addresses;
use crate::snapshot::{Kind, ObjectName};

/// Name of the file with the locks.
pub(super) const FILE: &str = "locks.yaml";

/// Annotation with the workload whose pods a lock closes.
const LOCKS_ANNOTATION: &str = "castoff.dev/locks";
/// Annotation that says why a lock is there.
const REASON_ANNOTATION: &str = "castoff.dev/reason";
/// Annotation that says when a lock can be deleted.
const DELETE_ANNOTATION: &str = "castoff.dev/delete-when";

/// When what closes the way around a waypoint can be deleted.
fn delete_when(for_good: bool) -> &'static str {
    if for_good {
        "nothing opens without it any more: `castoff verify` of the mesh with it and without it says so"
    } else {
        "the last step of this wave is reached, which deletes it"
    }
}

/// Ports at which somebody gains, by server.
pub(super) type Openings = BTreeMap<ObjectName, BTreeSet<u16>>;

/// What closes some servers.
pub(super) struct Locks {
    /// The step before the moves.
    pub(super) close: Step,
    /// The one after them, for what need not stay.
    pub(super) open: Option<Step>,
    /// The file.
    pub(super) files: Files,
    /// What is closed while old pods run, and then, in words.
    pub(super) closed: [&'static str; 2],
    /// Why, one sentence each.
    pub(super) why: Vec<String>,
}

/// The ports at which the states of a wave open these servers.
pub(super) fn openings(wave: &Wave, servers: &BTreeSet<ObjectName>) -> Openings {
    let mut openings = Openings::new();
    for row in wave.states.iter().flat_map(|state| state.witnessed()) {
        if !servers.contains(&row.server) {
            continue;
        }
        let opens = (row.differences.iter())
            .filter(|answer| matches!(answer.verdict.opens, Finding::Witness(_)));
        let ports = openings.entry(row.server.clone()).or_default();
        ports.extend(opens.map(|answer| answer.port));
    }
    openings
}

/// What closes these servers; `None` when one of them opens at a port of its Services and has no waypoint to be
/// reached by, or does not move.
pub(super) fn locks(
    mesh: &Mesh,
    openings: &Openings,
    moving: &BTreeSet<ObjectName>,
    for_good: bool,
) -> Option<Locks> {
    let mut around: Vec<(ObjectName, Value)> = Vec::new();
    let mut ports: Vec<(ObjectName, Value)> = Vec::new();
    for (index, workload) in mesh.workloads.iter().enumerate() {
        let Some(opening) = openings.get(&workload.name) else {
            continue;
        };
        let id = WorkloadId(index);
        let of_services = led_to(mesh, id);
        if !opening.is_disjoint(&of_services) {
            if !moving.contains(&workload.name) {
                return None;
            }
            around.push(around_waypoint(mesh, id, for_good)?);
        }
        let opening: BTreeSet<u16> = opening.difference(&of_services).copied().collect();
        if !opening.is_empty() {
            ports.push(closed_ports(mesh, id, &opening)?);
        }
    }
    let delete = |locks: &[(ObjectName, Value)]| -> Vec<String> {
        let names = locks.iter().map(|(name, _)| name);
        names
            .map(|name| saved::delete_command(Kind::AuthorizationPolicy, name))
            .collect()
    };
    let manifests: Vec<Value> = around
        .iter()
        .chain(&ports)
        .map(|(_, it)| it.clone())
        .collect();
    let manifests = manifest::documents(&manifests);
    let accepted = saved::waits_for_ztunnel(&manifests);
    let open = Step {
        what:
            "take these policies away again: every caller has moved, and nothing opens without them"
                .to_owned(),
        run: delete(&around),
        undo: vec![format!("kubectl apply -f {FILE}")],
        undo_settled: accepted.clone(),
        look: vec!["no pod of these workloads has a sidecar".to_owned()],
        ..Step::default()
    };
    let mut close = Step {
        run: vec![format!("kubectl apply -f {FILE}")],
        settled: accepted,
        undo: delete(&around).into_iter().chain(delete(&ports)).collect(),
        undo_look: vec!["every pod of these workloads has its sidecar again".to_owned()],
        ..Step::default()
    };
    let (mut what, mut why) = (Vec::new(), Vec::new());
    if !around.is_empty() {
        what.push("close new pods to everyone but their waypoint, since ztunnel cannot check what the waypoint checks");
        let look = match mesh.distribution {
            Distribution::Solo => {
                "nobody dials these pods past their waypoint: whoever does is refused by new pods"
            }
            Distribution::Upstream => {
                "the callers of these workloads are ambient: one with a sidecar is refused by new pods until it has moved"
            }
        };
        close.look.push(look.to_owned());
        why.push(format!(
            "Policies refuse at the new pods what ztunnel would let in past the waypoint; these policies can be deleted \
             when {}.",
            delete_when(for_good)
        ));
    }
    if !ports.is_empty() {
        what.push("close ports that no Service leads to and nobody could reach");
        why.push(
            "Policies keep closed what nobody could reach before: a sidecar shows no identity to a bare pod address and \
             ztunnel does, and a NetworkPolicy that lets in port 15008 lets in every port."
                .to_owned(),
        );
    }
    for delete in delete(&ports) {
        close.look.push(format!(
            "nobody is to reach these ports: this stays until somebody is, and is taken away by `{delete}`"
        ));
    }
    close.what = what.join("; ");
    let closed = match (around.is_empty(), ports.is_empty()) {
        (false, true) => [
            "new ones closed to all but their waypoint",
            "new pods closed to all but their waypoint",
        ],
        (true, _) => ["ports closed that nobody could reach"; 2],
        (false, false) => [
            "new ones closed to all but their waypoint, and ports closed that nobody could reach",
            "new pods closed to all but their waypoint, and ports closed that nobody could reach",
        ],
    };
    let open = (!around.is_empty()).then_some(open);
    Some(Locks {
        close,
        open,
        files: Files::from([(FILE.to_owned(), manifests)]),
        closed,
        why,
    })
}

/// The pods' ports that Services and ServiceEntries lead to.
fn led_to(mesh: &Mesh, id: WorkloadId) -> BTreeSet<u16> {
    let services = mesh
        .services_of(id)
        .flat_map(|(_, service)| &service.backends)
        .filter(|backend| backend.workload == id)
        .flat_map(|backend| backend.target_ports.iter().flatten().copied());
    let entries = mesh.service_entries_of(id);
    let entries = entries.flat_map(|(_, entry)| entry.ports.iter().map(|(_, target)| *target));
    services.chain(entries).collect()
}

/// Closes these ports to everybody; with [`ANY_OTHER_PORT`] among them, every port but those that are known and
/// do not open.
fn closed_ports(
    mesh: &Mesh,
    id: WorkloadId,
    opening: &BTreeSet<u16>,
) -> Option<(ObjectName, Value)> {
    let rule = if opening.contains(&ANY_OTHER_PORT) {
        but_for(&addresses::ports(mesh, id) - opening)
    } else {
        json!({"to": [{"operation": {"ports": texts(opening)}}]})
    };
    let workload = mesh.workload(id);
    let labels = own_labels(workload);
    // Without labels it would be for the whole namespace.
    let reason = "no Service leads to these ports, and nobody could reach them: an ambient caller shows an identity there, \
         and port 15008 leads to every port";
    let told = (reason, "somebody is to reach these ports");
    (!labels.is_empty()).then(|| policy(workload, "closed-ports", labels, vec![rule], told))
}

/// A rule for every port but these.
fn but_for(ports: BTreeSet<u16>) -> Value {
    if ports.is_empty() {
        json!({})
    } else {
        json!({"to": [{"operation": {"notPorts": texts(&ports)}}]})
    }
}

fn texts(ports: &BTreeSet<u16>) -> Vec<String> {
    ports.iter().map(u16::to_string).collect()
}

/// Closes pods to everybody but the waypoints of their Services at the ports to which these lead, and to everybody
/// at all that nothing declares.
fn around_waypoint(mesh: &Mesh, id: WorkloadId, for_good: bool) -> Option<(ObjectName, Value)> {
    let waypoints: BTreeSet<String> = mesh
        .services_of(id)
        .filter_map(|(_, service)| service.binding.waypoint())
        .map(|waypoint| {
            mesh.waypoint(waypoint)
                .principal(&mesh.settings.trust_domain)
        })
        .collect();
    if waypoints.is_empty() {
        return None;
    }
    let targets: Vec<Option<u16>> = mesh
        .services_of(id)
        .filter(|(_, service)| service.binding.waypoint().is_some())
        .flat_map(|(_, service)| &service.backends)
        .filter(|backend| backend.workload == id)
        .flat_map(|backend| backend.target_ports.iter().copied())
        .collect();
    let but_waypoints = json!([{"source": {"notPrincipals": waypoints}}]);
    let declared = addresses::ports(mesh, id);
    // At a port that nothing leads to the way around is as open as at those of Services.
    let rules = match targets.iter().copied().collect::<Option<BTreeSet<u16>>>() {
        Some(led) => vec![
            json!({"from": but_waypoints, "to": [{"operation": {"ports": texts(&led)}}]}),
            but_for(declared),
        ],
        // The waypoint leads to a port that is not known.
        None => {
            let led: BTreeSet<u16> = targets.into_iter().flatten().collect();
            let mut rule = but_for(&declared - &led);
            rule["from"] = but_waypoints;
            vec![rule]
        }
    };
    let workload = mesh.workload(id);
    let mut labels = own_labels(workload);
    labels.insert("istio.io/dataplane-mode".to_owned(), "ambient".into());
    let reason = "ztunnel cannot check what the waypoint checks: whoever came to these pods past it would be let in where \
         the baseline refused";
    let told = (reason, delete_when(for_good));
    Some(policy(
        workload,
        "only-through-waypoint",
        labels,
        rules,
        told,
    ))
}

/// The labels of a workload's pods that moving does not change.
fn own_labels(workload: &Workload) -> Map<String, Value> {
    let labels = workload.template_labels.iter();
    labels
        .filter(|(key, _)| !key.contains("istio.io/"))
        .map(|(key, value)| (key.to_owned(), Value::from(value)))
        .collect()
}

/// A DENY policy for pods of a workload, with why it is there and when it can be deleted.
fn policy(
    workload: &Workload,
    suffix: &str,
    labels: Map<String, Value>,
    rules: Vec<Value>,
    (reason, delete_when): (&str, &str),
) -> (ObjectName, Value) {
    let name = format!("{}-{suffix}", workload.name.name);
    let namespace = workload.name.namespace.as_str();
    let manifest = json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {GENERATED_LABEL: "lock"},
            "annotations": {
                LOCKS_ANNOTATION: wording::workload(workload).replacen(' ', "/", 1),
                REASON_ANNOTATION: reason,
                DELETE_ANNOTATION: delete_when,
            },
        },
        "spec": {"selector": {"matchLabels": labels}, "action": "DENY", "rules": rules},
    });
    (ObjectName::new(namespace, &name), manifest)
}
