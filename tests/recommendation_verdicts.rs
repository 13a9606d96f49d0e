//! Each recommendation carries what was proved of it, and each server its row.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use castoff::finding::{
    CheckOutcome, CheckResult, Code, Finding, Level, Phase, PhaseOutcome, PhaseResult, Remedy,
    RowVerdict,
};
use castoff::mesh::{Mesh, MeshOverrides};
use castoff::phases::MigrateOptions;
use castoff::plan::recommended;
use castoff::plan::wave::State;
use serde_json::{Value, json};

fn migrate(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .arg("migrate")
        .args(arguments)
        .env("NO_COLOR", "1")
        .current_dir(folder)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

/// Message and proof of each recommendation.
fn recommendations(report: &Value) -> Vec<(String, Value)> {
    let list = |value: &Value| value.as_array().unwrap().clone();
    let checks = list(&report["phases"])
        .into_iter()
        .flat_map(|phase| list(&phase["checks"]));
    checks
        .flat_map(|check| list(&check["findings"]))
        .filter(|finding| finding["level"] == "recommendation")
        .map(|finding| {
            let message = finding["message"].as_str().unwrap().to_owned();
            (message, finding["proof"].clone())
        })
        .collect()
}

#[test]
fn the_demo_s_recommendations_are_the_same_and_each_server_has_its_row() {
    let folder = tempfile::tempdir().unwrap();
    let all = ["--demo", "--ignore-failures"];
    let (_, text) = migrate(folder.path(), &all);
    let waypoint = text.split("🔮 Namespace \"payments\" may require").nth(1);
    let beneath = waypoint.unwrap().split('🔮').next().unwrap();
    assert!(
        beneath.contains("\n  ✅ same: nobody gains or loses access\n"),
        "{text}"
    );
    assert!(
        text.contains(
            "• Servers, after the recommendations of phase deploy-waypoints\n✅ 7 servers: same by Service · outsiders \
             denied before and after\n"
        ),
        "{text}"
    );
    // These phases say what must wait: there is nothing to prove.
    for phase in ["migrate-policies", "use-waypoints", "remove-sidecars"] {
        let after = format!("after the recommendations of phase {phase}");
        assert!(!text.contains(&after), "{text}");
    }
    let (_, verbose) = migrate(folder.path(), &[&all[..], &["-v"]].concat());
    let row = "✅ payments/ledger: same by Service · outsiders denied before and after\n";
    assert!(verbose.contains(row), "{verbose}");
    let (_, report) = migrate(folder.path(), &[&all[..], &["-o", "json"]].concat());
    let report: Value = serde_json::from_str(&report).unwrap();
    for (message, proof) in recommendations(&report) {
        if message.contains("may require a waypoint") {
            let proved = json!({
                "verdict": "same", "differing": [], "differingServers": 0, "alreadyDiffering": 0,
                "notProved": null, "togetherWith": 0,
            });
            assert_eq!(proof, proved, "{message}");
        } else {
            assert_eq!(proof, Value::Null, "{message}");
        }
    }
    let rows = report["access"]["serversInTheEnd"].as_array().unwrap();
    assert_eq!(rows.len(), 7);
    assert!(rows.iter().all(|row| row["verdict"] == "same"), "{rows:?}");
}

/// A mesh with sidecars of a build whose sidecars use waypoints, and a waypoint for `shop`.
fn write_mesh(folder: &Path, more: &str) {
    let fixture =
        |name: &str| fs::read_to_string(Path::new("tests/fixtures/traps").join(name)).unwrap();
    let mesh = fixture("mesh.yaml").replace(
        "metadata: {name: shop, labels: {istio-injection: enabled}}",
        "metadata: {name: shop, labels: {istio-injection: enabled, istio.io/use-waypoint: waypoint}}",
    );
    let moved = fixture("moved.yaml");
    let (_, waypoint) = moved.rsplit_once("---\n").unwrap();
    let [cluster, control_plane] = [0, 1].map(|index| castoff::demo::FILES[index].1);
    let files = [cluster, control_plane, &mesh, waypoint, more];
    fs::write(folder.join("mesh.yaml"), files.join("\n---\n")).unwrap();
}

/// A server whose sidecar has an EnvoyFilter.
const FILTERED: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: edge, labels: {istio-injection: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: cache, namespace: edge}
spec:
  selector: {matchLabels: {app: cache}}
  template:
    metadata: {labels: {app: cache}}
    spec:
      serviceAccountName: cache
      containers: [{name: app, image: 'registry.example/cache:1', ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: cache, namespace: edge}
spec: {clusterIP: 10.96.0.11, selector: {app: cache}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: limit, namespace: edge}
spec:
  workloadSelector: {labels: {app: cache}}
  configPatches: [{applyTo: HTTP_FILTER, match: {context: SIDECAR_INBOUND}, patch: {operation: INSERT_BEFORE, value: {name: x}}}]
";

const REMOVE: [&str; 6] = [
    "--from-files",
    "mesh.yaml",
    "--distribution",
    "solo",
    "--phase",
    "remove-sidecars",
];

fn proof_of(report: &str, start: &str) -> Value {
    let report: Value = serde_json::from_str(report).unwrap();
    let all = recommendations(&report);
    let mut found = all.iter().filter(|(message, _)| message.starts_with(start));
    found.next().unwrap().1.clone()
}

#[test]
fn of_two_recommendations_of_one_phase_one_opens_and_breaks() {
    let folder = tempfile::tempdir().unwrap();
    // A DENY that ztunnel reads wider, and its copy for the waypoint.
    let [original, copy] = ["before", "naive"].map(|name| {
        let path = format!(
            "tests/fixtures/traps/request-denial-of-a-caller-kept-at-moved-pods/{name}.yaml"
        );
        fs::read_to_string(path).unwrap()
    });
    write_mesh(folder.path(), &format!("{original}\n---\n{copy}"));
    let (exit, text) = migrate(folder.path(), &REMOVE);
    assert_eq!(exit, Some(3), "{text}");
    let json = [&REMOVE[..], &["-o", "json"]].concat();
    let (_, report) = migrate(folder.path(), &json);
    let desk = proof_of(&report, "namespace desk can disable");
    assert_eq!(desk["verdict"], "same", "{desk}");
    let shop = proof_of(&report, "namespace shop can disable");
    assert_eq!(shop["verdict"], "opensAndBreaks", "{shop}");
    assert_eq!(shop["differingServers"], 1);
    assert_eq!(shop["differing"][0]["server"], "shop/orders");
    let after = |start: &str| {
        let rest = text.split(start).nth(1).unwrap();
        rest.split("\nℹ️").next().unwrap().to_owned()
    };
    let desk = after("🔮 namespace desk can disable");
    assert!(
        desk.ends_with("\n  ✅ same: nobody gains or loses access"),
        "{text}"
    );
    let shop = after("🔮 namespace shop can disable");
    assert!(
        shop.contains("\n  ⛔ opens and breaks shop/orders:\n"),
        "{text}"
    );
    assert!(
        shop.contains("      now: denied at the ztunnel of shop/orders by shop/orders rule 1"),
        "{text}"
    );
    assert!(
        text.contains("\n⛔ shop/orders: opens and breaks by Service"),
        "{text}"
    );
    for (format, wanted) in [
        ("markdown", "  - ⛔ opens and breaks shop/orders:<br>"),
        (
            "junit",
            "ambient\">same: nobody gains or loses access</failure>",
        ),
        ("sarif", "\"verdict\": \"opensAndBreaks\""),
    ] {
        let (_, page) = migrate(folder.path(), &[&REMOVE[..], &["-o", format]].concat());
        assert!(page.contains(wanted), "{format}: {page}");
    }
}

#[test]
fn what_is_undecided_since_an_earlier_recommendation_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    write_mesh(folder.path(), FILTERED);
    let json = [&REMOVE[..], &["-o", "json"]].concat();
    let (exit, report) = migrate(folder.path(), &json);
    assert_eq!(exit, Some(4), "{report}");
    let desk = proof_of(&report, "namespace desk can disable");
    assert_eq!(desk["verdict"], "undecided", "{desk}");
    assert_eq!(desk["differing"][0]["server"], "edge/cache");
    let why = desk["differing"][0]["lines"]["undecided"][0].as_str();
    assert!(
        why.unwrap().starts_with("hangs on EnvoyFilter edge/limit"),
        "{desk}"
    );
    let shop = proof_of(&report, "namespace shop can disable");
    assert_eq!(shop["verdict"], "same", "{shop}");
    assert_eq!(shop["alreadyDiffering"], 1);
    let (_, text) = migrate(folder.path(), &REMOVE);
    assert!(
        text.contains("same: nobody gains or loses access (1 server was not the same before it, and still is not)"),
        "{text}"
    );
}

#[test]
fn a_server_that_the_baseline_lacks_makes_recommendations_undecided() {
    let folder = tempfile::tempdir().unwrap();
    write_mesh(folder.path(), "");
    fs::rename(
        folder.path().join("mesh.yaml"),
        folder.path().join("before.yaml"),
    )
    .unwrap();
    write_mesh(
        folder.path(),
        FILTERED
            .split("---\napiVersion: networking")
            .next()
            .unwrap(),
    );
    let arguments = [&REMOVE[..], &["--baseline", "before.yaml", "-o", "json"]].concat();
    let (exit, report) = migrate(folder.path(), &arguments);
    assert_eq!(exit, Some(4), "{report}");
    let shop = proof_of(&report, "namespace shop can disable");
    assert_eq!(shop["verdict"], "undecided", "{shop}");
    assert_eq!(shop["differing"], json!([]));
    assert_eq!(
        shop["notProved"],
        "not in the baseline, so that nothing is compared: edge/cache"
    );
}

/// A DENY of requests at `shop/orders`, and its copy for the waypoint.
const NO_POST: &str = "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  action: DENY
  rules: [{to: [{operation: {methods: [POST]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders-copy, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: orders}]
  action: DENY
  rules: [{to: [{operation: {methods: [POST]}}]}]
";

/// What is said of the last workload with a sidecar, whose callers have moved.
fn last_to_move(by_waypoint: bool) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    write_mesh(folder.path(), NO_POST);
    let path = folder.path().join("mesh.yaml");
    let mut mesh = fs::read_to_string(&path).unwrap();
    if by_waypoint {
        mesh = mesh.replace(
            "metadata: {name: orders, namespace: shop}\nspec: {clusterIP",
            "metadata: {name: orders, namespace: shop, labels: {istio.io/ingress-use-waypoint: 'true'}}\nspec: {clusterIP",
        );
    }
    fs::write(folder.path().join("before.yaml"), &mesh).unwrap();
    let now = mesh
        .replace(
            "metadata: {name: desk, labels: {istio-injection: enabled}}",
            "metadata: {name: desk, labels: {istio.io/dataplane-mode: ambient}}",
        )
        .replace(
            "metadata: {labels: {app: stock}}",
            "metadata: {labels: {app: stock, sidecar.istio.io/inject: 'false', istio.io/dataplane-mode: ambient}}",
        );
    fs::write(&path, now).unwrap();
    let arguments = [
        "--from-files",
        "mesh.yaml",
        "--baseline",
        "before.yaml",
        "--phase",
        "remove-sidecars",
    ];
    migrate(folder.path(), &arguments)
}

#[test]
fn policies_that_close_new_pods_count_while_old_ones_are_replaced() {
    let (exit, text) = last_to_move(true);
    assert_eq!(exit, Some(2), "{text}");
    assert!(!text.contains('⛔') && !text.contains('❌'), "{text}");
    for start in ["close new pods to everyone", "move Deployment shop/orders"] {
        let start = format!("🔮 These can leave their sidecars now: {start}");
        let said = text.split(&start).nth(1).unwrap();
        let said = said.split("\n🔮").next().unwrap();
        assert!(
            said.contains("\n  ✅ same: nobody gains or loses access"),
            "{text}"
        );
    }
    let state = "✅ while old and new pods run side by side, from the recommendations of phase remove-sidecars: 4 servers";
    assert!(text.contains(state), "{text}");
}

#[test]
fn what_must_keep_its_sidecar_is_left_to_do() {
    let (exit, text) = last_to_move(false);
    assert_eq!(exit, Some(2), "{text}");
    assert!(
        text.contains("🔮 shop/orders must keep its sidecar: moving it opens shop/orders"),
        "{text}"
    );
    assert!(!text.contains("Nothing is left to do"), "{text}");
    // There is nothing to carry out, so that there is no state after it.
    assert!(
        !text.contains("after the recommendations of phase"),
        "{text}"
    );
}

/// A phase that recommends these commands, each by itself.
fn recommends(phase: Phase, commands: &[&str]) -> PhaseResult {
    let findings = commands.iter().map(|command| {
        Finding::new(Code("CAST0000"), Level::Recommendation, *command)
            .remedy(Remedy::command_without_undo(*command))
    });
    PhaseResult {
        phase,
        outcome: PhaseOutcome::Recommends,
        checks: vec![CheckResult {
            code: Code("CAST0000"),
            name: "",
            outcome: CheckOutcome::Passed,
            findings: findings.collect(),
        }],
        artefacts: Vec::new(),
    }
}

#[test]
fn what_opens_until_the_next_recommendation_is_carried_out_is_told() {
    let snapshot = castoff::demo::snapshot().unwrap();
    let overrides = MeshOverrides::default();
    let baseline = Mesh::build(&snapshot, &overrides);
    let inject = |value: &str| {
        format!(
            "kubectl patch deployment -n bookshop catalog --type=merge -p '{{\"spec\":{{\"template\":{{\"metadata\":\
             {{\"labels\":{{\"sidecar.istio.io/inject\":\"{value}\"}}}}}}}}}}'"
        )
    };
    let mut results = [recommends(
        Phase::UseWaypoints,
        &[&inject("false"), &inject("true")],
    )];
    let options = MigrateOptions::default();
    let access = recommended::prove(&baseline, &snapshot, &overrides, &options, &mut results);
    let findings = results[0].checks[0].findings.iter();
    let verdicts: Vec<RowVerdict> = findings
        .map(|finding| finding.proof.as_ref().unwrap().verdict())
        .collect();
    // Pods without sidecar in a namespace that is not ambient let everybody in, old ones beside them or not.
    assert_eq!(verdicts, [RowVerdict::Opens, RowVerdict::Same]);
    // The last state, after both, has nothing to say.
    let [(_, states)] = access.phases.as_slice() else {
        panic!("{:?}", access.phases);
    };
    let (last, between) = states.split_last().unwrap();
    assert_eq!(last.differing.len(), 0);
    let without = |state: &State| {
        state
            .when
            .starts_with(&format!("after `{}", inject("false")))
    };
    assert!(between.iter().any(without), "{states:?}");
    assert!(between.iter().all(|state| !state.differing.is_empty()));
}

#[test]
fn what_cannot_be_played_is_undecided_and_so_is_what_comes_after() {
    let snapshot = castoff::demo::snapshot().unwrap();
    let overrides = MeshOverrides::default();
    let baseline = Mesh::build(&snapshot, &overrides);
    let opens =
        "kubectl delete authorizationpolicies.security.istio.io -n bookshop catalog-readers";
    let mut results = [
        recommends(
            Phase::UseWaypoints,
            &[
                "kubectl label namespace bookshop team=books",
                opens,
                "kubectl label namespace gone team=none",
                "kubectl label namespace payments team=money",
            ],
        ),
        recommends(
            Phase::RemoveSidecars,
            &[
                "istioctl x does-not-matter",
                "kubectl label namespace bookshop team-",
            ],
        ),
    ];
    let options = MigrateOptions::default();
    let access = recommended::prove(&baseline, &snapshot, &overrides, &options, &mut results);
    let findings = results.iter().flat_map(|result| &result.checks[0].findings);
    let proofs: Vec<(RowVerdict, Option<&str>)> = findings
        .map(|finding| {
            let proof = finding.proof.as_ref().unwrap();
            (proof.verdict(), proof.not_proved.as_deref())
        })
        .collect();
    let beyond = Some("it comes after what could not be played");
    assert_eq!(
        proofs,
        [
            (RowVerdict::Same, None),
            (RowVerdict::Opens, None),
            (
                RowVerdict::Undecided,
                Some("`kubectl label namespace gone team=none`: namespaces `gone` not found")
            ),
            (RowVerdict::Undecided, beyond),
            (RowVerdict::Undecided, beyond),
            (RowVerdict::Undecided, beyond),
        ]
    );
    assert_eq!(access.not_played.len(), 1);
    // What was played is shown: somebody gains.
    assert!(access.states().any(|state| state.witnessed().count() > 0));
}
