//! Whole plans: every wave, script, proof and way back, for the demo, for small meshes of our own and
//! for the dumps of real clusters, on upstream Istio and on Solo's build.
//!
//! Golden files are in `tests/goldens/plan`, rewritten with `CASTOFF_BLESS=1`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use castoff::mesh::{Distribution, Mesh, MeshOverrides};
use castoff::plan::both::with_ambient_generations;
use castoff::plan::traffic::CallGraph;
use castoff::plan::wave::WayBack;
use castoff::plan::{OnGap, Plan, PlanEnding, PlanOptions, plan, proof};
use castoff::prove::prover::Prover;
use castoff::prove::row::RowVerdict;
use castoff::report::plan::{PlanReport, folder};
use castoff::simulate::{execute, parse_script, settle};
use castoff::snapshot::{Kind, ObjectName, Snapshot};
use castoff::source::{Collector, Place};
use castoff_authz::verdict::Limits;

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
    let mut out = report.text(castoff::report::text::Style::default());
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
        let commands = parse_script(&here[script]).map_err(|error| error.to_string())?;
        execute(&mut now, &commands, &here).map_err(|(_, error)| error.to_string())?;
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

/// A mesh of `tests/fixtures/plan`, in the cluster of the demo.
fn fixture(name: &str) -> Snapshot {
    fixture_with(name, "")
}

