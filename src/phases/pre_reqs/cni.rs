//! # Cluster CNI compatibility
//!
//! ## What it finds
//!
//! Settings of the cluster's network that keep ambient mode from working, as far as API objects
//! show them:
//!
//! - Cilium (ConfigMap `kube-system/cilium-config`): `cni-exclusive` that is not `false`,
//!   `enable-bpf-masquerade: true`, and socket load balancing or kube-proxy replacement without
//!   `bpf-lb-sock-hostns-only: true`.
//! - The AWS VPC CNI with pod ENIs outside `POD_SECURITY_GROUP_ENFORCING_MODE=standard`.
//! - Pods of the mesh on nodes where no DaemonSet of Linux runs: Windows, Fargate, virtual nodes.
//! - Platforms whose installation needs a value of its own (GKE, OpenShift, k3s, k3d, MicroK8s,
//!   minikube), as long as ztunnel is not installed yet.
//!
//! ## Why it matters
//!
//! The Istio CNI agent chains itself behind the cluster's CNI plugin and redirects pods to
//! ztunnel. An exclusive Cilium removes it; BPF masquerading breaks the kubelet's probes of
//! captured pods; socket load balancing turns Service addresses into pod addresses before ztunnel
//! sees them, so that **waypoints, and every policy at them, are bypassed without an error**.
//!
//! ## How to fix it
//!
//! Change the setting that the line names (Cilium's Helm values are `cni.exclusive=false`,
//! `bpf.masquerade=false`, `socketLB.hostNamespaceOnly=true`) and restart the agents. Workloads on
//! nodes without DaemonSets have to move, or stay with sidecars. Note that Cilium's own
//! documentation advises against ambient mode beside its own encryption and L7 policies.
//!
//! ## Since and source
//!
//! All releases with ambient mode. istio.io, "Platform-Specific Prerequisites"; docs.cilium.io,
//! "Integration with Istio"; istio issues 49149, 49277, 52208. Istio 1.30 probes branch ENIs by
//! itself (`AMBIENT_ENABLE_AWS_BRANCH_ENI_PROBE`), which lifts the AWS restriction.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::PodOwner;
use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::{DataPlaneMode, Role};
use crate::phases::platform::Platform;
use crate::phases::{Check, Context, wording};
use crate::snapshot::{Kind, Object, ObjectName};

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "Cluster CNI compatibility",
    phase: Phase::PreRequisites,
    needs: &[],
    reads: &[Kind::ConfigMap, Kind::DaemonSet, Kind::Node],
    source: include_str!("cni.rs"),
    find,
};

const CODE: Code = Code("CAST0101");

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mut findings = cilium(context);
    findings.extend(aws_pod_eni(context));
    findings.extend(nodes_without_daemon_sets(context));
    findings.extend(platforms(context));
    findings
}

fn cilium(context: &Context<'_>) -> Vec<Finding> {
    let configuration = context
        .snapshot
        .config_maps
        .iter()
        .find(|map| map.metadata.name == "cilium-config");
    let Some(configuration) = configuration else {
        let agent = daemon_sets(context).find(|owner| {
            owner.metadata.labels.has("k8s-app", "cilium")
                || owner
                    .body
                    .template()
                    .is_some_and(|template| template.metadata.labels.has("k8s-app", "cilium"))
        });
        return agent
            .map(|agent| {
                let name = agent.object_name();
                Finding::new(
                    CODE,
                    Level::Undecided,
                    format!(
                        "Cilium runs (DaemonSet {name}), but its settings in ConfigMap \
                         kube-system/cilium-config are not among the input"
                    ),
                )
                .about(Kind::DaemonSet, &name, Some(&agent.origin))
            })
            .into_iter()
            .collect();
    };
    let data = &configuration.body.data;
    let is = |key: &str, value: &str| data.get(key).is_some_and(|now| now.trim() == value);
    let name = configuration.object_name();
    let mut wrong: Vec<(&str, &str, String, &str)> = Vec::new();
    if !is("cni-exclusive", "false") {
        wrong.push((
            "cni-exclusive",
            "false",
            "Cilium would remove the Istio CNI agent from the plugin chain".to_owned(),
            "cni.exclusive=false",
        ));
    }
    if is("enable-bpf-masquerade", "true") {
        wrong.push((
            "enable-bpf-masquerade",
            "false",
            "the kubelet's probes of captured pods would fail".to_owned(),
            "bpf.masquerade=false",
        ));
    }
    let replaces_kube_proxy =
        is("kube-proxy-replacement", "true") || is("kube-proxy-replacement", "strict");
    let balances_at_sockets = replaces_kube_proxy || is("bpf-lb-sock", "true");
    if balances_at_sockets && !is("bpf-lb-sock-hostns-only", "true") {
        wrong.push((
            "bpf-lb-sock-hostns-only",
            "true",
            "pods would dial pod addresses instead of Services and bypass every waypoint"
                .to_owned(),
            "socketLB.hostNamespaceOnly=true",
        ));
    }
    wrong
        .into_iter()
        .map(|(key, wanted, why, value)| {
            Finding::new(
                CODE,
                Level::Error,
                format!("ConfigMap {name} must set '{key}: \"{wanted}\"': {why}."),
            )
            .about(Kind::ConfigMap, &name, Some(&configuration.origin))
            .fact("setting", key)
            .fact("found", data.get(key).cloned())
            .fact("wanted", wanted)
            .remedy(Remedy::Advice(format!(
                "upgrade the Helm release of Cilium with --reuse-values --set {value}, then \
                 restart its agents"
            )))
        })
        .collect()
}

