//! # Waypoints in ambient mode
//!
//! ## What it finds
//! Waypoint Gateways that put their own pods into ambient mode: `istio.io/dataplane-mode: ambient`
//! among `spec.infrastructure.labels`, or, where these are not given, among the Gateway's labels.
//!
//! ## Why it matters
//! istiod copies these labels to the pods of the waypoint, over the `none` that it writes there
//! itself. The CNI agent then captures the pods, and port 15008 of a captured pod is ztunnel's: the
//! port on which the waypoint takes its requests. Policies at the waypoint then no longer see what
//! they are written for.
//!
//! ## How to fix it
//! Remove the label from the Gateway. A namespace in ambient mode does not capture waypoints.
//!
//! ## Since and source
//! All releases with ambient mode. istio
//! `manifests/charts/istio-control/istio-discovery/files/waypoint.yaml` (labels of the pod template),
//! `pilot/pkg/config/kube/gatewaycommon/deploymentcontroller.go` (`extractInfrastructureMetadata`),
//! `cni/pkg/iptables/iptables.go` (15008 is not redirected).

use crate::finding::{Code, Finding, Level, Phase, Remedy};
use crate::mesh::Waypoint;
use crate::phases::{Check, Context};
use crate::snapshot::Kind;

pub(super) const CHECK: Check = Check {
    code: Code("CAST0306"),
    name: "",
    phase: Phase::DeployWaypoints,
    needs: &[],
    reads: &[Kind::Gateway],
    source: include_str!("captured.rs"),
    find,
};

fn find(context: &Context<'_>) -> Vec<Finding> {
    let waypoints = context.mesh.waypoints.iter();
    waypoints
        .filter(|waypoint| {
            context.choice().includes(&waypoint.name.namespace)
                && waypoint
                    .infrastructure_labels
                    .has("istio.io/dataplane-mode", "ambient")
        })
        .map(finding)
        .collect()
}

fn finding(waypoint: &Waypoint) -> Finding {
    let name = &waypoint.name;
    Finding::new(
        CHECK.code,
        Level::Warning,
        format!(
            "Gateway {name} puts the pods of its waypoint into ambient mode, so that ztunnel takes \
             what is sent to the waypoint"
        ),
    )
    .about(Kind::Gateway, name, Some(&waypoint.origin))
    .remedy(Remedy::Advice(format!(
        "remove istio.io/dataplane-mode: ambient from Gateway {name} (labels, spec.infrastructure.labels)"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phases::testing::{lines, read, run};

    fn found(labels: &str, infrastructure: &str) -> usize {
        let (mesh, _) = read(&format!(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: waypoint, namespace: shop, labels: {labels}}}
spec: {{gatewayClassName: istio-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE}}]{infrastructure}}}
"
        ));
        lines(&run(&CHECK, &mesh)).len()
    }

    #[test]
    fn a_waypoint_that_is_to_be_captured_is_named() {
        let ambient = "{istio.io/dataplane-mode: ambient}";
        let infrastructure = |labels: &str| format!(", infrastructure: {{labels: {labels}}}");
        assert_eq!(found("{}", ""), 0);
        assert_eq!(found("{istio.io/dataplane-mode: none}", ""), 0);
        assert_eq!(found(ambient, ""), 1);
        assert_eq!(found("{}", &infrastructure(ambient)), 1);
        // Labels of the infrastructure take the place of the Gateway's.
        assert_eq!(found(ambient, &infrastructure("{team: shop}")), 0);
        let (mesh, _) = read(
            "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: ingress, namespace: shop, labels: {istio.io/dataplane-mode: ambient}}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}
",
        );
        assert!(lines(&run(&CHECK, &mesh)).is_empty());
    }
}
