//! 429 by the API server's own priority and fairness: castoff's account shares one seat with a
//! request that does not end, and is rejected while that lasts.

use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Cluster, repository};
use crate::origins::without_origins;
use crate::permissions::{ACCOUNT, MIGRATE, eventually, with_token};
use crate::requests::Requests;

/// Who takes the seat.
const HOLDER: &str = "seat-holder";

/// An admission webhook that accepts connections and says nothing until it is told to hang up. A
/// request that waits for it keeps its seat.
struct Silence {
    address: String,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    open: Arc<AtomicBool>,
}

impl Silence {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let silence = Self {
            address: listener.local_addr().unwrap().to_string(),
            connections: Arc::default(),
            open: Arc::new(AtomicBool::new(true)),
        };
        let (connections, open) = (Arc::clone(&silence.connections), Arc::clone(&silence.open));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Once hung up, further connections are closed at once.
                if open.load(Ordering::SeqCst) {
                    connections.lock().unwrap().push(stream);
                }
            }
        });
        silence
    }

    fn hang_up(&self) {
        self.open.store(false, Ordering::SeqCst);
        self.connections.lock().unwrap().clear();
    }

    fn is_asked(&self) -> bool {
        !self.connections.lock().unwrap().is_empty()
    }
}

fn objects(silence: &Silence) -> Value {
    let subjects = [
        json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "castoff", "name": "castoff"}}),
        json!({"kind": "User", "user": {"name": HOLDER}}),
    ];
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
         "metadata": {"name": HOLDER},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
         "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": HOLDER}]},
        {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
         "metadata": {"name": "one-seat"},
         "spec": {"type": "Limited", "limited": {
             "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
             "limitResponse": {"type": "Reject"}}}},
        {"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
         "metadata": {"name": "one-seat"},
         "spec": {
             "priorityLevelConfiguration": {"name": "one-seat"}, "matchingPrecedence": 3,
             "rules": [{"subjects": subjects,
                 "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                 "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                                    "namespaces": ["*"], "clusterScope": true}]}]}},
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
         "metadata": {"name": "one-seat"},
         "webhooks": [{
             "name": "silence.example.test", "admissionReviewVersions": ["v1"],
             "sideEffects": "None", "failurePolicy": "Ignore", "timeoutSeconds": 30,
             "clientConfig": {"url": format!("https://{}/silence", silence.address)},
             "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "seats"}},
             "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                        "resources": ["configmaps"]}]}]},
    ]})
}

/// Takes the seat from a thread of its own; returns once the API server waits for the webhook.
fn take_seat(cluster: &Cluster, silence: &Silence, name: &str) -> std::thread::JoinHandle<()> {
    let begun = Instant::now();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let holder = create(cluster, &format!("{name}-{attempt}"));
        while !holder.is_finished() {
            if silence.is_asked() {
                return holder;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // The API server learns of a new webhook a moment later.
        holder.join().unwrap();
        assert!(begun.elapsed().as_secs() < 30, "nobody asked the webhook");
    }
}

/// Creates a ConfigMap as the holder, without waiting for it.
fn create(cluster: &Cluster, name: &str) -> std::thread::JoinHandle<()> {
    let mut command = Command::new(cluster.kubectl_folder().join("kubectl"));
    command
        .env("KUBECONFIG", &cluster.kubeconfig)
        .args(["create", "--raw", "/api/v1/namespaces/seats/configmaps"])
        .args(["--as", HOLDER, "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null());
    let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    std::thread::spawn(move || {
        let mut child = command.spawn().unwrap();
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(body.to_string().as_bytes()).unwrap();
        drop(pipe);
        child.wait().unwrap();
    })
}

#[test]
fn a_rejecting_priority_level_is_waited_for_and_a_seat_that_never_comes_is_told() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    if std::env::var_os("CASTOFF_E2E_SERVER").is_none() {
        crate::cluster::skip("needs an API server that can call this process");
        return;
    }
    let role = repository().join("deploy/rbac.yaml");
    cluster.kubectl(&["apply", "-f", role.to_str().unwrap()]);
    let _seats = cluster.namespace("seats");
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = with_token(&cluster, folder.path());
    let account = Requests::of(&kubeconfig);
    eventually(|| account.send("GET", "/api/v1/secrets", None).0 == 403);
    let quiet = cluster.castoff_with(&kubeconfig, &MIGRATE);

    let silence = Silence::start();
    cluster.apply(&objects(&silence).to_string());
    eventually(|| {
        let (_, schema) = Requests::of(&cluster.kubeconfig).send(
            "GET",
            "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/one-seat",
            None,
        );
        schema["status"]["conditions"][0]["status"] == "False"
    });

    // Nobody frees the seat: the API server gives up on the webhook later than castoff does.
    let holder = take_seat(&cluster, &silence, "never");
    let (code, answer) = account.send("GET", "/api/v1/namespaces", None);
    assert_eq!(code, 429, "{answer}");
    for arguments in [
        &["migrate", "--request-timeout=2s"][..],
        &["collect", "x.gz", "--request-timeout=2s"],
    ] {
        let run = cluster.castoff_with(&kubeconfig, arguments);
        println!(
            "{arguments:?} ({}, {:?}): {}{}",
            run.code, run.took, run.stdout, run.stderr
        );
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
        assert!(run.stderr.contains("429"), "{run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    }
    silence.hang_up();
    holder.join().unwrap();

    // The seat becomes free after three seconds: the same report as ever, later.
    silence.open.store(true, Ordering::SeqCst);
    let holder = take_seat(&cluster, &silence, "short");
    assert_eq!(account.send("GET", "/api/v1/namespaces", None).0, 429);
    let run = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(3));
            silence.hang_up();
        });
        cluster.castoff_with(&kubeconfig, &MIGRATE)
    });
    holder.join().unwrap();
    println!("rejected for 3 s, read in {:?} as {ACCOUNT}", run.took);
    assert!(run.took >= Duration::from_secs(2), "{run:?}");
    assert_eq!(run.code, quiet.code, "{}", run.stderr);
    assert_eq!(without_origins(&run.stdout), without_origins(&quiet.stdout));

    for object in [
        "validatingwebhookconfigurations",
        "flowschemas",
        "prioritylevelconfigurations",
    ] {
        cluster.kubectl(&["delete", object, "one-seat"]);
    }
    cluster.kubectl(&["delete", "clusterrolebinding", HOLDER]);
}
