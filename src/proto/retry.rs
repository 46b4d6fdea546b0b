//! Whether and when a failed call is tried again, and the pool's budget for it. The rules are those below.
//!
//! ```text
//!  NotSent, or sent away by GOAWAY ────► again, outside attempts and budget
//!  Refused, the first time ────────────► again, at once if another connection can take it
//!  Refused, later   ─┐
//!  Indeterminate and ├─ attempts? budget? time? ──► again after a backoff
//!  idempotent       ─┘
//!  Indeterminate, and the server would
//!  know it again ──── attempts? time? ──► again, on the same server process
//!  all else ───────────────────────────► final
//! ```

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::error::answer::Refusal;
use crate::error::call::{CallCause, Outcome, Stopped};
use crate::policy;
use crate::proto::backoff::Exponential;

/// The budget saves up at most so many retries beyond those of the floor.
const MAX_SAVED: f64 = 100.0;
/// The floor saves up at most so many seconds' worth, and one retry in any case.
const FLOOR_SECONDS: f64 = 10.0;

/// How many retries a pool may still make. Grows with successes and, slowly, with time.
#[derive(Debug)]
pub(crate) struct Budget {
    share: f64,
    floor: f64,
    saved: f64,
    from_floor: f64,
    filled: Instant,
}

impl Budget {
    pub(crate) fn new(now: Instant, policy: &policy::Retry) -> Self {
        let policy::Retry { budget: share, floor, .. } = *policy;
        Self { share, floor, saved: 0.0, from_floor: floor * FLOOR_SECONDS, filled: now }
    }

    /// A call succeeded.
    pub(crate) fn deposit(&mut self) {
        self.saved = (self.saved + self.share).min(MAX_SAVED);
    }

    /// Takes the price of one retry, if it is there.
    fn withdraw(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        let most = (self.floor * FLOOR_SECONDS).max(1.0);
        self.from_floor = (self.from_floor + passed * self.floor).min(most);
        for purse in [&mut self.saved, &mut self.from_floor] {
            if *purse >= 1.0 {
                *purse -= 1.0;
                return true;
            }
        }
        false
    }
}

/// What a failure says about trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The last byte never left.
    NotSent,
    /// The server did not run it and may do so later or elsewhere.
    Refused { retry_after: Option<Duration>, elsewhere: Elsewhere },
    /// The server went away and did not run it. All connections of a process say so at once, so that a call may hear it from
    /// each of them; but from each only once.
    SentAway { retry_after: Option<Duration> },
    /// It may have run.
    Indeterminate(Repeat),
    /// It may have run, and the server process that would know was replaced.
    Replaced,
    /// Its time is up.
    Expired,
    /// Another attempt cannot change it.
    Final,
}

/// Whether another connection could take a refused call now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    Room,
    NoRoom,
}

impl Elsewhere {
    pub(crate) fn from_room(has_room: bool) -> Self {
        if has_room { Self::Room } else { Self::NoRoom }
    }
}

/// What a failed attempt says about trying again.
pub(crate) fn classify(
    (outcome, cause): &(Outcome, CallCause),
    repeat: Repeat,
    elsewhere: Elsewhere,
) -> Failure {
    match (outcome, cause) {
        (_, CallCause::TimedOut { .. }) => Failure::Expired,
        (_, CallCause::Replaced { .. }) => Failure::Replaced,
        (Outcome::NotSent, CallCause::Lost(_) | CallCause::SentAway(_)) => Failure::NotSent,
        (Outcome::Refused, CallCause::SentAway(goodbye)) => {
            Failure::SentAway { retry_after: goodbye.retry_after }
        }
        (Outcome::Refused, CallCause::Refused(refusal)) => match refusal.code {
            Refusal::EXPIRED | Refusal::UNKNOWN | Refusal::TOO_LONG => Failure::Final,
            _ => Failure::Refused { retry_after: refusal.retry_after, elsewhere },
        },
        // It was closed on purpose: nobody makes another one.
        (Outcome::Indeterminate, CallCause::Lost(loss)) if loss.is_intended() => Failure::Final,
        (Outcome::Indeterminate, CallCause::Lost(_)) => Failure::Indeterminate(repeat),
        _ => Failure::Final,
    }
}

/// What sending a call again would do that may have run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Run it twice.
    Harmful,
    /// Run it twice, and nobody minds.
    Harmless,
    /// Not run it twice: the server process knows it again.
    Deduplicated,
}

/// One call's attempts.
#[derive(Debug)]
pub(crate) struct Attempts {
    most: u32,
    /// The caps of the first delay and of all.
    backoff: (Duration, Duration),
    /// Attempts that count.
    counted: u32,
    refused: bool,
    /// Built when a delay is first needed, so that a call that succeeds pays nothing.
    delays: Option<(Exponential, Rng)>,
}

