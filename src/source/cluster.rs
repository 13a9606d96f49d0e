//! A live cluster as a source, by read-only requests.
//!
//! In: which cluster, as whom, how long to wait. Out: a [`Recording`]. Invariants: only GET
//! requests are made; of Secrets only metadata is asked for, and of ConfigMaps only those whose
//! name says that they configure mesh or CNI; a kind that is forbidden, failing or served only in
//! a version unknown here is a [`Gap`], never an empty list.

mod config_maps;
mod connect;
mod discover;
mod item;
mod list;
mod request;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::discover::Served;
use self::request::{Connection, Failure};
use super::recording::{RecordedList, Recording};
use crate::snapshot::kinds::KINDS;
use crate::snapshot::{Gap, Kind};

/// Lists under way at once. The API server's own priority levels queue more than that.
const SIDE_BY_SIDE: usize = 6;

/// Which cluster, and how it is read.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Path of a kubeconfig; otherwise `KUBECONFIG`, `~/.kube/config`, or the pod's own account.
    pub kubeconfig: Option<PathBuf>,
    /// Context; otherwise the current one.
    pub context: Option<String>,
    /// Cluster of the kubeconfig in place of the context's.
    pub cluster: Option<String>,
    /// User of the kubeconfig in place of the context's.
    pub user: Option<String>,
    /// User to impersonate.
    pub impersonate: Option<String>,
    /// Groups to impersonate.
    pub impersonate_groups: Vec<String>,
    /// How long one request may take, its retries included.
    pub request_timeout: Duration,
    /// Where to look when a kind may not be listed in all namespaces at once.
    pub namespaces: Vec<String>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            context: None,
            cluster: None,
            user: None,
            impersonate: None,
            impersonate_groups: Vec::new(),
            request_timeout: Duration::from_secs(60),
            namespaces: Vec::new(),
        }
    }
}

/// Why nothing could be read at all (exit code 1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// There is no kubeconfig, or it is broken, or has no such context.
    #[error(
        "no cluster to read: {0}; name one with `--kubeconfig` and `--context`, or give manifests with `--from-files`"
    )]
    NoConfiguration(String),
    /// Credentials could not be obtained: a file is missing, an exec plugin failed.
    #[error("cannot log in to the cluster of context `{context}`: {reason}")]
    Credentials {
        /// Context.
        context: String,
        /// What went wrong, without any output that may hold a token.
        reason: String,
    },
    /// No connection, or none that TLS accepts.
    #[error("cannot reach the cluster of context `{context}` at {server}: {reason}")]
    Unreachable {
        /// Context.
        context: String,
        /// Address.
        server: String,
        /// The innermost cause, and what to do where that is known.
        reason: String,
    },
    /// 401.
    #[error(
        "the cluster of context `{context}` at {server} does not accept the credentials (401): log in again, or see whether the client certificate or token has expired"
    )]
    Unauthorized {
        /// Context.
        context: String,
        /// Address.
        server: String,
    },
    /// Not one kind could be listed.
    #[error(
        "nothing of the cluster of context `{context}` could be read: {reason}; `castoff rbac` prints the least role that is needed"
    )]
    NothingPermitted {
        /// Context.
        context: String,
        /// The first gap.
        reason: String,
    },
    /// The runtime could not be started.
    #[error("cannot start reading: {0}")]
    Runtime(String),
}

/// The names of all contexts of a kubeconfig, or of the one that kubectl would use.
///
/// # Errors
/// [`ClusterError::NoConfiguration`] when there is none, or it is broken.
pub fn contexts(kubeconfig: Option<&std::path::Path>) -> Result<Vec<String>, ClusterError> {
    connect::contexts(kubeconfig)
}

/// How far a read has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Kinds that are done.
    pub kinds: usize,
    /// Kinds in all.
    pub kinds_in_all: usize,
    /// Objects read in the page that just came.
    pub objects: usize,
}

/// Is told of every page; called from several tasks, one at a time.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// Reads a cluster.
///
/// # Errors
/// [`ClusterError`] when there is nothing to work with; everything less is a gap.
pub fn read(options: &ClusterOptions, on_progress: OnProgress) -> Result<Recording, ClusterError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| ClusterError::Runtime(error.to_string()))?
        .block_on(read_all(options, on_progress))
}

async fn read_all(
    options: &ClusterOptions,
    on_progress: OnProgress,
) -> Result<Recording, ClusterError> {
    let connection = Arc::new(connect::connect(options).await?);
    connection.check().await?;
    let served = discover::discover(&connection).await;

    let mut recording = Recording {
        context: connection.context.as_str().into(),
        ..Recording::default()
    };
    let places = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let mut tasks = JoinSet::new();
    let kinds: Vec<Kind> = KINDS
        .iter()
        .map(|row| row.kind)
        .filter(|kind| *kind != Kind::ConfigMap)
        .collect();
    for kind in &kinds {
        let kind = *kind;
        let job = Job {
            connection: Arc::clone(&connection),
            namespaces: options.namespaces.clone(),
            on_progress: Arc::clone(&on_progress),
            kind,
        };
        let served = served.get(&kind).cloned().unwrap_or(Served::Untold);
        let places = Arc::clone(&places);
        tasks.spawn(async move {
            let _place = places.acquire().await;
            (kind, job.run(served).await)
        });
    }
    let mut done = 0;
    while let Some(result) = tasks.join_next().await {
        let (kind, outcome) = result.map_err(|error| ClusterError::Runtime(error.to_string()))?;
        done += 1;
        on_progress(Progress {
            kinds: done,
            kinds_in_all: kinds.len() + 1,
            objects: 0,
        });
        recording.gaps.extend(outcome.gap);
        if let Some(list) = outcome.list {
            recording.lists.insert(kind, list);
        }
    }
    recording.gaps.sort();
    refuse_nothing(&connection, &recording)?;
    config_maps::read(&connection, &mut recording).await;
    recording.gaps.sort();
    Ok(recording)
}

