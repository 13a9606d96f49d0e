//! Phases deploy-waypoints and migrate-policies on small meshes: lines and files as users see them.
#![allow(clippy::unwrap_used, reason = "tests")]

use castoff::finding::{Phase, PhaseResult};
use castoff::mesh::{Mesh, MeshOverrides};
use castoff::phases::{Context, MigrateOptions, run};
use castoff::snapshot::Snapshot;
use castoff::source::{Place, apply_text, read_text};

const NAMESPACE: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: app1, labels: {istio-injection: enabled}}
---
";

fn app(name: &str, target: u16) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: app1}}
spec:
  clusterIP: 10.0.0.1
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: {target}}}]
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}-1, namespace: app1, labels: {{app: {name}, version: v1}}}}
spec:
  containers:
  - {{name: {name}, image: {name}, ports: [{{containerPort: {target}}}]}}
  - {{name: istio-proxy, image: 'docker.io/istio/proxyv2:1.25.2', args: [proxy, sidecar]}}
---
"
    )
}

const WAYPOINT: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: app1}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
status:
  addresses: [{type: IPAddress, value: 10.0.0.9}]
  conditions: [{type: Programmed, status: 'True'}]
---
";

fn policy(name: &str, spec: &str) -> String {
    format!(
        "
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: app1}}
spec: {spec}
---
"
    )
}

fn snapshot(parts: &[&str]) -> Snapshot {
    read_text(&Place::Simulated, &parts.concat()).unwrap()
}

fn phase(snapshot: &Snapshot, phase: Phase) -> PhaseResult {
    let mesh = Mesh::build(snapshot, &MeshOverrides::default());
    let options = MigrateOptions {
        first_phase: Some(phase),
        ..MigrateOptions::default()
    };
    run(&Context::new(&mesh, snapshot, &options)).remove(0)
}

/// Messages, and details with a star.
fn lines(result: &PhaseResult) -> Vec<String> {
    result
        .checks
        .iter()
        .flat_map(|check| &check.findings)
        .flat_map(|finding| {
            std::iter::once(finding.message.clone())
                .chain(finding.details.iter().map(|detail| format!("* {detail}")))
        })
        .collect()
}

fn migrate(parts: &[&str]) -> (Vec<String>, String) {
    let result = phase(&snapshot(parts), Phase::MigratePolicies);
    let texts = result.artefacts.iter().map(|one| one.content.as_str());
    let text = texts.collect::<Vec<_>>().join("---\n");
    (lines(&result), text)
}

const LEGACY: &str = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: sidecar, namespace: legacy}
spec: {egress: [{hosts: ['./*']}]}
---
";

fn page() -> Snapshot {
    snapshot(&[
        NAMESPACE,
        &app("echo", 8080),
        WAYPOINT,
        LEGACY,
        &policy("allow-nothing", "{}"),
        &policy(
            "legacy-policies",
            "{selector: {matchLabels: {app: echo}}, rules: [{to: [{operation: {methods: [GET]}}]}]}",
        ),
        &policy(
            "policies",
            "{selector: {matchLabels: {app: echo}}, action: DENY, rules: [{to: [{operation: {paths: ['/admin*']}}]}]}",
        ),
    ])
}

#[test]
fn a_virtual_service_gets_its_service_a_waypoint_as_on_the_page() {
    let input = [
        NAMESPACE,
        &app("echo", 8080),
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo, namespace: app1}
spec: {hosts: [echo], http: [{route: [{destination: {host: echo}}]}]}
---
",
    ]
    .concat()
    .replace("app1", "application")
    .replace("echo", "hello-world");
    let result = phase(&snapshot(&[&input]), Phase::DeployWaypoints);
    assert_eq!(
        lines(&result),
        [
            "Namespace \"application\" may require a waypoint for the following services:",
            "* Service \"application/hello-world\" depends on VirtualService \"application/hello-world\"",
        ]
    );
    assert_eq!(result.artefacts.len(), 1);
    assert_eq!(
        result.artefacts[0].content,
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: waypoint
  namespace: application
spec:
  gatewayClassName: istio-waypoint
  listeners:
  - name: mesh
    port: 15008
    protocol: HBONE
"
    );
}

#[test]
fn a_layer_4_policy_alone_needs_neither_waypoint_nor_copy() {
    let parts = [
        NAMESPACE,
        &app("echo", 8080),
        &policy("allow-nothing", "{}"),
        &policy(
            "web",
            "{selector: {matchLabels: {app: echo}}, rules: [{from: [{source: {namespaces: [web]}}]}]}",
        ),
    ];
    let result = phase(&snapshot(&parts), Phase::DeployWaypoints);
    assert_eq!(result.artefacts, []);
    let (_, written) = migrate(&parts);
    assert_eq!(written, "");
}

