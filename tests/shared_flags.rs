//! Flags that mean the same in every command that has them: whose Istio, which namespaces, which format, how
//! text looks.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/small_mesh.rs"]
#[allow(dead_code, reason = "each user takes what it needs")]
mod small_mesh;

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

fn castoff(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(arguments)
        .env_remove("NO_COLOR")
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn valid(schema: &str, value: &Value) {
    let path = format!("{}/schemas/{schema}", env!("CARGO_MANIFEST_DIR"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|one| one.to_string())
        .collect();
    assert_eq!(errors, Vec::<String>::new());
}

fn as_json(yaml: &str) -> Value {
    castoff::source::yaml::parse_value(yaml).unwrap()
}

/// shop/orders behind a waypoint that lets everybody read; its pods are ambient, who calls has a sidecar.
const BEHIND_A_WAYPOINT: &str = "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: shop, labels: {istio.io/waypoint-for: service}}
spec: {gatewayClassName: istio-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
status:
  addresses: [{type: Hostname, value: waypoint.shop.svc.cluster.local}]
  conditions: [{type: Programmed, status: 'True', reason: Programmed}]
---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop, labels: {istio.io/use-waypoint: waypoint}}
spec: {clusterIP: 10.96.0.9, selector: {app: orders}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: orders-1, namespace: shop, labels: {app: orders}, annotations: {ambient.istio.io/redirection: enabled}, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: orders-1, controller: true}]}
spec:
  serviceAccountName: orders
  containers: [{name: app, image: 'registry.example/orders:1', ports: [{containerPort: 8080}]}]
status: {phase: Running, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}]}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: orders-1, namespace: shop, ownerReferences: [{apiVersion: apps/v1, kind: Deployment, name: orders, controller: true}]}
spec:
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders}}
    spec: {serviceAccountName: orders, containers: [{name: app, image: 'registry.example/orders:1'}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  targetRefs: [{group: '', kind: Service, name: orders}]
  rules: [{to: [{operation: {methods: [GET]}}]}]
---
";

#[test]
fn every_command_that_reads_a_mesh_says_whose_istio_it_is_and_which_namespaces() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["migrate", "plan", "verify", "who-can", "estimate"] {
        let (_, help, _) = castoff(folder.path(), &[command, "--help"]);
        for flag in [
            "-n, --namespace <NAMESPACE>",
            "--distribution <DISTRIBUTION>",
            "--istio-version <VERSION>",
            "-o, --output <OUTPUT>",
            "--color <COLOR>",
            "--ascii",
        ] {
            assert!(help.contains(flag), "{command} {flag}");
        }
        let (exit, _, said) = castoff(
            folder.path(),
            &[command, "--demo", "--istio-version", "new"],
        );
        assert_eq!(exit, 64, "{command}");
        if command != "verify" {
            assert!(said.contains("write it as 1.30.3"), "{said}");
        }
    }
}

#[test]
fn who_can_asks_the_waypoint_where_sidecars_send_to_it() {
    let folder = tempfile::tempdir().unwrap();
    small_mesh::write(folder.path(), "mesh", &[BEHIND_A_WAYPOINT]);
    let ask = |distribution: &str| {
        let (_, text, said) = castoff(
            folder.path(),
            &[
                "who-can",
                "DELETE /",
                "shop/orders",
                "--from",
                "desk/web",
                "--from-files",
                "mesh",
                "--ascii",
                "--distribution",
                distribution,
            ],
        );
        assert!(!text.is_empty(), "{said}");
        text
    };
    assert!(ask("upstream").contains("[yes] may"));
    let solo = ask("solo");
    assert!(
        solo.contains("[no] may not") && solo.contains("at the waypoint shop/waypoint"),
        "{solo}"
    );
}

#[test]
fn verify_takes_the_release_that_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    // Until 1.25.2 ztunnel enforced what was to be tried only (istio/ztunnel pull request 1485).
    let tried = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tried, namespace: shop, annotations: {istio.io/dry-run: 'true'}}
spec: {selector: {matchLabels: {app: orders}}, action: DENY, rules: [{from: [{source: {namespaces: [desk]}}]}]}
---
";
    let enrolled = BEHIND_A_WAYPOINT.replace(
        "labels: {istio.io/use-waypoint: waypoint}",
        "labels: {a: b}",
    );
    small_mesh::write(folder.path(), "before", &[&enrolled]);
    small_mesh::write(folder.path(), "after", &[&enrolled, tried]);
    let verify = |version: &str| {
        castoff(
            folder.path(),
            &["verify", "before", "after", "--istio-version", version],
        )
    };
    let (exit, text, _) = verify("1.25.0");
    assert_eq!(exit, 3, "{text}");
    assert!(text.contains("by shop/tried rule 1"), "{text}");
    let (exit, text, _) = verify("1.30.0");
    assert_eq!(exit, 0, "{text}");
}

