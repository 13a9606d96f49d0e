//! Who may send a request, as text and as data.
//!
//! In: answers of `crate::prove::ask`. Out: [`WhoCanReport`], versioned like every report; `schemas/who-can.v1.json` is
//! generated from these types. Invariant: what is not decided, not asked or not read is in it, and so in the exit code.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use castoff_authz::request::Token;
use schemars::JsonSchema;
use serde::Serialize;

use super::text::Style;
use super::wire;
use crate::exit::Exit;
use crate::mesh::DataPlaneMode;
use crate::prove::ask::{Answer, May, Sent};

/// `castoff who-can`, complete and sorted.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(title = "castoff who-can, version 1")]
pub struct WhoCanReport {
    /// `castoff/v1`.
    pub api_version: &'static str,
    /// `WhoCan`.
    pub kind: &'static str,
    /// What was read.
    pub input: String,
    /// The request as it was given: `GET /admin`, `connect`.
    pub request: String,
    /// The path that proxies take the request's for, where it is another (`/x/../admin`: `/admin`).
    pub taken_as: Option<String>,
    /// Its host; the Service's where none was given.
    pub host: Option<String>,
    /// Headers by lower-case name.
    pub headers: BTreeMap<String, String>,
    /// The issuer of the token that it carries.
    pub token_issuer: Option<String>,
    /// `namespace/name` of the Service.
    pub service: String,
    /// The exit code of the run.
    pub exit_code: u8,
    /// An entry for each caller, port and kind of pods.
    pub answers: Vec<AnswerReport>,
    /// Hosts to which a route leads, too, and that are no Service of the input: not asked.
    pub not_asked: Vec<String>,
    /// Answers at pods of namespaces that were not asked for (`-n`).
    pub left_out: usize,
    /// What could not be read: the answers may be others.
    pub unread: Vec<String>,
    /// What the answers rest on.
    pub assumptions: Vec<String>,
}

/// The answer for one caller at one port.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnswerReport {
    /// `namespace/name`, `any other identity` or `outsiders`.
    pub caller: String,
    /// What becomes of the request.
    pub may: MayReport,
    /// Port of the Service.
    pub port: u16,
    /// `namespace/name` of the server's workload.
    pub server: String,
    /// Which of its pods: `sidecar`, `ambient`, `outside the mesh`.
    pub pods: &'static str,
    /// Whether a route of the Service leads there, which else would not.
    pub routed: bool,
    /// Where and by which rule it is decided.
    pub how: String,
    /// What would let a caller in who is refused: `header hello: world`.
    pub may_with: Option<String>,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MayReport {
    /// It gets through.
    Yes,
    /// It hangs on something that is not modelled.
    Undecided,
    /// It is refused.
    No,
}

/// What the answers are to.
#[derive(Debug, Clone)]
pub struct Question<'q> {
    /// What was read.
    pub input: &'q str,
    /// As it was given.
    pub request: &'q str,
    /// As it was understood.
    pub sent: &'q Sent,
    /// The path that proxies take its path for, where it is another.
    pub taken_as: Option<String>,
    /// `namespace/name`.
    pub service: &'q str,
}

/// What could not be asked or read.
#[derive(Debug, Clone, Default)]
pub struct Unasked {
    /// Hosts that are no Service of the input.
    pub hosts: Vec<String>,
    /// Answers that `-n` leaves out.
    pub left_out: usize,
    /// What was not read.
    pub unread: Vec<String>,
    /// What was taken for absent.
    pub assumptions: Vec<String>,
}

impl WhoCanReport {
    /// Makes the report.
    pub fn new(question: Question<'_>, answers: &[Answer], unasked: Unasked) -> Self {
        let (host, headers, token) = match question.sent {
            Sent::Http {
                host,
                headers,
                token,
                ..
            } => (host.clone(), headers.clone(), token.as_ref()),
            Sent::Connection => (None, BTreeMap::new(), None),
        };
        let mut report = Self {
            api_version: wire::API_VERSION,
            kind: "WhoCan",
            input: question.input.to_owned(),
            request: question.request.to_owned(),
            taken_as: question.taken_as,
            host,
            headers,
            token_issuer: token.and_then(Token::issuer).map(str::to_owned),
            service: question.service.to_owned(),
            exit_code: 0,
            answers: answers.iter().map(answer).collect(),
            not_asked: unasked.hosts,
            left_out: unasked.left_out,
            unread: unasked.unread,
            assumptions: unasked.assumptions,
        };
        report.exit_code = report.exit().code();
        report
    }

