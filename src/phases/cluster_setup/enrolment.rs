//! # Workloads that the node agents would never capture
//!
//! ## What it finds
//!
//! Namespaces with sidecars that the Istio CNI agent leaves out (`EXCLUDE_NAMESPACES`), pods that
//! none of its enablement selectors would enrol, and namespaces of ztunnel or a waypoint that the
//! mesh's `discoverySelectors` hide from istiod.
//!
//! ## Why it matters
//!
//! Such a workload loses its sidecar and gets nothing in its place: plaintext, no identity, no policy.
//! A ztunnel that istiod does not see gets no CA certificate and serves nobody.
//!
//! ## How to fix it
//!
//! Take the namespace out of the agent's `excludeNamespaces`, or add a selector for
//! `istio.io/dataplane-mode=ambient` to `ambient.enablementSelectors`; give the hidden namespace a
//! label that the discovery selectors ask for. A namespace that is to stay as it is goes out of the
//! migration with `-n`.
//!
//! ## Since and source
//!
//! `excludeNamespaces` holds for ambient mode in all releases; enablement selectors since 1.27. istio
//! cni/pkg/util/enablement_selector.go (`Matches`), manifests/charts/istio-cni/templates/configmap-cni.yaml;
//! istio.io, "Install ambient mode" (ztunnel in a namespace of its own).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::api::cluster::LabelSelector;
use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::{DataPlaneMode, Role, Workload};
use crate::phases::{Check, Context, wording};
use crate::snapshot::{Kind, Labels, ObjectName};
use crate::source::yaml;

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "",
    phase: Phase::ClusterSetup,
    needs: &[],
    reads: &[Kind::ConfigMap, Kind::DaemonSet, Kind::Namespace],
    source: include_str!("enrolment.rs"),
    find,
};

const CODE: Code = Code("CAST0206");
const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mut found = excluded(context);
    found.extend(unselected(context));
    found.extend(hidden(context));
    found
}

/// Workloads to migrate, by namespace.
fn to_migrate<'a>(context: &'a Context<'_>) -> BTreeMap<&'a str, Vec<&'a Workload>> {
    let mut namespaces: BTreeMap<&str, Vec<&Workload>> = BTreeMap::new();
    for workload in &context.mesh.workloads {
        if workload.role == Role::Application
            && workload.has_mode(DataPlaneMode::Sidecar)
            && context.choice().includes(&workload.name.namespace)
        {
            namespaces
                .entry(&workload.name.namespace)
                .or_default()
                .push(workload);
        }
    }
    namespaces
}

fn configuration<'a>(context: &'a Context<'_>, key: &str) -> Option<&'a str> {
    let agent = context.mesh.cni_agent.as_ref()?;
    agent
        .configuration
        .get(key)
        .map(String::as_str)
        .or_else(|| agent.environment.get(key).map(|value| value.as_str()))
}

fn excluded(context: &Context<'_>) -> Vec<Finding> {
    let Some(list) = configuration(context, "EXCLUDE_NAMESPACES") else {
        return Vec::new();
    };
    let excluded: BTreeSet<&str> = list.split(',').map(str::trim).collect();
    to_migrate(context)
        .into_iter()
        .filter(|(namespace, _)| excluded.contains(namespace))
        .map(|(namespace, workloads)| {
            let mut finding = Finding::new(
                CODE,
                Level::Error,
                format!(
                    "Namespace {namespace} is excluded by the Istio CNI agent (EXCLUDE_NAMESPACES): {} \
                     would leave the mesh with their sidecars",
                    wording::count(workloads.len(), "workload")
                ),
            )
            .about(Kind::Namespace, &ObjectName::new("", namespace), None)
            .remedy(Remedy::Advice(format!(
                "take {namespace} out of excludeNamespaces in the values of the istio-cni chart"
            )));
            finding.names = workloads.iter().map(|one| wording::workload(one)).collect();
            finding
        })
        .collect()
}

fn unselected(context: &Context<'_>) -> Vec<Finding> {
    let Some(text) = configuration(context, "AMBIENT_ENABLEMENT_SELECTOR") else {
        return Vec::new();
    };
    let selectors: Vec<(LabelSelector, LabelSelector)> = match yaml::parse_value(text) {
        Ok(Value::Array(list)) => list
            .iter()
            .map(|one| {
                (
                    selector(one, "namespaceSelector"),
                    selector(one, "podSelector"),
                )
            })
            .collect(),
        _ => {
            return vec![Finding::new(
                CODE,
                Level::Undecided,
                "the Istio CNI agent's AMBIENT_ENABLEMENT_SELECTOR is no list of selectors",
            )];
        }
    };
    let enrols = |namespace: &Labels, pods: &Labels| {
        selectors
            .iter()
            .any(|(of_namespace, of_pods)| of_namespace.matches(namespace) && of_pods.matches(pods))
    };
    to_migrate(context)
        .into_iter()
        .filter_map(|(namespace, workloads)| {
            let mut labels = context
                .mesh
                .namespaces
                .get(namespace)
                .map(|one| one.labels.clone())
                .unwrap_or_default();
            labels.set("kubernetes.io/metadata.name", namespace);
            labels.set(DATAPLANE_MODE, "ambient");
            let left_out: Vec<String> = workloads
                .iter()
                // Who says `none` is meant to stay out.
                .filter(|one| one.template_labels.get(DATAPLANE_MODE) != Some("none"))
                .filter(|one| !enrols(&labels, &one.template_labels))
                .map(|one| wording::workload(one))
                .collect();
            if left_out.is_empty() {
                return None;
            }
            let mut finding = Finding::new(
                CODE,
                Level::Error,
                format!(
                    "Namespace {namespace}: none of the Istio CNI agent's enablement selectors enrols {} when the \
                     namespace has {DATAPLANE_MODE}=ambient: {}",
                    wording::count(left_out.len(), "workload"),
                    wording::first_few(&left_out, 5)
                ),
            )
            .about(Kind::Namespace, &ObjectName::new("", namespace), None)
            .remedy(Remedy::Advice(
                "add the label istio.io/dataplane-mode=ambient to ambient.enablementSelectors in the values of the \
                 istio-cni chart"
                    .to_owned(),
            ));
            finding.names = left_out;
            Some(finding)
        })
        .collect()
}

