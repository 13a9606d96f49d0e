//! Plans for meshes in which some of the migration stands already: labels before their waypoints, guards of the user's
//! own, a namespace in ambient mode behind a waypoint.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/small_mesh.rs"]
#[allow(dead_code, reason = "each user takes what it needs")]
mod small_mesh;

use std::path::Path;

use assert_cmd::Command;

const READERS: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]
    to: [{operation: {methods: [GET]}}]
";

const WAYPOINT: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status:
  addresses: [{type: IPAddress, value: 10.96.9.9}]
  conditions: [{type: Programmed, status: 'True', reason: Programmed, lastTransitionTime: '2026-01-01T00:00:00Z'}]
";

/// Writes the mesh with other labels of its namespaces, and what `castoff plan` says of it.
fn plan(folder: &Path, labels: [&str; 2], more: &[&str]) -> String {
    small_mesh::write(folder, "in", more);
    let file = folder.join("in/mesh.yaml");
    let mut mesh = std::fs::read_to_string(&file).unwrap();
    for (namespace, labels) in ["shop", "desk"].into_iter().zip(labels) {
        let old = format!("{{name: {namespace}, labels: {{istio-injection: enabled}}}}");
        assert!(mesh.contains(&old));
        let new = format!("{{name: {namespace}, labels: {{{labels}}}}}");
        mesh = mesh.replace(&old, &new);
    }
    std::fs::write(file, mesh).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args([
            "plan",
            "--from-files",
            "in",
            "--output-dir",
            "plan",
            "--ascii",
        ])
        .current_dir(folder)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A file of the wave whose folder ends so.
fn file(folder: &Path, wave: &str, name: &str) -> String {
    let mut waves = std::fs::read_dir(folder.join("plan")).unwrap();
    let found = waves.find_map(|one| {
        let path = one.unwrap().path();
        let is_it = path.file_name()?.to_str()?.ends_with(wave);
        is_it.then_some(path)
    });
    std::fs::read_to_string(found.unwrap().join(name)).unwrap()
}

const AMBIENT: &str = "istio.io/dataplane-mode: ambient";

/// istio pilot/pkg/serviceregistry/ambient/waypoints.go `fetchWaypointForTarget`: a label that names no Gateway has no
/// effect. Callers in ambient mode go through the waypoint the moment it is there.
#[test]
fn a_label_before_its_waypoint_is_taken_away_and_set_again_after_the_policies() {
    let folder = tempfile::tempdir().unwrap();
    let shop = "istio-injection: enabled, istio.io/use-waypoint: waypoint";
    let said = plan(folder.path(), [shop, AMBIENT], &[READERS]);
    assert!(!said.contains("left out"), "{said}");
    let waves = [
        "01-early-labels",
        "02-waypoints",
        "03-policies",
        "04-use-waypoints",
    ];
    for wave in waves {
        assert!(said.contains(&format!("[ok] {wave}: ")), "{said}");
    }
    assert!(said.contains("At the end every workload is in ambient mode."));
    let script = file(folder.path(), "01-early-labels", "apply.sh");
    let take = "kubectl label namespace shop istio.io/use-waypoint-";
    assert!(script.contains(take), "{script}");
    let script = file(folder.path(), "04-use-waypoints", "apply.sh");
    let set = "kubectl label service -n shop orders istio.io/use-waypoint=waypoint";
    assert!(script.contains(set), "{script}");
}

#[test]
fn a_label_before_its_waypoint_stays_where_nobody_would_use_it_yet() {
    let folder = tempfile::tempdir().unwrap();
    let shop = "istio-injection: enabled, istio.io/use-waypoint: waypoint";
    let desk = "istio-injection: enabled";
    let said = plan(folder.path(), [shop, desk], &[READERS]);
    assert!(said.contains("[ok] 01-waypoints: "), "{said}");
    assert!(said.contains("At the end every workload is in ambient mode."));
}

/// Nobody comes to a waypoint under the waypoint's own name.
#[test]
fn a_guard_of_the_users_own_is_not_copied_and_not_doubled() {
    let guard = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: mine, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/waypoint]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: at-the-waypoint, namespace: shop}
spec:
  targetRefs: [{kind: Service, group: '', name: orders}]
  rules:
  - from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]
    to: [{operation: {methods: [GET]}}]
";
    let folder = tempfile::tempdir().unwrap();
    let shop = "istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint";
    let more = [READERS, guard, WAYPOINT];
    let said = plan(folder.path(), [shop, AMBIENT], &more);
    let policies = file(folder.path(), "policies", "recommended-policies.yaml");
    assert!(policies.contains("name: orders-readers"), "{policies}");
    assert!(!policies.contains("name: orders-mine"), "{policies}");
    assert!(!policies.contains("from-waypoint"), "{policies}");
    // What lets the waypoint in stays.
    let clean_up = file(folder.path(), "clean-up", "apply.sh");
    assert!(clean_up.contains("readers"), "{clean_up}");
    assert!(!clean_up.contains("mine"), "{clean_up}");
    assert!(said.contains("At the end every workload is in ambient mode."));
}

/// Where a waypoint enforces already what ztunnel left out, one copy for all waypoints would take something away; each
/// Service gets its own, and that one alone is left out.
#[test]
fn a_namespace_behind_its_waypoint_does_not_keep_the_copies_of_others_out() {
    let mesh_wide = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: trace, namespace: istio-system}
spec: {action: DENY, rules: [{to: [{operation: {methods: [TRACE]}}]}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: amb, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: api, namespace: amb}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      serviceAccountName: api
      containers: [{name: app, image: 'registry.example/api:1', ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: amb}
spec: {clusterIP: 10.96.0.33, selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}]}
";
    let folder = tempfile::tempdir().unwrap();
    let waypoint = WAYPOINT.replace("namespace: shop", "namespace: amb");
    let desk = "istio-injection: enabled";
    let said = plan(folder.path(), [desk, desk], &[mesh_wide, &waypoint]);
    let policies = file(folder.path(), "policies", "recommended-policies.yaml");
    for service in ["orders", "stock"] {
        let name = format!("name: {service}-trace");
        assert!(policies.contains(&name), "{policies}");
    }
    assert!(!policies.contains("GatewayClass"), "{policies}");
    assert!(!policies.contains("api-trace"), "{policies}");
    let left_out = "left out: AuthorizationPolicy amb/api-trace of recommended-policies.yaml: it breaks amb/api";
    assert!(said.contains(left_out), "{said}");
}
