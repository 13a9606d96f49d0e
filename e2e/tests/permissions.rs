//! Least privilege: the role that castoff prints is enough, permits nothing else, and each
//! permission that is missing is named.

use castoff::finding::Phase;
use castoff::phases;
use castoff::snapshot::kinds::KINDS;
use serde_json::{Value, json};

use crate::cluster::{Cluster, repository};
use crate::mesh;
use crate::origins::without_origins;

pub(crate) const MIGRATE: [&str; 4] = ["migrate", "--ignore-failures", "--output", "json"];
pub(crate) const ACCOUNT: &str = "system:serviceaccount:castoff:castoff";

pub(crate) fn report(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A kubeconfig that logs in with a token of the account.
pub(crate) fn with_token(cluster: &Cluster, folder: &std::path::Path) -> std::path::PathBuf {
    let token = cluster.kubectl(&["create", "token", "castoff", "--namespace=castoff"]);
    let view = cluster.kubectl(&[
        "config",
        "view",
        "--raw",
        "--flatten",
        "--minify",
        "--output=json",
    ]);
    let mut config = report(&view);
    config["users"][0]["user"] = json!({"token": token.trim()});
    let path = folder.join("account.kubeconfig");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

#[test]
fn the_account_reads_what_an_administrator_reads_and_can_do_nothing_else() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    if mesh::deployed(&cluster).is_none() {
        return;
    }
    let role = std::fs::read_to_string(repository().join("deploy/rbac.yaml")).unwrap();
    cluster.apply(&role);
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = with_token(&cluster, folder.path());

    let mut administrator = report(&without_origins(&cluster.castoff(&MIGRATE).stdout));
    let run = cluster.castoff_with(&kubeconfig, &MIGRATE);
    let mut account = report(&without_origins(&run.stdout));
    assert_eq!(
        account["gaps"],
        json!([{
            "resource": "secrets",
            "reason": "forbidden: this account may not `list` `secrets`",
        }])
    );
    assert_eq!(run.code, 4);
    let check = &account["phases"][0]["checks"][2];
    assert_eq!(check["code"], "CAST0103");
    assert_eq!(check["outcome"], "couldNotCheck");
    for report in [&mut administrator, &mut account] {
        report["gaps"].take();
        report["counts"].take();
        report["exitCode"].take();
        report["phases"][0]["checks"][2].take();
        report["phases"][0]["outcome"].take();
    }
    assert_eq!(account, administrator);

    // With Secrets permitted nothing differs.
    cluster.apply(&cluster.castoff(&["rbac", "--secrets"]).stdout);
    let expected = without_origins(&cluster.castoff(&MIGRATE).stdout);
    eventually(|| without_origins(&cluster.castoff_with(&kubeconfig, &MIGRATE).stdout) == expected);
    cluster.apply(&role);

    // Nothing can be written, and of Secrets nothing can be read.
    let namespace = "--namespace=bookshop";
    eventually(|| !cluster.can(ACCOUNT, &["list", "secrets", namespace]));
    for question in [
        ["get", "secrets", namespace],
        ["watch", "pods", namespace],
        ["get", "configmaps/anything", namespace],
        ["list", "configmaps", namespace],
        ["create", "pods", namespace],
        ["patch", "namespaces", namespace],
        ["update", "services", namespace],
        [
            "delete",
            "authorizationpolicies.security.istio.io",
            namespace,
        ],
        ["create", "pods/exec", namespace],
        ["create", "serviceaccounts/token", namespace],
        ["impersonate", "users", namespace],
    ] {
        assert!(!cluster.can(ACCOUNT, &question), "{question:?}");
    }
    let rules = cluster.kubectl(&["auth", "can-i", "--list", "--as", ACCOUNT]);
    for line in rules.lines().skip(1) {
        let verbs = line.rsplit_once('[').unwrap().1.trim_end_matches(']');
        let own = line.starts_with("selfsubject");
        assert!(
            own || ["get", "list", "get list"].contains(&verbs),
            "{line}"
        );
    }
}

/// Authorizers learn of a changed role a moment later.
pub(crate) fn eventually(done: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !done() {
        assert!(begun.elapsed().as_secs() < 60, "waited in vain");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

#[test]
fn each_permission_that_is_missing_is_named_and_what_needs_it_is_not_checked() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    if mesh::deployed(&cluster).is_none() {
        return;
    }
    let manifests = cluster.castoff(&["rbac", "--secrets"]).stdout;
    cluster.apply(&manifests);
    let role = serde_saphyr::from_multiple::<Value>(&manifests)
        .unwrap()
        .into_iter()
        .find(|object| object["kind"] == "ClusterRole")
        .unwrap();
    let arguments = [&MIGRATE[..], &["--as", ACCOUNT]].concat();
    eventually(|| report(&cluster.castoff(&arguments).stdout)["gaps"] == json!([]));

    let document = std::fs::read_to_string(repository().join("docs/permissions.md")).unwrap();
    for row in KINDS {
        let mut lesser = role.clone();
        for rule in lesser["rules"].as_array_mut().unwrap() {
            if rule["apiGroups"] == json!([row.group]) {
                let resources = rule["resources"].as_array_mut().unwrap();
                resources.retain(|resource| resource != row.plural);
            }
        }
        let rules = lesser["rules"].as_array_mut().unwrap();
        rules.retain(|rule| rule["resources"] != json!([]));
        cluster.apply(&lesser.to_string());

        let resource = row.kind.resource();
        let defined = row.group.is_empty()
            || row.group.ends_with(".k8s.io") && !row.group.starts_with("gateway")
            || ["apps", "batch"].contains(&row.group)
            || cluster.is_defined(&resource);
        if !defined {
            // Nobody asks for what is not served.
            continue;
        }
        eventually(|| lacks_only(&cluster, &arguments, &resource));
        let report = report(&cluster.castoff(&arguments).stdout);
        let gaps = report["gaps"].as_array().unwrap();
        assert!(
            gaps.iter().all(|gap| gap["resource"] == resource.as_str()),
            "{gaps:?}"
        );
        let verb = if resource == "configmaps" {
            "get"
        } else {
            "list"
        };
        let reason = gaps[0]["reason"].as_str().unwrap();
        assert!(
            reason.starts_with(&format!(
                "forbidden: this account may not `{verb}` `{resource}`"
            )),
            "{reason}"
        );

        let concerned: Vec<&str> = Phase::ALL
            .into_iter()
            .flat_map(phases::checks)
            .filter(|check| check.rests_on(row.kind))
            .map(|check| check.code.0)
            .collect();
        for check in report["phases"]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|phase| phase["checks"].as_array().unwrap())
        {
            let code = check["code"].as_str().unwrap();
            if concerned.contains(&code) {
                assert_eq!(check["outcome"], "couldNotCheck", "{resource}: {check}");
            }
        }
        // The documentation says the same (its other half is held by an ordinary test).
        let row = format!("| `{verb}` | `{resource}` | {reason} |");
        assert!(document.contains(&row), "{row}");
    }
    cluster.apply(&manifests);
}

fn lacks_only(cluster: &Cluster, arguments: &[&str], resource: &str) -> bool {
    let report = report(&cluster.castoff(arguments).stdout);
    let gaps = report["gaps"].as_array().unwrap();
    !gaps.is_empty() && gaps.iter().all(|gap| gap["resource"] == resource)
}

#[test]
fn a_user_of_some_namespaces_gets_what_is_in_them_and_hears_what_is_missing() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    if mesh::deployed(&cluster).is_none() {
        return;
    }
    let roles = cluster.castoff(&["rbac", "-n", "bookshop", "-n", "payments", "--user", "ada"]);
    cluster.apply(&roles.stdout);
    let arguments = [
        &MIGRATE[..],
        &["-n", "bookshop", "-n", "payments", "--as", "ada"],
    ]
    .concat();
    eventually(|| cluster.castoff(&arguments).code != 1);
    let run = cluster.castoff(&arguments);
    let report = report(&run.stdout);
    let reasons: Vec<&str> = report["gaps"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|gap| gap["resource"] == "pods")
        .map(|gap| gap["reason"].as_str().unwrap())
        .collect();
    assert_eq!(
        reasons,
        [
            "forbidden: this account may not `list` `pods` in all namespaces; only `bookshop`, `payments` could be read"
        ]
    );
    assert_eq!(run.code, 4, "{}", run.stdout);
    for name in ["bookshop/catalog", "payments/checkout"] {
        assert!(run.stdout.contains(name), "{name}: {}", run.stdout);
    }
    // Without `-n` there is nothing that ada may read, and castoff says so.
    let run = cluster.castoff(&["migrate", "--as", "ada"]);
    assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{}", run.stderr);
}
