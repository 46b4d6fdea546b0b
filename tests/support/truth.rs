//! What is true: how often a call may have run of which its caller was told something.

use steadfast::{CallError, Outcome};

/// What a caller knows of its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Told {
    /// It was answered, if only with an error.
    Ran,
    NotRun,
    /// Who goes away without having been told knows no more either.
    Unknown,
}

impl Told {
    pub(crate) fn of<T>(result: &Result<T, CallError>) -> Self {
        result.as_ref().map_or_else(|error| Self::by(error.outcome()), |_| Self::Ran)
    }

    pub(crate) fn by(outcome: Outcome) -> Self {
        match outcome {
            Outcome::NotSent | Outcome::Refused => Self::NotRun,
            Outcome::Indeterminate => Self::Unknown,
            Outcome::Remote => Self::Ran,
        }
    }

    /// Whether it is true of a call that ran so often, and was to run so often at the most.
    pub(crate) fn is_true(self, runs: u32, most: u32) -> bool {
        match self {
            Self::Ran => (1..=most).contains(&runs),
            Self::NotRun => runs == 0,
            Self::Unknown => runs <= most,
        }
    }
}
