//! Routes drawn at random: from one Service to pods of another, and such as tell requests, callers and ports apart.
//!
//! In: the objects of a mesh so far. Out: VirtualServices and HTTPRoutes.

use serde_json::{Value, json};

use super::{INJECTED, METHODS, PATHS, ROLES, object};
use crate::generator::Random;

/// Now and then a route that leads from one Service to pods of another, by exact or wildcard host.
pub(super) fn routes(random: &mut Random, objects: &[Value]) -> Vec<Value> {
    let services: Vec<(&str, &str)> = objects
        .iter()
        .filter(|one| one["kind"] == "Service")
        .filter_map(|one| {
            let metadata = &one["metadata"];
            Some((metadata["namespace"].as_str()?, metadata["name"].as_str()?))
        })
        .collect();
    if services.len() < 2 || random.below(4) > 0 {
        return Vec::new();
    }
    let (front, behind) = (*random.choose(&services), *random.choose(&services));
    let namespace = match random.below(4) {
        0 => *random.choose(&INJECTED),
        _ => front.0,
    };
    if random.below(3) == 0 {
        return vec![object(
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            front.0,
            "leads-on",
            json!({
                "parentRefs": [{"group": "", "kind": "Service", "name": front.1, "port": 80}],
                "rules": [{"backendRefs": [{"name": behind.1, "namespace": behind.0, "port": 80}]}],
            }),
        )];
    }
    let to_behind = json!([{"route": [{"destination": {"host": host(behind)}}]}]);
    let protocol = *random.choose(&["http", "http", "http", "tcp"]);
    let mut spec = json!({"hosts": [host(front)]});
    spec[protocol] = to_behind;
    let mut made = Vec::new();
    if random.below(3) == 0 {
        spec["hosts"] = json!([format!("*.{}.svc.cluster.local", front.0)]);
        if random.below(2) == 0 {
            let all = json!({"hosts": ["*"], "http": [{"route": [{"destination": {"host": host(front)}}]}]});
            made.push(object(
                "networking.istio.io/v1",
                "VirtualService",
                front.0,
                "leads-all-on",
                all,
            ));
        }
    }
    made.push(object(
        "networking.istio.io/v1",
        "VirtualService",
        namespace,
        "leads-on",
        spec,
    ));
    made
}

/// In a third of the meshes that have no other route one that tells requests, callers and ports apart, by weights and to
/// nobody, too.
pub(super) fn branches(random: &mut Random, objects: &[Value]) -> Vec<Value> {
    let of = |kind: &'static str| objects.iter().filter(move |one| one["kind"] == kind);
    let services: Vec<(&str, &str)> = of("Service")
        .filter_map(|one| {
            let metadata = &one["metadata"];
            Some((metadata["namespace"].as_str()?, metadata["name"].as_str()?))
        })
        .collect();
    let has_routes = of("VirtualService").chain(of("HTTPRoute")).next().is_some();
    if services.is_empty() || has_routes || random.below(3) > 0 {
        return Vec::new();
    }
    let front = *random.choose(&services);
    let namespace = match random.below(4) {
        0 => *random.choose(&INJECTED),
        _ => front.0,
    };
    let count = 1 + random.below(2);
    if random.below(3) == 0 {
        let mut rules: Vec<Value> = (0..count)
            .map(|_| {
                let matched = match random.below(3) {
                    0 => json!({"path": {"type": "Exact", "value": random.choose(PATHS)}}),
                    1 => json!({"path": {"type": "PathPrefix", "value": random.choose(PATHS)}}),
                    _ => json!({"method": random.choose(METHODS), "headers": [{"name": "x-role", "value": random.choose(ROLES)}]}),
                };
                json!({"matches": [matched], "backendRefs": backends(random, &services, front)})
            })
            .collect();
        if random.below(4) > 0 {
            rules.push(json!({"backendRefs": backends(random, &services, front)}));
        }
        let mut parent =
            json!({"group": "", "kind": "Service", "name": front.1, "namespace": front.0});
        if random.below(3) == 0 {
            parent["port"] = json!(random.choose(&[80, 81, 8080]));
        }
        let spec = json!({"parentRefs": [parent], "rules": rules});
        let version = "gateway.networking.k8s.io/v1";
        return vec![object(version, "HTTPRoute", namespace, "branches", spec)];
    }
    let field = *random.choose(&["http", "http", "http", "tcp"]);
    let mut rules: Vec<Value> = (0..count)
        .map(|_| {
            let matched: Vec<Value> = (0..1 + random.below(2))
                .map(|_| matched(random, field))
                .collect();
            json!({"match": matched, "route": destinations(random, &services, front)})
        })
        .collect();
    if random.below(4) > 0 {
        rules.push(json!({"route": destinations(random, &services, front)}));
    }
    let mut spec = json!({"hosts": [host(front)]});
    spec[field] = json!(rules);
    match random.below(8) {
        0 => spec["exportTo"] = json!(["."]),
        1 => spec["exportTo"] = json!([random.choose(&INJECTED)]),
        _ => {}
    }
    vec![object(
        "networking.istio.io/v1",
        "VirtualService",
        namespace,
        "branches",
        spec,
    )]
}