#[test]
fn policies_are_migrated_line_by_line_as_on_the_page() {
    let result = phase(&page(), Phase::MigratePolicies);
    assert_eq!(
        lines(&result),
        [
            "Sidecar/legacy/sidecar will be removed in a later step: Found unsupported configurations:",
            "* Configuration scoping is detected. Typically, this is used for scalability purposes, which is not necessary with ambient.",
            "Add AuthorizationPolicy/app1/echo-from-waypoint: Service/app1/echo must allow traffic from its waypoint",
            "Apply AuthorizationPolicy/app1/echo-legacy-policies: Existing configuration is copied from policy app1/legacy-policies to be enforced at the waypoint.",
            "Apply AuthorizationPolicy/app1/echo-policies: Existing configuration is copied from policy app1/policies to be enforced at the waypoint.",
            "Apply AuthorizationPolicy/app1/waypoint-allow-nothing: Existing configuration is copied from namespace policy app1/allow-nothing to be enforced at the waypoint.",
        ]
    );
    let written = &result.artefacts[0].content;
    assert!(written.contains("action: DENY"), "{written}");
    assert!(
        written.contains("- cluster.local/ns/app1/sa/waypoint"),
        "{written}"
    );
}

#[test]
fn what_was_applied_is_not_recommended_again_and_what_was_changed_is() {
    let mut state = page();
    let first = phase(&state, Phase::MigratePolicies);
    let written = first.artefacts[0].content.clone();
    apply_text(&mut state, &Place::Simulated, &written).unwrap();
    let second = phase(&state, Phase::MigratePolicies);
    assert_eq!(second.artefacts, []);
    let changed = written.replace("/admin*", "/other*");
    apply_text(&mut state, &Place::Simulated, &changed).unwrap();
    let third = lines(&phase(&state, Phase::MigratePolicies));
    assert_eq!(
        third[third.len() - 1],
        "* The one that is applied differs in spec.rules[0].to[0].operation.paths[0]."
    );
}

#[test]
fn ports_of_pods_become_ports_of_the_service() {
    let (_, written) = migrate(&[
        NAMESPACE,
        &app("echo", 8080),
        WAYPOINT,
        &policy(
            "ports",
            "{selector: {matchLabels: {app: echo}}, action: DENY, rules: [{to: [{operation: {ports: ['8080'], methods: [POST]}}]}]}",
        ),
    ]);
    let (copy, edited) = written.split_once("---").unwrap();
    assert!(copy.contains("- \"80\""), "{written}");
    assert!(!copy.contains("8080"), "{written}");
    // At ztunnel it denies the port, so that the original excepts the waypoint.
    assert!(edited.contains("- \"8080\""), "{written}");
    assert!(
        edited.contains("- cluster.local/ns/app1/sa/waypoint"),
        "{written}"
    );
}

#[test]
fn a_namespace_policy_with_ports_goes_to_each_service() {
    let (lines, _) = migrate(&[
        NAMESPACE,
        &app("echo", 8080),
        WAYPOINT,
        &policy(
            "ports",
            "{action: DENY, rules: [{to: [{operation: {ports: ['8080'], methods: [POST]}}]}]}",
        ),
    ]);
    assert_eq!(
        lines,
        [
            "Apply AuthorizationPolicy/app1/echo-ports: Existing configuration is copied from namespace policy app1/ports to be enforced at the waypoint.",
            "Edit AuthorizationPolicy/app1/ports: ztunnel cannot check requests and would deny everybody what is left of \
             it, the waypoint too, where its copy is enforced; the waypoint is excepted",
        ]
    );
}

#[test]
fn a_denial_that_the_waypoint_would_meet_is_edited_and_its_copy_is_not() {
    let (lines, written) = migrate(&[
        NAMESPACE,
        &app("echo", 8080),
        WAYPOINT,
        &policy(
            "others",
            "{selector: {matchLabels: {app: echo}}, action: DENY, rules: [{from: [{source: {notPrincipals: \
             [cluster.local/ns/web/sa/web]}}], to: [{operation: {paths: [/admin]}}]}]}",
        ),
    ]);
    assert_eq!(
        lines,
        [
            "Apply AuthorizationPolicy/app1/echo-others: Existing configuration is copied from policy app1/others to be \
             enforced at the waypoint.",
            "Edit AuthorizationPolicy/app1/others: it would deny what comes through the waypoint, where its copy is \
             enforced; the waypoint is excepted",
        ]
    );
    let (copy, edited) = written.split_once("---").unwrap();
    assert!(!copy.contains("sa/waypoint"), "{written}");
    assert!(
        edited.contains("- cluster.local/ns/app1/sa/waypoint"),
        "{written}"
    );
    assert!(
        edited.contains("castoff.dev/excepted: cluster.local/ns/app1/sa/waypoint"),
        "{written}"
    );
}

