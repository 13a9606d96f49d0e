//! Routes that lead some requests, or some callers, elsewhere: what is lost there is lost, and nothing else is said to
//! be.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/small_mesh.rs"]
#[allow(dead_code)]
mod small_mesh;

use assert_cmd::Command;

/// Orders may be read by web alone.
const READERS: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: desk}
spec: {clusterIP: 10.96.0.11, selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
";

fn virtual_service(spec: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: stock, namespace: shop}}
spec: {{hosts: [stock], {spec}}}
"
    )
}

fn route(kind: &str, rules: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: stock, namespace: shop}}
spec: {{parentRefs: [{{group: '', kind: Service, name: stock}}], rules: [{rules}]}}
"
    )
}

/// The exit code of `verify`, and what it prints.
fn verified(before: &str, after: &str) -> (Option<i32>, String) {
    small_mesh::verified(&[READERS, before], &[READERS, after])
}

/// What is lost where these routes are new; that nothing is where they stay.
fn lost(routes: &str) -> (Option<i32>, String) {
    let (code, text) = verified(routes, routes);
    assert_eq!(code, Some(0), "{routes}{text}");
    verified("", routes)
}

fn breaks(routes: &str, lines: &[&str]) {
    let (code, text) = lost(routes);
    assert_eq!(code, Some(3), "{routes}{text}");
    assert!(text.contains("shop/stock breaks"), "{text}");
    for line in lines {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

const BATCH: &str = "GET / from cluster.local/ns/desk/sa/batch to Service shop/stock:80";
const REFUSED: &str = "now: denied at the sidecar of shop/orders";

#[test]
fn what_one_of_several_destinations_refuses_is_lost() {
    for routes in [
        "{destination: {host: stock}, weight: 50}, {destination: {host: orders}, weight: 50}",
        "{destination: {host: web.desk.svc.cluster.local}, weight: 99}, {destination: {host: orders}, weight: 1}",
    ] {
        let routes = virtual_service(&format!("http: [{{route: [{routes}]}}]"));
        breaks(&routes, &[BATCH, REFUSED]);
    }
    let accepted = "{destination: {host: web.desk.svc.cluster.local}, weight: 50}, {destination: {host: stock}, weight: 50}";
    let (code, text) = lost(&virtual_service(&format!(
        "http: [{{route: [{accepted}]}}]"
    )));
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn what_all_destinations_refuse_now_and_one_accepted_is_lost() {
    let to = |host: &str, weight: u8| {
        virtual_service(&format!(
            "http: [{{route: [{{destination: {{host: {host}}}, weight: {weight}}}, {{destination: {{host: orders}}, weight: 50}}]}}]"
        ))
    };
    let (code, text) = verified(&to("stock", 50), &to("stock", 0));
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains(REFUSED), "{text}");
    // Shares are not compared.
    assert_eq!(verified(&to("stock", 50), &to("stock", 40)).0, Some(0));
}

#[test]
fn what_is_diverted_by_labels_is_lost_for_callers_with_these_labels() {
    let by = |labels: &str| {
        virtual_service(&format!(
            "http: [{{match: [{{sourceLabels: {labels}}}], route: [{{destination: {{host: orders}}}}]}}, {{route: [{{destination: {{host: stock}}}}]}}]"
        ))
    };
    breaks(&by("{app: batch}"), &[BATCH, REFUSED]);
    // Web may read orders, and nobody has other labels.
    for labels in ["{app: web}", "{app: batch, version: v9}"] {
        let (code, text) = lost(&by(labels));
        assert_eq!(code, Some(0), "{labels}: {text}");
    }
    let in_namespace =
        by("{app: batch}").replace("sourceLabels: {app: batch}", "sourceNamespace: desk");
    breaks(&in_namespace, &[BATCH, REFUSED]);
    let elsewhere = in_namespace.replace("sourceNamespace: desk", "sourceNamespace: none");
    assert_eq!(lost(&elsewhere).0, Some(0));
    let of_gateways =
        by("{app: batch}").replace("sourceLabels", "gateways: [shop/gw], sourceLabels");
    assert_eq!(lost(&of_gateways).0, Some(0));
}

const TCP: &str = "---
apiVersion: v1
kind: Service
metadata: {name: stock-tcp, namespace: shop}
spec: {clusterIP: 10.96.0.21, selector: {app: stock}, ports: [{name: tcp, port: 9000, targetPort: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: orders-tcp, namespace: shop}
spec: {clusterIP: 10.96.0.22, selector: {app: orders}, ports: [{name: tcp, port: 9000, targetPort: 9000}]}
";

#[test]
fn connections_are_led_by_the_labels_of_callers_too() {
    for (condition, expected) in [
        ("sourceLabels: {app: batch}", 3),
        ("sourceLabels: {app: web}", 0),
        ("sourceLabels: {app: batch}, port: 9001", 0),
        ("destinationSubnets: [10.96.0.21/32]", 4),
    ] {
        let route = format!(
            "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: stock-tcp, namespace: shop}}
spec: {{hosts: [stock-tcp], tcp: [{{match: [{{{condition}}}], route: [{{destination: {{host: orders-tcp}}}}]}}]}}
"
        );
        let after = format!("{TCP}{route}");
        let (code, text) = verified(TCP, &after);
        assert_eq!(code, Some(expected), "{condition}: {text}");
        assert!(
            expected != 3
                || text
                    .contains("from cluster.local/ns/desk/sa/batch to Service shop/stock-tcp:9000"),
            "{text}"
        );
        assert_eq!(verified(&after, &after).0, Some(0));
    }
}

/// istio pilot/pkg/config/kube/gateway/conversion.go `convertHTTPRoute`.
#[test]
fn what_a_route_leads_to_no_backend_is_lost() {
    let nobody = "now: denied at the caller's sidecar";
    for kind in ["HTTPRoute", "GRPCRoute"] {
        for rules in [
            "{backendRefs: []}",
            "{backendRefs: [{name: stock, port: 80, weight: 0}]}",
            "{backendRefs: [{name: nobody, port: 80}]}",
            "{backendRefs: [{name: stock, port: 81}]}",
        ] {
            breaks(&route(kind, rules), &[BATCH, nobody]);
        }
        let weights =
            "{backendRefs: [{name: stock, port: 80, weight: 0}, {name: orders, port: 80}]}";
        breaks(&route(kind, weights), &[BATCH, REFUSED]);
    }
    breaks(
        &virtual_service("http: [{route: [{destination: {host: nobody}}]}]"),
        &[
            BATCH,
            "no Service has the host nobody.shop.svc.cluster.local",
        ],
    );
}

#[test]
fn who_answers_at_a_host_outside_is_undecided() {
    let (code, text) = lost(&virtual_service(
        "http: [{route: [{destination: {host: nowhere.example}}]}]",
    ));
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("who answers at nowhere.example is not known"),
        "{text}"
    );
}

const TWO_PORTS: &str = "---
apiVersion: v1
kind: Service
metadata: {name: stock, namespace: shop}
spec: {clusterIP: 10.96.0.10, selector: {app: stock}, ports: [{name: http, port: 80, targetPort: 8080}, {name: http-more, port: 81, targetPort: 8081}]}
";

#[test]
fn a_route_for_one_of_several_ports_is_followed_there() {
    let by_virtual_service = virtual_service(
        "http: [{match: [{port: 81}], route: [{destination: {host: orders, port: {number: 80}}}]}]",
    );
    let by_route = route("HTTPRoute", "{backendRefs: [{name: orders, port: 80}]}")
        .replace("name: stock}]", "name: stock, port: 81}]");
    for routes in [by_virtual_service, by_route] {
        let (code, text) = verified(TWO_PORTS, &format!("{TWO_PORTS}{routes}"));
        assert_eq!(code, Some(3), "{text}");
        assert!(
            text.contains("desk/sa/batch to Service shop/stock:81"),
            "{text}"
        );
        assert!(!text.contains("to Service shop/stock:80"), "{text}");
    }
}

#[test]
fn what_is_diverted_by_what_requests_are_is_lost_for_these() {
    for (condition, line) in [
        ("uri: {prefix: /v2}", "GET /v2"),
        ("uri: {exact: /v2/all}", "GET /v2/all from"),
        ("method: {exact: DELETE}", "DELETE / from"),
        (
            "headers: {x-canary: {exact: 'yes'}}",
            "header x-canary: yes",
        ),
        ("withoutHeaders: {x-canary: {}}", "GET / from"),
    ] {
        let routes = virtual_service(&format!(
            "http: [{{match: [{{{condition}}}], route: [{{destination: {{host: orders}}}}]}}, {{route: [{{destination: {{host: stock}}}}]}}]"
        ));
        breaks(&routes, &[line, REFUSED]);
    }
    for condition in [
        "uri: {regex: /v2.*}",
        "queryParams: {canary: {exact: 'yes'}}",
        "uri: {prefix: /v2}, ignoreUriCase: true",
        "authority: {exact: stock}",
    ] {
        let routes = virtual_service(&format!(
            "http: [{{match: [{{{condition}}}], route: [{{destination: {{host: orders}}}}]}}, {{route: [{{destination: {{host: stock}}}}]}}]"
        ));
        let (code, text) = lost(&routes);
        assert_eq!(code, Some(4), "{condition}: {text}");
        assert!(text.contains("hangs on `match["), "{text}");
    }
}

/// The first route that takes a request decides; what none takes is answered with 404.
#[test]
fn routes_are_asked_in_their_order() {
    let first = "{match: [{uri: {prefix: /v2}}], route: [{destination: {host: stock}}]}";
    let second = "{match: [{uri: {prefix: /v2/a}}], route: [{destination: {host: orders}}]}";
    let rest = "{route: [{destination: {host: stock}}]}";
    let routes = |list: &[&str]| virtual_service(&format!("http: [{}]", list.join(", ")));
    let (code, text) = lost(&routes(&[first, second, rest]));
    assert_eq!(code, Some(0), "{text}");
    breaks(&routes(&[second, first, rest]), &["GET /v2/a", REFUSED]);
    breaks(
        &routes(&[first]),
        &[BATCH, "no route of VirtualService shop/stock takes it"],
    );
    let (code, text) = verified(&routes(&[second, rest]), &routes(&[rest]));
    assert_eq!(code, Some(0), "{text}");
}

/// pilot/pkg/config/kube/gateway/conversion.go `sortHTTPRoutes`: the longer path goes first, and `/v2` is no `/v21`.
#[test]
fn matches_of_the_gateway_api_are_asked_by_how_much_they_say() {
    let path = |path: &str, host: &str| {
        format!(
            "{{matches: [{{path: {{type: PathPrefix, value: {path}}}}}], backendRefs: [{{name: {host}, port: 80}}]}}"
        )
    };
    let rules = format!("{}, {}", path("/", "stock"), path("/v2", "orders"));
    let (code, text) = lost(&route("HTTPRoute", &rules));
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("GET /v2 from"), "{text}");
    let wider = format!("{rules}, {}", path("/v2/all", "stock"));
    let (code, text) = verified(&route("HTTPRoute", &rules), &route("HTTPRoute", &wider));
    assert_eq!(code, Some(0), "{text}");
    let method = "{matches: [{method: {service: a.B, method: C}}], backendRefs: [{name: orders, port: 80}]}, {backendRefs: [{name: stock, port: 80}]}";
    breaks(&route("GRPCRoute", method), &["/a.B/C from", REFUSED]);
}

/// A delegate's matches hold within those of the route that names it.
#[test]
fn a_delegate_takes_what_its_root_takes_alone() {
    let root = virtual_service(
        "http: [{match: [{uri: {prefix: /v2}}], delegate: {name: part, namespace: shop}}, {route: [{destination: {host: stock}}]}]",
    );
    let part = |condition: &str| {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: part, namespace: shop}}
spec: {{http: [{{match: [{{{condition}}}], route: [{{destination: {{host: orders}}}}]}}]}}
"
        )
    };
    let header = format!("{root}{}", part("headers: {x-canary: {exact: 'yes'}}"));
    breaks(&header, &["GET /v2", "header x-canary: yes", REFUSED]);
    // Its rule is left out.
    let (code, text) = lost(&format!("{root}{}", part("uri: {prefix: /other}")));
    assert_eq!(code, Some(0), "{text}");
}

