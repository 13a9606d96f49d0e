//! Two Deployments that call one another, moved with their callers pinned: the Deployment controller keeps
//! old pods beside new ones exactly as long as the plan says.

use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::{Cluster, repository};
use crate::mesh;
use crate::migration::{from_git, run_script};

/// Pods of an application with and without a sidecar.
fn pods(cluster: &Cluster, application: &str) -> (usize, usize) {
    let selector = format!("app={application}");
    let text = cluster.kubectl(&["get", "pods", "-n", "ring", "-l", &selector, "-o", "json"]);
    let list: Value = serde_json::from_str(&text).unwrap();
    let pods = list["items"].as_array().unwrap().iter();
    let living = pods.filter(|pod| pod["metadata"].get("deletionTimestamp").is_none());
    let (with, without): (Vec<_>, Vec<_>) = living.partition(|pod| {
        let annotations = &pod["metadata"]["annotations"];
        annotations.get("sidecar.istio.io/status").is_some()
    });
    (with.len(), without.len())
}

/// Runs the steps of a script one by one; after each, how many pods of each kind there are.
fn stepwise(cluster: &Cluster, wave: &Path, script: &str) -> Vec<(usize, usize)> {
    let text = std::fs::read_to_string(wave.join(script)).unwrap();
    let mut parts = text
        .split("\n# step ")
        .flat_map(|part| part.split("\n# back from step "));
    let head = parts.next().unwrap();
    let mut seen = Vec::new();
    for (index, part) in parts.enumerate() {
        let step = wave.join(format!("step-{index}.sh"));
        std::fs::write(&step, format!("{head}\n# {part}\n")).unwrap();
        run_script(cluster, &step);
        std::fs::remove_file(&step).unwrap();
        // A rollout that is held has no end to wait for; the script waited for its pods.
        mesh::reconcile(cluster);
        seen.push(pods(cluster, "left"));
        assert_eq!(seen.last(), Some(&pods(cluster, "right")));
    }
    mesh::settle(cluster);
    seen
}

#[test]
fn old_pods_stay_beside_new_ones_until_everybody_is_handed_over_and_so_on_the_way_back() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    let fixture = repository().join("tests/fixtures/plan/circle-of-deployments.yaml");
    let fixture = std::fs::read_to_string(fixture).unwrap();
    let texts = castoff::demo::FILES[..2].iter().map(|(_, text)| *text);
    let texts = texts.chain([fixture.as_str()]);
    let objects = texts.flat_map(|text| serde_saphyr::from_multiple::<Value>(text).unwrap());
    // The API server makes no pod without its account; what is read does not need them.
    let accounts = [
        ("istio-system", "ingressgateway"),
        ("ring", "left"),
        ("ring", "right"),
    ];
    let accounts = accounts.map(|(namespace, name)| {
        let metadata = json!({"name": name, "namespace": namespace});
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    });
    let objects = objects.chain(accounts).collect();
    if mesh::deploy_instead(&cluster, objects).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let before = folder.path().join("before.json.gz");
    let before = before.to_str().unwrap();
    assert_eq!(cluster.castoff(&["collect", before]).code, 0);
    let plan = folder.path().join("plan");
    let run = cluster.castoff(&["plan", "--output-dir", plan.to_str().unwrap()]);
    println!("===== plan ({})\n{}{}", run.code, run.stdout, run.stderr);
    assert_eq!(run.code, 2);
    let mut waves: Vec<_> = std::fs::read_dir(&plan)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    waves.sort();
    let verify = |at: &Path| {
        let verified = cluster.castoff(&["verify", before, "live"]);
        assert_eq!(verified.code, 0, "{at:?}: {}", verified.stdout);
    };
    let pinned = |wave: &Path| wave.join("pin.yaml").is_file();
    assert_eq!(waves.iter().filter(|wave| pinned(wave)).count(), 1);
    for wave in &waves {
        from_git(&cluster, wave);
        if pinned(wave) {
            let seen = stepwise(&cluster, wave, "apply.sh");
            assert_eq!(
                seen,
                [(2, 0), (2, 0), (2, 2), (2, 2), (0, 2), (0, 2), (0, 2)]
            );
        } else {
            run_script(&cluster, &wave.join("apply.sh"));
            mesh::settle(&cluster);
        }
        verify(wave);
    }
    for wave in waves.iter().rev() {
        if pinned(wave) {
            let seen = stepwise(&cluster, wave, "rollback.sh");
            assert_eq!(
                seen,
                [(0, 2), (0, 2), (2, 2), (2, 2), (2, 0), (2, 0), (2, 0)]
            );
        } else {
            run_script(&cluster, &wave.join("rollback.sh"));
            mesh::settle(&cluster);
        }
        verify(wave);
    }
    mesh::clear(&cluster, &["ring"]);
}
