//! Serde over a tree. Null means "not given", as in Go: zero, empty, or the field's default.
//!
//! Errors carry the path of the field and the place of the value.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::Value;

use super::scalar::{self, Scalar};
use super::tree::{Node, NodeValue, Place};

/// Why a tree does not fit a type.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FieldError {
    /// Where the value stands; `None` when it came without places.
    pub(crate) place: Option<Place>,
    /// Path of the field, innermost first.
    path: Vec<String>,
    message: String,
}

impl FieldError {
    fn at(mut self, place: Place, step: String) -> Self {
        if self.place.is_none() && place != Place::default() {
            self.place = Some(place);
        }
        self.path.push(step);
        self
    }
}

impl fmt::Display for FieldError {
    /// `spec.ports[0].port: invalid type …`
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            let mut path = String::new();
            for step in self.path.iter().rev() {
                if !path.is_empty() && !step.starts_with('[') {
                    path.push('.');
                }
                path.push_str(step);
            }
            write!(formatter, "`{path}`: ")?;
        }
        formatter.write_str(&self.message)?;
        if self.message.ends_with("expected a string") {
            formatter.write_str(": put it in quotes")?;
        }
        Ok(())
    }
}

impl std::error::Error for FieldError {}

impl serde::de::Error for FieldError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            message: message.to_string(),
            ..Self::default()
        }
    }
}

impl<'tree, 'text> Node<'text> {
    fn resolved(&'tree self) -> Result<Scalar, FieldError> {
        let scalar = match &self.value {
            NodeValue::Plain(text) => scalar::resolve(text),
            NodeValue::Scalar(scalar) => *scalar,
            _ => Scalar::Text,
        };
        match scalar {
            Scalar::Float(value) if !value.is_finite() => Err(serde::de::Error::custom(
                "`.inf` and `.nan` have no place in a manifest: put it in quotes if text is meant",
            )),
            scalar => Ok(scalar),
        }
    }
}

impl Node<'_> {
    /// The tree as JSON, in memory of just its size.
    pub(crate) fn to_json(&self) -> Result<Value, FieldError> {
        Ok(match &self.value {
            NodeValue::Text(text) => Value::String(text.as_ref().to_owned()),
            NodeValue::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    list.push(
                        item.to_json()
                            .map_err(|error| error.at(item.place, format!("[{index}]")))?,
                    );
                }
                Value::Array(list)
            }
            NodeValue::Map(entries) => {
                let mut map = serde_json::Map::with_capacity(entries.len());
                for (key, value) in entries {
                    let json = value
                        .to_json()
                        .map_err(|error| error.at(value.place, key.to_string()))?;
                    map.insert(key.to_string(), json);
                }
                Value::Object(map)
            }
            NodeValue::Plain(_) | NodeValue::Scalar(_) => match self.resolved()? {
                Scalar::Null => Value::Null,
                Scalar::Bool(value) => Value::Bool(value),
                Scalar::Integer(value) => value.into(),
                Scalar::Float(value) => value.into(),
                Scalar::Text => match &self.value {
                    NodeValue::Plain(text) => Value::String(text.as_ref().to_owned()),
                    _ => Value::String(String::new()),
                },
            },
        })
    }
}

fn visit_text<'text, V: Visitor<'text>>(
    text: &Cow<'text, str>,
    visitor: V,
) -> Result<V::Value, FieldError> {
    match text {
        Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
        Cow::Owned(text) => visitor.visit_str(text),
    }
}

macro_rules! zero_for_null {
    ($($method:ident => $visit:ident($zero:expr);)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
            if self.is_null() {
                return visitor.$visit($zero);
            }
            self.deserialize_any(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for &Node<'de> {
    type Error = FieldError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        match &self.value {
            NodeValue::Text(text) => visit_text(text, visitor),
            NodeValue::List(items) => visitor.visit_seq(Items { items, index: 0 }),
            NodeValue::Map(entries) => visitor.visit_map(Entries {
                entries,
                index: 0,
                skip_nulls: false,
            }),
            NodeValue::Plain(_) | NodeValue::Scalar(_) => match self.resolved()? {
                Scalar::Null => visitor.visit_unit(),
                Scalar::Bool(value) => visitor.visit_bool(value),
                Scalar::Integer(value) => visitor.visit_i64(value),
                Scalar::Float(value) => visitor.visit_f64(value),
                Scalar::Text => match &self.value {
                    NodeValue::Plain(text) => visit_text(text, visitor),
                    _ => visitor.visit_str(""),
                },
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        if self.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FieldError> {
        let entries = match &self.value {
            NodeValue::Map(entries) => entries.as_slice(),
            _ if self.is_null() => &[],
            _ => return self.deserialize_any(visitor),
        };
        visitor.visit_map(Entries {
            entries,
            index: 0,
            skip_nulls: true,
        })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        if self.is_null() {
            return visitor.visit_map(Entries {
                entries: &[],
                index: 0,
                skip_nulls: false,
            });
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        if self.is_null() {
            return visitor.visit_seq(Items {
                items: &[],
                index: 0,
            });
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, FieldError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_unit()
    }

    zero_for_null! {
        deserialize_bool => visit_bool(false);
        deserialize_i8 => visit_i64(0);
        deserialize_i16 => visit_i64(0);
        deserialize_i32 => visit_i64(0);
        deserialize_i64 => visit_i64(0);
        deserialize_u8 => visit_i64(0);
        deserialize_u16 => visit_i64(0);
        deserialize_u32 => visit_i64(0);
        deserialize_u64 => visit_i64(0);
        deserialize_f64 => visit_f64(0.0);
        deserialize_str => visit_borrowed_str("");
        deserialize_string => visit_borrowed_str("");
    }

    forward_to_deserialize_any! {
        i128 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

struct Items<'tree, 'text> {
    items: &'tree [Node<'text>],
    index: usize,
}

impl<'text> SeqAccess<'text> for Items<'_, 'text> {
    type Error = FieldError;

    fn next_element_seed<T: DeserializeSeed<'text>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, FieldError> {
        let Some(item) = self.items.get(self.index) else {
            return Ok(None);
        };
        let index = self.index;
        self.index += 1;
        seed.deserialize(item)
            .map(Some)
            .map_err(|error| error.at(item.place, format!("[{index}]")))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.index)
    }
}

struct Entries<'tree, 'text> {
    entries: &'tree [(Cow<'text, str>, Node<'text>)],
    index: usize,
    skip_nulls: bool,
}

impl<'text> MapAccess<'text> for Entries<'_, 'text> {
    type Error = FieldError;

    fn next_key_seed<K: DeserializeSeed<'text>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, FieldError> {
        if self.skip_nulls {
            while self
                .entries
                .get(self.index)
                .is_some_and(|(_, value)| value.is_null())
            {
                self.index += 1;
            }
        }
        match self.entries.get(self.index) {
            None => Ok(None),
            Some((Cow::Borrowed(key), _)) => seed
                .deserialize(BorrowedStrDeserializer::new(key))
                .map(Some),
            Some((Cow::Owned(key), _)) => seed.deserialize(StrDeserializer::new(key)).map(Some),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'text>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, FieldError> {
        let (key, value) = &self.entries[self.index];
        self.index += 1;
        seed.deserialize(value)
            .map_err(|error| error.at(value.place, key.to_string()))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.entries.len() - self.index)
    }
}
