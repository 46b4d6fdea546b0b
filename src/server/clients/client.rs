//! What a server knows of one client: its connections, the calls that run, and the answers that it may still ask for.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::connection::Connection;
use crate::policy::ReplyCache;
use crate::proto::greeting::Hello;
use crate::proto::id_map::{IdMap, in_order};
use crate::proto::replies::{Replies, Room, Swept};
use crate::proto::serving::Serving;
use crate::server::cancellation::Cancellation;

/// Answers that have left the cache are dropped when there are so many, or when it is looked through.
const DROP_AT_ONCE: usize = 32;
/// The same when they hold so many bytes: nobody counts those any more.
pub(super) const DROP_BYTES: usize = 64 * 1024;

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    /// The number of this memory: the client is told, and knows by it whether it was forgotten.
    pub(super) number: u64,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
pub(super) struct Memory {
    pub(super) replies: Replies,
    /// By the server's own numbers.
    pub(super) connections: BTreeMap<u64, Member>,
    /// What tells the handlers of remembered calls that nobody waits any more.
    pub(super) running: IdMap<Cancellation>,
    pub(super) swept: Swept,
    /// Since when it has had no connection.
    pub(super) left: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Member {
    /// The client's own number for it.
    pub(super) number: u64,
    pub(super) connection: Connection<Serving>,
    /// Another connection has taken this one's place.
    pub(super) fenced: CancellationToken,
}

impl Member {
    pub(super) fn is_replaced_by(&self, hello: &Hello) -> bool {
        hello.replaces != 0 && self.number == hello.replaces
    }
}

impl Client {
    pub(super) fn new(policy: ReplyCache, number: u64, next_id: u64) -> Self {
        let memory = Memory {
            replies: Replies::new(policy, next_id),
            connections: BTreeMap::new(),
            running: IdMap::default(),
            swept: Swept::default(),
            left: None,
        };
        Self { number, memory: Mutex::new(memory) }
    }

    /// Nobody will come for the answers any more.
    pub(super) fn forget(&self, room: &Room) {
        let mut memory = self.lock();
        let Memory { replies, swept, .. } = &mut *memory;
        replies.clear(room, swept);
        let (swept, running) = (std::mem::take(swept), std::mem::take(&mut memory.running));
        drop(memory);
        drop(swept);
        in_order(running).iter().for_each(|(_, cancellation)| cancellation.cancel());
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has to happen outside the lock.
pub(super) struct Rubbish {
    swept: Swept,
    abandoned: Vec<Cancellation>,
}

impl Rubbish {
    pub(super) fn dispose(self) {
        let Self { swept, abandoned } = self;
        abandoned.iter().for_each(Cancellation::cancel);
        drop(swept);
    }
}

impl Memory {
    /// What is to be disposed of, when it is worth it.
    pub(super) fn rubbish(&mut self) -> Option<Rubbish> {
        let Swept { responses, bytes, abandoned } = &self.swept;
        if responses.len() < DROP_AT_ONCE && *bytes < DROP_BYTES && abandoned.is_empty() {
            return None;
        }
        let mut empty = Swept::default();
        empty.responses.reserve_exact(DROP_AT_ONCE);
        let swept = std::mem::replace(&mut self.swept, empty);
        let abandoned = swept.abandoned.iter().filter_map(|id| self.running.remove(id)).collect();
        Some(Rubbish { swept, abandoned })
    }
}
