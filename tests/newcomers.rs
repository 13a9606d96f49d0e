//! `castoff verify` and workloads that only one input has: who may call them, whom they may call for who they
//! are, and how a gate says that they are meant.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/small_mesh.rs"]
#[allow(dead_code, reason = "each user takes what it needs")]
mod small_mesh;

use assert_cmd::Command;

/// shop/orders lets in desk/web alone.
const ORDERS: &str = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]
    to: [{operation: {methods: [GET]}}]
---
";

fn deployment(namespace: &str, name: &str, account: &str, ports: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      serviceAccountName: {account}
      containers: [{{name: app, image: 'registry.example/{name}:1', ports: [{ports}]}}]
---
"
    )
}

/// A new server that only desk/web and desk/batch may read.
fn cart() -> String {
    let policy = "apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.77, selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: cart, namespace: shop}
spec:
  selector: {matchLabels: {app: cart}}
  rules: [{from: [{source: {namespaces: [desk]}}], to: [{operation: {methods: [GET]}}]}]
---
";
    deployment("shop", "cart", "cart", "{containerPort: 8080}") + policy
}

/// The exit code of `verify`, and what it prints.
fn verify(before: &[&str], after: &[&str], arguments: &[&str]) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    small_mesh::write(folder.path(), "before", before);
    small_mesh::write(folder.path(), "after", after);
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["verify", "before", "after", "--ascii"])
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), said)
}

/// The lines of one server, with the note behind its name.
fn lines<'t>(text: &'t str, server: &str) -> Vec<&'t str> {
    let head = |line: &&str| line.contains(&format!("] {server} "));
    let mut all = text.lines().skip_while(|line| !head(line));
    let first = all
        .next()
        .unwrap_or_else(|| panic!("no {server} in\n{text}"));
    let rest = all.take_while(|line| line.starts_with("    "));
    std::iter::once(first).chain(rest).collect()
}

#[test]
fn a_new_server_is_told_with_those_who_may_call_it() {
    let cart = cart();
    let (exit, text) = verify(&[ORDERS], &[ORDERS, &cart], &[]);
    assert_eq!(exit, 3, "{text}");
    assert_eq!(
        lines(&text, "shop/cart"),
        [
            "[new] shop/cart new; only in the second input; its identity cluster.local/ns/shop/sa/cart is new: no workload ran \
             under it before; it may call nobody whom others may not",
            "    new for workloads of the mesh to port 8080 (sidecar pods, http):",
            "      GET / from cluster.local/ns/desk/sa/batch to Service shop/cart:80",
            "      now: allowed at the sidecar of shop/cart by shop/cart rule 1",
            "      let in with some request: desk/batch, desk/web",
            "    new for any other identity to port 8080 (sidecar pods, http):",
            "      GET / from cluster.local/ns/desk/sa/other to Service shop/cart:80",
            "      now: allowed at the sidecar of shop/cart by shop/cart rule 1",
        ],
        "{text}"
    );
    // All others are what they were.
    assert!(text.contains("[ok] shop/orders same"), "{text}");
}

#[test]
fn what_is_said_to_be_new_and_nothing_else_lets_the_gate_through() {
    let cart = cart();
    let states = (&[ORDERS][..], &[ORDERS, &cart][..]);
    for allow in ["new:shop/cart", "new:shop/*", "new:shop/cart:8080"] {
        for only in [&[][..], &["--only-new-access"]] {
            let arguments = [&["--allow", allow][..], only].concat();
            let (exit, text) = verify(states.0, states.1, &arguments);
            assert_eq!(exit, 0, "{allow}\n{text}");
            assert!(
                text.contains("[intended] shop/cart differs as intended"),
                "{text}"
            );
            assert!(
                text.contains("new, as intended, for workloads of the mesh"),
                "{text}"
            );
            assert!(!text.contains("nothing was found"), "{text}");
        }
    }
    for allow in ["opens:shop/cart", "new:shop/orders", "new:shop/cart:9090"] {
        let (exit, text) = verify(states.0, states.1, &["--allow", allow, "--only-new-access"]);
        assert_eq!(exit, 3, "{text}");
        assert!(
            text.contains(&format!("nothing was found for --allow {allow}")),
            "{text}"
        );
    }
}

#[test]
fn a_new_pod_under_an_account_that_a_policy_names_is_told_with_whom_it_may_call() {
    let evil = deployment("desk", "evil", "web", "");
    let (exit, text) = verify(&[ORDERS], &[ORDERS, &evil], &["--only-new-access"]);
    assert_eq!(exit, 3, "{text}");
    assert_eq!(
        lines(&text, "desk/evil"),
        [
            "[new] desk/evil new; only in the second input; its identity cluster.local/ns/desk/sa/web is not new: desk/web had \
             it; it has no port that anything names or leads to",
            "    calls for who it is, port 8080 (sidecar pods, http):",
            "      GET / from cluster.local/ns/desk/sa/web to Service shop/orders:80",
            "      now: allowed at the sidecar of shop/orders by shop/orders rule 1",
        ],
        "{text}"
    );
    let (exit, text) = verify(&[ORDERS], &[ORDERS, &evil], &["--allow", "new:desk/evil"]);
    assert_eq!(exit, 0, "{text}");
    assert!(
        text.contains("calls, as intended, for who it is, port 8080"),
        "{text}"
    );
    // A port is one of the new server's own.
    let (exit, text) = verify(
        &[ORDERS],
        &[ORDERS, &evil],
        &["--allow", "new:desk/evil:8080"],
    );
    assert_eq!(exit, 3, "{text}");
}

