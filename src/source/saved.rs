//! A snapshot as a recording, so that a state can be kept and read again.
//!
//! In: a [`Snapshot`] of any source. Out: a [`Recording`], which is written as a bundle. Invariant:
//! the recording holds what castoff reads of every object and nothing else (no Secret's data was in
//! the snapshot), and reading it back gives a snapshot equal in everything but origins.

use serde::Serialize;
use serde_json::{Value, json};

use super::recording::{RecordedList, Recording};
use crate::snapshot::{Kind, Object, Snapshot};

/// Records a snapshot. `context` says where it came from.
pub fn record(snapshot: &Snapshot, context: &str) -> Recording {
    let mut recording = Recording {
        context: context.into(),
        gaps: snapshot.gaps.clone(),
        ..Recording::default()
    };
    for kind in &snapshot.seen_kinds {
        recording.lists.insert(*kind, RecordedList::default());
    }
    add(&mut recording, Some(Kind::Namespace), &snapshot.namespaces);
    add(&mut recording, Some(Kind::Pod), &snapshot.pods);
    add(&mut recording, Some(Kind::Service), &snapshot.services);
    add(
        &mut recording,
        Some(Kind::ServiceAccount),
        &snapshot.service_accounts,
    );
    add(&mut recording, Some(Kind::Node), &snapshot.nodes);
    add(&mut recording, Some(Kind::ConfigMap), &snapshot.config_maps);
    add(&mut recording, Some(Kind::Secret), &snapshot.secrets);
    add(
        &mut recording,
        Some(Kind::EndpointSlice),
        &snapshot.endpoint_slices,
    );
    add(&mut recording, None, &snapshot.owners);
    add(
        &mut recording,
        Some(Kind::MutatingWebhookConfiguration),
        &snapshot.mutating_webhooks,
    );
    add(
        &mut recording,
        Some(Kind::CustomResourceDefinition),
        &snapshot.custom_resource_definitions,
    );
    add(
        &mut recording,
        Some(Kind::NetworkPolicy),
        &snapshot.network_policies,
    );
    for (kind, objects) in &snapshot.resources {
        for object in objects {
            // These keep the whole object.
            push(&mut recording, *kind, &object.body);
        }
    }
    recording
}

/// Adds a list of typed objects; owners name their kind themselves.
fn add<T: Serialize>(recording: &mut Recording, kind: Option<Kind>, objects: &[Object<T>]) {
    for object in objects {
        let Some(kind) = kind.or_else(|| Kind::of(&object.api_version, &object.kind)) else {
            continue;
        };
        let mut value = json!({"apiVersion": object.api_version, "kind": object.kind});
        let body = serde_json::to_value(&*object.body)
            .expect("types of `api` have string keys only, which always serialise");
        if let (Value::Object(fields), Value::Object(body)) = (&mut value, body) {
            fields.extend(body);
        }
        value["metadata"] = serde_json::to_value(&object.metadata)
            .expect("metadata has string keys only, which always serialise");
        push(recording, kind, &value);
    }
}

fn push(recording: &mut Recording, kind: Kind, value: &Value) {
    let list = recording.lists.entry(kind).or_default();
    list.append(&RecordedList {
        api_version: String::new(),
        items: value.to_string(),
        count: 1,
    });
    if list.api_version.is_empty() {
        list.api_version = value["apiVersion"].as_str().unwrap_or_default().to_owned();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use crate::mesh::{Mesh, MeshOverrides};
    use crate::source::{Collector, Place};

    /// The model without places, which a saved state changes.
    fn model(snapshot: &Snapshot) -> String {
        let mesh = format!("{:#?}", Mesh::build(snapshot, &MeshOverrides::default()));
        let of_place = ["Demo {", "File {", "path: ", "file: ", "line: ", "origin: "];
        mesh.lines()
            .filter(|line| {
                let line = line.trim_start();
                of_place.iter().all(|start| !line.starts_with(start))
            })
            .fold(String::new(), |kept, line| kept + line + "\n")
    }

    fn saved_and_read(snapshot: &Snapshot) -> Snapshot {
        let mut bytes = Vec::new();
        record(snapshot, "test").write_bundle(&mut bytes).unwrap();
        let mut collector = Collector::new();
        collector.add_bytes(&Place::File("baseline.json.gz".into()), bytes);
        collector.finish()
    }

    #[test]
    fn a_saved_demo_is_the_same_mesh() {
        let demo = crate::demo::snapshot().unwrap();
        let again = saved_and_read(&demo);
        assert_eq!(again.problems, []);
        assert_eq!(again.seen_kinds, demo.seen_kinds);
        assert_eq!(again.gaps, demo.gaps);
        same_lines(&model(&demo), &model(&again));
    }

    #[test]
    fn saved_dumps_of_real_clusters_are_the_same_meshes() {
        let corpus = std::path::Path::new("../shared/corpus");
        if !corpus.is_dir() {
            eprintln!("SKIPPED: {} is not here", corpus.display());
            return;
        }
        for entry in std::fs::read_dir(corpus).unwrap() {
            let folder = entry.unwrap().path();
            let is_live = folder
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("live-"));
            if is_live {
                let found = crate::source::read_files(&[folder]).unwrap();
                same_lines(&model(&found), &model(&saved_and_read(&found)));
            }
        }
    }

    /// The first line that differs, since the whole is long.
    fn same_lines(left: &str, right: &str) {
        for (number, (one, other)) in left.lines().zip(right.lines()).enumerate() {
            assert_eq!(one, other, "line {number}");
        }
        assert_eq!(left.lines().count(), right.lines().count());
    }
}
