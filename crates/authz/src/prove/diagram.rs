//! Reduced ordered binary decision diagrams, with a limit on their size.
//!
//! In come variables by number, out come diagrams by number; equal functions have equal numbers.
//! Invariant: children of a node are of later variables and differ; results do not depend on hashing
//! order, since nodes are numbered in the order of construction.

use rustc_hash::FxHashMap;

/// A function of the variables.
pub(crate) type Function = u32;

/// Nowhere true.
pub(crate) const FALSE: Function = 0;
/// Everywhere true.
pub(crate) const TRUE: Function = 1;

/// The limit on nodes was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooManyNodes;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Operation {
    And,
    Or,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Node {
    variable: u32,
    low: Function,
    high: Function,
}

/// The store of all functions of one comparison.
pub(crate) struct Diagram {
    nodes: Vec<Node>,
    unique: FxHashMap<Node, Function>,
    results: FxHashMap<(Operation, Function, Function), Function>,
    negations: FxHashMap<Function, Function>,
    limit: usize,
}

impl Diagram {
    pub(crate) fn new(limit: usize) -> Self {
        let terminal = |function| Node {
            variable: u32::MAX,
            low: function,
            high: function,
        };
        Self {
            nodes: vec![terminal(FALSE), terminal(TRUE)],
            unique: FxHashMap::default(),
            results: FxHashMap::default(),
            negations: FxHashMap::default(),
            limit,
        }
    }