/// No waypoint, and no ztunnel, reads a VirtualService of the callers' own namespace.
#[test]
fn who_moves_is_led_by_his_own_namespaces_routes_no_more() {
    let route = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: stock, namespace: desk}
spec:
  hosts: [orders.shop.svc.cluster.local]
  http:
  - {match: [{sourceLabels: {app: batch}}], route: [{destination: {host: stock.shop.svc.cluster.local}}]}
  - {route: [{destination: {host: orders.shop.svc.cluster.local}}]}
";
    let moved = |mode: &str| {
        format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: desk, labels: {{{mode}}}}}\n{route}"
        )
    };
    let (code, text) = verified(
        &moved("istio-injection: enabled"),
        &moved("istio.io/dataplane-mode: ambient"),
    );
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("shop/orders breaks"), "{text}");
    let batch = "GET / from cluster.local/ns/desk/sa/batch to Service shop/orders:80";
    assert!(text.contains(batch), "{text}");
    assert!(
        text.contains("now: denied at the sidecar of shop/orders"),
        "{text}"
    );
    assert!(!text.contains("desk/sa/web to"), "{text}");
}

const HEADLESS: &str = "---
apiVersion: v1
kind: Service
metadata: {name: stock-pods, namespace: shop}
spec: {clusterIP: None, selector: {app: stock}, ports: [{name: http, port: 80, targetPort: 8080}]}
";

