//! The calling end of one connection to a server that speaks a protocol of its own.
//!
//! ```text
//!          call ──► Speech (outside the lock) ──► Outgoing ──► the shell
//!   the shell ──► Speech (outside the lock) ──► Owed: whose answer? ──► Calls ──► the caller
//!          lease: frames as they are, past Owed and Calls
//! ```
//!
//! Which answers are outstanding is [`owed`](crate::proto::owed)'s business, a conversation
//! [`lent`](crate::proto::lent)'s.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use crate::error::call::Stage;
use crate::error::loss::{GoAway, Loss, LossCause};
use crate::error::unsendable::Unsendable;
use crate::error::violation::Violation;
use crate::policy::Heartbeat;
use crate::proto::calling::{Bounds, Calling, Event, Kind, Left, NotTaken, Start};
use crate::proto::calls::{Answer, Calls, Ordinal, Removed, Tenure};
use crate::proto::dialect::{Matching, Meaning, To};
use crate::proto::lent::Lent;
use crate::proto::outgoing::{Mark, Outgoing, Withdrawn};
use crate::proto::owed::{Debt, Overdue, Owed};
use crate::proto::pulse::{Beat, Pulse};
use crate::proto::session::{Effects, Session};
use crate::proto::speech::{Addressee, Arrived, Speech, Understood};

pub(crate) mod lending;

const ALL_IDS_TAKEN: &str = "all ids of the connection are waiting for answers";

#[derive(Debug)]
pub(crate) struct Foreign {
    speech: Arc<Speech>,
    outgoing: Outgoing,
    pulse: Pulse,
    calls: Calls,
    owed: Owed,
    /// Answers that have come in part, by their ids.
    parts: HashMap<u64, BytesMut>,
    /// Notifications that wait to be written.
    notifications: Vec<u64>,
    requests: u64,
    lent: Option<Lent>,
    /// So many there were.
    leases: u64,
    state: State,
    /// Bytes of a frame that is not whole yet.
    unfinished: usize,
    /// It began before any request had left: it is no answer.
    began_unasked: bool,
    /// While the connection is lent, silence is nobody's business. When to see whether it still is: its return tells nobody.
    look_at: Instant,
    bounds: Bounds,
}

#[derive(Debug)]
enum State {
    Open,
    /// No new calls: what is in flight is finished.
    Draining,
    /// A conversation broke off: what still comes of it is nobody's.
    Spoiled,
    /// The lease takes the socket with it.
    Leaving,
    Dead(Arc<Loss>),
}

impl Foreign {
    pub(crate) fn new(
        now: Instant,
        heartbeat: Heartbeat,
        speech: Arc<Speech>,
        bounds: Bounds,
    ) -> Self {
        Self {
            outgoing: Outgoing::default(),
            pulse: Pulse::new(now, heartbeat, None),
            calls: Calls::default(),
            owed: Owed::new(speech.matching()),
            parts: HashMap::new(),
            notifications: Vec::new(),
            requests: 0,
            lent: None,
            leases: 0,
            state: State::Open,
            unfinished: 0,
            began_unasked: false,
            look_at: now,
            speech,
            bounds,
        }
    }

    fn is_in_order(&self) -> bool {
        matches!(self.speech.matching(), Matching::InOrder { .. })
    }

    fn check_open(&self) -> Result<(), NotTaken> {
        match &self.state {
            State::Open => Ok(()),
            State::Draining | State::Spoiled | State::Leaving => Err(NotTaken::Gone(None)),
            State::Dead(loss) => Err(NotTaken::Gone(Some(loss.clone()))),
        }
    }

    /// Whether a call can have this id.
    fn check_id(&self, id: u64) -> Result<(), NotTaken> {
        if !self.owed.is_taken(id) {
            return Ok(());
        }
        // There are more ids than places, but what an `on_connect` hook has left unanswered has none.
        match self.owed.taken() as u64 >= self.speech.ids() {
            true => Err(NotTaken::Unsendable(Unsendable::Refused { why: ALL_IDS_TAKEN })),
            false => Err(NotTaken::IdTaken),
        }
    }

