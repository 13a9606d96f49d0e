//! `castoff estimate`: requests as they were read, with what the sums rest on, and nothing missing in silence.
#![allow(missing_docs, clippy::unwrap_used)]

use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value, json};

const NAMESPACES: &str = "apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: desk, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'trustDomain: cluster.local'}
---
";

const NODES: &str = "apiVersion: v1
kind: Node
metadata: {name: one}
---
apiVersion: v1
kind: Node
metadata: {name: two}
---
apiVersion: v1
kind: Node
metadata: {name: three}
---
";

const ZTUNNEL: &str = "apiVersion: apps/v1
kind: DaemonSet
metadata: {name: ztunnel, namespace: istio-system, labels: {app: ztunnel}}
spec:
  selector: {matchLabels: {app: ztunnel}}
  template:
    metadata: {labels: {app: ztunnel}}
    spec:
      serviceAccountName: ztunnel
      containers: [{name: istio-proxy, image: docker.io/istio/ztunnel:1.30.3, args: [proxy, ztunnel], resources: {requests: {cpu: 200m, memory: 512Mi}}}]
status: {desiredNumberScheduled: 3, numberReady: 3}
---
";

/// Without any Service it would not be known which need a waypoint.
const SERVICE: &str = "apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {clusterIP: 10.0.0.1, selector: {app: orders}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
";

/// A pod whose sidecar has these resources, a native one where it says so.
fn pod(namespace: &str, name: &str, resources: &str, native: bool) -> String {
    let proxy = format!(
        "{{name: istio-proxy, image: 'docker.io/istio/proxyv2:1.30.3', args: [proxy, sidecar], restartPolicy: Always, resources: {resources}}}"
    );
    let (containers, init) = if native {
        (String::new(), format!("  initContainers: [{proxy}]\n"))
    } else {
        (format!(", {proxy}"), String::new())
    };
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}, security.istio.io/tlsMode: istio}}, annotations: {{sidecar.istio.io/status: '{{}}'}}}}
spec:
  serviceAccountName: {name}
{init}  containers: [{{name: app, image: app, resources: {{requests: {{cpu: '7', memory: 7Gi}}}}}}{containers}]
status: {{phase: Running, podIP: 10.1.0.1, podIPs: [{{ip: 10.1.0.1}}]}}
---
"
    )
}

fn estimate(folder: &Path, mesh: &str, more: &[&str]) -> (i32, Value, String) {
    std::fs::write(folder.join("mesh.yaml"), mesh).unwrap();
    let run = |output: &str| {
        Command::new(env!("CARGO_BIN_EXE_castoff"))
            .args(["estimate", "-o", output])
            .args(more)
            .args(["--from-files", "mesh.yaml"])
            .current_dir(folder)
            .output()
            .unwrap()
    };
    let (json, text) = (run("json"), run("text"));
    let said = String::from_utf8(json.stderr).unwrap();
    let value: Value =
        serde_json::from_slice(&json.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert_eq!(json.status.code(), text.status.code());
    let yaml = String::from_utf8(run("yaml").stdout).unwrap();
    assert_eq!(castoff::source::yaml::parse_value(&yaml).unwrap(), value);
    (
        json.status.code().unwrap(),
        value,
        String::from_utf8(text.stdout).unwrap(),
    )
}

const MIB: u64 = 1024 * 1024;

#[test]
fn requests_of_sidecars_are_added_up_by_namespace_and_held_against_what_comes() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = [
        NAMESPACES,
        NODES,
        ZTUNNEL,
        SERVICE,
        &pod(
            "shop",
            "orders",
            "{requests: {cpu: 100m, memory: 128Mi}, limits: {cpu: '2', memory: 1Gi}}",
            false,
        ),
        &pod(
            "shop",
            "stock",
            "{requests: {cpu: '0.25', memory: 1Gi}}",
            true,
        ),
        // A limit alone is the request too.
        &pod("desk", "web", "{limits: {cpu: '1', memory: 64Mi}}", false),
        &pod("desk", "batch", "{}", false),
    ]
    .concat();
    let (exit, found, text) = estimate(folder.path(), &mesh, &[]);
    assert_eq!(exit, 0, "{text}");
    let reserved = |count: u64, millicores: u64, mib: u64, without: u64| json!({"count": count, "millicores": millicores, "bytes": mib * MIB, "withoutRequests": without});
    assert_eq!(found["now"]["sidecars"], reserved(4, 1350, 1216, 1));
    assert_eq!(found["now"]["ztunnel"], reserved(3, 600, 1536, 0));
    assert_eq!(found["then"]["ztunnel"], reserved(3, 600, 1536, 0));
    assert_eq!(found["then"]["sidecars"], reserved(0, 0, 0, 0));
    assert_eq!(
        found["freed"],
        json!({"millicores": 1350, "bytes": 1216 * MIB})
    );
    let namespaces: Vec<&str> = (found["sidecars"].as_array().unwrap().iter())
        .map(|one| one["namespace"].as_str().unwrap())
        .collect();
    assert_eq!(namespaces, ["desk", "shop"]);
    assert!(
        text.contains("now: 4 sidecars") && text.contains("1.35 CPU"),
        "{text}"
    );
    assert!(text.contains("(1 without requests)"), "{text}");
    let (_, shop, _) = estimate(folder.path(), &mesh, &["-n", "shop"]);
    assert_eq!(shop["now"]["sidecars"], reserved(2, 350, 1152, 0));
    assert!(
        shop["assumptions"]
            .to_string()
            .contains("ztunnel serves every namespace")
    );
}