    /// Nodes made so far.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    fn node(
        &mut self,
        variable: u32,
        low: Function,
        high: Function,
    ) -> Result<Function, TooManyNodes> {
        if low == high {
            return Ok(low);
        }
        let node = Node {
            variable,
            low,
            high,
        };
        if let Some(&known) = self.unique.get(&node) {
            return Ok(known);
        }
        if self.nodes.len() >= self.limit {
            return Err(TooManyNodes);
        }
        let function = self.nodes.len() as Function;
        self.nodes.push(node);
        self.unique.insert(node, function);
        Ok(function)
    }

    /// The function that is the variable.
    pub(crate) fn variable(&mut self, variable: u32) -> Result<Function, TooManyNodes> {
        self.node(variable, FALSE, TRUE)
    }

    /// `if variable then high else low`; both must be of later variables.
    pub(crate) fn choose(
        &mut self,
        variable: u32,
        low: Function,
        high: Function,
    ) -> Result<Function, TooManyNodes> {
        self.node(variable, low, high)
    }

    pub(crate) fn and(&mut self, a: Function, b: Function) -> Result<Function, TooManyNodes> {
        self.apply(Operation::And, a, b)
    }

    pub(crate) fn or(&mut self, a: Function, b: Function) -> Result<Function, TooManyNodes> {
        self.apply(Operation::Or, a, b)
    }

    pub(crate) fn and_not(&mut self, a: Function, b: Function) -> Result<Function, TooManyNodes> {
        let not_b = self.not(b)?;
        self.and(a, not_b)
    }

    fn apply(
        &mut self,
        operation: Operation,
        a: Function,
        b: Function,
    ) -> Result<Function, TooManyNodes> {
        let (neutral, absorbing) = match operation {
            Operation::And => (TRUE, FALSE),
            Operation::Or => (FALSE, TRUE),
        };
        if a == b || b == neutral || a == absorbing {
            return Ok(a);
        }
        if a == neutral || b == absorbing {
            return Ok(b);
        }
        let key = (operation, a.min(b), a.max(b));
        if let Some(&known) = self.results.get(&key) {
            return Ok(known);
        }
        let (left, right) = (self.nodes[a as usize], self.nodes[b as usize]);
        let variable = left.variable.min(right.variable);
        let (a_low, a_high) = left.children(variable, a);
        let (b_low, b_high) = right.children(variable, b);
        let low = self.apply(operation, a_low, b_low)?;
        let high = self.apply(operation, a_high, b_high)?;
        let result = self.node(variable, low, high)?;
        self.results.insert(key, result);
        Ok(result)
    }

    pub(crate) fn not(&mut self, a: Function) -> Result<Function, TooManyNodes> {
        if a <= TRUE {
            return Ok(TRUE - a);
        }
        if let Some(&known) = self.negations.get(&a) {
            return Ok(known);
        }
        let Node {
            variable,
            low,
            high,
        } = self.nodes[a as usize];
        let low = self.not(low)?;
        let high = self.not(high)?;
        let result = self.node(variable, low, high)?;
        self.negations.insert(a, result);
        self.negations.insert(result, a);
        Ok(result)
    }

    /// The OR of many functions. Sorted by number and halved by number, so that a set and the same
    /// set without one member share most of the work.
    pub(crate) fn any(&mut self, mut functions: Vec<Function>) -> Result<Function, TooManyNodes> {
        functions.sort_unstable();
        functions.dedup();
        self.any_between(&functions, 0, u32::MAX)
    }

    fn any_between(
        &mut self,
        functions: &[Function],
        first: u32,
        last: u32,
    ) -> Result<Function, TooManyNodes> {
        match functions {
            [] => Ok(FALSE),
            [one] => Ok(*one),
            _ => {
                let middle = first + (last - first) / 2;
                let at = functions.partition_point(|&function| function <= middle);
                let (left, right) = functions.split_at(at);
                let left = self.any_between(left, first, middle)?;
                let right = self.any_between(right, middle.saturating_add(1), last)?;
                self.or(left, right)
            }
        }
    }

    /// The function with some variables fixed.
    pub(crate) fn fix(
        &mut self,
        a: Function,
        fixed: &dyn Fn(u32) -> Option<bool>,
    ) -> Result<Function, TooManyNodes> {
        self.fix_with(a, fixed, &mut FxHashMap::default())
    }

    fn fix_with(
        &mut self,
        a: Function,
        fixed: &dyn Fn(u32) -> Option<bool>,
        done: &mut FxHashMap<Function, Function>,
    ) -> Result<Function, TooManyNodes> {
        if a <= TRUE {
            return Ok(a);
        }
        if let Some(&known) = done.get(&a) {
            return Ok(known);
        }
        let Node {
            variable,
            low,
            high,
        } = self.nodes[a as usize];
        let result = match fixed(variable) {
            Some(true) => self.fix_with(high, fixed, done)?,
            Some(false) => self.fix_with(low, fixed, done)?,
            None => {
                let low = self.fix_with(low, fixed, done)?;
                let high = self.fix_with(high, fixed, done)?;
                self.node(variable, low, high)?
            }
        };
        done.insert(a, result);
        Ok(result)
    }

    /// True where the function is true for some values of these variables.
    pub(crate) fn exists(
        &mut self,
        a: Function,
        of: &dyn Fn(u32) -> bool,
    ) -> Result<Function, TooManyNodes> {
        self.exists_with(a, of, &mut FxHashMap::default())
    }

    fn exists_with(
        &mut self,
        a: Function,
        of: &dyn Fn(u32) -> bool,
        done: &mut FxHashMap<Function, Function>,
    ) -> Result<Function, TooManyNodes> {
        if a <= TRUE {
            return Ok(a);
        }
        if let Some(&known) = done.get(&a) {
            return Ok(known);
        }
        let Node {
            variable,
            low,
            high,
        } = self.nodes[a as usize];
        let low = self.exists_with(low, of, done)?;
        let high = self.exists_with(high, of, done)?;
        let result = if of(variable) {
            self.or(low, high)?
        } else {
            self.node(variable, low, high)?
        };
        done.insert(a, result);
        Ok(result)
    }

    /// True where the function is true for all values of these variables.
    pub(crate) fn for_all(
        &mut self,
        a: Function,
        of: &dyn Fn(u32) -> bool,
    ) -> Result<Function, TooManyNodes> {
        let not = self.not(a)?;
        let exists = self.exists(not, of)?;
        self.not(exists)
    }

    /// The variables that the function depends on, ascending.
    pub(crate) fn support(&self, a: Function) -> Vec<u32> {
        let mut seen = rustc_hash::FxHashSet::default();
        let mut variables = std::collections::BTreeSet::new();
        let mut waiting = vec![a];
        while let Some(function) = waiting.pop() {
            if function > TRUE && seen.insert(function) {
                let Node {
                    variable,
                    low,
                    high,
                } = self.nodes[function as usize];
                variables.insert(variable);
                waiting.extend([low, high]);
            }
        }
        variables.into_iter().collect()
    }

    /// The smallest assignment that makes the function true, false before true, earlier variables
    /// first: the variables that are true in it, ascending. `None` if there is none.
    pub(crate) fn smallest(&self, a: Function) -> Option<Vec<u32>> {
        let mut function = a;
        let mut high_variables = Vec::new();
        while function > TRUE {
            let Node {
                variable,
                low,
                high,
            } = self.nodes[function as usize];
            if low == FALSE {
                high_variables.push(variable);
                function = high;
            } else {
                function = low;
            }
        }
        (function == TRUE).then_some(high_variables)
    }
}

