//! Makes meshes of any size, always the same one for the same parameters.
//!
//! In: a [`MeshShape`]. Out: objects as JSON values, one after the other, and writers that lay them
//! out as `kubectl get -o yaml`, as separate YAML documents, or as `kubectl get -o json` does.
//! Used by the benchmark of reading and by tests; no object is kept once it is written.

#![allow(dead_code, reason = "each user takes what it needs")]

use std::fmt::Write as _;
use std::io::{self, Write};

use serde_json::{Value, json};

/// How large a mesh to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MeshShape {
    /// Application namespaces, besides `istio-system`.
    pub(crate) namespaces: usize,
    /// Services, spread over the namespaces; each with its service account.
    pub(crate) services: usize,
    /// Pods with sidecars, spread over the services.
    pub(crate) pods: usize,
    /// AuthorizationPolicies, spread over the services.
    pub(crate) policies: usize,
    /// VirtualServices, spread over the services.
    pub(crate) virtual_services: usize,
    /// Changes what policies say, not how many there are.
    pub(crate) seed: u64,
}

impl MeshShape {
    /// 10,000 Services, 50,000 Pods, 5,000 policies, 1,000 VirtualServices.
    pub(crate) const FLEET: Self = Self {
        namespaces: 200,
        services: 10_000,
        pods: 50_000,
        policies: 5_000,
        virtual_services: 1_000,
        seed: 1,
    };

    /// A mesh that reads in milliseconds.
    pub(crate) const SMALL: Self = Self {
        namespaces: 4,
        services: 20,
        pods: 60,
        policies: 20,
        virtual_services: 5,
        seed: 1,
    };

    /// Objects that [`objects`] gives for this shape.
    pub(crate) fn objects(&self) -> usize {
        3 + self.namespaces + 2 * self.services + self.pods + self.policies + self.virtual_services
    }
}

/// A small generator of pseudo-random numbers (splitmix64): the same on every machine.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not zero.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next_number() % limit as u64) as usize
    }

    /// One of the choices, which are not empty.
    pub(crate) fn choose<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// All objects of the mesh, kind by kind and sorted by name, as an API server lists them.
pub(crate) fn objects(shape: MeshShape) -> impl Iterator<Item = Value> {
    let pods_of = shape.pods.div_ceil(shape.services.max(1));
    system()
        .into_iter()
        .chain((0..shape.namespaces).map(namespace))
        .chain((0..shape.services).map(move |index| service_account(shape, index)))
        .chain((0..shape.services).map(move |index| service(shape, index)))
        .chain((0..shape.pods).map(move |index| pod(shape, index / pods_of.max(1), index)))
        .chain((0..shape.policies).map(move |index| policy(shape, index)))
        .chain((0..shape.virtual_services).map(move |index| virtual_service(shape, index)))
}

fn namespace_of(shape: MeshShape, service: usize) -> String {
    format!("team-{:04}", service % shape.namespaces.max(1))
}

fn service_name(service: usize) -> String {
    format!("svc-{service:05}")
}

fn uid(salt: u64, index: usize) -> String {
    let mut random = Random::new(salt << 32 | index as u64);
    let (high, low) = (random.next_number(), random.next_number());
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    )
}

fn system() -> Vec<Value> {
    vec![
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}}),
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "istio", "namespace": "istio-system",
                         "labels": {"istio.io/rev": "default"}},
            "data": {"mesh": "rootNamespace: istio-system\ntrustDomain: cluster.local\n",
                     "meshNetworks": "networks: {}\n"}
        }),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "istiod", "namespace": "istio-system",
                         "labels": {"app": "istiod", "istio.io/rev": "default"}},
            "spec": {"replicas": 1, "template": {
                "metadata": {"labels": {"app": "istiod", "istio.io/rev": "default"}},
                "spec": {"serviceAccountName": "istiod", "containers": [{
                    "name": "discovery", "image": "docker.io/istio/pilot:1.30.3",
                    "env": [{"name": "PILOT_ENABLE_AMBIENT", "value": "true"}]}]}}},
            "status": {"readyReplicas": 1}
        }),
    ]
}

fn namespace(index: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {
            "name": format!("team-{index:04}"),
            "labels": {"istio-injection": "enabled",
                       "kubernetes.io/metadata.name": format!("team-{index:04}")}
        }
    })
}

fn service_account(shape: MeshShape, index: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": service_name(index), "namespace": namespace_of(shape, index),
                     "uid": uid(1, index)}
    })
}

fn service(shape: MeshShape, index: usize) -> Value {
    let name = service_name(index);
    let address = format!(
        "10.{}.{}.{}",
        96 + index / 65536,
        index / 256 % 256,
        index % 256
    );
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace_of(shape, index), "uid": uid(2, index),
                     "labels": {"app": name, "team": format!("team-{:04}", index % 97)}},
        "spec": {
            "clusterIP": address, "clusterIPs": [address], "type": "ClusterIP",
            "ports": [
                {"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080},
                {"name": "grpc", "port": 9090, "protocol": "TCP", "targetPort": "grpc"}
            ],
            "selector": {"app": name}
        },
        "status": {"loadBalancer": {}}
    })
}

