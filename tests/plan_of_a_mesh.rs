//! Plans of small meshes as people meet them: gateways that hang on a namespace's label, Jobs, what differs before the
//! plan begins, what it leaves as it is, and scripts that are run a second time.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;

use castoff::mesh::{Distribution, Mesh, MeshOverrides};
use castoff::phases::{self, Context, MigrateOptions};
use castoff::plan::{OnGap, Plan, PlanEnding, PlanOptions, plan};
use castoff::report::plan::{PlanReport, folder};
use castoff::report::text::Style;
use castoff::simulate::{execute, parse_script, settle};
use castoff::snapshot::{Kind, Snapshot};
use castoff::source::{Collector, Place};

/// A mesh of `tests/fixtures/plan` with what is to be replaced in it, in the cluster of the demo.
fn changed(name: &str, changes: &[(&str, &str)]) -> Snapshot {
    let mut text = std::fs::read_to_string(format!("tests/fixtures/plan/{name}.yaml")).unwrap();
    for (old, new) in changes {
        assert!(text.contains(old), "{old} is not in {name}");
        text = text.replace(old, new);
    }
    let mut collector = Collector::new();
    for (file, text) in &castoff::demo::FILES[..2] {
        collector.add_text(&Place::Demo(file), text);
    }
    collector.add_text(&Place::File(name.into()), &text);
    collector.finish()
}

fn planned(baseline: &Snapshot, now: &Snapshot, options: &PlanOptions) -> Plan {
    let overrides = MeshOverrides {
        distribution: Some(Distribution::Upstream),
        ..MeshOverrides::default()
    };
    plan(baseline, now.clone(), &overrides, options)
}

fn planned_at_once(snapshot: &Snapshot) -> Plan {
    planned(snapshot, snapshot, &PlanOptions::default())
}

fn report(plan: &Plan) -> PlanReport {
    PlanReport::new(plan, String::new(), String::new(), Vec::new())
}

fn text(plan: &Plan) -> String {
    report(plan).text(Style::default())
}

fn files(plan: &Plan) -> BTreeMap<String, String> {
    folder::files(plan, &report(plan))
}

fn commands(plan: &Plan) -> Vec<String> {
    let steps = plan.waves.iter().flat_map(|wave| &wave.steps);
    steps.flat_map(|step| step.run.clone()).collect()
}

/// How new pods of the gateway come to their proxy after a plan was carried out.
fn gateway_is_injected(snapshot: &Snapshot, plan: &Plan) -> bool {
    let mut now = snapshot.clone();
    for wave in &plan.waves {
        let run = wave.steps.iter().flat_map(|step| step.run.clone());
        let commands = parse_script(&run.collect::<Vec<_>>().join("\n")).unwrap();
        execute(&mut now, &commands, &wave.manifests).unwrap();
        settle(&mut now);
    }
    let namespace = now
        .namespaces
        .iter()
        .find(|one| one.metadata.name == "edge");
    let labels = &namespace.unwrap().metadata.labels;
    labels.has("istio-injection", "enabled") || labels.has("istio.io/rev", "stable")
}

/// A revision tag, whose webhook takes namespaces and pods that name it.
const TAG: (&str, &str) = (
    "kind: Service\n",
    "kind: List\nitems: []\n---\napiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\nmetadata:\n  \
     name: istio-revision-tag-stable\n  labels: {app: sidecar-injector, istio.io/rev: default, istio.io/tag: stable}\nwebhooks:\n\
     - name: rev.namespace.sidecar-injector.istio.io\n  namespaceSelector: {matchExpressions: [{key: istio.io/rev, operator: In, \
     values: [stable]}, {key: istio-injection, operator: DoesNotExist}]}\n  objectSelector: {matchExpressions: [{key: \
     sidecar.istio.io/inject, operator: NotIn, values: ['false']}]}\n---\napiVersion: v1\nkind: Service\n",
);

const PATCH: &str = "kubectl patch deployment -n edge web --type=merge -p \
    '{\"spec\":{\"template\":{\"metadata\":{\"labels\":{\"sidecar.istio.io/inject\":\"false\",\"istio.io/dataplane-mode\":\"ambient\"}}}}}'";

