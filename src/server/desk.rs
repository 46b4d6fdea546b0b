//! Where one connection's requests are handed to handlers, and their answers taken.
//!
//! ```text
//! Event ─► is it new? ─► a turn among the handlers ─► Handler ─► this connection ─► kept ─► its twins' connections
//!             │               └ too many wait for one: refused
//!             └ no: the answer that is kept, or nothing, because it runs
//! ```
//!
//! The handlers of calls that came together are begun one after the other by one task, which also sends their answers
//! together; for most calls that is all, because their handlers have nothing to wait for. One that has gets a task of its own,
//! and so do all behind one that keeps the thread to itself.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::ops::Deref;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{FutureExt as _, poll};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, warn};

use crate::clock::{self, now};
use crate::connection::{Connection, Tell};
use crate::error::answer::{ErrorReply, Refusal};
use crate::panics::discard;
use crate::proto::id_map::{IdMap, in_order};
use crate::proto::replies::Response;
use crate::proto::requests::Remember;
use crate::proto::serving::{Event, Serving};
use crate::proto::session::Happened;
use crate::server::call::{Call, Handler, Pusher};
use crate::server::cancellation::Cancellation;
use crate::server::clients::membership::{Membership, Reception};
use crate::server::desk::turn::{Admission, Turn};
use crate::server::life::Life;
use crate::server::shared::Shared;

mod turn;

/// Handlers that are begun together may take so long until they first wait, and [`BATCH_PER_CALL`] more for each that has been
/// begun. A task of its own costs about one microsecond.
const BATCH_BASE: Duration = Duration::from_micros(100);
const BATCH_PER_CALL: Duration = Duration::from_micros(20);

#[derive(Debug)]
pub(crate) struct Desk<H: Handler> {
    pub(crate) shared: Arc<Shared<H>>,
    pub(crate) connection: Connection<Serving>,
    pub(crate) membership: Arc<Membership>,
    peer: SocketAddr,
    number: u64,
    /// Handlers of calls that are not remembered: they are told when the connection ends.
    running: Mutex<IdMap<Cancellation>>,
    /// The connection has ended.
    ended: CancellationToken,
    /// It has ended before the server did: what still runs is nobody's but of a client who comes back.
    is_outlived: AtomicBool,
    /// Upgraded for what comes, until its handler has begun.
    life: Weak<Life<H>>,
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

/// The life of the connection over which something came whose handler has not begun.
type Beginning<H> = Option<Arc<Life<H>>>;

/// A request on its way to a handler.
#[derive(Debug, Clone, Copy)]
struct Job {
    id: u64,
    cached: Cached,
}

/// A request whose handler has its turn.
#[derive(Debug)]
struct Admitted {
    job: Job,
    call: Call,
    turn: OwnedSemaphorePermit,
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
        life: &Arc<Life<H>>,
    ) -> Self {
        let life = Arc::downgrade(life);
        let (running, ended) = (Mutex::default(), CancellationToken::new());
        let is_outlived = AtomicBool::new(false);
        Self { shared, connection, membership, peer, number, running, ended, is_outlived, life }
    }

    /// Takes what has happened in one turn of the connection's owner.
    pub(crate) fn happened(self: &Arc<Self>, events: Happened<'_, Event>) {
        let mut together = Vec::with_capacity(events.len());
        together.extend(events.filter_map(|event| self.take(event)));
        if !together.is_empty() {
            self.start_together(together);
        }
    }

    /// A request that is to be run at once, if it is one.
    fn take(self: &Arc<Self>, event: Event) -> Option<Admitted> {
        match event {
            Event::Request { id, body, deadline, remember } => {
                return self.begin(id, body, deadline, remember);
            }
            Event::Notification { body } => {
                let call = self.call(body, None, Cancellation::default());
                let desk = self.clone();
                let life = self.life.upgrade();
                self.start(None, async move { desk.notify(call, life).await });
            }
            Event::Cancelled { id } => match self.take_running(id) {
                Some(cancellation) => cancellation.cancel(),
                None => self.membership.cancel(id),
            },
            // The client may come back for the answer of a call that is remembered.
            Event::Orphaned { id } => {
                self.outlived();
                if let Some(cancellation) = self.take_running(id) {
                    cancellation.cancel();
                }
            }
        }
        None
    }

    /// The connection has ended, and the server goes on.
    pub(crate) fn outlived(&self) {
        self.is_outlived.store(true, Ordering::SeqCst);
    }

