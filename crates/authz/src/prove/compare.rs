//! The question itself, asked of the functions.
//!
//! In comes a comparison, out comes a verdict. Invariant: *never* is answered only if the function of
//! all differences is nowhere true; a witness leaves only after the evaluator confirmed it.

use super::access::{Builder, TooLarge};
use super::diagram::{FALSE, Function, TRUE, TooManyNodes};
use super::witness::{Side, region, request_of, witness};
use super::world::World;
use crate::path::{Address, EnforcementPath};
use crate::unknown::Unknown;
use crate::verdict::{Comparison, Finding, Limits, Proved, Undecided, UndecidedReason, Verdict};

/// Compares the access of one caller to one server in two states.
///
/// Exact for everything but what [`Unknown`] names; bounded by `limits`.
#[must_use]
pub fn compare(comparison: &Comparison, limits: Limits) -> Verdict {
    // An address that is neither in use nor dialled now counts for nothing.
    let baseline: Vec<&EnforcementPath> = comparison
        .baseline
        .iter()
        .filter(|before| {
            let mut now = comparison.present.iter();
            before.in_use || now.any(|now| now.address == before.address)
        })
        .collect();
    let same_paths = |one: &EnforcementPath, other: &EnforcementPath| {
        one.address == other.address && one.points == other.points && one.settings == other.settings
    };
    // Nothing has to be computed where nothing changed.
    let opens_never = comparison
        .present
        .iter()
        .all(|now| baseline.iter().any(|before| same_paths(before, now)));
    let mut in_use = baseline.iter().filter(|before| before.in_use);
    let breaks_never = in_use.all(|before| {
        let mut now = comparison
            .present
            .iter()
            .filter(|now| now.address == before.address);
        let first = now.next();
        first.is_some_and(|first| same_paths(before, first))
            && now.all(|now| same_paths(before, now))
    });
    if opens_never && breaks_never {
        return Verdict {
            opens: Finding::Never,
            breaks: Finding::Never,
        };
    }
    let world = World::of(comparison);
    match Comparing::new(comparison, &baseline, &world, limits) {
        Ok(mut comparing) => Verdict {
            opens: comparing.opens().unwrap_or_else(too_large),
            breaks: comparing.breaks().unwrap_or_else(too_large),
        },
        Err(limit) => {
            let finding = too_large(limit);
            Verdict {
                opens: finding.clone(),
                breaks: finding,
            }
        }
    }
}

fn too_large(limit: TooLarge) -> Finding {
    let limit = match limit {
        TooLarge::Nodes => "nodes of the decision diagram".to_owned(),
        TooLarge::States(attribute) => {
            format!("kinds of strings of {}", super::witness::told(&attribute))
        }
    };
    Finding::Undecided(Undecided {
        reason: UndecidedReason::TooLarge { limit },
        proved: Proved::Nothing,
    })
}

struct Comparing<'a, 'w> {
    comparison: &'a Comparison,
    /// The paths of the baseline that are in use or whose address is dialled now.
    baseline: &'a [&'a EnforcementPath],
    builder: Builder<'w>,
    law: Function,
    /// Accepted by each path of `baseline`, and by each of the present.
    before: Vec<Function>,
    after: Vec<Function>,
}

