//! Classes that were cut before in this thread: policies meet again in the next comparison.
//!
//! In and out: as [`strings::classes`]. Invariant: an answer is given again only for equal patterns,
//! universe, preference and limit; what is kept is bounded.

use std::cell::RefCell;
use std::hash::BuildHasher;

use rustc_hash::{FxBuildHasher, FxHashMap};

use super::strings::{self, Classes, TooManyStates, Universe};
use crate::text::Text;

/// Answers that are kept; all are forgotten when there are more.
const MOST: usize = 4096;

struct Known {
    patterns: Vec<Text<'static>>,
    universe: Universe,
    preferred: Vec<String>,
    limit: usize,
    found: Result<Classes, TooManyStates>,
}

thread_local! {
    static KNOWN: RefCell<FxHashMap<u64, Known>> = RefCell::default();
}

/// See [`strings::classes`].
pub(crate) fn classes(
    patterns: &[Text<'_>],
    universe: &Universe,
    preferred: &[String],
    limit: usize,
) -> Result<Classes, TooManyStates> {
    let cut = || strings::classes(patterns, universe, preferred, limit);
    if patterns.is_empty() || matches!(universe, Universe::Only(_)) {
        return cut();
    }
    let hash = FxBuildHasher.hash_one((patterns, universe, preferred, limit));
    KNOWN.with_borrow_mut(|all| {
        if let Some(known) = all.get(&hash)
            && known.patterns == patterns
            && known.universe == *universe
            && known.preferred == preferred
            && known.limit == limit
        {
            return known.found.clone();
        }
        let found = cut();
        if all.len() >= MOST {
            all.clear();
        }
        let known = Known {
            patterns: patterns.iter().map(Text::detached).collect(),
            universe: universe.clone(),
            preferred: preferred.to_vec(),
            limit,
            found: found.clone(),
        };
        all.insert(hash, known);
        found
    })
}
