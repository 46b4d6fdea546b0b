//! The reply cache: what a server remembers of one client's calls, so that one which comes again is not run again.
//!
//! ```text
//!   New ──► Running ── settled ──► Kept ── too many, too old ──► Evicted
//!              │ joined by            │
//!              │ a twin               └ too long to be kept ───► Lost
//!
//!   all of it until the client's oldest unfinished id has passed; below that nothing is new
//! ```
//!
//! Calls that are marked repeatable do not come here. Nothing here runs, sends or wakes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;

use crate::error::answer::{ErrorReply, Refusal};
use crate::panics::discard;
use crate::policy;
use crate::proto::eviction::Queue;
use crate::proto::ranges::Ranges;
use crate::proto::window::Window;

/// What an answer costs beside its body, in bytes.
const OVERHEAD: usize = 64;
/// For each answer that may be kept, so many calls are remembered that have none any more.
const REMEMBERED: usize = 4;

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Response {
    Reply(Bytes),
    Error(ErrorReply),
    Refused(Refusal),
}

/// What a request is to the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It has not come before: it is to be run.
    New,
    /// It runs. Its answer goes to this connection, too.
    Joined,
    Answered(Response),
    /// It ran, and its answer was too long to be kept.
    Lost,
    /// It may have run.
    Evicted,
}

/// The bytes that all clients' kept answers may have together.
#[derive(Debug)]
pub(crate) struct Room {
    limit: usize,
    used: AtomicUsize,
}

impl Room {
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    fn take(&self, bytes: usize) -> bool {
        let fits = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.used() == 0
    }

    #[cfg(test)]
    fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// One client's calls.
#[derive(Debug)]
pub(crate) struct Replies {
    policy: policy::ReplyCache,
    /// No smaller id is new.
    floor: u64,
    /// Nor is any of these: they have been answered, and nothing else of them is remembered.
    forgotten: Ranges,
    calls: Window<State>,
    running: usize,
    /// Calls that run although the client has settled them, and the connections beside the first that are owed an answer.
    abandoned: BTreeMap<u64, Vec<u64>>,
    /// In which order kept answers make room.
    order: Queue,
    kept: usize,
    kept_bytes: usize,
}

#[derive(Debug)]
enum State {
    /// The connections beside the first that wait for the answer.
    Running(Vec<u64>),
    Kept(Response),
    Lost,
    Evicted,
}

impl Replies {
    /// A client that was not known before, and that has used all ids below `next_id`.
    pub(crate) fn new(policy: policy::ReplyCache, next_id: u64) -> Self {
        Self {
            policy,
            floor: next_id,
            forgotten: Ranges::default(),
            calls: Window::default(),
            running: 0,
            abandoned: BTreeMap::new(),
            order: Queue::default(),
            kept: 0,
            kept_bytes: 0,
        }
    }

    /// A request has come, of a client that has settled all calls below `oldest`. What that leaves to be dropped, and the
    /// calls that run for nobody now, are added to `swept`.
    pub(crate) fn begin(
        &mut self,
        connection: u64,
        id: u64,
        oldest: u64,
        room: &Room,
        swept: &mut Swept,
    ) -> Seen {
        self.order.heard(connection);
        let is_new = id >= self.floor.max(oldest)
            && !self.calls.contains(id)
            && !self.forgotten.contains(id);
        if is_new {
            self.calls.insert(id, State::Running(Vec::new()));
            self.running += 1;
        }
        self.forget_below(oldest, room, swept);
        if is_new {
            return Seen::New;
        }
        match self.calls.get_mut(id) {
            Some(State::Running(joined)) => {
                joined.push(connection);
                Seen::Joined
            }
            Some(State::Kept(answer)) => Seen::Answered(answer.clone()),
            Some(State::Lost) => Seen::Lost,
            Some(State::Evicted) | None => Seen::Evicted,
        }
    }

    /// Whether other connections wait for the answer of a call that runs.
    pub(crate) fn is_joined(&self, id: u64) -> bool {
        match self.calls.get(id) {
            Some(State::Running(joined)) => !joined.is_empty(),
            Some(_) => false,
            None => self.abandoned.get(&id).is_some_and(|joined| !joined.is_empty()),
        }
    }

    /// A call that was new on that connection has been answered. Returns the other connections that wait for the answer.
    pub(crate) fn settle(
        &mut self,
        now: Instant,
        connection: u64,
        id: u64,
        answer: Response,
        room: &Room,
        swept: &mut Swept,
    ) -> Vec<u64> {
        let Some(state) = self.calls.get_mut(id) else {
            swept.take(answer);
            return self.abandoned.remove(&id).unwrap_or_default();
        };
        let State::Running(joined) = state else {
            swept.take(answer);
            return Vec::new();
        };
        let joined = std::mem::take(joined);
        // Should it not be kept.
        *state = match &answer {
            Response::Refused(_) => State::Evicted,
            Response::Reply(_) | Response::Error(_) => State::Lost,
        };
        self.running -= 1;
        self.bound_answered(room, swept);
        let cost = cost(&answer);
        if self.make_room(cost, room, swept) {
            self.keep(id, answer, cost);
            self.order.push(now, id, joined.last().copied().unwrap_or(connection));
        } else {
            swept.take(answer);
        }
        joined
    }

    /// Evicts as much as is needed to keep an answer that costs so much, and takes that for it. False if it cannot be kept.
    fn make_room(&mut self, cost: usize, room: &Room, swept: &mut Swept) -> bool {
        if cost > self.policy.bytes {
            return false;
        }
        while self.kept >= self.policy.calls || self.kept_bytes + cost > self.policy.bytes {
            if !self.evict(room, swept) {
                break;
            }
        }
        while !room.take(cost) {
            if !self.evict(room, swept) {
                return false;
            }
        }
        true
    }

