//! From rules over numbered patterns to functions.
//!
//! In come rules by number ([`Parts`](super::dimension::Parts)), out comes the function of their OR.
//! Rules whose tests are each about one attribute are joined as boxes ([`boxes`](super::boxes)), which
//! is fast for thousands of them; the others one by one. Invariant: both ways give the same function.

use std::rc::Rc;

use super::access::Builder;
use super::atoms::Atom;
use super::boxes::AttributeBox;
use super::diagram::{Diagram, FALSE, Function, TRUE, TooManyNodes};
use super::dimension::{Coded, TextAttribute};
use super::reading::Rules;

/// An entry or a test as boxes see it.
#[derive(Clone)]
pub(super) enum Simple<T> {
    /// No request satisfies it.
    Never,
    /// This restricts.
    Restricts(T),
    /// It is about more than one attribute, or about one that boxes do not know.
    Not,
}

/// What was looked up, by number.
#[derive(Default)]
pub(super) struct Looked {
    /// Per test, and whether it is negated, its dimension and the classes for which it holds.
    tests: Vec<Option<Simple<(usize, Rc<[u32]>)>>>,
    entries: Vec<Option<Simple<Rc<AttributeBox>>>>,
}

/// The place of a number in a table that grows.
fn place<T>(table: &mut Vec<Option<T>>, number: u32) -> &mut Option<T> {
    let number = number as usize;
    if table.len() <= number {
        table.resize_with(number + 1, || None);
    }
    &mut table[number]
}