#[test]
fn a_policy_with_an_empty_selector_is_edited_where_its_pods_are_to_move() {
    let input = snapshot(&[
        NAMESPACE,
        &app("echo", 8080),
        &policy(
            "no-batch",
            "{selector: {}, action: DENY, rules: [{from: [{source: {namespaces: [batch]}}]}]}",
        ),
    ]);
    let mesh = Mesh::build(&input, &MeshOverrides::default());
    for (namespaces, expected) in [(vec![], true), (vec!["app1"], true), (vec!["app2"], false)] {
        let options = MigrateOptions {
            first_phase: Some(Phase::MigratePolicies),
            namespaces: namespaces.into_iter().map(str::to_owned).collect(),
            ..MigrateOptions::default()
        };
        let result = run(&Context::new(&mesh, &input, &options)).remove(0);
        let edited = result
            .artefacts
            .iter()
            .find(|one| one.file == "edited-policies.yaml");
        assert_eq!(edited.is_some(), expected, "{:?}", options.namespaces);
        if let Some(edited) = edited {
            assert!(
                edited.content.contains("selector: null"),
                "{}",
                edited.content
            );
        }
    }
}

#[test]
fn what_cannot_be_copied_is_named_with_its_trap() {
    let other = app("echo", 8080)
        .replace("name: echo-1", "name: echo-2")
        .replace("version: v1", "version: v2");
    let (lines, written) = migrate(&[
        NAMESPACE,
        &app("echo", 8080),
        &other,
        WAYPOINT,
        &policy(
            "some",
            "{selector: {matchLabels: {version: v2}}, action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}",
        ),
        &policy(
            "addresses",
            "{selector: {matchLabels: {app: echo}}, action: DENY, rules: [{from: [{source: {ipBlocks: [10.0.0.0/8]}}]}]}",
        ),
        &policy(
            "others",
            "{selector: {matchLabels: {app: echo}}, action: DENY, rules: [{when: [{key: source.principal, notValues: [cluster.local/ns/web/sa/web]}]}]}",
        ),
    ]);
    let traps: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("not carried over"))
        .collect();
    assert_eq!(
        traps,
        [
            "AuthorizationPolicy/app1/addresses is not carried over exactly for Service/app1/echo (source-address):",
            "AuthorizationPolicy/app1/some is not carried over exactly for Service/app1/echo (subset-of-pods):",
        ]
    );
    assert!(!written.contains("ipBlocks"), "{written}");
    assert!(
        !written.contains("from-waypoint"),
        "a guard would close open pods: {written}"
    );
}

#[test]
fn nothing_is_copied_for_a_waypoint_that_is_not_there() {
    let (lines, written) = migrate(&[
        NAMESPACE,
        &app("echo", 8080),
        &policy(
            "get",
            "{selector: {matchLabels: {app: echo}}, rules: [{to: [{operation: {methods: [GET]}}]}]}",
        ),
    ]);
    assert_eq!(written, "");
    assert_eq!(lines[1], "* Service \"app1/echo\"");
}

#[test]
fn names_that_collide_or_are_too_long_are_told_apart() {
    let long = "x".repeat(70);
    let rules = "action: DENY, rules: [{to: [{operation: {methods: [PUT]}}]}]}";
    let (lines, _) = migrate(&[
        NAMESPACE,
        &app("a", 8080),
        &app("a-b", 8080),
        WAYPOINT,
        &policy(
            "b-c",
            &format!("{{selector: {{matchLabels: {{app: a}}}}, {rules}"),
        ),
        &policy(
            "c",
            &format!("{{selector: {{matchLabels: {{app: a-b}}}}, {rules}"),
        ),
        &policy(
            &long,
            &format!("{{selector: {{matchLabels: {{app: a}}}}, {rules}"),
        ),
    ]);
    let names: std::collections::BTreeSet<&str> = lines
        .iter()
        .filter_map(|line| {
            line.strip_prefix("Apply AuthorizationPolicy/app1/")?
                .split(':')
                .next()
        })
        .collect();
    assert_eq!(names.len(), 3, "{lines:?}");
    assert!(names.iter().all(|name| name.len() <= 63), "{names:?}");
    assert!(names.contains("a-b-c"), "{names:?}");
}
