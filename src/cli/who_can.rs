//! `castoff who-can 'GET /admin' NAMESPACE/SERVICE`: who may, and which rule decides it.
//!
//! In: a request and a Service. Out: callers grouped by answer, and an exit code. Invariant: what is
//! not decided is listed as such.

use castoff_authz::request::Token;

use super::input::{self, InputArguments};
use super::shared::{LookArguments, MeshArguments};
use super::{CliError, unread};
use crate::exit::Exit;
use crate::mesh::Mesh;
use crate::prove::ask::{Sent, who_can};
use crate::prove::fronts::elsewhere;
use crate::report::paint::painted;
use crate::report::who_can::{Question, Unasked, WhoCanReport};
use crate::report::yaml;
use crate::snapshot::ObjectName;

/// Arguments of `castoff who-can`.
#[derive(Debug, clap::Args)]
pub struct WhoCanArguments {
    /// What to read.
    #[command(flatten)]
    pub input: InputArguments,
    /// Which mesh it is.
    #[command(flatten)]
    pub mesh: MeshArguments,
    /// Format of the answer
    #[arg(short, long, value_enum, default_value = "text")]
    pub output: AnswerFormat,
    /// How text looks.
    #[command(flatten)]
    pub look: LookArguments,
    /// What is sent: `GET /path`, or `connect` for bytes that are not HTTP
    pub request: String,
    /// The Service: NAMESPACE/SERVICE, or its name alone with one `-n`
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

/// Values of `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum AnswerFormat {
    /// For people
    Text,
    /// schemas/who-can.v1.json
    Json,
    /// The same as YAML
    Yaml,
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
    let service = service_of(arguments)?;
    let from = arguments.from.as_deref().map(object_name).transpose()?;
    let mut namespaces = arguments.mesh.namespace.clone();
    namespaces.push(service.namespace.to_string());
    let (snapshot, input) = input::read(&arguments.input, &namespaces, false)?;
    input::warn(&snapshot);
    let mesh = Mesh::build(&snapshot, &arguments.mesh.overrides());
    arguments.mesh.check(&[&mesh])?;
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
    let mut answers = who_can(&mesh, &sent, id, from.as_ref());
    let all = answers.len();
    answers.retain(|answer| arguments.mesh.includes(&answer.server.namespace));
    if all > 0 && answers.is_empty() {
        return Err(CliError::Usage(format!(
            "no pods behind Service `{service}` are in the namespaces of `-n`"
        )));
    }
    let unasked = Unasked {
        hosts: elsewhere(&mesh, mesh.service(id))
            .iter()
            .map(ToString::to_string)
            .collect(),
        left_out: all - answers.len(),
        unread: unread::lost(&snapshot, &mesh),
        assumptions: unread::taken_for_absent(&mesh).into_iter().collect(),
    };
    for absent in &unasked.assumptions {
        input::note(absent);
    }
    let question = Question {
        input: &input,
        request: &arguments.request,
        sent: &sent,
        taken_as: sent.taken_as(&mesh),
        service: &service.to_string(),
    };
    let report = WhoCanReport::new(question, &answers, unasked);
    let text = match arguments.output {
        AnswerFormat::Text => {
            let style = arguments.look.style();
            painted(&report.text(style), style)
        }
        AnswerFormat::Json => super::json(&report)?,
        AnswerFormat::Yaml => yaml::of_report(&report).map_err(CliError::CouldNotRun)?,
    };
    super::print(text.as_bytes())?;
    Ok(report.exit())
}

/// The Service that was named, in its namespace or in that of `-n`.
fn service_of(arguments: &WhoCanArguments) -> Result<ObjectName, CliError> {
    let name = &arguments.service;
    match arguments.mesh.namespace.as_slice() {
        [namespace] if !name.is_empty() && !name.contains('/') => {
            Ok(ObjectName::new(namespace, name))
        }
        _ => object_name(name),
    }
}

fn object_name(text: &str) -> Result<ObjectName, CliError> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() => {
            Ok(ObjectName::new(namespace, name))
        }
        _ => Err(CliError::Usage(format!("`{text}` is no NAMESPACE/NAME"))),
    }
}
