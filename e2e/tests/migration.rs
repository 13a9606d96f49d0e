//! The whole migration through the API: read, apply what was written, replace pods, read again.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::mesh;

/// More runs than this mean that two of them undo each other.
const MOST_RUNS: usize = 12;

#[test]
fn applying_what_was_written_ends_with_all_phases_succeeded() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    if mesh::deployed(&cluster).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let before = folder.path().join("before.json.gz");
    let before = before.to_str().unwrap();
    assert_eq!(cluster.castoff(&["collect", before]).code, 0);

    let mut runs = 0;
    loop {
        runs += 1;
        assert!(runs <= MOST_RUNS, "the migration does not end");
        let out = folder.path().join(format!("run-{runs}"));
        // Each run has a folder of its own, in which none finds the baseline that the first one saved.
        let folder = out.to_str().unwrap();
        let run = cluster.castoff(&["migrate", "--output-dir", folder, "--baseline", before]);
        println!("===== run {runs}\n{}", run.stdout);
        if run.code == 0 {
            break;
        }
        assert_eq!(run.code, 2, "{}\n{}", run.stdout, run.stderr);
        assert!(apply(&cluster, &out) > 0, "nothing to apply");
        mesh::settle(&cluster);
    }
    assert!(runs > 4, "the mesh was migrated after {runs} runs");

    // What is live and what was collected are compared alike.
    let after = folder.path().join("after.json.gz");
    let after = after.to_str().unwrap();
    assert_eq!(cluster.castoff(&["collect", after]).code, 0);
    let live = cluster.castoff(&["verify", before, "live"]);
    let collected = cluster.castoff(&["verify", before, after]);
    assert_eq!(live.code, collected.code);
    assert_eq!(
        live.stdout.replacen("(live)", "(it)", 1),
        collected.stdout.replacen(&format!("({after})"), "(it)", 1)
    );
    assert!(
        live.stdout.contains("payments/ledger same"),
        "{}",
        live.stdout
    );
    assert_eq!(cluster.castoff(&["verify", "live", after]).code, 0);
    mesh::spoil(&cluster);
}

#[test]
fn a_plan_is_carried_out_wave_by_wave_and_taken_back_and_access_stays_the_same() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    if mesh::deployed(&cluster).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let before = folder.path().join("before.json.gz");
    let before = before.to_str().unwrap();
    assert_eq!(cluster.castoff(&["collect", before]).code, 0);
    let plan = folder.path().join("plan");
    let run = cluster.castoff(&["plan", "--output-dir", plan.to_str().unwrap()]);
    println!("===== plan ({})\n{}{}", run.code, run.stdout, run.stderr);
    let mut waves: Vec<_> = std::fs::read_dir(&plan)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    waves.sort();
    assert!(waves.len() > 3, "{waves:?}");

    let carry_out = |wave: &std::path::Path, script: &str| {
        run_script(&cluster, &wave.join(script));
        mesh::settle(&cluster);
        let verified = cluster.castoff(&["verify", before, "live"]);
        let wave = wave.file_name().unwrap();
        println!("{wave:?} {script}: verify {}", verified.code);
        assert_eq!(verified.code, 0, "{wave:?} {script}: {}", verified.stdout);
    };
    for wave in &waves {
        from_git(&cluster, wave);
        carry_out(wave, "apply.sh");
    }
    let run = cluster.castoff(&["migrate"]);
    assert_eq!(run.code, 0, "{}", run.stdout);
    for wave in waves.iter().rev() {
        carry_out(wave, "rollback.sh");
    }
    // Everything is as it was: the same plan again, whatever the new pods are called.
    let again = folder.path().join("again");
    cluster.castoff(&["plan", "--output-dir", again.to_str().unwrap()]);
    for wave in &waves {
        let same = again.join(wave.file_name().unwrap()).join("apply.sh");
        assert_eq!(
            std::fs::read_to_string(same).unwrap(),
            std::fs::read_to_string(wave.join("apply.sh")).unwrap()
        );
    }
    mesh::spoil(&cluster);
}

