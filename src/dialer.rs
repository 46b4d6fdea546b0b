//! One attempt to connect: from a name, over the handshake and the user's hook, to a connection that calls can use.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::poll;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, info, info_span, warn};

use crate::autopsy::About;
use crate::clock::now;
use crate::connect::{Connect, Connected, NotConnected};
use crate::connection::Connection;
use crate::conversation::Conversation;
use crate::driver::Driver;
use crate::endpoint::Endpoint;
use crate::error::call::{CallCause, CallError};
use crate::error::connect::{BoxError, ConnectCause, HookError, Phase};
use crate::error::loss::{GoAway, Loss};
use crate::event::Event;
use crate::handshake::greet;
use crate::limits::{Limits, Timeouts};
use crate::panics::{Contained, caught, discard};
use crate::policy::{Heartbeat, Reconnect};
use crate::proto::calling::{self, Bounds, Calling};
use crate::proto::client::Client;
use crate::proto::course::{ServerMemory, ServerProcess};
use crate::proto::dialect::Dialect;
use crate::proto::foreign::Foreign;
use crate::proto::greeting::{ClientId, Hello, Welcome};
use crate::proto::native::{VERSION, after, millis, wire};
use crate::proto::session::Happened;
use crate::proto::speech::Speech;
use crate::protocol::Opener;
use crate::roster::link::{ForeignEnd, Link};
use crate::switchboard::Switchboard;
use crate::transport::Transport;

pub(crate) type Hook =
    Arc<dyn Fn(Conversation) -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync>;

/// What all channels of a pool share.
pub(crate) struct Settings {
    pub(crate) endpoint: Endpoint,
    pub(crate) connector: Box<dyn Connect>,
    /// `None`: `Native`.
    pub(crate) protocol: Option<Box<dyn Opener>>,
    pub(crate) client: ClientId,
    pub(crate) heartbeat: Heartbeat,
    /// From when the steps are counted in which idle connections speak.
    pub(crate) since: Instant,
    pub(crate) reconnect: Reconnect,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) hook: Option<Hook>,
    /// Bounds the attempts under way at once.
    pub(crate) dials: Semaphore,
    /// The pool is being closed: nothing is dialed any more.
    pub(crate) closing: CancellationToken,
}

/// Makes one connection at a time.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) slot: usize,
    pub(crate) settings: Arc<Settings>,
    pub(crate) board: Arc<Switchboard>,
    /// The number of the connection that the next one replaces, if it replaces one.
    pub(crate) replaces: Option<u64>,
}

/// A driver at work.
pub(crate) type Running = BoxFuture<'static, Arc<Loss>>;

/// A connection that calls can use.
pub(crate) struct Ready {
    pub(crate) connection: Connection<dyn Calling>,
    pub(crate) number: u64,
    pub(crate) running: Running,
    /// After how long without a call the server lets it go, if it has said so.
    pub(crate) idle_limit: Option<Duration>,
    /// What the server says when it goes away.
    pub(crate) goodbye: oneshot::Receiver<GoAway>,
}

/// A connection after the handshake.
struct Greeted {
    connected: Connected,
    number: u64,
    peer: Peer,
    /// What came behind the handshake.
    input: BytesMut,
}

/// What a handshake agreed on.
struct Peer {
    connection: Connection<dyn Calling>,
    foreign: Option<Arc<ForeignEnd>>,
    server: ServerProcess,
    /// How many calls it takes at a time.
    capacity: usize,
    /// After how long without a call it lets a connection go.
    idle_limit: Option<Duration>,
}

impl Dialer {
    pub(crate) async fn dial(&self, began: Instant) -> Result<Ready, NotConnected> {
        let settings = &*self.settings;
        // The semaphore is never closed; if it were, dialing without its bound would be the lesser evil.
        let permit = settings.dials.acquire().await.ok();
        let greeted = self.connect_and_greet().await?;
        drop(permit);
        let Greeted { connected: Connected { transport, address }, number, peer, input } = greeted;
        let Peer { connection, foreign, server, capacity, idle_limit } = peer;
        let instance = server.instance;
        let span = info_span!(
            "connection",
            endpoint = %settings.endpoint,
            slot = self.slot,
            number,
            address = address.map(tracing::field::display),
            instance = instance.map(tracing::field::display),
        );
        let about = About { endpoint: settings.endpoint.text().clone(), address, number };
        let driver = Driver::new(connection.clone(), transport, input, about);
        let (bye, mut goodbye) = oneshot::channel();
        let mut running = run(driver, self.board.clone(), bye, span.clone());
        if let Some(hook) = &settings.hook {
            let conversation = Conversation {
                connection: connection.clone(),
                speech: foreign.as_ref().map(|foreign| foreign.speech.clone()),
                board: self.board.clone(),
                instance,
                number,
                deadline: now() + settings.timeouts.hook,
            };
            let ended = run_hook(hook, conversation, &mut running, settings.timeouts.hook).await;
            ended.map_err(|cause| {
                let cause = said_before(cause, goodbye.try_recv().ok());
                NotConnected { phase: Phase::Hook, cause, address }
            })?;
        }
        let took = now().saturating_duration_since(began);
        span.in_scope(|| info!(?took, "connection ready"));
        let link = Link { connection: connection.clone(), foreign, number, server };
        if let Some((previous, current)) = self.board.opened(self.slot, link, capacity) {
            self.board.events.send(&Event::InstanceChanged { previous, current });
        }
        let slot = self.slot;
        self.board.events.send(&Event::Ready { slot, connection: number, address, instance, took });
        Ok(Ready { connection, number, running, idle_limit, goodbye })
    }

