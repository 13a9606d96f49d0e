//! VirtualServices of wildcard hosts lead on from every Service that they match.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/small_mesh.rs"]
#[allow(dead_code)]
mod small_mesh;

use small_mesh::{server, verify};

/// Two waypoints, one before each Service; stock's has the denial, orders' has none.
const BEHIND_WAYPOINTS: &str = "---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Namespace
metadata: {name: desk, labels: {istio.io/dataplane-mode: ambient}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: first, namespace: shop, labels: {istio.io/waypoint-for: service}}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status:
  addresses: [{type: Hostname, value: first.shop.svc.cluster.local}]
  conditions: [{type: Programmed, status: 'True'}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: second, namespace: shop, labels: {istio.io/waypoint-for: service}}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status:
  addresses: [{type: Hostname, value: second.shop.svc.cluster.local}]
  conditions: [{type: Programmed, status: 'True'}]
---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop, labels: {istio.io/use-waypoint: first}}
spec: {clusterIP: 10.96.0.9, selector: {app: orders}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: stock, namespace: shop, labels: {istio.io/use-waypoint: second}}
spec: {clusterIP: 10.96.0.10, selector: {app: stock}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin-copy, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: stock}]
  action: DENY
  rules: [{to: [{operation: {paths: ['/admin*']}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: stock-from-waypoints, namespace: shop}
spec:
  selector: {matchLabels: {app: stock}}
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/first, cluster.local/ns/shop/sa/second]}}]}]
";

fn route(namespace: &str, host: &str, destination: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: route, namespace: {namespace}}}
spec:
  hosts: ['{host}']
  http: [{{route: [{{destination: {{host: {destination}.shop.svc.cluster.local}}}}]}}]
"
    )
}

#[test]
fn a_waypoint_follows_a_wildcard_host_past_the_second_services_policies() {
    for host in ["*.shop.svc.cluster.local", "*"] {
        let wide = route("shop", host, "stock");
        let report = verify(&[BEHIND_WAYPOINTS], &[BEHIND_WAYPOINTS, &wide]);
        let stock = server(&report, "shop/stock");
        assert_eq!(stock["verdict"], "opens", "{host}: {report:#}");
        let witness = stock["differences"][0]["lines"][0].as_str().unwrap();
        assert!(witness.starts_with("GET /admin"), "{witness}");
        assert!(witness.ends_with("to Service shop/orders:80"), "{witness}");
    }
}

#[test]
fn a_wildcard_host_that_does_not_match_or_count_leads_nowhere() {
    let others = [
        route("shop", "*.desk.svc.cluster.local", "stock"),
        // Neither the Service's namespace nor the waypoint's.
        route("desk", "*", "stock"),
        // To itself.
        route("shop", "*stock.shop.svc.cluster.local", "stock"),
    ];
    for other in &others {
        let report = verify(&[BEHIND_WAYPOINTS], &[BEHIND_WAYPOINTS, other]);
        let stock = server(&report, "shop/stock");
        assert_eq!(stock["verdict"], "same", "{other}{report:#}");
    }
}
