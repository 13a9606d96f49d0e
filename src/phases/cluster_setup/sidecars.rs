//! # Sidecars support ambient mode
//!
//! ## What it finds
//!
//! Pods whose sidecar does not accept HBONE: neither the label `networking.istio.io/tunnel=http`
//! nor `ISTIO_META_ENABLE_HBONE=true` on the `istio-proxy` container (among the containers or, for
//! native sidecars, among the init containers). Several pods of one owner are one line.
//!
//! ## Why it matters
//!
//! Ambient workloads and waypoints speak HBONE. To a sidecar that does not accept it they send
//! plaintext, without identity: a strict sidecar refuses, and rules about principals or namespaces
//! no longer match.
//!
//! ## How to fix it
//!
//! Once Istio is installed with the ambient profile, restart the workloads. The profile sets the
//! variable for every pod that is injected from then on.
//!
//! ## Since and source
//!
//! All releases with ambient mode; istio manifests/profiles/ambient.yaml (`proxyMetadata`),
//! pilot/pkg/model/service.go (`TunnelLabel`), injection template `sidecar`. istio.io says that
//! sidecars need the variable to send HBONE; the source needs it only to receive
//! (pilot/pkg/networking/core/cluster_builder.go).

use crate::finding::{Code, Finding, Level, Phase};
use crate::mesh::{DataPlaneMode, Role, Workload};
use crate::phases::{Check, Context, commands, wording};
use crate::snapshot::Kind;

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "Sidecars support ambient mode",
    phase: Phase::ClusterSetup,
    needs: &[],
    reads: &[Kind::Pod],
    source: include_str!("sidecars.rs"),
    find,
};

const CODE: Code = Code("CAST0203");

fn find(context: &Context<'_>) -> Vec<Finding> {
    let already_set = context
        .mesh
        .settings
        .proxy_metadata
        .get("ISTIO_META_ENABLE_HBONE")
        .is_some_and(|value| value == "true");
    // Whether new sidecars take HBONE is istiod's to say.
    let unknown = context.mesh.control_planes.is_empty();
    let mut undecided = Vec::new();
    let mut found: Vec<Finding> = context
        .mesh
        .workloads
        .iter()
        .filter(|workload| workload.role == Role::Application)
        .filter_map(|workload| {
            let pods: Vec<String> = workload
                .generations
                .iter()
                .filter(|one| one.mode == DataPlaneMode::Sidecar && !one.accepts_hbone)
                .flat_map(|one| &one.pods)
                .map(|pod| format!("{}/{}", workload.name.namespace, pod.name))
                .collect();
            if pods.is_empty() {
                return None;
            }
            if workload.predicted && unknown {
                undecided.push(wording::workload(workload));
                return None;
            }
            let mut finding = Finding::new(CODE, Level::Error, message(workload, &pods));
            if let Some(kind) = wording::owner_resource(&workload.owner) {
                finding = finding.about(kind, &workload.name, Some(&workload.origin));
            }
            if !workload.predicted {
                finding.names = pods;
            }
            finding = finding.remedy(commands::restart(workload));
            if already_set {
                finding = finding.fact("restart_is_enough", true);
            }
            Some(finding)
        })
        .collect();
    if !undecided.is_empty() {
        found.push(Finding::new(
            CODE,
            Level::Undecided,
            format!(
                "neither istiod nor the pods of {} are among the input: {}",
                wording::count(undecided.len(), "workload"),
                wording::first_few(&undecided, 5)
            ),
        ));
    }
    found
}

fn message(workload: &Workload, pods: &[String]) -> String {
    match pods {
        [_] | [] if workload.predicted => format!(
            "Sidecars that {} would get are missing 'ENABLE_HBONE'. Upgrade Istio with '--set \
             profile=ambient'.",
            wording::workload(workload)
        ),
        [only] => format!(
            "Sidecar {only} is missing 'ENABLE_HBONE'. Upgrade Istio with '--set profile=ambient' \
             and restart the pod."
        ),
        many => format!(
            "Sidecars of {} ({}) are missing 'ENABLE_HBONE'. Upgrade Istio with '--set \
             profile=ambient' and restart the pods.",
            wording::workload(workload),
            wording::count(many.len(), "pod")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Remedy;
    use crate::mesh::OwnerKind;
    use crate::phases::testing::{lines, mesh_with, pods, run, sidecar_pods, workload};

    #[test]
    fn one_pod_has_its_name_and_several_are_counted() {
        let old = |names: &[&str]| crate::mesh::Generation {
            accepts_hbone: false,
            ..sidecar_pods(names)
        };
        let mut details = workload(OwnerKind::Deployment, "default", "details-v1");
        details.generations = vec![old(&["details-v1-79dfbd6fff-gvmh7"])];
        let mut reviews = workload(OwnerKind::StatefulSet, "default", "reviews-v1");
        reviews.generations = vec![
            old(&["reviews-v1-0", "reviews-v1-1"]),
            sidecar_pods(&["new"]),
        ];
        let mut ratings = workload(OwnerKind::Deployment, "default", "ratings-v1");
        ratings.generations = vec![sidecar_pods(&["ratings-v1-0"])];
        let mut outside = workload(OwnerKind::Deployment, "default", "outside");
        outside.generations = vec![pods(DataPlaneMode::None, &["outside-0"])];
        let mut gateway = details.clone();
        gateway.name.name = "gateway".into();
        gateway.role = Role::Gateway;
        let mesh = mesh_with(vec![details, reviews, ratings, outside, gateway]);
        let result = run(&CHECK, &mesh);
        assert_eq!(
            lines(&result),
            [
                (
                    Level::Error,
                    "Sidecar default/details-v1-79dfbd6fff-gvmh7 is missing 'ENABLE_HBONE'. \
                     Upgrade Istio with '--set profile=ambient' and restart the pod."
                ),
                (
                    Level::Error,
                    "Sidecars of StatefulSet default/reviews-v1 (2 pods) are missing \
                     'ENABLE_HBONE'. Upgrade Istio with '--set profile=ambient' and restart the \
                     pods."
                )
            ]
        );
        assert_eq!(
            result.findings[1].remedies,
            [Remedy::command_without_undo(
                "kubectl rollout restart statefulset -n default reviews-v1"
            )]
        );
        assert_eq!(
            result.findings[1].names,
            ["default/reviews-v1-0", "default/reviews-v1-1"]
        );
    }
}
