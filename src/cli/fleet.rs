//! `castoff migrate` for several clusters: read side by side, reported one after the other.
//!
//! In: contexts. Out: one report, files in a folder a cluster, the gravest exit code. Invariant: a
//! cluster that cannot be read keeps none of the others from being reported.

use std::path::Path;

use super::input::ClusterArguments;
use super::migrate::{self, Format, MigrateArguments};
use super::{CliError, live};
use crate::exit::Exit;
use crate::report::fleet::{self, Member};
use crate::source::cluster;
use crate::source::recording::Recording;

/// Clusters that are read at once.
const SIDE_BY_SIDE: usize = 8;

/// The contexts that were asked for, when they are not just one (or the current one).
///
/// # Errors
/// The kubeconfig cannot be read, or no context matches.
pub(super) fn contexts(arguments: &ClusterArguments) -> Result<Option<Vec<String>>, CliError> {
    let Some(pattern) = &arguments.all_contexts else {
        let mut contexts = arguments.context.clone();
        contexts.dedup();
        return Ok((contexts.len() > 1).then_some(contexts));
    };
    let mut all = cluster::contexts(arguments.kubeconfig.as_deref())
        .map_err(|error| CliError::CouldNotRun(error.to_string()))?;
    all.sort();
    let known = all.len();
    all.retain(|context| matches(pattern, context));
    if all.is_empty() {
        return Err(CliError::Usage(format!(
            "none of the {known} contexts of the kubeconfig matches `{pattern}`; \
             `kubectl config get-contexts` lists them"
        )));
    }
    Ok(Some(all))
}

/// Whether a name fits a pattern, in which `*` stands for anything.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| matches(after, &rest[at..]))
        }),
    }
}

/// Runs the command for all of them.
///
/// # Errors
/// Wrong usage, or output that cannot be written. A cluster that cannot be read is in the report.
pub(super) fn run(
    arguments: &MigrateArguments,
    contexts: &[String],
    invocation: &str,
) -> Result<Exit, CliError> {
    if matches!(arguments.output, Format::Sarif | Format::Junit) {
        return Err(CliError::Usage(
            "`-o sarif` and `-o junit` hold one cluster: give one context, or another format"
                .to_owned(),
        ));
    }
    let mut members = Vec::with_capacity(contexts.len());
    for contexts in contexts.chunks(SIDE_BY_SIDE) {
        let recordings = read_side_by_side(arguments, contexts);
        for (context, recording) in contexts.iter().zip(recordings) {
            let outcome = recording
                .and_then(|recording| report(arguments, context, recording, invocation))
                .map_err(|error| error.to_string());
            members.push(Member {
                context: context.clone(),
                outcome,
            });
        }
    }
    let text = match arguments.output {
        Format::Json => fleet::json(&members),
        Format::Yaml => fleet::yaml(&members),
        Format::Markdown => fleet::markdown(&members),
        _ => fleet::text(&members, migrate::style(arguments)),
    };
    super::print(text.as_bytes())?;
    Ok(fleet::exit(&members))
}

fn read_side_by_side(
    arguments: &MigrateArguments,
    contexts: &[String],
) -> Vec<Result<Recording, CliError>> {
    std::thread::scope(|scope| {
        let readers: Vec<_> = contexts
            .iter()
            .map(|context| {
                let cluster = ClusterArguments {
                    context: vec![context.clone()],
                    all_contexts: None,
                    ..arguments.input.cluster.clone()
                };
                // One line of progress cannot tell of several clusters.
                scope.spawn(move || live::record(&cluster, &arguments.mesh.namespace, true))
            })
            .collect();
        readers
            .into_iter()
            .map(|reader| {
                reader.join().unwrap_or_else(|_| {
                    Err(CliError::CouldNotRun(
                        "reading this cluster ended in a panic, which is a defect of castoff"
                            .to_owned(),
                    ))
                })
            })
            .collect()
    })
}

fn report(
    arguments: &MigrateArguments,
    context: &str,
    recording: Recording,
    invocation: &str,
) -> Result<crate::report::Report, CliError> {
    let folder = arguments.output_dir.join(folder_name(context));
    migrate::report_of(
        arguments,
        &recording.into_snapshot(),
        format!("cluster {}", crate::report::shell_word(context)),
        &folder,
        invocation,
    )
}

/// The folder of a context, whose name may hold anything (`arn:aws:eks:…:cluster/shop`).
fn folder_name(context: &str) -> String {
    let plain = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '.' | '-' | '_' | '@')
    };
    let name: String = context
        .chars()
        .map(|character| if plain(character) { character } else { '_' })
        .collect();
    match Path::new(&name).file_name() {
        Some(_) => name,
        None => format!("_{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, name, expected) in [
            ("*", "anything", true),
            ("prod-*", "prod-eu", true),
            ("prod-*", "preprod-eu", false),
            ("*-eu-*", "prod-eu-1", true),
            ("*eu", "prod-eu-1", false),
            ("prod", "prod", true),
            ("prod", "production", false),
            ("é*é", "éé", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_folder_stays_inside_the_output_folder() {
        assert_eq!(folder_name("prod"), "prod");
        assert_eq!(
            folder_name("arn:aws:eks:eu-1:1:cluster/shop"),
            "arn_aws_eks_eu-1_1_cluster_shop"
        );
        assert_eq!(folder_name(".."), "_..");
        assert_eq!(folder_name("../up"), ".._up");
    }
}
