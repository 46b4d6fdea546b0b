//! The serving end of one connection: its state, and what goes out for its requests. What comes in is `inbound`'s business.
//!
//! ```text
//!       GOAWAY is queued            loss
//! Open ─────────────────► Draining ───────► Dead
//!   └─────────── fenced, loss ───────────────▲
//! ```
//!
//! Which requests are being worked on is [`requests`](crate::proto::requests)' business.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::answer::{ErrorReply, Refusal};
use crate::error::loss::{GoAway, Loss, LossCause};
use crate::policy;
use crate::proto::assembly::Assembly;
use crate::proto::head::Head;
use crate::proto::input::Input;
use crate::proto::line::Line;
use crate::proto::native::{Frame, PUSH_BIT, millis};
use crate::proto::replies::Response;
use crate::proto::requests::{Remember, Requests};
use crate::proto::session::{Effects, Session};
use crate::proto::unsent::Unsent;

mod inbound;

/// The bounds of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// The longest body that the client takes, in bytes.
    pub(crate) send: usize,
    /// The longest body to take, in bytes.
    pub(crate) receive: usize,
    pub(crate) in_flight: usize,
    /// Bytes of requests that are being worked on, and again of answers that wait: above it nothing more is read.
    pub(crate) held_bytes: usize,
    /// A connection without requests is closed after so long.
    pub(crate) idle_limit: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Serving {
    line: Line,
    state: State,
    requests: Requests,
    unsent: Unsent,
    /// How many requests have been taken.
    accepted: u64,
    highest_id: u64,
    next_push: u64,
    bounds: Bounds,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Open,
    /// `GOAWAY` was queued: later requests are not even refused.
    Draining,
    Dead,
}

/// What the owner must hear of.
#[derive(Debug)]
pub(crate) enum Event {
    Request {
        id: u64,
        body: Bytes,
        deadline: Option<Instant>,
        remember: Remember,
    },
    Notification {
        body: Bytes,
    },
    /// Nobody waits for this answer any more.
    Cancelled {
        id: u64,
    },
    /// The connection has ended on which this answer was to go out.
    Orphaned {
        id: u64,
    },
}

/// Why a push was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotPushed {
    Gone,
    Full,
    TooLong { limit: usize },
}

impl Serving {
    pub(crate) fn new(
        now: Instant,
        heartbeat: policy::Heartbeat,
        peer_every: Option<Duration>,
        bounds: Bounds,
    ) -> Self {
        Self {
            line: Line::new(now, heartbeat, peer_every),
            state: State::Open,
            requests: Requests::new(now),
            unsent: Unsent::default(),
            accepted: 0,
            highest_id: 0,
            next_push: PUSH_BIT + 1,
            bounds,
        }
    }

    /// Answers a request. An answer that nobody waits for is dropped. The caller keeps a copy of the body, so that none is
    /// dropped here.
    pub(crate) fn respond(&mut self, now: Instant, id: u64, response: &Response) {
        if !self.requests.settle(now, id) {
            return;
        }
        match response {
            Response::Reply(body) => self.replied(id, body),
            Response::Error(error) => self.error(id, error),
            Response::Refused(refusal) => self.refused(id, *refusal),
        }
    }

    /// Calls that were taken and are not answered, and answers that have not left.
    pub(crate) fn unfinished(&self) -> usize {
        self.requests.unanswered() + self.unsent.count(&self.line.outgoing)
    }

    /// A notification of so many bytes has been dealt with.
    pub(crate) fn notification_done(&mut self, length: usize) {
        self.requests.notification_done(length);
    }

    /// Queues a message that answers nothing.
    pub(crate) fn push(&mut self, body: &Bytes) -> Result<(), NotPushed> {
        // A call that is being finished may push as it could before.
        match self.state {
            State::Open => {}
            State::Draining if self.requests.unanswered() > 0 => {}
            State::Draining | State::Dead => return Err(NotPushed::Gone),
        }
        if body.len() > self.bounds.send {
            return Err(NotPushed::TooLong { limit: self.bounds.send });
        }
        let queued = self.line.outgoing.queued_bytes();
        if queued > 0 && queued + body.len() > self.bounds.held_bytes {
            return Err(NotPushed::Full);
        }
        self.line.outgoing.message(Head::Push { id: self.next_push }, body);
        self.next_push += 1;
        Ok(())
    }

