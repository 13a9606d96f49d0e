//! A redacted bundle holds no name, and gives the same report up to names.
#![allow(missing_docs, clippy::unwrap_used)]
#![cfg(feature = "cluster")]

use std::collections::BTreeSet;
use std::path::Path;

use castoff::mesh::{Mesh, MeshOverrides};
use castoff::phases::{self, Context, MigrateOptions};
use castoff::report::{Parts, Report, wire};
use castoff::snapshot::Kind;
use castoff::source::recording::{RecordedList, Recording};
use castoff::source::redact::Redactor;
use proptest::prelude::*;
use serde_json::Value;

/// A recording of manifests, as if a cluster had answered them.
fn recorded(texts: &[String]) -> Recording {
    let mut recording = Recording {
        context: "production".into(),
        ..Recording::default()
    };
    for text in texts {
        for document in serde_saphyr::from_multiple::<Value>(text).unwrap() {
            let items = match document["items"].as_array() {
                Some(items) => items.clone(),
                None => vec![document],
            };
            for item in items {
                let version = item["apiVersion"].as_str().unwrap_or_default();
                let Some(kind) = Kind::of(version, item["kind"].as_str().unwrap_or_default())
                else {
                    continue;
                };
                let one = RecordedList {
                    api_version: version.to_owned(),
                    items: item.to_string(),
                    count: 1,
                };
                match recording.lists.get_mut(&kind) {
                    Some(list) => list.append(&one),
                    None => {
                        recording.lists.insert(kind, one);
                    }
                }
            }
        }
    }
    recording
}

fn report(recording: Recording) -> String {
    let snapshot = recording.into_snapshot();
    assert_eq!(snapshot.problems, []);
    let mesh = Mesh::build(&snapshot, &MeshOverrides::default());
    let options = MigrateOptions {
        ignore_failures: true,
        ..MigrateOptions::default()
    };
    let context = Context::new(&mesh, &snapshot, &options);
    let report = Report::new(Parts {
        input: "it".to_owned(),
        phases: phases::run(&context),
        gaps: mesh.gaps.clone(),
        invocation: "castoff migrate".to_owned(),
        ..Parts::default()
    });
    wire::json(&report)
}

/// The lines of a report with hashes for names, in an order that names do not decide.
fn up_to_names(report: &str, redactor: &mut Redactor) -> Vec<String> {
    let mut lines: Vec<String> = report
        .lines()
        .map(|line| {
            // `a, b and 5 more`: which ones are shown is decided by their names.
            let shortened = line.contains(" more");
            let line = redactor.text(line);
            let mut words: Vec<&str> = line
                .split(|character: char| !character.is_alphanumeric())
                .filter(|word| !word.is_empty())
                .filter(|word| !shortened || word.parse::<usize>().is_ok())
                .collect();
            words.sort_unstable();
            words.join(" ")
        })
        .collect();
    lines.sort();
    lines
}

fn assert_same_report(name: &str, texts: &[String]) {
    let mut redactor = Redactor::new("key");
    let original = recorded(texts);
    let mut redacted = original.clone();
    redactor.recording(&mut redacted).unwrap();
    let expected = up_to_names(&report(original), &mut redactor);
    let found = up_to_names(&report(redacted), &mut redactor);
    let only = |left: &[String], right: &[String]| -> Vec<String> {
        let right: BTreeSet<&String> = right.iter().collect();
        left.iter()
            .filter(|line| !right.contains(line))
            .take(6)
            .cloned()
            .collect()
    };
    assert_eq!(
        (only(&expected, &found), only(&found, &expected)),
        (Vec::new(), Vec::new()),
        "{name}"
    );
    assert_eq!(expected, found, "{name}");
}

#[test]
fn the_demo_gives_the_same_report() {
    let texts: Vec<String> = castoff::demo::FILES
        .iter()
        .map(|(_, text)| (*text).to_owned())
        .collect();
    assert_same_report("demo", &texts);
}

#[test]
fn dumps_of_real_clusters_give_the_same_report() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
    let Ok(entries) = std::fs::read_dir(&corpus) else {
        eprintln!("SKIPPED: dumps_of_real_clusters_give_the_same_report needs ../shared/corpus");
        return;
    };
    let mut folders: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("live-"))
        })
        .collect();
    folders.sort();
    assert!(folders.len() > 5, "{folders:?}");
    for folder in folders {
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
            .collect();
        files.sort();
        let texts: Vec<String> = files
            .iter()
            .map(|file| std::fs::read_to_string(file).unwrap())
            .collect();
        assert_same_report(&folder.display().to_string(), &texts);
    }
}

