//! Sidecars that do not know a Service send to it in plaintext, or not at all; ztunnel knows every Service.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/small_mesh.rs"]
#[allow(dead_code)]
mod small_mesh;

use small_mesh::{server, verify};

const READERS: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: readers, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules: [{from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]}]
";

const STRICT: &str = "---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";

const NOT_BATCH: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: not-batch, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/desk/sa/batch]}}]}]
";

fn sidecar(namespace: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default, namespace: {namespace}}}
spec: {spec}
"
    )
}

fn exported(to: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: orders, namespace: shop, annotations: {{networking.istio.io/exportTo: '{to}'}}}}
spec: {{clusterIP: 10.96.0.9, selector: {{app: orders}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
"
    )
}

fn verdict(before: &[&str], after: &[&str]) -> String {
    let report = verify(before, after);
    server(&report, "shop/orders")["verdict"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// istio pilot/pkg/model/sidecar.go `convertToSidecarScope`; what it does not import has no cluster with mutual TLS.
#[test]
fn a_service_that_a_sidecar_does_not_import_is_called_without_identity() {
    for (spec, expected) in [
        ("{egress: [{hosts: ['./*', 'istio-system/*']}]}", "breaks"),
        ("{egress: [{hosts: ['~/*']}]}", "breaks"),
        ("{egress: [{hosts: ['shop/*']}]}", "same"),
        (
            "{egress: [{hosts: ['*/orders.shop.svc.cluster.local']}]}",
            "same",
        ),
        (
            "{egress: [{hosts: ['*/stock.shop.svc.cluster.local']}]}",
            "breaks",
        ),
        (
            "{egress: [{hosts: ['*/*.shop.svc.cluster.local']}]}",
            "same",
        ),
        (
            "{egress: [{port: {number: 80, protocol: HTTP, name: http}, hosts: ['shop/*']}]}",
            "same",
        ),
        (
            "{egress: [{port: {number: 81, protocol: HTTP, name: http}, hosts: ['shop/*']}]}",
            "breaks",
        ),
        (
            "{egress: [{bind: 127.0.0.1, hosts: ['shop/*']}]}",
            "undecided",
        ),
        (
            "{workloadSelector: {labels: {app: web}}, egress: [{hosts: ['./*']}]}",
            "breaks",
        ),
        (
            "{workloadSelector: {labels: {app: batch}}, egress: [{hosts: ['./*']}]}",
            "same",
        ),
        ("{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}", "same"),
    ] {
        let after = sidecar("desk", spec);
        assert_eq!(verdict(&[READERS], &[READERS, &after]), expected, "{spec}");
        assert_eq!(
            verdict(&[READERS, &after], &[READERS, &after]),
            "same",
            "{spec}"
        );
    }
    let of_mesh = sidecar("istio-system", "{egress: [{hosts: ['./*']}]}");
    assert_eq!(verdict(&[READERS], &[READERS, &of_mesh]), "breaks");
    let own = sidecar("desk", "{egress: [{hosts: ['*/*']}]}");
    assert_eq!(verdict(&[READERS], &[READERS, &of_mesh, &own]), "same");
}

#[test]
fn a_service_that_is_not_exported_is_called_without_identity() {
    for (to, expected) in [
        (".", "breaks"),
        ("~", "breaks"),
        ("*", "same"),
        ("shop, desk", "same"),
    ] {
        assert_eq!(
            verdict(&[READERS], &[READERS, &exported(to)]),
            expected,
            "{to}"
        );
    }
    // Without policies nothing asks for an identity; refused is what is not known where the mesh says so.
    assert_eq!(verdict(&[], &[&exported(".")]), "same");
    assert_eq!(verdict(&[STRICT], &[STRICT, &exported(".")]), "breaks");
    let blocks = sidecar("desk", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}");
    assert_eq!(verdict(&[&blocks], &[&blocks, &exported(".")]), "breaks");
}

/// That a Service was kept from a sidecar's sight is no policy about access; that its identity was not seen is a loss
/// where a policy denies it.
#[test]
fn what_comes_into_sight_is_measured_by_policies() {
    let hidden = exported(".");
    assert_eq!(verdict(&[STRICT, &hidden], &[STRICT]), "same");
    assert_eq!(verdict(&[READERS, &hidden], &[READERS]), "same");
    assert_eq!(verdict(&[NOT_BATCH, &hidden], &[NOT_BATCH]), "breaks");
    assert_eq!(verdict(&[READERS, &hidden], &[]), "opens");
}

/// istio pilot/pkg/networking/core/listener.go: with REGISTRY_ONLY what no Service lists goes to the black hole.
#[test]
fn with_registry_only_sidecars_dial_no_pods_by_their_addresses() {
    // Nothing but the pods' own addresses leads to the server.
    let no_service = "---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {clusterIP: 10.96.0.9, selector: {app: nobody}, ports: [{name: http, port: 80, targetPort: 8080}]}
";
    let headless = "---
apiVersion: v1
kind: Service
metadata: {name: orders, namespace: shop}
spec: {clusterIP: None, selector: {app: orders}, ports: [{name: http, port: 8080, targetPort: 8080}]}
";
    let registry_only = sidecar("desk", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}");
    let after: &[&str] = &[no_service, &registry_only];
    assert_eq!(verdict(&[no_service], after), "breaks");
    assert_eq!(verdict(after, after), "same");
    // What it kept out was kept out by no policy about access.
    assert_eq!(verdict(after, &[no_service]), "same");
    assert_eq!(verdict(&[headless], &[headless, &registry_only]), "same");
}