/// A cluster of which no list at all was answered is an error, not a report full of gaps.
fn refuse_nothing(connection: &Connection, recording: &Recording) -> Result<(), ClusterError> {
    let answered = recording
        .lists
        .iter()
        .any(|(kind, list)| list.count > 0 || kind.row().group.is_empty());
    match recording.gaps.first() {
        Some(gap) if !answered => Err(ClusterError::NothingPermitted {
            context: connection.context.clone(),
            reason: gap.reason.clone(),
        }),
        _ => Ok(()),
    }
}

/// What came of one kind.
#[derive(Debug, Default)]
struct Outcome {
    list: Option<RecordedList>,
    gap: Option<Gap>,
}

/// Reads one kind.
struct Job {
    connection: Arc<Connection>,
    namespaces: Vec<String>,
    on_progress: OnProgress,
    kind: Kind,
}

impl Job {
    async fn run(&self, served: Served) -> Outcome {
        let versions: Vec<&str> = match &served {
            Served::As(version) => vec![version],
            Served::Untold => self.kind.row().versions.to_vec(),
            Served::Nowhere => {
                return Outcome {
                    list: Some(RecordedList {
                        api_version: self.api_version(self.kind.row().versions[0]),
                        ..RecordedList::default()
                    }),
                    gap: None,
                };
            }
            Served::OnlyAs(versions) => {
                return self.gap(format!(
                    "`{}` is served only as {}, which this castoff does not read",
                    self.kind.resource(),
                    versions.join(", ")
                ));
            }
            Served::Failed(reason) => {
                return self.gap(format!(
                    "the server could not say how `{}` is served: {reason}",
                    self.kind.resource()
                ));
            }
        };
        for version in &versions {
            match self.list(version, None).await {
                Ok(list) => {
                    return Outcome {
                        list: Some(list),
                        gap: None,
                    };
                }
                Err(Failure::Status { code: 404, .. }) => {}
                Err(Failure::Status { code: 403, .. }) => return self.by_namespace(version).await,
                Err(failure) => {
                    return self.gap(format!(
                        "listing `{}` failed: {failure}",
                        self.kind.resource()
                    ));
                }
            }
        }
        self.gap(format!(
            "`{}` is not served (404) as {}",
            self.kind.resource(),
            versions.join(", ")
        ))
    }

    /// Reads what a user with Roles in some namespaces may see.
    async fn by_namespace(&self, version: &str) -> Outcome {
        let mut all = RecordedList {
            api_version: self.api_version(version),
            ..RecordedList::default()
        };
        let mut readable = Vec::new();
        for namespace in &self.namespaces {
            if let Ok(list) = self.list(version, Some(namespace)).await {
                all.append(&list);
                readable.push(namespace.clone());
            }
        }
        let resource = self.kind.resource();
        let verb = "forbidden: this account may not `list`";
        if readable.is_empty() {
            return self.gap(format!("{verb} `{resource}`"));
        }
        let names: Vec<String> = readable.iter().map(|name| format!("`{name}`")).collect();
        Outcome {
            list: Some(all),
            gap: Some(Gap {
                kind: self.kind,
                namespace: None,
                except: readable,
                reason: format!(
                    "{verb} `{resource}` in all namespaces; only {} could be read",
                    names.join(", ")
                ),
            }),
        }
    }

    async fn list(&self, version: &str, namespace: Option<&str>) -> Result<RecordedList, Failure> {
        let row = self.kind.row();
        let root = match row.group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        let path = match namespace {
            Some(namespace) if row.namespaced => {
                format!("{root}/namespaces/{namespace}/{}", row.plural)
            }
            // A Role may permit a user to see its own namespace, and nothing else of this scope.
            Some(namespace) if self.kind == Kind::Namespace => {
                format!("{root}/namespaces/{namespace}")
            }
            Some(_) => {
                return Err(Failure::Status {
                    code: 403,
                    message: "not in a namespace".to_owned(),
                });
            }
            None => format!("{root}/{}", row.plural),
        };
        let request = list::Request {
            kind: self.kind,
            api_version: self.api_version(version),
            path,
        };
        list::list(&self.connection, &request, &|objects| {
            (self.on_progress)(Progress {
                kinds: 0,
                kinds_in_all: 0,
                objects,
            });
        })
        .await
    }

    fn api_version(&self, version: &str) -> String {
        match self.kind.row().group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        }
    }

    fn gap(&self, reason: String) -> Outcome {
        Outcome {
            list: None,
            gap: Some(Gap {
                kind: self.kind,
                namespace: None,
                except: Vec::new(),
                reason,
            }),
        }
    }
}
