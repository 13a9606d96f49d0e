//! Who gains or loses access, in the formats of `migrate` that others read: Markdown, SARIF, JUnit.
#![allow(missing_docs, clippy::unwrap_used)]

use assert_cmd::Command;
use serde_json::Value;

fn mesh(mode: &str, servers: &[&str]) -> String {
    let mut text = format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: shop, labels: {{istio-injection: enabled}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data: {{mesh: \"trustDomain: cluster.local\"}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: default, namespace: shop}}
spec: {{mtls: {{mode: {mode}}}}}
"
    );
    for name in servers {
        text.push_str(&format!(
            "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec: {{type: NodePort, clusterIP: 10.0.0.1, selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: shop, labels: {{app: {name}, security.istio.io/tlsMode: istio}}, annotations: {{sidecar.istio.io/status: '{{}}'}}}}
spec:
  serviceAccountName: {name}
  containers:
  - {{name: {name}, image: {name}, ports: [{{containerPort: 8080}}]}}
  - {{name: istio-proxy, image: docker.io/istio/proxyv2:1.28.0, args: [proxy, sidecar]}}
status: {{phase: Running, podIP: 10.1.0.1, podIPs: [{{ip: 10.1.0.1}}]}}
"
        ));
    }
    text
}

/// What a run prints where `orders` opened, and the baseline has no `stock`.
fn printed(format: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let [before, now] = ["before.yaml", "now.yaml"].map(|name| folder.path().join(name));
    std::fs::write(&before, mesh("STRICT", &["orders"])).unwrap();
    std::fs::write(&now, mesh("PERMISSIVE", &["orders", "stock"])).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args([
            "migrate",
            "--from-files",
            "now.yaml",
            "--baseline",
            "before.yaml",
            "-o",
            format,
        ])
        .current_dir(folder.path())
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

const UNDECIDED: &str = "undecided, not in the baseline, so that nothing is compared";

#[test]
fn markdown_has_a_section_with_the_witness() {
    let (exit, page) = printed("markdown");
    assert_eq!(exit, Some(3), "{page}");
    let section = page.split("## Access").nth(1).unwrap();
    assert!(section.contains("- ⛔ now: opens"), "{page}");
    assert!(section.contains("  - ⛔ shop/orders opens"), "{page}");
    assert!(section.contains("a caller without identity"), "{page}");
    assert!(
        section.contains(&format!("  - ❔ shop/stock {UNDECIDED}")),
        "{page}"
    );
}

#[test]
fn junit_has_a_case_that_fails_and_one_that_is_an_error() {
    let (_, page) = printed("junit");
    let document = roxmltree::Document::parse(&page).unwrap();
    let suite = document
        .descendants()
        .find(|node| node.attribute("name") == Some("access"))
        .unwrap();
    let count = |name: &str| suite.attribute(name).unwrap().to_owned();
    assert_ne!(count("failures"), "0", "{page}");
    assert_ne!(count("errors"), "0", "{page}");
    let said = |name: &str, wanted: &str| {
        let mut told = suite.descendants().filter(|node| node.has_tag_name(name));
        told.any(|node| node.attribute("message").unwrap() == wanted)
    };
    assert!(said("failure", "shop/orders opens"), "{page}");
    assert!(said("error", &format!("shop/stock {UNDECIDED}")), "{page}");
}

#[test]
fn sarif_has_a_result_for_each_server_that_is_not_the_same() {
    let (_, page) = printed("sarif");
    let log: Value = serde_json::from_str(&page).unwrap();
    let results = log["runs"][0]["results"].as_array().unwrap();
    let level = |start: &str| {
        let found = results.iter().find(|result| {
            result["ruleId"] == "access"
                && result["message"]["text"]
                    .as_str()
                    .unwrap()
                    .starts_with(start)
        });
        found.unwrap_or_else(|| panic!("{start}: {page}"))["level"].clone()
    };
    assert_eq!(level("shop/orders opens: now"), "error");
    assert_eq!(level(&format!("shop/stock {UNDECIDED}: now")), "warning");
    let rules = log["runs"][0]["tool"]["driver"]["rules"]
        .as_array()
        .unwrap();
    assert!(rules.iter().any(|rule| rule["id"] == "access"), "{page}");
}
