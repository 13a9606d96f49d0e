//! What could not be read, was given twice or was not given: named by `plan`, `verify` and `who-can`,
//! and never a success.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

use assert_cmd::Command;

const MESH: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: \"trustDomain: cluster.local\"}
---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {clusterIP: 10.0.0.1, selector: {app: orders}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: orders-1, namespace: shop, labels: {app: orders, security.istio.io/tlsMode: istio}, annotations: {sidecar.istio.io/status: '{}'}}
spec:
  serviceAccountName: orders
  containers:
  - {name: orders, image: orders, ports: [{containerPort: 8080}]}
  - {name: istio-proxy, image: docker.io/istio/proxyv2:1.28.0, args: [proxy, sidecar]}
status: {phase: Running, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}]}
";

/// Lets `orders` in for these methods.
fn policy(methods: &str) -> String {
    format!(
        "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: orders, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: orders}}}}
  rules: [{{to: [{{operation: {{methods: [{methods}]}}}}]}}]
"
    )
}

fn folder(files: &[(&str, String)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

/// Exit code, and everything that was said.
fn castoff(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

/// `who-can` and `verify` on a folder in which nothing is amiss end with 0.
const COMMANDS: [&[&str]; 2] = [
    &["who-can", "GET /", "shop/orders", "--from-files", "."],
    &["verify", ".", "."],
];

#[test]
fn an_object_with_two_texts_is_named_with_both_places() {
    let files = |second: &str| {
        folder(&[
            ("mesh.yaml", MESH.to_owned()),
            ("policy.yaml", policy("GET")),
            ("zz.yaml", policy(second)),
        ])
    };
    for arguments in COMMANDS {
        let (exit, said) = castoff(files("GET").path(), arguments);
        assert_eq!(exit, Some(0), "{arguments:?}: {said}");
        assert!(!said.contains("different texts"), "{arguments:?}: {said}");
        let (exit, said) = castoff(files("GET, POST").path(), arguments);
        assert_eq!(exit, Some(4), "{arguments:?}: {said}");
        let line = said.lines().find(|line| line.contains("different texts"));
        let line = line.unwrap_or_else(|| panic!("{arguments:?}: {said}"));
        assert!(line.contains("AuthorizationPolicy `shop/orders`"), "{line}");
        assert!(line.contains("zz.yaml:2"), "{line}");
        assert!(line.contains("policy.yaml:2: this one"), "{line}");
    }
}

#[test]
fn a_plan_over_two_texts_is_incomplete() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/page");
    let read = |name: &str| std::fs::read_to_string(fixtures.join(name)).unwrap();
    let again = "apiVersion: v1\nkind: Namespace\nmetadata: {name: app1, labels: {other: text}}\n";
    let folder = folder(&[
        ("app1.yaml", read("app1.yaml")),
        ("hello-world.yaml", read("hello-world.yaml")),
        ("ready.yaml", read("ready.yaml")),
        ("zz.yaml", again.to_owned()),
    ]);
    let (exit, said) = castoff(folder.path(), &["plan", "--from-files", "."]);
    assert_eq!(exit, Some(4), "{said}");
    assert!(said.contains("given twice with different texts"), "{said}");
    let page = std::fs::read_to_string(folder.path().join("castoff-plan/plan.md")).unwrap();
    assert!(page.contains("given twice with different texts"), "{page}");
}

#[test]
fn who_can_names_what_it_could_not_read() {
    let folder = folder(&[
        ("mesh.yaml", MESH.to_owned()),
        ("policy.yaml", format!("{}  broken: [\n", policy("GET"))),
    ]);
    let (exit, said) = castoff(folder.path(), COMMANDS[0]);
    assert_eq!(exit, Some(4), "{said}");
    assert!(
        said.contains("[?] not read: ./policy.yaml") || said.contains("❔ not read: ./policy.yaml"),
        "{said}"
    );
}

#[test]
fn a_mesh_without_any_policy_says_that_it_takes_it_for_one() {
    let folder = folder(&[("mesh.yaml", MESH.to_owned())]);
    let none = "no AuthorizationPolicy, PeerAuthentication, RequestAuthentication or NetworkPolicy is among the input";
    for arguments in COMMANDS {
        let (exit, said) = castoff(folder.path(), arguments);
        assert_eq!(exit, Some(0), "{said}");
        assert_eq!(said.matches(none).count(), 1, "{said}");
    }
    let lists = "apiVersion: v1\nkind: List\nitems: []\n";
    for kind in ["authorizationpolicies", "peerauthentications"] {
        let name = format!("{kind}.security.istio.io.yaml");
        std::fs::write(folder.path().join(name), lists).unwrap();
    }
    let (_, said) = castoff(folder.path(), COMMANDS[1]);
    let rest = "no RequestAuthentication or NetworkPolicy is among the input";
    assert!(said.contains(rest), "{said}");
}

#[test]
fn services_and_namespaces_are_not_taken_for_absent() {
    let workloads = MESH.replace("kind: Service\n", "kind: Ignored\n");
    let folder = folder(&[("mesh.yaml", workloads)]);
    let (exit, said) = castoff(folder.path(), COMMANDS[1]);
    assert_eq!(exit, Some(4), "{said}");
    assert!(said.contains("services: not among the input"), "{said}");
}

#[test]
fn policies_without_workloads_cannot_be_compared() {
    let before = folder(&[("policy.yaml", policy("GET"))]);
    let after = folder(&[("policy.yaml", policy("GET, POST"))]);
    let paths = [before.path(), after.path()].map(|path| path.to_str().unwrap().to_owned());
    let (exit, said) = castoff(before.path(), &["verify", &paths[0], &paths[1]]);
    assert_eq!(exit, Some(65), "{said}");
    assert!(said.contains("neither input holds a workload"), "{said}");
}

#[test]
fn a_policy_that_differs_and_selects_nothing_is_named() {
    let other = |methods: &str| policy(methods).replace("app: orders", "app: stock");
    let side = |methods: &str| {
        folder(&[
            ("mesh.yaml", MESH.to_owned()),
            ("policy.yaml", other(methods)),
        ])
    };
    let (before, after) = (side("GET"), side("GET, POST"));
    let path = |folder: &tempfile::TempDir| folder.path().to_str().unwrap().to_owned();
    let arguments = ["verify", &path(&before), &path(&after)];
    let (exit, said) = castoff(before.path(), &arguments);
    assert_eq!(exit, Some(4), "{said}");
    assert!(
        said.contains(
            "select no workload of the mesh among the input: AuthorizationPolicy shop/orders"
        ),
        "{said}"
    );
    let arguments = ["verify", &path(&before), &path(&before)];
    let (exit, said) = castoff(before.path(), &arguments);
    assert_eq!(exit, Some(0), "{said}");
}

#[test]
fn an_authorizer_is_not_taken_for_absent_where_the_mesh_configuration_was_not_read() {
    let without = MESH.replace("kind: ConfigMap", "kind: Ignored");
    let custom = |provider: &str| {
        policy("GET").replace(
            "spec:",
            &format!("spec:\n  action: CUSTOM\n  provider: {{name: {provider}}}"),
        )
    };
    for (mesh, exit) in [(MESH, 0), (without.as_str(), 4)] {
        let side = |provider: &str| {
            folder(&[("mesh.yaml", mesh.to_owned()), ("p.yaml", custom(provider))])
        };
        let (before, after) = (side("one"), side("two"));
        let path = |folder: &tempfile::TempDir| folder.path().to_str().unwrap().to_owned();
        let (ends, said) = castoff(before.path(), &["verify", &path(&before), &path(&after)]);
        assert_eq!(ends, Some(exit), "{said}");
        assert_eq!(
            said.contains("external authorizer `two`"),
            exit == 4,
            "{said}"
        );
        let (ends, said) = castoff(before.path(), COMMANDS[0]);
        assert_eq!(ends, Some(exit), "{said}");
    }
}

#[test]
fn an_object_of_a_version_that_nobody_knows_is_named_and_not_taken_for_one_of_today() {
    let of_tomorrow = policy("GET").replace("security.istio.io/v1", "security.istio.io/v2");
    let folder = folder(&[("mesh.yaml", MESH.to_owned()), ("policy.yaml", of_tomorrow)]);
    for arguments in [
        &["plan", "--from-files", "."][..],
        &["verify", ".", "."],
        &["who-can", "GET /", "shop/orders", "--from-files", "."],
    ] {
        let (exit, said) = castoff(folder.path(), arguments);
        assert_ne!(exit, Some(0), "{said}");
        assert!(
            said.contains(
                "this AuthorizationPolicy is left out: castoff does not know `security.istio.io/v2`"
            ),
            "{said}"
        );
    }
    let (exit, said) = castoff(folder.path(), &["verify", ".", "."]);
    assert_eq!(exit, Some(4), "{said}");
}

#[test]
fn a_plan_without_sidecars_says_nothing_to_do_only_where_everything_was_read() {
    let plain = "
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  template: {metadata: {labels: {app: orders}}, spec: {containers: [{name: app, image: app}]}}
";
    let state = tempfile::tempdir().unwrap();
    for (name, text) in &castoff::demo::FILES[..2] {
        std::fs::write(state.path().join(name.replace('/', "-")), text).unwrap();
    }
    std::fs::write(state.path().join("plain.yaml"), plain).unwrap();
    let (exit, said) = castoff(state.path(), &["plan", "--from-files", "."]);
    let all_read = (
        exit,
        said.contains("Nothing to do: no workload has a sidecar; 1 workload stays outside the mesh: shop/orders."),
    );
    assert_eq!(all_read, (Some(0), true), "{said}");
    std::fs::write(state.path().join("rest.yaml"), "kind: [Deployment\n").unwrap();
    let (exit, said) = castoff(state.path(), &["plan", "--from-files", "."]);
    assert_eq!(exit, Some(4), "{said}");
    assert!(!said.contains("Nothing to do"), "{said}");
    let page = std::fs::read_to_string(state.path().join("castoff-plan/plan.md")).unwrap();
    assert!(
        page.contains("Nothing was planned, and not everything was read"),
        "{page}"
    );
    assert!(said.contains("Nothing was planned: no workload that was read has a sidecar, but not everything was read"), "{said}");
}
