//! One document to one typed object: what a kind keeps of it, and what is dropped at the door.
//!
//! In: a tree, or the text of a JSON object. Out: an [`AnyObject`], or why there is none.
//! Invariant: of a Secret nothing but metadata is ever built, and `last-applied-configuration` is
//! gone, which may quote a Secret.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;
use smol_str::SmolStr;

use super::yaml::deserialize::FieldError;
use super::yaml::tree::{Node, NodeValue};
use crate::api;
use crate::snapshot::{AnyObject, Kind, Metadata, Object, Origin};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What makes a document a patch for kustomize, which says what to do with an object elsewhere
/// (`$patch: delete`), and no object.
pub(crate) const PATCH: &str = "$patch";

/// Where a namespaced object lands when nobody says.
const DEFAULT_NAMESPACE: &str = "default";

/// What an object says about itself before its body is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) api_version: SmolStr,
    pub(crate) kind: SmolStr,
}

/// Why a mapping has no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadError {
    /// It has neither field: a values file, a configuration of something else.
    NoObject,
    /// It has one of the two.
    Missing(&'static str),
}

impl Head {
    /// The head of a tree; an item of a typed list (`PodList`) takes the list's.
    pub(crate) fn of(node: &Node<'_>, inherited: Option<&Self>) -> Result<Self, HeadError> {
        let text = |key: &str| {
            node.get(key)
                .and_then(Node::text)
                .filter(|text| !text.is_empty())
        };
        match (text("apiVersion"), text("kind"), inherited) {
            (Some(api_version), Some(kind), _) => Ok(Self {
                api_version: api_version.into(),
                kind: kind.into(),
            }),
            (None, None, Some(inherited)) => Ok(inherited.clone()),
            (None, None, None) => Err(HeadError::NoObject),
            (None, Some(_), _) => Err(HeadError::Missing("apiVersion")),
            (Some(_), None, _) => Err(HeadError::Missing("kind")),
        }
    }

    /// Whether it names a list: `List`, `PodList`.
    pub(crate) fn is_list(&self) -> bool {
        self.kind.ends_with("List")
    }

    /// For `PodList`: the head of its items. `List` itself says nothing about them.
    pub(crate) fn of_items(&self) -> Option<Self> {
        let item = self.kind.strip_suffix("List")?;
        (!item.is_empty()).then(|| Self {
            api_version: self.api_version.clone(),
            kind: item.into(),
        })
    }

    /// `apps/v1/Deployment`, as unused kinds are counted.
    pub(crate) fn counted_as(&self) -> String {
        format!("{}/{}", self.api_version, self.kind)
    }

    pub(crate) fn known_kind(&self) -> Option<Kind> {
        Kind::of(&self.api_version, &self.kind)
    }
}

/// A body to build types from.
pub(crate) trait Body {
    /// Builds a type from the whole object.
    fn read<T: DeserializeOwned>(&self) -> Result<T, FieldError>;

    /// The whole object as JSON, in memory of just the size.
    fn value(&self) -> Result<Value, FieldError>;
}

impl Body for Node<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, FieldError> {
        T::deserialize(self)
    }

    fn value(&self) -> Result<Value, FieldError> {
        self.to_json()
    }
}

