//! What broke a conversation over a lease, and at which step.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::call::{Because, Overload, Scarcity};
use crate::error::loss::Loss;
use crate::error::outage::Outage;
use crate::error::text::{Count, Rounded};
use crate::error::unsendable::Unsendable;

/// A step of a conversation that failed: which one ([`step`](Self::step)), why ([`cause`](Self::cause)), and how far the
/// conversation had come.
#[derive(Debug, Clone, PartialEq)]
pub struct LeaseError(Box<Failure>);

#[derive(Debug, Clone, PartialEq)]
struct Failure {
    step: Step,
    cause: LeaseCause,
    sent: u64,
    received: u64,
    endpoint: Arc<str>,
}

/// A step of a conversation. Frames count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Step {
    /// Getting a connection. Nothing was sent.
    CheckOut,
    /// Sending this frame. Whether it left is told by [`LeaseError::sent`].
    Send {
        /// Which of the frames sent.
        frame: u64,
    },
    /// Receiving this frame.
    Receive {
        /// Which of the frames received.
        frame: u64,
    },
    /// Taking over the socket.
    Detach,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CheckOut => f.write_str("getting a connection"),
            Self::Send { frame } => write!(f, "sending frame {frame}"),
            Self::Receive { frame } => write!(f, "receiving frame {frame}"),
            Self::Detach => f.write_str("taking over the socket"),
        }
    }
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LeaseCause {
    /// It was not done in time.
    #[error("not done within {}{}", Rounded(*.limit), Because(.scarcity))]
    TimedOut {
        /// The step's time-out.
        limit: Duration,
        /// Why there was no connection for it, if that is what it waited for.
        scarcity: Option<Scarcity>,
    },
    /// The connection died.
    #[error("{0}")]
    Lost(Arc<Loss>),
    /// No connection was ready, and the lease was not to wait (`fail_fast`), or waiting cannot mend it.
    #[error("{0}")]
    Unavailable(Arc<Outage>),
    /// As many wait for a connection as may.
    #[error("{0}")]
    Overloaded(Overload),
    /// No frame can be made of it. Nothing was queued, and the conversation can go on.
    #[error("{0}")]
    Unsendable(Unsendable),
    /// The pool speaks `Native`, whose connections carry the calls of all callers.
    #[error("the connections of this protocol are shared: it has no leases")]
    NotLent,
    /// The pool is closed.
    #[error("the pool is closed")]
    Closed,
}

impl LeaseError {
    pub(crate) fn new(
        step: Step,
        cause: LeaseCause,
        (sent, received): (u64, u64),
        endpoint: Arc<str>,
    ) -> Self {
        Self(Box::new(Failure { step, cause, sent, received, endpoint }))
    }

    /// At which step it broke.
    pub fn step(&self) -> Step {
        self.0.step
    }

    /// Why.
    pub fn cause(&self) -> &LeaseCause {
        &self.0.cause
    }

    /// Frames whose last byte the operating system had accepted. The server may have got and obeyed these, and no others:
    /// what had not left does not leave when the lease is dropped, though it may while it is kept.
    pub fn sent(&self) -> u64 {
        self.0.sent
    }

    /// Frames that had been received.
    pub fn received(&self) -> u64 {
        self.0.received
    }

    /// The endpoint as it was configured, `host:port`.
    pub fn peer(&self) -> &str {
        &self.0.endpoint
    }
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { step, cause, sent, received, endpoint } = &*self.0;
        match cause {
            // These name it themselves.
            LeaseCause::Lost(_) | LeaseCause::Unavailable(_) => {}
            LeaseCause::TimedOut { scarcity: Some(Scarcity::Outage(_)), .. } => {}
            _ => write!(f, "{endpoint}: ")?,
        }
        write!(f, "{step} failed: {cause}")?;
        match step {
            Step::CheckOut => Ok(()),
            _ => write!(f, "; {} sent, {received} received", Count(*sent, "frame")),
        }
    }
}

impl std::error::Error for LeaseError {
    /// Below what the text has said: the operating system's error, where there is one.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.cause {
            LeaseCause::Lost(loss) => loss.source(),
            LeaseCause::Unavailable(outage)
            | LeaseCause::TimedOut { scarcity: Some(Scarcity::Outage(outage)), .. } => {
                outage.source()
            }
            _ => None,
        }
    }
}
