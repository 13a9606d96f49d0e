//! The cluster under test: kubectl calls, manifests, waiting, namespaces that clean up.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long something may take on a machine under load.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a run of castoff said.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

pub(crate) struct Cluster {
    kubectl: PathBuf,
    pub(crate) kubeconfig: PathBuf,
}

impl Cluster {
    /// The cluster of the environment; `None`, after a loud word, when there is none.
    pub(crate) fn of_environment() -> Option<Self> {
        let Some(kubeconfig) = std::env::var_os("CASTOFF_E2E_KUBECONFIG") else {
            skip("needs a cluster; run `cargo xtask e2e`");
            return None;
        };
        Some(Self {
            kubectl: std::env::var_os("CASTOFF_E2E_KUBECTL")
                .map_or_else(|| PathBuf::from("kubectl"), PathBuf::from),
            kubeconfig: kubeconfig.into(),
        })
    }

    /// Runs kubectl as the administrator.
    pub(crate) fn try_kubectl(&self, arguments: &[&str], input: Option<&str>) -> Output {
        let mut child = Command::new(&self.kubectl)
            .env("KUBECONFIG", &self.kubeconfig)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdin.take().unwrap();
        let input = input.unwrap_or_default().to_owned();
        let writer = std::thread::spawn(move || pipe.write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().ok();
        output
    }

    /// Runs kubectl as the administrator and returns what it printed; it must succeed.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        successful(arguments, self.try_kubectl(arguments, None))
    }

    /// Applies manifests with server-side validation; every object must be accepted.
    pub(crate) fn apply(&self, manifests: &str) -> String {
        let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        successful(&arguments, self.try_kubectl(&arguments, Some(manifests)))
    }

    /// Creates a namespace that is deleted, without waiting, at the end of the case.
    pub(crate) fn namespace(&self, name: &str) -> Namespace<'_> {
        self.apply(&format!(
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n"
        ));
        Namespace {
            cluster: self,
            name: name.to_owned(),
        }
    }

    /// Installs definitions (a file of `e2e/crds`) and waits until they are served.
    pub(crate) fn install_definitions(&self, file: &str) {
        // Newer definitions of the Gateway API bring a policy that refuses older ones.
        for kind in [
            "validatingadmissionpolicybindings",
            "validatingadmissionpolicies",
        ] {
            self.kubectl(&[
                "delete",
                kind,
                "safe-upgrades.gateway.networking.k8s.io",
                "--ignore-not-found",
            ]);
        }
        let path = repository().join("e2e/crds").join(file);
        let path = path.to_str().unwrap();
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", path]);
        self.kubectl(&[
            "wait",
            "--for=condition=Established",
            "--timeout=120s",
            "customresourcedefinitions",
            "--all",
        ]);
    }

    /// A fake node that kwok keeps ready.
    pub(crate) fn node(&self, name: &str) {
        self.apply(&format!(
            "apiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  \
             labels: {{kubernetes.io/os: linux, kubernetes.io/hostname: {name}}}\n  \
             annotations: {{kwok.x-k8s.io/node: fake}}\n"
        ));
    }

    /// Whether a user may do something: verb, resource and where, as `kubectl auth can-i` takes it.
    pub(crate) fn can(&self, user: &str, question: &[&str]) -> bool {
        let mut arguments = vec!["auth", "can-i", "--as", user];
        arguments.extend(question);
        let output = self.try_kubectl(&arguments, None);
        String::from_utf8_lossy(&output.stdout).trim() == "yes"
    }

    /// Whether there is a definition of this name.
    pub(crate) fn is_defined(&self, name: &str) -> bool {
        let arguments = ["get", "customresourcedefinition", name];
        self.try_kubectl(&arguments, None).status.success()
    }

    /// The folder that holds kubectl.
    pub(crate) fn kubectl_folder(&self) -> PathBuf {
        self.kubectl.parent().unwrap_or(Path::new("")).to_owned()
    }

    /// Runs castoff against this cluster in a folder of its own.
    pub(crate) fn castoff(&self, arguments: &[&str]) -> Run {
        self.castoff_with(&self.kubeconfig, arguments)
    }

    /// Runs castoff with another kubeconfig.
    pub(crate) fn castoff_with(&self, kubeconfig: &Path, arguments: &[&str]) -> Run {
        let folder = tempfile::tempdir().unwrap();
        let begun = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
            .args(arguments)
            .env("KUBECONFIG", kubeconfig)
            .env("NO_COLOR", "1")
            .current_dir(folder.path())
            .output()
            .unwrap();
        Run {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            took: begun.elapsed(),
        }
    }

    /// Asks again until `done` likes the answer.
    pub(crate) fn wait_until(&self, what: &str, arguments: &[&str], done: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        loop {
            let output = self.try_kubectl(arguments, None);
            let answer = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() && done(&answer) {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "waited until {what}; the last answer: {answer}{}",
                String::from_utf8_lossy(&output.stderr)
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Says past the test harness's capture that a case was skipped: it must not look like a passed
/// one.
pub(crate) fn skip(reason: &str) {
    let case = std::thread::current().name().unwrap_or("?").to_owned();
    let _written = writeln!(std::io::stderr(), "SKIPPED: {case} {reason}");
}

/// A namespace that goes when its case ends.
pub(crate) struct Namespace<'a> {
    cluster: &'a Cluster,
    pub(crate) name: String,
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        self.cluster
            .try_kubectl(&["delete", "namespace", &self.name, "--wait=false"], None);
    }
}

/// The top folder of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn successful(arguments: &[&str], output: Output) -> String {
    assert!(
        output.status.success(),
        "kubectl {} failed:\n{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
