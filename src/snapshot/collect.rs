//! From objects in any order to a [`Snapshot`]: the one way in for every source.
//!
//! In: typed objects, gaps, problems, counts of unused kinds. Out: sorted lists that hold each
//! object once. Invariant: of two objects with one name the later wins, and a problem names both
//! places: an error where their texts differ.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

use super::{
    Gap, Kind, Labels, Metadata, Object, ObjectName, Origin, Problem, ProblemLevel, Snapshot,
};
use crate::api;

/// An object of any kind that castoff reads, typed.
#[derive(Debug, Clone)]
pub enum AnyObject {
    /// See [`Snapshot::namespaces`].
    Namespace(Object<api::Empty>),
    /// See [`Snapshot::pods`].
    Pod(Object<api::Pod>),
    /// See [`Snapshot::services`].
    Service(Object<api::Service>),
    /// See [`Snapshot::service_accounts`].
    ServiceAccount(Object<api::Empty>),
    /// See [`Snapshot::nodes`].
    Node(Object<api::Node>),
    /// See [`Snapshot::config_maps`].
    ConfigMap(Object<api::ConfigMap>),
    /// See [`Snapshot::secrets`].
    Secret(Object<api::Empty>),
    /// See [`Snapshot::endpoint_slices`].
    EndpointSlice(Object<api::EndpointSlice>),
    /// See [`Snapshot::owners`].
    Owner(Box<Object<api::PodOwner>>),
    /// See [`Snapshot::mutating_webhooks`].
    MutatingWebhook(Object<api::MutatingWebhookConfiguration>),
    /// See [`Snapshot::custom_resource_definitions`].
    CustomResourceDefinition(Object<api::CustomResourceDefinition>),
    /// See [`Snapshot::network_policies`].
    NetworkPolicy(Object<api::NetworkPolicy>),
    /// See [`Snapshot::resources`].
    Resource(Kind, Object<Value>),
}

impl AnyObject {
    /// Kind and name.
    pub fn identity(&self) -> (Kind, ObjectName) {
        fn owner_kind(object: &Object<api::PodOwner>) -> Kind {
            Kind::of(&object.api_version, &object.kind)
                .expect("only owners of a known kind are read")
        }
        match self {
            Self::Namespace(object) => (Kind::Namespace, object.object_name()),
            Self::Pod(object) => (Kind::Pod, object.object_name()),
            Self::Service(object) => (Kind::Service, object.object_name()),
            Self::ServiceAccount(object) => (Kind::ServiceAccount, object.object_name()),
            Self::Node(object) => (Kind::Node, object.object_name()),
            Self::ConfigMap(object) => (Kind::ConfigMap, object.object_name()),
            Self::Secret(object) => (Kind::Secret, object.object_name()),
            Self::EndpointSlice(object) => (Kind::EndpointSlice, object.object_name()),
            Self::Owner(object) => (owner_kind(object), object.object_name()),
            Self::MutatingWebhook(object) => {
                (Kind::MutatingWebhookConfiguration, object.object_name())
            }
            Self::CustomResourceDefinition(object) => {
                (Kind::CustomResourceDefinition, object.object_name())
            }
            Self::NetworkPolicy(object) => (Kind::NetworkPolicy, object.object_name()),
            Self::Resource(kind, object) => (*kind, object.object_name()),
        }
    }
}

/// Calls `$body` with `$list` bound to the list of a kind.
macro_rules! with_list {
    ($snapshot:expr, $kind:expr, $list:ident => $body:expr, none => $none:expr) => {
        match $kind {
            Kind::Namespace => {
                let $list = &mut $snapshot.namespaces;
                $body
            }
            Kind::Pod => {
                let $list = &mut $snapshot.pods;
                $body
            }
            Kind::Service => {
                let $list = &mut $snapshot.services;
                $body
            }
            Kind::ServiceAccount => {
                let $list = &mut $snapshot.service_accounts;
                $body
            }
            Kind::Node => {
                let $list = &mut $snapshot.nodes;
                $body
            }
            Kind::ConfigMap => {
                let $list = &mut $snapshot.config_maps;
                $body
            }
            Kind::Secret => {
                let $list = &mut $snapshot.secrets;
                $body
            }
            Kind::EndpointSlice => {
                let $list = &mut $snapshot.endpoint_slices;
                $body
            }
            Kind::Deployment
            | Kind::ReplicaSet
            | Kind::StatefulSet
            | Kind::DaemonSet
            | Kind::Job
            | Kind::CronJob
            | Kind::Rollout => {
                let $list = &mut $snapshot.owners;
                $body
            }
            Kind::MutatingWebhookConfiguration => {
                let $list = &mut $snapshot.mutating_webhooks;
                $body
            }
            Kind::CustomResourceDefinition => {
                let $list = &mut $snapshot.custom_resource_definitions;
                $body
            }
            Kind::NetworkPolicy => {
                let $list = &mut $snapshot.network_policies;
                $body
            }
            kind => match $snapshot.resources.get_mut(&kind) {
                Some($list) => $body,
                None => $none,
            },
        }
    };
}

