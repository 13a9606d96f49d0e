//! `castoff who-can` follows routes that lead from one Service to pods of another.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/small_mesh.rs"]
#[allow(dead_code)]
mod small_mesh;

use assert_cmd::Command;

const ROUTE: &str = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders, namespace: shop}
spec:
  hosts: [orders]
  http: [{route: [{destination: {host: stock}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: stock}}
  rules: [{from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]}]
";

fn who_can(more: &[&str], from: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    small_mesh::write(folder.path(), "mesh", more);
    let arguments = [
        "who-can",
        "GET /",
        "shop/orders",
        "--from-files",
        "mesh",
        "--from",
        from,
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn pods_to_which_a_route_leads_are_asked_too() {
    assert_eq!(
        who_can(&[], "desk/batch"),
        "GET / to Service shop/orders, without token and headers
✅ may, port 80, pods of shop/orders (sidecar): allowed at the sidecar of shop/orders: nothing refuses it
    desk/batch
"
    );
    assert_eq!(
        who_can(&[ROUTE], "desk/batch"),
        "GET / to Service shop/orders, without token and headers
✅ may, port 80, pods of shop/orders (sidecar): allowed at the sidecar of shop/orders: nothing refuses it
    desk/batch
⛔ may not, port 80, pods of shop/stock (sidecar), where a route leads: denied at the sidecar of shop/stock: no ALLOW matches (shop/readers)
    desk/batch
"
    );
}

#[test]
fn a_route_out_of_the_input_is_named_as_not_asked() {
    let out = ROUTE.replace("host: stock", "host: api.example.com");
    let text = who_can(&[&out], "desk/batch");
    assert!(
        text.ends_with(
            "a route leads to api.example.com too, which is no Service of the input: not asked\n"
        ),
        "{text}"
    );
}

const NO_ADMIN: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-admin, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  action: DENY
  rules: [{to: [{operation: {paths: [/admin]}}]}]
";

/// What is said to a request of `desk/web`.
fn ask(request: &str, more: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    small_mesh::write(folder.path(), "mesh", more);
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["who-can", request, "shop/orders", "--from-files", "mesh"])
        .args(["--from", "desk/web"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_path_is_asked_as_proxies_normalize_it() {
    for path in ["/x/../admin", "/./admin", "/%61dmin", "/admin"] {
        let text = ask(&format!("GET {path}"), &[NO_ADMIN]);
        assert!(text.contains("⛔ may not"), "{text}");
        let said = text.contains("shop/orders, taken as GET /admin, without token");
        assert_eq!(said, path != "/admin", "{text}");
    }
    let text = ask("GET //admin", &[NO_ADMIN]);
    assert!(
        text.contains("✅ may") && !text.contains("taken as"),
        "{text}"
    );
    let text = ask("GET /admin%00", &[NO_ADMIN]);
    assert!(text.contains("❔ not decided"), "{text}");
}

/// A policy for the pods of `orders` whose only source is this.
fn from_source(action: &str, source: &str) -> String {
    format!(
        "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: by-address, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: orders}}}}
  action: {action}
  rules: [{{from: [{{source: {{{source}: [10.1.0.0/16]}}}}]}}]
"
    )
}

const BY_NETWORK: &str = "---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: by-address, namespace: shop}
spec:
  podSelector: {matchLabels: {app: orders}}
  ingress: [{from: [{ipBlock: {cidr: 10.1.0.0/16}}]}]
";

/// Pods of `desk/web`, whose addresses are known by them.
fn pod(address: &str) -> String {
    let name = address.replace('.', "-");
    format!(
        "---
apiVersion: v1
kind: Pod
metadata:
  name: web-{name}
  namespace: desk
  labels: {{app: web, security.istio.io/tlsMode: istio}}
  annotations: {{sidecar.istio.io/status: '{{}}'}}
  ownerReferences: [{{apiVersion: apps/v1, kind: ReplicaSet, name: web-1, controller: true}}]
spec:
  serviceAccountName: web
  containers:
  - {{name: app, image: r.example/web:1}}
  - {{name: istio-proxy, image: docker.io/istio/proxyv2:1.30.3, args: [proxy, sidecar]}}
status: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}]}}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata:
  name: web-1
  namespace: desk
  ownerReferences: [{{apiVersion: apps/v1, kind: Deployment, name: web, controller: true}}]
spec: {{selector: {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}}}}}
"
    )
}

#[test]
fn an_answer_that_hangs_on_an_address_nobody_knows_is_not_decided() {
    for policy in [
        from_source("DENY", "ipBlocks"),
        from_source("ALLOW", "ipBlocks"),
        from_source("ALLOW", "remoteIpBlocks"),
        from_source("DENY", "notRemoteIpBlocks"),
        BY_NETWORK.to_owned(),
    ] {
        let text = ask("GET /", &[&policy]);
        let hangs = "hangs on the address it calls from (10.1.0.0/16): ";
        assert!(
            text.contains("❔ not decided") && text.contains(hangs),
            "{text}"
        );
        assert!(!text.contains("✅") && !text.contains("⛔"), "{text}");
    }
}

#[test]
fn addresses_that_are_known_decide_unless_they_differ() {
    let policy = from_source("DENY", "ipBlocks");
    let inside = ask("GET /", &[&policy, &pod("10.1.0.7")]);
    assert!(
        inside.contains("⛔ may not") && !inside.contains("hangs"),
        "{inside}"
    );
    let outside = ask("GET /", &[&policy, &pod("10.2.0.7")]);
    assert!(
        outside.contains("✅ may") && !outside.contains("hangs"),
        "{outside}"
    );
    let both = ask("GET /", &[&policy, &pod("10.1.0.7"), &pod("10.2.0.7")]);
    assert!(
        both.contains("hangs on the address it calls from"),
        "{both}"
    );
}

const GATEWAY: &str = "---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ingress, namespace: shop}
spec:
  selector: {matchLabels: {app: ingress}}
  template:
    metadata: {labels: {app: ingress}, annotations: {inject.istio.io/templates: gateway}}
    spec:
      serviceAccountName: ingress
      containers: [{name: istio-proxy, image: auto, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {clusterIP: 10.96.0.99, type: LoadBalancer, selector: {app: ingress}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: keep-out, namespace: shop}
spec:
  selector: {matchLabels: {app: ingress}}
  action: DENY
  rules: [{to: [{operation: {paths: [/admin]}}]}]
";

#[test]
fn policies_at_a_gateway_decide_what_it_lets_in() {
    let refused = ask("GET /admin", &[GATEWAY]);
    assert!(
        refused.contains("may not, port 80, pods of shop/ingress (outside the mesh): denied at the gateway shop/ingress by shop/keep-out rule 1"),
        "{refused}"
    );
    assert!(!refused.contains("✅"), "{refused}");
    let allowed = ask("GET /", &[GATEWAY]);
    assert!(!allowed.contains("may not"), "{allowed}");
    assert!(
        allowed.contains("nothing refuses it; where it leads on from there is not asked"),
        "{allowed}"
    );
}
