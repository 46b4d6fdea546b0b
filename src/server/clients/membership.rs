//! One connection's part in what its client has on this server.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::clock::now;
use crate::connection::Connection;
use crate::error::answer::ErrorReply;
use crate::proto::greeting::ClientId;
use crate::proto::replies::{Response, Seen};
use crate::proto::serving::Serving;
use crate::server::cancellation::Cancellation;
use crate::server::clients::Clients;
use crate::server::clients::client::{Client, Memory, Rubbish};

const REPLY_LOST: &str =
    "the call ran; its reply was lost with the connection, and was too long to be kept";
const EVICTED: &str = "the call was sent again, and it is not known any more whether it ran";

/// One connection among those of its client.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(super) clients: Arc<Clients>,
    pub(super) id: ClientId,
    pub(super) client: Arc<Client>,
    /// The server's number of the connection.
    pub(super) number: u64,
    pub(super) fenced: CancellationToken,
}

/// What is to be done with a request.
#[derive(Debug)]
pub(crate) enum Reception {
    Run(Cancellation),
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

impl Membership {
    /// Returns when another connection has taken this one's place.
    pub(crate) async fn fenced(&self) {
        self.fenced.cancelled().await;
    }

    /// The number of what is remembered of the client; 0: nothing is.
    pub(crate) fn memory(&self) -> u64 {
        if self.clients.remembers() { self.client.number } else { 0 }
    }

    /// What a request is, of a client that has settled all calls below `oldest`.
    pub(crate) fn begin(&self, id: u64, oldest: u64) -> Reception {
        let mut memory = self.client.lock();
        if !memory.connections.contains_key(&self.number) {
            // Fenced.
            return Reception::Nothing;
        }
        let Memory { replies, swept, running, .. } = &mut *memory;
        let seen = replies.begin(self.number, id, oldest, &self.clients.room, swept);
        let verdict = match seen {
            Seen::New => {
                let cancellation = Cancellation::default();
                running.insert(id, cancellation.clone());
                Reception::Run(cancellation)
            }
            Seen::Joined => Reception::Nothing,
            Seen::Answered(response) => Reception::Respond(response),
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
            for member in joined.iter().filter_map(|number| connections.get(number)) {
                let (connection, response) = (member.connection.clone(), response.clone());
                twins.push(Twin { connection, id, response });
            }
        }
        let rubbish = memory.rubbish();
        drop(memory);
        rubbish.into_iter().for_each(Rubbish::dispose);
        twins
    }

    /// Whether other connections wait for the answer of a call that was begun on this one.
    pub(crate) fn is_joined(&self, id: u64) -> bool {
        self.client.lock().replies.is_joined(id)
    }

    /// The caller has gone.
    pub(crate) fn cancel(&self, id: u64) {
        let cancellation = self.client.lock().running.remove(&id);
        if let Some(cancellation) = cancellation {
            cancellation.cancel();
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
        let member = memory.connections.remove(&self.number);
        memory.replies.leave(self.number);
        let is_last = member.is_some() && memory.connections.is_empty();
        if is_last {
            memory.left = Some(now);
        }
        drop(memory);
        drop(member);
        if is_last {
            self.clients.lock().gone.push_back((self.id, now));
        }
    }
}

fn error(code: u32, text: &'static str) -> Reception {
    Reception::Respond(Response::Error(ErrorReply::new(code, text)))
}
