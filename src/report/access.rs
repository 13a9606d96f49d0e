//! Who gains and who loses access between two states, as text, Markdown and JSON.
//!
//! In: rows of `crate::prove`. Out: one value with its exit status, and pure renderers of it.
//! Invariant: an undecided server is never counted as the same, and a server that only one state
//! has is said to be so.

use castoff_authz::verdict::Finding as Direction;
use schemars::JsonSchema;
use serde::Serialize;

use super::intended::Intended;
use super::text::Style;
use crate::mesh::DataPlaneMode;
use crate::prove::newcomers::Newcomer;
use crate::prove::row::{PortAnswer, RowVerdict, ServerRow};
use crate::prove::{Content, tell};

/// `castoff verify`, complete and sorted.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessReport {
    /// `castoff/access/v1`.
    pub api_version: &'static str,
    /// What was compared with: path or description of the baseline.
    pub before: String,
    /// What was compared.
    pub after: String,
    /// Namespaces whose servers are reported; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Whether only gains were asked for: who loses is left out, and `same` says that nobody gains.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub only_new_access: bool,
    /// One entry a server.
    pub servers: Vec<ServerAccess>,
    /// What could not be compared, in words: servers that only the first state has, what was not read.
    pub only_in_one: Vec<String>,
    /// Servers that only the first state has, as is said to be intended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
    /// Servers that only the first state has, where only new access counts: nobody gains by it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone_for_all: Vec<String>,
    /// What was said to be intended and was not found, as written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_found: Vec<String>,
    /// Comparisons made.
    pub compared: usize,
}

/// One server.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerAccess {
    /// `namespace/name` of the workload.
    pub server: String,
    /// `same`, `intended`, `opens`, `breaks`, `opensAndBreaks`, `new`, `undecided`.
    pub verdict: Verdict,
    /// What differs, port by port.
    pub differences: Vec<Difference>,
    /// What is no difference and should be known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The verdict for one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Nobody gains or loses; proved.
    Same,
    /// Somebody does, and all of it is said to be intended.
    Intended,
    /// Somebody gains.
    Opens,
    /// Somebody loses.
    Breaks,
    /// Both.
    OpensAndBreaks,
    /// It was not there; somebody may call it, or it may call somebody for who it is.
    New,
    /// Not decided.
    Undecided,
}

/// One difference.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Difference {
    /// The pods' port, of `calls` of the pods that it calls; 0 stands for any other port than those that something
    /// names.
    pub port: u16,
    /// Which pods: `sidecar`, `ambient`.
    pub pods: &'static str,
    /// `http` or `bytes`.
    pub content: &'static str,
    /// Who calls, in words.
    pub callers: &'static str,
    /// `opens`, `breaks` or `undecided`; of a workload that was not there `new` (who may call it) or `calls` (whom it
    /// may call for who it is).
    pub direction: &'static str,
    /// The request, and where it was decided before and now; or why it is not decided.
    pub lines: Vec<String>,
    /// Whether it is said to be intended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub intended: bool,
}

impl AccessReport {
    /// Makes the report of rows. `only_new_access` leaves out what breaks; what is `intended` counts
    /// as no difference. Of `gone` workloads those that are `noted` are no difference either.
    pub fn new(
        before: String,
        after: String,
        (rows, newcomers): (&[ServerRow], &[Newcomer]),
        (only_in_one, gone, noted): (Vec<String>, Vec<String>, &[String]),
        only_new_access: bool,
        intended: &[Intended],
    ) -> Self {
        let mut found = vec![false; intended.len()];
        let rows_compared: usize = rows.iter().map(|row| row.compared).sum();
        let new_compared: usize = newcomers.iter().map(|one| one.compared).sum();
        let old = rows.iter().map(|row| server(row, only_new_access));
        let mut servers: Vec<ServerAccess> = old.chain(newcomers.iter().map(newcomer)).collect();
        for server in &mut servers {
            mark(server, intended, &mut found);
        }
        for (one, found) in intended.iter().zip(&mut found) {
            *found |= gone.iter().any(|name| one.covers_gone(name));
        }
        servers.sort_by(|left, right| left.server.cmp(&right.server));
        let is_meant = |name: &String| intended.iter().any(|one| one.covers_gone(name));
        let (gone, others): (Vec<String>, Vec<String>) = gone.into_iter().partition(is_meant);
        let gone_for_all = others.into_iter().filter(|name| noted.contains(name));
        let not_found = intended.iter().zip(found).filter(|(_, found)| !found);
        Self {
            not_found: not_found.map(|(one, _)| one.text().to_owned()).collect(),
            api_version: "castoff/access/v1",
            before,
            after,
            namespaces: Vec::new(),
            only_new_access,
            servers,
            only_in_one,
            gone,
            gone_for_all: gone_for_all.collect(),
            compared: rows_compared + new_compared,
        }
    }

