//! What was proved of a recommendation, and every server's row in the end, as data and as lines.
//!
//! In: a [`Proof`], rows with how servers are reached. Out: [`ProofReport`], [`Row`]. Invariant: what is
//! not proved is undecided, and says why; rows are one a server, short, in the order of their names.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::access::{self, Verdict};
use super::proof;
use crate::finding::{Differing, Proof};
use crate::phases::wording;
use crate::prove::reached::Reached;
use crate::prove::row::ServerRow;

/// What was proved of the states that a recommendation leads to, carried out after those above it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProofReport {
    /// The verdict of the server that is worst off by it; `undecided` where something is not proved.
    pub verdict: Verdict,
    /// Servers whose access differs since then, the worst first; at most five.
    pub differing: Vec<DifferingServer>,
    /// How many servers these are, at least.
    pub differing_servers: usize,
    /// Servers that differed before it, and still do in the same way.
    pub already_differing: usize,
    /// What is not proved, and why; `null` when everything is.
    pub not_proved: Option<String>,
    /// With how many other recommendations of its phase it was carried out in one go, nothing proved in
    /// between; 0 in small meshes.
    pub together_with: usize,
}

/// A server whose access differs.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct DifferingServer {
    /// `namespace/name` of the workload.
    pub server: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// Whether it differed before the recommendation, too; whether less than now is not compared.
    pub before: bool,
    /// By `opens`, `breaks` or `undecided`: the first request, and where it was decided before and now; or
    /// why it is not decided.
    pub lines: BTreeMap<String, Vec<String>>,
}

/// One server in one state, without its witnesses: those stand at the states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// `namespace/name` of the workload.
    pub server: String,
    /// Its verdict.
    pub verdict: Verdict,
    /// The kinds of its addresses that somebody is known to use: `Service`, `ServiceEntry`, `pod address`.
    pub by: Vec<String>,
    /// Whether nobody without identity gets in by any address, in the baseline and now.
    pub outsiders_denied: bool,
    /// What is no difference and should be known: addresses that are closed and nobody is known to use.
    pub notes: Vec<String>,
    /// Waypoints whose identity reaches its pods and did not in the baseline.
    pub newly_trusted: Vec<String>,
}

impl From<&Proof> for ProofReport {
    fn from(proof: &Proof) -> Self {
        let differing = |one: &Differing| DifferingServer {
            server: one.server.to_string(),
            verdict: one.verdict().into(),
            before: one.before,
            lines: one
                .directions
                .iter()
                .map(|(direction, lines)| ((*direction).to_owned(), lines.clone()))
                .collect(),
        };
        Self {
            verdict: proof.verdict().into(),
            differing: proof.differing.iter().map(differing).collect(),
            differing_servers: proof.differing_servers,
            already_differing: proof.already_differing,
            not_proved: proof.not_proved.clone(),
            together_with: proof.together_with,
        }
    }
}

impl ProofReport {
    /// In words: a line, and the witnesses beneath it.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for one in &self.differing {
            let before = if one.before {
                ", which was not the same before it, either"
            } else {
                ""
            };
            let words = access::words(one.verdict);
            lines.push(format!("{words} {}{before}:", one.server));
            for (direction, told) in &one.lines {
                let several = one.lines.len() > 1;
                let lead = if several {
                    format!("{direction}: ")
                } else {
                    String::new()
                };
                let told = told.iter().enumerate();
                lines.extend(told.map(|(index, line)| {
                    format!("  {}{line}", if index == 0 { lead.as_str() } else { "" })
                }));
            }
        }
        let more = self.differing_servers.saturating_sub(self.differing.len());
        if more > 0 {
            lines.push(format!("and {}", wording::count(more, "server")));
        }
        if let Some(why) = &self.not_proved {
            lines.push(format!("undecided: {why}"));
        }
        if lines.is_empty() {
            lines.push("same: nobody gains or loses access".to_owned());
        }
        let mut asides = Vec::new();
        if self.verdict == Verdict::Same && self.already_differing > 0 {
            asides.push(not_the_same(self.already_differing));
        }
        if self.together_with > 0 {
            let others = wording::count(self.together_with, "other");
            asides.push(format!("carried out in one go with {others} of its phase"));
        }
        if let (Some(first), false) = (lines.first_mut(), asides.is_empty()) {
            let aside = format!(" ({})", asides.join("; "));
            first.insert_str(first.trim_end_matches(':').len(), &aside);
        }
        lines
    }
}

fn not_the_same(servers: usize) -> String {
    if servers == 1 {
        "1 server was not the same before it, and still is not".to_owned()
    } else {
        format!("{servers} servers were not the same before it, and still are not")
    }
}

impl Row {
    /// The row of a server.
    pub fn new(row: &ServerRow, reached: Option<&Reached>) -> Self {
        let by = reached.iter().flat_map(|one| &one.by);
        let mut newly_trusted = row.newly_trusted.clone();
        newly_trusted.sort();
        newly_trusted.dedup();
        let unmatched = row.unmatched.then(|| access::NOT_IN_BASELINE.to_owned());
        Self {
            server: row.server.to_string(),
            verdict: row.verdict().into(),
            by: by.map(|one| (*one).to_owned()).collect(),
            outsiders_denied: reached.is_some_and(|one| one.outsiders_denied),
            notes: row.notes.iter().cloned().chain(unmatched).collect(),
            newly_trusted,
        }
    }

    /// Everything but the server's name.
    pub fn words(&self, ascii: bool) -> String {
        said(&self.without_trust(), &self.newly_trusted, ascii)
    }

    /// The parts that do not name waypoints.
    fn without_trust(&self) -> Vec<String> {
        let mut verdict = access::words(self.verdict).to_owned();
        if !self.by.is_empty() {
            verdict.push_str(" by ");
            verdict.push_str(&self.by.join(" and "));
        }
        let denied = self
            .outsiders_denied
            .then(|| "outsiders denied before and after".to_owned());
        let notes = self.notes.iter().cloned();
        std::iter::once(verdict)
            .chain(notes)
            .chain(denied)
            .collect()
    }
}

fn said(parts: &[String], newly_trusted: &[String], ascii: bool) -> String {
    let mut said = parts.to_vec();
    if !newly_trusted.is_empty() {
        let few = wording::first_few(newly_trusted, MOST_WAYPOINTS);
        said.push(format!("newly trusted: {few}"));
    }
    said.join(if ascii { "; " } else { " · " })
}

/// Waypoints that rows told together name.
const MOST_WAYPOINTS: usize = 3;

/// Rows that say the same but for the names of waypoints, together; the worst first.
pub fn groups(rows: &[Row], ascii: bool) -> Vec<(Verdict, String, Vec<&Row>)> {
    let mut groups: BTreeMap<(Reverse<u8>, Vec<String>, bool), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        let rank = Reverse(proof::rank(row.verdict));
        let trusts = !row.newly_trusted.is_empty();
        let group = groups.entry((rank, row.without_trust(), trusts));
        group.or_default().push(row);
    }
    let mut told = Vec::new();
    for ((_, parts, _), rows) in groups {
        let Some(first) = rows.first() else {
            continue;
        };
        let trusted: BTreeSet<&String> = rows.iter().flat_map(|row| &row.newly_trusted).collect();
        let trusted: Vec<String> = trusted.into_iter().cloned().collect();
        told.push((first.verdict, said(&parts, &trusted, ascii), rows));
    }
    told
}
