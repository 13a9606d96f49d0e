//! A plan keeps the state before the migration and compares later runs with it.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::path::Path;
use std::process::{Command, Output};

const MESH: &str = include_str!("fixtures/plan/three-namespaces.yaml");

fn plan(folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["plan", "--from-files", "mesh", "--output-dir", "out"])
        .current_dir(folder)
        .output()
        .unwrap()
}

#[test]
fn a_later_plan_is_compared_with_the_state_that_the_first_one_saved() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = folder.path().join("mesh");
    std::fs::create_dir(&mesh).unwrap();
    for (name, text) in &castoff::demo::FILES[..2] {
        std::fs::write(mesh.join(Path::new(name).file_name().unwrap()), text).unwrap();
    }
    let file = mesh.join("mesh.yaml");
    std::fs::write(&file, MESH).unwrap();
    let first = plan(folder.path());
    let text = String::from_utf8(first.stdout).unwrap();
    assert_eq!(first.status.code(), Some(2), "{text}");
    assert!(
        text.contains("compared with the baseline out/baseline.json.gz"),
        "{text}"
    );
    let saved = std::fs::read(folder.path().join("out/baseline.json.gz")).unwrap();

    let again = plan(folder.path());
    assert_eq!(
        String::from_utf8(again.stdout).unwrap(),
        text,
        "equal input, equal output"
    );

    // A policy is gone half way through.
    let parts: Vec<&str> = MESH.split("\n---\n").collect();
    let fewer: Vec<&str> = (parts.iter())
        .filter(|part| !part.contains("kind: AuthorizationPolicy"))
        .copied()
        .collect();
    assert!(fewer.len() < parts.len());
    std::fs::write(&file, fewer.join("\n---\n")).unwrap();
    let later = plan(folder.path());
    let text = String::from_utf8(later.stdout).unwrap();
    assert!(text.contains("opens"), "{text}");
    assert_eq!(later.status.code(), Some(3), "{text}");
    let kept = std::fs::read(folder.path().join("out/baseline.json.gz")).unwrap();
    assert_eq!(kept, saved, "a saved state is never overwritten");
}
