//! From paths to functions: true for exactly the requests that get through.
//!
//! In come paths, out comes one function each, over the variables of all dimensions. The stages of a
//! point are those of the evaluator. Invariant: answers that are not ours are variables of their own.

use std::rc::Rc;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::diagram::{Diagram, FALSE, Function, TRUE, TooManyNodes};
use super::dimension::{AddressAttribute, Coded, Dimensions, Occurring, Parts, TextAttribute};
use super::reading::{CustomAction, Identity, Prepared, Reading, Rules, Stages};
use super::rules::Looked;
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
    pub(super) text_attributes: Vec<TextAttribute>,
    pub(super) address_attributes: Vec<AddressAttribute>,
    pub(super) coded: Vec<Coded>,
    pub(super) limit: usize,
    excepted: Vec<u32>,
    world: &'w World<'w>,
    paths: Vec<Vec<Arc<Prepared>>>,
    /// By first variable and number of classes (a dimension of one class has no variable of its own,
    /// so the first variable alone does not name it), and the set.
    pub(super) sets: FxHashMap<(u32, u32, Vec<u32>), Function>,
    pub(super) parts: Rc<Parts>,
    pub(super) looked: Looked,
    pub(super) rule_functions: FxHashMap<(u32, Function), Function>,
    pub(super) any_rules: FxHashMap<(Rules, Function), Function>,
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
        let excepted = excepted
            .iter()
            .map(|pattern| occurring.text(&TextAttribute::Identity, pattern).1)
            .collect();
        let parts = Rc::new(std::mem::take(&mut occurring.parts));
        let text_attributes = occurring.text_attributes.all.clone();
        let address_attributes = occurring.address_attributes.all.clone();
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
            parts,
            looked: Looked::default(),
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
        let (validated, refused, passed_on) = self.tokens(stages, token)?;
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
        stages: &Stages,
        token: Function,
    ) -> Result<(Function, Function, Function), TooManyNodes> {
        if stages.tokens.is_empty() {
            return Ok((FALSE, FALSE, token));
        }
        let carried = token;
        let mut token = token;
        if let Some(preflight) = stages.preflight {
            let preflight = self.any_rule(&vec![preflight], FALSE)?;
            token = self.diagram.and_not(token, preflight)?;
        }
        let mut validated = FALSE;
        let mut stripped = FALSE;
        for rule in &stages.tokens {
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
        let passed_on = self.diagram.and_not(carried, stripped)?;
        Ok((validated, refused, passed_on))
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
