//! castoff as a plugin of kubectl: the name it is called by, and completion for `kubectl castoff`.
//!
//! In: the name of the program and words typed so far. Out: how castoff calls itself, and
//! candidates as kubectl takes them. Invariant: whatever it is called, it does the same.

use std::ffi::OsString;
use std::path::Path;

use clap::CommandFactory as _;

use super::Arguments;

/// As what castoff was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CalledAs {
    /// By its own name, or any other.
    Castoff,
    /// As `kubectl-castoff`, which `kubectl castoff` does.
    Plugin,
    /// As `kubectl_complete-castoff`, which kubectl does for completion.
    Completion,
}

impl CalledAs {
    /// Tells by the name of the program.
    pub(crate) fn of(words: &[OsString]) -> Self {
        let name = words
            .first()
            .and_then(|word| Path::new(word).file_stem())
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if name.starts_with("kubectl_complete-") {
            Self::Completion
        } else if name.starts_with("kubectl-") {
            Self::Plugin
        } else {
            Self::Castoff
        }
    }

    /// The name that usage lines and repeated commands begin with.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Castoff => "castoff",
            Self::Plugin | Self::Completion => "kubectl castoff",
        }
    }
}

/// Candidates for the last word, one a line, and the directive that ends them: 4 (no file names)
/// where there are candidates, else 0 (kubernetes.io, "Extend kubectl with plugins"; the numbers
/// are those of spf13/cobra's completions).
pub(crate) fn complete(words: &[OsString]) -> String {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let (last, before) = words.split_last().unwrap_or((&"", &[]));
    let root = Arguments::command();
    let mut command = &root;
    for word in before {
        if let Some(found) = command.find_subcommand(word) {
            command = found;
        }
    }
    let mut candidates: Vec<String> = Vec::new();
    let values = before
        .last()
        .and_then(|word| flag(command, word))
        .filter(|argument| argument.get_action().takes_values());
    if let Some(argument) = values {
        candidates.extend(
            argument
                .get_possible_values()
                .iter()
                .map(|value| value.get_name().to_owned()),
        );
    } else if last.starts_with('-') {
        let flags = command.get_arguments().filter(|one| !one.is_hide_set());
        candidates.extend(
            flags.filter_map(|one| {
                Some(with_help(&format!("--{}", one.get_long()?), one.get_help()))
            }),
        );
    } else {
        candidates.extend(
            command
                .get_subcommands()
                .map(|one| with_help(one.get_name(), one.get_about())),
        );
    }
    candidates.retain(|candidate| candidate.starts_with(last));
    let directive = if candidates.is_empty() { 0 } else { 4 };
    candidates.push(format!(":{directive}\n"));
    candidates.join("\n")
}

fn flag<'a>(command: &'a clap::Command, word: &str) -> Option<&'a clap::Arg> {
    command.get_arguments().find(|argument| {
        let long = word.strip_prefix("--");
        let short = word.strip_prefix('-').and_then(|rest| rest.chars().next());
        long.is_some() && argument.get_long() == long
            || word.len() == 2 && argument.get_short().is_some() && argument.get_short() == short
    })
}

fn with_help(name: &str, help: Option<&clap::builder::StyledStr>) -> String {
    match help {
        Some(help) => {
            let text = help.to_string();
            format!("{name}\t{}", text.lines().next().unwrap_or_default())
        }
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(words: &[&str]) -> Vec<String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        complete(&words)
            .lines()
            .map(|line| line.split('\t').next().unwrap_or_default().to_owned())
            .collect()
    }

    #[test]
    fn the_name_of_the_program_tells_how_it_was_called() {
        let called = |name: &str| CalledAs::of(&[OsString::from(name)]);
        assert_eq!(called("castoff"), CalledAs::Castoff);
        assert_eq!(called("/usr/local/bin/kubectl-castoff"), CalledAs::Plugin);
        assert_eq!(called("kubectl-castoff.exe"), CalledAs::Plugin);
        assert_eq!(
            called("/bin/kubectl_complete-castoff"),
            CalledAs::Completion
        );
    }

    #[test]
    fn commands_flags_and_values_are_completed() {
        assert_eq!(completed(&["mig"]), ["migrate", ":4"]);
        assert_eq!(completed(&["migrate", "--per-"]), ["--per-service", ":4"]);
        assert_eq!(
            completed(&["migrate", "--distribution", ""]),
            ["auto", "upstream", "solo", ":4"]
        );
        assert_eq!(completed(&["migrate", "-o", "ju"]), ["junit", ":4"]);
        assert_eq!(completed(&["migrate", "--from-files", ""]), [":0"]);
        assert!(completed(&[""]).contains(&"verify".to_owned()));
    }
}
