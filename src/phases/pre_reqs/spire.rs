//! # SPIRE usage compatibility
//!
//! ## What it finds
//!
//! Workloads whose identity comes from SPIRE: the pod label `spiffe.io/spire-managed-identity`, or
//! `spire` among the injection templates (annotation `inject.istio.io/templates`); and sidecar
//! injectors whose templates mount SPIRE's socket (`csi.spiffe.io`). Each object is named.
//!
//! ## Why it matters
//!
//! ztunnel asks istiod for the certificates of the pods that it serves; it cannot ask SPIRE. An
//! enrolled workload would get another certificate than its peers expect, possibly from another
//! root, and connections to workloads with SPIRE identities would fail.
//!
//! ## How to fix it
//!
//! Move the workloads to identities of Istio's own CA, with a common root while both exist, before
//! the migration. `--enterprise` makes the findings warnings for builds whose vendor supports SPIRE
//! in ztunnel.
//!
//! ## Since and source
//!
//! istio.io, "Migrate from sidecar to ambient: before you begin"; ztunnel src/identity (Istio's CA
//! is the only certificate source, all releases). Waypoint and gateway pods can use SPIRE's socket
//! since Istio 1.31 (releasenotes/notes/60108.yaml); ztunnel still cannot.

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::Workload;
use crate::phases::{Check, Context, wording};
use crate::snapshot::{Kind, Labels};

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "SPIRE usage compatibility",
    phase: Phase::PreRequisites,
    needs: &[],
    reads: &[Kind::Pod, Kind::Deployment, Kind::ConfigMap],
    source: include_str!("spire.rs"),
    find,
};

const CODE: Code = Code("CAST0105");

const IDENTITY_LABEL: &str = "spiffe.io/spire-managed-identity";
const TEMPLATES_ANNOTATION: &str = "inject.istio.io/templates";

fn find(context: &Context<'_>) -> Vec<Finding> {
    let level = if context.options.enterprise {
        Level::Warning
    } else {
        Level::Error
    };
    let waypoints_can = !context.mesh.control_planes.is_empty()
        && context.mesh.control_planes.iter().all(|one| {
            one.version
                .as_ref()
                .is_some_and(|version| version.at_least(1, 31))
        });
    let finish = |finding: Finding| {
        let finding = finding.remedy(Remedy::Advice(
            "give the workload an identity of Istio's own CA before the migration, or pass \
             --enterprise if your build of ztunnel supports SPIRE"
                .to_owned(),
        ));
        if waypoints_can {
            finding.detail(
                "since Istio 1.31 waypoints and gateways can use SPIRE; ztunnel still cannot",
            )
        } else {
            finding
        }
    };
    let mut findings = Vec::new();
    for map in &context.snapshot.config_maps {
        let mounts_socket = map
            .body
            .data
            .values()
            .any(|text| text.contains("csi.spiffe.io"));
        if mounts_socket {
            let name = map.object_name();
            findings.push(finish(
                Finding::new(
                    CODE,
                    level,
                    format!(
                        "ConfigMap {name} has an injection template that takes certificates from \
                         SPIRE (csi.spiffe.io)."
                    ),
                )
                .about(Kind::ConfigMap, &name, Some(&map.origin)),
            ));
        }
    }
    for workload in &context.mesh.workloads {
        let Some(sign) = sign(workload) else {
            continue;
        };
        let mut finding = Finding::new(
            CODE,
            level,
            format!(
                "{} takes its identity from SPIRE ({sign}).",
                wording::workload(workload)
            ),
        );
        if let Some(kind) = wording::owner_resource(&workload.owner) {
            finding = finding.about(kind, &workload.name, Some(&workload.origin));
        }
        findings.push(finish(finding));
    }
    findings
}

fn sign(workload: &Workload) -> Option<&'static str> {
    let labelled = |labels: &Labels| labels.get(IDENTITY_LABEL).is_some();
    if labelled(&workload.template_labels)
        || workload
            .generations
            .iter()
            .any(|generation| labelled(&generation.labels))
    {
        return Some("label spiffe.io/spire-managed-identity");
    }
    let templates = workload.template_annotations.get(TEMPLATES_ANNOTATION)?;
    templates
        .split(',')
        .any(|template| template.trim().contains("spire"))
        .then_some("annotation inject.istio.io/templates")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::OwnerKind;
    use crate::phases::MigrateOptions;
    use crate::phases::testing::{lines, mesh_with, run_with, workload};
    use crate::snapshot::Snapshot;

    #[test]
    fn signs_of_spire_are_named_with_their_workload() {
        let plain = workload(OwnerKind::Deployment, "app1", "echo");
        let mut labelled = plain.clone();
        labelled.template_labels.set(IDENTITY_LABEL, "true");
        let mut templated = plain.clone();
        templated
            .template_annotations
            .set(TEMPLATES_ANNOTATION, "sidecar,spire");
        let mut other_template = plain.clone();
        other_template
            .template_annotations
            .set(TEMPLATES_ANNOTATION, "sidecar,audit");
        let by_label = "Deployment app1/echo takes its identity from SPIRE (label \
                        spiffe.io/spire-managed-identity).";
        let by_template = "Deployment app1/echo takes its identity from SPIRE (annotation \
                           inject.istio.io/templates).";
        let table: [(Workload, bool, Vec<(Level, &str)>); 5] = [
            (plain, false, vec![]),
            (other_template, false, vec![]),
            (labelled.clone(), false, vec![(Level::Error, by_label)]),
            (labelled, true, vec![(Level::Warning, by_label)]),
            (templated, false, vec![(Level::Error, by_template)]),
        ];
        for (one, enterprise, expected) in table {
            let options = MigrateOptions {
                enterprise,
                ..MigrateOptions::default()
            };
            let mesh = mesh_with(vec![one]);
            let result = run_with(&CHECK, &mesh, &Snapshot::default(), &options);
            assert_eq!(lines(&result), expected);
        }
    }
}
