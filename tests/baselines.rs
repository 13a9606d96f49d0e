//! A baseline that is older than a workload, or of another mesh: nothing counts as the same that was
//! compared with nothing.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

/// `in` holds two applications, `part` lacks one of them, `other` has both under other names.
fn folders() -> tempfile::TempDir {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/page");
    let read = |name: &str| std::fs::read_to_string(fixtures.join(name)).unwrap();
    let [ready, app1, hello] = ["ready.yaml", "app1.yaml", "hello-world.yaml"].map(read);
    let renamed = |text: &str| {
        text.replace("app1", "elsewhere")
            .replace("application", "elsewhere-too")
    };
    let root = tempfile::tempdir().unwrap();
    for (name, files) in [
        ("in", [&ready, &app1, &hello]),
        ("part", [&ready, &app1, &String::new()]),
        ("other", [&ready, &renamed(&app1), &renamed(&hello)]),
    ] {
        let folder = root.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        for (index, content) in files.into_iter().enumerate() {
            std::fs::write(folder.join(format!("{index}.yaml")), content).unwrap();
        }
    }
    root
}

fn castoff(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

const NEW: &str = "undecided, not in the baseline, so that nothing is compared: application/";

#[test]
fn a_plan_leaves_a_server_undecided_that_the_baseline_lacks() {
    let root = folders();
    let arguments = ["plan", "--from-files", "in", "--baseline", "part"];
    let (exit, said) = castoff(root.path(), &arguments);
    assert_eq!(exit, Some(4), "{said}");
    assert_eq!(said.matches(NEW).count(), 1, "{said}");
    let text = std::fs::read_to_string(root.path().join("castoff-plan/plan.json")).unwrap();
    let plan: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(plan["ending"], "undecided", "{said}");
    let waves = plan["waves"].as_array().unwrap();
    assert!(!waves.is_empty());
    for state in waves
        .iter()
        .flat_map(|wave| wave["states"].as_array().unwrap())
    {
        assert_eq!(state["verdict"], "undecided", "{state}");
    }
    let with = castoff(
        root.path(),
        &["plan", "--from-files", "in", "--baseline", "in"],
    );
    assert_eq!(with.0, Some(2), "{}", with.1);
}

#[test]
fn migrate_leaves_it_undecided_too() {
    let root = folders();
    let arguments = ["migrate", "--from-files", "in", "--baseline", "part"];
    let (exit, said) = castoff(root.path(), &arguments);
    assert_eq!(exit, Some(4), "{said}");
    assert_eq!(said.matches(NEW).count(), 1, "{said}");
}

#[test]
fn a_baseline_of_another_mesh_is_refused() {
    let root = folders();
    for command in ["plan", "migrate"] {
        let arguments = [command, "--from-files", "in", "--baseline", "other"];
        let (exit, said) = castoff(root.path(), &arguments);
        assert_eq!(exit, Some(65), "{command}: {said}");
        assert!(said.contains("it is of another mesh"), "{command}: {said}");
    }
}
