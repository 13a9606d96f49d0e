//! The `kubectl` lines that castoff writes, read back.
//!
//! In: the text of `commands.sh`. Out: one [`Command`] a line, in order. Invariant: only the forms
//! that castoff writes are understood; anything else is a [`CommandError`] with its line number.

use serde_json::Value;

use crate::snapshot::{Kind, ObjectName, kinds::KINDS};

/// One label to set or, without a value, to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelChange {
    /// Label key.
    pub key: String,
    /// New value; `None` removes the label.
    pub value: Option<String>,
}

/// One command.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// `kubectl apply -f FILE`
    Apply {
        /// The file, as written.
        file: String,
    },
    /// `kubectl label KIND NAME key=value key-`
    Label {
        /// Kind of the object.
        kind: Kind,
        /// The object.
        name: ObjectName,
        /// Changes in order.
        changes: Vec<LabelChange>,
    },
    /// `kubectl delete KIND NAME`
    Delete {
        /// Kind of the object.
        kind: Kind,
        /// The object.
        name: ObjectName,
        /// Whether it may be gone already (`--ignore-not-found`).
        may_be_gone: bool,
    },
    /// `kubectl delete pods NAME NAME…` or `kubectl delete pods -l key=value,…`: their controllers make
    /// new ones.
    DeletePods {
        /// Namespace.
        namespace: String,
        /// Their names.
        names: Vec<String>,
        /// Labels that all of them have, where no names are given.
        selector: Vec<(String, Option<String>)>,
    },
    /// `kubectl patch KIND NAME --type=merge -p JSON`
    Patch {
        /// Kind of the object.
        kind: Kind,
        /// The object.
        name: ObjectName,
        /// The JSON merge patch.
        patch: Value,
    },
    /// `kubectl rollout restart KIND NAME`, or `kubectl argo rollouts restart NAME`; without a name,
    /// all of the kind in the namespace.
    Restart {
        /// Kind of the owner.
        kind: Kind,
        /// Namespace.
        namespace: String,
        /// Name; `None` for all.
        name: Option<String>,
    },
}

/// A line that castoff would not have written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}: `{text}`")]
pub struct CommandError {
    /// 1-based line of the script.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
    /// The line.
    pub text: String,
}

/// Beginnings of lines that change nothing.
const PASSED_OVER: [&str; 6] = [
    "#",
    "set ",
    "cd ",
    "kubectl wait ",
    "kubectl rollout status ",
    "kubectl argo rollouts status ",
];

/// Reads a script: comments, blank lines, shell settings (`set …`, `cd …`) and commands that only
/// wait are passed over.
///
/// # Errors
/// The first line that is neither of these nor a command of a known form.
pub fn parse_script(script: &str) -> Result<Vec<Command>, CommandError> {
    let mut commands = Vec::new();
    for (index, line) in script.lines().enumerate() {
        let text = line.trim();
        if text.is_empty() || PASSED_OVER.iter().any(|start| text.starts_with(start)) {
            continue;
        }
        let command = parse_line(text).map_err(|reason| CommandError {
            line: index + 1,
            reason,
            text: text.to_owned(),
        })?;
        commands.push(command);
    }
    Ok(commands)
}

/// Reads one command.
///
/// # Errors
/// A sentence that says what is not understood.
pub fn parse_line(line: &str) -> Result<Command, String> {
    let words = shlex::split(line).ok_or("unbalanced quotes")?;
    let mut arguments = Arguments::read(&words)?;
    match arguments.take_word("a verb")?.as_str() {
        "apply" => Ok(Command::Apply {
            file: arguments.file.take().ok_or("`apply` needs `-f FILE`")?,
        }),
        "label" => label(arguments),
        "delete"
            if (arguments.words.len() > 1) != arguments.selector.is_some()
                && kind_of(&arguments.words[0]) == Ok(Kind::Pod) =>
        {
            Ok(Command::DeletePods {
                selector: pairs(arguments.selector.take())?,
                names: arguments.words.split_off(1),
                namespace: arguments.namespace(),
            })
        }
        "delete" => {
            let may_be_gone = arguments.may_be_gone;
            let (kind, name) = arguments.object()?;
            Ok(Command::Delete {
                kind,
                name,
                may_be_gone,
            })
        }
        "patch" => {
            let text = arguments.patch.take().ok_or("`patch` needs `-p JSON`")?;
            let patch = serde_json::from_str(&text)
                .map_err(|error| format!("the patch is no JSON ({error})"))?;
            let (kind, name) = arguments.object()?;
            Ok(Command::Patch { kind, name, patch })
        }
        "rollout" => restart(arguments),
        "argo" => restart_rollout(arguments),
        verb => Err(format!(
            "`kubectl {verb}` is no command that castoff writes"
        )),
    }
}

