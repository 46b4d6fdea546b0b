//! What a user sets in code: plain values, checked once at the door. A policy does not know how to connect.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::call::CallError;
use crate::error::config::ConfigError;
use crate::range::{number, share, time};

const HOUR: Duration = Duration::from_secs(3600);

/// How a silent peer is found out.
///
/// Only inbound bytes are life. After `every` without one, a ping goes out; after `give_up_after` more, the
/// connection is given up. A dead peer is so noticed within `every + give_up_after`, idle or not, 15 s by default.
/// TCP keepalive and `TCP_USER_TIMEOUT` (see `tcp(7)`) are derived from the same two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    pub(crate) every: Duration,
    pub(crate) give_up_after: Duration,
}

impl Heartbeat {
    /// Pings after so much inbound silence; gives up after twice that, at most 1 h, unless
    /// [`give_up_after`](Self::give_up_after) says otherwise. 10 ms to 1 h, default 5 s.
    ///
    /// Too little: idle connections cost traffic and battery, and a busy peer is asked needlessly.
    /// Too much: firewalls forget the flow (some after 60 s), and a dead peer is noticed late.
    pub fn every(every: Duration) -> Self {
        let give_up_after = every.saturating_mul(2).min(HOUR);
        Self { every, give_up_after }
    }

    /// Takes the peer for dead so long after an unanswered ping. 10 ms to 1 h, default 10 s.
    ///
    /// Too little: one lost packet (retransmitted after 200 ms and more) or a pause of the peer kills a
    /// healthy connection. Too much: calls into a dead connection wait for their deadline.
    #[must_use]
    pub fn give_up_after(self, give_up_after: Duration) -> Self {
        Self { give_up_after, ..self }
    }

    /// The longest silence that is borne.
    pub(crate) fn bound(&self) -> Duration {
        self.every + self.give_up_after
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let range = ms(10)..=HOUR;
        time("heartbeat every", self.every, &range)?;
        time("heartbeat give_up_after", self.give_up_after, &range)
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { every: Duration::from_secs(5), give_up_after: Duration::from_secs(10) }
    }
}

/// How fast a lost connection is dialed again: exponential backoff with full jitter after the cap.
///
/// The first attempt after the loss of a stable connection comes at once, but for a small jitter. While calls wait,
/// attempts are brought forward: at most one every 30 ms or every tenth of the outage so far, whichever is longer;
/// but not while the server is there and turns connections away, or lets them die before they are stable. That has a backoff of
/// its own, so that the length of an outage does not count against a server that has only just come back. A call that may have run
/// waits for a connection to its server process, also while others are ready; the next one in place of the one that died tells whether
/// that process is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    pub(crate) initial: Duration,
    pub(crate) cap: Duration,
    pub(crate) stable_after: Duration,
}

impl Reconnect {
    /// Waits between attempts a random time, at most `initial` at first, doubling up to `cap`.
    /// 1 ms to 1 h each, default 100 ms and 5 s.
    ///
    /// Too little: a server that comes back is overrun. Too much: it is back for long before it is noticed
    /// (while no call waits; waiting calls bring the attempt forward).
    pub fn exponential(initial: Duration, cap: Duration) -> Self {
        Self { initial, cap, ..Self::default() }
    }

    /// The backoff starts over only when a connection has lived for so long. 0 to 1 h, default 1 s.
    ///
    /// Too little: a server that accepts and closes is dialed without end. Too much: after a second, unrelated
    /// loss the backoff is still that of the first, and no attempt is brought forward by waiting calls.
    #[must_use]
    pub fn stable_after(self, stable_after: Duration) -> Self {
        Self { stable_after, ..self }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        time("reconnect initial", self.initial, &(ms(1)..=HOUR))?;
        time("reconnect cap", self.cap, &(self.initial..=HOUR))?;
        time("reconnect stable_after", self.stable_after, &(Duration::ZERO..=HOUR))
    }
}

