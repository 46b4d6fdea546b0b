//! The calling end of one connection: what goes out for a call, and what the server's frames mean for it.
//!
//! Which calls are in flight is [`calls`](crate::proto::calls)' business. Answers to ids that are not in that table any
//! more come late or twice and are dropped; an answer to an id that was never used here breaks the protocol.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::error::answer::{ErrorReply, Refusal};
use crate::error::call::Stage;
use crate::error::loss::{GoAway, Loss, LossCause};
use crate::error::violation::Violation;
use crate::policy;
use crate::proto::calling::{Bounds, Calling, Event, Kind, Left, NotTaken, Start};
use crate::proto::calls::{Answer, Calls, Order, Removed, Vacancy};
use crate::proto::head::{Head, RequestHead};
use crate::proto::heartbeat::speaking_first;
use crate::proto::input::Input;
use crate::proto::line::{Inbound, Line};
use crate::proto::native::{Frame, PUSH_BIT, after, millis};
use crate::proto::outgoing::{Mark, Withdrawn};
use crate::proto::session::{Effects, Session};

#[derive(Debug)]
pub(crate) struct Client {
    line: Line,
    state: State,
    calls: Calls,
    highest_id: u64,
    highest_push: u64,
    bounds: Bounds,
}

#[derive(Debug)]
enum State {
    Open,
    /// The server takes no new calls, or this side wants to close: what is in flight is finished.
    Draining,
    Dead(Arc<Loss>),
}

impl Client {
    pub(crate) fn new(
        now: Instant,
        heartbeat: policy::Heartbeat,
        peer_every: Option<Duration>,
        bounds: Bounds,
    ) -> Self {
        let speak_every = speaking_first(heartbeat.every, peer_every);
        Self {
            line: Line::new(now, heartbeat, Some(speak_every)),
            state: State::Open,
            calls: Calls::default(),
            highest_id: 0,
            highest_push: PUSH_BIT,
            bounds,
        }
    }

    /// When idle, speaks together with all others whose steps are counted from the same time.
    pub(crate) fn in_step(self, since: Instant) -> Self {
        Self { line: self.line.in_step(since), ..self }
    }

    pub(crate) fn abandon(&mut self, id: u64) -> Option<Waker> {
        let Some(Removed::Waiting(mark, waker)) = self.calls.remove(id) else {
            return None;
        };
        self.stop(id, mark);
        Some(waker)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty() && self.line.is_empty()
    }

    /// Takes a call's bytes back, or tells the server that nobody waits any more. True if the server can have it all.
    fn stop(&mut self, id: u64, mark: Mark) -> bool {
        let withdrawn = self.line.outgoing.withdraw(id, mark);
        self.line.assembly.forget(id);
        if withdrawn != Withdrawn::Unseen {
            Frame::Cancel { id }.encode(self.line.outgoing.control());
        }
        withdrawn == Withdrawn::TooLate
    }

    /// The server's whole word on a call. It may come before the request has left to its last byte.
    fn answered(
        &mut self,
        name: &'static str,
        id: u64,
        answer: Answer,
        effects: &mut Effects<Event>,
    ) -> Result<(), Violation> {
        let Some(mark) = self.awaited(name, id)? else {
            return Ok(());
        };
        let half_sent =
            mark == Mark::Apart && self.line.outgoing.withdraw(id, Mark::Apart) == Withdrawn::Begun;
        if half_sent {
            Frame::Cancel { id }.encode(self.line.outgoing.control());
        }
        effects.wake.extend(self.calls.settle(id, answer));
        Ok(())
    }

    /// Where the bytes of a request are, if this answer to it is awaited.
    fn awaited(&self, name: &'static str, id: u64) -> Result<Option<Mark>, Violation> {
        if id > self.highest_id {
            return Err(Violation::ToNobody { name, id });
        }
        // Two answers whose parts are mixed cannot be told apart.
        if self.line.assembly.contains(id) {
            return Err(Violation::IdInUse { id });
        }
        Ok(self.calls.pending_request(id))
    }

