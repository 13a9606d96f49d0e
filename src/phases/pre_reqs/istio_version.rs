//! # Istio version compatibility
//!
//! ## What it finds
//!
//! Every istiod in the cluster that is older than Istio 1.25, and every istiod whose release
//! cannot be told from its image. It also warns when the newest kubelet is older than the
//! Kubernetes release that this Istio asks for.
//!
//! ## Why it matters
//!
//! The migration rests on things that older releases lack or do wrongly: `serviceAccounts` in
//! policies, policies for a `GatewayClass`, merged PeerAuthentications at ztunnel,
//! RequestAuthentications at waypoints of other namespaces. One old istiod is enough: the workloads
//! of its revision would be configured by it. A release that cannot be told is not taken for a new
//! one.
//!
//! ## How to fix it
//!
//! Upgrade every revision to 1.25 or later (1.25.2 or later is better: 1.25.0 and 1.25.1 enforce
//! dry-run policies at ztunnel), or remove revisions that nothing uses. If the image tag does not
//! name the release, say it: `--istio-version 1.26.2`.
//!
//! ## Since and source
//!
//! Since Istio 1.25 (istio releasenotes 53884, 54071, 54146; pull requests 54780, 55414).
//! Kubernetes minimums: istio `istioctl/pkg/install/k8sversion/version.go` of each release; istioctl
//! itself only warns about them. Kubelets are never newer than their API server
//! (kubernetes.io, "Version Skew Policy"), so an old kubelet does not prove an old API server.

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::Version;
use crate::phases::{Check, Context};
use crate::snapshot::Kind;

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "Istio version compatibility",
    phase: Phase::PreRequisites,
    needs: &[Kind::Deployment],
    reads: &[Kind::Node],
    source: include_str!("istio_version.rs"),
    find,
};

const CODE: Code = Code("CAST0102");

/// The oldest release that the migration supports.
const MINIMUM: (u32, u32) = (1, 25);

fn find(context: &Context<'_>) -> Vec<Finding> {
    let control_planes = &context.mesh.control_planes;
    if control_planes.is_empty() {
        return vec![Finding::new(
            CODE,
            Level::Undecided,
            "no istiod is among the Deployments: a control plane that runs elsewhere cannot be \
             checked",
        )];
    }
    let mut findings = Vec::new();
    for one in control_planes {
        let name = &one.object.name;
        let finding = match &one.version {
            None => Finding::new(
                CODE,
                Level::Undecided,
                format!(
                    "the image of istiod {name} names no Istio release (`{}`): say which with \
                     --istio-version",
                    one.image
                ),
            ),
            Some(version) if !version.at_least(MINIMUM.0, MINIMUM.1) => Finding::new(
                CODE,
                Level::Error,
                format!("Istiod {name} runs Istio {version}, but at least 1.25 is required."),
            )
            .fact("version", version.to_string())
            .fact("revision", one.revision.as_str())
            .remedy(Remedy::Advice(format!(
                "upgrade revision {} to 1.25 or later, one minor release at a time, or remove it \
                 if nothing uses it",
                one.revision
            ))),
            Some(_) => continue,
        };
        findings.push(finding.about(one.object.kind, name, Some(&one.object.origin)));
    }
    findings.extend(kubernetes(context));
    findings
}

/// The oldest Kubernetes minor release for an Istio minor release
/// (istio istioctl/pkg/install/k8sversion/version.go, `MinK8SVersion`, at each release's tag).
fn minimum_kubernetes(istio: &Version) -> u32 {
    match istio.minor {
        ..=25 => 28,
        26..=28 => 29,
        29 => 30,
        _ => 32,
    }
}

fn kubernetes(context: &Context<'_>) -> Option<Finding> {
    let (istio, wanted) = context
        .mesh
        .control_planes
        .iter()
        .filter_map(|one| one.version.as_ref())
        .map(|version| (version, minimum_kubernetes(version)))
        .max_by_key(|(_, minimum)| *minimum)?;
    let newest = context
        .snapshot
        .nodes
        .iter()
        .filter_map(|node| minor_release(&node.body.status.node_info.kubelet_version))
        .max()?;
    (newest < wanted).then(|| {
        Finding::new(
            CODE,
            Level::Warning,
            format!(
                "Istio {istio} asks for Kubernetes 1.{wanted} or later, and the newest kubelet is \
                 1.{newest}: check the version of the API server"
            ),
        )
        .remedy(Remedy::Advice("upgrade Kubernetes first".to_owned()))
    })
}

