//! Why somebody gets no place on a connection.

use std::sync::Arc;
use std::time::Duration;

use crate::error::call::{CallCause, Overload, Scarcity, Stage};
use crate::error::lease::LeaseCause;
use crate::error::outage::Outage;

/// Why there is no place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoPlace {
    Closed,
    Unavailable(Arc<Outage>),
    Overloaded(Overload),
    /// Nothing was handed over in time.
    TimedOut(Option<Scarcity>),
}

impl NoPlace {
    /// Why a call was not made, whose time was this long.
    pub(crate) fn call_cause(self, limit: Duration) -> CallCause {
        match self {
            Self::Closed => CallCause::Closed,
            Self::Unavailable(outage) => CallCause::Unavailable(outage),
            Self::Overloaded(overload) => CallCause::Overloaded(overload),
            Self::TimedOut(scarcity) => {
                CallCause::TimedOut { limit, stage: Stage::Connection, scarcity }
            }
        }
    }

    /// Why nothing was lent to one who had this long.
    pub(crate) fn lease_cause(self, limit: Duration) -> LeaseCause {
        match self {
            Self::Closed => LeaseCause::Closed,
            Self::Unavailable(outage) => LeaseCause::Unavailable(outage),
            Self::Overloaded(overload) => LeaseCause::Overloaded(overload),
            Self::TimedOut(scarcity) => LeaseCause::TimedOut { limit, scarcity },
        }
    }
}
