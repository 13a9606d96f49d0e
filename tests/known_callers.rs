//! Where a caller stands in the way of a move, it is said which object makes him one who is known to call,
//! and what can be done for exactly him.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/small_mesh.rs"]
#[allow(dead_code, reason = "each user takes what it needs")]
mod small_mesh;

use serde_json::Value;

/// Lets in everybody who reads.
const READERS: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules: [{to: [{operation: {methods: [GET]}}]}]
---
";

fn workload(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      serviceAccountName: {name}
      containers: [{{name: app, image: 'registry.example/{name}:1'}}]
---
"
    )
}

/// What stands against moving shop/orders, in the plan's data; it must stand in the page too.
fn held(more: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    small_mesh::write(folder.path(), "mesh", more);
    let plan = small_mesh::json(
        folder.path(),
        &["plan", "--from-files", "mesh", "-o", "json"],
    );
    let page = std::fs::read_to_string(folder.path().join("castoff-plan/plan.md")).unwrap();
    let mut all = plan["held"].as_array().unwrap().iter();
    let held = all.find(|one| one["workload"] == "shop/orders").unwrap();
    let lines: Vec<String> = held["witness"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect();
    for line in &lines {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    lines
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

#[test]
fn a_service_for_callers_from_outside_the_cluster_is_named() {
    let exposed = "apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {clusterIP: 10.96.0.9, type: NodePort, selector: {app: orders}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
";
    let lines = held(&[READERS, exposed]);
    assert_eq!(
        lines[0],
        "GET / from a caller without identity to Service shop/orders:80"
    );
    assert_eq!(
        lines[3],
        "why it counts: Service shop/orders is of type NodePort: it is there for callers from outside the cluster"
    );
    let ways = &lines[4..];
    assert_eq!(ways.len(), 3, "{ways:#?}");
    assert!(ways[0].contains("an ingress gateway that sends to Service shop/orders"));
    assert!(ways[1].contains("an ALLOW policy on these pods at port 8080"));
    assert!(ways[2].contains("make Service shop/orders one of type ClusterIP"));
}

#[test]
fn a_workload_outside_the_mesh_is_named_and_may_be_taken_in() {
    let lines = held(&[READERS, &workload("legacy", "old")]);
    assert_eq!(
        lines[3],
        "why it counts: legacy/old runs outside the mesh, and whoever does may call any server"
    );
    assert!(
        lines[4].starts_with("way out: take legacy/old into the mesh")
            && lines[4].contains("as those of cluster.local/ns/legacy/sa/old"),
        "{lines:#?}"
    );
    // Nothing but ambient pods sends by a waypoint, whatever that is for.
    assert!(!lines.iter().any(|line| line.contains("waypoint-for")));
}

#[test]
fn one_outside_the_mesh_who_would_gain_is_named_too() {
    let no_admin = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  action: DENY
  rules: [{to: [{operation: {paths: ['/admin*']}}]}]
---
";
    let lines = held(&[no_admin, &workload("legacy", "old")]);
    assert!(lines[0].starts_with("GET /admin"), "{lines:#?}");
    let why =
        "why it counts: legacy/old runs outside the mesh, and whoever does may call any server";
    assert_eq!(lines[3], why, "{lines:#?}");
}

/// shop/orders with a port for numbers, which no Service has.
const SCRAPED: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  template:
    metadata:
      labels: {app: orders}
      annotations: {prometheus.io/scrape: 'true', prometheus.io/port: '9090'}
    spec:
      serviceAccountName: orders
      containers: [{name: app, image: 'registry.example/orders:1', ports: [{containerPort: 8080}, {containerPort: 9090}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]
    to: [{operation: {ports: ['8080'], methods: [GET]}}]
  - to: [{operation: {ports: ['9090'], paths: [/metrics]}}]
---
";

/// The mesh of the traps with another shop/orders.
fn scraped(more: &[&str], annotated: bool) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let orders = if annotated {
        SCRAPED.to_owned()
    } else {
        SCRAPED.replace(
            "prometheus.io/scrape: 'true', prometheus.io/port: '9090'",
            "a: b",
        )
    };
    small_mesh::write(folder.path(), "mesh", &[&[&*orders][..], more].concat());
    let path = folder.path().join("mesh/mesh.yaml");
    let mesh = std::fs::read_to_string(&path).unwrap();
    let is_old = |document: &&str| {
        document.contains("kind: Deployment") && document.contains("{name: orders, ")
    };
    let kept: Vec<&str> = mesh.split("---\n").filter(|one| !is_old(one)).collect();
    std::fs::write(path, kept.join("---\n")).unwrap();
    let plan = small_mesh::json(
        folder.path(),
        &["plan", "--from-files", "mesh", "-o", "json"],
    );
    let mut all = plan["held"].as_array().unwrap().iter();
    let held = all.find(|one| one["workload"] == "shop/orders").unwrap();
    held["witness"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect()
}

#[test]
fn the_prometheus_that_scrapes_is_named_and_no_service_that_lacks_the_port_is_offered() {
    let prometheus = workload("monitoring", "prometheus");
    let lines = scraped(&[&prometheus], true);
    assert_eq!(
        lines[0],
        "GET /metrics from a caller without identity to pod shop/orders:9090"
    );
    assert_eq!(
        lines[3],
        "why it counts: port 9090 is scraped (annotations prometheus.io/scrape and prometheus.io/port of shop/orders); by \
         its name monitoring/prometheus does so, from outside the mesh"
    );
    let ways = lines[4..].join("\n");
    assert!(
        ways.contains("for principal cluster.local/ns/monitoring/sa/prometheus at port 9090: nobody else gets in"),
        "{ways}"
    );
    assert!(ways.contains("label the waypoint shop/waypoint `istio.io/waypoint-for: all`"));
    assert!(!ways.contains("dial"), "{ways}");
    assert!(!ways.contains("desk/sa/web"), "{ways}");
}

#[test]
fn a_prometheus_with_a_sidecar_is_the_witness_rather_than_anybody_of_the_mesh() {
    let prometheus = workload("monitoring", "prometheus").replace(
        "metadata: {name: monitoring}",
        "metadata: {name: monitoring, labels: {istio-injection: enabled}}",
    );
    let lines = scraped(&[&prometheus], true);
    assert_eq!(
        lines[0],
        "GET /metrics from cluster.local/ns/monitoring/sa/prometheus to pod shop/orders:9090"
    );
    assert!(
        lines[3].ends_with("by its name monitoring/prometheus does so"),
        "{lines:#?}"
    );
}

#[test]
fn a_monitor_is_named_as_the_reason_and_nobody_is_made_up_who_scrapes() {
    let monitor = "apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: numbers, namespace: shop}
spec: {selector: {matchLabels: {app: orders}}, podMetricsEndpoints: [{portNumber: 9090}]}
---
";
    let lines = scraped(&[monitor], false);
    assert_eq!(
        lines[3],
        "why it counts: port 9090 is scraped (PodMonitor shop/numbers); nobody who calls so is by his name the one that \
         scrapes it"
    );
}

#[test]
fn pods_of_a_stateful_set_that_dial_one_another_are_told_by_their_headless_service() {
    let store = "apiVersion: v1
kind: Namespace
metadata: {name: db, labels: {istio-injection: enabled}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: orders, namespace: shop}
spec:
  serviceName: orders-peers
  selector: {matchLabels: {app: peers}}
  template:
    metadata: {labels: {app: peers}}
    spec:
      serviceAccountName: peers
      containers: [{name: app, image: 'registry.example/peers:1', ports: [{containerPort: 9092}]}]
---
apiVersion: v1
kind: Service
metadata: {name: orders-peers, namespace: shop}
spec: {clusterIP: None, selector: {app: peers}, ports: [{name: tcp-peers, port: 9092}]}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: strict, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: peers, namespace: shop}
spec:
  selector: {matchLabels: {app: peers}}
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/peers]}}]}]
---
"
    .replace(
        "name: orders, namespace: shop}\nspec:\n  serviceName",
        "name: peers, namespace: shop}\nspec:\n  serviceName",
    );
    let folder = tempfile::tempdir().unwrap();
    small_mesh::write(folder.path(), "mesh", &[&store]);
    let plan = small_mesh::json(
        folder.path(),
        &["plan", "--from-files", "mesh", "-o", "json"],
    );
    let mut all = plan["held"].as_array().unwrap().iter();
    let held = all.find(|one| one["workload"] == "shop/peers").unwrap();
    let lines: Vec<String> = held["witness"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect();
    assert_eq!(
        lines[3],
        "why it counts: Service shop/orders-peers is headless, so that its clients dial pods; those of StatefulSet \
         shop/peers dial one another"
    );
    assert!(
        lines[4].contains("scale StatefulSet shop/peers to 0"),
        "{lines:#?}"
    );
}
