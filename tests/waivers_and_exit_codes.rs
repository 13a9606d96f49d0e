//! The real binary: what waivers do to a run, and which exit code a run ends with.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/page")
        .join(name)
}

/// Runs `castoff migrate` on fixtures; the exit code, and what was printed to both streams.
fn migrate(fixtures: &[&str], output: &Path, arguments: &[&str]) -> (i32, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["migrate", "--from-files"])
        .args(fixtures.iter().map(|name| fixture(name)))
        .arg("--output-dir")
        .arg(output)
        .args(arguments)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let mut printed = String::from_utf8(run.stdout).unwrap();
    printed.push_str(&String::from_utf8(run.stderr).unwrap());
    (run.status.code().unwrap(), printed)
}

const HELLO: [&str; 2] = ["ready.yaml", "hello-world.yaml"];

/// Runs on the mesh that needs one waypoint, with waivers.
fn with_waivers(entries: &str, arguments: &[&str]) -> (i32, String, bool) {
    let folder = tempfile::tempdir().unwrap();
    let waivers = folder.path().join("castoff.yaml");
    fs::write(
        &waivers,
        format!("apiVersion: castoff/v1\nkind: Waivers\nwaivers:\n{entries}"),
    )
    .unwrap();
    let output = folder.path().join("out");
    let mut all = vec!["--waivers", waivers.to_str().unwrap()];
    all.extend(arguments);
    let (code, printed) = migrate(&HELLO, &output, &all);
    (
        code,
        printed,
        output.join("recommended-waypoints.yaml").exists(),
    )
}

const WAIVER: &str = "- object: Namespace/application\n  code: CAST0301\n  reason: it retires\n";

#[test]
fn without_a_waiver_the_waypoint_is_recommended() {
    let (code, printed, written) = with_waivers("", &["--phase", "deploy-waypoints"]);
    assert_eq!((code, written), (2, true), "{printed}");
}

#[test]
fn a_declined_recommendation_is_counted_shown_and_not_written() {
    let (_, printed, written) = with_waivers(WAIVER, &["--phase", "deploy-waypoints"]);
    assert!(
        printed.contains("✅ Phase deploy-waypoints succeeded!"),
        "{printed}"
    );
    assert!(printed.contains(" 1 waived,"), "{printed}");
    assert!(
        printed.contains("waived: CAST0301 Namespace/application: it retires"),
        "{printed}"
    );
    assert!(!printed.contains("matches nothing"), "{printed}");
    assert!(!written, "the Gateway was written all the same");
}

#[test]
fn an_expired_waiver_is_named_and_what_it_declined_is_back() {
    let entry = format!("{WAIVER}  until: \"2020-01-31\"\n");
    let (code, printed, written) = with_waivers(&entry, &["--phase", "deploy-waypoints"]);
    assert_eq!((code, written), (2, true), "{printed}");
    assert!(
        printed
            .contains("waiver expired on 2020-01-31: CAST0301 Namespace/application: it retires"),
        "{printed}"
    );
    assert!(printed.contains(" 0 waived,"), "{printed}");
}

#[test]
fn a_waiver_that_matches_nothing_is_named_once_its_check_has_run() {
    let entry = WAIVER.replace("application", "aplication");
    let (code, printed, _) = with_waivers(&entry, &["--phase", "deploy-waypoints"]);
    assert_eq!(code, 2, "{printed}");
    assert!(
        printed.contains("waiver matches nothing: CAST0301 Namespace/aplication: it retires"),
        "{printed}"
    );

    // The run stops before the phase whose recommendation the waiver declines.
    let later =
        "- object: Service/application/hello-world\n  code: CAST0503\n  reason: it retires\n";
    let (_, printed, _) = with_waivers(later, &["--phase", "deploy-waypoints"]);
    assert!(!printed.contains("matches nothing"), "{printed}");
}

#[test]
fn waivers_are_in_the_json_report_by_what_became_of_them() {
    let entries = format!(
        "{WAIVER}- object: Namespace/gone\n  code: CAST0301\n  reason: r\n- object: Namespace/old\n  \
         code: CAST0301\n  reason: r\n  until: \"2020-01-31\"\n"
    );
    let (_, printed, _) = with_waivers(&entries, &["--phase", "deploy-waypoints", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_str(&printed).unwrap();
    let objects = |list: &str, path: &str| -> Vec<String> {
        report[list]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.pointer(path).unwrap().as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        objects("waived", "/waiver/object"),
        ["Namespace/application"]
    );
    assert_eq!(objects("expiredWaivers", "/object"), ["Namespace/old"]);
    assert_eq!(objects("unmatchedWaivers", "/object"), ["Namespace/gone"]);
}

#[test]
fn every_exit_code_says_what_it_is_documented_for() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out");
    let occupied = folder.path().join("file");
    fs::write(&occupied, "no folder").unwrap();
    // Exit code, input, output folder, further arguments, a line that must be printed.
    type Row<'a> = (i32, &'a [&'a str], &'a Path, &'a [&'a str], &'a str);
    let table: [Row<'_>; 7] = [
        (
            0,
            &["ready.yaml", "done.yaml"],
            &output,
            &[],
            "Nothing is left to do.",
        ),
        (1, &HELLO, &occupied, &[], "choose another folder"),
        (2, &HELLO, &output, &[], "1 recommendation"),
        (
            3,
            &["without-ambient.yaml"],
            &output,
            &["--phase", "cluster-setup"],
            "9 errors",
        ),
        (
            4,
            &["app1-allow-nothing.yaml"],
            &output,
            &["--phase", "use-waypoints"],
            "not among the input",
        ),
        (64, &HELLO, &output, &["--phase", "later"], "use-waypoints"),
        (
            65,
            &["no-such-file.yaml"],
            &output,
            &[],
            "no-such-file.yaml",
        ),
    ];
    for (row, (expected, input, output, arguments, line)) in table.into_iter().enumerate() {
        // A folder of its own, because a run saves its baseline there for the next.
        let own = folder.path().join(row.to_string());
        let output = if output == occupied { output } else { &own };
        let (code, printed) = migrate(input, output, arguments);
        assert_eq!(code, expected, "{printed}");
        assert!(printed.contains(line), "exit code {code}: {printed}");
    }
}

/// 1, 3, 4, 2, 0: a failed check outranks a recommendation, and so does what could not be checked.
#[test]
fn the_gravest_exit_code_applies() {
    let folder = tempfile::tempdir().unwrap();
    let every = &["--ignore-failures"][..];
    let (code, printed) = migrate(&["without-ambient.yaml"], folder.path(), every);
    assert!(printed.contains("could not check"), "{printed}");
    assert_eq!(code, 3, "{printed}");
    let (code, printed) = migrate(&["hello-world.yaml"], folder.path(), every);
    assert!(printed.contains("🔮"), "{printed}");
    assert!(printed.contains("could not check"), "{printed}");
    assert!(matches!(code, 3 | 4), "{printed}");
}
