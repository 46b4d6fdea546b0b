//! Keeps one connection alive against an endpoint. Each slot of a pool has one channel: one task, one owner.
//!
//! ```text
//!            time has come                handshake, hook             loss
//! waiting ──────────────────► connecting ─────────────────► ready ───────────► waiting
//!    ▲                            │ failed                    │ GOAWAY
//!    └────────────────────────────┘                           └──► waiting, while the old connection drains beside
//! ```
//!
//! [`Plan`] decides when; this file carries it out and reports to the [`Switchboard`].

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug, info, info_span, warn};

use crate::clock::now;
use crate::connect::{Connect, Connected, NotConnected};
use crate::connection::{About, Connection, Driver, Tell};
use crate::conversation::Conversation;
use crate::endpoint::Endpoint;
use crate::error::connect::{ConnectCause, ConnectError, HookError, Phase};
use crate::error::loss::{GoAway, Loss, LossCause};
use crate::event::Event;
use crate::handshake::greet;
use crate::policy::{Heartbeat, Limits, Reconnect, Timeouts};
use crate::proto::client::{self, Bounds, Client};
use crate::proto::native::{ClientId, Hello, VERSION, Welcome, after, millis};
use crate::proto::reconnect::Plan;
use crate::switchboard::{Switchboard, Wanted};

/// A user's error in a hook.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(crate) type Hook =
    Arc<dyn Fn(Conversation) -> BoxFuture<'static, Result<(), BoxError>> + Send + Sync>;

/// What all channels of a pool share.
pub(crate) struct Settings {
    pub(crate) endpoint: Endpoint,
    pub(crate) connector: Box<dyn Connect>,
    pub(crate) client: ClientId,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) reconnect: Reconnect,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) hook: Option<Hook>,
    /// Bounds the attempts under way at once.
    pub(crate) dials: Semaphore,
    /// The pool is being closed: nothing is dialed any more.
    pub(crate) closing: CancellationToken,
}

pub(crate) struct Channel {
    /// Kept alive also while nobody needs it. Others are made only when those that are ready have no room.
    warm: bool,
    dialer: Dialer,
    board: Arc<Switchboard>,
    plan: Plan,
    attempts: u32,
    /// Connections that the server sent away, finishing their calls.
    draining: FuturesUnordered<Running>,
}

/// Makes one connection at a time.
struct Dialer {
    slot: usize,
    settings: Arc<Settings>,
    board: Arc<Switchboard>,
    /// The number of the connection that the next one replaces.
    replaces: u64,
}

/// A driver at work.
type Running = BoxFuture<'static, Arc<Loss>>;

/// A connection that calls can use.
struct Ready {
    connection: Connection<Client>,
    number: u64,
    running: Running,
    goodbye: oneshot::Receiver<GoAway>,
}

/// A connection after the handshake.
struct Greeted {
    connected: Connected,
    welcome: Welcome,
    input: BytesMut,
    number: u64,
}

impl Channel {
    pub(crate) fn new(
        slot: usize,
        warm: bool,
        settings: Arc<Settings>,
        board: Arc<Switchboard>,
        seed: u64,
    ) -> Self {
        let plan = Plan::new(now(), settings.reconnect, seed);
        let dialer = Dialer {
            slot,
            settings,
            board: board.clone(),
            replaces: 0,
        };
        Self {
            warm,
            dialer,
            board,
            plan,
            attempts: 0,
            draining: FuturesUnordered::new(),
        }
    }

    /// Runs until the pool is closed. Dropping the future ends the connection at once.
    pub(crate) async fn run(mut self) {
        while self.wait_to_dial().await {
            match self.dial().await {
                Ok(ready) => self.serve(ready).await,
                Err(error) => self.failed(error),
            }
        }
        while self.draining.next().await.is_some() {}
    }

