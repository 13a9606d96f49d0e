//! Names of generated objects, and whether they are applied already.
//!
//! In: a finished draft. Out: the [`Conversion`]. Invariant: two objects never share a name, an
//! object of the user's is never overwritten, and the same mesh gives the same names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use smol_str::SmolStr;

use super::place::{Draft, Pending};
use super::{COPIED_FROM_ANNOTATION, Conversion, GUARDS_ANNOTATION, Generated, Presence, Purpose};
use crate::mesh::Mesh;
use crate::snapshot::{Kind, ObjectName};

/// Longest name that is given; Services and label values end there too.
const LONGEST: usize = 63;

pub(super) fn finish(mut draft: Draft<'_>) -> Conversion {
    let existing = existing(draft.mesh);
    draft
        .pending
        .sort_by(|left, right| key(left).cmp(&key(right)));
    let mut used: BTreeSet<(Kind, ObjectName)> = BTreeSet::new();
    let mut generated = Vec::with_capacity(draft.pending.len());
    for pending in draft.pending {
        let identity = identity(&pending);
        let plain = match &pending.purpose {
            // It is the user's own object and keeps its name, however long.
            Purpose::Edit { source, .. } => source.name.clone(),
            _ => ObjectName::new(&pending.namespace, &shortened(&pending.name, &identity)),
        };
        let hashed = ObjectName::new(&pending.namespace, &with_hash(&pending.name, &identity));
        let free = |name: &ObjectName| {
            !used.contains(&(pending.kind, name.clone()))
                && existing
                    .get(&(pending.kind, name.clone()))
                    .is_none_or(|known| is_ours(known, &pending))
        };
        let is_edit = matches!(pending.purpose, Purpose::Edit { .. });
        let name = if is_edit || free(&plain) {
            plain
        } else {
            hashed
        };
        used.insert((pending.kind, name.clone()));
        let mut manifest = pending.manifest;
        manifest["metadata"]["name"] = Value::from(name.name.as_str());
        manifest["metadata"]["namespace"] = Value::from(name.namespace.as_str());
        let presence = match existing.get(&(pending.kind, name.clone())) {
            None => Presence::Missing,
            Some(known) => match difference(&manifest, known) {
                None => Presence::Equal,
                Some(path) => Presence::Differs(path),
            },
        };
        generated.push(Generated {
            kind: pending.kind,
            name,
            purpose: pending.purpose,
            services: pending.services,
            manifest,
            presence,
        });
    }
    generated.sort_by(|left, right| {
        let key = |one: &Generated| (one.name.namespace.clone(), one.kind, one.name.name.clone());
        key(left).cmp(&key(right))
    });
    let mut out = draft.out;
    out.generated = generated;
    out.refusals.sort();
    out.refusals.dedup();
    out
}

fn key(pending: &Pending) -> (&SmolStr, Kind, &str, &Purpose) {
    (
        &pending.namespace,
        pending.kind,
        &pending.name,
        &pending.purpose,
    )
}

fn existing(mesh: &Mesh) -> BTreeMap<(Kind, ObjectName), &Value> {
    let authorization = mesh
        .authorization_policies
        .iter()
        .map(|one| ((Kind::AuthorizationPolicy, one.name.clone()), &*one.raw));
    let authentication = mesh
        .request_authentications
        .iter()
        .map(|one| ((Kind::RequestAuthentication, one.name.clone()), &*one.raw));
    let peers = mesh
        .peer_authentications
        .iter()
        .map(|one| ((Kind::PeerAuthentication, one.name.clone()), &*one.raw));
    let extensions = mesh
        .extension_policies
        .iter()
        .map(|one| ((one.kind, one.name.clone()), &*one.raw));
    authorization
        .chain(authentication)
        .chain(peers)
        .chain(extensions)
        .collect()
}

/// What tells generated objects apart, whatever their names.
fn identity(pending: &Pending) -> String {
    let what = match &pending.purpose {
        Purpose::Copy { source, .. } => format!("{}/{}", source.kind.row().name, source.name),
        Purpose::Guard { service } => format!("guard/{service}"),
        Purpose::Edit { source, .. } => format!("edit/{}", source.name),
    };
    let target = &pending.manifest["spec"]["targetRefs"];
    format!("{}/{what}/{target}", pending.namespace)
}

/// Whether an object of this name is the one meant: generated from the same original for the same
/// target, or the same by content.
fn is_ours(known: &Value, pending: &Pending) -> bool {
    let note = |object: &Value, name: &str| object["metadata"]["annotations"][name].clone();
    let same_note = [COPIED_FROM_ANNOTATION, GUARDS_ANNOTATION]
        .iter()
        .any(|name| {
            let wanted = note(&pending.manifest, name);
            !wanted.is_null() && wanted == note(known, name)
        });
    let same_target = known["spec"]["targetRefs"] == pending.manifest["spec"]["targetRefs"];
    (same_note && same_target) || known["spec"] == pending.manifest["spec"]
}

fn shortened(name: &str, identity: &str) -> String {
    if name.len() <= LONGEST {
        name.to_owned()
    } else {
        with_hash(name, identity)
    }
}

fn with_hash(name: &str, identity: &str) -> String {
    // 32 bits of FNV-1a: stable over releases, and two of one name are rare enough to collide.
    let hash = identity.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    let room = LONGEST - 9;
    let start = name.get(..room.min(name.len())).unwrap_or(name);
    format!("{}-{hash:08x}", start.trim_end_matches(['-', '.']))
}

/// Path of the first thing that an object lacks or has otherwise; further labels and annotations
/// of the object do not count.
fn difference(expected: &Value, known: &Value) -> Option<String> {
    for part in ["labels", "annotations"] {
        for (key, value) in expected["metadata"][part].as_object().into_iter().flatten() {
            if known["metadata"][part].get(key) != Some(value) {
                return Some(format!("metadata.{part}[{key}]"));
            }
        }
    }
    first_difference(&expected["spec"], &known["spec"], "spec")
}

fn first_difference(left: &Value, right: &Value, path: &str) -> Option<String> {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            for (key, value) in left {
                let other = right.get(key).unwrap_or(&Value::Null);
                if let Some(found) = first_difference(value, other, &format!("{path}.{key}")) {
                    return Some(found);
                }
            }
            right
                .keys()
                .find(|key| !left.contains_key(*key))
                .map(|key| format!("{path}.{key}"))
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => left
            .iter()
            .zip(right)
            .enumerate()
            .find_map(|(index, (left, right))| {
                first_difference(left, right, &format!("{path}[{index}]"))
            }),
        _ => (left != right).then(|| path.to_owned()),
    }
}
