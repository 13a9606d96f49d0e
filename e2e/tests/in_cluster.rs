//! castoff as the CronJob of `deploy/job.yaml` runs it: no kubeconfig, the address of the API server
//! in the environment, token and authority where a pod has them.
//!
//! Those paths are fixed. A mount namespace of its own puts files there without touching the
//! machine; where none may be made, root may create them if nothing is there, and takes them away.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::cluster::{Cluster, repository, skip};
use crate::mesh;
use crate::origins::without_origins;
use crate::permissions::{MIGRATE, eventually, report, with_token};

const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Runs a command beside a folder of files that stand in [`FOLDER`].
enum Pod {
    /// In a user and mount namespace, `/var/run` being its own.
    Namespaced,
    /// On the machine itself; the topmost folder that had to be made.
    Written(PathBuf),
}

impl Pod {
    fn new(files: &Path) -> Option<Self> {
        let probe = "mount -t tmpfs tmpfs /var/run";
        let namespaced = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", probe])
            .output()
            .is_ok_and(|output| output.status.success());
        if namespaced {
            return Some(Self::Namespaced);
        }
        if Path::new("/var/run/secrets").exists() {
            skip("may make no mount namespace, and `/var/run/secrets` is somebody else's");
            return None;
        }
        if std::fs::create_dir_all(FOLDER).is_err() {
            skip("may neither make a mount namespace nor write to `/var/run`");
            return None;
        }
        for entry in std::fs::read_dir(files).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, Path::new(FOLDER).join(path.file_name().unwrap())).unwrap();
        }
        Some(Self::Written(PathBuf::from("/var/run/secrets")))
    }

    fn run(&self, files: &Path, server: (&str, &str), arguments: &[String]) -> Output {
        let castoff = env!("CARGO_BIN_EXE_castoff");
        let mut command = match self {
            Self::Written(_) => Command::new(castoff),
            Self::Namespaced => {
                let script = format!(
                    "mount -t tmpfs tmpfs /var/run && mkdir -p {FOLDER} && cp \"$1\"/* {FOLDER} \
                     && shift && exec \"$@\""
                );
                let mut command = Command::new("unshare");
                command.args(["--user", "--map-root-user", "--mount"]);
                command.args(["sh", "-c", &script, "sh"]).arg(files);
                command.arg(castoff);
                command
            }
        };
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
            .env("KUBERNETES_SERVICE_HOST", server.0)
            .env("KUBERNETES_SERVICE_PORT", server.1)
            .current_dir(files.parent().unwrap())
            .output()
            .unwrap()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if let Self::Written(folder) = self {
            std::fs::remove_dir_all(folder).ok();
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_deployed_job_reads_the_mesh_with_the_token_of_its_pod_and_not_after_its_end() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    if mesh::deployed(&cluster).is_none() {
        return;
    }
    for file in ["rbac.yaml", "job.yaml"] {
        let path = repository().join("deploy").join(file);
        cluster.kubectl(&["apply", "-f", path.to_str().unwrap()]);
    }
    let of_castoff = "--namespace=castoff";
    cluster.kubectl(&[
        "create",
        "job",
        "once",
        "--from=cronjob/castoff",
        of_castoff,
    ]);
    let selector = "--selector=batch.kubernetes.io/job-name=once";
    let pods = ["get", "pods", of_castoff, selector, "--output=json"];
    cluster.wait_until("the job has a pod", &pods, |answer| {
        !report(answer)["items"].as_array().unwrap().is_empty()
    });
    let pod = report(&cluster.kubectl(&pods))["items"][0].take();
    let pod_name = pod["metadata"]["name"].as_str().unwrap().to_owned();
    let container = &pod["spec"]["containers"][0];
    let mounted = |mount: &Value| mount["mountPath"] == FOLDER;
    let mounts = container["volumeMounts"].as_array().unwrap();
    assert!(mounts.iter().any(mounted), "{container}");

    // The files that a kubelet would write: a token bound to the pod, the authority that the
    // cluster publishes, the namespace.
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let token = cluster.kubectl(&[
        "create",
        "token",
        "castoff",
        of_castoff,
        "--bound-object-kind=Pod",
        &format!("--bound-object-name={pod_name}"),
    ]);
    let authority = [
        "get",
        "configmap",
        "kube-root-ca.crt",
        of_castoff,
        r"--output=jsonpath={.data.ca\.crt}",
    ];
    std::fs::write(files.join("token"), token.trim()).unwrap();
    std::fs::write(files.join("ca.crt"), cluster.kubectl(&authority)).unwrap();
    std::fs::write(files.join("namespace"), "castoff").unwrap();
    let view = cluster.kubectl(&["config", "view", "--minify", "--output=json"]);
    let address = report(&view)["clusters"][0]["cluster"]["server"].take();
    let address = address.as_str().unwrap().trim_start_matches("https://");
    let server = address.rsplit_once(':').unwrap_or((address, "443"));
    let Some(place) = Pod::new(&files) else {
        return;
    };

    // As the job is deployed, but for the place of its files.
    let out = folder.path().join("out");
    let arguments: Vec<String> = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|argument| argument.as_str().unwrap())
        .map(|argument| argument.replace("/out", out.to_str().unwrap()))
        .collect();
    let run = place.run(&files, server, &arguments);
    let report_text = text(&run.stdout);
    assert_eq!(run.status.code(), Some(4), "{run:?}");
    assert!(report_text.is_ascii(), "{report_text}");
    for word in ["payments/checkout", "list` `secrets`"] {
        assert!(report_text.contains(word), "{word}: {report_text}");
    }
    assert!(out.join("baseline.json.gz").is_file(), "{report_text}");

    // The same report as with a kubeconfig of the same account.
    let kubeconfig = with_token(&cluster, folder.path());
    let expected = cluster.castoff_with(&kubeconfig, &MIGRATE);
    let run = place.run(&files, server, &MIGRATE.map(str::to_owned));
    assert_eq!(run.status.code(), Some(expected.code), "{run:?}");
    assert_eq!(
        without_origins(&text(&run.stdout)),
        without_origins(&expected.stdout)
    );

    // A token is worth nothing once its pod is gone.
    cluster.kubectl(&["delete", "job", "once", of_castoff]);
    cluster.kubectl(&["delete", "cronjob", "castoff", of_castoff]);
    let again = ["migrate".to_owned()];
    eventually(|| place.run(&files, server, &again).status.code() == Some(1));
    let run = place.run(&files, server, &again);
    assert_eq!(text(&run.stdout), "");
    let message = text(&run.stderr);
    assert!(
        message.contains("context `in-cluster`") && message.contains("(401)"),
        "{message}"
    );
}
