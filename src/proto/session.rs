//! What a connection's shell needs of a session, whichever end it is.
//!
//! ```text
//!   bytes, time ──► received / written / timeout / lost ──► Effects (who to wake, what happened)
//!                   transmit ──► bytes        next_deadline ──► time
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;
use std::vec;

use bytes::Bytes;

use crate::error::loss::{Loss, LossCause};
use crate::proto::input::Input;
use crate::proto::speech::Speech;

/// One end of one connection, from the end of the handshake to its one death.
pub(crate) trait Session: Send + 'static {
    /// What happens on the connection that its owner must hear of.
    type Event: Send;

    /// Who makes sense of what arrives before this session sees it, outside of its lock. `None` if it does so itself.
    fn reader(&self) -> Option<Arc<Speech>> {
        None
    }

    /// Takes what has arrived, as far as frames are whole.
    fn received(
        &mut self,
        now: Instant,
        input: &mut Input,
        effects: &mut Effects<Self::Event>,
    ) -> Result<(), LossCause>;

    /// Adds what should be written next.
    fn transmit(&mut self, now: Instant, out: &mut VecDeque<Bytes>);

    /// The operating system accepted so many bytes.
    fn written(&mut self, now: Instant, bytes: usize, effects: &mut Effects<Self::Event>);

    /// Time has passed. What had arrived by then has been read. A wake-up that was not needed does nothing.
    fn timeout(
        &mut self,
        now: Instant,
        effects: &mut Effects<Self::Event>,
    ) -> Result<(), LossCause>;

    /// Moves out bodies that are not needed any more, to be dropped where the user's code may run.
    fn take_spent(&mut self, spent: &mut Vec<Bytes>);

    /// When [`timeout`](Self::timeout) should be called, at the latest.
    fn next_deadline(&self) -> Option<Instant>;

    /// Whether more input can be held.
    fn wants_input(&self) -> bool;

    /// Nothing can be written any more, though something may still come: nothing new is taken.
    fn write_failed(&mut self);

    /// Whether something waits to be sent and more will soon, so that one write can carry it all.
    fn wants_gather(&self) -> bool;

    /// Whether nothing is left to be said: the connection can be half-closed.
    fn is_finished(&self) -> bool;

    /// Whether the socket is to be handed to somebody else now.
    fn is_leaving(&self) -> bool {
        false
    }

    /// The connection is dead; everything that depends on it is settled now.
    fn lost(&mut self, loss: &Arc<Loss>, effects: &mut Effects<Self::Event>);
}

/// What the shell does after it has let go of the lock. Kept and reused, so that it allocates nothing.
#[derive(Debug)]
pub(crate) struct Effects<E> {
    pub(crate) wake: Vec<Waker>,
    pub(crate) events: Vec<E>,
    pub(crate) spent: Vec<Bytes>,
}

/// What happened in one turn, in order.
pub(crate) type Happened<'a, E> = vec::Drain<'a, E>;

impl<E> Default for Effects<E> {
    fn default() -> Self {
        Self { wake: Vec::new(), events: Vec::new(), spent: Vec::new() }
    }
}

#[cfg(test)]
mod tests;
