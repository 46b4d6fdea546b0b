//! One accepted connection: the handshake, then handlers at work until the connection's death.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, debug, info, info_span, warn};

use crate::clock::now;
use crate::connect::{Transport, set_options};
use crate::connection::{Connection, Tell};
use crate::driver::{About, Driver};
use crate::error::call::{ErrorReply, Refusal};
use crate::error::connect::ConnectCause;
use crate::handshake::{await_hello, send};
use crate::proto::greeting::{Hello, InstanceId, Welcome};
use crate::proto::native::{Frame, VERSION, after, goodbye, millis};
use crate::proto::serving::{Bounds, Event, Serving};
use crate::server::call::{Call, Handler, Pusher};
use crate::server::settings::ServerBuilder;

/// A client that was turned away gets so long to read why.
const LINGER: Duration = Duration::from_secs(1);

/// What all connections of a server share.
#[derive(Debug)]
pub(crate) struct Shared<H> {
    pub(crate) settings: ServerBuilder,
    pub(crate) instance: InstanceId,
    pub(crate) handler: H,
    /// Bounds the handlers at work.
    pub(crate) handlers: Semaphore,
    /// The server shuts down: connections finish what they have.
    pub(crate) draining: CancellationToken,
    /// The time for that is over.
    pub(crate) killed: CancellationToken,
    /// Handlers at work.
    pub(crate) tasks: TaskTracker,
    /// Calls that were cut off when the time for draining was over.
    pub(crate) cut_off: AtomicUsize,
}

/// Lives with one connection to its end.
pub(crate) async fn serve<H: Handler>(
    shared: Arc<Shared<H>>,
    stream: TcpStream,
    peer: SocketAddr,
    number: u64,
) {
    let killed = shared.killed.clone();
    let greeting = killed.run_until_cancelled(greet(&shared, stream, peer));
    let Some(Some((stream, hello, input))) = greeting.await else {
        return;
    };
    let connection = Connection::new(session(&shared.settings, &hello));
    let about = About { endpoint: peer.to_string().into(), address: Some(peer), number };
    let transport: Box<dyn Transport> = Box::new(stream);
    let driver = Driver::new(connection.clone(), transport, input, about);
    let client_number = hello.connection;
    let span = info_span!("client", %peer, connection = number, client_number);
    work(shared, driver, connection, peer, number).instrument(span).await;
}

/// The handshake. `None` if there was none.
async fn greet<H>(
    shared: &Shared<H>,
    mut stream: TcpStream,
    peer: SocketAddr,
) -> Option<(TcpStream, Hello, BytesMut)> {
    let settings = &shared.settings;
    if let Err(error) = set_options(&stream, &settings.socket, &settings.heartbeat) {
        warn!(%peer, %error, "socket options refused");
        return None;
    }
    let limit = settings.handshake;
    let hello = tokio::select! {
        biased;
        // No "retry after": another server may listen there in this very moment.
        () = shared.draining.cancelled() => {
            let text = "the server is shutting down".into();
            turn_away(stream, Frame::Busy { code: 2, retry_after: 0, text }).await;
            return None;
        }
        hello = timeout(limit, await_hello(&mut stream)) => hello,
    };
    let (hello, input) = match hello.unwrap_or(Err(ConnectCause::TimedOut { limit })) {
        Ok(hello) => hello,
        Err(cause) => {
            warn!(%peer, %cause, "no handshake");
            if let ConnectCause::Violation(violation) = cause {
                reject(stream, 2, &violation.to_string()).await;
            }
            return None;
        }
    };
    if !(hello.min_version..=hello.max_version).contains(&VERSION) {
        let (min, max) = (hello.min_version, hello.max_version);
        let text = format!("this server speaks version {VERSION}, the client {min} to {max}");
        reject(stream, 1, &text).await;
        return None;
    }
    let welcome = Frame::Welcome(welcome(settings, shared.instance));
    if let Err(error) = send(&mut stream, &welcome).await {
        debug!(%peer, %error, "client left in the handshake");
        return None;
    }
    Some((stream, hello, input))
}

async fn work<H: Handler>(
    shared: Arc<Shared<H>>,
    driver: Driver<Serving>,
    connection: Connection<Serving>,
    peer: SocketAddr,
    number: u64,
) {
    info!("client connected");
    let desk = Arc::new(Desk {
        shared: shared.clone(),
        connection: connection.clone(),
        peer,
        number,
        running: Mutex::new(HashMap::new()),
    });
    let events = desk.clone();
    let running = driver.run(move |event| events.happened(event));
    let drained = async {
        shared.draining.cancelled().await;
        connection.with(|serving| {
            serving.go_away(goodbye::CLOSING, None, "the server is shutting down");
            ((), Tell::Owner)
        });
        std::future::pending::<()>().await;
    };
    // Counted before the driver is dropped, with which everything is settled.
    let killed = async {
        shared.killed.cancelled().await;
        connection.with(|serving| (serving.unfinished(), Tell::Nobody))
    };
    let loss = tokio::select! {
        loss = running => loss,
        () = drained => return,
        calls = killed => {
            shared.cut_off.fetch_add(calls, Ordering::Relaxed);
            desk.cancel_all();
            return warn!(calls, "client cut off");
        }
    };
    desk.cancel_all();
    if loss.is_intended() {
        info!(age = ?loss.age, "client connection closed");
    } else {
        info!(age = ?loss.age, silent_for = ?loss.silent_for, cause = %loss.cause, "client lost");
    }
}