    /// Takes a call's bytes back, if none has left; else its answer will come and be thrown away.
    fn stop(&mut self, now: Instant, name: u64, mark: Mark) -> (Withdrawn, Tenure) {
        let withdrawn = self.outgoing.withdraw(name, mark);
        let id = self.speech.id_of(name);
        match withdrawn {
            Withdrawn::Unseen => {
                self.owed.withdrawn(id, name);
                (withdrawn, Tenure::Ended)
            }
            _ if self.calls.is_notification(name) => (withdrawn, Tenure::Ended),
            _ => {
                self.parts.remove(&id);
                self.owed.abandon(now, id, name);
                (withdrawn, Tenure::Kept)
            }
        }
    }

    /// Settled notifications are not waited for any more.
    fn forget_notifications(&mut self) {
        let calls = &self.calls;
        self.notifications.retain(|name| calls.pending(*name).is_some());
    }

    /// A frame that was read when this lease had the connection, if one had it.
    fn frame(
        &mut self,
        arrived: Arrived,
        lease: Option<u64>,
        effects: &mut Effects<Event>,
    ) -> Result<(), LossCause> {
        let Arrived { frame, meaning } = arrived;
        if let State::Spoiled = self.state {
            return Ok(());
        }
        let began_unasked = std::mem::take(&mut self.began_unasked);
        match (lease, meaning) {
            (None, Some(meaning)) if began_unasked && meaning.is_answer() => {
                Err(Violation::Unasked.into())
            }
            (None, Some(meaning)) => self.understand(meaning, effects),
            // The ping went out before the connection was lent. Its answer comes first.
            (Some(_), Some(meaning)) if self.owed.is_pinged() && self.is_pong(&meaning) => {
                self.pong();
                Ok(())
            }
            (Some(_), _) if lease == self.lessee() => {
                effects.wake.extend(self.lent.as_mut().and_then(|lent| lent.arrived(frame)));
                Ok(())
            }
            // That lease is over.
            (Some(_), _) | (None, None) => Err(Violation::Unasked.into()),
        }
    }

    /// Which lease has the connection.
    fn lessee(&self) -> Option<u64> {
        self.lent.is_some().then_some(self.leases)
    }

    fn is_pong(&self, meaning: &Meaning) -> bool {
        match meaning {
            Meaning::Pong => true,
            Meaning::Reply { to: To::Id(id), .. } | Meaning::Error { to: To::Id(id), .. } => {
                *id == self.speech.ping_id()
            }
            // Nothing else is outstanding.
            Meaning::Reply { to: To::Oldest, .. } | Meaning::Error { to: To::Oldest, .. } => true,
            _ => false,
        }
    }

    fn pong(&mut self) {
        self.owed.pong();
        if let Some(lease) = self.lessee() {
            self.speech.address(Addressee::Lease(lease));
        }
    }

    fn understand(
        &mut self,
        meaning: Meaning,
        effects: &mut Effects<Event>,
    ) -> Result<(), LossCause> {
        match meaning {
            Meaning::Reply { to, body } => {
                let id = self.owed.whose(to)?;
                let body = self.whole(id, body, &mut effects.spent)?;
                self.answered(id, Answer::Reply(body), effects);
            }
            Meaning::Part { to, body } => {
                let id = self.owed.whose(to)?;
                self.part(id, &body)?;
                effects.spent.push(body);
            }
            Meaning::Error { to, error } => {
                let id = self.owed.whose(to)?;
                self.answered(id, Answer::Error(error), effects);
            }
            Meaning::Refused { to, refusal } => {
                let id = self.owed.whose(to)?;
                self.answered(id, Answer::Refused(refusal), effects);
            }
            Meaning::Push(body) => effects.events.push(Event::Push(body)),
            Meaning::Pong => self.pong(),
            Meaning::GoAway { retry_after, text } => {
                let accepted = self.requests;
                let code = GoAway::CLOSING;
                let goodbye = GoAway { code, accepted, retry_after, text: text.into() };
                self.sent_away(goodbye, effects);
            }
            Meaning::Nothing => {}
        }
        Ok(())
    }

    /// The last part of an answer, with those before it.
    fn whole(&mut self, id: u64, body: Bytes, spent: &mut Vec<Bytes>) -> Result<Bytes, Violation> {
        let Some(mut parts) = self.parts.remove(&id) else {
            self.check_length(body.len())?;
            return Ok(body);
        };
        self.check_length(parts.len() + body.len())?;
        parts.extend_from_slice(&body);
        spent.push(body);
        Ok(parts.freeze())
    }