    fn dispatch(
        &mut self,
        inbound: Inbound,
        effects: &mut Effects<Event>,
    ) -> Result<(), LossCause> {
        match inbound {
            Inbound::Message(head, body) => self.message(head, body, effects)?,
            Inbound::Begun { head, total, part } => self.begin(head, total, &part)?,
            Inbound::StrayChunk { id } => self.check_known(id)?,
            Inbound::Frame(Frame::Error { id, code, text }) => {
                self.answered("ERROR", id, Answer::Error(ErrorReply::new(code, text)), effects)?;
            }
            Inbound::Frame(Frame::Refused { id, code, retry_after }) => {
                let refusal = Refusal { code, retry_after: after(retry_after) };
                self.answered("REFUSED", id, Answer::Refused(refusal), effects)?;
            }
            Inbound::Frame(Frame::GoAway(goodbye)) => self.sent_away(goodbye, effects)?,
            Inbound::Frame(frame) => {
                return Err(Violation::Unexpected { name: frame.name() }.into());
            }
        }
        Ok(())
    }

    fn message(
        &mut self,
        head: Head,
        body: Bytes,
        effects: &mut Effects<Event>,
    ) -> Result<(), LossCause> {
        self.bounds.check_received(body.len())?;
        match head {
            Head::Reply { id } => self.answered("REPLY", id, Answer::Reply(body), effects)?,
            Head::Push { id } => {
                self.check_push(id)?;
                effects.events.push(Event::Push(body));
            }
            _ => return Err(Violation::Unexpected { name: head.name() }.into()),
        }
        Ok(())
    }

    fn begin(&mut self, head: Head, total: u32, part: &Bytes) -> Result<(), LossCause> {
        self.bounds.check_received(total as usize)?;
        match head {
            Head::Reply { id } => {
                if self.awaited("REPLY", id)?.is_none() {
                    return Ok(());
                }
            }
            Head::Push { id } => self.check_push(id)?,
            _ => return Err(Violation::Unexpected { name: head.name() }.into()),
        }
        Ok(self.line.assembly.begin(head, total, part)?)
    }

    /// A part of a message that is not put together here: of one that was given up, or of none that ever was.
    fn check_known(&self, id: u64) -> Result<(), Violation> {
        let highest = if id & PUSH_BIT != 0 { self.highest_push } else { self.highest_id };
        if id <= highest { Ok(()) } else { Err(Violation::ToNobody { name: "CHUNK", id }) }
    }

    fn check_push(&mut self, id: u64) -> Result<(), Violation> {
        if id & PUSH_BIT == 0 {
            return Err(Violation::IdOutOfRange { id });
        }
        if self.line.assembly.contains(id) {
            return Err(Violation::IdInUse { id });
        }
        self.highest_push = self.highest_push.max(id);
        Ok(())
    }

    fn sent_away(
        &mut self,
        goodbye: GoAway,
        effects: &mut Effects<Event>,
    ) -> Result<(), LossCause> {
        if goodbye.code == GoAway::VIOLATION {
            return Err(LossCause::SentAway(goodbye));
        }
        self.state = State::Draining;
        for (id, mark) in self.calls.beyond(goodbye.accepted) {
            let withdrawn = self.line.outgoing.withdraw(id, mark);
            if withdrawn == Withdrawn::Begun {
                // Of a notification the server may be waiting for the rest.
                Frame::Cancel { id }.encode(self.line.outgoing.control());
            }
            let sent = withdrawn == Withdrawn::TooLate;
            // A notification that has left may have come before the server went away.
            if !(sent && self.calls.is_notification(id)) {
                let answer = Answer::SentAway { goodbye: goodbye.clone(), sent };
                effects.wake.extend(self.calls.settle(id, answer));
            }
        }
        effects.events.push(Event::GoAway(goodbye));
        Ok(())
    }

    fn expire(&mut self, now: Instant, effects: &mut Effects<Event>) {
        for (id, mark) in self.calls.expired(now) {
            let sent = self.stop(id, mark);
            let stage = match self.calls.is_notification(id) {
                false if sent => Stage::Reply,
                _ => Stage::Sending,
            };
            effects.wake.extend(
                self.calls.settle(id, Answer::Expired { sent, stage, vacancy: Vacancy::Now }),
            );
        }
    }
}

