//! The calling end of one connection to a server that speaks a protocol of its own.
//!
//! ```text
//!          call ──► Speech (outside the lock) ──► Outgoing ──► the shell
//!   the shell ──► Speech (outside the lock) ──► Owed: whose answer? ──► Calls ──► the caller
//!          lease: frames as they are, past Owed and Calls
//! ```
//!
//! A call has a [`Name`] here, and an [`Id`] for the server. [`Calls`] and [`Outgoing`] go by the name (they call it an id,
//! because that of `Native` is both), [`Owed`] by the id.
//!
//! Which answers are outstanding is [`owed`](crate::proto::owed)'s business, a conversation
//! [`lent`](crate::proto::lent)'s.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use bytes::Bytes;

use crate::error::loss::{Loss, LossCause};
use crate::policy::Heartbeat;
use crate::proto::calling::{Bounds, Calling, Event, Kind, Left, NotTaken, Start};
use crate::proto::calls::{Answer, Calls, Order, Removed, Vacancy};
use crate::proto::dialect::Matching;
use crate::proto::heartbeat::Beat;
use crate::proto::ids::{Id, Name};
use crate::proto::input::Input;
use crate::proto::lent::Leases;
use crate::proto::outgoing::{Mark, Outgoing, Withdrawn};
use crate::proto::owed::Owed;
use crate::proto::pulse::Pulse;
use crate::proto::session::{Effects, Session};
use crate::proto::speech::Speech;

mod inbound;
pub(crate) mod lending;
mod upkeep;

#[derive(Debug)]
pub(crate) struct Foreign {
    speech: Arc<Speech>,
    outgoing: Outgoing,
    pulse: Pulse,
    calls: Calls,
    owed: Owed,
    leases: Leases,
    state: State,
    next: Next,
    bounds: Bounds,
}

/// What has come of the next frame.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Next {
    #[default]
    Nothing,
    /// Its beginning.
    Begun,
    /// Its beginning, before any request had left: it is no answer.
    BegunUnasked,
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
    /// The peer broke the protocol: nothing goes out any more. The loss is not known yet.
    Broken,
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
            owed: Owed::new(speech.ids().matching()),
            leases: Leases::default(),
            state: State::Open,
            next: Next::Nothing,
            speech,
            bounds,
        }
    }

    fn is_in_order(&self) -> bool {
        matches!(self.speech.ids().matching(), Matching::InOrder { .. })
    }

    fn check_open(&self) -> Result<(), NotTaken> {
        match &self.state {
            State::Open => Ok(()),
            State::Draining | State::Spoiled | State::Leaving | State::Broken => {
                Err(NotTaken::Gone(None))
            }
            State::Dead(loss) => Err(NotTaken::Gone(Some(loss.clone()))),
        }
    }

    /// Whether a call can have this id.
    fn check_id(&self, id: Id) -> Result<(), NotTaken> {
        if !self.owed.is_taken(id) {
            return Ok(());
        }
        // There are more ids than places, but what an `on_connect` hook has left unanswered has none.
        match self.owed.taken() as u64 >= self.speech.ids().count() {
            true => Err(NotTaken::NoId { limit: self.speech.ids().count() }),
            false => Err(NotTaken::IdTaken),
        }
    }

    /// Takes the bytes of a call that is still in the table back, if none has left; else its answer will come and be thrown
    /// away.
    fn stop(&mut self, now: Instant, name: Name, mark: Mark) -> (Withdrawn, Vacancy) {
        let withdrawn = self.outgoing.withdraw(name.0, mark);
        let id = self.speech.ids().of(name);
        match withdrawn {
            Withdrawn::Unseen => {
                self.owed.withdrawn(id, name);
                (withdrawn, Vacancy::Now)
            }
            _ if self.calls.is_notification(name.0) => (withdrawn, Vacancy::Now),
            _ => {
                self.owed.abandon(now, id, name);
                (withdrawn, Vacancy::Later)
            }
        }
    }

    /// Whether what was read while this lease had the connection, or none, belongs to nobody who has it now. The answer to
    /// a ping may come under any.
    fn is_of_another(&self, lease: Option<u64>) -> bool {
        let may_be_pong = self.owed.is_pinged();
        // What was read under no lease can be an answer.
        let may_be_answer = lease.is_none() && !self.owed.awaits_nothing();
        lease != self.leases.current() && !may_be_pong && !may_be_answer
    }
}

impl Calling for Foreign {
    fn start(&mut self, _: Instant, start: &Start<'_>, waker: &Waker) -> Result<(), NotTaken> {
        self.check_open()?;
        let (name, length) = (Name(start.id), start.head.len() + start.body.len());
        let id = self.speech.ids().of(name);
        if start.kind != Kind::Notification {
            self.check_id(id)?;
        }
        self.bounds.check_room(self.outgoing.queued_bytes(), length)?;
        let mark = self.outgoing.foreign_frame(name.0, start.head, start.body);
        let order = match start.kind {
            Kind::Notification => Order::Notification,
            Kind::Request { .. } => {
                self.owed.queued(id, name, start.place);
                Order::NotOut
            }
        };
        self.calls.insert(name.0, mark, start.deadline, order, waker.clone());
        Ok(())
    }

