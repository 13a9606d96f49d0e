//! Random meshes, planned to the end: in every state on the way concrete requests are replayed through
//! the plain evaluator and compared with the baseline. Whoever gains or loses was announced by a
//! verdict of that wave, or the proof is wrong.
//!
//! The ordinary run takes a few meshes; a long one:
//!
//! ```text
//! CASTOFF_RANDOM_MESHES=1000 cargo test --release --test random_meshes -- --nocapture
//! ```
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

#[path = "random_meshes/generated.rs"]
mod generated;
#[path = "support/generator.rs"]
mod generator;
#[path = "random_meshes/led.rs"]
mod led;
#[path = "random_meshes/past_sidecars.rs"]
mod past_sidecars;
#[path = "random_meshes/replay.rs"]
mod replay;
#[path = "random_meshes/requests.rs"]
mod requests;
#[path = "random_meshes/routed.rs"]
mod routed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use castoff::mesh::{DataPlaneMode, Distribution, Mesh, MeshOverrides};
use castoff::plan::both::with_labelled_generations;
use castoff::plan::wave::{State, Wave};
use castoff::plan::{OnGap, Plan, PlanEnding, PlanOptions, plan, proof};
use castoff::prove::prover::Prover;
use castoff::simulate::command::parse_line;
use castoff::simulate::{execute, settle};
use castoff::snapshot::{Kind, ObjectName, Snapshot};
use castoff::source::{Collector, Place};
use castoff_authz::verdict::{Finding, Limits};
use generator::Random;
use replay::{Key, Replayed, Side};

/// The labels of a pod template that says for itself how its pods run.
const BY_TEMPLATE: [(&str, &str); 2] = [
    ("sidecar.istio.io/inject", "false"),
    ("istio.io/dataplane-mode", "ambient"),
];

/// Requests for each caller, server, port and kind of content in each state.
const REQUESTS: usize = 6;

fn meshes() -> u64 {
    std::env::var("CASTOFF_RANDOM_MESHES")
        .ok()
        .map_or(6, |text| text.parse().unwrap())
}

fn first_seed() -> u64 {
    std::env::var("CASTOFF_RANDOM_MESHES_FROM")
        .ok()
        .map_or(0, |text| text.parse().unwrap())
}

fn read(seed: u64) -> Snapshot {
    read_with(seed, "")
}

/// The same where every Service of the mesh uses a waypoint of its namespace at once, and no policy is
/// made for them.
fn read_bound(seed: u64) -> Snapshot {
    use_waypoints(read_with(seed, &generated::waypoints()))
}

fn use_waypoints(mut snapshot: Snapshot) -> Snapshot {
    for namespace in &mut snapshot.namespaces {
        if generated::HAVE_WAYPOINTS.contains(&namespace.metadata.name.as_str()) {
            let labels = &mut namespace.metadata.labels;
            labels.set("istio.io/use-waypoint", "waypoint");
        }
    }
    snapshot
}

fn read_with(seed: u64, more: &str) -> Snapshot {
    read_text(&generated::mesh(seed), more)
}

fn read_text(mesh: &str, more: &str) -> Snapshot {
    let mut collector = Collector::new();
    for (file, text) in &castoff::demo::FILES[..2] {
        collector.add_text(&Place::Demo(file), text);
    }
    collector.add_text(&Place::File("random.yaml".into()), mesh);
    collector.add_text(&Place::File("waypoints.yaml".into()), more);
    let snapshot = collector.finish();
    // Some meshes have a trust domain of their own.
    let other =
        |message: &str| !message.starts_with("ConfigMap `istio-system/istio` is given twice");
    let mut problems = snapshot.problems.iter();
    assert!(
        problems.all(|one| !other(&one.message)),
        "{:?}",
        snapshot.problems
    );
    snapshot
}

/// One mesh in five is of a build whose sidecars use waypoints.
fn overrides(seed: u64) -> MeshOverrides {
    MeshOverrides {
        distribution: (seed % 5 == 4).then_some(Distribution::Solo),
        ..MeshOverrides::default()
    }
}

/// What the verdicts of some states announce.
fn announced<'a>(states: impl Iterator<Item = &'a State>) -> BTreeSet<Key> {
    let mut found = BTreeSet::new();
    for answer_of in states.flat_map(|state| &state.differing) {
        for answer in &answer_of.differences {
            for (direction, finding) in [
                ("opens", &answer.verdict.opens),
                ("breaks", &answer.verdict.breaks),
            ] {
                assert!(!matches!(finding, Finding::Bug(_)), "{finding:?}");
                if *finding != Finding::Never {
                    found.insert((answer_of.server.clone(), answer.port, direction));
                }
            }
        }
    }
    found
}

