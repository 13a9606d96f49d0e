//! What stands in the way of carrying a plan out: owners with ways of their own to replace pods, what kustomize does
//! not take, rules that tunnels do not need, what ends with the sidecars.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use assert_cmd::Command;

const SHOP: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled, kubernetes.io/metadata.name: shop}}
";

/// An owner of pods in namespace shop, injected, with more of its specification.
fn owner(version: &str, kind: &str, name: &str, labels: &str, more: &str) -> String {
    format!(
        r"---
apiVersion: {version}
kind: {kind}
metadata: {{name: {name}, namespace: shop}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: cart}}}}
  template:
    metadata: {{labels: {labels}}}
    spec:
      serviceAccountName: {name}
      containers: [{{name: app, image: registry.example/app:1, ports: [{{containerPort: 8080}}]}}]
{more}"
    )
}

fn deployment(name: &str) -> String {
    owner(
        "apps/v1",
        "Deployment",
        name,
        &format!("{{app: {name}}}"),
        "",
    )
    .replace("{app: cart}}", &format!("{{app: {name}}}}}"))
}

/// A Service in front of pods, and a policy about requests to them.
fn guarded(name: &str) -> String {
    format!(
        r"---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec: {{clusterIP: 10.96.0.9, selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  rules:
  - from: [{{source: {{principals: [cluster.local/ns/shop/sa/web]}}}}]
    to: [{{operation: {{methods: [GET]}}}}]
"
    )
}

/// Exit code and text of `castoff plan` on a mesh in the demo's cluster.
fn plan(folder: &Path, mesh: &str) -> (Option<i32>, String) {
    fs::write(folder.join("mesh.yaml"), format!("{SHOP}{mesh}")).unwrap();
    for name in ["cluster.yaml", "control-plane.yaml"] {
        let text = fs::read_to_string(format!("{}/demo/{name}", env!("CARGO_MANIFEST_DIR")));
        fs::write(folder.join(name), text.unwrap()).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["plan", "--output-dir", "out", "--from-files"])
        .args(["mesh.yaml", "cluster.yaml", "control-plane.yaml"])
        .env("NO_COLOR", "1")
        .current_dir(folder)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// All files of one name that a plan wrote, in the order of its waves.
fn files(folder: &Path, name: &str) -> String {
    let waves = fs::read_dir(folder.join("out")).unwrap();
    let mut paths: Vec<_> = waves.map(|wave| wave.unwrap().path().join(name)).collect();
    paths.retain(|path| path.is_file());
    paths.sort();
    let texts = paths.iter().map(|path| fs::read_to_string(path).unwrap());
    texts.collect()
}

const ROLLOUT: (&str, &str) = ("argoproj.io/v1alpha1", "Rollout");

#[test]
fn a_rollout_that_pauses_is_waited_for_as_long_as_people_take() {
    for (strategy, waits) in [
        ("{canary: {steps: [{setWeight: 20}, {pause: {}}]}}", true),
        ("{canary: {steps: [{pause: {duration: 10s}}]}}", false),
        (
            "{blueGreen: {activeService: cart, autoPromotionEnabled: false}}",
            true,
        ),
        ("{blueGreen: {activeService: cart}}", false),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let strategy = format!("  strategy: {strategy}\n");
        let rollout = owner(ROLLOUT.0, ROLLOUT.1, "cart", "{app: cart}", &strategy);
        let (_, text) = plan(folder.path(), &rollout);
        for script in ["apply.sh", "rollback.sh"] {
            let script = files(folder.path(), script);
            let promote = "`kubectl argo rollouts promote -n shop cart` from another terminal";
            assert_eq!(script.contains(promote), waits, "{strategy}{text}{script}");
            let patient = "kubectl argo rollouts status -n shop cart\n";
            assert_eq!(script.contains(patient), waits, "{strategy}{script}");
        }
    }
}

#[test]
fn a_template_that_a_rollout_borrows_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let rollout = r"---
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata: {name: cart, namespace: shop}
spec: {replicas: 1, workloadRef: {apiVersion: apps/v1, kind: Deployment, name: lender}}
";
    let mesh = format!("{}{}{rollout}", deployment("lender"), deployment("web"));
    let (code, text) = plan(folder.path(), &mesh);
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("shop/lender keeps its sidecar: Rollout shop/cart takes its pod template"),
        "{text}"
    );
    let script = files(folder.path(), "apply.sh");
    assert!(script.contains("deployment -n shop web"), "{script}");
    assert!(!script.contains("lender"), "{script}");
    // The namespace's label would move the lender, too.
    assert!(!script.contains("kubectl label ns"), "{script}");
}

#[test]
fn pods_of_a_deployment_with_the_same_labels_are_not_deleted_along() {
    let folder = tempfile::tempdir().unwrap();
    let set = owner(
        "apps/v1",
        "DaemonSet",
        "agent",
        "{app: cart}",
        "  updateStrategy: {type: OnDelete}\n",
    );
    plan(folder.path(), &set);
    let script = files(folder.path(), "apply.sh");
    let delete = "kubectl delete pods -n shop -l 'app=cart,!pod-template-hash'";
    assert!(script.contains(delete), "{script}");
}