/// What trying again costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Price {
    Nothing,
    /// The work is not done twice, so it is no load that a budget would have to bound.
    Attempt,
    AttemptAndBudget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    Again { after: Duration },
    Stop(Stopped),
}

impl Attempts {
    pub(crate) fn new(policy: &policy::Retry) -> Self {
        let (most, backoff) = (policy.attempts, (policy.initial, policy.cap));
        Self { most, backoff, counted: 0, refused: false, delays: None }
    }

    /// What to do after a failed attempt.
    pub(crate) fn next(
        &mut self,
        now: Instant,
        deadline: Instant,
        failure: Failure,
        budget: &mut Budget,
        seed: u64,
    ) -> Next {
        let (price, least) = match failure {
            Failure::Final => return Next::Stop(Stopped::Final),
            Failure::Expired => return Next::Stop(Stopped::Deadline),
            Failure::Replaced => return Next::Stop(Stopped::InstanceChanged),
            Failure::Indeterminate(Repeat::Harmful) => return Next::Stop(Stopped::NotIdempotent),
            Failure::NotSent => (Price::Nothing, Duration::ZERO),
            Failure::SentAway { retry_after } => (Price::Nothing, retry_after.unwrap_or_default()),
            Failure::Refused { retry_after, .. } => {
                let first = !std::mem::replace(&mut self.refused, true);
                let price = if first { Price::Nothing } else { Price::AttemptAndBudget };
                (price, retry_after.unwrap_or_default())
            }
            Failure::Indeterminate(Repeat::Harmless) => (Price::AttemptAndBudget, Duration::ZERO),
            Failure::Indeterminate(Repeat::Deduplicated) => (Price::Attempt, Duration::ZERO),
        };
        if price != Price::Nothing {
            self.counted += 1;
            if self.counted >= self.most {
                return Next::Stop(Stopped::AttemptsSpent);
            }
        }
        let is_free = matches!(failure, Failure::NotSent | Failure::SentAway { .. });
        if self.most == 1 && !is_free {
            return Next::Stop(Stopped::AttemptsSpent);
        }
        let after = self.delay(now, failure, seed).max(least);
        if now + after >= deadline {
            return Next::Stop(Stopped::Deadline);
        }
        if price == Price::AttemptAndBudget && !budget.withdraw(now) {
            return Next::Stop(Stopped::BudgetSpent);
        }
        Next::Again { after }
    }

