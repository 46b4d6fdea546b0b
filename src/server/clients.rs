//! A server's clients, each over all of its connections: the fence between an old connection and the one that takes its
//! place, and the reply cache, shared by the connections of one client.
//!
//! ```text
//!           HELLO                       last connection ends             age
//! (unknown) ─────► known, connected ────────────────────────► known ───────────► (unknown)
//!                        ▲                 HELLO                │
//!                        └──────────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::clock::now;
use crate::connection::{Connection, Tell};
use crate::error::answer::ErrorReply;
use crate::policy::ReplyCache;
use crate::proto::greeting::{ClientId, Hello};
use crate::proto::id_map::IdMap;
use crate::proto::replies::{Replies, Response, Room, Seen, Swept};
use crate::proto::serving::Serving;
use crate::server::departure::Departure;

/// Answers that have left the cache are dropped when there are so many, or when it is looked through.
const DROP_AT_ONCE: usize = 32;
/// The same when they hold so many bytes: nobody counts those any more.
const DROP_BYTES: usize = 64 * 1024;

const REPLY_LOST: &str =
    "the call ran; its reply was lost with the connection, and was too long to be kept";
const EVICTED: &str = "the call was sent again, and it is not known any more whether it ran";

/// All clients of a server.
#[derive(Debug)]
pub(crate) struct Clients {
    policy: ReplyCache,
    room: Room,
    /// Clients without a connection that are remembered.
    most_gone: usize,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    table: HashMap<ClientId, Arc<Client>>,
    /// Clients whose last connections have ended, the first first. Some have come back since.
    gone: VecDeque<(ClientId, Instant)>,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    replies: Replies,
    /// By the server's own numbers.
    connections: BTreeMap<u64, Link>,
    /// What tells the handlers of remembered calls that nobody waits any more.
    running: IdMap<Departure>,
    swept: Swept,
    /// Since when it has had no connection.
    left: Option<Instant>,
}

#[derive(Debug)]
struct Link {
    /// The client's own number for it.
    number: u64,
    connection: Connection<Serving>,
    /// Another connection has taken this one's place.
    fenced: CancellationToken,
}

/// One connection among those of its client.
#[derive(Debug)]
pub(crate) struct Membership {
    clients: Arc<Clients>,
    id: ClientId,
    client: Arc<Client>,
    /// The server's number of the connection.
    number: u64,
    fenced: CancellationToken,
}

/// What is to be done with a request.
#[derive(Debug)]
pub(crate) enum Verdict {
    Run(Departure),
    Respond(Response),
    /// It is run or answered elsewhere, or is none of ours.
    Nothing,
}

/// An answer that another connection waits for than that on which the call came first.
#[derive(Debug)]
pub(crate) struct Twin {
    pub(crate) connection: Connection<Serving>,
    pub(crate) id: u64,
    pub(crate) response: Response,
}

impl Clients {
    pub(crate) fn new(policy: ReplyCache, most_gone: usize) -> Self {
        let (room, known) = (Room::new(policy.total_bytes), Mutex::default());
        Self { policy, room, most_gone, known }
    }

    pub(crate) fn remembers(&self) -> bool {
        self.policy.is_on()
    }

    /// Takes a connection in. The one that it replaces is not served any more when this returns. The caller says when it
    /// [ends](Membership::leave).
    pub(crate) fn admit(
        self: &Arc<Self>,
        hello: &Hello,
        number: u64,
        connection: &Connection<Serving>,
    ) -> Arc<Membership> {
        let fenced = CancellationToken::new();
        let link = Link {
            number: hello.connection,
            connection: connection.clone(),
            fenced: fenced.clone(),
        };
        let (client, replaced) = self.enter(hello, number, link);
        for old in replaced.into_values() {
            old.connection.with(|serving| (serving.fence(), Tell::Nobody));
            old.fenced.cancel();
        }
        let (clients, id) = (self.clone(), hello.client);
        Arc::new(Membership { clients, id, client, number, fenced })
    }

