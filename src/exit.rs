//! The exit codes, the same for every output format.
//!
//! In: what a run found. Out: one code. Invariant: of several that apply, the gravest is chosen,
//! in the order 1, 3, 4, 2, 0.

/// How a run of castoff ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// 0: everything was checked and nothing is left to do.
    Nothing,
    /// 1: castoff could not do its work: nothing could be read, or a file could not be written.
    CouldNotRun,
    /// 2: recommendations remain.
    Recommendations,
    /// 3: a check failed, or a proof found a difference.
    Failed,
    /// 4: nothing failed, but something could not be read, checked or proved.
    Undecided,
    /// 64: wrong usage.
    Usage,
    /// 65: the files given hold nothing usable.
    UnusableInput,
}

impl Exit {
    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::CouldNotRun => 1,
            Self::Recommendations => 2,
            Self::Failed => 3,
            Self::Undecided => 4,
            Self::Usage => 64,
            Self::UnusableInput => 65,
        }
    }

    /// The graver of two.
    pub fn or(self, other: Self) -> Self {
        if self.gravity() >= other.gravity() {
            self
        } else {
            other
        }
    }

    fn gravity(self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Recommendations => 1,
            Self::Undecided => 2,
            Self::Failed => 3,
            Self::CouldNotRun => 4,
            Self::UnusableInput => 5,
            Self::Usage => 6,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_code_wins_in_either_order() {
        let by_gravity = [
            Exit::Nothing,
            Exit::Recommendations,
            Exit::Undecided,
            Exit::Failed,
            Exit::CouldNotRun,
        ];
        let codes: Vec<u8> = by_gravity.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, [0, 2, 4, 3, 1]);
        for (less, left) in by_gravity.iter().enumerate() {
            for right in &by_gravity[less..] {
                assert_eq!(left.or(*right), *right);
                assert_eq!(right.or(*left), *right);
            }
        }
    }
}
