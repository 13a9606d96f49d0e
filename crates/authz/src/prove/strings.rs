//! The classes of strings that a set of patterns can tell apart.
//!
//! In come patterns and the strings that exist, out comes one example of each combination of patterns
//! that some string satisfies exactly. All patterns are put into one automaton that shares common
//! beginnings; its states are explored breadth first, so the examples are shortest. Characters that
//! neither a pattern names nor a set tells apart are represented by one of them, so the exploration is
//! complete. Invariant: patterns are told apart by their number; results are in a fixed order.

use std::collections::VecDeque;
use std::sync::LazyLock;

use rustc_hash::FxHashMap;

use crate::text::{Piece, Set, Shape, Text};

/// The limit on states was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyStates;

/// The strings that exist.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Universe {
    /// These.
    Only(Vec<String>),
    /// Those that one of these sequences covers.
    Matching(Vec<Vec<Piece<'static>>>),
}

/// The classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Classes {
    /// An example of each.
    pub(crate) examples: Vec<String>,
    /// For each pattern, the classes that it matches, ascending.
    pub(crate) members: Vec<Vec<u32>>,
}

/// Cuts the universe into classes. Examples are taken from `preferred` where one of them is in the
/// class, and classes with such an example come first, in the order of `preferred`.
pub(crate) fn classes(
    patterns: &[Text<'_>],
    universe: &Universe,
    preferred: &[String],
    limit: usize,
) -> Result<Classes, TooManyStates> {
    let mut found = Found::default();
    match universe {
        Universe::Only(strings) => {
            for string in strings {
                found.add(matching(patterns, string), string);
            }
        }
        Universe::Matching(law) => {
            let mut automaton = Automaton::new(patterns, law);
            for string in preferred {
                let state = automaton.run(string);
                if let Some(matched) = automaton.accepts(&state) {
                    found.add(matched, string);
                    // Nothing tells strings apart.
                    if patterns.is_empty() {
                        break;
                    }
                }
            }
            if patterns.is_empty() && !found.examples.is_empty() {
                return Ok(found.classes(patterns.len()));
            }
            automaton.explore(limit, &mut found)?;
        }
    }
    Ok(found.classes(patterns.len()))
}

fn matching(patterns: &[Text<'_>], string: &str) -> Vec<u32> {
    let matches =
        |(index, pattern): (usize, &Text<'_>)| pattern.matches(string).then_some(index as u32);
    patterns.iter().enumerate().filter_map(matches).collect()
}

/// Combinations of patterns found so far, each once.
#[derive(Default)]
struct Found {
    known: FxHashMap<Vec<u32>, ()>,
    matched: Vec<Vec<u32>>,
    examples: Vec<String>,
}

impl Found {
    fn add(&mut self, matched: Vec<u32>, example: &str) {
        if self.known.insert(matched.clone(), ()).is_none() {
            self.matched.push(matched);
            self.examples.push(example.to_owned());
        }
    }

    fn classes(self, patterns: usize) -> Classes {
        let mut members = vec![Vec::new(); patterns];
        for (class, matched) in self.matched.iter().enumerate() {
            for &pattern in matched {
                members[pattern as usize].push(class as u32);
            }
        }
        Classes {
            examples: self.examples,
            members,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    /// This character.
    Is(char),
    /// This letter in either case.
    IsLetter(char),
    /// A character of the set.
    In(Set),
}

impl Label {
    fn holds(self, character: char) -> bool {
        match self {
            Self::Is(one) => one == character,
            Self::IsLetter(one) => one.eq_ignore_ascii_case(&character),
            Self::In(set) => set.holds(character),
        }
    }
}

#[derive(Default)]
struct Node {
    edges: Vec<(Label, u32)>,
    /// The node stays active on these characters.
    stays: Option<Set>,
    /// Nodes active together with this one.
    also: Vec<u32>,
    /// Patterns matched if the string ends here.
    accepts: Vec<u32>,
    /// The node belongs to the law; if the string ends here, does it exist?
    law: Option<bool>,
}

struct Automaton {
    nodes: Vec<Node>,
    start: Vec<u32>,
}

/// Node 0 is where patterns begin, node 1 where the law begins.
const PATTERNS: u32 = 0;
const LAW: u32 = 1;

impl Automaton {
    fn new(patterns: &[Text<'_>], law: &[Vec<Piece<'static>>]) -> Self {
        let mut automaton = Self {
            nodes: vec![
                Node::default(),
                Node {
                    law: Some(false),
                    ..Node::default()
                },
            ],
            start: Vec::new(),
        };
        for pieces in law {
            let end = automaton.sequence(LAW, pieces, false);
            automaton.nodes[end as usize].law = Some(true);
        }
        for (index, pattern) in patterns.iter().enumerate() {
            for end in automaton.pattern(pattern) {
                automaton.nodes[end as usize].accepts.push(index as u32);
            }
        }
        automaton.start = automaton.closed(vec![PATTERNS, LAW]);
        automaton
    }

    fn pattern(&mut self, pattern: &Text<'_>) -> Vec<u32> {
        let any = || Piece::Many(Set::Any);
        let literal = |text: &str| Piece::Literal(text.to_owned().into());
        let sequences = match &pattern.shape {
            Shape::Exact(text) => vec![vec![literal(text)]],
            Shape::Prefix(text) => vec![vec![literal(text), any()]],
            Shape::Suffix(text) => vec![vec![any(), literal(text)]],
            Shape::NotEmpty => vec![vec![Piece::One(Set::Any), any()]],
            Shape::There => vec![vec![any()]],
            Shape::Sequences(sequences) => {
                let sequences = sequences.iter();
                return sequences
                    .map(|pieces| self.sequence(PATTERNS, pieces, pattern.ignore_case))
                    .collect();
            }
        };
        let sequences = sequences.iter();
        sequences
            .map(|pieces| self.sequence(PATTERNS, pieces, pattern.ignore_case))
            .collect()
    }

    /// Adds a sequence from a node on; yields the node where it ends.
    fn sequence(&mut self, from: u32, pieces: &[Piece<'_>], ignore_case: bool) -> u32 {
        let mut at = from;
        for piece in pieces {
            at = match piece {
                Piece::Literal(text) => text.chars().fold(at, |at, character| {
                    let label = if ignore_case && character.is_ascii_alphabetic() {
                        Label::IsLetter(character.to_ascii_lowercase())
                    } else {
                        Label::Is(character)
                    };
                    self.edge(at, label)
                }),
                Piece::One(set) => self.edge(at, Label::In(*set)),
                Piece::Many(set) => self.loop_at(at, *set),
            };
        }
        at
    }

    fn edge(&mut self, from: u32, label: Label) -> u32 {
        let edges = &self.nodes[from as usize].edges;
        if let Some(&(_, to)) = edges.iter().find(|(known, _)| *known == label) {
            return to;
        }
        let to = self.fresh(from);
        self.nodes[from as usize].edges.push((label, to));
        to
    }

    fn loop_at(&mut self, from: u32, set: Set) -> u32 {
        let also = &self.nodes[from as usize].also;
        let known = also
            .iter()
            .find(|&&node| self.nodes[node as usize].stays == Some(set));
        if let Some(&known) = known {
            return known;
        }
        let to = self.fresh(from);
        self.nodes[to as usize].stays = Some(set);
        self.nodes[from as usize].also.push(to);
        to
    }

    fn fresh(&mut self, from: u32) -> u32 {
        let law = self.nodes[from as usize].law.map(|_| false);
        self.nodes.push(Node {
            law,
            ..Node::default()
        });
        self.nodes.len() as u32 - 1
    }

    /// The nodes and all that are active with them, ascending.
    fn closed(&self, mut nodes: Vec<u32>) -> Vec<u32> {
        let mut index = 0;
        while index < nodes.len() {
            nodes.extend_from_slice(&self.nodes[nodes[index] as usize].also);
            index += 1;
        }
        nodes.sort_unstable();
        nodes.dedup();
        nodes
    }

    fn step(&self, state: &[u32], character: char) -> Vec<u32> {
        let mut next = Vec::new();
        for &node in state {
            let node_data = &self.nodes[node as usize];
            if node_data.stays.is_some_and(|set| set.holds(character)) {
                next.push(node);
            }
            let edges = node_data.edges.iter();
            next.extend(
                edges
                    .filter(|(label, _)| label.holds(character))
                    .map(|(_, to)| *to),
            );
        }
        self.closed(next)
    }

    fn run(&mut self, string: &str) -> Vec<u32> {
        string.chars().fold(self.start.clone(), |state, character| {
            self.step(&state, character)
        })
    }

    /// The patterns matched by a string that ends here; `None` if it does not exist.
    fn accepts(&self, state: &[u32]) -> Option<Vec<u32>> {
        let exists = state
            .iter()
            .any(|&node| self.nodes[node as usize].law == Some(true));
        let mut matched: Vec<u32> = state
            .iter()
            .flat_map(|&node| self.nodes[node as usize].accepts.iter().copied())
            .collect();
        matched.sort_unstable();
        matched.dedup();
        exists.then_some(matched)
    }

    fn alive(&self, state: &[u32]) -> bool {
        state
            .iter()
            .any(|&node| self.nodes[node as usize].law.is_some())
    }

    /// Visits every state that some string reaches, shortest strings first.
    fn explore(&self, limit: usize, found: &mut Found) -> Result<(), TooManyStates> {
        let mut numbers: FxHashMap<Vec<u32>, ()> = FxHashMap::default();
        // For each state: where it was reached from, and by which character.
        let mut origins: Vec<(usize, char)> = vec![(0, ' ')];
        let mut waiting = VecDeque::from([(0_usize, self.start.clone())]);
        numbers.insert(self.start.clone(), ());
        let mut characters = Vec::new();
        while let Some((number, state)) = waiting.pop_front() {
            if let Some(matched) = self.accepts(&state)
                && !found.known.contains_key(&matched)
            {
                found.add(matched, &spelled(&origins, number));
            }
            characters.clear();
            self.characters(&state, &mut characters);
            for &character in &characters {
                let next = self.step(&state, character);
                if !self.alive(&next) || numbers.contains_key(&next) {
                    continue;
                }
                if numbers.len() >= limit {
                    return Err(TooManyStates);
                }
                numbers.insert(next.clone(), ());
                origins.push((number, character));
                waiting.push_back((origins.len() - 1, next));
            }
        }
        Ok(())
    }

    /// The characters that can lead to different states from here: those that an edge names, and one
    /// other for each way of being in the sets that this state looks at.
    fn characters(&self, state: &[u32], characters: &mut Vec<char>) {
        let mut named = Vec::new();
        let mut sets = 0;
        for &node in state {
            let node = &self.nodes[node as usize];
            sets |= node.stays.map_or(0, bit);
            for (label, _) in &node.edges {
                match label {
                    Label::Is(one) => named.push(*one),
                    Label::IsLetter(one) => named.extend([*one, one.to_ascii_uppercase()]),
                    Label::In(set) => sets |= bit(*set),
                }
            }
        }
        named.sort_unstable();
        named.dedup();
        // A character of none of the sets leads nowhere.
        let mut seen = vec![0];
        for (kind, members) in ALPHABET.iter() {
            if seen.contains(&(kind & sets)) {
                continue;
            }
            let other = members
                .iter()
                .find(|character| named.binary_search(character).is_err());
            if let Some(other) = other {
                characters.push(*other);
                seen.push(kind & sets);
            }
        }
        characters.extend(named);
    }
}

fn spelled(origins: &[(usize, char)], mut number: usize) -> String {
    let mut characters = Vec::new();
    while number != 0 {
        let (origin, character) = origins[number];
        characters.push(character);
        number = origin;
    }
    characters.iter().rev().collect()
}

/// Characters by the sets that they are in (one bit a set), pleasant ones first.
static ALPHABET: LazyLock<Vec<(u8, Vec<char>)>> = LazyLock::new(|| {
    let pleasant = "xyzabcdefghijklmnopqrstuvw0123456789-_.";
    let rest = (' '..='~').chain('\u{a1}'..='\u{ff}');
    let mut kinds: Vec<(u8, Vec<char>)> = Vec::new();
    for character in pleasant.chars().chain(rest) {
        let within = Set::ALL.into_iter().filter(|set| set.holds(character));
        let sets = within.map(bit).fold(0, |sets, bit| sets | bit);
        match kinds.iter_mut().find(|(known, _)| *known == sets) {
            Some((_, kind)) => kind.push(character),
            None => kinds.push((sets, vec![character])),
        }
    }
    kinds
});

fn bit(set: Set) -> u8 {
    1 << set as u8
}