    async fn connect_and_greet(&self) -> Result<Greeted, NotConnected> {
        let settings = &*self.settings;
        // Ours keeps its time itself, a user's need not: it would hold the right to dial for ever.
        let limit = settings.timeouts.resolve + settings.timeouts.connect;
        let late = || NotConnected::in_connecting(ConnectCause::TimedOut { limit });
        let connecting = timeout(limit, settings.connector.connect(&settings.endpoint)).await;
        let mut connected = connecting.unwrap_or_else(|_elapsed| Err(late()))?;
        self.board.awaits_handshake(self.slot, connected.address);
        let (number, next_id) = self.board.number_connection();
        let limit = settings.timeouts.handshake;
        let greeting = timeout(limit, self.greet(&mut *connected.transport, number, next_id)).await;
        self.board.handshake_over(self.slot);
        match greeting.unwrap_or(Err(ConnectCause::TimedOut { limit })) {
            Ok((peer, input)) => Ok(Greeted { connected, number, peer, input }),
            Err(cause) => {
                let address = connected.address;
                Err(NotConnected { phase: Phase::Handshake, cause, address })
            }
        }
    }

    /// The handshake. Also returns what came behind it.
    async fn greet(
        &self,
        transport: &mut dyn Transport,
        number: u64,
        next_id: u64,
    ) -> Result<(Peer, BytesMut), ConnectCause> {
        let settings = &*self.settings;
        if let Some(protocol) = &settings.protocol {
            // All of this is the user's code.
            let opening = Contained::new(open(&**protocol, settings, transport));
            return opening.await.unwrap_or(Err(ConnectCause::ProtocolPanicked));
        }
        let hello = Hello {
            min_version: VERSION,
            max_version: VERSION,
            client: settings.client,
            connection: number,
            replaces: self.replaces.unwrap_or(0),
            max_message: wire(settings.limits.message),
            every: millis(settings.heartbeat.every),
            give_up_after: millis(settings.heartbeat.give_up_after),
            next_id,
        };
        let (welcome, input) = greet(transport, hello).await?;
        Ok((native_peer(settings, &welcome), input))
    }
}

/// The driver, with its events reported and its life in one span.
fn run(
    mut driver: Driver<dyn Calling>,
    board: Arc<Switchboard>,
    bye: oneshot::Sender<GoAway>,
    span: Span,
) -> Running {
    let mut bye = Some(bye);
    Box::pin(
        async move {
            let mut tell = |happened: Happened<'_, calling::Event>| {
                happened.for_each(|event| match event {
                    calling::Event::Push(body) => board.pushes.send(&body),
                    calling::Event::Vacated(place) => board.release(place),
                    calling::Event::GoAway(goodbye) => {
                        info!(code = goodbye.code, text = %goodbye.text, "the server goes away");
                        // Nobody listens any more when it is draining already.
                        let _ = bye.take().map(|bye| bye.send(goodbye));
                    }
                });
            };
            let ended = AssertUnwindSafe(driver.run(&mut tell)).catch_unwind().await;
            let loss = ended.unwrap_or_else(|_panic| driver.panicked(&mut tell));
            discard(driver);
            caught(|| log(&loss));
            loss
        }
        .instrument(span),
    )
}

/// What becomes of a connection at its end.
fn log(loss: &Loss) {
    if loss.is_intended() {
        info!(age = ?loss.age, "connection closed");
        return;
    }
    warn!(age = ?loss.age, silent_for = ?loss.silent_for, fin_seen = loss.fin_seen,
        bytes_in = loss.bytes_in, frames_in = loss.frames_in, cut_off = loss.cut_off,
        bytes_out = loss.bytes_out, frames_out = loss.frames_out, reading = %loss.reading,
        writing = %loss.writing, tcp = loss.tcp.map(tracing::field::display), cause = %loss.cause,
        "connection lost");
}

