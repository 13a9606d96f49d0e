//! `castoff plan`: the whole migration at once, each state proved, in a folder to carry out.
//!
//! In: arguments. Out: a printed summary, the folder, an exit code. Invariant: the exit code is the
//! plan's, whatever the format; the folder is written whole or not at all.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::input::{self, InputArguments};
use super::migrate::{self, parse_service};
use super::shared::{LengthArguments, LookArguments, MeshArguments};
use super::{CliError, baseline, unread};
use crate::exit::Exit;
use crate::phases::MigrateOptions;
use crate::plan::traffic::CallGraph;
use crate::plan::{OnGap, PlanOptions};
use crate::report::folder::BASELINE;
use crate::report::paint::painted;
use crate::report::plan::{PlanReport, exit, folder};
use crate::report::yaml;
use crate::snapshot::ObjectName;
#[cfg(feature = "cluster")]
use crate::source::prometheus;

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// What to read.
    #[command(flatten)]
    pub input: InputArguments,
    /// The state before the migration, which every state is compared with; otherwise the one that an earlier plan
    /// saved in the output folder, or else the state read now, which is saved there
    #[arg(long, value_name = "PATH", env = "CASTOFF_BASELINE")]
    pub baseline: Option<PathBuf>,
    /// Folder for the plan
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "castoff-plan",
        env = "CASTOFF_PLAN_DIR"
    )]
    pub output_dir: PathBuf,
    /// What to do where no order is without a gap
    #[arg(long, value_enum, default_value = "stop", env = "CASTOFF_ON_GAP")]
    pub on_gap: OnGapArgument,
    /// Who calls whom: a saved answer of Prometheus to `istio_requests_total`, JSON or text
    #[arg(long, value_name = "FILE", env = "CASTOFF_TRAFFIC")]
    pub traffic: Option<PathBuf>,
    /// Who calls whom, asked of this Prometheus; a token for it in CASTOFF_PROMETHEUS_TOKEN
    #[cfg(feature = "cluster")]
    #[arg(
        long,
        value_name = "URL",
        env = "CASTOFF_PROMETHEUS",
        conflicts_with = "traffic"
    )]
    pub prometheus: Option<String>,
    /// How far back Prometheus looks: 12h, 7d, 2w
    #[cfg(feature = "cluster")]
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = prometheus::parse_window, env = "CASTOFF_PROMETHEUS_WINDOW")]
    pub prometheus_window: String,
    /// Take multicluster, virtual machines and SPIRE for warnings; translate EnvoyFilters
    #[arg(long, env = "CASTOFF_ENTERPRISE", value_parser = clap::builder::FalseyValueParser::new())]
    pub enterprise: bool,
    /// Label Services rather than namespaces
    #[arg(long, env = "CASTOFF_PER_SERVICE", value_parser = clap::builder::FalseyValueParser::new())]
    pub per_service: bool,
    /// Give this Service a waypoint although nothing requires it; repeatable
    #[arg(long, value_name = "NAMESPACE/SERVICE", value_parser = parse_service)]
    pub waypoint: Vec<ObjectName>,
    /// Which mesh it is.
    #[command(flatten)]
    pub mesh: MeshArguments,
    /// Format of what is printed; the folder holds all of them
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: PlanFormat,
    /// How text looks.
    #[command(flatten)]
    pub look: LookArguments,
    /// How much of it there is.
    #[command(flatten)]
    pub length: LengthArguments,
}

/// Values of `--on-gap`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnGapArgument {
    /// Leave the workloads concerned in their sidecars and say why
    Stop,
    /// Close what would open by policies that are deleted when the wave is over
    Deny,
    /// Go on and say what is open or broken, and how long
    Accept,
}

