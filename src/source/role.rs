//! The least role that reading a cluster needs, as manifests.
//!
//! In: for whom, and what besides the ordinary. Out: YAML of `rbac.authorization.k8s.io/v1`.
//! Invariant: it permits exactly what the live source asks for, `get` and `list` and nothing else;
//! a test holds it against the requests of a real read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::snapshot::Kind;
use crate::snapshot::kinds::{KINDS, KindRow};

/// ConfigMaps of the mesh and the CNI; the first two have `-<revision>` added for a revision.
pub(crate) const CONFIG_MAPS: [&str; 4] = [
    "istio",
    "istio-sidecar-injector",
    "istio-cni-config",
    "cilium-config",
];

/// Which of [`CONFIG_MAPS`] exist once a revision of istiod.
pub(crate) const OF_REVISION: usize = 2;

/// The name of every object that is printed.
const NAME: &str = "castoff";

/// For whom a role is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A ServiceAccount, which is created too.
    ServiceAccount {
        /// Namespace.
        namespace: String,
        /// Name.
        name: String,
    },
    /// A user of the cluster.
    User(String),
    /// A group of users.
    Group(String),
}

/// What the role is to permit.
#[derive(Debug, Clone)]
pub struct RoleOptions {
    /// Who gets it.
    pub subject: Subject,
    /// Only objects in these namespaces; all when empty.
    pub namespaces: Vec<String>,
    /// Revisions of istiod, whose ConfigMaps carry their names.
    pub revisions: Vec<String>,
    /// Whether Secrets may be listed.
    pub secrets: bool,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural names.
    pub resources: Vec<&'static str>,
    /// Only objects of these names; all when empty.
    pub names: Vec<String>,
    /// `get` or `list`.
    pub verb: &'static str,
}

/// The rules, sorted by group. Within namespaces only objects of namespaces can be permitted.
pub fn rules(options: &RoleOptions) -> Vec<Rule> {
    let inside = !options.namespaces.is_empty();
    let mut groups: BTreeMap<&'static str, Vec<&'static str>> = BTreeMap::new();
    let listed = |row: &&KindRow| match row.kind {
        Kind::ConfigMap => false,
        Kind::Secret => options.secrets,
        _ => row.namespaced || !inside,
    };
    for row in KINDS.iter().filter(listed) {
        groups.entry(row.group).or_default().push(row.plural);
    }
    let mut rules: Vec<Rule> = groups
        .into_iter()
        .map(|(group, mut resources)| {
            resources.sort_unstable();
            Rule {
                group,
                resources,
                names: Vec::new(),
                verb: "list",
            }
        })
        .collect();
    rules.push(Rule {
        group: "",
        resources: vec!["configmaps"],
        names: config_map_names(&options.revisions),
        verb: "get",
    });
    if inside {
        rules.push(Rule {
            group: "",
            resources: vec!["namespaces"],
            names: Vec::new(),
            verb: "get",
        });
    }
    rules.sort_by_key(|rule| (rule.group, rule.verb));
    rules
}

fn config_map_names(revisions: &[String]) -> Vec<String> {
    let mut names: Vec<String> = CONFIG_MAPS.iter().map(|name| (*name).to_owned()).collect();
    for revision in revisions {
        for name in &CONFIG_MAPS[..OF_REVISION] {
            names.push(format!("{name}-{revision}"));
        }
    }
    names.sort();
    names.dedup();
    names
}

/// The manifests: for all namespaces a ClusterRole, else a Role in each.
pub fn manifests(options: &RoleOptions) -> String {
    let mut out = String::from(
        "# What castoff reads, and nothing else: no verb but get and list.\n\
         # Printed by `castoff rbac`.\n",
    );
    if !options.secrets {
        out.push_str(
            "# Secrets are left out: RBAC cannot permit their metadata without their data. With\n\
             # `castoff rbac --secrets` castoff also sees remote clusters of the mesh by their\n\
             # Secrets; without, that one check says that it could not be made.\n",
        );
    } else {
        out.push_str(
            "# Secrets may be listed: whoever holds this account's credentials can read the data of\n\
             # every Secret in its reach. castoff itself asks for the metadata of those that are\n\
             # labelled istio/multiCluster=true only; RBAC cannot permit just that.\n",
        );
    }
    if let Subject::ServiceAccount { namespace, name } = &options.subject {
        let _ = write!(
            out,
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {namespace}\n---\n\
             apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {name}\n  \
             namespace: {namespace}\n---\n"
        );
    }
    if options.namespaces.is_empty() {
        role_and_binding(&mut out, options, None);
    }
    for (index, namespace) in options.namespaces.iter().enumerate() {
        if index > 0 {
            out.push_str("---\n");
        }
        role_and_binding(&mut out, options, Some(namespace));
    }
    out
}

