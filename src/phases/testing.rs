//! Meshes made by hand for the tests of checks.

use std::collections::{BTreeMap, BTreeSet};

use smol_str::SmolStr;

use crate::finding::{CheckResult, Level};
use crate::mesh::workload::{DataPlaneMode, Generation, OwnerKind, PodState, Role, Workload};
use crate::mesh::{
    ControlPlane, Distribution, Index, Injection, Mesh, MeshSettings, Namespace, ObjectReference,
    Version, WorkloadId,
};
use crate::phases::{Check, Context, MigrateOptions};
use crate::snapshot::kinds::KINDS;
use crate::snapshot::{Kind, Labels, ObjectName, Origin, Snapshot};

/// A mesh of which everything was read and in which nothing is.
pub(crate) fn mesh() -> Mesh {
    Mesh {
        settings: MeshSettings::default(),
        distribution: Distribution::Upstream,
        control_planes: Vec::new(),
        revision_tags: Vec::new(),
        ztunnel: None,
        cni_agent: None,
        namespaces: BTreeMap::new(),
        workloads: Vec::new(),
        services: Vec::new(),
        waypoints: Vec::new(),
        authorization_policies: Vec::new(),
        request_authentications: Vec::new(),
        peer_authentications: Vec::new(),
        extension_policies: Vec::new(),
        traffic: crate::mesh::traffic::Traffic::default(),
        gaps: Vec::new(),
        seen_kinds: KINDS.iter().map(|row| row.kind).collect::<BTreeSet<Kind>>(),
        index: Index::default(),
    }
}

/// A mesh read from manifests, with the snapshot behind it. Kinds that are not there count as looked
/// for and absent.
pub(crate) fn read(text: &str) -> (Mesh, Snapshot) {
    let mut collector = crate::source::Collector::new();
    collector.add_text(&crate::source::Place::Demo("test.yaml"), text);
    let mut snapshot = collector.finish();
    assert!(snapshot.problems.is_empty(), "{:?}", snapshot.problems);
    snapshot.seen_kinds = KINDS.iter().map(|row| row.kind).collect();
    let mesh = Mesh::build(&snapshot, &crate::mesh::MeshOverrides::default());
    (mesh, snapshot)
}

/// A mesh with workloads, sorted and indexed, each in a namespace with `istio-injection=enabled`.
pub(crate) fn mesh_with(mut workloads: Vec<Workload>) -> Mesh {
    let mut mesh = mesh();
    workloads.sort_by(|left, right| left.name.cmp(&right.name));
    for (index, one) in workloads.iter().enumerate() {
        let name = one.name.namespace.clone();
        mesh.index
            .workloads_by_namespace
            .entry(name.clone())
            .or_default()
            .push(WorkloadId(index));
        mesh.namespaces
            .entry(name.clone())
            .or_insert_with(|| namespace(&name, &[("istio-injection", "enabled")]));
    }
    mesh.workloads = workloads;
    mesh
}

/// A namespace with labels.
pub(crate) fn namespace(name: &str, labels: &[(&str, &str)]) -> Namespace {
    let labels: Labels = labels.iter().copied().collect();
    Namespace {
        name: name.into(),
        annotations: Labels::default(),
        origin: Some(Origin::Simulated),
        injection: match (labels.get("istio-injection"), labels.get("istio.io/rev")) {
            (Some("enabled"), _) => Injection::Enabled,
            (Some("disabled"), _) => Injection::Disabled,
            (_, Some(revision)) => Injection::Revision(revision.into()),
            _ => Injection::Unlabelled,
        },
        ambient: labels.has("istio.io/dataplane-mode", "ambient"),
        discovered: true,
        system: false,
        labels,
    }
}

