//! The real binary: exit codes and streams, the same for every format.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::process::Output;

use assert_cmd::Command;

fn castoff(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(arguments)
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A folder for output that is deleted after the test.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}

#[test]
fn wrong_usage_is_64_with_a_remedy() {
    let table: [(&[&str], &str); 6] = [
        (
            &["migrate", "--demo", "--context", "production"],
            "cannot be used with '--context",
        ),
        (&["migrate", "--no-such-flag"], "--no-such-flag"),
        (&["migrate", "--demo", "--phase", "later"], "use-waypoints"),
        (&["explain", "CAST9999"], "--list"),
        (&["migrate", "--demo", "-n", "nowhere"], "`nowhere`"),
        (
            &["migrate", "--demo", "--waypoint", "shop"],
            "NAMESPACE/SERVICE",
        ),
    ];
    for (arguments, expected) in table {
        let output = castoff(arguments);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        let said = text(&output.stderr);
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn without_files_and_without_a_cluster_it_is_1_with_a_remedy() {
    let folder = Folder::new();
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .arg("migrate")
        .env_clear()
        .env("HOME", folder.path())
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(output.stdout.is_empty());
    for part in ["no cluster to read", "--kubeconfig", "--from-files"] {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn help_and_version_are_0() {
    for arguments in [["--help"], ["--version"], ["man"]] {
        assert_eq!(castoff(&arguments).status.code(), Some(0), "{arguments:?}");
    }
    assert_eq!(castoff(&["completions", "bash"]).status.code(), Some(0));
}

#[test]
fn files_without_anything_usable_are_65() {
    let folder = Folder::new();
    fs::write(folder.0.path().join("a.yaml"), "# nothing\n").unwrap();
    let output = castoff(&["migrate", "--from-files", folder.path()]);
    assert_eq!(output.status.code(), Some(65), "{}", text(&output.stderr));
}

#[test]
fn every_format_ends_with_the_same_exit_code() {
    let folder = Folder::new();
    let mut codes = Vec::new();
    for format in ["text", "json", "yaml", "markdown", "sarif", "junit"] {
        let output = castoff(&[
            "migrate",
            "--demo",
            "-o",
            format,
            "--output-dir",
            folder.path(),
        ]);
        assert!(!output.stdout.is_empty(), "{format}");
        codes.push(output.status.code());
    }
    codes.dedup();
    assert_eq!(codes.len(), 1, "{codes:?}");
}

#[test]
fn a_demo_report_obeys_the_schema() {
    let folder = Folder::new();
    let output = castoff(&[
        "migrate",
        "--demo",
        "--ignore-failures",
        "-o",
        "json",
        "--output-dir",
        folder.path(),
    ]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let schema = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/schemas/report.v1.json"
    ));
    let schema: serde_json::Value = serde_json::from_str(&schema.unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(&report)
        .map(|error| error.to_string())
        .collect();
    assert_eq!(errors, Vec::<String>::new());
    assert_eq!(
        report["exitCode"].as_i64(),
        output.status.code().map(i64::from)
    );
    assert_eq!(report["phases"].as_array().unwrap().len(), 7);
}

#[test]
fn a_broken_document_is_named_with_its_place_and_the_run_goes_on() {
    let folder = Folder::new();
    let out = Folder::new();
    fs::write(
        folder.0.path().join("a.yaml"),
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n---\nkind: [\n",
    )
    .unwrap();
    let output = castoff(&[
        "migrate",
        "--from-files",
        folder.path(),
        "--output-dir",
        out.path(),
    ]);
    let said = text(&output.stdout);
    assert!(said.contains("input: "), "{said}");
    assert!(said.contains("a.yaml:"), "{said}");
    assert!(matches!(output.status.code(), Some(3 | 4)), "{said}");
}

#[test]
fn a_bad_waiver_file_is_named_with_its_place() {
    let folder = Folder::new();
    let file = folder.0.path().join("castoff.yaml");
    fs::write(&file, "apiVersion: castoff/v1\nkind: Waivers\nwaiver: []\n").unwrap();
    let output = castoff(&["migrate", "--demo", "--waivers", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(64));
    let said = text(&output.stderr);
    assert!(said.contains("castoff.yaml:1:1: unknown field"), "{said}");
    assert!(said.contains("waiver"), "{said}");
}

#[test]
fn two_runs_write_and_print_the_same_bytes() {
    let folder = Folder::new();
    let arguments = [
        "migrate",
        "--demo",
        "--ignore-failures",
        "--output-dir",
        folder.path(),
    ];
    let read = || -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = fs::read_dir(folder.0.path())
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                (path.display().to_string(), fs::read(&path).unwrap())
            })
            .collect();
        files.sort();
        files
    };
    let first = (castoff(&arguments).stdout, read());
    let second = (castoff(&arguments).stdout, read());
    assert_eq!(text(&first.0), text(&second.0));
    assert_eq!(first.1, second.1);
}

#[test]
fn a_verdict_is_explained_by_the_name_that_reports_write() {
    for (name, code) in [
        ("same", 0),
        ("opens", 3),
        ("Breaks", 3),
        ("new", 3),
        ("undecided", 4),
    ] {
        let output = castoff(&["explain", name]);
        assert_eq!(output.status.code(), Some(0), "{name}");
        let said = text(&output.stdout);
        assert!(
            said.starts_with(&format!("{} (verdict)\n", name.to_lowercase())),
            "{said}"
        );
        assert!(said.contains(&format!("Exit code: {code}")), "{said}");
    }
    let list = text(&castoff(&["explain", "--list"]).stdout);
    assert!(
        list.contains("undecided") && list.contains("CAST0101"),
        "{list}"
    );
}
