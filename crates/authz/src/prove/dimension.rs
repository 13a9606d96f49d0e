//! The attributes of a request as dimensions of the diagram.
//!
//! In come the patterns that occur on each attribute, out comes, per attribute, its classes and the
//! variables that number them. Invariant: the order of dimensions, classes and variables depends only
//! on the comparison, not on hashing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::atoms::Atom;
use super::numbers::addresses;
use super::recent::classes;
use super::strings::TooManyStates;
use super::world::World;
use crate::ip::IpBlock;
use crate::text::{Shape, Text};
use crate::unknown::Unknown;

/// An attribute that is a string. The order is that of the variables, and so of preference when a
/// witness is made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TextAttribute {
    Identity,
    Sni,
    Method,
    Host,
    Path,
    Header(String),
    Issuer,
    Subject,
    /// Some value of this claim, which may have many.
    Claim(Vec<String>),
}

/// An attribute that is an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum AddressAttribute {
    Source,
    Forwarded,
    Destination,
    /// The choice of this name ([`IpSeen::choice`](crate::path::IpSeen)), one of these (none: not known).
    Of(String, Vec<IpAddr>),
}

/// Values that occur on one attribute, each with its number.
pub(crate) struct Values<T> {
    pub(crate) all: Vec<T>,
    numbers: FxHashMap<T, u32>,
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            numbers: FxHashMap::default(),
        }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Values<T> {
    pub(crate) fn number(&mut self, value: &T) -> u32 {
        if let Some(&known) = self.numbers.get(value) {
            return known;
        }
        let number = self.all.len() as u32;
        self.all.push(value.clone());
        self.numbers.insert(value.clone(), number);
        number
    }
}

/// Lists that occur, each with its number.
pub(crate) struct Lists<T> {
    pub(crate) all: Vec<Rc<[T]>>,
    numbers: FxHashMap<Rc<[T]>, u32>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            numbers: FxHashMap::default(),
        }
    }
}

impl<T: Clone + Eq + std::hash::Hash> Lists<T> {
    pub(crate) fn number(&mut self, list: &[T]) -> u32 {
        if let Some(&known) = self.numbers.get(list) {
            return known;
        }
        let number = self.all.len() as u32;
        let list: Rc<[T]> = list.into();
        self.all.push(Rc::clone(&list));
        self.numbers.insert(list, number);
        number
    }
}

/// What rules are made of, by number, so that equal parts are kept, and their classes looked up, once.
#[derive(Default)]
pub(crate) struct Parts {
    /// Atoms, ascending: one of them must hold, or none.
    pub(crate) tests: Lists<Atom>,
    /// Tests, ANDed: twice the number, and one more where none of the atoms may hold.
    pub(crate) entries: Lists<u32>,
    /// Entries, ORed.
    pub(crate) clauses: Lists<u32>,
    /// Clauses, ANDed.
    pub(crate) rules: Lists<u32>,
}

/// All that occurs in a comparison.
#[derive(Default)]
pub(crate) struct Occurring<'a> {
    pub(crate) text_attributes: Values<TextAttribute>,
    /// Per text attribute, its patterns.
    pub(crate) texts: Vec<Values<Text<'a>>>,
    pub(crate) address_attributes: Values<AddressAttribute>,
    /// Per address attribute, its blocks.
    pub(crate) addresses: Vec<Values<IpBlock>>,
    /// Ranges of ports, both ends included.
    pub(crate) ports: Values<(u16, u16)>,
    /// Fingerprints of token validations.
    pub(crate) validations: Values<String>,
    pub(crate) questions: Values<Unknown>,
    pub(crate) parts: Parts,
}

impl<'a> Occurring<'a> {
    /// The numbers of an attribute and of a pattern on it.
    pub(crate) fn text(&mut self, attribute: &TextAttribute, pattern: &Text<'a>) -> (u32, u32) {
        let number = self.text_attributes.number(attribute);
        if self.texts.len() <= number as usize {
            self.texts.push(Values::default());
        }
        (number, self.texts[number as usize].number(pattern))
    }

    /// The numbers of an attribute and of a block on it.
    pub(crate) fn address(&mut self, attribute: &AddressAttribute, block: IpBlock) -> (u32, u32) {
        let number = self.address_attributes.number(attribute);
        if self.addresses.len() <= number as usize {
            self.addresses.push(Values::default());
        }
        (number, self.addresses[number as usize].number(&block))
    }
}

/// A set of classes, numbered in binary by some variables.
#[derive(Clone, Debug)]
pub(crate) struct Coded {
    /// The most significant variable.
    pub(crate) first: u32,
    pub(crate) bits: u32,
    pub(crate) classes: u32,
    /// The class of requests that do not have the attribute.
    pub(crate) absent: Option<u32>,
}