    /// Forgets what is too old, again and again.
    pub(crate) async fn sweep(&self) {
        let often = (self.policy.age / 8).clamp(Duration::from_millis(5), Duration::from_secs(5));
        loop {
            tokio::time::sleep(often).await;
            self.expire(now());
        }
    }

    /// Puts a connection among those of its client, and returns the one that it replaces. The lock on the table is held for
    /// all of it: if the client's last connection ended in between, it would count as gone though it has come back.
    fn enter(&self, hello: &Hello, number: u64, link: Link) -> (Arc<Client>, BTreeMap<u64, Link>) {
        let mut known = self.lock();
        let new = || Arc::new(Client::new(self.policy, hello.next_id));
        let client = known.table.entry(hello.client).or_insert_with(new).clone();
        let mut memory = client.lock();
        memory.left = None;
        let is_replaced = |link: &Link| hello.replaces != 0 && link.number == hello.replaces;
        let connections = std::mem::take(&mut memory.connections);
        let (replaced, mut rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            connections.into_iter().partition(|(_, link)| is_replaced(link));
        rest.insert(number, link);
        memory.connections = rest;
        drop(memory);
        (client, replaced)
    }

    /// Forgets everybody: no client can come any more.
    pub(crate) fn forget_all(&self) {
        let known = std::mem::take(&mut *self.lock());
        known.table.values().for_each(|client| client.forget(&self.room));
    }

    fn expire(&self, now: Instant) {
        let clients: Vec<_> = self.lock().table.values().cloned().collect();
        for client in clients {
            let mut memory = client.lock();
            let Memory { replies, swept, .. } = &mut *memory;
            replies.expire(now, &self.room, swept);
            let swept = std::mem::take(swept);
            drop(memory);
            drop(swept);
        }
        let forgotten = self.lock().forget(now, self.policy.age, self.most_gone);
        forgotten.iter().for_each(|client| client.forget(&self.room));
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Takes out the clients that have been gone for so long, and of the others those that have been so for longest, until at
    /// most so many are left.
    fn forget(&mut self, now: Instant, age: Duration, most: usize) -> Vec<Arc<Client>> {
        let Self { table, gone } = self;
        // Who came back is gone no more; nobody comes back while the table is locked.
        gone.retain(|(id, left)| {
            table.get(id).is_some_and(|client| client.lock().left == Some(*left))
        });
        let old = |(_, left): &&(_, Instant)| now.saturating_duration_since(*left) >= age;
        let count = gone.iter().take_while(old).count().max(gone.len().saturating_sub(most));
        gone.drain(..count).filter_map(|(id, _)| table.remove(&id)).collect()
    }
}

impl Client {
    fn new(policy: ReplyCache, next_id: u64) -> Self {
        let memory = Memory {
            replies: Replies::new(policy, next_id),
            connections: BTreeMap::new(),
            running: IdMap::default(),
            swept: Swept::default(),
            left: None,
        };
        Self { memory: Mutex::new(memory) }
    }

    /// Nobody will come for the answers any more.
    fn forget(&self, room: &Room) {
        let mut memory = self.lock();
        let Memory { replies, swept, .. } = &mut *memory;
        replies.clear(room, swept);
        let (swept, running) = (std::mem::take(swept), std::mem::take(&mut memory.running));
        drop(memory);
        drop(swept);
        running.into_values().for_each(|departure| departure.announce());
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Membership {
    /// Returns when another connection has taken this one's place.
    pub(crate) async fn fenced(&self) {
        self.fenced.cancelled().await;
    }

    /// What a request is, of a client that has settled all calls below `oldest`.
    pub(crate) fn begin(&self, id: u64, oldest: u64) -> Verdict {
        let mut memory = self.client.lock();
        if !memory.connections.contains_key(&self.number) {
            // Fenced.
            return Verdict::Nothing;
        }
        let Memory { replies, swept, running, .. } = &mut *memory;
        let seen = replies.begin(self.number, id, oldest, &self.clients.room, swept);
        let verdict = match seen {
            Seen::New => {
                let departure = Departure::default();
                running.insert(id, departure.clone());
                Verdict::Run(departure)
            }
            Seen::Joined => Verdict::Nothing,
            Seen::Answered(response) => Verdict::Respond(response),
            Seen::Lost => error(ErrorReply::REPLY_LOST, REPLY_LOST),
            Seen::Evicted => error(ErrorReply::EVICTED, EVICTED),
        };
        let rubbish = memory.rubbish();
        drop(memory);
        rubbish.into_iter().for_each(Rubbish::dispose);
        verdict
    }

    /// Calls that were begun are answered: keeps the answers, and returns those that other connections wait for, too.
    pub(crate) fn settle(
        &self,
        now: Instant,
        answered: impl Iterator<Item = (u64, Response)>,
    ) -> Vec<Twin> {
        let mut twins = Vec::new();
        let mut memory = self.client.lock();
        let Memory { replies, swept, running, connections, .. } = &mut *memory;
        for (id, response) in answered {
            running.remove(&id);
            let copy = replies.is_joined(id).then(|| response.clone());
            let joined = replies.settle(now, self.number, id, response, &self.clients.room, swept);
            let Some(response) = copy else {
                continue;
            };
            for link in joined.iter().filter_map(|number| connections.get(number)) {
                let (connection, response) = (link.connection.clone(), response.clone());
                twins.push(Twin { connection, id, response });
            }
        }
        let rubbish = memory.rubbish();
        drop(memory);
        rubbish.into_iter().for_each(Rubbish::dispose);
        twins
    }

    /// The caller has gone.
    pub(crate) fn cancel(&self, id: u64) {
        let departure = self.client.lock().running.remove(&id);
        if let Some(departure) = departure {
            departure.announce();
        }
    }

    /// A call that was begun and has not been run need not be, unless another connection waits for it. True if it was
    /// taken back: should it come again, it is new.
    pub(crate) fn withdraw(&self, id: u64) -> bool {
        let mut memory = self.client.lock();
        if !memory.replies.withdraw(id) {
            return false;
        }
        memory.running.remove(&id);
        true
    }

    /// The connection has ended.
    pub(crate) fn leave(&self) {
        let now = now();
        let mut memory = self.client.lock();
        let link = memory.connections.remove(&self.number);
        memory.replies.leave(self.number);
        let is_last = link.is_some() && memory.connections.is_empty();
        if is_last {
            memory.left = Some(now);
        }
        drop(memory);
        drop(link);
        if is_last {
            self.clients.lock().gone.push_back((self.id, now));
        }
    }
}

/// What has to happen outside the lock.
struct Rubbish {
    swept: Swept,
    abandoned: Vec<Departure>,
}

impl Rubbish {
    fn dispose(self) {
        let Self { swept, abandoned } = self;
        abandoned.iter().for_each(Departure::announce);
        drop(swept);
    }
}

impl Memory {
    /// What is to be disposed of, when it is worth it.
    fn rubbish(&mut self) -> Option<Rubbish> {
        let Swept { responses, bytes, abandoned } = &self.swept;
        if responses.len() < DROP_AT_ONCE && *bytes < DROP_BYTES && abandoned.is_empty() {
            return None;
        }
        let responses = Vec::with_capacity(DROP_AT_ONCE);
        let empty = Swept { responses, ..Swept::default() };
        let swept = std::mem::replace(&mut self.swept, empty);
        let abandoned = swept.abandoned.iter().filter_map(|id| self.running.remove(id)).collect();
        Some(Rubbish { swept, abandoned })
    }
}

fn error(code: u32, text: &'static str) -> Verdict {
    Verdict::Respond(Response::Error(ErrorReply::new(code, text)))
}

#[cfg(test)]
mod tests;
