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