/// Runs the user's hook beside the connection that it uses.
async fn run_hook(
    hook: &Hook,
    conversation: Conversation,
    running: &mut Running,
    limit: Duration,
) -> Result<(), ConnectCause> {
    let hook = Contained::new(async { hook(conversation).await });
    let mut hook = pin!(timeout(limit, hook));
    tokio::select! {
        biased;
        loss = running => match poll!(hook) {
            // The server said no and closed in one breath: its no says more than the loss.
            Poll::Ready(Ok(Some(Err(error)))) if !is_loss(&*error) => Err(ConnectCause::Hook(hook_error(error))),
            _ => Err(ConnectCause::Lost(loss)),
        },
        result = &mut hook => match result {
            Ok(Some(Ok(()))) => Ok(()),
            Ok(Some(Err(error))) => Err(ConnectCause::Hook(hook_error(error))),
            Ok(None) => Err(ConnectCause::HookPanicked),
            Err(_elapsed) => Err(ConnectCause::TimedOut { limit }),
        },
    }
}

/// What stopped the hook, if the server had said goodbye: that says more than what came of it.
fn said_before(cause: ConnectCause, goodbye: Option<GoAway>) -> ConnectCause {
    let came_of_it = match &cause {
        ConnectCause::Lost(_) => true,
        ConnectCause::Hook(error) => is_loss(error.as_error()),
        _ => false,
    };
    goodbye.filter(|_| came_of_it).map_or(cause, ConnectCause::SentAway)
}

/// Of a call that failed in the hook the cause alone is told: whether that call has run says nothing of those that wait.
fn hook_error(error: BoxError) -> HookError {
    let error = HookError::from(error);
    match error.as_error().downcast_ref::<CallError>().map(|error| error.cause().to_string()) {
        Some(cause) => error.told_as(cause),
        None => error,
    }
}

/// Whether a hook's error only repeats that the connection is at its end.
fn is_loss(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<CallError>();
    error.is_some_and(|error| {
        matches!(error.cause(), CallCause::Lost(_) | CallCause::SentAway(_) | CallCause::Draining)
    })
}

/// The server behind a `WELCOME`.
fn native_peer(settings: &Settings, welcome: &Welcome) -> Peer {
    let memory = match welcome.cached_calls {
        0 => ServerMemory::None,
        _ => ServerMemory::ReplyCache { number: welcome.memory },
    };
    Peer {
        connection: Connection::new(client_session(settings, welcome)).erased(),
        foreign: None,
        server: ServerProcess { instance: Some(welcome.instance), memory },
        capacity: (welcome.max_in_flight as usize).clamp(1, settings.limits.in_flight),
        idle_limit: after(welcome.idle_limit),
    }
}

/// Opens a connection as its protocol wants it. Also returns what came behind it.
async fn open(
    protocol: &dyn Opener,
    settings: &Settings,
    transport: &mut dyn Transport,
) -> Result<(Peer, BytesMut), ConnectCause> {
    let (dialect, input) = protocol.open(transport, settings.limits.message).await?;
    Ok((foreign_peer(settings, dialect)?, input))
}

/// The server behind a connection that a dialect has opened.
fn foreign_peer(settings: &Settings, dialect: Box<dyn Dialect>) -> Result<Peer, ConnectCause> {
    let limits = &settings.limits;
    // It was checked when the pool was built, but opening may have changed it.
    let speech = Speech::new(dialect, limits.message)
        .map_err(|error| ConnectCause::Hook(HookError::permanent(error)))?;
    let speech = Arc::new(speech);
    let bounds =
        Bounds { send: limits.message, receive: limits.message, queued_bytes: limits.queued_bytes };
    let session = Foreign::new(now(), settings.heartbeat, speech.clone(), bounds);
    let connection = Connection::new(session);
    Ok(Peer {
        connection: connection.erased(),
        capacity: speech.ids().places().min(limits.in_flight),
        idle_limit: None,
        foreign: Some(Arc::new(ForeignEnd { connection, speech })),
        server: ServerProcess { instance: None, memory: ServerMemory::None },
    })
}

fn client_session(settings: &Settings, welcome: &Welcome) -> Client {
    let bounds = Bounds {
        send: settings.limits.message.min(welcome.max_message as usize),
        receive: settings.limits.message,
        queued_bytes: settings.limits.queued_bytes,
    };
    Client::new(now(), settings.heartbeat, after(welcome.every), bounds).in_step(settings.since)
}
