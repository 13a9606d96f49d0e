//! `castoff collect`: everything that a cluster answered, in one file that `--from-files` reads.
//!
//! In: a cluster. Out: a bundle. Invariant: the file appears whole or not at all, readable by its
//! owner only; what could not be read is in it, and makes the exit code 4.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::CliError;
use super::input::ClusterArguments;
use crate::exit::Exit;
use crate::source::recording::Recording;
use crate::source::redact::Redactor;

/// Arguments of `collect`.
#[derive(Debug, Args)]
pub struct CollectArguments {
    /// The file to write; `-` for standard output
    #[arg(default_value = "castoff-bundle.json.gz")]
    pub file: PathBuf,
    /// Where to look when a kind may not be listed in all namespaces at once; repeatable
    #[arg(short, long, value_name = "NAMESPACE")]
    pub namespace: Vec<String>,
    /// Replace all names (namespaces, workloads, hosts, identities, paths, labels) by hashes
    #[arg(long)]
    pub redact: bool,
    /// Key of the hashes: equal keys give equal hashes, and without the key names cannot be tried
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "castoff",
        hide_default_value = true,
        hide_env_values = true,
        env = "CASTOFF_REDACT_KEY"
    )]
    pub redact_key: String,
    /// Print nothing but errors
    #[arg(short, long)]
    pub quiet: bool,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

/// Runs the command.
///
/// # Errors
/// The cluster cannot be read, or the file cannot be written.
pub fn run(arguments: &CollectArguments) -> Result<Exit, CliError> {
    let mut recording =
        super::live::record(&arguments.cluster, &arguments.namespace, arguments.quiet)?;
    let mut changed_patterns = 0;
    if arguments.redact {
        let mut redactor = Redactor::new(&arguments.redact_key);
        redactor.recording(&mut recording).map_err(|error| {
            CliError::CouldNotRun(format!("what was read cannot be redacted: {error}"))
        })?;
        changed_patterns = redactor.changed_patterns();
    }
    let failed = |error: std::io::Error| {
        CliError::CouldNotRun(format!(
            "cannot write `{}`: {error}; give another path",
            arguments.file.display()
        ))
    };
    if arguments.file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        recording.write_bundle(&mut bytes).map_err(failed)?;
        super::print(&bytes)?;
    } else {
        write(&recording, &arguments.file).map_err(failed)?;
        if !arguments.quiet {
            let mut text = summary(&recording, &arguments.file);
            if changed_patterns > 0 {
                text.push_str(&format!(
                    "{changed_patterns} patterns end inside a word (`ord*`): redacted they may \
                     match less\n"
                ));
            }
            super::print(text.as_bytes())?;
        }
    }
    Ok(if recording.gaps.is_empty() {
        Exit::Nothing
    } else {
        Exit::Undecided
    })
}

fn write(recording: &Recording, path: &Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".castoff-")
        .tempfile_in(folder)?;
    recording.write_bundle(BufWriter::new(&mut file))?;
    file.flush()?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

fn summary(recording: &Recording, path: &Path) -> String {
    let objects: usize = recording.lists.values().map(|list| list.count).sum();
    let mut text = format!(
        "{}: {objects} objects of {} kinds of cluster {}\n",
        path.display(),
        recording
            .lists
            .values()
            .filter(|list| list.count > 0)
            .count(),
        recording.context
    );
    for gap in &recording.gaps {
        let within = gap
            .namespace
            .as_ref()
            .map_or_else(String::new, |name| format!(" in namespace {name}"));
        text.push_str(&format!(
            "not read: {}{within}: {}\n",
            gap.kind.resource(),
            gap.reason
        ));
    }
    text
}
