//! When a channel dials again. Knows no socket: attempts and losses go in, times come out.
//!
//! ```text
//!            dial                    succeeded
//! Waiting ─────────► Dialing ────────────────────────► Up ──┐ succeeded: another connection
//!    ▲                  │ failed, broke off             │ ▲──┘ has taken this one's place
//!    └──────────────────┴───────────────────────────────┘
//!                                              lost, retired, broke off
//! ```
//!
//! A connection that is to be replaced because of its age goes on while the attempts are made: they have a plan of their own.
//!
//! There are two backoffs: one for when nobody is there, one for a server that is and turns us away, or lets connections die
//! young. So an outage, however long and however many attempts waiting calls brought forward in it, makes a server that has only
//! just come back no harder to reach; one that goes on with it sees fewer and fewer attempts. Both start over only when a
//! connection has proved stable.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::error::connect::Phase;
use crate::policy;
use crate::proto::backoff::Exponential;

/// The first attempt after the loss of a stable connection: at once, but not all clients in the same instant.
const FIRST_JITTER: Duration = Duration::from_millis(10);
/// Waiting calls bring the next attempt forward, but not below this distance from the last. Half of that, in the middle, is what
/// they lose to a server that is there again.
const HURRIED: Duration = Duration::from_millis(30);

/// A server can ask for no longer a pause, so that a slip of its pen does not silence a client for weeks.
const LONGEST_WISH: Duration = Duration::from_secs(300);

/// One channel's plan for its next attempt.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    absent: Exponential,
    unwelcome: Exponential,
    stable_after: Duration,
    rng: Rng,
    state: State,
    /// Since when there has been no usable connection though one was needed, and how it began.
    absence: Absence,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Waiting {
        until: Instant,
        /// The earliest time to which waiting calls may bring the attempt forward.
        hurried: Option<Instant>,
    },
    Dialing,
    Up {
        since: Instant,
    },
}

#[derive(Debug, Clone, Copy)]
struct Absence {
    since: Instant,
    /// Connections are made, but die before they are stable: the backoff alone rules.
    flapping: bool,
}

/// What a connection was lost to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It had carried no call for so long that the server let it go. That speaks against nobody: calls that wait may bring the next
    /// attempt forward, though it died young.
    Idleness,
    /// Anything else.
    Mishap,
}

/// Whether calls wait for this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Callers {
    None,
    Waiting,
}

impl Plan {
    pub(crate) fn new(now: Instant, policy: policy::Reconnect, seed: u64) -> Self {
        Self {
            absent: Exponential::new(now, policy.initial, policy.cap),
            unwelcome: Exponential::new(now, policy.initial, policy.cap),
            stable_after: policy.stable_after,
            rng: Rng::with_seed(seed),
            state: State::Waiting { until: now, hurried: Some(now) },
            absence: Absence { since: now, flapping: false },
        }
    }

    /// When to dial; `None` while an attempt or a connection is alive.
    pub(crate) fn dial_at(&self, callers: Callers) -> Option<Instant> {
        match self.state {
            State::Waiting { until, hurried: Some(hurried) } if callers == Callers::Waiting => {
                Some(until.min(hurried))
            }
            State::Waiting { until, .. } => Some(until),
            State::Dialing | State::Up { .. } => None,
        }
    }

    /// Nobody needed a connection for a time that was no outage, until now: one begins at most.
    pub(crate) fn needed(&mut self, now: Instant) {
        self.absence.since = now;
    }

    /// Whether an attempt can be made now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Waiting { until, .. } if until <= now)
    }

    /// An attempt begins.
    pub(crate) fn dial(&mut self) {
        self.state = State::Dialing;
    }

    /// It failed. `retry_after` is the server's own wish.
    pub(crate) fn failed(&mut self, now: Instant, phase: Phase, retry_after: Option<Duration>) {
        let (delay, hurried) = match phase {
            Phase::Resolve | Phase::Connect => {
                // Nobody is there now who would make connections and let them die.
                self.absence.flapping = false;
                (self.absent.next(now), self.hurried(now))
            }
            Phase::Handshake | Phase::Hook => return self.turned_away(now, retry_after),
        };
        self.wait(now, delay, hurried, retry_after);
    }

    /// It shall see the backoff's rate, however many calls wait.
    fn turned_away(&mut self, now: Instant, retry_after: Option<Duration>) {
        let delay = self.unwelcome.next(now);
        self.wait(now, delay, None, retry_after);
    }

    /// It succeeded, or the attempt that another plan made to replace this one's connection did.
    pub(crate) fn succeeded(&mut self, now: Instant) {
        if self.is_stable(now) {
            self.start_over(now);
        }
        self.state = State::Up { since: now };
    }

    /// The connection was let go, and nothing was wrong with it.
    pub(crate) fn retired(&mut self, now: Instant) {
        if self.is_stable(now) {
            self.start_over(now);
        }
        self.absence = Absence { since: now, flapping: false };
        self.state = State::Waiting { until: now, hurried: Some(now) };
    }

    /// The connection is gone.
    pub(crate) fn lost(&mut self, now: Instant, to: Lost, retry_after: Option<Duration>) {
        let State::Up { .. } = self.state else {
            return;
        };
        let stable = self.is_stable(now);
        self.absence = Absence { since: now, flapping: !stable && to == Lost::Mishap };
        let delay = if stable {
            self.start_over(now);
            FIRST_JITTER
        } else {
            self.unwelcome.next(now)
        };
        let hurried = self.hurried(now);
        self.wait(now, delay, hurried, retry_after);
    }

    /// What was under way or alive ends here, for reasons on this side. It counts like one that the server turned away: who resizes a
    /// pool over and over dials no faster than the backoff.
    pub(crate) fn broke_off(&mut self, now: Instant) {
        match self.state {
            State::Waiting { .. } => {}
            State::Dialing => self.turned_away(now, None),
            State::Up { .. } => self.lost(now, Lost::Mishap, None),
        }
    }

    fn start_over(&mut self, now: Instant) {
        self.absent.reset(now);
        self.unwelcome.reset(now);
    }

    fn is_stable(&self, now: Instant) -> bool {
        match self.state {
            State::Up { since } => now.saturating_duration_since(since) >= self.stable_after,
            State::Waiting { .. } | State::Dialing => false,
        }
    }

    /// The time to which waiting calls may bring the next attempt forward, if they may.
    fn hurried(&mut self, now: Instant) -> Option<Instant> {
        if self.absence.flapping {
            return None;
        }
        let lasted = now.saturating_duration_since(self.absence.since);
        let distance = HURRIED.max(lasted / 10);
        Some(now + self.jitter(distance, distance + distance / 4))
    }

    fn wait(
        &mut self,
        now: Instant,
        delay: Duration,
        hurried: Option<Instant>,
        retry_after: Option<Duration>,
    ) {
        let until = now + self.jitter(Duration::ZERO, delay);
        self.state = match retry_after {
            None => State::Waiting { until, hurried },
            // All clients that were turned away got the same number: spread them behind it.
            Some(after) => {
                let after = after.min(LONGEST_WISH);
                let after = now + self.jitter(after, after + after / 4);
                State::Waiting { until: until.max(after), hurried: None }
            }
        };
    }

    fn jitter(&mut self, from: Duration, to: Duration) -> Duration {
        from + (to - from).mul_f64(self.rng.f64())
    }
}

#[cfg(test)]
mod tests;
