//! Bounds and sizes that a user sets in code: plain values, checked once at the door.

use std::time::Duration;

use crate::error::config::ConfigError;
use crate::range::{number, time};

/// See [`Limits::subscription`].
const MOST_ITEMS: usize = 1_000_000;

/// A pool's bounds. What would exceed one waits ([`in_flight`](Self::in_flight), [`dials`](Self::dials)), is dropped
/// and counted ([`subscription`](Self::subscription)), or fails at once and was not sent (requests beyond
/// [`message`](Self::message), [`waiting`](Self::waiting), [`queued_bytes`](Self::queued_bytes)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub(crate) message: usize,
    pub(crate) in_flight: usize,
    pub(crate) waiting: usize,
    pub(crate) queued_bytes: usize,
    pub(crate) subscription: usize,
    pub(crate) dials: usize,
}

impl Limits {
    /// The longest body, in bytes, in either direction. 1 to 2^31, default 16 MiB.
    ///
    /// Too little: longer requests fail, and so do calls whose replies are longer, although they have run.
    /// Too much: a peer can make this side hold 16 messages of this size per connection while they come in.
    #[must_use]
    pub fn message(self, bytes: usize) -> Self {
        Self { message: bytes, ..self }
    }

    /// Calls on one connection at a time; the server, or what a foreign protocol can [match](crate::Matching), may lower it.
    /// 1 to 1,000,000, default 16,384.
    ///
    /// A call counts until its future is done or dropped, not only until its reply has come: one that is kept and not polled keeps its
    /// place. A loop over `buffer_unordered` that makes calls in its own body can so wait for itself.
    ///
    /// Too little: callers wait though the server is idle. Too much: a slow server's queue fills with calls
    /// that expire there.
    #[must_use]
    pub fn in_flight(self, calls: usize) -> Self {
        Self { in_flight: calls, ..self }
    }

    /// Calls that wait until a connection is ready or has room, over the whole pool. 0 to 1,000,000, default 16,384.
    ///
    /// Too little: calls fail in a restart of the server that they could have waited out. Too much: in a long outage
    /// callers and their requests pile up, and the server that comes back is met by all of them. Under a load that the
    /// server cannot take, a line longer than what it answers within the calls' deadline serves nobody: each call that
    /// gets its turn has spent its time in the line.
    #[must_use]
    pub fn waiting(self, calls: usize) -> Self {
        Self { waiting: calls, ..self }
    }

    /// Bytes of bodies that have not been handed to the operating system: of the calls that wait, over the
    /// pool, and again of those on each connection. Of a call that was given up they count until they are freed, which is at the
    /// latest when those around them go out. At least `message`, default 64 MiB.
    ///
    /// Too little: a burst of large requests is turned away though the line could take them. Too much: a server that
    /// reads slowly fills this side's memory with requests that it will get too late.
    #[must_use]
    pub fn queued_bytes(self, bytes: usize) -> Self {
        Self { queued_bytes: bytes, ..self }
    }

    /// Items that each stream of events or pushes holds for a reader that is slow; what comes while it is full is
    /// counted and reported as missed. 1 to 1,000,000, default 1,024.
    ///
    /// Too little: a reader that is busy for a moment misses items. Too much: one that does not read at all holds so
    /// many of them in memory, pushes with their bodies.
    #[must_use]
    pub fn subscription(self, items: usize) -> Self {
        Self { subscription: items, ..self }
    }

    /// Connection attempts under way at once, over the whole pool, from resolving to the end of the handshake.
    /// 1 to 1,000, default 4.
    ///
    /// Too few: the connections of a large pool come back one after the other, and each that hangs holds up the rest.
    /// Too many: a server that has just started is met by so many handshakes at once.
    #[must_use]
    pub fn dials(self, dials: usize) -> Self {
        Self { dials, ..self }
    }

    /// The nearest number of items that is in range: of a builder's streams, before it is checked.
    pub(crate) fn subscription_in_range(&self) -> usize {
        self.subscription.clamp(1, MOST_ITEMS)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        number("limit message", self.message as u64, 1..=1 << 31)?;
        number("limit in_flight", self.in_flight as u64, 1..=1_000_000)?;
        number("limit waiting", self.waiting as u64, 0..=1_000_000)?;
        number("limit queued_bytes", self.queued_bytes as u64, self.message as u64..=u64::MAX)?;
        number("limit subscription", self.subscription as u64, 1..=MOST_ITEMS as u64)?;
        number("limit dials", self.dials as u64, 1..=1000)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: 16 << 20,
            in_flight: 16_384,
            waiting: 16_384,
            queued_bytes: 64 << 20,
            subscription: 1024,
            dials: 4,
        }
    }
}

/// The time-outs of the phases of one connection attempt. Each is 1 ms to 1 h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub(crate) resolve: Duration,
    pub(crate) connect: Duration,
    pub(crate) handshake: Duration,
    pub(crate) hook: Duration,
}

impl Timeouts {
    /// From the name to addresses. Default 5 s.
    ///
    /// Too little: a lost query, which the resolver repeats after 5 s unless configured otherwise (`resolv.conf(5)`),
    /// fails the attempt. Too much: a dead resolver holds the attempt up, and with it the right to dial.
    #[must_use]
    pub fn resolve(self, limit: Duration) -> Self {
        Self { resolve: limit, ..self }
    }