impl Coded {
    fn new(next: &mut u32, classes: u32, absent: Option<u32>) -> Self {
        let bits = u32::BITS - classes.saturating_sub(1).leading_zeros();
        let first = *next;
        *next += bits;
        Self {
            first,
            bits,
            classes,
            absent,
        }
    }
}

/// A string attribute.
pub(crate) struct TextDimension {
    pub(crate) coded: Coded,
    /// Per class; `None` for the absent one.
    pub(crate) examples: Vec<Option<String>>,
    /// Per pattern, the classes that match.
    pub(crate) members: Vec<Vec<u32>>,
}

/// A claim that may have several values: one variable per class, true if some value is in it.
pub(crate) struct ClaimDimension {
    pub(crate) first: u32,
    pub(crate) examples: Vec<String>,
    pub(crate) members: Vec<Vec<u32>>,
}

/// An address attribute.
pub(crate) struct AddressDimension {
    pub(crate) coded: Coded,
    pub(crate) examples: Vec<IpAddr>,
    pub(crate) members: Vec<Vec<u32>>,
    /// An address that nobody knows: a difference that rests on it is undecided.
    pub(crate) unknown: bool,
}

/// The port dialled.
pub(crate) struct PortDimension {
    pub(crate) coded: Coded,
    pub(crate) examples: Vec<u16>,
    pub(crate) members: Vec<Vec<u32>>,
}

/// All dimensions of a comparison.
pub(crate) struct Dimensions {
    pub(crate) texts: BTreeMap<TextAttribute, TextDimension>,
    pub(crate) claims: BTreeMap<Vec<String>, ClaimDimension>,
    pub(crate) addresses: BTreeMap<AddressAttribute, AddressDimension>,
    pub(crate) port: PortDimension,
    /// True if the request carries a token.
    pub(crate) token: u32,
    /// Per validation, true if the token fails it.
    pub(crate) fails: Vec<(u32, String)>,
    /// Per question, its answer.
    pub(crate) questions: Vec<(u32, Unknown)>,
}

impl Dimensions {
    /// Cuts every attribute into classes and gives out variables.
    pub(crate) fn new(
        occurring: Occurring<'_>,
        world: &World<'_>,
        limit: usize,
    ) -> Result<Self, (TextAttribute, TooManyStates)> {
        let mut next = 0;
        let mut texts = BTreeMap::new();
        let mut claims = BTreeMap::new();
        let mut late = Vec::new();
        let texts_occurring = occurring.text_attributes.all.into_iter();
        let mut occurring_texts: BTreeMap<TextAttribute, Values<Text<'_>>> =
            texts_occurring.zip(occurring.texts).collect();
        for attribute in World::ALWAYS {
            occurring_texts.entry(attribute).or_default();
        }
        let addresses_occurring = occurring.address_attributes.all.into_iter();
        let mut occurring_addresses: BTreeMap<AddressAttribute, Values<IpBlock>> =
            addresses_occurring.zip(occurring.addresses).collect();
        for attribute in [
            AddressAttribute::Source,
            AddressAttribute::Forwarded,
            AddressAttribute::Destination,
        ] {
            occurring_addresses.entry(attribute).or_default();
        }
        for (attribute, values) in occurring_texts {
            match attribute {
                TextAttribute::Issuer | TextAttribute::Subject | TextAttribute::Claim(_) => {
                    late.push((attribute, values));
                }
                _ => {
                    let dimension =
                        text_dimension(&attribute, &values.all, world, limit, &mut next);
                    let dimension = dimension.map_err(|error| (attribute.clone(), error))?;
                    texts.insert(attribute, dimension);
                }
            }
        }
        let mut addresses = BTreeMap::new();
        let mut surroundings = Vec::new();
        for (attribute, values) in occurring_addresses {
            if matches!(attribute, AddressAttribute::Of(..)) {
                surroundings.push((attribute, values));
            } else {
                let dimension = address_dimension(&attribute, &values.all, world, &mut next);
                addresses.insert(attribute, dimension);
            }
        }
        let port = port_dimension(&occurring.ports.all, &mut next);
        let token = next;
        next += 1;
        for (attribute, values) in late {
            if let TextAttribute::Claim(path) = &attribute {
                let (universe, preferred) = world.strings(&attribute, &values.all);
                let classes = classes(&values.all, &universe, &preferred, limit)
                    .map_err(|error| (attribute.clone(), error))?;
                let first = next;
                next += classes.examples.len() as u32;
                claims.insert(
                    path.clone(),
                    ClaimDimension {
                        first,
                        examples: classes.examples,
                        members: classes.members,
                    },
                );
            } else {
                let dimension = text_dimension(&attribute, &values.all, world, limit, &mut next);
                let dimension = dimension.map_err(|error| (attribute.clone(), error))?;
                texts.insert(attribute, dimension);
            }
        }
        let fails = occurring.validations.all.into_iter().zip(next..);
        let fails: Vec<(u32, String)> = fails.map(|(name, variable)| (variable, name)).collect();
        next += fails.len() as u32;
        for (attribute, values) in surroundings {
            let dimension = address_dimension(&attribute, &values.all, world, &mut next);
            addresses.insert(attribute, dimension);
        }
        let questions = occurring.questions.all.into_iter().zip(next..);
        let questions = questions
            .map(|(question, variable)| (variable, question))
            .collect();
        Ok(Self {
            texts,
            claims,
            addresses,
            port,
            token,
            fails,
            questions,
        })
    }
}

