//! `castoff verify` as a gate: what differs, what is meant to, and how it ends.
#![allow(missing_docs, clippy::unwrap_used)]

use std::process::Output;

use assert_cmd::Command;

/// Two servers with sidecars and one caller.
const MESH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: \"trustDomain: cluster.local\"}
";

fn server(name: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec: {{clusterIP: 10.0.0.1, selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}-1, namespace: shop, labels: {{app: {name}, security.istio.io/tlsMode: istio}}, annotations: {{sidecar.istio.io/status: '{{}}'}}}}
spec:
  serviceAccountName: {name}
  containers:
  - {{name: {name}, image: {name}, ports: [{{containerPort: 8080}}]}}
  - {{name: istio-proxy, image: docker.io/istio/proxyv2:1.28.0, args: [proxy, sidecar]}}
status: {{phase: Running, podIP: 10.1.0.1, podIPs: [{{ip: 10.1.0.1}}]}}
"
    )
}

fn allow(name: &str, methods: &str) -> String {
    format!(
        "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  rules:
  - from: [{{source: {{principals: [cluster.local/ns/shop/sa/web]}}}}]
    to: [{{operation: {{methods: [{methods}]}}}}]
"
    )
}

/// Compares the mesh where `orders` and `stock` accept GET and POST with one where `orders` accepts
/// DELETE too and `stock` no POST.
fn verify(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mesh = [MESH, &server("web"), &server("orders"), &server("stock")].concat();
    let before = [allow("orders", "GET, POST"), allow("stock", "GET, POST")].concat();
    let after = [allow("orders", "GET, POST, DELETE"), allow("stock", "GET")].concat();
    for (name, policies) in [("before.yaml", before), ("after.yaml", after)] {
        std::fs::write(folder.path().join(name), format!("{mesh}{policies}")).unwrap();
    }
    Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["verify", "before.yaml", "after.yaml", "--ascii"])
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .unwrap()
}

fn first_lines(output: &Output) -> Vec<String> {
    String::from_utf8(output.stdout.clone())
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("      "))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_difference_ends_with_3_and_is_shown_with_its_request() {
    let output = verify(&[]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(text.contains("DELETE"), "{text}");
    assert_eq!(
        first_lines(&output),
        [
            "Access now (after.yaml) compared with before.yaml",
            "[opens] shop/orders-1 opens",
            "    opens for workloads of the mesh to port 8080 (sidecar pods, http):",
            "[breaks] shop/stock-1 breaks",
            "    breaks for workloads of the mesh to port 8080 (sidecar pods, http):",
            "[ok] shop/web-1 same",
            "3 servers: 1 same, 1 opened, 1 broken (18 comparisons)",
        ]
    );
}

#[test]
fn what_is_allowed_counts_as_no_difference_and_nothing_more_is_allowed() {
    let all = verify(&[
        "--allow",
        "opens:shop/orders*",
        "--allow",
        "breaks:shop/stock-1:8080",
    ]);
    assert_eq!(
        first_lines(&all),
        [
            "Access now (after.yaml) compared with before.yaml",
            "[intended] shop/orders-1 differs as intended",
            "    opens, as intended, for workloads of the mesh to port 8080 (sidecar pods, http):",
            "[intended] shop/stock-1 differs as intended",
            "    breaks, as intended, for workloads of the mesh to port 8080 (sidecar pods, http):",
            "[ok] shop/web-1 same",
            "3 servers: 1 same, 2 different as intended (18 comparisons)",
        ]
    );
    assert_eq!(all.status.code(), Some(0));
    let one = verify(&["--allow", "opens:shop/*", "--allow", "opens:shop/stock-1"]);
    assert_eq!(one.status.code(), Some(3));
    let text = String::from_utf8(one.stdout).unwrap();
    assert!(text.contains("[breaks] shop/stock-1 breaks"), "{text}");
    assert!(
        text.contains("nothing was found for --allow opens:shop/stock-1"),
        "{text}"
    );
}

#[test]
fn only_new_access_counts_no_loss() {
    let output = verify(&["--only-new-access", "--allow", "opens:shop/orders-1"]);
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("breaks"), "{text}");
}

#[test]
fn an_allowance_that_is_not_understood_is_wrong_usage() {
    let output = verify(&["--allow", "opens:everything"]);
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("opens:NAMESPACE/WORKLOAD"), "{said}");
}