    /// How it ends.
    pub fn exit(&self) -> Exit {
        let undecided = |one: &AnswerReport| one.may == MayReport::Undecided;
        let incomplete =
            self.answers.is_empty() || !self.unread.is_empty() || !self.not_asked.is_empty();
        if incomplete || self.answers.iter().any(undecided) {
            Exit::Undecided
        } else {
            Exit::Nothing
        }
    }

    /// For people.
    pub fn text(&self, style: Style) -> String {
        let mut out = if self.answers.is_empty() {
            format!(
                "nothing in the input stands behind Service {}\n",
                self.service
            )
        } else {
            self.groups(style.ascii)
        };
        for host in &self.not_asked {
            let _ = writeln!(
                out,
                "a route leads to {host} too, which is no Service of the input: not asked"
            );
        }
        if self.left_out > 0 {
            let _ = writeln!(
                out,
                "{} left out at pods of other namespaces than those of -n",
                crate::phases::wording::count(self.left_out, "answer")
            );
        }
        for one in &self.unread {
            let symbol = if style.ascii { "[?]" } else { "❔" };
            let _ = writeln!(out, "{symbol} {one}");
        }
        out
    }

    fn groups(&self, ascii: bool) -> String {
        let mut out = format!(
            "{} to Service {}{}{}\n",
            self.request,
            self.service,
            self.taken(),
            self.carries()
        );
        let mut groups: BTreeMap<(MayReport, u16, String, &str, Option<&str>), Vec<&str>> =
            BTreeMap::new();
        for one in &self.answers {
            let by = if one.routed {
                ", where a route leads"
            } else {
                ""
            };
            let server = format!("{} ({}){by}", one.server, one.pods);
            groups
                .entry((one.may, one.port, server, &one.how, one.may_with.as_deref()))
                .or_default()
                .push(&one.caller);
        }
        for ((may, port, server, how, with), callers) in groups {
            let symbol = match (may, ascii) {
                (MayReport::Yes, false) => "✅ may",
                (MayReport::No, false) => "⛔ may not",
                (MayReport::Undecided, false) => "❔ not decided",
                (MayReport::Yes, true) => "[yes] may",
                (MayReport::No, true) => "[no] may not",
                (MayReport::Undecided, true) => "[?] not decided",
            };
            let with = with.map_or_else(String::new, |with| format!("; may with {with}"));
            let _ = writeln!(out, "{symbol}, port {port}, pods of {server}: {how}{with}");
            for caller in callers {
                let _ = writeln!(out, "    {caller}");
            }
        }
        out
    }

    /// What proxies make of the request, where it is something else.
    fn taken(&self) -> String {
        match (&self.taken_as, self.request.split_once(' ')) {
            (Some(path), Some((method, _))) => format!(", taken as {method} {path}"),
            _ => String::new(),
        }
    }

    /// What the request carries, or that it carries nothing.
    fn carries(&self) -> String {
        if self.request.eq_ignore_ascii_case("connect") {
            return String::new();
        }
        if self.headers.is_empty() && self.token_issuer.is_none() && self.host.is_none() {
            return ", without token and headers".to_owned();
        }
        let mut words = String::new();
        if let Some(host) = &self.host {
            let _ = write!(words, ", host {host}");
        }
        for (name, value) in &self.headers {
            let _ = write!(words, ", header {name}: {value}");
        }
        if let Some(issuer) = &self.token_issuer {
            let _ = write!(words, ", a token of {issuer}");
        }
        words
    }
}

fn answer(one: &Answer) -> AnswerReport {
    AnswerReport {
        caller: one.caller.clone(),
        may: match one.may {
            May::Yes => MayReport::Yes,
            May::Undecided => MayReport::Undecided,
            May::No => MayReport::No,
        },
        port: one.port,
        server: one.server.to_string(),
        pods: match one.pods {
            DataPlaneMode::Sidecar => "sidecar",
            DataPlaneMode::Ambient => "ambient",
            DataPlaneMode::None => "outside the mesh",
        },
        routed: one.routed,
        how: one.how.clone(),
        may_with: one.may_with.clone(),
    }
}

/// The schema of [`WhoCanReport`], as committed.
pub fn schema() -> String {
    wire::pretty(&schemars::schema_for!(WhoCanReport).to_value())
}
