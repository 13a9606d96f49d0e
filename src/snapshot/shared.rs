//! Shares memory between equal lists that are read one after the other.
//!
//! Invariant: bounded. Each list has one place in a table of fixed size, so at most that many lists
//! outlive what they were read for, and a later one drives an earlier one out.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use rustc_hash::FxBuildHasher;

const PLACES: usize = 512;

/// The lists read last, each at the place that its hash names.
pub(crate) struct Recent<T: ?Sized>(RefCell<Vec<Option<Arc<T>>>>);

impl<T> Recent<[T]>
where
    T: Hash + Eq,
{
    pub(crate) fn new() -> Self {
        Self(RefCell::new(vec![None; PLACES]))
    }

    /// The list itself, or an equal one read before.
    pub(crate) fn share(&self, list: Vec<T>) -> Arc<[T]> {
        let hash = FxBuildHasher.hash_one(&list);
        let mut places = self.0.borrow_mut();
        let place = &mut places[(hash >> 32) as usize % PLACES];
        if let Some(known) = place
            && **known == *list
        {
            return Arc::clone(known);
        }
        let shared: Arc<[T]> = Arc::from(list);
        *place = Some(Arc::clone(&shared));
        shared
    }
}
