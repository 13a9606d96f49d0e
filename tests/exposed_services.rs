//! A route of an ingress gateway, or the type of a Service, lets those outside the cluster in.
#![allow(missing_docs, clippy::unwrap_used)]

use assert_cmd::Command;

const STRICT: &str = "---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
";

const GATEWAY: &str = "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: pub, namespace: shop}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]
";

/// A VirtualService at that gateway that leads to `shop/stock`.
fn route(hosts: &str) -> String {
    format!(
        "{GATEWAY}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: pub, namespace: shop}}
spec: {{hosts: {hosts}, gateways: [pub], http: [{{route: [{{destination: {{host: stock}}}}]}}]}}
"
    )
}

/// The exit code of `verify`, and what it prints.
fn verified(before: &str, after: &str, change: impl Fn(&str) -> String) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let mesh = std::fs::read_to_string("tests/fixtures/traps/mesh.yaml").unwrap();
    for (state, mesh, more) in [
        ("before", mesh.clone(), before),
        ("after", change(&mesh), after),
    ] {
        let state = folder.path().join(state);
        std::fs::create_dir_all(&state).unwrap();
        for (name, text) in &castoff::demo::FILES[..2] {
            std::fs::write(state.join(name.replace('/', "-")), text).unwrap();
        }
        std::fs::write(state.join("mesh.yaml"), mesh).unwrap();
        std::fs::write(state.join("more.yaml"), more).unwrap();
    }
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args(["verify", "before", "after", "--ascii"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text)
}

#[test]
fn a_route_of_a_gateway_that_is_let_in_opens_a_server_to_outsiders() {
    let after = format!("{STRICT}{}", route("['*']"));
    let (code, text) = verified(STRICT, &after, str::to_owned);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("[opens] shop/stock opens"), "{text}");
    assert!(
        text.contains("opens for outsiders, through a gateway"),
        "{text}"
    );
    assert!(
        text.contains("no route of it leads to Service shop/stock"),
        "{text}"
    );
    assert!(text.contains("4 servers: 3 same"), "{text}");
}

#[test]
fn which_requests_a_route_for_some_hosts_leads_there_is_undecided() {
    let after = format!("{STRICT}{}", route("[stock.example.com]"));
    let (code, text) = verified(STRICT, &after, str::to_owned);
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("which requests the routes of gateway shop/pub lead there"),
        "{text}"
    );
}

#[test]
fn a_route_of_a_gateway_that_the_server_refuses_opens_nothing() {
    let refuses = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: stock, namespace: shop}
spec:
  selector: {matchLabels: {app: stock}}
  rules: [{from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]}]
";
    for hosts in ["['*']", "[stock.example.com]"] {
        let after = format!("{refuses}{}", route(hosts));
        let (code, text) = verified(refuses, &after, str::to_owned);
        assert_eq!(code, Some(0), "{text}");
    }
}

/// istiod makes the pods of such a Gateway, so that a repository has none.
#[test]
fn a_gateway_without_pods_among_the_input_is_undecided() {
    let route = "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: pub, namespace: shop}
spec: {gatewayClassName: istio, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: pub, namespace: shop}
spec: {parentRefs: [{name: pub}], rules: [{backendRefs: [{name: stock, port: 80}]}]}
";
    for before in ["", STRICT] {
        let (code, text) = verified(before, &format!("{before}{route}"), str::to_owned);
        assert_eq!(code, Some(4), "{text}");
        let reason = "the pods of gateway shop/pub, which are not among the input";
        assert!(text.contains(reason), "{text}");
    }
}

#[test]
fn a_route_that_is_taken_away_is_noted() {
    let route = route("['*']");
    let (code, text) = verified(&route, GATEWAY, str::to_owned);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("gateway shop/pub leads no longer to Service shop/stock"),
        "{text}"
    );
}

#[test]
fn a_service_that_is_exposed_lets_in_who_needs_no_identity() {
    let exposed = |mesh: &str| {
        let changed = mesh.replace(
            "{clusterIP: 10.96.0.10, ",
            "{type: LoadBalancer, clusterIP: 10.96.0.10, ",
        );
        assert_ne!(mesh, changed);
        changed
    };
    let (code, text) = verified("", "", exposed);
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("opens for outsiders, from outside the cluster"),
        "{text}"
    );
    let (code, text) = verified(STRICT, STRICT, exposed);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn a_service_that_a_gateway_mirrors_to_is_exposed_too() {
    for mirror in [
        "mirror: {host: stock}",
        "mirrors: [{destination: {host: stock}}]",
    ] {
        let led = route("['*']").replace("host: stock", "host: orders");
        let mirrored = led.replace("[{route:", &format!("[{{{mirror}, route:"));
        let before = format!("{STRICT}{led}");
        let (code, text) = verified(&before, &format!("{STRICT}{mirrored}"), str::to_owned);
        assert_eq!(code, Some(4), "{mirror}: {text}");
        assert!(text.contains("shop/stock"), "{text}");
    }
}

#[test]
fn a_service_that_the_delegate_of_a_gateways_routes_leads_to_is_exposed() {
    let root = route("['*']").replace(
        "route: [{destination: {host: stock}}]",
        "delegate: {name: part, namespace: shop}",
    );
    let part = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: part, namespace: shop}
spec: {http: [{route: [{destination: {host: stock}}]}]}
";
    let (code, text) = verified(STRICT, &format!("{STRICT}{root}{part}"), str::to_owned);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("[opens] shop/stock opens"), "{text}");
}
