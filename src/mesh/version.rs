//! Istio versions as image tags give them.

use std::fmt;

/// An Istio release: `1.25.2`. Suffixes (`-distroless`, `-solo`, `-rc.0`) are kept apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1.
    pub major: u32,
    /// 25.
    pub minor: u32,
    /// 2.
    pub patch: u32,
    /// What followed the numbers, without the leading dash; empty when nothing did.
    pub suffix: String,
}

impl Version {
    /// Whether this is at least release `major.minor`, any patch.
    pub fn at_least(&self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }
}

impl fmt::Display for Version {
    /// `1.25.2`, without the suffix.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}
