//! A foreign connection as a lease uses it: frames as they are, for one caller alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Poll, Waker};

use bytes::Bytes;

use super::{Foreign, Next, State};
use crate::error::loss::Loss;
use crate::proto::lent::{Handback, Lent, Progress};
use crate::proto::speech::{Addressee, Spoken};

/// Why a lease's frame was not taken.
#[derive(Debug, Clone)]
pub(crate) enum Ended {
    /// The connection is dead.
    Lost(Arc<Loss>),
    /// It is not lent any more.
    Over,
}

/// Whether a connection can be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Clean,
    /// It is being closed.
    Spoiled,
    /// It is being closed, for what was outstanding on it before anybody had it alone.
    Unlendable,
    /// It has died, or takes nothing new any more: its channel knows why.
    Dead,
}

impl Foreign {
    /// Lends the connection to one who is alone on it. If something is outstanding that could come into the conversation, the
    /// connection is given up instead.
    pub(crate) fn lend(&mut self) -> Result<(), Condition> {
        self.check_open().map_err(|_| Condition::Dead)?;
        let is_unused = !self.leases.is_lent() && self.calls.waiting() == 0;
        if !is_unused || self.next != Next::Nothing || self.owed.taken() > 0 {
            self.spoil();
            return Err(Condition::Unlendable);
        }
        let number = self.leases.lend(self.pulse.heard_at() + self.pulse.every());
        self.speech.address(match self.owed.is_pinged() {
            true => Addressee::PongThenLease(number),
            false => Addressee::Lease(number),
        });
        Ok(())
    }

    /// Whatever still comes is nobody's, and what has not left never leaves.
    fn spoil(&mut self) {
        self.state = State::Spoiled;
        self.outgoing.discard();
        self.speech.address(Addressee::Nobody);
    }

    /// Whether there is room for another frame. Also returns a waker to be dropped after the lock is released.
    pub(crate) fn poll_room(&mut self, waker: &Waker) -> (Poll<Result<(), Ended>>, Option<Waker>) {
        let has_room = self.outgoing.queued_bytes() < self.bounds.queued_bytes;
        match self.lent_open() {
            Err(ended) => (Poll::Ready(Err(ended)), None),
            Ok(_) if has_room => (Poll::Ready(Ok(())), None),
            Ok(lent) => lent.await_writing(waker),
        }
    }

    /// Queues a frame.
    pub(crate) fn send(&mut self, spoken: &Spoken) -> Result<(), Ended> {
        self.lent_open()?;
        let name = self.speech.ids().name();
        let mark = self.outgoing.foreign_frame(name.0, &spoken.head, &spoken.rest);
        self.lent_open()?.queued(name, mark);
        Ok(())
    }

    /// Whether the operating system has accepted all frames. Also returns a waker to be dropped after the lock is released.
    pub(crate) fn poll_flushed(
        &mut self,
        waker: &Waker,
    ) -> (Poll<Result<(), Ended>>, Option<Waker>) {
        match &mut self.leases.lent {
            Some(lent) if lent.is_flushed() => (Poll::Ready(Ok(())), None),
            _ => match self.lent_open() {
                Ok(lent) => lent.await_writing(waker),
                Err(ended) => (Poll::Ready(Err(ended)), None),
            },
        }
    }

    /// The next frame: what had arrived before the connection died is not lost with it. Also returns a waker to be dropped
    /// after the lock is released.
    pub(crate) fn poll_frame(
        &mut self,
        waker: &Waker,
    ) -> (Poll<Result<Bytes, Ended>>, Option<Waker>) {
        match self.leases.lent.as_mut().and_then(Lent::take) {
            Some(frame) => (Poll::Ready(Ok(frame)), None),
            None => self.poll_gone(waker),
        }
    }

    /// Whether the connection is gone: it is never `Ok`. A frame wakes, too. Also returns a waker to be dropped after the lock
    /// is released.
    pub(crate) fn poll_gone<T>(
        &mut self,
        waker: &Waker,
    ) -> (Poll<Result<T, Ended>>, Option<Waker>) {
        match (&self.state, &mut self.leases.lent) {
            (State::Dead(loss), _) => (Poll::Ready(Err(Ended::Lost(loss.clone()))), None),
            (_, Some(lent)) => lent.await_frame(waker),
            (_, None) => (Poll::Ready(Err(Ended::Over)), None),
        }
    }

    /// How far the conversation has come.
    pub(crate) fn progress(&self) -> Progress {
        self.leases
            .lent
            .as_ref()
            .map_or(Progress { queued: 0, sent: 0, received: 0 }, Lent::progress)
    }

    /// The conversation is at its end. What it leaves behind decides whether the connection is used again. Its wakers are in what
    /// is also returned, to be dropped after the lock is released.
    pub(crate) fn end(&mut self, handback: Handback) -> (Condition, Option<Lent>) {
        let lent = self.leases.lent.take();
        let is_over = lent.as_ref().is_some_and(|lent| lent.is_over(handback));
        (self.condition(is_over), lent)
    }

    fn condition(&mut self, is_over: bool) -> Condition {
        if let State::Dead(_) = self.state {
            return Condition::Dead;
        }
        if matches!(self.state, State::Open) && self.next == Next::Nothing && is_over {
            self.speech.address(Addressee::Calls);
            return Condition::Clean;
        }
        self.spoil();
        Condition::Spoiled
    }

    /// The lease takes the socket with it, as soon as all its frames are written.
    pub(crate) fn depart(&mut self) -> Result<(), Ended> {
        self.lent_open()?;
        self.state = State::Leaving;
        Ok(())
    }

    /// Frames that have arrived and were not taken.
    pub(crate) fn take_arrived(&mut self) -> VecDeque<Bytes> {
        self.leases.lent.as_mut().map(Lent::take_all).unwrap_or_default()
    }

    fn lent_open(&mut self) -> Result<&mut Lent, Ended> {
        match (&self.state, &mut self.leases.lent) {
            (State::Dead(loss), _) => Err(Ended::Lost(loss.clone())),
            (State::Leaving, _) | (_, None) => Err(Ended::Over),
            (_, Some(lent)) => Ok(lent),
        }
    }
}

#[cfg(test)]
mod tests;
