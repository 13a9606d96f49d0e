//! Parser events to trees: anchors, merge keys, duplicate keys, and the limits on all of them.
//!
//! In: one piece of text. Out: the roots of its documents and the keys that were given twice.

use std::borrow::Cow;

use granit_parser::{
    ErrorKind, Event, Options, Parser, ScalarStyle, ScanError, Span, StrInput, Tag,
};
use rustc_hash::FxHashMap;

use super::scalar::{self, Scalar};
use super::tree::{Node, NodeValue, Place};

/// The most nodes that aliases may add to a document.
const ALIAS_BUDGET: usize = 200_000;

/// The documents of one piece of text.
#[derive(Debug, Default)]
pub(crate) struct Loaded<'a> {
    /// Roots; empty documents are left out.
    pub(crate) roots: Vec<Node<'a>>,
    /// Keys that a mapping held twice, at the place of the later one.
    pub(crate) duplicates: Vec<(Place, String)>,
}

/// Why a piece of text is not YAML that `kubectl` would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoadError {
    /// Where, inside the piece.
    pub(crate) place: Place,
    /// One sentence, lower case.
    pub(crate) message: String,
    /// An alias without its anchor: the anchor may stand in another piece of the document.
    pub(crate) unknown_anchor: bool,
}

/// Parses a piece of text.
pub(crate) fn load(text: &str) -> Result<Loaded<'_>, LoadError> {
    // Another crate of the build may have switched them on; they carry no values.
    let mut options = Options::default();
    options.set_emit_comments(false);
    let mut loader = Loader {
        parser: Parser::new_from_str_with_options(text, options),
        anchors: FxHashMap::default(),
        alias_budget: ALIAS_BUDGET,
        duplicates: Vec::new(),
    };
    let mut roots = Vec::new();
    while let Some((event, place)) = loader.next()? {
        match event {
            Event::StreamEnd => break,
            Event::DocumentStart(..) => {
                loader.anchors.clear();
                loader.alias_budget = ALIAS_BUDGET;
            }
            Event::StreamStart | Event::DocumentEnd => {}
            event => {
                let node = loader.node(event, place)?;
                if !node.is_null() {
                    roots.push(node);
                }
            }
        }
    }
    Ok(Loaded {
        roots,
        duplicates: loader.duplicates,
    })
}

struct Loader<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: FxHashMap<usize, Node<'a>>,
    alias_budget: usize,
    duplicates: Vec<(Place, String)>,
}

impl<'a> Loader<'a> {
    fn next(&mut self) -> Result<Option<(Event<'a>, Place)>, LoadError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok(Some((event, place_of(&span)))),
            Some(Err(error)) => Err(from_scan_error(&error)),
            None => Ok(None),
        }
    }

    fn expect(&mut self) -> Result<(Event<'a>, Place), LoadError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => Ok((event, place_of(&span))),
            Some(Err(error)) => Err(from_scan_error(&error)),
            None => Err(error(Place::default(), "the document ends too early")),
        }
    }

    fn node(&mut self, event: Event<'a>, place: Place) -> Result<Node<'a>, LoadError> {
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                (scalar_value(text, style, tag.as_deref(), place)?, anchor)
            }
            Event::SequenceStart(_, anchor, _) => (self.list()?, anchor),
            Event::MappingStart(_, anchor, _) => (self.map()?, anchor),
            Event::Alias(anchor) => return self.alias(anchor, place),
            _ => return Err(error(place, "expected a value")),
        };
        let node = Node { value, place };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<Node<'a>, LoadError> {
        let target = self
            .anchors
            .get(&anchor)
            .ok_or_else(|| error(place, "an alias stands inside the value that it refers to"))?;
        self.alias_budget = self
            .alias_budget
            .checked_sub(target.size())
            .ok_or_else(|| {
                error(
                    place,
                    format!("aliases repeat more than {ALIAS_BUDGET} values in one document"),
                )
            })?;
        Ok(Node {
            value: target.value.clone(),
            place,
        })
    }

    fn list(&mut self) -> Result<NodeValue<'a>, LoadError> {
        let mut items = Vec::new();
        loop {
            match self.expect()? {
                (Event::SequenceEnd, _) => return Ok(NodeValue::List(items)),
                (event, place) => items.push(self.node(event, place)?),
            }
        }
    }

    fn map(&mut self) -> Result<NodeValue<'a>, LoadError> {
        let mut entries: Vec<(Cow<'a, str>, Node<'a>)> = Vec::new();
        let mut keys = Keys::default();
        let mut merged = 0;
        loop {
            let (event, place) = self.expect()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(NodeValue::Map(entries));
            }
            let is_merge =
                matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = key_text(self.node(event, place)?)?;
            let (event, value_place) = self.expect()?;
            let value = self.node(event, value_place)?;
            if is_merge {
                merged += merge(value, &mut entries, &mut keys)?;
                continue;
            }
            match keys.position(&entries, &key) {
                Some(index) => {
                    if merged == 0 {
                        self.duplicates.push((place, key.into_owned()));
                    }
                    entries[index].1 = value;
                }
                None => keys.push(&mut entries, key, value),
            }
        }
    }
}

