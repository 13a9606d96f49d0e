//! What was read, typed and sorted, with the place each object came from.
//!
//! In: documents of a [`crate::source`]. Out: one list a kind, sorted by namespace and name, and
//! the gaps: what could not be read. Invariant: a kind that nobody could list is a [`Gap`], never
//! an empty list that looks like absence.

pub mod collect;
pub mod gap;
pub mod kinds;
pub mod labels;
pub mod object;
pub mod origin;
pub(crate) mod shared;

use std::collections::BTreeMap;

pub use collect::{AnyObject, find};
pub use gap::{Gap, Problem, ProblemLevel};
pub use kinds::Kind;
pub use labels::Labels;
pub use object::{Metadata, Object, ObjectName, OwnerReference};
pub use origin::Origin;
use serde_json::Value;

use crate::api;

/// Everything that was read. Lists are sorted by namespace, then name, and hold each object once.
#[derive(Debug, Default, Clone)]
pub struct Snapshot {
    /// `v1/Namespace`.
    pub namespaces: Vec<Object<api::Empty>>,
    /// `v1/Pod`.
    pub pods: Vec<Object<api::Pod>>,
    /// `v1/Service`.
    pub services: Vec<Object<api::Service>>,
    /// `v1/ServiceAccount`.
    pub service_accounts: Vec<Object<api::Empty>>,
    /// `v1/Node`.
    pub nodes: Vec<Object<api::Node>>,
    /// `v1/ConfigMap`: only those that configure the mesh or the CNI (by name).
    pub config_maps: Vec<Object<api::ConfigMap>>,
    /// `v1/Secret`: metadata only, whatever the source held.
    pub secrets: Vec<Object<api::Empty>>,
    /// `discovery.k8s.io/v1/EndpointSlice`.
    pub endpoint_slices: Vec<Object<api::EndpointSlice>>,
    /// Owners of pods: Deployment, ReplicaSet, StatefulSet, DaemonSet, Job, CronJob, Argo Rollout.
    pub owners: Vec<Object<api::PodOwner>>,
    /// `admissionregistration.k8s.io/v1/MutatingWebhookConfiguration`.
    pub mutating_webhooks: Vec<Object<api::MutatingWebhookConfiguration>>,
    /// `apiextensions.k8s.io/v1/CustomResourceDefinition`.
    pub custom_resource_definitions: Vec<Object<api::CustomResourceDefinition>>,
    /// `networking.k8s.io/v1/NetworkPolicy`.
    pub network_policies: Vec<Object<api::NetworkPolicy>>,
    /// Istio and Gateway API objects by kind: the whole object as JSON, unknown fields included,
    /// so that a copy loses nothing.
    pub resources: BTreeMap<Kind, Vec<Object<Value>>>,
    /// Kinds that were not or not wholly readable.
    pub gaps: Vec<Gap>,
    /// What was odd in the input: broken documents, duplicates, skipped files.
    pub problems: Vec<Problem>,
    /// Objects of kinds that castoff does not use, counted by `apiVersion/kind`.
    pub unused_kinds: BTreeMap<String, usize>,
    /// Kinds of which the source held or listed at least one object, or that a cluster answered
    /// for. From files, a kind outside this set may exist in the cluster without having been given.
    pub seen_kinds: std::collections::BTreeSet<Kind>,
}

impl Snapshot {
    /// Objects of an Istio or Gateway API kind; empty when none was read.
    pub fn resources(&self, kind: Kind) -> &[Object<Value>] {
        self.resources.get(&kind).map_or(&[], Vec::as_slice)
    }
}