/// A sidecar takes a headless Service's requests by their host, as it does others.
#[test]
fn a_headless_service_is_led_elsewhere_by_sidecars() {
    let route = virtual_service("http: [{route: [{destination: {host: orders}}]}]")
        .replace("hosts: [stock]", "hosts: [stock-pods]");
    let after = format!("{HEADLESS}{route}");
    let (code, text) = verified(HEADLESS, &after);
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("desk/sa/batch to Service shop/stock-pods:80"),
        "{text}"
    );
}

/// Nothing but who calls has changed.
#[test]
fn who_has_another_identity_loses_where_routes_lead_to_policies_that_name_him() {
    let route = virtual_service("http: [{route: [{destination: {host: orders}}]}]");
    let web = |account: &str| {
        format!(
            "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: page, namespace: desk}}
spec:
  selector: {{matchLabels: {{app: page}}}}
  template:
    metadata: {{labels: {{app: page}}}}
    spec: {{serviceAccountName: {account}, containers: [{{name: app, image: 'registry.example/page:1'}}]}}
{route}"
        )
    };
    let (code, text) = verified(&web("web"), &web("page"));
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("shop/stock breaks"), "{text}");
    assert!(
        text.contains("desk/sa/page to Service shop/stock:80"),
        "{text}"
    );
}

