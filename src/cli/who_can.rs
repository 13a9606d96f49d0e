//! `castoff who-can 'GET /admin' NAMESPACE/SERVICE`: who may, and which rule decides it.
//!
//! In: a request and a Service. Out: callers grouped by answer, and an exit code. Invariant: what is
//! not decided is listed as such.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use castoff_authz::request::Token;

use super::input::{self, InputArguments};
use super::{CliError, unread};
use crate::exit::Exit;
use crate::mesh::{DataPlaneMode, Mesh, MeshOverrides};
use crate::prove::ask::{Answer, May, Sent, who_can};
use crate::prove::fronts::elsewhere;
use crate::snapshot::ObjectName;

/// Arguments of `castoff who-can`.
#[derive(Debug, clap::Args)]
pub struct WhoCanArguments {
    /// What to read.
    #[command(flatten)]
    pub input: InputArguments,
    /// No symbols outside ASCII
    #[arg(long)]
    pub ascii: bool,
    /// What is sent: `GET /path`, or `connect` for bytes that are not HTTP
    pub request: String,
    /// The Service: NAMESPACE/SERVICE
    pub service: String,
    /// Only this caller: NAMESPACE/WORKLOAD
    #[arg(long)]
    pub from: Option<String>,
    /// A header of the request: NAME=VALUE; repeatable
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_header)]
    pub header: Vec<(String, String)>,
    /// Host of the request; otherwise the Service's
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// A valid token of this issuer for this subject
    #[arg(long, value_name = "ISSUER/SUBJECT", value_parser = parse_token)]
    pub token: Option<(String, String)>,
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, _)) if name.eq_ignore_ascii_case("host") => {
            Err("give the host with `--host`".to_owned())
        }
        Some((name, value)) if !name.is_empty() => {
            Ok((name.to_ascii_lowercase(), value.to_owned()))
        }
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// Issuers are often URLs, so the last slash counts.
fn parse_token(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once('/') {
        Some((issuer, subject)) if !issuer.is_empty() && !subject.is_empty() => {
            Ok((issuer.to_owned(), subject.to_owned()))
        }
        _ => Err("write ISSUER/SUBJECT".to_owned()),
    }
}

/// The request as it was given.
fn sent(arguments: &WhoCanArguments) -> Result<Sent, CliError> {
    let mut sent = Sent::parse(&arguments.request).map_err(CliError::Usage)?;
    match &mut sent {
        Sent::Http {
            host,
            headers,
            token,
            ..
        } => {
            host.clone_from(&arguments.host);
            headers.extend(arguments.header.iter().cloned());
            *token = arguments.token.as_ref().map(|(issuer, subject)| {
                let claim =
                    |name: &str, value: &String| (vec![name.to_owned()], vec![value.clone()]);
                Token {
                    claims: [claim("iss", issuer), claim("sub", subject)].into(),
                    ..Token::default()
                }
            });
        }
        Sent::Connection => {
            let carries = arguments.host.is_some() || arguments.token.is_some();
            if carries || !arguments.header.is_empty() {
                return Err(CliError::Usage(
                    "a bare connection has no host, header or token: give a request such as `GET /`"
                        .to_owned(),
                ));
            }
        }
    }
    Ok(sent)
}

