//! One object of an answer, with the bookkeeping left out and every other byte kept.
//!
//! Invariant: of a Secret nothing but metadata is recorded, even if a server ignored what was
//! asked for; `managedFields` (half of an object's bytes) and kubectl's copy of what was last
//! applied (which may quote a Secret) are gone.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::snapshot::Kind;
use crate::source::recording::RecordedList;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Adds an object, given as JSON, to a list.
pub(super) fn append(
    list: &mut RecordedList,
    kind: Kind,
    text: &str,
) -> Result<(), serde_json::Error> {
    let fields: Fields<'_> = serde_json::from_str(text)?;
    let mut out = String::with_capacity(text.len());
    let mut object = ObjectWriter::new(&mut out);
    for (key, value) in &fields.0 {
        match key.as_ref() {
            "metadata" => object.field(key, &metadata(value.get())?),
            // Metadata lists name their items `PartialObjectMetadata`; the list's name says more.
            _ if kind == Kind::Secret => {}
            _ => object.field(key, value.get()),
        }
    }
    object.end();
    if list.count > 0 {
        list.items.push_str(",\n");
    }
    list.items.push_str(&out);
    list.count += 1;
    Ok(())
}

fn metadata(text: &str) -> Result<String, serde_json::Error> {
    let fields: Fields<'_> = serde_json::from_str(text)?;
    let mut out = String::with_capacity(text.len());
    let mut object = ObjectWriter::new(&mut out);
    for (key, value) in &fields.0 {
        match key.as_ref() {
            "managedFields" => {}
            "annotations" if value.get().contains(LAST_APPLIED) => {
                object.field(key, &without_last_applied(value.get())?);
            }
            _ => object.field(key, value.get()),
        }
    }
    object.end();
    Ok(out)
}

fn without_last_applied(text: &str) -> Result<String, serde_json::Error> {
    let fields: Fields<'_> = serde_json::from_str(text)?;
    let mut out = String::with_capacity(text.len());
    let mut object = ObjectWriter::new(&mut out);
    for (key, value) in fields.0.iter().filter(|(key, _)| key != LAST_APPLIED) {
        object.field(key, value.get());
    }
    object.end();
    Ok(out)
}

/// Writes a JSON object whose values are JSON texts already.
struct ObjectWriter<'a> {
    out: &'a mut String,
    separator: char,
}

impl<'a> ObjectWriter<'a> {
    fn new(out: &'a mut String) -> Self {
        Self {
            out,
            separator: '{',
        }
    }

    fn field(&mut self, key: &str, value: &str) {
        self.out.push(self.separator);
        self.separator = ',';
        self.out.push_str(&serde_json::Value::from(key).to_string());
        self.out.push(':');
        self.out.push_str(value);
    }

    fn end(self) {
        if self.separator == '{' {
            self.out.push('{');
        }
        self.out.push('}');
    }
}

/// The fields of an object in their order, values as text.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;
        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::with_capacity(map.size_hint().unwrap_or(6));
                while let Some(Key(key)) = map.next_key()? {
                    fields.push((key, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(FieldsVisitor)
    }
}

/// A key, borrowed where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn recorded(kind: Kind, text: &str) -> String {
        let mut list = RecordedList::default();
        append(&mut list, kind, text).unwrap();
        assert_eq!(list.count, 1);
        list.items
    }

    #[test]
    fn bookkeeping_goes_and_every_other_byte_stays() {
        let text = r#"{"spec":{"n": 1.50, "x":"\u00e4"},"metadata":{"name":"a","managedFields":[{"a":1}],"future":{"b":[]},"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}","k\"ept":"1"}}}"#;
        assert_eq!(
            recorded(Kind::Pod, text),
            r#"{"spec":{"n": 1.50, "x":"\u00e4"},"metadata":{"name":"a","future":{"b":[]},"annotations":{"k\"ept":"1"}}}"#
        );
    }

    #[test]
    fn of_a_secret_only_metadata_is_recorded_even_if_the_server_sent_more() {
        let text = r#"{"kind":"Secret","metadata":{"name":"a"},"data":{"token":"c2VjcmV0"},"type":"Opaque"}"#;
        assert_eq!(recorded(Kind::Secret, text), r#"{"metadata":{"name":"a"}}"#);
    }

    #[test]
    fn an_empty_object_stays_one() {
        assert_eq!(recorded(Kind::Pod, "{}"), "{}");
    }
}
