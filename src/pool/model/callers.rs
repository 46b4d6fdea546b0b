//! The pool's side: callers with their calls, and slots that are connected again.

use std::collections::BTreeMap;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;

use crate::error::call::{CallCause, Outcome, Stage};
use crate::exchange::result_of;
use crate::pool::model::line::{LONGEST, Line, Near, Pace};
use crate::pool::model::server::key;
use crate::pool::model::{Seen, Weather};
use crate::proto::calling::{Calling as _, Start};
use crate::proto::calls::Answer;
use crate::proto::course::{Attempt, Course, Failed, Form};
use crate::proto::greeting::{ClientId, Hello};
use crate::proto::native::VERSION;
use crate::proto::resume::{self, Way};
use crate::proto::retry::{Attempts, Budget, Elsewhere, Next, classify};
use crate::proto::sequence::Sequence;

#[derive(Debug)]
pub(super) struct Callers {
    calls: Vec<Call>,
    settled: Vec<Settled>,
    slots: Vec<Slot>,
    sequence: Sequence,
    budget: Budget,
    connections: u64,
    keys: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// The connection whose handshake is under way.
    greeting: Option<u64>,
    /// The connection that takes calls.
    ready: Option<u64>,
    /// The one that the next takes the place of.
    replaces: u64,
}

#[derive(Debug)]
struct Call {
    key: u64,
    body: Bytes,
    course: Course,
    attempts: Attempts,
    deadline: Instant,
    issued: Option<u64>,
    oldest: u64,
    state: State,
    resent: bool,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    InFlight(Attempt),
    Settled,
}

#[derive(Debug, Clone)]
pub(super) struct Settled {
    pub(super) key: u64,
    pub(super) form: Form,
    pub(super) fate: Fate,
    /// After its deadline.
    pub(super) late: Duration,
    resent: bool,
    cause: Option<CallCause>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    Reply,
    Failed(Outcome),
    Cancelled,
}

impl Slot {
    /// Takes note of what became of its connections.
    fn look(&mut self, lines: &BTreeMap<u64, Line>) {
        if let Some(number) = self.ready.filter(|number| !lines[number].takes_calls()) {
            // What was sent away is finished by the old connection.
            self.replaces = if lines[&number].is_lost() { number } else { 0 };
            self.ready = None;
        }
        if let Some(number) = self.greeting {
            match lines[&number].near {
                Near::Greeting => {}
                Near::Open(_) => *self = Self { greeting: None, ready: Some(number), replaces: 0 },
                Near::Lost => self.greeting = None,
            }
        }
    }
}

impl Callers {
    pub(super) fn new(now: Instant, weather: &Weather) -> Self {
        Self {
            calls: Vec::new(),
            settled: Vec::new(),
            slots: vec![Slot::default(); weather.slots],
            sequence: Sequence::new(),
            budget: Budget::new(now, &weather.retry),
            connections: 0,
            keys: 0,
        }
    }

    pub(super) fn call(&mut self, now: Instant, weather: &Weather, rng: &mut Rng) {
        self.keys += 1;
        let length = match rng.u32(..40) {
            0 => rng.usize(60_000..LONGEST),
            1 => rng.usize(15_000..20_000),
            _ => rng.usize(8..60),
        };
        let mut body = self.keys.to_be_bytes().to_vec();
        body.resize(length, self.keys as u8);
        let form = if rng.u32(..4) == 0 { Form::Repeatable } else { Form::Once };
        self.calls.push(Call {
            key: self.keys,
            body: body.into(),
            course: Course::new(form),
            attempts: Attempts::new(&weather.retry),
            deadline: now + Duration::from_millis(weather.patience),
            issued: None,
            oldest: 0,
            state: State::Waiting { until: now },
            resent: false,
        });
    }

