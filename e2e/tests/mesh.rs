//! A mesh in the cluster: the demo's manifests, with pods that controllers make, an injector, and
//! what istiod and the CNI agent would do.

use std::collections::BTreeSet;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::injector::Injector;

/// Namespaces of the demo's applications.
pub(crate) const APPLICATIONS: [&str; 3] = ["bookshop", "payments", "reporting"];

/// Whether the mesh stands as it was deployed.
static DEPLOYED: Mutex<bool> = Mutex::new(false);

/// Deploys the demo mesh, unless it stands untouched from an earlier case. `None`, after a loud
/// word, where the API server is not on this machine and cannot call an injector here.
pub(crate) fn deployed(cluster: &Cluster) -> Option<()> {
    if std::env::var_os("CASTOFF_E2E_SERVER").is_none() {
        crate::cluster::skip("needs an API server that can call this process");
        return None;
    }
    let mut deployed = DEPLOYED.lock().unwrap();
    if !*deployed {
        deploy(cluster);
        *deployed = true;
    }
    Some(())
}

/// Says that a case has changed the mesh, and takes it away.
pub(crate) fn spoil(cluster: &Cluster) {
    *DEPLOYED.lock().unwrap() = false;
    clear(cluster, &APPLICATIONS);
}

/// Takes away a mesh: its injectors, Istio, and these namespaces.
pub(crate) fn clear(cluster: &Cluster, applications: &[&str]) {
    cluster.kubectl(&["delete", "mutatingwebhookconfigurations", "--all"]);
    let mut arguments = vec!["delete", "namespaces", "istio-system", "--wait"];
    arguments.extend(applications);
    cluster.kubectl(&arguments);
}

fn deploy(cluster: &Cluster) {
    let texts = castoff::demo::FILES.iter().map(|(_, text)| *text);
    let objects = texts.flat_map(|text| serde_saphyr::from_multiple::<Value>(text).unwrap());
    deploy_objects(cluster, objects);
}

/// Deploys a mesh from its manifests or from a dump of it, in the place of the demo's.
pub(crate) fn deploy_instead(cluster: &Cluster, objects: Vec<Value>) -> Option<()> {
    deployed(cluster)?;
    spoil(cluster);
    deploy_objects(cluster, objects.into_iter());
    Some(())
}

fn deploy_objects(cluster: &Cluster, objects: impl Iterator<Item = Value>) {
    cluster.install_definitions("istio-1.30.3-crd-all.gen.yaml");
    cluster.install_definitions("gateway-api-v1.6.1-standard.yaml");
    for node in ["node-1", "node-2"] {
        cluster.node(node);
    }
    let injector = Injector::start();
    let mut namespaces = Vec::new();
    let mut first = Vec::new();
    let mut workloads = Vec::new();
    for mut object in objects {
        if let Some(map) = object.as_object_mut() {
            map.remove("status");
        }
        let list = match object["kind"].as_str().unwrap() {
            // Controllers make them, or they are there.
            "Pod" | "ReplicaSet" | "EndpointSlice" | "Node" | "CustomResourceDefinition" => {
                continue;
            }
            "Namespace" => &mut namespaces,
            "MutatingWebhookConfiguration" => {
                rewire(&mut object, &injector);
                &mut first
            }
            "Deployment" | "DaemonSet" => &mut workloads,
            _ => &mut first,
        };
        list.push(object);
    }
    for objects in [namespaces, first, workloads] {
        cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string());
    }
    settle(cluster);
}

/// Lets the API server call the injector of this process.
fn rewire(object: &mut Value, injector: &Injector) {
    for webhook in object["webhooks"].as_array_mut().unwrap() {
        webhook["clientConfig"] = json!({"url": injector.url, "caBundle": injector.authority});
        webhook["admissionReviewVersions"] = json!(["v1"]);
        webhook["sideEffects"] = json!("None");
        webhook["rules"] = json!([{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
            "resources": ["pods"],
        }]);
    }
}

/// Waits for controllers, and does what istiod and the CNI agent would: every waypoint gets its
/// Deployment and its status, every pod of an ambient namespace without a sidecar is redirected.
pub(crate) fn settle(cluster: &Cluster) {
    reconcile(cluster);
    wait_for_pods(cluster);
    redirect_pods(cluster);
}

fn items(cluster: &Cluster, kind: &str) -> Vec<Value> {
    let text = cluster.kubectl(&["get", kind, "--all-namespaces", "--output=json"]);
    let list: Value = serde_json::from_str(&text).unwrap();
    list["items"].as_array().unwrap().clone()
}

fn name<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// What istiod does once it sees what was applied.
pub(crate) fn reconcile(cluster: &Cluster) {
    program_waypoints(cluster);
    accept_policies(cluster);
    bind_services(cluster);
}

fn condition(kind: &str, object: &Value) -> Value {
    json!({
        "type": kind, "status": "True", "reason": "Accepted", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": object["metadata"]["generation"],
    })
}

/// Whether it has one that speaks of the object as it is now: `kubectl wait` looks at that, too.
fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    let generation = &object["metadata"]["generation"];
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|one| one["type"] == kind && one["observedGeneration"] == *generation)
}

/// Sets the status; that the object is gone by now is nobody's mistake.
fn set_status(cluster: &Cluster, resource: &str, object: &Value, status: &Value) {
    cluster.try_kubectl(
        &[
            "patch",
            resource,
            name(object, "name"),
            "--namespace",
            name(object, "namespace"),
            "--subresource=status",
            "--type=merge",
            "--patch",
            &json!({"status": status}).to_string(),
        ],
        None,
    );
}

