//! Settings that change how a sidecar sends or what it takes, and ports that go past it: nothing is claimed of them.
#![allow(missing_docs, clippy::unwrap_used)]

use assert_cmd::Command;

const STRICT: &str = "---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules: [{from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]}]
";
const ORDERS: &str = "metadata: {labels: {app: orders}}";
const ROOT: &str = "    rootNamespace: istio-system\n";

/// One state: the mesh with more objects and with texts put in the place of others.
fn state(more: &str, replaced: &[(&str, &str)]) -> Vec<String> {
    let mesh = std::fs::read_to_string("tests/fixtures/traps/mesh.yaml").unwrap();
    let mut files: Vec<String> = castoff::demo::FILES[..2]
        .iter()
        .map(|(_, text)| (*text).to_owned())
        .collect();
    files.extend([mesh, format!("{STRICT}{more}")]);
    for (old, new) in replaced {
        assert!(files.iter().any(|text| text.contains(old)), "{old}");
        for text in &mut files {
            *text = text.replace(old, new);
        }
    }
    files
}

fn verified(before: &[String], after: &[String]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, files) in [("before", before), ("after", after)] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        for (index, text) in files.iter().enumerate() {
            let file = folder.path().join(name).join(format!("{index}.yaml"));
            std::fs::write(file, text).unwrap();
        }
    }
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["verify", "before", "after", "--ascii"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// Undecided because of `reason` when it comes; the same where it stays as it is.
fn is_undecided(reason: &str, more: &str, replaced: &[(&str, &str)]) {
    let (plain, changed) = (state("", &[]), state(more, replaced));
    let (code, text) = verified(&plain, &changed);
    assert_ne!(code, Some(0), "{reason}: {text}");
    assert!(text.contains(reason), "{reason}: {text}");
    let (code, text) = verified(&changed, &changed);
    assert_eq!(code, Some(0), "{reason}: {text}");
}

fn destination_rule(name: &str, host: &str, mode: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}, namespace: istio-system}}
spec: {{host: '{host}', trafficPolicy: {{tls: {{mode: {mode}}}}}}}
"
    )
}

#[test]
fn a_destination_rule_for_a_wildcard_turns_mutual_tls_off() {
    for host in ["*.shop.svc.cluster.local", "*.local", "*"] {
        let rule = destination_rule("wide", host, "DISABLE");
        is_undecided("DestinationRule istio-system/wide", &rule, &[]);
    }
    let (plain, mutual) = (
        state("", &[]),
        state(&destination_rule("wide", "*.local", "ISTIO_MUTUAL"), &[]),
    );
    let (code, text) = verified(&plain, &mutual);
    assert_eq!(code, Some(0), "{text}");
    let wide = destination_rule("wide", "*.local", "DISABLE");
    let exact = destination_rule("exact", "orders.shop.svc.cluster.local", "ISTIO_MUTUAL");
    let (code, text) = verified(&state(&format!("{wide}{exact}"), &[]), &state(&wide, &[]));
    assert_ne!(
        code,
        Some(0),
        "the exact host shadowed the wildcard: {text}"
    );
}

#[test]
fn without_automatic_mutual_tls_sidecars_send_plaintext() {
    let off = format!("{ROOT}    enableAutoMtls: false\n");
    is_undecided("enableAutoMtls", "", &[(ROOT, &off)]);
}

#[test]
fn ports_that_annotations_take_past_the_sidecar_are_asked_for() {
    for (annotation, reason) in [
        ("excludeInboundPorts: '9090'", "takes port 9090 past"),
        ("includeInboundPorts: '8080'", "takes any other port past"),
    ] {
        let annotated = format!(
            "metadata: {{labels: {{app: orders}}, annotations: {{traffic.sidecar.istio.io/{annotation}}}}}"
        );
        is_undecided(reason, "", &[(ORDERS, &annotated)]);
    }
}

#[test]
fn a_proxy_or_label_of_its_own_is_undecided() {
    is_undecided(
        "proxy.istio.io/config",
        "",
        &[(
            ORDERS,
            r#"metadata: {labels: {app: orders}, annotations: {proxy.istio.io/config: '{"proxyMetadata":{"ISTIO_META_ENABLE_HBONE":"false"}}'}}"#,
        )],
    );
    is_undecided(
        "tlsMode disabled",
        "",
        &[(
            ORDERS,
            "metadata: {labels: {app: orders, security.istio.io/tlsMode: disabled}}",
        )],
    );
}

#[test]
fn a_service_entry_outside_the_mesh_that_selects_pods_is_undecided() {
    let entry = |location: &str| {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: se, namespace: shop}}
spec:
  hosts: [orders.example]
  addresses: [10.97.0.9]
  location: {location}
  resolution: STATIC
  workloadSelector: {{labels: {{app: orders}}}}
  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: 8080}}]
"
        )
    };
    let (inside, outside) = (entry("MESH_INTERNAL"), entry("MESH_EXTERNAL"));
    let (code, text) = verified(&state(&inside, &[]), &state(&outside, &[]));
    assert_ne!(code, Some(0), "{text}");
    assert!(text.contains("MESH_EXTERNAL"), "{text}");
}
