//! Gateways that ask those outside the cluster for a certificate, and no longer do.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "support/small_mesh.rs"]
#[allow(dead_code, reason = "each user takes what it needs")]
mod small_mesh;

use serde_json::Value;
use small_mesh::verify;

/// An Istio Gateway with these servers.
fn istio(servers: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: public, namespace: shop}}
spec: {{selector: {{istio: ingressgateway}}, servers: [{servers}]}}
"
    )
}

fn server(host: &str, tls: &str) -> String {
    format!(
        "{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [{host}], tls: {{{tls}}}}}"
    )
}

/// A Gateway of the Gateway API.
fn kubernetes(frontend: &str, tls: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: public, namespace: shop}}
spec:
  gatewayClassName: istio
  tls: {{{frontend}}}
  listeners: [{{name: https, port: 443, protocol: HTTPS, tls: {{mode: Terminate, certificateRefs: [{{name: own}}]{tls}}}}}]
"
    )
}

/// The verdict of the gateway; `none`: it has no row, so that nothing differs.
fn verdict(before: &str, after: &str) -> String {
    let report: Value = verify(&[before], &[after]);
    let mut servers = report["servers"].as_array().unwrap().iter();
    let found = servers.find(|one| one["server"] == "shop/public");
    found.map_or("none".to_owned(), |one| {
        one["verdict"].as_str().unwrap().to_owned()
    })
}

const MUTUAL: &str = "mode: MUTUAL, credentialName: own";
const SIMPLE: &str = "mode: SIMPLE, credentialName: own";

/// istio pilot/pkg/networking/core/gateway.go: modes MUTUAL and ISTIO_MUTUAL require a certificate.
#[test]
fn an_istio_gateway_that_asks_for_no_certificate_any_more_opens() {
    let other = "mode: MUTUAL, credentialName: other";
    let optional = "mode: OPTIONAL_MUTUAL, credentialName: own";
    let passes = "mode: PASSTHROUGH";
    for (before, after, expected) in [
        (MUTUAL, SIMPLE, "opens"),
        (MUTUAL, optional, "opens"),
        ("mode: ISTIO_MUTUAL", SIMPLE, "opens"),
        (SIMPLE, MUTUAL, "breaks"),
        (SIMPLE, optional, "none"),
        (MUTUAL, MUTUAL, "none"),
        (MUTUAL, other, "undecided"),
        (MUTUAL, passes, "undecided"),
        (passes, passes, "none"),
    ] {
        let [was, is] = [before, after].map(|tls| istio(&server("a.example", tls)));
        assert_eq!(verdict(&was, &is), expected, "{before} {after}");
    }
}

#[test]
fn another_way_to_a_host_without_certificate_opens_too() {
    let asks = server("a.example", MUTUAL);
    let plain = "{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example]}";
    let redirect = "{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example], tls: {httpsRedirect: true}}";
    let other = server("b.example", SIMPLE);
    let wide = server("'*.example'", SIMPLE);
    for (before, after, expected) in [
        (vec![asks.as_str()], vec![asks.as_str(), plain], "opens"),
        (vec![&asks], vec![&asks, redirect], "none"),
        (vec![&asks], vec![&asks, &other], "none"),
        (vec![&asks, &wide], vec![&wide], "opens"),
        (vec![&asks, plain], vec![plain], "none"),
        (vec![&wide], vec![&asks, &wide], "breaks"),
    ] {
        let states = [&before, &after].map(|servers| istio(&servers.join(", ")));
        assert_eq!(
            verdict(&states[0], &states[1]),
            expected,
            "{before:?} {after:?}"
        );
    }
}

/// Two Gateways may select the same pods by other labels.
#[test]
fn gateways_are_the_same_where_their_pods_are() {
    let pods = "---
apiVersion: apps/v1
kind: Deployment
metadata: {name: gateway, namespace: shop}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  template:
    metadata: {labels: {istio: ingressgateway, app: gateway}, annotations: {inject.istio.io/templates: gateway}}
    spec: {serviceAccountName: gateway, containers: [{name: istio-proxy, image: auto}]}
";
    let asks = format!("{pods}{}", istio(&server("a.example", MUTUAL)));
    let other =
        istio(&server("a.example", SIMPLE)).replace("istio: ingressgateway", "app: gateway");
    assert_eq!(verdict(&asks, &format!("{pods}{other}")), "opens");
}

/// istio pilot/pkg/config/kube/gateway/conversion.go `buildTLS`.
#[test]
fn a_gateway_of_the_gateway_api_asks_as_its_frontend_or_its_options_say() {
    let authorities = "caCertificateRefs: [{group: '', kind: ConfigMap, name: clients}]";
    let asks = format!("frontend: {{default: {{validation: {{{authorities}}}}}}}");
    let lenient = format!(
        "frontend: {{default: {{validation: {{{authorities}, mode: AllowInsecureFallback}}}}}}"
    );
    let elsewhere = asks.replace(
        "frontend: {",
        "frontend: {perPort: [{port: 443, tls: {}}], ",
    );
    let option = ", options: {gateway.istio.io/tls-terminate-mode: MUTUAL}";
    let old = format!(", frontendValidation: {{{authorities}}}");
    for (before, after, expected) in [
        ((asks.as_str(), ""), ("", ""), "opens"),
        ((&asks, ""), (&lenient, ""), "opens"),
        ((&asks, ""), (&elsewhere, ""), "opens"),
        ((&asks, ""), (&asks, ""), "none"),
        (("", ""), (&asks, ""), "breaks"),
        (("", option), ("", ""), "opens"),
        (("", &old), ("", ""), "opens"),
        (("", &old), (&asks, ""), "none"),
    ] {
        let [was, is] = [before, after].map(|(frontend, tls)| kubernetes(frontend, tls));
        assert_eq!(verdict(&was, &is), expected, "{before:?} {after:?}");
    }
}
