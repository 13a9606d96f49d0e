//! A document as a tree that borrows from the text. Plain scalars stay unresolved until they are
//! asked for, because most of a Pod is never asked for.

use std::borrow::Cow;

/// A 1-based place inside the piece of text that was parsed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// 1-based line.
    pub(crate) line: u32,
    /// 1-based column.
    pub(crate) column: u32,
}

/// A value and where it starts.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    /// What it is.
    pub(crate) value: NodeValue<'a>,
    /// Where it starts.
    pub(crate) place: Place,
}

/// What a node is.
#[derive(Debug, Clone)]
pub(crate) enum NodeValue<'a> {
    /// An unquoted scalar, to be resolved by Go's rules.
    Plain(Cow<'a, str>),
    /// A scalar that is text whatever it looks like.
    Text(Cow<'a, str>),
    /// A scalar whose value was settled by a tag or by JSON.
    Scalar(super::scalar::Scalar),
    /// A sequence.
    List(Vec<Node<'a>>),
    /// A mapping; each key once, in the order of first appearance.
    Map(Vec<(Cow<'a, str>, Node<'a>)>),
}

impl<'a> Node<'a> {
    /// The value of a key, when the node is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node<'a>> {
        match &self.value {
            NodeValue::Map(entries) => entries
                .iter()
                .find(|(known, _)| known == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of a scalar that is a string.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            NodeValue::Text(text) => Some(text),
            NodeValue::Plain(text) => match super::scalar::resolve(text) {
                super::scalar::Scalar::Text => Some(text),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether the node is null, also by being empty.
    pub(crate) fn is_null(&self) -> bool {
        match &self.value {
            NodeValue::Plain(text) => super::scalar::is_null(text),
            NodeValue::Scalar(scalar) => *scalar == super::scalar::Scalar::Null,
            _ => false,
        }
    }

    /// Number of nodes of the tree, itself included.
    pub(crate) fn size(&self) -> usize {
        1 + match &self.value {
            NodeValue::List(items) => items.iter().map(Node::size).sum(),
            NodeValue::Map(entries) => entries.iter().map(|(_, value)| 1 + value.size()).sum(),
            _ => 0,
        }
    }
}

impl From<serde_json::Value> for Node<'static> {
    /// A JSON value without places.
    fn from(value: serde_json::Value) -> Self {
        use super::scalar::Scalar;
        use serde_json::Value;
        let value = match value {
            Value::Null => NodeValue::Scalar(Scalar::Null),
            Value::Bool(value) => NodeValue::Scalar(Scalar::Bool(value)),
            Value::Number(number) => NodeValue::Scalar(match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Scalar::Integer(integer),
                (None, float) => Scalar::Float(float.unwrap_or(f64::NAN)),
            }),
            Value::String(text) => NodeValue::Text(Cow::Owned(text)),
            Value::Array(items) => NodeValue::List(items.into_iter().map(Node::from).collect()),
            Value::Object(entries) => NodeValue::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| (Cow::Owned(key), Node::from(value)))
                    .collect(),
            ),
        };
        Self {
            value,
            place: Place::default(),
        }
    }
}