/// `key=value,!key`: what a label must be, or that there is none.
fn pairs(selector: Option<String>) -> Result<Vec<(String, Option<String>)>, String> {
    let Some(selector) = selector else {
        return Ok(Vec::new());
    };
    let pair = |part: &str| match part.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), Some(value.to_owned()))),
        None => match part.strip_prefix('!') {
            Some(key) => Ok((key.to_owned(), None)),
            None => Err(format!("`{part}` is neither `key=value` nor `!key`")),
        },
    };
    selector.split(',').map(pair).collect()
}

fn label(mut arguments: Arguments) -> Result<Command, String> {
    let changes_start = arguments
        .words
        .iter()
        .position(|word| word.contains('=') || word.ends_with('-'))
        .ok_or("`label` needs `key=value` or `key-`")?;
    let changes = arguments
        .words
        .split_off(changes_start)
        .into_iter()
        .map(|word| match word.split_once('=') {
            Some((key, value)) => Ok(LabelChange {
                key: key.to_owned(),
                value: Some(value.to_owned()),
            }),
            None => word
                .strip_suffix('-')
                .map(|key| LabelChange {
                    key: key.to_owned(),
                    value: None,
                })
                .ok_or(format!("`{word}` is no label change")),
        })
        .collect::<Result<_, _>>()?;
    let (kind, name) = arguments.object()?;
    Ok(Command::Label {
        kind,
        name,
        changes,
    })
}

fn restart(mut arguments: Arguments) -> Result<Command, String> {
    if arguments.take_word("`restart`")? != "restart" {
        return Err("only `rollout restart` is understood".to_owned());
    }
    let word = arguments.take_word("a kind")?;
    let (kind_word, mut name) = match word.split_once('/') {
        Some((kind, name)) => (kind.to_owned(), Some(name.to_owned())),
        None => (word, None),
    };
    if name.is_none() && !arguments.words.is_empty() {
        name = Some(arguments.take_word("a name")?);
    }
    Ok(Command::Restart {
        kind: kind_of(&kind_word)?,
        namespace: arguments.namespace(),
        name,
    })
}

/// `argo rollouts restart NAME`, of the plugin for Argo Rollouts.
fn restart_rollout(mut arguments: Arguments) -> Result<Command, String> {
    let [rollouts, restart, name] = arguments.words.as_slice() else {
        return Err("only `argo rollouts restart NAME` is understood".to_owned());
    };
    if (rollouts.as_str(), restart.as_str()) != ("rollouts", "restart") {
        return Err("only `argo rollouts restart NAME` is understood".to_owned());
    }
    Ok(Command::Restart {
        kind: Kind::Rollout,
        name: Some(name.clone()),
        namespace: arguments.namespace(),
    })
}

/// Words of a `kubectl` line with the options that castoff writes taken out.
struct Arguments {
    words: Vec<String>,
    namespace: Option<String>,
    file: Option<String>,
    patch: Option<String>,
    selector: Option<String>,
    may_be_gone: bool,
}

impl Arguments {
    fn read(line: &[String]) -> Result<Self, String> {
        let mut read = Self {
            words: Vec::new(),
            namespace: None,
            file: None,
            patch: None,
            selector: None,
            may_be_gone: false,
        };
        let mut rest = line.iter();
        if rest.next().map(String::as_str) != Some("kubectl") {
            return Err("only `kubectl` commands are understood".to_owned());
        }
        while let Some(word) = rest.next() {
            let mut value = || {
                rest.next()
                    .cloned()
                    .ok_or(format!("`{word}` needs a value"))
            };
            match word.as_str() {
                "-n" | "--namespace" => read.namespace = Some(value()?),
                "-f" | "--filename" => read.file = Some(value()?),
                "-p" | "--patch" => read.patch = Some(value()?),
                "-l" | "--selector" => read.selector = Some(value()?),
                "--ignore-not-found" => read.may_be_gone = true,
                "--type=merge" | "--overwrite" | "--server-side" => {}
                option if option.starts_with('-') => {
                    return Err(format!("option `{option}` is not understood"));
                }
                _ => read.words.push(word.clone()),
            }
        }
        Ok(read)
    }

    /// The namespace of `-n`, else `default`.
    fn namespace(&mut self) -> String {
        self.namespace
            .take()
            .unwrap_or_else(|| "default".to_owned())
    }

    fn take_word(&mut self, what: &str) -> Result<String, String> {
        if self.words.is_empty() {
            Err(format!("{what} is missing"))
        } else {
            Ok(self.words.remove(0))
        }
    }

    /// `KIND NAME` or `KIND/NAME`, in the namespace of `-n`.
    fn object(&mut self) -> Result<(Kind, ObjectName), String> {
        let word = self.take_word("a kind")?;
        let (kind, name) = match word.split_once('/') {
            Some((kind, name)) => (kind_of(kind)?, name.to_owned()),
            None => (kind_of(&word)?, self.take_word("a name")?),
        };
        if let Some(extra) = self.words.first() {
            return Err(format!("`{extra}` is one argument too many"));
        }
        let namespace = match (kind.row().namespaced, self.namespace.take()) {
            (true, given) => given.unwrap_or_else(|| "default".to_owned()),
            (false, _) => String::new(),
        };
        Ok((kind, ObjectName::new(&namespace, &name)))
    }
}

