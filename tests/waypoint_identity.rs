//! A waypoint is trusted by the pods that it leads to, on exactly these ports, and asked for like
//! anybody everywhere else.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/small_mesh.rs"]
#[allow(dead_code)]
mod small_mesh;

use small_mesh::{WAYPOINT, server, verify};

const READERS: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders-readers, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules: [{from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: stock-readers, namespace: shop}
spec:
  selector: {matchLabels: {app: stock}}
  rules: [{from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]}]
";

const BOUND: &str = "---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop, labels: {istio.io/use-waypoint: waypoint}}
spec: {clusterIP: 10.96.0.9, selector: {app: orders}, ports: [{name: http, port: 80, targetPort: 8080}]}
";

const COPY: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders-readers-copy, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: orders}]
  rules: [{from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]}]
";

/// A policy that lets the waypoint reach pods, on one port or on all.
fn lets_waypoint_in(app: &str, metadata: &str, port: Option<u16>) -> String {
    let to = port.map_or(String::new(), |port| {
        format!(", to: [{{operation: {{ports: ['{port}']}}}}]")
    });
    format!(
        "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {app}-from-waypoint, namespace: shop{metadata}}}
spec:
  selector: {{matchLabels: {{app: {app}}}}}
  rules: [{{from: [{{source: {{principals: [cluster.local/ns/shop/sa/waypoint]}}}}]{to}}}]
"
    )
}

#[test]
fn a_server_that_lets_in_a_waypoint_which_does_not_lead_to_it_opens() {
    let wide = lets_waypoint_in("stock", "", None);
    let before = [WAYPOINT, READERS, BOUND, COPY];
    let report = verify(&before, &[WAYPOINT, READERS, BOUND, COPY, &wide]);
    let stock = server(&report, "shop/stock");
    assert_eq!(stock["verdict"], "opens", "{report:#}");
    let difference = &stock["differences"][0];
    assert_eq!(difference["callers"], "waypoints that do not lead there");
    assert!(
        difference["lines"][0]
            .as_str()
            .unwrap()
            .contains("from cluster.local/ns/shop/sa/waypoint"),
        "{difference:#}"
    );
    assert_eq!(server(&report, "shop/orders")["verdict"], "same");
    // It was let in before: nothing is gained.
    let report = verify(
        &[WAYPOINT, READERS, BOUND, COPY, &wide],
        &[WAYPOINT, READERS, BOUND, COPY, &wide],
    );
    assert_eq!(server(&report, "shop/stock")["verdict"], "same");
}

/// A second waypoint gets a share of the requests and has policies of its own, which are not looked at
/// (istio pilot/pkg/serviceregistry/ambient/waypoints.go, since 1.31).
#[test]
fn what_goes_to_a_canary_waypoint_is_undecided() {
    let ambient = "---
apiVersion: v1
kind: Namespace
metadata: {name: desk, labels: {istio.io/dataplane-mode: ambient}}
";
    let canary = BOUND.replace(
        "istio.io/use-waypoint: waypoint",
        "istio.io/use-waypoint: waypoint, istio.io/use-waypoint-canary: other",
    );
    let before = [WAYPOINT, READERS, BOUND, COPY, ambient];
    let report = verify(&before, &[WAYPOINT, READERS, &canary, COPY, ambient]);
    let orders = server(&report, "shop/orders");
    assert_eq!(orders["verdict"], "undecided", "{report:#}");
    assert!(
        orders.to_string().contains("istio.io/use-waypoint-canary"),
        "{orders:#}"
    );
}

#[test]
fn a_denial_of_a_waypoint_that_is_taken_away_opens() {
    let denial = lets_waypoint_in("stock", "", None).replace("  rules", "  action: DENY\n  rules");
    let readers = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: stock-of-shop, namespace: shop}
spec:
  selector: {matchLabels: {app: stock}}
  rules: [{from: [{source: {namespaces: [shop]}}]}]
";
    let report = verify(
        &[WAYPOINT, BOUND, readers, &denial],
        &[WAYPOINT, BOUND, readers],
    );
    assert_eq!(
        server(&report, "shop/stock")["verdict"],
        "opens",
        "{report:#}"
    );
}

