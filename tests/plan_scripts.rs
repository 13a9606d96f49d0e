//! What the scripts of a plan say and do beyond its proof: how pods come to be replaced, what is waited
//! for, what is said beside a command.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::BTreeMap;

use castoff::mesh::{Distribution, MeshOverrides};
use castoff::plan::{OnGap, Plan, PlanOptions, plan};
use castoff::report::plan::{PlanReport, folder};
use castoff::simulate::{execute, parse_script};
use castoff::snapshot::Snapshot;
use castoff::source::{Collector, Place};

/// A mesh of `tests/fixtures/plan`, in the cluster of the demo.
fn fixture(name: &str) -> Snapshot {
    let mut collector = Collector::new();
    for (file, text) in &castoff::demo::FILES[..2] {
        collector.add_text(&Place::Demo(file), text);
    }
    let path = format!("tests/fixtures/plan/{name}.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    collector.add_text(&Place::File(path.as_str().into()), &text);
    collector.finish()
}

fn planned(snapshot: &Snapshot, distribution: Distribution, on_gap: OnGap) -> Plan {
    let overrides = MeshOverrides {
        distribution: Some(distribution),
        ..MeshOverrides::default()
    };
    let options = PlanOptions {
        on_gap,
        ..PlanOptions::default()
    };
    plan(snapshot, snapshot.clone(), &overrides, &options)
}

/// Every file of the folder.
fn files(plan: &Plan) -> BTreeMap<String, String> {
    let report = PlanReport::new(plan, String::new(), String::new(), Vec::new());
    folder::files(plan, &report)
}

/// The one script of this name in a wave whose folder ends so.
fn script<'f>(files: &'f BTreeMap<String, String>, wave: &str, name: &str) -> &'f str {
    let end = format!("{wave}/{name}");
    let mut found = files.iter().filter(|(path, _)| path.ends_with(&end));
    let (_, script) = found.next().unwrap_or_else(|| panic!("no {end}"));
    assert!(found.next().is_none(), "several {end}");
    script
}

/// Lines that are no comment.
fn commands(script: &str) -> Vec<&str> {
    script
        .lines()
        .filter(|line| line.starts_with("kubectl "))
        .collect()
}

/// Each pod, and whether it has a sidecar.
fn pods(snapshot: &Snapshot) -> Vec<(String, bool)> {
    let one = |pod: &castoff::snapshot::Object<castoff::api::pod::Pod>| {
        let sidecar = pod.body.spec.containers.iter();
        let sidecar = sidecar
            .map(|one| one.name.as_str())
            .any(|name| name == "istio-proxy");
        (pod.object_name().to_string(), sidecar)
    };
    let mut pods: Vec<_> = snapshot.pods.iter().map(one).collect();
    pods.retain(|(name, _)| name.starts_with("kinds/") || name.starts_with("labelled/"));
    pods.sort();
    pods
}

#[test]
fn pods_that_nobody_replaces_are_deleted_and_waited_for() {
    let snapshot = fixture("owners");
    let plan = planned(&snapshot, Distribution::Upstream, OnGap::Stop);
    let files = files(&plan);
    let apply = script(&files, "move-several", "apply.sh");
    let rollback = script(&files, "move-several", "rollback.sh");
    for script in [apply, rollback] {
        let commands = commands(script);
        for owner in ["statefulset -n kinds store", "daemonset -n kinds agent"] {
            assert!(
                !commands
                    .contains(&format!("kubectl rollout status {owner} --timeout=10m").as_str()),
                "it would end with an error: {script}"
            );
        }
        for expected in [
            "kubectl delete pods -n kinds -l app=store",
            "kubectl delete pods -n kinds -l app=agent",
            "kubectl delete pods -n kinds -l app=plain",
            "kubectl delete pods -n labelled -l app=store",
            "kubectl wait statefulset -n kinds store --for=jsonpath='{.status.readyReplicas}'=2 --timeout=10m",
            "kubectl wait daemonset -n kinds agent --for=jsonpath='{.status.numberReady}'=2 --timeout=10m",
            "kubectl wait replicaset -n kinds plain --for=jsonpath='{.status.readyReplicas}'=1 --timeout=10m",
            "kubectl argo rollouts status -n kinds canary --timeout=10m",
        ] {
            assert!(
                commands.contains(&expected),
                "{expected} is not in {script}"
            );
        }
    }
    assert!(apply.contains("CronJob kinds/nightly starts pods without sidecars with its next run"));
    assert!(rollback.contains("CronJob kinds/nightly starts pods with sidecars with its next run"));
    assert!(apply.contains("every pod of DaemonSet labelled/unseen is Ready without a sidecar"));
    let held: Vec<String> = plan
        .held
        .iter()
        .map(|one| one.workload.to_string())
        .collect();
    assert_eq!(held, ["kinds/partly", "kinds/paused"]);
    assert!(
        plan.held[1]
            .why
            .contains("kubectl rollout resume deployment -n kinds paused")
    );
}

#[test]
fn the_scripts_replace_what_the_plan_says_and_nothing_without_a_deletion() {
    let snapshot = fixture("owners");
    let plan = planned(&snapshot, Distribution::Upstream, OnGap::Stop);
    let files = files(&plan);
    let held = ["kinds/partly-0", "kinds/partly-1", "kinds/paused-x1"];
    let expected = |moved: &dyn Fn(&str) -> bool| -> Vec<(String, bool)> {
        let all = pods(&snapshot).into_iter();
        all.map(|(name, _)| (name.clone(), !moved(&name))).collect()
    };
    let run = |snapshot: &mut Snapshot, script: &str| {
        execute(snapshot, &parse_script(script).unwrap(), &files).unwrap();
    };
    let apply = script(&files, "move-several", "apply.sh");
    let mut now = snapshot.clone();
    run(&mut now, apply);
    assert_eq!(pods(&now), expected(&|name| !held.contains(&name)));
    run(&mut now, script(&files, "move-several", "rollback.sh"));
    assert_eq!(pods(&now), pods(&snapshot));

    let mut now = snapshot.clone();
    let without: Vec<&str> = apply
        .lines()
        .filter(|line| !line.starts_with("kubectl delete pods"))
        .collect();
    run(&mut now, &without.join("\n"));
    assert_eq!(pods(&now), expected(&|name| name == "kinds/canary-x1"));
}