/// An istiod of a release, with flags.
pub(crate) fn istiod(tag: &str, flags: &[(&str, &str)]) -> ControlPlane {
    let numbers: Vec<u32> = tag
        .split(['.', '-'])
        .map_while(|part| part.parse().ok())
        .collect();
    ControlPlane {
        object: reference(Kind::Deployment, "istio-system", "istiod"),
        revision: "default".into(),
        version: match numbers[..] {
            [major, minor, patch] => Some(Version {
                major,
                minor,
                patch,
                suffix: String::new(),
            }),
            _ => None,
        },
        image: format!("docker.io/istio/pilot:{tag}").into(),
        hub: "docker.io/istio".into(),
        tag: tag.into(),
        environment: flags
            .iter()
            .map(|(name, value)| (SmolStr::from(*name), SmolStr::from(*value)))
            .collect(),
        installed_by: SmolStr::default(),
    }
}

/// A reference to an object.
pub(crate) fn reference(kind: Kind, namespace: &str, name: &str) -> ObjectReference {
    ObjectReference {
        kind,
        name: ObjectName::new(namespace, name),
        origin: Origin::Simulated,
    }
}

/// An application with one sidecar pod, named after it, that would be injected again.
pub(crate) fn workload(owner: OwnerKind, namespace: &str, name: &str) -> Workload {
    Workload {
        owner,
        owner_api_version: "apps/v1".into(),
        name: ObjectName::new(namespace, name),
        role: Role::Application,
        template_labels: Labels::default(),
        template_annotations: Labels::default(),
        owner_labels: Labels::default(),
        owner_annotations: Labels::default(),
        has_template: true,
        replacement: crate::mesh::Replacement::ByItself,
        waits_for_promotion: false,
        service_account: "default".into(),
        host_network: false,
        as_proxy: crate::mesh::AsProxy::None,
        ports: Vec::new(),
        scraped: std::collections::BTreeMap::new(),
        generations: vec![sidecar_pods(&[&format!("{name}-1")])],
        next_mode: DataPlaneMode::Sidecar,
        next_mode_reason: "istio-injection=enabled".into(),
        needs_namespace_label: false,
        predicted: false,
        origin: Origin::Simulated,
        replicas: 1,
        idle: false,
    }
}

/// Pods with a sidecar that accepts HBONE, on `node-0`.
pub(crate) fn sidecar_pods(names: &[&str]) -> Generation {
    Generation {
        mode: DataPlaneMode::Sidecar,
        labels: Labels::default(),
        accepts_hbone: true,
        native_sidecar: false,
        proxy_version: None,
        revision: "default".into(),
        pods: names
            .iter()
            .map(|name| PodState {
                name: (*name).into(),
                node: "node-0".into(),
                addresses: Vec::new(),
                ready: true,
                redirection: SmolStr::default(),
                origin: Origin::Simulated,
            })
            .collect(),
    }
}

/// Pods outside the mesh, or in ambient mode.
pub(crate) fn pods(mode: DataPlaneMode, names: &[&str]) -> Generation {
    Generation {
        mode,
        accepts_hbone: mode == DataPlaneMode::Ambient,
        ..sidecar_pods(names)
    }
}

/// Runs a check on a mesh without a snapshot behind it.
pub(crate) fn run(check: &Check, mesh: &Mesh) -> CheckResult {
    run_with(
        check,
        mesh,
        &Snapshot::default(),
        &MigrateOptions::default(),
    )
}

/// Runs a check.
pub(crate) fn run_with(
    check: &Check,
    mesh: &Mesh,
    snapshot: &Snapshot,
    options: &MigrateOptions,
) -> CheckResult {
    check.run(&context(mesh, snapshot, options))
}

/// What a check is given.
pub(crate) fn context<'a>(
    mesh: &'a Mesh,
    snapshot: &'a Snapshot,
    options: &'a MigrateOptions,
) -> Context<'a> {
    Context::new(mesh, snapshot, options)
}

/// Level and message of each finding.
pub(crate) fn lines(result: &CheckResult) -> Vec<(Level, &str)> {
    result
        .findings
        .iter()
        .map(|finding| (finding.level, finding.message.as_str()))
        .collect()
}
