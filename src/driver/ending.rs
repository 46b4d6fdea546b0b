//! How a driver's connection ends: everything that depends on it is settled once, and the loss says why.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Driver, Phase};
use crate::autopsy::{Death, Ending};
use crate::clock::now;
use crate::connection::{Parcel, Tell};
use crate::error::loss::{Loss, LossCause};
use crate::proto::session::{Happened, Session};

impl<S: Session + ?Sized> Driver<S> {
    /// Settles the session and says goodbye to the peer.
    pub(super) fn part(
        &mut self,
        now: Instant,
        cause: LossCause,
        linger: Duration,
        event: &mut impl FnMut(Happened<'_, S::Event>),
    ) {
        let fin_sent = matches!(self.phase, Phase::WriteFailed { .. });
        // Behind half a frame nothing can be said, and what has not been sent must not be, once it is settled.
        let between_frames = self.output.pieces.is_empty();
        self.output.withdraw();
        if between_frames && !fin_sent {
            let output = &mut self.output.pieces;
            self.connection.with(|session| (session.transmit(now, output), Tell::Nobody));
        }
        let loss = self.settle(now, Death::merge(None, Ending::Verdict(cause)), event);
        self.phase = Phase::Parting { loss, until: now + linger, fin_sent };
    }

    /// The connection is at its end, and, unless it parted from its peer before, settled now.
    pub(super) fn end(
        &mut self,
        now: Instant,
        ending: Ending,
        event: &mut impl FnMut(Happened<'_, S::Event>),
    ) -> Arc<Loss> {
        let write = match &self.phase {
            Phase::Parting { loss, .. } => return loss.clone(),
            Phase::Open => None,
            Phase::WriteFailed { error, .. } => Some(error),
        };
        self.settle(now, Death::merge(write, ending), event)
    }

    /// Ends it after a panic in [`run`](Self::run): mostly in code of the user's, as the drop of a body that has left.
    pub(crate) fn panicked(&mut self, event: &mut impl FnMut(Happened<'_, S::Event>)) -> Arc<Loss> {
        let error = std::io::Error::other("what owned the connection panicked");
        self.end(now(), Ending::Failed(error.into()), event)
    }

    /// Leaves the socket to somebody else, and ends.
    pub(super) fn leave(
        &mut self,
        now: Instant,
        event: &mut impl FnMut(Happened<'_, S::Event>),
    ) -> Arc<Loss> {
        let transport = std::mem::replace(&mut self.transport, Box::new(tokio::io::empty()));
        let bytes = std::mem::take(&mut self.input.arrived.bytes);
        self.connection.leave_parcel(Parcel { transport, bytes });
        self.end(now, Ending::Verdict(LossCause::Detached), event)
    }

    /// Settles everything that depends on the connection.
    fn settle(
        &mut self,
        now: Instant,
        death: Death,
        event: &mut impl FnMut(Happened<'_, S::Event>),
    ) -> Arc<Loss> {
        // While the socket is open. Who closes on purpose does not ask.
        let tcp = match death.cause {
            LossCause::ClosedHere | LossCause::Detached => None,
            _ => (*self.transport).tcp_info(),
        };
        let loss = Arc::new(death.report(now, &self.about, &self.meter, tcp));
        let (accepted, effects) = (self.output.take_accepted(), &mut self.effects);
        self.connection.with(|session| {
            if accepted > 0 {
                session.written(now, accepted, effects);
            }
            session.lost(&loss, effects);
            session.take_spent(&mut effects.spent);
            ((), Tell::Nobody)
        });
        self.deliver(event);
        loss
    }
}

impl<S: Session + ?Sized> Drop for Driver<S> {
    /// Whoever still waits is told, even if the task is dropped half-way.
    fn drop(&mut self) {
        if !matches!(self.phase, Phase::Parting { .. }) {
            let death = Death::merge(None, Ending::Verdict(LossCause::ClosedHere));
            self.settle(now(), death, &mut |_| {});
        }
        self.output.withdraw();
    }
}