#[test]
fn a_namespace_keeps_the_label_by_which_a_gateway_gets_its_proxy() {
    let revision = ("istio-injection: enabled", "istio.io/rev: stable");
    for (changes, own) in [
        (vec![], "sidecar.istio.io/inject=\"true\""),
        (vec![revision, TAG], "istio.io/rev=stable"),
    ] {
        let snapshot = changed("injected-gateway", &changes);
        let plan = planned_at_once(&snapshot);
        assert_eq!(plan.ending, PlanEnding::Done, "{}", text(&plan));
        let commands = commands(&plan);
        assert!(commands.contains(&PATCH.to_owned()), "{commands:#?}");
        assert!(
            !commands.iter().any(|run| run.contains("label ns edge")),
            "{commands:#?}"
        );
        assert!(gateway_is_injected(&snapshot, &plan));
        let text = text(&plan);
        assert!(text.contains("(Deployment edge/gateway)"), "{text}");
        assert!(text.contains(&format!("with the label {own}")), "{text}");
    }
}

#[test]
fn so_does_one_whose_gateway_serves_a_gateway_object() {
    let named = (
        "labels: {app: gateway}, annotations",
        "labels: {app: gateway, gateway.networking.k8s.io/gateway-name: edge}, annotations",
    );
    let plan = planned_at_once(&changed("injected-gateway", &[named]));
    assert!(
        commands(&plan).contains(&PATCH.to_owned()),
        "{}",
        text(&plan)
    );
}

#[test]
fn a_gateway_with_a_label_of_its_own_holds_no_namespace() {
    let own = (
        "labels: {app: gateway}, annotations",
        "labels: {app: gateway, sidecar.istio.io/inject: 'true'}, annotations",
    );
    let plan = planned_at_once(&changed("injected-gateway", &[own]));
    let commands = commands(&plan);
    let label = "kubectl label ns edge istio-injection-".to_owned();
    assert!(commands.contains(&label), "{commands:#?}");
}

#[test]
fn migrate_moves_by_pod_template_beside_such_a_gateway() {
    let snapshot = changed("injected-gateway", &[]);
    let mesh = Mesh::build(&snapshot, &MeshOverrides::default());
    let options = MigrateOptions {
        ignore_failures: true,
        ..MigrateOptions::default()
    };
    let results = phases::run(&Context::new(&mesh, &snapshot, &options));
    let said: Vec<String> = results
        .iter()
        .flat_map(|result| &result.checks)
        .flat_map(|check| &check.findings)
        .map(|finding| finding.message.clone())
        .filter(|message| message.contains("sidecar") && message.contains("edge"))
        .collect();
    assert!(
        said.iter().any(|one| one
            == &format!(
                "Deployment edge/web can leave its sidecar by its pod template, since namespace edge keeps its label for \
                 Deployment edge/gateway: {PATCH}"
            )),
        "{said:#?}"
    );
    assert!(
        !said.iter().any(|one| one.contains("istio-injection-")),
        "{said:#?}"
    );
}

#[test]
fn a_job_that_has_ended_is_nobodys_caller_and_one_that_runs_is_named() {
    let snapshot = changed("callers-that-end", &[]);
    let plan = planned_at_once(&snapshot);
    let held: Vec<String> = plan
        .held
        .iter()
        .map(|one| one.workload.to_string())
        .collect();
    assert_eq!(held, ["work/store"], "{}", text(&plan));
    let wait = "Job work/nightly-29001 still runs with a sidecar: plan again when it has ended";
    assert_eq!(plan.held[0].ways_out.first().unwrap(), wait);
    let telemetry = plan.held[0]
        .ways_out
        .iter()
        .filter(|way| way.contains("`--traffic`"));
    assert_eq!(telemetry.count(), 1, "{:?}", plan.held[0]);

    let mut ended = snapshot.clone();
    ended
        .pods
        .retain(|pod| pod.metadata.name != "nightly-29001-x1");
    let plan = planned_at_once(&ended);
    assert_eq!(plan.ending, PlanEnding::Done, "{}", text(&plan));
}