    /// Waits until the plan says so, or waiting calls bring the attempt forward. False when the pool is being closed.
    async fn wait_to_dial(&mut self) -> bool {
        let Self {
            warm,
            dialer,
            board,
            plan,
            draining,
            ..
        } = self;
        let closing = &dialer.settings.closing;
        loop {
            let mut demand = pin!(board.demand.notified());
            // From here on no ring is missed.
            demand.as_mut().enable();
            let wanted = board.wanted();
            let at = match (*warm, wanted) {
                (true, _) => plan.dial_at(wanted == Wanted::Connection),
                (false, Wanted::MoreConnections) => plan.dial_at(false),
                (false, _) => None,
            };
            if at.is_some_and(|at| at <= now()) {
                return !closing.is_cancelled();
            }
            let alarm = async {
                match at {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = closing.cancelled() => return false,
                () = alarm => {}
                () = demand => {}
                Some(_) = draining.next() => {}
            }
        }
    }

    fn failed(&mut self, error: ConnectError) {
        if error.cause == ConnectCause::Closed {
            return;
        }
        let now = now();
        self.plan.failed(now, error.retry_after());
        let next_in = self
            .plan
            .dial_at(false)
            .map_or(Duration::ZERO, |at| at - now);
        debug!(slot = self.dialer.slot, attempt = self.attempts, %error, ?next_in, "attempt failed");
        let error = Arc::new(error);
        // First the ledger, then the news: who hears it may ask.
        self.board.attempt_failed(&error);
        self.board.events.send(&Event::DialFailed {
            slot: self.dialer.slot,
            error,
            next_in,
        });
    }

    /// One attempt, from the name to a connection that calls can use.
    async fn dial(&mut self) -> Result<Ready, ConnectError> {
        let began = now();
        self.plan.dial();
        self.attempts += 1;
        let Self {
            dialer,
            attempts,
            draining,
            board,
            ..
        } = self;
        board.events.send(&Event::Dialing {
            slot: dialer.slot,
            attempt: *attempts,
        });
        let settings = &dialer.settings;
        let mut dialing = pin!(dialer.dial(began));
        let result = loop {
            tokio::select! {
                () = settings.closing.cancelled() => break Err(NotConnected {
                    phase: Phase::Connect,
                    cause: ConnectCause::Closed,
                    address: None,
                }),
                result = &mut dialing => break result,
                Some(_) = draining.next() => {}
            }
        };
        result.map_err(
            |NotConnected {
                 phase,
                 cause,
                 address,
             }| ConnectError {
                phase,
                cause,
                endpoint: settings.endpoint.text().clone(),
                address,
                took: now().saturating_duration_since(began),
            },
        )
    }

    /// Lives with a connection until it dies or drains.
    async fn serve(&mut self, ready: Ready) {
        let Ready {
            connection,
            number,
            mut running,
            mut goodbye,
        } = ready;
        self.plan.succeeded(now());
        self.attempts = 0;
        self.dialer.replaces = number;
        let mut may_go = true;
        let loss = loop {
            tokio::select! {
                biased;
                loss = &mut running => break Ok(loss),
                said = &mut goodbye, if may_go => match said {
                    Ok(said) => break Err(said),
                    // The driver is at its end; it will say why.
                    Err(_) => may_go = false,
                },
                Some(_) = self.draining.next() => {}
            }
        };
        match loss {
            Ok(loss) => self.lost(loss),
            Err(goodbye) => {
                self.board.shut(self.dialer.slot, None);
                connection.with(|client| (client.drain(), Tell::Owner));
                self.draining.push(running);
                self.plan.lost(now(), goodbye.retry_after);
                let slot = self.dialer.slot;
                self.board.events.send(&Event::GoingAway {
                    slot,
                    connection: number,
                    goodbye,
                });
            }
        }
    }

    fn lost(&mut self, loss: Arc<Loss>) {
        self.board.shut(self.dialer.slot, Some(loss.clone()));
        self.plan.lost(now(), loss.retry_after());
        if let LossCause::Silent { .. } | LossCause::Stalled { .. } = loss.cause {
            self.board.probe_all();
        }
        self.board.events.send(&Event::Lost {
            slot: self.dialer.slot,
            loss,
        });
    }
}

impl Dialer {
    async fn dial(&self, began: Instant) -> Result<Ready, NotConnected> {
        let settings = &*self.settings;
        // The semaphore is never closed; if it were, dialing without its bound would be the lesser evil.
        let permit = settings.dials.acquire().await.ok();
        let greeted = self.connect_and_greet().await?;
        drop(permit);
        let Greeted {
            connected: Connected { transport, address },
            welcome,
            input,
            number,
        } = greeted;
        let span = info_span!(
            "connection",
            endpoint = %settings.endpoint,
            slot = self.slot,
            number,
            address = address.map(tracing::field::display),
            instance = %welcome.instance,
        );
        let capacity = (welcome.max_in_flight as usize).clamp(1, settings.limits.in_flight);
        let connection = Connection::new(client_session(settings, &welcome));
        let about = About {
            endpoint: settings.endpoint.text().clone(),
            address,
            number,
        };
        let driver = Driver::new(connection.clone(), transport, input, about);
        let (bye, goodbye) = oneshot::channel();
        let mut running = run(driver, self.board.clone(), bye, span.clone());
        if let Some(hook) = &settings.hook {
            let conversation = Conversation {
                connection: connection.clone(),
                board: self.board.clone(),
                instance: welcome.instance,
                number,
                deadline: now() + settings.timeouts.hook,
            };
            run_hook(hook, conversation, &mut running, settings.timeouts.hook)
                .await
                .map_err(|cause| NotConnected {
                    phase: Phase::Hook,
                    cause,
                    address,
                })?;
        }
        let took = now().saturating_duration_since(began);
        span.in_scope(|| info!(?took, "connection ready"));
        let instance = welcome.instance;
        let previous = self
            .board
            .opened(self.slot, connection.clone(), capacity, instance);
        if let Some(previous) = previous {
            self.board.events.send(&Event::InstanceChanged {
                previous,
                current: instance,
            });
        }
        let slot = self.slot;
        self.board.events.send(&Event::Ready {
            slot,
            connection: number,
            address,
            instance,
            took,
        });
        Ok(Ready {
            connection,
            number,
            running,
            goodbye,
        })
    }

