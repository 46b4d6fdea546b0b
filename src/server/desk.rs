//! Where one connection's requests are handed to handlers, and their answers taken.
//!
//! ```text
//! Event ─► is it new? ─► a turn among the handlers ─► Handler ─► kept for its twins ─► this connection, and theirs
//!             │               └ too many wait for one: refused
//!             └ no: the answer that is kept, or nothing, because it runs
//! ```

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use futures::FutureExt as _;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, warn};

use crate::clock::now;
use crate::connection::{Connection, Tell};
use crate::error::call::{ErrorReply, Refusal};
use crate::proto::replies::Response;
use crate::proto::requests::Remember;
use crate::proto::serving::{Event, Serving};
use crate::server::call::{Call, Handler, Pusher};
use crate::server::clients::{Membership, Verdict};
use crate::server::shared::Shared;

#[derive(Debug)]
pub(crate) struct Desk<H> {
    pub(crate) shared: Arc<Shared<H>>,
    pub(crate) connection: Connection<Serving>,
    pub(crate) membership: Arc<Membership>,
    peer: SocketAddr,
    number: u64,
    /// Handlers of calls that are not remembered: they are told when the connection ends.
    running: Mutex<HashMap<u64, CancellationToken>>,
    /// The connection has ended.
    ended: CancellationToken,
}

/// A desk that is closed when this is dropped: handlers may still hold it.
pub(crate) struct OpenDesk<H: Handler>(Arc<Desk<H>>);

impl<H: Handler> OpenDesk<H> {
    pub(crate) fn new(desk: Desk<H>) -> Self {
        Self(Arc::new(desk))
    }
}

impl<H: Handler> Deref for OpenDesk<H> {
    type Target = Arc<Desk<H>>;

    fn deref(&self) -> &Arc<Desk<H>> {
        &self.0
    }
}

impl<H: Handler> Drop for OpenDesk<H> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A request on its way to a handler.
#[derive(Debug, Clone, Copy)]
struct Job {
    id: u64,
    cached: Cached,
}

/// A turn among the handlers, or a place in the line of those who wait for one.
#[derive(Debug)]
enum Admission {
    Turn(OwnedSemaphorePermit),
    Waiting(OwnedSemaphorePermit),
}

/// What the wait for a turn came to.
#[derive(Debug)]
enum Turn {
    Run(OwnedSemaphorePermit),
    /// The caller has gone, or its time is up.
    Late,
    /// Its connection has ended. Should it come again, it is new.
    Withdrawn,
}

/// Whether its answer is kept in the reply cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cached {
    Yes,
    No,
}

impl<H: Handler> Desk<H> {
    pub(crate) fn new(
        shared: Arc<Shared<H>>,
        connection: Connection<Serving>,
        membership: Arc<Membership>,
        peer: SocketAddr,
        number: u64,
    ) -> Self {
        let (running, ended) = (Mutex::default(), CancellationToken::new());
        Self { shared, connection, membership, peer, number, running, ended }
    }

    pub(crate) fn happened(self: &Arc<Self>, event: Event) {
        match event {
            Event::Request { id, body, deadline, remember } => {
                self.begin(id, body, deadline, remember);
            }
            Event::Notification { body } => {
                let call = self.call(body, None, CancellationToken::new());
                let desk = self.clone();
                self.start(0, async move { desk.notify(call).await });
            }
            Event::Cancelled { id } => match self.take_running(id) {
                Some(cancelled) => cancelled.cancel(),
                None => self.membership.cancel(id),
            },
            // The client may come back for the answer of a call that is remembered.
            Event::Orphaned { id } => {
                if let Some(cancelled) = self.take_running(id) {
                    cancelled.cancel();
                }
            }
        }
    }

    /// The connection has ended.
    fn close(&self) {
        self.membership.leave();
        self.ended.cancel();
        let running = std::mem::take(&mut *self.running());
        running.into_values().for_each(|cancelled| cancelled.cancel());
    }

    fn begin(
        self: &Arc<Self>,
        id: u64,
        body: Bytes,
        deadline: Option<Instant>,
        remember: Remember,
    ) {
        let (cached, cancelled) = match remember {
            Remember::Yes { oldest } if self.shared.clients.remembers() => {
                match self.membership.begin(id, oldest) {
                    Verdict::Run(cancelled) => (Cached::Yes, cancelled),
                    Verdict::Nothing => return debug!(id, "sent again, and not run again"),
                    Verdict::Respond(response) => return self.respond(id, &response),
                }
            }
            _ => {
                let cancelled = CancellationToken::new();
                self.running().insert(id, cancelled.clone());
                (Cached::No, cancelled)
            }
        };
        let job = Job { id, cached };
        let Some(admission) = self.admit() else {
            return self.turn_down(job);
        };
        let call = self.call(body, deadline, cancelled);
        let desk = self.clone();
        self.start(1, async move { desk.answer(job, call, admission).await });
    }

    /// `None` if too many wait already, over all connections.
    fn admit(&self) -> Option<Admission> {
        let turn = self.shared.handlers.clone().try_acquire_owned();
        let waiting = || self.shared.waiting.clone().try_acquire_owned().map(Admission::Waiting);
        turn.map(Admission::Turn).or_else(|_| waiting()).ok()
    }