    fn part(&mut self, id: u64, body: &[u8]) -> Result<(), Violation> {
        if self.owed.waiting(id).is_none() {
            return Ok(());
        }
        let length = self.parts.get(&id).map_or(0, BytesMut::len) + body.len();
        self.check_length(length)?;
        self.parts.entry(id).or_default().extend_from_slice(body);
        Ok(())
    }

    fn check_length(&self, length: usize) -> Result<(), Violation> {
        let limit = self.bounds.receive as u64;
        if length as u64 <= limit {
            return Ok(());
        }
        Err(Violation::MessageTooLong { length: length as u64, limit })
    }

    fn answered(&mut self, id: u64, answer: Answer, effects: &mut Effects<Event>) {
        self.parts.remove(&id);
        let nobodys = match self.owed.paid(id) {
            Some(Debt::Called { name, .. }) => {
                effects.wake.extend(self.calls.settle(name, answer));
                return;
            }
            Some(Debt::Abandoned { place, .. }) => {
                effects.events.extend(place.map(Event::Vacated));
                answer
            }
            Some(Debt::Ping | Debt::WrittenOff | Debt::Queued { .. }) | None => answer,
        };
        if let Answer::Reply(body) = nobodys {
            effects.spent.push(body);
        }
    }

    fn sent_away(&mut self, goodbye: GoAway, effects: &mut Effects<Event>) {
        self.drain();
        for (name, mark) in self.calls.beyond(goodbye.accepted) {
            if self.outgoing.withdraw(name, mark) == Withdrawn::Unseen {
                self.owed.withdrawn(self.speech.id_of(name), name);
                let answer = Answer::SentAway { goodbye: goodbye.clone(), sent: false };
                effects.wake.extend(self.calls.settle(name, answer));
            }
        }
        self.forget_notifications();
        effects.events.push(Event::GoAway(goodbye));
    }

    fn expire(&mut self, now: Instant, effects: &mut Effects<Event>) {
        for (name, mark) in self.calls.expired(now) {
            let (withdrawn, tenure) = self.stop(now, name, mark);
            let sent = withdrawn == Withdrawn::TooLate;
            let stage = match self.calls.is_notification(name) {
                false if sent => Stage::Reply,
                _ => Stage::Sending,
            };
            let answer = Answer::Expired { sent, stage, tenure };
            effects.wake.extend(self.calls.settle(name, answer));
        }
        self.forget_notifications();
    }

    fn check_owed(&mut self, now: Instant, effects: &mut Effects<Event>) -> Result<(), LossCause> {
        let bound = self.pulse.bound();
        match self.owed.overdue(now, self.pulse.heard_at(), bound) {
            Overdue::No => Ok(()),
            Overdue::Unanswered { calls, silent_for } => {
                Err(LossCause::Unanswered { calls, silent_for })
            }
            Overdue::WrittenOff(places) => {
                effects.events.extend(places.into_iter().map(Event::Vacated));
                let calls = self.owed.written_off();
                if calls > self.speech.spare_ids() {
                    return Err(LossCause::Unanswered { calls, silent_for: bound });
                }
                Ok(())
            }
        }
    }

    /// Whether requests may go out. Places see to it that there are no more of them than the pipeline bears, but a ping has
    /// no place, and neither has what an `on_connect` hook has left unanswered.
    fn has_turn(&self) -> bool {
        match self.speech.matching() {
            // A lease has no places to count, so it waits for the pong.
            Matching::InOrder { .. } if self.lent.is_some() => !self.owed.is_pinged(),
            Matching::InOrder { pipeline } if self.owed.in_turn() > 0 => {
                self.owed.outstanding() <= pipeline
            }
            _ => true,
        }
    }

    /// Whether what begins to come can be an answer. By id, only the whole frame tells.
    fn is_awaited(&self) -> bool {
        !self.is_in_order() || self.owed.in_turn() > 0
    }

    /// Whether silence says anything: the peer can be asked for a sign of life, or has been.
    fn is_judged(&self) -> bool {
        self.owed.is_pinged() || self.can_ping()
    }