/// A fixture, and one more document.
fn fixture_with(name: &str, document: &str) -> Snapshot {
    let mut collector = Collector::new();
    for (file, text) in &castoff::demo::FILES[..2] {
        collector.add_text(&Place::Demo(file), text);
    }
    let path = format!("tests/fixtures/plan/{name}.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let place = Place::File(path.as_str().into());
    collector.add_text(&place, &format!("{text}---\n{document}"));
    collector.finish()
}

fn moved_in(plan: &Plan) -> Vec<Vec<String>> {
    plan.waves
        .iter()
        .filter(|wave| wave.slug.starts_with("move-"))
        .map(|wave| wave.affected.iter().map(ToString::to_string).collect())
        .collect()
}

#[test]
fn one_request_policy_a_workload_is_the_same_in_every_state() {
    let snapshot = fixture("bookinfo");
    let plan = planned(&snapshot, None);
    let mut problems = Vec::new();
    compare("bookinfo", &transcript(&plan), &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(plan.ending, PlanEnding::Done);
    for state in plan.waves.iter().flat_map(|wave| &wave.states) {
        assert!(state.differing.is_empty(), "{}", state.when);
    }
    assert_eq!(
        moved_in(&plan),
        [
            vec!["bookinfo/productpage"],
            vec!["bookinfo/details", "bookinfo/reviews"],
            vec!["bookinfo/ratings"]
        ]
    );
}

#[test]
fn namespaces_that_call_one_another_are_split_into_workloads() {
    let snapshot = fixture("three-namespaces");
    let plan = planned(&snapshot, None);
    assert_eq!(plan.ending, PlanEnding::Done);
    assert_eq!(plan.gaps, []);
    assert_eq!(plan.undecided(), 0);
    assert_eq!(
        moved_in(&plan),
        [
            vec!["desk/web"],
            vec!["shop/orders"],
            vec!["store/prices", "store/stock"],
            vec!["shop/rates"]
        ]
    );
    let end = carried_out(&snapshot, &plan, "apply.sh").unwrap();
    assert!(planned(&end, None).waves.is_empty());
}

/// The order in which originals go before sidecars do, and namespaces go one after the other.
#[test]
fn originals_deleted_before_sidecars_and_servers_before_callers_are_shown_to_differ() {
    let snapshot = fixture("three-namespaces");
    let overrides = MeshOverrides::default();
    let baseline = Mesh::build(&snapshot, &overrides);
    let plan = planned(&snapshot, None);
    let bound = carried_out_until(&snapshot, &plan, "move-");
    let mut without_originals = bound.clone();
    for policy in ["orders", "rates"] {
        let name = ObjectName::new("shop", &format!("{policy}-callers"));
        assert!(without_originals.remove(Kind::AuthorizationPolicy, &name));
    }
    let verdicts = |present: &Mesh| -> Vec<(String, RowVerdict)> {
        let state = proof::state(
            &Prover::new(&baseline, Limits::default()),
            Arc::new(present.clone()),
            "",
        );
        let rows = state.differing.iter();
        rows.map(|row| (row.server.to_string(), row.verdict()))
            .collect()
    };
    let page = Mesh::build(&without_originals, &overrides);
    assert_eq!(
        verdicts(&page),
        [
            ("shop/orders".to_owned(), RowVerdict::Breaks),
            ("shop/rates".to_owned(), RowVerdict::Breaks)
        ],
        "the guard alone is left, and no sidecar comes through the waypoint"
    );
    let store_first = with_ambient_generations(&Mesh::build(&bound, &overrides), |name| {
        name.namespace == "store"
    });
    assert_eq!(
        verdicts(&store_first),
        [
            ("store/prices".to_owned(), RowVerdict::Breaks),
            ("store/stock".to_owned(), RowVerdict::Breaks)
        ]
    );
}

/// The snapshot before the first wave whose name begins so.
fn carried_out_until(snapshot: &Snapshot, plan: &Plan, slug: &str) -> Snapshot {
    let mut first = plan.clone();
    let end = first
        .waves
        .iter()
        .position(|wave| wave.slug.starts_with(slug));
    first.waves.truncate(end.unwrap());
    carried_out(snapshot, &first, "apply.sh").unwrap()
}

#[test]
fn a_circle_of_stateful_sets_has_no_order_and_says_whom_it_would_break() {
    let snapshot = fixture("circle");
    let plan = planned(&snapshot, None);
    let mut problems = Vec::new();
    compare("circle", &transcript(&plan), &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(plan.ending, PlanEnding::Partial);
    let held: Vec<String> = plan
        .held
        .iter()
        .map(|held| held.workload.to_string())
        .collect();
    assert_eq!(held, ["ring/left", "ring/right"]);
    assert!(plan.held.iter().all(|held| !held.lines.is_empty()));
    assert_eq!(plan.gaps, [], "nothing is done that opens or breaks");
}

/// Callers with sidecars reach servers with sidecars alone while both kinds of pods run.
#[test]
fn a_circle_of_deployments_moves_with_its_callers_pinned() {
    let snapshot = fixture("circle-of-deployments");
    let plan = planned(&snapshot, None);
    let mut problems = Vec::new();
    compare("circle-of-deployments", &transcript(&plan), &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(plan.ending, PlanEnding::Done);
    assert_eq!(plan.held, []);
    for state in plan.waves.iter().flat_map(|wave| &wave.states) {
        assert!(state.differing.is_empty(), "{}", state.when);
    }
    let end = carried_out(&snapshot, &plan, "apply.sh").unwrap();
    assert!(end.resources(Kind::VirtualService).is_empty());
    assert!(end.resources(Kind::DestinationRule).is_empty());
    assert!(planned(&end, None).waves.is_empty());
}

const OWN_ROUTES: &str = r"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: left-routes
  namespace: ring
spec:
  hosts:
  - left
  http:
  - name: reports
    match:
    - uri:
        prefix: /reports
      method:
        exact: GET
    timeout: 30s
    route:
    - destination:
        host: left
      weight: 100
  - route:
    - destination:
        host: left.ring.svc.cluster.local
    retries:
      attempts: 2
";

/// The pin goes into the user's own VirtualService, in front of each of its routes, and out of it again.
#[test]
fn callers_are_pinned_within_routes_of_the_users_own() {
    let snapshot = fixture_with("circle-of-deployments", OWN_ROUTES);
    let plan = planned(&snapshot, None);
    let mut problems = Vec::new();
    compare(
        "circle-of-deployments-with-routes",
        &transcript(&plan),
        &mut problems,
    );
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(plan.ending, PlanEnding::Done);
    for state in plan.waves.iter().flat_map(|wave| &wave.states) {
        assert!(state.differing.is_empty(), "{}", state.when);
    }
    let end = carried_out(&snapshot, &plan, "apply.sh").unwrap();
    let [own] = end.resources(Kind::VirtualService) else {
        panic!("the pins are gone, and the user's own routes are there");
    };
    let before = &snapshot.resources(Kind::VirtualService)[0];
    assert_eq!(own.body["spec"], before.body["spec"]);
    assert!(
        plan.waves
            .iter()
            .all(|wave| wave.way_back == WayBack::Proved),
        "{:?}",
        plan.waves
            .iter()
            .map(|wave| &wave.way_back)
            .collect::<Vec<_>>()
    );
}

/// What a route of the user's own does besides would be read otherwise with a pin: nothing is pinned then.
#[test]
fn routes_that_do_more_are_not_pinned_and_the_plan_says_why() {
    for (from, to, why) in [
        (
            "timeout: 30s",
            "fault: {abort: {httpStatus: 500, percentage: {value: 1}}}",
            "does more",
        ),
        (
            "  hosts:\n  - left\n",
            "  hosts:\n  - left\n  - old.example\n",
            "other hosts",
        ),
        (
            "  hosts:",
            "  exportTo: [\".\"]\n  hosts:",
            "some callers alone",
        ),
        (
            "  hosts:",
            "  gateways: [mesh, outer]\n  hosts:",
            "gateways",
        ),
        (
            "        prefix: /reports",
            "        prefix: /reports\n      sourceNamespace: ring",
            "waypoints",
        ),
    ] {
        assert!(OWN_ROUTES.contains(from), "{from}");
        let snapshot = fixture_with("circle-of-deployments", &OWN_ROUTES.replacen(from, to, 1));
        let plan = planned(&snapshot, None);
        let told = plan.held.iter().map(|held| held.why.as_str());
        let told: Vec<&str> = told.filter(|one| one.contains("left-routes")).collect();
        assert!(
            told.iter().any(|one| one.contains(why)),
            "{to}: {:?}",
            plan.held
        );
    }
}

/// A caller that was not seen need not move before a server that it would only lose.
#[test]
fn a_circle_that_telemetry_does_not_see_is_none() {
    let snapshot = fixture("circle");
    let name = |name: &str| ObjectName::new("ring", name);
    let calls = CallGraph {
        pairs: [(name("left"), name("right"))].into(),
        ..CallGraph::default()
    };
    let options = PlanOptions {
        calls: Some(calls),
        ..PlanOptions::default()
    };
    let plan = plan(
        &snapshot,
        snapshot.clone(),
        &MeshOverrides::default(),
        &options,
    );
    assert_eq!(plan.ending, PlanEnding::Done);
    assert_eq!(moved_in(&plan), [vec!["ring/left"], vec!["ring/right"]]);
    let notes = plan.waves.iter().flat_map(|wave| &wave.states);
    assert!(
        notes
            .flat_map(|state| state.notes.keys())
            .any(|note| note.contains("did not see")),
        "whom it leaves out is said"
    );
}

fn planned_with(snapshot: &Snapshot, on_gap: OnGap) -> Plan {
    plan(
        snapshot,
        snapshot.clone(),
        &MeshOverrides::default(),
        &PlanOptions {
            on_gap,
            ..PlanOptions::default()
        },
    )
}

/// What moves without a gap by policies for new pods moves so, too, where gaps would be let be.
#[test]
fn a_gap_is_not_accepted_where_there_is_a_way_without_one() {
    let snapshot = fixture("already-ambient");
    let slugs = |on_gap| -> Vec<(String, Vec<String>)> {
        let plan = planned_with(&snapshot, on_gap);
        let moves = plan.waves.into_iter();
        moves
            .filter(|wave| wave.slug.starts_with("move-"))
            .map(|wave| (wave.slug, wave.manifests.into_keys().collect()))
            .collect()
    };
    let stopping = slugs(OnGap::Stop);
    assert!(stopping.iter().any(|(_, files)| !files.is_empty()));
    assert_eq!(slugs(OnGap::Accept), stopping);
    assert_eq!(slugs(OnGap::Deny), stopping);
}

#[test]
fn an_accepted_gap_says_from_when_until_when_it_lasts() {
    let plan = planned_with(&fixture("circle"), OnGap::Accept);
    assert_eq!(plan.ending, PlanEnding::Done);
    let gaps: Vec<(String, &str, &str, Option<&str>)> = plan
        .gaps
        .iter()
        .map(|gap| {
            (
                gap.server.to_string(),
                gap.direction,
                gap.from.1.as_str(),
                gap.until.as_ref().map(|until| until.1.as_str()),
            )
        })
        .collect();
    let lasts = |server: &str| {
        (
            server.to_owned(),
            "breaks",
            "while old and new pods run side by side",
            Some("after the last pod is replaced"),
        )
    };
    assert_eq!(gaps, [lasts("ring/left"), lasts("ring/right")]);
}

#[test]
fn a_way_around_the_waypoint_that_would_open_is_closed() {
    let snapshot = fixture("circle-of-denials");
    let stopped = planned_with(&snapshot, OnGap::Stop);
    assert_eq!(stopped.ending, PlanEnding::Partial);
    assert!(stopped.held.iter().all(|held| held.why.contains("opens")));

    let denied = planned_with(&snapshot, OnGap::Deny);
    let mut problems = Vec::new();
    compare("circle-of-denials", &transcript(&denied), &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    assert!(
        denied.gaps.iter().all(|gap| gap.direction == "breaks"),
        "{:?}",
        denied.gaps
    );
    let end = carried_out(&snapshot, &denied, "apply.sh").unwrap();
    let locks = end.resources(Kind::AuthorizationPolicy).iter();
    assert_eq!(
        locks
            .filter(|one| one.metadata.name.ends_with("-only-through-waypoint"))
            .count(),
        2,
        "ztunnel knows no methods: the way around the waypoint stays closed"
    );
}

#[test]
fn a_way_around_that_was_always_open_is_closed_only_while_pods_are_replaced() {
    let mut snapshot = fixture("circle-of-denials");
    let strict = ObjectName::new("ring", "strict");
    snapshot.remove(Kind::PeerAuthentication, &strict);
    let denied = planned_with(&snapshot, OnGap::Deny);
    assert_eq!(denied.ending, PlanEnding::Done);
    let end = carried_out(&snapshot, &denied, "apply.sh").unwrap();
    let names = end.resources(Kind::AuthorizationPolicy).iter();
    assert!(
        names
            .map(|one| &one.metadata.name)
            .all(|name| !name.ends_with("-only-through-waypoint")),
        "a sidecar that dialled a pod had no identity and was let in before"
    );
}

#[test]
fn what_would_open_in_preparation_is_left_out_and_the_rest_goes_on() {
    let plan = planned(&fixture("already-ambient"), None);
    let mut problems = Vec::new();
    compare("already-ambient", &transcript(&plan), &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(plan.ending, PlanEnding::Partial);
    assert_eq!(plan.gaps, [], "it stops where there is a gap");
    assert_eq!(moved_in(&plan), [["legacy/late"]]);
    let left_out: Vec<&str> = plan.left_out.iter().map(|one| one.what.as_str()).collect();
    assert_eq!(
        left_out,
        ["`kubectl label namespace modern istio.io/use-waypoint=waypoint`"]
    );
    let accepted = planned_with(&fixture("already-ambient"), OnGap::Accept);
    assert_eq!(accepted.left_out, []);
    assert!(!accepted.gaps.is_empty());
}
