//! The kinds that castoff reads: group, served versions, plural, scope. One table; the reader,
//! the live source, the least role and the documentation are derived from it.

/// A kind that castoff reads. The order is the order of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `Namespace`.
    Namespace,
    /// `Pod`.
    Pod,
    /// `Service`.
    Service,
    /// `ServiceAccount`.
    ServiceAccount,
    /// `Node`.
    Node,
    /// `ConfigMap`.
    ConfigMap,
    /// `Secret`.
    Secret,
    /// `discovery.k8s.io/EndpointSlice`.
    EndpointSlice,
    /// `apps/Deployment`.
    Deployment,
    /// `apps/ReplicaSet`.
    ReplicaSet,
    /// `apps/StatefulSet`.
    StatefulSet,
    /// `apps/DaemonSet`.
    DaemonSet,
    /// `batch/Job`.
    Job,
    /// `batch/CronJob`.
    CronJob,
    /// `argoproj.io/Rollout`.
    Rollout,
    /// `admissionregistration.k8s.io/MutatingWebhookConfiguration`.
    MutatingWebhookConfiguration,
    /// `apiextensions.k8s.io/CustomResourceDefinition`.
    CustomResourceDefinition,
    /// `networking.k8s.io/NetworkPolicy`.
    NetworkPolicy,
    /// `networking.k8s.io/Ingress`.
    Ingress,
    /// `networking.k8s.io/IngressClass`.
    IngressClass,
    /// `security.istio.io/AuthorizationPolicy`.
    AuthorizationPolicy,
    /// `security.istio.io/PeerAuthentication`.
    PeerAuthentication,
    /// `security.istio.io/RequestAuthentication`.
    RequestAuthentication,
    /// `networking.istio.io/VirtualService`.
    VirtualService,
    /// `networking.istio.io/DestinationRule`.
    DestinationRule,
    /// `networking.istio.io/Gateway`.
    IstioGateway,
    /// `networking.istio.io/ServiceEntry`.
    ServiceEntry,
    /// `networking.istio.io/WorkloadEntry`.
    WorkloadEntry,
    /// `networking.istio.io/WorkloadGroup`.
    WorkloadGroup,
    /// `networking.istio.io/Sidecar`.
    Sidecar,
    /// `networking.istio.io/EnvoyFilter`.
    EnvoyFilter,
    /// `networking.istio.io/ProxyConfig`.
    ProxyConfig,
    /// `telemetry.istio.io/Telemetry`.
    Telemetry,
    /// `extensions.istio.io/WasmPlugin`.
    WasmPlugin,
    /// `extensions.istio.io/TrafficExtension`.
    TrafficExtension,
    /// `gateway.networking.k8s.io/GatewayClass`.
    GatewayClass,
    /// `gateway.networking.k8s.io/Gateway`.
    Gateway,
    /// `gateway.networking.k8s.io/HTTPRoute`.
    HttpRoute,
    /// `gateway.networking.k8s.io/GRPCRoute`.
    GrpcRoute,
    /// `gateway.networking.k8s.io/TLSRoute`.
    TlsRoute,
    /// `gateway.networking.k8s.io/TCPRoute`.
    TcpRoute,
    /// `gateway.networking.k8s.io/UDPRoute`.
    UdpRoute,
    /// `gateway.networking.k8s.io/ReferenceGrant`.
    ReferenceGrant,
    /// `gateway.networking.k8s.io/BackendTLSPolicy`.
    BackendTlsPolicy,
    /// `monitoring.coreos.com/PodMonitor`, of the Prometheus operator.
    PodMonitor,
    /// `monitoring.coreos.com/ServiceMonitor`, of the Prometheus operator.
    ServiceMonitor,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindRow {
    /// The kind.
    pub kind: Kind,
    /// `kind` as manifests write it.
    pub name: &'static str,
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural, as in API paths and RBAC rules.
    pub plural: &'static str,
    /// Served versions that are read, the preferred one first.
    pub versions: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
}

