//! The commands of a wave as changes of the user's own sources.
//!
//! In: commands, and the snapshot before them, which knows where each object was read. Out:
//! [`Edit`]s. Invariant: every label, patch and delete command has its edit; a restart has none.

use std::collections::BTreeMap;

use serde_json::Value;

use super::saved;
use super::wave::{Edit, EditChange, Wave};
use crate::simulate::{Command, command};
use crate::snapshot::{Kind, Object, ObjectName, Origin, Snapshot, find};

/// Changes of the user's own objects that the wave makes, in order.
pub(super) fn edits(before: &Snapshot, wave: &Wave) -> Vec<Edit> {
    let commands = wave.steps.iter().flat_map(|step| &step.run);
    commands
        .filter_map(|line| command::parse_line(line).ok())
        .flat_map(|command| match command {
            Command::Apply { file } => replaced(before, wave, &file),
            other => edit(before, other).into_iter().collect(),
        })
        .collect()
}

/// Objects of the user's own that a file replaces for good.
fn replaced(before: &Snapshot, wave: &Wave, file: &str) -> Vec<Edit> {
    if wave.temporary.contains(file) {
        return Vec::new();
    }
    let content = wave.manifests.get(file).map_or("", String::as_str);
    let objects = saved::objects(content).into_iter();
    objects
        .filter_map(|(kind, name)| {
            let (api_version, origin) = place(before, kind, &name)?;
            Some(Edit {
                api_version,
                kind: kind.row().name.to_owned(),
                name,
                origin,
                change: EditChange::Replace(file.to_owned()),
            })
        })
        .collect()
}

fn edit(before: &Snapshot, command: Command) -> Option<Edit> {
    let (kind, name, change) = match command {
        Command::Label {
            kind,
            name,
            changes,
        } => {
            let changes = changes.into_iter().map(|one| (one.key, one.value));
            (kind, name, EditChange::Labels(changes.collect()))
        }
        Command::Patch { kind, name, patch } => {
            let labels = ["/spec/template", "/spec/jobTemplate/spec/template"]
                .iter()
                .find_map(|template| patch.pointer(&format!("{template}/metadata/labels")))?;
            (kind, name, EditChange::TemplateLabels(pairs(labels)))
        }
        Command::Delete { kind, name, .. } => (kind, name, EditChange::Delete),
        Command::Apply { .. } | Command::Restart { .. } | Command::DeletePods { .. } => {
            return None;
        }
    };
    let (api_version, origin) = place(before, kind, &name)?;
    Some(Edit {
        api_version,
        kind: kind.row().name.to_owned(),
        name,
        origin,
        change,
    })
}

fn pairs(labels: &Value) -> BTreeMap<String, Option<String>> {
    labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().map(str::to_owned)))
        .collect()
}

/// `apiVersion` and origin of an object.
fn place(snapshot: &Snapshot, kind: Kind, name: &ObjectName) -> Option<(String, Option<String>)> {
    fn found<T>(
        list: &[Object<T>],
        kind: Kind,
        name: &ObjectName,
    ) -> Option<(String, Option<String>)> {
        find(list, kind, name).map(|one| {
            let origin = match &one.origin {
                Origin::Simulated | Origin::Cluster { .. } => None,
                other => Some(other.to_string()),
            };
            (one.api_version.to_string(), origin)
        })
    }
    match kind {
        Kind::Namespace => found(&snapshot.namespaces, kind, name),
        Kind::Service => found(&snapshot.services, kind, name),
        _ => found(&snapshot.owners, kind, name)
            .or_else(|| found(snapshot.resources(kind), kind, name)),
    }
}
