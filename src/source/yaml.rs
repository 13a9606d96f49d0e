//! YAML text to typed values, read as `kubectl` reads it.
//!
//! In: one piece of text. Out: trees that borrow from it ([`tree`]), which serde types are built
//! from ([`deserialize`]); plain scalars mean what Go's YAML library makes of them ([`scalar`]).
//! Invariant: nesting, aliases and keys are bounded, so no input can exhaust memory or stack.

pub(crate) mod deserialize;
pub(crate) mod load;
pub mod scalar;
pub(crate) mod tree;

/// One YAML (or JSON) document inside another text: the mesh configuration in a ConfigMap.
///
/// # Errors
/// What is wrong, with line and column inside the text.
pub fn parse_value(text: &str) -> Result<serde_json::Value, String> {
    use serde::Deserialize;
    let loaded = load::load(text).map_err(|error| {
        format!(
            "line {}, column {}: {}",
            error.place.line, error.place.column, error.message
        )
    })?;
    match loaded.roots.first() {
        Some(root) => serde_json::Value::deserialize(root).map_err(|error| error.to_string()),
        None => Ok(serde_json::Value::Null),
    }
}
