//! The report as JUnit XML: a suite a phase, a case a check, and a suite of who gains or loses access.
//!
//! In: a [`Report`]. Out: XML. Invariant: errors and recommendations are failures, a check that
//! lacked an input, and a server that is undecided, is an error of the case (never a pass, never a skip).

use std::fmt::Write as _;

use super::Report;
use super::access::Verdict;
use super::proof::AccessBlock;
use super::recommended::ProofReport;
use crate::finding::{CheckOutcome, CheckResult, Finding, Level};
use crate::snapshot::ProblemLevel;

/// Renders the report.
pub fn render(report: &Report) -> String {
    let mut page = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"castoff migrate\">\n",
    );
    for phase in &report.phases {
        let failures = phase.checks.iter().filter(|check| fails(check)).count();
        let errors = phase.checks.iter().filter(|check| unchecked(check)).count();
        let _ = writeln!(
            page,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{failures}\" errors=\"{errors}\">",
            phase.phase.name(),
            phase.checks.len(),
        );
        for check in &phase.checks {
            case(check, phase.phase.name(), &mut page);
        }
        page.push_str("  </testsuite>\n");
    }
    if let Some(access) = report.access.as_ref().filter(|one| !one.is_empty()) {
        who_may(access, &mut page);
    }
    let lost: Vec<String> = report
        .problems
        .iter()
        .filter(|problem| problem.level == ProblemLevel::Error)
        .map(ToString::to_string)
        .collect();
    if !lost.is_empty() {
        let _ = writeln!(
            page,
            "  <testsuite name=\"input\" tests=\"{0}\" failures=\"0\" errors=\"{0}\">",
            lost.len()
        );
        for problem in lost {
            let _ = writeln!(
                page,
                "    <testcase classname=\"input\" name=\"read\"><error message=\"{}\"/></testcase>",
                escape(&problem)
            );
        }
        page.push_str("  </testsuite>\n");
    }
    page.push_str("</testsuites>\n");
    page
}

/// A suite of who gains or loses access: a case a state, and one for each server that is not the same in it.
fn who_may(access: &AccessBlock, page: &mut String) {
    let mut cases: Vec<(String, Option<Told>)> = Vec::new();
    for state in access.states() {
        if state.differing.is_empty() {
            cases.push((state.when.clone(), None));
        }
        for server in &state.differing {
            let name = format!("{} {}", server.server, state.when);
            let lines: Vec<String> = server.differences.iter().map(|one| one.told()).collect();
            let told = Told {
                element: match server.verdict {
                    Verdict::Undecided => "error",
                    _ => "failure",
                },
                message: format!("{} {}", server.server, server.words()),
                text: lines.join("\n"),
            };
            cases.push((name, Some(told)));
        }
    }
    cases.extend(access.not_played.iter().map(|reason| {
        let told = Told {
            element: "error",
            message: "not proved".to_owned(),
            text: reason.clone(),
        };
        ("what is recommended".to_owned(), Some(told))
    }));
    suite(&cases, page);
}

/// The suite of these cases.
pub(super) fn suite(cases: &[(String, Option<Told>)], page: &mut String) {
    let count = |element: &str| {
        let told = cases.iter().filter_map(|(_, told)| told.as_ref());
        told.filter(|told| told.element == element).count()
    };
    let _ = writeln!(
        page,
        "  <testsuite name=\"access\" tests=\"{}\" failures=\"{}\" errors=\"{}\">",
        cases.len(),
        count("failure"),
        count("error"),
    );
    for (name, told) in cases {
        let name = escape(name);
        let _ = match told {
            None => writeln!(page, "    <testcase classname=\"access\" name=\"{name}\"/>"),
            Some(told) => writeln!(
                page,
                "    <testcase classname=\"access\" name=\"{name}\">\n      <{0} message=\"{1}\">{2}</{0}>\n    </testcase>",
                told.element,
                escape(&told.message),
                escape(&told.text)
            ),
        };
    }
    page.push_str("  </testsuite>\n");
}

/// What is said of a case that did not pass.
pub(super) struct Told {
    /// `failure` or `error`.
    pub(super) element: &'static str,
    pub(super) message: String,
    pub(super) text: String,
}

fn counts(finding: &&Finding) -> bool {
    matches!(finding.level, Level::Error | Level::Recommendation)
}

fn fails(check: &CheckResult) -> bool {
    check.outcome == CheckOutcome::Failed || check.findings.iter().any(|finding| counts(&finding))
}

fn unchecked(check: &CheckResult) -> bool {
    matches!(check.outcome, CheckOutcome::CouldNotCheck(_))
}

fn case(check: &CheckResult, phase: &str, page: &mut String) {
    let name = if check.name.is_empty() {
        check.code.0.to_owned()
    } else {
        format!("{} {}", check.code.0, check.name)
    };
    let _ = write!(
        page,
        "    <testcase classname=\"{phase}\" name=\"{}\"",
        escape(&name)
    );
    if !fails(check) && !unchecked(check) {
        page.push_str("/>\n");
        return;
    }
    page.push_str(">\n");
    for finding in check.findings.iter().filter(counts) {
        let proof = finding.proof.as_ref().map(ProofReport::from);
        let proved = proof.iter().flat_map(ProofReport::lines);
        let lines: Vec<String> = finding.details.iter().cloned().chain(proved).collect();
        let _ = writeln!(
            page,
            "      <failure type=\"{}\" message=\"{}\">{}</failure>",
            finding.code.0,
            escape(&finding.message),
            escape(&lines.join("\n"))
        );
    }
    if let CheckOutcome::CouldNotCheck(reasons) = &check.outcome {
        let _ = writeln!(
            page,
            "      <error message=\"could not check: {}\"/>",
            escape(&reasons.join("; "))
        );
    }
    page.push_str("    </testcase>\n");
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            // Other control characters have no place in XML 1.0.
            character if character.is_control() => escaped.push('\u{fffd}'),
            character => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::samples::full;
    use super::*;

    #[test]
    fn what_could_not_be_checked_is_no_pass() {
        let page = render(&full());
        assert!(
            page.contains(
                "<testsuite name=\"cluster-setup\" tests=\"4\" failures=\"2\" errors=\"1\">"
            ),
            "{page}"
        );
        assert!(
            page.contains("<error message=\"could not check: customres"),
            "{page}"
        );
        assert!(
            page.contains("<testsuite name=\"input\" tests=\"1\""),
            "{page}"
        );
    }
}
