//! Decision tables of Istio, row by row: who is injected or captured, and which waypoint a label leads to.
#![allow(missing_docs, clippy::unwrap_used)]

use castoff::mesh::waypoint::{BindingFault, BindingSource};
use castoff::mesh::{DataPlaneMode, Mesh, MeshOverrides, WaypointBinding};
use castoff::snapshot::ObjectName;
use castoff::source::{Place, read_text};

fn mesh(text: &str) -> Mesh {
    let snapshot = read_text(&Place::Simulated, text).unwrap();
    assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
    Mesh::build(&snapshot, &MeshOverrides::default())
}

/// The four webhooks of one revision
/// (istio manifests/charts/istio-control/istio-discovery/templates/mutatingwebhook.yaml).
const WEBHOOKS: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: istio-sidecar-injector, labels: {istio.io/rev: default}}
webhooks:
- name: rev.namespace.sidecar-injector.istio.io
  namespaceSelector:
    matchExpressions:
    - {key: istio.io/rev, operator: In, values: [default]}
    - {key: istio-injection, operator: DoesNotExist}
  objectSelector:
    matchExpressions:
    - {key: sidecar.istio.io/inject, operator: NotIn, values: ['false']}
- name: rev.object.sidecar-injector.istio.io
  namespaceSelector:
    matchExpressions:
    - {key: istio.io/rev, operator: DoesNotExist}
    - {key: istio-injection, operator: DoesNotExist}
  objectSelector:
    matchExpressions:
    - {key: sidecar.istio.io/inject, operator: NotIn, values: ['false']}
    - {key: istio.io/rev, operator: In, values: [default]}
- name: namespace.sidecar-injector.istio.io
  namespaceSelector:
    matchExpressions:
    - {key: istio-injection, operator: In, values: [enabled]}
  objectSelector:
    matchExpressions:
    - {key: sidecar.istio.io/inject, operator: NotIn, values: ['false']}
- name: object.sidecar-injector.istio.io
  namespaceSelector:
    matchExpressions:
    - {key: istio-injection, operator: DoesNotExist}
    - {key: istio.io/rev, operator: DoesNotExist}
  objectSelector:
    matchExpressions:
    - {key: sidecar.istio.io/inject, operator: In, values: ['true']}
    - {key: istio.io/rev, operator: DoesNotExist}
";

const ZTUNNEL: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: ztunnel, namespace: istio-system, labels: {app: ztunnel}}
spec:
  template:
    metadata: {labels: {app: ztunnel}}
    spec: {containers: [{name: istio-proxy, image: istio/ztunnel:1.30.0}]}
";

/// What new pods of a Deployment become.
fn next(
    webhooks: &str,
    namespace: &str,
    of_namespace: &str,
    pod: &str,
    spec: &str,
) -> DataPlaneMode {
    let mesh = mesh(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: {{{of_namespace}}}}}\n---\n\
         apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: {namespace}}}\nspec: {{template: \
         {{metadata: {{{pod}}}, spec: {{containers: [{{name: web, image: web}}]{spec}}}}}}}\n---{ZTUNNEL}\n---{webhooks}\n"
    ));
    let web = mesh
        .workloads
        .iter()
        .find(|one| one.name == ObjectName::new(namespace, "web"))
        .unwrap();
    web.next_mode
}

