//! `castoff migrate`: source → snapshot → mesh → phases → report, and the files it writes.
//!
//! In: arguments. Out: printed report, written files, exit code. Invariant: the exit code is the
//! report's, whatever the format.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};

use super::input::InputArguments;
use super::shared::{LengthArguments, LookArguments, MeshArguments};
use super::{CliError, baseline};
use crate::exit::Exit;
use crate::finding::Phase;
use crate::mesh::Mesh;
use crate::phases::{self, Context, MigrateOptions};
use crate::plan::recommended;
use crate::report::proof::AccessBlock;
use crate::report::text::Style;
use crate::report::{
    Parts, Report, WaiverReview, folder, junit, markdown, sarif, script, text, wire, yaml,
};
use crate::snapshot::{ObjectName, Snapshot};
use crate::waiver::{Day, Waivers};

/// Arguments of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArguments {
    /// What to read.
    #[command(flatten)]
    pub input: InputArguments,
    /// Start at this phase, leaving out what comes before
    #[arg(long, value_name = "PHASE", value_parser = parse_phase, env = "CASTOFF_PHASE")]
    pub phase: Option<Phase>,
    /// Go on after a phase that failed or has recommendations
    #[arg(long, env = "CASTOFF_IGNORE_FAILURES", value_parser = clap::builder::FalseyValueParser::new())]
    pub ignore_failures: bool,
    /// Folder for the files to apply
    #[arg(
        long,
        value_name = "FOLDER",
        default_value = "castoff-out",
        env = "CASTOFF_OUTPUT_DIR"
    )]
    pub output_dir: PathBuf,
    /// The state before the migration, which access is compared with; otherwise the one that an
    /// earlier run saved in the output folder, or else the state read now, which is saved there
    #[arg(long, value_name = "PATH", env = "CASTOFF_BASELINE")]
    pub baseline: Option<PathBuf>,
    /// Take multicluster, virtual machines and SPIRE for warnings; translate EnvoyFilters
    #[arg(long, env = "CASTOFF_ENTERPRISE", value_parser = clap::builder::FalseyValueParser::new())]
    pub enterprise: bool,
    /// Label Services rather than namespaces
    #[arg(long, env = "CASTOFF_PER_SERVICE", value_parser = clap::builder::FalseyValueParser::new())]
    pub per_service: bool,
    /// Give this Service a waypoint although nothing requires it; repeatable
    #[arg(long, value_name = "NAMESPACE/SERVICE", value_parser = parse_service)]
    pub waypoint: Vec<ObjectName>,
    /// File of declined recommendations; otherwise `castoff.yaml` beside the manifests
    #[arg(long, value_name = "FILE", env = "CASTOFF_WAIVERS")]
    pub waivers: Option<PathBuf>,
    /// Which mesh it is.
    #[command(flatten)]
    pub mesh: MeshArguments,
    /// Format of the report
    #[arg(
        short,
        long,
        value_enum,
        default_value = "text",
        env = "CASTOFF_OUTPUT"
    )]
    pub output: Format,
    /// How text looks.
    #[command(flatten)]
    pub look: LookArguments,
    /// How much of it there is.
    #[command(flatten)]
    pub length: LengthArguments,
}

/// Values of `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// schemas/report.v1.json
    Json,
    /// The same as YAML
    Yaml,
    /// For a comment on a change
    Markdown,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// JUnit XML, for CI
    Junit,
}

fn parse_phase(text: &str) -> Result<Phase, String> {
    let names: Vec<&str> = Phase::ALL.iter().map(|phase| phase.name()).collect();
    Phase::ALL
        .into_iter()
        .find(|phase| phase.name() == text)
        .ok_or_else(|| format!("phases are: {}", names.join(", ")))
}

pub(super) fn parse_service(text: &str) -> Result<ObjectName, String> {
    match text.split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            Ok(ObjectName::new(namespace, name))
        }
        _ => Err("write NAMESPACE/SERVICE".to_owned()),
    }
}

/// Runs the command. `invocation` is the command line that repeats it.
///
/// # Errors
/// [`CliError`] when nothing could be read, an argument names what does not exist, the waiver file
/// is bad, or a file cannot be written.
pub fn run(arguments: &MigrateArguments, invocation: &str) -> Result<Exit, CliError> {
    #[cfg(feature = "cluster")]
    if let Some(contexts) = super::fleet::contexts(&arguments.input.cluster)? {
        return super::fleet::run(arguments, &contexts, invocation);
    }
    let (snapshot, input) = super::input::read(
        &arguments.input,
        &arguments.mesh.namespace,
        arguments.length.quiet,
    )?;
    let report = report_of(
        arguments,
        &snapshot,
        input,
        &arguments.output_dir,
        invocation,
    )?;
    super::print(render(&report, arguments).as_bytes())?;
    Ok(report.exit)
}

