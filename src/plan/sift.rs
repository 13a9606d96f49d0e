//! What of a wave can be done without a gap, where all of it cannot.
//!
//! In: the field, what a phase recommends, and which gaps count. Out: the wave of everything that
//! opens and breaks nothing, the field after it, and what was left out with its witness. Invariant:
//! nothing is left out whose wave, with all that was kept before it, was not proved to have a gap.

use std::collections::BTreeSet;

use super::field::Field;
use super::prepare::{self, Part};
use super::wave::{Gap, LeftOut, Wave};
use crate::finding::PhaseResult;

/// What became of a wave.
pub(super) struct Sifted<'a> {
    /// The wave with its one state, and the field after it; `None` when nothing is left of it.
    pub(super) kept: Option<(Wave, Field<'a>)>,
    /// What was left out.
    pub(super) left_out: Vec<LeftOut>,
}

/// Tries the wave of a phase as a whole, then in halves. `refused` are parts that are left out
/// already, and grows; `gap` is the first gap of a wave that may not be.
///
/// # Errors
/// The first command that cannot be carried out, with the reason.
pub(super) fn sift<'a>(
    field: &Field<'a>,
    result: &PhaseResult,
    refused: &mut BTreeSet<Part>,
    gap: &dyn Fn(&Wave) -> Option<Gap>,
) -> Result<Sifted<'a>, String> {
    let parts: Vec<Part> = prepare::parts(result)
        .into_iter()
        .filter(|part| !refused.contains(part))
        .collect();
    let mut sieve = Sieve {
        field,
        result,
        gap,
        refused,
        untried: BTreeSet::new(),
        kept: None,
        left_out: Vec::new(),
    };
    sieve.try_these(&parts)?;
    Ok(Sifted {
        kept: sieve.kept,
        left_out: sieve.left_out,
    })
}

struct Sieve<'s, 'a> {
    field: &'s Field<'a>,
    result: &'s PhaseResult,
    gap: &'s dyn Fn(&Wave) -> Option<Gap>,
    refused: &'s mut BTreeSet<Part>,
    untried: BTreeSet<Part>,
    /// The last that had no gap: what came after it was refused.
    kept: Option<(Wave, Field<'a>)>,
    left_out: Vec<LeftOut>,
}

impl<'a> Sieve<'_, 'a> {
    /// Tries these besides all that was kept; they come in the order in which they are applied.
    fn try_these(&mut self, parts: &[Part]) -> Result<(), String> {
        for part in parts {
            self.untried.remove(part);
        }
        let attempt = self.attempt()?;
        let gap = attempt.as_ref().and_then(|(wave, _)| (self.gap)(wave));
        let Some(gap) = gap else {
            self.kept = attempt;
            return Ok(());
        };
        if let [part] = parts {
            self.refused.insert(part.clone());
            self.left_out.push(LeftOut {
                what: part.to_string(),
                why: format!("it {} {}", gap.direction, gap.server),
                lines: gap.lines,
            });
            return Ok(());
        }
        let (first, second) = parts.split_at(parts.len() / 2);
        self.untried.extend(second.iter().cloned());
        self.try_these(first)?;
        self.try_these(second)
    }

    /// The wave of everything that is neither refused nor untried.
    fn attempt(&self) -> Result<Option<(Wave, Field<'a>)>, String> {
        let without = self.refused.union(&self.untried).cloned().collect();
        let Some(mut wave) = prepare::wave(self.field, self.result, &without) else {
            return Ok(None);
        };
        let mut field = self.field.clone();
        field.advance(&wave.steps, &wave.manifests)?;
        let when = format!("after this wave: {}", lower(&wave.title));
        wave.states.push(field.at_rest(when));
        Ok(Some((wave, field)))
    }
}

fn lower(title: &str) -> String {
    let mut characters = title.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::new(),
    }
}
