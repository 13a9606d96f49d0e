//! `castoff verify BEFORE AFTER`: who gains and who loses access between two inputs.
//!
//! In: two inputs. Out: the report of access and an exit code. Invariant: a server that only the first
//! input has, a policy that differs and selects nothing, and anything undecided, is never exit 0; nor is access to
//! or of a workload that is new, unless somebody says that it is meant.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use castoff_authz::verdict::Limits;

use super::input::{self, ClusterArguments};
use super::shared::{LookArguments, MeshArguments};
use super::{CliError, gone, unread, unselected};
use crate::exit::Exit;
use crate::mesh::Mesh;
use crate::prove::newcomers::newcomers;
use crate::prove::rows::{Counted, States, rows_counting};
use crate::report::access::AccessReport;
use crate::report::intended::Intended;
use crate::report::paint::painted;
use crate::report::text::Style;
use crate::report::yaml;

/// Arguments of `castoff verify`.
#[derive(Debug, clap::Args)]
pub struct VerifyArguments {
    /// File, folder or bundle: the state that access is compared with; `live` for the cluster
    pub before: PathBuf,
    /// File, folder or bundle: the state that is compared; `live` for the cluster
    pub after: PathBuf,
    /// Report only access that somebody gains; a workload that is gone is a note
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
    /// Which mesh it is.
    #[command(flatten)]
    pub mesh: MeshArguments,
    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = AccessFormat::Text)]
    pub output: AccessFormat,
    /// How text looks.
    #[command(flatten)]
    pub look: LookArguments,
    /// Leave servers that are the same out of the text
    #[arg(short, long)]
    pub quiet: bool,
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
    /// For people
    Text,
    /// For pull requests
    Markdown,
    /// schemas/access.v1.json
    Json,
    /// The same as YAML
    Yaml,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// JUnit XML, for CI
    Junit,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`] when an input holds nothing usable.
pub fn run(arguments: &VerifyArguments) -> Result<Exit, CliError> {
    let scope = &arguments.mesh;
    let read = |path: &PathBuf| {
        input::read_side(path, &arguments.cluster, &scope.namespace, arguments.quiet)
            .map(|(snapshot, _)| snapshot)
    };
    let (before, after) = (read(&arguments.before)?, read(&arguments.after)?);
    input::warn(&before);
    input::warn(&after);
    let overrides = scope.overrides();
    let (baseline, present) = (
        Mesh::build(&before, &overrides),
        Mesh::build(&after, &overrides),
    );
    scope.check(&[&baseline, &present])?;
    let mut workloads = baseline.workloads.iter().chain(&present.workloads);
    if !workloads.any(|one| one.is_mesh_application() && scope.includes(&one.name.namespace)) {
        return Err(CliError::UnusableInput(
            "nothing to compare: neither input holds a workload of the mesh (in the namespaces of `-n`, where that is \
             given), and what policies do shows only at the workloads that they select; give the workloads, Services and \
             namespaces too"
                .to_owned(),
        ));
    }
    let states = States {
        baseline: &baseline,
        present: &present,
    };
    let counted = Counted {
        direct: arguments.direct == Loss::Fail,
        outsiders: arguments.outsiders == Loss::Fail,
    };
    let mut rows = rows_counting(&states, Limits::default(), counted);
    // Newcomers are told apart.
    rows.retain(|row| !row.unmatched && scope.includes(&row.server.namespace));
    let mut newcomers = newcomers(&states, Limits::default());
    for one in &mut newcomers {
        one.keep_servers(|namespace| scope.includes(namespace));
    }
    newcomers.retain(|one| scope.includes(&one.name.namespace) || !one.calls.is_empty());
    let mut gone = gone::gone(&baseline, &present);
    gone.retain(|name, _| scope.includes(&name.namespace));
    let gone: BTreeMap<String, Option<String>> = gone
        .into_iter()
        .map(|(name, elsewhere)| (name.to_string(), elsewhere))
        .collect();
    // Who is gone lets nobody in; what led to him may lead to something else.
    let is_noted = |elsewhere: &Option<String>| arguments.only_new_access && elsewhere.is_none();
    let noted: Vec<String> = (gone.iter().filter(|(_, elsewhere)| is_noted(elsewhere)))
        .map(|(name, _)| name.clone())
        .collect();
    let mut open: Vec<String> = gone
        .iter()
        .filter(|(name, _)| !arguments.allow.iter().any(|one| one.covers_gone(name)))
        .filter(|(_, elsewhere)| !is_noted(elsewhere))
        .map(|(name, elsewhere)| match elsewhere {
            None => format!("{name} is only in the first input"),
            Some(elsewhere) => format!("{name} is only in the first input; {elsewhere}"),
        })
        .collect();
    let gone: Vec<String> = gone.into_keys().collect();
    open.extend(unselected::differing(&baseline, &present, &|namespace| {
        let roots = [&baseline, &present].map(|mesh| mesh.settings.root_namespace.as_str());
        scope.includes(namespace) || roots.contains(&namespace)
    }));
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
    let mut report = AccessReport::new(
        arguments.before.display().to_string(),
        arguments.after.display().to_string(),
        (&rows, &newcomers),
        (open, gone, &noted),
        arguments.only_new_access,
        &arguments.allow,
    );
    report.namespaces.clone_from(&scope.namespace);
    let text = match arguments.output {
        AccessFormat::Text => {
            let style = Style {
                quiet: arguments.quiet,
                ..arguments.look.style()
            };
            painted(&report.text(style), style)
        }
        AccessFormat::Markdown => report.markdown(),
        AccessFormat::Json => super::json(&report)?,
        AccessFormat::Yaml => yaml::of_report(&report).map_err(CliError::CouldNotRun)?,
        AccessFormat::Sarif => report.sarif(),
        AccessFormat::Junit => report.junit(),
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