/// Runs the phases on one mesh and writes its files.
///
/// # Errors
/// As [`run`].
pub(super) fn report_of(
    arguments: &MigrateArguments,
    snapshot: &Snapshot,
    input: String,
    output_dir: &Path,
    invocation: &str,
) -> Result<Report, CliError> {
    let today = today()?;
    let waivers = read_waivers(arguments)?;
    let overrides = arguments.mesh.overrides();
    let mesh = Mesh::build(snapshot, &overrides);
    check_names(&arguments.mesh, &arguments.waypoint, &mesh)?;
    let options = MigrateOptions {
        enterprise: arguments.enterprise,
        per_service: arguments.per_service,
        chosen_waypoints: arguments.waypoint.iter().cloned().collect(),
        namespaces: arguments.mesh.namespace.iter().cloned().collect(),
        first_phase: arguments.phase,
        ignore_failures: arguments.ignore_failures,
    };
    let context = Context::new(&mesh, snapshot, &options);
    let mut review = WaiverReview::new(&waivers, &today);
    let mut results = phases::run_reviewed(&context, &mut |result| review.review(result));
    let (waived, mut unmatched_waivers) = review.finish();
    if !options.namespaces.is_empty() {
        // What was left out cannot be told from what is gone.
        unmatched_waivers.clear();
    }
    let baseline = baseline::of_run(arguments.baseline.as_deref(), snapshot, &input, output_dir)?;
    let before = baseline
        .snapshot
        .as_ref()
        .map(|snapshot| Mesh::build(snapshot, &overrides));
    if let (Some(path), Some(before)) = (&arguments.baseline, &before) {
        baseline::unmatched(before, &mesh, path)?;
    }
    let access = recommended::prove(
        before.as_ref().unwrap_or(&mesh),
        snapshot,
        &overrides,
        &options,
        &mut results,
    );
    let mut report = Report::new(Parts {
        input,
        access: Some(AccessBlock::new(&access, baseline.words)),
        phases: results,
        waived,
        expired_waivers: waivers.expired(&today),
        unmatched_waivers,
        gaps: mesh.gaps.clone(),
        problems: snapshot.problems.clone(),
        invocation: invocation.to_owned(),
        demo: arguments.input.demo,
    });
    write_files(&mut report, output_dir)?;
    Ok(report)
}

/// How text is to look.
pub(super) fn style(arguments: &MigrateArguments) -> Style {
    arguments.look.style_of(&arguments.length)
}

fn render(report: &Report, arguments: &MigrateArguments) -> String {
    match arguments.output {
        Format::Text => text::render(report, style(arguments)),
        Format::Json => wire::json(report),
        Format::Yaml => yaml::render(report),
        Format::Markdown => markdown::render(report),
        Format::Sarif => sarif::render(report),
        Format::Junit => junit::render(report),
    }
}

fn today() -> Result<Day, CliError> {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_err(|_| CliError::CouldNotRun("the clock stands before 1970; set it".to_owned()))?;
    Ok(Day::from_unix_seconds(since.as_secs()))
}

/// The waiver file: the one given, or else `castoff.yaml` beside (or in) the first of the inputs
/// that has one.
fn read_waivers(arguments: &MigrateArguments) -> Result<Waivers, CliError> {
    let found = arguments.waivers.clone().or_else(|| {
        arguments.input.from_files.iter().find_map(|path| {
            let folder = if path.is_dir() { path } else { path.parent()? };
            if path == Path::new("-") {
                return None;
            }
            let file = folder.join("castoff.yaml");
            file.is_file().then_some(file)
        })
    });
    let Some(path) = found else {
        return Ok(Waivers::default());
    };
    let name = path.display().to_string();
    let text = std::fs::read_to_string(&path).map_err(|error| {
        CliError::Usage(format!("cannot read the waiver file `{name}`: {error}"))
    })?;
    let known = |code: &str| super::explain::all_checks().any(|check| check.code.0 == code);
    Waivers::parse(&name, &text, known).map_err(|error| CliError::Usage(error.to_string()))
}

/// Names on the command line that match nothing would silently check nothing.
pub(super) fn check_names(
    arguments: &MeshArguments,
    services: &[ObjectName],
    mesh: &Mesh,
) -> Result<(), CliError> {
    arguments.check(&[mesh])?;
    for service in services {
        if mesh.service_named(service).is_none() {
            return Err(CliError::Usage(format!(
                "Service `{service}` is not among the input; check the spelling of `--waypoint`"
            )));
        }
    }
    Ok(())
}

fn write_files(report: &mut Report, output: &Path) -> Result<(), CliError> {
    let commands = script::render(report);
    let mut files: Vec<(&'static str, &str)> = report
        .phases
        .iter()
        .flat_map(|phase| &phase.artefacts)
        .map(|artefact| (artefact.file, artefact.content.as_str()))
        .collect();
    if let Some(commands) = &commands {
        files.push((script::FILE, commands));
    }
    let put_aside =
        folder::write(output, &files).map_err(|error| CliError::CouldNotRun(error.to_string()))?;
    let names = files.iter().map(|(name, _)| *name).collect();
    report.files = names;
    report.put_aside = put_aside;
    report.output_folder = Some(output.display().to_string());
    Ok(())
}