#[test]
fn new_pods_are_injected_as_the_webhooks_and_the_injector_decide() {
    use DataPlaneMode::{Ambient, None, Sidecar};
    // Namespace, its labels, metadata of the pod template, more of its spec, with webhooks, and by
    // labels alone (when no webhook was given, a revision is taken to exist).
    let table = [
        ("shop", "", "", "", None, None),
        ("shop", "istio-injection: enabled", "", "", Sidecar, Sidecar),
        ("shop", "istio-injection: disabled", "", "", None, None),
        (
            "shop",
            "istio-injection: enabled",
            "labels: {sidecar.istio.io/inject: 'false'}",
            "",
            None,
            None,
        ),
        (
            "shop",
            "istio-injection: enabled",
            "annotations: {sidecar.istio.io/inject: 'false'}",
            "",
            None,
            None,
        ),
        // The label beats the annotation.
        (
            "shop",
            "istio-injection: enabled",
            "labels: {sidecar.istio.io/inject: 'true'}, annotations: {sidecar.istio.io/inject: 'false'}",
            "",
            Sidecar,
            Sidecar,
        ),
        (
            "shop",
            "istio-injection: disabled",
            "labels: {sidecar.istio.io/inject: 'true'}",
            "",
            None,
            None,
        ),
        (
            "shop",
            "",
            "labels: {sidecar.istio.io/inject: 'true'}",
            "",
            Sidecar,
            Sidecar,
        ),
        // No webhook selects on annotations.
        (
            "shop",
            "",
            "annotations: {sidecar.istio.io/inject: 'true'}",
            "",
            None,
            None,
        ),
        ("shop", "istio.io/rev: default", "", "", Sidecar, Sidecar),
        (
            "shop",
            "istio.io/rev: default",
            "labels: {sidecar.istio.io/inject: 'false'}",
            "",
            None,
            None,
        ),
        (
            "shop",
            "",
            "labels: {istio.io/rev: default}",
            "",
            Sidecar,
            Sidecar,
        ),
        // Nobody injects for a revision without webhooks.
        ("shop", "istio.io/rev: canary", "", "", None, Sidecar),
        (
            "shop",
            "",
            "labels: {istio.io/rev: canary}",
            "",
            None,
            Sidecar,
        ),
        (
            "shop",
            "istio.io/rev: canary",
            "labels: {istio.io/rev: default}",
            "",
            None,
            Sidecar,
        ),
        // istio-injection wins over istio.io/rev.
        (
            "shop",
            "istio-injection: enabled, istio.io/rev: canary",
            "",
            "",
            Sidecar,
            Sidecar,
        ),
        (
            "shop",
            "istio-injection: disabled, istio.io/rev: default",
            "",
            "",
            None,
            None,
        ),
        (
            "shop",
            "istio-injection: enabled",
            "",
            ", hostNetwork: true",
            None,
            None,
        ),
        (
            "kube-system",
            "istio-injection: enabled",
            "",
            "",
            None,
            None,
        ),
        // Enrolment in ambient mode, and a sidecar wins over it.
        (
            "shop",
            "istio.io/dataplane-mode: ambient",
            "",
            "",
            Ambient,
            Ambient,
        ),
        (
            "shop",
            "",
            "labels: {istio.io/dataplane-mode: ambient}",
            "",
            Ambient,
            Ambient,
        ),
        (
            "shop",
            "istio.io/dataplane-mode: ambient",
            "labels: {istio.io/dataplane-mode: none}",
            "",
            None,
            None,
        ),
        (
            "shop",
            "istio.io/dataplane-mode: ambient",
            "",
            ", hostNetwork: true",
            None,
            None,
        ),
        (
            "shop",
            "istio.io/dataplane-mode: ambient, istio-injection: enabled",
            "",
            "",
            Sidecar,
            Sidecar,
        ),
        (
            "shop",
            "istio.io/dataplane-mode: ambient",
            "labels: {sidecar.istio.io/inject: 'true'}",
            "",
            Sidecar,
            Sidecar,
        ),
    ];
    for (namespace, of_namespace, pod, spec, with_webhooks, by_labels) in table {
        let row = format!("namespace {namespace} {{{of_namespace}}}, pod {{{pod}}}{spec}");
        assert_eq!(
            next(WEBHOOKS, namespace, of_namespace, pod, spec),
            with_webhooks,
            "{row}"
        );
        assert_eq!(
            next("", namespace, of_namespace, pod, spec),
            by_labels,
            "{row}, by labels"
        );
    }
}

