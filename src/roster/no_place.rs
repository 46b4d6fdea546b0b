//! Why somebody gets no place on a connection.

use std::sync::Arc;
use std::time::Duration;

use crate::error::call::{CallCause, Full, Overload, Stage};
use crate::error::outage::Outage;

/// Why there is no place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoPlace {
    Closed,
    Unavailable(Arc<Outage>),
    Overloaded(Overload),
    TimedOut(Box<Scarcity>),
}

/// Why nothing was handed over in time: nothing is ready, or what is ready has no room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scarcity {
    pub(crate) outage: Option<Arc<Outage>>,
    pub(crate) full: Option<Full>,
}

impl NoPlace {
    /// Why a call was not made, whose time was this long.
    pub(crate) fn call_cause(self, limit: Duration) -> CallCause {
        match self {
            Self::Closed => CallCause::Closed,
            Self::Unavailable(outage) => CallCause::Unavailable(outage),
            Self::Overloaded(overload) => CallCause::Overloaded(overload),
            Self::TimedOut(scarcity) => {
                let Scarcity { outage, full } = *scarcity;
                CallCause::TimedOut { limit, stage: Stage::Connection, outage, full }
            }
        }
    }
}
