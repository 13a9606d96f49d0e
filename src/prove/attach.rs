//! Which policies stand at which enforcement point.
//!
//! In: a mesh. Out: the policies at a sidecar, a ztunnel, a waypoint or a gateway, shared by
//! reference. Invariant: a policy that was not understood, an EnvoyFilter or a Wasm plugin that
//! attaches to a point makes that point opaque, with its name.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock};

use castoff_authz::path::{PointKind, TokenRule};
use castoff_authz::policy::Policy;
use rustc_hash::FxHashMap;
use serde_json::Value;
use smol_str::SmolStr;

use super::pins::Leads;
use super::{CallerMode, Content, Dial, Server};
use crate::mesh::policy::{Attachment, TargetReference, selects_at_sidecar};
use crate::mesh::{Mesh, Service, Waypoint};
use crate::snapshot::{Kind, Labels, ObjectName};

/// The gateway class that stands for all Envoy waypoints
/// (istio pilot/pkg/model/policyattachment.go).
const WAYPOINT_CLASS: &str = "istio-waypoint";

/// Labels and an annotation that give a Service a second waypoint.
const CANARY: &str = "istio.io/use-waypoint-canary";
const CANARY_NAMESPACE: &str = "istio.io/use-waypoint-canary-namespace";
const CANARY_WEIGHT: &str = "istio.io/use-waypoint-canary-weight";

/// The class of waypoints that are no Envoy.
const AGENTGATEWAY_CLASS: &str = "istio-agentgateway-waypoint";

/// What stands at one point.
#[derive(Debug, Clone, Default)]
pub struct AtPoint {
    /// AuthorizationPolicies, in the order of namespace and name.
    pub policies: Vec<Arc<Policy>>,
    /// Rules of the RequestAuthentications.
    pub token_rules: Vec<TokenRule>,
    /// Headers that these rules make from tokens, in lower case, and how.
    pub headers_set: Vec<(String, String)>,
    /// Why the point cannot be modelled, one reason an object; empty when it can.
    pub opaque: Vec<Unmodelled>,
}

/// An object that is not modelled, and what it says: edited, it is another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmodelled {
    /// Which, in words.
    pub reason: String,
    /// Its `spec`.
    pub content: String,
}

impl Unmodelled {
    /// An object with its manifest.
    pub fn new(reason: impl Into<String>, raw: &Value) -> Self {
        Self {
            reason: reason.into(),
            content: raw["spec"].to_string(),
        }
    }
}

impl AtPoint {
    /// The kind of the point, if it cannot be modelled.
    pub fn opaque_kind(&self) -> Option<PointKind> {
        if self.opaque.is_empty() {
            return None;
        }
        let joined = |part: fn(&Unmodelled) -> &str| -> String {
            let parts: Vec<&str> = self.opaque.iter().map(part).collect();
            parts.join(", ")
        };
        Some(PointKind::Opaque {
            reason: joined(|one| &one.reason),
            content: joined(|one| &one.content).into(),
        })
    }
}

/// An AuthorizationPolicy by index, with what it means if that was understood.
type Read = (usize, Option<Arc<Policy>>);

/// What stands at pods, by namespace, labels, and what else decides.
type Found<T> = RwLock<FxHashMap<(SmolStr, Labels, T), AtPoint>>;

/// Policies of a mesh, indexed by namespace.
pub struct Attachments<'a> {
    mesh: &'a Mesh,
    /// Indexes into `mesh.authorization_policies`, with what each means, by namespace.
    policies: BTreeMap<SmolStr, Vec<Read>>,
    tokens: BTreeMap<SmolStr, Vec<usize>>,
    extensions: BTreeMap<SmolStr, Vec<usize>>,
    /// What was found at sidecars and ztunnels, by namespace, labels, and revision or owner.
    proxies: Found<SmolStr>,
    ztunnels: Found<bool>,
    /// Routes and transports that change what later points see.
    pub(super) rewrites: super::rewrites::Rewrites,
    /// Who is sent to some pods of a Service alone.
    pub(super) pins: super::pins::Pins,
}