fn accept_policies(cluster: &Cluster) {
    let kind = "authorizationpolicies.security.istio.io";
    for policy in items(cluster, kind) {
        let targets = policy["spec"]["targetRefs"].is_array();
        let accepted = if targets {
            "WaypointAccepted"
        } else {
            "ZtunnelAccepted"
        };
        if !has_condition(&policy, accepted) {
            let status = json!({"conditions": [condition(accepted, &policy)]});
            set_status(cluster, kind, &policy, &status);
        }
    }
}

fn bind_services(cluster: &Cluster) {
    let bound = "istio.io/WaypointBound";
    let label = |object: &Value| {
        let value = &object["metadata"]["labels"]["istio.io/use-waypoint"];
        value.as_str().map(|waypoint| waypoint != "none")
    };
    let namespaces: BTreeSet<String> = items(cluster, "namespaces")
        .iter()
        .filter(|namespace| label(namespace) == Some(true))
        .map(|namespace| name(namespace, "name").to_owned())
        .collect();
    for service in items(cluster, "services") {
        let is_waypoint = service["metadata"]["labels"]["gateway.istio.io/managed"].is_string();
        let of_namespace = namespaces.contains(name(&service, "namespace"));
        let uses = label(&service).unwrap_or(of_namespace) && !is_waypoint;
        if uses != has_condition(&service, bound) {
            let conditions = match uses {
                true => vec![condition(bound, &service)],
                false => Vec::new(),
            };
            set_status(
                cluster,
                "services",
                &service,
                &json!({"conditions": conditions}),
            );
        }
    }
}

fn program_waypoints(cluster: &Cluster) {
    for gateway in items(cluster, "gateways.gateway.networking.k8s.io") {
        let is_waypoint = gateway["spec"]["gatewayClassName"] == "istio-waypoint";
        let is_done = gateway["status"]["addresses"].is_array();
        let is_going = gateway["metadata"]["deletionTimestamp"].is_string();
        if !is_waypoint || is_done || is_going {
            continue;
        }
        let (namespace, gateway_name) = (name(&gateway, "namespace"), name(&gateway, "name"));
        let labels = json!({
            "gateway.networking.k8s.io/gateway-name": gateway_name,
            "gateway.networking.k8s.io/gateway-class-name": "istio-waypoint",
            "gateway.istio.io/managed": "istio.io-mesh-controller",
            "istio.io/dataplane-mode": "none",
            "sidecar.istio.io/inject": "false",
        });
        let selector = json!({"gateway.networking.k8s.io/gateway-name": gateway_name});
        let metadata = json!({
            "name": gateway_name, "namespace": namespace, "labels": labels,
            "ownerReferences": [{
                "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                "name": gateway_name, "uid": name(&gateway, "uid"), "controller": true,
            }],
        });
        let objects = json!([
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
            {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {
                "selector": selector,
                "ports": [{"name": "mesh", "port": 15008, "appProtocol": "hbone"}],
            }},
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {
                "selector": {"matchLabels": selector},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"serviceAccountName": gateway_name, "containers": [{
                        "name": "istio-proxy",
                        "image": "docker.io/istio/proxyv2:1.30.3",
                        "args": ["proxy", "waypoint"],
                    }]},
                },
            }},
        ]);
        cluster.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string());
        let status = json!({
            "addresses": [{
                "type": "Hostname",
                "value": format!("{gateway_name}.{namespace}.svc.cluster.local"),
            }],
            "conditions": [condition("Accepted", &gateway), condition("Programmed", &gateway)],
        });
        set_status(
            cluster,
            "gateways.gateway.networking.k8s.io",
            &gateway,
            &status,
        );
    }
}

fn wait_for_pods(cluster: &Cluster) {
    for kind in ["deployments", "daemonsets"] {
        for owner in items(cluster, kind) {
            let resource = format!("{kind}/{}", name(&owner, "name"));
            cluster.kubectl(&[
                "rollout",
                "status",
                &resource,
                "--namespace",
                name(&owner, "namespace"),
                "--timeout=120s",
            ]);
        }
    }
    cluster.wait_until(
        "no pod is being deleted",
        &[
            "get",
            "pods",
            "--all-namespaces",
            "--output=jsonpath={.items[*].metadata.deletionTimestamp}",
        ],
        str::is_empty,
    );
}

fn redirect_pods(cluster: &Cluster) {
    let ambient: BTreeSet<String> = items(cluster, "namespaces")
        .iter()
        .filter(|namespace| namespace["metadata"]["labels"]["istio.io/dataplane-mode"] == "ambient")
        .map(|namespace| name(namespace, "name").to_owned())
        .collect();
    for pod in items(cluster, "pods") {
        let labels = &pod["metadata"]["labels"];
        let has_sidecar = pod["spec"]["containers"]
            .as_array()
            .unwrap()
            .iter()
            .any(|container| container["name"] == "istio-proxy");
        let enrolled = match labels["istio.io/dataplane-mode"].as_str() {
            Some(mode) => mode == "ambient",
            None => ambient.contains(name(&pod, "namespace")),
        };
        if enrolled && !has_sidecar {
            cluster.kubectl(&[
                "annotate",
                "--overwrite",
                "pod",
                name(&pod, "name"),
                "--namespace",
                name(&pod, "namespace"),
                "ambient.istio.io/redirection=enabled",
            ]);
        }
    }
}
