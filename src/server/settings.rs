//! What a service sets before it listens. Everything is checked before that is done.

use std::time::Duration;

use crate::error::config::ConfigError;
use crate::limits::SocketOptions;
use crate::policy::{Heartbeat, ReplyCache};
use crate::range::{number, time};

/// Settings of a [`Server`](crate::Server) to be. Made by [`Server::builder`](crate::Server::builder).
///
/// # Examples
/// ```no_run
/// # use steadfast::{Call, Server};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let server =
///     Server::builder().connections(1000).handlers(64).message(1 << 20).bind("0.0.0.0:7000").await?;
/// server.serve(|call: Call| async move { Ok(call.into_body()) }).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing happens before `bind`"]
pub struct ServerBuilder {
    pub(crate) heartbeat: Heartbeat,
    pub(crate) socket: SocketOptions,
    pub(crate) connections: usize,
    pub(crate) half_open: usize,
    pub(crate) busy_retry_after: Duration,
    pub(crate) handlers: usize,
    pub(crate) waiting: usize,
    pub(crate) in_flight: usize,
    pub(crate) message: usize,
    pub(crate) held_bytes: usize,
    pub(crate) handshake: Duration,
    pub(crate) idle_limit: Option<Duration>,
    pub(crate) reply_cache: ReplyCache,
}

impl ServerBuilder {
    /// How a silent client is found out. Default: ping after 5 s of silence, give up after 10 s more. [`Heartbeat`]
    /// says what too little and too much do.
    pub fn heartbeat(self, heartbeat: Heartbeat) -> Self {
        Self { heartbeat, ..self }
    }

    /// Options of the TCP sockets. [`SocketOptions`] has the defaults and says what too little and too much do.
    pub fn socket(self, socket: SocketOptions) -> Self {
        Self { socket, ..self }
    }

    /// Connections at a time that have said `HELLO`; those beyond are answered `BUSY`, 64 at a time,
    /// and just closed above that. 1 to 1,000,000, default 10,000.
    ///
    /// Too few: clients are turned away. Too many: descriptors run out (`EMFILE`), and then connections hang unanswered
    /// in the kernel's backlog.
    pub fn connections(self, connections: usize) -> Self {
        Self { connections, ..self }
    }

    /// Connections at a time that have not said `HELLO`, beside those that have. When there are more, the one that has
    /// been silent longest is turned away, so that those who only connect keep nobody out who speaks. 1 to 1,000,000,
    /// default 4,096.
    ///
    /// Too few: in a rush of clients, as after a restart, some are turned away before they have had the time to speak.
    /// Too many: clients that connect and say nothing can hold so many descriptors.
    pub fn half_open(self, connections: usize) -> Self {
        Self { half_open: connections, ..self }
    }

    /// What a client that is turned away is told to wait before it comes again. 0 to 1 h, default 1 s.
    ///
    /// Too little: those that are turned away come again at once, and keep the server busy with turning them away.
    /// Too much: places that have become free stay empty.
    pub fn busy_retry_after(self, wait: Duration) -> Self {
        Self { busy_retry_after: wait, ..self }
    }

    /// Handlers that run at a time, over all connections; requests beyond [wait](Self::waiting) for their turn, until
    /// their deadline. 1 to 1,000,000, default 4,096.
    ///
    /// Too few: callers wait though the machine is idle. Too many: memory, and all of them slow at once.
    pub fn handlers(self, handlers: usize) -> Self {
        Self { handlers, ..self }
    }

    /// Requests that wait for their turn among the [`handlers`](Self::handlers), over all connections; those beyond are
    /// refused as overloaded, and clients try them again, under their retry policies. Notifications, which cannot be
    /// refused, wait beyond it; those whose connections have ended need a place here, too, or are dropped. 0 to 1,000,000, default 16,384.
    ///
    /// Too few: a burst is refused that would soon have been served. Too many: memory, and in a longer overload all
    /// requests wait for so long that their callers have given up before they are served. A measure for handlers that take their
    /// time: [`handlers`](Self::handlers) x the callers' time-out / the time that one takes, so 80 for 4 handlers of 50 ms and
    /// callers who wait 1 s. The default is meant for handlers of microseconds. Calls of [`on_connect`](crate::PoolBuilder::on_connect)
    /// hooks stand in the same line, and a hook whose call is refused costs the connection: leave room for them beside the calls
    /// that clients have in flight.
    pub fn waiting(self, requests: usize) -> Self {
        Self { waiting: requests, ..self }
    }