/// Finds a key of a mapping; hashes once the mapping is large.
#[derive(Default)]
struct Keys<'a>(FxHashMap<Cow<'a, str>, usize>);

impl<'a> Keys<'a> {
    const SMALL: usize = 12;

    fn position(&self, entries: &[(Cow<'a, str>, Node<'a>)], key: &str) -> Option<usize> {
        if entries.len() <= Self::SMALL {
            return entries.iter().position(|(known, _)| known == key);
        }
        self.0.get(key).copied()
    }

    fn push(
        &mut self,
        entries: &mut Vec<(Cow<'a, str>, Node<'a>)>,
        key: Cow<'a, str>,
        value: Node<'a>,
    ) {
        entries.push((key, value));
        if entries.len() <= Self::SMALL {
            return;
        }
        let first_new = self.0.len();
        for (index, (key, _)) in entries.iter().enumerate().skip(first_new) {
            self.0.insert(key.clone(), index);
        }
    }
}

/// Adds the keys of a `<<` value (a mapping, or several of them: the earlier one wins).
fn merge<'a>(
    value: Node<'a>,
    entries: &mut Vec<(Cow<'a, str>, Node<'a>)>,
    keys: &mut Keys<'a>,
) -> Result<usize, LoadError> {
    let place = value.place;
    let maps = match value.value {
        NodeValue::Map(map) => vec![map],
        NodeValue::List(items) => items
            .into_iter()
            .rev()
            .map(|item| match item.value {
                NodeValue::Map(map) => Ok(map),
                _ => Err(error(item.place, "`<<` takes a mapping or a list of them")),
            })
            .collect::<Result<_, _>>()?,
        _ => return Err(error(place, "`<<` takes a mapping or a list of them")),
    };
    for (key, value) in maps.into_iter().flatten() {
        match keys.position(entries, &key) {
            Some(index) => entries[index].1 = value,
            None => keys.push(entries, key, value),
        }
    }
    Ok(1)
}

fn key_text(key: Node<'_>) -> Result<Cow<'_, str>, LoadError> {
    let scalar = match key.value {
        NodeValue::Text(text) => return Ok(text),
        NodeValue::Plain(text) => match scalar::resolve(&text) {
            Scalar::Text => return Ok(text),
            scalar => scalar,
        },
        NodeValue::Scalar(scalar) => scalar,
        NodeValue::List(_) | NodeValue::Map(_) => {
            return Err(error(
                key.place,
                "a key must be text; this one is a list or a mapping",
            ));
        }
    };
    match scalar {
        Scalar::Bool(value) => Ok(Cow::Owned(value.to_string())),
        Scalar::Integer(value) => Ok(Cow::Owned(value.to_string())),
        Scalar::Float(value) => Ok(Cow::Owned(value.to_string())),
        Scalar::Null | Scalar::Text => {
            Err(error(key.place, "a key must be text; this one is empty"))
        }
    }
}

fn scalar_value<'a>(
    text: Cow<'a, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    place: Place,
) -> Result<NodeValue<'a>, LoadError> {
    let Some(tag) = tag else {
        return Ok(match style {
            ScalarStyle::Plain => NodeValue::Plain(text),
            _ => NodeValue::Text(text),
        });
    };
    let resolved = || match scalar::resolve(&text) {
        Scalar::Text => None,
        scalar => Some(scalar),
    };
    let wrong = |what: &str| {
        Err(error(
            place,
            format!("`{text}` is not {what}, as its tag says"),
        ))
    };
    match tag.core_suffix() {
        Some("str") => Ok(NodeValue::Text(text)),
        Some("binary") => Err(error(
            place,
            "`!!binary` is not read; write the text itself",
        )),
        Some("bool") => match resolved() {
            Some(scalar @ Scalar::Bool(_)) => Ok(NodeValue::Scalar(scalar)),
            _ => wrong("a boolean"),
        },
        Some("int") => match resolved() {
            Some(scalar @ Scalar::Integer(_)) => Ok(NodeValue::Scalar(scalar)),
            _ => wrong("a whole number"),
        },
        Some("float") => match resolved() {
            Some(scalar @ (Scalar::Integer(_) | Scalar::Float(_))) => Ok(NodeValue::Scalar(scalar)),
            _ => wrong("a number"),
        },
        Some("null") => Ok(NodeValue::Scalar(Scalar::Null)),
        _ => Ok(NodeValue::Text(text)),
    }
}

fn place_of(span: &Span) -> Place {
    Place {
        line: u32::try_from(span.start.line()).unwrap_or(u32::MAX),
        column: u32::try_from(span.start.col() + 1).unwrap_or(u32::MAX),
    }
}

fn error(place: Place, message: impl Into<String>) -> LoadError {
    LoadError {
        place,
        message: message.into(),
        unknown_anchor: false,
    }
}

fn from_scan_error(scan: &ScanError) -> LoadError {
    let marker = scan.marker();
    LoadError {
        place: Place {
            line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
            column: u32::try_from(marker.col() + 1).unwrap_or(u32::MAX),
        },
        message: scan.info(),
        unknown_anchor: matches!(scan.kind(), ErrorKind::UnknownAnchor),
    }
}
