//! # Multicluster usage compatibility
//!
//! ## What it finds
//!
//! Signs that this cluster shares its mesh with others: Secrets with the label
//! `istio/multiCluster=true`, Services with `istio=eastwestgateway`, and Gateways of the classes
//! `istio-east-west` and `istio-remote`. Each object is named.
//!
//! ## Why it matters
//!
//! What a workload may reach, and which policy it passes on the way, then depends on objects that
//! are not in this cluster. castoff sees one cluster. A primary-remote mesh does not work in
//! ambient mode at all; in a multi-primary mesh ambient pods reach other networks only with a flag
//! that is off by default.
//!
//! ## How to fix it
//!
//! Migrate clusters one at a time after taking them out of the shared mesh; or, on Istio 1.27 and
//! later, set `AMBIENT_ENABLE_MULTI_NETWORK=true` on every istiod of a multi-primary, multi-network
//! mesh, and the findings become warnings. `--enterprise` does the same for builds whose vendor
//! supports multicluster.
//!
//! ## Since and source
//!
//! Ambient multi-network since Istio 1.27 (istio pilot/pkg/features/ambient.go,
//! `AMBIENT_ENABLE_MULTI_NETWORK`, default off); waypoints across networks since 1.28; ingress
//! gateways of several clusters respect waypoints since 1.31 (releasenotes 60162, 61092).
//! istio.io, "Install ambient multicluster": single-network and primary-remote are not supported.

use serde_json::Value;

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::phases::{Check, Context};
use crate::snapshot::{Kind, ObjectName, Origin};

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "Multicluster usage compatibility",
    phase: Phase::PreRequisites,
    needs: &[],
    reads: &[Kind::Secret, Kind::Service, Kind::Gateway],
    source: include_str!("multicluster.rs"),
    find,
};

const CODE: Code = Code("CAST0103");

const FLAG: &str = "AMBIENT_ENABLE_MULTI_NETWORK";

fn find(context: &Context<'_>) -> Vec<Finding> {
    let (level, note) = judge(context);
    let finding = |kind: Kind, name: ObjectName, origin: &Origin, what: &str| {
        let mut finding = Finding::new(
            CODE,
            level,
            format!("{} {name} {what}", kind.row().name),
        )
        .about(kind, &name, Some(origin))
        .remedy(Remedy::Advice(
            "take the cluster out of the shared mesh before migrating it, or pass --enterprise if \
             your build of Istio supports multicluster in ambient mode"
                .to_owned(),
        ));
        finding.details.extend(note.clone());
        finding
    };
    let mut findings = Vec::new();
    for secret in &context.snapshot.secrets {
        if secret.metadata.labels.has("istio/multiCluster", "true") {
            findings.push(finding(
                Kind::Secret,
                secret.object_name(),
                &secret.origin,
                "gives istiod access to another cluster of the mesh.",
            ));
        }
    }
    for service in &context.snapshot.services {
        if service.metadata.labels.has("istio", "eastwestgateway") {
            findings.push(finding(
                Kind::Service,
                service.object_name(),
                &service.origin,
                "is an east-west gateway to other clusters of the mesh.",
            ));
        }
    }
    for gateway in context.snapshot.resources(Kind::Gateway) {
        let class = gateway
            .body
            .pointer("/spec/gatewayClassName")
            .and_then(Value::as_str);
        if matches!(class, Some("istio-east-west" | "istio-remote")) {
            findings.push(finding(
                Kind::Gateway,
                gateway.object_name(),
                &gateway.origin,
                "is an east-west gateway to other clusters of the mesh.",
            ));
        }
    }
    findings
}

/// How grave it is in this installation, and the line that says why.
fn judge(context: &Context<'_>) -> (Level, Option<String>) {
    let control_planes = &context.mesh.control_planes;
    let remote = control_planes
        .iter()
        .any(|one| one.flag("EXTERNAL_ISTIOD", false));
    let new_enough = !control_planes.is_empty()
        && control_planes.iter().all(|one| {
            one.version
                .as_ref()
                .is_some_and(|version| version.at_least(1, 27))
        });
    let flag_on = new_enough && control_planes.iter().all(|one| one.flag(FLAG, false));
    let (level, note) = if remote {
        (
            Level::Error,
            Some(
                "istiod serves remote clusters (EXTERNAL_ISTIOD): primary-remote meshes do not \
                 work in ambient mode in any release"
                    .to_owned(),
            ),
        )
    } else if flag_on {
        (
            Level::Warning,
            Some(format!(
                "{FLAG} is on: multi-primary meshes on several networks are supported since Istio \
                 1.27; castoff proves nothing about callers in other clusters"
            )),
        )
    } else if new_enough {
        (
            Level::Error,
            Some(format!(
                "since Istio 1.27 multi-primary meshes on several networks work with {FLAG}=true \
                 on every istiod; here it is off"
            )),
        )
    } else {
        (Level::Error, None)
    };
    if context.options.enterprise {
        (Level::Warning, note)
    } else {
        (level, note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;
    use crate::phases::MigrateOptions;
    use crate::phases::testing::{istiod, lines, mesh, run, run_with};
    use crate::snapshot::{Metadata, Object, Snapshot};

    fn remote_secret() -> Snapshot {
        Snapshot {
            secrets: vec![Object {
                api_version: "v1".into(),
                kind: "Secret".into(),
                metadata: Metadata {
                    name: "istio-remote-secret-west".into(),
                    namespace: "istio-system".into(),
                    labels: [("istio/multiCluster", "true")].into_iter().collect(),
                    ..Metadata::default()
                },
                body: api::Empty {}.into(),
                origin: Origin::Simulated,
            }],
            ..Snapshot::default()
        }
    }

    #[test]
    fn a_mesh_of_one_cluster_passes() {
        assert_eq!(lines(&run(&CHECK, &mesh())), []);
    }

    #[test]
    fn a_remote_secret_is_judged_by_release_flags_and_choice() {
        let flag = (FLAG, "true");
        let table: [(&str, &[(&str, &str)], bool, Level); 6] = [
            ("1.25.2", &[], false, Level::Error),
            ("1.25.2", &[flag], false, Level::Error),
            ("1.25.2", &[], true, Level::Warning),
            ("1.27.0", &[], false, Level::Error),
            ("1.27.0", &[flag], false, Level::Warning),
            (
                "1.27.0",
                &[flag, ("EXTERNAL_ISTIOD", "true")],
                false,
                Level::Error,
            ),
        ];
        for (tag, flags, enterprise, level) in table {
            let mut mesh = mesh();
            mesh.control_planes = vec![istiod(tag, flags)];
            let options = MigrateOptions {
                enterprise,
                ..MigrateOptions::default()
            };
            let result = run_with(&CHECK, &mesh, &remote_secret(), &options);
            assert_eq!(
                lines(&result),
                [(
                    level,
                    "Secret istio-system/istio-remote-secret-west gives istiod access to another \
                     cluster of the mesh."
                )],
                "{tag} {flags:?}"
            );
        }
    }
}