/// A mesh in which every place that can hold a name holds one of the given.
fn mesh_of(names: &[String]) -> Vec<String> {
    let [namespace, workload, account, host, path, team] = names else {
        panic!("six names")
    };
    vec![format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}, labels: {{istio-injection: enabled, {team}: {team}}}}}
---
apiVersion: v1
kind: Pod
metadata:
  name: {workload}-6d4b7c9f58-x7k2p
  namespace: {namespace}
  labels: {{app: {workload}, {team}.example/owner: {team}}}
  annotations: {{{team}.example/contact: "{team} at {host}"}}
spec:
  serviceAccountName: {account}
  nodeName: {host}
  containers:
  - name: {workload}
    image: {host}.example/{team}/{workload}:v1
    args: ["--{path}", "{host}"]
    env: [{{name: {team}_URL, value: "https://{host}.example/{path}"}}]
  volumes: [{{name: {path}, configMap: {{name: {team}}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: {workload}, namespace: {namespace}}}
spec: {{selector: {{app: {workload}}}, externalName: {host}.example, ports: [{{name: http-{path}, port: 80}}]}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {workload}-{team}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: {workload}}}}}
  rules:
  - from: [{{source: {{principals: ["{host}.example/ns/{namespace}/sa/{account}"], namespaces: [{namespace}]}}}}]
    to: [{{operation: {{hosts: ["*.{host}.example"], paths: ["/{path}/*"], methods: [GET]}}}}]
    when: [{{key: "request.headers[x-{team}]", values: [{path}]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {workload}, namespace: {namespace}}}
spec:
  hosts: [{workload}, {host}.example]
  http:
  - name: {path}
    match: [{{uri: {{prefix: /{path}}}, headers: {{x-{team}: {{exact: {team}}}}}}}]
    route: [{{destination: {{host: {workload}.{namespace}.svc.cluster.local, subset: {team}}}}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data:
  mesh: |
    trustDomain: {host}.example
    extensionProviders:
    - name: {team}
      envoyExtAuthzHttp: {{service: {account}.{namespace}.svc.cluster.local, port: 80}}
"#
    )]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_name_is_left(names in proptest::collection::hash_set("[b-z]{2}q[b-z]{3,9}", 6)) {
        let names: Vec<String> = names.into_iter().collect();
        let mut recording = recorded(&mesh_of(&names));
        Redactor::new("key").recording(&mut recording).unwrap();
        let mut bundle = Vec::new();
        recording.write_bundle(&mut bundle).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&*bundle), &mut text).unwrap();
        prop_assert!(text.contains("AuthorizationPolicy") && text.contains("VirtualService"));
        for name in &names {
            prop_assert!(!text.contains(name.as_str()), "{name}: {text}");
        }
        prop_assert!(!text.contains("production"), "{text}");
    }
}

/// Exit code and, sorted, how each server stands, by the real binary.
fn differences(before: &Recording, after: &Recording) -> (Option<i32>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = assert_cmd::Command::new(env!("CARGO_BIN_EXE_castoff"));
    command.args(["verify", "--ascii"]);
    for (name, recording) in [("before", before), ("after", after)] {
        let path = folder.path().join(format!("{name}.json.gz"));
        recording
            .write_bundle(std::fs::File::create(&path).unwrap())
            .unwrap();
        command.arg(path);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut standings: Vec<String> = text
        .lines()
        .filter(|line| line.starts_with('['))
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // The second word is the server's name.
            [words[0], words[2]].join(" ")
        })
        .collect();
    standings.sort();
    (output.status.code(), standings)
}

#[test]
fn access_differs_between_redacted_meshes_where_it_differs_between_the_originals() {
    let texts: Vec<String> = castoff::demo::FILES
        .iter()
        .map(|(_, text)| (*text).to_owned())
        .collect();
    // Somebody else may call, and a path is open that was not.
    let changed: Vec<String> = texts
        .iter()
        .map(|text| {
            text.replace("ns/bookshop/sa/reviews", "ns/bookshop/sa/catalog")
                .replace("/pay*", "/*")
        })
        .collect();
    assert_ne!(texts, changed);
    let redacted = |texts: &[String]| {
        let mut recording = recorded(texts);
        Redactor::new("key").recording(&mut recording).unwrap();
        recording
    };
    let expected = differences(&recorded(&texts), &recorded(&changed));
    assert_eq!(expected.0, Some(3), "{expected:?}");
    assert!(
        expected.1.iter().any(|one| one != &expected.1[0]),
        "{expected:?}"
    );
    assert_eq!(
        differences(&redacted(&texts), &redacted(&changed)),
        expected
    );
}
