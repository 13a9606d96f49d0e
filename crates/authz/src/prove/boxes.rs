//! Many rules at once: the union of boxes, built from the top.
//!
//! In come rules that restrict each attribute, alone, to a set of classes, out comes the function of
//! their OR. Joining the functions of thousands of rules one by one makes many functions that nobody
//! needs; here the rules still in play are carried down attribute by attribute, and only nodes of the
//! result are made. Invariant: the result is the same function as the OR of the rules.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::diagram::{Diagram, FALSE, Function, TRUE, TooManyNodes};
use super::dimension::Coded;

/// A rule as a box: per attribute, by the index of its dimension, ascending, the classes that it admits
/// (ascending). An attribute that is not listed is not restricted.
pub(crate) type AttributeBox = Vec<(usize, Rc<[u32]>)>;

/// Members of a set of boxes, one bit each.
type Bits = Vec<u64>;

/// The OR of the boxes. `dimensions` are in the order of their variables.
pub(crate) fn any(
    diagram: &mut Diagram,
    dimensions: &[Coded],
    boxes: &[AttributeBox],
    limit: usize,
) -> Result<Function, TooManyNodes> {
    let words = boxes.len().div_ceil(64);
    let mut used: Vec<usize> = boxes
        .iter()
        .flatten()
        .map(|(dimension, _)| *dimension)
        .collect();
    used.sort_unstable();
    used.dedup();
    let mut levels = Vec::with_capacity(used.len());
    for &dimension in &used {
        let mut restricted = vec![0_u64; words];
        let mut admits = vec![vec![0_u64; words]; dimensions[dimension].classes as usize];
        for (index, one) in boxes.iter().enumerate() {
            let (word, bit) = (index / 64, 1 << (index % 64));
            match one.iter().find(|(other, _)| *other == dimension) {
                Some((_, classes)) => {
                    restricted[word] |= bit;
                    for &class in classes.iter() {
                        admits[class as usize][word] |= bit;
                    }
                }
                None => admits.iter_mut().for_each(|admitted| admitted[word] |= bit),
            }
        }
        levels.push(Level {
            coded: dimensions[dimension].clone(),
            restricted,
            admits,
            finished: vec![0; words],
        });
    }
    // From a level on, which boxes restrict nothing any more.
    let mut finished = full(boxes.len());
    for level in levels.iter_mut().rev() {
        for (word, restricted) in finished.iter_mut().zip(&level.restricted) {
            *word &= !restricted;
        }
        level.finished.clone_from(&finished);
    }
    let mut union = Union {
        diagram,
        levels,
        done: FxHashMap::default(),
        limit,
    };
    union.from(0, full(boxes.len()))
}

fn full(members: usize) -> Bits {
    let mut bits = vec![u64::MAX; members.div_ceil(64)];
    if let (Some(last), rest @ 1..) = (bits.last_mut(), members % 64) {
        *last = (1 << rest) - 1;
    }
    bits
}

struct Level {
    coded: Coded,
    /// Boxes that restrict this attribute.
    restricted: Bits,
    /// Per class, the boxes that admit it.
    admits: Vec<Bits>,
    /// Boxes that restrict neither this attribute nor a later one.
    finished: Bits,
}

struct Union<'d> {
    diagram: &'d mut Diagram,
    levels: Vec<Level>,
    done: FxHashMap<(usize, Bits), Function>,
    limit: usize,
}

impl Union<'_> {
    fn from(&mut self, mut at: usize, in_play: Bits) -> Result<Function, TooManyNodes> {
        if in_play.iter().all(|word| *word == 0) {
            return Ok(FALSE);
        }
        while self
            .levels
            .get(at)
            .is_some_and(|level| !meet(&in_play, &level.restricted))
        {
            at += 1;
        }
        let Some(level) = self.levels.get(at) else {
            return Ok(TRUE);
        };
        if meet(&in_play, &level.finished) {
            return Ok(TRUE);
        }
        let key = (at, in_play);
        if let Some(&known) = self.done.get(&key) {
            return Ok(known);
        }
        if self.done.len() >= self.limit {
            return Err(TooManyNodes);
        }
        let coded = level.coded.clone();
        let mut children = Vec::with_capacity(level.admits.len());
        for class in 0..self.levels[at].admits.len() {
            let admits = &self.levels[at].admits[class];
            let left: Bits = key
                .1
                .iter()
                .zip(admits)
                .map(|(one, other)| one & other)
                .collect();
            children.push(self.from(at + 1, left)?);
        }
        let function = self.tree(&coded, &children, 0, 0)?;
        self.done.insert(key, function);
        Ok(function)
    }

    /// The children by their number in binary; numbers that are no class copy their neighbour.
    fn tree(
        &mut self,
        coded: &Coded,
        children: &[Function],
        depth: u32,
        start: usize,
    ) -> Result<Function, TooManyNodes> {
        if depth == coded.bits {
            return Ok(children[start]);
        }
        let middle = start + (1 << (coded.bits - depth - 1));
        let low = self.tree(coded, children, depth + 1, start)?;
        let high = if middle < children.len() {
            self.tree(coded, children, depth + 1, middle)?
        } else {
            low
        };
        self.diagram.choose(coded.first + depth, low, high)
    }
}

fn meet(one: &[u64], other: &[u64]) -> bool {
    one.iter().zip(other).any(|(one, other)| one & other != 0)
}
