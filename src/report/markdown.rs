//! The report as Markdown, for a comment on a change.
//!
//! In: a [`Report`]. Out: one table of phases, then the findings and who gains or loses access. Invariant: what users wrote is
//! escaped, so no name can break the page.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::access;
use super::proof::AccessBlock;
use super::recommended::{self, ProofReport};
use super::{Report, wire};
use crate::finding::{CheckOutcome, Finding, Level, PhaseOutcome, Remedy};

/// Renders the report.
pub fn render(report: &Report) -> String {
    let mut page = String::from("# castoff migrate\n\n");
    let counts = report.counts;
    let _ = writeln!(
        page,
        "Read {}: {} recommendations, {} errors, {} warnings, {} could not be checked, {} waived, \
         {} input problems (exit code {}).\n",
        escape(&report.input),
        counts.recommendations,
        counts.errors,
        counts.warnings,
        counts.could_not_check,
        counts.waived,
        counts.input_problems,
        report.exit.code(),
    );
    page.push_str("| phase | outcome |\n|---|---|\n");
    for phase in &report.phases {
        let outcome = match phase.outcome {
            PhaseOutcome::Succeeded => "✅ succeeded",
            PhaseOutcome::Recommends => "⚠️ has recommendations",
            PhaseOutcome::Failed => "❌ failed",
            PhaseOutcome::CouldNotCheck => "❓ could not be checked",
        };
        let _ = writeln!(page, "| {} | {outcome} |", phase.phase.name());
    }
    for phase in &report.phases {
        let mut lines = String::new();
        // What several findings call for is said at the first.
        let mut said = BTreeSet::new();
        for check in &phase.checks {
            if let CheckOutcome::CouldNotCheck(reasons) = &check.outcome {
                let _ = writeln!(
                    lines,
                    "- ❓ `{}` {} could not check: {}",
                    check.code.0,
                    escape(check.name),
                    escape(&reasons.join("; "))
                );
            }
            for finding in &check.findings {
                let symbol = match finding.level {
                    Level::Error => "❌",
                    Level::Recommendation => "🔮",
                    Level::Warning | Level::Undecided => "⚠️",
                    Level::Note => "ℹ️",
                };
                let _ = writeln!(
                    lines,
                    "- {symbol} `{}` {}",
                    finding.code.0,
                    escape(&finding.message)
                );
                for detail in &finding.details {
                    let _ = writeln!(lines, "  - {}", escape(detail));
                }
                if finding.level == Level::Recommendation {
                    proof(finding, &mut lines);
                }
                for remedy in &finding.remedies {
                    let text = match remedy {
                        Remedy::Command { run, .. } => run.as_str(),
                        Remedy::Advice(advice) => advice.as_str(),
                        Remedy::Apply { .. } => "",
                    };
                    if !text.is_empty() && !said.insert(text) {
                        continue;
                    }
                    match remedy {
                        Remedy::Command { run, .. } => {
                            let fence = "    ";
                            let run = run.replace('\n', "\n    ");
                            let _ = writeln!(lines, "\n  ```sh\n{fence}{run}\n  ```\n");
                        }
                        Remedy::Advice(advice) => {
                            let _ = writeln!(lines, "  - {}", escape(advice));
                        }
                        Remedy::Apply { file, object } => {
                            let _ = writeln!(
                                lines,
                                "  - apply {} of `{file}`",
                                escape(&super::subject_path(object))
                            );
                        }
                    }
                }
            }
        }
        if !lines.is_empty() {
            let _ = write!(page, "\n## {}\n\n{lines}", phase.phase.name());
        }
    }
    if let Some(access) = &report.access {
        who_may(access, &mut page);
    }
    extras(report, &mut page);
    page
}

/// What was proved of a recommendation.
fn proof(finding: &Finding, lines: &mut String) {
    let Some(proof) = finding.proof.as_ref().map(ProofReport::from) else {
        return;
    };
    let symbol = access::symbol(proof.verdict, false);
    let told: Vec<String> = proof
        .lines()
        .iter()
        .map(|line| escape(line.trim_start()))
        .collect();
    let _ = writeln!(lines, "  - {symbol} {}", told.join("<br>"));
}

/// Every server's row in the end, those of one row together.
fn servers(access: &AccessBlock, page: &mut String) {
    let _ = writeln!(page, "\nServers, {}:\n", escape(&access.end));
    for (verdict, words, rows) in recommended::groups(&access.servers_in_the_end, false) {
        let symbol = access::symbol(verdict, false);
        let name = match rows.as_slice() {
            [one] => escape(&one.server),
            many => format!("{} servers", many.len()),
        };
        let _ = writeln!(page, "- {symbol} {name}: {}", escape(&words));
    }
}

/// Who gains and who loses access, state by state.
fn who_may(access: &AccessBlock, page: &mut String) {
    if access.is_empty() {
        return;
    }
    let _ = write!(
        page,
        "\n## Access\n\nCompared with {}.\n\n",
        escape(&access.baseline)
    );
    for state in access.states() {
        let _ = writeln!(
            page,
            "- {} {}: {}",
            access::symbol(state.verdict, false),
            escape(&state.when),
            access::words(state.verdict)
        );
        for server in &state.differing {
            let _ = writeln!(
                page,
                "  - {} {} {}",
                access::symbol(server.verdict, false),
                escape(&server.server),
                escape(&server.words())
            );
            for difference in &server.differences {
                let _ = writeln!(page, "    - {}", escape(&difference.told()));
            }
        }
    }
    for reason in &access.not_played {
        let _ = writeln!(page, "- ❔ not proved: {}", escape(reason));
    }
    servers(access, page);
}

fn extras(report: &Report, page: &mut String) {
    let mut lines = String::new();
    for gap in &report.gaps {
        let within = gap
            .namespace
            .as_ref()
            .map_or_else(String::new, |name| format!(" in namespace {name}"));
        let text = format!("not read: {}{within}: {}", gap.kind.resource(), gap.reason);
        let _ = writeln!(lines, "- ❓ {}", escape(&text));
    }
    for problem in &report.problems {
        let _ = writeln!(lines, "- {}", escape(&problem.to_string()));
    }
    for waived in &report.waived {
        let _ = writeln!(
            lines,
            "- waived: `{}` {}: {}",
            waived.waiver.code,
            escape(&wire::subject_of(&waived.finding)),
            escape(&waived.waiver.reason)
        );
    }
    for waiver in &report.expired_waivers {
        let _ = writeln!(
            lines,
            "- waiver expired: `{}` {}: {}",
            waiver.code,
            escape(&waiver.object),
            escape(&waiver.reason)
        );
    }
    for waiver in &report.unmatched_waivers {
        let _ = writeln!(
            lines,
            "- waiver matches nothing: `{}` {}: {}",
            waiver.code,
            escape(&waiver.object),
            escape(&waiver.reason)
        );
    }
    if !lines.is_empty() {
        let _ = write!(page, "\n## Input and waivers\n\n{lines}");
    }
}

pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => escaped.push_str("<br>"),
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '_' | '|' | '[' | ']' => {
                escaped.push('\\');
                escaped.push(character);
            }
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::samples::full;
    use super::*;

    #[test]
    fn names_cannot_break_the_page() {
        let page = render(&full());
        assert!(
            page.contains(r#"⚠️ `CAST0204` a &lt;tag> &amp; "quotes" \| pipes"#),
            "{page}"
        );
        assert!(page.contains("| cluster-setup | ❌ failed |"), "{page}");
        assert!(
            page.contains("not read: pods in namespace secret"),
            "{page}"
        );
    }
}
