//! What callers need of the calling end of a connection, whichever protocol it speaks.
//!
//! [`client`](crate::proto::client) is that of `Native`, [`foreign`](crate::proto::foreign) that of all others.

use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use bytes::Bytes;

use crate::error::loss::{GoAway, Loss};
use crate::error::unsendable::Unsendable;
use crate::error::violation::Violation;
use crate::proto::calls::{Answer, Vacancy};
use crate::proto::ledger::Place;
use crate::proto::session::Session;

/// The calling end of one connection.
pub(crate) trait Calling: Session<Event = Event> + std::fmt::Debug {
    /// Takes a call: its bytes are queued, its place is kept.
    fn start(&mut self, now: Instant, start: &Start<'_>, waker: &Waker) -> Result<(), NotTaken>;

    /// What became of a call that was started. After `Ready` it is forgotten. Also returns a waker that is not needed any
    /// more, to be dropped after the lock is released.
    fn poll(&mut self, id: u64, waker: &Waker) -> (Poll<Answer>, Option<Waker>);

    /// Whoever made the call is gone.
    fn leave(&mut self, now: Instant, id: u64) -> Left;

    /// No new calls; the connection ends when the last one is settled.
    fn drain(&mut self);

    /// Places of calls that are settled: they were given up, and their answers have not come, or nobody has looked yet.
    fn settled_places(&self) -> usize;

    /// Asks at once for a sign of life, if the protocol can.
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

impl Bounds {
    /// Whether a body of this length may come.
    pub(crate) fn check_received(self, length: usize) -> Result<(), Violation> {
        let (length, limit) = (length as u64, self.receive as u64);
        if length <= limit { Ok(()) } else { Err(Violation::MessageTooLong { length, limit }) }
    }

    /// Whether one of this length has room behind so many bytes. It always has in an empty queue.
    pub(crate) fn check_room(self, queued: usize, length: usize) -> Result<(), NotTaken> {
        let limit = self.queued_bytes;
        if queued == 0 || queued + length <= limit { Ok(()) } else { Err(NotTaken::Full { limit }) }
    }
}

/// A call to be made.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// The call's id; where the protocol is a foreign one, its name on the connection.
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    /// What comes before the body, where the protocol is a foreign one: its dialect has made a frame of the two.
    pub(crate) head: &'a [u8],
    pub(crate) body: &'a Bytes,
    pub(crate) deadline: Instant,
    /// All calls with smaller ids are settled.
    pub(crate) oldest: u64,
    /// Where it goes, in the ledger of the pool.
    pub(crate) place: Option<Place>,
}

/// A call that nobody waits for any more.
#[derive(Debug)]
pub(crate) struct Left {
    /// Who would have been woken, if it still waited: to be dropped after the lock is released. Then the owner must be told,
    /// because there is something to send, or to judge.
    pub(crate) waker: Option<Waker>,
    pub(crate) vacancy: Vacancy,
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
    /// The server owes an answer under each id there is.
    NoId {
        limit: u64,
    },
    /// No frame can be made of it.
    Unsendable(Unsendable),
    /// The server knows another call by the same id still; take another name.
    IdTaken,
}

/// What the owner must hear of.
#[derive(Debug)]
pub(crate) enum Event {
    Push(Bytes),
    GoAway(GoAway),
    /// A place is free whose call ended before.
    Vacated(Place),
}
