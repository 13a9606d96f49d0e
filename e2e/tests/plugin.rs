//! `kubectl castoff`: found on PATH, choosing the cluster as kubectl does, completed by kubectl;
//! and what is deployed is what the API server accepts.

use std::process::{Command, Output};

use crate::cluster::{Cluster, repository};

/// Runs kubectl with the plugin on PATH.
fn kubectl(cluster: &Cluster, folder: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(cluster.kubectl_folder().join("kubectl"))
        .args(arguments)
        .env("KUBECONFIG", &cluster.kubeconfig)
        .env("HOME", folder)
        .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
        .current_dir(folder)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn kubectl_finds_runs_and_completes_the_plugin() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for name in ["kubectl-castoff", "kubectl_complete-castoff"] {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_castoff"), folder.path().join(name))
            .unwrap();
    }
    let listed = kubectl(&cluster, folder.path(), &["plugin", "list"]);
    assert!(
        text(&listed.stdout).contains("kubectl-castoff"),
        "{listed:?}"
    );

    let plugin = kubectl(&cluster, folder.path(), &["castoff", "migrate"]);
    let alone = cluster.castoff(&["migrate"]);
    assert_eq!(plugin.status.code(), Some(alone.code));
    // The command to repeat is the one that was given.
    assert!(text(&plugin.stdout).contains("kubectl castoff migrate"));
    assert_eq!(
        text(&plugin.stdout).replace("kubectl castoff migrate", "castoff migrate"),
        alone.stdout
    );

    let completed = kubectl(
        &cluster,
        folder.path(),
        &["__complete", "castoff", "migrate", "--distribution", "so"],
    );
    assert_eq!(text(&completed.stdout), "solo\n:4\n");
}

#[test]
fn the_flags_that_choose_a_cluster_behave_as_those_of_kubectl() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    let view = cluster.kubectl(&["config", "view", "--raw", "--flatten", "--output=json"]);
    let mut config: serde_json::Value = serde_json::from_str(&view).unwrap();
    let user = config["contexts"][0]["context"]["user"].clone();
    let good = config["contexts"][0]["context"]["cluster"].clone();
    let clusters = config["clusters"].as_array_mut().unwrap();
    clusters.push(serde_json::json!({
        "name": "dead", "cluster": {"server": "https://127.0.0.1:1"},
    }));
    let users = config["users"].as_array_mut().unwrap();
    users.push(serde_json::json!({"name": "nobody", "user": {"token": "none"}}));
    let contexts = config["contexts"].as_array_mut().unwrap();
    contexts.push(serde_json::json!({
        "name": "dead", "context": {"cluster": "dead", "user": user},
    }));
    config["current-context"] = "dead".into();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("config");
    std::fs::write(&kubeconfig, config.to_string()).unwrap();
    let context = cluster.kubectl(&["config", "current-context"]);

    let table: [(&[&str], bool); 7] = [
        (&[], false),
        (&["--context", context.trim()], true),
        (&["--cluster", good.as_str().unwrap()], true),
        (
            &["--cluster", good.as_str().unwrap(), "--user", "nobody"],
            false,
        ),
        (
            &["--kubeconfig", cluster.kubeconfig.to_str().unwrap()],
            true,
        ),
        (&["--context", "no-such-context"], false),
        (
            &["--context", context.trim(), "--as", "nobody-at-all"],
            false,
        ),
    ];
    for (flags, works) in table {
        let arguments = [&["get", "nodes", "--request-timeout=10s"][..], flags].concat();
        let kubectl = Command::new(cluster.kubectl_folder().join("kubectl"))
            .args(&arguments)
            .env("KUBECONFIG", &kubeconfig)
            .env("HOME", folder.path())
            .output()
            .unwrap();
        assert_eq!(kubectl.status.success(), works, "{flags:?}: {kubectl:?}");
        let arguments = [&["collect", "-q", "--request-timeout=10s"][..], flags].concat();
        let run = cluster.castoff_with(&kubeconfig, &arguments);
        assert_eq!(run.code == 0, works, "{flags:?}: {run:?}");
        assert!(works || run.code == 1, "{flags:?}: {run:?}");
    }
}

#[test]
fn what_is_to_be_deployed_is_accepted() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    for (file, dry) in [("rbac.yaml", false), ("job.yaml", true)] {
        let path = repository().join("deploy").join(file);
        let mut arguments = vec!["apply", "--validate=strict", "-f", path.to_str().unwrap()];
        if dry {
            arguments.push("--dry-run=server");
        }
        cluster.kubectl(&arguments);
    }
}
