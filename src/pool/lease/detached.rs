//! A lease that takes its connection's socket with it, out of the pool.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::{Lease, Way};
use crate::connection::Tell;
use crate::error::lease::{LeaseError, Step};
use crate::proto::foreign::Foreign;
use crate::transport::Transport;

/// A socket that was taken out of its pool.
pub struct Detached {
    /// The socket.
    pub transport: Box<dyn Transport>,
    /// Frames that had arrived and were not received.
    pub frames: Vec<Bytes>,
    /// What had arrived behind those and is no whole frame yet. Whatever cannot be a frame breaks the connection as long as
    /// it is lent: the other end must not speak otherwise before it is detached.
    pub bytes: BytesMut,
}

impl fmt::Debug for Detached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Detached").finish_non_exhaustive()
    }
}

impl Lease {
    /// Takes the socket out of the pool, for another use, when all frames are written. The pool makes another connection. It begins
    /// with this call, not when the future is first polled.
    ///
    /// # Errors
    /// [`LeaseError`], if the connection has died, or does not take what was sent within the time of a step.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket, also before it was polled.
    pub fn detach(mut self) -> impl Future<Output = Result<Detached, LeaseError>> + Send + use<> {
        // No `async fn`: dropped before it is polled, it would give the connection back.
        self.reading.reset();
        let departed = self.with(|session| (session.depart(), Tell::Owner));
        async move {
            departed.map_err(|ended| self.failed(Step::Detach, ended))?;
            poll_fn(|cx| self.poll_parcel(cx)).await
        }
    }

    fn poll_parcel(&mut self, cx: &mut Context<'_>) -> Poll<Result<Detached, LeaseError>> {
        let polled: Poll<Result<Infallible, _>> = self.poll_session(cx, Foreign::poll_gone);
        // It is there before the session hears that the connection has ended.
        if let Some(parcel) = self.foreign.connection.take_parcel() {
            let frames = self.with(|session| (session.take_arrived(), Tell::Nobody));
            let (transport, bytes) = (parcel.transport, parcel.bytes);
            return Poll::Ready(Ok(Detached { transport, frames: frames.into(), bytes }));
        }
        let ended = self.step(cx, Way::In, |_| Step::Detach, polled);
        ended.map_ok(|never| match never {})
    }
}
