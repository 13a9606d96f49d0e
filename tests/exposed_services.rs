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

/// An object `Ingress` that leads to `shop/stock`.
fn ingress(class: &str, rule: &str) -> String {
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: public, namespace: shop}}
spec:
  {class}
  rules: [{{{rule}http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: stock, port: {{number: 80}}}}}}}}]}}}}]
"
    )
}

/// istio pilot/pkg/config/kube/ingress: istiod makes a Gateway and a VirtualService of it.
#[test]
fn an_ingress_of_istios_class_leads_outsiders_in() {
    let same = |mesh: &str| mesh.to_owned();
    let istio = "ingressClassName: istio";
    let (code, text) = verified(STRICT, &format!("{STRICT}{}", ingress(istio, "")), same);
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("gateway istio-system/public-istio-autogenerated-k8s-ingress-shop"),
        "{text}"
    );
    let one_host = ingress(istio, "host: a.example, ");
    let (code, text) = verified(STRICT, &format!("{STRICT}{one_host}"), same);
    assert_eq!(code, Some(4), "{text}");
    for class in ["ingressClassName: nginx", ""] {
        let other = ingress(class, "");
        let (code, text) = verified(STRICT, &format!("{STRICT}{other}"), same);
        assert_eq!(code, Some(0), "{class} {text}");
    }
    // A class is the controller's that it names.
    let class = |controller: &str| {
        format!(
            "{STRICT}---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: front}}
spec: {{controller: {controller}}}
"
        )
    };
    let front = ingress("ingressClassName: front", "");
    for (controller, expected) in [("istio.io/ingress-controller", 3), ("other.example/it", 0)] {
        let before = class(controller);
        let (code, text) = verified(&before, &format!("{before}{front}"), same);
        assert_eq!(code, Some(expected), "{controller} {text}");
    }
}

/// A route of the Gateway API at a Gateway with two listeners.
fn by_listener(parent: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: two, namespace: shop}}
spec:
  gatewayClassName: istio
  listeners:
  - {{name: inside, port: 8080, protocol: HTTP, hostname: inside.example}}
  - {{name: outside, port: 80, protocol: HTTP}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: stock, namespace: shop}}
spec:
  parentRefs: [{{name: two{parent}}}]
  rules: [{{backendRefs: [{{name: stock, port: 80}}]}}]
"
    )
}

/// istio pilot/pkg/config/kube/gateway/conversion.go `referenceAllowed`.
#[test]
fn a_route_that_comes_by_another_listener_is_undecided() {
    let same = |mesh: &str| mesh.to_owned();
    let (inside, outside) = (", sectionName: inside", ", sectionName: outside");
    for (before, after, expected) in [
        (inside, outside, 4),
        (inside, "", 4),
        (inside, ", port: 80", 4),
        ("", inside, 0),
        (outside, outside, 0),
        // It is attached to none, and then to one; the gateway's pods are not among the input.
        (", sectionName: nowhere", outside, 4),
        (", sectionName: nowhere", ", sectionName: nowhere", 0),
    ] {
        let [was, is] = [before, after].map(|parent| format!("{STRICT}{}", by_listener(parent)));
        let (code, text) = verified(&was, &is, same);
        assert_eq!(code, Some(expected), "{before} {after} {text}");
    }
}
