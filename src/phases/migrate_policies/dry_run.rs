//! # Dry-run policies that an old ztunnel enforces
//!
//! ## What it finds
//! AuthorizationPolicies with `istio.io/dry-run: "true"` on Istio 1.25.0 and 1.25.1.
//!
//! ## Why it matters
//! A sidecar only counts what such a policy would decide. Before 1.25.2 istiod sent it to ztunnel like
//! any other, and ztunnel enforces it: a trial becomes the rule.
//!
//! ## How to fix it
//! Upgrade Istio to 1.25.2 or later before workloads become ambient, or delete the policies.
//!
//! ## Since and source
//! Fixed in 1.25.2 (istio pull request 55414); since 1.29 behind
//! `AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY`, which older ztunnels take for real.

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::Version;
use crate::phases::{Check, Context};
use crate::snapshot::Kind;

pub(super) const CHECK: Check = Check {
    code: Code("CAST0416"),
    name: "",
    phase: Phase::MigratePolicies,
    needs: &[],
    reads: &[Kind::AuthorizationPolicy, Kind::Deployment],
    source: include_str!("dry_run.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    let mesh = context.mesh;
    let enforces = |version: &Version| (version.major, version.minor, version.patch) < (1, 25, 2);
    let old = mesh
        .control_planes
        .iter()
        .filter_map(|one| one.version.as_ref())
        .find(|version| enforces(version));
    let Some(old) = old else {
        return Vec::new();
    };
    mesh.authorization_policies
        .iter()
        .filter(|one| {
            context.choice().includes(&one.name.namespace)
                && one.meaning.as_ref().is_ok_and(|meaning| meaning.dry_run)
        })
        .map(|one| {
            Finding::new(
                CHECK.code,
                Level::Warning,
                format!(
                    "AuthorizationPolicy/{} is a dry run, which ztunnel enforces with Istio {old}",
                    one.name
                ),
            )
            .about(Kind::AuthorizationPolicy, &one.name, Some(&one.origin))
            .remedy(Remedy::Advice(
                "upgrade Istio to 1.25.2 or later before workloads become ambient".to_owned(),
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::testing::{read, run};

    #[test]
    fn only_old_releases_enforce_a_dry_run() {
        for (version, value, warned) in [
            ("1.25.1", "true", true),
            ("1.25.1", "false", false),
            ("1.25.2", "true", false),
            ("1.30.0", "true", false),
        ] {
            let (mesh, _) = read(&format!(
                "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: istiod, namespace: istio-system, labels: {{app: istiod}}}}
spec:
  template:
    metadata: {{labels: {{app: istiod}}}}
    spec: {{containers: [{{name: discovery, image: 'istio/pilot:{version}'}}]}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: trial, namespace: shop, annotations: {{istio.io/dry-run: '{value}'}}}}
spec: {{}}
"
            ));
            let lines: Vec<String> = run(&CHECK, &mesh)
                .findings
                .into_iter()
                .map(|one| one.message)
                .collect();
            let expected = format!(
                "AuthorizationPolicy/shop/trial is a dry run, which ztunnel enforces with Istio {version}"
            );
            let expected = if warned { vec![expected] } else { Vec::new() };
            assert_eq!(lines, expected, "{version}, {value}");
        }
    }
}
