//! istiods, ztunnel, the CNI agent, and which build of Istio they are.

use std::collections::{BTreeMap, BTreeSet};

use smol_str::SmolStr;

use super::workload::{OwnerKind, Workload};
use super::{ObjectReference, Version};
use crate::api::pod::{Container, PodOwner, PodTemplate};
use crate::snapshot::{Kind, Object, ObjectName, Snapshot};

/// Whose build of Istio runs. Decides whether sidecars route to waypoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Distribution {
    /// istio.io: sidecars never send to a waypoint.
    Upstream,
    /// Solo.io: sidecars are said to route like ztunnel. Closed source, so an assumption.
    Solo,
}

/// One istiod Deployment.
#[derive(Debug, Clone, PartialEq)]
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

    /// Whether gateways follow `istio.io/ingress-use-waypoint`: `ENABLE_INGRESS_WAYPOINT_ROUTING`, on by default
    /// (istio pilot/pkg/features/ambient.go).
    pub fn routes_gateways_through_waypoints(&self) -> bool {
        self.flag("ENABLE_INGRESS_WAYPOINT_ROUTING", true)
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
#[derive(Debug, Clone, PartialEq)]
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

/// The release that an image tag names: registry ports, digests and suffixes are understood.
/// `None` when there is no tag or it names no release.
pub fn image_version(image: &str) -> Option<Version> {
    let (_, tag) = split_image(image);
    let mut numbers = tag.split(['-', '+']);
    let release = numbers.next()?;
    let mut parts = release.split('.');
    let major = parts.next()?.trim_start_matches('v').parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    let patch = match parts.next() {
        Some(patch) => patch.parse().ok()?,
        None => 0,
    };
    if parts.next().is_some() {
        return None;
    }
    let suffix = tag.get(release.len() + 1..).unwrap_or_default().to_owned();
    Some(Version {
        major,
        minor,
        patch,
        suffix,
    })
}

/// Hub (registry and folder) and tag of an image reference; either may be empty.
pub fn split_image(image: &str) -> (&str, &str) {
    let without_digest = image.split_once('@').map_or(image, |(name, _)| name);
    let (folder, name) = without_digest
        .rsplit_once('/')
        .unwrap_or(("", without_digest));
    // A colon before the last slash belongs to the registry's port.
    let tag = name.split_once(':').map_or("", |(_, tag)| tag);
    (folder, tag)
}

/// Every istiod, by the labels of its Deployment (`app=istiod`, or `istio=pilot` with a container
/// `discovery`). What only pods show is read from the pods.
pub(super) fn control_planes(snapshot: &Snapshot) -> Vec<ControlPlane> {
    let mut list: Vec<ControlPlane> = snapshot
        .owners
        .iter()
        .filter(|owner| owner.kind == "Deployment")
        .filter_map(|owner| {
            let template = owner.body.template()?;
            let container = template
                .spec
                .containers
                .iter()
                .find(|container| container.name == "discovery")?;
            let labelled = owner.metadata.labels.has("app", "istiod")
                || template.metadata.labels.has("app", "istiod")
                || template.metadata.labels.has("istio", "pilot");
            labelled.then(|| control_plane(owner, template, container))
        })
        .collect();
    list.sort_by(|left, right| left.object.name.cmp(&right.object.name));
    list
}

fn control_plane(
    owner: &Object<PodOwner>,
    template: &PodTemplate,
    container: &Container,
) -> ControlPlane {
    let label = |key: &str| {
        owner
            .metadata
            .labels
            .get(key)
            .or_else(|| template.metadata.labels.get(key))
    };
    let (hub, tag) = split_image(&container.image);
    let installed_by = match (
        label("app.kubernetes.io/managed-by"),
        label("install.operator.istio.io/owning-resource"),
    ) {
        (_, Some(_)) => "istioctl".into(),
        (Some("Helm"), None) => "Helm".into(),
        (Some(other), None) => SmolStr::from(other),
        (None, None) => SmolStr::default(),
    };
    ControlPlane {
        object: ObjectReference {
            kind: Kind::Deployment,
            name: owner.object_name(),
            origin: owner.origin.clone(),
        },
        revision: label("istio.io/rev").unwrap_or("default").into(),
        version: image_version(&container.image),
        image: container.image.clone(),
        hub: hub.into(),
        tag: tag.into(),
        environment: literals(container),
        installed_by,
    }
}

fn literals(container: &Container) -> BTreeMap<SmolStr, SmolStr> {
    container
        .env
        .iter()
        .filter_map(|one| Some((one.name.clone(), one.value.clone()?)))
        .collect()
}

/// Solo's builds say so in the tag (`-solo`) or the registry.
pub(super) fn distribution(control_planes: &[ControlPlane]) -> Distribution {
    let solo = control_planes
        .iter()
        .any(|one| one.tag.contains("solo") || one.hub.contains("soloio"));
    if solo {
        Distribution::Solo
    } else {
        Distribution::Upstream
    }
}

pub(super) fn revision_tags(snapshot: &Snapshot) -> Vec<RevisionTag> {
    let mut tags: Vec<RevisionTag> = snapshot
        .mutating_webhooks
        .iter()
        .filter_map(|webhook| {
            Some(RevisionTag {
                tag: webhook.metadata.labels.get("istio.io/tag")?.into(),
                revision: webhook
                    .metadata
                    .labels
                    .get("istio.io/rev")
                    .unwrap_or("default")
                    .into(),
            })
        })
        .collect();
    tags.sort();
    tags.dedup();
    tags
}

/// A node agent by the label of its pods; `mesh_nodes` are nodes that run pods of the mesh.
pub(super) fn daemon_set(
    snapshot: &Snapshot,
    (key, value): (&str, &str),
    workloads: &[Workload],
    mesh_nodes: &BTreeSet<SmolStr>,
) -> Option<DaemonSetState> {
    let owner = snapshot
        .owners
        .iter()
        .filter(|owner| owner.kind == "DaemonSet")
        .find(|owner| {
            owner
                .body
                .template()
                .is_some_and(|template| template.metadata.labels.has(key, value))
                || owner.metadata.labels.has(key, value)
        })?;
    let name = owner.object_name();
    let template = owner.body.template()?;
    let ready_nodes: Option<Vec<SmolStr>> = workloads
        .iter()
        .find(|workload| {
            workload.name == name && workload.owner == OwnerKind::DaemonSet && !workload.predicted
        })
        .map(|workload| {
            let mut nodes: Vec<SmolStr> = workload
                .generations
                .iter()
                .flat_map(|generation| &generation.pods)
                .filter(|pod| pod.ready)
                .map(|pod| pod.node.clone())
                .collect();
            nodes.sort();
            nodes.dedup();
            nodes
        });
    let missing_nodes = match &ready_nodes {
        Some(ready) => mesh_nodes
            .iter()
            .filter(|node| !ready.contains(node))
            .cloned()
            .collect(),
        None => Vec::new(),
    };
    let container = template.spec.containers.first();
    let has_status = owner.body.status.desired_number_scheduled > 0;
    let configuration = snapshot
        .config_maps
        .iter()
        .filter(|map| {
            map.metadata.namespace == name.namespace && map.metadata.name.starts_with("istio-cni")
        })
        .flat_map(|map| {
            map.body
                .data
                .iter()
                .map(|(key, value)| (SmolStr::from(key.as_str()), value.clone()))
        })
        .collect();
    Some(DaemonSetState {
        object: ObjectReference {
            kind: Kind::DaemonSet,
            name: name.clone(),
            origin: owner.origin.clone(),
        },
        desired: has_status.then_some(owner.body.status.desired_number_scheduled),
        ready: has_status.then_some(owner.body.status.number_ready),
        ready_nodes,
        missing_nodes,
        image: container
            .map(|container| container.image.clone())
            .unwrap_or_default(),
        environment: container.map(literals).unwrap_or_default(),
        configuration,
        namespace: name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_image_tags() {
        let version =
            |image: &str| image_version(image).map(|version| (version.to_string(), version.suffix));
        let is = |text: &str, suffix: &str| Some((text.to_owned(), suffix.to_owned()));
        assert_eq!(version("docker.io/istio/pilot:1.25.2"), is("1.25.2", ""));
        assert_eq!(
            version("registry:5000/istio/pilot:1.30.3-distroless"),
            is("1.30.3", "distroless")
        );
        assert_eq!(
            version("us-docker.pkg.dev/soloio-img/istio/pilot:1.25.2-solo"),
            is("1.25.2", "solo")
        );
        assert_eq!(
            version("istio/pilot:1.31.0-rc.0@sha256:abc"),
            is("1.31.0", "rc.0")
        );
        assert_eq!(version("registry:5000/istio/pilot"), None);
        assert_eq!(version("istio/pilot:latest"), None);
    }
}
