//! `containerPort` is information only: a port that no container declares and no Service leads to may be
//! listened at all the same. What a move would open there is closed by a policy.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

use assert_cmd::Command;

/// `orders` with sidecars and ambient, with what is said of it.
fn verified(more: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mesh = std::fs::read_to_string("tests/fixtures/traps/mesh.yaml").unwrap();
    let moved = mesh.replace(
        "istio-injection: enabled",
        "istio.io/dataplane-mode: ambient",
    );
    assert_ne!(mesh, moved);
    write(folder.path(), "before", &mesh, more);
    write(folder.path(), "after", &moved, more);
    run(folder.path(), &["verify", "before", "after", "--ascii"])
}

fn planned(mesh: &str, more: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "before", mesh, more);
    run(
        folder.path(),
        &["plan", "--from-files", "before", "--ascii"],
    )
}

fn write(folder: &Path, state: &str, mesh: &str, more: &str) {
    let state = folder.join(state);
    std::fs::create_dir_all(&state).unwrap();
    for (name, text) in &castoff::demo::FILES[..2] {
        std::fs::write(state.join(name.replace('/', "-")), text).unwrap();
    }
    std::fs::write(state.join("mesh.yaml"), mesh).unwrap();
    std::fs::write(state.join("more.yaml"), more).unwrap();
}

fn run(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn policy(spec: &str) -> String {
    format!(
        "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: orders, namespace: shop}}
spec: {spec}
"
    )
}

const STRICT: &str = "---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";

/// ztunnel keeps the port and drops the path, so that nobody gets to `/metrics` any more.
#[test]
fn a_port_that_a_policy_on_these_pods_names_is_one_of_theirs() {
    let (code, text) = verified(&policy(
        "{selector: {matchLabels: {app: orders}}, action: DENY, rules: [{to: [{operation: \
         {ports: ['9090'], notPaths: [/metrics]}}]}]}",
    ));
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("to pod shop/orders:9090"), "{text}");
}

/// Prometheus is cut off where what lets it in speaks of paths.
#[test]
fn a_port_that_is_scraped_need_not_be_declared() {
    let mesh = std::fs::read_to_string("tests/fixtures/traps/mesh.yaml").unwrap();
    let scraped = mesh.replace(
        "metadata: {labels: {app: orders}}",
        "metadata: {labels: {app: orders}, annotations: {prometheus.io/scrape: 'true', prometheus.io/port: '9090'}}",
    );
    assert_ne!(mesh, scraped);
    let rules = "{selector: {matchLabels: {app: orders}}, rules: [{from: [{source: {principals: \
                 [cluster.local/ns/desk/sa/web]}}], to: [{operation: {ports: ['8080'], methods: [GET]}}]}, \
                 {to: [{operation: {ports: ['9090'], paths: [/metrics]}}]}]}";
    let (code, text) = planned(&scraped, &policy(rules));
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("to pod shop/orders:9090"), "{text}");
}

