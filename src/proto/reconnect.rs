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
//! connection has proved stable. The one file that knows the `backoff` crate.

use std::time::{Duration, Instant};

use backoff::Clock;
use backoff::backoff::Backoff as _;
use backoff::exponential::ExponentialBackoff;
use fastrand::Rng;

use crate::error::connect::Phase;
use crate::policy;

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
    pub(crate) fn lost(&mut self, now: Instant, retry_after: Option<Duration>) {
        let State::Up { .. } = self.state else {
            return;
        };
        let stable = self.is_stable(now);
        self.absence = Absence { since: now, flapping: !stable };
        let delay = if stable {
            self.start_over(now);
            FIRST_JITTER
        } else {
            self.unwelcome.next(now)
        };
        let hurried = self.hurried(now);
        self.wait(now, delay, hurried, retry_after);
    }

    /// The connection that was [lost](Self::lost) just now had carried no call for so long that the server let it go. That speaks against
    /// nobody: calls that wait may bring the next attempt forward, though it died young.
    pub(crate) fn was_idle(&mut self, now: Instant) {
        self.absence.flapping = false;
        let at = self.hurried(now);
        if let State::Waiting { hurried, .. } = &mut self.state {
            *hurried = hurried.or(at);
        }
    }

    /// What was under way or alive ends here, for reasons on this side. It counts like one that the server turned away: who resizes a
    /// pool over and over dials no faster than the backoff.
    pub(crate) fn broke_off(&mut self, now: Instant) {
        match self.state {
            State::Waiting { .. } => {}
            State::Dialing => self.turned_away(now, None),
            State::Up { .. } => self.lost(now, None),
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

/// Exponential growth up to a cap: the `backoff` crate's arithmetic on the caller's clock. The jitter is ours,
/// because it must be full, after the cap, and from a seed.
#[derive(Debug)]
pub(crate) struct Exponential(ExponentialBackoff<Given>);

impl Exponential {
    pub(crate) fn new(now: Instant, initial: Duration, cap: Duration) -> Self {
        Self(ExponentialBackoff {
            current_interval: initial,
            initial_interval: initial,
            max_interval: cap,
            multiplier: 2.0,
            randomization_factor: 0.0,
            max_elapsed_time: None,
            start_time: now,
            clock: Given(now),
        })
    }

    /// The next interval; each is twice the one before, up to the cap.
    pub(crate) fn next(&mut self, now: Instant) -> Duration {
        self.0.clock = Given(now);
        // `None` would mean that a time limit has passed, and there is none.
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    pub(crate) fn reset(&mut self, now: Instant) {
        self.0.clock = Given(now);
        self.0.reset();
    }
}

impl Clone for Exponential {
    /// By hand: the crate's type has none.
    fn clone(&self) -> Self {
        let ExponentialBackoff { current_interval, initial_interval, max_interval, .. } = self.0;
        let mut copy = Self::new(self.0.start_time, initial_interval, max_interval);
        copy.0.current_interval = current_interval;
        copy
    }
}

/// The clock is what the shell read last.
#[derive(Debug, Clone, Copy)]
struct Given(Instant);

impl Clock for Given {
    fn now(&self) -> Instant {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn plan(start: Instant) -> Plan {
        let policy = policy::Reconnect::exponential(ms(100), ms(5000)).stable_after(ms(1000));
        Plan::new(start, policy, 7)
    }

    /// Fails every attempt, as soon as it is allowed, for so long. Returns how many were made.
    fn attempts_within(plan: &mut Plan, start: Instant, span: Duration, callers: Callers) -> u32 {
        let mut attempts = 0;
        while let Some(at) = plan.dial_at(callers).filter(|at| *at < start + span) {
            plan.dial();
            plan.failed(at, Phase::Connect, None);
            attempts += 1;
        }
        attempts
    }

    #[test]
    fn intervals_double_up_to_the_cap() {
        let now = Instant::now();
        let mut exponential = Exponential::new(now, ms(100), ms(450));
        let next: Vec<_> = (0..5).map(|_| exponential.next(now)).collect();
        assert_eq!(next, [ms(100), ms(200), ms(400), ms(450), ms(450)]);
        exponential.reset(now);
        assert_eq!(exponential.next(now), ms(100));
    }

    #[test]
    fn the_first_attempt_is_made_at_once() {
        let start = Instant::now();
        assert_eq!(plan(start).dial_at(Callers::None), Some(start));
    }

    #[test]
    fn a_dead_endpoint_sees_few_attempts_while_nobody_waits() {
        for seed in 0..1000 {
            let start = Instant::now();
            let mut plan = Plan::new(start, policy::Reconnect::default(), seed);
            assert!(
                attempts_within(&mut plan, start, ms(2000), Callers::None) <= 10,
                "seed {seed}"
            );
        }
    }

    #[test]
    fn waiting_calls_bring_the_attempt_forward_but_not_below_its_distance() {
        let start = Instant::now();
        let mut plan = plan(start);
        let mut last = start;
        plan.dial();
        plan.failed(start, Phase::Connect, None);
        while let Some(at) = plan.dial_at(Callers::Waiting).filter(|at| *at < start + ms(60_000)) {
            let backoff_alone = plan.dial_at(Callers::None).unwrap();
            let floor = HURRIED.max((last - start) / 10);
            assert!(at >= last + floor || at == backoff_alone);
            assert!(at <= last + floor + floor / 4);
            last = at;
            plan.dial();
            plan.failed(at, Phase::Connect, None);
        }
        assert!(last > start + ms(50_000));
    }

    #[test]
    fn waiting_calls_do_not_bring_it_forward_while_the_server_turns_us_away() {
        for phase in [Phase::Handshake, Phase::Hook] {
            let (start, hour) = (Instant::now(), ms(3_600_000));
            let mut plan = Plan::new(start, policy::Reconnect::exponential(hour, hour), 7);
            plan.dial();
            plan.failed(start, phase, None);
            assert_eq!(plan.dial_at(Callers::Waiting), plan.dial_at(Callers::None), "{phase}");
            // When it is not there at all, it may be back soon.
            plan.dial();
            plan.failed(start, Phase::Connect, None);
            assert!(plan.dial_at(Callers::Waiting).unwrap() <= start + HURRIED * 5 / 4, "{phase}");
        }
    }

    #[test]
    fn after_a_stable_connection_the_backoff_starts_over() {
        let start = Instant::now();
        let mut plan = plan(start);
        attempts_within(&mut plan, start, ms(60_000), Callers::None);
        plan.dial();
        plan.succeeded(start + ms(60_000));
        assert_eq!(plan.dial_at(Callers::Waiting), None);
        plan.lost(start + ms(61_000), None);
        assert!(plan.dial_at(Callers::None).unwrap() <= start + ms(61_000) + FIRST_JITTER);
        plan.dial();
        plan.failed(start + ms(61_010), Phase::Connect, None);
        assert!(plan.dial_at(Callers::None).unwrap() <= start + ms(61_110));
    }

    /// As one that is restarted twice within a second.
    #[test]
    fn a_server_that_is_back_and_lost_again_at_once_is_not_paid_back_for_the_outage_before() {
        let start = Instant::now();
        for phase in [None, Some(Phase::Handshake)] {
            let mut plan = plan(start);
            attempts_within(&mut plan, start, ms(60_000), Callers::Waiting);
            let back = start + ms(60_000);
            plan.dial();
            match phase {
                None => {
                    plan.succeeded(back);
                    plan.lost(back + ms(300), None);
                }
                Some(phase) => plan.failed(back + ms(300), phase, None),
            }
            assert!(plan.dial_at(Callers::None).unwrap() <= back + ms(400), "{phase:?}");
        }
    }

    #[test]
    fn connections_that_die_young_leave_the_rate_to_the_backoff() {
        let start = Instant::now();
        let mut plan = plan(start);
        let mut dials = 0;
        while let Some(at) = plan.dial_at(Callers::Waiting).filter(|at| *at < start + ms(100_000)) {
            plan.dial();
            plan.succeeded(at);
            plan.lost(at, None);
            assert_eq!(plan.dial_at(Callers::Waiting), plan.dial_at(Callers::None));
            dials += 1;
        }
        // At the cap of 5 s, full jitter makes an attempt every 2.5 s on average.
        assert!((20..80).contains(&dials), "{dials}");
    }

    #[test]
    fn who_was_let_go_for_idleness_is_hurried_though_no_rate_is_raised_by_it() {
        let start = Instant::now();
        let mut plan = plan(start);
        for _ in 0..8 {
            plan.dial();
            plan.succeeded(start);
            plan.lost(start, None);
            plan.was_idle(start);
            let hurried = plan.dial_at(Callers::Waiting).unwrap();
            assert!(hurried <= start + HURRIED * 5 / 4);
        }
        let patient = plan.clone().dial_at(Callers::None).unwrap();
        assert!(patient > start + ms(1000), "nobody waits: the backoff has grown");
    }

    #[test]
    fn a_server_that_is_not_there_any_more_is_hurried_after_also_if_its_connections_died_young() {
        let start = Instant::now();
        for (phase, hurries) in [(Phase::Connect, true), (Phase::Handshake, false)] {
            let mut plan = plan(start);
            for _ in 0..8 {
                plan.dial();
                plan.succeeded(start);
                plan.lost(start, None);
            }
            plan.dial();
            plan.failed(start, phase, None);
            let hurried = plan.dial_at(Callers::Waiting).unwrap();
            assert_eq!(hurried <= start + HURRIED * 5 / 4, hurries, "{phase:?}");
        }
    }

    #[test]
    fn what_was_let_go_can_be_made_again_at_once_but_does_not_hide_that_others_died_young() {
        let start = Instant::now();
        let mut plan = plan(start);
        let retire_at = |plan: &mut Plan, at| {
            plan.dial();
            plan.succeeded(start);
            plan.retired(at);
            assert_eq!(plan.dial_at(Callers::None), Some(at));
        };
        let longest_delays =
            |plan: &Plan| [&plan.absent, &plan.unwelcome].map(|backoff| backoff.0.current_interval);
        attempts_within(&mut plan, start, ms(60_000), Callers::None);
        for _ in 0..10 {
            plan.dial();
            plan.succeeded(start);
            plan.lost(start, None);
        }
        retire_at(&mut plan, start + ms(10));
        assert_eq!(longest_delays(&plan), [ms(5000); 2]);
        retire_at(&mut plan, start + ms(1000));
        assert_eq!(longest_delays(&plan), [ms(100); 2]);
    }

    #[test]
    fn the_servers_own_wish_wins() {
        let start = Instant::now();
        let mut plan = plan(start);
        plan.dial();
        plan.failed(start, Phase::Connect, Some(ms(3000)));
        let at = plan.dial_at(Callers::Waiting).unwrap();
        assert!(at >= start + ms(3000) && at <= start + ms(3750));
    }

    #[test]
    fn a_thousand_clients_do_not_come_back_in_one_instant() {
        let start = Instant::now();
        let back = start + ms(30_000);
        let mut first_after: Vec<Duration> = (0..1000)
            .map(|seed| {
                let mut plan = Plan::new(start, policy::Reconnect::default(), seed);
                attempts_within(&mut plan, start, ms(30_000), Callers::Waiting);
                plan.dial_at(Callers::Waiting).unwrap() - back
            })
            .collect();
        first_after.sort();
        let span = first_after[999].as_millis() / 100 + 1;
        let mean = 1000.0 / span as f64;
        for bin in 0..span {
            let count = first_after.iter().filter(|after| after.as_millis() / 100 == bin).count();
            assert!(count as f64 <= 3.0 * mean, "{count} in bin {bin} of {span}");
        }
    }
}
