//! A workload whose pod template keeps ztunnel away (`istio.io/dataplane-mode: none`) must keep its sidecar: without
//! it, new pods would be in no mesh.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use assert_cmd::Command;

const MESH: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart, istio.io/dataplane-mode: none}}
    spec:
      serviceAccountName: cart
      containers: [{name: app, image: registry.example/cart:1, ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.9, selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: web
      containers: [{name: app, image: registry.example/web:1}]
";

const STRICT: &str = r"---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
";

/// Exit code and text of a command on the mesh in the demo's cluster.
fn run(folder: &Path, command: &str, more: &str) -> (Option<i32>, String) {
    fs::write(folder.join("mesh.yaml"), format!("{MESH}{more}")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args([command, "--from-files", "mesh.yaml"])
        .args(["cluster.yaml", "control-plane.yaml"].map(|name| {
            let text = fs::read_to_string(format!("{}/demo/{name}", env!("CARGO_MANIFEST_DIR")));
            let path = folder.join(name);
            fs::write(&path, text.unwrap()).unwrap();
            path
        }))
        .args(["--output-dir", "out"])
        .env("NO_COLOR", "1")
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text)
}

#[test]
fn the_plan_leaves_it_its_sidecar_and_says_why() {
    for more in ["", STRICT] {
        let folder = tempfile::tempdir().unwrap();
        let (_, text) = run(folder.path(), "plan", more);
        let page = fs::read_to_string(folder.path().join("out/plan.md")).unwrap();
        assert!(
            page.contains("label istio.io/dataplane-mode=none"),
            "{page}"
        );
        assert!(
            !text.contains("every workload is in ambient mode"),
            "{text}"
        );
        for entry in fs::read_dir(folder.path().join("out")).unwrap() {
            let script = entry.unwrap().path().join("apply.sh");
            let Ok(script) = fs::read_to_string(script) else {
                continue;
            };
            assert!(!script.contains("shop cart"), "{script}");
            assert!(!script.contains("istio-injection-"), "{script}");
        }
    }
}

#[test]
fn migrate_recommends_the_others_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (code, text) = run(folder.path(), "migrate", "");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("shop/cart must keep its sidecar"), "{text}");
    assert!(
        !text.contains("rollout restart deployment -n shop cart"),
        "{text}"
    );
    assert!(!text.contains("istio-injection-"), "{text}");
}

#[test]
fn who_keeps_its_sidecar_for_one_reason_is_one_finding_with_an_object() {
    let folder = tempfile::tempdir().unwrap();
    run(folder.path(), "migrate", "");
    let kept = |more: &str| -> Vec<serde_json::Value> {
        fs::write(folder.path().join("mesh.yaml"), format!("{MESH}{more}")).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
            .args(["migrate", "--phase", "remove-sidecars", "-o", "json"])
            .args([
                "--from-files",
                "mesh.yaml",
                "cluster.yaml",
                "control-plane.yaml",
            ])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let phases = report["phases"].as_array().unwrap().iter();
        let checks = phases.flat_map(|phase| phase["checks"].as_array().unwrap());
        let findings = checks.flat_map(|check| check["findings"].as_array().unwrap());
        findings
            .filter(|one| one["message"].as_str().unwrap().contains("must keep"))
            .cloned()
            .collect()
    };
    let one = kept("");
    assert_eq!(one.len(), 1, "{one:?}");
    assert_eq!(one[0]["subject"]["kind"], "Deployment", "{one:?}");
    assert_eq!(one[0]["subject"]["name"], "cart", "{one:?}");
    assert_eq!(one[0]["facts"]["workloads"][0], "shop/cart", "{one:?}");
    let second = MESH.split("---").nth(1).unwrap().replace("cart", "till");
    let two = kept(&format!("---{second}"));
    assert_eq!(two.len(), 1, "{two:?}");
    let message = two[0]["message"].as_str().unwrap();
    assert!(
        message.starts_with("shop/cart, shop/till must keep their sidecars: "),
        "{message}"
    );
    assert_eq!(two[0]["subject"]["kind"], "Namespace", "{two:?}");
    assert_eq!(two[0]["subject"]["name"], "shop", "{two:?}");
    assert_eq!(two[0]["names"].as_array().unwrap().len(), 2, "{two:?}");
}