impl Builder<'_> {
    /// The OR of the rules. `validated`: requests whose token was validated at the point.
    pub(super) fn any_rule(
        &mut self,
        rules: &Rules,
        validated: Function,
    ) -> Result<Function, TooManyNodes> {
        if let Some(&known) = self.any_rules.get(&(rules.clone(), validated)) {
            return Ok(known);
        }
        let mut functions = Vec::new();
        let mut boxes = Vec::with_capacity(rules.len());
        for &number in rules {
            if self.boxes(number, &mut boxes) {
                continue;
            }
            let key = (number, validated);
            let function = match self.rule_functions.get(&key) {
                Some(&known) => known,
                None => {
                    let function = self.rule(number, validated)?;
                    self.rule_functions.insert(key, function);
                    function
                }
            };
            functions.push(function);
        }
        if !boxes.is_empty() {
            functions.push(super::boxes::any(
                &mut self.diagram,
                &self.coded,
                &boxes,
                self.limit,
            )?);
        }
        let any = self.diagram.any(functions)?;
        self.any_rules.insert((rules.clone(), validated), any);
        Ok(any)
    }

    /// Adds the rule as boxes, if it is that simple: few combinations of entries, and every test about
    /// one attribute that the request always shows. Else adds nothing and says no.
    fn boxes(&mut self, rule: u32, all: &mut Vec<AttributeBox>) -> bool {
        let parts = Rc::clone(&self.parts);
        let clauses = &parts.rules.all[rule as usize];
        let entries = |clause: u32| &parts.clauses.all[clause as usize];
        if clauses
            .iter()
            .map(|&clause| entries(clause).len())
            .product::<usize>()
            > 16
        {
            return false;
        }
        let mut boxes: Vec<AttributeBox> = vec![Vec::new()];
        for &clause in clauses.iter() {
            let mut combined = Vec::with_capacity(boxes.len());
            for &entry in entries(clause).iter() {
                match self.entry_box(entry) {
                    Simple::Not => return false,
                    Simple::Never => {}
                    Simple::Restricts(more) => {
                        combined.extend(boxes.iter().filter_map(|one| both(one, &more)));
                    }
                }
            }
            boxes = combined;
        }
        all.extend(boxes);
        true
    }

    fn entry_box(&mut self, entry: u32) -> Simple<Rc<AttributeBox>> {
        if let Some(known) = place(&mut self.looked.entries, entry) {
            return known.clone();
        }
        let parts = Rc::clone(&self.parts);
        let mut one = Simple::Restricts(AttributeBox::new());
        for &test in parts.entries.all[entry as usize].iter() {
            one = match (one, self.test_classes(test)) {
                (Simple::Not, _) | (_, Simple::Not) => Simple::Not,
                (Simple::Never, _) | (_, Simple::Never) => Simple::Never,
                (Simple::Restricts(one), Simple::Restricts(more)) => {
                    both(&one, &[more]).map_or(Simple::Never, Simple::Restricts)
                }
            };
        }
        let one = match one {
            Simple::Restricts(one) => Simple::Restricts(Rc::new(one)),
            Simple::Never => Simple::Never,
            Simple::Not => Simple::Not,
        };
        place(&mut self.looked.entries, entry).insert(one).clone()
    }

    fn test_classes(&mut self, test: u32) -> Simple<(usize, Rc<[u32]>)> {
        if let Some(known) = place(&mut self.looked.tests, test) {
            return known.clone();
        }
        let classes = match self.classes(&self.parts.tests.all[test as usize / 2]) {
            None => Simple::Not,
            Some((dimension, mut classes)) => {
                if test % 2 == 1 {
                    let all = 0..self.coded[dimension].classes;
                    classes = all
                        .filter(|class| classes.binary_search(class).is_err())
                        .collect();
                }
                if classes.is_empty() {
                    Simple::Never
                } else {
                    Simple::Restricts((dimension, classes.into()))
                }
            }
        };
        place(&mut self.looked.tests, test).insert(classes).clone()
    }

    /// The dimension that all atoms are about, and the classes for which one of them holds.
    fn classes(&self, atoms: &[Atom]) -> Option<(usize, Vec<u32>)> {
        let first = atoms.first()?;
        let numbers: Vec<u32> = atoms
            .iter()
            .map(|atom| same_attribute(first, atom).then(|| number(atom)))
            .collect::<Option<_>>()?;
        let dimensions = &self.dimensions;
        let (coded, set) = match first {
            Atom::Text(attribute, _) => {
                let dimension = &dimensions.texts[&self.text_attributes[*attribute as usize]];
                (&dimension.coded, union(&dimension.members, &numbers))
            }
            Atom::Address(attribute, _) => {
                let dimension =
                    &dimensions.addresses[&self.address_attributes[*attribute as usize]];
                (&dimension.coded, union(&dimension.members, &numbers))
            }
            Atom::Port(_) => (
                &dimensions.port.coded,
                union(&dimensions.port.members, &numbers),
            ),
            _ => return None,
        };
        let same = |other: &Coded| (other.first, other.classes) == (coded.first, coded.classes);
        Some((self.coded.iter().position(same)?, set))
    }

    /// One rule by itself.
    fn rule(&mut self, rule: u32, validated: Function) -> Result<Function, TooManyNodes> {
        let parts = Rc::clone(&self.parts);
        let mut all = TRUE;
        for &clause in parts.rules.all[rule as usize].iter() {
            let mut any = FALSE;
            for &entry in parts.clauses.all[clause as usize].iter() {
                let mut tests = TRUE;
                for &test in parts.entries.all[entry as usize].iter() {
                    let atoms = &parts.tests.all[test as usize / 2];
                    let mut matched = self.atoms(atoms, validated)?;
                    if test % 2 == 1 {
                        matched = self.diagram.not(matched)?;
                    }
                    tests = self.diagram.and(tests, matched)?;
                }
                any = self.diagram.or(any, tests)?;
            }
            all = self.diagram.and(all, any)?;
        }
        Ok(all)
    }

    /// Any of the atoms; those of one attribute are sorted next to each other and taken as one set.
    fn atoms(&mut self, atoms: &[Atom], validated: Function) -> Result<Function, TooManyNodes> {
        let mut any = FALSE;
        let mut rest = atoms;
        while let Some(first) = rest.first() {
            let same = rest
                .iter()
                .take_while(|atom| same_attribute(first, atom))
                .count();
            let (these, others) = rest.split_at(same);
            rest = others;
            let numbers: Vec<u32> = these.iter().map(number).collect();
            let function = match first {
                Atom::Text(attribute, _) => {
                    let attribute = self.text_attributes[*attribute as usize].clone();
                    self.text(&attribute, &numbers)?
                }
                Atom::Token(attribute, _) => {
                    let attribute = self.text_attributes[*attribute as usize].clone();
                    let matched = match &attribute {
                        TextAttribute::Claim(path) => self.claim(path, &numbers)?,
                        _ => self.text(&attribute, &numbers)?,
                    };
                    self.diagram.and(matched, validated)?
                }
                Atom::RequestPrincipal(issuer, subject) => {
                    let issuer = self.text(&TextAttribute::Issuer, &[*issuer])?;
                    let subject = self.text(&TextAttribute::Subject, &[*subject])?;
                    let both = self.diagram.and(issuer, subject)?;
                    self.diagram.and(both, validated)?
                }
                Atom::Address(attribute, _) => {
                    let dimension =
                        &self.dimensions.addresses[&self.address_attributes[*attribute as usize]];
                    let set = union(&dimension.members, &numbers);
                    let coded = dimension.coded.clone();
                    self.set(&coded, set)?
                }
                Atom::Port(_) => {
                    let set = union(&self.dimensions.port.members, &numbers);
                    let coded = self.dimensions.port.coded.clone();
                    self.set(&coded, set)?
                }
                Atom::NoIdentity => self.no_identity()?,
                Atom::Question(question) => self.question(*question)?,
            };
            any = self.diagram.or(any, function)?;
        }
        Ok(any)
    }

    pub(super) fn question(&mut self, question: u32) -> Result<Function, TooManyNodes> {
        let variable = self.dimensions.questions[question as usize].0;
        self.diagram.variable(variable)
    }

    pub(super) fn no_identity(&mut self) -> Result<Function, TooManyNodes> {
        let coded = self.dimensions.texts[&TextAttribute::Identity]
            .coded
            .clone();
        match coded.absent {
            Some(class) => self.set(&coded, vec![class]),
            None => Ok(FALSE),
        }
    }

    pub(super) fn text(
        &mut self,
        attribute: &TextAttribute,
        patterns: &[u32],
    ) -> Result<Function, TooManyNodes> {
        let dimension = &self.dimensions.texts[attribute];
        let set = union(&dimension.members, patterns);
        let coded = dimension.coded.clone();
        self.set(&coded, set)
    }

    /// Whether some value of the claim matches some of the patterns.
    pub(super) fn claim(
        &mut self,
        path: &[String],
        patterns: &[u32],
    ) -> Result<Function, TooManyNodes> {
        let dimension = &self.dimensions.claims[path];
        let first = dimension.first;
        let classes = union(&dimension.members, patterns);
        let mut functions = Vec::with_capacity(classes.len());
        for class in classes {
            functions.push(self.diagram.variable(first + class)?);
        }
        self.diagram.any(functions)
    }

    /// The requests whose class is in the set (ascending). Numbers that are no class are left to
    /// chance; the laws exclude them.
    pub(crate) fn set(&mut self, coded: &Coded, set: Vec<u32>) -> Result<Function, TooManyNodes> {
        let key = (coded.first, coded.classes, set);
        if let Some(&known) = self.sets.get(&key) {
            return Ok(known);
        }
        let function = between(&mut self.diagram, coded, &key.2, 0, 0)?;
        self.sets.insert(key, function);
        Ok(function)
    }
}

