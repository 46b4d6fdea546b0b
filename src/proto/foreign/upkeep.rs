//! What time does to a foreign connection: calls expire, answers stay out, and a silent server is asked and judged.

use std::time::Instant;

use super::Foreign;
use crate::error::call::Stage;
use crate::error::loss::LossCause;
use crate::proto::calling::Event;
use crate::proto::calls::Answer;
use crate::proto::dialect::Matching;
use crate::proto::ids::Name;
use crate::proto::outgoing::Withdrawn;
use crate::proto::owed::Overdue;
use crate::proto::session::Effects;

impl Foreign {
    pub(super) fn expire(&mut self, now: Instant, effects: &mut Effects<Event>) {
        for (name, mark) in self.calls.expired(now) {
            let (withdrawn, vacancy) = self.stop(now, Name(name), mark);
            let sent = withdrawn == Withdrawn::TooLate;
            let stage = match self.calls.is_notification(name) {
                false if sent => Stage::Reply,
                _ => Stage::Sending,
            };
            let answer = Answer::Expired { sent, stage, vacancy };
            effects.wake.extend(self.calls.settle(name, answer));
        }
    }

    pub(super) fn check_owed(
        &mut self,
        now: Instant,
        effects: &mut Effects<Event>,
    ) -> Result<(), LossCause> {
        let bound = self.pulse.bound();
        match self.owed.overdue(now, self.pulse.heard_at(), bound) {
            Overdue::No => Ok(()),
            Overdue::Unanswered { calls, silent_for } => {
                Err(LossCause::Unanswered { calls, silent_for })
            }
            Overdue::WrittenOff(places) => {
                effects.events.extend(places.into_iter().map(Event::Vacated));
                let calls = self.owed.written_off();
                if calls > self.speech.ids().spare() {
                    return Err(LossCause::Unanswered { calls, silent_for: bound });
                }
                Ok(())
            }
        }
    }

    /// Whether requests may go out. Places see to it that there are no more of them than the pipeline bears, but a ping has
    /// no place, and neither has what an `on_connect` hook has left unanswered.
    pub(super) fn has_turn(&self) -> bool {
        match self.speech.ids().matching() {
            // A lease has no places to count, so it waits for the pong.
            Matching::InOrder { .. } if self.leases.is_lent() => !self.owed.is_pinged(),
            Matching::InOrder { pipeline } if self.owed.in_turn() > 0 => {
                self.owed.outstanding() <= pipeline
            }
            _ => true,
        }
    }

    /// Whether what begins to come can be an answer. By id, only the whole frame tells.
    pub(super) fn is_awaited(&self) -> bool {
        !self.is_in_order() || self.owed.in_turn() > 0
    }

    /// Whether silence says anything: the peer can be asked for a sign of life, or has been.
    pub(super) fn is_judged(&self) -> bool {
        self.owed.is_pinged() || self.can_ping()
    }

    /// In turns, the answer to a ping would come behind those that are outstanding, however long those take.
    pub(super) fn can_ping(&self) -> bool {
        self.speech.ping().is_some()
            && !self.owed.is_pinged()
            && !self.leases.is_lent()
            && (!self.is_in_order() || self.owed.awaits_nothing())
    }

    pub(super) fn ping(&mut self) {
        if !self.can_ping() {
            return;
        }
        if let Some(ping) = self.speech.ping() {
            let control = self.outgoing.control();
            control.extend_from_slice(&ping.head);
            control.extend_from_slice(&ping.rest);
            self.owed.pinged(self.speech.ids().of_ping());
        }
    }
}