impl<'a> Attachments<'a> {
    /// Indexes a mesh once.
    pub fn of(mesh: &'a Mesh) -> Self {
        let mut policies: BTreeMap<SmolStr, Vec<_>> = BTreeMap::new();
        for (index, policy) in mesh.authorization_policies.iter().enumerate() {
            let meaning = policy.meaning.as_ref().ok().map(Arc::clone);
            policies
                .entry(policy.name.namespace.clone())
                .or_default()
                .push((index, meaning));
        }
        Self {
            mesh,
            proxies: RwLock::default(),
            ztunnels: RwLock::default(),
            rewrites: super::rewrites::Rewrites::of(mesh),
            pins: super::pins::Pins::of(mesh),
            policies,
            tokens: by_namespace(
                mesh.request_authentications
                    .iter()
                    .map(|one| &one.name.namespace),
            ),
            extensions: by_namespace(
                mesh.extension_policies
                    .iter()
                    .map(|one| &one.name.namespace),
            ),
        }
    }

    /// Where somebody gets who dials a server and arrives in this mode.
    pub fn leads(&self, mode: CallerMode, dial: Dial, server: Server, content: Content) -> Leads {
        self.pins.leads(self.mesh, mode, dial, server, content)
    }

    /// At the sidecar or the gateway of a revision in front of pods with these labels. A Gateway API
    /// gateway also takes what targets its Gateway (`ENABLE_SELECTOR_BASED_K8S_GATEWAY_POLICY`, on by
    /// default).
    pub fn at_proxy(
        &self,
        namespace: &str,
        labels: &Labels,
        revision: &str,
        gateway: Option<&ObjectName>,
    ) -> AtPoint {
        let collect = || self.collect_at_proxy(namespace, labels, revision, gateway);
        if gateway.is_some() {
            return collect();
        }
        let key = (namespace.into(), labels.clone(), revision.into());
        once(&self.proxies, key, collect)
    }

    fn collect_at_proxy(
        &self,
        namespace: &str,
        labels: &Labels,
        revision: &str,
        gateway: Option<&ObjectName>,
    ) -> AtPoint {
        self.collect(
            &[&self.mesh.settings.root_namespace, namespace],
            revision,
            |attachment, policy_namespace| {
                let targeted = gateway.is_some_and(|gateway| {
                    policy_namespace == gateway.namespace
                        && targets(attachment, |target| {
                            target.kind == "Gateway" && target.name == gateway.name
                        })
                });
                targeted
                    || selects_at_sidecar(
                        attachment,
                        policy_namespace,
                        &self.mesh.settings.root_namespace,
                        namespace,
                        labels,
                    )
            },
        )
    }

    /// At the ztunnel in front of pods with these labels: nothing with targetRefs; `selector: {}`
    /// attaches to nothing, and a pod without any label takes every selector
    /// (istio pilot/pkg/serviceregistry/ambient/workloads.go `buildWorkloadPolicies`,
    /// pkg/kube/krt/filter.go `Matches`); `owned` pods have labels of their controller, which are not
    /// listed. RequestAuthentications and extensions have no effect there.
    pub fn at_ztunnel(&self, namespace: &str, labels: &Labels, owned: bool) -> AtPoint {
        let key = (namespace.into(), labels.clone(), owned);
        once(&self.ztunnels, key, || {
            self.collect_at_ztunnel(namespace, labels, owned)
        })
    }

    fn collect_at_ztunnel(&self, namespace: &str, labels: &Labels, owned: bool) -> AtPoint {
        let mut at = AtPoint::default();
        self.each_policy(
            &[&self.mesh.settings.root_namespace, namespace],
            self.ambient_index_reads_revisions().then_some(""),
            &mut at,
            |attachment, _| match attachment {
                Attachment::Namespace => true,
                Attachment::EmptySelector {
                    match_labels_written,
                } => *match_labels_written,
                Attachment::Selector(selector) => {
                    (labels.is_empty() && !owned) || labels.selected_by(selector)
                }
                Attachment::Targets(_) => false,
            },
        );
        at
    }