    /// Servers with this verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.servers
            .iter()
            .filter(|server| server.verdict == verdict)
            .count()
    }

    /// Whether some server's access differs.
    pub fn differs(&self) -> bool {
        self.servers.iter().any(|server| {
            matches!(
                server.verdict,
                Verdict::Opens | Verdict::Breaks | Verdict::OpensAndBreaks | Verdict::New
            )
        })
    }

    /// Whether something could not be decided or compared.
    pub fn is_incomplete(&self) -> bool {
        !self.only_in_one.is_empty() || self.count(Verdict::Undecided) > 0
    }

    /// For people.
    pub fn text(&self, style: Style) -> String {
        let ascii = style.ascii;
        let mut out = format!(
            "Access now ({}) compared with {}{}\n",
            self.after,
            self.before,
            self.scope()
        );
        for server in &self.servers {
            if style.quiet && server.verdict == Verdict::Same {
                continue;
            }
            out.push_str(&format!(
                "{} {} {}",
                symbol(server.verdict, ascii),
                server.server,
                self.words(server.verdict)
            ));
            for note in &server.notes {
                out.push_str(if ascii { "; " } else { " · " });
                out.push_str(note);
            }
            out.push('\n');
            for difference in &server.differences {
                let intended = if difference.intended {
                    ", as intended,"
                } else {
                    ""
                };
                let callers = match difference.direction {
                    "calls" => " for who it is,".to_owned(),
                    _ => format!(" for {} to", difference.callers),
                };
                out.push_str(&format!(
                    "    {}{intended}{callers} {} ({} pods, {}):\n",
                    difference.direction,
                    tell::port(difference.port),
                    difference.pods,
                    difference.content
                ));
                for line in &difference.lines {
                    out.push_str(&format!("      {line}\n"));
                }
            }
        }
        for one in &self.only_in_one {
            out.push_str(&format!("{} {one}\n", symbol(Verdict::Undecided, ascii)));
        }
        if !self.gone.is_empty() {
            out.push_str(&format!("gone, as intended: {}\n", self.gone.join(", ")));
        }
        if !self.gone_for_all.is_empty() {
            out.push_str(&format!(
                "gone, so that nobody gains by it: {}\n",
                self.gone_for_all.join(", ")
            ));
        }
        for one in &self.not_found {
            out.push_str(&format!("nothing was found for --allow {one}\n"));
        }
        out.push_str(&self.summary());
        out
    }

    /// For pull requests.
    pub fn markdown(&self) -> String {
        let mut out = format!(
            "## Access: `{}` compared with `{}`{}\n\n",
            self.after,
            self.before,
            self.scope()
        );
        out.push_str("| server | verdict | witness, notes |\n|---|---|---|\n");
        for server in &self.servers {
            let witness: Vec<String> = server
                .differences
                .iter()
                .map(|difference| {
                    format!(
                        "{}{} for {}: {}",
                        difference.direction,
                        if difference.intended {
                            " (intended)"
                        } else {
                            ""
                        },
                        difference.callers,
                        difference.lines.join("; ")
                    )
                })
                .chain(server.notes.iter().cloned())
                .collect();
            out.push_str(&format!(
                "| `{}` | {} {} | {} |\n",
                server.server,
                symbol(server.verdict, false),
                self.words(server.verdict),
                witness.join("<br>").replace('|', "\\|")
            ));
        }
        for one in &self.only_in_one {
            out.push_str(&format!("\n- {one}"));
        }
        if !self.gone.is_empty() {
            out.push_str(&format!("\n- gone, as intended: {}", self.gone.join(", ")));
        }
        if !self.gone_for_all.is_empty() {
            out.push_str(&format!(
                "\n- gone, so that nobody gains by it: {}",
                self.gone_for_all.join(", ")
            ));
        }
        for one in &self.not_found {
            out.push_str(&format!("\n- nothing was found for `--allow {one}`"));
        }
        out.push_str(&format!("\n{}", self.summary()));
        out
    }

    /// Whose servers are reported, where not all are, and what of them, where not everything is.
    fn scope(&self) -> String {
        let mut scope = match self.namespaces.as_slice() {
            [] => String::new(),
            some => format!(", servers of {} only", some.join(", ")),
        };
        if self.only_new_access {
            scope.push_str(", new access only: who loses is left out");
        }
        scope
    }

    fn words(&self, verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Same if self.only_new_access => "no new access",
            other => words(other),
        }
    }

    fn summary(&self) -> String {
        let same = self.words(Verdict::Same);
        let mut parts = vec![format!("{} {same}", self.count(Verdict::Same))];
        for (verdict, word) in [
            (Verdict::Intended, "different as intended"),
            (Verdict::Opens, "opened"),
            (Verdict::Breaks, "broken"),
            (Verdict::OpensAndBreaks, "opened and broken"),
            (Verdict::New, "new"),
            (Verdict::Undecided, "undecided"),
        ] {
            if self.count(verdict) > 0 {
                parts.push(format!("{} {word}", self.count(verdict)));
            }
        }
        if !self.only_in_one.is_empty() {
            parts.push(format!("{} not comparable", self.only_in_one.len()));
        }
        format!(
            "{} servers: {} ({} comparisons)\n",
            self.servers.len(),
            parts.join(", "),
            self.compared
        )
    }
}