#[test]
fn the_witness_of_a_gap_differs_all_the_while_that_it_lasts() {
    let options = PlanOptions {
        on_gap: OnGap::Accept,
        ..PlanOptions::default()
    };
    for name in ["circle-of-denials", "circle", "star"] {
        let snapshot = changed(name, &[]);
        let plan = planned(&snapshot, &snapshot, &options);
        let states: Vec<_> = (1..)
            .zip(&plan.waves)
            .flat_map(|(number, wave)| {
                wave.states
                    .iter()
                    .map(move |state| ((number, state.when.clone()), state))
            })
            .collect();
        assert!(!plan.gaps.is_empty());
        let place = |wanted: &(usize, String)| {
            states
                .iter()
                .position(|(place, _)| place == wanted)
                .unwrap()
        };
        // Every difference of every state is in a gap that lasts then, for the same callers.
        for (index, (_, state)) in states.iter().enumerate() {
            for row in state.witnessed() {
                for answer in &row.differences {
                    for (direction, finding) in [
                        ("opens", &answer.verdict.opens),
                        ("breaks", &answer.verdict.breaks),
                    ] {
                        let Some(_) = answer.witness_lines(finding) else {
                            continue;
                        };
                        let requests: Vec<String> = row
                            .differences
                            .iter()
                            .filter(|one| one.callers == answer.callers)
                            .flat_map(|one| {
                                [&one.verdict.opens, &one.verdict.breaks]
                                    .map(|found| one.witness_lines(found))
                            })
                            .flatten()
                            .map(|lines| lines[0].clone())
                            .collect();
                        let lasts = plan.gaps.iter().any(|gap| {
                            let until = gap.until.as_ref().map_or(states.len(), place);
                            gap.server == row.server
                                && gap.direction == direction
                                && (place(&gap.from)..until).contains(&index)
                                && requests.contains(&gap.lines[0])
                        });
                        assert!(
                            lasts,
                            "{name}: {direction} of {} in {}: {:#?}",
                            row.server, state.when, plan.gaps
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn what_differs_before_the_first_wave_is_no_doing_of_the_plan() {
    let baseline = changed("injected-gateway", &[]);
    let mut now = baseline.clone();
    let denial = "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: nobody, namespace: edge}\n\
                  spec: {selector: {matchLabels: {app: web}}, action: DENY, rules: [{}]}\n";
    castoff::source::apply_text(&mut now, &Place::Simulated, denial).unwrap();
    let plan = planned(&baseline, &now, &PlanOptions::default());
    assert!(!plan.gaps.is_empty(), "{}", text(&plan));
    for gap in &plan.gaps {
        assert_eq!((gap.from.0, &gap.until), (0, &None), "{gap:#?}");
    }
    let said = "edge/web breaks from before the first wave, by no doing of the plan: the state read differs from the \
                baseline already, until the end of the plan";
    assert!(text(&plan).contains(said), "{}", text(&plan));
    let page = &files(&plan)["plan.md"];
    assert!(page.contains("by no doing of the plan"));
    assert_eq!(
        page.matches("breaks, as before the first wave").count(),
        plan.waves.len(),
        "{page}"
    );
    assert!(report(&plan).waves.iter().all(|wave| wave.differs_already));
}

#[test]
fn the_end_says_what_was_not_planned_and_what_is_no_part_of_the_mesh() {
    let options = PlanOptions {
        migrate: MigrateOptions {
            namespaces: ["edge".to_owned()].into(),
            ..MigrateOptions::default()
        },
        ..PlanOptions::default()
    };
    let other = (
        "kind: Service\n",
        "kind: Namespace\nmetadata: {name: back, labels: {istio-injection: enabled}}\n---\napiVersion: apps/v1\nkind: Deployment\n\
         metadata: {name: api, namespace: back}\nspec:\n  selector: {matchLabels: {app: api}}\n  template:\n    metadata: \
         {labels: {app: api}}\n    spec: {containers: [{name: app, image: 'registry.example/api:1'}]}\n---\napiVersion: v1\n\
         kind: Namespace\nmetadata: {name: plain}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: tool, \
         namespace: plain}\nspec:\n  selector: {matchLabels: {app: tool}}\n  template:\n    metadata: {labels: {app: tool}}\n    \
         spec: {containers: [{name: app, image: 'registry.example/tool:1'}]}\n---\napiVersion: v1\nkind: Service\n",
    );
    let snapshot = changed("injected-gateway", &[other]);
    let plan = planned(&snapshot, &snapshot, &options);
    let said = "At the end every workload that was to leave its sidecar is in ambient mode; only namespace edge was planned, and \
                1 workload of others with sidecars was not (back/api).\n";
    assert!(text(&plan).ends_with(said), "{}", text(&plan));
    let mut none = options.clone();
    none.migrate.namespaces = ["plain".to_owned()].into();
    let said = "Nothing to do: no workload of what was to be planned has a sidecar; only namespace plain was planned, and 2 \
                workloads of others with sidecars were not (back/api, edge/web); 1 workload stays outside the mesh: \
                plain/tool.\n";
    let nothing = planned(&snapshot, &snapshot, &none);
    assert!(text(&nothing).ends_with(said), "{}", text(&nothing));
    let plan = planned_at_once(&snapshot);
    let said = "is in ambient mode; 1 workload stays outside the mesh: plain/tool.\n";
    assert!(text(&plan).ends_with(said), "{}", text(&plan));
    assert!(files(&plan)["plan.md"].contains("- 1 workload stays outside the mesh: plain/tool\n"));
}

#[test]
fn scripts_can_be_run_again() {
    for name in ["bookinfo", "circle-of-deployments"] {
        let snapshot = changed(name, &[]);
        let plan = planned_at_once(&snapshot);
        let report = report(&plan);
        let files = files(&plan);
        let mut now = snapshot.clone();
        let twice = |now: &mut Snapshot, folder: &str, script: &str| {
            let here: BTreeMap<String, String> = files
                .iter()
                .filter_map(|(path, text)| {
                    Some((
                        path.strip_prefix(&format!("{folder}/"))?.to_owned(),
                        text.clone(),
                    ))
                })
                .collect();
            let commands = parse_script(&here[script]).unwrap();
            for _ in 0..2 {
                execute(now, &commands, &here)
                    .unwrap_or_else(|error| panic!("{folder}/{script}: {error:?}"));
                settle(now);
            }
        };
        for wave in &report.waves {
            twice(&mut now, &wave.folder, "apply.sh");
        }
        for wave in report.waves.iter().rev() {
            twice(&mut now, &wave.folder, "rollback.sh");
        }
        let policies = |snapshot: &Snapshot| snapshot.resources(Kind::AuthorizationPolicy).len();
        assert_eq!(policies(&now), policies(&snapshot));
    }
}

#[test]
fn policies_for_pods_are_waited_for_until_ztunnel_has_them() {
    let options = PlanOptions {
        on_gap: OnGap::Deny,
        ..PlanOptions::default()
    };
    let snapshot = changed("circle-of-denials", &[]);
    let plan = planned(&snapshot, &snapshot, &options);
    let locks = plan.waves.iter().flat_map(|wave| &wave.steps);
    let mut locks = locks.filter(|step| step.run == ["kubectl apply -f locks.yaml"]);
    let wait = "kubectl wait --for=condition=ZtunnelAccepted --timeout=5m \
                authorizationpolicies.security.istio.io/left-only-through-waypoint -n ring";
    assert!(locks.next().unwrap().settled.contains(&wait.to_owned()));
}

#[test]
fn a_circle_waits_for_its_new_pods_and_not_for_a_number() {
    let plan = planned_at_once(&changed("circle-of-deployments", &[]));
    let steps = plan.waves.iter().flat_map(|wave| &wave.steps);
    let beside = steps.filter(|step| step.what.starts_with("start ambient pods"));
    let waits: Vec<&String> = beside.flat_map(|step| &step.settled).collect();
    assert_eq!(
        waits[2],
        "kubectl wait pods -n ring -l app=left,istio.io/dataplane-mode=ambient --for=condition=Ready --timeout=10m"
    );
    assert!(
        waits.iter().all(|wait| !wait.contains("readyReplicas")),
        "{waits:#?}"
    );
}
