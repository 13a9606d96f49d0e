//! `castoff explain`: a check or a verdict in its own words.
//!
//! In: a code, a verdict, or `--list`. Out: the header of the check's source file, which is the only place
//! where its explanation stands, or what a verdict says.

use std::fmt::Write as _;

use clap::Args;

use super::CliError;
use crate::exit::Exit;
use crate::finding::Phase;
use crate::phases::{self, Check};
use crate::report::verdicts;

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArguments {
    /// Code of a check, such as CAST0101, or a verdict: same, opens, breaks, undecided …
    #[arg(required_unless_present = "list")]
    pub code: Option<String>,
    /// List all checks and verdicts
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
/// Wrong usage, for what is neither the code of a check nor a verdict.
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
            for verdict in verdicts::ALL {
                let _ = writeln!(
                    text,
                    "{:<33} {}",
                    format!("{:<14} (verdict)", verdict.name),
                    verdict.title
                );
            }
        }
        Some(code) => {
            if let Some(verdict) = verdicts::named(code) {
                let _ = write!(
                    text,
                    "{} (verdict)\n\n# {}\n\n{}",
                    verdict.name, verdict.title, verdict.text
                );
                super::print(text.as_bytes())?;
                return Ok(Exit::Nothing);
            }
            let check = all_checks()
                .find(|check| check.code.0.eq_ignore_ascii_case(code))
                .ok_or_else(|| {
                    CliError::Usage(format!(
                        "no check and no verdict is called `{code}`; `castoff explain --list` shows all"
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
