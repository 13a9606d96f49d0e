//! YAML text to typed values, read as `kubectl` reads it.
//!
//! In: one piece of text. Out: trees that borrow from it ([`tree`]), which serde types are built
//! from ([`deserialize`]); plain scalars mean what Go's YAML library makes of them ([`scalar`]).
//! Invariant: nesting, aliases and keys are bounded, so no input can exhaust memory or stack.

pub(crate) mod deserialize;
pub(crate) mod load;
pub mod scalar;
pub(crate) mod tree;
