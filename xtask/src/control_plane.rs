//! etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok on loopback.
//!
//! In: the folder of binaries. Out: a cluster whose Deployments become running, ready Pods and
//! EndpointSlices; its kubeconfig, its PKI folder and etcd's address for the cases that force a
//! compaction. Invariant: everything ends, and the temporary folder goes, with this process.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::pki::Pki;
use crate::processes::Processes;

/// How long a machine under load may take to bring the API server up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running control plane; it ends when this value is dropped.
pub(crate) struct ControlPlane {
    processes: Processes,
    folder: PathBuf,
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    server: String,
    etcd: String,
}

impl ControlPlane {
    /// Starts everything and waits until workloads can be created.
    pub(crate) fn start(bin: &Path, logs: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(logs)
            .map_err(|error| format!("cannot create `{}`: {error}", logs.display()))?;
        let folder = tempfile::Builder::new()
            .prefix("castoff-e2e-")
            .tempdir()
            .map_err(|error| format!("cannot create a temporary folder: {error}"))?
            .keep();
        let processes = Processes::new(&folder, logs)?;
        let [etcd, peer, api, controllers, scheduler] = free_ports()?;
        let server = format!("https://127.0.0.1:{api}");
        let etcd_address = format!("http://127.0.0.1:{etcd}");
        let pki = Pki::new(&folder, &server)?;
        pki.broken_clients()?;
        let kubeconfig = pki.client("admin", "admin", "system:masters")?;
        let mut control_plane = Self {
            processes,
            kubectl: bin.join("kubectl"),
            kubeconfig,
            server,
            etcd: etcd_address,
            folder,
        };
        control_plane.start_etcd(bin, peer)?;
        control_plane.start_api_server(bin, &pki, api)?;
        // The controller manager gives up when the server needs more than ten seconds.
        control_plane.wait_until("the API server is ready", &["get", "--raw", "/readyz"])?;
        control_plane.start_clients(bin, &pki, controllers, scheduler)?;
        control_plane.wait_until(
            "the controller manager works",
            &["get", "serviceaccount", "default", "--namespace=default"],
        )?;
        Ok(control_plane)
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The folder with the authority and the kubeconfigs that cannot connect.
    pub(crate) fn pki(&self) -> &Path {
        &self.folder
    }

    /// `https://127.0.0.1:PORT`.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// `http://127.0.0.1:PORT`.
    pub(crate) fn etcd(&self) -> &str {
        &self.etcd
    }

    /// Fails when a component has died.
    pub(crate) fn check_alive(&mut self) -> Result<(), Failure> {
        self.processes.check_alive()
    }

    fn start_etcd(&mut self, bin: &Path, peer: u16) -> Result<(), Failure> {
        let peer = format!("http://127.0.0.1:{peer}");
        self.processes.start(
            "etcd",
            Command::new(bin.join("etcd"))
                .arg(flag("data-dir", self.folder.join("etcd")))
                .arg(format!("--listen-client-urls={}", self.etcd))
                .arg(format!("--advertise-client-urls={}", self.etcd))
                .arg(format!("--listen-peer-urls={peer}"))
                .arg(format!("--initial-advertise-peer-urls={peer}"))
                .arg(format!("--initial-cluster=default={peer}"))
                // A cluster that lives for minutes needs no durable disk.
                .arg("--unsafe-no-fsync"),
        )
    }

    fn start_api_server(&mut self, bin: &Path, pki: &Pki, port: u16) -> Result<(), Failure> {
        self.processes.start(
            "kube-apiserver",
            Command::new(bin.join("kube-apiserver"))
                .arg(format!("--etcd-servers={}", self.etcd))
                .arg(format!("--secure-port={port}"))
                .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
                // Endpoints of the Service `kubernetes` may not be loopback addresses.
                .arg("--endpoint-reconciler-type=none")
                .arg(flag("cert-dir", pki.path("apiserver")))
                .arg(flag("tls-cert-file", pki.path("server.crt")))
                .arg(flag("tls-private-key-file", pki.path("server.key")))
                .arg(flag("client-ca-file", pki.path("ca.crt")))
                .arg("--service-account-issuer=https://kubernetes.default.svc")
                .arg(flag(
                    "service-account-key-file",
                    pki.path("service-accounts.pub"),
                ))
                .arg(flag(
                    "service-account-signing-key-file",
                    pki.path("service-accounts.key"),
                ))
                .arg("--authorization-mode=Node,RBAC")
                .arg("--enable-admission-plugins=NodeRestriction")
                // It taints new nodes until the node lifecycle controller, which does not run
                // here, finds them ready.
                .arg("--disable-admission-plugins=TaintNodesByCondition")
                // With it the further pages of a list come from memory, and the case that lets
                // etcd forget their revision would never see a continue token expire.
                .arg("--feature-gates=ListFromCacheSnapshot=false")
                .arg("--service-cluster-ip-range=10.96.0.0/12"),
        )
    }

    fn start_clients(
        &mut self,
        bin: &Path,
        pki: &Pki,
        controllers: u16,
        scheduler: u16,
    ) -> Result<(), Failure> {
        let manager = "system:kube-controller-manager";
        let manager_kubeconfig = pki.client("controller-manager", manager, manager)?;
        let scheduler_name = "system:kube-scheduler";
        let scheduler_kubeconfig = pki.client("scheduler", scheduler_name, scheduler_name)?;
        let kwok_kubeconfig = pki.client("kwok", "kwok", "system:masters")?;
        self.processes.start(
            "kube-controller-manager",
            Command::new(bin.join("kube-controller-manager"))
                .arg(flag("kubeconfig", manager_kubeconfig))
                .arg(format!("--secure-port={controllers}"))
                .arg("--bind-address=127.0.0.1")
                .arg(flag("cert-dir", self.folder.join("controller-manager")))
                .arg("--leader-elect=false")
                .arg(flag("root-ca-file", pki.path("ca.crt")))
                .arg(flag(
                    "service-account-private-key-file",
                    pki.path("service-accounts.key"),
                ))
                .arg("--use-service-account-credentials")
                // Nodes are fake: nobody may evict their pods, and no metrics exist.
                .arg(
                    "--controllers=*,-node-lifecycle-controller,\
                     -horizontal-pod-autoscaler-controller",
                ),
        )?;
        self.processes.start(
            "kube-scheduler",
            Command::new(bin.join("kube-scheduler"))
                .arg(flag("kubeconfig", scheduler_kubeconfig))
                .arg(format!("--secure-port={scheduler}"))
                .arg("--bind-address=127.0.0.1")
                .arg(flag("cert-dir", self.folder.join("scheduler")))
                .arg("--leader-elect=false"),
        )?;
        self.processes.start(
            "kwok",
            Command::new(bin.join("kwok"))
                .arg(flag("kubeconfig", kwok_kubeconfig))
                .args([
                    "--manage-all-nodes=true",
                    "--node-lease-duration-seconds=40",
                ])
                // It looks for a configuration of the user's there.
                .env("HOME", &self.folder)
                .current_dir(&self.folder),
        )
    }

    fn wait_until(&mut self, what: &str, arguments: &[&str]) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let output = Command::new(&self.kubectl)
                .arg(flag("kubeconfig", &self.kubeconfig))
                .arg("--request-timeout=5s")
                .args(arguments)
                // Its cache of discovery must not end up in the user's home.
                .env("HOME", &self.folder)
                .stdin(Stdio::null())
                .output()
                .map_err(|error| format!("cannot run kubectl: {error}"))?;
            if output.status.success() {
                return Ok(());
            }
            self.processes.check_alive()?;
            if begun.elapsed() > PATIENCE {
                return Err(format!(
                    "waited {} s until {what}: {}",
                    PATIENCE.as_secs(),
                    String::from_utf8_lossy(&output.stderr).trim()
                ));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn flag(name: &str, path: impl AsRef<Path>) -> String {
    format!("--{name}={}", path.as_ref().display())
}

/// Ports that are free now; all are held until the last is known, so that they differ.
fn free_ports<const N: usize>() -> Result<[u16; N], Failure> {
    let tell = |error: std::io::Error| format!("cannot listen on 127.0.0.1: {error}");
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(tell)?;
        *port = listener.local_addr().map_err(tell)?.port();
        listeners.push(listener);
    }
    Ok(ports)
}
