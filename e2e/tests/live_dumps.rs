//! Meshes of the corpus that were dumped from clusters, loaded into this one with the pods as they
//! were: read live they give the report of their files, and they are migrated through the API.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cluster::{Cluster, repository, skip};
use crate::origins::without_origins;
use crate::permissions::MIGRATE;
use crate::{mesh, migration};

/// Dumps that are migrated; the second one's plan has several waves of moves.
const MIGRATED: [&str; 3] = ["bookinfo", "boutique-security-intro", "aws-workshop"];

fn dump(name: &str) -> PathBuf {
    repository().join(format!("../shared/corpus/live-{name}-ambient-ready"))
}

fn objects(folder: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut objects = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for document in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            match document["items"].as_array() {
                Some(items) => objects.extend(items.iter().cloned()),
                None => objects.push(document),
            }
        }
    }
    objects
}

#[test]
fn dumped_meshes_give_the_report_of_their_files_and_are_migrated_through_the_api() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    if std::env::var_os("CASTOFF_E2E_SERVER").is_none() {
        skip("needs an API server that can call this process");
        return;
    }
    if !dump(MIGRATED[0]).is_dir() {
        skip("needs ../shared/corpus");
        return;
    }
    mesh::spoil(&cluster);
    for name in MIGRATED {
        println!("===== {name}");
        let folder = dump(name);
        mesh::load(&cluster, objects(&folder));
        let live = cluster.castoff(&MIGRATE);
        let input = folder.to_str().unwrap();
        let files = cluster.castoff(&[&MIGRATE[..], &["--from-files", input]].concat());
        assert_eq!(
            report(&live.stdout),
            report(&files.stdout),
            "{name}: {}",
            live.stderr
        );
        assert_eq!(live.code, files.code, "{name}");
        migration::carry_out_plan(&cluster);
        mesh::unload(&cluster);
    }
}

/// The report, without what is of this cluster and no mesh's: how many objects there are.
fn report(text: &str) -> Value {
    let mut report: Value = serde_json::from_str(&without_origins(text)).unwrap();
    report["counts"].take();
    json!(report)
}