    /// At a waypoint: on the chains of a Service, or (`None`) on those of pod addresses, where
    /// only what targets the Gateway or its class applies.
    pub fn at_waypoint(&self, waypoint: &Waypoint, service: Option<&Service>) -> AtPoint {
        let root = &self.mesh.settings.root_namespace;
        let mut namespaces: Vec<&str> = vec![root, &waypoint.name.namespace];
        if let Some(service) = service {
            namespaces.push(&service.name.namespace);
        }
        let mut at = self.collect(&namespaces, "", |attachment, policy_namespace| {
            targets(attachment, |target| match target.kind.as_str() {
                "GatewayClass" => policy_namespace == root && target.name == WAYPOINT_CLASS,
                "Gateway" => {
                    policy_namespace == waypoint.name.namespace && target.name == waypoint.name.name
                }
                "Service" => service.is_some_and(|service| {
                    policy_namespace == service.name.namespace && target.name == service.name.name
                }),
                _ => false,
            })
        });
        // Policies of the waypoint's own pods, read as for TCP before any Service is known, are not modelled
        // (istio pilot/pkg/networking/core/listener_waypoint.go `buildHCMConnectTerminateChain`).
        let layered = "ENABLE_LAYERED_WAYPOINT_AUTHORIZATION_POLICIES";
        let mut control_planes = self.mesh.control_planes.iter();
        if control_planes.any(|one| one.flag(layered, false)) {
            at.opaque.push(Unmodelled {
                reason: format!(
                    "istiod's {layered}, by which waypoint {} reads selectors",
                    waypoint.name
                ),
                content: String::new(),
            });
        }
        if let Some(service) = service {
            at.opaque.extend(self.canary(service));
        }
        // Its own translation of policies is not modelled (istio pilot/pkg/model/context.go
        // `IsAgentgateway`).
        if waypoint.class == AGENTGATEWAY_CLASS {
            let reason = format!("waypoint {} is an agentgateway", waypoint.name);
            at.opaque.push(Unmodelled::new(reason, &Value::Null));
        }
        at
    }

    /// A second waypoint of a Service, which gets a share of the requests and has policies of its own (since
    /// Istio 1.31, pilot/pkg/serviceregistry/ambient/waypoints.go).
    fn canary(&self, service: &Service) -> Option<Unmodelled> {
        let namespace = self.mesh.namespaces.get(&service.name.namespace);
        let mut holders = std::iter::once((&service.labels, &service.annotations))
            .chain(namespace.map(|one| (&one.labels, &one.annotations)));
        holders.find_map(|(labels, annotations)| {
            let canary = labels.get(CANARY)?;
            let weight = annotations.get(CANARY_WEIGHT).unwrap_or_default();
            let other = labels.get(CANARY_NAMESPACE).unwrap_or_default();
            Some(Unmodelled {
                reason: format!("the label {CANARY} of Service {}", service.name),
                content: format!("{other}/{canary} {weight}"),
            })
        })
    }

    /// Whether the istiod of a revision (empty: that of waypoints and ztunnel) reads an object: one with
    /// the label `istio.io/rev` is for that revision alone (istio pkg/config/model.go
    /// `LabelsInRevision`). Where the revision is not known, the point is not modelled.
    fn reads(
        &self,
        labels: &Labels,
        revision: &str,
        name: impl Fn() -> String,
        raw: &Value,
        at: &mut AtPoint,
    ) -> bool {
        let Some(wanted) = labels.get("istio.io/rev") else {
            return true;
        };
        let only = match self.mesh.control_planes.as_slice() {
            [only] => Some(only.revision.as_str()),
            _ => None,
        };
        let tags = &self.mesh.revision_tags;
        let named = tags.iter().find(|tag| tag.tag == revision);
        let known = named.map_or(revision, |tag| tag.revision.as_str());
        match only.or(Some(known).filter(|known| !known.is_empty())) {
            Some(revision) => revision == wanted,
            None => {
                let reason = format!("{} is for revision {wanted}", name());
                at.opaque.push(Unmodelled::new(reason, raw));
                false
            }
        }
    }

