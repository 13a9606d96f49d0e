//! `castoff migrate` again and again, as a user would: what it recommends is proved against the state
//! before the first run, and on upstream Istio only proved moves are recommended.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::PathBuf;

use castoff::exit::Exit;
use castoff::finding::{PhaseOutcome, PhaseResult};
use castoff::mesh::{Mesh, MeshOverrides};
use castoff::phases::{self, Context, MigrateOptions};
use castoff::plan::recommended;
use castoff::report::{Parts, Report, script};
use castoff::simulate::{execute, parse_script, settle};
use castoff::snapshot::Snapshot;
use castoff::source::{Collector, Place};

/// Runs until nothing is recommended that can be applied; returns the verdict lines of all states and
/// whether every phase succeeded at the end.
fn migrated(mut snapshot: Snapshot) -> (Vec<String>, bool) {
    let overrides = MeshOverrides::default();
    let options = MigrateOptions::default();
    let baseline = Mesh::build(&snapshot, &overrides);
    let mut differences = Vec::new();
    for round in 1..=12 {
        let mesh = Mesh::build(&snapshot, &overrides);
        let context = Context::new(&mesh, &snapshot, &options);
        let mut results = phases::run(&context);
        let access = recommended::prove(&baseline, &snapshot, &overrides, &options, &mut results);
        assert_eq!(access.not_played, Vec::<String>::new());
        for state in access.states() {
            for row in &state.differing {
                differences.push(format!(
                    "round {round}, {}: {} {:?}",
                    state.when,
                    row.server,
                    row.verdict()
                ));
            }
        }
        let done = results
            .iter()
            .all(|result| result.outcome == PhaseOutcome::Succeeded);
        if done || !applied(&mut snapshot, results) {
            return (differences, done);
        }
    }
    panic!("it does not come to an end: {differences:?}");
}

/// Applies what was written and carries the commands out; whether there was anything.
fn applied(snapshot: &mut Snapshot, results: Vec<PhaseResult>) -> bool {
    let report = Report::new(Parts {
        phases: results,
        ..Parts::default()
    });
    let mut commands = String::new();
    let mut files = std::collections::BTreeMap::new();
    for artefact in report.artefacts() {
        commands.push_str(&format!("kubectl apply -f {}\n", artefact.file));
        files.insert(artefact.file.to_owned(), artefact.content.clone());
    }
    commands.push_str(&script::render(&report).unwrap_or_default());
    let commands = parse_script(&commands).expect("every line is understood");
    if commands.is_empty() {
        assert_ne!(report.exit, Exit::Nothing, "something is left to do");
    }
    execute(snapshot, &commands, &files).unwrap();
    settle(snapshot);
    !commands.is_empty()
}

#[test]
fn the_demo_is_migrated_without_anybody_gaining_or_losing_access() {
    assert_eq!(
        migrated(castoff::demo::snapshot().unwrap()),
        (Vec::new(), true)
    );
}

#[test]
fn real_meshes_are_migrated_without_anybody_gaining_or_losing_access() {
    let corpus = PathBuf::from("../shared/corpus");
    if !corpus.is_dir() {
        eprintln!("SKIPPED: {} is not here", corpus.display());
        return;
    }
    for (name, ends) in [
        ("live-bookinfo-ambient-ready", true),
        ("live-kiali-travels-ambient-ready", true),
        ("live-online-boutique-ambient-ready", true),
        ("live-boutique-security-intro-ambient-ready", true),
    ] {
        let snapshot = castoff::source::read_files(&[corpus.join(name)]).unwrap();
        assert_eq!(migrated(snapshot), (Vec::new(), ends), "{name}");
    }
}

/// Files and commands take turns while pods are kept apart, which does not fit into one run.
#[test]
fn a_circle_that_only_a_plan_can_move_keeps_its_sidecars() {
    let mut collector = Collector::new();
    for (file, text) in &castoff::demo::FILES[..2] {
        collector.add_text(&Place::Demo(file), text);
    }
    let circle = std::fs::read_to_string("tests/fixtures/plan/circle-of-deployments.yaml").unwrap();
    collector.add_text(&Place::Demo("circle.yaml"), &circle);
    assert_eq!(migrated(collector.finish()), (Vec::new(), false));
}
