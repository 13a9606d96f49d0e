//! A small API server inside the test: what a real one cannot be made to do.
//!
//! It answers from a table, lets a case replace single answers, and keeps every request it saw.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One request as the server saw it. Header names are in lower case.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Seen {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    pub(crate) fn query(&self, key: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// A status and a JSON body.
    Status(u16, String),
    /// 429 with `Retry-After` in seconds.
    TooMany(u64),
    /// The head of an answer and half of its body, then the connection ends.
    CutAfterHalf(String),
    /// Nothing for so long.
    Silence(Duration),
}

impl Answer {
    pub(crate) fn ok(body: impl Into<String>) -> Self {
        Self::Status(200, body.into())
    }

    /// A `Status` object, as API servers refuse.
    pub(crate) fn refused(code: u16, message: &str) -> Self {
        Self::Status(
            code,
            format!("{{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"message\":\"{message}\"}}"),
        )
    }
}

/// Replaces answers: the request, and how often its path was asked for before.
pub(crate) type Rule = dyn Fn(&Seen, usize) -> Option<Answer> + Send + Sync;

pub(crate) struct Stub {
    pub(crate) address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    folder: tempfile::TempDir,
}

impl Stub {
    pub(crate) fn start(
        rule: impl Fn(&Seen, usize) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (rule, log): (Arc<Rule>, _) = (Arc::new(rule), Arc::clone(&seen));
        // Both end with the process: a test binary lives for seconds.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (rule, log) = (Arc::clone(&rule), Arc::clone(&log));
                std::thread::spawn(move || serve(stream, &*rule, &log));
            }
        });
        let stub = Self {
            address,
            seen,
            folder: tempfile::tempdir().unwrap(),
        };
        stub.kubeconfig("{}", "");
        stub
    }

    /// Writes the kubeconfig with this user and further lines of the cluster.
    pub(crate) fn kubeconfig(&self, user: &str, cluster: &str) {
        let server = &self.address;
        std::fs::write(
            self.folder.path().join("config"),
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: stub\n\
                 clusters:\n- name: stub\n  cluster:\n    server: http://{server}\n{cluster}\
                 users:\n- name: stub\n  user: {user}\n\
                 contexts:\n- name: stub\n  context: {{cluster: stub, user: stub}}\n"
            ),
        )
        .unwrap();
    }

    /// A folder for whatever the case needs.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Runs castoff against this server, without the environment's own clusters and proxies.
    pub(crate) fn castoff(&self, arguments: &[&str]) -> Run {
        let begun = std::time::Instant::now();
        let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_castoff"))
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.folder.path())
            .env("KUBECONFIG", self.folder.path().join("config"))
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        Run {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            took: begun.elapsed(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

fn serve(stream: TcpStream, rule: &Rule, log: &Mutex<Vec<Seen>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(request) = read_request(&mut reader) {
        let before = {
            let mut log = log.lock().unwrap();
            let before = log
                .iter()
                .filter(|seen| seen.path() == request.path())
                .count();
            log.push(request.clone());
            before
        };
        let answer = rule(&request, before).unwrap_or_else(|| ordinary(&request));
        if !write_answer(&stream, answer) {
            return;
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(':') else {
            break;
        };
        let (name, value) = (name.to_lowercase(), value.trim().to_owned());
        if name == "content-length" {
            length = value.parse().ok()?;
        }
        headers.push((name, value));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Seen {
        method,
        target,
        headers,
    })
}

/// Whether the connection may be used again.
fn write_answer(mut stream: &TcpStream, answer: Answer) -> bool {
    let (code, body, extra, cut) = match answer {
        Answer::Status(code, body) => (code, body, String::new(), false),
        Answer::TooMany(seconds) => {
            let body = "{\"kind\":\"Status\",\"message\":\"too many requests\"}".to_owned();
            (429, body, format!("Retry-After: {seconds}\r\n"), false)
        }
        Answer::CutAfterHalf(body) => (200, body, String::new(), true),
        Answer::Silence(time) => {
            std::thread::sleep(time);
            return false;
        }
    };
    let sent = if cut { body.len() / 2 } else { body.len() };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{extra}\r\n"
    );
    stream.write_all(head.as_bytes()).is_ok()
        && stream.write_all(&body.as_bytes()[..sent]).is_ok()
        && !cut
}

/// The lists of the mesh, by path.
fn lists() -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        (
            "/api/v1/namespaces",
            list(
                "v1",
                "Namespace",
                &[
                    r#"{"metadata":{"name":"istio-system"}}"#,
                    r#"{"metadata":{"name":"shop","labels":{"istio-injection":"enabled"}}}"#,
                ],
            ),
        ),
        ("/api/v1/pods", pods(&["orders-1", "orders-2"])),
        (
            "/api/v1/services",
            list(
                "v1",
                "Service",
                &[
                    r#"{"metadata":{"name":"orders","namespace":"shop"},"spec":{"clusterIP":"10.0.0.1","selector":{"app":"orders"},"ports":[{"name":"http","port":80}]}}"#,
                ],
            ),
        ),
        (
            "/apis/apps/v1/deployments",
            list(
                "apps/v1",
                "Deployment",
                &[
                    r#"{"metadata":{"name":"istiod","namespace":"istio-system","labels":{"app":"istiod"}},"spec":{"selector":{"matchLabels":{"app":"istiod"}},"template":{"metadata":{"labels":{"app":"istiod"}},"spec":{"containers":[{"name":"discovery","image":"docker.io/istio/pilot:1.30.3"}]}}}}"#,
                ],
            ),
        ),
    ])
}

