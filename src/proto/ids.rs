//! The names of the calls on one foreign connection, and the ids by which the server knows them.
//!
//! ```text
//!   names   0  1  2  3  4  5  6 …     each is given once
//!   ids     0  1  2  0  1  2  0 …     where there are three; each comes round, and is used again when its answer has come
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::config::ConfigError;
use crate::proto::dialect::Matching;
use crate::range::number;

/// So many answers may be missing for good before the connection is given up, if there are ids enough.
const MISSING: u64 = 4096;

/// What a call, a notification or a lease's frame is called on this side. No other of its connection ever has the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Name(pub(crate) u64);

/// How the server knows a call until it has answered it. In order, it does not: there it is only for this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id(pub(crate) u64);

#[derive(Debug)]
pub(crate) struct Ids {
    matching: Matching,
    /// Names have been given up to here.
    named: AtomicU64,
}

impl Ids {
    pub(crate) fn new(matching: Matching) -> Result<Self, ConfigError> {
        match matching {
            Matching::InOrder { pipeline } => {
                number("pipeline", pipeline as u64, 1..=1_000_000)?;
            }
            Matching::ById { min, max } => {
                number("least id", min, 0..=u64::MAX - 1)?;
                number("greatest id", max, min + 1..=u64::MAX)?;
            }
        }
        Ok(Self { matching, named: AtomicU64::new(0) })
    }

    pub(crate) fn matching(&self) -> Matching {
        self.matching
    }

    /// A name that was not given before.
    pub(crate) fn name(&self) -> Name {
        Name(self.named.fetch_add(1, Ordering::Relaxed))
    }

    /// The id of the call of this name. Another call may have it, or may have had it.
    pub(crate) fn of(&self, name: Name) -> Id {
        match self.matching {
            Matching::InOrder { .. } => Id(name.0),
            // The greatest is the ping's.
            Matching::ById { min, max } => Id(min + name.0 % (max - min)),
        }
    }

    /// That of the ping: no call has it.
    pub(crate) fn of_ping(&self) -> Id {
        match self.matching {
            Matching::InOrder { .. } => Id(u64::MAX),
            Matching::ById { max, .. } => Id(max),
        }
    }

    /// How many there are for calls.
    pub(crate) fn count(&self) -> u64 {
        match self.matching {
            Matching::InOrder { .. } => u64::MAX,
            Matching::ById { min, max } => max - min,
        }
    }

    /// So many no call can use any more, because their answers are missing for good, and there are still enough. One missing
    /// answer more, and the connection is given up.
    pub(crate) fn spare(&self) -> usize {
        match self.matching {
            Matching::InOrder { .. } => 0,
            Matching::ById { .. } => (self.count() / 8).min(MISSING) as usize,
        }
    }

    /// How many calls a connection can carry at a time.
    pub(crate) fn places(&self) -> usize {
        match self.matching {
            Matching::InOrder { pipeline } => pipeline,
            Matching::ById { .. } => {
                usize::try_from(self.count()).unwrap_or(usize::MAX) - self.spare()
            }
        }
    }
}
