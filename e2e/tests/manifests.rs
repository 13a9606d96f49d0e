//! Every manifest that castoff writes is accepted by the real definitions, the oldest supported
//! and the newest: schemas, CEL rules, unknown fields.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cluster::{Cluster, repository};

/// YAML files below a folder that are whole manifests (patches and kustomizations are not).
fn manifests(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            manifests(&path, found);
        } else if name.ends_with(".yaml") && name != "kustomization.yaml" && name != "patches.yaml"
        {
            found.push(path);
        }
    }
    found.sort();
}

/// Writes what castoff recommends for an input; returns the manifests.
fn written(cluster: &Cluster, input: &[&str], folder: &Path) -> Vec<PathBuf> {
    let (migrate, plan) = (folder.join("migrate"), folder.join("plan"));
    let migrate = migrate.to_str().unwrap();
    let first = ["migrate", "--ignore-failures", "--output-dir", migrate];
    cluster.castoff(&[&first[..], input].concat());
    let first = ["plan", "--output-dir", plan.to_str().unwrap()];
    cluster.castoff(&[&first[..], input].concat());
    let mut found = Vec::new();
    manifests(folder, &mut found);
    found
}

#[test]
fn what_is_written_for_every_mesh_is_accepted_by_the_oldest_and_the_newest_definitions() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    let mut inputs: Vec<Vec<String>> = vec![vec!["--demo".to_owned()]];
    match std::fs::read_dir(repository().join("../shared/corpus")) {
        Ok(entries) => {
            for entry in entries {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if name.starts_with("live-") || name.starts_with("snap-") {
                    let path = path.to_str().unwrap().to_owned();
                    inputs.push(vec!["--from-files".to_owned(), path]);
                }
            }
        }
        Err(_) => crate::cluster::skip("(the corpus) needs ../shared/corpus"),
    }
    inputs.sort();

    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        let place = folder.path().join(format!("{index:02}"));
        let input: Vec<&str> = input.iter().map(String::as_str).collect();
        files.extend(written(&cluster, &input, &place));
    }
    let mut namespaces = BTreeSet::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        for line in text.lines() {
            if let Some(name) = line.trim().strip_prefix("namespace: ") {
                namespaces.insert(name.trim_matches('"').to_owned());
            }
        }
    }
    assert!(files.len() >= 4, "{files:?}");
    // Also a dry run needs the namespace; one that is there stays as it is.
    namespaces.retain(|namespace| {
        let created = cluster.try_kubectl(&["create", "namespace", namespace], None);
        created.status.success()
    });
    for definitions in [
        [
            "istio-1.25.0-crd-all.gen.yaml",
            "gateway-api-v1.2.1-standard.yaml",
        ],
        [
            "istio-1.30.3-crd-all.gen.yaml",
            "gateway-api-v1.6.1-standard.yaml",
        ],
    ] {
        for file in definitions {
            cluster.install_definitions(file);
        }
        let mut arguments = vec!["apply", "--dry-run=server", "--validate=strict"];
        for file in &files {
            arguments.extend(["-f", file.to_str().unwrap()]);
        }
        cluster.kubectl(&arguments);
    }
    println!(
        "{} files of {} meshes were accepted",
        files.len(),
        inputs.len()
    );
    for namespace in &namespaces {
        cluster.kubectl(&["delete", "namespace", namespace, "--wait=true"]);
    }
}
