//! Which new pods get a sidecar, which are captured by ztunnel, and why.
//!
//! In: labels of namespaces and pods, revision tags, webhook selectors. Out: a mode with its
//! reason. Invariant: the rules are the webhook's selectors, then the injector's own
//! (istio manifests/charts/istio-control/istio-discovery/templates/mutatingwebhook.yaml,
//! pkg/kube/inject/inject.go `injectRequired`), then the CNI agent's (cni/pkg/util).

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::injector::InjectorConfiguration;
use super::namespace::{Injection, Namespace};
use super::workload::{DataPlaneMode, Role};
use crate::api::cluster::Webhook;
use crate::api::pod::{Pod, PodSpec};
use crate::snapshot::{Labels, Metadata, Object, Snapshot};

/// Namespaces that the injector never touches (pkg/kube/inject/inject.go `IgnoredNamespaces`).
pub(super) const NEVER_INJECTED: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

/// What decides about new pods.
pub(super) struct Rules<'a> {
    pub(super) namespaces: &'a BTreeMap<SmolStr, Namespace>,
    /// The injectors' webhooks, when any was given: what they select is injected and nothing else.
    pub(super) injectors: Vec<Injector<'a>>,
    pub(super) injects_by_default: bool,
    /// The injectors' own configuration, by revision.
    pub(super) configurations: BTreeMap<SmolStr, InjectorConfiguration>,
    /// Whether there is a ztunnel, without which a label captures nothing.
    pub(super) ambient_installed: bool,
    /// Whether new sidecars accept HBONE.
    pub(super) injects_hbone: bool,
}

/// One webhook of an injector.
pub(super) struct Injector<'a> {
    revision: &'a str,
    webhook: &'a Webhook,
}

/// The webhooks that inject sidecars, of all revisions and tags.
pub(super) fn injectors(snapshot: &Snapshot) -> Vec<Injector<'_>> {
    snapshot
        .mutating_webhooks
        .iter()
        .flat_map(|configuration| {
            let labels = &configuration.metadata.labels;
            let revision = labels.get("istio.io/rev").unwrap_or("default");
            configuration
                .body
                .webhooks
                .iter()
                .filter(|webhook| webhook.name.ends_with("sidecar-injector.istio.io"))
                .map(move |webhook| Injector { revision, webhook })
        })
        .collect()
}

/// The mode of new pods.
pub(super) struct Next {
    pub(super) mode: DataPlaneMode,
    pub(super) reason: SmolStr,
    pub(super) revision: SmolStr,
}