/// istio pkg/kube/inject/inject.go, `injectRequired`: the pod's own word, then the selectors of the
/// injector's configuration, then its policy.
#[test]
fn the_injector_has_its_own_selectors_and_policy() {
    use DataPlaneMode::{None, Sidecar};
    const NEVER: &str = "neverInjectSelector: [{matchLabels: {kind: build}}]";
    const ALWAYS: &str = "policy: disabled, alwaysInjectSelector: [{matchLabels: {kind: build}}]";
    let build = "labels: {kind: build}";
    let wants = "labels: {kind: build, sidecar.istio.io/inject: 'true'}";
    let yes = "labels: {sidecar.istio.io/inject: 'Yes'}";
    let table = [
        ("policy: enabled", "", Sidecar),
        ("policy: disabled", "", None),
        ("policy: disabled", yes, Sidecar),
        (
            "policy: enabled",
            "labels: {sidecar.istio.io/inject: 'no'}",
            None,
        ),
        (NEVER, build, None),
        (NEVER, wants, Sidecar),
        (NEVER, "labels: {kind: web}", Sidecar),
        (ALWAYS, build, Sidecar),
        (ALWAYS, "", None),
        // Never wins over always, and an empty selector selects nothing.
        (
            "neverInjectSelector: [{matchLabels: {kind: build}}], alwaysInjectSelector: [{matchLabels: {kind: build}}]",
            build,
            None,
        ),
        ("neverInjectSelector: [{}]", build, Sidecar),
    ];
    for (configuration, pod, expected) in table {
        let injector = format!(
            "{WEBHOOKS}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio-sidecar-injector, namespace: \
             istio-system}}\ndata: {{config: '{{{}}}'}}\n",
            configuration.replace('\'', "''")
        );
        assert_eq!(
            next(&injector, "shop", "istio-injection: enabled", pod, ""),
            expected,
            "{configuration}, pod {{{pod}}}"
        );
    }
}

/// How a Service is bound, in one line.
fn bound(of_namespace: &str, of_service: &str, gateway: &str) -> String {
    let mesh = mesh(&format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop, labels: {{team: a, {of_namespace}}}}}\n---\n\
         apiVersion: v1\nkind: Namespace\nmetadata: {{name: infra}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop, labels: {{{of_service}}}}}\n\
         spec: {{clusterIP: 10.0.0.1, ports: [{{port: 80}}]}}\n---\n{gateway}"
    ));
    let service = mesh
        .service_named(&ObjectName::new("shop", "web"))
        .unwrap()
        .1;
    let by = |source: &BindingSource| match source {
        BindingSource::Object => "by its own label",
        BindingSource::Namespace => "by its namespace's label",
    };
    match &service.binding {
        WaypointBinding::Unbound => "unbound".to_owned(),
        WaypointBinding::OptedOut => "opted out".to_owned(),
        WaypointBinding::Bound { waypoint, source } => {
            format!("{} {}", mesh.waypoint(*waypoint).name, by(source))
        }
        WaypointBinding::Broken {
            wanted,
            source,
            reason,
        } => {
            let why = match reason {
                BindingFault::Missing => "missing",
                BindingFault::NotReady => "not ready",
                BindingFault::NotAllowed => "not allowed",
                BindingFault::OtherTraffic => "for other traffic",
                BindingFault::NotAWaypoint => "no waypoint",
            };
            format!("{wanted} {why} {}", by(source))
        }
    }
}