impl Snapshot {
    /// Adds an object at the end of its list, unsorted; [`Snapshot::finish`] sorts.
    pub(crate) fn push(&mut self, object: AnyObject) {
        match object {
            AnyObject::Namespace(object) => self.namespaces.push(object),
            AnyObject::Pod(object) => self.pods.push(object),
            AnyObject::Service(object) => self.services.push(object),
            AnyObject::ServiceAccount(object) => self.service_accounts.push(object),
            AnyObject::Node(object) => self.nodes.push(object),
            AnyObject::ConfigMap(object) => self.config_maps.push(object),
            AnyObject::Secret(object) => self.secrets.push(object),
            AnyObject::EndpointSlice(object) => self.endpoint_slices.push(object),
            AnyObject::Owner(object) => self.owners.push(*object),
            AnyObject::MutatingWebhook(object) => self.mutating_webhooks.push(object),
            AnyObject::CustomResourceDefinition(object) => {
                self.custom_resource_definitions.push(object);
            }
            AnyObject::NetworkPolicy(object) => self.network_policies.push(object),
            AnyObject::Resource(kind, object) => {
                self.resources.entry(kind).or_default().push(object);
            }
        }
    }

    /// Joins snapshots, each read after the one before it. Call [`Snapshot::finish`] when all is
    /// there.
    pub(crate) fn joined(parts: Vec<Self>) -> Self {
        let mut parts = parts.into_iter();
        let mut all = parts.next().unwrap_or_default();
        let count = |length: fn(&Self) -> usize| parts.as_slice().iter().map(length).sum::<usize>();
        all.pods.reserve_exact(count(|part| part.pods.len()));
        all.services
            .reserve_exact(count(|part| part.services.len()));
        all.owners.reserve_exact(count(|part| part.owners.len()));
        all.endpoint_slices
            .reserve_exact(count(|part| part.endpoint_slices.len()));
        all.service_accounts
            .reserve_exact(count(|part| part.service_accounts.len()));
        for part in parts {
            all.append(part);
        }
        all
    }

