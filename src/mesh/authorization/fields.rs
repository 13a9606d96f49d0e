//! Reads JSON field by field and writes down what it does not understand.
//!
//! In: JSON values with their paths. Out: texts and lists, and the list of misunderstandings.
//! Invariant: `null` is absent, as the API server has it; every other surprise is written down.

use serde_json::Value;

use crate::mesh::policy::Misunderstanding;

/// Collects what is not understood while values are read.
#[derive(Default)]
pub(super) struct Reader {
    problems: Vec<Misunderstanding>,
}

impl Reader {
    /// The value read, or all that was not understood, sorted.
    pub(super) fn into_result<T>(self, value: T) -> Result<T, Vec<Misunderstanding>> {
        if self.problems.is_empty() {
            return Ok(value);
        }
        let mut problems = self.problems;
        problems.sort();
        problems.dedup();
        Err(problems)
    }

    pub(super) fn misunderstand(&mut self, path: &str, reason: String) {
        self.problems.push(Misunderstanding {
            path: path.into(),
            reason,
        });
    }

    /// Writes down fields of an object that are not known; an absent object has none.
    pub(super) fn known_fields(&mut self, value: &Value, path: &str, known: &[&str]) {
        match value {
            Value::Null => {}
            Value::Object(fields) => {
                for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
                    self.misunderstand(
                        &join(path, name),
                        format!("`{name}` is no field of it in Istio 1.25 to 1.31"),
                    );
                }
            }
            other => self.wrong_type(path, "an object", other),
        }
    }

    /// A text, or `None` where it is absent.
    pub(super) fn text(&mut self, value: &Value, path: &str) -> Option<String> {
        match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => {
                self.wrong_type(path, "a text", other);
                None
            }
        }
    }

    /// Items of a list, each read with its path; an absent list has none.
    pub(super) fn list<T>(
        &mut self,
        value: &Value,
        path: &str,
        mut read: impl FnMut(&Value, &str, &mut Self) -> T,
    ) -> Vec<T> {
        match value {
            Value::Null => Vec::new(),
            Value::Array(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    if item.is_null() {
                        self.wrong_type(&path, "a value", item);
                    } else {
                        list.push(read(item, &path, self));
                    }
                }
                list
            }
            other => {
                self.wrong_type(path, "a list", other);
                Vec::new()
            }
        }
    }

    /// A list of texts. With `numbers`, whole numbers are taken for their digits: ports are often
    /// written without quotes.
    pub(super) fn texts(&mut self, value: &Value, path: &str, numbers: bool) -> Vec<String> {
        self.list(value, path, |item, path, reader| match item {
            Value::Number(number) if numbers && number.is_u64() => number.to_string(),
            item => reader.text(item, path).unwrap_or_default(),
        })
    }

    fn wrong_type(&mut self, path: &str, wanted: &str, got: &Value) {
        let got = match got {
            Value::Null => "null",
            Value::Bool(_) => "a truth value",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.misunderstand(path, format!("{wanted} is expected here, not {got}"));
    }
}

/// `path.name`, or `name` at the top.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}