    /// From the first SYN to a connected socket, over all addresses. Default 5 s.
    ///
    /// Too little: a lost SYN, sent again after 1 s and 3 s (RFC 6298), fails the attempt. Too much: an
    /// address that swallows SYNs holds the attempt up; Linux alone would take more than two minutes.
    #[must_use]
    pub fn connect(self, limit: Duration) -> Self {
        Self { connect: limit, ..self }
    }

    /// From `HELLO` to `WELCOME`; of a foreign protocol, its [`open`](crate::Protocol::open). Default 5 s.
    ///
    /// Too little: a busy server is given up just before it answers, and asked again. Too much: a process that is
    /// frozen, for which the kernel goes on accepting, is found out late.
    #[must_use]
    pub fn handshake(self, limit: Duration) -> Self {
        Self { handshake: limit, ..self }
    }

    /// For the user's `on_connect`. Default 10 s.
    ///
    /// Too little: a log-in that takes longer never succeeds and is begun over and over. Too much: a hook that hangs
    /// keeps its connection from the calls that wait for one.
    #[must_use]
    pub fn hook(self, limit: Duration) -> Self {
        Self { hook: limit, ..self }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let range = Duration::from_millis(1)..=Duration::from_secs(3600);
        time("time-out resolve", self.resolve, &range)?;
        time("time-out connect", self.connect, &range)?;
        time("time-out handshake", self.handshake, &range)?;
        time("time-out hook", self.hook, &range)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        let five = Duration::from_secs(5);
        Self { resolve: five, connect: five, handshake: five, hook: five * 2 }
    }
}

/// Options of the TCP sockets, see `tcp(7)` and `socket(7)`. `TCP_NODELAY` is always on: frames are gathered
/// before they are written, so Nagle's algorithm could only delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    pub(crate) keepalive: bool,
    pub(crate) user_timeout: bool,
    pub(crate) unsent: u32,
    pub(crate) send_buffer: Option<u32>,
    pub(crate) receive_buffer: Option<u32>,
}

impl SocketOptions {
    /// No TCP keepalive. It is on by default, derived from the [`Heartbeat`](crate::Heartbeat) so that one lost probe
    /// does not kill a connection; whole seconds, because that is what the kernel counts in.
    ///
    /// With it: a packet in each silent [`every`](crate::Heartbeat::every), beside the heartbeat's own. Without: while
    /// this process is too busy to ping, nothing keeps a firewall from forgetting the connection.
    #[must_use]
    pub fn without_keepalive(self) -> Self {
        Self { keepalive: false, ..self }
    }

    /// No `TCP_USER_TIMEOUT` (Linux). It is on by default with the heartbeat's bound. It also ends a connection whose
    /// peer acknowledges but keeps its window shut. Who may stop reading for longer needs a longer bound of the heartbeat, too: what
    /// waits here beyond what the kernel takes is given up by that.
    ///
    /// Without it, a peer that has vanished is given up by the heartbeat alone; the kernel itself would go on sending
    /// for a quarter of an hour (`tcp_retries2` in `tcp(7)`).
    #[must_use]
    pub fn without_user_timeout(self) -> Self {
        Self { user_timeout: false, ..self }
    }

    /// `TCP_NOTSENT_LOWAT` in bytes (Linux): the kernel takes no more while so much waits in it unsent. 1 to 2^30,
    /// default 128 KiB.
    ///
    /// Too little: more system calls per byte. Too much: on a slow line a ping or a small call waits behind all that
    /// the kernel has taken, which can be seconds; a written heartbeat is not a sent one.
    #[must_use]
    pub fn unsent(self, bytes: u32) -> Self {
        Self { unsent: bytes, ..self }
    }

    /// `SO_SNDBUF` in bytes, 1 to 2^30. The kernel tunes it by default; a fixed size switches that off.
    ///
    /// Too little: a fast but distant peer is not kept busy. Too much: memory that the kernel holds for each
    /// connection.
    #[must_use]
    pub fn send_buffer(self, bytes: u32) -> Self {
        Self { send_buffer: Some(bytes), ..self }
    }

    /// `SO_RCVBUF` in bytes, 1 to 2^30. The kernel tunes it by default; a fixed size switches that off.
    ///
    /// Too little: a distant peer may send no more than this in each round trip. Too much: so much waits in the kernel,
    /// in each connection, when this side is slow to read.
    #[must_use]
    pub fn receive_buffer(self, bytes: u32) -> Self {
        Self { receive_buffer: Some(bytes), ..self }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        number("socket unsent", self.unsent.into(), 1..=1 << 30)?;
        number("socket send_buffer", self.send_buffer.unwrap_or(1).into(), 1..=1 << 30)?;
        number("socket receive_buffer", self.receive_buffer.unwrap_or(1).into(), 1..=1 << 30)
    }
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            keepalive: true,
            user_timeout: true,
            unsent: 128 * 1024,
            send_buffer: None,
            receive_buffer: None,
        }
    }
}
