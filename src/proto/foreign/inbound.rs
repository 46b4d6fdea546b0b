//! What a foreign server's frames mean for the calls and leases of their connection.

use bytes::Bytes;

use super::{Foreign, Next, State};
use crate::error::loss::{GoAway, LossCause};
use crate::error::violation::Violation;
use crate::proto::calling::{Calling as _, Event};
use crate::proto::calls::Answer;
use crate::proto::dialect::{Meaning, To};
use crate::proto::ids::{Id, Name};
use crate::proto::input::{Arrived, Input};
use crate::proto::outgoing::Withdrawn;
use crate::proto::owed::Debt;
use crate::proto::session::Effects;
use crate::proto::speech::Addressee;

impl Foreign {
    /// Takes the frames that have arrived, and judges what has come of the next.
    pub(super) fn take(
        &mut self,
        input: &mut Input,
        effects: &mut Effects<Event>,
    ) -> Result<(), LossCause> {
        let lease = input.lease;
        // One by one: those behind a violation are not dropped under the lock.
        while let Some(arrived) = input.frames.pop_front() {
            self.frame(arrived, lease, effects)?;
        }
        match input.broken.take() {
            _ if matches!(self.state, State::Spoiled) => Ok(()),
            Some(broken) => Err(broken),
            None if !input.bytes.is_empty() => Ok(self.begun(lease)?),
            None => Ok(()),
        }
    }

    /// Takes the beginning of a frame that is not whole yet, read when this lease had the connection, if one had it.
    fn begun(&mut self, lease: Option<u64>) -> Result<(), Violation> {
        if self.is_of_another(lease) {
            return Err(Violation::Unasked);
        }
        // It cannot be the answer to a request that has not begun to go out.
        let unasked = lease.is_none() && !self.is_awaited();
        if unasked && !self.speech.has_pushes() {
            return Err(Violation::Unasked);
        }
        self.next = match self.next {
            // It stays that, whatever leaves before its end has come.
            Next::BegunUnasked => Next::BegunUnasked,
            _ if unasked => Next::BegunUnasked,
            _ => Next::Begun,
        };
        Ok(())
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
            effects.spent.extend(meaning.and_then(Meaning::into_body));
            return Ok(());
        }
        let began_unasked = std::mem::take(&mut self.next) == Next::BegunUnasked;
        match (lease, meaning) {
            (None, Some(meaning)) if !(began_unasked && meaning.is_answer()) => {
                self.understand(meaning, effects)
            }
            // The ping went out before the connection was lent. Its answer comes first.
            (Some(_), Some(meaning)) if self.owed.is_pinged() && self.is_of_ping(&meaning) => {
                if !matches!(meaning, Meaning::Part { .. }) {
                    self.pong();
                }
                effects.spent.extend(meaning.into_body());
                Ok(())
            }
            (Some(_), meaning) if lease == self.leases.current() => {
                effects.wake.extend(self.leases.lent.as_mut().and_then(|lent| lent.arrived(frame)));
                effects.spent.extend(meaning.and_then(Meaning::into_body));
                Ok(())
            }
            // It began unasked, or that lease is over.
            (_, meaning) => {
                effects.spent.extend(meaning.and_then(Meaning::into_body));
                Err(Violation::Unasked.into())
            }
        }
    }

    /// Whether it is the answer to a ping, or a part of it.
    fn is_of_ping(&self, meaning: &Meaning) -> bool {
        match meaning {
            Meaning::Pong => true,
            Meaning::Reply { to, .. }
            | Meaning::Part { to, .. }
            | Meaning::Error { to, .. }
            | Meaning::Refused { to, .. } => match to {
                To::Id(id) => Id(*id) == self.speech.ids().of_ping(),
                // Nothing else is outstanding.
                To::Oldest => true,
            },
            _ => false,
        }
    }

    fn pong(&mut self) {
        self.owed.pong();
        self.readdress();
    }

    /// Nothing but a lease's frames comes any more, if one has the connection.
    fn readdress(&self) {
        if let Some(lease) = self.leases.current() {
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
                let (id, body) = self.whole(to, body, &mut effects.spent)?;
                self.answered(id, Answer::Reply(body), effects);
            }
            Meaning::Part { to, body } => {
                let added = self.part(to, &body);
                effects.spent.push(body);
                added?;
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
                let accepted = self.calls.requests();
                let code = GoAway::CLOSING;
                let goodbye = GoAway { code, accepted, retry_after, text };
                self.sent_away(goodbye, effects);
            }
            Meaning::Nothing => {}
        }
        Ok(())
    }

    /// Whose answer it is, and all of it: the last part with those before it.
    fn whole(
        &mut self,
        to: To,
        body: Bytes,
        spent: &mut Vec<Bytes>,
    ) -> Result<(Id, Bytes), Violation> {
        let parts = self.owed.whose(to).and_then(|id| {
            let parts = self.owed.parts(id).map(std::mem::take).unwrap_or_default();
            self.bounds.check_received(parts.len() + body.len())?;
            Ok((id, parts))
        });
        match parts {
            Ok((id, parts)) if parts.is_empty() => Ok((id, body)),
            Ok((id, mut parts)) => {
                parts.extend_from_slice(&body);
                spent.push(body);
                Ok((id, parts.freeze()))
            }
            Err(violation) => {
                spent.push(body);
                Err(violation)
            }
        }
    }

    fn part(&mut self, to: To, body: &[u8]) -> Result<(), Violation> {
        let id = self.owed.whose(to)?;
        if let Some(parts) = self.owed.parts(id) {
            self.bounds.check_received(parts.len() + body.len())?;
            parts.extend_from_slice(body);
        }
        Ok(())
    }

    fn answered(&mut self, id: Id, answer: Answer, effects: &mut Effects<Event>) {
        let nobodys = match self.owed.paid(id) {
            Some(Debt::Called { name, .. }) => {
                effects.wake.extend(self.calls.settle(name.0, answer));
                return;
            }
            Some(Debt::Abandoned { place, .. }) => {
                effects.events.extend(place.map(Event::Vacated));
                answer
            }
            Some(Debt::Ping) => {
                self.readdress();
                answer
            }
            Some(Debt::WrittenOff | Debt::Queued { .. }) | None => answer,
        };
        if let Answer::Reply(body) = nobodys {
            effects.spent.push(body);
        }
    }

    fn sent_away(&mut self, goodbye: GoAway, effects: &mut Effects<Event>) {
        self.drain();
        for (name, mark) in self.calls.beyond(goodbye.accepted) {
            if self.outgoing.withdraw(name, mark) == Withdrawn::Unseen {
                let name = Name(name);
                self.owed.withdrawn(self.speech.ids().of(name), name);
                let answer = Answer::SentAway { goodbye: goodbye.clone(), sent: false };
                effects.wake.extend(self.calls.settle(name.0, answer));
            }
        }
        effects.events.push(Event::GoAway(goodbye));
    }
}
