//! What of a pod's traffic is redirected to its sidecar: its own annotations, else what the injector puts in.
//!
//! In: pods' annotations, `global.proxy` of the injectors' values, the mesh's `interceptionMode`. Out: a setting and
//! who says so. Invariant: an annotation counts even where it is empty (istio pkg/kube/inject/template.go
//! `annotation`; manifests/charts/istio-control/istio-discovery/files/injection-template.yaml).

use std::collections::BTreeMap;

use serde_json::Value;
use smol_str::SmolStr;

use super::{Mesh, Workload};
use crate::snapshot::{Gap, Kind, Labels, Snapshot};
use crate::source::yaml;

/// `sidecar.istio.io/interceptionMode`: `REDIRECT`, `TPROXY` or `NONE`.
pub const INTERCEPTION_MODE: &str = "sidecar.istio.io/interceptionMode";

/// Annotations, without `traffic.sidecar.istio.io/`, and the value of `global.proxy` that stands for each.
const VALUES: [(&str, &str); 6] = [
    ("includeInboundPorts", "includeInboundPorts"),
    ("excludeInboundPorts", "excludeInboundPorts"),
    ("includeOutboundPorts", "includeOutboundPorts"),
    ("excludeOutboundPorts", "excludeOutboundPorts"),
    ("includeOutboundIPRanges", "includeIPRanges"),
    ("excludeOutboundIPRanges", "excludeIPRanges"),
];

/// What the injectors put in where a pod says nothing, by revision and by annotation.
pub(super) fn read(snapshot: &Snapshot, gaps: &mut Vec<Gap>) -> BTreeMap<SmolStr, Labels> {
    let mut by_revision = BTreeMap::new();
    for (revision, map) in super::injector::config_maps(snapshot) {
        let Some(text) = map.body.data.get("values") else {
            continue;
        };
        match yaml::parse_value(text) {
            Ok(values) => {
                let proxy = &values["global"]["proxy"];
                let given = VALUES.iter().filter_map(|(annotation, key)| {
                    let value = match proxy.get(key)? {
                        Value::Null => return None,
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    };
                    Some((annotation_of(annotation), value))
                });
                by_revision.insert(revision, given.collect());
            }
            Err(reason) => gaps.push(Gap {
                kind: Kind::ConfigMap,
                namespace: Some(map.metadata.namespace.to_string()),
                except: Vec::new(),
                reason: format!("the values in `{}` are broken: {reason}", map.metadata.name),
            }),
        }
    }
    by_revision
}

fn annotation_of(name: &str) -> String {
    format!("traffic.sidecar.istio.io/{name}")
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirection {
    /// Who says so: `annotation traffic.sidecar.istio.io/excludeOutboundPorts`.
    pub by: String,
    /// What.
    pub value: String,
}

impl Mesh {
    /// The network interfaces whose traffic is redirected neither to the sidecar nor from it; no value of the injector
    /// stands for the annotation.
    pub fn excluded_interfaces(&self, workload: &Workload) -> Option<Redirection> {
        let annotation = annotation_of("excludeInterfaces");
        let value = workload.template_annotations.get(&annotation)?;
        (!value.trim().is_empty()).then(|| Redirection {
            by: format!("annotation {annotation}"),
            value: value.to_owned(),
        })
    }

    /// How a generation of a workload's pods is intercepted; `None`: `REDIRECT`, the default.
    pub fn interception_mode(&self, workload: &Workload) -> Option<Redirection> {
        let annotations = &workload.template_annotations;
        if let Some(value) = annotations.get(INTERCEPTION_MODE) {
            return Some(Redirection {
                by: format!("annotation {INTERCEPTION_MODE}"),
                value: value.to_owned(),
            });
        }
        const CONFIG: &str = "proxy.istio.io/config";
        let own = annotations.get(CONFIG).and_then(|text| {
            let config = yaml::parse_value(text).ok()?;
            Some(config.get("interceptionMode")?.as_str()?.to_owned())
        });
        if let Some(value) = own {
            return Some(Redirection {
                by: format!("annotation {CONFIG}"),
                value,
            });
        }
        let of_mesh = &self.settings.interception_mode;
        (!of_mesh.is_empty()).then(|| Redirection {
            by: "meshConfig.defaultConfig.interceptionMode".to_owned(),
            value: of_mesh.to_string(),
        })
    }

    /// What the annotation of this name (without `traffic.sidecar.istio.io/`) says for a generation of a
    /// workload's pods, or the injector in its place.
    pub fn redirection(
        &self,
        workload: &Workload,
        generation: usize,
        name: &str,
    ) -> Option<Redirection> {
        if workload.template_annotations.is_empty() && self.settings.redirection.is_empty() {
            return None;
        }
        let annotation = annotation_of(name);
        if let Some(value) = workload.template_annotations.get(&annotation) {
            return Some(Redirection {
                by: format!("annotation {annotation}"),
                value: value.to_owned(),
            });
        }
        let revision = &workload.generations[generation].revision;
        let injectors = &self.settings.redirection;
        // Which revision injected it is not always to be seen; where there is one, it was that.
        let injector = injectors.get(revision).or_else(|| {
            let only = injectors.len() == 1;
            injectors.values().next().filter(|_| only)
        })?;
        let value = injector.get(&annotation)?;
        let (_, key) = VALUES.iter().find(|(known, _)| *known == name)?;
        Some(Redirection {
            by: format!("global.proxy.{key} of the injector's values"),
            value: value.to_owned(),
        })
    }
}