/// Values of `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// A line a wave
    Text,
    /// schemas/plan.v1.json
    Json,
    /// The same as YAML
    Yaml,
    /// The whole plan for people
    Markdown,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`] when nothing could be read, an argument names what does not exist, or the folder
/// cannot be written.
pub fn run(arguments: &PlanArguments) -> Result<Exit, CliError> {
    let (snapshot, input) = input::read(
        &arguments.input,
        &arguments.mesh.namespace,
        arguments.length.quiet,
    )?;
    input::warn(&snapshot);
    let (baseline, bundle) = baseline::of_plan(
        arguments.baseline.as_deref(),
        &snapshot,
        &input,
        &arguments.output_dir,
    )?;
    let overrides = arguments.mesh.overrides();
    let mesh = crate::mesh::Mesh::build(&snapshot, &overrides);
    migrate::check_names(&arguments.mesh, &arguments.waypoint, &mesh)?;
    let mut unread = unread::lost(&snapshot, &mesh);
    if let Some(earlier) = &baseline.snapshot {
        let before = crate::mesh::Mesh::build(earlier, &overrides);
        unread.extend(unread::lost(earlier, &before));
        let given = arguments.baseline.clone();
        let path = given.unwrap_or_else(|| arguments.output_dir.join(BASELINE));
        unread.extend(baseline::unmatched(&before, &mesh, &path)?);
    }
    let absent = unread::taken_for_absent(&mesh);
    let options = PlanOptions {
        migrate: MigrateOptions {
            enterprise: arguments.enterprise,
            per_service: arguments.per_service,
            chosen_waypoints: arguments.waypoint.iter().cloned().collect(),
            namespaces: arguments.mesh.namespace.iter().cloned().collect(),
            ..MigrateOptions::default()
        },
        on_gap: match arguments.on_gap {
            OnGapArgument::Stop => OnGap::Stop,
            OnGapArgument::Deny => OnGap::Deny,
            OnGapArgument::Accept => OnGap::Accept,
        },
        calls: calls(arguments)?,
    };
    let earlier = baseline.snapshot.unwrap_or_else(|| snapshot.clone());
    let plan = crate::plan::plan(&earlier, snapshot, &overrides, &options);
    let mut report = PlanReport::new(&plan, input, baseline.words, unread);
    report.assumptions.extend(absent);
    let files = folder::files(&plan, &report);
    folder::write(&arguments.output_dir, &files, bundle.as_deref())
        .map_err(|error| CliError::CouldNotRun(error.to_string()))?;
    let text = match arguments.output {
        PlanFormat::Text => {
            let style = arguments.look.style_of(&arguments.length);
            let mut text = report.text(style);
            text.push_str(&report.next(&arguments.output_dir.display().to_string()));
            painted(&text, style)
        }
        PlanFormat::Yaml => yaml::of_report(&report).map_err(CliError::CouldNotRun)?,
        PlanFormat::Json => files["plan.json"].clone(),
        PlanFormat::Markdown => files["plan.md"].clone(),
    };
    super::print(text.as_bytes())?;
    Ok(exit(&plan, &report.unread))
}

/// Who calls whom, where that was given.
fn calls(arguments: &PlanArguments) -> Result<Option<CallGraph>, CliError> {
    #[cfg(feature = "cluster")]
    if let Some(address) = &arguments.prometheus {
        let token = std::env::var("CASTOFF_PROMETHEUS_TOKEN").ok();
        let answer = prometheus::calls(
            address,
            &arguments.prometheus_window,
            token.as_deref(),
            arguments.input.cluster.request_timeout,
        )
        .map_err(CliError::CouldNotRun)?;
        return CallGraph::read(&answer).map(Some).map_err(|error| {
            CliError::CouldNotRun(format!(
                "cannot use what Prometheus at `{address}` answered: {error}"
            ))
        });
    }
    arguments.traffic.as_ref().map(traffic).transpose()
}

fn traffic(path: &PathBuf) -> Result<CallGraph, CliError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        CliError::Usage(format!(
            "cannot read the traffic `{}`: {error}",
            path.display()
        ))
    })?;
    CallGraph::read(&text).map_err(|error| {
        CliError::Usage(format!(
            "cannot use the traffic `{}`: {error}",
            path.display()
        ))
    })
}