    /// The connection has ended.
    fn close(&self) {
        // Nobody comes back to a server that has been killed, and who waits for whose answer is asked once more.
        if !self.shared.killed.is_cancelled() {
            self.outlived();
            self.membership.leave();
        }
        self.ended.cancel();
        let running = std::mem::take(&mut *self.running());
        in_order(running).iter().for_each(|(_, cancellation)| cancellation.cancel());
    }

    fn begin(
        self: &Arc<Self>,
        id: u64,
        body: Bytes,
        deadline: Option<Instant>,
        remember: Remember,
    ) -> Option<Admitted> {
        let (cached, cancellation) = match remember {
            Remember::Yes { oldest } if self.shared.clients.remembers() => {
                match self.membership.begin(id, oldest) {
                    Reception::Run(cancellation) => (Cached::Yes, cancellation),
                    Reception::Nothing => {
                        debug!(id, "sent again, and not run again");
                        return None;
                    }
                    Reception::Respond(response) => {
                        respond(&self.connection, now(), id, &response);
                        return None;
                    }
                }
            }
            _ => {
                let cancellation = Cancellation::default();
                self.running().insert(id, cancellation.clone());
                (Cached::No, cancellation)
            }
        };
        let job = Job { id, cached };
        let Some(admission) = self.admit() else {
            self.turn_down(job);
            return None;
        };
        let call = self.call(body, deadline, cancellation);
        match admission {
            Admission::Turn(turn) => return Some(Admitted { job, call, turn }),
            Admission::Waiting(place) => {
                let (desk, life) = (self.clone(), self.life.upgrade());
                self.start(Some(job), async move {
                    desk.answer_later(job, call, life, place).await;
                });
            }
        }
        None
    }

    fn start_together(self: &Arc<Self>, calls: Vec<Admitted>) {
        let (desk, life, span) = (self.clone(), self.life.upgrade(), tracing::Span::current());
        self.shared
            .tasks
            .spawn(async move { desk.run_together(calls, life).await }.instrument(span));
    }

    /// Begins one after the other, and answers those that are done with that.
    async fn run_together(self: Arc<Self>, calls: Vec<Admitted>, life: Beginning<H>) {
        if self.shared.killed.is_cancelled() {
            calls.iter().for_each(|admitted| self.cut_off(admitted.job));
            return;
        }
        let (mut limit, each) = (BATCH_BASE, BATCH_PER_CALL);
        let began = now();
        let (mut now, mut done) = (began, Vec::with_capacity(calls.len()));
        let mut left = calls.into_iter();
        while let Some(admitted) = left.next() {
            let job = admitted.job;
            // `life` lasts until all have begun.
            let mut run = Box::pin(self.clone().run(now, admitted));
            match poll!(&mut run) {
                Poll::Ready(response) => done.push((job, response)),
                Poll::Pending => self.answer_alone(job, run),
            }
            limit += each;
            now = clock::now();
            if now - began > limit {
                left.by_ref().for_each(|admitted| self.start_alone(admitted, life.clone()));
            }
        }
        drop(life);
        self.settle_all(now, done);
    }

    fn start_alone(self: &Arc<Self>, admitted: Admitted, life: Beginning<H>) {
        let (desk, job) = (self.clone(), admitted.job);
        self.answer_alone(job, async move { begun(desk.run(now(), admitted), life).await });
    }

    /// Starts a task that answers one call.
    fn answer_alone(
        self: &Arc<Self>,
        job: Job,
        response: impl Future<Output = Response> + Send + 'static,
    ) {
        let desk = self.clone();
        self.start(Some(job), async move {
            let response = response.await;
            desk.settle(job, response);
        });
    }

    /// Refuses a request for which there is no room. It is not remembered, unless its twin has come meanwhile: that would
    /// take room from answers.
    fn turn_down(&self, job: Job) {
        let refused = Response::Refused(Refusal { code: Refusal::OVERLOADED, retry_after: None });
        match job.cached {
            Cached::Yes if self.membership.withdraw(job.id) => {
                respond(&self.connection, now(), job.id, &refused);
            }
            _ => self.settle(job, refused),
        }
    }

    /// Starts a task, for a call if one is named.
    fn start(self: &Arc<Self>, job: Option<Job>, task: impl Future<Output = ()> + Send + 'static) {
        let (desk, span) = (self.clone(), tracing::Span::current());
        let task = async move {
            let mut task = pin!(task);
            if desk.shared.killed.run_until_cancelled(task.as_mut()).await.is_none() {
                // Before it is dropped, which runs code of the user's.
                if let Some(job) = job {
                    desk.cut_off(job);
                }
            }
        };
        self.shared.tasks.spawn(task.instrument(span));
    }

