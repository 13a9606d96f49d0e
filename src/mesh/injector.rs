//! What an injector decides about a pod that its webhook selected.
//!
//! In: the injectors' own configuration (ConfigMaps `istio-sidecar-injector`), labels and annotations
//! of a pod. Out: whether it gets a sidecar. Invariant: the order of istio pkg/kube/inject/inject.go
//! `injectRequired`: the pod's own word, never-selectors, always-selectors, the policy.

use std::collections::BTreeMap;

use serde_json::Value;
use smol_str::SmolStr;

use crate::api::cluster::{ConfigMap, LabelSelector};
use crate::snapshot::{Gap, Kind, Metadata, Object, Snapshot};
use crate::source::yaml;

const CONFIG_MAP: &str = "istio-sidecar-injector";
const INJECT: &str = "sidecar.istio.io/inject";

/// The configuration of one revision's injector. Its defaults are the chart's.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct InjectorConfiguration {
    never: Vec<LabelSelector>,
    always: Vec<LabelSelector>,
    /// Whether pods that say nothing are injected (`policy: enabled`).
    by_default: bool,
}

impl Default for InjectorConfiguration {
    fn default() -> Self {
        Self {
            never: Vec::new(),
            always: Vec::new(),
            by_default: true,
        }
    }
}

/// The injectors' ConfigMaps, each with its revision.
pub(super) fn config_maps(
    snapshot: &Snapshot,
) -> impl Iterator<Item = (SmolStr, &Object<ConfigMap>)> {
    snapshot.config_maps.iter().filter_map(|map| {
        let rest = map.metadata.name.strip_prefix(CONFIG_MAP)?;
        let revision = rest
            .strip_prefix('-')
            .or_else(|| rest.is_empty().then_some("default"))?;
        Some((revision.into(), map))
    })
}

/// The configurations by revision. One that cannot be read is a gap.
pub(super) fn read(
    snapshot: &Snapshot,
    gaps: &mut Vec<Gap>,
) -> BTreeMap<SmolStr, InjectorConfiguration> {
    let mut by_revision = BTreeMap::new();
    for (revision, map) in config_maps(snapshot) {
        let Some(text) = map.body.data.get("config") else {
            continue;
        };
        match yaml::parse_value(text) {
            Ok(value) => {
                by_revision.insert(revision, configuration(&value));
            }
            Err(reason) => gaps.push(Gap {
                kind: Kind::ConfigMap,
                namespace: Some(map.metadata.namespace.to_string()),
                except: Vec::new(),
                reason: format!(
                    "the configuration in `{}` is broken: {reason}",
                    map.metadata.name
                ),
            }),
        }
    }
    by_revision
}

fn configuration(value: &Value) -> InjectorConfiguration {
    let selectors = |key: &str| -> Vec<LabelSelector> {
        value[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|one| serde_json::from_value(one.clone()).ok())
            // An empty selector selects nothing here, other than everywhere else.
            .filter(|one: &LabelSelector| *one != LabelSelector::default())
            .collect()
    };
    InjectorConfiguration {
        never: selectors("neverInjectSelector"),
        always: selectors("alwaysInjectSelector"),
        by_default: value["policy"]
            .as_str()
            .is_none_or(|policy| policy == "enabled"),
    }
}

impl InjectorConfiguration {
    /// Whether a pod that the webhook selected gets a sidecar.
    pub(super) fn injects(&self, metadata: &Metadata) -> bool {
        let own = metadata
            .labels
            .get(INJECT)
            .or_else(|| metadata.annotations.get(INJECT))
            .unwrap_or_default();
        match own.to_ascii_lowercase().as_str() {
            "y" | "yes" | "true" | "on" => true,
            "" => {
                let selected =
                    |list: &[LabelSelector]| list.iter().any(|one| one.matches(&metadata.labels));
                !selected(&self.never) && (selected(&self.always) || self.by_default)
            }
            _ => false,
        }
    }
}
