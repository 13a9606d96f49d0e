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

/// Files of `tests/fixtures`, each with what is to be replaced in it, in the cluster of the demo.
fn changed(files: &[&str], changes: &[(&str, &str)]) -> Snapshot {
    let mut collector = Collector::new();
    for (file, text) in &castoff::demo::FILES[..2] {
        collector.add_text(&Place::Demo(file), text);
    }
    for path in files {
        let path = format!("tests/fixtures/{path}.yaml");
        let mut text = std::fs::read_to_string(&path).unwrap();
        for (old, new) in changes {
            assert!(text.contains(old), "{old} is not in {path}");
            text = text.replace(old, new);
        }
        collector.add_text(&Place::File(path.as_str().into()), &text);
    }
    collector.finish()
}

/// A mesh of `tests/fixtures/plan`.
fn fixture(name: &str) -> Snapshot {
    changed(&[&format!("plan/{name}")], &[])
}

/// A mesh of `tests/fixtures/traps`.
fn trap(name: &str) -> Snapshot {
    changed(&["traps/mesh", &format!("traps/{name}/before")], &[])
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
            "kubectl delete pods -n kinds -l 'app=store,!pod-template-hash'",
            "kubectl delete pods -n kinds -l 'app=agent,!pod-template-hash'",
            "kubectl delete pods -n kinds -l app=plain",
            "kubectl delete pods -n labelled -l 'app=store,!pod-template-hash'",
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

/// All of the folder as one text.
fn everything(plan: &Plan) -> String {
    files(plan).into_values().collect()
}

fn summary(plan: &Plan) -> String {
    PlanReport::new(plan, String::new(), String::new(), Vec::new())
        .text(castoff::report::text::Style::default())
}

#[test]
fn locks_say_why_they_are_there_and_when_to_delete_them() {
    let denials = fixture("circle-of-denials");
    let plan = planned(&denials, Distribution::Upstream, OnGap::Deny);
    let files = files(&plan);
    let locks = script(&files, "move-ring", "locks.yaml");
    assert!(
        locks.contains("castoff.dev/locks: Deployment/ring/left"),
        "{locks}"
    );
    assert!(locks.contains("ztunnel cannot check what the waypoint checks: whoever came"));
    let stays = "nothing opens without it any more: `castoff verify` of the mesh with it and without it says so";
    assert!(locks.contains(stays), "{locks}");
    assert!(files["plan.md"].contains(&format!("these policies can be deleted when {stays}")));
    let apply = script(&files, "move-ring", "apply.sh");
    assert!(
        !apply.contains("would move others too"),
        "there are no others: {apply}"
    );
    assert!(apply.contains("the policies that close new pods know them by that label"));

    let mut lenient = changed(
        &["plan/circle-of-denials"],
        &[("kind: Deployment", "kind: StatefulSet")],
    );
    let strict = castoff::snapshot::ObjectName::new("ring", "strict");
    lenient.remove(castoff::snapshot::Kind::PeerAuthentication, &strict);
    let plan = planned(&lenient, Distribution::Upstream, OnGap::Deny);
    let files = self::files(&plan);
    let locks = script(&files, "move-ring", "locks.yaml");
    assert!(
        locks.contains("the last step of this wave is reached, which deletes it"),
        "{locks}"
    );
}

#[test]
fn a_plan_for_solo_says_nothing_that_holds_for_upstream_alone() {
    let upstream = everything(&planned(
        &fixture("bookinfo"),
        Distribution::Upstream,
        OnGap::Stop,
    ));
    let solo = everything(&planned(
        &fixture("bookinfo"),
        Distribution::Solo,
        OnGap::Stop,
    ));
    for sentence in [
        "Upstream sidecars never go through a waypoint",
        "originals at ambient pods are read by ztunnel",
    ] {
        assert!(upstream.contains(sentence), "{sentence}");
        assert!(!solo.contains(sentence), "{sentence}");
    }
    assert!(solo.contains("Sidecars of Solo's builds go through waypoints as ztunnel does"));
}

#[test]
fn a_gap_lasts_between_two_commands_of_the_scripts() {
    let plan = planned(&fixture("circle"), Distribution::Upstream, OnGap::Accept);
    let files = files(&plan);
    let apply = script(&files, "move-ring", "apply.sh");
    assert!(!plan.gaps.is_empty());
    for gap in &plan.gaps {
        let (begins, ends) = (
            gap.begins_after.clone().unwrap(),
            gap.ends_after.clone().unwrap(),
        );
        assert_eq!(
            begins,
            commands(apply)[1],
            "after the label that enrols: {apply}"
        );
        assert_eq!(&ends.as_str(), commands(apply).last().unwrap());
        for text in [&summary(&plan), &files["plan.md"]] {
            let place = "(05-move-ring, while old and new pods run side by side)";
            assert!(
                text.contains(&format!("from `{begins}` {place} until `{ends}` (")),
                "{text}"
            );
        }
        let json: serde_json::Value = serde_json::from_str(&files["plan.json"]).unwrap();
        assert_eq!(json["gaps"][0]["beginsAfter"], begins);
        assert_eq!(json["gaps"][0]["endsAfter"], ends);
    }
}

#[test]
fn what_was_not_read_and_each_edited_policy_stand_in_the_plan() {
    let plan = planned(
        &trap("waypoint-is-among-the-denied"),
        Distribution::Upstream,
        OnGap::Stop,
    );
    let unread = vec!["`broken.yaml` could not be read".to_owned()];
    let report = PlanReport::new(&plan, String::new(), String::new(), unread);
    let files = folder::files(&plan, &report);
    let page = &files["plan.md"];
    assert!(page.contains("## Not read\n"), "{page}");
    assert!(
        page.contains("- ❔ `broken.yaml` could not be read\n"),
        "{page}"
    );
    let edited = "- AuthorizationPolicy `shop/no-shop` at \
                  `tests/fixtures/traps/waypoint-is-among-the-denied/before.yaml:8`: as in `edited-policies.yaml`";
    assert!(page.contains(edited), "{page}");
    let component = script(&files, "policies", "kustomization.yaml");
    assert_eq!(
        component.matches("edited-policies.yaml").count(),
        1,
        "{component}"
    );
}

#[test]
fn those_who_deploy_from_git_are_told_to_restart_after_a_label() {
    let plan = planned(&fixture("bookinfo"), Distribution::Upstream, OnGap::Stop);
    let files = files(&plan);
    let restart = "kubectl rollout restart deployment -n bookinfo ratings";
    let page = &files["plan.md"];
    assert!(
        page.contains(&format!("so when Git is synchronized run: `{restart}`")),
        "{page}"
    );
    let components: String = files
        .iter()
        .filter(|(path, _)| path.ends_with("kustomization.yaml"))
        .map(|(_, text)| text.as_str())
        .collect();
    assert!(components.contains(&format!("# When it is applied, run: {restart}\n")));
}

#[test]
fn the_way_back_of_each_step_says_what_to_look_at_there() {
    let plan = planned(&fixture("bookinfo"), Distribution::Upstream, OnGap::Stop);
    let files = files(&plan);
    for (wave, said) in [
        ("waypoints", "no Service uses these waypoints any more"),
        ("02-policies", "they decide alone from here on"),
        (
            "use-waypoints",
            "every pod behind these Services has its sidecar again",
        ),
        (
            "07-move-bookinfo",
            "every policy that later waves deleted is there again",
        ),
        (
            "clean-up",
            "`before-1.yaml` holds these policies as you want them back",
        ),
    ] {
        let mut found = files
            .iter()
            .filter(|(path, _)| path.ends_with(&format!("{wave}/rollback.sh")));
        assert!(found.any(|(_, text)| text.contains(said)), "{wave}: {said}");
    }
    assert!(
        files["plan.md"].contains("originals are deleted: AuthorizationPolicy bookinfo/"),
        "{}",
        files["plan.md"]
    );
}

/// Without a use of the waypoint the command would end before the next could rely on it.
#[test]
fn a_rollback_waits_for_a_waypoint_that_it_brings_back() {
    let snapshot = fixture("bookinfo");
    let plan = planned(&snapshot, Distribution::Upstream, OnGap::Stop);
    for wave in &plan.waves {
        for step in &wave.steps {
            let applies_gateway = step
                .undo
                .iter()
                .any(|run| run.contains("before-recommended-waypoints"));
            let waits = step
                .undo_settled
                .iter()
                .any(|wait| wait.contains("condition=Programmed"));
            assert_eq!(applies_gateway, waits, "{}", step.what);
        }
    }
}

#[test]
fn a_circle_is_told_once_with_one_witness_and_the_ways_to_go_on() {
    let plan = planned(&fixture("circle"), Distribution::Upstream, OnGap::Stop);
    let page = files(&plan).remove("plan.md").unwrap();
    let text = summary(&plan);
    assert_eq!(
        text.matches("ring/left, ring/right keep their sidecars: in a circle")
            .count(),
        1,
        "{text}"
    );
    assert!(
        page.contains("- `ring/left`, `ring/right`: in a circle"),
        "{page}"
    );
    for told in [&text, &page] {
        assert_eq!(told.matches("before: allowed").count(), 1, "{told}");
        assert!(
            told.contains("`--on-gap accept`") && told.contains("`--on-gap deny`"),
            "{told}"
        );
        assert!(!told.contains("other.example"), "any host would do: {told}");
    }
}

#[test]
fn the_witness_is_not_a_call_of_a_workload_to_itself_where_another_shows_the_same() {
    let plan = planned(&fixture("star"), Distribution::Upstream, OnGap::Stop);
    let lines: Vec<&String> = plan
        .held
        .iter()
        .flat_map(|held| held.lines.first())
        .collect();
    assert!(!lines.is_empty());
    for line in lines {
        for name in ["hub", "one", "two"] {
            let to_itself =
                line.contains(&format!("sa/{name} ")) && line.contains(&format!("star/{name}:"));
            assert!(!to_itself, "{line}");
        }
    }
}

#[test]
fn probes_are_admitted_in_both_families_of_addresses() {
    let plan = planned(
        &trap("network-policy-without-the-tunnel-port"),
        Distribution::Upstream,
        OnGap::Stop,
    );
    let files = files(&plan);
    let policies = script(&files, "policies", "recommended-network-policies.yaml");
    for block in [
        "169.254.7.127/32",
        "fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128",
    ] {
        assert!(policies.contains(block), "{policies}");
    }
    let apply = script(&files, "policies", "apply.sh");
    assert!(
        apply.contains("let tunnels (port 15008) and the kubelet's probes through"),
        "{apply}"
    );
}

#[test]
fn a_label_that_kept_a_service_from_waypoints_is_said_to_go() {
    let opted_out = (
        "kind: Service\nmetadata:\n  name: ratings\n",
        "kind: Service\nmetadata:\n  name: ratings\n  labels: {istio.io/use-waypoint: none}\n",
    );
    let snapshot = changed(&["plan/bookinfo"], &[opted_out]);
    let run = ["kubectl label service -n bookinfo ratings istio.io/use-waypoint-"];
    let words = "take labels away that keep Services from every waypoint";
    let plan = planned(&snapshot, Distribution::Upstream, OnGap::Stop);
    let [deploy, label] = plan.waves[0].steps.as_slice() else {
        panic!("{}", summary(&plan));
    };
    assert_eq!(label.run, run);
    assert!(label.what.starts_with(words));

    let mut deployed = snapshot.clone();
    let commands = parse_script(&deploy.run.join("\n")).unwrap();
    execute(&mut deployed, &commands, &plan.waves[0].manifests).unwrap();
    castoff::simulate::settle(&mut deployed);
    let plan = planned(&deployed, Distribution::Upstream, OnGap::Stop);
    let first = &plan.waves[0];
    assert_eq!(
        first.title,
        "Let Services use a waypoint that were kept from it"
    );
    assert_eq!(first.steps[0].run, run);
}