    /// A call is cut off. It is counted here, unless a connection that ends now counts it among those that it has not answered.
    fn cut_off(&self, job: Job) {
        let waits_elsewhere = job.cached == Cached::Yes && self.membership.is_joined(job.id);
        if self.is_outlived.load(Ordering::SeqCst) && !waits_elsewhere {
            self.shared.cut_off.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn call(&self, body: Bytes, deadline: Option<Instant>, cancellation: Cancellation) -> Call {
        let pusher = Pusher(self.connection.clone());
        Call { body, peer: self.peer, connection: self.number, deadline, cancellation, pusher }
    }

    async fn answer_later(
        self: Arc<Self>,
        job: Job,
        call: Call,
        life: Beginning<H>,
        place: OwnedSemaphorePermit,
    ) {
        let response = match self.turn(job, &call, place).await {
            Turn::Run(turn) => {
                begun(self.clone().run(now(), Admitted { job, call, turn }), life).await
            }
            Turn::Late => expired(),
            Turn::Withdrawn => return,
        };
        self.settle(job, response);
    }

    /// Runs the handler, unless nobody waits for its answer any more.
    async fn run(
        self: Arc<Self>,
        now: Instant,
        Admitted { job, call, turn: _turn }: Admitted,
    ) -> Response {
        if call.is_cancelled_by(now) {
            return expired();
        }
        let handler = async { self.shared.handler.call(call).await };
        match AssertUnwindSafe(handler).catch_unwind().await {
            Ok(Ok(body)) => Response::Reply(body),
            Ok(Err(error)) => Response::Error(error),
            Err(_panic) => {
                warn!(id = job.id, "a handler panicked");
                let (code, text) = (ErrorReply::HANDLER_PANICKED, "the handler panicked");
                Response::Error(ErrorReply::new(code, text))
            }
        }
    }

    async fn notify(&self, notification: Call, life: Beginning<H>) {
        let length = notification.body.len();
        let Some(_turn) = self.turn_of_notification().await else {
            return warn!("a notification is dropped: too many wait whose connections have ended");
        };
        let handler = async { self.shared.handler.notified(notification).await };
        if begun(AssertUnwindSafe(handler).catch_unwind(), life).await.is_err() {
            warn!("a handler panicked over a notification");
        }
        self.connection.with(|serving| (serving.notification_done(length), Tell::Owner));
    }

    fn settle(&self, job: Job, response: Response) {
        self.settle_all(now(), vec![(job, response)]);
    }

    /// Sends the answers, keeps those that may be asked for again, and sends these to everybody else who waits for them. Who comes
    /// again in between waits for the answer, because the call still runs.
    fn settle_all(&self, now: Instant, mut done: Vec<(Job, Response)>) {
        if done.is_empty() {
            return;
        }
        self.connection.with(|serving| {
            for (job, response) in &done {
                serving.respond(now, job.id, response);
            }
            ((), Tell::Owner)
        });
        // Calls that are not remembered do not concern the client's memory, whose lock its other connections take.
        while let Some(at) = done.iter().position(|(job, _)| job.cached != Cached::Yes) {
            let (job, response) = done.swap_remove(at);
            self.take_running(job.id);
            discard(response);
        }
        if done.is_empty() {
            return;
        }
        let kept = done.into_iter().map(|(job, response)| (job.id, response));
        for twin in self.membership.settle(now, kept) {
            respond(&twin.connection, now, twin.id, &twin.response);
            discard(twin);
        }
    }

    fn take_running(&self, id: u64) -> Option<Cancellation> {
        self.running().remove(&id)
    }

    fn running(&self) -> MutexGuard<'_, IdMap<Cancellation>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what calls a handler. What tells of the connection's end waits until it has begun.
async fn begun<H: Handler, T>(run: impl Future<Output = T>, mut life: Beginning<H>) -> T {
    let mut run = pin!(run);
    poll_fn(|cx| {
        let polled = run.as_mut().poll(cx);
        life.take();
        polled
    })
    .await
}

/// Nothing is sent to a caller that has gone.
fn expired() -> Response {
    Response::Refused(Refusal { code: Refusal::EXPIRED, retry_after: None })
}

fn respond(connection: &Connection<Serving>, now: Instant, id: u64, response: &Response) {
    connection.with(|serving| (serving.respond(now, id, response), Tell::Owner));
}
