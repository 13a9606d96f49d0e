//! An original whose copy is at work, and which still lets somebody in who dials pods: phase
//! `policy-simplification` offers only deletions that leave access as it is.
//!
//! A waypoint's policies do not hold for pod addresses (istio
//! pilot/pkg/networking/core/listener_waypoint.go); the annotation `prometheus.io/scrape` says that the
//! pods are dialled.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use assert_cmd::Command;

const ORIGINAL: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: callers, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules: [{from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]}]
";

/// An ambient mesh whose waypoint has a copy of the original.
fn write(folder: &Path, scraped: bool, originals: &str) {
    fs::create_dir(folder).unwrap();
    for (index, (_, text)) in castoff::demo::FILES[..2].iter().enumerate() {
        fs::write(folder.join(format!("0-{index}.yaml")), text).unwrap();
    }
    let fixture =
        |name: &str| fs::read_to_string(Path::new("tests/fixtures/traps").join(name)).unwrap();
    let mut mesh = fixture("mesh.yaml").replace(
        "istio-injection: enabled",
        "istio.io/dataplane-mode: ambient",
    );
    mesh = mesh.replace(
        "metadata: {name: orders, namespace: shop}\nspec: {clusterIP",
        "metadata: {name: orders, namespace: shop, labels: {istio.io/ingress-use-waypoint: 'true'}}\nspec: {clusterIP",
    );
    if scraped {
        mesh = mesh.replace(
            "metadata: {labels: {app: orders}}",
            "metadata: {labels: {app: orders}, annotations: {prometheus.io/scrape: 'true', prometheus.io/port: '8080'}}",
        );
    }
    fs::write(folder.join("1-mesh.yaml"), mesh).unwrap();
    fs::write(folder.join("2-moved.yaml"), fixture("moved.yaml")).unwrap();
    fs::write(folder.join("3-originals.yaml"), originals).unwrap();
}

fn migrate(folder: &Path, out: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["migrate", "--from-files", "mesh", "--output-dir", out])
        .current_dir(folder)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// What is said once copies and what lets the waypoint in are applied.
fn migrated(folder: &Path, scraped: bool, originals: &str) -> String {
    write(&folder.join("mesh"), scraped, originals);
    migrate(folder, "first");
    fs::copy(
        folder.join("first/recommended-policies.yaml"),
        folder.join("mesh/4-policies.yaml"),
    )
    .unwrap();
    migrate(folder, "second")
}

#[test]
fn an_original_that_lets_in_who_dials_pods_is_not_offered() {
    for scraped in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let said = migrated(folder.path(), scraped, ORIGINAL);
        assert!(!said.contains("breaks"), "{said}");
        assert_eq!(
            said.contains(
                "AuthorizationPolicy shop/callers stays: without it access to shop/orders would differ from the baseline"
            ),
            scraped,
            "{said}"
        );
        assert_eq!(
            said.contains("can be deleted: kubectl delete"),
            !scraped,
            "{said}"
        );
    }
}

#[test]
fn of_two_originals_that_let_in_the_same_one_may_go() {
    let folder = tempfile::tempdir().unwrap();
    let again = ORIGINAL.replace("name: callers", "name: callers-again");
    let said = migrated(folder.path(), true, &format!("{ORIGINAL}---{again}"));
    assert!(!said.contains("breaks"), "{said}");
    let lines = |text: &str| said.lines().filter(|line| line.contains(text)).count();
    assert_eq!(lines("can be deleted: kubectl delete"), 1, "{said}");
    assert_eq!(
        lines("stays: without it access to shop/orders"),
        1,
        "{said}"
    );
}
