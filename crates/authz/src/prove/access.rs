//! From paths to functions: true for exactly the requests that get through.
//!
//! In come paths, out comes one function each, over the variables of all dimensions. The stages of a
//! point are those of the evaluator. Invariant: answers that are not ours are variables of their own.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::atoms::{Atom, AtomRule, AtomTokenRule};
use super::boxes::AttributeBox;
use super::diagram::{Diagram, FALSE, Function, TRUE, TooManyNodes};
use super::dimension::{AddressAttribute, Coded, Dimensions, Occurring, TextAttribute};
use super::reading::{CustomAction, Identity, Prepared, Reading, Rules, Stages};
use super::strings::TooManyStates;
use super::world::World;
use crate::path::EnforcementPath;
use crate::unknown::Unknown;

/// The encoded dimensions, in the order of their variables.
fn coded(dimensions: &Dimensions) -> Vec<Coded> {
    let texts = dimensions
        .texts
        .values()
        .map(|dimension| dimension.coded.clone());
    let addresses = dimensions
        .addresses
        .values()
        .map(|dimension| dimension.coded.clone());
    let port = dimensions.port.coded.clone();
    let mut coded: Vec<Coded> = texts.chain(addresses).chain([port]).collect();
    coded.sort_by_key(|coded| (coded.first, coded.classes));
    coded
}

/// Which limit was reached.
pub(crate) enum TooLarge {
    Nodes,
    States(TextAttribute),
}

impl From<TooManyNodes> for TooLarge {
    fn from(_: TooManyNodes) -> Self {
        Self::Nodes
    }
}

/// The functions of one comparison.
pub(crate) struct Builder<'w> {
    pub(crate) diagram: Diagram,
    pub(crate) dimensions: Dimensions,
    text_attributes: Vec<TextAttribute>,
    address_attributes: Vec<AddressAttribute>,
    coded: Vec<Coded>,
    limit: usize,
    excepted: Vec<u32>,
    world: &'w World<'w>,
    paths: Vec<Vec<Arc<Prepared>>>,
    /// By first variable and number of classes (a dimension of one class has no variable of its own,
    /// so the first variable alone does not name it), and the set.
    sets: FxHashMap<(u32, u32, Vec<u32>), Function>,
    rules: Vec<AtomRule>,
    rule_functions: FxHashMap<(u32, Function), Function>,
    any_rules: FxHashMap<(Rules, Function), Function>,
}

impl<'w> Builder<'w> {
    /// Reads the paths and cuts the attributes into classes.
    pub(crate) fn new(
        paths: &[&EnforcementPath],
        http: bool,
        world: &'w World<'w>,
        nodes: usize,
        states: usize,
    ) -> Result<Self, TooLarge> {
        let mut occurring = Occurring::default();
        let mut reading = Reading {
            occurring: &mut occurring,
            http,
            known: Vec::new(),
        };
        let prepared = paths.iter().map(|path| reading.path(path)).collect();
        let excepted = world.excepted();
        let identities = occurring.texts.entry(TextAttribute::Identity).or_default();
        let excepted = excepted
            .iter()
            .map(|pattern| identities.number(pattern))
            .collect();
        let rules = std::mem::take(&mut occurring.rules.all);
        let text_attributes = std::mem::take(&mut occurring.text_attributes.all);
        let address_attributes = std::mem::take(&mut occurring.address_attributes.all);
        let dimensions = Dimensions::new(occurring, world, states)
            .map_err(|(attribute, TooManyStates)| TooLarge::States(attribute))?;
        Ok(Self {
            diagram: Diagram::new(nodes),
            coded: coded(&dimensions),
            text_attributes,
            address_attributes,
            limit: nodes,
            dimensions,
            excepted,
            world,
            paths: prepared,
            sets: FxHashMap::default(),
            rules,
            rule_functions: FxHashMap::default(),
            any_rules: FxHashMap::default(),
        })
    }

    /// The requests that get through a path.
    pub(crate) fn accepted(&mut self, path: usize) -> Result<Function, TooManyNodes> {
        let mut accepted = TRUE;
        let mut token = self.diagram.variable(self.dimensions.token)?;
        for point in self.paths[path].clone() {
            let passes = match point.as_ref() {
                Prepared::Refuses => FALSE,
                Prepared::Opaque(question) => self.question(*question)?,
                Prepared::Network(entries) => self.any_rule(entries, FALSE)?,
                Prepared::Chain(stages) => {
                    let (passes, passed_on) = self.chain(stages, token)?;
                    token = passed_on;
                    passes
                }
            };
            accepted = self.diagram.and(accepted, passes)?;
            if accepted == FALSE {
                break;
            }
        }
        Ok(accepted)
    }