impl<'a, 'w> Comparing<'a, 'w> {
    fn new(
        comparison: &'a Comparison,
        baseline: &'a [&'a EnforcementPath],
        world: &'w World<'w>,
        limits: Limits,
    ) -> Result<Self, TooLarge> {
        let paths: Vec<&EnforcementPath> = baseline
            .iter()
            .copied()
            .chain(&comparison.present)
            .collect();
        let mut builder =
            Builder::new(&paths, comparison.http, world, limits.nodes, limits.states)?;
        let law = builder.law()?;
        let mut before = Vec::new();
        for path in 0..baseline.len() {
            before.push(builder.accepted(path)?);
        }
        let mut after = Vec::new();
        for path in baseline.len()..paths.len() {
            after.push(builder.accepted(path)?);
        }
        Ok(Self {
            comparison,
            baseline,
            builder,
            law,
            before,
            after,
        })
    }

    /// Accepted now by some address, and in the baseline neither there nor by any in use.
    fn opens(&mut self) -> Result<Finding, TooLarge> {
        let before = self.accepted_before(|path| path.in_use)?;
        let mut addresses = Vec::new();
        let mut all = FALSE;
        let comparison = self.comparison;
        for (path, accepted) in comparison.present.iter().zip(self.after.clone()) {
            let here = self.accepted_before(|before| before.address == path.address)?;
            let diagram = &mut self.builder.diagram;
            let gained = diagram.and_not(accepted, before)?;
            let gained = diagram.and_not(gained, here)?;
            let gained = diagram.and(gained, self.law)?;
            all = diagram.or(all, gained)?;
            addresses.push((path.address.clone(), gained));
        }
        self.finding(Side::Opens, all, &addresses)
    }

    /// Accepted by any of these paths of the baseline.
    fn accepted_before(
        &mut self,
        which: impl Fn(&EnforcementPath) -> bool,
    ) -> Result<Function, TooManyNodes> {
        let before = self.baseline.iter().zip(&self.before);
        let before = before.filter(|(path, _)| which(path));
        let accepted = before.map(|(_, &accepted)| accepted).collect();
        self.builder.diagram.any(accepted)
    }

    /// An address in use accepted it in the baseline; now it is gone, or some path of it refuses.
    fn breaks(&mut self) -> Result<Finding, TooLarge> {
        let in_use = self.baseline.iter().filter(|path| path.in_use);
        let mut addresses: Vec<Address> = in_use.map(|path| path.address.clone()).collect();
        addresses.sort();
        addresses.dedup();
        let mut differences = Vec::new();
        for address in addresses {
            let here = |path: &EnforcementPath| path.address == address;
            let before = self.accepted_before(|path| path.in_use && here(path))?;
            let now: Vec<Function> = self
                .comparison
                .present
                .iter()
                .zip(&self.after)
                .filter(|(path, _)| here(path))
                .map(|(_, &accepted)| accepted)
                .collect();
            let mut after = if now.is_empty() { FALSE } else { TRUE };
            for accepted in now {
                after = self.builder.diagram.and(after, accepted)?;
            }
            let difference = self.builder.diagram.and_not(before, after)?;
            let difference = self.builder.diagram.and(difference, self.law)?;
            differences.push((address, difference));
        }
        let mut all = FALSE;
        for (address, difference) in &differences {
            let finding = self.finding(Side::Breaks, *difference, &[(address.clone(), TRUE)])?;
            if matches!(finding, Finding::Witness(_) | Finding::Bug(_)) {
                return Ok(finding);
            }
            all = self.builder.diagram.or(all, *difference)?;
        }
        self.finding(Side::Breaks, all, &differences)
    }

    /// `addresses`: where the difference can show, each with the requests for which it does.
    fn finding(
        &mut self,
        side: Side,
        difference: Function,
        addresses: &[(Address, Function)],
    ) -> Result<Finding, TooLarge> {
        if difference == FALSE {
            return Ok(Finding::Never);
        }
        // A difference is certain if it is there whatever the unmodelled parts answer and whichever
        // the unknown addresses are, given that the authorizers accept.
        let authorizers = self.builder.authorizers();
        let unmodelled = self.builder.unmodelled();
        let unknown = self.builder.unknown_addresses();
        let open = |variable: u32| {
            unmodelled.binary_search(&variable).is_ok()
                || unknown.iter().any(|(_, range)| range.contains(&variable))
        };
        let authorizer = |variable: u32| authorizers.binary_search(&variable).is_ok();
        let accepted = self
            .builder
            .diagram
            .fix(difference, &|variable| authorizer(variable).then_some(true))?;
        // Numbers of unknown addresses that are no class do not count.
        let mut lawless = FALSE;
        for coded in self.builder.coded() {
            if unknown
                .iter()
                .any(|(_, range)| range.contains(&coded.first))
            {
                let numbered = self.builder.numbered(&coded)?;
                let not = self.builder.diagram.not(numbered)?;
                lawless = self.builder.diagram.or(lawless, not)?;
            }
        }
        let accepted = self.builder.diagram.or(accepted, lawless)?;
        let certain = self.builder.diagram.for_all(accepted, &open)?;
        let certain = self.builder.diagram.and(certain, self.law)?;
        if certain != FALSE {
            // Where it shows, too, is asked under the assumption that the authorizers accept.
            let (mut if_accepted, mut alone) = (Vec::new(), Vec::new());
            let mut alone_somewhere = false;
            for (address, here) in addresses {
                let fixed = |variable: u32| authorizer(variable).then_some(true);
                let here = self.builder.diagram.fix(*here, &fixed)?;
                if_accepted.push((address.clone(), here));
                // An address at which it hangs on what is not modelled shows it no better than another.
                let here = self.builder.diagram.for_all(here, &open)?;
                alone_somewhere |= self.builder.diagram.and(certain, here)? != FALSE;
                alone.push((address.clone(), here));
            }
            let places = if alone_somewhere { alone } else { if_accepted };
            let (address, certain) = self.place(certain, &places)?;
            return Ok(witness(
                &self.builder,
                self.comparison,
                side,
                certain,
                &address,
            ));
        }
        let any = |variable: u32| authorizer(variable) || open(variable);
        let region_function = self.builder.diagram.exists(difference, &any)?;
        let region_function = self.builder.diagram.and(region_function, self.law)?;
        let (address, example) = self.place(difference, addresses)?;
        let example = Box::new(request_of(
            &self.builder,
            self.comparison,
            example,
            &address,
        ));
        let support = self.builder.diagram.support(difference);
        let questions = self.builder.dimensions.questions.iter();
        let questions = questions.filter(|(variable, _)| support.binary_search(variable).is_ok());
        let mut questions: Vec<Unknown> = questions.map(|(_, question)| question.clone()).collect();
        questions.sort();
        let reason = if questions.is_empty() {
            let hangs = |range: &std::ops::Range<u32>| {
                support.iter().any(|variable| range.contains(variable))
            };
            let owners = unknown.iter().filter(|(_, range)| hangs(range));
            UndecidedReason::AddressesNotKnown {
                owners: owners.map(|(owner, _)| owner.clone()).collect(),
                example,
                address,
            }
        } else {
            UndecidedReason::Unknown {
                questions,
                example,
                address,
            }
        };
        let proved = region(&mut self.builder, region_function, addresses)?;
        Ok(Finding::Undecided(Undecided { reason, proved }))
    }

    /// The first address at which the difference shows, and the difference there.
    fn place(
        &mut self,
        difference: Function,
        addresses: &[(Address, Function)],
    ) -> Result<(Address, Function), TooManyNodes> {
        for (address, here) in addresses {
            let there = self.builder.diagram.and(difference, *here)?;
            if there != FALSE {
                return Ok((address.clone(), there));
            }
        }
        let first = addresses.first().map(|(address, _)| address.clone());
        Ok((
            first.expect("a difference shows at some address"),
            difference,
        ))
    }
}
