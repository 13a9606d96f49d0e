//! Who may call a server, as far as ALLOW policies on its pods tell identities apart.
//!
//! In: a mesh. Out: for a Service, everyone or a set of workloads. Invariant: never too few: what a
//! rule asks besides identity, what it excludes and what is not understood counts as allowed.

use std::collections::{BTreeMap, BTreeSet};

use castoff_authz::policy::{Action, Condition, Key, Rule, Source};
use smol_str::SmolStr;

use crate::mesh::policy::selects_at_sidecar;
use crate::mesh::{AuthorizationPolicy, DataPlaneMode, Mesh, Service, WorkloadId};

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Callers {
    /// No policy tells callers apart.
    Everyone,
    /// These alone.
    Only(BTreeSet<WorkloadId>),
}

impl Callers {
    pub(super) fn include(&self, id: WorkloadId) -> bool {
        match self {
            Self::Everyone => true,
            Self::Only(ids) => ids.contains(&id),
        }
    }
}

/// Workloads with sidecars by identity, and policies by namespace: built once.
pub(super) struct Directory<'a> {
    mesh: &'a Mesh,
    policies: BTreeMap<&'a SmolStr, Vec<&'a AuthorizationPolicy>>,
    by_principal: BTreeMap<String, Vec<WorkloadId>>,
    by_namespace: BTreeMap<&'a SmolStr, Vec<WorkloadId>>,
}

impl<'a> Directory<'a> {
    pub(super) fn of(mesh: &'a Mesh) -> Self {
        let mut directory = Self {
            mesh,
            policies: BTreeMap::new(),
            by_principal: BTreeMap::new(),
            by_namespace: BTreeMap::new(),
        };
        for policy in &mesh.authorization_policies {
            directory
                .policies
                .entry(&policy.name.namespace)
                .or_default()
                .push(policy);
        }
        for (index, workload) in mesh.workloads.iter().enumerate() {
            if !workload.is_mesh_application() || !workload.has_mode(DataPlaneMode::Sidecar) {
                continue;
            }
            let id = WorkloadId(index);
            directory
                .by_principal
                .entry(workload.principal(&mesh.settings.trust_domain))
                .or_default()
                .push(id);
            directory
                .by_namespace
                .entry(&workload.name.namespace)
                .or_default()
                .push(id);
        }
        directory
    }

    /// Workloads with sidecars, by namespace.
    pub(super) fn clients(&self) -> impl Iterator<Item = (&'a SmolStr, &[WorkloadId])> {
        self.by_namespace
            .iter()
            .map(|(namespace, ids)| (*namespace, ids.as_slice()))
    }

    /// Who may call the pods behind a Service.
    pub(super) fn callers(&self, service: &Service) -> Callers {
        let mut all = BTreeSet::new();
        for backend in &service.backends {
            let workload = self.mesh.workload(backend.workload);
            let labels = &workload.generations[backend.generation].labels;
            let namespace = &workload.name.namespace;
            let root = &self.mesh.settings.root_namespace;
            let near = self.policies.get(namespace).into_iter().flatten();
            let wide = self
                .policies
                .get(root)
                .filter(|_| namespace != root)
                .into_iter()
                .flatten();
            let mut limited = false;
            for policy in near.chain(wide) {
                let applies = selects_at_sidecar(
                    &policy.attachment,
                    &policy.name.namespace,
                    root,
                    namespace,
                    labels,
                );
                if !applies {
                    continue;
                }
                let Ok(meaning) = &policy.meaning else {
                    return Callers::Everyone;
                };
                if meaning.action != Action::Allow || meaning.dry_run {
                    continue;
                }
                limited = true;
                for rule in &meaning.rules {
                    match self.rule(rule) {
                        Callers::Everyone => return Callers::Everyone,
                        Callers::Only(ids) => all.extend(ids),
                    }
                }
            }
            if !limited {
                return Callers::Everyone;
            }
        }
        Callers::Only(all)
    }

    fn rule(&self, rule: &Rule) -> Callers {
        let mut all = BTreeSet::new();
        for source in &rule.from {
            match self.source(source) {
                Callers::Everyone => {
                    all.clear();
                    return self.conditions(&rule.when);
                }
                Callers::Only(ids) => all.extend(ids),
            }
        }
        if rule.from.is_empty() {
            return self.conditions(&rule.when);
        }
        Callers::Only(all)
    }

    fn source(&self, source: &Source) -> Callers {
        if !source.principals.is_empty() {
            self.principals(&source.principals)
        } else if !source.namespaces.is_empty() {
            self.namespaces(&source.namespaces)
        } else if !source.service_accounts.is_empty() {
            // `namespace/name`, or a name in the policy's own namespace, which is not known here.
            let namespaces: Option<Vec<String>> = source
                .service_accounts
                .iter()
                .map(|one| {
                    one.split_once('/')
                        .map(|(namespace, _)| namespace.to_owned())
                })
                .collect();
            namespaces.map_or(Callers::Everyone, |list| self.namespaces(&list))
        } else {
            Callers::Everyone
        }
    }

    fn conditions(&self, conditions: &[Condition]) -> Callers {
        for condition in conditions {
            let values = &condition.values;
            match condition.key {
                Key::SourcePrincipal if !values.is_empty() => return self.principals(values),
                Key::SourceNamespace if !values.is_empty() => return self.namespaces(values),
                _ => {}
            }
        }
        Callers::Everyone
    }

    fn principals(&self, patterns: &[String]) -> Callers {
        let mut ids = BTreeSet::new();
        for pattern in patterns {
            if pattern == "*" {
                return Callers::Everyone;
            }
            if pattern.contains('*') {
                let matching = self
                    .by_principal
                    .iter()
                    .filter(|(principal, _)| matches(pattern, principal));
                ids.extend(matching.flat_map(|(_, ids)| ids).copied());
                continue;
            }
            // Another trust domain may be an alias of this one.
            let Some((_, rest)) = pattern.split_once('/') else {
                continue;
            };
            let own = format!("{}/{rest}", self.mesh.settings.trust_domain);
            ids.extend(self.by_principal.get(&own).into_iter().flatten().copied());
        }
        Callers::Only(ids)
    }

    fn namespaces(&self, patterns: &[String]) -> Callers {
        let mut ids = BTreeSet::new();
        for pattern in patterns {
            if pattern == "*" {
                return Callers::Everyone;
            }
            let matching = self
                .by_namespace
                .iter()
                .filter(|(namespace, _)| matches(pattern, namespace));
            ids.extend(matching.flat_map(|(_, ids)| ids).copied());
        }
        Callers::Only(ids)
    }
}

/// Exact, `prefix*` or `*suffix`.
fn matches(pattern: &str, value: &str) -> bool {
    if let Some(prefix) = pattern.strip_suffix('*') {
        value.starts_with(prefix)
    } else if let Some(suffix) = pattern.strip_prefix('*') {
        value.ends_with(suffix)
    } else {
        pattern == value
    }
}
