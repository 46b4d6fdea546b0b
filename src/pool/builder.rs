//! What a user sets before there is a pool. Everything is checked in [`PoolBuilder::build`].

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use futures::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::clock::now;
use crate::connect::{Connect, Tcp};
use crate::connections::Connections;
use crate::conversation::Conversation;
use crate::dialer::{Hook, Settings};
use crate::endpoint::Endpoint;
use crate::error::config::ConfigError;
use crate::error::connect::BoxError;
use crate::event::Event;
use crate::fan_out::{FanOut, Subscription};
use crate::limits::{Limits, SocketOptions, Timeouts};
use crate::policy::{Heartbeat, Reconnect, Retry};
use crate::pool::channels::Channels;
use crate::pool::handle::Pool;
use crate::pool::shared::{LONGEST_CALL, Shared};
use crate::proto::greeting::ClientId;
use crate::proto::speech::Speech;
use crate::protocol::{Opener, Protocol};
use crate::range::time;
use crate::switchboard::Switchboard;
use crate::transport::guarded::Guarded;

/// Makes the pool's connector, of its own TCP or not.
type Connector = Box<dyn FnOnce(Tcp) -> Box<dyn Connect> + Send + Sync>;

/// Settings of a [`Pool`] to be. Made by [`Pool::builder`].
///
/// # Examples
/// ```no_run
/// use std::time::Duration;
/// use steadfast::{Heartbeat, Limits, Pool, Reconnect, Retry};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = Pool::builder("orders.intranet:7000")
///     .connections(1..=4)
///     .heartbeat(Heartbeat::every(Duration::from_secs(5)).give_up_after(Duration::from_secs(10)))
///     .reconnect(Reconnect::exponential(Duration::from_millis(50), Duration::from_secs(5)))
///     .retry(Retry::attempts(3).budget(0.10))
///     .limits(Limits::default().message(1 << 20))
///     .call_timeout(Duration::from_secs(2))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing happens before `build`"]
pub struct PoolBuilder {
    endpoint: String,
    connections: Connections,
    heartbeat: Heartbeat,
    reconnect: Reconnect,
    retry: Retry,
    limits: Limits,
    timeouts: Timeouts,
    socket: SocketOptions,
    call_timeout: Duration,
    hook: Option<Hook>,
    connector: Connector,
    protocol: Option<Box<dyn Opener>>,
    events: FanOut<Event>,
    pushes: FanOut<Bytes>,
    seed: Option<u64>,
}

impl Pool {
    /// Settings for a pool of connections to `host:port`.
    ///
    /// # Examples
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = steadfast::Pool::builder("orders.intranet:7000").build()?;
    /// let price = pool.call("price of apples").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(endpoint: impl Into<String>) -> PoolBuilder {
        PoolBuilder::new(endpoint.into())
    }
}

impl PoolBuilder {
    fn new(endpoint: String) -> Self {
        Self {
            endpoint,
            connections: Connections::default(),
            heartbeat: Heartbeat::default(),
            reconnect: Reconnect::default(),
            retry: Retry::default(),
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            socket: SocketOptions::default(),
            call_timeout: Duration::from_secs(10),
            hook: None,
            connector: Box::new(|tcp| Box::new(tcp)),
            protocol: None,
            events: FanOut::new(),
            pushes: FanOut::new(),
            seed: None,
        }
    }

    /// How many connections to keep: `4`, or `1..=4` to keep one and make more when those that are ready have no
    /// room, or `0..=4` to make none before a call needs it; and for how long. Default 1. One connection carries thousands of
    /// calls at a time. [`Connections`] says more, and what too little and too much do; [`Pool::resize`] changes it.
    pub fn connections(self, connections: impl Into<Connections>) -> Self {
        Self { connections: connections.into(), ..self }
    }

    /// How a silent peer is found out. Default: ping after 5 s of silence, give up after 10 s more. [`Heartbeat`] says
    /// what too little and too much do.
    pub fn heartbeat(self, heartbeat: Heartbeat) -> Self {
        Self { heartbeat, ..self }
    }

    /// How fast a lost connection is dialed again. Default: within 100 ms at first, within 5 s at last. [`Reconnect`] says
    /// what too little and too much do.
    pub fn reconnect(self, reconnect: Reconnect) -> Self {
        Self { reconnect, ..self }
    }

