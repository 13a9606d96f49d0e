//! Routes that a waypoint passes over lead nobody to other pods there.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/small_mesh.rs"]
#[allow(dead_code)]
mod small_mesh;

use small_mesh::{WAYPOINT, server, verify};

const AMBIENT: &str = "---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint}}
---
apiVersion: v1
kind: Namespace
metadata: {name: desk, labels: {istio.io/dataplane-mode: ambient}}
";

const READERS: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: from-waypoint, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/waypoint]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: orders}]
  rules: [{from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]}]
";

fn to_orders(spec: &str, condition: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: stock, namespace: shop}}
spec: {{hosts: [stock], {spec}http: [{{{condition}route: [{{destination: {{host: orders}}}}]}}, {{route: [{{destination: {{host: stock}}}}]}}]}}
"
    )
}

fn verdict(route: &str) -> String {
    let report = verify(
        &[WAYPOINT, AMBIENT, READERS],
        &[WAYPOINT, AMBIENT, READERS, route],
    );
    let orders = server(&report, "shop/orders");
    orders["verdict"].as_str().unwrap().to_owned()
}

#[test]
fn a_route_that_a_waypoint_follows_opens_the_pods_behind() {
    for (spec, condition) in [
        ("", ""),
        ("", "match: [{uri: {prefix: /v2}}], "),
        ("", "match: [{sourceNamespace: shop}], "),
        ("exportTo: [shop], ", ""),
        ("", "match: [{gateways: [mesh]}], "),
        (
            "",
            "match: [{sourceLabels: {app: batch}}, {uri: {prefix: /v2}}], ",
        ),
    ] {
        let route = to_orders(spec, condition);
        assert_eq!(verdict(&route), "opens", "{route}");
    }
}

/// istio pilot/pkg/networking/core/listener_waypoint.go `waypointInboundRoute`.
#[test]
fn a_route_that_a_waypoint_passes_over_opens_nothing() {
    for (spec, condition) in [
        ("", "match: [{sourceLabels: {app: batch}}], "),
        ("", "match: [{sourceNamespace: desk}], "),
        ("", "match: [{gateways: [shop/gw]}], "),
        ("exportTo: [desk], ", ""),
    ] {
        let route = to_orders(spec, condition);
        assert_eq!(verdict(&route), "same", "{route}");
    }
}

/// What a route took before hides no gain of what it did not take.
#[test]
fn what_a_route_led_to_pods_before_is_what_it_took() {
    let route = to_orders("", "match: [{uri: {prefix: /v2}}], ");
    let open = READERS.replace("cluster.local/ns/desk/sa/web", "'*'");
    let report = verify(
        &[WAYPOINT, AMBIENT, READERS, &route],
        &[WAYPOINT, AMBIENT, &open, &route],
    );
    let orders = server(&report, "shop/orders");
    assert_eq!(orders["verdict"], "opens", "{report:#}");
    let report = verify(
        &[WAYPOINT, AMBIENT, READERS, &route],
        &[WAYPOINT, AMBIENT, READERS, &route],
    );
    assert_eq!(server(&report, "shop/orders")["verdict"], "same");
}

#[test]
fn who_can_says_of_the_pods_behind_which_requests_are_led_there() {
    let folder = tempfile::tempdir().unwrap();
    let route = to_orders("", "match: [{uri: {prefix: /v2}}], ");
    small_mesh::write(folder.path(), "mesh", &[WAYPOINT, AMBIENT, READERS, &route]);
    let asked = |request: &str| {
        let arguments = ["who-can", request, "shop/stock", "--from-files", "mesh"];
        let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_castoff"))
            .args(arguments)
            .current_dir(folder.path())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let led = "may, port 80, pods of shop/orders (ambient), where a route leads: allowed";
    assert!(asked("GET /v2").contains(led), "{}", asked("GET /v2"));
    let elsewhere = "may not, port 80, pods of shop/orders (ambient), where a route leads: denied at the routes of \
                     VirtualService shop/stock: they do not lead it here";
    let text = asked("GET /admin");
    assert!(text.contains(elsewhere), "{text}");
}

/// istio pilot/pkg/networking/core/listener_waypoint.go `getWaypointTCPRoutes`, since 1.26.
#[test]
fn a_waypoint_leads_connections_since_istio_1_26() {
    let service = "---
apiVersion: v1
kind: Service
metadata: {name: stock-tcp, namespace: shop}
spec: {clusterIP: 10.96.0.21, selector: {app: stock}, ports: [{name: tcp, port: 9000, targetPort: 9000}]}
";
    let route = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: stock-tcp, namespace: shop}
spec: {hosts: [stock-tcp], tcp: [{route: [{destination: {host: nobody}}]}]}
";
    let folder = tempfile::tempdir().unwrap();
    small_mesh::write(folder.path(), "before", &[WAYPOINT, AMBIENT, service]);
    small_mesh::write(folder.path(), "after", &[WAYPOINT, AMBIENT, service, route]);
    for (version, expected) in [("1.25.4", "same"), ("1.26.0", "breaks")] {
        let flags = ["-o", "json", "--istio-version", version];
        let arguments = [&["verify", "before", "after"][..], &flags].concat();
        let report = small_mesh::json(folder.path(), &arguments);
        let stock = server(&report, "shop/stock");
        assert_eq!(stock["verdict"], expected, "{version}: {report:#}");
    }
}
