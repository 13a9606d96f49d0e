//! # A waypoint chosen by annotation
//!
//! ## What it finds
//!
//! Services, namespaces and pods with `istio.io/use-waypoint` (or `istio.io/ingress-use-waypoint`,
//! `istio.io/dataplane-mode`) among their annotations, where it must be a label.
//!
//! ## Why it matters
//!
//! Istio reads the label only. Who wrote the annotation believes that traffic goes through the
//! waypoint, and it goes straight to the pods.
//!
//! ## How to fix it
//!
//! Set the same as a label, and delete the annotation.
//!
//! ## Since and source
//!
//! A label since Istio 1.23; istio issue 50572; istio api label/labels.yaml.

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::phases::{Check, Context, wording};
use crate::snapshot::{Kind, Labels, ObjectName, Origin};

/// The check.
pub(super) const CHECK: Check = Check {
    code: CODE,
    name: "",
    phase: Phase::UseWaypoints,
    needs: &[],
    reads: &[Kind::Service, Kind::Namespace, Kind::Pod],
    source: include_str!("annotated.rs"),
    find,
};

const CODE: Code = Code("CAST0505");

const LABELS: [&str; 3] = [
    "istio.io/use-waypoint",
    "istio.io/ingress-use-waypoint",
    "istio.io/dataplane-mode",
];

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let namespaces = mesh.namespaces.values().map(|one| {
        (
            Some(Kind::Namespace),
            ObjectName::new("", &one.name),
            one.name.as_str(),
            &one.annotations,
            one.origin.as_ref(),
        )
    });
    let services = mesh.services.iter().map(|one| {
        (
            Some(Kind::Service),
            one.name.clone(),
            one.name.namespace.as_str(),
            &one.annotations,
            Some(&one.origin),
        )
    });
    let workloads = mesh
        .workloads
        .iter()
        .filter(|one| one.is_mesh_application())
        .map(|one| {
            (
                wording::owner_resource(&one.owner),
                one.name.clone(),
                one.name.namespace.as_str(),
                &one.template_annotations,
                Some(&one.origin),
            )
        });
    namespaces
        .chain(services)
        .chain(workloads)
        .filter(|(_, _, namespace, _, _)| context.choice().includes(namespace))
        .flat_map(|(kind, name, _, annotations, origin)| {
            LABELS
                .into_iter()
                .filter_map(move |key| finding(kind?, &name, key, annotations, origin))
        })
        .collect()
}

fn finding(
    kind: Kind,
    name: &ObjectName,
    key: &str,
    annotations: &Labels,
    origin: Option<&Origin>,
) -> Option<Finding> {
    let value = annotations.get(key)?;
    let what = kind.row().name;
    Some(
        Finding::new(
            CODE,
            Level::Warning,
            format!(
                "{what} {name} has {key}={value} as an annotation, which Istio does not read: it must be a label"
            ),
        )
        .about(kind, name, origin)
        .remedy(Remedy::Advice(format!(
            "set {key}={value} as a label of {what} {name} where it is meant, and delete the annotation"
        ))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::testing::{lines, read, run};

    #[test]
    fn an_annotation_is_named_and_a_label_is_not() {
        let (mesh, _) = read(
            "
apiVersion: v1
kind: Namespace
metadata: {name: shop, annotations: {istio.io/use-waypoint: waypoint}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {istio.io/use-waypoint: waypoint}}
spec: {clusterIP: 10.0.0.1}
",
        );
        assert_eq!(
            lines(&run(&CHECK, &mesh)),
            [(
                Level::Warning,
                "Namespace shop has istio.io/use-waypoint=waypoint as an annotation, which Istio does not read: it \
                 must be a label"
            )]
        );
    }
}
