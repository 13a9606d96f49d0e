//! Monitors of the Prometheus operator tell who dials pods: closing such a port is a loss, closing
//! another one that no Service leads to is a note.
#![allow(missing_docs, clippy::unwrap_used)]

use assert_cmd::Command;

/// A server whose port `metrics` is behind a Service that selects nothing but it, under another name.
const MESH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: \"trustDomain: cluster.local\"}
---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop, labels: {app: orders}}
spec:
  clusterIP: 10.0.0.1
  selector: {app: orders}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp-numbers, port: 90, targetPort: metrics}]
---
apiVersion: v1
kind: Pod
metadata:
  name: orders-1
  namespace: shop
  labels: {app: orders, security.istio.io/tlsMode: istio}
  annotations: {sidecar.istio.io/status: '{}'}
spec:
  serviceAccountName: orders
  containers:
  - {name: orders, image: orders, ports: [{name: http, containerPort: 8080}, {name: metrics, containerPort: 9090}]}
  - {name: istio-proxy, image: docker.io/istio/proxyv2:1.28.0, args: [proxy, sidecar]}
status: {phase: Running, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}]}
";

/// What comes after: everybody who has no identity is refused.
const CLOSED: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: mesh-only, namespace: shop}
spec: {rules: [{from: [{source: {principals: ['*']}}]}]}
";

fn monitor(kind: &str, namespace: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: monitoring.coreos.com/v1
kind: {kind}
metadata: {{name: numbers, namespace: {namespace}}}
spec: {spec}
"
    )
}

/// The exit code of `verify`, and what it prints.
fn verified(monitor: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let before = format!("{MESH}{monitor}");
    std::fs::write(folder.path().join("before.yaml"), &before).unwrap();
    std::fs::write(
        folder.path().join("after.yaml"),
        format!("{before}{CLOSED}"),
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["verify", "before.yaml", "after.yaml", "--ascii"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn a_port_that_is_scraped_is_in_use_by_callers_without_identity() {
    let orders = "{matchLabels: {app: orders}}";
    let (code, text) = verified("");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("closed to outsiders"), "{text}");
    for (kind, namespace, spec, scraped) in [
        (
            "PodMonitor",
            "shop",
            format!("{{selector: {orders}, podMetricsEndpoints: [{{port: metrics}}]}}"),
            true,
        ),
        (
            "PodMonitor",
            "shop",
            format!("{{selector: {orders}, podMetricsEndpoints: [{{portNumber: 9090}}]}}"),
            true,
        ),
        (
            "PodMonitor",
            "shop",
            format!("{{selector: {orders}, podMetricsEndpoints: [{{targetPort: metrics}}]}}"),
            true,
        ),
        (
            "PodMonitor",
            "shop",
            format!("{{selector: {orders}, podMetricsEndpoints: [{{port: other}}]}}"),
            false,
        ),
        (
            "PodMonitor",
            "shop",
            "{selector: {matchLabels: {app: other}}, podMetricsEndpoints: [{port: metrics}]}"
                .to_owned(),
            false,
        ),
        (
            "PodMonitor",
            "watch",
            format!("{{selector: {orders}, podMetricsEndpoints: [{{port: metrics}}]}}"),
            false,
        ),
        (
            "PodMonitor",
            "watch",
            format!(
                "{{namespaceSelector: {{any: true}}, selector: {orders}, podMetricsEndpoints: [{{port: metrics}}]}}"
            ),
            true,
        ),
        (
            "ServiceMonitor",
            "watch",
            format!(
                "{{namespaceSelector: {{matchNames: [shop]}}, selector: {orders}, endpoints: [{{port: tcp-numbers}}]}}"
            ),
            true,
        ),
        (
            "ServiceMonitor",
            "shop",
            format!("{{selector: {orders}, endpoints: [{{targetPort: 9090}}]}}"),
            true,
        ),
        (
            "ServiceMonitor",
            "shop",
            format!("{{selector: {orders}, endpoints: [{{port: metrics}}]}}"),
            false,
        ),
    ] {
        let (code, text) = verified(&monitor(kind, namespace, &spec));
        let told = format!("port 9090 is scraped as {kind} {namespace}/numbers says");
        assert_eq!(code, Some(if scraped { 3 } else { 0 }), "{spec}\n{text}");
        assert_eq!(text.contains(&told), scraped, "{spec}\n{text}");
    }
}
