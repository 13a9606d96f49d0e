//! In which version each kind is served.
//!
//! Only the groups that castoff reads are asked about, one by one: an aggregated API that is down
//! then harms nobody but itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use tokio::task::JoinSet;

use super::request::{Connection, Failure};
use crate::snapshot::Kind;
use crate::snapshot::kinds::KINDS;

/// What the server says about a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Served {
    /// Served in this version, the most preferred one of those read here.
    As(&'static str),
    /// The server's list of resources is whole and does not hold it: no objects can exist.
    Nowhere,
    /// Served, but in versions that are not read here.
    OnlyAs(Vec<String>),
    /// Discovery is not permitted: try.
    Untold,
    /// Discovery of its group failed.
    Failed(String),
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
    versions: Vec<GroupVersion>,
}

#[derive(Deserialize)]
struct GroupVersion {
    version: String,
}

#[derive(Deserialize)]
struct Resources {
    #[serde(default)]
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
}

/// Plural names by version, and the first failure, of one group.
#[derive(Default)]
struct GroupResources {
    by_version: Vec<(String, BTreeSet<String>)>,
    failure: Option<String>,
}

/// Asks the server. Kinds of the core group are not asked about: they are always there.
pub(super) async fn discover(connection: &Arc<Connection>) -> BTreeMap<Kind, Served> {
    let groups = match get::<Groups>(connection, "/apis").await {
        Ok(groups) => groups.groups,
        Err(failure) => {
            let told = match failure {
                Failure::Status {
                    code: 403 | 404, ..
                } => Served::Untold,
                failure => Served::Failed(failure.to_string()),
            };
            return KINDS
                .iter()
                .filter(|row| !row.group.is_empty())
                .map(|row| (row.kind, told.clone()))
                .collect();
        }
    };
    let mut tasks = JoinSet::new();
    let mut resources: BTreeMap<String, GroupResources> = BTreeMap::new();
    for group in groups {
        if KINDS.iter().any(|row| row.group == group.name) {
            // What stays of it if its task ends without an answer: a failure, not an absence.
            resources.insert(
                group.name.clone(),
                GroupResources {
                    failure: Some("asking for it was given up".to_owned()),
                    ..GroupResources::default()
                },
            );
            let connection = Arc::clone(connection);
            tasks.spawn(async move {
                let found = of_group(&connection, &group).await;
                (group.name, found)
            });
        }
    }
    while let Some(answer) = tasks.join_next().await {
        if let Ok((group, found)) = answer {
            resources.insert(group, found);
        }
    }
    KINDS
        .iter()
        .filter(|row| !row.group.is_empty())
        .map(|row| {
            let served = resources.get(row.group).map_or(Served::Nowhere, |group| {
                choose(group, row.plural, row.versions)
            });
            (row.kind, served)
        })
        .collect()
}

async fn of_group(connection: &Connection, group: &Group) -> GroupResources {
    let mut found = GroupResources::default();
    for version in &group.versions {
        let path = format!("/apis/{}/{}", group.name, version.version);
        match get::<Resources>(connection, &path).await {
            Ok(answer) => found.by_version.push((
                version.version.clone(),
                answer
                    .resources
                    .into_iter()
                    .map(|resource| resource.name)
                    .collect(),
            )),
            Err(failure) => found.failure = found.failure.take().or(Some(failure.to_string())),
        }
    }
    found
}

fn choose(group: &GroupResources, plural: &str, wanted: &[&'static str]) -> Served {
    let serving: Vec<&str> = group
        .by_version
        .iter()
        .filter(|(_, plurals)| plurals.contains(plural))
        .map(|(version, _)| version.as_str())
        .collect();
    if let Some(version) = wanted.iter().find(|version| serving.contains(version)) {
        return Served::As(version);
    }
    match (&group.failure, serving.is_empty()) {
        (Some(failure), _) => Served::Failed(failure.clone()),
        (None, true) => Served::Nowhere,
        (None, false) => Served::OnlyAs(serving.into_iter().map(str::to_owned).collect()),
    }
}

async fn get<T: serde::de::DeserializeOwned>(
    connection: &Connection,
    path: &str,
) -> Result<T, Failure> {
    let body = connection.get(path, "application/json").await?;
    serde_json::from_slice(&body).map_err(|error| {
        Failure::NoAnswer(format!("`{path}` is not what an API server says: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(versions: &[(&str, &str)], failure: Option<&str>) -> GroupResources {
        GroupResources {
            by_version: versions
                .iter()
                .map(|(version, plural)| {
                    (
                        (*version).to_owned(),
                        BTreeSet::from([(*plural).to_owned()]),
                    )
                })
                .collect(),
            failure: failure.map(str::to_owned),
        }
    }

    #[test]
    fn the_preferred_version_that_is_served_is_chosen() {
        let both = group(&[("v1beta1", "gateways"), ("v1", "gateways")], None);
        assert_eq!(
            choose(&both, "gateways", &["v1", "v1beta1"]),
            Served::As("v1")
        );
        let old = group(&[("v1beta1", "gateways")], None);
        assert_eq!(
            choose(&old, "gateways", &["v1", "v1beta1"]),
            Served::As("v1beta1")
        );
    }

    #[test]
    fn only_a_whole_answer_says_that_a_kind_is_nowhere() {
        let other = group(&[("v1", "gateways")], None);
        assert_eq!(choose(&other, "tcproutes", &["v1"]), Served::Nowhere);
        let half = group(&[("v1", "gateways")], Some("503"));
        assert_eq!(
            choose(&half, "tcproutes", &["v1"]),
            Served::Failed("503".to_owned())
        );
        let unknown = group(&[("v9", "tcproutes")], None);
        assert_eq!(
            choose(&unknown, "tcproutes", &["v1"]),
            Served::OnlyAs(vec!["v9".to_owned()])
        );
    }
}