    /// Requests of one connection that are being worked on, also those that were cancelled meanwhile; those beyond are
    /// refused. With so many notifications at work nothing more is read. 1 to 1,000,000, default 16,384.
    ///
    /// Too little: the calls of a busy client wait on its side, or are refused, though the server has time for them.
    /// Too much: one client can fill the line in which all [wait](Self::waiting) for handlers.
    pub fn in_flight(self, requests: usize) -> Self {
        Self { in_flight: requests, ..self }
    }

    /// The longest request, in bytes. 1 to 2^31, default 16 MiB.
    ///
    /// Too little: longer requests are refused. Too much: a client can make this side hold 16 of that size per
    /// connection while they come in.
    pub fn message(self, bytes: usize) -> Self {
        Self { message: bytes, ..self }
    }

    /// Bytes per connection of requests and notifications being worked on, and again of answers that wait to be sent.
    /// Above it nothing more is read from that connection until there is room. At least 1, default 64 MiB.
    ///
    /// Too little: a client with large requests is served one at a time. Too much: each connection can take twice that
    /// much memory, and there may be as many as [`connections`](Self::connections) says.
    pub fn held_bytes(self, bytes: usize) -> Self {
        Self { held_bytes: bytes, ..self }
    }

    /// The time for a new connection's `HELLO`. 1 ms to 1 h, default 5 s.
    ///
    /// Too little: slow clients are turned away. Too much: clients that connect and say nothing keep their places among
    /// [`half_open`](Self::half_open) for so long.
    pub fn handshake(self, limit: Duration) -> Self {
        Self { handshake: limit, ..self }
    }

    /// Closes connections without calls after so long. A steadfast pool keeps its connections and dials again at once:
    /// this is for clients that do not. 10 ms to 24 h, default: never.
    ///
    /// Too little: clients that call now and then connect for every call. Too much: clients that were forgotten keep
    /// their places among [`connections`](Self::connections).
    pub fn idle_limit(self, limit: Duration) -> Self {
        Self { idle_limit: Some(limit), ..self }
    }

    /// What is remembered of clients' calls, so that none is run twice when it is sent again. Default: 1,024 answers
    /// and 8 MiB for a client, 256 MiB for all, for 60 s. [`ReplyCache`] says what too little and too much do.
    pub fn reply_cache(self, cache: ReplyCache) -> Self {
        Self { reply_cache: cache, ..self }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let (zero, ms, hour) =
            (Duration::ZERO, Duration::from_millis(1), Duration::from_secs(3600));
        self.heartbeat.check()?;
        self.socket.check()?;
        self.reply_cache.check()?;
        number("connections", self.connections as u64, 1..=1_000_000)?;
        number("half_open", self.half_open as u64, 1..=1_000_000)?;
        number("handlers", self.handlers as u64, 1..=1_000_000)?;
        number("waiting", self.waiting as u64, 0..=1_000_000)?;
        number("in_flight", self.in_flight as u64, 1..=1_000_000)?;
        number("message", self.message as u64, 1..=1 << 31)?;
        number("held_bytes", self.held_bytes as u64, 1..=u64::MAX)?;
        time("handshake", self.handshake, &(ms..=hour))?;
        time("busy_retry_after", self.busy_retry_after, &(zero..=hour))?;
        match self.idle_limit {
            Some(limit) => time("idle_limit", limit, &(ms * 10..=hour * 24)),
            None => Ok(()),
        }
    }
}

impl Default for ServerBuilder {
    fn default() -> Self {
        Self {
            heartbeat: Heartbeat::default(),
            socket: SocketOptions::default(),
            connections: 10_000,
            half_open: 4096,
            busy_retry_after: Duration::from_secs(1),
            handlers: 4096,
            waiting: 16_384,
            in_flight: 16_384,
            message: 16 << 20,
            held_bytes: 64 << 20,
            handshake: Duration::from_secs(5),
            idle_limit: None,
            reply_cache: ReplyCache::default(),
        }
    }
}
