//! Dumps of real meshes, made to live again: what the API server then shows is planned as the dump is,
//! and the plan is carried out to its end.

use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::{Cluster, repository};
use crate::mesh;
use crate::migration::{from_git, run_script};

/// One with NetworkPolicies and policies for every workload, one that ends with workloads in their
/// sidecars. Others are planned by `tests/plan_goldens.rs`.
const DUMPS: [&str; 2] = [
    "live-online-boutique-ambient-ready",
    "live-hello-istio-secure-ambient-ready",
];

/// Every object of a dump, without what the API server that it came from wrote into it.
fn objects(dump: &Path) -> Vec<Value> {
    let mut objects = Vec::new();
    for file in std::fs::read_dir(dump).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        for mut list in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            objects.append(list["items"].as_array_mut().unwrap());
        }
    }
    objects.retain(|object| {
        let name = object["metadata"]["name"].as_str().unwrap();
        // Controllers write these into every namespace.
        let written = ["kube-root-ca.crt", "istio-ca-root-cert"].contains(&name);
        let of_cluster = object["kind"] == "Service" && name == "kubernetes";
        !(written || of_cluster)
    });
    for object in &mut objects {
        let metadata = object["metadata"].as_object_mut().unwrap();
        for field in [
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
            "managedFields",
            "ownerReferences",
        ] {
            metadata.remove(field);
        }
        let address = object.pointer("/spec/clusterIP").and_then(Value::as_str);
        let headless = address == Some("None");
        if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
            for field in ["clusterIPs", "nodeName"] {
                spec.remove(field);
            }
            if !headless {
                spec.remove("clusterIP");
            }
            for port in spec
                .get_mut("ports")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                port.as_object_mut().unwrap().remove("nodePort");
            }
        }
    }
    objects
}

/// What a plan says and does, without the names of pods and the places of objects.
fn essence(plan: &str) -> Value {
    let plan: Value = serde_json::from_str(plan).unwrap_or_else(|error| panic!("{error}: {plan}"));
    let waves = plan["waves"].as_array().unwrap().iter().map(|wave| {
        let runs = wave["steps"].as_array().unwrap().iter();
        json!({
            "title": wave["title"],
            "verdict": wave["verdict"],
            "wayBack": wave["wayBack"],
            "runs": runs.map(|step| step["run"].clone()).collect::<Vec<_>>(),
        })
    });
    let held = plan["held"].as_array().unwrap().iter();
    json!({
        "ending": plan["ending"],
        "servers": plan["servers"],
        "waves": waves.collect::<Vec<_>>(),
        "held": held.map(|held| held["workload"].clone()).collect::<Vec<_>>(),
    })
}

fn migrated(cluster: &Cluster, dump: &Path) -> Option<()> {
    let objects = objects(dump);
    let namespaces: Vec<String> = objects
        .iter()
        .filter(|object| object["kind"] == "Namespace")
        .map(|object| object["metadata"]["name"].as_str().unwrap().to_owned())
        .filter(|name| !(name == "default" || name == "istio-system" || name.starts_with("kube-")))
        .collect();
    mesh::deploy_instead(cluster, objects)?;
    let folder = tempfile::tempdir().unwrap();
    let (of_files, of_cluster) = (folder.path().join("files"), folder.path().join("cluster"));
    let plan = |more: &[&str], out: &Path| {
        let mut arguments = vec![
            "plan",
            "--output=json",
            "--output-dir",
            out.to_str().unwrap(),
        ];
        arguments.extend(more);
        cluster.castoff(&arguments)
    };
    let from_files = plan(&["--from-files", dump.to_str().unwrap()], &of_files);
    let live = plan(&[], &of_cluster);
    assert_eq!(
        essence(&live.stdout),
        essence(&from_files.stdout),
        "{dump:?}"
    );

    let before = folder.path().join("before.json.gz");
    let before = before.to_str().unwrap();
    assert_eq!(cluster.castoff(&["collect", before]).code, 0);
    let mut waves: Vec<_> = std::fs::read_dir(&of_cluster)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    waves.sort();
    assert!(!waves.is_empty(), "{}", live.stdout);
    for wave in &waves {
        from_git(cluster, wave);
        run_script(cluster, &wave.join("apply.sh"));
        mesh::settle(cluster);
        let verified = cluster.castoff(&["verify", before, "live"]);
        assert_eq!(verified.code, 0, "{wave:?}: {}", verified.stdout);
    }
    println!("{dump:?}: {} waves carried out", waves.len());
    let namespaces: Vec<&str> = namespaces.iter().map(String::as_str).collect();
    mesh::clear(cluster, &namespaces);
    Some(())
}

#[test]
fn dumps_of_real_meshes_are_planned_alike_and_migrated_to_the_end_of_their_plans() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    let corpus = repository().join("../shared/corpus");
    if !corpus.is_dir() {
        crate::cluster::skip("needs ../shared/corpus");
        return;
    }
    for dump in DUMPS {
        let dump = corpus.join(dump);
        if migrated(&cluster, &dump).is_none() {
            return;
        }
    }
}