    /// In turns, the answer to a ping would come behind those that are outstanding, however long those take.
    fn can_ping(&self) -> bool {
        self.speech.ping().is_some()
            && !self.owed.is_pinged()
            && self.lent.is_none()
            && (!self.is_in_order() || self.owed.is_empty())
    }

    fn ping(&mut self) {
        if !self.can_ping() {
            return;
        }
        if let Some(ping) = self.speech.ping() {
            let control = self.outgoing.control();
            control.extend_from_slice(&ping.head);
            control.extend_from_slice(&ping.rest);
            self.owed.pinged(self.speech.ping_id());
        }
    }
}

impl Calling for Foreign {
    fn start(&mut self, now: Instant, start: &Start<'_>, waker: &Waker) -> Result<(), NotTaken> {
        let _ = now;
        self.check_open()?;
        let Some(spoken) = start.spoken else {
            // Nobody starts a call here without its frame.
            return Err(NotTaken::Gone(None));
        };
        let (name, length) = (start.id, spoken.head.len() + spoken.rest.len());
        let id = self.speech.id_of(name);
        if start.kind != Kind::Notification {
            self.check_id(id)?;
        }
        let queued = self.outgoing.queued_bytes();
        // A single frame always finds room in an empty queue.
        if queued > 0 && queued + length > self.bounds.queued_bytes {
            return Err(NotTaken::Full { limit: self.bounds.queued_bytes });
        }
        let mark = self.outgoing.request(name, &spoken.head, &spoken.rest);
        let ordinal = match start.kind {
            Kind::Notification => {
                self.notifications.push(name);
                Ordinal::NOTIFICATION
            }
            Kind::Request { .. } => {
                self.owed.queued(id, name, start.place);
                Ordinal::NOT_OUT
            }
        };
        self.calls.insert(name, mark, start.deadline, ordinal, waker.clone());
        Ok(())
    }

    fn poll(&mut self, id: u64, waker: &Waker) -> (Poll<Answer>, Option<Waker>) {
        self.calls.poll(id, waker)
    }

    fn leave(&mut self, now: Instant, id: u64) -> Left {
        let is_notification = self.calls.is_notification(id);
        match self.calls.remove(id) {
            Some(Removed::Waiting(mark, waker)) => {
                let (withdrawn, tenure) = self.stop(now, id, mark);
                // It is not in the table any more, which would have told.
                let is_kept = withdrawn != Withdrawn::Unseen && !is_notification;
                let tenure = if is_kept { tenure } else { Tenure::Ended };
                self.forget_notifications();
                Left { waker: Some(waker), tenure }
            }
            Some(Removed::Settled(Answer::Expired { tenure, .. })) => Left { waker: None, tenure },
            Some(Removed::Settled(_)) | None => Left { waker: None, tenure: Tenure::Ended },
        }
    }

    fn drain(&mut self) {
        if let State::Open = self.state {
            self.state = State::Draining;
        }
    }

    fn probe(&mut self, now: Instant) {
        if self.can_ping() && self.pulse.probe(now) == Beat::Ask {
            self.ping();
        }
    }
}

impl Session for Foreign {
    type Event = Event;

    fn reader(&self) -> Option<Arc<Speech>> {
        Some(self.speech.clone())
    }

    fn received(
        &mut self,
        _: Instant,
        _: &mut BytesMut,
        _: &mut Effects<Event>,
    ) -> Result<(), LossCause> {
        // The shell shows the bytes to the reader, and what that understood to `understood`.
        Ok(())
    }

    fn understood(
        &mut self,
        now: Instant,
        understood: &mut Understood,
        effects: &mut Effects<Event>,
    ) -> Result<(), LossCause> {
        self.pulse.heard(now);
        let mut frames = || {
            let lease = understood.lease;
            // One by one: those behind a violation are not dropped under the lock.
            while let Some(arrived) = understood.frames.pop_front() {
                self.frame(arrived, lease, effects)?;
            }
            self.unfinished = understood.rest;
            let is_cut = self.unfinished > 0;
            match understood.broken.take() {
                _ if matches!(self.state, State::Spoiled) => Ok(()),
                Some(broken) => Err(broken),
                // It began before this lease did, or between two.
                None if is_cut && self.owed.is_empty() && lease != self.lessee() => {
                    Err(Violation::Unasked.into())
                }
                // It cannot be the answer to a request that has not begun to go out.
                None if is_cut && lease.is_none() && !self.is_awaited() => {
                    self.began_unasked = true;
                    match self.speech.has_pushes() {
                        true => Ok(()),
                        false => Err(Violation::Unasked.into()),
                    }
                }
                None => Ok(()),
            }
        };
        let result = frames();
        if result.is_err() {
            // In the same turn: nothing goes out any more.
            self.drain();
            self.outgoing.discard();
        }
        result
    }