/// All kinds, in the order of [`Kind`].
pub const KINDS: &[KindRow] = &[
    row(
        Kind::Namespace,
        "Namespace",
        "",
        "namespaces",
        &["v1"],
        false,
    ),
    row(Kind::Pod, "Pod", "", "pods", &["v1"], true),
    row(Kind::Service, "Service", "", "services", &["v1"], true),
    row(
        Kind::ServiceAccount,
        "ServiceAccount",
        "",
        "serviceaccounts",
        &["v1"],
        true,
    ),
    row(Kind::Node, "Node", "", "nodes", &["v1"], false),
    row(
        Kind::ConfigMap,
        "ConfigMap",
        "",
        "configmaps",
        &["v1"],
        true,
    ),
    row(Kind::Secret, "Secret", "", "secrets", &["v1"], true),
    row(
        Kind::EndpointSlice,
        "EndpointSlice",
        "discovery.k8s.io",
        "endpointslices",
        &["v1", "v1beta1"],
        true,
    ),
    row(
        Kind::Deployment,
        "Deployment",
        "apps",
        "deployments",
        &["v1"],
        true,
    ),
    row(
        Kind::ReplicaSet,
        "ReplicaSet",
        "apps",
        "replicasets",
        &["v1"],
        true,
    ),
    row(
        Kind::StatefulSet,
        "StatefulSet",
        "apps",
        "statefulsets",
        &["v1"],
        true,
    ),
    row(
        Kind::DaemonSet,
        "DaemonSet",
        "apps",
        "daemonsets",
        &["v1"],
        true,
    ),
    row(Kind::Job, "Job", "batch", "jobs", &["v1"], true),
    row(
        Kind::CronJob,
        "CronJob",
        "batch",
        "cronjobs",
        &["v1", "v1beta1"],
        true,
    ),
    row(
        Kind::Rollout,
        "Rollout",
        "argoproj.io",
        "rollouts",
        &["v1alpha1"],
        true,
    ),
    row(
        Kind::MutatingWebhookConfiguration,
        "MutatingWebhookConfiguration",
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        &["v1"],
        false,
    ),
    row(
        Kind::CustomResourceDefinition,
        "CustomResourceDefinition",
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        &["v1", "v1beta1"],
        false,
    ),
    row(
        Kind::NetworkPolicy,
        "NetworkPolicy",
        "networking.k8s.io",
        "networkpolicies",
        &["v1"],
        true,
    ),
    row(
        Kind::Ingress,
        "Ingress",
        "networking.k8s.io",
        "ingresses",
        &["v1", "v1beta1"],
        true,
    ),
    row(
        Kind::IngressClass,
        "IngressClass",
        "networking.k8s.io",
        "ingressclasses",
        &["v1", "v1beta1"],
        false,
    ),
    row(
        Kind::AuthorizationPolicy,
        "AuthorizationPolicy",
        "security.istio.io",
        "authorizationpolicies",
        &["v1", "v1beta1"],
        true,
    ),
    row(
        Kind::PeerAuthentication,
        "PeerAuthentication",
        "security.istio.io",
        "peerauthentications",
        &["v1", "v1beta1"],
        true,
    ),
    row(
        Kind::RequestAuthentication,
        "RequestAuthentication",
        "security.istio.io",
        "requestauthentications",
        &["v1", "v1beta1"],
        true,
    ),
    row(
        Kind::VirtualService,
        "VirtualService",
        "networking.istio.io",
        "virtualservices",
        &["v1", "v1beta1", "v1alpha3"],
        true,
    ),
    row(
        Kind::DestinationRule,
        "DestinationRule",
        "networking.istio.io",
        "destinationrules",
        &["v1", "v1beta1", "v1alpha3"],
        true,
    ),
    row(
        Kind::IstioGateway,
        "Gateway",
        "networking.istio.io",
        "gateways",
        &["v1", "v1beta1", "v1alpha3"],
        true,
    ),
    row(
        Kind::ServiceEntry,
        "ServiceEntry",
        "networking.istio.io",
        "serviceentries",
        &["v1", "v1beta1", "v1alpha3"],
        true,
    ),
    row(
        Kind::WorkloadEntry,
        "WorkloadEntry",
        "networking.istio.io",
        "workloadentries",
        &["v1", "v1beta1", "v1alpha3"],
        true,
    ),
    row(
        Kind::WorkloadGroup,
        "WorkloadGroup",
        "networking.istio.io",
        "workloadgroups",
        &["v1", "v1beta1", "v1alpha3"],
        true,
    ),
    row(
        Kind::Sidecar,
        "Sidecar",
        "networking.istio.io",
        "sidecars",
        &["v1", "v1beta1", "v1alpha3"],
        true,
    ),
    row(
        Kind::EnvoyFilter,
        "EnvoyFilter",
        "networking.istio.io",
        "envoyfilters",
        &["v1alpha3"],
        true,
    ),
    row(
        Kind::ProxyConfig,
        "ProxyConfig",
        "networking.istio.io",
        "proxyconfigs",
        &["v1beta1"],
        true,
    ),
    row(
        Kind::Telemetry,
        "Telemetry",
        "telemetry.istio.io",
        "telemetries",
        &["v1", "v1alpha1"],
        true,
    ),
    row(
        Kind::WasmPlugin,
        "WasmPlugin",
        "extensions.istio.io",
        "wasmplugins",
        &["v1alpha1"],
        true,
    ),
    row(
        Kind::TrafficExtension,
        "TrafficExtension",
        "extensions.istio.io",
        "trafficextensions",
        &["v1alpha1"],
        true,
    ),
    row(
        Kind::GatewayClass,
        "GatewayClass",
        "gateway.networking.k8s.io",
        "gatewayclasses",
        &["v1", "v1beta1"],
        false,
    ),
    row(
        Kind::Gateway,
        "Gateway",
        "gateway.networking.k8s.io",
        "gateways",
        &["v1", "v1beta1"],
        true,
    ),
    row(
        Kind::HttpRoute,
        "HTTPRoute",
        "gateway.networking.k8s.io",
        "httproutes",
        &["v1", "v1beta1"],
        true,
    ),
    row(
        Kind::GrpcRoute,
        "GRPCRoute",
        "gateway.networking.k8s.io",
        "grpcroutes",
        &["v1", "v1alpha2"],
        true,
    ),
    row(
        Kind::TlsRoute,
        "TLSRoute",
        "gateway.networking.k8s.io",
        "tlsroutes",
        &["v1", "v1alpha3", "v1alpha2"],
        true,
    ),
    row(
        Kind::TcpRoute,
        "TCPRoute",
        "gateway.networking.k8s.io",
        "tcproutes",
        &["v1", "v1alpha2"],
        true,
    ),
    row(
        Kind::UdpRoute,
        "UDPRoute",
        "gateway.networking.k8s.io",
        "udproutes",
        &["v1", "v1alpha2"],
        true,
    ),
    row(
        Kind::ReferenceGrant,
        "ReferenceGrant",
        "gateway.networking.k8s.io",
        "referencegrants",
        &["v1", "v1beta1"],
        true,
    ),
    row(
        Kind::BackendTlsPolicy,
        "BackendTLSPolicy",
        "gateway.networking.k8s.io",
        "backendtlspolicies",
        &["v1", "v1alpha3"],
        true,
    ),
    row(
        Kind::PodMonitor,
        "PodMonitor",
        "monitoring.coreos.com",
        "podmonitors",
        &["v1"],
        true,
    ),
    row(
        Kind::ServiceMonitor,
        "ServiceMonitor",
        "monitoring.coreos.com",
        "servicemonitors",
        &["v1"],
        true,
    ),
];

