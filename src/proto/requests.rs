//! The requests and notifications of one connection that are being worked on, and the bytes that they hold.
//!
//! ```text
//!        first frame          last part              answer
//! (none) ───────────► Coming ───────────► Running ───────────► (none)
//!                        │ CANCEL            │ CANCEL: the handler is told
//!                        └──► (none)         └──► Abandoned ──► (none), when the handler ends
//! ```
//!
//! What the answers are, and whether a request is taken, is [`serving`](crate::proto::serving)'s business.

use std::time::Instant;

use crate::proto::head::RequestHead;
use crate::proto::id_map::{IdMap, in_order};

#[derive(Debug)]
pub(crate) struct Requests {
    unanswered: IdMap<State>,
    /// Requests that were cancelled while their handlers were at work, with their lengths. Handlers are not cut off, so
    /// these count until they end.
    abandoned: IdMap<usize>,
    /// Notifications that are being worked on. They have no place among the requests, because nothing answers them.
    notifications: usize,
    /// Bytes of the bodies that are being worked on.
    held_bytes: usize,
    /// When a request last came or was settled.
    used: Instant,
}

#[derive(Debug)]
enum State {
    Coming(Terms),
    Running { length: usize },
}

/// What a request's first frame says of how it is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) deadline: Option<Instant>,
    pub(crate) remember: Remember,
}

/// Whether a call may come again and must not be run again then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remember {
    /// Running it twice is harmless.
    No,
    Yes {
        /// The client has settled all calls with smaller ids.
        oldest: u64,
    },
}

impl From<&RequestHead> for Remember {
    fn from(head: &RequestHead) -> Self {
        if head.repeatable { Self::No } else { Self::Yes { oldest: head.oldest } }
    }
}

impl Requests {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            unanswered: IdMap::default(),
            abandoned: IdMap::default(),
            notifications: 0,
            held_bytes: 0,
            used: now,
        }
    }

    /// A request has come, whether it is taken or not.
    pub(crate) fn came(&mut self, now: Instant) {
        self.used = now;
    }

    /// The first part of a long request has come.
    pub(crate) fn begin(&mut self, id: u64, terms: Terms) {
        self.unanswered.insert(id, State::Coming(terms));
    }

    /// The terms of a request of which not all parts have come.
    pub(crate) fn coming(&self, id: u64) -> Option<Terms> {
        match self.unanswered.get(&id) {
            Some(State::Coming(terms)) => Some(*terms),
            _ => None,
        }
    }

    /// What has come half will not come whole.
    pub(crate) fn forget_coming(&mut self) {
        self.unanswered.retain(|_, state| matches!(state, State::Running { .. }));
    }

    /// A request has come whole, and its handler is to run.
    pub(crate) fn run(&mut self, id: u64, length: usize) {
        self.held_bytes += length;
        self.unanswered.insert(id, State::Running { length });
    }

    /// Its answer is there. False if nobody waits for it: then all that there was to do is to give back what the handler
    /// held.
    pub(crate) fn settle(&mut self, now: Instant, id: u64) -> bool {
        match self.unanswered.remove(&id) {
            Some(State::Running { length }) => self.held_bytes -= length,
            Some(State::Coming(_)) => {}
            None => {
                self.held_bytes -= self.abandoned.remove(&id).unwrap_or_default();
                return false;
            }
        }
        self.used = now;
        true
    }

    /// Its caller has gone. True if a handler is to be told, which counts until it ends, however often this is said.
    pub(crate) fn cancel(&mut self, now: Instant, id: u64) -> bool {
        let Some(state) = self.unanswered.remove(&id) else {
            return false;
        };
        self.used = now;
        match state {
            State::Running { length } => {
                self.abandoned.insert(id, length);
                true
            }
            State::Coming(_) => false,
        }
    }

    /// A notification has come.
    pub(crate) fn notified(&mut self, length: usize) {
        self.held_bytes += length;
        self.notifications += 1;
    }

    /// A notification of so many bytes has been dealt with, perhaps after the connection's end.
    pub(crate) fn notification_done(&mut self, length: usize) {
        self.held_bytes = self.held_bytes.saturating_sub(length);
        self.notifications = self.notifications.saturating_sub(1);
    }

    /// The connection is dead: forgets everything, and says which requests are unanswered, the oldest first.
    pub(crate) fn lose(&mut self) -> Vec<u64> {
        self.abandoned.clear();
        self.notifications = 0;
        self.held_bytes = 0;
        in_order(self.unanswered.drain()).into_iter().map(|(id, _)| id).collect()
    }

    /// Also while a cancelled request with this id is still worked on: otherwise any number of them would count as one.
    pub(crate) fn is_in_use(&self, id: u64) -> bool {
        self.unanswered.contains_key(&id) || self.abandoned.contains_key(&id)
    }

    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// Since when none has been unanswered. `None` while one is.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        self.unanswered.is_empty().then_some(self.used)
    }

    /// Unanswered requests, and those whose handlers are still at work.
    pub(crate) fn in_flight(&self) -> usize {
        self.unanswered.len() + self.abandoned.len()
    }

    pub(crate) fn notifications(&self) -> usize {
        self.notifications
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }
}
