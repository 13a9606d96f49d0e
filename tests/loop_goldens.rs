//! The whole migration in memory: run, apply only the bytes that were written, run again.
//!
//! The demo and the dumps of real clusters are played to the end; every round's whole output is a
//! golden file (`tests/goldens/loop`, rewritten with `CASTOFF_BLESS=1`).
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use castoff::finding::PhaseResult;
use castoff::mesh::MeshOverrides;
use castoff::phases::MigrateOptions;
use castoff::report::{Parts, Report, script, text};
use castoff::simulate::rounds::{Ending, Files, play};
use castoff::snapshot::Snapshot;

const BOUND: usize = 12;

fn report(results: &[PhaseResult]) -> Report {
    Report::new(Parts {
        input: "the mesh in memory".to_owned(),
        phases: results.to_vec(),
        invocation: "castoff migrate".to_owned(),
        ..Parts::default()
    })
}

fn write(_: &Snapshot, results: &[PhaseResult]) -> Files {
    let report = report(results);
    let mut files: Files = report
        .artefacts()
        .map(|artefact| (artefact.file.to_owned(), artefact.content.clone()))
        .collect();
    if let Some(script) = script::render(&report) {
        files.insert(script::FILE.to_owned(), script);
    }
    files
}

/// Plays a migration and returns everything it printed and wrote, with its ending.
fn transcript(snapshot: Snapshot, options: &MigrateOptions) -> (String, Ending) {
    let (rounds, ending) = play(snapshot, &MeshOverrides::default(), options, &write, BOUND);
    let mut out = String::new();
    for (index, round) in rounds.iter().enumerate() {
        out.push_str(&format!("===== round {}\n", index + 1));
        out.push_str(&text::render(
            &report(&round.results),
            text::Style::default(),
        ));
        for (name, content) in &round.files {
            out.push_str(&format!("----- {name}\n{content}"));
        }
    }
    out.push_str(&format!("===== ending: {ending:?}\n"));
    (out, ending)
}

fn compare(name: &str, actual: &str, problems: &mut Vec<String>) {
    let path = Path::new("tests/goldens/loop").join(format!("{name}.txt"));
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
            "{} differs from line {:?} on",
            path.display(),
            line.map(|line| line + 1)
        ));
    }
}

#[test]
fn the_demo_is_migrated_to_the_end() {
    let (actual, ending) = transcript(
        castoff::demo::snapshot().unwrap(),
        &MigrateOptions::default(),
    );
    let mut problems = Vec::new();
    compare("demo", &actual, &mut problems);
    eprintln!("demo: {ending:?}");
    assert!(problems.is_empty(), "{problems:?}");
}

#[test]
fn real_meshes_are_migrated_as_far_as_they_can_be() {
    let corpus = PathBuf::from("../shared/corpus");
    if !corpus.is_dir() {
        eprintln!(
            "SKIPPED: {} is not here, no real mesh was migrated",
            corpus.display()
        );
        return;
    }
    let mut problems = Vec::new();
    let mut endings = BTreeMap::new();
    for entry in std::fs::read_dir(&corpus).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("live-") {
            continue;
        }
        let snapshot = castoff::source::read_files(&[folder]).expect("readable");
        let (actual, ending) = transcript(snapshot, &MigrateOptions::default());
        compare(&name, &actual, &mut problems);
        endings.insert(name, ending);
    }
    eprintln!("{endings:#?}");
    assert!(problems.is_empty(), "{problems:?}");
    for (name, ending) in endings {
        assert!(
            !matches!(ending, Ending::Failed(_) | Ending::TooManyRounds),
            "{name}: {ending:?}"
        );
    }
}