#[test]
fn a_waypoint_is_trusted_on_the_ports_that_it_leads_to() {
    let metrics = "---
apiVersion: v1
kind: Service
metadata: {name: orders-metrics, namespace: shop, labels: {istio.io/use-waypoint: none}}
spec: {clusterIP: 10.96.0.12, selector: {app: orders}, ports: [{name: http, port: 90, targetPort: 9090}]}
";
    let before = [WAYPOINT, READERS, metrics];
    let exact = lets_waypoint_in("orders", "", Some(8080));
    let report = verify(&before, &[WAYPOINT, READERS, metrics, BOUND, COPY, &exact]);
    let orders = server(&report, "shop/orders");
    assert_eq!(orders["verdict"], "same", "{report:#}");
    assert!(orders.to_string().contains("shop/waypoint"), "{orders:#}");

    let wide = lets_waypoint_in("orders", "", None);
    let report = verify(&before, &[WAYPOINT, READERS, metrics, BOUND, COPY, &wide]);
    let orders = server(&report, "shop/orders");
    assert_eq!(orders["verdict"], "opens", "{report:#}");
    assert_eq!(orders["differences"][0]["port"], 9090);
}

/// Guards come before the label: a Service that is about to use the waypoint is known by the copies that
/// are ready for it, or by what castoff writes on a guard.
#[test]
fn a_waypoint_that_is_about_to_lead_there_is_named_as_newly_trusted() {
    let by_hand = lets_waypoint_in("orders", "", Some(8080));
    let generated = lets_waypoint_in(
        "orders",
        ", labels: {castoff.dev/generated: guard}, annotations: {castoff.dev/guards: Service/shop/orders}",
        Some(8080),
    );
    for prepared in [[COPY, by_hand.as_str()], ["", generated.as_str()]] {
        let after = [WAYPOINT, READERS, prepared[0], prepared[1]];
        let report = verify(&[WAYPOINT, READERS], &after);
        let orders = server(&report, "shop/orders");
        assert_eq!(orders["verdict"], "same", "{report:#}");
        assert!(orders.to_string().contains("shop/waypoint"), "{orders:#}");
    }
    let report = verify(&[WAYPOINT, READERS], &[WAYPOINT, READERS, &by_hand]);
    assert_eq!(server(&report, "shop/orders")["verdict"], "opens");
}

/// A DENY of everybody on a port that nothing declares, or of all but some.
fn closed(port: u16, excepted: &[&str]) -> String {
    let from = match excepted {
        [] => String::new(),
        _ => format!(
            "from: [{{source: {{notPrincipals: [{}]}}}}], ",
            excepted.join(", ")
        ),
    };
    format!(
        "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: closed, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: orders}}}}
  action: DENY
  rules: [{{{from}to: [{{operation: {{ports: ['{port}']}}}}]}}]
"
    )
}

#[test]
fn a_waypoint_is_asked_for_at_ports_that_nothing_declares() {
    let waypoint = "cluster.local/ns/shop/sa/waypoint";
    let (all, but) = (closed(9090, &[]), closed(9090, &[waypoint]));
    // Whoever names a port for these pods knows of a listener.
    let report = verify(&[WAYPOINT, BOUND, &all], &[WAYPOINT, BOUND, &but]);
    let orders = server(&report, "shop/orders");
    assert_eq!(orders["verdict"], "opens", "{report:#}");
    let difference = &orders["differences"][0];
    assert_eq!(difference["callers"], "waypoints that do not lead there");
    // Where nobody is known to listen it is told.
    let guard = lets_waypoint_in("orders", "", None);
    let report = verify(
        &[WAYPOINT, BOUND, READERS],
        &[WAYPOINT, BOUND, READERS, &guard],
    );
    assert_eq!(
        server(&report, "shop/orders")["verdict"],
        "same",
        "{report:#}"
    );
    let told = "a waypoint is let in at any other port of pod shop/orders too";
    assert!(
        server(&report, "shop/orders").to_string().contains(told),
        "{report:#}"
    );
    let guard = lets_waypoint_in("orders", "", Some(8080));
    let report = verify(
        &[WAYPOINT, BOUND, READERS],
        &[WAYPOINT, BOUND, READERS, &guard],
    );
    assert_eq!(
        server(&report, "shop/orders")["verdict"],
        "same",
        "{report:#}"
    );
    assert!(
        !report.to_string().contains("a waypoint is let in"),
        "{report:#}"
    );
}
