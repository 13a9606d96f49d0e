//! Calls that the callers' own sidecars do not see, and ports that only a policy knows: drawn, and followed without
//! the prover.
//!
//! In: the objects of a mesh, or a mesh and who dials what. Out: the objects with such settings, or by which way a
//! call leaves. Invariant: settings are read as objects say them, not as the model has them indexed.

use castoff::mesh::policy::Attachment;
use castoff::mesh::{DataPlaneMode, Mesh, Workload};
use castoff_authz::path::{Address, AddressKind};
use serde_json::{Value, json};

use crate::generator::Random;

/// A port that no Service leads to and no container declares.
pub(crate) const UNDECLARED: u16 = 7070;

const EXCLUDED: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";

/// Adds to a mesh, each now and then: ports to which a workload's calls go past its sidecar, and a policy for a port of
/// no Service.
pub(crate) fn draw(random: &mut Random, namespaces: &[&str], objects: &mut Vec<Value>) {
    let is_owner = |one: &Value| {
        (one["kind"] == "Deployment" || one["kind"] == "StatefulSet")
            && (namespaces.iter()).any(|name| one["metadata"]["namespace"] == *name)
    };
    let indices = 0..objects.len();
    let owners: Vec<usize> = indices.filter(|index| is_owner(&objects[*index])).collect();
    if random.below(4) == 0 && !owners.is_empty() {
        let ports = *random.choose(&["80", "8080", "80,9090", "7070"]);
        let owner = &mut objects[*random.choose(&owners)];
        owner["spec"]["template"]["metadata"]["annotations"] = json!({EXCLUDED: ports});
    }
    if random.below(6) == 0 && owners.len() > 1 {
        let (server, caller) = (*random.choose(&owners), *random.choose(&owners));
        let template = |index: usize| &objects[index]["spec"]["template"];
        let namespace = |index: usize| objects[index]["metadata"]["namespace"].clone();
        let account = template(caller)["spec"]["serviceAccountName"].as_str();
        let from = format!(
            "cluster.local/ns/{}/sa/{}",
            namespace(caller).as_str().unwrap(),
            account.unwrap()
        );
        let mut operation = json!({"ports": [UNDECLARED.to_string()]});
        if random.below(2) == 0 {
            operation["methods"] = json!(["GET"]);
        }
        let action = *random.choose(&["ALLOW", "DENY"]);
        objects.push(json!({
            "apiVersion": "security.istio.io/v1",
            "kind": "AuthorizationPolicy",
            "metadata": {"name": "of-port", "namespace": namespace(server)},
            "spec": {
                "selector": {"matchLabels": template(server)["metadata"]["labels"]},
                "action": action,
                "rules": [{
                    "from": [{"source": {"principals": [from]}}],
                    "to": [{"operation": operation}],
                }],
            },
        }));
    }
}

/// By which way a call leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaves {
    AsMode,
    /// In plaintext, to where it was sent.
    Past,
    /// Where it leads is not known.
    Unclear,
}

/// By which way a call of a workload's pods to an address leaves.
pub(crate) fn leaves(caller: &Workload, generation: usize, to: &Address) -> Leaves {
    if caller.generations[generation].mode != DataPlaneMode::Sidecar {
        return Leaves::AsMode;
    }
    let excluded = caller
        .template_annotations
        .get(EXCLUDED)
        .unwrap_or_default();
    let goes_past = excluded.split(',').any(|port| port.parse() == Ok(to.port));
    match to.kind {
        _ if !goes_past => Leaves::AsMode,
        // Where its host leads without a sidecar, only its own name server knows.
        AddressKind::ServiceEntry => Leaves::Unclear,
        _ => Leaves::Past,
    }
}

/// Whether a policy that selects these pods by label names the port that nothing leads to.
pub(crate) fn is_meant(mesh: &Mesh, workload: &Workload) -> bool {
    mesh.authorization_policies.iter().any(|policy| {
        let Attachment::Selector(selector) = &policy.attachment else {
            return false;
        };
        let mut pods = workload.generations.iter();
        policy.name.namespace == workload.name.namespace
            && pods.any(|pods| pods.labels.selected_by(selector))
            && format!("{:?}", policy.meaning).contains(&format!("\"{UNDECLARED}\""))
    })
}
