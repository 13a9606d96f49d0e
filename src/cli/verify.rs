//! `castoff verify BEFORE AFTER`: who gains and who loses access between two inputs.
//!
//! In: two inputs. Out: the report of access and an exit code. Invariant: a server that only the first
//! input has, a policy that differs and selects nothing, and anything undecided, is never exit 0; nor is access to
//! or of a workload that is new, unless somebody says that it is meant.

use std::collections::BTreeSet;
use std::path::PathBuf;

use castoff_authz::verdict::Limits;

use super::input::{self, ClusterArguments};
use super::{CliError, unread, unselected};
use crate::exit::Exit;
use crate::mesh::{Mesh, MeshOverrides};
use crate::prove::newcomers::newcomers;
use crate::prove::rows::{Counted, States, rows_counting};
use crate::report::access::AccessReport;
use crate::report::intended::Intended;
use crate::snapshot::ObjectName;

/// Arguments of `castoff verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArguments {
    /// File, folder or bundle: the state that access is compared with; `live` for the cluster
    pub before: PathBuf,
    /// File, folder or bundle: the state that is compared; `live` for the cluster
    pub after: PathBuf,
    /// Report only access that somebody gains
    #[arg(long)]
    pub only_new_access: bool,
    /// A difference that is meant: `opens:NAMESPACE/WORKLOAD` or `breaks:NAMESPACE/WORKLOAD:PORT`, `new:` for a workload
    /// that only the second input has, `gone:` for one that only the first has; names may end in `*`; repeatable
    #[arg(long, value_name = "DIFFERENCE")]
    pub allow: Vec<Intended>,
    /// What it is when pod addresses are closed that nobody is known to dial
    #[arg(long, value_enum, default_value_t = Loss::Note)]
    pub direct: Loss,
    /// What it is when callers without identity are refused, none of whom is known to call
    #[arg(long, value_enum, default_value_t = Loss::Note)]
    pub outsiders: Loss,
    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = AccessFormat::Text)]
    pub output: AccessFormat,
    /// No symbols outside ASCII
    #[arg(long)]
    pub ascii: bool,
    /// Which cluster `live` is.
    #[command(flatten)]
    pub cluster: ClusterArguments,
}

/// What a loss is that nobody is known to suffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Loss {
    /// A difference, like any other
    Fail,
    /// Worth a note
    Note,
}

/// Formats of access reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum AccessFormat {
    /// For people.
    Text,
    /// For pull requests.
    Markdown,
    /// For programs.
    Json,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`] when an input holds nothing usable.
pub fn run(arguments: &VerifyArguments) -> Result<Exit, CliError> {
    let read =
        |path: &PathBuf| input::read_side(path, &arguments.cluster).map(|(snapshot, _)| snapshot);
    let (before, after) = (read(&arguments.before)?, read(&arguments.after)?);
    input::warn(&before);
    input::warn(&after);
    let overrides = MeshOverrides::default();
    let (baseline, present) = (
        Mesh::build(&before, &overrides),
        Mesh::build(&after, &overrides),
    );
    let mut rows = rows_counting(
        &States {
            baseline: &baseline,
            present: &present,
        },
        Limits::default(),
        Counted {
            direct: arguments.direct == Loss::Fail,
            outsiders: arguments.outsiders == Loss::Fail,
        },
    );
    // These are newcomers.
    rows.retain(|row| !row.unmatched);
    let newcomers = newcomers(
        &States {
            baseline: &baseline,
            present: &present,
        },
        Limits::default(),
    );
    let gone = gone(&baseline, &present);
    if rows.is_empty() && gone.is_empty() && newcomers.is_empty() {
        return Err(CliError::UnusableInput(
            "nothing to compare: neither input holds a workload of the mesh, and what policies do shows only at the \
             workloads that they select; give the workloads, Services and namespaces too"
                .to_owned(),
        ));
    }
    let mut open: Vec<String> = gone
        .iter()
        .filter(|name| !arguments.allow.iter().any(|one| one.covers_gone(name)))
        .map(|name| format!("{name} is only in the first input"))
        .collect();
    open.extend(unselected::differing(&baseline, &present));
    let lost = [(&before, &baseline), (&after, &present)]
        .into_iter()
        .flat_map(|(snapshot, mesh)| unread::lost(snapshot, mesh));
    for one in lost {
        if !open.contains(&one) {
            open.push(one);
        }
    }
    let absent = [&baseline, &present].map(unread::taken_for_absent);
    for absent in absent.iter().flatten().collect::<BTreeSet<_>>() {
        input::note(absent);
    }
    let report = AccessReport::new(
        arguments.before.display().to_string(),
        arguments.after.display().to_string(),
        (&rows, &newcomers),
        (open, gone),
        arguments.only_new_access,
        &arguments.allow,
    );
    let text = match arguments.output {
        AccessFormat::Text => report.text(arguments.ascii),
        AccessFormat::Markdown => report.markdown(),
        AccessFormat::Json => {
            let json = serde_json::to_string_pretty(&report).map_err(|error| {
                CliError::CouldNotRun(format!("cannot write the report: {error}"))
            })?;
            format!("{json}\n")
        }
    };
    let exit = if report.differs() {
        Exit::Failed
    } else if report.is_incomplete() {
        Exit::Undecided
    } else {
        Exit::Nothing
    };
    super::print(text.as_bytes())?;
    Ok(exit)
}

/// Workloads of the mesh that only the first side has: whom they let in is compared with nothing.
fn gone(baseline: &Mesh, present: &Mesh) -> Vec<String> {
    let left: BTreeSet<&ObjectName> = present.workloads.iter().map(|one| &one.name).collect();
    let applications = baseline
        .workloads
        .iter()
        .filter(|workload| workload.is_mesh_application());
    let gone: BTreeSet<String> = applications
        .filter(|workload| !left.contains(&workload.name))
        .map(|workload| workload.name.to_string())
        .collect();
    gone.into_iter().collect()
}
