//! istiods, ztunnel, the CNI agent, and which build of Istio they are.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::{ObjectReference, Version};
use crate::snapshot::ObjectName;

/// Whose build of Istio runs. Decides whether sidecars route to waypoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distribution {
    /// istio.io: sidecars never send to a waypoint.
    Upstream,
    /// Solo.io: sidecars are said to route like ztunnel. Closed source, so an assumption.
    Solo,
}

/// One istiod Deployment.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// The Deployment.
    pub object: ObjectReference,
    /// `default` when unlabelled.
    pub revision: SmolStr,
    /// From the tag of the container `discovery`; `None` when the tag names no release.
    pub version: Option<Version>,
    /// The whole image reference.
    pub image: SmolStr,
    /// Registry and folder: `docker.io/istio`. What `--set hub=` takes.
    pub hub: SmolStr,
    /// The tag as written: `1.30.3-distroless`.
    pub tag: SmolStr,
    /// Environment variables with literal values.
    pub environment: BTreeMap<SmolStr, SmolStr>,
    /// How it was installed, as its labels show: `Helm` (with the release name), `istioctl`, …
    pub installed_by: SmolStr,
}

impl ControlPlane {
    /// Whether a boolean flag is on; `default` when it is not set or not a boolean
    /// (istio pkg/env: an unparsable value falls back to the default).
    pub fn flag(&self, name: &str, default: bool) -> bool {
        match self.environment.get(name).map(SmolStr::as_str) {
            Some("true" | "TRUE" | "True" | "1" | "t" | "T") => true,
            Some("false" | "FALSE" | "False" | "0" | "f" | "F") => false,
            _ => default,
        }
    }

    /// `PILOT_ENABLE_AMBIENT`, off by default.
    pub fn ambient_enabled(&self) -> bool {
        self.flag("PILOT_ENABLE_AMBIENT", false)
    }
}

/// A revision tag: a MutatingWebhookConfiguration with the label `istio.io/tag`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RevisionTag {
    /// The tag, as namespaces name it in `istio.io/rev`.
    pub tag: SmolStr,
    /// The revision it stands for.
    pub revision: SmolStr,
}

/// A node agent's DaemonSet and the nodes where it runs.
#[derive(Debug, Clone)]
pub struct DaemonSetState {
    /// The DaemonSet.
    pub object: ObjectReference,
    /// `status.desiredNumberScheduled`; `None` when the input has no status.
    pub desired: Option<i64>,
    /// `status.numberReady`.
    pub ready: Option<i64>,
    /// Nodes with a ready pod of it; `None` when no pods were given.
    pub ready_nodes: Option<Vec<SmolStr>>,
    /// Nodes that run pods of the mesh but no ready pod of this agent.
    pub missing_nodes: Vec<SmolStr>,
    /// Image.
    pub image: SmolStr,
    /// Literal environment.
    pub environment: BTreeMap<SmolStr, SmolStr>,
    /// ConfigMaps of the agent, merged (for istio-cni: `AMBIENT_ENABLED` and the like).
    pub configuration: BTreeMap<SmolStr, String>,
    /// Helm release or namespace to name in commands.
    pub namespace: ObjectName,
}
