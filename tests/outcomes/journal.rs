//! A server's handler that writes down what it ran, and the calls that it understands.
//!
//! A body is a key (`u64`), what the handler shall do (one byte), the length of the reply (`u32`), and a filler.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use steadfast::{Bytes, Call, CloseError, ErrorReply, Handler, ServerBuilder, ServerHandle};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::support::loopback::own_loopback;
use crate::support::waits::soon;

/// How often each call ran, by its key.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    runs: Arc<Mutex<HashMap<u64, u32>>>,
    leaving: Arc<Semaphore>,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self { runs: Arc::default(), leaving: Arc::new(Semaphore::new(0)) }
    }

    pub(crate) fn runs(&self, key: u64) -> u32 {
        self.runs.lock().unwrap().get(&key).copied().unwrap_or_default()
    }

    /// Lets one handler end that [stays](Deed::Stay).
    pub(crate) fn let_one_leave(&self) {
        self.leaving.add_permits(1);
    }

    fn note(&self, key: u64) {
        *self.runs.lock().unwrap().entry(key).or_default() += 1;
    }
}

impl Handler for Journal {
    async fn call(&self, call: Call) -> Result<Bytes, ErrorReply> {
        let (key, deed, length) = read(call.body());
        self.note(key);
        match deed {
            Deed::Answer => {}
            Deed::Fail => return Err(ErrorReply::new(7, "no")),
            Deed::Dawdle => tokio::time::sleep(Duration::from_millis(key % 8)).await,
            Deed::Stay => self.leaving.acquire().await.unwrap().forget(),
        }
        Ok(reply(key, length))
    }
}

/// A server with a journal.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) journal: Journal,
    pub(crate) address: SocketAddr,
    pub(crate) handle: ServerHandle,
    serving: JoinHandle<Result<(), CloseError>>,
}

impl Served {
    pub(crate) async fn start(server: ServerBuilder) -> Self {
        Self::start_at(server, (own_loopback(), 0).into(), Journal::new()).await
    }

    pub(crate) async fn start_at(
        server: ServerBuilder,
        address: SocketAddr,
        journal: Journal,
    ) -> Self {
        let server = server.bind(address).await.unwrap();
        let (address, handle) = (server.local_addr().unwrap(), server.handle());
        let serving = tokio::spawn(server.serve(journal.clone()));
        Self { journal, address, handle, serving }
    }

    /// Shuts it down, without cutting anything off. Then the journal is complete: nothing is run any more.
    pub(crate) async fn end(self) -> Journal {
        self.handle.shutdown(Duration::from_secs(10));
        soon("the end of the server", self.serving).await.unwrap().unwrap();
        self.journal
    }
}

/// What the handler does with a call, behind the entry in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Deed {
    Answer,
    Fail,
    /// Answers within some milliseconds.
    Dawdle,
    /// Answers when it is let go, also if its caller has gone.
    Stay,
}

/// The least that a body needs.
pub(crate) const LEAST: usize = 13;

/// The body of a call of so many bytes whose reply has so many.
pub(crate) fn body(key: u64, deed: Deed, length: usize, reply: usize) -> Bytes {
    let mut body = vec![key as u8; length];
    body[..8].copy_from_slice(&key.to_be_bytes());
    body[8] = deed as u8;
    body[9..LEAST].copy_from_slice(&(reply as u32).to_be_bytes());
    body.into()
}

/// The reply to that call.
pub(crate) fn reply(key: u64, length: usize) -> Bytes {
    let mut reply = vec![!key as u8; length];
    reply[..8].copy_from_slice(&key.to_be_bytes());
    reply.into()
}

fn read(body: &Bytes) -> (u64, Deed, usize) {
    let key = u64::from_be_bytes(body[..8].try_into().unwrap());
    let length = u32::from_be_bytes(body[9..LEAST].try_into().unwrap());
    let deeds = [Deed::Answer, Deed::Fail, Deed::Dawdle, Deed::Stay];
    (key, deeds[body[8] as usize], length as usize)
}