/// Builds the object. `Ok(None)` for a ConfigMap that configures neither mesh nor CNI.
pub(crate) fn build(
    kind: Kind,
    head: Head,
    mut metadata: Metadata,
    body: &impl Body,
    origin: Origin,
) -> Result<Option<AnyObject>, FieldError> {
    if !kind.knows_version(&head.api_version) {
        return Err(serde::de::Error::custom(format!(
            "castoff does not know `{}` and cannot tell what it means there; known is {}",
            head.api_version,
            kind.row().versions.join(", ")
        )));
    }
    metadata.annotations.remove(LAST_APPLIED);
    if kind.row().namespaced {
        if metadata.namespace.is_empty() {
            metadata.namespace = SmolStr::new_static(DEFAULT_NAMESPACE);
        }
    } else {
        metadata.namespace = SmolStr::default();
    }
    if kind == Kind::ConfigMap && !may_configure_mesh(&metadata) {
        return Ok(None);
    }
    let shell = Shell {
        head,
        metadata,
        origin,
    };
    Ok(Some(match kind {
        Kind::Namespace => AnyObject::Namespace(shell.around(api::Empty {})),
        Kind::Pod => AnyObject::Pod(shell.around(body.read()?)),
        Kind::Service => AnyObject::Service(shell.around(body.read()?)),
        Kind::ServiceAccount => AnyObject::ServiceAccount(shell.around(api::Empty {})),
        Kind::Node => AnyObject::Node(shell.around(body.read()?)),
        Kind::ConfigMap => {
            let map: api::ConfigMap = body.read()?;
            if shell.metadata.name.starts_with("istio-")
                && !keeps_without_mesh_config(&shell.metadata.name)
                && !map.data.contains_key("mesh")
            {
                return Ok(None);
            }
            AnyObject::ConfigMap(shell.around(map))
        }
        Kind::Secret => AnyObject::Secret(shell.around(api::Empty {})),
        Kind::EndpointSlice => AnyObject::EndpointSlice(shell.around(body.read()?)),
        Kind::Deployment
        | Kind::ReplicaSet
        | Kind::StatefulSet
        | Kind::DaemonSet
        | Kind::Job
        | Kind::CronJob
        | Kind::Rollout => AnyObject::Owner(Box::new(shell.around(body.read()?))),
        Kind::MutatingWebhookConfiguration => {
            AnyObject::MutatingWebhook(shell.around(body.read()?))
        }
        Kind::CustomResourceDefinition => {
            AnyObject::CustomResourceDefinition(shell.around(body.read()?))
        }
        Kind::NetworkPolicy => AnyObject::NetworkPolicy(shell.around(body.read()?)),
        kind => {
            let mut whole = body.value()?;
            drop_bookkeeping(&mut whole, &shell.head);
            AnyObject::Resource(kind, shell.around(whole))
        }
    }))
}

struct Shell {
    head: Head,
    metadata: Metadata,
    origin: Origin,
}

impl Shell {
    fn around<T>(self, body: T) -> Object<T> {
        Object {
            api_version: self.head.api_version,
            kind: self.head.kind,
            metadata: self.metadata,
            body: Arc::new(body),
            origin: self.origin,
        }
    }
}

fn keeps_without_mesh_config(name: &str) -> bool {
    name.starts_with("istio-cni-config") || name.starts_with("istio-sidecar-injector")
}

/// `istio`, `istio-<revision>`, `istio-cni-config*`, `istio-sidecar-injector*`, `cilium-config`.
/// `istio-ca-root-cert` is in every namespace and configures nothing.
fn may_configure_mesh(metadata: &Metadata) -> bool {
    let name = metadata.name.as_str();
    name == "istio"
        || (name.starts_with("istio-") && name != "istio-ca-root-cert")
        || (name == "cilium-config" && metadata.namespace == "kube-system")
}

/// Bookkeeping of the API server and of kubectl: never part of what a user wrote.
fn drop_bookkeeping(whole: &mut Value, head: &Head) {
    let Some(object) = whole.as_object_mut() else {
        return;
    };
    for (key, value) in [("apiVersion", &head.api_version), ("kind", &head.kind)] {
        object
            .entry(key)
            .or_insert_with(|| Value::String(value.to_string()));
    }
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return;
    };
    metadata.shift_remove("managedFields");
    if let Some(annotations) = metadata
        .get_mut("annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.shift_remove(LAST_APPLIED);
    }
}

/// Metadata of a tree; an object without a name is refused.
pub(crate) fn metadata_of(node: &Node<'_>) -> Result<Metadata, FieldError> {
    #[derive(serde::Deserialize)]
    struct WithMetadata {
        #[serde(default)]
        metadata: Metadata,
    }
    if !matches!(node.value, NodeValue::Map(_)) {
        return Err(serde::de::Error::custom("not an object"));
    }
    let WithMetadata { metadata } = serde::Deserialize::deserialize(node)?;
    Ok(metadata)
}

/// Refuses metadata without a name.
pub(crate) fn check_name(metadata: &Metadata) -> Result<(), FieldError> {
    if metadata.name.is_empty() {
        return Err(serde::de::Error::custom(
            "`metadata.name` is missing; the API server makes names of `generateName`: give it one",
        ));
    }
    Ok(())
}
