//! The control plane itself does what the other cases rely on.

use crate::cluster::Cluster;

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders}
spec:
  replicas: 2
  selector: {matchLabels: {app: orders}}
  template:
    metadata: {labels: {app: orders}}
    spec: {containers: [{name: app, image: example.test/orders}]}
---
apiVersion: v1
kind: Service
metadata: {name: orders}
spec:
  selector: {app: orders}
  ports: [{name: http, port: 80, targetPort: 8080}]
";

#[test]
fn a_deployment_becomes_ready_pods_and_endpoints() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    cluster.node("node-a");
    let shop = cluster.namespace("ready-pods");
    cluster.apply(&DEPLOYMENT.replace(
        "metadata: {name:",
        "metadata: {namespace: ready-pods, name:",
    ));
    cluster.wait_until(
        "two endpoints are ready",
        &[
            "get",
            "endpointslices",
            "--namespace",
            &shop.name,
            "--output=jsonpath={.items[*].endpoints[*].conditions.ready}",
        ],
        |answer| answer == "true true",
    );
}

#[test]
fn both_supported_ends_of_the_definitions_install_and_validate() {
    let Some(cluster) = Cluster::of_environment() else {
        return;
    };
    let shop = cluster.namespace("definitions");
    let policy = |action: &str| {
        format!(
            "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: \
             {{name: allow, namespace: {}}}\nspec: {{action: {action}}}\n",
            shop.name
        )
    };
    for files in [
        [
            "istio-1.25.0-crd-all.gen.yaml",
            "gateway-api-v1.2.1-standard.yaml",
        ],
        [
            "istio-1.30.3-crd-all.gen.yaml",
            "gateway-api-v1.6.1-standard.yaml",
        ],
    ] {
        for file in files {
            cluster.install_definitions(file);
        }
        cluster.apply(&policy("ALLOW"));
        let refused = cluster.try_kubectl(&["apply", "-f", "-"], Some(&policy("PERHAPS")));
        let message = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && message.contains("Unsupported value: \"PERHAPS\""),
            "{files:?}: {message}"
        );
    }
}
