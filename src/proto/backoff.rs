//! Exponential growth up to a cap: the `backoff` crate's arithmetic on the caller's clock. The jitter is ours, because it must be
//! full, after the cap, and from a seed. The one file that knows that crate.

use std::time::{Duration, Instant};

use backoff::Clock;
use backoff::backoff::Backoff as _;
use backoff::exponential::ExponentialBackoff;

/// How long to wait between attempts.
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

    #[cfg(test)]
    pub(crate) fn current(&self) -> Duration {
        self.0.current_interval
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

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
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
}