fn role_and_binding(out: &mut String, options: &RoleOptions, namespace: Option<&str>) {
    let prefix = if namespace.is_some() { "" } else { "Cluster" };
    let place = namespace.map_or_else(String::new, |name| format!("  namespace: {name}\n"));
    let api = "rbac.authorization.k8s.io";
    let _ = write!(
        out,
        "apiVersion: {api}/v1\nkind: {prefix}Role\nmetadata:\n  name: {NAME}\n{place}rules:\n"
    );
    for rule in rules(options) {
        let _ = writeln!(out, "- apiGroups: [\"{}\"]", rule.group);
        let _ = writeln!(out, "  resources:\n  - {}", rule.resources.join("\n  - "));
        if !rule.names.is_empty() {
            let _ = writeln!(out, "  resourceNames:\n  - {}", rule.names.join("\n  - "));
        }
        let _ = writeln!(out, "  verbs: [{}]", rule.verb);
    }
    let _ = write!(
        out,
        "---\napiVersion: {api}/v1\nkind: {prefix}RoleBinding\nmetadata:\n  name: {NAME}\n{place}\
         roleRef:\n  apiGroup: {api}\n  kind: {prefix}Role\n  name: {NAME}\nsubjects:\n"
    );
    let _ = match &options.subject {
        Subject::ServiceAccount { namespace, name } => write!(
            out,
            "- kind: ServiceAccount\n  name: {name}\n  namespace: {namespace}\n"
        ),
        Subject::User(name) => write!(
            out,
            "- apiGroup: {api}\n  kind: User\n  name: {}\n",
            serde_json::Value::from(name.as_str())
        ),
        Subject::Group(name) => write!(
            out,
            "- apiGroup: {api}\n  kind: Group\n  name: {}\n",
            serde_json::Value::from(name.as_str())
        ),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> RoleOptions {
        RoleOptions {
            subject: Subject::ServiceAccount {
                namespace: "castoff".to_owned(),
                name: "castoff".to_owned(),
            },
            namespaces: Vec::new(),
            revisions: Vec::new(),
            secrets: false,
        }
    }

    #[test]
    fn the_file_to_deploy_is_what_the_command_prints() {
        assert_eq!(
            manifests(&options()),
            include_str!("../../deploy/rbac.yaml")
        );
    }

    #[test]
    fn every_kind_is_permitted_once_and_secrets_only_when_asked_for() {
        let permitted = |options: &RoleOptions| {
            let mut all: Vec<String> = rules(options)
                .iter()
                .flat_map(|rule| {
                    rule.resources
                        .iter()
                        .map(|plural| format!("{}/{plural}", rule.group))
                        .collect::<Vec<_>>()
                })
                .collect();
            all.sort();
            all
        };
        let mut expected: Vec<String> = KINDS
            .iter()
            .map(|row| format!("{}/{}", row.group, row.plural))
            .collect();
        expected.sort();
        let with_secrets = RoleOptions {
            secrets: true,
            ..options()
        };
        assert_eq!(permitted(&with_secrets), expected);
        expected.retain(|resource| resource != "/secrets");
        assert_eq!(permitted(&options()), expected);
    }

    #[test]
    fn who_permits_secrets_reads_what_that_gives_away() {
        let with_secrets = manifests(&RoleOptions {
            secrets: true,
            ..options()
        });
        let warning = "can read the data of\n# every Secret in its reach";
        assert!(with_secrets.contains(warning), "{with_secrets}");
        assert!(!manifests(&options()).contains(warning));
    }

    #[test]
    fn a_revision_adds_the_names_of_its_config_maps() {
        assert_eq!(
            config_map_names(&["canary".to_owned()]),
            [
                "cilium-config",
                "istio",
                "istio-canary",
                "istio-cni-config",
                "istio-sidecar-injector",
                "istio-sidecar-injector-canary",
            ]
        );
    }
}
