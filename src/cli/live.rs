//! Reads a cluster, and shows on a terminal how far it has come.
//!
//! In: which cluster. Out: a [`Recording`]. Invariant: nothing is shown where standard error is no
//! terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::CliError;
use super::input::ClusterArguments;
use crate::source::cluster::{self, ClusterOptions, Progress};
use crate::source::recording::Recording;

/// Reads the cluster that the arguments name.
///
/// # Errors
/// The cluster cannot be reached, or nothing of it may be read.
pub(crate) fn record(
    arguments: &ClusterArguments,
    namespaces: &[String],
    quiet: bool,
) -> Result<Recording, CliError> {
    if arguments.context.len() > 1 || arguments.all_contexts.is_some() {
        return Err(CliError::Usage(
            "this command reads one cluster: give one `--context`; `migrate` takes several"
                .to_owned(),
        ));
    }
    let options = ClusterOptions {
        kubeconfig: arguments.kubeconfig.clone(),
        context: arguments.context.first().cloned(),
        cluster: arguments.cluster.clone(),
        user: arguments.user.clone(),
        impersonate: arguments.impersonate.clone(),
        impersonate_groups: arguments.impersonate_group.clone(),
        request_timeout: arguments.request_timeout,
        namespaces: namespaces.to_vec(),
    };
    let bar = progress_bar(quiet);
    let objects = AtomicUsize::new(0);
    let shown = bar.clone();
    let recording = cluster::read(
        &options,
        Arc::new(move |progress| show(&shown, &objects, progress)),
    );
    bar.finish_and_clear();
    recording.map_err(|error| CliError::CouldNotRun(error.to_string()))
}

fn progress_bar(quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    // Drawn on standard error, and only if that is a terminal.
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar.set_message("connecting to the cluster");
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn show(bar: &ProgressBar, objects: &AtomicUsize, progress: Progress) {
    let objects = objects.fetch_add(progress.objects, Ordering::Relaxed) + progress.objects;
    bar.set_message(format!(
        "reading the cluster: {} of {} kinds, {objects} objects",
        progress.kinds, progress.kinds_in_all
    ));
}
