//! `castoff who-can 'GET /admin' NAMESPACE/SERVICE`: who may, and which rule decides it.
//!
//! In: a request and a Service. Out: callers grouped by answer, and an exit code. Invariant: what is
//! not decided is listed as such.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::input::{self, InputArguments};
use super::{CliError, unread};
use crate::exit::Exit;
use crate::mesh::{DataPlaneMode, Mesh, MeshOverrides};
use crate::prove::ask::{Answer, May, Sent, who_can};
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
}

/// Runs the command.
///
/// # Errors
/// [`CliError`] when nothing can be read, or the request, the Service or the caller cannot be
/// understood or found.
pub fn run(arguments: &WhoCanArguments) -> Result<Exit, CliError> {
    let sent = Sent::parse(&arguments.request).map_err(CliError::Usage)?;
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
    let mut out = if answers.is_empty() {
        format!("nothing in the input stands behind Service {service}\n")
    } else {
        text(&answers, &arguments.request, &service, arguments.ascii)
    };
    for one in &unread {
        let symbol = if arguments.ascii { "[?]" } else { "❔" };
        let _ = writeln!(out, "{symbol} {one}");
    }
    super::print(out.as_bytes())?;
    if let Some(absent) = unread::taken_for_absent(&mesh) {
        input::note(&absent);
    }
    let undecided = answers.iter().any(|answer| answer.may == May::Undecided);
    Ok(if undecided || answers.is_empty() || !unread.is_empty() {
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

fn text(answers: &[Answer], request: &str, service: &ObjectName, ascii: bool) -> String {
    let mut out = format!("{request} to Service {service}\n");
    let mut groups: BTreeMap<(May, u16, String, &str), Vec<&str>> = BTreeMap::new();
    for answer in answers {
        let pods = match answer.pods {
            DataPlaneMode::Sidecar => "sidecar",
            DataPlaneMode::Ambient => "ambient",
            DataPlaneMode::None => "outside the mesh",
        };
        let server = format!("{} ({pods})", answer.server);
        groups
            .entry((answer.may, answer.port, server, &answer.how))
            .or_default()
            .push(&answer.caller);
    }
    for ((may, port, server, how), callers) in groups {
        let symbol = match (may, ascii) {
            (May::Yes, false) => "✅ may",
            (May::No, false) => "⛔ may not",
            (May::Undecided, false) => "❔ not decided",
            (May::Yes, true) => "[yes] may",
            (May::No, true) => "[no] may not",
            (May::Undecided, true) => "[?] not decided",
        };
        let _ = writeln!(out, "{symbol}, port {port}, pods of {server}: {how}");
        for caller in callers {
            let _ = writeln!(out, "    {caller}");
        }
    }
    out
}
