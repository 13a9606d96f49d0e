//! Guards that users wrote themselves: an ALLOW at the pods that lets in their waypoint and nobody else.
//!
//! In: a policy and the Service that it would be copied for. Out: whether it is a guard there. Invariant: a guard is
//! not copied (nobody comes to a waypoint under the waypoint's own name) where something else says who may come to
//! the waypoint, or where the Service uses it already.

use serde_json::Value;

use super::extensions::Policy;
use super::place::Draft;
use crate::mesh::{ServiceId, WaypointId};
use crate::needs::{Coverage, coverage};

impl Draft<'_> {
    /// Whether a policy is the user's own guard of a Service's pods. What it makes of castoff's own guard is noted.
    pub(super) fn is_own_guard(
        &mut self,
        policy: &Policy<'_>,
        id: ServiceId,
        waypoint: WaypointId,
    ) -> bool {
        let mesh = self.mesh;
        let principal = mesh
            .waypoint(waypoint)
            .principal(&mesh.settings.trust_domain);
        if !lets_in_only(policy.raw, &principal) {
            return false;
        }
        let service = mesh.service(id);
        let uses = service.binding.waypoint() == Some(waypoint);
        let others = || {
            mesh.authorization_policies.iter().any(|one| {
                one.name != policy.source.name
                    && is_allow(&one.raw)
                    && !lets_in_only(&one.raw, &principal)
                    && coverage(mesh, &one.attachment, &one.name.namespace, service)
                        == Coverage::All
            })
        };
        if !uses && !others() {
            return false;
        }
        let at_all_ports = |rule: &Value| rule.get("to").is_none();
        let mut rules = policy.raw["spec"]["rules"].as_array().into_iter().flatten();
        if uses && rules.any(at_all_ports) {
            self.guarded.insert(id);
        }
        true
    }
}

fn is_allow(policy: &Value) -> bool {
    matches!(policy["spec"]["action"].as_str(), None | Some("ALLOW"))
}

/// Whether an ALLOW names this identity in every rule and no other.
fn lets_in_only(policy: &Value, principal: &str) -> bool {
    let is_waypoint = |from: &Value| {
        let source = from["source"].as_object();
        source.is_some_and(|source| {
            let names = source.get("principals").and_then(Value::as_array);
            source.len() == 1
                && names.is_some_and(|names| {
                    !names.is_empty() && names.iter().all(|name| name == principal)
                })
        })
    };
    let rules = policy["spec"]["rules"].as_array();
    let dry_run = &policy["metadata"]["annotations"]["istio.io/dry-run"];
    is_allow(policy)
        && dry_run.is_null()
        && rules.is_some_and(|rules| {
            let mut sources = rules.iter().map(|rule| rule["from"].as_array());
            !rules.is_empty()
                && sources.all(|from| {
                    from.is_some_and(|from| !from.is_empty() && from.iter().all(is_waypoint))
                })
        })
}