    /// What gets through a point, and which requests still carry their token behind it.
    fn chain(
        &mut self,
        stages: &Stages,
        token: Function,
    ) -> Result<(Function, Function), TooManyNodes> {
        let mut passes = match stages.identity {
            Identity::NotRequired => TRUE,
            Identity::Missing => return Ok((FALSE, token)),
            Identity::Callers => {
                let nobody = self.no_identity()?;
                self.diagram.not(nobody)?
            }
        };
        for (rules, action) in &stages.custom {
            let matched = self.any_rule(rules, FALSE)?;
            let refused = match action {
                CustomAction::Refuse => matched,
                CustomAction::Ask(question) => {
                    let accepts = self.question(*question)?;
                    self.diagram.and_not(matched, accepts)?
                }
            };
            passes = self.diagram.and_not(passes, refused)?;
        }
        let (validated, refused, passed_on) = self.tokens(&stages.tokens, token)?;
        passes = self.diagram.and_not(passes, refused)?;
        let denied = self.any_rule(&stages.deny, validated)?;
        passes = self.diagram.and_not(passes, denied)?;
        if let Some(allow) = &stages.allow {
            let allowed = self.any_rule(allow, validated)?;
            passes = self.diagram.and(passes, allowed)?;
        }
        Ok((passes, passed_on))
    }

    /// Requests whose token is validated here, whose token is refused here, and whose token is still
    /// there behind this point.
    fn tokens(
        &mut self,
        rules: &[AtomTokenRule],
        token: Function,
    ) -> Result<(Function, Function, Function), TooManyNodes> {
        if rules.is_empty() {
            return Ok((FALSE, FALSE, token));
        }
        let mut validated = FALSE;
        let mut stripped = FALSE;
        for rule in rules {
            let mut passes = self.text(&TextAttribute::Issuer, &[rule.issuer])?;
            let fails = self.dimensions.fails[rule.validation as usize].0;
            let fails = self.diagram.variable(fails)?;
            passes = self.diagram.and_not(passes, fails)?;
            if !rule.audiences.is_empty() {
                let audience = self.claim(&["aud".to_owned()], &rule.audiences)?;
                passes = self.diagram.and(passes, audience)?;
            }
            passes = self.diagram.and(passes, token)?;
            let first = self.diagram.and_not(passes, validated)?;
            validated = self.diagram.or(validated, first)?;
            if !rule.forward {
                stripped = self.diagram.or(stripped, first)?;
            }
        }
        let refused = self.diagram.and_not(token, validated)?;
        let passed_on = self.diagram.and_not(token, stripped)?;
        Ok((validated, refused, passed_on))
    }

