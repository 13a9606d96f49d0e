//! The same mesh read live, from a bundle and from what kubectl writes gives the same report.

use std::process::Command;

use crate::cluster::{Cluster, repository};
use crate::mesh;
use crate::origins::without_origins;

const MIGRATE: [&str; 4] = ["migrate", "--ignore-failures", "--output", "json"];

#[test]
fn live_and_bundle_and_kubectl_dumps_give_the_same_report() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    if mesh::deployed(&cluster).is_none() {
        return;
    }
    let live = cluster.castoff(&MIGRATE);
    assert_eq!(live.code, 2, "{}{}", live.stdout, live.stderr);
    let expected = without_origins(&live.stdout);
    assert!(expected.contains("payments/checkout"), "{expected}");

    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("mesh.json.gz");
    let bundle = bundle.to_str().unwrap();
    assert_eq!(cluster.castoff(&["collect", bundle]).code, 0);
    let mut inputs = vec![bundle.to_owned()];
    for format in ["json", "yaml"] {
        inputs.push(dump(&cluster, folder.path(), format));
    }
    for input in inputs {
        let run = cluster.castoff(&[&MIGRATE[..], &["--from-files", &input]].concat());
        assert_eq!(run.code, live.code, "{input}: {}", run.stderr);
        assert_eq!(without_origins(&run.stdout), expected, "{input}");
    }
}

/// Runs the command of the documentation, with another output format if need be.
fn dump(cluster: &Cluster, folder: &std::path::Path, format: &str) -> String {
    let document = std::fs::read_to_string(repository().join("docs/input.md")).unwrap();
    let command = document.split("```sh\n").nth(2).unwrap();
    let command = command.split("```").next().unwrap();
    assert!(
        command.contains("-o json > \"dump/$kind.json\""),
        "{command}"
    );
    let command = command.replace("json", format);
    let place = folder.join(format);
    std::fs::create_dir(&place).unwrap();
    let mut path = cluster.kubectl_folder().into_os_string();
    path.push(":/usr/bin:/bin");
    let status = Command::new("sh")
        .args(["-c", &command])
        .env("KUBECONFIG", &cluster.kubeconfig)
        .env("PATH", path)
        .current_dir(&place)
        .stderr(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    place.join("dump").to_str().unwrap().to_owned()
}

#[test]
fn the_oldest_and_newest_definitions_are_read_without_a_gap_and_absent_ones_are_no_gap() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    let report = |arguments: &[&str]| -> serde_json::Value {
        let run = cluster.castoff(arguments);
        serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("{run:?}"))
    };
    for files in [
        [
            "istio-1.25.0-crd-all.gen.yaml",
            "gateway-api-v1.2.1-standard.yaml",
        ],
        [
            "istio-1.30.3-crd-all.gen.yaml",
            "gateway-api-v1.6.1-standard.yaml",
        ],
    ] {
        for file in files {
            cluster.install_definitions(file);
        }
        assert_eq!(report(&MIGRATE)["gaps"], serde_json::json!([]), "{files:?}");
    }
    // No TrafficExtension, UDPRoute or Rollout is defined here: absent, not unreadable.
    let definitions = cluster.kubectl(&["get", "customresourcedefinitions", "--output=name"]);
    assert!(
        !definitions.contains("rollouts.argoproj.io"),
        "{definitions}"
    );
}
