//! Calls that the callers' own sidecars do not see, and ports that only a policy knows: drawn, and followed without
//! the prover.
//!
//! In: the objects of a mesh, or a mesh and who dials what. Out: the objects with such settings, or by which way a
//! call leaves. Invariant: settings are read as objects say them, not as the model has them indexed.

use castoff::mesh::policy::Attachment;
use castoff::mesh::{DataPlaneMode, Mesh, Workload};
use castoff::snapshot::Kind;
use castoff_authz::path::{Address, AddressKind};
use serde_json::{Value, json};

use crate::generator::Random;

/// A port that no Service leads to and no container declares.
pub(crate) const UNDECLARED: u16 = 7070;

const EXCLUDED: &str = "traffic.sidecar.istio.io/excludeOutboundPorts";
const EXPORT_TO: &str = "networking.istio.io/exportTo";

/// Adds to a mesh, each now and then: ports that a workload's calls to go past its sidecar, a namespace whose
/// sidecars know its own Services alone, a Service that is not exported, a policy for a port of no Service.
pub(crate) fn draw(random: &mut Random, namespaces: &[&str], objects: &mut Vec<Value>) {
    let of_kinds = |objects: &[Value], kinds: &[&str]| -> Vec<usize> {
        let is_one = |one: &Value| {
            kinds.iter().any(|kind| one["kind"] == *kind)
                && (namespaces.iter()).any(|name| one["metadata"]["namespace"] == *name)
        };
        let indices = 0..objects.len();
        indices.filter(|index| is_one(&objects[*index])).collect()
    };
    let owners = of_kinds(objects, &["Deployment", "StatefulSet"]);
    let services = of_kinds(objects, &["Service"]);
    if random.below(4) == 0 && !owners.is_empty() {
        let ports = *random.choose(&["80", "8080", "80,9090", "7070"]);
        let owner = &mut objects[*random.choose(&owners)];
        owner["spec"]["template"]["metadata"]["annotations"] = json!({EXCLUDED: ports});
    }
    if random.below(6) == 0 {
        let namespace = *random.choose(namespaces);
        objects.push(json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "Sidecar",
            "metadata": {"name": "own", "namespace": namespace},
            "spec": {"egress": [{"hosts": ["./*", "istio-system/*"]}]},
        }));
    }
    if random.below(6) == 0 && !services.is_empty() {
        let service = &mut objects[*random.choose(&services)];
        service["metadata"]["annotations"] = json!({EXPORT_TO: "."});
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
pub(crate) fn leaves(mesh: &Mesh, caller: &Workload, generation: usize, to: &Address) -> Leaves {
    if caller.generations[generation].mode != DataPlaneMode::Sidecar {
        return Leaves::AsMode;
    }
    let excluded = caller
        .template_annotations
        .get(EXCLUDED)
        .unwrap_or_default();
    let goes_past = excluded.split(',').any(|port| port.parse() == Ok(to.port));
    let own = &caller.name.namespace;
    let foreign = |namespace: &str| namespace != own.as_str();
    let knows_own_alone = mesh
        .traffic
        .others
        .iter()
        .any(|one| one.kind == Kind::Sidecar && !foreign(&one.name.namespace));
    match to.kind {
        AddressKind::ServiceEntry if goes_past => Leaves::Unclear,
        _ if goes_past => Leaves::Past,
        AddressKind::Pod | AddressKind::Gateway => Leaves::AsMode,
        AddressKind::ServiceEntry => {
            let mut entries = mesh.traffic.service_entries.iter();
            let entry = entries.find(|one| one.name.to_string() == to.name).unwrap();
            let is_hidden = knows_own_alone && foreign(&entry.name.namespace);
            if is_hidden {
                Leaves::Past
            } else {
                Leaves::AsMode
            }
        }
        AddressKind::Service => {
            let mut services = mesh.services.iter();
            let service = services
                .find(|one| one.name.to_string() == to.name)
                .unwrap();
            let is_kept = service.annotations.has(EXPORT_TO, ".");
            let is_hidden = (knows_own_alone || is_kept) && foreign(&service.name.namespace);
            if is_hidden {
                Leaves::Past
            } else {
                Leaves::AsMode
            }
        }
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