const fn row(
    kind: Kind,
    name: &'static str,
    group: &'static str,
    plural: &'static str,
    versions: &'static [&'static str],
    namespaced: bool,
) -> KindRow {
    KindRow {
        kind,
        name,
        group,
        plural,
        versions,
        namespaced,
    }
}

impl Kind {
    /// The kind's row.
    pub fn row(self) -> &'static KindRow {
        &KINDS[self as usize]
    }

    /// The kind of an object, by the group of its `apiVersion` (any version) and its `kind`.
    pub fn of(api_version: &str, kind: &str) -> Option<Self> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        KINDS
            .iter()
            .find(|row| row.name == kind && row.group == group)
            .map(|row| row.kind)
    }

    /// Whether an object of this `apiVersion` means what castoff takes it for. Kubernetes' own kinds were served
    /// in versions before those of today with the fields that are read here; those of Istio and of the Gateway API
    /// are known by name (gateway.networking.k8s.io `v1alpha1` had other fields, and nobody knows what a `v2` says).
    pub fn knows_version(self, api_version: &str) -> bool {
        let row = self.row();
        let version = api_version
            .rsplit_once('/')
            .map_or(api_version, |(_, version)| version);
        let by_name = row.group.ends_with(".istio.io") || row.group == "gateway.networking.k8s.io";
        if by_name {
            return row.versions.contains(&version);
        }
        let major = |version: &str| -> Option<u32> {
            let digits = version.strip_prefix('v')?;
            let end = digits.find(|one: char| !one.is_ascii_digit());
            digits[..end.unwrap_or(digits.len())].parse().ok()
        };
        let newest = row.versions.iter().filter_map(|one| major(one)).max();
        major(version).is_some_and(|major| Some(major) <= newest)
    }

    /// `pods`, `authorizationpolicies.security.istio.io`: as `kubectl` takes it.
    pub fn resource(self) -> String {
        let row = self.row();
        if row.group.is_empty() {
            row.plural.to_owned()
        } else {
            format!("{}.{}", row.plural, row.group)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_in_the_order_of_the_kinds() {
        for (index, row) in KINDS.iter().enumerate() {
            assert_eq!(row.kind as usize, index, "{}", row.name);
        }
    }

    #[test]
    fn what_a_version_means_that_nobody_knows_is_not_guessed() {
        for (kind, version, known) in [
            (Kind::AuthorizationPolicy, "security.istio.io/v1", true),
            (Kind::AuthorizationPolicy, "security.istio.io/v1beta1", true),
            (Kind::AuthorizationPolicy, "security.istio.io/v2", false),
            (
                Kind::AuthorizationPolicy,
                "security.istio.io/v1alpha9",
                false,
            ),
            (Kind::Gateway, "gateway.networking.k8s.io/v1alpha1", false),
            (Kind::Deployment, "apps/v1beta2", true),
            (Kind::Deployment, "apps/v2", false),
            (Kind::Service, "v1", true),
            (Kind::Service, "v2alpha1", false),
            (Kind::Service, "latest", false),
        ] {
            assert_eq!(kind.knows_version(version), known, "{version}");
        }
    }

    #[test]
    fn two_gateways_are_told_apart_by_group() {
        assert_eq!(
            Kind::of("gateway.networking.k8s.io/v1", "Gateway"),
            Some(Kind::Gateway)
        );
        assert_eq!(
            Kind::of("networking.istio.io/v1alpha3", "Gateway"),
            Some(Kind::IstioGateway)
        );
    }
}