#[test]
fn an_account_that_had_no_workload_is_told_so_and_one_whom_nothing_names_opens_nothing() {
    let named = ORDERS.replace("sa/web", "sa/auditor");
    let auditor = deployment("desk", "auditor", "auditor", "");
    let (exit, text) = verify(&[&named], &[&named, &auditor], &[]);
    assert_eq!(exit, 3, "{text}");
    assert!(
        text.contains(
            "its identity cluster.local/ns/desk/sa/auditor is new: no workload ran under it before"
        ),
        "{text}"
    );
    assert!(text.contains("to Service shop/orders:80"), "{text}");
    // shop/stock lets in any identity, and shop/orders nobody new.
    let anybody = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: stock, namespace: shop}
spec:
  selector: {matchLabels: {app: stock}}
  rules: [{from: [{source: {principals: ['*']}}]}]
---
";
    let (exit, text) = verify(&[ORDERS, anybody], &[ORDERS, anybody, &auditor], &[]);
    assert_eq!(exit, 0, "{text}");
    assert_eq!(
        lines(&text, "desk/auditor"),
        [
            "[ok] desk/auditor same; only in the second input; its identity cluster.local/ns/desk/sa/auditor is new: no workload \
             ran under it before; it has no port that anything names or leads to; it may call nobody whom others may not"
        ]
    );
}

#[test]
fn one_whom_a_denial_names_no_more_is_told_too() {
    let denied = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: not-strangers, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  action: DENY
  rules: [{from: [{source: {notNamespaces: [desk, shop]}}]}]
---
";
    let new = deployment("desk", "late", "late", "");
    let (exit, text) = verify(&[denied], &[denied, &new], &[]);
    assert_eq!(exit, 3, "{text}");
    assert!(
        text.contains("from cluster.local/ns/desk/sa/late to Service shop/orders:80"),
        "{text}"
    );
}

#[test]
fn a_workload_that_is_gone_is_not_comparable_until_it_is_said_to_be_meant() {
    let cart = cart();
    let states = (&[ORDERS, &*cart][..], &[ORDERS][..]);
    let (exit, text) = verify(states.0, states.1, &[]);
    assert_eq!(exit, 4, "{text}");
    assert!(
        text.contains("[?] shop/cart is only in the first input"),
        "{text}"
    );
    let (exit, text) = verify(states.0, states.1, &["--allow", "gone:shop/cart"]);
    assert_eq!(exit, 0, "{text}");
    assert!(!text.contains("nothing was found"), "{text}");
    assert!(text.contains("gone, as intended: shop/cart"), "{text}");
}

#[test]
fn where_only_new_access_counts_one_that_is_gone_is_a_note() {
    let cart = cart();
    let only = ["--only-new-access"];
    let (exit, text) = verify(&[ORDERS, &cart], &[ORDERS], &only);
    assert_eq!(exit, 0, "{text}");
    assert!(
        text.contains("gone, so that nobody gains by it: shop/cart"),
        "{text}"
    );
    // Its Service stays and leads nowhere.
    let service = cart
        .split("---\n")
        .find(|one| one.contains("kind: Service"))
        .unwrap();
    let kept = format!("{service}---\n");
    let (exit, text) = verify(&[ORDERS, &cart], &[ORDERS, &kept], &only);
    assert_eq!(exit, 0, "{text}");
}

/// Who dialled cart's Service gets to something that is compared with nothing.
#[test]
fn one_that_is_gone_and_whose_service_leads_elsewhere_is_no_note() {
    let cart = cart();
    let by_name = "apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {type: ExternalName, externalName: cart.other.example}
---
";
    let machine = "apiVersion: v1
kind: Service
metadata: {name: cart, namespace: shop}
spec: {clusterIP: 10.96.0.77, selector: {app: cart}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: old-cart, namespace: shop}
spec: {address: 192.0.2.7, labels: {app: cart}}
---
";
    for (after, elsewhere) in [
        (by_name, "host cart.other.example"),
        (machine, "machine shop/old-cart"),
    ] {
        let arguments = ["--only-new-access"];
        let (exit, text) = verify(&[ORDERS, &cart], &[ORDERS, after], &arguments);
        assert_eq!(exit, 4, "{text}");
        let told = format!(
            "[?] shop/cart is only in the first input; Service shop/cart, which led to it, leads to {elsewhere}"
        );
        assert!(text.contains(&told), "{text}");
    }
}

#[test]
fn what_a_network_policy_lets_in_by_labels_is_access_for_who_one_is() {
    let policy = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: orders, namespace: shop}
spec:
  podSelector: {matchLabels: {app: orders}}
  policyTypes: [Ingress]
  ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: late}}}]}]
---
";
    let new = deployment("desk", "late", "late", "");
    let other = deployment("desk", "later", "later", "");
    let (exit, text) = verify(&[policy], &[policy, &new, &other], &[]);
    assert_eq!(exit, 3, "{text}");
    assert!(lines(&text, "desk/late").len() > 1, "{text}");
    assert_eq!(lines(&text, "desk/later").len(), 1, "{text}");
}