/// A NetworkPolicy that lets in 8080 lets in 15008 afterwards, and with it every port of the pods.
#[test]
fn what_a_network_policy_kept_closed_is_opened_by_letting_hbone_in() {
    let network_policy = |port: u16| {
        format!(
            "---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: orders, namespace: shop}}
spec: {{podSelector: {{matchLabels: {{app: orders}}}}, policyTypes: [Ingress], ingress: [{{ports: [{{port: 8080}}, \
             {{port: {port}}}]}}]}}
"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let mesh = std::fs::read_to_string("tests/fixtures/traps/mesh.yaml").unwrap();
    let moved = mesh.replace(
        "istio-injection: enabled",
        "istio.io/dataplane-mode: ambient",
    );
    write(folder.path(), "before", &mesh, &network_policy(8080));
    write(folder.path(), "after", &moved, &network_policy(15008));
    let (code, text) = run(folder.path(), &["verify", "before", "after", "--ascii"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("to any other port of pod shop/orders"),
        "{text}"
    );
    assert!(text.contains("to any other port (ambient pods"), "{text}");
}

/// That sidecars send to bare pod addresses in plaintext was nobody's rule: where nothing is known to
/// listen, an identity that STRICT lets in everywhere else gains nothing by being seen there.
#[test]
fn an_identity_that_is_seen_where_nothing_listens_gains_only_what_policies_kept_from_it() {
    let ports = |principal: &str| {
        policy(&format!(
            "{{selector: {{matchLabels: {{app: orders}}}}, rules: [{{from: [{{source: {{principals: \
             [{principal}]}}}}]}}, {{to: [{{operation: {{ports: ['8080']}}}}]}}]}}"
        ))
    };
    let (_, text) = verified(&format!(
        "{STRICT}{}",
        ports("cluster.local/ns/desk/sa/web")
    ));
    assert!(text.contains("[ok] shop/orders same"), "{text}");
}

/// `desk/web` and `desk/batch` have no Service and declare a port: in a STRICT mesh nobody got there.
#[test]
fn pods_without_a_service_are_closed_by_a_policy_where_strict_closed_them() {
    let mesh = std::fs::read_to_string("tests/fixtures/traps/mesh.yaml").unwrap();
    for on_gap in ["stop", "deny"] {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "before", &mesh, STRICT);
        let arguments = [
            "plan",
            "--from-files",
            "before",
            "--ascii",
            "--on-gap",
            on_gap,
        ];
        let (code, text) = run(folder.path(), &arguments);
        assert_eq!(code, Some(2), "{text}");
        let plan = std::fs::read_to_string(folder.path().join("castoff-plan/plan.md")).unwrap();
        let reason = "Policies keep closed what nobody could reach before";
        assert!(plan.contains(reason), "{plan}");
        for name in ["batch", "web"] {
            let remove = format!(
                "kubectl delete authorizationpolicies.security.istio.io -n desk {name}-closed-ports"
            );
            assert!(plan.contains(&remove), "{plan}");
        }
        let locks = locks(folder.path());
        assert!(locks.contains("ports:\n        - \"8080\""), "{locks}");
    }
}

/// A NetworkPolicy that lets in 8080 must let in 15008, and with it every port: what it kept closed is closed
/// by a policy instead.
#[test]
fn what_a_network_policy_kept_closed_a_policy_keeps_closed_at_ambient_pods() {
    let mesh = std::fs::read_to_string("tests/fixtures/traps/mesh.yaml").unwrap();
    let network_policy = "---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: orders, namespace: shop}
spec: {podSelector: {matchLabels: {app: orders}}, policyTypes: [Ingress], ingress: [{ports: [{port: 8080}]}]}
";
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "before", &mesh, network_policy);
    let (code, text) = run(
        folder.path(),
        &["plan", "--from-files", "before", "--ascii"],
    );
    assert_eq!(code, Some(2), "{text}");
    let locks = locks(folder.path());
    assert!(locks.contains("name: orders-closed-ports"), "{locks}");
    assert!(locks.contains("notPorts:\n        - \"8080\""), "{locks}");
}

/// The only file with locks of a plan.
fn locks(folder: &Path) -> String {
    let folders = std::fs::read_dir(folder.join("castoff-plan")).unwrap();
    let files = folders.map(|entry| entry.unwrap().path().join("locks.yaml"));
    let mut texts = files.filter_map(|file| std::fs::read_to_string(file).ok());
    let first = texts.next().expect("a file with locks");
    assert_eq!(texts.next(), None);
    first
}

/// The same by what a caller's own pods may send: 8080 before, and a tunnel with every port in it afterwards.
#[test]
fn what_a_callers_network_policy_kept_closed_is_opened_by_letting_hbone_out() {
    let network_policy = |port: u16| {
        format!(
            "---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: web, namespace: desk}}
spec: {{podSelector: {{matchLabels: {{app: web}}}}, policyTypes: [Egress], egress: [{{to: [{{namespaceSelector: {{}}, \
             podSelector: {{matchLabels: {{app: orders}}}}}}], ports: [{{port: 8080}}, {{port: {port}}}]}}]}}
"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let mesh = std::fs::read_to_string("tests/fixtures/traps/mesh.yaml").unwrap();
    let moved = mesh.replace(
        "istio-injection: enabled",
        "istio.io/dataplane-mode: ambient",
    );
    write(folder.path(), "before", &mesh, &network_policy(8080));
    write(folder.path(), "after", &moved, &network_policy(15008));
    let (code, text) = run(folder.path(), &["verify", "before", "after", "--ascii"]);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("shop/orders opens"), "{text}");
    assert!(
        text.contains("to any other port of pod shop/orders"),
        "{text}"
    );
    assert!(!text.contains("shop/stock opens"), "{text}");
}
