//! The words that redaction keeps: those of the APIs, and names that every mesh has.
//!
//! Invariant: nothing here can be the name of a user's team, product or host. A word that is
//! missing costs a redacted report a finding (a test over whole meshes sees it); a word too many
//! would leak.

/// Fields whose values an API lists, or that hold no names.
pub(super) const KEPT_FIELDS: [&str; 45] = [
    "action",
    "apiVersion",
    "apiGroups",
    "apiVersions",
    "appProtocol",
    "conditions",
    "creationTimestamp",
    "dayOfWeek",
    "deletionTimestamp",
    "effect",
    "externalTrafficPolicy",
    "failurePolicy",
    "gatewayClassName",
    "group",
    "imagePullPolicy",
    "ipBlocks",
    "kind",
    "location",
    "loadBalancer",
    "matchPolicy",
    "method",
    "methods",
    "mode",
    "nodeInfo",
    "notIpBlocks",
    "notMethods",
    "notRemoteIpBlocks",
    "operations",
    "operator",
    "outboundTrafficPolicy",
    "pathType",
    "phase",
    "podIP",
    "podIPs",
    "clusterIP",
    "clusterIPs",
    "policyTypes",
    "protocol",
    "qosClass",
    "remoteIpBlocks",
    "resolution",
    "resources",
    "restartPolicy",
    "sideEffects",
    "type",
];

/// Fields whose keys are a user's own.
pub(super) const MAPS_OF_NAMES: [&str; 12] = [
    "annotations",
    "data",
    "distribute",
    "headers",
    "labels",
    "matchLabels",
    "nodeSelector",
    "queryParams",
    "selector",
    "sourceLabels",
    "withoutHeaders",
    "proxyMetadata",
];

/// Parts of metadata that hold names and are read by no check.
pub(super) const METADATA_LEFT_OUT: [&str; 5] = [
    "finalizers",
    "generateName",
    "managedFields",
    "selfLink",
    "uid",
];

/// Words, in lower case; capitals do not matter.
const WORDS: &str = "
a accepted access address agent alpha ambient and any api app apiserver apps argo args auth authorization
authorizationpolicies authority authpolicy autodetect aws azure backend backends beta bind blackhole bool both
bottlerocket by ca calico canonical cert certs chained chart cilium class client cloud cloudsql cluster clusterip
cni cni0 com component config configmap connect connection container containers containerd control controller
conf conflist core cors cpu created csi custom daemonset dataplane debug default delegate deny dest destination
destinationrules dev direct disable disabled discovery distroless dns docker domain dry e2e east eastwest
eastwestgateway egress egressgateway eks enable enabled enterprise envoy envoyfilters error exclude exclusive
false file filter for forward from ftp gateway gateways gatewayclass gatewayclasses gcr get ghcr gke global go
google grpc grpcroutes grpcs h2c hash hbone head header headers helm heritage high host hostname hosts http http1
http2 https httproutes hub id identity image images in include ingress ingressgateway inject injection injector
inbound install instance internal io ip ips ipv4 ipv6 is istio istiod jwks jwt k3d k3s k8s key kind kube kubelet
kubernetes label labels legacy level linux list listener listeners live local locality log mac managed master
mesh meshconfig meshnetworks meta metadata metrics microk8s minikube mirror mixed mode mtls multi multicluster
mutual my mysql mongo name names namespace namespaces net network networking networks no node nodelocal nodepool
nodes none not ns null object of off on only openshift operation operator options or org original os outbound
outlier pass passthrough path paths peer peerauthentications permissive pilot plane plugin pod podmonitor pods
policies policy port portlevelmtls ports post presented principal principals probe profile prometheus provider
proxy proxyconfig proxyv2 public put quay rbac read ready ready2 redirect redirection redis ref reference
referencegrants region registry remote remotejwks replicas request requestauthentications requests resolution
resource retries rev revision revisions root route router rule rules running sa scrape sds secret section security
selector serve server service serviceaccount serviceaccounts serviceentries services sh sidecar sidecars simple
socket solo source sources spec spiffe spire split sse ssl stats status strict subset sum svc system tag target
targetref tcp tcproutes telemetries telemetry template test tier timeout tls tlsmode tlsroutes tokens topology tracing
traffic true trust trustdomain tunnel udp udproutes unknown upstream url use user value values version versions
virtualservices vm volume wasm wasmplugins waypoint webhook webhooks west when with workload workloadentries
workloadgroups write x zone zookeeper ztunnel
";