/// istio pilot/pkg/serviceregistry/ambient/waypoints.go: `fetchWaypointForTarget`, `getGatewayOrGatewayNamespacedName`,
/// `isAllowed` and `makeInboundBinding`.
#[test]
fn a_label_leads_to_a_waypoint_or_to_a_named_fault() {
    let gateway = |namespace: &str, class: &str, labels: &str, routes: &str, status: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: wp, namespace: {namespace}, \
             labels: {{{labels}}}}}\nspec: {{gatewayClassName: {class}, listeners: [{{name: mesh, port: 15008, \
             protocol: HBONE{routes}}}]}}\n{status}\n"
        )
    };
    const READY: &str = "status: {addresses: [{value: 10.0.0.9}]}";
    let own = |labels: &str| gateway("shop", "istio-waypoint", labels, "", READY);
    let far = |routes: &str| gateway("infra", "istio-waypoint", "", routes, READY);
    let use_it = "istio.io/use-waypoint: wp";
    let use_far = "istio.io/use-waypoint: wp, istio.io/use-waypoint-namespace: infra";
    let table = [
        ("", "", own(""), "unbound"),
        ("", use_it, own(""), "shop/wp by its own label"),
        (use_it, "", own(""), "shop/wp by its namespace's label"),
        (use_it, "istio.io/use-waypoint: none", own(""), "opted out"),
        ("istio.io/use-waypoint: none", "", own(""), "opted out"),
        (
            "istio.io/use-waypoint: none",
            use_it,
            own(""),
            "shop/wp by its own label",
        ),
        // A label that leads nowhere hides the namespace's.
        (
            use_it,
            "istio.io/use-waypoint: gone",
            own(""),
            "shop/gone missing by its own label",
        ),
        // The namespace of the waypoint comes from the same object as its name.
        (
            "istio.io/use-waypoint-namespace: infra",
            use_it,
            own(""),
            "shop/wp by its own label",
        ),
        (
            "",
            use_it,
            gateway("shop", "istio-waypoint", "", "", ""),
            "shop/wp not ready by its own label",
        ),
        (
            "",
            use_it,
            gateway("shop", "istio", "", "", READY),
            "shop/wp no waypoint by its own label",
        ),
        (
            "",
            use_it,
            own("istio.io/waypoint-for: workload"),
            "shop/wp for other traffic by its own label",
        ),
        (
            "",
            use_it,
            own("istio.io/waypoint-for: none"),
            "shop/wp for other traffic by its own label",
        ),
        (
            "",
            use_it,
            own("istio.io/waypoint-for: all"),
            "shop/wp by its own label",
        ),
        (
            "",
            use_it,
            own("istio.io/waypoint-for: service"),
            "shop/wp by its own label",
        ),
        (
            "",
            use_far,
            far(""),
            "infra/wp not allowed by its own label",
        ),
        (
            "",
            use_far,
            far(", allowedRoutes: {namespaces: {from: Same}}"),
            "infra/wp not allowed by its own label",
        ),
        (
            "",
            use_far,
            far(", allowedRoutes: {namespaces: {from: All}}"),
            "infra/wp by its own label",
        ),
        (
            "",
            use_far,
            far(
                ", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}",
            ),
            "infra/wp by its own label",
        ),
        (
            "",
            use_far,
            far(
                ", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: b}}}}",
            ),
            "infra/wp not allowed by its own label",
        ),
        (
            "",
            use_far,
            far(
                ", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: \
                 {kubernetes.io/metadata.name: shop}}}}",
            ),
            "infra/wp by its own label",
        ),
    ];
    for (of_namespace, of_service, gateway, expected) in table {
        assert_eq!(
            bound(of_namespace, of_service, &gateway),
            expected,
            "namespace {{{of_namespace}}}, Service {{{of_service}}}: {gateway}"
        );
    }
}

/// istio pilot/pkg/serviceregistry/serviceentry/controller.go: pods of the entry's own namespace.
#[test]
fn a_service_entry_selects_pods_of_its_own_namespace() {
    let pod = |namespace: &str, name: &str, app: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {namespace}, labels: {{app: \
             {app}}}}}\nspec: {{containers: [{{name: x, image: x}}]}}\n"
        )
    };
    let mesh = mesh(&format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: db, namespace: shop}}\nspec: {{hosts: \
         [db.internal], location: MESH_INTERNAL, workloadSelector: {{labels: {{app: db}}}}}}\n{}{}{}",
        pod("shop", "db", "db"),
        pod("shop", "web", "web"),
        pod("other", "db", "db")
    ));
    let selected: Vec<String> = mesh.traffic.service_entries[0]
        .workloads
        .iter()
        .map(|id| mesh.workload(*id).name.to_string())
        .collect();
    assert_eq!(selected, ["shop/db"]);
}
