//! # Required CRDs installed
//!
//! ## What it finds
//!
//! Custom resource definitions of the Gateway API that are missing, not established, do not serve
//! `v1`, or are older than this Istio reads.
//!
//! ## Why it matters
//!
//! A waypoint is a `Gateway`: without the definitions it cannot be deployed. A definition older
//! than Istio's minimum is worse, because its objects exist and istiod ignores them without a word.
//!
//! ## How to fix it
//!
//! Install the standard channel of the Gateway API, at the release that your Istio was built with:
//! v1.2.1 for 1.25, v1.3.0 for 1.26 and 1.27, v1.4.0 for 1.28 and 1.29, v1.5.1 for 1.30, v1.6.0 for
//! 1.31. TCPRoute and TLSRoute may need the experimental channel.
//!
//! ## Since and source
//!
//! All releases with ambient mode. Minimums: istio `minimumCRDVersions` by release (GRPCRoute
//! 1.1.0; BackendTLSPolicy 1.4.0 since 1.28; TLSRoute 1.5.0 since 1.30; TCPRoute 1.6.0 since
//! 1.31), compared with the annotation `gateway.networking.k8s.io/bundle-version`; istioctl's
//! analysis calls it IST0176.

use crate::api::CustomResourceDefinition;
use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::phases::{Check, Context};
use crate::snapshot::{Kind, Object, ObjectName, Origin};

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "Required CRDs installed",
    phase: Phase::ClusterSetup,
    needs: &[Kind::CustomResourceDefinition],
    reads: &[],
    source: include_str!("required_crds.rs"),
    find,
};

const CODE: Code = Code("CAST0204");

const BUNDLE_VERSION: &str = "gateway.networking.k8s.io/bundle-version";

/// Definitions of the standard channel that every ambient mesh needs.
const REQUIRED: [Kind; 5] = [
    Kind::GatewayClass,
    Kind::Gateway,
    Kind::HttpRoute,
    Kind::GrpcRoute,
    Kind::ReferenceGrant,
];

/// Kind, the Istio minor release from which the minimum holds, and the minimum.
const MINIMUMS: [(Kind, u32, (u32, u32)); 4] = [
    (Kind::GrpcRoute, 0, (1, 1)),
    (Kind::BackendTlsPolicy, 28, (1, 4)),
    (Kind::TlsRoute, 30, (1, 5)),
    (Kind::TcpRoute, 31, (1, 6)),
];

fn find(context: &Context<'_>) -> Vec<Finding> {
    let newest = context
        .mesh
        .control_planes
        .iter()
        .filter_map(|one| one.version.as_ref())
        .map(|version| version.minor)
        .max();
    let release = gateway_api_release(newest);
    let install = Remedy::command(
        format!("kubectl apply -f {}", manifest(release)),
        format!("kubectl delete -f {}", manifest(release)),
    );
    let mut findings = Vec::new();
    let used = |kind: Kind| !context.snapshot.resources(kind).is_empty();
    for kind in REQUIRED {
        if definition(context, kind).is_none() {
            findings.push(
                Finding::new(
                    CODE,
                    Level::Error,
                    format!("CustomResourceDefinition {} not found", kind.resource()),
                )
                .remedy(install.clone()),
            );
        }
    }
    let optional = [Kind::BackendTlsPolicy, Kind::TlsRoute, Kind::TcpRoute];
    for kind in REQUIRED
        .into_iter()
        .chain(optional.into_iter().filter(|kind| used(*kind)))
    {
        let Some(found) = definition(context, kind) else {
            continue;
        };
        let problem = not_established(found)
            .or_else(|| not_served(found, kind))
            .or_else(|| too_old(found, kind, newest));
        if let Some(problem) = problem {
            findings.push(
                Finding::new(
                    CODE,
                    Level::Error,
                    format!("CustomResourceDefinition {} {problem}", kind.resource()),
                )
                .about(
                    Kind::CustomResourceDefinition,
                    &ObjectName::new("", &found.metadata.name),
                    Some(&found.origin),
                )
                .remedy(Remedy::command_without_undo(format!(
                    "kubectl apply -f {}",
                    manifest(release)
                ))),
            );
        }
    }
    findings
}

fn definition<'a>(
    context: &'a Context<'_>,
    kind: Kind,
) -> Option<&'a Object<CustomResourceDefinition>> {
    let name = kind.resource();
    context
        .snapshot
        .custom_resource_definitions
        .iter()
        .find(|one| one.metadata.name == name)
}

/// A definition from a manifest has no status yet; one in a cluster must have been established.
fn not_established(found: &Object<CustomResourceDefinition>) -> Option<String> {
    let conditions = &found.body.status.conditions;
    let established = conditions
        .iter()
        .find(|condition| condition.kind == "Established");
    let wrong = match established {
        Some(condition) => condition.status != "True",
        None => matches!(found.origin, Origin::Cluster { .. }) || !conditions.is_empty(),
    };
    wrong.then(|| "is not established".to_owned())
}

