//! # DaemonSets deployed
//!
//! ## What it finds
//!
//! Whether ztunnel and the Istio CNI agent are installed, whether the agent has ambient mode
//! enabled, and whether both have a ready pod on every node that runs pods of the mesh. It warns
//! about application namespaces that the agent is told to leave out.
//!
//! ## Why it matters
//!
//! A pod is captured by the agent of its own node, and its traffic is carried by the ztunnel of its
//! own node. On a node without them an enrolled pod has no mTLS and no policy, or no network at all.
//!
//! ## How to fix it
//!
//! Install the two DaemonSets with the commands beneath. If they are installed but not ready
//! somewhere, look at taints (the DaemonSets need tolerations), resource quotas and the agent's
//! logs on the nodes named.
//!
//! ## Since and source
//!
//! All releases with ambient mode; istio manifests/charts/ztunnel and manifests/charts/istio-cni
//! (`AMBIENT_ENABLED`, `EXCLUDE_NAMESPACES` in ConfigMap `istio-cni-config`); istio issues 48286,
//! 56086 (nodes left out), 59295 (left-out namespaces).

use crate::finding::{Code, Finding, Level, Phase};
use crate::mesh::{DaemonSetState, DataPlaneMode, Role};
use crate::phases::{Check, Context, installation, wording};
use crate::snapshot::Kind;

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "DaemonSets deployed",
    phase: Phase::ClusterSetup,
    needs: &[],
    reads: &[Kind::DaemonSet, Kind::Pod, Kind::ConfigMap],
    source: include_str!("daemon_sets.rs"),
    find,
};

const CODE: Code = Code("CAST0202");

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let mut findings = agent(context, "ztunnel", mesh.ztunnel.as_ref(), &Role::Ztunnel);
    findings.extend(agent(
        context,
        "Istio CNI agent",
        mesh.cni_agent.as_ref(),
        &Role::CniAgent,
    ));
    if let Some(state) = &mesh.cni_agent {
        findings.extend(cni_configuration(context, state));
    }
    findings
}

fn agent(
    context: &Context<'_>,
    name: &str,
    state: Option<&DaemonSetState>,
    role: &Role,
) -> Vec<Finding> {
    let mesh = context.mesh;
    let Some(state) = state else {
        // Pods tell of a DaemonSet that was not given; pods without it tell of its absence.
        let pods = mesh.workloads.iter().any(|one| one.role == *role);
        let seen =
            mesh.seen_kinds.contains(&Kind::DaemonSet) || mesh.seen_kinds.contains(&Kind::Pod);
        if pods || !seen {
            return vec![Finding::new(
                CODE,
                Level::Undecided,
                format!("whether {name} is installed: daemonsets.apps are not among the input"),
            )];
        }
        let mut finding = Finding::new(CODE, Level::Error, format!("{name} not found"));
        for one in &mesh.control_planes {
            finding
                .remedies
                .extend(installation::commands(context, one));
        }
        return vec![finding];
    };
    let about = |finding: Finding| {
        finding.about(
            state.object.kind,
            &state.object.name,
            Some(&state.object.origin),
        )
    };
    if !state.missing_nodes.is_empty() {
        let nodes: Vec<String> = state
            .missing_nodes
            .iter()
            .map(ToString::to_string)
            .collect();
        let mut finding = about(Finding::new(
            CODE,
            Level::Error,
            format!(
                "{name} has no ready pod on {} with pods of the mesh: {}",
                wording::count(nodes.len(), "node"),
                wording::first_few(&nodes, 5)
            ),
        ));
        finding.names = nodes;
        return vec![finding];
    }
    match (state.desired, state.ready) {
        (Some(desired), Some(ready)) if ready < desired => vec![about(Finding::new(
            CODE,
            // Where no pods were given, the node that lacks it may run pods of the mesh.
            if state.ready_nodes.is_some() {
                Level::Warning
            } else {
                Level::Error
            },
            format!("{name} is ready on {ready} of {desired} nodes"),
        ))],
        (None, _) | (_, None) if state.ready_nodes.is_none() => vec![about(Finding::new(
            CODE,
            Level::Undecided,
            format!(
                "whether {name} is ready: DaemonSet {} has neither status nor pods in the input",
                state.object.name
            ),
        ))],
        _ => Vec::new(),
    }
}

