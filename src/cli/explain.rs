//! `castoff explain`: a check in its own words.
//!
//! In: a code, or `--list`. Out: the header of the check's source file, which is the only place
//! where its explanation stands.

use std::fmt::Write as _;

use clap::Args;

use super::CliError;
use crate::exit::Exit;
use crate::finding::Phase;
use crate::phases::{self, Check};

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// Code of a check, such as CAST0101
    #[arg(required_unless_present = "list")]
    pub code: Option<String>,
    /// List all checks
    #[arg(long, conflicts_with = "code")]
    pub list: bool,
}

/// All checks in the order of the phases.
pub(crate) fn all_checks() -> impl Iterator<Item = &'static Check> {
    Phase::ALL.into_iter().flat_map(phases::checks)
}

/// Runs the command.
///
/// # Errors
/// Wrong usage, for a code that no check has.
pub fn run(arguments: &ExplainArguments) -> Result<Exit, CliError> {
    let mut text = String::new();
    match &arguments.code {
        None => {
            for check in all_checks() {
                let explanation = check.explanation();
                let title = explanation
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .trim_start_matches("# ");
                let _ = writeln!(text, "{}  {:<22} {title}", check.code.0, check.phase.name());
            }
        }
        Some(code) => {
            let check = all_checks()
                .find(|check| check.code.0.eq_ignore_ascii_case(code))
                .ok_or_else(|| {
                    CliError::Usage(format!(
                        "no check has the code `{code}`; `castoff explain --list` shows all"
                    ))
                })?;
            let _ = write!(
                text,
                "{} (phase {})\n\n{}",
                check.code.0,
                check.phase.name(),
                check.explanation()
            );
        }
    }
    super::print(text.as_bytes())?;
    Ok(Exit::Nothing)
}