impl Default for Reconnect {
    fn default() -> Self {
        Self { initial: ms(100), cap: Duration::from_secs(5), stable_after: Duration::from_secs(1) }
    }
}

/// When a call is tried again, beyond what is always safe.
///
/// A request that never left is sent again until the deadline, whatever this policy says. Attempts and budget bound
/// the rest: calls that the server refused, and calls marked [idempotent](crate::Request::idempotent) whose
/// connection died. Calls that were not marked are sent again after they had left only to the server process that would
/// know them again ([`ReplyCache`]); that counts as an attempt and costs no budget. [Retrying](crate::retrying) has it all in
/// one table.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    pub(crate) attempts: u32,
    pub(crate) budget: f64,
    pub(crate) floor: f64,
    pub(crate) initial: Duration,
    pub(crate) cap: Duration,
    pub(crate) idempotent: bool,
    pub(crate) only_if: Option<Predicate>,
}

/// A user's own word on whether a failed call is tried again. Two are equal when they are the same object.
#[derive(Clone)]
pub(crate) struct Predicate(Arc<dyn Fn(&CallError) -> bool + Send + Sync>);

impl Predicate {
    pub(crate) fn holds(&self, error: &CallError) -> bool {
        (self.0)(error)
    }
}

impl PartialEq for Predicate {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Predicate")
    }
}

impl Retry {
    /// So many attempts for a call, the first included; one that the server refused does not count the first time. 1
    /// (never again) to 100, default 3.
    ///
    /// Too little: a restart in the middle of a call is seen by the caller. Too much: a request that kills
    /// the server kills it so often.
    pub fn attempts(attempts: u32) -> Self {
        Self { attempts, ..Self::default() }
    }

    /// Nothing is tried again except what never left, or was sent away by a server that goes away. The same as one
    /// [attempt](Self::attempts).
    pub fn never() -> Self {
        Self::attempts(1)
    }

    /// All calls under this policy may be run twice, as if each were marked [idempotent](crate::Request::idempotent).
    #[must_use]
    pub fn idempotent(self) -> Self {
        Self { idempotent: true, ..self }
    }

    /// Lets `wanted` forbid retries. It is asked before a call that the server refused, or that may have run, is tried
    /// again, and is given the failure as it is so far; what never left is sent again without asking. It runs on the
    /// caller's task and must not block.
    ///
    /// # Examples
    /// ```
    /// use steadfast::{Outcome, Retry};
    ///
    /// // Wait out a busy server, but never send a call again that may have run.
    /// let retry = Retry::attempts(3).only_if(|error| error.outcome() == Outcome::Refused);
    /// ```
    #[must_use]
    pub fn only_if(self, wanted: impl Fn(&CallError) -> bool + Send + Sync + 'static) -> Self {
        Self { only_if: Some(Predicate(Arc::new(wanted))), ..self }
    }

    /// Each successful call of this pool saves up so large a part of a retry, 100 retries at most, plus
    /// [`floor`](Self::floor) a second. 0.0 to 1.0, default 0.10.
    ///
    /// Too little: a short blip is seen by callers. Too much: an overloaded server gets a multiple of its load.
    #[must_use]
    pub fn budget(self, share: f64) -> Self {
        Self { budget: share, ..self }
    }

    /// So many retries a second are always allowed, for pools with little traffic. 0.0 to 1000.0, default 1.0.
    /// Up to 10 s of it can be saved up. A pool whose idempotent calls shall all survive a restart of their server needs a tenth
    /// of those that are in flight at a time.
    ///
    /// Too little: a pool with little traffic, which saves up nothing, shows its callers every blip. Too much: each
    /// client of a server that is in trouble adds so many calls a second to it.
    #[must_use]
    pub fn floor(self, per_second: f64) -> Self {
        Self { floor: per_second, ..self }
    }

