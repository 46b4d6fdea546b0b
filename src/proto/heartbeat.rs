//! Whether the peer lives, and that it can see that we do.
//!
//! ```text
//!            every without an inbound byte       give_up_after, less a look        a look
//! Listening ───────────────────────────────► Pinged ─────────────────────► Doubted ──────► Dead
//!     ▲                 ping                    │                             │
//!     └────────────── any inbound byte ─────────┴─────────────────────────────┘
//! ```
//!
//! Only inbound bytes count as life. A verdict that is due long ago is not given: then it was us who slept,
//! and the peer gets another ping, twice at most in one silence: a host that is always late would never judge. One that is
//! due a little while ago is not given either before there was a look at what has arrived meanwhile.

use std::time::{Duration, Instant};

use crate::policy;

/// Between the last look and the verdict. A process that was suspended wakes to its timers first (`epoll_wait` ends
/// with `EINTR`, see `signal(7)`) and hears of what lies in its sockets only when it has slept again.
const LOOK: Duration = Duration::from_millis(2);
/// Into so many steps its time is cut, where connections speak in step. More, and they speak together less often; fewer, and
/// more of them speak at the same moment, and earlier than they must.
const STEPS: u32 = 32;
/// By this part of its time the end that speaks first is early.
const LEAD: u32 = 16;
/// So often in one silence a late verdict becomes another ping. Once for a process that was suspended; once more, because
/// the peer may have been on the same host.
pub(crate) const GRACES: u8 = 2;

#[derive(Debug)]
pub(crate) struct Heartbeat {
    policy: policy::Heartbeat,
    /// The peer wants to hear something at least so often.
    speak_every: Duration,
    heard: Instant,
    /// When something is to be said, if nothing was said before.
    speak_at: Instant,
    /// At which moments it speaks, if not at its own.
    in_step: Option<Steps>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Listening,
    /// With so many verdicts put off.
    Pinged {
        verdict: Instant,
        graces: u8,
    },
    Doubted {
        verdict: Instant,
        graces: u8,
    },
}

/// What is to be done at a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beat {
    /// It was a spurious wake-up.
    Nothing,
    /// Ping, and an answer is wanted.
    Ask,
    /// Send anything, so that the peer hears something.
    Speak,
}

/// The verdict: the peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dead;

/// How often the calling end says something when it has nothing to say: a little more often than both want to hear it.
/// Its ping and the answer are life of both, so the other end, whose time is not up yet, need not ask as well. If both
/// waited equally long, both would ask, and both answer.
pub(crate) fn speaking_first(every: Duration, peer_every: Option<Duration>) -> Duration {
    let every = peer_every.map_or(every, |peer_every| peer_every.min(every));
    every - every / LEAD
}

impl Heartbeat {
    /// `peer_every` is how often the peer wants to hear something, if it said so.
    pub(crate) fn new(
        now: Instant,
        policy: policy::Heartbeat,
        peer_every: Option<Duration>,
    ) -> Self {
        let speak_every = peer_every.map_or(policy.every, |every| every.min(policy.every));
        // A peer must not be able to make us busy.
        let speak_every = speak_every.max(Duration::from_millis(10));
        Self {
            policy,
            speak_every,
            heard: now,
            speak_at: now + speak_every,
            in_step: None,
            state: State::Listening,
        }
    }

    /// Speaks together with all others whose steps are counted from the same time, up to a step earlier than it must: many
    /// connections that are idle together then cost one wake-up, not one each. When the peer is asked, and judged, is not
    /// changed by it.
    pub(crate) fn in_step(self, since: Instant) -> Self {
        let steps = Steps::of(since, self.speak_every);
        Self { in_step: Some(steps), speak_at: steps.at_or_before(self.speak_at), ..self }
    }