    /// Tells the client to go elsewhere; what has been accepted is finished.
    pub(crate) fn go_away(&mut self, code: u32, retry_after: Option<Duration>, text: &str) {
        if let State::Open = self.state {
            self.state = State::Draining;
            let goodbye = GoAway { code, accepted: self.accepted, retry_after, text: text.into() };
            Frame::GoAway(goodbye).encode(self.line.outgoing.control());
        }
    }

    /// The client has another connection in this one's place: nothing that comes here is run any more.
    pub(crate) fn fence(&mut self) {
        self.state = State::Dead;
        // Neither is what has come half.
        self.line.assembly = Assembly::default();
        self.requests.forget_coming();
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        (self.requests.in_flight(), self.requests.held_bytes()) == (0, 0) && self.line.is_empty()
    }

    fn replied(&mut self, id: u64, body: &Bytes) {
        let (length, limit) = (body.len(), self.bounds.send);
        if length <= limit {
            let mark = self.line.outgoing.message(Head::Reply { id }, body);
            self.unsent.queued(mark);
        } else {
            let text = format!("reply of {length} bytes exceeds the limit of {limit}");
            self.error(id, &ErrorReply::new(ErrorReply::REPLY_TOO_LONG, text));
        }
    }

    fn error(&mut self, id: u64, error: &ErrorReply) {
        let (code, text) = (error.code(), error.text().into());
        self.small(&Frame::Error { id, code, text });
    }

    fn refused(&mut self, id: u64, Refusal { code, retry_after }: Refusal) {
        let retry_after = retry_after.map_or(0, millis);
        self.small(&Frame::Refused { id, code, retry_after });
    }

    /// Queues an answer that is one short frame.
    fn small(&mut self, answer: &Frame) {
        let mark = self.line.outgoing.small(|out| answer.encode(out));
        self.unsent.queued(mark);
    }

    fn idle_deadline(&self) -> Option<Instant> {
        match (self.state, self.bounds.idle_limit) {
            (State::Open, Some(limit)) => self.requests.idle_since().map(|since| since + limit),
            _ => None,
        }
    }
}

impl Session for Serving {
    type Event = Event;

    fn received(
        &mut self,
        now: Instant,
        input: &mut Input,
        effects: &mut Effects<Event>,
    ) -> Result<(), LossCause> {
        self.line.heard(now);
        let mut frames = || -> Result<(), LossCause> {
            while let Some(inbound) = self.line.next(input)? {
                self.dispatch(now, inbound, effects)?;
            }
            Ok(())
        };
        let result = frames();
        if let Err(LossCause::Violation(violation)) = &result {
            self.line.complain(violation);
        }
        result
    }

    fn transmit(&mut self, now: Instant, out: &mut VecDeque<Bytes>) {
        self.line.transmit(now, out);
    }

    fn written(&mut self, now: Instant, bytes: usize, _: &mut Effects<Event>) {
        self.line.written(now, bytes);
        self.unsent.written(&self.line.outgoing);
    }

    fn timeout(&mut self, now: Instant, _: &mut Effects<Event>) -> Result<(), LossCause> {
        if !self.wants_input() {
            // Who does not listen cannot judge.
            self.line.heard(now);
        }
        if self.idle_deadline().is_some_and(|deadline| now >= deadline) {
            self.go_away(GoAway::IDLE, None, "");
        }
        self.line.timeout(now)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let line = self.line.next_deadline();
        Some(self.idle_deadline().map_or(line, |idle| idle.min(line)))
    }

    fn take_spent(&mut self, spent: &mut Vec<Bytes>) {
        self.line.outgoing.take_spent(spent);
    }

    fn wants_input(&self) -> bool {
        let limit = self.bounds.held_bytes;
        self.requests.held_bytes() < limit
            && self.requests.notifications() < self.bounds.in_flight
            && self.line.outgoing.queued_bytes() < limit
    }

    fn write_failed(&mut self) {}

    fn wants_gather(&self) -> bool {
        self.requests.unanswered() > 0 && self.line.outgoing.queued_bytes() > 0
    }

    fn is_finished(&self) -> bool {
        matches!(self.state, State::Draining)
            && self.requests.unanswered() == 0
            && self.line.outgoing.is_empty()
    }

    fn lost(&mut self, _: &Arc<Loss>, effects: &mut Effects<Event>) {
        self.state = State::Dead;
        effects.events.extend(self.requests.lose().into_iter().map(|id| Event::Orphaned { id }));
        self.line.die();
        self.unsent.clear();
    }
}

#[cfg(test)]
mod tests;