/// Kinds that an overlay holds here: all that waves patch or delete.
const IN_GIT: &str = "namespaces,services,deployments.apps,statefulsets.apps,daemonsets.apps,cronjobs.batch,\
    authorizationpolicies.security.istio.io,requestauthentications.security.istio.io,\
    telemetries.telemetry.istio.io,sidecars.networking.istio.io,networkpolicies.networking.k8s.io";

/// Builds an overlay of what is live with the wave as its component, as Argo CD and Flux do, and lets the
/// API server judge the result without keeping it. What the wave takes away is not among it.
pub(crate) fn from_git(cluster: &Cluster, wave: &std::path::Path) {
    let live = cluster.kubectl(&["get", IN_GIT, "--all-namespaces", "--output=json"]);
    let mut live: Value = serde_json::from_str(&live).unwrap();
    for object in live["items"].as_array_mut().unwrap() {
        object.as_object_mut().unwrap().remove("status");
        let metadata = object["metadata"].as_object_mut().unwrap();
        for field in ["uid", "resourceVersion", "generation", "creationTimestamp"] {
            metadata.remove(field);
        }
    }
    let overlay = wave.with_extension("overlay");
    std::fs::create_dir(&overlay).unwrap();
    std::fs::write(overlay.join("live.yaml"), live.to_string()).unwrap();
    let component = std::path::Path::new("..").join(wave.file_name().unwrap());
    let kustomization = json!({"resources": ["live.yaml"], "components": [component]});
    std::fs::write(
        overlay.join("kustomization.yaml"),
        kustomization.to_string(),
    )
    .unwrap();
    let built = cluster.kubectl(&["kustomize", overlay.to_str().unwrap()]);
    let arguments = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
    let applied = cluster.try_kubectl(&arguments, Some(&built));
    let complaints = String::from_utf8(applied.stderr).unwrap();
    assert!(applied.status.success(), "{wave:?}: {complaints}");

    let patches = std::fs::read_to_string(wave.join("patches.yaml")).unwrap_or_default();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&built).unwrap();
    for patch in serde_saphyr::from_multiple::<Value>(&patches).unwrap_or_default() {
        let same = |object: &&Value| {
            object["kind"] == patch["kind"]
                && object["metadata"]["name"] == patch["metadata"]["name"]
                && object["metadata"]["namespace"] == patch["metadata"]["namespace"]
        };
        let patched = objects.iter().find(same);
        let gone = patch.get("$patch").is_some();
        assert_eq!(patched.is_none(), gone, "{wave:?}: {patch}");
        let Some(patched) = patched else { continue };
        for labels in [
            "/metadata/labels",
            "/spec/template/metadata/labels",
            "/spec/jobTemplate/spec/template/metadata/labels",
        ] {
            let wanted = patch.pointer(labels).and_then(Value::as_object);
            for (key, value) in wanted.into_iter().flatten() {
                let found = patched.pointer(labels).and_then(|labels| labels.get(key));
                assert_eq!(found.unwrap_or(&Value::Null), value, "{wave:?}: {key}");
            }
        }
    }
    std::fs::remove_dir_all(&overlay).unwrap();
}

/// Runs a script of castoff's with the cluster's kubectl.
pub(crate) fn run_script(cluster: &Cluster, script: &std::path::Path) {
    let mut path = cluster.kubectl_folder().into_os_string();
    path.push(":/usr/bin:/bin");
    let mut child = Command::new("sh")
        .arg(script)
        .env("KUBECONFIG", &cluster.kubeconfig)
        .env("PATH", path)
        .current_dir(script.parent().unwrap().parent().unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // The script waits for what istiod makes of its commands.
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        mesh::reconcile(cluster);
        std::thread::sleep(Duration::from_millis(300));
    };
    assert!(
        status.success(),
        "{}",
        std::fs::read_to_string(script).unwrap()
    );
}

/// Applies manifests and runs the commands as a user would; returns how many files there were.
fn apply(cluster: &Cluster, folder: &std::path::Path) -> usize {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    files.sort();
    for file in &files {
        let path = file.to_str().unwrap();
        if path.ends_with(".yaml") {
            // Strict: a field that the real definition does not know is an error, not a warning.
            cluster.kubectl(&["apply", "--validate=strict", "-f", path]);
        }
    }
    let script = folder.join("commands.sh");
    if script.is_file() {
        run_script(cluster, &script);
    }
    files.len()
}
