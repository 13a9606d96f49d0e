//! Objects to YAML text, for `kubectl apply` and for Git.
//!
//! In: JSON values. Out: block-style YAML, the same bytes for the same value. Invariant: the text
//! means the same to a YAML 1.1 reader (`sigs.k8s.io/yaml`, which kubectl uses) and to a 1.2
//! reader: every string that either could take for something else is quoted.

use std::fmt::Write;

use serde_json::Value;

/// One text of several documents, divided by `---`, each ending in a newline.
pub fn documents<'a>(objects: impl IntoIterator<Item = &'a Value>) -> String {
    let mut text = String::new();
    for object in objects {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        text.push_str(&document(object));
    }
    text
}

/// The documents of a text that [`documents`] wrote: no line within one begins with a dash and two more.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        match text.find("\n---\n") {
            Some(end) => {
                rest = Some(&text[end + 5..]);
                Some(&text[..=end])
            }
            None => {
                rest = None;
                Some(text)
            }
        }
    })
}

/// One document.
pub fn document(object: &Value) -> String {
    let mut text = String::new();
    match object {
        Value::Object(map) if !map.is_empty() => fields(&mut text, map, 0),
        Value::Array(list) if !list.is_empty() => items(&mut text, list, 0),
        other => {
            scalar(&mut text, other, 0);
            text.push('\n');
        }
    }
    text
}

fn fields(text: &mut String, map: &serde_json::Map<String, Value>, indent: usize) {
    for (index, (key, value)) in map.iter().enumerate() {
        // The first key of an object in a list stands behind its dash.
        if index > 0 || text.ends_with('\n') || text.is_empty() {
            push_indent(text, indent);
        }
        string(text, key, false, 0);
        text.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                text.push('\n');
                fields(text, map, indent + 2);
            }
            Value::Array(list) if !list.is_empty() => {
                text.push('\n');
                items(text, list, indent);
            }
            other => {
                text.push(' ');
                scalar(text, other, indent + 2);
                text.push('\n');
            }
        }
    }
}

fn items(text: &mut String, list: &[Value], indent: usize) {
    for item in list {
        push_indent(text, indent);
        text.push_str("- ");
        match item {
            Value::Object(map) if !map.is_empty() => fields(text, map, indent + 2),
            Value::Array(list) if !list.is_empty() => {
                // A list in a list: the inner dashes start on a line of their own.
                text.truncate(text.len() - 1);
                text.push('\n');
                items(text, list, indent + 2);
            }
            other => {
                scalar(text, other, indent + 2);
                text.push('\n');
            }
        }
    }
}

fn push_indent(text: &mut String, indent: usize) {
    text.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Number(number) => {
            let _ = write!(text, "{number}");
        }
        Value::String(value) => string(text, value, true, indent),
        Value::Array(_) => text.push_str("[]"),
        Value::Object(_) => text.push_str("{}"),
    }
}

fn string(text: &mut String, value: &str, block_allowed: bool, indent: usize) {
    if is_plain(value) {
        text.push_str(value);
    } else if block_allowed && is_block(value) {
        block(text, value, indent);
    } else {
        quoted(text, value);
    }
}

/// Whether a string can stand without quotes for every reader: begins with a letter, `/` or `_`,
/// goes on in harmless characters, and is no word of YAML 1.1.
fn is_plain(value: &str) -> bool {
    let mut characters = value.chars();
    let harmless_start = characters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || matches!(first, '/' | '_'));
    harmless_start
        && characters.all(|one| one.is_ascii_alphanumeric() || matches!(one, '/' | '_' | '-' | '.'))
        && !is_word(value)
}

/// Words that YAML 1.1 or 1.2 read as something else than text
/// (yaml.org/type/bool.html, yaml.org/type/null.html; go-yaml's `resolve.go`).
fn is_word(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "y" | "n" | "yes" | "no" | "on" | "off" | "true" | "false" | "null" | "nan" | "inf"
    )
}

/// Whether a text of several lines can be a literal block: printable, no line that begins or ends
/// in white space, no more than one newline at its end.
fn is_block(value: &str) -> bool {
    let body = value.strip_suffix('\n').unwrap_or(value);
    body.contains('\n')
        && !body.ends_with('\n')
        && !body.starts_with(char::is_whitespace)
        && body.chars().all(|one| one == '\n' || is_printable(one))
        && body
            .split('\n')
            .all(|line| !line.ends_with(char::is_whitespace))
}

fn block(text: &mut String, value: &str, indent: usize) {
    let body = match value.strip_suffix('\n') {
        Some(body) => {
            text.push('|');
            body
        }
        None => {
            text.push_str("|-");
            value
        }
    };
    for line in body.split('\n') {
        text.push('\n');
        if !line.is_empty() {
            push_indent(text, indent);
            text.push_str(line);
        }
    }
}

fn is_printable(one: char) -> bool {
    matches!(one, ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}' | '\u{10000}'..)
        && !matches!(one, '\u{2028}' | '\u{2029}')
}

fn quoted(text: &mut String, value: &str) {
    text.push('"');
    for one in value.chars() {
        match one {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            one if is_printable(one) => text.push(one),
            one => {
                let _ = write!(text, "\\u{:04x}", u32::from(one));
            }
        }
    }
    text.push('"');
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::snapshot::Kind;
    use crate::source::{Place, read_text};

    #[test]
    fn what_yaml_1_1_would_take_for_something_else_is_quoted() {
        for word in [
            "on", "No", "y", "TRUE", "null", "1.25", "0x10", "1e3", "", "~", "-", "a: b", "*",
            "/admin*", "#x",
        ] {
            let mut text = String::new();
            string(&mut text, word, true, 2);
            assert!(text.starts_with('"'), "{word}: {text}");
        }
        for word in ["echo", "/admin", "istio-system", "cluster.local/ns/a/sa/b"] {
            let mut text = String::new();
            string(&mut text, word, true, 2);
            assert_eq!(text, word);
        }
    }

    #[test]
    fn what_is_written_is_read_back_the_same() {
        let object = json!({
            "apiVersion": "networking.istio.io/v1alpha3",
            "kind": "EnvoyFilter",
            "metadata": {"name": "odd", "namespace": "a",
                "annotations": {"x/y": "yes", "bell": "\u{7}", "empty": ""}},
            "spec": {
                "lua": "function f()\n  if x then\n\n    y()\n  end\nend\n",
                "short": "a\nb",
                "tail": "a\n\n",
                "lead": " a\nb",
                "numbers": [1, -2, 1.5, "1", "08", true, null],
                "nested": [["a", ["b"]], [], {}, {"k": [{"a": 1, "b": {"c": []}}]}],
                "unicode": "größer \u{2028} \u{1f642}"
            }
        });
        let text = document(&object);
        let snapshot = read_text(&Place::Simulated, &text).unwrap();
        assert_eq!(
            snapshot.resources(Kind::EnvoyFilter)[0].body,
            object.into(),
            "{text}"
        );
    }
}
