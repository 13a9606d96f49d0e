//! # Ambient mode enabled
//!
//! ## What it finds
//!
//! Every istiod that runs without `PILOT_ENABLE_AMBIENT=true`.
//!
//! ## Why it matters
//!
//! Without the flag istiod tells nobody about ztunnel, waypoints or HBONE: pods that are enrolled
//! are unreachable over mTLS, and sidecars neither send nor accept HBONE. Workloads of the revision
//! cannot be migrated.
//!
//! ## How to fix it
//!
//! Upgrade the installation in place, at the same version, with the `ambient` profile. The commands
//! beneath carry the hub, tag and revision that were found; add the options of your own
//! installation. Nothing is enrolled by this step, and sidecars keep working.
//!
//! ## Since and source
//!
//! Since Istio 1.25 as this migration uses it; istio pilot/pkg/features/ambient.go
//! (`PILOT_ENABLE_AMBIENT`, off by default), manifests/profiles/ambient.yaml.

use crate::finding::{Code, Finding, Level, Phase};
use crate::phases::{Check, Context, installation};
use crate::snapshot::Kind;

/// The check.
pub const CHECK: Check = Check {
    code: CODE,
    name: "Ambient mode enabled",
    phase: Phase::ClusterSetup,
    needs: &[Kind::Deployment],
    reads: &[],
    source: include_str!("ambient_mode.rs"),
    find,
};

const CODE: Code = Code("CAST0201");

fn find(context: &Context<'_>) -> Vec<Finding> {
    if context.mesh.control_planes.is_empty() {
        return vec![Finding::new(
            CODE,
            Level::Undecided,
            "no istiod is among the Deployments: a control plane that runs elsewhere cannot be \
             checked",
        )];
    }
    context
        .mesh
        .control_planes
        .iter()
        .filter(|one| !one.ambient_enabled())
        .map(|one| {
            let mut finding = Finding::new(
                CODE,
                Level::Error,
                format!(
                    "Istiod {} must have 'PILOT_ENABLE_AMBIENT=true'. Upgrade Istio with '--set \
                     profile=ambient'.",
                    one.object.name
                ),
            )
            .about(one.object.kind, &one.object.name, Some(&one.object.origin))
            .fact("revision", one.revision.as_str());
            finding.remedies = installation::commands(context, one);
            finding
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::CheckOutcome;
    use crate::phases::testing::{istiod, lines, mesh, run};

    #[test]
    fn every_istiod_needs_the_flag() {
        let missing = (
            Level::Error,
            "Istiod istio-system/istiod must have 'PILOT_ENABLE_AMBIENT=true'. Upgrade Istio with \
             '--set profile=ambient'.",
        );
        let table: [(&[(&str, &str)], Vec<(Level, &str)>); 3] = [
            (&[("PILOT_ENABLE_AMBIENT", "true")], vec![]),
            (&[("PILOT_ENABLE_AMBIENT", "false")], vec![missing]),
            (&[], vec![missing]),
        ];
        for (flags, expected) in table {
            let mut mesh = mesh();
            mesh.control_planes = vec![istiod("1.25.2", flags)];
            assert_eq!(lines(&run(&CHECK, &mesh)), expected);
        }
    }

    #[test]
    fn without_an_istiod_nothing_passes() {
        assert!(matches!(
            run(&CHECK, &mesh()).outcome,
            CheckOutcome::CouldNotCheck(_)
        ));
    }
}
