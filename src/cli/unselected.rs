//! Policies that differ between two inputs and decide nothing in either, for want of workloads.
//!
//! In: two meshes. Out: sentences for `verify`. Invariant: a policy that differs and applies to no
//! pods of the mesh among the input was compared with nothing, and is named.

use std::collections::{BTreeMap, BTreeSet};

use crate::mesh::Mesh;
use crate::mesh::policy::{Attachment, selects_at_sidecar};
use crate::phases::wording;
use crate::snapshot::{Kind, ObjectName};

/// A policy's text, and whether it applies to something.
type Found = (String, bool);

/// Says which policies differ and apply to nothing, of the namespaces asked for.
pub(super) fn differing(
    before: &Mesh,
    after: &Mesh,
    includes: &dyn Fn(&str) -> bool,
) -> Vec<String> {
    let (before, after) = (policies(before), policies(after));
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let names: Vec<String> = keys
        .into_iter()
        .filter(|key| includes(&key.1.namespace))
        .filter(|key| {
            let sides = [before.get(key), after.get(key)];
            let texts = sides.map(|side| side.map(|(text, _)| text));
            let applies = sides.iter().flatten().any(|(_, applies)| *applies);
            texts[0] != texts[1] && !applies
        })
        .map(|(kind, name)| format!("{} {name}", kind.row().name))
        .collect();
    if names.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "not compared: policies that differ and select no workload of the mesh among the input: {}",
        wording::first_few(&names, 5)
    )]
}

fn policies(mesh: &Mesh) -> BTreeMap<(Kind, ObjectName), Found> {
    let mut all = BTreeMap::new();
    let mut add = |kind, name: &ObjectName, text, attachment: &Attachment| {
        let applies = applies(mesh, attachment, &name.namespace);
        all.insert((kind, name.clone()), (text, applies));
    };
    for one in &mesh.authorization_policies {
        let text = one.raw["spec"].to_string();
        add(Kind::AuthorizationPolicy, &one.name, text, &one.attachment);
    }
    for one in &mesh.request_authentications {
        let text = one.raw["spec"].to_string();
        add(
            Kind::RequestAuthentication,
            &one.name,
            text,
            &one.attachment,
        );
    }
    for one in &mesh.peer_authentications {
        let text = format!("{:?} {:?} {:?}", one.selector, one.mode, one.port_modes);
        let attachment = match &one.selector {
            None => Attachment::Namespace,
            Some(labels) => Attachment::Selector(labels.clone()),
        };
        add(Kind::PeerAuthentication, &one.name, text, &attachment);
    }
    all
}

/// Whether a policy of this namespace applies to pods of the mesh, a gateway's included, or to a
/// waypoint.
fn applies(mesh: &Mesh, attachment: &Attachment, namespace: &str) -> bool {
    if let Attachment::Targets(targets) = attachment {
        return targets.iter().any(|target| {
            let name = ObjectName::new(namespace, &target.name);
            match target.kind.as_str() {
                "Service" => mesh
                    .service_named(&name)
                    .is_some_and(|(_, service)| !service.backends.is_empty()),
                "Gateway" => {
                    mesh.waypoint_named(&name).is_some()
                        || mesh.index.other_gateways.contains(&name)
                }
                // What a ServiceEntry or a class stands for is not told by workloads.
                _ => true,
            }
        });
    }
    mesh.workloads.iter().any(|workload| {
        let is_gateway = workload.role.is_gateway();
        (workload.is_mesh_application() || is_gateway)
            && workload.generations.iter().any(|generation| {
                selects_at_sidecar(
                    attachment,
                    namespace,
                    &mesh.settings.root_namespace,
                    &workload.name.namespace,
                    &generation.labels,
                )
            })
    })
}
