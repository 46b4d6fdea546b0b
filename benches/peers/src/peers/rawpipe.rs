//! The hand-written limit: one connection, ids, one writer that batches, a slab of reply slots, and nothing else. No
//! deadline, no heartbeat, no cancellation (a dropped call leaks its slot), no limits, no outcome, no reconnecting.
//!
//! ```text
//!  caller ─ lock: a slot, its bytes behind those of the others ─► owner: yields once, swaps the buffers, writes
//!  caller ◄─ lock: swaps its buffer with the slot's ◄─ wake ◄─ owner: reads, fills slots under one lock
//! ```

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::peers::{BoxError, Caller, Peer, Target, compare};

mod batch;
mod owner;

use batch::Batch;

/// A frame is a length, an id that counts as part of it, and the body.
const HEAD: usize = 8;
const ID: usize = 4;

pub(crate) struct Rawpipe {
    pipes: Vec<Arc<Shared>>,
    /// Callers so far: they take turns.
    callers: Cell<usize>,
}

struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    out: Batch,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Set while the owner sleeps.
    sleeping: Option<Waker>,
    gone: bool,
}

#[derive(Default)]
enum Slot {
    #[default]
    Free,
    Waiting {
        waker: Waker,
        /// The caller's buffer, for the reply.
        buffer: Vec<u8>,
    },
    /// The owner reads into the caller's buffer.
    Filling {
        waker: Waker,
    },
    Done(Vec<u8>),
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Queues a request. Returns its slot, and the owner if it has to be woken.
    fn start(&mut self, body: &Bytes, buffer: Vec<u8>, waker: Waker) -> (u32, Option<Waker>) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            (self.slots.len() - 1) as u32
        });
        self.slots[slot as usize] = Slot::Waiting { waker, buffer };
        self.out.push(slot, body);
        (slot, self.sleeping.take())
    }

    /// The reply, once it is there.
    fn take(&mut self, slot: u32, waker: &Waker) -> Option<Vec<u8>> {
        match std::mem::take(&mut self.slots[slot as usize]) {
            Slot::Done(reply) => {
                self.free.push(slot);
                Some(reply)
            }
            Slot::Waiting { buffer, .. } => {
                self.slots[slot as usize] = Slot::Waiting { waker: waker.clone(), buffer };
                None
            }
            Slot::Filling { .. } => {
                self.slots[slot as usize] = Slot::Filling { waker: waker.clone() };
                None
            }
            Slot::Free => None,
        }
    }
}

pub(crate) struct Pipe {
    shared: Arc<Shared>,
    /// Travels to the slot and back, so that no reply is allocated.
    buffer: Vec<u8>,
}

impl Peer for Rawpipe {
    type Caller = Pipe;

    async fn connect(target: Target<'_>) -> Result<Self, BoxError> {
        let mut pipes = Vec::new();
        for _ in 0..target.connections {
            let stream = TcpStream::connect(target.address).await?;
            stream.set_nodelay(true)?;
            let shared = Arc::new(Shared(Mutex::default()));
            let mut owner = owner::Owner::new(shared.clone(), stream);
            tokio::spawn(async move {
                let error = poll_fn(|cx| owner.poll(cx)).await;
                owner.end();
                eprintln!("rawpipe: {error}");
            });
            pipes.push(shared);
        }
        Ok(Self { pipes, callers: Cell::new(0) })
    }

    async fn caller(&self) -> Result<Pipe, BoxError> {
        let number = self.callers.replace(self.callers.get() + 1);
        let shared = self.pipes[number % self.pipes.len()].clone();
        Ok(Pipe { shared, buffer: Vec::new() })
    }
}

impl Caller for Pipe {
    async fn call(&mut self, body: &Bytes) -> Result<(), BoxError> {
        Exchange { pipe: self, body, slot: None }.await?;
        compare(&self.buffer, body)
    }
}

struct Exchange<'a> {
    pipe: &'a mut Pipe,
    body: &'a Bytes,
    slot: Option<u32>,
}

impl Future for Exchange<'_> {
    type Output = Result<(), BoxError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { pipe: Pipe { shared, buffer }, body, slot } = &mut *self;
        let Some(slot) = *slot else {
            let waker = cx.waker().clone();
            let mut state = shared.lock();
            if state.gone {
                return Poll::Ready(Err("the connection is dead".into()));
            }
            let (taken, owner) = state.start(body, std::mem::take(buffer), waker);
            drop(state);
            *slot = Some(taken);
            if let Some(owner) = owner {
                owner.wake();
            }
            return Poll::Pending;
        };
        let mut state = shared.lock();
        match state.take(slot, cx.waker()) {
            Some(reply) => {
                *buffer = reply;
                Poll::Ready(Ok(()))
            }
            None if state.gone => Poll::Ready(Err("the connection died".into())),
            None => Poll::Pending,
        }
    }
}
