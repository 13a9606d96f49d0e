//! Two DENYs of one server that say the same: each may go as long as the other stays.
//!
//! The server is ambient, without a waypoint: its ztunnel enforces both (istio/ztunnel src/state.rs,
//! `assert_rbac`: any matching DENY refuses).
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use assert_cmd::Command;

/// Writes an input folder with those of the two policies that are named.
fn write(folder: &Path, policies: &[&str]) {
    fs::create_dir(folder).unwrap();
    for (index, (_, text)) in castoff::demo::FILES[..2].iter().enumerate() {
        fs::write(folder.join(format!("0-{index}.yaml")), text).unwrap();
    }
    let mesh = fs::read_to_string("tests/fixtures/traps/mesh.yaml").unwrap();
    let ambient = mesh.replace(
        "istio-injection: enabled",
        "istio.io/dataplane-mode: ambient",
    );
    fs::write(folder.join("1-mesh.yaml"), ambient).unwrap();
    let both = fs::read_to_string("tests/fixtures/identical-denials/policies.yaml").unwrap();
    let kept: Vec<&str> = both
        .split("---\n")
        .filter(|text| {
            policies
                .iter()
                .any(|name| text.contains(&format!("{{name: {name},")))
        })
        .collect();
    assert_eq!(kept.len(), policies.len());
    fs::write(folder.join("2-policies.yaml"), kept.join("---\n")).unwrap();
}

fn castoff(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn either_may_go_but_not_both() {
    let folder = tempfile::tempdir().unwrap();
    for (name, policies) in [
        ("both", &["no-batch", "no-batch-again"][..]),
        ("first", &["no-batch"]),
        ("second", &["no-batch-again"]),
        ("none", &[]),
    ] {
        write(&folder.path().join(name), policies);
    }
    let verify = |before: &str, after: &str| castoff(folder.path(), &["verify", before, after]);
    for (before, after, code) in [
        ("both", "first", 0),
        ("both", "second", 0),
        ("both", "none", 3),
        ("first", "none", 3),
        ("second", "none", 3),
    ] {
        let (ended, said) = verify(before, after);
        assert_eq!(ended, Some(code), "{before} -> {after}: {said}");
        assert_eq!(
            said.contains("⛔ shop/orders opens"),
            code == 3,
            "{before} -> {after}: {said}"
        );
    }
}

/// The younger of the two is offered, never both; and what is offered is played against the baseline.
#[test]
fn policy_simplification_proposes_to_delete_one_of_them() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("both"), &["no-batch", "no-batch-again"]);
    let (_, said) = castoff(folder.path(), &["migrate", "--from-files", "both"]);
    assert!(
        said.contains("Phase policy-simplification has recommendations"),
        "{said}"
    );
    let offered: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("can be deleted"))
        .collect();
    assert_eq!(offered.len(), 1, "{said}");
    assert!(
        offered[0].ends_with(
            "kubectl delete authorizationpolicies.security.istio.io -n shop no-batch-again"
        ),
        "{said}"
    );
    assert!(
        said.contains("after the recommendations of phase policy-simplification"),
        "{said}"
    );
    assert!(!said.contains("⛔"), "{said}");

    write(&folder.path().join("one"), &["no-batch"]);
    let (_, said) = castoff(folder.path(), &["migrate", "--from-files", "one"]);
    assert!(!said.contains("can be deleted"), "{said}");
}

/// The same in a plan: one wave, which deletes one of them.
#[test]
fn a_plan_deletes_one_of_them() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("both"), &["no-batch", "no-batch-again"]);
    let (_, said) = castoff(folder.path(), &["plan", "--from-files", "both"]);
    assert!(
        said.contains(
            "✅ 01-clean-up: Delete what nothing needs (2 states proved, way back proved)"
        ),
        "{said}"
    );
    let script =
        fs::read_to_string(folder.path().join("castoff-plan/01-clean-up/apply.sh")).unwrap();
    let deletions: Vec<&str> = script
        .lines()
        .filter(|line| line.starts_with("kubectl delete "))
        .collect();
    assert_eq!(
        deletions,
        [
            "kubectl delete authorizationpolicies.security.istio.io -n shop no-batch-again --ignore-not-found"
        ]
    );
}