impl Calling for Client {
    fn start(&mut self, now: Instant, start: &Start<'_>, waker: &Waker) -> Result<(), NotTaken> {
        match &self.state {
            State::Open => {}
            State::Draining => return Err(NotTaken::Gone(None)),
            State::Dead(loss) => return Err(NotTaken::Gone(Some(loss.clone()))),
        }
        let length = start.body.len();
        if length > self.bounds.send {
            return Err(NotTaken::TooLong { limit: self.bounds.send });
        }
        self.bounds.check_room(self.line.outgoing.queued_bytes(), length)?;
        let (head, order) = head(now, start);
        let mark = self.line.outgoing.message(head, start.body);
        self.calls.insert(start.id, mark, start.deadline, order, waker.clone());
        self.highest_id = self.highest_id.max(start.id);
        Ok(())
    }

    fn poll(&mut self, id: u64, waker: &Waker) -> (Poll<Answer>, Option<Waker>) {
        self.calls.poll(id, waker)
    }

    fn leave(&mut self, _: Instant, id: u64) -> Left {
        Left { waker: self.abandon(id), vacancy: Vacancy::Now }
    }

    fn drain(&mut self) {
        if let State::Open = self.state {
            self.state = State::Draining;
        }
    }

    fn settled_places(&self) -> usize {
        self.calls.unclaimed()
    }

    fn probe(&mut self, now: Instant) {
        self.line.probe(now);
    }
}

impl Session for Client {
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
                self.dispatch(inbound, effects)?;
            }
            Ok(())
        };
        let result = frames();
        if let Err(LossCause::Violation(violation)) = &result {
            self.line.complain(violation);
            // In the same turn: what was taken now would go out behind the goodbye.
            self.drain();
        }
        result
    }

    fn transmit(&mut self, now: Instant, out: &mut VecDeque<Bytes>) {
        self.line.transmit(now, out);
        for id in self.line.outgoing.take_begun() {
            self.calls.went_out(id);
        }
    }

    fn written(&mut self, now: Instant, bytes: usize, effects: &mut Effects<Event>) {
        self.line.written(now, bytes);
        let outgoing = &self.line.outgoing;
        self.calls.written(|id, mark| outgoing.is_sent(id, mark), &mut effects.wake);
    }

    fn timeout(&mut self, now: Instant, effects: &mut Effects<Event>) -> Result<(), LossCause> {
        self.expire(now, effects);
        self.line.timeout(now)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let line = self.line.next_deadline();
        Some(self.calls.next_deadline().map_or(line, |first| first.min(line)))
    }

    fn take_spent(&mut self, spent: &mut Vec<Bytes>) {
        self.line.outgoing.take_spent(spent);
    }

    fn wants_input(&self) -> bool {
        true
    }

    fn write_failed(&mut self) {
        self.line.outgoing.break_off();
        self.drain();
    }

    fn wants_gather(&self) -> bool {
        self.calls.waiting() > 1 && self.line.outgoing.queued_bytes() > 0
    }

    fn is_finished(&self) -> bool {
        !matches!(self.state, State::Open)
            && self.calls.waiting() == 0
            && self.line.outgoing.is_empty()
    }

    fn lost(&mut self, loss: &Arc<Loss>, effects: &mut Effects<Event>) {
        if let State::Dead(_) = self.state {
            return;
        }
        self.state = State::Dead(loss.clone());
        let outgoing = &self.line.outgoing;
        self.calls.lose(loss, |id, mark| outgoing.is_sent(id, mark), &mut effects.wake);
        self.line.die();
    }
}

/// How a call begins on the wire.
fn head(now: Instant, start: &Start<'_>) -> (Head, Order) {
    match start.kind {
        Kind::Notification => (Head::Notify { id: start.id }, Order::Notification),
        Kind::Request { repeatable, resent } => {
            // 0 would mean "no deadline".
            let remaining = millis(start.deadline.saturating_duration_since(now)).max(1);
            let (id, oldest) = (start.id, start.oldest);
            let head = RequestHead { id, repeatable, resent, remaining, oldest };
            (Head::Request(head), Order::NotOut)
        }
    }
}

#[cfg(test)]
mod tests;