    /// The index that feeds ztunnel passes over objects of other revisions since Istio 1.27.
    fn ambient_index_reads_revisions(&self) -> bool {
        let versions = self.mesh.control_planes.iter();
        versions
            .filter_map(|one| one.version.as_ref())
            .all(|version| version.minor >= 27)
    }

    fn collect(
        &self,
        namespaces: &[&str],
        revision: &str,
        attaches: impl Fn(&Attachment, &str) -> bool,
    ) -> AtPoint {
        let mut at = AtPoint::default();
        self.each_policy(namespaces, Some(revision), &mut at, &attaches);
        for namespace in distinct(namespaces) {
            for index in self.tokens.get(namespace).into_iter().flatten() {
                let authentication = &self.mesh.request_authentications[*index];
                let name = || format!("RequestAuthentication {}", authentication.name);
                if attaches(&authentication.attachment, namespace)
                    && self.reads(
                        &authentication.labels,
                        revision,
                        name,
                        &authentication.raw,
                        &mut at,
                    )
                {
                    at.token_rules.extend(authentication.token_rules());
                    at.headers_set.extend(authentication.headers_set());
                }
            }
            for index in self.extensions.get(namespace).into_iter().flatten() {
                let extension = &self.mesh.extension_policies[*index];
                let name = || format!("{} {}", extension.kind.row().name, extension.name);
                if extension.kind != Kind::Telemetry
                    && attaches(&extension.attachment, namespace)
                    && self.reads(&extension.labels, revision, name, &extension.raw, &mut at)
                {
                    at.opaque.push(Unmodelled::new(name(), &extension.raw));
                }
            }
        }
        at
    }

    fn each_policy(
        &self,
        namespaces: &[&str],
        revision: Option<&str>,
        at: &mut AtPoint,
        attaches: impl Fn(&Attachment, &str) -> bool,
    ) {
        for namespace in distinct(namespaces) {
            for (index, meaning) in self.policies.get(namespace).into_iter().flatten() {
                let policy = &self.mesh.authorization_policies[*index];
                let name = || format!("AuthorizationPolicy {}", policy.name);
                if !attaches(&policy.attachment, namespace)
                    || revision.is_some_and(|revision| {
                        !self.reads(&policy.labels, revision, name, &policy.raw, at)
                    })
                {
                    continue;
                }
                match meaning {
                    Some(meaning) => at.policies.push(Arc::clone(meaning)),
                    None => {
                        let reason = format!("{} is not understood", name());
                        at.opaque.push(Unmodelled::new(reason, &policy.raw));
                    }
                }
            }
        }
    }
}

/// What is found for a key, looked for once.
fn once<K: Eq + Hash>(
    found: &RwLock<FxHashMap<K, AtPoint>>,
    key: K,
    look: impl FnOnce() -> AtPoint,
) -> AtPoint {
    let known = found.read().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(&key) {
        return known.clone();
    }
    drop(known);
    let at = look();
    let mut known = found.write().unwrap_or_else(PoisonError::into_inner);
    known.insert(key, at.clone());
    at
}

fn by_namespace<'n>(names: impl Iterator<Item = &'n SmolStr>) -> BTreeMap<SmolStr, Vec<usize>> {
    let mut map: BTreeMap<SmolStr, Vec<usize>> = BTreeMap::new();
    for (index, namespace) in names.enumerate() {
        map.entry(namespace.clone()).or_default().push(index);
    }
    map
}

fn targets(attachment: &Attachment, wanted: impl Fn(&TargetReference) -> bool) -> bool {
    matches!(attachment, Attachment::Targets(list) if list.iter().any(wanted))
}

fn distinct<'n>(namespaces: &[&'n str]) -> Vec<&'n str> {
    let mut list = namespaces.to_vec();
    list.sort_unstable();
    list.dedup();
    list
}
