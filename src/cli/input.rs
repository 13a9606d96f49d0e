//! What every reading command is given: files, the demo, or a cluster.
//!
//! In: the shared arguments. Out: a [`Snapshot`] and words for where it came from. Invariant: a
//! cluster is read only when nothing else was named.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::CliError;
use crate::report::shell_word;
use crate::snapshot::{ProblemLevel, Snapshot};
use crate::source::{self, ReadError};

/// Arguments of all commands that read one mesh.
#[derive(Debug, Clone, Default, Args)]
pub struct InputArguments {
    /// Read manifests or a bundle instead of a cluster: a file, a folder, or `-` for standard
    /// input; repeatable
    #[arg(
        long,
        value_name = "PATH",
        num_args = 1..,
        env = "CASTOFF_FROM_FILES",
        value_delimiter = None,
        conflicts_with_all = ["kubeconfig", "context", "all_contexts", "cluster", "user", "impersonate"]
    )]
    pub from_files: Vec<PathBuf>,
    /// Read the Bookinfo-like mesh inside the binary
    #[arg(long, conflicts_with_all = ["from_files", "kubeconfig", "context", "all_contexts", "cluster", "user", "impersonate"])]
    pub demo: bool,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

/// Which cluster, and as whom; named as kubectl names them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterArguments {
    /// Path of the kubeconfig; otherwise `KUBECONFIG`, `~/.kube/config`, or the account of the pod
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; otherwise the current one. `migrate` takes several: a,b
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub context: Vec<String>,
    /// All contexts of the kubeconfig, or those that a pattern matches: `--all-contexts='prod-*'`;
    /// for `migrate`
    #[arg(
        long,
        value_name = "PATTERN",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "*",
        conflicts_with = "context"
    )]
    pub all_contexts: Option<String>,
    /// Cluster of the kubeconfig, instead of the context's
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// User of the kubeconfig, instead of the context's
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// User to impersonate
    #[arg(long = "as", id = "impersonate", value_name = "USER")]
    pub impersonate: Option<String>,
    /// Group to impersonate; repeatable
    #[arg(long = "as-group", value_name = "GROUP", requires = "impersonate")]
    pub impersonate_group: Vec<String>,
    /// How long one request to the cluster may take, retries included: 30s, 2m; 0 for no limit
    #[arg(
        long,
        value_name = "TIME",
        default_value = "60s",
        value_parser = parse_timeout,
        env = "CASTOFF_REQUEST_TIMEOUT"
    )]
    pub request_timeout: Duration,
}

impl Default for ClusterArguments {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            context: Vec::new(),
            all_contexts: None,
            cluster: None,
            user: None,
            impersonate: None,
            impersonate_group: Vec::new(),
            request_timeout: Duration::from_secs(60),
        }
    }
}

/// A time as kubectl takes it: `90`, `90s`, `1m30s`, `500ms`; 0 means that there is no limit.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    let wrong = || "write it as 30s, 2m or 1m30s; 0 means no limit".to_owned();
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest
            .find(|character: char| !character.is_ascii_digit())
            .unwrap_or(rest.len());
        let number: u64 = rest[..end].parse().map_err(|_| wrong())?;
        let letters = rest[end..]
            .find(|character: char| character.is_ascii_digit())
            .map_or(rest.len(), |length| end + length);
        let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
        let part = match &rest[end..letters] {
            "ms" => Some(Duration::from_millis(number)),
            "" | "s" => seconds(1),
            "m" => seconds(60),
            "h" => seconds(3600),
            _ => None,
        };
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
        rest = &rest[letters..];
    }
    match (text, total) {
        ("", _) => Err(wrong()),
        (_, Duration::ZERO) => Ok(Duration::MAX),
        _ => Ok(total),
    }
}

/// Reads what the user named. `namespaces` are those to look into where a kind may not be listed
/// in all of them; `quiet` hides progress.
///
/// # Errors
/// Nothing usable was found, or the cluster cannot be read.
pub(crate) fn read(
    arguments: &InputArguments,
    namespaces: &[String],
    quiet: bool,
) -> Result<(Snapshot, String), CliError> {
    if arguments.demo {
        let snapshot = crate::demo::snapshot()
            .map_err(|error| CliError::CouldNotRun(format!("the demo is broken: {error}")))?;
        return Ok((snapshot, "the demo mesh inside castoff".to_owned()));
    }
    if !arguments.from_files.is_empty() {
        return read_files(&arguments.from_files);
    }
    read_cluster(&arguments.cluster, namespaces, quiet)
}

/// Says something on standard error that a verdict rests on.
pub(crate) fn note(text: &str) {
    // Without a reader there is nobody to tell.
    let _ = writeln!(anstream::stderr().lock(), "note: {text}");
}

/// Says on standard error what was odd about the input and lost nothing, for commands whose reports
/// have no place for it.
pub(crate) fn warn(snapshot: &Snapshot) {
    let mut stderr = anstream::stderr().lock();
    for problem in &snapshot.problems {
        if problem.level == ProblemLevel::Warning {
            // Without a reader there is nobody to tell.
            let _ = writeln!(stderr, "warning: {problem}");
        }
    }
}

/// Reads files, folders, bundles, standard input.
///
/// # Errors
/// They hold nothing usable.
pub(crate) fn read_files(paths: &[PathBuf]) -> Result<(Snapshot, String), CliError> {
    let snapshot = source::read_files(paths).map_err(|error| match &error {
        ReadError::NothingUsable { .. } => CliError::UnusableInput(error.to_string()),
    })?;
    let paths: Vec<String> = paths
        .iter()
        .map(|path| shell_word(&path.to_string_lossy()))
        .collect();
    Ok((snapshot, format!("files {}", paths.join(" "))))
}

/// Reads one side of a comparison: a path, or `live` for the cluster. A file of that name is
/// given as `./live`.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_side(
    path: &Path,
    cluster: &ClusterArguments,
    namespaces: &[String],
    quiet: bool,
) -> Result<(Snapshot, String), CliError> {
    if path.as_os_str() == "live" {
        return read_cluster(cluster, namespaces, quiet);
    }
    read_files(&[path.to_owned()])
}

#[cfg(feature = "cluster")]
fn read_cluster(
    arguments: &ClusterArguments,
    namespaces: &[String],
    quiet: bool,
) -> Result<(Snapshot, String), CliError> {
    let recording = super::live::record(arguments, namespaces, quiet)?;
    let name = format!("cluster {}", shell_word(&recording.context));
    Ok((recording.into_snapshot(), name))
}

#[cfg(not(feature = "cluster"))]
fn read_cluster(
    _arguments: &ClusterArguments,
    _namespaces: &[String],
    _quiet: bool,
) -> Result<(Snapshot, String), CliError> {
    Err(CliError::Usage(
        "this castoff was built without the feature `cluster`: give `--from-files PATH` \
         (manifests or a `kubectl get -A -o yaml` dump), or `--demo`"
            .to_owned(),
    ))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_for_kubectl() {
        let milliseconds = |text: &str| parse_timeout(text).unwrap().as_millis();
        assert_eq!(
            ["90", "90s", "1m30s", "500ms", "1h"].map(milliseconds),
            [90_000, 90_000, 90_000, 500, 3_600_000]
        );
        assert_eq!(parse_timeout("0").unwrap(), Duration::MAX);
        for wrong in ["", "s", "5x", "-1s", "1.5s", "99999999999999999999s"] {
            assert!(parse_timeout(wrong).is_err(), "{wrong}");
        }
    }
}