    /// Takes over everything of another snapshot, as read after this one.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.namespaces.append(&mut other.namespaces);
        self.pods.append(&mut other.pods);
        self.services.append(&mut other.services);
        self.service_accounts.append(&mut other.service_accounts);
        self.nodes.append(&mut other.nodes);
        self.config_maps.append(&mut other.config_maps);
        self.secrets.append(&mut other.secrets);
        self.endpoint_slices.append(&mut other.endpoint_slices);
        self.owners.append(&mut other.owners);
        self.mutating_webhooks.append(&mut other.mutating_webhooks);
        self.custom_resource_definitions
            .append(&mut other.custom_resource_definitions);
        self.network_policies.append(&mut other.network_policies);
        for (kind, mut objects) in other.resources {
            self.resources.entry(kind).or_default().append(&mut objects);
        }
        self.gaps.append(&mut other.gaps);
        self.problems.append(&mut other.problems);
        for (kind, count) in other.unused_kinds {
            *self.unused_kinds.entry(kind).or_default() += count;
        }
        self.seen_kinds.append(&mut other.seen_kinds);
    }

    /// Sorts every list, keeps the later of two objects with one name, and sorts gaps and problems.
    pub(crate) fn finish(&mut self) {
        let problems = &mut self.problems;
        settle(&mut self.namespaces, problems);
        settle(&mut self.pods, problems);
        settle(&mut self.services, problems);
        settle(&mut self.service_accounts, problems);
        settle(&mut self.nodes, problems);
        settle(&mut self.config_maps, problems);
        settle(&mut self.secrets, problems);
        settle(&mut self.endpoint_slices, problems);
        settle(&mut self.owners, problems);
        settle(&mut self.mutating_webhooks, problems);
        settle(&mut self.custom_resource_definitions, problems);
        settle(&mut self.network_policies, problems);
        for objects in self.resources.values_mut() {
            settle(objects, problems);
        }
        self.problems.sort();
        self.problems.dedup();
        self.gaps.sort();
        self.gaps.dedup();
    }

    /// Whether no object was read.
    pub fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
            && self.pods.is_empty()
            && self.services.is_empty()
            && self.service_accounts.is_empty()
            && self.nodes.is_empty()
            && self.config_maps.is_empty()
            && self.secrets.is_empty()
            && self.endpoint_slices.is_empty()
            && self.owners.is_empty()
            && self.mutating_webhooks.is_empty()
            && self.custom_resource_definitions.is_empty()
            && self.network_policies.is_empty()
            && self.resources.values().all(Vec::is_empty)
    }

    /// All objects, kind by kind.
    pub fn into_objects(self) -> Vec<AnyObject> {
        let mut all = Vec::new();
        all.extend(self.namespaces.into_iter().map(AnyObject::Namespace));
        all.extend(self.pods.into_iter().map(AnyObject::Pod));
        all.extend(self.services.into_iter().map(AnyObject::Service));
        all.extend(
            self.service_accounts
                .into_iter()
                .map(AnyObject::ServiceAccount),
        );
        all.extend(self.nodes.into_iter().map(AnyObject::Node));
        all.extend(self.config_maps.into_iter().map(AnyObject::ConfigMap));
        all.extend(self.secrets.into_iter().map(AnyObject::Secret));
        all.extend(
            self.endpoint_slices
                .into_iter()
                .map(AnyObject::EndpointSlice),
        );
        let owners = self.owners.into_iter().map(Box::new);
        all.extend(owners.map(AnyObject::Owner));
        all.extend(
            self.mutating_webhooks
                .into_iter()
                .map(AnyObject::MutatingWebhook),
        );
        all.extend(
            self.custom_resource_definitions
                .into_iter()
                .map(AnyObject::CustomResourceDefinition),
        );
        all.extend(
            self.network_policies
                .into_iter()
                .map(AnyObject::NetworkPolicy),
        );
        for (kind, objects) in self.resources {
            all.extend(
                objects
                    .into_iter()
                    .map(|object| AnyObject::Resource(kind, object)),
            );
        }
        all
    }

    /// Puts an object in its place, replacing the one of the same kind and name. The replaced
    /// object's place is returned. For in-memory changes of a finished snapshot.
    pub fn upsert(&mut self, object: AnyObject) -> Option<Origin> {
        fn put<T>(list: &mut Vec<Object<T>>, object: Object<T>) -> Option<Origin> {
            match list.binary_search_by(|known| sort_key(known).cmp(&sort_key(&object))) {
                Ok(index) => Some(std::mem::replace(&mut list[index], object).origin),
                Err(index) => {
                    list.insert(index, object);
                    None
                }
            }
        }
        match object {
            AnyObject::Namespace(object) => put(&mut self.namespaces, object),
            AnyObject::Pod(object) => put(&mut self.pods, object),
            AnyObject::Service(object) => put(&mut self.services, object),
            AnyObject::ServiceAccount(object) => put(&mut self.service_accounts, object),
            AnyObject::Node(object) => put(&mut self.nodes, object),
            AnyObject::ConfigMap(object) => put(&mut self.config_maps, object),
            AnyObject::Secret(object) => put(&mut self.secrets, object),
            AnyObject::EndpointSlice(object) => put(&mut self.endpoint_slices, object),
            AnyObject::Owner(object) => put(&mut self.owners, *object),
            AnyObject::MutatingWebhook(object) => put(&mut self.mutating_webhooks, object),
            AnyObject::CustomResourceDefinition(object) => {
                put(&mut self.custom_resource_definitions, object)
            }
            AnyObject::NetworkPolicy(object) => put(&mut self.network_policies, object),
            AnyObject::Resource(kind, object) => {
                put(self.resources.entry(kind).or_default(), object)
            }
        }
    }

    /// Puts many objects in their places; of two with one name the later stays. Where
    /// [`Snapshot::upsert`] moves all that stands behind a new object, this sorts once.
    pub fn upsert_all(&mut self, objects: Vec<AnyObject>) {
        let (known, new): (Vec<AnyObject>, Vec<AnyObject>) =
            objects.into_iter().partition(|object| {
                let (kind, name) = object.identity();
                self.metadata_mut(kind, &name).is_some()
            });
        for object in known {
            self.upsert(object);
        }
        for object in new {
            self.push(object);
        }
        self.finish();
    }

    /// Removes an object; `false` when there was none.
    pub fn remove(&mut self, kind: Kind, name: &ObjectName) -> bool {
        with_list!(self, kind, list => {
            match position(list, kind, name) {
                Some(index) => {
                    list.remove(index);
                    true
                }
                None => false,
            }
        }, none => false)
    }

    /// Removes many objects, those of a kind in one pass.
    pub fn remove_all(&mut self, objects: &BTreeSet<&(Kind, ObjectName)>) {
        let mut kinds: Vec<Kind> = objects.iter().map(|(kind, _)| *kind).collect();
        kinds.dedup();
        for kind in kinds {
            with_list!(self, kind, list => {
                list.retain(|one| {
                    // Kinds differ only among owners.
                    let is_of_kind = one.kind == kind.row().name;
                    !(is_of_kind && objects.contains(&&(kind, one.object_name())))
                });
            }, none => {});
        }
    }

    /// Metadata of an object, to relabel it in memory. For Istio and Gateway API kinds the JSON
    /// body keeps its own copy of the metadata: change that too where it will be written out.
    pub fn metadata_mut(&mut self, kind: Kind, name: &ObjectName) -> Option<&mut Metadata> {
        with_list!(self, kind, list => {
            let index = position(list, kind, name)?;
            Some(&mut list[index].metadata)
        }, none => None)
    }

    /// The owner of pods of this kind and name (Deployment, StatefulSet and the like).
    pub fn owner(&self, kind: Kind, name: &ObjectName) -> Option<&Object<api::PodOwner>> {
        find(&self.owners, kind, name)
    }

    /// The same, to change it in memory.
    pub fn owner_mut(
        &mut self,
        kind: Kind,
        name: &ObjectName,
    ) -> Option<&mut Object<api::PodOwner>> {
        position(&self.owners, kind, name).map(|index| &mut self.owners[index])
    }

    /// Records that a kind could not be read.
    pub fn add_gap(&mut self, gap: Gap) {
        self.gaps.push(gap);
        self.gaps.sort();
        self.gaps.dedup();
    }
}