/// istio pilot/pkg/model/virtualservice.go `SelectVirtualServices`.
#[test]
fn a_route_that_a_sidecar_object_does_not_import_leads_nobody() {
    let with = |hosts: &str| {
        let route = virtual_service("http: [{route: [{destination: {host: orders}}]}]")
            .replace("[stock]", "[stock.shop.svc.cluster.local]")
            .replace("namespace: shop", "namespace: routing");
        let route = route.replace("host: orders", "host: orders.shop.svc.cluster.local");
        let sidecar = format!(
            "---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default, namespace: desk}}
spec: {{egress: [{{hosts: [{hosts}]}}]}}
"
        );
        (sidecar.clone(), format!("{sidecar}{route}"))
    };
    for (hosts, expected) in [
        ("'shop/*'", 0),
        ("'shop/*', 'routing/*'", 3),
        ("'shop/*', 'routing/orders.shop.svc.cluster.local'", 0),
        ("'*/stock.shop.svc.cluster.local'", 3),
    ] {
        let (before, after) = with(hosts);
        let (_, text) = verified(&before, &after);
        let is_lost = text.contains(BATCH);
        assert_eq!(is_lost, expected == 3, "{hosts}: {text}");
    }
}

/// The same said by a plan: whom his own namespace's route leads elsewhere stays where he is.
#[test]
fn a_plan_moves_nobody_away_from_his_own_namespaces_routes() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("mesh");
    std::fs::create_dir_all(&state).unwrap();
    for (name, text) in &castoff::demo::FILES[..2] {
        std::fs::write(state.join(name.replace('/', "-")), text).unwrap();
    }
    let mesh = std::fs::read_to_string("tests/fixtures/traps/mesh.yaml").unwrap();
    std::fs::write(state.join("mesh.yaml"), mesh).unwrap();
    let route = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: orders, namespace: desk}
spec:
  hosts: [orders.shop.svc.cluster.local]
  http:
  - {match: [{sourceLabels: {app: batch}}], route: [{destination: {host: stock.shop.svc.cluster.local}}]}
  - {route: [{destination: {host: orders.shop.svc.cluster.local}}]}
";
    std::fs::write(state.join("more.yaml"), format!("{READERS}{route}")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_castoff"))
        .args([
            "plan",
            "--from-files",
            "mesh",
            "--output-dir",
            "out",
            "--ascii",
        ])
        .current_dir(folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    let batch = "GET / from cluster.local/ns/desk/sa/batch to Service shop/orders:80";
    for line in [
        "desk/batch",
        batch,
        "before: allowed at the sidecar of shop/stock",
        "now: denied at the sidecar of shop/orders: no ALLOW matches (shop/orders)",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}