fn pod(shape: MeshShape, service: usize, index: usize) -> Value {
    let name = service_name(service);
    let replica_set = format!(
        "{name}-{:08x}",
        Random::new(service as u64).next_number() >> 36
    );
    let address = format!("10.{}.{}.{}", index / 65536, index / 256 % 256, index % 256);
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "annotations": {"prometheus.io/port": "15020", "prometheus.io/scrape": "true"},
            "creationTimestamp": "2026-11-23T05:00:43Z",
            "labels": {
                "app": name, "version": "v1",
                "pod-template-hash": &replica_set[name.len() + 1..],
                "security.istio.io/tlsMode": "istio",
                "service.istio.io/canonical-name": name
            },
            "name": format!("{replica_set}-{:05x}", index),
            "namespace": namespace_of(shape, service),
            "ownerReferences": [{"apiVersion": "apps/v1", "blockOwnerDeletion": true,
                                 "controller": true, "kind": "ReplicaSet",
                                 "name": replica_set, "uid": uid(3, service)}],
            "uid": uid(4, index)
        },
        "spec": {
            "containers": [
                {
                    "image": format!("registry.example.com/shop/{name}:1.4.2"), "name": "app",
                    "ports": [{"containerPort": 8080, "protocol": "TCP"},
                              {"containerPort": 9090, "name": "grpc", "protocol": "TCP"}],
                    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}
                },
                {
                    "args": ["proxy", "sidecar", "--domain", "$(POD_NAMESPACE).svc.cluster.local"],
                    "env": [{"name": "ISTIO_META_ENABLE_HBONE", "value": "true"}],
                    "image": "docker.io/istio/proxyv2:1.30.3", "name": "istio-proxy",
                    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}}
                }
            ],
            "nodeName": format!("node-{:04}", index % 500),
            "serviceAccountName": name
        },
        "status": {
            "conditions": [{"lastTransitionTime": "2026-11-23T05:00:50Z", "status": "True",
                            "type": "Ready"}],
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}]
        }
    })
}

/// The Deployments and ReplicaSets of [`objects`]' pods, which a plan needs to change templates.
pub(crate) fn owners(shape: MeshShape) -> impl Iterator<Item = Value> {
    (0..shape.services).flat_map(move |service| {
        let name = service_name(service);
        let namespace = namespace_of(shape, service);
        let replica_set = format!(
            "{name}-{:08x}",
            Random::new(service as u64).next_number() >> 36
        );
        let template = json!({
            "metadata": {"labels": {"app": name, "version": "v1"}},
            "spec": {
                "serviceAccountName": name,
                "containers": [{
                    "image": format!("registry.example.com/shop/{name}:1.4.2"), "name": "app",
                    "ports": [{"containerPort": 8080, "protocol": "TCP"},
                              {"containerPort": 9090, "name": "grpc", "protocol": "TCP"}]
                }]
            }
        });
        [
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"replicas": shape.pods.div_ceil(shape.services.max(1)),
                         "selector": {"matchLabels": {"app": name}}, "template": template}
            }),
            json!({
                "apiVersion": "apps/v1", "kind": "ReplicaSet",
                "metadata": {"name": replica_set, "namespace": namespace,
                             "ownerReferences": [{"apiVersion": "apps/v1", "controller": true,
                                                  "kind": "Deployment", "name": name}]},
                "spec": {"selector": {"matchLabels": {"app": name}}, "template": template}
            }),
        ]
    })
}

/// An AuthorizationPolicy on one service: ALLOW or DENY, on identity alone or with methods and
/// paths, by the seed.
pub(crate) fn policy(shape: MeshShape, index: usize) -> Value {
    let mut random = Random::new(shape.seed.wrapping_mul(0x1_0000_0001) ^ index as u64);
    let service = index * 7 % shape.services.max(1);
    let action = *random.choose(&["ALLOW", "ALLOW", "ALLOW", "DENY"]);
    let rules: Vec<Value> = (0..1 + random.below(2))
        .map(|_| rule(shape, &mut random))
        .collect();
    json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": format!("policy-{index:05}"),
                     "namespace": namespace_of(shape, service)},
        "spec": {
            "action": action, "rules": rules,
            "selector": {"matchLabels": {"app": service_name(service)}}
        }
    })
}

