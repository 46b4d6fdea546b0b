//! A server's clients, each over all of its connections: the fence between an old connection and the one that takes its
//! place, and the reply cache, shared by the connections of one client. Two locks: the table's, and under it, never the other way
//! round, that of one client's memory.
//!
//! ```text
//!           HELLO                       last connection ends             age
//! (unknown) ─────► known, connected ────────────────────────► known ───────────► (unknown)
//!                        ▲                 HELLO                │
//!                        └──────────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::clock::now;
use crate::connection::{Connection, Tell};
use crate::policy::ReplyCache;
use crate::proto::greeting::{ClientId, Hello};
use crate::proto::replies::Room;
use crate::proto::serving::Serving;
use crate::server::clients::client::{Client, Member, Memory};
use crate::server::clients::membership::Membership;

mod client;
pub(crate) mod membership;

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
    /// How often one was remembered that was not in the table.
    memories: u64,
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
        let member = Member {
            number: hello.connection,
            connection: connection.clone(),
            fenced: fenced.clone(),
        };
        let (client, replaced) = self.enter(hello, number, member);
        for old in replaced.into_values() {
            old.connection.with(|serving| (serving.fence(), Tell::Nobody));
            old.fenced.cancel();
        }
        let (clients, id) = (self.clone(), hello.client);
        Arc::new(Membership { clients, id, client, number, fenced })
    }

    /// Whether the connection that this one would replace is still served.
    pub(crate) fn serves_what_is_replaced(&self, hello: &Hello) -> bool {
        let client = self.lock().table.get(&hello.client).cloned();
        client.is_some_and(|client| {
            client.lock().connections.values().any(|member| member.is_replaced_by(hello))
        })
    }

    /// Forgets what is too old, again and again.
    pub(crate) async fn sweep(&self) -> Infallible {
        let often = (self.policy.age / 8).clamp(Duration::from_millis(5), Duration::from_secs(5));
        loop {
            tokio::time::sleep(often).await;
            self.expire(now());
        }
    }

    /// Puts a connection among those of its client, and returns the one that it replaces. The lock on the table is held for
    /// all of it: if the client's last connection ended in between, it would count as gone though it has come back.
    fn enter(
        &self,
        hello: &Hello,
        number: u64,
        member: Member,
    ) -> (Arc<Client>, BTreeMap<u64, Member>) {
        let mut known = self.lock();
        let Known { table, memories, .. } = &mut *known;
        let client = table.entry(hello.client).or_insert_with(|| {
            *memories += 1;
            Arc::new(Client::new(self.policy, *memories, hello.next_id))
        });
        let client = client.clone();
        let mut memory = client.lock();
        memory.left = None;
        let connections = std::mem::take(&mut memory.connections);
        let (replaced, mut rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            connections.into_iter().partition(|(_, member)| member.is_replaced_by(hello));
        rest.insert(number, member);
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
        let Self { table, gone, .. } = self;
        // Who came back is gone no more; nobody comes back while the table is locked.
        gone.retain(|(id, left)| {
            table.get(id).is_some_and(|client| client.lock().left == Some(*left))
        });
        let old = |(_, left): &&(_, Instant)| now.saturating_duration_since(*left) >= age;
        let count = gone.iter().take_while(old).count().max(gone.len().saturating_sub(most));
        gone.drain(..count).filter_map(|(id, _)| table.remove(&id)).collect()
    }
}

#[cfg(test)]
mod tests;
