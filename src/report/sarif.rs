//! The report as SARIF 2.1.0, for code scanning: findings at the lines of the manifests.
//!
//! In: a [`Report`]. Out: JSON. Invariant: every finding, every check that could not be made, every
//! server whose access is not the same and every problem of the input is a result, a waived finding a suppressed one; those without a file
//! stand without a location.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::access::Verdict;
use super::recommended::ProofReport;
use super::{Report, wire};
use crate::finding::{CheckOutcome, Level};
use crate::snapshot::{Origin, ProblemLevel};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";
/// Rule of a check that lacked an input.
pub(super) const COULD_NOT_CHECK: &str = "could-not-check";
/// Rule of a server whose access differs or is undecided.
pub(super) const ACCESS: &str = "access";
/// Rule of a problem of the input.
const INPUT: &str = "input";

/// Renders the report.
pub fn render(report: &Report) -> String {
    let mut rules: BTreeMap<String, String> = BTreeMap::new();
    let mut results = Vec::new();
    for phase in &report.phases {
        for check in &phase.checks {
            let title = if check.name.is_empty() {
                phase.phase.name()
            } else {
                check.name
            };
            for finding in &check.findings {
                rules
                    .entry(finding.code.0.to_owned())
                    .or_insert_with(|| title.to_owned());
                let mut message = finding.message.clone();
                for detail in &finding.details {
                    message.push_str("\n* ");
                    message.push_str(detail);
                }
                let proof = finding.proof.as_ref().map(ProofReport::from);
                for line in proof.iter().flat_map(ProofReport::lines) {
                    message.push_str("\n* ");
                    message.push_str(line.trim_start());
                }
                let level = match finding.level {
                    Level::Error => "error",
                    Level::Recommendation | Level::Warning | Level::Undecided => "warning",
                    Level::Note => "note",
                };
                let subject = wire::subject_of(finding);
                let origin = finding
                    .subject
                    .as_ref()
                    .and_then(|subject| subject.origin.as_ref());
                let mut found = result(finding.code.0, level, &message, origin, None, &subject);
                if let Some(proof) = proof {
                    found["properties"] = json!({"proof": proof});
                }
                results.push(found);
            }
            if let CheckOutcome::CouldNotCheck(reasons) = &check.outcome {
                rules.insert(
                    COULD_NOT_CHECK.to_owned(),
                    "An input was missing".to_owned(),
                );
                let message = format!(
                    "{title} ({}): could not check: {}",
                    check.code.0,
                    reasons.join("; ")
                );
                results.push(result(COULD_NOT_CHECK, "warning", &message, None, None, ""));
            }
        }
    }
    for waived in &report.waived {
        let finding = &waived.finding;
        rules
            .entry(finding.code.0.to_owned())
            .or_insert_with(|| waived.phase.name().to_owned());
        let origin = finding
            .subject
            .as_ref()
            .and_then(|subject| subject.origin.as_ref());
        let subject = wire::subject_of(finding);
        let mut declined = result(
            finding.code.0,
            "warning",
            &finding.message,
            origin,
            None,
            &subject,
        );
        declined["suppressions"] =
            json!([{"kind": "external", "justification": waived.waiver.reason}]);
        results.push(declined);
    }
    if let Some(access) = &report.access {
        for state in access.states() {
            for server in &state.differing {
                rules.insert(
                    ACCESS.to_owned(),
                    "Somebody gains or loses access, or it is not decided".to_owned(),
                );
                let level = match server.verdict {
                    Verdict::Undecided => "warning",
                    _ => "error",
                };
                let mut message = format!("{} {}: {}", server.server, server.words(), state.when);
                for difference in &server.differences {
                    message.push_str("\n* ");
                    message.push_str(&difference.told());
                }
                let subject = &server.server;
                results.push(result(ACCESS, level, &message, None, None, subject));
            }
        }
        for reason in &access.not_played {
            rules.insert(
                COULD_NOT_CHECK.to_owned(),
                "An input was missing".to_owned(),
            );
            let message = format!("not proved: {reason}");
            results.push(result(COULD_NOT_CHECK, "warning", &message, None, None, ""));
        }
    }
    for problem in &report.problems {
        rules.insert(INPUT.to_owned(), "A problem of the input".to_owned());
        let level = match problem.level {
            ProblemLevel::Error => "error",
            ProblemLevel::Warning => "warning",
        };
        results.push(result(
            INPUT,
            level,
            &problem.message,
            problem.origin.as_ref(),
            problem.column,
            "",
        ));
    }
    log(rules, results)
}

/// The whole log: rules with their titles, and results.
pub(super) fn log(rules: BTreeMap<String, String>, results: Vec<Value>) -> String {
    let rules: Vec<Value> = rules
        .into_iter()
        .map(|(id, title)| json!({"id": id, "shortDescription": {"text": title}}))
        .collect();
    wire::pretty(&json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "castoff",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    }))
}

pub(super) fn result(
    rule: &str,
    level: &str,
    message: &str,
    origin: Option<&Origin>,
    column: Option<u32>,
    subject: &str,
) -> Value {
    let mut location = serde_json::Map::new();
    if let Some(Origin::File { path, line }) = origin {
        let mut physical = json!({"artifactLocation": {"uri": uri(path)}});
        if *line > 0 {
            physical["region"] = match column {
                Some(column) => json!({"startLine": line, "startColumn": column}),
                None => json!({"startLine": line}),
            };
        }
        location.insert("physicalLocation".to_owned(), physical);
    }
    if !subject.is_empty() {
        location.insert(
            "logicalLocations".to_owned(),
            json!([{"fullyQualifiedName": subject}]),
        );
    }
    let mut result = json!({
        "ruleId": rule,
        "level": level,
        "message": {"text": message},
    });
    if !location.is_empty() {
        result["locations"] = json!([location]);
    }
    result
}

/// A path as a URI reference: bytes that are not allowed there are percent-encoded.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::super::samples::full;
    use super::*;

    #[test]
    fn findings_stand_at_the_lines_of_their_files() {
        let log: Value = serde_json::from_str(&render(&full())).unwrap();
        let results = log["runs"][0]["results"].as_array().unwrap();
        let found: Vec<(&str, Option<u64>)> = results
            .iter()
            .map(|result| {
                let region = &result["locations"][0]["physicalLocation"]["region"];
                (
                    result["ruleId"].as_str().unwrap(),
                    region["startLine"].as_u64(),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("CAST0202", None),
                ("CAST0203", Some(7)),
                ("could-not-check", None),
                ("CAST0204", None),
                ("CAST0204", None),
                ("CAST0301", Some(4)),
                ("CAST0501", None),
                ("input", Some(12)),
            ]
        );
    }

    #[test]
    fn paths_become_uris() {
        assert_eq!(uri("my files/ä.yaml"), "my%20files/%C3%A4.yaml");
    }
}
