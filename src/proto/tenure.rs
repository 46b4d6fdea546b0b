//! How long a connection is kept that nothing is wrong with. Knows no socket: time and use go in, a verdict comes out.
//!
//! ```text
//!   Kept ──── lifetime over ─────────────────────────────► Renew: the next one first, then it is let go
//!   Spare ─┬─ lifetime over, in use ─────────────────────► Renew
//!          ├─ lifetime over, not in use ─────────────────► Retire
//!          └─ no call for the idle limit ────────────────► Retire
//!   Surplus ─────────────────────────────────────────────► Retire
//! ```
//!
//! Calls keep no time for this: whoever looks compares how many calls there have been with how many there were when it
//! looked before, a few times in each idle limit.

use std::fmt;
use std::time::{Duration, Instant};

use fastrand::Rng;

/// Looks in each idle limit. The fewer, the later an idle connection is found out.
const LOOKS: u32 = 4;
/// The least share of its limits that a connection may draw.
const LEAST_SHARE: f64 = 0.8;

/// One connection's.
#[derive(Debug)]
pub(crate) struct Tenure {
    since: Instant,
    /// Of the lifetime, drawn once.
    life: f64,
    /// Of the idle limit, drawn once.
    idle: f64,
    /// No call is known to have been there since then.
    quiet_since: Instant,
    /// What was seen then.
    seen: Usage,
}

/// Why a pool let a connection go that nothing was wrong with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Retirement {
    /// It was beyond the least number, and carried no call for [`Connections::idle_limit`](crate::Connections::idle_limit).
    Idle,
    /// It was as old as [`Connections::lifetime`](crate::Connections::lifetime) allows. Unless nobody used it, another was
    /// ready in its place before.
    Lifetime,
    /// The pool was [resized](crate::Pool::resize).
    Resized,
    /// A [lease](crate::Lease) left something of its conversation on it, or was marked as broken.
    Lease,
    /// It could not be lent: something of before was outstanding on it, which an `on_connect` hook left behind, or the
    /// server began to say unasked. The next one is made under the backoff.
    Unlendable,
}

impl fmt::Display for Retirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "no call has used it for long enough",
            Self::Lifetime => "it is old enough",
            Self::Resized => "the pool was made smaller",
            Self::Lease => "a lease left something of its conversation on it",
            Self::Unlendable => "something outstanding on it would have come into a lease",
        })
    }
}

/// What a slot is to its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The pool always wants it.
    Kept,
    /// It was made because there was no room.
    Spare,
    /// It is beyond the pool's size.
    Surplus,
}

/// What a pool allows its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) standing: Standing,
    pub(crate) idle_limit: Option<Duration>,
    pub(crate) lifetime: Option<Duration>,
}

/// How much a connection is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Usage {
    /// Calls that it has been given so far.
    pub(crate) given: u64,
    /// Those that are not finished.
    pub(crate) in_flight: usize,
}

/// What is to become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It stays; look again then, if ever.
    Keep(Option<Instant>),
    /// It is let go as soon as there is another in its place.
    Renew,
    /// It is let go now.
    Retire(Retirement),
}