fn text_dimension(
    attribute: &TextAttribute,
    patterns: &[Text<'_>],
    world: &World<'_>,
    limit: usize,
    next: &mut u32,
) -> Result<TextDimension, TooManyStates> {
    let (universe, preferred) = world.strings(attribute, patterns);
    let found = if *attribute == TextAttribute::Host
        && patterns.iter().all(|pattern| pattern.ignore_case)
    {
        // Without case, strings in lower case stand for all.
        let lower: Vec<Text<'_>> = patterns.iter().map(lower_case).collect();
        let preferred: Vec<String> = preferred
            .iter()
            .map(|string| string.to_ascii_lowercase())
            .collect();
        classes(&lower, &universe, &preferred, limit)?
    } else {
        classes(patterns, &universe, &preferred, limit)?
    };
    let strings = found.examples.len() as u32;
    let (absent, shift) = match world.absent(attribute) {
        Absence::Never => (None, 0),
        Absence::First => (Some(0), 1),
        Absence::Last => (Some(strings), 0),
    };
    let mut examples: Vec<Option<String>> = found.examples.into_iter().map(Some).collect();
    if let Some(class) = absent {
        examples.insert(class as usize, None);
    }
    let members = found.members.into_iter();
    let members = members.map(|classes| classes.into_iter().map(|class| class + shift).collect());
    Ok(TextDimension {
        coded: Coded::new(next, examples.len() as u32, absent),
        examples,
        members: members.collect(),
    })
}

/// Whether an attribute can be absent, and whether a witness prefers it so.
pub(crate) enum Absence {
    Never,
    First,
    Last,
}

fn lower_case<'a>(pattern: &Text<'a>) -> Text<'a> {
    let lower = |text: &str| text.to_ascii_lowercase().into();
    Text::new(match &pattern.shape {
        Shape::Exact(text) => Shape::Exact(lower(text)),
        Shape::Prefix(text) => Shape::Prefix(lower(text)),
        Shape::Suffix(text) => Shape::Suffix(lower(text)),
        Shape::NotEmpty => Shape::NotEmpty,
        Shape::There => Shape::There,
        Shape::Sequences(_) => return pattern.clone(),
    })
}

fn address_dimension(
    attribute: &AddressAttribute,
    blocks: &[IpBlock],
    world: &World<'_>,
    next: &mut u32,
) -> AddressDimension {
    let (universe, preferred) = world.addresses(attribute);
    let found = addresses(blocks, &universe, &preferred);
    let unknown = matches!(attribute, AddressAttribute::Of(_, among) if among.is_empty());
    AddressDimension {
        coded: Coded::new(next, found.examples.len() as u32, None),
        examples: found.examples,
        members: found.members,
        unknown,
    }
}

fn port_dimension(ranges: &[(u16, u16)], next: &mut u32) -> PortDimension {
    let mut starts: Vec<u16> = ranges.iter().map(|&(first, _)| first).collect();
    starts.extend(ranges.iter().filter_map(|&(_, last)| last.checked_add(1)));
    starts.extend([8080, 0]);
    let mut seen = std::collections::BTreeSet::new();
    let mut examples = Vec::new();
    let mut members = vec![Vec::new(); ranges.len()];
    for port in starts {
        let inside: Vec<usize> = (0..ranges.len())
            .filter(|&range| ranges[range].0 <= port && port <= ranges[range].1)
            .collect();
        if seen.insert(inside.clone()) {
            for range in inside {
                members[range].push(examples.len() as u32);
            }
            examples.push(port);
        }
    }
    PortDimension {
        coded: Coded::new(next, examples.len() as u32, None),
        examples,
        members,
    }
}