    /// A caller gives up.
    pub(super) fn cancel(&mut self, rng: &mut Rng, lines: &mut BTreeMap<u64, Line>) {
        if self.calls.is_empty() {
            return;
        }
        let call = self.calls.swap_remove(rng.usize(..self.calls.len()));
        if let (State::InFlight(attempt), Some(id)) = (&call.state, call.issued) {
            if let Some(line) = lines.get_mut(&attempt.connection) {
                line.client.abandon(id);
            }
        }
        self.settle(call, Fate::Cancelled, None, Duration::ZERO);
    }

    /// Slots without a connection dial another one, sooner or later.
    pub(super) fn connect(
        &mut self,
        now: Instant,
        weather: &Weather,
        rng: &mut Rng,
        lines: &mut BTreeMap<u64, Line>,
    ) {
        for (at, slot) in self.slots.iter_mut().enumerate() {
            slot.look(lines);
            let has_one = slot.ready.or(slot.greeting).is_some();
            if has_one || rng.u32(..weather.reconnect) > 0 {
                continue;
            }
            self.connections += 1;
            let (number, next_id) = (self.connections, self.sequence.next_id());
            let pace = if rng.u32(..weather.slow) == 0 { Pace::Slow } else { Pace::Usual };
            lines.insert(number, Line::new(now, at, pace, hello(number, slot.replaces, next_id)));
            slot.greeting = Some(number);
        }
    }

    /// Every call takes its next step, if it has one.
    pub(super) fn go_on(&mut self, now: Instant, rng: &mut Rng, lines: &mut BTreeMap<u64, Line>) {
        let mut calls = std::mem::take(&mut self.calls);
        for call in &mut calls {
            match call.state {
                State::Waiting { until } if now >= call.deadline => {
                    let late = now - call.deadline.max(until);
                    let limit = Duration::ZERO;
                    let stage = Stage::Connection;
                    let cause = CallCause::TimedOut { limit, stage, scarcity: None };
                    let outcome = call.course.outcome(Outcome::NotSent);
                    self.end(call, Fate::Failed(outcome), Some(cause), late);
                }
                State::Waiting { until } if now >= until => self.start(now, rng, call, lines),
                State::Waiting { .. } | State::Settled => {}
                State::InFlight(attempt) => self.poll(now, rng, call, attempt, lines),
            }
        }
        calls.retain(|call| !matches!(call.state, State::Settled));
        calls.append(&mut self.calls);
        self.calls = calls;
    }

    fn start(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        call: &mut Call,
        lines: &mut BTreeMap<u64, Line>,
    ) {
        let seen = |number: u64| {
            let line = &lines[&number];
            let memory = line.server()?.identity()?;
            Some(resume::Seen { slot: line.slot, connection: number, memory })
        };
        let ready = self.slots.iter().filter_map(|slot| slot.ready);
        let mut choice: Vec<_> = ready.filter_map(seen).collect();
        if let Some((resume, loss)) = call.course.resume() {
            match resume.way(self.slots.len(), choice.iter().copied()) {
                Way::Wait => return,
                Way::Forgotten => {
                    return self.end_at(now, call, (Outcome::Indeterminate, CallCause::Evicted));
                }
                Way::Known => choice.retain(|line| line.memory == resume.memory),
                Way::Replaced(current) => {
                    let (previous, loss) = (resume.memory.instance, loss.clone());
                    let cause = CallCause::Replaced { loss, previous, current };
                    return self.end_at(now, call, (Outcome::Indeterminate, cause));
                }
            }
        }
        let Some(place) = rng.choice(choice) else {
            return;
        };
        if call.issued.is_none() {
            call.issued = Some(self.sequence.issue());
            call.oldest = self.sequence.oldest_unfinished();
        }
        let (id, resent) = (call.issued.expect("just issued"), call.course.may_have_run());
        let (kind, body, oldest) = (call.course.kind(), &call.body, call.oldest);
        let deadline = call.deadline;
        let start = Start { id, kind, head: &[], body, deadline, oldest, place: None };
        let line = lines.get_mut(&place.connection).expect("it is ready");
        let server = line.server().expect("it is ready");
        match line.client.start(now, &start, Waker::noop()) {
            Ok(()) => {
                call.resent |= resent;
                let (slot, connection) = (place.slot, place.connection);
                call.state = State::InFlight(Attempt { slot, connection, server });
            }
            Err(_) => {
                // It is going away, and its channel has not heard of that.
                line.closed = true;
                self.renew_id(call);
            }
        }
    }

