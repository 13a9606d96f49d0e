//! `castoff estimate`: what sidecars reserve now, what ztunnel and waypoints will reserve then.
//!
//! In: a mesh. Out: sums of requests, and an exit code. Invariant: nothing leaves the machine; what is not known is
//! named, and makes the exit code 4.

use super::input::{self, InputArguments};
use super::shared::{LookArguments, MeshArguments};
use super::{CliError, unread};
use crate::estimate::estimate;
use crate::exit::Exit;
use crate::mesh::Mesh;
use crate::phases::{Context, MigrateOptions};
use crate::report::estimate::EstimateReport;
use crate::report::paint::painted;
use crate::report::yaml;

/// Arguments of `castoff estimate`.
#[derive(Debug, clap::Args)]
pub struct EstimateArguments {
    /// What to read.
    #[command(flatten)]
    pub input: InputArguments,
    /// Which mesh it is.
    #[command(flatten)]
    pub mesh: MeshArguments,
    /// Format of the output
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: EstimateFormat,
    /// How text looks.
    #[command(flatten)]
    pub look: LookArguments,
}

/// Values of `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EstimateFormat {
    /// For people
    Text,
    /// schemas/estimate.v1.json
    Json,
    /// The same as YAML
    Yaml,
}

/// Runs the command.
///
/// # Errors
/// [`CliError`] when nothing can be read, or a namespace is not among the input.
pub fn run(arguments: &EstimateArguments) -> Result<Exit, CliError> {
    let (snapshot, input) = input::read(&arguments.input, &arguments.mesh.namespace, false)?;
    input::warn(&snapshot);
    let mesh = Mesh::build(&snapshot, &arguments.mesh.overrides());
    arguments.mesh.check(&[&mesh])?;
    let options = MigrateOptions {
        namespaces: arguments.mesh.namespace.iter().cloned().collect(),
        ..MigrateOptions::default()
    };
    let found = estimate(&Context::new(&mesh, &snapshot, &options));
    let report = EstimateReport::new(&found, input, unread::lost(&snapshot, &mesh));
    let text = match arguments.output {
        EstimateFormat::Text => {
            let style = arguments.look.style();
            painted(&report.text(style.ascii), style)
        }
        EstimateFormat::Json => super::json(&report)?,
        EstimateFormat::Yaml => yaml::of_report(&report).map_err(CliError::CouldNotRun)?,
    };
    super::print(text.as_bytes())?;
    Ok(report.exit())
}
