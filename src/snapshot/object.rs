//! One object: its metadata, its body in our types, and where it came from.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{Labels, Origin};

/// Namespace and name. `namespace` is empty for objects of the whole cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectName {
    /// Namespace, or empty.
    pub namespace: SmolStr,
    /// Name.
    pub name: SmolStr,
}

impl ObjectName {
    /// A namespaced name.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl std::fmt::Display for ObjectName {
    /// `namespace/name`, or `name` for an object of the whole cluster.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            formatter.write_str(&self.name)
        } else {
            write!(formatter, "{}/{}", self.namespace, self.name)
        }
    }
}

/// `metadata` as far as castoff uses it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Name.
    pub name: SmolStr,
    /// Namespace; empty for objects of the whole cluster. Namespaced objects read from files
    /// without one get `default`, as kubectl would put them.
    pub namespace: SmolStr,
    /// Labels.
    pub labels: Labels,
    /// Annotations, without `kubectl.kubernetes.io/last-applied-configuration`.
    pub annotations: Labels,
    /// Owner references; the controlling one first.
    pub owner_references: Vec<OwnerReference>,
    /// RFC 3339 time, as text: sorts by age. Decides which of two VirtualServices or
    /// PeerAuthentications is the older.
    pub creation_timestamp: Option<SmolStr>,
    /// Set while the object is being deleted.
    pub deletion_timestamp: Option<SmolStr>,
}

/// An entry of `metadata.ownerReferences`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// `apps/v1` …
    pub api_version: SmolStr,
    /// `ReplicaSet` …
    pub kind: SmolStr,
    /// Name, in the object's own namespace.
    pub name: SmolStr,
    /// Whether this owner manages the object.
    pub controller: bool,
}

/// One object of a snapshot.
#[derive(Debug, Clone)]
pub struct Object<T> {
    /// `apiVersion` as written.
    pub api_version: SmolStr,
    /// `kind` as written.
    pub kind: SmolStr,
    /// Metadata.
    pub metadata: Metadata,
    /// The rest, in our types; for Istio and Gateway API kinds the whole object as JSON. Snapshots of state
    /// after state share it.
    pub body: Arc<T>,
    /// Where it was read.
    pub origin: Origin,
}

impl<T> Object<T> {
    /// Namespace and name.
    pub fn object_name(&self) -> ObjectName {
        ObjectName {
            namespace: self.metadata.namespace.clone(),
            name: self.metadata.name.clone(),
        }
    }
}