/// Both restrictions; `None`: nothing satisfies them.
fn both(one: &AttributeBox, other: &[(usize, Rc<[u32]>)]) -> Option<AttributeBox> {
    let mut both = AttributeBox::with_capacity(one.len() + other.len());
    both.extend(one.iter().cloned());
    for (dimension, classes) in other {
        match both.binary_search_by_key(dimension, |(known, _)| *known) {
            Err(at) => both.insert(at, (*dimension, Rc::clone(classes))),
            Ok(at) => {
                let left = both[at].1.iter().copied();
                let left = left.filter(|class| classes.binary_search(class).is_ok());
                both[at].1 = left.collect();
                if both[at].1.is_empty() {
                    return None;
                }
            }
        }
    }
    Some(both)
}

/// The numbers from `start` on that share the first `depth` bits.
fn between(
    diagram: &mut Diagram,
    coded: &Coded,
    set: &[u32],
    depth: u32,
    start: u32,
) -> Result<Function, TooManyNodes> {
    let size = 1_u32 << (coded.bits - depth);
    let classes = coded.classes.saturating_sub(start).min(size) as usize;
    if set.is_empty() {
        return Ok(FALSE);
    }
    if set.len() == classes {
        return Ok(TRUE);
    }
    let middle = start + size / 2;
    let (low, high) = set.split_at(set.partition_point(|&class| class < middle));
    let low = between(diagram, coded, low, depth + 1, start)?;
    let high = between(diagram, coded, high, depth + 1, middle)?;
    diagram.choose(coded.first + depth, low, high)
}

fn union(members: &[Vec<u32>], patterns: &[u32]) -> Vec<u32> {
    if let [one] = patterns {
        return members[*one as usize].clone();
    }
    let mut set: Vec<u32> = patterns
        .iter()
        .flat_map(|&pattern| members[pattern as usize].iter().copied())
        .collect();
    set.sort_unstable();
    set.dedup();
    set
}

fn same_attribute(one: &Atom, other: &Atom) -> bool {
    match (one, other) {
        (Atom::Text(one, _), Atom::Text(other, _))
        | (Atom::Token(one, _), Atom::Token(other, _)) => one == other,
        (Atom::Address(one, _), Atom::Address(other, _)) => one == other,
        (Atom::Port(_), Atom::Port(_)) => true,
        _ => std::ptr::eq(one, other),
    }
}

fn number(atom: &Atom) -> u32 {
    match atom {
        Atom::Text(_, number)
        | Atom::Token(_, number)
        | Atom::Address(_, number)
        | Atom::Port(number)
        | Atom::Question(number) => *number,
        Atom::RequestPrincipal(..) | Atom::NoIdentity => 0,
    }
}