fn not_served(found: &Object<CustomResourceDefinition>, kind: Kind) -> Option<String> {
    let versions = &found.body.spec.versions;
    // ReferenceGrant and the experimental kinds were served under older versions for long.
    let wanted = kind.row().versions;
    let served = versions
        .iter()
        .any(|version| version.served && wanted.contains(&version.name.as_str()));
    (!versions.is_empty() && !served).then(|| format!("serves none of {}", wanted.join(", ")))
}

fn too_old(
    found: &Object<CustomResourceDefinition>,
    kind: Kind,
    istio_minor: Option<u32>,
) -> Option<String> {
    let (_, _, minimum) = MINIMUMS
        .into_iter()
        .find(|(one, since, _)| *one == kind && istio_minor.is_none_or(|minor| minor >= *since))?;
    let written = found.metadata.annotations.get(BUNDLE_VERSION)?;
    let mut numbers = written.trim_start_matches('v').split('.');
    let version: (u32, u32) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    (version < minimum).then(|| {
        format!(
            "is of bundle version {written}, and this Istio ignores it below v{}.{}.0",
            minimum.0, minimum.1
        )
    })
}

/// The Gateway API release that an Istio minor release was built with (its go.mod).
fn gateway_api_release(istio_minor: Option<u32>) -> &'static str {
    match istio_minor {
        Some(..=25) | None => "v1.2.1",
        Some(26 | 27) => "v1.3.0",
        Some(28 | 29) => "v1.4.0",
        Some(30) => "v1.5.1",
        Some(_) => "v1.6.0",
    }
}

fn manifest(release: &str) -> String {
    format!(
        "https://github.com/kubernetes-sigs/gateway-api/releases/download/{release}/standard-install.yaml"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cluster::{
        CustomResourceDefinitionSpec, CustomResourceDefinitionStatus,
        CustomResourceDefinitionVersion,
    };
    use crate::api::pod::Condition;
    use crate::phases::MigrateOptions;
    use crate::phases::testing::{istiod, lines, mesh, run_with};
    use crate::snapshot::{Metadata, Snapshot};

    fn crd(kind: Kind, bundle: &str, established: &str) -> Object<CustomResourceDefinition> {
        Object {
            api_version: "apiextensions.k8s.io/v1".into(),
            kind: "CustomResourceDefinition".into(),
            metadata: Metadata {
                name: kind.resource().into(),
                annotations: [(BUNDLE_VERSION, bundle)].into_iter().collect(),
                ..Metadata::default()
            },
            body: CustomResourceDefinition {
                spec: CustomResourceDefinitionSpec {
                    group: kind.row().group.into(),
                    versions: vec![CustomResourceDefinitionVersion {
                        name: kind.row().versions[0].into(),
                        served: true,
                    }],
                },
                status: CustomResourceDefinitionStatus {
                    conditions: vec![Condition {
                        kind: "Established".into(),
                        status: established.into(),
                        ..Condition::default()
                    }],
                },
            }
            .into(),
            origin: Origin::Simulated,
        }
    }

    fn found(definitions: Vec<Object<CustomResourceDefinition>>) -> Vec<String> {
        let mut mesh = mesh();
        mesh.control_planes = vec![istiod("1.30.3", &[])];
        let snapshot = Snapshot {
            custom_resource_definitions: definitions,
            ..Snapshot::default()
        };
        let result = run_with(&CHECK, &mesh, &snapshot, &MigrateOptions::default());
        lines(&result)
            .into_iter()
            .map(|(_, line)| line.to_owned())
            .collect()
    }

    fn all(bundle: &str) -> Vec<Object<CustomResourceDefinition>> {
        REQUIRED.map(|kind| crd(kind, bundle, "True")).to_vec()
    }

    #[test]
    fn definitions_must_be_there_established_and_new_enough() {
        assert_eq!(found(all("v1.5.1")), Vec::<String>::new());

        let mut missing = all("v1.5.1");
        missing.remove(1);
        assert_eq!(
            found(missing),
            ["CustomResourceDefinition gateways.gateway.networking.k8s.io not found"]
        );

        let mut pending = all("v1.5.1");
        pending[1] = crd(Kind::Gateway, "v1.5.1", "False");
        assert_eq!(
            found(pending),
            ["CustomResourceDefinition gateways.gateway.networking.k8s.io is not established"]
        );

        assert_eq!(
            found(all("v1.0.0")),
            [
                "CustomResourceDefinition grpcroutes.gateway.networking.k8s.io is of bundle \
                 version v1.0.0, and this Istio ignores it below v1.1.0"
            ]
        );
    }
}
