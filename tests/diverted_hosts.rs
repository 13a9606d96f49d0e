//! A route that leads a whole host to pods of another Service: what those refuse is lost for who dials the host.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/small_mesh.rs"]
#[allow(dead_code)]
mod small_mesh;

const READERS: &str = "---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: orders, namespace: shop}
spec:
  selector: {matchLabels: {app: orders}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/desk/sa/web]}}]
";

fn virtual_service(routes: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: stock, namespace: shop}}
spec: {{hosts: [stock], http: [{routes}]}}
"
    )
}

const TO_ORDERS: &str = "{route: [{destination: {host: orders}}]}";

/// The exit code of `verify`, and what it prints.
fn verified(before: &str, after: &str) -> (Option<i32>, String) {
    small_mesh::verified(&[READERS, before], &[READERS, after])
}

#[test]
fn a_host_that_leads_to_pods_that_refuse_is_lost() {
    let (code, text) = verified("", &virtual_service(TO_ORDERS));
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("shop/stock breaks"), "{text}");
    assert!(text.contains("to Service shop/stock:80"), "{text}");
    assert!(
        text.contains("now: denied at the sidecar of shop/orders"),
        "{text}"
    );
    assert!(text.contains("4 servers: 3 same"), "{text}");
}

#[test]
fn what_was_diverted_before_is_no_loss_now() {
    let route = virtual_service(TO_ORDERS);
    let (code, text) = verified(&route, &route);
    assert_eq!(code, Some(0), "{text}");
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

/// istio pilot/pkg/networking/core/tls.go: the first rule that asks for no more than the port takes all connections.
#[test]
fn connections_that_are_led_to_pods_that_refuse_are_lost() {
    let route = |of: &str, condition: &str| {
        format!(
            "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: stock-tcp, namespace: shop}}
spec: {{hosts: [stock-tcp], {of}: [{{{condition}route: [{{destination: {{host: orders-tcp}}}}]}}]}}
"
        )
    };
    for (of, condition, expected) in [
        ("tcp", "", 3),
        ("tcp", "match: [{port: 9000}], ", 3),
        ("tcp", "match: [{port: 9001}], ", 0),
        ("tcp", "match: [{sourceLabels: {app: none}}], ", 0),
        ("http", "", 0),
    ] {
        let after = format!("{TCP}{}", route(of, condition));
        let (code, text) = verified(TCP, &after);
        assert_eq!(code, Some(expected), "{of} {condition}: {text}");
        assert!(
            expected == 0 || text.contains("to Service shop/stock-tcp:9000"),
            "{text}"
        );
        assert_eq!(verified(&after, &after).0, Some(0));
    }
    let tls = TCP.replace("name: tcp", "name: tls");
    let after = format!(
        "{tls}{}",
        route("tls", "match: [{port: 9000, sniHosts: ['*']}], ")
    );
    let (code, text) = verified(&tls, &after);
    assert_eq!(code, Some(3), "{text}");
}

#[test]
fn a_wildcard_host_that_leads_to_pods_that_refuse_is_lost() {
    let wide = virtual_service(TO_ORDERS).replace("[stock]", "['*.shop.svc.cluster.local']");
    let (code, text) = verified("", &wide);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("shop/stock breaks"), "{text}");
}

/// Which of several counts hangs on their age, and at a waypoint on more.
#[test]
fn where_several_objects_may_lead_a_host_elsewhere_it_is_undecided() {
    let own = virtual_service("{route: [{destination: {host: stock}}]}")
        .replace("name: stock", "name: own");
    let both = format!("{own}{}", virtual_service(TO_ORDERS));
    let (code, text) = verified(&own, &both);
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("VirtualService shop/own and VirtualService shop/stock are for one host"),
        "{text}"
    );
    assert_eq!(verified(&both, &both).0, Some(0));
    let again = virtual_service("{route: [{destination: {host: stock}}]}");
    assert_eq!(verified(&own, &format!("{own}{again}")).0, Some(0));
}