    /// Bytes arrived.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.heard = now;
        self.state = State::Listening;
    }

    /// Bytes left.
    pub(crate) fn spoke(&mut self, now: Instant) {
        let due = now + self.speak_every;
        self.speak_at = self.in_step.map_or(due, |steps| steps.at_or_before(due));
    }

    /// When bytes arrived last.
    pub(crate) fn heard_at(&self) -> Instant {
        self.heard
    }

    pub(crate) fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// The longest silence, or standstill of sending, that is borne.
    pub(crate) fn bound(&self) -> Duration {
        self.policy.bound()
    }

    pub(crate) fn every(&self) -> Duration {
        self.policy.every
    }

    pub(crate) fn deadline(&self) -> Instant {
        let listen = match self.state {
            State::Listening => self.heard + self.policy.every,
            State::Pinged { verdict, .. } => verdict - LOOK,
            State::Doubted { verdict, .. } => verdict,
        };
        listen.min(self.speak_at)
    }

    /// The deadline has come, or something else woke us. Everything that had arrived must have been read.
    pub(crate) fn timeout(&mut self, now: Instant) -> Result<Beat, Dead> {
        Ok(match self.state {
            State::Listening if now >= self.heard + self.policy.every => self.ask(now, 0),
            State::Pinged { verdict, graces } | State::Doubted { verdict, graces }
                if graces < GRACES && self.slept(now, verdict) =>
            {
                self.ask(now, graces + 1)
            }
            State::Pinged { verdict, graces } if now >= verdict - LOOK => {
                self.state = State::Doubted { verdict: verdict.max(now + LOOK), graces };
                Beat::Nothing
            }
            State::Doubted { verdict, .. } if now >= verdict => return Err(Dead),
            _ if now >= self.speak_at => {
                self.spoke(now);
                Beat::Speak
            }
            _ => Beat::Nothing,
        })
    }

    /// Pings now, without waiting for silence: a sibling connection has just died of it.
    pub(crate) fn probe(&mut self, now: Instant) -> Beat {
        match self.state {
            State::Listening => self.ask(now, 0),
            State::Pinged { .. } | State::Doubted { .. } => Beat::Nothing,
        }
    }

    /// Whether the verdict was due so long ago that nobody can have been awake.
    fn slept(&self, now: Instant, verdict: Instant) -> bool {
        now.saturating_duration_since(verdict) > self.policy.give_up_after / 4
    }

    fn ask(&mut self, now: Instant, graces: u8) -> Beat {
        self.spoke(now);
        self.state = State::Pinged { verdict: now + self.policy.give_up_after, graces };
        Beat::Ask
    }
}

/// Moments that many share.
#[derive(Debug, Clone, Copy)]
struct Steps {
    since: Instant,
    /// From one to the next, in nanoseconds.
    length: u64,
}

impl Steps {
    fn of(since: Instant, speak_every: Duration) -> Self {
        Self { since, length: nanos(speak_every / STEPS).max(1) }
    }

    /// The last one that is not after `due`.
    fn at_or_before(&self, due: Instant) -> Instant {
        let since = due.saturating_duration_since(self.since);
        due - Duration::from_nanos(nanos(since) % self.length)
    }
}