fn aws_pod_eni(context: &Context<'_>) -> Option<Finding> {
    let agent = daemon_sets(context).find(|owner| owner.metadata.name == "aws-node")?;
    let environment: BTreeMap<&str, &str> = agent
        .body
        .template()?
        .spec
        .containers
        .iter()
        .flat_map(|container| &container.env)
        .filter_map(|one| Some((one.name.as_str(), one.value.as_deref()?)))
        .collect();
    let is = |name: &str, value: &str| environment.get(name).is_some_and(|now| *now == value);
    if !is("ENABLE_POD_ENI", "true") || is("POD_SECURITY_GROUP_ENFORCING_MODE", "standard") {
        return None;
    }
    let lifted = !context.mesh.control_planes.is_empty()
        && context.mesh.control_planes.iter().all(|one| {
            one.version
                .as_ref()
                .is_some_and(|version| version.at_least(1, 30))
        });
    let probe_off = context.mesh.cni_agent.as_ref().is_some_and(|agent| {
        agent
            .environment
            .get("AMBIENT_ENABLE_AWS_BRANCH_ENI_PROBE")
            .is_some_and(|value| value == "false")
    });
    if lifted && !probe_off {
        return None;
    }
    let name = agent.object_name();
    Some(
        Finding::new(
            CODE,
            Level::Warning,
            format!(
                "DaemonSet {name} gives pods their own network interfaces in strict mode: probes \
                 of captured pods fail for workloads with a SecurityGroupPolicy"
            ),
        )
        .about(Kind::DaemonSet, &name, Some(&agent.origin))
        .remedy(Remedy::command(
            format!(
                "kubectl set env daemonset -n {} {} POD_SECURITY_GROUP_ENFORCING_MODE=standard",
                name.namespace, name.name
            ),
            match environment.get("POD_SECURITY_GROUP_ENFORCING_MODE") {
                Some(mode) => format!(
                    "kubectl set env daemonset -n {} {} POD_SECURITY_GROUP_ENFORCING_MODE={mode}",
                    name.namespace, name.name
                ),
                None => format!(
                    "kubectl set env daemonset -n {} {} POD_SECURITY_GROUP_ENFORCING_MODE-",
                    name.namespace, name.name
                ),
            },
        )),
    )
}

fn nodes_without_daemon_sets(context: &Context<'_>) -> Vec<Finding> {
    let mut pods_by_node: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for workload in &context.mesh.workloads {
        if workload.role != Role::Application {
            continue;
        }
        for generation in &workload.generations {
            if generation.mode == DataPlaneMode::None {
                continue;
            }
            for pod in generation.pods.iter().filter(|pod| !pod.node.is_empty()) {
                pods_by_node
                    .entry(&pod.node)
                    .or_default()
                    .push(format!("{}/{}", workload.name.namespace, pod.name));
            }
        }
    }
    let mut findings = Vec::new();
    for node in &context.snapshot.nodes {
        let labels = &node.metadata.labels;
        let what = if node.body.status.node_info.operating_system == "windows"
            || labels.has("kubernetes.io/os", "windows")
        {
            "runs Windows"
        } else if labels.has("eks.amazonaws.com/compute-type", "fargate") {
            "is a Fargate node"
        } else if labels.has("type", "virtual-kubelet") {
            "is a virtual node"
        } else {
            continue;
        };
        let Some(pods) = pods_by_node.get(node.metadata.name.as_str()) else {
            continue;
        };
        let mut finding = Finding::new(
            CODE,
            Level::Error,
            format!(
                "Node {} {what}, where neither ztunnel nor the Istio CNI agent can run, and has {} \
                 of the mesh.",
                node.metadata.name,
                wording::count(pods.len(), "pod")
            ),
        )
        .about(
            Kind::Node,
            &ObjectName::new("", &node.metadata.name),
            Some(&node.origin),
        )
        .remedy(Remedy::Advice(
            "move the pods to ordinary Linux nodes, or leave their workloads with sidecars"
                .to_owned(),
        ));
        finding.names = pods.clone();
        findings.push(finding);
    }
    findings
}

/// Installation advice; only as long as there is something to install.
fn platforms(context: &Context<'_>) -> Vec<Finding> {
    if context.mesh.ztunnel.is_some() {
        return Vec::new();
    }
    let platforms: BTreeSet<Platform> = Platform::of(context.snapshot);
    platforms
        .into_iter()
        .map(|platform| {
            Finding::new(CODE, Level::Note, platform.needs()).fact("platform", platform.value())
        })
        .collect()
}

