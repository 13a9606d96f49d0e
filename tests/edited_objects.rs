//! What castoff does not model is equal before and after only where it says the same: an object of the
//! same name that was edited is another one.
#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::collections::BTreeSet;

use castoff::mesh::{Mesh, MeshOverrides};
use castoff::prove::rows::{RowVerdict, States, rows};
use castoff::source::{Collector, Place};
use castoff_authz::verdict::Limits;

/// The demo with one more document, and a text of its own replaced.
fn demo(more: &str, replaced: Option<(&str, &str)>) -> Mesh {
    let mut collector = Collector::new();
    for (file, text) in &castoff::demo::FILES {
        let text = match replaced {
            Some((old, new)) => text.replace(old, new),
            None => (*text).to_owned(),
        };
        collector.add_text(&Place::Demo(file), &text);
    }
    collector.add_text(&Place::File("more.yaml".into()), more);
    let snapshot = collector.finish();
    assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
    Mesh::build(&snapshot, &MeshOverrides::default())
}

/// Servers whose row is not the same, all of them undecided.
fn undecided(baseline: &Mesh, present: &Mesh) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for row in rows(&States { baseline, present }, Limits::default()) {
        match row.verdict() {
            RowVerdict::Same => {}
            RowVerdict::Undecided => {
                found.insert(row.server.to_string());
            }
            other => panic!("{} {other:?}", row.server),
        }
    }
    found
}

fn edited(before: &str, after: &str) -> BTreeSet<String> {
    let baseline = demo(before, None);
    assert!(undecided(&baseline, &baseline).is_empty());
    undecided(&baseline, &demo(after, None))
}

fn names(servers: &[&str]) -> BTreeSet<String> {
    servers.iter().map(|one| (*one).to_owned()).collect()
}

#[test]
fn an_edited_envoy_filter_is_another_one() {
    let filter = |value: &str| {
        format!(
            "apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: tuning, namespace: bookshop}}
spec:
  workloadSelector: {{labels: {{app: catalog}}}}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {{context: SIDECAR_INBOUND}}
    patch: {{operation: INSERT_BEFORE, value: {{name: {value}}}}}
"
        )
    };
    assert_eq!(
        edited(&filter("one"), &filter("another")),
        names(&["bookshop/catalog"])
    );
}

#[test]
fn an_edited_wasm_plugin_is_another_one() {
    let plugin = |url: &str| {
        format!(
            "apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {{name: guard, namespace: payments}}
spec:
  selector: {{matchLabels: {{app: checkout}}}}
  url: oci://registry.example/{url}
"
        )
    };
    assert_eq!(
        edited(&plugin("guard:1"), &plugin("guard:2")),
        names(&["payments/checkout"])
    );
}

#[test]
fn an_edited_policy_that_is_not_understood_is_another_one() {
    let policy = |field: &str| {
        format!(
            "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: from-the-future, namespace: bookshop}}
spec:
  selector: {{matchLabels: {{app: catalog}}}}
  action: ALLOW
  rules:
  - from:
    - source: {{{field}: [a]}}
"
        )
    };
    assert_eq!(
        edited(&policy("planets"), &policy("moons")),
        names(&["bookshop/catalog"])
    );
}

#[test]
fn an_edited_route_that_rewrites_requests_is_another_one() {
    let route = |uri: &str| {
        format!(
            "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: catalog-rewrite, namespace: bookshop}}
spec:
  hosts: [catalog]
  http:
  - match: [{{uri: {{prefix: /}}}}]
    rewrite: {{uri: {uri}}}
    route: [{{destination: {{host: catalog}}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: catalog-admin, namespace: bookshop}}
spec:
  selector: {{matchLabels: {{app: catalog}}}}
  action: DENY
  rules:
  - to:
    - operation: {{paths: [/admin]}}
"
        )
    };
    assert_eq!(
        edited(&route("/public"), &route("/admin")),
        names(&["bookshop/catalog"])
    );
}

#[test]
fn another_definition_of_an_authorizer_of_the_same_name_is_another_one() {
    let asks = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask, namespace: bookshop}
spec:
  selector: {matchLabels: {app: catalog}}
  action: CUSTOM
  provider: {name: gate}
  rules: [{}]
";
    let old = "    trustDomain: cluster.local\n";
    let with = |service: &str| {
        let new = format!(
            "{old}    extensionProviders:\n    - name: gate\n      envoyExtAuthzGrpc:\n        service: \
             {service}.example\n        port: 9000\n"
        );
        demo(asks, Some((old, &new)))
    };
    let baseline = with("gate");
    assert!(undecided(&baseline, &baseline).is_empty());
    assert_eq!(
        undecided(&baseline, &with("open-door")),
        names(&["bookshop/catalog"])
    );
}

#[test]
fn paths_normalized_otherwise_are_not_compared() {
    let denied = "apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: catalog-admin, namespace: bookshop}
spec:
  selector: {matchLabels: {app: catalog}}
  action: DENY
  rules:
  - to:
    - operation: {paths: [/admin]}
";
    let old = "    trustDomain: cluster.local\n";
    let with = |normalization: &str| {
        let new = format!("{old}    pathNormalization:\n      normalization: {normalization}\n");
        demo(denied, Some((old, &new)))
    };
    let baseline = with("MERGE_SLASHES");
    assert!(undecided(&baseline, &baseline).is_empty());
    let found = undecided(&baseline, &with("NONE"));
    assert!(found.contains("bookshop/catalog"), "{found:?}");
    assert!(
        !found.contains("bookshop/ratings"),
        "no rule there looks at a path: {found:?}"
    );
}

/// `outputClaimToHeaders` says which claim, so that another claim makes another header.
#[test]
fn a_header_made_from_a_claim_depends_on_the_rule_that_makes_it() {
    let made = |claim: &str| {
        format!(
            "apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: bookshop}}
spec:
  selector: {{matchLabels: {{app: catalog}}}}
  jwtRules:
  - issuer: https://issuer.example
    jwksUri: https://issuer.example/keys
    outputClaimToHeaders: [{{header: X-Role, claim: {claim}}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: staff, namespace: bookshop}}
spec:
  selector: {{matchLabels: {{app: catalog}}}}
  action: DENY
  rules:
  - when: [{{key: 'request.headers[x-role]', notValues: [staff]}}]
"
        )
    };
    assert_eq!(
        edited(&made("role"), &made("nickname")),
        names(&["bookshop/catalog"])
    );
}
