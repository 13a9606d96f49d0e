//! What castoff wrote below a folder that it reads: passed over, said once, read when it is named.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;

/// A repository of manifests, as somebody keeps it in Git.
fn repository() -> tempfile::TempDir {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/page");
    let folder = tempfile::tempdir().unwrap();
    let app = folder.path().join("app");
    std::fs::create_dir(&app).unwrap();
    for file in ["ready.yaml", "hello-world.yaml", "app1.yaml"] {
        std::fs::copy(fixtures.join(file), app.join(file)).unwrap();
    }
    folder
}

fn castoff(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_owned()).unwrap()
}

#[test]
fn a_second_and_a_third_plan_are_the_first_plan() {
    let folder = repository();
    let plan = ["plan", "--from-files", "."];
    let first = castoff(folder.path(), &plan);
    assert!(text(&first.stdout).contains("wave"), "{first:?}");
    assert_ne!(first.status.code(), Some(0));
    assert_eq!(text(&first.stderr), "");
    for _ in 0..2 {
        let next = castoff(folder.path(), &plan);
        assert_eq!(text(&next.stdout), text(&first.stdout));
        assert_eq!(next.status.code(), first.status.code());
        let said = text(&next.stderr);
        // One that says the same is not kept beside it.
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(
            said.contains("./castoff-plan: castoff wrote this folder: passed over"),
            "{said}"
        );
    }
}

#[test]
fn a_second_migrate_reads_neither_its_files_nor_its_baseline() {
    let folder = repository();
    let migrate = ["migrate", "--from-files", ".", "--ignore-failures"];
    let first = castoff(folder.path(), &migrate);
    let output = folder.path().join("castoff-out");
    assert!(output.join("baseline.json.gz").is_file());
    assert!(output.join("recommended-waypoints.yaml").is_file());
    let second = castoff(folder.path(), &migrate);
    assert_eq!(second.status.code(), first.status.code());
    let said = text(&second.stdout);
    assert!(!said.contains("given twice"), "{said}");
    assert_eq!(said.matches("passed over").count(), 1, "{said}");
    let plan = castoff(folder.path(), &["plan", "--from-files", "."]);
    assert_eq!(text(&plan.stderr).matches("passed over").count(), 1);
}

#[test]
fn what_others_put_into_the_output_folder_is_read() {
    let folder = repository();
    let arguments = ["migrate", "--from-files", ".", "--output-dir", "app"];
    castoff(folder.path(), &arguments);
    let again = castoff(folder.path(), &arguments);
    assert!(text(&again.stdout).contains("passed over"), "{again:?}");
    let plan = castoff(folder.path(), &["plan", "--from-files", "."]);
    assert!(text(&plan.stdout).contains("01-"), "{plan:?}");
}

#[test]
fn a_folder_that_is_named_is_read_although_castoff_wrote_it() {
    let folder = repository();
    castoff(folder.path(), &["plan", "--from-files", "."]);
    let arguments = ["plan", "--from-files", "castoff-plan", "--output-dir", "x"];
    let named = castoff(folder.path(), &arguments);
    assert!(!text(&named.stderr).contains("passed over"), "{named:?}");
    assert_ne!(named.status.code(), Some(65), "{named:?}");
}

#[test]
fn a_plan_json_of_somebody_else_is_no_mark() {
    let folder = repository();
    let other = r#"{"kind": "Plan", "apiVersion": "tuppr.home-operations.com/v1"}"#;
    std::fs::write(folder.path().join("app/plan.json"), other).unwrap();
    let plan = castoff(folder.path(), &["plan", "--from-files", "."]);
    assert!(text(&plan.stdout).contains("01-"), "{plan:?}");
    assert!(!text(&plan.stderr).contains("passed over"), "{plan:?}");
}

#[test]
fn patches_and_kustomizations_are_no_objects() {
    let folder = repository();
    let first = castoff(folder.path(), &["plan", "--from-files", "."]);
    let delete = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: echo, namespace: app1}\n$patch: delete\n";
    let json = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "app1"}, "$patch": "delete"}"#;
    std::fs::write(folder.path().join("app/zz-patch.yaml"), delete).unwrap();
    std::fs::write(folder.path().join("app/zz-patch.json"), json).unwrap();
    for (file, kind) in [
        ("kustomization.yaml", "Kustomization"),
        ("c.yaml", "Component"),
    ] {
        let content = format!(
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: {kind}\npatches: [{{path: zz-patch.yaml}}]\n"
        );
        std::fs::write(folder.path().join("app").join(file), content).unwrap();
    }
    let without_kind = "patches: [{path: zz-patch.yaml}]\n";
    std::fs::write(folder.path().join("kustomization.yml"), without_kind).unwrap();
    let second = castoff(folder.path(), &["plan", "--from-files", "."]);
    assert_eq!(text(&second.stdout), text(&first.stdout));
    assert_eq!(second.status.code(), first.status.code());
    assert!(
        !text(&second.stderr).contains("no Kubernetes object"),
        "{second:?}"
    );
}