    /// Waits between the attempts of one call a random time, at most `initial` at first, doubling up to `cap`.
    /// The first retry is not delayed, unless the only connection refused the call. 1 ms to 1 min each, default 20 ms
    /// and 1 s.
    ///
    /// Too little: the attempts are spent before the server has recovered, and do their part to keep it from that.
    /// Too much: the caller waits, or its deadline passes, though the server could answer again.
    #[must_use]
    pub fn backoff(self, initial: Duration, cap: Duration) -> Self {
        Self { initial, cap, ..self }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        number("retry attempts", u64::from(self.attempts), 1..=100)?;
        share("retry budget", self.budget, 1.0)?;
        share("retry floor", self.floor, 1000.0)?;
        let minute = Duration::from_secs(60);
        time("retry backoff initial", self.initial, &(ms(1)..=minute))?;
        time("retry backoff cap", self.cap, &(self.initial..=minute))
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            budget: 0.10,
            floor: 1.0,
            initial: ms(20),
            cap: Duration::from_secs(1),
            idempotent: false,
            only_if: None,
        }
    }
}

/// What a server remembers of its clients' calls, so that one whose connection died can be sent again and is not run
/// again: the answer is taken from here, or the running call is joined.
///
/// Calls marked [idempotent](crate::Request::idempotent) need it not and cost it nothing. An answer is kept until its
/// client says that it has it (with its next call), and at most as these bounds say. What is beyond them is not run
/// again either: its caller gets [`Indeterminate`](crate::Outcome::Indeterminate), or, if the answer alone was too
/// long, [`ErrorReply::REPLY_LOST`](crate::ErrorReply::REPLY_LOST). It lives in memory and ends with the process;
/// clients see that by the [instance](crate::InstanceId).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyCache {
    pub(crate) calls: usize,
    pub(crate) bytes: usize,
    pub(crate) age: Duration,
    pub(crate) total_bytes: usize,
}

impl ReplyCache {
    /// Nothing is remembered: a call whose connection dies after it has left is
    /// [`Indeterminate`](crate::Outcome::Indeterminate), unless it was marked idempotent.
    pub fn off() -> Self {
        Self { calls: 0, ..Self::default() }
    }

    /// Answers kept for a client. 1 to 1,000,000, default 1,024.
    ///
    /// Too few: a client with more calls in flight loses some answers when its connection dies. Too many: memory.
    #[must_use]
    pub fn calls(self, calls: usize) -> Self {
        Self { calls, ..self }
    }

    /// Bytes of answers kept for a client, 64 more counted for each. At least 64, default 8 MiB. An answer that is a
    /// slice of a greater buffer keeps all of that.
    ///
    /// Too few: long answers are lost with their connections. Too many: memory.
    #[must_use]
    pub fn bytes(self, bytes: usize) -> Self {
        Self { bytes, ..self }
    }

    /// How long an answer is kept, and how long a client is remembered after its last connection has ended. Its running
    /// calls are told that nobody waits only then. 10 ms to 24 h, default 60 s.
    ///
    /// Too little: a client that was cut off for longer does not learn what became of its calls. Too much: memory, and
    /// work for clients that will never come back.
    #[must_use]
    pub fn age(self, age: Duration) -> Self {
        Self { age, ..self }
    }

    /// Bytes of answers kept for all clients together. At least 64, default 256 MiB.
    ///
    /// Too few: clients lose answers although they keep to their own bounds. Too many: memory.
    #[must_use]
    pub fn total_bytes(self, bytes: usize) -> Self {
        Self { total_bytes: bytes, ..self }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.calls > 0
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        number("reply_cache calls", self.calls as u64, 0..=1_000_000)?;
        number("reply_cache bytes", self.bytes as u64, 64..=u64::MAX)?;
        number("reply_cache total_bytes", self.total_bytes as u64, 64..=u64::MAX)?;
        time("reply_cache age", self.age, &(ms(10)..=24 * HOUR))
    }
}

impl Default for ReplyCache {
    fn default() -> Self {
        let (bytes, total_bytes) = (8 << 20, 256 << 20);
        Self { calls: 1024, bytes, age: Duration::from_secs(60), total_bytes }
    }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
