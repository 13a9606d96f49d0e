//! Which policies apply to which pods, without comparing every policy with every pod.
//!
//! In: the policies of a mesh. Out: for a namespace, those that may apply there. Invariant: a
//! policy that castoff generated is never taken for one of the user's.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::GENERATED_LABEL;
use crate::mesh::policy::selects_at_sidecar;
use crate::mesh::{
    Attachment, AuthorizationPolicy, ExtensionPolicy, Mesh, RequestAuthentication, Service,
    WorkloadId,
};
use crate::snapshot::Labels;

/// Policies by namespace.
pub(super) struct ByNamespace<'a> {
    authorization: BTreeMap<SmolStr, Vec<&'a AuthorizationPolicy>>,
    authentication: BTreeMap<SmolStr, Vec<&'a RequestAuthentication>>,
    extensions: BTreeMap<SmolStr, Vec<&'a ExtensionPolicy>>,
    root: SmolStr,
}

impl<'a> ByNamespace<'a> {
    pub(super) fn new(mesh: &'a Mesh) -> Self {
        fn group<T>(list: &[T], of: impl Fn(&T) -> &SmolStr) -> BTreeMap<SmolStr, Vec<&T>> {
            let mut groups: BTreeMap<SmolStr, Vec<&T>> = BTreeMap::new();
            for one in list {
                groups.entry(of(one).clone()).or_default().push(one);
            }
            groups
        }
        Self {
            authorization: group(&mesh.authorization_policies, |one| &one.name.namespace),
            authentication: group(&mesh.request_authentications, |one| &one.name.namespace),
            extensions: group(&mesh.extension_policies, |one| &one.name.namespace),
            root: mesh.settings.root_namespace.clone(),
        }
    }

    pub(super) fn authorization(
        &self,
        namespace: &str,
    ) -> impl Iterator<Item = &'a AuthorizationPolicy> {
        both(&self.authorization, namespace, &self.root)
    }

    pub(super) fn authentication(
        &self,
        namespace: &str,
    ) -> impl Iterator<Item = &'a RequestAuthentication> {
        both(&self.authentication, namespace, &self.root)
    }

    pub(super) fn extensions(&self, namespace: &str) -> impl Iterator<Item = &'a ExtensionPolicy> {
        both(&self.extensions, namespace, &self.root)
    }
}

fn both<'a, T>(
    groups: &BTreeMap<SmolStr, Vec<&'a T>>,
    namespace: &str,
    root: &str,
) -> impl Iterator<Item = &'a T> {
    let own = groups.get(namespace).cloned().unwrap_or_default();
    let mesh_wide = if namespace == root {
        Vec::new()
    } else {
        groups.get(root).cloned().unwrap_or_default()
    };
    own.into_iter().chain(mesh_wide)
}

/// How many of the pods behind a Service a selector policy applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coverage {
    /// None of them.
    None,
    /// Some: a Service's waypoint cannot tell pods apart.
    Some,
    /// All.
    All,
}

/// How many of the mesh pods behind a Service a policy of `policy_namespace` applies to at their
/// sidecars. Workloads without pods to come (finished Jobs, scaled to nothing) do not count.
pub fn coverage(
    mesh: &Mesh,
    attachment: &Attachment,
    policy_namespace: &str,
    service: &Service,
) -> Coverage {
    coverage_of_any(mesh, &[attachment], policy_namespace, service)
}

/// The same of several policies of one namespace: pods count to which any of them applies.
pub fn coverage_of_any(
    mesh: &Mesh,
    attachments: &[&Attachment],
    policy_namespace: &str,
    service: &Service,
) -> Coverage {
    let covers = |pod_namespace: &str, labels: &Labels| {
        attachments
            .iter()
            .any(|one| covers_pods(mesh, one, policy_namespace, pod_namespace, labels))
    };
    let (mut covered, mut others) = (false, false);
    for backend in &service.backends {
        let workload = mesh.workload(backend.workload);
        if workload.idle && service.backends.len() > 1 {
            continue;
        }
        let labels = &workload.generations[backend.generation].labels;
        if workload.is_mesh_application() && covers(&workload.name.namespace, labels) {
            covered = true;
        } else {
            others = true;
        }
    }
    match (covered, others) {
        (false, _) => Coverage::None,
        (true, true) => Coverage::Some,
        (true, false) => Coverage::All,
    }
}

/// Whether a policy applies to pods with these labels at their sidecars.
pub fn covers_pods(
    mesh: &Mesh,
    attachment: &Attachment,
    policy_namespace: &str,
    pod_namespace: &str,
    labels: &Labels,
) -> bool {
    selects_at_sidecar(
        attachment,
        policy_namespace,
        &mesh.settings.root_namespace,
        pod_namespace,
        labels,
    )
}

/// Whether a policy applies to any pods of a workload.
pub(super) fn covers_workload(
    mesh: &Mesh,
    attachment: &Attachment,
    policy_namespace: &str,
    workload: WorkloadId,
) -> bool {
    let workload = mesh.workload(workload);
    workload.generations.iter().any(|generation| {
        covers_pods(
            mesh,
            attachment,
            policy_namespace,
            &workload.name.namespace,
            &generation.labels,
        )
    })
}

/// Whether castoff generated the object.
pub fn is_generated(labels: &Labels) -> bool {
    labels.get(GENERATED_LABEL).is_some()
}