#[test]
fn a_waypoint_that_is_needed_is_counted_with_what_the_chart_of_this_mesh_says() {
    let folder = tempfile::tempdir().unwrap();
    let policy = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec: {selector: {matchLabels: {app: orders}}, rules: [{to: [{operation: {methods: [GET]}}]}]}
---
";
    let orders = pod(
        "shop",
        "orders",
        "{requests: {cpu: 100m, memory: 128Mi}}",
        false,
    );
    let mesh = [NAMESPACES, NODES, ZTUNNEL, SERVICE, policy, &orders].concat();
    let (_, found, text) = estimate(folder.path(), &mesh, &[]);
    assert_eq!(found["newWaypoints"], json!(["shop/waypoint"]));
    assert_eq!(found["then"]["waypoints"]["millicores"], 100);
    assert!(
        text.contains("with what Istio's chart of release 1.30 says"),
        "{text}"
    );
    let values = "apiVersion: v1
kind: ConfigMap
metadata: {name: istio-sidecar-injector, namespace: istio-system}
data:
  config: 'policy: enabled'
  values: '{\"global\": {\"waypoint\": {\"resources\": {\"requests\": {\"cpu\": \"300m\", \"memory\": \"1Gi\"}}}}}'
---
";
    let (_, found, text) = estimate(folder.path(), &[&mesh, values].concat(), &[]);
    assert_eq!(found["then"]["waypoints"]["millicores"], 300);
    assert_eq!(
        found["freed"],
        json!({"millicores": -200, "bytes": -896 * MIB as i64})
    );
    assert!(
        text.contains("with what the values of istiod's chart say"),
        "{text}"
    );
}

/// What of the demo's control plane injects, without nodes and agents.
fn injector() -> String {
    let demo = castoff::demo::FILES[..2].iter();
    demo.flat_map(|(_, text)| text.split("---\n"))
        .filter(|one| one.contains("kind: MutatingWebhookConfiguration"))
        .map(|document| format!("{document}---\n"))
        .collect()
}

#[test]
fn a_daemon_set_whose_pods_were_not_read_runs_on_every_node() {
    let agent = "apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: shop}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {serviceAccountName: agent, containers: [{name: app, image: app}]}
---
";
    let scheduled = agent.replace("---\n", "status: {desiredNumberScheduled: 2}\n---\n");
    for (mesh, count) in [
        ([NAMESPACES, NODES, SERVICE, agent].concat(), 3),
        ([NAMESPACES, NODES, SERVICE, &scheduled].concat(), 2),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (exit, found, text) = estimate(folder.path(), &(mesh + &injector()), &[]);
        assert_eq!(exit, 0, "{text}");
        assert_eq!(found["now"]["sidecars"]["count"], count, "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let mesh = [NAMESPACES, SERVICE, agent].concat() + &injector();
    let (exit, _, text) = estimate(folder.path(), &mesh, &[]);
    assert_eq!(exit, 4, "{text}");
    assert!(text.contains("on how many nodes shop/agent runs"), "{text}");
}

#[test]
fn pods_that_are_not_there_are_assumed_aloud_and_annotations_count() {
    let folder = tempfile::tempdir().unwrap();
    let deployment = "apiVersion: apps/v1
kind: Deployment
metadata: {name: orders, namespace: shop}
spec:
  replicas: 3
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders}, annotations: {sidecar.istio.io/proxyCPU: 50m, sidecar.istio.io/proxyMemory: 64Mi}}
    spec: {serviceAccountName: orders, containers: [{name: app, image: app}]}
---
";
    let mut mesh = [NAMESPACES, NODES, SERVICE, deployment].concat();
    mesh.push_str(&injector());
    let (exit, found, text) = estimate(folder.path(), &mesh, &[]);
    assert_eq!(exit, 0, "{text}");
    assert_eq!(
        found["now"]["sidecars"],
        json!({"count": 3, "millicores": 150, "bytes": 192 * MIB, "withoutRequests": 0})
    );
    assert!(text.contains("3 pods are not among the input"), "{text}");
    // No ztunnel yet: it is assumed, and all of it is new.
    assert_eq!(found["now"]["ztunnel"]["count"], 0);
    assert_eq!(found["then"]["ztunnel"]["millicores"], 600);
    assert!(
        text.contains("no DaemonSet of ztunnel is among the input"),
        "{text}"
    );
}

#[test]
fn without_nodes_the_sum_is_incomplete_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let orders = pod(
        "shop",
        "orders",
        "{requests: {cpu: 100m, memory: 128Mi}}",
        false,
    );
    let (exit, found, text) = estimate(folder.path(), &[NAMESPACES, &orders].concat(), &[]);
    assert_eq!(exit, 4, "{text}");
    assert_eq!(found["exitCode"], 4);
    assert_eq!(found["freed"], Value::Null);
    assert_eq!(found["then"]["ztunnel"], Value::Null);
    assert!(
        text.contains("not known: on how many nodes ztunnel will run"),
        "{text}"
    );
    assert!(!text.contains("freed"), "{text}");
}

#[test]
fn the_data_obeys_the_committed_schema() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/estimate.v1.json");
    let schema = castoff::report::estimate::schema();
    if std::env::var_os("CASTOFF_BLESS").is_some() {
        std::fs::write(path, &schema).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    assert_eq!(committed, schema, "run the tests with CASTOFF_BLESS=1");
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let orders = pod("shop", "orders", "{}", false);
    for mesh in [
        [NAMESPACES, &orders].concat(),
        [NAMESPACES, NODES, ZTUNNEL, &orders].concat(),
    ] {
        let (_, found, _) = estimate(folder.path(), &mesh, &[]);
        assert!(validator.is_valid(&found), "{found:#}");
    }
}
