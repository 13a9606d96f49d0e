//! Meshes drawn at random: a handful of workloads with sidecars, one that is ambient already and one
//! outside the mesh, Services of several shapes, and policies of all kinds over small pools of values.
//!
//! In: a seed. Out: objects as JSON, one text. Invariant: the same seed gives the same mesh, and the
//! values of requests (below) are those that policies name, so that the two meet.

#[path = "generated_routes.rs"]
mod generated_routes;

use serde_json::{Value, json};

use generated_routes::{branches, routes};

use crate::generator::Random;
use crate::past_sidecars;

/// What requests and policies are made of.
pub(crate) const METHODS: &[&str] = &["GET", "POST", "DELETE"];
pub(crate) const PATHS: &[&str] = &["/", "/admin", "/admin/users", "/api/v1/items", "/health"];
pub(crate) const ROLES: &[&str] = &["admin", "guest"];
pub(crate) const GROUPS: &[&str] = &["staff", "admins"];
pub(crate) const ISSUERS: &[&str] = &["https://issuer.example", "https://other.example"];
pub(crate) const SUBJECTS: &[&str] = &["ada", "bob"];
pub(crate) const ADDRESSES: &[&str] = &["10.1.0.5", "10.2.0.7", "192.0.2.9"];

/// Namespaces with sidecars.
const INJECTED: [&str; 2] = ["east", "west"];
/// A namespace that is ambient already, and one outside the mesh.
const AMBIENT: &str = "modern";
const OUTSIDE: &str = "legacy";

/// Namespaces for which [`waypoints`] has one.
pub(crate) const HAVE_WAYPOINTS: [&str; 3] = ["east", "west", AMBIENT];

/// A waypoint, ready, for each namespace of the mesh.
pub(crate) fn waypoints() -> String {
    let texts: Vec<String> = HAVE_WAYPOINTS
        .iter()
        .map(|namespace| {
            let spec = json!({
                "gatewayClassName": "istio-waypoint",
                "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}],
            });
            let version = "gateway.networking.k8s.io/v1";
            let mut gateway = object(version, "Gateway", namespace, "waypoint", spec);
            gateway["status"] = json!({
                "addresses": [{"type": "IPAddress", "value": "10.96.0.200"}],
                "conditions": [{"type": "Programmed", "status": "True"}],
            });
            gateway.to_string()
        })
        .collect();
    texts.join("\n---\n")
}

/// One workload of the mesh to be.
struct Drawn {
    namespace: &'static str,
    name: String,
    account: String,
    kind: &'static str,
}

/// The mesh of a seed: a YAML text of JSON documents.
pub(crate) fn mesh(seed: u64) -> String {
    let mut random = Random::new(seed);
    let random = &mut random;
    let mut objects = vec![
        namespace("east", &[("istio-injection", "enabled")]),
        namespace("west", &[("istio-injection", "enabled")]),
        namespace(AMBIENT, &[("istio.io/dataplane-mode", "ambient")]),
        namespace(OUTSIDE, &[]),
    ];
    let mut workloads = Vec::new();
    for index in 0..2 + random.below(3) {
        let name = format!("app-{index}");
        let shared = random.below(6) == 0;
        workloads.push(Drawn {
            namespace: INJECTED[random.below(INJECTED.len())],
            account: if shared {
                "default".to_owned()
            } else {
                name.clone()
            },
            name,
            kind: if random.below(5) == 0 {
                "StatefulSet"
            } else {
                "Deployment"
            },
        });
    }
    for (namespace, name) in [(AMBIENT, "early"), (OUTSIDE, "old")] {
        if random.below(2) == 0 {
            workloads.push(Drawn {
                namespace,
                name: name.to_owned(),
                account: name.to_owned(),
                kind: "Deployment",
            });
        }
    }
    for (index, workload) in workloads.iter().enumerate() {
        objects.push(owner(workload));
        objects.extend(services(random, workload, index));
    }
    for index in 0..1 + random.below(5) {
        objects.push(policy(random, &workloads, index));
    }
    if random.below(3) == 0 {
        let workload = random.choose(&workloads);
        let target = selector(workload);
        objects.push(authentication(random, workload.namespace, target));
    }
    for (name, namespace) in [("default", "istio-system"), ("default", "east")] {
        if random.below(6) == 0 {
            let mode = *random.choose(&["STRICT", "PERMISSIVE"]);
            objects.push(object(
                "security.istio.io/v1",
                "PeerAuthentication",
                namespace,
                name,
                json!({"mtls": {"mode": mode}}),
            ));
        }
    }
    if random.below(12) == 0 {
        objects.push(network_policy(random, &workloads));
    }
    if random.below(20) == 0 {
        objects.push(object(
            "networking.istio.io/v1alpha3",
            "EnvoyFilter",
            "east",
            "tuning",
            json!({"configPatches": [{"applyTo": "HTTP_FILTER", "match": {"context": "SIDECAR_INBOUND"},
                "patch": {"operation": "INSERT_BEFORE", "value": {"name": "envoy.filters.http.lua"}}}]}),
        ));
    }
    twist(&mut Random::new(seed ^ 0x7715), &workloads, &mut objects);
    // What came later is drawn last, so that a seed's mesh only grows.
    objects.extend(routes(random, &objects));
    objects.extend(ways_past_services(random, &workloads));
    if random.below(4) == 0 {
        objects.extend(circle(random, &workloads));
    }
    objects.extend(branches(random, &objects));
    past_sidecars::draw(random, &INJECTED, &mut objects);
    let texts: Vec<String> = objects.iter().map(Value::to_string).collect();
    texts.join("\n---\n")
}

