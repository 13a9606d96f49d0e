//! The few ConfigMaps that configure mesh and CNI, got by name.
//!
//! Listing ConfigMaps would need a right to read all of them, which may hold anything. Their names
//! follow from the revisions and namespaces of istiod and of the CNI agents that were read before.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::list;
use super::request::{Connection, Failure};
use crate::snapshot::{Gap, Kind};
use crate::source::recording::{RecordedList, Recording};
use crate::source::role;

/// Reads them into the recording. One that does not exist is absent; one that may not be read is
/// a gap of its namespace.
pub(super) async fn read(connection: &Connection, recording: &mut Recording) {
    let mut all = RecordedList {
        api_version: "v1".to_owned(),
        ..RecordedList::default()
    };
    let mut failures: BTreeMap<String, String> = BTreeMap::new();
    for (namespace, name) in wanted(recording) {
        let request = list::Request {
            kind: Kind::ConfigMap,
            api_version: all.api_version.clone(),
            path: format!("/api/v1/namespaces/{namespace}/configmaps/{name}"),
        };
        match list::list(connection, &request, &|_| {}).await {
            Ok(list) => all.append(&list),
            Err(Failure::Status { code: 404, .. }) => {}
            Err(failure) => {
                failures.entry(namespace).or_insert_with(|| match failure {
                    Failure::Status { code: 403, .. } => {
                        format!("forbidden: this account may not `get` `configmaps` named `{name}`")
                    }
                    failure => format!("getting the ConfigMap `{name}` failed: {failure}"),
                });
            }
        }
    }
    recording.lists.insert(Kind::ConfigMap, all);
    recording
        .gaps
        .extend(failures.into_iter().map(|(namespace, reason)| Gap {
            kind: Kind::ConfigMap,
            namespace: Some(namespace),
            except: Vec::new(),
            reason,
        }));
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    metadata: ItemMetadata,
}

#[derive(Deserialize, Default)]
struct ItemMetadata {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

/// Namespace and name of every ConfigMap to get.
fn wanted(recording: &Recording) -> BTreeSet<(String, String)> {
    let mut wanted = BTreeSet::new();
    let mut want = |namespace: &str, name: &str| {
        wanted.insert((namespace.to_owned(), name.to_owned()));
    };
    for name in ["istio", "istio-sidecar-injector", "istio-cni-config"] {
        want("istio-system", name);
    }
    want("kube-system", "istio-cni-config");
    want("kube-system", "cilium-config");
    for item in items(recording, Kind::Deployment) {
        let labels = item.metadata.labels.unwrap_or_default();
        if labels.get("app").map(String::as_str) != Some("istiod") {
            continue;
        }
        let suffix = match labels.get("istio.io/rev").map(String::as_str) {
            None | Some("" | "default") => String::new(),
            Some(revision) => format!("-{revision}"),
        };
        for name in &role::CONFIG_MAPS[..role::OF_REVISION] {
            want(&item.metadata.namespace, &format!("{name}{suffix}"));
        }
    }
    for item in items(recording, Kind::DaemonSet) {
        let labels = item.metadata.labels.unwrap_or_default();
        if labels.get("k8s-app").map(String::as_str) == Some("istio-cni-node") {
            want(&item.metadata.namespace, "istio-cni-config");
        }
    }
    wanted
}

fn items(recording: &Recording, kind: Kind) -> Vec<Item> {
    recording.lists.get(&kind).map_or_else(Vec::new, |list| {
        serde_json::from_str(&format!("[{}]", list.items)).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_from_revisions_and_namespaces() {
        let mut recording = Recording::default();
        recording.lists.insert(
            Kind::Deployment,
            RecordedList {
                items: r#"{"metadata":{"name":"istiod-canary","namespace":"mesh","labels":{"app":"istiod","istio.io/rev":"canary"}}},
                    {"metadata":{"name":"other","namespace":"shop"}}"#
                    .to_owned(),
                ..RecordedList::default()
            },
        );
        let names: Vec<String> = wanted(&recording)
            .into_iter()
            .map(|(namespace, name)| format!("{namespace}/{name}"))
            .collect();
        assert_eq!(
            names,
            [
                "istio-system/istio",
                "istio-system/istio-cni-config",
                "istio-system/istio-sidecar-injector",
                "kube-system/cilium-config",
                "kube-system/istio-cni-config",
                "mesh/istio-canary",
                "mesh/istio-sidecar-injector-canary",
            ]
        );
    }
}