    /// Nothing before the first retry, if that may be made at once, then full jitter under a growing cap.
    fn delay(&mut self, now: Instant, failure: Failure, seed: u64) -> Duration {
        let at_once = !matches!(failure, Failure::Refused { elsewhere: Elsewhere::NoRoom, .. });
        let first = self.delays.is_none();
        let (initial, cap) = self.backoff;
        let (growth, rng) = self
            .delays
            .get_or_insert_with(|| (Exponential::new(now, initial, cap), Rng::with_seed(seed)));
        if first && at_once { Duration::ZERO } else { growth.next(now).mul_f64(rng.f64()) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use super::*;

    const INDETERMINATE: Failure = Failure::Indeterminate(Repeat::Harmless);
    const REFUSED: Failure = Failure::Refused { retry_after: None, elsewhere: Elsewhere::Room };

    struct Call {
        now: Instant,
        attempts: Attempts,
        budget: Budget,
    }

    fn call(policy: policy::Retry) -> Call {
        let now = Instant::now();
        let budget = Budget::new(now, &policy);
        Call { now, attempts: Attempts::new(&policy), budget }
    }

    impl Call {
        fn fails(&mut self, failure: Failure) -> Next {
            let deadline = self.now + Duration::from_secs(5);
            self.attempts.next(self.now, deadline, failure, &mut self.budget, 1)
        }
    }

    #[test]
    fn a_floor_of_less_than_one_in_ten_seconds_saves_up_one() {
        let now = Instant::now();
        let mut budget = Budget::new(now, &policy::Retry::attempts(3).budget(0.0).floor(0.05));
        let at = |seconds| now + Duration::from_secs(seconds);
        let allowed = [9, 11, 30, 32, 1000, 1001].map(|seconds| budget.withdraw(at(seconds)));
        assert_eq!(allowed, [false, true, false, true, true, false]);
    }

    #[test]
    fn what_never_left_is_tried_again_without_counting() {
        let mut call = call(policy::Retry::never());
        for _ in 0..50 {
            assert!(matches!(call.fails(Failure::NotSent), Next::Again { .. }));
        }
        assert_eq!(call.budget.from_floor, 10.0);
    }

    #[test]
    fn what_was_sent_away_is_tried_again_without_counting_when_the_server_said_so() {
        let mut call = call(policy::Retry::never());
        let second = Some(Duration::from_secs(1));
        assert_eq!(
            call.fails(Failure::SentAway { retry_after: second }),
            Next::Again { after: Duration::from_secs(1) }
        );
        for _ in 0..50 {
            let sent_away = Failure::SentAway { retry_after: None };
            assert!(matches!(call.fails(sent_away), Next::Again { .. }));
        }
        assert_eq!(call.budget.from_floor, 10.0);
    }

    #[test]
    fn what_may_have_run_is_tried_again_only_when_marked() {
        let mut call = call(policy::Retry::default());
        assert_eq!(
            call.fails(Failure::Indeterminate(Repeat::Harmful)),
            Next::Stop(Stopped::NotIdempotent)
        );
        assert_eq!(call.fails(INDETERMINATE), Next::Again { after: Duration::ZERO });
        assert!(matches!(call.fails(INDETERMINATE), Next::Again { .. }));
        assert_eq!(call.fails(INDETERMINATE), Next::Stop(Stopped::AttemptsSpent));
    }

    #[test]
    fn what_the_server_knows_again_is_sent_again_outside_the_budget() {
        let mut call = call(policy::Retry::attempts(3).budget(0.0).floor(0.0));
        let known = Failure::Indeterminate(Repeat::Deduplicated);
        assert_eq!(call.fails(known), Next::Again { after: Duration::ZERO });
        assert!(matches!(call.fails(known), Next::Again { .. }));
        assert_eq!(call.fails(known), Next::Stop(Stopped::AttemptsSpent));
    }

    #[test]
    fn the_first_refusal_is_free_and_the_others_count() {
        let mut call = call(policy::Retry::attempts(2));
        assert_eq!(call.fails(REFUSED), Next::Again { after: Duration::ZERO });
        assert!(matches!(call.fails(REFUSED), Next::Again { .. }));
        assert_eq!(call.fails(REFUSED), Next::Stop(Stopped::AttemptsSpent));
        assert_eq!(call.budget.from_floor, 9.0);
    }

    #[test]
    fn a_refusal_by_the_only_connection_is_not_answered_at_once() {
        let mut call = call(policy::Retry::default());
        let refused = Failure::Refused { retry_after: None, elsewhere: Elsewhere::NoRoom };
        let Next::Again { after } = call.fails(refused) else { panic!("it is tried again") };
        assert!(after > Duration::ZERO && after <= Duration::from_millis(20));
    }

    #[test]
    fn the_servers_retry_after_is_kept() {
        let mut call = call(policy::Retry::default());
        let second = Some(Duration::from_secs(1));
        assert_eq!(
            call.fails(Failure::Refused { retry_after: second, elsewhere: Elsewhere::Room }),
            Next::Again { after: Duration::from_secs(1) }
        );
        let hour = Some(Duration::from_secs(3600));
        assert_eq!(
            call.fails(Failure::Refused { retry_after: hour, elsewhere: Elsewhere::Room }),
            Next::Stop(Stopped::Deadline)
        );
    }

    #[test]
    fn an_empty_budget_stops_retries_until_time_or_successes_fill_it() {
        let policy = policy::Retry::attempts(100).budget(0.1).floor(1.0);
        let mut call = call(policy);
        for _ in 0..10 {
            assert!(matches!(call.fails(INDETERMINATE), Next::Again { .. }));
        }
        assert_eq!(call.fails(INDETERMINATE), Next::Stop(Stopped::BudgetSpent));
        for _ in 0..11 {
            call.budget.deposit();
        }
        assert!(matches!(call.fails(INDETERMINATE), Next::Again { .. }));
        assert_eq!(call.fails(INDETERMINATE), Next::Stop(Stopped::BudgetSpent));
        call.now += Duration::from_secs(2);
        assert!(matches!(call.fails(INDETERMINATE), Next::Again { .. }));
        assert!(matches!(call.fails(INDETERMINATE), Next::Again { .. }));
        assert_eq!(call.fails(INDETERMINATE), Next::Stop(Stopped::BudgetSpent));
    }

    #[test]
    fn never_means_not_even_after_a_refusal() {
        let mut call = call(policy::Retry::never());
        assert_eq!(call.fails(REFUSED), Next::Stop(Stopped::AttemptsSpent));
        assert_eq!(call.fails(INDETERMINATE), Next::Stop(Stopped::AttemptsSpent));
    }
}
