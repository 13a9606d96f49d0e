//! What the proof says, beneath the phases.
//!
//! In: an [`AccessBlock`]. Out: lines of the page. Invariant: every server that differs is shown with
//! a witness or the reason why it is not decided.

use std::collections::BTreeSet;

use super::{Page, Symbol, count};
use crate::exit::Exit;
use crate::finding::{Finding, Level, PhaseResult};
use crate::prove::tell;
use crate::report::access::{self, NOT_IN_BASELINE, ServerAccess, Verdict};
use crate::report::proof::AccessBlock;
use crate::report::recommended::{self, ProofReport};

impl Page {
    /// Who may call whom: a line a state, and every server that differs with its witness.
    pub(super) fn access(&mut self, access: &AccessBlock) {
        let quiet = self.style.quiet && access.exit() == Exit::Nothing;
        if quiet || access.is_empty() {
            return;
        }
        self.push("");
        self.line(
            Symbol::Start,
            &format!("Access compared with {}", access.baseline),
        );
        for state in access.states() {
            let same = access.servers.saturating_sub(state.differing.len());
            if !(self.style.quiet && state.differing.is_empty()) {
                let symbol = if state.differing.is_empty() {
                    Symbol::Passed
                } else {
                    Symbol::Information
                };
                self.line(
                    symbol,
                    &format!("{}: {} the same", state.when, count(same, "server")),
                );
            }
            for server in state.differing.iter().filter(|one| !one.is_unmatched()) {
                self.differing(server);
            }
            for note in &state.notes {
                self.line(
                    Symbol::Information,
                    &format!("{}: {}", note.text, self.names(&note.servers)),
                );
            }
            for trusted in &state.newly_trusted {
                if self.style.verbose {
                    self.star(&format!(
                        "newly trusted: {} by {}",
                        trusted.waypoint,
                        trusted.servers.join(", ")
                    ));
                }
            }
        }
        let unmatched: BTreeSet<&String> = access
            .states()
            .flat_map(|state| &state.differing)
            .filter(|server| server.is_unmatched())
            .map(|server| &server.server)
            .collect();
        if !unmatched.is_empty() {
            let names: Vec<String> = unmatched.into_iter().cloned().collect();
            self.line(
                Symbol::Unknown,
                &format!("undecided, {}: {}", NOT_IN_BASELINE, self.names(&names)),
            );
        }
        let trusted: BTreeSet<&str> = access
            .states()
            .flat_map(|state| &state.newly_trusted)
            .map(|trusted| trusted.waypoint.as_str())
            .collect();
        if !trusted.is_empty() {
            let trusted: Vec<&str> = trusted.into_iter().collect();
            self.line(
                Symbol::Information,
                &format!(
                    "newly trusted by the pods behind them: {}",
                    trusted.join(", ")
                ),
            );
        }
        let shares: BTreeSet<&String> = access
            .states()
            .flat_map(|state| &state.shares_trust)
            .collect();
        for one in shares {
            self.line(
                Symbol::Warning,
                &format!("{one} runs under the identity of a waypoint and shares its trust"),
            );
        }
        for reason in &access.not_played {
            self.line(Symbol::Unknown, &format!("not proved: {reason}"));
        }
        self.rows(access);
    }

    /// What was proved of a recommendation.
    pub(super) fn proof(&mut self, finding: &Finding) {
        let Some(proof) = finding.proof.as_ref().map(ProofReport::from) else {
            return;
        };
        let symbol = access::symbol(proof.verdict, self.style.ascii);
        for (index, line) in proof.lines().iter().enumerate() {
            let lead = if index == 0 { symbol } else { " " };
            self.push(&format!("  {lead} {line}"));
        }
    }

    /// Why nothing is proved of what errors ask for, each reason once.
    pub(super) fn unproved_errors(&mut self, phase: &PhaseResult) {
        let findings = phase.checks.iter().flat_map(|check| &check.findings);
        let reasons: BTreeSet<&String> = findings
            .filter(|finding| finding.level == Level::Error)
            .filter_map(|finding| finding.proof.as_ref()?.not_proved.as_ref())
            .collect();
        for reason in reasons {
            self.line(Symbol::Unknown, &format!("not proved: {reason}"));
        }
    }

    /// Every server's row in the end; without `-v` those of one row together, the worst first.
    fn rows(&mut self, access: &AccessBlock) {
        if self.style.quiet || access.servers_in_the_end.is_empty() {
            return;
        }
        self.line(Symbol::Start, &format!("Servers, {}", access.end));
        let ascii = self.style.ascii;
        for (verdict, words, rows) in recommended::groups(&access.servers_in_the_end, ascii) {
            let symbol = access::symbol(verdict, ascii);
            if self.style.verbose || rows.len() == 1 {
                for row in rows {
                    let words = row.words(ascii);
                    self.push(&format!("{symbol} {}: {words}", row.server));
                }
            } else {
                self.push(&format!(
                    "{symbol} {}: {words}",
                    count(rows.len(), "server")
                ));
            }
        }
    }

    /// All names with `-v`, else the first few.
    fn names(&self, servers: &[String]) -> String {
        if self.style.verbose {
            servers.join(", ")
        } else {
            crate::phases::wording::first_few(servers, 3)
        }
    }

    fn differing(&mut self, server: &ServerAccess) {
        let symbol = match server.verdict {
            Verdict::Same | Verdict::Intended => Symbol::Passed,
            Verdict::Undecided => Symbol::Unknown,
            Verdict::Breaks => Symbol::Warning,
            Verdict::Opens | Verdict::OpensAndBreaks | Verdict::New => Symbol::Failed,
        };
        self.line(
            symbol,
            &format!("{} {}", server.server, access::words(server.verdict)),
        );
        let most = if self.style.verbose { usize::MAX } else { 1 };
        for difference in server.differences.iter().take(most) {
            self.star(&format!(
                "{} for {} at {}:",
                difference.direction,
                difference.callers,
                tell::port(difference.port)
            ));
            for line in &difference.lines {
                self.push(&format!("    {line}"));
            }
        }
        if server.differences.len() > most {
            self.star(&format!(
                "and {} more (-v)",
                server.differences.len() - most
            ));
        }
    }
}