/// Runs the command.
///
/// # Errors
/// [`CliError`] when nothing can be read, or the request, the Service or the caller cannot be
/// understood or found.
pub fn run(arguments: &WhoCanArguments) -> Result<Exit, CliError> {
    let sent = sent(arguments)?;
    let service = object_name(&arguments.service)?;
    let from = arguments.from.as_deref().map(object_name).transpose()?;
    let (snapshot, _) = input::read(&arguments.input, &[service.namespace.to_string()], false)?;
    input::warn(&snapshot);
    let mesh = Mesh::build(&snapshot, &MeshOverrides::default());
    let (id, _) = mesh
        .service_named(&service)
        .ok_or_else(|| CliError::Usage(format!("no Service `{service}` in the input")))?;
    if let Some(from) = &from
        && !mesh
            .workloads_in(&from.namespace)
            .any(|(_, workload)| workload.name == *from)
    {
        return Err(CliError::Usage(format!(
            "no workload `{from}` in the input"
        )));
    }
    let unread = unread::lost(&snapshot, &mesh);
    let answers = who_can(&mesh, &sent, id, from.as_ref());
    let elsewhere = elsewhere(&mesh, mesh.service(id));
    let mut out = if answers.is_empty() {
        format!("nothing in the input stands behind Service {service}\n")
    } else {
        text(&answers, arguments, &sent, &service)
    };
    for host in &elsewhere {
        let _ = writeln!(
            out,
            "a route leads to {host} too, which is no Service of the input: not asked"
        );
    }
    for one in &unread {
        let symbol = if arguments.ascii { "[?]" } else { "❔" };
        let _ = writeln!(out, "{symbol} {one}");
    }
    super::print(out.as_bytes())?;
    if let Some(absent) = unread::taken_for_absent(&mesh) {
        input::note(&absent);
    }
    let undecided = answers.iter().any(|answer| answer.may == May::Undecided);
    let incomplete = answers.is_empty() || !unread.is_empty() || !elsewhere.is_empty();
    Ok(if undecided || incomplete {
        Exit::Undecided
    } else {
        Exit::Nothing
    })
}

fn object_name(text: &str) -> Result<ObjectName, CliError> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(ObjectName::new(namespace, name))
        }
        _ => Err(CliError::Usage(format!("`{text}` is no NAMESPACE/NAME"))),
    }
}

fn text(
    answers: &[Answer],
    arguments: &WhoCanArguments,
    sent: &Sent,
    service: &ObjectName,
) -> String {
    let mut out = format!(
        "{} to Service {service}{}\n",
        arguments.request,
        carries(sent)
    );
    let ascii = arguments.ascii;
    let mut groups: BTreeMap<(May, u16, String, &str, Option<&str>), Vec<&str>> = BTreeMap::new();
    for answer in answers {
        let pods = match answer.pods {
            DataPlaneMode::Sidecar => "sidecar",
            DataPlaneMode::Ambient => "ambient",
            DataPlaneMode::None => "outside the mesh",
        };
        let by = if answer.routed {
            ", where a route leads"
        } else {
            ""
        };
        let server = format!("{} ({pods}){by}", answer.server);
        groups
            .entry((
                answer.may,
                answer.port,
                server,
                &answer.how,
                answer.may_with.as_deref(),
            ))
            .or_default()
            .push(&answer.caller);
    }
    for ((may, port, server, how, with), callers) in groups {
        let symbol = match (may, ascii) {
            (May::Yes, false) => "✅ may",
            (May::No, false) => "⛔ may not",
            (May::Undecided, false) => "❔ not decided",
            (May::Yes, true) => "[yes] may",
            (May::No, true) => "[no] may not",
            (May::Undecided, true) => "[?] not decided",
        };
        let with = with.map_or_else(String::new, |with| format!("; may with {with}"));
        let _ = writeln!(out, "{symbol}, port {port}, pods of {server}: {how}{with}");
        for caller in callers {
            let _ = writeln!(out, "    {caller}");
        }
    }
    out
}

/// What the request carries, or that it carries nothing.
fn carries(sent: &Sent) -> String {
    let Sent::Http {
        headers,
        token,
        host,
        ..
    } = sent
    else {
        return String::new();
    };
    if headers.is_empty() && token.is_none() && host.is_none() {
        return ", without token and headers".to_owned();
    }
    let mut words = String::new();
    if let Some(host) = host {
        let _ = write!(words, ", host {host}");
    }
    for (name, value) in headers {
        let _ = write!(words, ", header {name}: {value}");
    }
    if let Some(issuer) = token.as_ref().and_then(Token::issuer) {
        let _ = write!(words, ", a token of {issuer}");
    }
    words
}