fn daemon_sets<'a>(context: &'a Context<'_>) -> impl Iterator<Item = &'a Object<PodOwner>> {
    context
        .snapshot
        .owners
        .iter()
        .filter(|owner| owner.kind == "DaemonSet")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;
    use crate::finding::CheckOutcome;
    use crate::mesh::OwnerKind;
    use crate::phases::MigrateOptions;
    use crate::phases::testing::{lines, mesh, mesh_with, run_with, workload};
    use crate::snapshot::{Labels, Metadata, Origin, Snapshot};

    fn object<T>(
        kind: &str,
        namespace: &str,
        name: &str,
        labels: &[(&str, &str)],
        body: T,
    ) -> Object<T> {
        Object {
            api_version: "v1".into(),
            kind: kind.into(),
            metadata: Metadata {
                name: name.into(),
                namespace: namespace.into(),
                labels: labels.iter().copied().collect::<Labels>(),
                ..Metadata::default()
            },
            body: body.into(),
            origin: Origin::Simulated,
        }
    }

    fn cilium_with(settings: &[(&str, &str)]) -> Snapshot {
        Snapshot {
            config_maps: vec![object(
                "ConfigMap",
                "kube-system",
                "cilium-config",
                &[],
                api::ConfigMap {
                    data: settings
                        .iter()
                        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                        .collect(),
                },
            )],
            ..Snapshot::default()
        }
    }

    #[test]
    fn cilium_must_be_set_as_both_documentations_say() {
        let exclusive = "cni-exclusive";
        let masquerade = "enable-bpf-masquerade";
        let sockets = "bpf-lb-sock-hostns-only";
        let table: [(&[(&str, &str)], &[&str]); 6] = [
            (&[(exclusive, "false")], &[]),
            (&[], &[exclusive]),
            (&[(exclusive, "true")], &[exclusive]),
            (&[(exclusive, "false"), (masquerade, "true")], &[masquerade]),
            (
                &[(exclusive, "false"), ("kube-proxy-replacement", "true")],
                &[sockets],
            ),
            (
                &[
                    (exclusive, "false"),
                    ("kube-proxy-replacement", "true"),
                    (sockets, "true"),
                ],
                &[],
            ),
        ];
        for (settings, expected) in table {
            let snapshot = cilium_with(settings);
            let result = run_with(&CHECK, &mesh(), &snapshot, &MigrateOptions::default());
            let wrong: Vec<&str> = result
                .findings
                .iter()
                .filter_map(|finding| finding.facts["setting"].as_str())
                .collect();
            assert_eq!(wrong, expected, "{settings:?}");
            assert_eq!(
                result.outcome == CheckOutcome::Passed,
                expected.is_empty(),
                "{settings:?}"
            );
        }
    }

    #[test]
    fn cilium_without_its_settings_is_neither_passed_nor_failed() {
        let snapshot = Snapshot {
            owners: vec![object(
                "DaemonSet",
                "kube-system",
                "cilium",
                &[("k8s-app", "cilium")],
                PodOwner::default(),
            )],
            ..Snapshot::default()
        };
        let result = run_with(&CHECK, &mesh(), &snapshot, &MigrateOptions::default());
        assert_eq!(
            result.outcome,
            CheckOutcome::CouldNotCheck(vec![
                "Cilium runs (DaemonSet kube-system/cilium), but its settings in ConfigMap \
                 kube-system/cilium-config are not among the input"
                    .to_owned()
            ])
        );
    }

    #[test]
    fn a_windows_node_fails_only_with_pods_of_the_mesh() {
        let windows = |name: &str| {
            object(
                "Node",
                "",
                name,
                &[("kubernetes.io/os", "windows")],
                api::Node::default(),
            )
        };
        let mesh = mesh_with(vec![workload(OwnerKind::Deployment, "app1", "echo")]);
        for (node, expected) in [
            (
                "node-0",
                vec![(
                    Level::Error,
                    "Node node-0 runs Windows, where neither ztunnel nor the Istio CNI agent can \
                     run, and has 1 pod of the mesh.",
                )],
            ),
            ("node-1", vec![]),
        ] {
            let snapshot = Snapshot {
                nodes: vec![windows(node)],
                ..Snapshot::default()
            };
            let result = run_with(&CHECK, &mesh, &snapshot, &MigrateOptions::default());
            assert_eq!(lines(&result), expected);
        }
    }

    #[test]
    fn a_platform_is_noted_and_passes() {
        let snapshot = Snapshot {
            nodes: vec![object(
                "Node",
                "",
                "gke-1",
                &[("cloud.google.com/gke-nodepool", "pool")],
                api::Node::default(),
            )],
            ..Snapshot::default()
        };
        let result = run_with(&CHECK, &mesh(), &snapshot, &MigrateOptions::default());
        assert_eq!(result.outcome, CheckOutcome::Passed);
        assert_eq!(lines(&result), [(Level::Note, Platform::Gke.needs())]);
    }
}