/// A kind by kind name, singular, plural or plural with group, as `kubectl` takes them.
fn kind_of(word: &str) -> Result<Kind, String> {
    let lower = word.to_ascii_lowercase();
    if let Some(kind) = [
        ("ns", Kind::Namespace),
        ("svc", Kind::Service),
        ("deploy", Kind::Deployment),
    ]
    .into_iter()
    .find_map(|(short, kind)| (short == lower).then_some(kind))
    {
        return Ok(kind);
    }
    let (name, group) = lower
        .split_once('.')
        .map_or((lower.as_str(), None), |(name, group)| (name, Some(group)));
    let mut rows = KINDS.iter().filter(|row| {
        (row.plural == name || row.name.eq_ignore_ascii_case(name))
            && group.is_none_or(|group| row.group == group)
    });
    match (rows.next(), rows.next()) {
        (Some(row), None) => Ok(row.kind),
        (Some(_), Some(_)) => Err(format!(
            "kind `{word}` is ambiguous, write it with its group"
        )),
        (None, _) => Err(format!("kind `{word}` is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_that_castoff_writes_is_read() {
        let script = "#!/bin/sh\nset -eu\n# enable it\n\
            kubectl label namespace app1 istio.io/use-waypoint=waypoint\n\
            kubectl label ns app1 istio-injection- istio.io/dataplane-mode=ambient\n\
            kubectl label service -n app1 echo istio.io/use-waypoint=waypoint\n\
            kubectl delete authorizationpolicies.security.istio.io -n app1 allow-nothing\n\
            kubectl rollout restart -n app1 deployment/echo\n\
            kubectl argo rollouts restart -n app1 web\n\
            kubectl delete pods -n app1 db-x db-y\n\
            kubectl delete pods -n app1 -l 'app=db,!tier'\n\
            kubectl argo rollouts status -n app1 web --timeout=10m\n\
            kubectl rollout restart statefulset db -n app1\n\
            kubectl patch deployment -n app1 echo --type=merge -p '{\"spec\":{\"template\":{\"metadata\":{\"labels\":{\"sidecar.istio.io/inject\":null}}}}}'\n\
            kubectl apply -f recommended-policies.yaml\n";
        let set = |key: &str, value: Option<&str>| LabelChange {
            key: key.into(),
            value: value.map(str::to_owned),
        };
        let app1 = |name: &str| ObjectName::new("app1", name);
        assert_eq!(
            parse_script(script),
            Ok(vec![
                Command::Label {
                    kind: Kind::Namespace,
                    name: ObjectName::new("", "app1"),
                    changes: vec![set("istio.io/use-waypoint", Some("waypoint"))],
                },
                Command::Label {
                    kind: Kind::Namespace,
                    name: ObjectName::new("", "app1"),
                    changes: vec![
                        set("istio-injection", None),
                        set("istio.io/dataplane-mode", Some("ambient"))
                    ],
                },
                Command::Label {
                    kind: Kind::Service,
                    name: app1("echo"),
                    changes: vec![set("istio.io/use-waypoint", Some("waypoint"))],
                },
                Command::Delete {
                    kind: Kind::AuthorizationPolicy,
                    name: app1("allow-nothing"),
                    may_be_gone: false,
                },
                Command::Restart {
                    kind: Kind::Deployment,
                    namespace: "app1".into(),
                    name: Some("echo".into())
                },
                Command::Restart {
                    kind: Kind::Rollout,
                    namespace: "app1".into(),
                    name: Some("web".into())
                },
                Command::DeletePods {
                    namespace: "app1".into(),
                    names: vec!["db-x".into(), "db-y".into()],
                    selector: Vec::new(),
                },
                Command::DeletePods {
                    namespace: "app1".into(),
                    names: Vec::new(),
                    selector: vec![("app".into(), Some("db".into())), ("tier".into(), None)],
                },
                Command::Restart {
                    kind: Kind::StatefulSet,
                    namespace: "app1".into(),
                    name: Some("db".into())
                },
                Command::Patch {
                    kind: Kind::Deployment,
                    name: app1("echo"),
                    patch: json!({"spec": {"template": {"metadata": {"labels": {"sidecar.istio.io/inject": null}}}}}),
                },
                Command::Apply {
                    file: "recommended-policies.yaml".into()
                },
            ])
        );
    }

    #[test]
    fn a_line_that_is_not_understood_is_an_error_with_its_number() {
        let error = parse_script("# fine\nkubectl scale deployment x --replicas=0\n")
            .expect_err("must not be skipped");
        assert_eq!(error.line, 2);
        assert!(
            parse_line("kubectl delete gateways -n a b").is_err(),
            "two groups have gateways"
        );
        assert!(parse_line("rm -rf /").is_err());
    }
}