/// Why a server is undecided that the baseline does not have.
pub const NOT_IN_BASELINE: &str = "not in the baseline, so that nothing is compared";

/// The schema of [`AccessReport`], as committed.
pub fn schema() -> String {
    super::wire::pretty(&schemars::schema_for!(AccessReport).to_value())
}

/// One server's row as data. `only_new_access` leaves out what breaks.
pub fn server(row: &ServerRow, only_new_access: bool) -> ServerAccess {
    let mut differences: Vec<Difference> = Vec::new();
    for answer in &row.differences {
        differences.extend(direction(answer, "opens", &answer.verdict.opens));
        if !only_new_access {
            differences.extend(direction(answer, "breaks", &answer.verdict.breaks));
        }
    }
    // Pods of two kinds, or two kinds of content, may show the same.
    let mut told = std::collections::BTreeSet::new();
    differences
        .retain(|one| told.insert((one.direction, one.port, one.callers, one.lines.clone())));
    let verdict = if only_new_access && !row.unmatched {
        verdict_of(&differences)
    } else {
        row.verdict().into()
    };
    let unmatched = row.unmatched.then(|| NOT_IN_BASELINE.to_owned());
    let trusted = row.newly_trusted.iter();
    let shares = row.shares_trust.iter();
    let notes = row
        .notes
        .iter()
        .cloned()
        .chain(unmatched)
        .chain(trusted.map(|one| format!("newly trusted: {one}")))
        .chain(shares.map(|one| format!("{one} shares the identity of a waypoint")));
    ServerAccess {
        server: row.server.to_string(),
        verdict,
        differences,
        notes: notes.collect(),
    }
}

/// A workload that was not there as data.
fn newcomer(one: &Newcomer) -> ServerAccess {
    let mut differences: Vec<Difference> = Vec::new();
    for answer in &one.callable {
        let opens = direction(answer, "new", &answer.verdict.opens);
        differences.extend(opens.map(|mut difference| {
            // What was before is told by the word.
            difference
                .lines
                .retain(|line| !line.starts_with("before: "));
            difference
        }));
    }
    differences.extend(one.calls.iter().map(|call| Difference {
        port: call.port,
        pods: pods(call.pods),
        content: content(call.content),
        callers: "itself",
        direction: if call.is_decided {
            "calls"
        } else {
            "undecided"
        },
        lines: call.lines.clone(),
        intended: false,
    }));
    let is = |wanted: &[&str]| {
        let mut all = differences.iter();
        all.any(|one| wanted.contains(&one.direction))
    };
    let verdict = match (is(&["new", "calls"]), is(&["undecided"])) {
        (true, _) => Verdict::New,
        (false, true) => Verdict::Undecided,
        (false, false) => Verdict::Same,
    };
    let mut notes = vec![NEW.to_owned(), one.account.clone()];
    if one.callable.is_empty() {
        notes.push(match one.has_ports {
            true => "nobody may call it at its ports".to_owned(),
            false => "it has no port that anything names or leads to".to_owned(),
        });
    }
    if one.calls.is_empty() {
        notes.push("it may call nobody whom others may not".to_owned());
    }
    ServerAccess {
        server: one.name.to_string(),
        verdict,
        differences,
        notes,
    }
}

/// The first note on a workload that only the second input has.
const NEW: &str = "only in the second input";