/// The order of a list; kinds differ only among owners.
fn sort_key<T>(object: &Object<T>) -> (&str, &str, &str) {
    (
        &object.metadata.namespace,
        &object.metadata.name,
        &object.kind,
    )
}

/// The object of a kind and name in a list of a finished snapshot.
pub fn find<'a, T>(list: &'a [Object<T>], kind: Kind, name: &ObjectName) -> Option<&'a Object<T>> {
    position(list, kind, name).map(|index| &list[index])
}

fn position<T>(list: &[Object<T>], kind: Kind, name: &ObjectName) -> Option<usize> {
    let wanted = (name.namespace.as_str(), name.name.as_str(), kind.row().name);
    list.binary_search_by(|known| sort_key(known).cmp(&wanted))
        .ok()
}

fn settle<T: Serialize>(list: &mut Vec<Object<T>>, problems: &mut Vec<Problem>) {
    if !list.is_sorted_by(|left, right| sort_key(left) < sort_key(right)) {
        list.sort_by(|left, right| sort_key(left).cmp(&sort_key(right)));
        list.dedup_by(|later, earlier| {
            let same = sort_key(later) == sort_key(earlier);
            if same {
                problems.push(given_twice(earlier, later));
                std::mem::swap(later, earlier);
            }
            same
        });
    }
    list.shrink_to_fit();
}

/// Two texts of one object: where they differ, nobody knows which of them the cluster has.
fn given_twice<T: Serialize>(earlier: &Object<T>, later: &Object<T>) -> Problem {
    let (level, texts) = if text(earlier) == text(later) {
        (ProblemLevel::Warning, "")
    } else {
        (ProblemLevel::Error, " with different texts")
    };
    Problem {
        origin: Some(later.origin.clone()),
        column: None,
        level,
        message: format!(
            "{} `{}` is given twice{texts}, first at {}: this one is used; remove one of them",
            later.kind,
            later.object_name(),
            earlier.origin
        ),
    }
}

/// What an object says, less what an API server adds to its metadata and the version it is written in.
fn text<T: Serialize>(object: &Object<T>) -> (Value, &Labels, &Labels) {
    let mut body = serde_json::to_value(&*object.body)
        .expect("types of `api` and JSON have string keys only, which always serialise");
    if let Some(fields) = body.as_object_mut() {
        fields.remove("metadata");
        fields.remove("apiVersion");
    }
    (body, &object.metadata.labels, &object.metadata.annotations)
}
