//! What ends with the sidecars besides decisions about access, for people and machines.
//!
//! In: what the plan found. Out: lines of the terminal, a section of `plan.md`. Invariant: it stands before the waves,
//! since it has to be settled before the sidecars go.

use std::fmt::Write;

use schemars::JsonSchema;
use serde::Serialize;

use crate::plan::wave::EndsWithSidecars;

/// Something that sidecars honour and ambient mode does not, or otherwise.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndsWithSidecarsReport {
    /// Code of the check that found it; `castoff explain CODE` says more.
    pub code: &'static str,
    /// What, in one sentence.
    pub what: String,
    /// Of what and why.
    pub details: Vec<String>,
    /// What people can do before the sidecars go.
    pub advice: Vec<String>,
}

impl From<&EndsWithSidecars> for EndsWithSidecarsReport {
    fn from(one: &EndsWithSidecars) -> Self {
        Self {
            code: one.code,
            what: one.what.clone(),
            details: one.details.clone(),
            advice: one.advice.clone(),
        }
    }
}

/// For the terminal: a line each, reasons and advice beneath.
pub(super) fn push(out: &mut String, list: &[EndsWithSidecarsReport], ascii: bool) {
    let symbol = if ascii { "[warn]" } else { "⚠️" };
    for one in list {
        out.push_str(&format!(
            "{symbol} ends with the sidecars ({}): {}\n",
            one.code, one.what
        ));
        for detail in &one.details {
            out.push_str(&format!("    {detail}\n"));
        }
        for advice in &one.advice {
            out.push_str(&format!("    what to do: {advice}\n"));
        }
    }
}

/// For `plan.md`.
pub(super) fn section(page: &mut String, list: &[EndsWithSidecarsReport]) {
    if list.is_empty() {
        return;
    }
    let _ = writeln!(
        page,
        "## What ends with the sidecars\n\nThis is no question of who may call whom, so that no proof below speaks of it: \
         sidecars honour it, and ambient mode does not, or otherwise. What to do is to be done before they go.\n"
    );
    for one in list {
        let _ = writeln!(page, "- {} (`castoff explain {}`)", one.what, one.code);
        for detail in &one.details {
            let _ = writeln!(page, "  - {detail}");
        }
        for advice in &one.advice {
            let _ = writeln!(page, "  - What to do: {advice}.");
        }
    }
    page.push('\n');
}
