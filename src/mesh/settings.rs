//! Mesh-wide settings from the ConfigMap `istio` (or `istio-<revision>`) and istiod's flags.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use crate::api::cluster::LabelSelector;
use crate::snapshot::Origin;

/// Settings that change what policies mean or where they apply. Defaults are Istio's
/// (pkg/config/mesh, `DefaultMeshConfig`).
#[derive(Debug, Clone)]
pub struct MeshSettings {
    /// Where the settings were read; `None` when no mesh config was among the input and Istio's
    /// defaults are assumed.
    pub origin: Option<Origin>,
    /// Policies here apply everywhere. `istio-system` by default.
    pub root_namespace: SmolStr,
    /// `cluster.local` by default.
    pub trust_domain: SmolStr,
    /// Further trust domains that policies are expanded to in Envoy, not in ztunnel.
    pub trust_domain_aliases: Vec<SmolStr>,
    /// Which namespaces istiod sees; empty: all.
    pub discovery_selectors: Vec<LabelSelector>,
    /// Names of external authorizers and other providers, with their type (`envoyExtAuthzGrpc` …).
    pub extension_providers: BTreeMap<SmolStr, SmolStr>,
    /// Whether `outboundTrafficPolicy.mode` is REGISTRY_ONLY, which ztunnel does not enforce.
    pub registry_only: bool,
    /// `pathNormalization.normalization`, as written; empty means default.
    pub path_normalization: SmolStr,
    /// `defaultConfig.proxyMetadata`.
    pub proxy_metadata: BTreeMap<SmolStr, SmolStr>,
    /// Whether `enableAutoMtls` is on (default true).
    pub auto_mtls: bool,
    /// Whether namespaces are injected without a label (`enableNamespacesByDefault`), as the
    /// default webhook's selector shows.
    pub injects_by_default: bool,
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self {
            origin: None,
            root_namespace: "istio-system".into(),
            trust_domain: "cluster.local".into(),
            trust_domain_aliases: Vec::new(),
            discovery_selectors: Vec::new(),
            extension_providers: BTreeMap::new(),
            registry_only: false,
            path_normalization: SmolStr::default(),
            proxy_metadata: BTreeMap::new(),
            auto_mtls: true,
            injects_by_default: false,
        }
    }
}