    fn poll(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        call: &mut Call,
        attempt: Attempt,
        lines: &mut BTreeMap<u64, Line>,
    ) {
        let line = lines.get_mut(&attempt.connection).expect("lines stay");
        let id = call.issued.expect("it is in flight");
        let (Poll::Ready(answer), _) = line.client.poll(id, Waker::noop()) else {
            return;
        };
        match result_of(answer, Duration::ZERO) {
            Ok(Answer::Reply(body)) => {
                assert_eq!((key(&body), &body), (call.key, &call.body), "another's reply");
                self.budget.deposit();
                let late = now.saturating_duration_since(call.deadline);
                self.end(call, Fate::Reply, None, late);
            }
            Ok(answer) => panic!("{answer:?}"),
            Err(failed) => self.failed(now, rng, call, attempt, failed),
        }
    }

    fn failed(
        &mut self,
        now: Instant,
        rng: &mut Rng,
        call: &mut Call,
        attempt: Attempt,
        failed: Failed,
    ) {
        call.course.failed(attempt, &failed);
        self.renew_id(call);
        let class = classify(&failed, call.course.repeat(), Elsewhere::NoRoom);
        let Call { attempts, deadline, .. } = call;
        match attempts.next(now, *deadline, class, &mut self.budget, rng.u64(..)) {
            Next::Again { after } => call.state = State::Waiting { until: now + after },
            Next::Stop(_) => self.end_at(now, call, failed),
        }
    }

    fn renew_id(&mut self, call: &mut Call) {
        if !call.course.may_have_run() {
            if let Some(id) = call.issued.take() {
                self.sequence.finish(id);
            }
        }
    }

    fn end_at(&mut self, now: Instant, call: &mut Call, (outcome, cause): Failed) {
        let fate = Fate::Failed(call.course.outcome(outcome));
        self.end(call, fate, Some(cause), now.saturating_duration_since(call.deadline));
    }

    fn end(&mut self, call: &mut Call, fate: Fate, cause: Option<CallCause>, late: Duration) {
        call.state = State::Settled;
        if let Some(id) = call.issued.take() {
            self.sequence.finish(id);
        }
        let (key, form, resent) = (call.key, call.course.form(), call.resent);
        self.settled.push(Settled { key, form, fate, late, resent, cause });
    }

    fn settle(&mut self, mut call: Call, fate: Fate, cause: Option<CallCause>, late: Duration) {
        self.end(&mut call, fate, cause, late);
    }

    pub(super) fn are_settled(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn settled(&self) -> &[Settled] {
        &self.settled
    }

    pub(super) fn count(&self, seen: &mut Seen) {
        for call in &self.settled {
            let counter = match (&call.fate, &call.cause) {
                (_, Some(CallCause::Replaced { .. })) => &mut seen.replaced,
                (_, Some(CallCause::Evicted)) => &mut seen.evicted,
                (Fate::Reply, _) => &mut seen.replies,
                (Fate::Cancelled, _) => &mut seen.cancelled,
                (Fate::Failed(Outcome::NotSent), _) => &mut seen.not_sent,
                (Fate::Failed(Outcome::Refused), _) => &mut seen.refused,
                (Fate::Failed(Outcome::Indeterminate), _) => &mut seen.indeterminate,
                (Fate::Failed(Outcome::Remote), _) => &mut seen.remote,
            };
            *counter += 1;
            seen.resent += u64::from(call.resent);
        }
    }
}

fn hello(connection: u64, replaces: u64, next_id: u64) -> Hello {
    Hello {
        min_version: VERSION,
        max_version: VERSION,
        client: ClientId([1; 16]),
        connection,
        replaces,
        max_message: LONGEST as u32,
        every: 0,
        give_up_after: 0,
        next_id,
    }
}
