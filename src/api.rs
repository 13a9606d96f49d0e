//! Serde structs of the Kubernetes objects that castoff reads in bulk: only the fields that are
//! used, every one optional on the wire. Istio and Gateway API objects are kept as JSON instead,
//! so that a copied policy loses nothing; `crate::mesh` reads those field by field.

pub mod cluster;
pub mod network_policy;
pub mod pod;
pub mod service;

pub use cluster::{
    ConfigMap, CustomResourceDefinition, Empty, MutatingWebhookConfiguration, Node, Webhook,
};
pub use network_policy::NetworkPolicy;
pub use pod::{Container, Pod, PodOwner, PodTemplate};
pub use service::{Endpoint, EndpointSlice, Service};
