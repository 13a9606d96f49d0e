//! JSON values as YAML.
//!
//! In: a value. Out: block-style YAML. Invariant: every text is in double quotes (JSON strings are
//! YAML strings), so no reader takes one for a number, a date or a truth value; keys are plain.

use serde_json::Value;

use super::{Report, wire};

/// The report as YAML, of the same shape as `-o json`.
pub fn render(report: &Report) -> String {
    of(&wire::value(report))
}

/// Whatever is also written as JSON.
///
/// # Errors
/// It cannot be written so, which would be a defect of castoff.
pub fn of_report(report: &impl serde::Serialize) -> Result<String, String> {
    serde_json::to_value(report)
        .map(|value| of(&value))
        .map_err(|error| format!("cannot write the report: {error}"))
}

/// Any value as YAML.
pub(crate) fn of(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

fn block(value: &Value, depth: usize, text: &mut String) {
    match value {
        Value::Object(fields) => {
            for (index, (key, value)) in fields.iter().enumerate() {
                if index > 0 {
                    indent(depth, text);
                }
                text.push_str(&scalar_key(key));
                text.push(':');
                nested(value, depth, text);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    indent(depth, text);
                }
                text.push_str("- ");
                if is_empty_or_scalar(item) {
                    text.push_str(&item.to_string());
                    text.push('\n');
                } else {
                    block(item, depth + 1, text);
                }
            }
        }
        scalar => {
            text.push_str(&scalar.to_string());
            text.push('\n');
        }
    }
}

fn nested(value: &Value, depth: usize, text: &mut String) {
    if is_empty_or_scalar(value) {
        text.push(' ');
        text.push_str(&value.to_string());
        text.push('\n');
        return;
    }
    text.push('\n');
    let depth = depth + usize::from(value.is_object());
    indent(depth, text);
    block(value, depth, text);
}

fn is_empty_or_scalar(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => true,
    }
}

fn scalar_key(key: &str) -> String {
    let plain = key
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && key
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphabetic());
    // YAML 1.1 takes these for truth values.
    let truth = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    if plain && !truth.contains(&key.to_ascii_lowercase().as_str()) {
        key.to_owned()
    } else {
        Value::from(key).to_string()
    }
}

fn indent(depth: usize, text: &mut String) {
    for _ in 0..depth {
        text.push_str("  ");
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use serde::Deserialize as _;

    use super::super::samples::full;
    use super::*;
    use crate::source::yaml::load;

    #[test]
    fn the_yaml_of_a_report_is_read_back_as_its_json() {
        let text = render(&full());
        let loaded = load::load(&text).unwrap();
        let back = Value::deserialize(&loaded.roots[0]).unwrap();
        assert_eq!(back, wire::value(&full()));
    }
}