/// What sidecars and ztunnel read differently, in half of the meshes.
fn twist(random: &mut Random, workloads: &[Drawn], objects: &mut Vec<Value>) {
    let policies = |object: &&mut Value| object["kind"] == "AuthorizationPolicy";
    match random.below(10) {
        0 => {
            for policy in objects.iter_mut().filter(policies) {
                if policy["spec"]["selector"].is_null() {
                    policy["spec"]["selector"] = json!({});
                }
            }
        }
        1 => {
            let starred = |one: &Value| one.to_string().replace(r#"["east"]"#, r#"["e*t"]"#);
            for policy in objects.iter_mut().filter(policies) {
                *policy = serde_json::from_str(&starred(policy)).unwrap();
            }
        }
        // Callers are named in `cluster.local`, which is none of the two.
        2 => objects.push(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system", "labels": {"istio.io/rev": "default"}},
            "data": {"mesh": "rootNamespace: istio-system\ntrustDomain: corp.example\n\
                trustDomainAliases: [old.example]\n\
                defaultConfig: {proxyMetadata: {ISTIO_META_ENABLE_HBONE: 'true'}}\n"},
        })),
        3 => {
            let workload = random.choose(workloads);
            let port = *random.choose(&["8080", "9090"]);
            let mode = *random.choose(&["DISABLE", "PERMISSIVE", "STRICT"]);
            let above = *random.choose(&["STRICT", "UNSET"]);
            let of_ports = json!({"selector": selector(workload), "portLevelMtls": {port: {"mode": mode}}});
            for (name, spec) in [
                ("above", json!({"mtls": {"mode": above}})),
                ("ports", of_ports),
            ] {
                objects.push(object(
                    "security.istio.io/v1",
                    "PeerAuthentication",
                    workload.namespace,
                    name,
                    spec,
                ));
            }
        }
        4 => {
            let again: Vec<Value> = objects
                .iter_mut()
                .filter(policies)
                .map(|policy| {
                    let mut again = policy.clone();
                    let name = policy["metadata"]["name"].as_str().unwrap_or_default();
                    again["metadata"]["name"] = json!(format!("{name}-again"));
                    again
                })
                .collect();
            objects.extend(again);
        }
        _ => {}
    }
}

/// The mesh of a seed without its routes, and one with other routes in their place.
pub(crate) fn rerouted(seed: u64) -> [String; 2] {
    let mesh = mesh(seed);
    let objects = mesh.split("\n---\n").map(serde_json::from_str);
    let mut objects: Vec<Value> = objects.map(Result::unwrap).collect();
    objects.retain(|one| one["kind"] != "VirtualService" && one["kind"] != "HTTPRoute");
    let text = |objects: &[Value]| -> String {
        let texts: Vec<String> = objects.iter().map(Value::to_string).collect();
        texts.join("\n---\n")
    };
    let without = text(&objects);
    let random = &mut Random::new(seed ^ 0x2077);
    let drawn = (0..20).map(|_| branches(random, &objects));
    let found = drawn.flatten().next();
    objects.extend(found);
    [without, text(&objects)]
}