/// Plays a wave and shows the mesh at every moment: after each command, with the old and new pods of
/// all that move side by side, and after some of the deletions that may arrive in any order. What the last old
/// pods of a circle call while they go is left out, as the plan says.
fn moments(
    wave: &Wave,
    snapshot: &mut Snapshot,
    overrides: &MeshOverrides,
    random: &mut Random,
    mut show: impl FnMut(&str, &Mesh),
) {
    let run = |snapshot: &mut Snapshot, line: &str| {
        let command = parse_line(line).unwrap();
        let files = wave.manifests.iter().chain(&wave.saved);
        let files = files.map(|(name, content)| (name.clone(), content.clone()));
        execute(snapshot, &[command], &files.collect()).unwrap();
        settle(snapshot);
    };
    // Deployments that keep old pods beside new ones until they are told to let them go.
    let mut held: Vec<&String> = Vec::new();
    let moving: BTreeSet<String> = wave
        .steps
        .iter()
        .flat_map(|step| step.moves.iter().cloned())
        .collect();
    let labels: &[(&str, &str)] = if wave.manifests.is_empty() {
        &[]
    } else {
        &BY_TEMPLATE
    };
    let mut moved = false;
    for step in &wave.steps {
        if !step.moves.is_empty() && !moved {
            moved = true;
            let mesh = Mesh::build(snapshot, overrides);
            let moves = |name: &ObjectName| moving.contains(&name.to_string());
            show(
                "old and new pods side by side",
                &with_labelled_generations(&mesh, moves, labels),
            );
        }
        if step
            .run
            .iter()
            .all(|line| line.contains(r#""minReadySeconds":604800"#))
        {
            held.extend(&step.run);
            continue;
        }
        if !held.is_empty() {
            if step
                .run
                .iter()
                .any(|line| line.starts_with("kubectl patch "))
            {
                for line in held.drain(..).chain(&step.run) {
                    run(snapshot, line);
                }
                show("old pods gone", &Mesh::build(snapshot, overrides));
                continue;
            }
            for line in &step.run {
                run(snapshot, line);
                let mesh = Mesh::build(snapshot, overrides);
                let moves = |name: &ObjectName| moving.contains(&name.to_string());
                show(line, &with_labelled_generations(&mesh, moves, labels));
            }
            continue;
        }
        if wave.slug == "clean-up" {
            for _ in 0..3 {
                let mut some = snapshot.clone();
                for line in &step.run {
                    if random.below(2) == 0 {
                        run(&mut some, line);
                    }
                }
                show("some originals deleted", &Mesh::build(&some, overrides));
            }
        }
        for line in &step.run {
            run(snapshot, line);
            show(line, &Mesh::build(snapshot, overrides));
        }
    }
}

/// Counts over all meshes.
#[derive(Default)]
struct Totals {
    requests: usize,
    states: usize,
    proved: usize,
    announced: usize,
    rows: usize,
    undecided: usize,
    servers: usize,
    held: usize,
    endings: BTreeMap<&'static str, usize>,
}

fn ending(plan: &Plan) -> &'static str {
    match &plan.ending {
        PlanEnding::Done => "done",
        PlanEnding::Partial => "partial",
        PlanEnding::NotReady(_) => "not ready",
        PlanEnding::Failed(_) => "failed",
    }
}

#[test]
fn nobody_gains_or_loses_on_the_way_but_whom_a_verdict_names() {
    let mut totals = Totals::default();
    let mut surprises: Vec<String> = Vec::new();
    for seed in first_seed()..first_seed() + meshes() {
        let snapshot = read(seed);
        let overrides = overrides(seed);
        let baseline = Mesh::build(&snapshot, &overrides);
        // Every other plan stops at gaps; the rest go on, so that there is something to announce.
        let on_gap = match seed % 4 {
            0 | 1 => OnGap::Stop,
            2 => OnGap::Accept,
            _ => OnGap::Deny,
        };
        let options = PlanOptions {
            on_gap,
            ..PlanOptions::default()
        };
        let plan = plan(&snapshot, snapshot.clone(), &overrides, &options);
        if on_gap == OnGap::Stop {
            for gap in &plan.gaps {
                surprises.push(format!("seed {seed}: a plan that stops has {gap:?}"));
            }
        }
        *totals.endings.entry(ending(&plan)).or_default() += 1;
        totals.servers += plan.servers;
        totals.held += plan.held.len();
        let before = Side::of(&baseline);
        let mut random = Random::new(!seed);
        let mut now = snapshot.clone();
        let mut earlier: Option<&State> = None;
        for wave in &plan.waves {
            let known = announced(earlier.into_iter().chain(&wave.states));
            totals.announced += known.len();
            for state in &wave.states {
                totals.proved += 1;
                totals.rows += plan.servers;
                totals.undecided += state.undecided();
            }
            let chosen = &mut Random::new(seed);
            moments(wave, &mut now, &overrides, chosen, |moment, mesh| {
                totals.states += 1;
                let Replayed {
                    requests,
                    differences,
                } = replay::replay(&before, &Side::of(mesh), REQUESTS, &mut random);
                totals.requests += requests;
                for ((server, port, direction), example) in differences {
                    if !known.contains(&(server.clone(), port, direction)) {
                        surprises.push(format!(
                            "seed {seed}, wave `{}`, {moment}: {direction} {server}:{port}\n{example}",
                            wave.title
                        ));
                    }
                }
            });
            earlier = wave.states.last();
        }
    }
    eprintln!(
        "{} meshes ({:?}): {} requests replayed in {} states ({} proved by the plans), {} gains and losses announced, \
         {} surprises; {} of {} rows undecided ({:.2} %); {} of {} servers held ({:.1} %)",
        meshes(),
        totals.endings,
        totals.requests,
        totals.states,
        totals.proved,
        totals.announced,
        surprises.len(),
        totals.undecided,
        totals.rows,
        100.0 * totals.undecided as f64 / totals.rows.max(1) as f64,
        totals.held,
        totals.servers,
        100.0 * totals.held as f64 / totals.servers.max(1) as f64,
    );
    assert!(surprises.is_empty(), "{}", surprises.join("\n\n"));
    assert_eq!(totals.endings.get("failed"), None);
    assert!(
        totals.requests > 1_000 * meshes() as usize,
        "too few requests to say anything"
    );
}

/// States that nobody planned: everything both ways at once, one policy gone, one turned around, one
/// Service gone, one workload out of the mesh, one with another service account, a waypoint before
/// everything, no routes or other ones, with waypoints and without.
fn disturbed(
    seed: u64,
    snapshot: &Snapshot,
    overrides: &MeshOverrides,
    random: &mut Random,
) -> Vec<Mesh> {
    let both = |mesh: &Mesh| with_labelled_generations(mesh, |_| true, &[]);
    let mut meshes = vec![both(&Mesh::build(snapshot, overrides))];
    let count = snapshot.resources(Kind::AuthorizationPolicy).len();
    let mut without = snapshot.clone();
    let policies = without.resources.get_mut(&Kind::AuthorizationPolicy);
    policies.unwrap().remove(random.below(count));
    let mut turned = snapshot.clone();
    let policies = turned.resources.get_mut(&Kind::AuthorizationPolicy);
    let policy = &mut policies.unwrap()[random.below(count)];
    let body = std::sync::Arc::make_mut(&mut policy.body);
    let action = if body["spec"]["action"] == "DENY" {
        "ALLOW"
    } else {
        "DENY"
    };
    body["spec"]["action"] = action.into();
    let mut fewer = snapshot.clone();
    let services = &mut fewer.services;
    let ours = |name: &str| name.starts_with("app-");
    if let Some(index) = services.iter().position(|one| ours(&one.metadata.name)) {
        services.remove(index);
    }
    let mut out = Mesh::build(snapshot, overrides);
    if let Some(workload) = out.workloads.iter_mut().find(|one| ours(&one.name.name)) {
        for generation in &mut workload.generations {
            generation.mode = DataPlaneMode::None;
        }
    }
    meshes.push(out);
    let mut renamed = Mesh::build(snapshot, overrides);
    let account = format!("app-{}", random.below(4));
    if let Some(workload) = renamed
        .workloads
        .iter_mut()
        .find(|one| ours(&one.name.name))
    {
        workload.service_account = account.into();
    }
    meshes.push(renamed);
    let bound = Mesh::build(&read_bound(seed), overrides);
    meshes.push(both(&bound));
    meshes.push(bound);
    for text in generated::rerouted(seed) {
        meshes.push(Mesh::build(&read_text(&text, ""), overrides));
        let bound = read_text(&text, &generated::waypoints());
        meshes.push(Mesh::build(&use_waypoints(bound), overrides));
    }
    for snapshot in [without, turned, fewer] {
        let mesh = Mesh::build(&snapshot, overrides);
        meshes.push(both(&mesh));
        meshes.push(mesh);
    }
    meshes
}

#[test]
fn whoever_gains_or_loses_when_a_mesh_is_disturbed_is_named() {
    let (mut requests, mut found, mut named) = (0, 0, 0);
    let mut surprises: Vec<String> = Vec::new();
    for seed in first_seed()..first_seed() + 4 * meshes() {
        let snapshot = read(seed);
        let overrides = overrides(seed);
        let baseline = Mesh::build(&snapshot, &overrides);
        let prover = Prover::new(&baseline, Limits::default());
        let before = Side::of(&baseline);
        let mut random = Random::new(!seed);
        let states = disturbed(seed, &snapshot, &overrides, &mut random);
        for (index, mesh) in states.into_iter().enumerate() {
            let state = proof::state(&prover, Arc::new(mesh.clone()), "");
            let known = announced(std::iter::once(&state));
            let replayed = replay::replay(&before, &Side::of(&mesh), REQUESTS, &mut random);
            requests += replayed.requests;
            found += replayed.differences.len();
            named += known.len();
            for ((server, port, direction), example) in replayed.differences {
                if !known.contains(&(server.clone(), port, direction)) {
                    surprises.push(format!(
                        "seed {seed}, state {index}: {direction} {server}:{port}\n{example}"
                    ));
                }
            }
        }
    }
    eprintln!(
        "{} meshes disturbed: {requests} requests found {found} gains and losses, {named} are named, {} surprises",
        4 * meshes(),
        surprises.len()
    );
    assert!(surprises.is_empty(), "{}", surprises.join("\n\n"));
    assert!(found as u64 > 4 * meshes(), "requests find too little");
}
