//! Calls that annotations or the injector take past their caller's own sidecar arrive in plaintext.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/small_mesh.rs"]
#[allow(dead_code)]
mod small_mesh;

use assert_cmd::Command;

const POLICIES: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules: [{from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]}]
";

const PREFIX: &str = "traffic.sidecar.istio.io/";

/// Writes the mesh with annotations on the pods of desk/web.
fn write(folder: &std::path::Path, state: &str, annotations: &[(&str, &str)], more: &[&str]) {
    small_mesh::write(folder, state, &[&[POLICIES], more].concat());
    let file = folder.join(state).join("mesh.yaml");
    let mesh = std::fs::read_to_string(&file).unwrap();
    let given = annotations
        .iter()
        .map(|(key, value)| format!("'{key}': '{value}'"));
    let given = given.collect::<Vec<_>>().join(", ");
    let labels = "metadata: {labels: {app: web}}";
    assert!(mesh.contains(labels));
    let with = format!("metadata: {{labels: {{app: web}}, annotations: {{{given}}}}}");
    std::fs::write(file, mesh.replace(labels, &with)).unwrap();
}

fn run(folder: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

fn verdict(before: &[(&str, &str)], after: &[(&str, &str)], more: [&[&str]; 2]) -> String {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "before", before, more[0]);
    write(folder.path(), "after", after, more[1]);
    let report = small_mesh::json(folder.path(), &["verify", "before", "after", "-o", "json"]);
    small_mesh::server(&report, "shop/orders")["verdict"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// istio tools/istio-iptables/pkg/capture/run.go: rules of the pod's own network see the port and the address that are
/// dialled, Service shop/orders at 10.96.0.9:80.
#[test]
fn what_leaves_past_the_sidecar_has_no_identity() {
    for (annotations, expected) in [
        (&[("excludeOutboundPorts", "80,8080")][..], "breaks"),
        (&[("excludeOutboundPorts", "8080")], "same"),
        (&[("excludeOutboundPorts", "")], "same"),
        (&[("excludeOutboundPorts", "8o")], "undecided"),
        (&[("excludeOutboundIPRanges", "10.96.0.0/12")], "breaks"),
        (
            &[(
                "excludeOutboundIPRanges",
                "10.96.0.10/32,169.254.169.254/32",
            )],
            "same",
        ),
        (&[("includeOutboundIPRanges", "*")], "same"),
        (&[("includeOutboundIPRanges", "10.96.0.0/12")], "same"),
        (&[("includeOutboundIPRanges", "10.0.0.0/16")], "breaks"),
        (&[("includeOutboundIPRanges", "")], "breaks"),
        (
            &[
                ("includeOutboundIPRanges", ""),
                ("includeOutboundPorts", "80"),
            ],
            "same",
        ),
        (&[("includeOutboundPorts", "9090")], "same"),
    ] {
        let keys: Vec<String> = annotations
            .iter()
            .map(|(key, _)| format!("{PREFIX}{key}"))
            .collect();
        let pairs: Vec<(&str, &str)> = (keys.iter().zip(annotations))
            .map(|(key, (_, value))| (key.as_str(), *value))
            .collect();
        assert_eq!(
            verdict(&[], &pairs, [&[], &[]]),
            expected,
            "{annotations:?}"
        );
        assert_eq!(
            verdict(&pairs, &pairs, [&[], &[]]),
            "same",
            "{annotations:?}"
        );
    }
}

#[test]
fn an_address_that_is_not_known_leaves_the_call_undecided() {
    let range = "traffic.sidecar.istio.io/excludeOutboundIPRanges";
    let no_address = "---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {selector: {app: orders}, ports: [{name: http, port: 80, targetPort: 8080}]}
";
    let states: [&[&str]; 2] = [&[no_address], &[no_address]];
    assert_eq!(
        verdict(&[], &[(range, "10.96.0.0/12")], states),
        "undecided"
    );
    assert_eq!(
        verdict(&[], &[(range, "169.254.169.254/32")], states),
        "same"
    );
    let with = [(range, "10.96.0.0/12")];
    assert_eq!(verdict(&with, &with, states), "same");
}

/// Applications may still call their sidecar by its own address.
#[test]
fn without_interception_all_calls_are_undecided() {
    let none = [("sidecar.istio.io/interceptionMode", "NONE")];
    assert_eq!(verdict(&[], &none, [&[], &[]]), "undecided");
    let none = [("proxy.istio.io/config", "interceptionMode: NONE")];
    assert_eq!(verdict(&[], &none, [&[], &[]]), "undecided");
}

/// istio manifests/charts/istio-control/istio-discovery/files/injection-template.yaml: `global.proxy` counts where a pod
/// has no annotation.
#[test]
fn what_the_injector_puts_in_counts_like_an_annotation() {
    let injector = |proxy: &str| {
        format!(
            "---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio-sidecar-injector, namespace: istio-system}}
data:
  values: '{{\"global\": {{\"proxy\": {{{proxy}}}}}}}'
"
        )
    };
    let excludes = injector("\"excludeOutboundPorts\": \"80\"");
    assert_eq!(verdict(&[], &[], [&[], &[&excludes]]), "breaks");
    let own = [("traffic.sidecar.istio.io/excludeOutboundPorts", "")];
    assert_eq!(verdict(&own, &own, [&[], &[&excludes]]), "same");
    let inbound = injector("\"excludeInboundPorts\": \"8080\"");
    assert_eq!(verdict(&[], &[], [&[], &[&inbound]]), "undecided");
    let defaults = injector("\"includeIPRanges\": \"*\", \"excludeOutboundPorts\": \"\"");
    assert_eq!(verdict(&[], &[], [&[], &[&defaults]]), "same");
}

/// ztunnel reads none of these annotations: whoever moves has an identity again.
#[test]
fn whoever_moves_from_such_a_state_gains_an_identity() {
    let folder = tempfile::tempdir().unwrap();
    let past = [("traffic.sidecar.istio.io/excludeOutboundPorts", "80")];
    write(folder.path(), "mesh", &past, &[]);
    let (code, said) = run(folder.path(), &["plan", "--from-files", "mesh", "--ascii"]);
    assert_eq!(code, Some(3), "{said}");
    // It is held alone: the others move.
    let held: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("their sidecars: ") || line.contains("its sidecar: "))
        .collect();
    assert_eq!(held.len(), 1, "{said}");
    assert!(
        held[0].contains("desk/web keeps its sidecar: moving it opens shop/orders"),
        "{said}"
    );
    assert!(said.contains("-move-"), "{said}");
    assert!(said.contains("from cluster.local/ns/desk/sa/web"), "{said}");
    let page = std::fs::read_to_string(folder.path().join("castoff-plan/plan.md")).unwrap();
    assert!(
        page.contains("some calls of desk/web go past its own sidecar"),
        "{page}"
    );
    let arguments = [
        "who-can",
        "GET /",
        "shop/orders",
        "--from-files",
        "mesh",
        "--from",
        "desk/web",
    ];
    let (_, said) = run(folder.path(), &arguments);
    assert!(
        said.contains("may not") && said.contains("excludeOutboundPorts \"80\""),
        "{said}"
    );
}

/// The mesh with other text in the pod template of desk/web.
fn with_template(state: &std::path::Path, spec: &str) {
    let file = state.join("mesh.yaml");
    let mesh = std::fs::read_to_string(&file).unwrap();
    let account = "      serviceAccountName: web\n";
    assert!(mesh.contains(account));
    std::fs::write(file, mesh.replace(account, &format!("{account}{spec}"))).unwrap();
}

/// istio tools/istio-iptables/pkg/capture/run.go: what the proxy's user or group sends is never redirected, what goes out
/// by an excluded interface neither.
#[test]
fn what_the_proxys_own_user_sends_leaves_past_the_sidecar() {
    let two = "      containers: [{name: other, image: 'r.example/other:1', securityContext: {runAsUser: 1337}}, \
               {name: app, image: 'r.example/web:1', ports: [{containerPort: 8080}]}]\n      unused:\n";
    for (spec, expected) in [
        ("      securityContext: {runAsUser: 1337}\n", "breaks"),
        ("      securityContext: {runAsGroup: 1337}\n", "breaks"),
        ("      securityContext: {runAsUser: 1000}\n", "same"),
        (two, "undecided"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        for state in ["before", "after"] {
            small_mesh::write(folder.path(), state, &[POLICIES]);
        }
        let compare = |states: [&str; 2]| {
            let arguments = ["verify", states[0], states[1], "-o", "json"];
            let report = small_mesh::json(folder.path(), &arguments);
            let orders = small_mesh::server(&report, "shop/orders");
            orders["verdict"].as_str().unwrap().to_owned()
        };
        let spec = spec.replace("      unused:\n", "");
        with_template(&folder.path().join("after"), &spec);
        if spec.contains("containers") {
            // Of two lists the first is taken out again.
            let file = folder.path().join("after/mesh.yaml");
            let mesh = std::fs::read_to_string(&file).unwrap();
            let old = "      containers: [{name: app, image: 'registry.example/web:1', ports: [{containerPort: 8080}]}]\n";
            assert!(mesh.contains(old));
            std::fs::write(file, mesh.replace(old, "")).unwrap();
        }
        assert_eq!(compare(["before", "after"]), expected, "{spec}");
        assert_eq!(compare(["after", "after"]), "same", "{spec}");
    }
    let interfaces = [("traffic.sidecar.istio.io/excludeInterfaces", "net1")];
    assert_eq!(verdict(&[], &interfaces, [&[], &[]]), "undecided");
    assert_eq!(verdict(&interfaces, &interfaces, [&[], &[]]), "same");
}

/// A gRPC application without Envoy sends as its library is told; what else it sends is redirected to nobody.
#[test]
fn calls_of_applications_without_envoy_or_tunnel_are_undecided() {
    let grpc = [("inject.istio.io/templates", "grpc-agent")];
    assert_eq!(verdict(&[], &grpc, [&[], &[]]), "undecided");
    assert_eq!(verdict(&grpc, &grpc, [&[], &[]]), "same");
    let sends = "{proxyMetadata: {ISTIO_META_DISABLE_HBONE_SEND: \"true\"}}";
    let no_tunnel = [("proxy.istio.io/config", sends)];
    assert_eq!(verdict(&[], &no_tunnel, [&[], &[]]), "undecided");
    assert_eq!(verdict(&no_tunnel, &no_tunnel, [&[], &[]]), "same");
}