    async fn connect_and_greet(&self) -> Result<Greeted, NotConnected> {
        let settings = &*self.settings;
        let connecting = async { settings.connector.connect(&settings.endpoint).await };
        let mut connected = AssertUnwindSafe(connecting)
            .catch_unwind()
            .await
            .unwrap_or_else(|_| {
                let cause = ConnectCause::ConnectorPanicked;
                Err(NotConnected {
                    phase: Phase::Connect,
                    cause,
                    address: None,
                })
            })?;
        let number = self.board.number_connection();
        let hello = Hello {
            min_version: VERSION,
            max_version: VERSION,
            client: settings.client,
            connection: number,
            replaces: self.replaces,
            max_message: wire(settings.limits.message),
            every: millis(settings.heartbeat.every),
            give_up_after: millis(settings.heartbeat.give_up_after),
        };
        let limit = settings.timeouts.handshake;
        let greeting = timeout(limit, greet(&mut *connected.transport, hello)).await;
        match greeting.unwrap_or(Err(ConnectCause::TimedOut { limit })) {
            Ok((welcome, input)) => Ok(Greeted {
                connected,
                welcome,
                input,
                number,
            }),
            Err(cause) => {
                let address = connected.address;
                Err(NotConnected {
                    phase: Phase::Handshake,
                    cause,
                    address,
                })
            }
        }
    }
}

/// The driver, with its events reported and its life in one span.
fn run(
    driver: Driver<Client>,
    board: Arc<Switchboard>,
    bye: oneshot::Sender<GoAway>,
    span: Span,
) -> Running {
    let mut bye = Some(bye);
    Box::pin(
        async move {
            let loss = driver
                .run(|event| match event {
                    client::Event::Push(body) => board.pushes.send(&body),
                    client::Event::GoAway(goodbye) => {
                        info!(code = goodbye.code, text = %goodbye.text, "the server goes away");
                        // Nobody listens any more when it is draining already.
                        let _ = bye.take().map(|bye| bye.send(goodbye));
                    }
                })
                .await;
            if loss.is_intended() {
                info!(age = ?loss.age, "connection closed");
            } else {
                warn!(age = ?loss.age, silent_for = ?loss.silent_for, fin_seen = loss.fin_seen,
                    bytes_in = loss.bytes_in, bytes_out = loss.bytes_out, cause = %loss.cause, "connection lost");
            }
            loss
        }
        .instrument(span),
    )
}

/// Runs the user's hook beside the connection that it uses.
async fn run_hook(
    hook: &Hook,
    conversation: Conversation,
    running: &mut Running,
    limit: Duration,
) -> Result<(), ConnectCause> {
    // The hook's own code runs inside the future, so that a panic in it is caught, too.
    let hook = async { hook(conversation).await };
    tokio::select! {
        loss = running => Err(ConnectCause::Lost(loss)),
        result = timeout(limit, AssertUnwindSafe(hook).catch_unwind()) => match result {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(ConnectCause::Hook(HookError(error.into()))),
            Ok(Err(_panic)) => Err(ConnectCause::HookPanicked),
            Err(_elapsed) => Err(ConnectCause::TimedOut { limit }),
        },
    }
}

fn client_session(settings: &Settings, welcome: &Welcome) -> Client {
    let bounds = Bounds {
        send: settings.limits.message.min(welcome.max_message as usize),
        receive: settings.limits.message,
        queued_bytes: settings.limits.queued_bytes,
    };
    Client::new(now(), settings.heartbeat, after(welcome.every), bounds)
}

/// A bound as the wire has it.
fn wire(bound: usize) -> u32 {
    bound.try_into().unwrap_or(u32::MAX)
}