#[test]
fn who_can_as_data_obeys_its_schema_and_ends_as_the_text_does() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/who-can.v1.json");
    let schema = castoff::report::who_can::schema();
    if std::env::var_os("CASTOFF_BLESS").is_some() {
        std::fs::write(path, &schema).unwrap();
    }
    assert_eq!(
        std::fs::read_to_string(path).unwrap(),
        schema,
        "run the tests with CASTOFF_BLESS=1"
    );
    let folder = tempfile::tempdir().unwrap();
    small_mesh::write(folder.path(), "mesh", &[BEHIND_A_WAYPOINT]);
    let ask = |output: &str| {
        castoff(
            folder.path(),
            &[
                "who-can",
                "GET /a",
                "shop/orders",
                "--header",
                "A=b",
                "--from-files",
                "mesh",
                "-o",
                output,
            ],
        )
    };
    let (exit, json, _) = ask("json");
    let value: Value = serde_json::from_str(&json).unwrap();
    valid("who-can.v1.json", &value);
    assert_eq!(value["exitCode"], exit);
    assert_eq!(value["headers"], serde_json::json!({"a": "b"}));
    let answers = value["answers"].as_array().unwrap();
    let web = answers
        .iter()
        .find(|one| one["caller"] == "desk/web")
        .unwrap();
    assert_eq!(web["may"], "yes");
    assert_eq!(web["server"], "shop/orders");
    let (other, yaml, _) = ask("yaml");
    assert_eq!((other, as_json(&yaml)), (exit, value));
    assert_eq!(ask("text").0, exit);
}

#[test]
fn a_namespace_says_whose_servers_are_reported_and_leaves_no_caller_out() {
    let folder = tempfile::tempdir().unwrap();
    let opened = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: NAME, namespace: SPACE}
spec: {selector: {matchLabels: {app: NAME}}, rules: [{from: [{source: {namespaces: [desk]}}]}]}
---
";
    let policy = |space: &str, name: &str| opened.replace("SPACE", space).replace("NAME", name);
    let (orders, web) = (policy("shop", "orders"), policy("desk", "web"));
    small_mesh::write(folder.path(), "before", &[&orders, &web]);
    small_mesh::write(folder.path(), "after", &[]);
    let (exit, text, _) = castoff(folder.path(), &["verify", "before", "after", "-n", "shop"]);
    assert_eq!(exit, 3, "{text}");
    assert!(text.contains("servers of shop only"), "{text}");
    assert!(text.contains("shop/orders opens"), "{text}");
    assert!(!text.contains("desk/web "), "{text}");
    // Who calls is of another namespace, and counts.
    let closed = policy("shop", "orders").replace("[desk]", "[shop]");
    small_mesh::write(folder.path(), "closed", &[&closed, &web]);
    let (exit, text, _) = castoff(folder.path(), &["verify", "before", "closed", "-n", "shop"]);
    assert_eq!(exit, 3, "{text}");
    assert!(text.contains("from cluster.local/ns/desk/sa/"), "{text}");
    let (exit, text, _) = castoff(folder.path(), &["verify", "before", "closed", "-n", "desk"]);
    assert_eq!(exit, 0, "{text}");
    for command in [
        &["verify", "before", "after", "-n", "shpo"][..],
        &[
            "who-can",
            "GET /",
            "shop/orders",
            "--from-files",
            "before",
            "-n",
            "shpo",
        ],
    ] {
        let (exit, _, said) = castoff(folder.path(), command);
        assert_eq!(exit, 64, "{said}");
        assert!(
            said.contains("namespace `shpo` is not among the input"),
            "{said}"
        );
    }
    let ask = |arguments: &[&str]| {
        let all = [
            &["who-can", "GET /"],
            arguments,
            &["--from-files", "before"],
        ]
        .concat();
        castoff(folder.path(), &all)
    };
    let named = ask(&["shop/orders"]);
    assert!(named.1.contains("desk/web"), "{}", named.1);
    assert_eq!(ask(&["orders", "-n", "shop"]).1, named.1);
    let (exit, _, said) = ask(&["shop/orders", "-n", "desk"]);
    assert_eq!(exit, 64, "{said}");
}