    /// Takes back a call that was new and has not been run, unless a twin of it waits. True if it is as if it had not come.
    pub(crate) fn withdraw(&mut self, id: u64) -> bool {
        let alone = matches!(self.calls.get(id), Some(State::Running(joined)) if joined.is_empty());
        if alone {
            self.calls.remove(id);
            self.running -= 1;
        }
        alone
    }

    /// A connection has ended: nothing is sent there any more.
    pub(crate) fn leave(&mut self, connection: u64) {
        let running = self.calls.values_mut().filter_map(|state| match state {
            State::Running(joined) => Some(joined),
            _ => None,
        });
        for joined in running.chain(self.abandoned.values_mut()) {
            joined.retain(|waits| *waits != connection);
        }
    }

    /// Evicts what is too old.
    pub(crate) fn expire(&mut self, now: Instant, room: &Room, swept: &mut Swept) {
        let Some(then) = now.checked_sub(self.policy.age) else {
            return;
        };
        while let Some(id) = self.order.pop_kept_by(then) {
            self.evict_id(id, room, swept);
        }
    }

    /// Forgets the client.
    pub(crate) fn clear(&mut self, room: &Room, swept: &mut Swept) {
        self.forget_below(u64::MAX, room, swept);
        self.abandoned.clear();
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
            && self.forgotten.is_empty()
            && (self.kept, self.kept_bytes, self.running) == (0, 0, 0)
    }

    fn keep(&mut self, id: u64, answer: Response, cost: usize) {
        self.calls.insert(id, State::Kept(answer));
        self.kept += 1;
        self.kept_bytes += cost;
        // Answers that went away leave their entries here: not more than there are answers.
        if self.order.len() > 2 * self.kept + 16 {
            let calls = &self.calls;
            self.order.retain(|id| matches!(calls.get(id), Some(State::Kept(_))));
        }
    }

    /// The client has settled all calls below `oldest`.
    fn forget_below(&mut self, oldest: u64, room: &Room, swept: &mut Swept) {
        while let Some((id, state)) = self.calls.pop_below(oldest) {
            match state {
                State::Running(joined) => {
                    self.running -= 1;
                    self.abandoned.insert(id, joined);
                    swept.abandoned.push(id);
                }
                State::Kept(response) => self.drop_kept(response, room, swept),
                State::Lost | State::Evicted => {}
            }
        }
        self.floor = self.floor.max(oldest);
        self.forgotten.forget_below(oldest);
    }

    /// Evicts an answer. False if there is none.
    fn evict(&mut self, room: &Room, swept: &mut Swept) -> bool {
        let before = self.kept;
        while self.kept == before {
            let Some(id) = self.order.pop() else {
                return false;
            };
            self.evict_id(id, room, swept);
        }
        true
    }

    fn evict_id(&mut self, id: u64, room: &Room, swept: &mut Swept) {
        let Some(state @ State::Kept(_)) = self.calls.get_mut(id) else {
            return;
        };
        if let State::Kept(response) = std::mem::replace(state, State::Evicted) {
            self.drop_kept(response, room, swept);
        }
    }

    fn drop_kept(&mut self, response: Response, room: &Room, swept: &mut Swept) {
        let cost = cost(&response);
        self.kept -= 1;
        self.kept_bytes -= cost;
        room.give_back(cost);
        swept.take(response);
    }

    /// A client that does not say which calls it has settled is remembered only so far: beyond that, of the older half of
    /// what is answered only the ids are kept. A call may still come whose id is smaller than theirs: a long one takes its
    /// time, and all the while its client's oldest unfinished id is its own.
    fn bound_answered(&mut self, room: &Room, swept: &mut Swept) {
        let limit = self.policy.calls.saturating_mul(REMEMBERED);
        if self.calls.len() - self.running <= limit {
            return;
        }
        let is_answered = |state: &State| !matches!(state, State::Running(_));
        let answered = self.calls.iter().filter(|(_, state)| is_answered(state));
        let Some(cut) = answered.map(|(id, _)| id).nth(limit / 2) else {
            return;
        };
        let (mut kept, forgotten) = (Vec::new(), &mut self.forgotten);
        let doubtful: BTreeSet<_> = self.order.doubtful().collect();
        self.calls.retain(|id, state| {
            let stays = id >= cut || !is_answered(state) || doubtful.contains(&id);
            if !stays {
                forgotten.insert(id);
            }
            if let (false, State::Kept(answer)) = (stays, state) {
                kept.push(answer.clone());
            }
            stays
        });
        kept.into_iter().for_each(|answer| self.drop_kept(answer, room, swept));
        if let Some(last) = self.forgotten.bound(limit) {
            self.floor = self.floor.max(last + 1);
        }
    }
}

/// What comes out of the cache, to be dropped or told where the user's code may run. Kept and reused.
#[derive(Debug, Default)]
pub(crate) struct Swept {
    pub(crate) responses: Vec<Response>,
    /// What those hold, in bytes.
    pub(crate) bytes: usize,
    /// Calls that run and whose answers nobody waits for any more.
    pub(crate) abandoned: Vec<u64>,
}

impl Swept {
    fn take(&mut self, answer: Response) {
        self.bytes += cost(&answer);
        self.responses.push(answer);
    }
}

impl Drop for Swept {
    /// One by one: each is the user's.
    fn drop(&mut self) {
        self.responses.drain(..).for_each(discard);
    }
}

fn cost(answer: &Response) -> usize {
    OVERHEAD
        + match answer {
            Response::Reply(body) => body.len(),
            Response::Error(error) => error.text().len(),
            Response::Refused(_) => 0,
        }
}

#[cfg(test)]
mod tests;