    fn poll(&mut self, id: u64, waker: &Waker) -> (Poll<Answer>, Option<Waker>) {
        self.calls.poll(id, waker)
    }

    fn leave(&mut self, now: Instant, id: u64) -> Left {
        // While it is in the table, which knows whether it is a notification.
        let stopped = self.calls.pending(id).map(|mark| self.stop(now, Name(id), mark));
        match (self.calls.remove(id), stopped) {
            (Some(Removed::Waiting(_, waker)), Some((_, vacancy))) => {
                Left { waker: Some(waker), vacancy }
            }
            (Some(Removed::Settled(Answer::Expired { vacancy, .. })), _) => {
                Left { waker: None, vacancy }
            }
            _ => Left { waker: None, vacancy: Vacancy::Now },
        }
    }

    fn drain(&mut self) {
        if let State::Open = self.state {
            self.state = State::Draining;
        }
    }

    fn settled_places(&self) -> usize {
        self.owed.abandoned_places() + self.calls.unclaimed()
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
        now: Instant,
        input: &mut Input,
        effects: &mut Effects<Event>,
    ) -> Result<(), LossCause> {
        self.pulse.heard(now);
        let result = self.take(input, effects);
        if result.is_err() {
            // In the same turn, and also what a lease adds before it hears of the loss.
            self.state = State::Broken;
            self.outgoing.discard();
        }
        result
    }

    fn transmit(&mut self, now: Instant, out: &mut VecDeque<Bytes>) {
        if let State::Broken = self.state {
            return;
        }
        match self.has_turn() {
            true => self.outgoing.transmit(out),
            false => self.outgoing.transmit_control(out),
        }
        self.pulse.transmitted(now, &self.outgoing);
        for name in self.outgoing.take_begun().map(Name) {
            if self.owed.went_out(self.speech.ids().of(name), name) {
                self.calls.went_out(name.0);
            }
        }
    }

    fn written(&mut self, now: Instant, bytes: usize, effects: &mut Effects<Event>) {
        self.outgoing.written(bytes);
        self.pulse.written(now, &self.outgoing);
        let outgoing = &self.outgoing;
        self.calls.written(|name, mark| outgoing.is_sent(name, mark), &mut effects.wake);
        if let Some(lent) = &mut self.leases.lent {
            effects.wake.extend(lent.written(|name, mark| outgoing.is_sent(name.0, mark)));
        }
    }

    fn timeout(&mut self, now: Instant, effects: &mut Effects<Event>) -> Result<(), LossCause> {
        self.expire(now, effects);
        self.pulse.check_sending(now)?;
        self.check_owed(now, effects)?;
        if let Some(lent) = &mut self.leases.lent {
            lent.look_at = now + self.pulse.every();
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
        let beat = match &self.leases.lent {
            _ if self.is_judged() => Some(self.pulse.beat_at()),
            Some(lent) => self.speech.ping().map(|_| lent.look_at),
            None => None,
        };
        let deadlines = [self.calls.next_deadline(), self.pulse.stalled_at(), owed, beat];
        deadlines.into_iter().flatten().min()
    }

    fn wants_input(&self) -> bool {
        self.leases.lent.as_ref().is_none_or(|lent| lent.arrived_bytes() <= self.bounds.receive)
    }

    fn write_failed(&mut self) {
        self.outgoing.break_off();
        self.drain();
    }

    fn wants_gather(&self) -> bool {
        self.calls.waiting() > 1 && self.outgoing.queued_bytes() > 0
    }

    fn is_finished(&self) -> bool {
        let is_unused = !self.leases.is_lent() && self.calls.waiting() == 0;
        match self.state {
            State::Open | State::Leaving => false,
            // The rest of a frame that is being written stays here.
            State::Spoiled => is_unused,
            State::Draining | State::Broken | State::Dead(_) => {
                is_unused && self.outgoing.is_empty()
            }
        }
    }

    /// The answer to a ping would come to whoever has the socket then.
    fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving) && self.outgoing.is_empty() && !self.owed.is_pinged()
    }

    fn lost(&mut self, loss: &Arc<Loss>, effects: &mut Effects<Event>) {
        if let State::Dead(_) = self.state {
            return;
        }
        self.state = State::Dead(loss.clone());
        let outgoing = &self.outgoing;
        self.calls.lose(loss, |name, mark| outgoing.is_sent(name, mark), &mut effects.wake);
        if let Some(lent) = &mut self.leases.lent {
            effects.wake.extend(lent.take_wakers());
        }
        self.outgoing.die();
        effects.events.extend(self.owed.die().into_iter().map(Event::Vacated));
    }
}

#[cfg(test)]
mod tests;