/// The other object of the host may be the one that counts; that one of them answers by itself is no less new.
#[test]
fn a_route_that_answers_itself_beside_another_of_its_host_is_undecided() {
    let own = virtual_service("{route: [{destination: {host: stock}}]}")
        .replace("name: stock", "name: own");
    let other = virtual_service("{route: [{destination: {host: stock}}]}");
    let answering = virtual_service("{directResponse: {status: 403}}");
    let (before, after) = (format!("{own}{other}"), format!("{own}{answering}"));
    let (code, text) = verified(&before, &after);
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("VirtualService shop/stock answers requests itself"),
        "{text}"
    );
    assert_eq!(verified(&after, &after).0, Some(0));
}

#[test]
fn a_route_counts_for_those_who_see_it() {
    let seen = |namespace: &str| {
        let exports = format!("exportTo: [{namespace}], hosts: [stock]");
        virtual_service(TO_ORDERS).replace("hosts: [stock]", &exports)
    };
    let (code, text) = verified("", &seen("'.'"));
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("GET / from cluster.local/ns/shop/sa/orders to Service shop/stock:80"),
        "{text}"
    );
    assert!(!text.contains("ns/desk/sa/batch to"), "{text}");
    let (code, text) = verified("", &seen("desk"));
    assert_eq!(code, Some(3), "{text}");
    assert!(
        text.contains("GET / from cluster.local/ns/desk/sa/batch to Service shop/stock:80"),
        "{text}"
    );
    assert_eq!(verified("", &seen("elsewhere")).0, Some(0));
}

/// istio pilot/pkg/model/virtualservice.go `mergeVirtualServicesIfNeeded`.
#[test]
fn the_routes_of_a_delegate_are_followed() {
    let root =
        virtual_service("{match: [{uri: {prefix: /}}], delegate: {name: part, namespace: shop}}");
    let part = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: part, namespace: shop}
spec: {http: [{route: [{destination: {host: orders}}]}]}
";
    let both = format!("{root}{part}");
    let (code, text) = verified("", &both);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("shop/stock breaks"), "{text}");
    assert_eq!(verified(&both, &both).0, Some(0));
    let (code, text) = verified("", &root);
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("VirtualService shop/stock names a delegate that is not among the input"),
        "{text}"
    );
    assert_eq!(verified(&root, &root).0, Some(0));
}

#[test]
fn a_route_for_the_port_of_a_service_is_followed() {
    for kind in ["HTTPRoute", "GRPCRoute"] {
        for (port, expected) in [("", 3), (", port: 80", 3), (", port: 81", 0)] {
            let route = format!(
                "---
apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: stock, namespace: shop}}
spec: {{parentRefs: [{{group: '', kind: Service, name: stock{port}}}], rules: [{{backendRefs: [{{name: orders, port: 80}}]}}]}}
"
            );
            let (code, text) = verified("", &route);
            assert_eq!(code, Some(expected), "{kind} {port}: {text}");
            assert_eq!(verified(&route, &route).0, Some(0));
        }
    }
}

#[test]
fn nothing_goes_to_a_weight_of_nought() {
    let split = virtual_service(
        "{route: [{destination: {host: stock}, weight: 0}, {destination: {host: orders}, weight: 100}]}",
    );
    let (code, text) = verified("", &split);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("shop/stock breaks"), "{text}");
}

#[test]
fn a_route_that_answers_itself_is_undecided_where_it_is_new_or_gone() {
    for rule in [
        "{directResponse: {status: 403}}",
        "{redirect: {authority: elsewhere.example}}",
        "{fault: {abort: {httpStatus: 403, percentage: {value: 100}}}, route: [{destination: {host: stock}}]}",
    ] {
        let route = virtual_service(rule);
        for (before, after) in [("", route.as_str()), (route.as_str(), "")] {
            let (code, text) = verified(before, after);
            assert_eq!(code, Some(4), "{rule}: {text}");
            assert!(
                text.contains("VirtualService shop/stock answers requests itself"),
                "{text}"
            );
        }
        assert_eq!(verified(&route, &route).0, Some(0));
    }
}
