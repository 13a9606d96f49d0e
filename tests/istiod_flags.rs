//! Flags of istiod that change which way requests take: what the proof then says of a plan.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use castoff::mesh::MeshOverrides;
use castoff::plan::{Plan, PlanEnding, PlanOptions, plan};
use castoff::source::{Collector, Place};

const GATEWAY: &str = "
apiVersion: v1
kind: Pod
metadata:
  name: edge
  namespace: istio-system
  labels: {istio: ingressgateway}
spec:
  serviceAccountName: istio-ingressgateway
  containers:
  - {name: istio-proxy, image: 'docker.io/istio/proxyv2:1.30.3', args: [proxy, router]}
";

/// A plan for Bookinfo behind its ingress gateway, with a flag set at istiod.
fn planned(flag: &str, value: &str) -> Plan {
    let mut collector = Collector::new();
    let place = Place::File("bookinfo.yaml".into());
    collector.add_text(&place, include_str!("fixtures/plan/bookinfo.yaml"));
    collector.add_text(&place, GATEWAY);
    for (file, text) in &castoff::demo::FILES[..2] {
        let set = "        - name: PILOT_ENABLE_AMBIENT\n";
        let added = format!("        - name: {flag}\n          value: \"{value}\"\n{set}");
        collector.add_text(&Place::Demo(file), &text.replace(set, &added));
    }
    let snapshot = collector.finish();
    let istiod =
        &castoff::mesh::Mesh::build(&snapshot, &MeshOverrides::default()).control_planes[0];
    assert_eq!(istiod.environment.get(flag).unwrap(), value);
    plan(
        &snapshot,
        snapshot.clone(),
        &MeshOverrides::default(),
        &PlanOptions::default(),
    )
}

/// istio pilot/pkg/xds/endpoints/endpoint_builder.go `findServiceWaypoint`: without the flag a gateway
/// sends to pods, whatever the label says.
#[test]
fn gateways_that_do_not_route_through_waypoints_are_not_told_to_and_keep_servers_back() {
    let usual = planned("ENABLE_INGRESS_WAYPOINT_ROUTING", "true");
    assert_eq!(usual.ending, PlanEnding::Done);
    let without = planned("ENABLE_INGRESS_WAYPOINT_ROUTING", "false");
    let mut commands = without.waves.iter().flat_map(|wave| &wave.steps);
    assert!(
        !commands.any(|step| step
            .run
            .iter()
            .any(|run| run.contains("ingress-use-waypoint"))),
        "a label that nobody follows"
    );
    assert_eq!(without.ending, PlanEnding::Partial);
    assert_eq!(without.gaps, []);
}

/// istio pilot/pkg/networking/core/listener_waypoint.go `buildHCMConnectTerminateChain`.
#[test]
fn a_second_reading_of_policies_at_the_waypoint_is_undecided() {
    assert_eq!(
        planned("ENABLE_LAYERED_WAYPOINT_AUTHORIZATION_POLICIES", "false").undecided(),
        0
    );
    assert!(planned("ENABLE_LAYERED_WAYPOINT_AUTHORIZATION_POLICIES", "true").undecided() > 0);
}