/// `34` from `v1.34.4`, `v1.34.4-gke.100`, `v1.34.4+k3s1`.
fn minor_release(kubelet: &str) -> Option<u32> {
    let mut parts = kubelet.strip_prefix('v')?.split('.');
    if parts.next()? != "1" {
        return None;
    }
    parts.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;
    use crate::finding::CheckOutcome;
    use crate::mesh::ControlPlane;
    use crate::phases::MigrateOptions;
    use crate::phases::testing::{istiod, lines, mesh, run, run_with};
    use crate::snapshot::{Metadata, Object, Origin, Snapshot};

    #[test]
    fn every_istiod_must_be_new_enough() {
        let canary = |tag: &str| {
            let mut one = istiod(tag, &[]);
            one.object.name.name = "istiod-canary".into();
            one
        };
        let table: [(Vec<ControlPlane>, Vec<(Level, &str)>); 4] = [
            (vec![istiod("1.25.0", &[])], vec![]),
            (vec![istiod("1.30.3-distroless", &[])], vec![]),
            (
                vec![istiod("1.24.9", &[])],
                vec![(
                    Level::Error,
                    "Istiod istio-system/istiod runs Istio 1.24.9, but at least 1.25 is required.",
                )],
            ),
            (
                vec![istiod("1.30.3", &[]), canary("1.9.1")],
                vec![(
                    Level::Error,
                    "Istiod istio-system/istiod-canary runs Istio 1.9.1, but at least 1.25 is \
                     required.",
                )],
            ),
        ];
        for (control_planes, expected) in table {
            let mut mesh = mesh();
            mesh.control_planes = control_planes;
            assert_eq!(lines(&run(&CHECK, &mesh)), expected);
        }
    }

    #[test]
    fn an_unknown_release_or_no_istiod_is_neither_passed_nor_failed() {
        let mut unknown = mesh();
        unknown.control_planes = vec![istiod("latest", &[])];
        for mesh in [unknown, mesh()] {
            let outcome = run(&CHECK, &mesh).outcome;
            assert!(
                matches!(&outcome, CheckOutcome::CouldNotCheck(why) if why.len() == 1),
                "{outcome:?}"
            );
        }
    }

    #[test]
    fn beside_an_old_istiod_an_unknown_one_is_a_warning() {
        let mut mesh = mesh();
        mesh.control_planes = vec![istiod("1.20.0", &[]), istiod("latest", &[])];
        let result = run(&CHECK, &mesh);
        assert_eq!(result.outcome, CheckOutcome::Failed);
        let levels: Vec<Level> = result
            .findings
            .iter()
            .map(|finding| finding.level)
            .collect();
        assert_eq!(levels, [Level::Error, Level::Warning]);
    }

    #[test]
    fn old_kubelets_are_a_warning_and_unreadable_versions_are_not() {
        let node = |kubelet: &str| Object {
            api_version: "v1".into(),
            kind: "Node".into(),
            metadata: Metadata {
                name: "node-0".into(),
                ..Metadata::default()
            },
            body: api::Node {
                status: api::cluster::NodeStatus {
                    node_info: api::cluster::NodeInfo {
                        kubelet_version: kubelet.into(),
                        ..Default::default()
                    },
                },
                ..api::Node::default()
            }
            .into(),
            origin: Origin::Simulated,
        };
        for (istio, kubelet, outcome) in [
            ("1.25.0", "v1.28.1", CheckOutcome::Passed),
            ("1.26.0", "v1.28.1-gke.100", CheckOutcome::Warned),
            ("1.30.0", "v1.31.9+k3s1", CheckOutcome::Warned),
            ("1.30.0", "v1.32.0", CheckOutcome::Passed),
            ("1.30.0", "kwok-0.7.0", CheckOutcome::Passed),
        ] {
            let mut mesh = mesh();
            mesh.control_planes = vec![istiod(istio, &[])];
            let snapshot = Snapshot {
                nodes: vec![node(kubelet)],
                ..Snapshot::default()
            };
            let result = run_with(&CHECK, &mesh, &snapshot, &MigrateOptions::default());
            assert_eq!(result.outcome, outcome, "{istio} on {kubelet}");
        }
    }
}