#[test]
fn the_json_obeys_the_committed_schema() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/access.v1.json");
    let schema = castoff::report::access::schema();
    if std::env::var_os("CASTOFF_BLESS").is_some() {
        std::fs::write(path, &schema).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        schema,
        "run the tests with CASTOFF_BLESS=1"
    );
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let output = verify(&[
        "-o",
        "json",
        "--allow",
        "opens:shop/orders-1",
        "--allow",
        "opens:no/one",
    ]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(validator.is_valid(&report), "{report:#}");
    assert_eq!(report["servers"][0]["verdict"], "intended");
    assert_eq!(report["notFound"], serde_json::json!(["opens:no/one"]));
}

/// Compares a server that takes plaintext with one that asks for an identity.
fn verify_identity_required(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mesh = [MESH, &server("web"), &server("orders")].concat();
    let deny = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: with-identity, namespace: shop}
spec:
  action: DENY
  selector: {matchLabels: {app: orders}}
  rules: [{from: [{source: {notPrincipals: ['*']}}]}]
";
    std::fs::write(folder.path().join("before.yaml"), &mesh).unwrap();
    std::fs::write(folder.path().join("after.yaml"), format!("{mesh}{deny}")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["verify", "before.yaml", "after.yaml", "--ascii"])
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .unwrap()
}

#[test]
fn a_loss_that_nobody_is_known_to_suffer_is_a_note_until_it_is_said_to_count() {
    let noted = verify_identity_required(&[]);
    assert_eq!(
        first_lines(&noted),
        [
            "Access now (after.yaml) compared with before.yaml",
            "[ok] shop/orders-1 same; closed to outsiders (none is known to call); pod addresses closed to any other \
             identity (nobody is known to dial them); pod addresses closed to workloads of the mesh (nobody is known \
             to dial them)",
            "[ok] shop/web-1 same",
            "2 servers: 2 same (12 comparisons)",
        ]
    );
    assert_eq!(noted.status.code(), Some(0));
    for (argument, callers) in [
        (
            "--direct=fail",
            "breaks for workloads of the mesh to port 8080",
        ),
        ("--outsiders=fail", "breaks for outsiders to port 8080"),
    ] {
        let failed = verify_identity_required(&[argument]);
        assert_eq!(failed.status.code(), Some(3), "{argument}");
        let text = String::from_utf8(failed.stdout).unwrap();
        assert!(text.contains(callers), "{argument}: {text}");
    }
}

/// `orders` as an ambient server behind a waypoint that alone is let in.
const BEHIND_A_WAYPOINT: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/dataplane-mode: ambient, istio.io/use-waypoint: waypoint}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop, labels: {istio.io/waypoint-for: service}}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status:
  addresses: [{type: Hostname, value: waypoint.shop.svc.cluster.local}]
  conditions: [{type: Programmed, status: 'True', reason: Programmed}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders-waypoint, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: orders}]
  rules: [{to: [{operation: {methods: [GET]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/waypoint]}}]}]
---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {clusterIP: 10.0.0.1, selector: {app: orders}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: orders-1, namespace: shop, labels: {app: orders}, annotations: {ambient.istio.io/redirection: enabled, prometheus.io/scrape: 'true', prometheus.io/port: '8080'}}
spec:
  serviceAccountName: orders
  containers: [{name: orders, image: orders, ports: [{containerPort: 8080}]}]
status: {phase: Running, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}]}
";

#[test]
fn who_dials_pods_and_is_cut_off_is_shown_the_ways_out() {
    let folder = tempfile::tempdir().unwrap();
    let scraped = server("orders").replace(
        "annotations: {sidecar.istio.io/status: '{}'}",
        "annotations: {sidecar.istio.io/status: '{}', prometheus.io/scrape: 'true', prometheus.io/port: '8080'}",
    );
    let reads = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules: [{to: [{operation: {methods: [GET]}}]}]
";
    let before = [MESH, &scraped, &server("web"), reads].concat();
    let after = [BEHIND_A_WAYPOINT, &server("web")].concat();
    std::fs::write(folder.path().join("before.yaml"), before).unwrap();
    std::fs::write(folder.path().join("after.yaml"), after).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["verify", "before.yaml", "after.yaml"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    for way in [
        "why it counts: port 8080 is scraped (annotations prometheus.io/scrape and prometheus.io/port of shop/orders-1)",
        "way out: an ALLOW policy on these pods for the principal of whoever scrapes at port 8080",
        "way out: let it dial Service shop/orders:80",
        "way out: label the waypoint shop/waypoint `istio.io/waypoint-for: all`",
    ] {
        assert!(text.contains(way), "{text}");
    }
}