/// Whether a word stays as it is: a word of the list, a number, a version, a single letter.
pub(super) fn is_known(word: &str) -> bool {
    use std::sync::LazyLock;
    static KNOWN: LazyLock<std::collections::HashSet<&str>> =
        LazyLock::new(|| WORDS.split_whitespace().collect());
    word.len() == 1
        || is_number(word)
        || is_version(word)
        || is_mesh_config_key(word)
        || KNOWN.contains(word.to_ascii_lowercase().as_str())
}

/// `15008`, `100m`, `128Mi`.
fn is_number(word: &str) -> bool {
    let digits = word.trim_start_matches(|character: char| character.is_ascii_digit());
    digits.len() < word.len()
        && (digits.is_empty() || ["m", "Mi", "Gi", "s", "ms"].contains(&digits))
}

/// `v1`, `v1alpha3`, `v1beta1`.
fn is_version(word: &str) -> bool {
    let Some(rest) = word.strip_prefix('v') else {
        return false;
    };
    let rest = rest.trim_start_matches(|character: char| character.is_ascii_digit());
    rest.len() < word.len() - 1
        && (rest.is_empty()
            || ["alpha", "beta"].iter().any(|stage| {
                rest.strip_prefix(stage).is_some_and(|number| {
                    number.chars().all(|character| character.is_ascii_digit())
                })
            }))
}

/// Keys of Istio's mesh configuration, which is text inside a ConfigMap
/// (istio.io, "Global Mesh Options").
fn is_mesh_config_key(word: &str) -> bool {
    [
        "accessLogFile",
        "caCertificates",
        "certificates",
        "configSources",
        "defaultConfig",
        "defaultDestinationRuleExportTo",
        "defaultHttpRetryPolicy",
        "defaultProviders",
        "defaultServiceExportTo",
        "defaultVirtualServiceExportTo",
        "discoveryAddress",
        "discoverySelectors",
        "enableAutoMtls",
        "enablePrometheusMerge",
        "enableTracing",
        "envoyExtAuthzGrpc",
        "envoyExtAuthzHttp",
        "exportTo",
        "extensionProviders",
        "holdApplicationUntilProxyStarts",
        "includeRequestHeadersInCheck",
        "ingressClass",
        "ingressControllerMode",
        "ingressService",
        "localityLbSetting",
        "matchExpressions",
        "matchLabels",
        "meshMTLS",
        "minProtocolVersion",
        "outboundTrafficPolicy",
        "pathNormalization",
        "normalization",
        "proxyMetadata",
        "rootNamespace",
        "serviceSettings",
        "trustDomain",
        "trustDomainAliases",
        "tlsDefaults",
        "REGISTRY_ONLY",
        "ALLOW_ANY",
    ]
    .contains(&word)
}

/// Environment variables of proxies, istiod and the CNI agent.
pub(super) fn is_environment_of_the_mesh(name: &str) -> bool {
    [
        "AMBIENT",
        "CA_",
        "CHAINED_",
        "CLUSTER_ID",
        "CNI_",
        "ENABLE_",
        "EXCLUDE_",
        "ISTIO_",
        "JWT_",
        "KUBERNETES_",
        "PILOT_",
        "PLATFORM",
        "PROXY_",
        "REPAIR_",
        "REVISION",
        "ROOT_NAMESPACE",
        "SHARED_MESH_CONFIG",
        "SPIFFE_",
        "TRUST_DOMAIN",
        "XDS_",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}

/// Labels and annotations of Kubernetes, Istio or the collection of metrics; of annotations, which
/// hold anything, others are left out.
pub(super) fn is_of_an_api(name: &str) -> bool {
    let Some((domain, _)) = name.split_once('/') else {
        return false;
    };
    [
        "istio.io",
        "k8s.io",
        "kubernetes.io",
        "prometheus.io",
        "solo.io",
    ]
    .iter()
    .any(|known| {
        domain == *known
            || domain
                .strip_suffix(known)
                .is_some_and(|rest| rest.ends_with('.'))
    })
}

/// `2026-01-01T00:00:00Z`.
pub(super) fn is_time(text: &str) -> bool {
    text.len() >= 20
        && text.as_bytes().get(4) == Some(&b'-')
        && text.as_bytes().get(10) == Some(&b'T')
        && text
            .chars()
            .all(|character| character.is_ascii_digit() || "-:.TZ+".contains(character))
}