/// A list of pods of the workload `orders`.
pub(crate) fn pods(names: &[&str]) -> String {
    let items: Vec<String> = names
        .iter()
        .map(|name| {
            format!(
                r#"{{"metadata":{{"name":"{name}","namespace":"shop","labels":{{"app":"orders"}}}},"spec":{{"serviceAccountName":"orders","containers":[{{"name":"app","image":"orders"}},{{"name":"istio-proxy","image":"docker.io/istio/proxyv2:1.30.3"}}]}},"status":{{"phase":"Running","podIP":"10.1.0.1"}}}}"#
            )
        })
        .collect();
    let items: Vec<&str> = items.iter().map(String::as_str).collect();
    list("v1", "Pod", &items)
}

/// A list as an API server answers it.
pub(crate) fn list(api_version: &str, kind: &str, items: &[&str]) -> String {
    page(api_version, kind, items, "")
}

/// A page of a list.
pub(crate) fn page(api_version: &str, kind: &str, items: &[&str], token: &str) -> String {
    format!(
        r#"{{"kind":"{kind}List","apiVersion":"{api_version}","metadata":{{"resourceVersion":"7","continue":"{token}"}},"items":[{}]}}"#,
        items.join(",")
    )
}

/// Groups and what they serve, in one version each.
pub(crate) const GROUPS: [(&str, &str, &[&str]); 6] = [
    (
        "apps",
        "v1",
        &["deployments", "replicasets", "statefulsets", "daemonsets"],
    ),
    ("batch", "v1", &["jobs", "cronjobs"]),
    ("discovery.k8s.io", "v1", &["endpointslices"]),
    ("networking.k8s.io", "v1", &["networkpolicies"]),
    (
        "admissionregistration.k8s.io",
        "v1",
        &["mutatingwebhookconfigurations"],
    ),
    ("apiextensions.k8s.io", "v1", &["customresourcedefinitions"]),
];

/// The answer to `/apis`, from groups and versions.
pub(crate) fn groups(served: &[(&str, &str)]) -> String {
    let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, version) in served {
        versions.entry(name).or_default().push(format!(
            r#"{{"groupVersion":"{name}/{version}","version":"{version}"}}"#
        ));
    }
    let groups: Vec<String> = versions
        .iter()
        .map(|(name, versions)| {
            format!(r#"{{"name":"{name}","versions":[{}]}}"#, versions.join(","))
        })
        .collect();
    format!(
        r#"{{"kind":"APIGroupList","groups":[{}]}}"#,
        groups.join(",")
    )
}

/// The answer to `/apis/GROUP/VERSION`.
pub(crate) fn resources(plurals: &[&str]) -> String {
    let resources: Vec<String> = plurals
        .iter()
        .map(|plural| format!(r#"{{"name":"{plural}"}}"#))
        .collect();
    format!(
        r#"{{"kind":"APIResourceList","resources":[{}]}}"#,
        resources.join(",")
    )
}

fn ordinary(request: &Seen) -> Answer {
    let path = request.path();
    if path == "/version" {
        return Answer::ok(r#"{"major":"1","minor":"34"}"#);
    }
    if path == "/apis" {
        let served: Vec<(&str, &str)> = GROUPS
            .iter()
            .map(|(name, version, _)| (*name, *version))
            .collect();
        return Answer::ok(groups(&served));
    }
    if let Some(list) = lists().get(path) {
        return Answer::ok(list.clone());
    }
    for (group, version, plurals) in GROUPS {
        let root = format!("/apis/{group}/{version}");
        if path == root {
            return Answer::ok(resources(plurals));
        }
        if path.starts_with(&root) {
            return Answer::ok(list(&format!("{group}/{version}"), "Any", &[]));
        }
    }
    let core = path.strip_prefix("/api/v1/").unwrap_or_default();
    if ["serviceaccounts", "nodes", "secrets"].contains(&core) {
        return Answer::ok(list("v1", "Any", &[]));
    }
    Answer::refused(404, "not found")
}
