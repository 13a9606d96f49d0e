//! What nodes tell of the platform: GKE, EKS, OpenShift, k3s and the like.
//!
//! In: nodes of the snapshot. Out: [`Platform`]s, with the value that Istio's charts take as
//! `global.platform` (istio manifests/helm-profiles, `platform-*.yaml`).

use std::collections::BTreeSet;

use crate::api::Node;
use crate::snapshot::{Object, Snapshot};

/// A platform that needs something of its own from an ambient installation
/// (istio.io, "Platform-Specific Prerequisites").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Platform {
    /// Google Kubernetes Engine.
    Gke,
    /// Red Hat OpenShift.
    OpenShift,
    /// k3s.
    K3s,
    /// k3s in Docker.
    K3d,
    /// MicroK8s.
    MicroK8s,
    /// minikube.
    Minikube,
}

impl Platform {
    /// All platforms that nodes of the snapshot show.
    pub fn of(snapshot: &Snapshot) -> BTreeSet<Self> {
        snapshot.nodes.iter().filter_map(Self::of_node).collect()
    }

    fn of_node(node: &Object<Node>) -> Option<Self> {
        let labels = &node.metadata.labels;
        let has = |key: &str| labels.get(key).is_some();
        if has("cloud.google.com/gke-nodepool") || has("cloud.google.com/gke-os-distribution") {
            Some(Self::Gke)
        } else if has("node.openshift.io/os_id") {
            Some(Self::OpenShift)
        } else if node.body.status.node_info.kubelet_version.contains("+k3s") {
            if node.metadata.name.starts_with("k3d-") {
                Some(Self::K3d)
            } else {
                Some(Self::K3s)
            }
        } else if has("microk8s.io/cluster") {
            Some(Self::MicroK8s)
        } else if has("minikube.k8s.io/name") {
            Some(Self::Minikube)
        } else {
            None
        }
    }

    /// The value of `global.platform`.
    pub fn value(self) -> &'static str {
        match self {
            Self::Gke => "gke",
            Self::OpenShift => "openshift",
            Self::K3s => "k3s",
            Self::K3d => "k3d",
            Self::MicroK8s => "microk8s",
            Self::Minikube => "minikube",
        }
    }

    /// What the installation of ztunnel and the CNI agent needs there, in one sentence.
    pub fn needs(self) -> &'static str {
        match self {
            Self::Gke => {
                "GKE: install with global.platform=gke, and put ztunnel and the CNI agent into \
                 kube-system or into a namespace with a ResourceQuota for system-node-critical pods"
            }
            Self::OpenShift => {
                "OpenShift: install every chart with global.platform=openshift, and ztunnel and \
                 the CNI agent into kube-system (istiod then needs trustedZtunnelNamespace)"
            }
            Self::K3s => "k3s: install with global.platform=k3s, which sets its CNI folders",
            Self::K3d => "k3d: install with global.platform=k3d, which sets its CNI folders",
            Self::MicroK8s => {
                "MicroK8s: install with global.platform=microk8s, which sets its CNI folders"
            }
            Self::Minikube => {
                "minikube: with the Docker driver, install with global.platform=minikube"
            }
        }
    }
}
