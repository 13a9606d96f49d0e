//! Mesh-wide settings from the ConfigMap `istio` (or `istio-<revision>`) and istiod's flags.

use std::collections::BTreeMap;

use serde_json::Value;
use smol_str::SmolStr;

use super::ControlPlane;
use super::kubernetes_ingress::IngressSettings;
use crate::api::cluster::LabelSelector;
use crate::snapshot::{Gap, Kind, Labels, Origin, Snapshot};
use crate::source::yaml;

/// Settings that change what policies mean or where they apply. Defaults are Istio's
/// (pkg/config/mesh, `DefaultMeshConfig`).
#[derive(Debug, Clone, PartialEq)]
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
    /// External authorizers and other providers by name.
    pub extension_providers: BTreeMap<SmolStr, ExtensionProvider>,
    /// Whether `outboundTrafficPolicy.mode` is REGISTRY_ONLY, which ztunnel does not enforce.
    pub registry_only: bool,
    /// `pathNormalization.normalization`, as written; empty means default.
    pub path_normalization: SmolStr,
    /// `defaultConfig.proxyMetadata`.
    pub proxy_metadata: BTreeMap<SmolStr, SmolStr>,
    /// Whether `enableAutoMtls` is on (default true).
    pub auto_mtls: bool,
    /// Whether VirtualServices or DestinationRules without `exportTo` are not seen everywhere
    /// (`defaultVirtualServiceExportTo`, `defaultDestinationRuleExportTo`).
    pub limits_exports: bool,
    /// `defaultServiceExportTo`; empty: everywhere.
    pub service_exports: Vec<SmolStr>,
    /// What the injectors redirect to sidecars where a pod says nothing, by revision and annotation.
    pub redirection: BTreeMap<SmolStr, Labels>,
    /// `defaultConfig.interceptionMode`; empty: `REDIRECT`.
    pub interception_mode: SmolStr,
    /// Whether namespaces are injected without a label (`enableNamespacesByDefault`), as the
    /// default webhook's selector shows.
    pub injects_by_default: bool,
    /// Which objects `Ingress` istiod follows.
    pub ingress: IngressSettings,
}

/// An entry of `extensionProviders`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionProvider {
    /// Its type: `envoyExtAuthzGrpc` …
    pub kind: SmolStr,
    /// What that field says, as JSON.
    pub definition: String,
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
            limits_exports: false,
            service_exports: Vec::new(),
            redirection: BTreeMap::new(),
            interception_mode: SmolStr::default(),
            injects_by_default: false,
            ingress: IngressSettings::default(),
        }
    }
}

/// Reads the ConfigMap of the default revision (`istio`), else the first `istio-<revision>`.
/// A mesh config that cannot be read is a gap: its defaults are not the truth then.
pub(super) fn read(
    snapshot: &Snapshot,
    control_planes: &[ControlPlane],
    gaps: &mut Vec<Gap>,
) -> MeshSettings {
    let mut settings = MeshSettings::default();
    if let Some(one) = control_planes.first() {
        settings.root_namespace = one.object.name.namespace.clone();
    }
    settings.injects_by_default = injects_by_default(snapshot);
    settings.redirection = super::redirection::read(snapshot, gaps);
    let Some(map) = snapshot
        .config_maps
        .iter()
        .filter(|map| map.body.data.contains_key("mesh"))
        .min_by_key(|map| (map.metadata.name != "istio", map.metadata.name.clone()))
    else {
        return settings;
    };
    settings.origin = Some(map.origin.clone());
    match yaml::parse_value(&map.body.data["mesh"]) {
        Ok(mesh) => fill(&mut settings, &mesh),
        Err(reason) => gaps.push(Gap {
            kind: Kind::ConfigMap,
            namespace: Some(map.metadata.namespace.to_string()),
            except: Vec::new(),
            reason: format!(
                "the mesh configuration in `{}` is broken: {reason}",
                map.metadata.name
            ),
        }),
    }
    settings
}

fn fill(settings: &mut MeshSettings, mesh: &Value) {
    let text = |pointer: &str| {
        mesh.pointer(pointer)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
    };
    if let Some(root) = text("/rootNamespace") {
        settings.root_namespace = root.into();
    }
    if let Some(trust_domain) = text("/trustDomain") {
        settings.trust_domain = trust_domain.into();
    }
    let list = |key: &str| mesh[key].as_array().into_iter().flatten();
    settings.trust_domain_aliases = list("trustDomainAliases")
        .filter_map(Value::as_str)
        .map(SmolStr::from)
        .collect();
    settings.discovery_selectors = list("discoverySelectors")
        .filter_map(|one| serde_json::from_value(one.clone()).ok())
        .collect();
    settings.extension_providers = list("extensionProviders")
        .filter_map(|provider| {
            let name = provider["name"].as_str()?;
            let kind = provider.as_object()?.keys().find(|key| *key != "name")?;
            let provider = ExtensionProvider {
                kind: kind.as_str().into(),
                definition: provider[kind].to_string(),
            };
            Some((name.into(), provider))
        })
        .collect();
    settings.ingress = IngressSettings::of(mesh);
    settings.registry_only = text("/outboundTrafficPolicy/mode") == Some("REGISTRY_ONLY");
    settings.path_normalization = text("/pathNormalization/normalization")
        .unwrap_or_default()
        .into();
    settings.limits_exports = [
        "defaultVirtualServiceExportTo",
        "defaultDestinationRuleExportTo",
    ]
    .iter()
    .any(|key| list(key).any(|namespace| *namespace != "*"));
    settings.service_exports = list("defaultServiceExportTo")
        .filter_map(Value::as_str)
        .map(SmolStr::from)
        .collect();
    settings.interception_mode = text("/defaultConfig/interceptionMode")
        .unwrap_or_default()
        .into();
    settings.auto_mtls = mesh["enableAutoMtls"].as_bool().unwrap_or(true);
    settings.proxy_metadata = mesh
        .pointer("/defaultConfig/proxyMetadata")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .map(|(key, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            (key.as_str().into(), value.into())
        })
        .collect();
}

/// `enableNamespacesByDefault` shows as a webhook `auto.sidecar-injector.istio.io` that a namespace
/// without labels satisfies.
fn injects_by_default(snapshot: &Snapshot) -> bool {
    let nothing = crate::snapshot::Labels::default();
    snapshot
        .mutating_webhooks
        .iter()
        .flat_map(|configuration| &configuration.body.webhooks)
        .any(|webhook| {
            webhook.name.contains("sidecar-injector.istio.io")
                && webhook.namespace_selector.matches(&nothing)
                && webhook.object_selector.matches(&nothing)
                && webhook.namespace_selector != LabelSelector::default()
        })
}