fn rule(shape: MeshShape, random: &mut Random) -> Value {
    let principals: Vec<String> = (0..1 + random.below(3))
        .map(|_| {
            let caller = random.below(shape.services.max(1));
            format!(
                "cluster.local/ns/{}/sa/{}",
                namespace_of(shape, caller),
                service_name(caller)
            )
        })
        .collect();
    let mut rule = json!({"from": [{"source": {"principals": principals}}]});
    if random.below(2) == 0 {
        rule["to"] = json!([{"operation": {
            "methods": [random.choose(&["GET", "POST", "DELETE"])],
            "paths": [random.choose(&["/api/*", "/admin", "/healthz", "*/export"])]
        }}]);
    }
    rule
}

fn virtual_service(shape: MeshShape, index: usize) -> Value {
    let service = index * 11 % shape.services.max(1);
    let name = service_name(service);
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": format!("route-{index:05}"),
                     "namespace": namespace_of(shape, service)},
        "spec": {
            "hosts": [name],
            "http": [
                {"match": [{"uri": {"prefix": "/v2"}}],
                 "route": [{"destination": {"host": name, "subset": "v2"}}]},
                {"route": [{"destination": {"host": name, "subset": "v1"}}],
                 "timeout": "3s"}
            ]
        }
    })
}

/// Writes the objects as `kubectl get -A -o yaml` prints them: one `List`, items in column 1.
///
/// # Errors
/// Of the writer.
pub(crate) fn write_yaml_list(
    objects: impl Iterator<Item = Value>,
    out: &mut impl Write,
) -> io::Result<()> {
    out.write_all(b"apiVersion: v1\nitems:\n")?;
    let mut text = String::new();
    for object in objects {
        text.clear();
        text.push_str("- ");
        yaml(&object, 2, true, &mut text);
        out.write_all(text.as_bytes())?;
    }
    out.write_all(b"kind: List\nmetadata:\n  resourceVersion: \"\"\n")
}

/// Writes the objects as YAML documents.
///
/// # Errors
/// Of the writer.
pub(crate) fn write_yaml_documents(
    objects: impl Iterator<Item = Value>,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut text = String::new();
    for object in objects {
        text.clear();
        text.push_str("---\n");
        yaml(&object, 0, true, &mut text);
        out.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// Writes the objects as `kubectl get -A -o json` prints them: indented by four.
///
/// # Errors
/// Of the writer.
pub(crate) fn write_json_list(
    objects: impl Iterator<Item = Value>,
    out: &mut impl Write,
) -> io::Result<()> {
    out.write_all(b"{\n    \"apiVersion\": \"v1\",\n    \"items\": [\n")?;
    for (index, object) in objects.enumerate() {
        if index > 0 {
            out.write_all(b",\n")?;
        }
        let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        let mut text = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
        serde::Serialize::serialize(&object, &mut serializer).map_err(io::Error::other)?;
        for line in text.split(|byte| *byte == b'\n') {
            out.write_all(b"        ")?;
            out.write_all(line)?;
            out.write_all(b"\n")?;
        }
    }
    out.write_all(b"    ],\n    \"kind\": \"List\",\n    \"metadata\": {\n        \"resourceVersion\": \"\"\n    }\n}\n")
}

/// Writes a value in block style; `at_start` says that the line is already indented.
fn yaml(value: &Value, indentation: usize, at_start: bool, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (index, (key, value)) in map.iter().enumerate() {
                if !(at_start && index == 0) {
                    out.extend(std::iter::repeat_n(' ', indentation));
                }
                out.push_str(&scalar_text(key));
                out.push(':');
                nested(value, indentation, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                out.extend(std::iter::repeat_n(' ', indentation));
                out.push_str("- ");
                yaml(item, indentation + 2, true, out);
            }
        }
        Value::Object(_) => out.push_str("{}\n"),
        Value::Array(_) => out.push_str("[]\n"),
        Value::String(text) => {
            out.push_str(&scalar_text(text));
            out.push('\n');
        }
        other => {
            let _ = writeln!(out, "{other}");
        }
    }
}

fn nested(value: &Value, indentation: usize, out: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push('\n');
            yaml(value, indentation + 2, false, out);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            yaml(value, indentation, false, out);
        }
        _ => {
            out.push(' ');
            yaml(value, indentation, true, out);
        }
    }
}

/// Text as a YAML scalar: plain where no reader could take it for something else.
fn scalar_text(text: &str) -> String {
    let plain = text
        .chars()
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == '/')
        && text
            .chars()
            .all(|one| one.is_ascii_alphanumeric() || "-_./".contains(one))
        && text.len() > 5;
    let known = [
        "app", "env", "ip", "kind", "http", "grpc", "name", "spec", "data", "args", "cpu", "from",
        "to", "uid", "type", "port", "mesh", "team", "rules", "hosts", "route", "host", "match",
        "uri", "image", "phase", "ports", "paths", "podIP", "value", "v1", "v2", "TCP", "ALLOW",
        "DENY", "List", "Pod", "Ready", "proxy", "istio", "GET", "POST",
    ];
    if plain || known.contains(&text) {
        text.to_owned()
    } else {
        Value::String(text.to_owned()).to_string()
    }
}
