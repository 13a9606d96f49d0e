//! Mistakes that another migration tool made with copies of policies, as inputs of `castoff verify`:
//! istio/istio issue 57315 (the copy names a Service without a waypoint) and istio/istio pull
//! request 57783 (the copy of a DENY loses its action, which makes it an ALLOW).
#![allow(clippy::unwrap_used)]

use std::fs;

use assert_cmd::Command;

const APPLICATION: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop, labels: {LABELS}}
spec:
  clusterIP: 10.96.7.7
  clusterIPs: [10.96.7.7]
  selector: {app: orders}
  ports: [{name: http, port: 80, targetPort: 8080, protocol: TCP}]
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {kubernetes.io/metadata.name: shop, MODE}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders}}
    spec: {containers: [{name: orders, image: orders, ports: [{containerPort: 8080}]}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web}]}
"#;

const WAYPOINT: &str = r#"
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop, labels: {istio.io/waypoint-for: service}}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
status:
  addresses: [{type: IPAddress, value: 10.96.9.9}]
  conditions:
  - {type: Accepted, status: "True"}
  - {type: Programmed, status: "True"}
"#;

fn policy(attachment: &str, action: &str, method: &str) -> String {
    format!(
        "\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {{name: orders, namespace: shop}}\nspec:\n  {attachment}\n  {action}\n  \
         rules: [{{to: [{{operation: {{methods: [{method}]}}}}]}}]\n"
    )
}

const SELECTOR: &str = "selector: {matchLabels: {app: orders}}";
const TARGET: &str = "targetRefs: [{kind: Service, group: \"\", name: orders}]";

fn application(labels: &str, mode: &str) -> String {
    APPLICATION.replace("LABELS", labels).replace("MODE", mode)
}

/// What `castoff verify` prints for two folders, and its exit code.
fn verify(before: &str, after: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, mesh) in [("before", before), ("after", after)] {
        let side = folder.path().join(name);
        fs::create_dir(&side).unwrap();
        for (file, text) in &castoff::demo::FILES[..2] {
            fs::write(side.join(file), text).unwrap();
        }
        fs::write(side.join("shop.yaml"), mesh).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["verify", "before", "after", "--ascii"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

fn sidecars(action: &str, method: &str) -> String {
    application("", "istio-injection: enabled") + &policy(SELECTOR, action, method)
}

fn behind_a_waypoint(action: &str, method: &str) -> String {
    application(
        "istio.io/use-waypoint: waypoint",
        "istio.io/dataplane-mode: ambient",
    ) + WAYPOINT
        + &policy(TARGET, action, method)
}

fn row(said: &str) -> String {
    said.lines()
        .filter(|line| line.contains("shop/orders"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_copy_at_a_service_without_a_waypoint_opens_the_server() {
    let after = application("", "istio.io/dataplane-mode: ambient")
        + &policy(TARGET, "action: ALLOW", "GET");
    let (code, said) = verify(&sidecars("action: ALLOW", "GET"), &after);
    eprintln!("{said}");
    assert_eq!(code, Some(3), "{said}");
    assert!(row(&said).contains("opens"), "{said}");
}

#[test]
fn a_copy_of_a_deny_without_its_action_opens_what_was_denied() {
    let (code, said) = verify(
        &sidecars("action: DENY", "DELETE"),
        &behind_a_waypoint("", "DELETE"),
    );
    eprintln!("{said}");
    assert_eq!(code, Some(3), "{said}");
    assert!(row(&said).contains("opens"), "{said}");
    assert!(said.contains("DELETE"), "no witness: {said}");
}

/// The other two tests show the mistake and not the migration: a right copy of the same ALLOW
/// shows no opening through the Service.
#[test]
fn a_right_copy_behind_a_waypoint_with_its_guard_opens_nothing() {
    let guard = "\n---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
         metadata: {name: guard, namespace: shop}\nspec:\n  selector: {matchLabels: {app: orders}}\n  \
         rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/waypoint]}}]}]\n";
    let (_, said) = verify(
        &sidecars("action: ALLOW", "GET"),
        &(behind_a_waypoint("action: ALLOW", "GET") + guard),
    );
    eprintln!("{said}");
    assert!(!row(&said).is_empty(), "{said}");
    assert!(!row(&said).contains("opens"), "{said}");
}