/// Where one connection's requests are handed to handlers, and their answers taken.
#[derive(Debug)]
struct Desk<H> {
    shared: Arc<Shared<H>>,
    connection: Connection<Serving>,
    peer: SocketAddr,
    number: u64,
    running: Mutex<HashMap<u64, CancellationToken>>,
}

impl<H: Handler> Desk<H> {
    fn happened(self: &Arc<Self>, event: Event) {
        match event {
            Event::Request { id, body, deadline } => {
                let cancelled = CancellationToken::new();
                self.running().insert(id, cancelled.clone());
                let desk = self.clone();
                let call = self.call(body, deadline, cancelled);
                self.start(async move { desk.answer(id, call).await });
            }
            Event::Notification { body } => {
                let call = self.call(body, None, CancellationToken::new());
                let desk = self.clone();
                self.start(async move { desk.take(call).await });
            }
            Event::Cancelled { id } => {
                let token = self.running().remove(&id);
                if let Some(token) = token {
                    token.cancel();
                }
            }
        }
    }

    fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        let killed = self.shared.killed.clone();
        let span = tracing::Span::current();
        let task = async move {
            killed.run_until_cancelled(task).await;
        };
        self.shared.tasks.spawn(task.instrument(span));
    }

    fn call(&self, body: Bytes, deadline: Option<Instant>, cancelled: CancellationToken) -> Call {
        let pusher = Pusher(self.connection.clone());
        Call { body, peer: self.peer, connection: self.number, deadline, cancelled, pusher }
    }

    async fn answer(&self, id: u64, call: Call) {
        // The semaphore is never closed. Who waits for a turn and has gone must not stay in the line: a client could
        // fill it with calls that it cancels.
        let turn = tokio::select! {
            biased;
            turn = self.shared.handlers.acquire() => turn.ok(),
            () = call.cancelled() => None,
        };
        let Some(_turn) = turn.filter(|_| !call.is_cancelled()) else {
            // Nothing is sent to a caller that has gone.
            let refusal = Refusal { code: Refusal::EXPIRED, retry_after: None };
            self.settle(id, |serving, now| serving.refuse(now, id, refusal));
            return;
        };
        let handler = async { self.shared.handler.call(call).await };
        let answer = AssertUnwindSafe(handler).catch_unwind().await.unwrap_or_else(|_| {
            warn!(id, "a handler panicked");
            Err(ErrorReply::new(ErrorReply::HANDLER_PANICKED, "the handler panicked"))
        });
        self.settle(id, |serving, now| serving.reply(now, id, answer));
    }

    async fn take(&self, notification: Call) {
        let length = notification.body.len();
        let _turn = self.shared.handlers.acquire().await;
        let handler = async { self.shared.handler.notified(notification).await };
        if AssertUnwindSafe(handler).catch_unwind().await.is_err() {
            warn!("a handler panicked over a notification");
        }
        self.connection.with(|serving| (serving.noticed(length), Tell::Owner));
    }

    fn settle<R>(&self, id: u64, settle: impl FnOnce(&mut Serving, Instant) -> R) {
        self.running().remove(&id);
        let now = now();
        // What comes back is dropped here, outside the lock.
        let _: R = self.connection.with(|serving| (settle(serving, now), Tell::Owner));
    }

    fn running(&self) -> MutexGuard<'_, HashMap<u64, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel_all(&self) {
        let tokens = std::mem::take(&mut *self.running());
        for token in tokens.into_values() {
            token.cancel();
        }
    }
}

async fn reject(stream: TcpStream, code: u32, text: &str) {
    turn_away(stream, Frame::Reject { code, text: text.into() }).await;
}

/// Says no, then FIN, then reads to the client's FIN, so that no RST destroys the answer.
pub(crate) async fn turn_away(mut stream: TcpStream, answer: Frame) {
    let farewell = async {
        if send(&mut stream, &answer).await.is_err() || stream.shutdown().await.is_err() {
            return;
        }
        let mut rest = [0; 1024];
        while matches!(stream.read(&mut rest).await, Ok(1..)) {}
    };
    // Whoever does not read within that time does not want to know.
    let _ = timeout(LINGER, farewell).await;
}

fn welcome(settings: &ServerBuilder, instance: InstanceId) -> Welcome {
    Welcome {
        version: VERSION,
        instance,
        max_message: wire(settings.message),
        max_in_flight: wire(settings.in_flight),
        idle_limit: settings.idle_limit.map_or(0, millis),
        every: millis(settings.heartbeat.every),
        cached_calls: 0,
        cached_bytes: 0,
        cache_age: 0,
    }
}

fn session(settings: &ServerBuilder, hello: &Hello) -> Serving {
    let bounds = Bounds {
        send: hello.max_message as usize,
        receive: settings.message,
        in_flight: settings.in_flight,
        held_bytes: settings.held_bytes,
        idle_limit: settings.idle_limit,
    };
    Serving::new(now(), settings.heartbeat, after(hello.every), bounds)
}

/// A bound as the wire has it.
fn wire(bound: usize) -> u32 {
    bound.try_into().unwrap_or(u32::MAX)
}