fn selector(entry: &Value, key: &str) -> LabelSelector {
    serde_json::from_value(entry[key].clone()).unwrap_or_default()
}

/// Namespaces of ztunnel and of waypoints that istiod does not see.
fn hidden(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let ztunnel = mesh
        .ztunnel
        .as_ref()
        .map(|one| ("ztunnel", &one.object.name));
    let waypoints = mesh.waypoints.iter().map(|one| ("waypoint", &one.name));
    ztunnel
        .into_iter()
        .chain(waypoints)
        .filter(|(_, name)| {
            mesh.namespaces
                .get(&name.namespace)
                .is_some_and(|one| one.origin.is_some() && !one.discovered)
        })
        .map(|(what, name)| {
            Finding::new(
                CODE,
                Level::Error,
                format!(
                    "Namespace {} of {what} {name} is hidden from istiod by discoverySelectors: its pods get no CA \
                     certificate and no configuration",
                    name.namespace
                ),
            )
            .about(Kind::Namespace, &ObjectName::new("", &name.namespace), None)
            .remedy(Remedy::Advice(format!(
                "label namespace {} as the discoverySelectors of the mesh configuration ask",
                name.namespace
            )))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::testing::{lines, read, run};

    const MESH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: istio-system, labels: {team: mesh}}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled, team: shop}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  containers:
  - {name: web, image: web}
  - {name: istio-proxy, image: istio/proxyv2:1.30.0, args: [proxy, sidecar]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: istio-cni-node, namespace: istio-system, labels: {k8s-app: istio-cni-node}}
spec:
  template:
    metadata: {labels: {k8s-app: istio-cni-node}}
    spec: {containers: [{name: install-cni, image: istio/install-cni:1.30.0}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: ztunnel, namespace: istio-system, labels: {app: ztunnel}}
spec:
  template:
    metadata: {labels: {app: ztunnel}}
    spec: {containers: [{name: istio-proxy, image: istio/ztunnel:1.30.0}]}
---
";

    fn said(configuration: &str) -> Vec<(Level, String)> {
        let (mesh, snapshot) = read(&format!("{MESH}{configuration}"));
        let result = crate::phases::testing::run_with(
            &CHECK,
            &mesh,
            &snapshot,
            &crate::phases::MigrateOptions::default(),
        );
        lines(&result)
            .into_iter()
            .map(|(level, line)| (level, line.to_owned()))
            .collect()
    }

    fn agent(data: &str) -> String {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio-cni-config, namespace: \
             istio-system}}\ndata:\n{data}"
        )
    }

    #[test]
    fn an_excluded_namespace_with_sidecars_is_an_error_and_others_are_none_of_its_business() {
        assert_eq!(
            said(&agent("  EXCLUDE_NAMESPACES: kube-system, shop\n")),
            [(
                Level::Error,
                "Namespace shop is excluded by the Istio CNI agent (EXCLUDE_NAMESPACES): 1 workload would leave \
                 the mesh with their sidecars"
                    .to_owned()
            )]
        );
        assert_eq!(said(&agent("  EXCLUDE_NAMESPACES: kube-system\n")), []);
    }

    #[test]
    fn selectors_that_know_the_label_enrol_and_others_are_named() {
        let standard = "  AMBIENT_ENABLEMENT_SELECTOR: |
    - podSelector: {matchLabels: {istio.io/dataplane-mode: ambient}}
    - namespaceSelector: {matchLabels: {istio.io/dataplane-mode: ambient}}
      podSelector:
        matchExpressions:
        - {key: istio.io/dataplane-mode, operator: NotIn, values: [none]}
";
        assert_eq!(said(&agent(standard)), []);
        let own = "  AMBIENT_ENABLEMENT_SELECTOR: '[{\"podSelector\":{\"matchLabels\":{\"mesh\":\"yes\"}}}]'\n";
        assert_eq!(
            said(&agent(own)),
            [(
                Level::Error,
                "Namespace shop: none of the Istio CNI agent's enablement selectors enrols 1 workload when the \
                 namespace has istio.io/dataplane-mode=ambient: Pod shop/web"
                    .to_owned()
            )]
        );
    }

    #[test]
    fn a_ztunnel_that_istiod_does_not_see_is_an_error() {
        let mesh = "apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    discoverySelectors:
    - matchLabels: {team: shop}
";
        assert_eq!(
            said(mesh),
            [(
                Level::Error,
                "Namespace istio-system of ztunnel istio-system/ztunnel is hidden from istiod by \
                 discoverySelectors: its pods get no CA certificate and no configuration"
                    .to_owned()
            )]
        );
    }

    #[test]
    fn a_mesh_without_an_agent_says_nothing_here() {
        assert_eq!(lines(&run(&CHECK, &crate::phases::testing::mesh())), []);
    }
}