fn cni_configuration(context: &Context<'_>, state: &DaemonSetState) -> Vec<Finding> {
    let setting = |key: &str| {
        state
            .configuration
            .get(key)
            .map(String::as_str)
            .or_else(|| state.environment.get(key).map(|value| value.as_str()))
    };
    let about = |finding: Finding| {
        finding.about(
            state.object.kind,
            &state.object.name,
            Some(&state.object.origin),
        )
    };
    let mut findings = Vec::new();
    match setting("AMBIENT_ENABLED") {
        Some("true") => {}
        None if state.configuration.is_empty() => findings.push(about(Finding::new(
            CODE,
            Level::Undecided,
            format!(
                "whether the Istio CNI agent has ambient mode enabled: ConfigMap \
                 {}/istio-cni-config is not among the input",
                state.object.name.namespace
            ),
        ))),
        _ => {
            let mut finding = about(Finding::new(
                CODE,
                Level::Error,
                "Istio CNI agent does not have ambient mode enabled (AMBIENT_ENABLED). Upgrade \
                 Istio with '--set profile=ambient'.",
            ));
            for one in &context.mesh.control_planes {
                finding
                    .remedies
                    .extend(installation::commands(context, one));
            }
            findings.push(finding);
        }
    }
    for namespace in setting("EXCLUDE_NAMESPACES")
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
    {
        let in_mesh = context
            .mesh
            .workloads_in(namespace)
            .any(|(_, one)| one.role == Role::Application && one.has_mode(DataPlaneMode::Sidecar));
        if in_mesh {
            findings.push(about(Finding::new(
                CODE,
                Level::Warning,
                format!(
                    "the Istio CNI agent leaves out namespace {namespace} (EXCLUDE_NAMESPACES), \
                     which has workloads of the mesh: they cannot be enrolled"
                ),
            )));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::finding::CheckOutcome;
    use crate::mesh::OwnerKind;
    use crate::phases::testing::{lines, mesh, mesh_with, reference, run, workload};

    fn daemon_set(name: &str) -> DaemonSetState {
        let object = reference(Kind::DaemonSet, "istio-system", name);
        DaemonSetState {
            namespace: object.name.clone(),
            object,
            desired: Some(2),
            ready: Some(2),
            ready_nodes: Some(vec!["node-0".into(), "node-1".into()]),
            missing_nodes: Vec::new(),
            image: "docker.io/istio/install-cni:1.30.3".into(),
            environment: BTreeMap::new(),
            configuration: [("AMBIENT_ENABLED".into(), "true".to_owned())]
                .into_iter()
                .collect(),
        }
    }

    #[test]
    fn what_is_absent_is_not_found_and_what_was_not_given_is_not_absent() {
        let mut empty = mesh();
        assert_eq!(
            lines(&run(&CHECK, &empty)),
            [
                (Level::Error, "ztunnel not found"),
                (Level::Error, "Istio CNI agent not found")
            ]
        );
        empty.seen_kinds.remove(&Kind::DaemonSet);
        assert_eq!(run(&CHECK, &empty).outcome, CheckOutcome::Failed);
        empty.seen_kinds.remove(&Kind::Pod);
        assert!(matches!(
            run(&CHECK, &empty).outcome,
            CheckOutcome::CouldNotCheck(_)
        ));
    }

    #[test]
    fn both_must_be_ready_where_the_mesh_runs() {
        let mut ready = mesh();
        ready.ztunnel = Some(daemon_set("ztunnel"));
        ready.cni_agent = Some(daemon_set("istio-cni-node"));
        assert_eq!(run(&CHECK, &ready).outcome, CheckOutcome::Passed);

        let mut missing = ready.clone();
        let state = missing.ztunnel.as_mut().expect("set above");
        state.ready = Some(1);
        state.missing_nodes = vec!["node-1".into()];
        assert_eq!(
            lines(&run(&CHECK, &missing)),
            [(
                Level::Error,
                "ztunnel has no ready pod on 1 node with pods of the mesh: node-1"
            )]
        );

        let mut elsewhere = ready.clone();
        elsewhere.ztunnel.as_mut().expect("set above").ready = Some(1);
        assert_eq!(
            lines(&run(&CHECK, &elsewhere)),
            [(Level::Warning, "ztunnel is ready on 1 of 2 nodes")]
        );

        let mut declared = ready.clone();
        let state = declared.ztunnel.as_mut().expect("set above");
        (state.desired, state.ready, state.ready_nodes) = (None, None, None);
        assert!(matches!(
            run(&CHECK, &declared).outcome,
            CheckOutcome::CouldNotCheck(_)
        ));
    }

    #[test]
    fn the_agent_must_have_ambient_mode_on_and_take_in_the_mesh() {
        let mut mesh = mesh_with(vec![workload(OwnerKind::Deployment, "app1", "echo")]);
        mesh.ztunnel = Some(daemon_set("ztunnel"));
        let mut state = daemon_set("istio-cni-node");
        state.configuration = [
            ("AMBIENT_ENABLED".into(), "false".to_owned()),
            ("EXCLUDE_NAMESPACES".into(), "kube-system, app1".to_owned()),
        ]
        .into_iter()
        .collect();
        mesh.cni_agent = Some(state);
        let levels: Vec<Level> = run(&CHECK, &mesh)
            .findings
            .iter()
            .map(|finding| finding.level)
            .collect();
        assert_eq!(levels, [Level::Error, Level::Warning]);
    }
}
