//! What callers need of the calling end of a connection, whichever protocol it speaks.
//!
//! [`client`](crate::proto::client) is that of `Native`.

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use bytes::Bytes;

use crate::error::loss::{GoAway, Loss};
use crate::proto::calls::Answer;
use crate::proto::session::Session;

/// The calling end of one connection.
pub(crate) trait Calling: Session<Event = Event> + std::fmt::Debug {
    /// Takes a call: its bytes are queued, its place is kept.
    fn start(&mut self, now: Instant, start: &Start<'_>, waker: &Waker) -> Result<(), NotTaken>;

    /// What became of a call that was started. After `Ready` it is forgotten. Also returns a waker that is not needed any
    /// more, to be dropped after the lock is released.
    fn poll(&mut self, id: u64, waker: &Waker) -> (Poll<Answer>, Option<Waker>);

    /// Whoever made the call is gone. If it still waited, the owner must be told, because there is something to send; the
    /// call's waker is returned, to be dropped after the lock is released.
    fn abandon(&mut self, id: u64) -> Option<Waker>;

    /// No new calls; the connection ends when the last one is settled.
    fn drain(&mut self);

    /// Asks at once for a sign of life.
    fn probe(&mut self, now: Instant);
}

/// The bounds of one connection, the server's and this side's already merged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The longest body to send, in bytes.
    pub(crate) send: usize,
    /// The longest body to take, in bytes.
    pub(crate) receive: usize,
    /// Of bodies that wait to be handed to the operating system.
    pub(crate) queued_bytes: usize,
}

/// A call to be made.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    pub(crate) body: &'a Bytes,
    pub(crate) deadline: Instant,
    pub(crate) oldest: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request { repeatable: bool, resent: bool },
    Notification,
}

/// Why a call was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotTaken {
    /// The connection takes no calls any more. The cause is there when it is dead.
    Gone(Option<Arc<Loss>>),
    /// It has as many bytes to send as it may.
    Full {
        limit: usize,
    },
    TooLong {
        limit: usize,
    },
}

/// What the owner must hear of.
#[derive(Debug)]
pub(crate) enum Event {
    Push(Bytes),
    GoAway(GoAway),
}