#[test]
fn verify_for_machines_fails_what_differs_and_never_passes_what_was_not_compared() {
    let folder = tempfile::tempdir().unwrap();
    let policy = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec: {selector: {matchLabels: {app: orders}}, rules: [{from: [{source: {namespaces: [desk]}}]}]}
---
";
    small_mesh::write(folder.path(), "before", &[policy]);
    small_mesh::write(folder.path(), "after", &["not: [yaml\n---\n"]);
    let verify = |output: &str, more: &[&str]| {
        let all = [&["verify", "before", "after", "-o", output], more].concat();
        castoff(folder.path(), &all)
    };
    let (exit, junit, _) = verify("junit", &[]);
    assert_eq!(exit, 3);
    assert!(
        junit.contains("<testsuite name=\"access\" tests=\"5\" failures=\"1\" errors=\"1\">"),
        "{junit}"
    );
    assert!(
        junit.contains("<failure message=\"shop/orders opens\">"),
        "{junit}"
    );
    assert!(
        junit.contains("<error message=\"not comparable\">"),
        "{junit}"
    );
    let (exit, sarif, _) = verify("sarif", &[]);
    assert_eq!(exit, 3);
    let log: Value = serde_json::from_str(&sarif).unwrap();
    let results = log["runs"][0]["results"].as_array().unwrap();
    let rules: Vec<&str> = results
        .iter()
        .map(|one| one["ruleId"].as_str().unwrap())
        .collect();
    assert_eq!(rules, ["access", "could-not-check"]);
    let message = results[0]["message"]["text"].as_str().unwrap();
    assert!(
        message.starts_with("shop/orders opens\n* opens for "),
        "{message}"
    );
    let grammar = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/sarif-grammar.json"
    );
    let grammar: Value = serde_json::from_str(&std::fs::read_to_string(grammar).unwrap()).unwrap();
    assert!(
        jsonschema::validator_for(&grammar).unwrap().is_valid(&log),
        "{log:#}"
    );
    // What is meant is suppressed, and no failure.
    let (exit, sarif, _) = verify("sarif", &["--allow", "opens:shop/orders"]);
    assert_eq!(exit, 4);
    let log: Value = serde_json::from_str(&sarif).unwrap();
    assert_eq!(
        log["runs"][0]["results"][0]["suppressions"][0]["kind"],
        "external"
    );
    let (_, junit, _) = verify("junit", &["--allow", "opens:shop/orders"]);
    assert!(junit.contains("failures=\"0\" errors=\"1\""), "{junit}");
    let (_, json, _) = verify("json", &[]);
    let (_, yaml, _) = verify("yaml", &[]);
    let value: Value = serde_json::from_str(&json).unwrap();
    valid("access.v1.json", &value);
    assert_eq!(as_json(&yaml), value);
    let (_, text, _) = verify("text", &["-q", "--ascii"]);
    assert!(
        !text.contains("[ok]") && text.contains("[opens] shop/orders"),
        "{text}"
    );
}

#[test]
fn a_plan_is_printed_shorter_longer_in_colours_and_as_yaml() {
    let folder = tempfile::tempdir().unwrap();
    let plan = |arguments: &[&str]| {
        let (exit, text, said) = castoff(folder.path(), &[&["plan", "--demo"], arguments].concat());
        assert!(!text.is_empty(), "{said}");
        (exit, text)
    };
    let (exit, text) = plan(&["--color", "never"]);
    let (_, quiet) = plan(&["-q"]);
    let (_, verbose) = plan(&["-v"]);
    let proved = |text: &str| text.matches("way back proved").count();
    assert!(proved(&text) > 3, "{text}");
    assert_eq!(proved(&quiet), 0, "{quiet}");
    assert!(
        quiet.starts_with("Plan for ") && quiet.contains("At the end"),
        "{quiet}"
    );
    assert_eq!(proved(&verbose), proved(&text));
    for line in text.lines() {
        assert!(verbose.contains(line), "{line}\n{verbose}");
    }
    assert!(verbose.contains("\n    1. "), "{verbose}");
    let (_, coloured) = plan(&["--color", "always"]);
    assert!(coloured.contains("\u{1b}[32m✅"), "{coloured}");
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), text);
    assert!(!plan(&[]).1.contains('\u{1b}'));
    let (_, json) = plan(&["-o", "json"]);
    let (code, yaml) = plan(&["-o", "yaml"]);
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((as_json(&yaml), code), (value, exit));
    let (code, _, said) = castoff(folder.path(), &["plan", "--demo", "-q", "-v"]);
    assert_eq!(code, 64, "{said}");
}