    fn any_rule(&mut self, rules: &Rules, validated: Function) -> Result<Function, TooManyNodes> {
        if let Some(&known) = self.any_rules.get(&(rules.clone(), validated)) {
            return Ok(known);
        }
        let mut functions = Vec::new();
        let mut boxes = Vec::new();
        for &number in rules {
            if let Some(more) = self.boxes(&self.rules[number as usize]) {
                boxes.extend(more);
                continue;
            }
            let key = (number, validated);
            let function = match self.rule_functions.get(&key) {
                Some(&known) => known,
                None => {
                    let rule = AtomRule::clone(&self.rules[number as usize]);
                    let function = self.rule(&rule, validated)?;
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

    /// The rule as boxes, if it is that simple: few combinations of entries, and every test about one
    /// attribute that the request always shows.
    fn boxes(&self, rule: &AtomRule) -> Option<Vec<AttributeBox>> {
        let combinations: usize = rule.iter().map(Vec::len).product();
        if combinations > 16 {
            return None;
        }
        let mut boxes: Vec<AttributeBox> = vec![Vec::new()];
        for clause in rule.iter() {
            let mut combined = Vec::new();
            for entry in clause {
                'boxes: for one in &boxes {
                    let mut one = one.clone();
                    for (negated, atoms) in entry {
                        let (dimension, mut classes) = self.classes(atoms)?;
                        if *negated {
                            let all = 0..self.coded[dimension].classes;
                            classes = all
                                .filter(|class| classes.binary_search(class).is_err())
                                .collect();
                        }
                        match one.binary_search_by_key(&dimension, |(known, _)| *known) {
                            Ok(at) => one[at]
                                .1
                                .retain(|class| classes.binary_search(class).is_ok()),
                            Err(at) => one.insert(at, (dimension, classes)),
                        }
                        if one.iter().any(|(_, classes)| classes.is_empty()) {
                            continue 'boxes;
                        }
                    }
                    combined.push(one);
                }
            }
            boxes = combined;
        }
        Some(boxes)
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

    fn rule(&mut self, rule: &AtomRule, validated: Function) -> Result<Function, TooManyNodes> {
        let mut all = TRUE;
        for clause in rule.iter() {
            let mut any = FALSE;
            for entry in clause {
                let mut tests = TRUE;
                for (negated, atoms) in entry {
                    let mut matched = self.atoms(atoms, validated)?;
                    if *negated {
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

    fn question(&mut self, question: u32) -> Result<Function, TooManyNodes> {
        let variable = self.dimensions.questions[question as usize].0;
        self.diagram.variable(variable)
    }

    fn no_identity(&mut self) -> Result<Function, TooManyNodes> {
        let coded = self.dimensions.texts[&TextAttribute::Identity]
            .coded
            .clone();
        match coded.absent {
            Some(class) => self.set(&coded, vec![class]),
            None => Ok(FALSE),
        }
    }

    fn text(
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
    fn claim(&mut self, path: &[String], patterns: &[u32]) -> Result<Function, TooManyNodes> {
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

    /// The encoded dimensions.
    pub(crate) fn coded(&self) -> Vec<Coded> {
        let dimensions = &self.dimensions;
        let texts = dimensions
            .texts
            .values()
            .map(|dimension| dimension.coded.clone());
        let addresses = dimensions
            .addresses
            .values()
            .map(|dimension| dimension.coded.clone());
        let port = dimensions.port.coded.clone();
        texts.chain(addresses).chain([port]).collect()
    }

    /// The number is that of a class.
    pub(crate) fn numbered(&mut self, coded: &Coded) -> Result<Function, TooManyNodes> {
        let mut below = TRUE;
        // `number < classes`, that is `number <= last`, from the least significant bit up.
        let last = coded.classes.saturating_sub(1);
        for bit in (0..coded.bits).rev() {
            let variable = coded.first + bit;
            let set = last >> (coded.bits - 1 - bit) & 1 == 1;
            below = if set {
                self.diagram.choose(variable, TRUE, below)?
            } else {
                self.diagram.choose(variable, below, FALSE)?
            };
        }
        Ok(if coded.classes == 0 { FALSE } else { below })
    }

    /// Requests of callers that are said not to be meant.
    pub(crate) fn excepted(&mut self) -> Result<Function, TooManyNodes> {
        let excepted = self.excepted.clone();
        self.text(&TextAttribute::Identity, &excepted)
    }

    /// Without a token there is no issuer, no subject, no claim, and nothing that fails.
    pub(crate) fn token_only(&mut self) -> Result<Function, TooManyNodes> {
        let mut nothing = TRUE;
        for attribute in [TextAttribute::Issuer, TextAttribute::Subject] {
            let coded = self.dimensions.texts[&attribute].coded.clone();
            let absent = coded.absent.into_iter().collect();
            let absent = self.set(&coded, absent)?;
            nothing = self.diagram.and(nothing, absent)?;
        }
        let claims = self.dimensions.claims.values();
        let claims = claims.flat_map(|claim| (claim.first..).take(claim.examples.len()));
        let fails = self.dimensions.fails.iter().map(|(variable, _)| *variable);
        let variables: Vec<u32> = claims.chain(fails).collect();
        for variable in variables.into_iter().rev() {
            let set = self.diagram.variable(variable)?;
            nothing = self.diagram.and_not(nothing, set)?;
        }
        let token = self.diagram.variable(self.dimensions.token)?;
        self.diagram.or(token, nothing)
    }

    /// A claim that has values has no claims below it.
    pub(crate) fn nested_claims(&mut self) -> Result<Function, TooManyNodes> {
        let all: Vec<(Vec<String>, Vec<u32>)> = self
            .dimensions
            .claims
            .iter()
            .map(|(path, claim)| (path.clone(), (0..claim.members.len() as u32).collect()))
            .collect();
        let mut law = TRUE;
        for (above, _) in &all {
            for (below, _) in &all {
                if below.len() > above.len() && below.starts_with(above) {
                    let one = self.has_values(above)?;
                    let other = self.has_values(below)?;
                    let both = self.diagram.and(one, other)?;
                    law = self.diagram.and_not(law, both)?;
                }
            }
        }
        Ok(law)
    }

    fn has_values(&mut self, path: &[String]) -> Result<Function, TooManyNodes> {
        let dimension = &self.dimensions.claims[path];
        let mut functions = Vec::new();
        for variable in (dimension.first..).take(dimension.examples.len()) {
            functions.push(self.diagram.variable(variable)?);
        }
        self.diagram.any(functions)
    }

    /// Variables of answers that external authorizers give.
    pub(crate) fn authorizers(&self) -> Vec<u32> {
        self.questions(|question| matches!(question, Unknown::Authorizer { .. }))
    }

    /// Variables of the other answers that are not ours.
    pub(crate) fn unmodelled(&self) -> Vec<u32> {
        self.questions(|question| !matches!(question, Unknown::Authorizer { .. }))
    }

    fn questions(&self, which: impl Fn(&Unknown) -> bool) -> Vec<u32> {
        let questions = self.dimensions.questions.iter();
        let questions = questions.filter(|(_, question)| which(question));
        questions.map(|(variable, _)| *variable).collect()
    }

    /// Variables of addresses that nobody knows, by the name of the choice.
    pub(crate) fn unknown_addresses(&self) -> Vec<(String, std::ops::Range<u32>)> {
        let addresses = self.dimensions.addresses.iter();
        let unknown = addresses.filter(|(_, dimension)| dimension.unknown);
        unknown
            .filter_map(|(attribute, dimension)| match attribute {
                AddressAttribute::Of(owner, _) => {
                    let coded = &dimension.coded;
                    Some((owner.clone(), coded.first..coded.first + coded.bits))
                }
                _ => None,
            })
            .collect()
    }

    /// Which requests exist.
    pub(crate) fn law(&mut self) -> Result<Function, TooManyNodes> {
        if self.world.is_empty() {
            return Ok(FALSE);
        }
        super::world::law(self)
    }
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