    /// Refuses a request for which there is no room. It is not remembered, unless its twin has come meanwhile: that would
    /// take room from answers.
    fn turn_down(&self, Job { id, cached }: Job) {
        let refused = Response::Refused(Refusal { code: Refusal::OVERLOADED, retry_after: None });
        match cached {
            Cached::Yes if self.membership.withdraw(id) => self.respond(id, &refused),
            _ => self.settle(Job { id, cached }, &refused),
        }
    }

    /// Starts a task that so many calls depend on.
    fn start(&self, calls: usize, task: impl Future<Output = ()> + Send + 'static) {
        let shared = self.shared.clone();
        let span = tracing::Span::current();
        let task = async move {
            if shared.killed.run_until_cancelled(task).await.is_none() {
                shared.cut_off.fetch_add(calls, Ordering::Relaxed);
            }
        };
        self.shared.tasks.spawn(task.instrument(span));
    }

    fn call(&self, body: Bytes, deadline: Option<Instant>, cancelled: CancellationToken) -> Call {
        let pusher = Pusher(self.connection.clone());
        Call { body, peer: self.peer, connection: self.number, deadline, cancelled, pusher }
    }

    async fn answer(&self, job: Job, call: Call, admission: Admission) {
        let _permit = match self.turn(job, &call, admission).await {
            Turn::Run(permit) if !call.is_cancelled() => permit,
            Turn::Run(_) | Turn::Late => {
                // Nothing is sent to a caller that has gone.
                let refusal = Refusal { code: Refusal::EXPIRED, retry_after: None };
                return self.settle(job, &Response::Refused(refusal));
            }
            Turn::Withdrawn => return,
        };
        let handler = async { self.shared.handler.call(call).await };
        let response = match AssertUnwindSafe(handler).catch_unwind().await {
            Ok(Ok(body)) => Response::Reply(body),
            Ok(Err(error)) => Response::Error(error),
            Err(_panic) => {
                warn!(id = job.id, "a handler panicked");
                let (code, text) = (ErrorReply::HANDLER_PANICKED, "the handler panicked");
                Response::Error(ErrorReply::new(code, text))
            }
        };
        self.settle(job, &response);
    }

    /// Waits for a turn among the handlers. Who has gone must not stay in the line: a client could fill it with calls that
    /// it cancels.
    async fn turn(&self, job: Job, call: &Call, admission: Admission) -> Turn {
        let _place = match admission {
            Admission::Turn(permit) => return Turn::Run(permit),
            Admission::Waiting(place) => place,
        };
        // The semaphore is never closed.
        let run = |permit: Result<_, AcquireError>| permit.map_or(Turn::Late, Turn::Run);
        let mut permit = pin!(self.shared.handlers.clone().acquire_owned());
        tokio::select! {
            biased;
            permit = &mut permit => return run(permit),
            () = call.cancelled() => return Turn::Late,
            () = self.ended.cancelled() => {}
        }
        if job.cached == Cached::Yes && self.membership.withdraw(job.id) {
            return Turn::Withdrawn;
        }
        tokio::select! {
            biased;
            permit = permit => run(permit),
            () = call.cancelled() => Turn::Late,
        }
    }

    /// Who says a last word and closes is heard, too. But what waits is bounded by its connection only as long as that lives;
    /// then it needs a place in the line of all.
    async fn turn_of_notification(&self) -> Option<SemaphorePermit<'_>> {
        let mut permit = pin!(self.shared.handlers.acquire());
        tokio::select! {
            biased;
            permit = &mut permit => return permit.ok(),
            () = self.ended.cancelled() => {}
        }
        let _place = self.shared.waiting.try_acquire().ok()?;
        permit.await.ok()
    }

    async fn notify(&self, notification: Call) {
        let length = notification.body.len();
        let Some(_turn) = self.turn_of_notification().await else {
            return warn!("a notification is dropped: too many wait whose connections have ended");
        };
        let handler = async { self.shared.handler.notified(notification).await };
        if AssertUnwindSafe(handler).catch_unwind().await.is_err() {
            warn!("a handler panicked over a notification");
        }
        self.connection.with(|serving| (serving.notification_done(length), Tell::Owner));
    }

    /// Keeps the answer, if it may be asked for again, and sends it to everybody who waits for it.
    fn settle(&self, job: Job, response: &Response) {
        let Job { id, cached } = job;
        let joined = match cached {
            Cached::Yes => self.membership.settle(now(), id, response),
            Cached::No => {
                drop(self.take_running(id));
                Vec::new()
            }
        };
        self.respond(id, response);
        for connection in joined {
            respond(&connection, id, response);
        }
    }

    fn respond(&self, id: u64, response: &Response) {
        respond(&self.connection, id, response);
    }

    fn take_running(&self, id: u64) -> Option<CancellationToken> {
        self.running().remove(&id)
    }

    fn running(&self) -> MutexGuard<'_, HashMap<u64, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn respond(connection: &Connection<Serving>, id: u64, response: &Response) {
    let now = now();
    connection.with(|serving| (serving.respond(now, id, response), Tell::Owner));
}