    fn transmit(&mut self, now: Instant, out: &mut VecDeque<Bytes>) {
        match self.has_turn() {
            true => self.outgoing.transmit(out),
            false => self.outgoing.transmit_control(out),
        }
        self.pulse.transmitted(now, &self.outgoing);
        for name in self.outgoing.take_begun() {
            if self.owed.went_out(self.speech.id_of(name), name) {
                self.requests += 1;
                self.calls.went_out(name, Ordinal(self.requests));
            }
        }
    }

    fn written(&mut self, now: Instant, bytes: usize, effects: &mut Effects<Event>) {
        self.outgoing.written(bytes);
        self.pulse.written(now, &self.outgoing);
        let (calls, outgoing) = (&mut self.calls, &self.outgoing);
        self.notifications.retain(|name| {
            let waits = calls.pending(*name).is_some_and(|mark| !outgoing.is_sent(*name, mark));
            if !waits {
                effects.wake.extend(calls.settle(*name, Answer::Written));
            }
            waits
        });
        if let Some(lent) = &mut self.lent {
            effects.wake.extend(lent.written(|name, mark| outgoing.is_sent(name, mark)));
        }
    }

    fn timeout(&mut self, now: Instant, effects: &mut Effects<Event>) -> Result<(), LossCause> {
        self.expire(now, effects);
        self.pulse.check_sending(now)?;
        self.check_owed(now, effects)?;
        if self.lent.is_some() {
            self.look_at = now + self.pulse.every();
        }
        if self.is_judged() {
            match self.pulse.beat(now)? {
                Beat::Nothing => {}
                // What waits to be sent will be heard, too.
                Beat::Speak if !self.outgoing.is_empty() => {}
                Beat::Ask | Beat::Speak => self.ping(),
            }
        }
        Ok(())
    }

    fn take_spent(&mut self, spent: &mut Vec<Bytes>) {
        self.outgoing.take_spent(spent);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let owed = self.owed.next_deadline(self.pulse.heard_at(), self.pulse.bound());
        let beat = match self.lent {
            _ if self.is_judged() => Some(self.pulse.beat_at()),
            Some(_) => self.speech.ping().map(|_| self.look_at),
            None => None,
        };
        let deadlines = [self.calls.next_deadline(), self.pulse.stalled_at(), owed, beat];
        deadlines.into_iter().flatten().min()
    }

    fn wants_input(&self) -> bool {
        self.lent.as_ref().is_none_or(|lent| lent.arrived_bytes() <= self.bounds.receive)
    }

    fn write_failed(&mut self) {
        self.drain();
    }

    fn wants_gather(&self) -> bool {
        self.calls.waiting() > 1 && self.outgoing.queued_bytes() > 0
    }

    fn is_finished(&self) -> bool {
        !matches!(self.state, State::Open | State::Leaving)
            && self.lent.is_none()
            && self.calls.waiting() == 0
            && self.outgoing.is_empty()
    }

    fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving) && self.outgoing.is_empty()
    }

    fn lost(&mut self, loss: &Arc<Loss>, effects: &mut Effects<Event>) {
        if let State::Dead(_) = self.state {
            return;
        }
        self.state = State::Dead(loss.clone());
        self.notifications.clear();
        self.parts.clear();
        let outgoing = &self.outgoing;
        self.calls.lose(loss, |name, mark| outgoing.is_sent(name, mark), &mut effects.wake);
        if let Some(lent) = &mut self.lent {
            effects.wake.extend(lent.take_wakers());
        }
        self.outgoing.die();
        effects.events.extend(self.owed.die().into_iter().map(Event::Vacated));
    }
}

#[cfg(test)]
mod tests;