/// At most 584 years.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use std::collections::HashSet;

    use super::*;

    const EVERY: u64 = 5000;
    const GIVE_UP: u64 = 10_000;

    fn heartbeat() -> (Heartbeat, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        let at = move |ms| start + Duration::from_millis(ms);
        let policy = policy::Heartbeat::every(Duration::from_millis(EVERY))
            .give_up_after(Duration::from_millis(GIVE_UP));
        (Heartbeat::new(start, policy, None), at)
    }

    /// What is said at the time of the verdict, after the look before it.
    fn look_and_judge(heartbeat: &mut Heartbeat, verdict: Instant) -> Result<Beat, Dead> {
        heartbeat.spoke(verdict);
        assert_eq!(heartbeat.deadline(), verdict - LOOK);
        assert_eq!(heartbeat.timeout(verdict - LOOK), Ok(Beat::Nothing));
        assert_eq!(heartbeat.deadline(), verdict);
        heartbeat.timeout(verdict)
    }

    #[test]
    fn silence_is_answered_with_a_ping_and_then_with_a_verdict() {
        let (mut heartbeat, at) = heartbeat();
        assert_eq!(heartbeat.deadline(), at(EVERY));
        assert_eq!(heartbeat.timeout(at(EVERY - 1)), Ok(Beat::Nothing));
        assert_eq!(heartbeat.timeout(at(EVERY)), Ok(Beat::Ask));
        assert_eq!(heartbeat.timeout(at(EVERY + GIVE_UP - 3)), Ok(Beat::Speak));
        assert_eq!(look_and_judge(&mut heartbeat, at(EVERY + GIVE_UP)), Err(Dead));
    }

    #[test]
    fn constant_sending_is_no_sign_of_life() {
        let (mut heartbeat, at) = heartbeat();
        let mut ms = 0;
        let verdict = loop {
            ms += 1;
            heartbeat.spoke(at(ms));
            match heartbeat.timeout(at(ms)) {
                Err(Dead) => break ms,
                _ => assert!(ms < 20_000),
            }
        };
        assert_eq!(verdict, EVERY + GIVE_UP);
    }

    #[test]
    fn any_inbound_byte_starts_over() {
        let (mut heartbeat, at) = heartbeat();
        assert_eq!(heartbeat.timeout(at(EVERY)), Ok(Beat::Ask));
        heartbeat.heard(at(14_999));
        assert_eq!(heartbeat.timeout(at(15_000)), Ok(Beat::Speak));
        assert_eq!(heartbeat.timeout(at(14_999 + EVERY)), Ok(Beat::Ask));
        assert_eq!(heartbeat.silent_for(at(14_999 + EVERY)), Duration::from_millis(EVERY));
    }

    #[test]
    fn a_late_verdict_becomes_another_ping() {
        let (mut heartbeat, at) = heartbeat();
        assert_eq!(heartbeat.timeout(at(EVERY)), Ok(Beat::Ask));
        let late = EVERY + GIVE_UP + GIVE_UP / 4 + 1;
        assert_eq!(heartbeat.timeout(at(late)), Ok(Beat::Ask));
        assert_eq!(look_and_judge(&mut heartbeat, at(late + GIVE_UP)), Err(Dead));
    }

    #[test]
    fn a_host_that_is_always_late_judges_all_the_same() {
        let (mut heartbeat, at) = heartbeat();
        let (late, mut now) = (GIVE_UP + GIVE_UP / 4 + 1, EVERY);
        assert_eq!(heartbeat.timeout(at(now)), Ok(Beat::Ask));
        for _ in 0..GRACES {
            now += late;
            assert_eq!(heartbeat.timeout(at(now)), Ok(Beat::Ask));
        }
        now += late;
        assert_eq!(heartbeat.timeout(at(now)), Ok(Beat::Nothing), "a look first");
        assert_eq!(heartbeat.timeout(at(now + late)), Err(Dead));
        // A byte, and it begins anew.
        heartbeat.heard(at(now));
        assert_eq!(heartbeat.timeout(at(now + EVERY)), Ok(Beat::Ask));
        assert_eq!(heartbeat.timeout(at(now + EVERY + late)), Ok(Beat::Ask));
    }

    #[test]
    fn a_verdict_that_is_a_little_late_waits_for_another_look() {
        let (mut heartbeat, at) = heartbeat();
        assert_eq!(heartbeat.timeout(at(EVERY)), Ok(Beat::Ask));
        heartbeat.spoke(at(EVERY + GIVE_UP));
        let late = at(EVERY + GIVE_UP + 100);
        assert_eq!(heartbeat.timeout(late), Ok(Beat::Nothing));
        assert_eq!(heartbeat.deadline(), late + LOOK);
        assert_eq!(heartbeat.timeout(late + LOOK), Err(Dead));
    }

    #[test]
    fn the_peer_hears_something_as_often_as_it_wants() {
        let (_, at) = heartbeat();
        let policy = policy::Heartbeat::default();
        let mut heartbeat = Heartbeat::new(at(0), policy, Some(Duration::from_millis(1000)));
        assert_eq!(heartbeat.deadline(), at(1000));
        heartbeat.heard(at(900));
        assert_eq!(heartbeat.timeout(at(1000)), Ok(Beat::Speak));
        assert_eq!(heartbeat.deadline(), at(2000));
    }

    #[test]
    fn those_that_walk_in_step_speak_together_never_late_and_at_most_a_step_early() {
        let (_, at) = heartbeat();
        let policy = policy::Heartbeat::default();
        let speak_every = Duration::from_millis(3200);
        let step = speak_every / STEPS;
        let mut moments = HashSet::new();
        for opened in (0..1000).map(|ms| at(7) + Duration::from_millis(ms)) {
            let mut heartbeat = Heartbeat::new(opened, policy, Some(speak_every)).in_step(at(7));
            let due = heartbeat.deadline();
            assert!(due <= opened + speak_every && due + step > opened + speak_every);
            heartbeat.heard(due);
            assert_eq!(heartbeat.timeout(due - Duration::from_nanos(1)), Ok(Beat::Nothing));
            assert_eq!(heartbeat.timeout(due), Ok(Beat::Speak));
            heartbeat.heard(due);
            assert_eq!(heartbeat.deadline(), due + speak_every, "and it stays in step");
            moments.insert(due);
        }
        assert_eq!(moments.len(), 10, "one second, in steps of 100 ms");
    }

    #[test]
    fn walking_in_step_changes_neither_when_the_peer_is_asked_nor_the_verdict() {
        let (heartbeat, at) = heartbeat();
        let mut heartbeat = heartbeat.in_step(at(0));
        heartbeat.heard(at(33));
        heartbeat.spoke(at(4990));
        assert_eq!(heartbeat.deadline(), at(33 + EVERY));
        assert_eq!(heartbeat.timeout(at(33 + EVERY)), Ok(Beat::Ask));
        assert_eq!(look_and_judge(&mut heartbeat, at(33 + EVERY + GIVE_UP)), Err(Dead));
    }

    #[test]
    fn a_probe_asks_at_once_and_only_once() {
        let (mut heartbeat, at) = heartbeat();
        assert_eq!(heartbeat.probe(at(10)), Beat::Ask);
        assert_eq!(heartbeat.probe(at(20)), Beat::Nothing);
        assert_eq!(look_and_judge(&mut heartbeat, at(10 + GIVE_UP)), Err(Dead));
    }
}
