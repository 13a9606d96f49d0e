//! Policies that let only the waypoint reach a server's ambient pods, where what ztunnel cannot check
//! would open on the way around the waypoint.
//!
//! In: servers that would open. Out: a DENY a server for everyone but its waypoints, on the ports of
//! its Services and on ambient pods only; where no Service leads to the pods, one for everyone on all of
//! them, since it may be callers that leave their sidecars who could reach them. Invariant: it fails closed; where it is not needed when the wave is over, it is deleted again.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::saved;
use super::wave::{Files, Step};
use crate::manifest;
use crate::mesh::{Distribution, Mesh, WorkloadId};
use crate::needs::GENERATED_LABEL;
use crate::phases::wording;
use crate::snapshot::{Kind, ObjectName};

/// Name of the file with the locks.
pub(super) const FILE: &str = "locks.yaml";

/// Annotation with the workload whose pods a lock closes.
const LOCKS_ANNOTATION: &str = "castoff.dev/locks";
/// Annotation that says why a lock is there.
const REASON_ANNOTATION: &str = "castoff.dev/reason";
/// Annotation that says when a lock can be deleted.
const DELETE_ANNOTATION: &str = "castoff.dev/delete-when";

/// When a lock can be deleted.
fn delete_when(for_good: bool) -> &'static str {
    if for_good {
        "nothing opens without it any more: `castoff verify` of the mesh with it and without it says so"
    } else {
        "the last step of this wave is reached, which deletes it"
    }
}

/// The step before the moves and the one after them, and the file; `None` when one of the servers
/// has Services and no waypoint to be reached by. A lock stays `for_good` where the step after is not taken.
pub(super) fn steps(
    mesh: &Mesh,
    servers: &BTreeSet<ObjectName>,
    for_good: bool,
) -> Option<(Step, Step, Files)> {
    let mut locks: Vec<(ObjectName, Value)> = Vec::new();
    let mut all_dialled = true;
    for (index, workload) in mesh.workloads.iter().enumerate() {
        if servers.contains(&workload.name) {
            let id = WorkloadId(index);
            all_dialled &= mesh.services_of(id).next().is_some();
            let lock = lock(mesh, id, for_good)?;
            let name = ObjectName::new(
                &workload.name.namespace,
                lock["metadata"]["name"].as_str().unwrap_or_default(),
            );
            locks.push((name, lock));
        }
    }
    let unlock: Vec<String> = locks
        .iter()
        .map(|(name, _)| saved::delete_command(Kind::AuthorizationPolicy, name))
        .collect();
    let what = if all_dialled {
        "close new pods to everyone but their waypoint, since ztunnel cannot check what the waypoint checks"
    } else {
        "close new pods to everyone but their waypoint, and pods that no Service leads to, which nobody could reach, to \
         everyone"
    };
    let lock = Step {
        what: format!(
            "{what}; these policies can be deleted when {}",
            delete_when(for_good)
        ),
        look: vec![match mesh.distribution {
            Distribution::Solo => {
                "nobody dials these pods past their waypoint: whoever does is refused by new pods".to_owned()
            }
            Distribution::Upstream => {
                "the callers of these workloads are ambient: one with a sidecar is refused by new pods until it has \
                 moved"
                    .to_owned()
            }
        }],
        undo_look: vec!["every pod of these workloads has its sidecar again".to_owned()],
        run: vec![format!("kubectl apply -f {FILE}")],
        undo: unlock.clone(),
        ..Step::default()
    };
    let open = Step {
        what:
            "take these policies away again: every caller has moved, and nothing opens without them"
                .to_owned(),
        run: unlock,
        undo: vec![format!("kubectl apply -f {FILE}")],
        look: vec!["no pod of these workloads has a sidecar".to_owned()],
        ..Step::default()
    };
    let manifests: Vec<Value> = locks.into_iter().map(|(_, lock)| lock).collect();
    let files = Files::from([(FILE.to_owned(), manifest::documents(&manifests))]);
    Some((lock, open, files))
}

fn lock(mesh: &Mesh, id: WorkloadId, for_good: bool) -> Option<Value> {
    let workload = mesh.workload(id);
    let waypoints: BTreeSet<String> = mesh
        .services_of(id)
        .filter_map(|(_, service)| service.binding.waypoint())
        .map(|waypoint| {
            mesh.waypoint(waypoint)
                .principal(&mesh.settings.trust_domain)
        })
        .collect();
    let is_dialled = mesh.services_of(id).next().is_some();
    if waypoints.is_empty() && is_dialled {
        return None;
    }
    let ports: BTreeSet<u16> = mesh
        .services_of(id)
        .filter(|(_, service)| service.binding.waypoint().is_some())
        .flat_map(|(_, service)| &service.backends)
        .filter(|backend| backend.workload == id)
        .flat_map(|backend| backend.target_ports.iter().flatten().copied())
        .collect();
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let mut labels: serde_json::Map<String, Value> = workload
        .template_labels
        .iter()
        .filter(|(key, _)| !key.contains("istio.io/"))
        .map(|(key, value)| (key.to_owned(), Value::from(value)))
        .collect();
    if is_dialled {
        labels.insert("istio.io/dataplane-mode".to_owned(), "ambient".into());
    } else if labels.is_empty() {
        return None;
    }
    let reason = if is_dialled {
        "ztunnel cannot check what the waypoint checks: whoever came to these pods past it would be let in where the \
         baseline refused"
    } else {
        "no Service leads to these pods, and a sidecar that dialled them was refused: an ambient caller would be let in"
    };
    let (suffix, rule) = if is_dialled {
        let rule = json!({
            "from": [{"source": {"notPrincipals": waypoints}}],
            "to": [{"operation": {"ports": ports}}],
        });
        ("only-through-waypoint", rule)
    } else {
        ("closed", json!({}))
    };
    Some(json!({
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {
            "name": format!("{}-{suffix}", workload.name.name),
            "namespace": workload.name.namespace.as_str(),
            "labels": {GENERATED_LABEL: "lock"},
            "annotations": {
                LOCKS_ANNOTATION: wording::workload(workload).replacen(' ', "/", 1),
                REASON_ANNOTATION: reason,
                DELETE_ANNOTATION: delete_when(for_good),
            },
        },
        "spec": {
            "selector": {"matchLabels": labels},
            "action": "DENY",
            "rules": [rule],
        },
    }))
}
