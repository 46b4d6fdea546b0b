//! A connection that is lent to one caller at a time for a conversation: what has arrived for them, and whether the
//! conversation can be at its end.
//!
//! ```text
//!   sent, answered by one frame each ──► nothing is owed: the connection can be used again
//!   a frame that no frame of ours asked for ──► the caller alone can tell
//! ```

use std::collections::VecDeque;
use std::task::{Poll, Waker};
use std::time::Instant;

use bytes::Bytes;

use crate::proto::ids::Name;
use crate::proto::outgoing::Mark;

/// What a frame takes beside its bytes: there can be many without any.
const FRAME: usize = size_of::<Bytes>();

/// The leases of one connection.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    /// So many there have been, with the one that has the connection now. It is that one's number.
    count: u64,
    /// The conversation of the one that has it.
    pub(crate) lent: Option<Lent>,
}

impl Leases {
    /// The connection is lent to one more. Returns that lease's number, counted from 1.
    pub(crate) fn lend(&mut self, look_at: Instant) -> u64 {
        self.count += 1;
        self.lent = Some(Lent::new(look_at));
        self.count
    }

    pub(crate) fn is_lent(&self) -> bool {
        self.lent.is_some()
    }

    /// The number of the lease that has the connection.
    pub(crate) fn current(&self) -> Option<u64> {
        self.is_lent().then_some(self.count)
    }
}

/// The conversation of one lease.
#[derive(Debug)]
pub(crate) struct Lent {
    /// Silence is nobody's business meanwhile. When to see whether it still is: the connection's return tells nobody.
    pub(crate) look_at: Instant,
    arrived: VecDeque<Bytes>,
    arrived_bytes: usize,
    /// Frames that `write` has not accepted to their last byte.
    unsent: VecDeque<(Name, Mark)>,
    sent: u64,
    taken: u64,
    /// Frames of ours that no frame has answered.
    unanswered: u64,
    /// More than one frame has answered one of ours.
    talkative: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// How far a conversation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Frames that the caller has handed over.
    pub(crate) queued: u64,
    /// Frames whose last byte the operating system has accepted.
    pub(crate) sent: u64,
    /// Frames that the caller has taken.
    pub(crate) received: u64,
}

/// How a conversation is ended: who says that it is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handback {
    /// Nobody: it is if each frame was answered by one.
    Dropped,
    /// The caller.
    GivenBack,
    /// The caller says that it is not, and never will be.
    Broken,
}

impl Lent {
    fn new(look_at: Instant) -> Self {
        Self {
            look_at,
            arrived: VecDeque::new(),
            arrived_bytes: 0,
            unsent: VecDeque::new(),
            sent: 0,
            taken: 0,
            unanswered: 0,
            talkative: false,
            reader: None,
            writer: None,
        }
    }

    pub(crate) fn queued(&mut self, name: Name, mark: Mark) {
        self.unsent.push_back((name, mark));
        self.unanswered += 1;
    }

    /// Bytes were accepted. Returns who waits for that.
    pub(crate) fn written(&mut self, is_sent: impl Fn(Name, Mark) -> bool) -> Option<Waker> {
        while let Some((name, mark)) = self.unsent.front() {
            if !is_sent(*name, *mark) {
                break;
            }
            self.unsent.pop_front();
            self.sent += 1;
        }
        self.writer.take()
    }

    pub(crate) fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// A frame has arrived. Returns who waits for it.
    pub(crate) fn arrived(&mut self, frame: Bytes) -> Option<Waker> {
        match self.unanswered.checked_sub(1) {
            Some(rest) => self.unanswered = rest,
            None => self.talkative = true,
        }
        self.arrived_bytes += frame.len() + FRAME;
        self.arrived.push_back(frame);
        self.reader.take()
    }

    /// Memory of what has arrived and waits to be taken.
    pub(crate) fn arrived_bytes(&self) -> usize {
        self.arrived_bytes
    }

    pub(crate) fn take(&mut self) -> Option<Bytes> {
        let frame = self.arrived.pop_front()?;
        self.arrived_bytes -= frame.len() + FRAME;
        self.taken += 1;
        Some(frame)
    }

    /// All that has arrived and was not taken.
    pub(crate) fn take_all(&mut self) -> VecDeque<Bytes> {
        self.arrived_bytes = 0;
        std::mem::take(&mut self.arrived)
    }

    /// Will wake the caller when a frame arrives. Returns a waker to be dropped after the lock is released.
    pub(crate) fn await_frame<T>(&mut self, waker: &Waker) -> (Poll<T>, Option<Waker>) {
        (Poll::Pending, replace(&mut self.reader, waker))
    }

    /// Will wake the caller when bytes are accepted. Returns a waker to be dropped after the lock is released.
    pub(crate) fn await_writing<T>(&mut self, waker: &Waker) -> (Poll<T>, Option<Waker>) {
        (Poll::Pending, replace(&mut self.writer, waker))
    }

    /// Whoever waits.
    pub(crate) fn take_wakers(&mut self) -> impl Iterator<Item = Waker> {
        self.reader.take().into_iter().chain(self.writer.take())
    }

    pub(crate) fn progress(&self) -> Progress {
        let queued = self.sent + self.unsent.len() as u64;
        Progress { queued, sent: self.sent, received: self.taken }
    }

    /// Whether the next caller would meet nothing of this conversation.
    pub(crate) fn is_over(&self, handback: Handback) -> bool {
        let nothing_left = self.unsent.is_empty() && self.arrived.is_empty();
        match handback {
            Handback::Broken => false,
            Handback::GivenBack => nothing_left,
            Handback::Dropped => nothing_left && self.unanswered == 0 && !self.talkative,
        }
    }
}

fn replace(waiting: &mut Option<Waker>, waker: &Waker) -> Option<Waker> {
    match waiting {
        Some(before) if before.will_wake(waker) => None,
        _ => waiting.replace(waker.clone()),
    }
}