/// Now and then a ServiceEntry that selects pods, and monitors by which Prometheus scrapes them.
fn ways_past_services(random: &mut Random, workloads: &[Drawn]) -> Vec<Value> {
    let mut made = Vec::new();
    if random.below(8) == 0 {
        let workload = random.choose(workloads);
        let number = *random.choose(&[80, 90]);
        made.push(object(
            "networking.istio.io/v1",
            "ServiceEntry",
            workload.namespace,
            "inside",
            json!({
                "hosts": ["inside.example"],
                "addresses": ["240.0.0.9"],
                "location": "MESH_INTERNAL",
                "resolution": "STATIC",
                "workloadSelector": {"labels": {"app": workload.name}},
                "ports": [{"number": number, "name": "http", "protocol": "HTTP", "targetPort": 8080}],
            }),
        ));
    }
    if random.below(8) == 0 {
        let workload = random.choose(workloads);
        made.push(object(
            "monitoring.coreos.com/v1",
            "PodMonitor",
            workload.namespace,
            "scraped",
            json!({
                "selector": {"matchLabels": {"app": workload.name}},
                "podMetricsEndpoints": [{"targetPort": 9090}],
            }),
        ));
    }
    if random.below(8) == 0 {
        let namespace = *random.choose(&INJECTED);
        made.push(object(
            "monitoring.coreos.com/v1",
            "ServiceMonitor",
            namespace,
            "scraped",
            json!({"selector": {}, "endpoints": [{"targetPort": 9090}]}),
        ));
    }
    made
}

/// Workloads that call one another, each letting in only the next and only for some requests.
fn circle(random: &mut Random, workloads: &[Drawn]) -> Vec<Value> {
    let with_sidecars: Vec<&Drawn> = workloads
        .iter()
        .filter(|one| INJECTED.contains(&one.namespace) && one.kind == "Deployment")
        .collect();
    if with_sidecars.len() < 2 {
        return Vec::new();
    }
    let around = with_sidecars
        .iter()
        .zip(with_sidecars.iter().cycle().skip(1));
    around
        .map(|(server, caller)| {
            let principal = format!(
                "cluster.local/ns/{}/sa/{}",
                caller.namespace, caller.account
            );
            object(
                "security.istio.io/v1",
                "AuthorizationPolicy",
                server.namespace,
                &format!("circle-{}", server.name),
                json!({
                    "selector": selector(server),
                    "rules": [{
                        "from": [{"source": {"principals": [principal]}}],
                        "to": [{"operation": {"methods": [random.choose(METHODS)]}}],
                    }],
                }),
            )
        })
        .collect()
}

fn object(version: &str, kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec})
}

fn namespace(name: &str, labels: &[(&str, &str)]) -> Value {
    let labels: serde_json::Map<String, Value> = labels
        .iter()
        .chain(&[("kubernetes.io/metadata.name", name)])
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn owner(workload: &Drawn) -> Value {
    let labels = json!({"app": workload.name});
    let mut spec = json!({
        "replicas": 2,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {
                "serviceAccountName": workload.account,
                "containers": [{
                    "name": "app",
                    "image": "registry.example/app:1",
                    "ports": [{"containerPort": 8080}, {"containerPort": 9090}],
                }],
            },
        },
    });
    if workload.kind == "StatefulSet" {
        spec["serviceName"] = json!(workload.name);
    }
    object(
        "apps/v1",
        workload.kind,
        workload.namespace,
        &workload.name,
        spec,
    )
}

/// One or two Services in front of a workload; now and then none.
fn services(random: &mut Random, workload: &Drawn, index: usize) -> Vec<Value> {
    let mut made = Vec::new();
    for (suffix, likely) in [("", 14), ("-more", 3)] {
        if random.below(15) >= likely {
            continue;
        }
        let name = *random.choose(&["http", "http", "http", "grpc-api", "tcp-data", "any"]);
        let number = *random.choose(&[80, 8080, 81]);
        let mut ports = vec![json!({"name": name, "port": number, "targetPort": 8080})];
        if random.below(3) == 0 {
            let name = *random.choose(&["http-metrics", "tcp-metrics"]);
            ports.push(json!({"name": name, "port": 9090, "targetPort": 9090}));
        }
        let address = format!("10.96.{}.{}", index + 1, 1 + suffix.len());
        let mut spec = json!({
            "clusterIP": address,
            "selector": {"app": workload.name},
            "ports": ports,
        });
        match random.below(12) {
            0 => spec["clusterIP"] = json!("None"),
            1 => spec["type"] = json!("NodePort"),
            _ => {}
        }
        made.push(object(
            "v1",
            "Service",
            workload.namespace,
            &format!("{}{suffix}", workload.name),
            spec,
        ));
    }
    made
}

fn selector(workload: &Drawn) -> Value {
    json!({"matchLabels": {"app": workload.name}})
}

