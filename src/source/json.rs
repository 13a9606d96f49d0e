//! JSON text to typed objects, straight through serde_json.
//!
//! In: a document that starts like JSON. Out: objects, or the finding that it is not JSON (then it
//! may still be YAML in flow style). Items of a list are found first and then read side by side;
//! the items before a break in the text are kept.

use std::borrow::Cow;

use rayon::prelude::*;
use serde::de::{DeserializeOwned, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::harvest::Harvester;
use super::object::{self, Body, Head};
use super::recording;
use super::split::{Piece, count_lines};
use super::yaml::deserialize::FieldError;
use super::yaml::tree::Node;
use crate::snapshot::{Metadata, Problem, ProblemLevel, Snapshot};

/// What became of a document.
pub(crate) enum Outcome {
    /// It was JSON, at least as far as it could be used.
    Read(Vec<Snapshot>),
    /// It does not start like JSON.
    NotJson,
    /// It starts like JSON and is broken, or it is YAML in flow style.
    Broken(Problem),
}

/// Reads one or more JSON values that follow each other.
pub(crate) fn read(harvester: &Harvester<'_>, document: &Piece<'_>) -> Outcome {
    let body = document.text.strip_prefix("---").unwrap_or(document.text);
    let text = body.trim_start();
    if !text.starts_with(['{', '[']) || text.starts_with("{{") {
        return Outcome::NotJson;
    }
    let mut at = Cursor::new(document, text);
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let line = at.line_of(rest);
        let mut list = ListParts::default();
        let mut stream = serde_json::Deserializer::from_str(rest).into_iter::<&RawValue>();
        match stream.next() {
            None => return Outcome::Read(found),
            Some(Ok(value)) => {
                found.extend(value_at(harvester, value.get(), line, None));
                rest = rest[stream.byte_offset()..].trim_start();
                if rest.is_empty() || rest.starts_with("...") {
                    return Outcome::Read(found);
                }
            }
            Some(Err(error)) => {
                let line_of_error =
                    line + u32::try_from(error.line()).unwrap_or(1).saturating_sub(1);
                let problem = harvester.problem(
                    line_of_error,
                    u32::try_from(error.column()).ok(),
                    format!(
                        "this JSON is broken: {}; what stands before is used, write the file again",
                        without_place(&error)
                    ),
                );
                let mut deserializer = serde_json::Deserializer::from_str(rest);
                let salvaged =
                    list.deserialize_into(&mut deserializer).is_err() && !list.items.is_empty();
                if salvaged {
                    found.extend(items(harvester, &list, rest, line));
                } else if found.is_empty() {
                    return Outcome::Broken(problem);
                }
                found.push(harvester.only(problem));
                return Outcome::Read(found);
            }
        }
    }
}

/// Counts lines up to places that come one after the other.
struct Cursor<'a> {
    text: &'a str,
    counted_to: usize,
    line: u32,
}

impl<'a> Cursor<'a> {
    fn new(piece: &Piece<'a>, text: &'a str) -> Self {
        let before = piece.text.len() - text.len();
        Self {
            text,
            counted_to: 0,
            line: piece.lines_before + 1 + count_lines(&piece.text[..before]),
        }
    }

    /// The 1-based line of a part of the text.
    fn line_of(&mut self, part: &str) -> u32 {
        let at = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let at = at.min(self.text.len());
        if at > self.counted_to {
            self.line += count_lines(&self.text[self.counted_to..at]);
            self.counted_to = at;
        }
        self.line
    }
}

fn value_at(
    harvester: &Harvester<'_>,
    text: &str,
    line: u32,
    inherited: Option<&Head>,
) -> Vec<Snapshot> {
    let mut list = ListParts::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let is_list = text.starts_with('{')
        && list.deserialize_into(&mut deserializer).is_ok()
        && list.head().is_some_and(|head| head.is_list())
        && list.has_items;
    if is_list {
        return items(harvester, &list, text, line);
    }
    let mut found = Snapshot::default();
    object(harvester, text, line, inherited, &mut found);
    vec![found]
}

fn items(harvester: &Harvester<'_>, list: &ListParts<'_>, text: &str, line: u32) -> Vec<Snapshot> {
    // A list that broke off before its `kind` is taken for what kubectl writes.
    let head = list.head();
    let inherited = head.as_ref().and_then(Head::of_items);
    let mut cursor = Cursor {
        text,
        counted_to: 0,
        line,
    };
    let placed: Vec<(&str, u32)> = list
        .items
        .iter()
        .map(|item| (item.get(), cursor.line_of(item.get())))
        .collect();
    let chunks: Vec<&[(&str, u32)]> = placed.chunks(128).collect();
    let mut parts: Vec<Snapshot> = chunks
        .par_iter()
        .map(|chunk| {
            let mut found = Snapshot::default();
            for (item, line) in *chunk {
                object(harvester, item, *line, inherited.as_ref(), &mut found);
            }
            found
        })
        .collect();
    if let Some(head) = head {
        let mut last = Snapshot::default();
        harvester.saw_list(&head, &mut last);
        parts.push(last);
    }
    parts
}

#[derive(serde::Deserialize)]
struct JsonHead<'a> {
    #[serde(borrow, rename = "apiVersion", default)]
    api_version: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(default)]
    metadata: Metadata,
    #[serde(borrow, rename = "$patch", default)]
    patch: Option<&'a RawValue>,
}