#[test]
fn each_deletion_is_a_patch_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = [
        deployment("web"),
        deployment("cart"),
        deployment("stock"),
        guarded("cart"),
        guarded("stock").replace("10.96.0.9", "10.96.0.10"),
    ];
    let (_, text) = plan(folder.path(), &mesh.concat());
    let all = files(folder.path(), "kustomization.yaml");
    let deletions = all.matches("\"$patch\": delete").count();
    assert_eq!(deletions, 2, "{text}\n{all}");
    assert_eq!(all.matches("- patch: ").count(), deletions, "{all}");
    assert!(!files(folder.path(), "patches.yaml").contains("$patch"));
}

#[test]
fn what_admits_udp_alone_needs_no_tunnel() {
    for (protocol, tunnels) in [("UDP", false), ("TCP", true)] {
        let folder = tempfile::tempdir().unwrap();
        let wall = format!(
            r"---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: wall, namespace: shop}}
spec:
  podSelector: {{}}
  policyTypes: [Egress]
  egress: [{{ports: [{{port: 53, protocol: {protocol}}}]}}]
"
        );
        plan(folder.path(), &format!("{}{wall}", deployment("web")));
        let written = files(folder.path(), "recommended-network-policies.yaml");
        assert_eq!(written.contains("15008"), tunnels, "{protocol}: {written}");
    }
}

#[test]
fn what_ends_with_the_sidecars_is_said_before_they_go() {
    let sidecar = r"---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {outboundTrafficPolicy: {mode: REGISTRY_ONLY}, egress: [{hosts: ['./*']}]}
";
    let folder = tempfile::tempdir().unwrap();
    let (_, text) = plan(folder.path(), &format!("{}{sidecar}", deployment("web")));
    assert!(text.contains("ends with the sidecars (CAST0403)"), "{text}");
    let page = fs::read_to_string(folder.path().join("out/plan.md")).unwrap();
    let section = page.find("## What ends with the sidecars").unwrap();
    assert!(section < page.find("## 01-").unwrap(), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let (_, text) = plan(folder.path(), &deployment("web"));
    assert!(!text.contains("ends with"), "{text}");
}

#[test]
fn an_empty_file_that_is_named_after_a_kind_was_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let name = "authorizationpolicies.security.istio.io.yaml";
    fs::write(
        folder.path().join("mesh.yaml"),
        format!("{SHOP}{}{}", deployment("web"), guarded("web")),
    )
    .unwrap();
    for (content, code) in [
        ("", 4),
        ("---\n", 4),
        ("apiVersion: v1\nkind: List\nitems: []\n", 0),
    ] {
        fs::write(folder.path().join(name), content).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
            .args(["verify", ".", "."])
            .current_dir(folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(code), "{content:?}: {text}");
        let told = text.contains(
            "this file is named after authorizationpolicies.security.istio.io and is empty",
        );
        assert_eq!(told, code == 4, "{text}");
    }
}

#[test]
fn earlier_plans_are_kept_as_long_as_they_say_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let kept = || {
        let names = fs::read_dir(folder.path()).unwrap();
        let names = names.map(|one| one.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.starts_with("out")).collect();
        names.sort();
        names
    };
    let one = deployment("web");
    let two = one.clone() + &deployment("cart") + &guarded("cart");
    let three = two.clone() + &deployment("stock");
    for (mesh, expected) in [
        (&one, &["out"][..]),
        (&one, &["out"]),
        (&two, &["out", "out.old"]),
        (&three, &["out", "out.old", "out.old-2"]),
        (&three, &["out", "out.old", "out.old-2"]),
    ] {
        plan(folder.path(), mesh);
        assert_eq!(kept(), expected);
        // What people put beside it is not lost, whatever is planned next.
        fs::write(folder.path().join("out/notes.txt"), "seen by ada").unwrap();
    }
    for kept in ["out.old", "out.old-2"] {
        assert!(
            folder.path().join(kept).join("notes.txt").is_file(),
            "{kept}"
        );
    }
    plan(folder.path(), &three);
    assert!(folder.path().join("out/notes.txt").is_file());
    let first = fs::read_to_string(folder.path().join("out.old/plan.md")).unwrap();
    assert!(first.contains("Move 1 workload"), "{first}");
}

#[test]
fn what_was_not_read_for_a_check_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("mesh.yaml"),
        format!("{SHOP}{}", deployment("web")),
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["plan", "--from-files", "mesh.yaml"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(
        text.contains(
            "phase pre-reqs could not be checked: Istio version compatibility: no istiod is among"
        ),
        "{text}"
    );
}

#[test]
fn a_waypoint_that_stands_in_the_way_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let waypoint = r"---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: wp, namespace: shop, labels: {istio.io/waypoint-for: workload}}
spec:
  gatewayClassName: istio-waypoint
  listeners: [{name: mesh, port: 15008, protocol: HBONE}]
";
    let labelled = guarded("cart").replace(
        "metadata: {name: cart, namespace: shop}\nspec: {clusterIP",
        "metadata: {name: cart, namespace: shop, labels: {istio.io/use-waypoint: wp}}\nspec: {clusterIP",
    );
    let mesh = [
        deployment("web"),
        deployment("cart"),
        labelled,
        waypoint.to_owned(),
    ];
    let (_, text) = plan(folder.path(), &mesh.concat());
    assert!(
        text.contains("Service \"shop/cart\" needs a waypoint and names shop/wp, but "),
        "{text}"
    );
}