fn policy(random: &mut Random, workloads: &[Drawn], index: usize) -> Value {
    let workload = random.choose(workloads);
    let (namespace, selector) = match random.below(10) {
        0 => ("istio-system", None),
        1 | 2 => (workload.namespace, None),
        _ => (workload.namespace, Some(selector(workload))),
    };
    // A mesh-wide DENY by request is rare in life and holds up everything.
    let action = *random.choose(&["ALLOW", "ALLOW", "DENY"]);
    let mut spec = json!({"action": action});
    if let Some(selector) = selector {
        spec["selector"] = selector;
    }
    let rules = match random.below(10) {
        0 => Vec::new(),
        1..7 => vec![rule(random, workloads)],
        _ => vec![rule(random, workloads), rule(random, workloads)],
    };
    if !rules.is_empty() {
        spec["rules"] = json!(rules);
    } else if action == "DENY" {
        spec["action"] = json!("ALLOW");
    }
    object(
        "security.istio.io/v1",
        "AuthorizationPolicy",
        namespace,
        &format!("policy-{index}"),
        spec,
    )
}

fn rule(random: &mut Random, workloads: &[Drawn]) -> Value {
    let mut rule = json!({});
    if random.below(3) > 0 {
        let sources: Vec<Value> = (0..1 + random.below(2))
            .map(|_| json!({"source": source(random, workloads)}))
            .collect();
        rule["from"] = json!(sources);
    }
    if random.below(3) > 0 {
        let operations: Vec<Value> = (0..1 + random.below(2))
            .map(|_| json!({"operation": operation(random)}))
            .collect();
        rule["to"] = json!(operations);
    }
    if random.below(5) == 0 {
        rule["when"] = json!([condition(random)]);
    }
    rule
}

fn source(random: &mut Random, workloads: &[Drawn]) -> Value {
    let workload = random.choose(workloads);
    let principal = format!(
        "cluster.local/ns/{}/sa/{}",
        workload.namespace, workload.account
    );
    match random.below(12) {
        0..4 => json!({"principals": [principal]}),
        4 | 5 => json!({"namespaces": [workload.namespace]}),
        6 => json!({"notPrincipals": [principal]}),
        7 => json!({"notNamespaces": [workload.namespace]}),
        8 => json!({"principals": ["*"]}),
        9 => json!({"serviceAccounts": [format!("{}/{}", workload.namespace, workload.account)]}),
        10 => {
            let issuer = *random.choose(ISSUERS);
            let subject = *random.choose(&["ada", "*"]);
            json!({"requestPrincipals": [format!("{issuer}/{subject}")]})
        }
        _ => {
            let block = *random.choose(&["10.1.0.0/16", "192.0.2.9"]);
            json!({"ipBlocks": [block]})
        }
    }
}

fn operation(random: &mut Random) -> Value {
    let mut operation = match random.below(8) {
        0 | 1 => json!({"methods": [random.choose(METHODS)]}),
        2 | 3 => {
            json!({"paths": [random.choose(&["/admin*", "/health", "/api/{*}/items", "*items"])]})
        }
        4 => json!({"notPaths": ["/admin*"]}),
        5 => json!({"notMethods": ["GET"]}),
        6 => json!({"hosts": ["app-*", "other.example"]}),
        _ => json!({"ports": ["8080"]}),
    };
    if random.below(4) == 0 {
        operation["ports"] = json!([random.choose(&["8080", "9090"])]);
    }
    operation
}

fn condition(random: &mut Random) -> Value {
    match random.below(4) {
        0 => json!({"key": "request.headers[x-role]", "values": [random.choose(ROLES)]}),
        1 => json!({"key": "request.auth.claims[groups]", "values": [random.choose(GROUPS)]}),
        2 => json!({"key": "source.namespace", "notValues": [random.choose(&INJECTED)]}),
        _ => json!({"key": "destination.port", "values": ["8080"]}),
    }
}

fn authentication(random: &mut Random, namespace: &str, selector: Value) -> Value {
    let mut spec = json!({"jwtRules": [{
        "issuer": ISSUERS[0],
        "jwksUri": "https://issuer.example/keys",
        "forwardOriginalToken": random.below(2) == 0,
    }]});
    if random.below(3) > 0 {
        spec["selector"] = selector;
    }
    object(
        "security.istio.io/v1",
        "RequestAuthentication",
        namespace,
        "tokens",
        spec,
    )
}

fn network_policy(random: &mut Random, workloads: &[Drawn]) -> Value {
    let workload = random.choose(workloads);
    let mut ingress = json!({"from": [{"namespaceSelector": {}}]});
    if random.below(2) == 0 {
        ingress["ports"] = json!([{"port": 8080}]);
    }
    object(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        workload.namespace,
        "wall",
        json!({"podSelector": {"matchLabels": {"app": workload.name}}, "policyTypes": ["Ingress"],
            "ingress": [ingress]}),
    )
}