fn host((namespace, name): (&str, &str)) -> String {
    format!("{name}.{namespace}.svc.cluster.local")
}

/// What a rule of a VirtualService asks.
fn matched(random: &mut Random, field: &str) -> Value {
    let mut matched = json!({});
    match random.below(6) {
        0 => matched["sourceLabels"] = json!({"app": format!("app-{}", random.below(3))}),
        1 => matched["sourceNamespace"] = json!(random.choose(&INJECTED)),
        2 => matched["gateways"] = json!([random.choose(&["mesh", "east/gateway"])]),
        3 => matched["port"] = json!(random.choose(&[80, 81, 8080])),
        _ => {}
    }
    if field == "http" {
        match random.below(5) {
            0 => matched["uri"] = json!({"prefix": random.choose(PATHS)}),
            1 => matched["uri"] = json!({"exact": random.choose(PATHS)}),
            2 => matched["method"] = json!({"exact": random.choose(METHODS)}),
            3 => matched["headers"] = json!({"x-role": {"exact": random.choose(ROLES)}}),
            _ => {}
        }
    }
    matched
}

/// One or two Services with weights, among them now and then one that is not there.
fn some_of<'a>(
    random: &mut Random,
    services: &[(&'a str, &'a str)],
    front: (&'a str, &'a str),
) -> Vec<((&'a str, &'a str), u8)> {
    (0..1 + random.below(2))
        .map(|_| {
            let service = match random.below(6) {
                0 => (front.0, "nobody"),
                1 | 2 => front,
                _ => *random.choose(services),
            };
            (service, *random.choose(&[0, 50, 50, 100]))
        })
        .collect()
}

fn destinations(random: &mut Random, services: &[(&str, &str)], front: (&str, &str)) -> Value {
    let mut some = some_of(random, services, front);
    if some.iter().all(|(_, weight)| *weight == 0) {
        some[0].1 = 100;
    }
    let routes = some.into_iter().map(|(service, weight)| {
        let port = *random.choose(&[None, None, Some(80)]);
        let mut destination = json!({"host": host(service)});
        if let Some(port) = port {
            destination["port"] = json!({"number": port});
        }
        json!({"destination": destination, "weight": weight})
    });
    routes.collect()
}

fn backends(random: &mut Random, services: &[(&str, &str)], front: (&str, &str)) -> Value {
    if random.below(8) == 0 {
        return json!([]);
    }
    let some = some_of(random, services, front).into_iter();
    let refs = some.map(|((namespace, name), weight)| {
        json!({"name": name, "namespace": namespace, "port": random.choose(&[80, 80, 81]), "weight": weight})
    });
    refs.collect()
}