    /// When a call is tried again. Default: 3 attempts, and a budget of a retry for every 10 successes and one a second.
    /// [`Retry`] says what too little and too much do.
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// Bounds on memory. [`Limits`] has the defaults and says what too little and too much do.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// The time-outs of the phases of a connection attempt. [`Timeouts`] has the defaults and says what too little and too
    /// much do.
    pub fn timeouts(self, timeouts: Timeouts) -> Self {
        Self { timeouts, ..self }
    }

    /// Options of the TCP sockets. [`SocketOptions`] has the defaults and says what too little and too much do.
    pub fn socket(self, socket: SocketOptions) -> Self {
        Self { socket, ..self }
    }

    /// The time that a call has unless it says otherwise, from the call to the reply, over all attempts.
    /// 1 ms to 24 h, default 10 s.
    ///
    /// Too little: calls fail that a restart of the server would have let through. Too much: callers pile up.
    pub fn call_timeout(self, limit: Duration) -> Self {
        Self { call_timeout: limit, ..self }
    }

    /// What is done with every new connection before calls may use it: log in, subscribe.
    ///
    /// An error, a panic or a time-out ([`Timeouts::hook`]) of it closes the connection and counts as a failed attempt
    /// ([`Phase::Hook`](crate::Phase::Hook)), while calls go on waiting; they fail at once if the error is
    /// [`Permanent`](crate::Permanent), a wrong password for example. A call that the hook makes is made once: where an overloaded
    /// server may refuse it ([`Outcome::Refused`](crate::Outcome::Refused)), repeat it in the hook, or the connection is given up
    /// for it.
    ///
    /// # Examples
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = steadfast::Pool::builder("orders.intranet:7000")
    ///     .on_connect(|mut conversation| async move {
    ///         conversation.call("login alice").await?;
    ///         Ok(())
    ///     })
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_connect<F, R>(mut self, hook: F) -> Self
    where
        F: Fn(Conversation) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.hook = Some(Arc::new(move |conversation| hook(conversation).boxed()));
        self
    }

    /// For simulations that must repeat themselves: all that is random in the pool, its waits and the id by which servers know it,
    /// follows from this number. Default: from the operating system.
    ///
    /// Never two pools with one seed at one server: it takes them for one client that comes back, and ends the connections of
    /// the other.
    pub fn seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }

    /// Another way to make connections than TCP: pipes in tests, Unix sockets. What puts a layer above TCP is made with
    /// [`wrap_tcp`](Self::wrap_tcp).
    ///
    /// [`socket`](Self::socket) does not apply to it; [`Timeouts::resolve`] and [`Timeouts::connect`] together do. The pool's endpoint
    /// is what errors and logs call the other end then; it keeps the form `host:port`. Where TCP is below, see to `TCP_NODELAY`: without
    /// it a call waits for the acknowledgement of the one before (Nagle's algorithm). What an `io::Error` of one's own says is shown, as
    /// the path of a socket that is not there.
    ///
    /// # Examples
    /// A Unix socket. At the other end is a [`Listen`](crate::Listen) around a `UnixListener`.
    /// ```
    /// # #[cfg(unix)]
    /// # mod unix {
    /// use std::path::PathBuf;
    ///
    /// use steadfast::{Connect, Connected, Connecting, Endpoint, Pool};
    /// use tokio::net::UnixStream;
    ///
    /// struct Unix(PathBuf);
    ///
    /// impl Connect for Unix {
    ///     fn connect<'a>(&'a self, _: &'a Endpoint) -> Connecting<'a> {
    ///         Box::pin(async {
    ///             let stream = UnixStream::connect(&self.0).await?;
    ///             Ok(Connected { transport: Box::new(stream), address: None })
    ///         })
    ///     }
    /// }
    ///
    /// # pub async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = Pool::builder("orders:1").connector(Unix("/run/orders.sock".into())).build()?;
    /// # Ok(())
    /// # }
    /// # }
    /// ```
    pub fn connector(mut self, connector: impl Connect) -> Self {
        self.connector = Box::new(|_| Box::new(Guarded(connector)));
        self
    }

    /// A layer above TCP: TLS, a proxy. `wrap` is given the TCP that the pool would have used, with the
    /// [`timeouts`](Self::timeouts), [`heartbeat`](Self::heartbeat) and [`socket`](Self::socket) options that the pool is
    /// built with, whichever order they are set in. [`Tcp`] has an example.
    pub fn wrap_tcp<C: Connect>(
        mut self,
        wrap: impl FnOnce(Tcp) -> C + Send + Sync + 'static,
    ) -> Self {
        self.connector = Box::new(|tcp| Box::new(Guarded(wrap(tcp))));
        self
    }

    /// Speaks a protocol of somebody else's, to a server that nobody can change: [`Ordered`](crate::Ordered), or one of yours.
    /// By default `Native`, steadfast's own, whose other end is a [`Server`](crate::Server).
    ///
    /// # Examples
    /// ```no_run
    /// use steadfast::{Framing, Ordered, Pool};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = Pool::builder("legacy:9000").protocol(Ordered::new(Framing::u32_le())).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn protocol(self, protocol: impl Protocol) -> Self {
        Self { protocol: Some(Box::new(protocol)), ..self }
    }

    /// What will happen to the connections, from the first attempt on. It holds as many items as the
    /// [`Limits::subscription`] that is set by now; ends at once if the builder is dropped.
    ///
    /// # Examples
    /// ```
    /// use steadfast::{Event, Pool};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut builder = Pool::builder("127.0.0.1:1");
    /// let mut events = builder.events();
    /// let _pool = builder.build()?;
    /// assert!(matches!(events.next().await, Some(Event::Dialing { attempt: 1, .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&mut self) -> Subscription<Event> {
        self.events.subscribe(self.limits.subscription_in_range())
    }

    /// What servers will push, from the first connection on. As [`events`](Self::events) otherwise.
    /// [`Pusher`](crate::Pusher) has an example.
    pub fn pushes(&mut self) -> Subscription<Bytes> {
        self.pushes.subscribe(self.limits.subscription_in_range())
    }

    /// Checks the settings and starts to dial in the background.
    ///
    /// # Errors
    /// What is wrong with the settings, or that there is no tokio runtime here. Never an error of the network:
    /// [`Pool::ready`] waits for the first connection.
    pub fn build(self) -> Result<Pool, ConfigError> {
        let endpoint = Endpoint::parse(&self.endpoint)?;
        self.connections.check()?;
        self.heartbeat.check()?;
        self.reconnect.check()?;
        self.retry.check()?;
        self.limits.check()?;
        self.timeouts.check()?;
        self.socket.check()?;
        if let Some(protocol) = &self.protocol {
            Speech::new(protocol.dialect(), self.limits.message)?;
        }
        time("call_timeout", self.call_timeout, &(Duration::from_millis(1)..=LONGEST_CALL))?;
        let Ok(runtime) = Handle::try_current() else {
            return Err(ConfigError::NoRuntime);
        };
        let mut client = [0; 16];
        match self.seed {
            Some(seed) => Rng::with_seed(seed).fill(&mut client),
            None => getrandom::fill(&mut client).map_err(|_| ConfigError::NoRandomness)?,
        }
        Ok(self.start(endpoint, ClientId(client), runtime))
    }

    fn start(self, endpoint: Endpoint, client: ClientId, runtime: Handle) -> Pool {
        let seed = u64::from_be_bytes(first_half(&client.0));
        let text = endpoint.text().clone();
        let board = Arc::new(Switchboard::new(
            text,
            self.connections,
            &self.limits,
            &self.retry,
            self.events,
            self.pushes,
        ));
        let (timeouts, heartbeat, options) = (self.timeouts, self.heartbeat, self.socket);
        let closing = CancellationToken::new();
        let settings = Arc::new(Settings {
            endpoint,
            connector: (self.connector)(Tcp { timeouts, heartbeat, options }),
            protocol: self.protocol,
            client,
            heartbeat,
            since: now(),
            reconnect: self.reconnect,
            limits: self.limits,
            timeouts,
            hook: self.hook,
            dials: Semaphore::new(self.limits.dials),
            closing: closing.clone(),
        });
        let seeds = AtomicU64::new(seed);
        let (channels, alive) = Channels::new(settings, board.clone(), runtime);
        let (retry, call_timeout) = (self.retry, self.call_timeout);
        let cut_off = AtomicUsize::new(0);
        let shared = Shared { board, channels, closing, cut_off, retry, call_timeout, seeds };
        shared.resize(self.connections);
        drop(alive);
        Pool::new(shared)
    }
}

impl std::fmt::Debug for PoolBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("endpoint", &self.endpoint)
            .field("connections", &self.connections)
            .field("heartbeat", &self.heartbeat)
            .field("reconnect", &self.reconnect)
            .field("retry", &self.retry)
            .field("limits", &self.limits)
            .field("timeouts", &self.timeouts)
            .field("socket", &self.socket)
            .field("call_timeout", &self.call_timeout)
            .finish_non_exhaustive()
    }
}

fn first_half(bytes: &[u8; 16]) -> [u8; 8] {
    let mut half = [0; 8];
    half.copy_from_slice(&bytes[..8]);
    half
}
