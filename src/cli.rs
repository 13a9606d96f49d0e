//! The command line: arguments in, exit code out.
//!
//! In: the words of the command line. Out: what a command printed, and an [`Exit`]. Invariant:
//! only here is anything read from the environment, printed or timed.

mod baseline;
#[cfg(feature = "cluster")]
pub mod collect;
pub mod estimate;
pub mod explain;
#[cfg(feature = "cluster")]
mod fleet;
mod gone;
pub mod input;
#[cfg(feature = "cluster")]
mod live;
pub mod migrate;
pub mod plan;
mod plugin;
pub mod rbac;
pub mod shared;
mod unread;
mod unselected;
pub mod verify;
pub mod who_can;

use std::io::Write as _;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::plugin::CalledAs;
use crate::exit::Exit;

/// Moves an Istio mesh from sidecars to ambient mode: says what to do next, writes what to apply.
/// Reads only; never changes a cluster.
#[derive(Debug, Parser)]
#[command(name = "castoff", version, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The table that every `--help` ends with.
const EXIT_CODES: &str = "Exit codes: 0 nothing left to do; 1 could not run; 2 recommendations remain; \
3 a check failed; 4 something could not be checked; 64 wrong usage; 65 the files given hold nothing usable.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the phases of the migration and say what to do next
    Migrate(Box<migrate::MigrateArguments>),
    /// Plan the whole migration: waves in an order without gaps, each state proved, with the way back
    Plan(Box<plan::PlanArguments>),
    /// Compare who may call whom in two inputs: who gains, who loses, proved for every request
    Verify(verify::VerifyArguments),
    /// Say who may send a request to a Service, and which rule decides it
    WhoCan(who_can::WhoCanArguments),
    /// Add up what sidecars reserve now, and what ztunnel and waypoints will reserve then
    Estimate(estimate::EstimateArguments),
    /// Write what a cluster holds into one file that `--from-files` reads
    #[cfg(feature = "cluster")]
    Collect(collect::CollectArguments),
    /// Print the least role that reading a cluster needs, for `kubectl apply -f -`
    Rbac(rbac::RbacArguments),
    /// Explain a check by its code, or a verdict
    Explain(explain::ExplainArguments),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// Wrong usage (64).
    #[error("{0}")]
    Usage(String),
    /// Nothing usable among the input (65).
    #[error("{0}")]
    UnusableInput(String),
    /// Anything else that kept castoff from its work (1).
    #[error("{0}")]
    CouldNotRun(String),
}

impl CliError {
    fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::UnusableInput(_) => Exit::UnusableInput,
            Self::CouldNotRun(_) => Exit::CouldNotRun,
        }
    }
}

/// Runs castoff with the arguments of this process.
pub fn run() -> Exit {
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let called = CalledAs::of(&words);
    if called == CalledAs::Completion {
        // Without a reader there is nobody to tell.
        let _ = print(plugin::complete(&words[1..]).as_bytes());
        return Exit::Nothing;
    }
    let parsed = Arguments::command()
        .bin_name(called.name())
        .try_get_matches_from(&words)
        .and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = match parsed {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors; whatever else clap says is wrong usage.
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Nothing
            };
            // A closed pipe leaves nobody to tell.
            let _ = error.print();
            return exit;
        }
    };
    let outcome = match arguments.command {
        Command::Migrate(options) => migrate::run(&options, &invocation(called, &words)),
        Command::Plan(options) => plan::run(&options),
        Command::Verify(options) => verify::run(&options),
        Command::WhoCan(options) => who_can::run(&options),
        Command::Estimate(options) => estimate::run(&options),
        #[cfg(feature = "cluster")]
        Command::Collect(options) => collect::run(&options),
        Command::Rbac(options) => rbac::run(&options),
        Command::Explain(options) => explain::run(&options),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "castoff", &mut script);
            print(&script).map(|()| Exit::Nothing)
        }
        Command::Man => manual()
            .and_then(|page| print(&page))
            .map(|()| Exit::Nothing),
    };
    outcome.unwrap_or_else(|error| {
        let mut stderr = anstream::stderr().lock();
        // As above: without a reader there is nobody to tell.
        let _ = writeln!(stderr, "error: {error}");
        error.exit()
    })
}

fn manual() -> Result<Vec<u8>, CliError> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Arguments::command())
        .render(&mut page)
        .map_err(|error| CliError::CouldNotRun(format!("cannot write the manual: {error}")))?;
    Ok(page)
}

/// The command line as a shell would take it again.
fn invocation(called: CalledAs, words: &[std::ffi::OsString]) -> String {
    let mut line = called.name().to_owned();
    for word in words.iter().skip(1) {
        line.push(' ');
        line.push_str(&crate::report::shell_word(&word.to_string_lossy()));
    }
    line
}

/// A report as JSON.
///
/// # Errors
/// It cannot be written so, which would be a defect of castoff.
pub(crate) fn json(report: &impl serde::Serialize) -> Result<String, CliError> {
    serde_json::to_string_pretty(report)
        .map(|json| format!("{json}\n"))
        .map_err(|error| CliError::CouldNotRun(format!("cannot write the report: {error}")))
}

/// Writes to standard output. A reader that went away (`| head`) is no error.
///
/// # Errors
/// Any other failure to write.
pub(crate) fn print(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CliError::CouldNotRun(
            format!("cannot write to standard output: {error}"),
        )),
        _ => Ok(()),
    }
}
