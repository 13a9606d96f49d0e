//! Several clusters in one report: a section each, and where each of them stands.
//!
//! In: a report, or the reason why there is none, for every cluster. Out: text, Markdown or one
//! value. Invariant: a cluster that could not be read has its section and its line, too.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::text::{self, Style};
use super::wire::WireReport;
use super::{Report, markdown, wire, yaml};
use crate::exit::Exit;

/// One cluster.
#[derive(Debug)]
pub struct Member {
    /// Its context.
    pub context: String,
    /// Its report, or one sentence.
    pub outcome: Result<Report, String>,
}

impl Member {
    /// How its run ended.
    pub fn exit(&self) -> Exit {
        self.outcome
            .as_ref()
            .map_or(Exit::CouldNotRun, |report| report.exit)
    }

    fn standing(&self) -> String {
        let report = match &self.outcome {
            Ok(report) => report,
            Err(error) => return format!("could not run: {error}"),
        };
        let counts = report.counts;
        let counted: Vec<String> = [
            (counts.errors, "errors"),
            (counts.recommendations, "recommendations"),
            (counts.could_not_check, "could not be checked"),
        ]
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
        let place = match report.phases.last() {
            Some(last) if !report.reached_the_end() => {
                format!("stopped at {}", last.phase.name())
            }
            _ => "all phases ran".to_owned(),
        };
        match (report.exit, counted.is_empty()) {
            (Exit::Nothing, _) => "nothing is left to do".to_owned(),
            (_, true) => format!("{place}; not everything could be read"),
            (_, false) => format!("{place}; {}", counted.join(", ")),
        }
    }
}

/// How the whole run ended: as the gravest of its members.
pub fn exit(members: &[Member]) -> Exit {
    members
        .iter()
        .map(Member::exit)
        .fold(Exit::Nothing, Exit::or)
}

fn heading(members: &[Member]) -> String {
    let done = members
        .iter()
        .filter(|member| member.exit() == Exit::Nothing)
        .count();
    let lost = members
        .iter()
        .filter(|member| member.exit() == Exit::CouldNotRun)
        .count();
    format!(
        "{} clusters: {done} done, {} to go on with, {lost} could not run.",
        members.len(),
        members.len() - done - lost
    )
}

/// For people.
pub fn text(members: &[Member], style: Style) -> String {
    let mut out = String::new();
    for member in members {
        let _ = writeln!(out, "===== cluster {}\n", member.context);
        match &member.outcome {
            Ok(report) => out.push_str(&text::render(report, style)),
            Err(error) => {
                let _ = writeln!(out, "error: {error}");
            }
        }
        out.push('\n');
    }
    let _ = writeln!(out, "===== {}", heading(members));
    for member in members {
        let symbol = match (member.exit(), style.ascii) {
            (Exit::Nothing, false) => "✅",
            (Exit::Recommendations, false) => "⚠️",
            (Exit::Undecided, false) => "❓",
            (_, false) => "❌",
            (Exit::Nothing, true) => "[ok]",
            (Exit::Recommendations, true) => "[todo]",
            (Exit::Undecided, true) => "[unknown]",
            (_, true) => "[fail]",
        };
        let _ = writeln!(out, "{symbol} {}: {}", member.context, member.standing());
    }
    out
}

/// For a comment on a change.
pub fn markdown(members: &[Member]) -> String {
    let mut out = format!("# castoff migrate: {}\n\n", heading(members));
    out.push_str("| cluster | where it stands |\n|---|---|\n");
    for member in members {
        let _ = writeln!(
            out,
            "| {} | {} |",
            markdown::escape(&member.context),
            markdown::escape(&member.standing())
        );
    }
    for member in members {
        let _ = writeln!(out, "\n# Cluster {}\n", markdown::escape(&member.context));
        match &member.outcome {
            Ok(report) => out.push_str(&markdown::render(report)),
            Err(error) => {
                let _ = writeln!(out, "{}", markdown::escape(error));
            }
        }
    }
    out
}

/// Several clusters as data.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "castoff reports of several clusters, version 1")]
pub struct WireFleet {
    /// `castoff/v1`.
    pub api_version: String,
    /// `Fleet`.
    pub kind: String,
    /// The gravest exit code of the clusters.
    pub exit_code: u8,
    /// The clusters in the order in which they were asked for.
    pub clusters: Vec<WireMember>,
}

/// One of several clusters.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WireMember {
    /// Its context.
    pub context: String,
    /// Its exit code; 1 when it could not be read.
    pub exit_code: u8,
    /// Its report; absent when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<WireReport>,
    /// Why there is no report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Several clusters as one JSON value.
pub fn value(members: &[Member]) -> Value {
    let clusters = members.iter().map(|member| WireMember {
        context: member.context.clone(),
        exit_code: member.exit().code(),
        report: member.outcome.as_ref().ok().map(WireReport::from),
        error: member.outcome.as_ref().err().cloned(),
    });
    let fleet = WireFleet {
        api_version: wire::API_VERSION.to_owned(),
        kind: "Fleet".to_owned(),
        exit_code: exit(members).code(),
        clusters: clusters.collect(),
    };
    serde_json::to_value(fleet).expect("wire types hold only JSON")
}

/// The JSON Schema of [`WireFleet`].
pub fn schema() -> String {
    wire::pretty(&schemars::schema_for!(WireFleet).to_value())
}

/// The value as indented JSON.
pub fn json(members: &[Member]) -> String {
    wire::pretty(&value(members))
}

/// The value as YAML.
pub fn yaml(members: &[Member]) -> String {
    yaml::of(&value(members))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::super::samples::full;
    use super::*;

    fn members() -> Vec<Member> {
        vec![
            Member {
                context: "here".to_owned(),
                outcome: Ok(full()),
            },
            Member {
                context: "there".to_owned(),
                outcome: Err("nobody answers".to_owned()),
            },
        ]
    }

    #[test]
    fn every_cluster_has_its_line_in_every_format_and_the_gravest_decides() {
        let members = members();
        assert_eq!(exit(&members), Exit::CouldNotRun);
        let style = Style {
            ascii: true,
            color: false,
            quiet: false,
            verbose: false,
        };
        let text = text(&members, style);
        assert!(text.contains("===== cluster here\n"), "{text}");
        assert!(
            text.ends_with("[fail] there: could not run: nobody answers\n"),
            "{text}"
        );
        assert!(text.contains("===== 2 clusters: 0 done, 1 to go on with, 1 could not run.\n"));
        let value = value(&members);
        assert_eq!(value["clusters"][0]["report"], wire::value(&full()));
        assert_eq!(value["clusters"][1]["error"], "nobody answers");
        assert_eq!(value["exitCode"], 1);
        assert!(markdown(&members).contains("| there | could not run: nobody answers |"));
        assert!(yaml(&members).contains("kind: \"Fleet\""));
    }

    #[test]
    fn the_committed_schema_is_the_one_of_the_types_and_fleets_obey_it() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/fleet.v1.json");
        if std::env::var_os("CASTOFF_BLESS").is_some() {
            std::fs::write(path, schema()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap();
        assert_eq!(committed, schema(), "run the tests with CASTOFF_BLESS=1");
        let schema: Value = serde_json::from_str(&committed).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let value = value(&members());
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect();
        assert_eq!(errors, Vec::<String>::new());
        assert!(!validator.is_valid(&serde_json::json!({"kind": "Fleet"})));
    }
}