/// Reads one object: fast when it is as the API server writes it, through a tree when it is not.
fn object(
    harvester: &Harvester<'_>,
    text: &str,
    line: u32,
    inherited: Option<&Head>,
    found: &mut Snapshot,
) {
    let fast = serde_json::from_str::<JsonHead<'_>>(text)
        .inspect_err(|error| warn_of_duplicate(harvester, error, line, found))
        .ok()
        .and_then(|parsed| {
            let head = match (parsed.api_version, parsed.kind, inherited) {
                (Some(api_version), Some(kind), _) => Head {
                    api_version: api_version.into(),
                    kind: kind.into(),
                },
                (None, None, Some(inherited)) => inherited.clone(),
                _ => return None,
            };
            let is_object = !head.is_list() && parsed.patch.is_none();
            (is_object && !parsed.metadata.name.is_empty()).then_some((head, parsed.metadata))
        });
    if let Some((head, metadata)) = fast {
        if recording::is_bundle_header(&head.api_version, &head.kind) {
            match recording::gaps_of_bundle(&head.api_version, text) {
                Ok(gaps) => found.gaps.extend(gaps),
                Err(message) => found.problems.push(harvester.problem(line, None, message)),
            }
            return;
        }
        let Some(kind) = head.known_kind() else {
            *found.unused_kinds.entry(head.counted_as()).or_default() += 1;
            return;
        };
        let origin = harvester.place.origin(line);
        match object::build(kind, head, metadata, &JsonText(text), origin) {
            Ok(object) => {
                found.seen_kinds.insert(kind);
                if let Some(object) = object {
                    found.push(object);
                }
                return;
            }
            Err(error) => warn_of_duplicate(harvester, &error, line, found),
        }
    }
    through_tree(harvester, text, line, inherited, found);
}

/// serde_json refuses a field that is given twice; the tree then takes the later one, as Go does.
fn warn_of_duplicate(
    harvester: &Harvester<'_>,
    error: &impl std::fmt::Display,
    line: u32,
    found: &mut Snapshot,
) {
    let text = error.to_string();
    let Some((_, rest)) = text.split_once("duplicate field `") else {
        return;
    };
    let key = rest.split('`').next().unwrap_or_default();
    found.problems.push(Problem {
        level: ProblemLevel::Warning,
        ..harvester.problem(
            line,
            None,
            format!(
                "key `{key}` is given twice in one mapping: the later value is used; remove one \
                 of them"
            ),
        )
    });
}

fn through_tree(
    harvester: &Harvester<'_>,
    text: &str,
    line: u32,
    inherited: Option<&Head>,
    found: &mut Snapshot,
) {
    match serde_json::from_str::<Value>(text) {
        Ok(value) => {
            let piece = Piece {
                text: "",
                lines_before: line - 1,
            };
            harvester.object(&Node::from(value), inherited, &piece, found);
        }
        Err(error) => found.problems.push(harvester.problem(
            line + u32::try_from(error.line()).unwrap_or(1).saturating_sub(1),
            None,
            format!(
                "this object is left out: {}; correct it",
                without_place(&error)
            ),
        )),
    }
}

/// The text of an object that is JSON.
struct JsonText<'a>(&'a str);

impl Body for JsonText<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, FieldError> {
        serde_json::from_str(self.0).map_err(serde::de::Error::custom)
    }

    fn value(&self) -> Result<Value, FieldError> {
        self.read().map(compact)
    }
}

/// The same value in memory of just its size: maps and lists grow in steps while they are read.
fn compact(value: Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut list = Vec::with_capacity(items.len());
            list.extend(items.into_iter().map(compact));
            Value::Array(list)
        }
        Value::Object(entries) => {
            let mut map = serde_json::Map::with_capacity(entries.len());
            map.extend(
                entries
                    .into_iter()
                    .map(|(key, value)| (key, compact(value))),
            );
            Value::Object(map)
        }
        scalar => scalar,
    }
}

fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// The parts of a list, filled as far as the text goes.
#[derive(Default)]
struct ListParts<'a> {
    api_version: Option<String>,
    kind: Option<String>,
    items: Vec<&'a RawValue>,
    has_items: bool,
}

impl<'a> ListParts<'a> {
    fn deserialize_into(
        &mut self,
        deserializer: &mut serde_json::Deserializer<serde_json::de::StrRead<'a>>,
    ) -> Result<(), serde_json::Error> {
        Parts(self).deserialize(deserializer)
    }

    fn head(&self) -> Option<Head> {
        Some(Head {
            api_version: self.api_version.as_deref()?.into(),
            kind: self.kind.as_deref()?.into(),
        })
    }
}

struct Parts<'list, 'a>(&'list mut ListParts<'a>);

impl<'a> DeserializeSeed<'a> for Parts<'_, 'a> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Parts<'_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<Cow<'a, str>>()? {
            match key.as_ref() {
                "apiVersion" => self.0.api_version = text_of(map.next_value()?),
                "kind" => self.0.kind = text_of(map.next_value()?),
                "items" => {
                    self.0.has_items = true;
                    map.next_value_seed(ItemTexts(&mut self.0.items))?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

fn text_of(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

struct ItemTexts<'list, 'a>(&'list mut Vec<&'a RawValue>);

impl<'a> DeserializeSeed<'a> for ItemTexts<'_, 'a> {
    type Value = ();
    fn deserialize<D: serde::Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for ItemTexts<'_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a list of objects")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element()? {
            self.0.push(item);
        }
        Ok(())
    }
}