impl Rules<'_> {
    pub(super) fn next_mode(
        &self,
        namespace: &str,
        metadata: &Metadata,
        spec: &PodSpec,
        role: &Role,
    ) -> Next {
        if *role != Role::Application {
            return next(DataPlaneMode::None, "not an application", "");
        }
        let labelled = self.namespaces.get(namespace);
        if let Some((revision, reason)) = self.injected((namespace, labelled), metadata, spec) {
            return next(DataPlaneMode::Sidecar, &reason, &revision);
        }
        match self.enrolled(namespace, metadata, spec.host_network) {
            Some(reason) => next(DataPlaneMode::Ambient, reason, ""),
            None => next(DataPlaneMode::None, "neither injected nor enrolled", ""),
        }
    }

    /// Whether new pods of a gateway get their proxy (image `auto`) for the labels of their namespace alone, so that
    /// without these the next one starts without.
    pub(super) fn needs_namespace_label(
        &self,
        namespace: &str,
        metadata: &Metadata,
        spec: &PodSpec,
        role: &Role,
    ) -> bool {
        let Some(labelled) = self.namespaces.get(namespace) else {
            return false;
        };
        let without = labelled.without_injection(self.injects_by_default);
        let injected = |one| self.injected((namespace, Some(one)), metadata, spec);
        let is_gateway = match role {
            Role::Gateway => true,
            // One that people deploy for a Gateway object; istiod's own pods are complete, and never injected.
            Role::KubernetesGateway(_) => metadata
                .annotations
                .get("inject.istio.io/templates")
                .is_some(),
            _ => false,
        };
        is_gateway && injected(labelled).is_some() && injected(&without).is_none()
    }

    /// The revision that injects new pods, and by which label.
    fn injected(
        &self,
        (namespace, labelled): (&str, Option<&Namespace>),
        metadata: &Metadata,
        spec: &PodSpec,
    ) -> Option<(SmolStr, String)> {
        if NEVER_INJECTED.contains(&namespace) || spec.host_network {
            return None;
        }
        let by_label = self.by_label((namespace, labelled), &metadata.labels);
        let injects = |revision: &str| match self.configurations.get(revision) {
            Some(configuration) => configuration.injects(metadata),
            None => InjectorConfiguration::default().injects(metadata),
        };
        if self.injectors.is_empty() {
            return by_label.filter(|(revision, _)| injects(revision));
        }
        let mut labels = labelled.map(|one| one.labels.clone()).unwrap_or_default();
        labels.set("kubernetes.io/metadata.name", namespace);
        let injector = self.injectors.iter().find(|one| {
            one.webhook.namespace_selector.matches(&labels)
                && one.webhook.object_selector.matches(&metadata.labels)
        })?;
        if !injects(injector.revision) {
            return None;
        }
        let reason = by_label.map_or_else(
            || format!("the webhook {} selects its pods", injector.webhook.name),
            |(_, reason)| reason,
        );
        Some((injector.revision.into(), reason))
    }

    /// What the labels ask for, when the webhooks themselves were not given.
    fn by_label(
        &self,
        (namespace, labelled): (&str, Option<&Namespace>),
        pod_labels: &Labels,
    ) -> Option<(SmolStr, String)> {
        let pod_label = pod_labels.get("sidecar.istio.io/inject");
        let injection = labelled.map_or(&Injection::Unlabelled, |one| &one.injection);
        match injection {
            Injection::Disabled => None,
            Injection::Enabled => Some((
                "default".into(),
                format!("namespace {namespace} has istio-injection=enabled"),
            )),
            Injection::Revision(revision) => Some((
                revision.clone(),
                format!("namespace {namespace} has istio.io/rev={revision}"),
            )),
            Injection::Unlabelled => match (pod_labels.get("istio.io/rev"), pod_label) {
                (Some(revision), _) => Some((
                    revision.into(),
                    format!("its pods have istio.io/rev={revision}"),
                )),
                (None, Some("true")) => Some((
                    "default".into(),
                    "its pods have sidecar.istio.io/inject=true".to_owned(),
                )),
                _ if self.injects_by_default => Some((
                    "default".into(),
                    "namespaces are injected by default".to_owned(),
                )),
                _ => None,
            },
        }
    }

    fn enrolled(
        &self,
        namespace: &str,
        metadata: &Metadata,
        host_network: bool,
    ) -> Option<&'static str> {
        if host_network || !self.ambient_installed {
            return None;
        }
        match metadata.labels.get("istio.io/dataplane-mode") {
            Some("ambient") => Some("its pods have istio.io/dataplane-mode=ambient"),
            Some(_) => None,
            None => self
                .namespaces
                .get(namespace)
                .is_some_and(|one| one.ambient)
                .then_some("its namespace has istio.io/dataplane-mode=ambient"),
        }
    }

    /// Whether a running pod without sidecar is captured: the agent's own annotation where it is
    /// there, else the labels that it acts on.
    pub(super) fn is_captured(&self, pod: &Object<Pod>) -> bool {
        match pod.metadata.annotations.get("ambient.istio.io/redirection") {
            Some(state) => state == "enabled",
            None => self
                .enrolled(
                    &pod.metadata.namespace,
                    &pod.metadata,
                    pod.body.spec.host_network,
                )
                .is_some(),
        }
    }
}

fn next(mode: DataPlaneMode, reason: &str, revision: &str) -> Next {
    Next {
        mode,
        reason: reason.into(),
        revision: revision.into(),
    }
}