impl Node {
    fn children(self, variable: u32, function: Function) -> (Function, Function) {
        if self.variable == variable {
            (self.low, self.high)
        } else {
            (function, function)
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A random expression evaluated by table and by diagram.
    #[test]
    fn operations_agree_with_truth_tables() {
        let mut seed = 7_u64;
        let mut random = move |below: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        let variables = 5;
        let rows = 1_u32 << variables;
        for _ in 0..300 {
            let mut diagram = Diagram::new(10_000);
            let mut made: Vec<(Function, Vec<bool>)> = Vec::new();
            for variable in 0..variables {
                let table = (0..rows).map(|row| row >> variable & 1 == 1).collect();
                made.push((diagram.variable(variable).unwrap(), table));
            }
            for _ in 0..12 {
                let (a, a_table) = made[random(made.len())].clone();
                let (b, b_table) = made[random(made.len())].clone();
                let zip = |join: fn(bool, bool) -> bool| {
                    a_table
                        .iter()
                        .zip(&b_table)
                        .map(|(&a, &b)| join(a, b))
                        .collect::<Vec<bool>>()
                };
                let at = random(variables as usize) as u32;
                let flipped = |row: u32, to: bool| (row & !(1 << at)) | u32::from(to) << at;
                let quantified = |join: fn(bool, bool) -> bool| {
                    (0..rows)
                        .map(|row| {
                            join(
                                a_table[flipped(row, false) as usize],
                                a_table[flipped(row, true) as usize],
                            )
                        })
                        .collect::<Vec<bool>>()
                };
                made.push(match random(7) {
                    0 => (diagram.and(a, b).unwrap(), zip(|a, b| a && b)),
                    1 => (diagram.or(a, b).unwrap(), zip(|a, b| a || b)),
                    2 => (diagram.and_not(a, b).unwrap(), zip(|a, b| a && !b)),
                    3 => (
                        diagram.exists(a, &|v| v == at).unwrap(),
                        quantified(|a, b| a || b),
                    ),
                    4 => (
                        diagram.for_all(a, &|v| v == at).unwrap(),
                        quantified(|a, b| a && b),
                    ),
                    5 => (
                        diagram.fix(a, &|v| (v == at).then_some(true)).unwrap(),
                        (0..rows)
                            .map(|row| a_table[flipped(row, true) as usize])
                            .collect(),
                    ),
                    _ => (diagram.any(vec![a, b, a]).unwrap(), zip(|a, b| a || b)),
                });
            }
            for (function, table) in &made {
                for row in 0..rows {
                    let value = diagram
                        .fix(*function, &|v| Some(row >> v & 1 == 1))
                        .unwrap();
                    assert_eq!(value == TRUE, table[row as usize]);
                }
                // The smallest satisfying row, reading variable 0 as the most significant.
                let smallest = (0..rows)
                    .filter(|&row| table[row as usize])
                    .min_by_key(|row| (0..variables).fold(0, |key, v| key << 1 | (row >> v & 1)));
                let expected =
                    smallest.map(|row| (0..variables).filter(|v| row >> v & 1 == 1).collect());
                assert_eq!(diagram.smallest(*function), expected);
                for (other, other_table) in &made {
                    assert_eq!(
                        function == other,
                        table == other_table,
                        "equal functions have equal numbers"
                    );
                }
            }
        }
    }

    #[test]
    fn the_limit_is_an_error_and_not_a_hang() {
        let mut diagram = Diagram::new(10);
        let mut all = TRUE;
        let result = (0..20).try_for_each(|variable| {
            let one = diagram.variable(variable)?;
            all = diagram.and(all, one)?;
            Ok(())
        });
        assert_eq!(result, Err(TooManyNodes));
        assert!(diagram.len() <= 10);
    }
}
