//! Whole plans: every wave, script, proof and way back, for the demo, for small meshes of our own and
//! for the dumps of real clusters, on upstream Istio and on Solo's build.
//!
//! Golden files are in `tests/goldens/plan`, rewritten with `CASTOFF_BLESS=1`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use castoff::mesh::{Distribution, MeshOverrides};
use castoff::plan::{Plan, PlanEnding, PlanOptions, plan};
use castoff::report::plan::{PlanReport, folder};
use castoff::simulate::{execute, parse_script, settle};
use castoff::snapshot::Snapshot;

fn planned(snapshot: &Snapshot, distribution: Option<Distribution>) -> Plan {
    let overrides = MeshOverrides {
        distribution,
        ..MeshOverrides::default()
    };
    plan(
        snapshot,
        snapshot.clone(),
        &overrides,
        &PlanOptions::default(),
    )
}

/// The terminal's summary and every file of the folder but `plan.json`, which says the same again.
fn transcript(plan: &Plan) -> String {
    let report = PlanReport::new(
        plan,
        "the mesh in memory".to_owned(),
        "the state read now".to_owned(),
        Vec::new(),
    );
    let mut out = report.text(false);
    for (name, content) in folder::files(plan, &report) {
        if name != "plan.json" {
            out.push_str(&format!("----- {name}\n{content}"));
        }
    }
    out
}

fn compare(name: &str, actual: &str, problems: &mut Vec<String>) {
    let path = Path::new("tests/goldens/plan").join(format!("{name}.txt"));
    if std::env::var_os("CASTOFF_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    if expected != actual {
        let line = expected
            .lines()
            .zip(actual.lines())
            .position(|(left, right)| left != right);
        problems.push(format!(
            "{name} differs from its golden at line {}: {:?}",
            line.map_or(0, |line| line + 1),
            line.and_then(|line| actual.lines().nth(line))
        ));
    }
}

/// Carries out the written scripts, and nothing else, from the start; returns the end.
fn carried_out(snapshot: &Snapshot, plan: &Plan, script: &str) -> Result<Snapshot, String> {
    let report = PlanReport::new(plan, String::new(), String::new(), Vec::new());
    let files = folder::files(plan, &report);
    let mut now = snapshot.clone();
    for wave in &report.waves {
        let here: std::collections::BTreeMap<String, String> = files
            .iter()
            .filter_map(|(path, content)| {
                let name = path.strip_prefix(&format!("{}/", wave.folder))?;
                Some((name.to_owned(), content.clone()))
            })
            .collect();
        for command in parse_script(&here[script]).map_err(|error| error.to_string())? {
            execute(&mut now, &command, &here).map_err(|error| error.to_string())?;
        }
        settle(&mut now);
    }
    Ok(now)
}

#[test]
fn the_demo_is_planned_to_the_end_and_its_scripts_do_what_was_proved() {
    let snapshot = castoff::demo::snapshot().unwrap();
    let plan = planned(&snapshot, None);
    let mut problems = Vec::new();
    compare("demo", &transcript(&plan), &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(plan.ending, PlanEnding::Done);
    assert_eq!(plan.gaps, []);
    assert_eq!(plan.undecided(), 0);
    let end = carried_out(&snapshot, &plan, "apply.sh").expect("every line is understood");
    assert!(
        planned(&end, None).waves.is_empty(),
        "something is left to do"
    );
}

#[test]
fn real_meshes_are_planned_on_upstream_and_on_solo() {
    let corpus = PathBuf::from("../shared/corpus");
    if !corpus.is_dir() {
        eprintln!(
            "SKIPPED: {} is not here, no real mesh was planned",
            corpus.display()
        );
        return;
    }
    let mut problems = Vec::new();
    for entry in std::fs::read_dir(&corpus).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("live-") || !name.ends_with("-ambient-ready") {
            continue;
        }
        let snapshot = castoff::source::read_files(&[folder]).expect("readable");
        for (word, distribution) in [
            ("upstream", Distribution::Upstream),
            ("solo", Distribution::Solo),
        ] {
            let plan = planned(&snapshot, Some(distribution));
            compare(&format!("{name}-{word}"), &transcript(&plan), &mut problems);
            assert!(
                !matches!(plan.ending, PlanEnding::Failed(_) | PlanEnding::NotReady(_)),
                "{name}: {:?}",
                plan.ending
            );
            carried_out(&snapshot, &plan, "apply.sh").expect("every line is understood");
        }
    }
    assert!(problems.is_empty(), "{problems:?}");
}
