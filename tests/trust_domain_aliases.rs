//! Certificates of an alias of the trust domain: sidecars take them, ztunnel does not.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/small_mesh.rs"]
#[allow(dead_code, reason = "each user takes what it needs")]
mod small_mesh;

use std::path::Path;

use serde_json::Value;

const STRICT: &str = "---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";

const READERS: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules: [{from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]}]
";

fn config(aliases: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: |
    rootNamespace: istio-system
    trustDomain: cluster.local
    trustDomainAliases: [{aliases}]
"
    )
}

/// What is said of shop/orders.
fn orders(folder: &Path) -> Value {
    let report = small_mesh::json(folder, &["verify", "before", "after", "-o", "json"]);
    small_mesh::server(&report, "shop/orders").clone()
}

fn compared(before: &[&str], after: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    small_mesh::write(folder.path(), "before", before);
    small_mesh::write(folder.path(), "after", after);
    orders(folder.path())
}

/// istio pilot/pkg/networking/plugin/authn/util.go `TrustDomainsForValidation`.
#[test]
fn an_alias_that_is_new_lets_callers_of_it_in() {
    let (none, old) = (config(""), config("old.example"));
    for policies in [STRICT, READERS] {
        let row = compared(&[&none, policies], &[&old, policies]);
        assert_eq!(row["verdict"], "opens", "{row}");
        let said = row["differences"][0]["lines"][0].as_str().unwrap();
        assert!(said.contains("from old.example/ns/"), "{said}");
        let row = compared(&[&old, policies], &[&none, policies]);
        assert_eq!(row["verdict"], "breaks", "{row}");
        let row = compared(&[&old, policies], &[&old, policies]);
        assert_eq!(row["verdict"], "same", "{row}");
    }
    // Plaintext gets in anyway.
    let row = compared(&[&none], &[&old]);
    assert_eq!(row["verdict"], "same", "{row}");
}

/// The trust domain itself becomes an alias when it is renamed.
#[test]
fn the_older_name_of_a_trust_domain_is_no_new_alias() {
    let renamed =
        config("cluster.local").replace("trustDomain: cluster.local", "trustDomain: new.example");
    let row = compared(&[&config(""), STRICT], &[&renamed, STRICT]);
    let callers: Vec<&Value> = row["differences"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["callers"])
        .collect();
    assert!(
        !callers
            .iter()
            .any(|one| one.as_str().unwrap().contains("alias")),
        "{row}"
    );
}

/// ztunnel src/tls/workload.rs `TrustDomainVerifier`.
#[test]
fn a_server_that_leaves_its_sidecar_is_told_of_the_aliases() {
    let folder = tempfile::tempdir().unwrap();
    for state in ["before", "after"] {
        small_mesh::write(folder.path(), state, &[&config("old.example"), READERS]);
    }
    let file = folder.path().join("after/mesh.yaml");
    let mesh = std::fs::read_to_string(&file).unwrap();
    let injected = "labels: {istio-injection: enabled}";
    let ambient = "labels: {istio.io/dataplane-mode: ambient}";
    std::fs::write(file, mesh.replace(injected, ambient)).unwrap();
    let row = orders(folder.path());
    assert_eq!(row["verdict"], "same", "{row}");
    let note = "ztunnel refuses certificates of old.example (meshConfig.trustDomainAliases)";
    assert!(row["notes"].to_string().contains(note), "{row}");
}