impl Tenure {
    /// Begins now.
    pub(crate) fn new(now: Instant, rng: &mut Rng) -> Self {
        let mut share = || LEAST_SHARE + (1.0 - LEAST_SHARE) * rng.f64();
        Self { since: now, life: share(), idle: share(), quiet_since: now, seen: Usage::default() }
    }

    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    pub(crate) fn look(&mut self, now: Instant, terms: Terms, usage: Usage) -> Verdict {
        let Terms { standing, idle_limit, lifetime } = terms;
        if usage.in_flight > 0 || usage != self.seen {
            (self.quiet_since, self.seen) = (now, usage);
        }
        let old_at = lifetime.map(|lifetime| self.since + lifetime.mul_f64(self.life));
        let is_old = old_at.is_some_and(|at| now >= at);
        let idle_limit = idle_limit.map(|limit| limit.mul_f64(self.idle));
        let step = idle_limit.map(|limit| limit / LOOKS);
        let quiet = now.saturating_duration_since(self.quiet_since);
        // The last look may have been a moment ago.
        let is_quiet = quiet > step.unwrap_or_default();
        let idle_at = idle_limit.map(|limit| self.quiet_since + limit);
        match standing {
            Standing::Surplus => Verdict::Retire(Retirement::Resized),
            Standing::Spare if is_old && is_quiet => Verdict::Retire(Retirement::Lifetime),
            Standing::Kept | Standing::Spare if is_old => Verdict::Renew,
            Standing::Spare if idle_at.is_some_and(|at| now >= at) => {
                Verdict::Retire(Retirement::Idle)
            }
            Standing::Spare => {
                let next_look = step.map(|step| now + step);
                Verdict::Keep(next_look.min(idle_at).into_iter().chain(old_at).min())
            }
            Standing::Kept => Verdict::Keep(old_at),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use super::*;

    const IDLE: Duration = Duration::from_secs(100);
    const LIFE: Duration = Duration::from_secs(1000);

    fn terms(standing: Standing) -> Terms {
        Terms { standing, idle_limit: Some(IDLE), lifetime: Some(LIFE) }
    }

    fn used(given: u64, in_flight: usize) -> Usage {
        Usage { given, in_flight }
    }

    /// Looks whenever it is told to, and tells when it came to another verdict, and to which.
    fn outcome(
        terms: Terms,
        seed: u64,
        usage: impl Fn(Duration) -> Usage,
    ) -> Option<(Duration, Verdict)> {
        let start = Instant::now();
        let mut tenure = Tenure::new(start, &mut Rng::with_seed(seed));
        let mut now = start;
        loop {
            match tenure.look(now, terms, usage(now - start)) {
                Verdict::Keep(None) => return None,
                Verdict::Keep(Some(at)) => {
                    assert!(at > now, "a look that leads nowhere");
                    now = at;
                }
                verdict => return Some((now - start, verdict)),
            }
        }
    }

    #[test]
    fn what_becomes_of_a_connection_follows_from_its_standing_its_age_and_its_use() {
        let never = |_| used(0, 0);
        let always = |age: Duration| used(age.as_secs(), 0);
        let one_long_call = |_| used(1, 1);
        let (idle, old) = (Retirement::Idle, Retirement::Lifetime);
        let no_idle_limit = Terms { idle_limit: None, ..terms(Standing::Spare) };
        let no_limits = Terms { lifetime: None, ..no_idle_limit };
        for seed in 0..100 {
            let verdict = |terms, usage: &dyn Fn(Duration) -> Usage| {
                outcome(terms, seed, usage).map(|(_, verdict)| verdict)
            };
            let (kept, spare) = (terms(Standing::Kept), terms(Standing::Spare));
            assert_eq!(verdict(kept, &never), Some(Verdict::Renew));
            assert_eq!(verdict(kept, &always), Some(Verdict::Renew));
            assert_eq!(verdict(spare, &never), Some(Verdict::Retire(idle)));
            assert_eq!(verdict(spare, &always), Some(Verdict::Renew));
            assert_eq!(verdict(spare, &one_long_call), Some(Verdict::Renew));
            assert_eq!(verdict(no_idle_limit, &never), Some(Verdict::Retire(old)));
            assert_eq!(verdict(no_limits, &never), None);
            let surplus = terms(Standing::Surplus);
            assert_eq!(
                verdict(surplus, &one_long_call),
                Some(Verdict::Retire(Retirement::Resized))
            );
        }
    }

    #[test]
    fn an_idle_connection_goes_soon_after_its_limit_and_never_sooner() {
        let last = Duration::from_secs(333);
        let one_long_call = |age| used(1, usize::from(age < last));
        let many_calls = |age: Duration| used(age.min(last).as_secs() + 1, 0);
        let terms = Terms { lifetime: None, ..terms(Standing::Spare) };
        for seed in 0..1000 {
            for (at, verdict) in
                [outcome(terms, seed, one_long_call), outcome(terms, seed, many_calls)]
                    .map(Option::unwrap)
            {
                assert_eq!(verdict, Verdict::Retire(Retirement::Idle));
                let idle = at - last;
                assert!(idle >= IDLE.mul_f64(0.79) && idle <= IDLE.mul_f64(1.25), "{idle:?}");
            }
        }
    }

    #[test]
    fn connections_that_were_made_together_do_not_go_together() {
        let mut ends: Vec<_> = (0..1000)
            .map(|seed| outcome(terms(Standing::Kept), seed, |_| used(0, 0)).unwrap().0)
            .collect();
        ends.sort();
        assert!(ends[0] >= LIFE.mul_f64(0.8) && ends[999] <= LIFE);
        let most = ends.chunk_by(|a, b| a.as_secs() / 10 == b.as_secs() / 10).map(<[_]>::len).max();
        // On average 50 in each of the 20 bins.
        assert!(most.unwrap() <= 100, "{most:?}");
    }

    #[test]
    fn limits_that_change_apply_to_the_share_that_was_drawn() {
        let start = Instant::now();
        let mut tenure = Tenure::new(start, &mut Rng::with_seed(7));
        let mut end = |lifetime| {
            let terms = Terms { lifetime, ..terms(Standing::Kept) };
            tenure.look(start, terms, used(0, 0))
        };
        let Verdict::Keep(Some(first)) = end(Some(LIFE)) else { panic!() };
        assert_eq!(end(Some(LIFE)), Verdict::Keep(Some(first)));
        let Verdict::Keep(Some(shorter)) = end(Some(LIFE / 10)) else { panic!() };
        let ratio = (first - start).as_secs_f64() / (shorter - start).as_secs_f64();
        assert!((9.99..10.01).contains(&ratio), "{ratio}");
        assert_eq!(end(None), Verdict::Keep(None));
    }
}
