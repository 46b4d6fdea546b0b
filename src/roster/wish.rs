//! What somebody asks of a pool: how much of a connection, and how long they wait for it.

use std::time::{Duration, Instant};

use crate::clock::now;
use crate::proto::ledger::Share;

/// What a call asks of the switchboard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish<'a> {
    pub(crate) share: Share,
    pub(crate) bytes: usize,
    pub(crate) patience: Patience,
    /// Slots that have just refused this call, or had no room for its bytes.
    pub(crate) avoid: &'a [usize],
}

/// Whether a call waits while nothing is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Wait,
    FailFast,
}

/// How long a place is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// As long as it takes.
    Placed,
    /// So long from when the wait begins. Where there is none, nobody looks at the clock.
    After(Duration),
    At(Instant),
}

impl Until {
    /// From now on it is fixed.
    pub(crate) fn begin(&mut self) -> Option<Instant> {
        if let Self::After(limit) = *self {
            *self = Self::At(now() + limit);
        }
        match *self {
            Self::At(until) => Some(until),
            Self::Placed | Self::After(_) => None,
        }
    }
}