/// Marks what is intended; the verdict is then that of the rest.
fn mark(server: &mut ServerAccess, intended: &[Intended], found: &mut [bool]) {
    let mut some = false;
    let is_new = server.notes.first().is_some_and(|note| note == NEW);
    for (one, found) in intended.iter().zip(found.iter_mut()) {
        *found |= is_new && one.covers_newcomer(&server.server);
    }
    for difference in &mut server.differences {
        for (one, found) in intended.iter().zip(found.iter_mut()) {
            if one.covers(&server.server, difference.port, difference.direction) {
                difference.intended = true;
                *found = true;
                some = true;
            }
        }
    }
    if !some {
        return;
    }
    let is_left = |direction: &str| {
        server
            .differences
            .iter()
            .any(|one| !one.intended && one.direction == direction)
    };
    if is_left("new") || is_left("calls") {
        return;
    }
    server.verdict = match (is_left("opens"), is_left("breaks"), is_left("undecided")) {
        (true, true, _) => Verdict::OpensAndBreaks,
        (true, false, _) => Verdict::Opens,
        (false, true, _) => Verdict::Breaks,
        (false, false, true) => Verdict::Undecided,
        (false, false, false) => Verdict::Intended,
    };
}

/// The verdict when losses do not count.
fn verdict_of(differences: &[Difference]) -> Verdict {
    if differences
        .iter()
        .any(|difference| difference.direction == "opens")
    {
        Verdict::Opens
    } else if differences.is_empty() {
        Verdict::Same
    } else {
        Verdict::Undecided
    }
}

impl From<RowVerdict> for Verdict {
    fn from(verdict: RowVerdict) -> Self {
        match verdict {
            RowVerdict::Same => Self::Same,
            RowVerdict::Opens => Self::Opens,
            RowVerdict::Breaks => Self::Breaks,
            RowVerdict::OpensAndBreaks => Self::OpensAndBreaks,
            RowVerdict::Undecided => Self::Undecided,
        }
    }
}

fn direction(answer: &PortAnswer, name: &'static str, direction: &Direction) -> Option<Difference> {
    let (name, lines) = match direction {
        Direction::Never => return None,
        Direction::Witness(_) => (name, answer.witness_lines(direction)?),
        Direction::Undecided(_) | Direction::Bug(_) => {
            ("undecided", answer.undecided_lines(direction))
        }
    };
    Some(Difference {
        port: answer.port,
        pods: pods(answer.generation),
        content: content(answer.content),
        callers: answer.callers,
        direction: name,
        lines,
        intended: false,
    })
}

fn pods(mode: DataPlaneMode) -> &'static str {
    match mode {
        DataPlaneMode::Sidecar => "sidecar",
        DataPlaneMode::Ambient => "ambient",
        DataPlaneMode::None => "plain",
    }
}

fn content(content: Content) -> &'static str {
    match content {
        Content::Http => "http",
        Content::Bytes => "bytes",
    }
}

impl Difference {
    /// In one line.
    pub fn told(&self) -> String {
        format!(
            "{} for {} at {} ({} pods, {}): {}",
            self.direction,
            self.callers,
            tell::port(self.port),
            self.pods,
            self.content,
            self.lines.join("; ")
        )
    }
}

impl ServerAccess {
    /// The verdict in words, with the reason where nothing was compared.
    pub fn words(&self) -> String {
        let words = words(self.verdict);
        if self.is_unmatched() {
            format!("{words}, {NOT_IN_BASELINE}")
        } else {
            words.to_owned()
        }
    }

    /// Whether nothing was compared with it.
    pub fn is_unmatched(&self) -> bool {
        self.verdict == Verdict::Undecided && self.differences.is_empty()
    }
}

/// The symbol of a verdict.
pub fn symbol(verdict: Verdict, ascii: bool) -> &'static str {
    match (verdict, ascii) {
        (Verdict::Same, false) => "✅",
        (Verdict::Intended, false) => "☑️",
        (Verdict::Opens | Verdict::OpensAndBreaks, false) => "⛔",
        (Verdict::Breaks, false) => "⚠️",
        (Verdict::New, false) => "🆕",
        (Verdict::Undecided, false) => "❔",
        (Verdict::Same, true) => "[ok]",
        (Verdict::Intended, true) => "[intended]",
        (Verdict::Opens | Verdict::OpensAndBreaks, true) => "[opens]",
        (Verdict::Breaks, true) => "[breaks]",
        (Verdict::New, true) => "[new]",
        (Verdict::Undecided, true) => "[?]",
    }
}

/// A verdict in words.
pub fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Same => "same",
        Verdict::Intended => "differs as intended",
        Verdict::Opens => "opens",
        Verdict::Breaks => "breaks",
        Verdict::OpensAndBreaks => "opens and breaks",
        Verdict::New => "new",
        Verdict::Undecided => "undecided",
    }
}
