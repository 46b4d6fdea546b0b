//! One connection, lent to one caller for a conversation.
//!
//! ```text
//!   check-out ──► send, receive, … ──► drop: each frame was answered by one ──► back in the pool
//!                       │                    anything is left over ───────────► closed
//!                       ├──► give_back: the caller says that it is over ──────► back in the pool
//!                       ├──► mark_broken, drop ───────────────────────────────► closed
//!                       └──► detach ──────────────────────────────────────────► the caller's own
//!                              └──► dropped before it is done ────────────────► closed
//! ```

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;

use crate::connection::Tell;
use crate::error::lease::{LeaseCause, LeaseError, Step};
use crate::panics::discard;
use crate::pool::shared::{LONGEST_CALL, Shared};
use crate::proto::foreign::Foreign;
use crate::proto::foreign::lending::{Condition, Ended};
use crate::proto::ledger::Place;
use crate::proto::lent::{Handback, Progress};
use crate::proto::session::Session as _;
use crate::proto::tenure::Retirement;
use crate::roster::link::ForeignEnd;
use crate::switchboard::Switchboard;
use crate::timer::Stopwatch;

pub(crate) mod detached;
mod stream;

/// One connection, for one caller alone: for conversations of several frames, with servers that know no call ids.
/// [`Pool::lease`](crate::Pool::lease) lends it.
///
/// When it is dropped the connection goes back to the pool if each frame that was sent was answered by exactly one that was
/// received. If anything is left over (a frame that was not written, answered or read), the next caller would meet it: the
/// connection is closed, and another is made. Where a conversation has another shape, more frames than one for an answer or
/// none, say so with [`give_back`](Self::give_back). What counting cannot see, the next caller meets: the rest of a listing of which
/// one row was received for one question, a transaction that is open on the server. Whoever leaves in the middle, be it by `?`, calls
/// [`mark_broken`](Self::mark_broken) first.
///
/// No heartbeat is sent while it is lent, because its answer would be part of the conversation; TCP keepalive and
/// `TCP_USER_TIMEOUT` go on. A lease keeps its pool alive.
///
/// It is a [`Stream`](futures::Stream) of frames and a [`Sink`](futures::Sink) for them, too.
///
/// # Examples
/// ```no_run
/// use steadfast::{LeaseError, Pool};
///
/// async fn upload(pool: &Pool, name: &str, pieces: &[&'static str]) -> Result<(), LeaseError> {
///     let mut lease = pool.lease().await?;
///     lease.send(format!("store {name}")).await?;
///     assert_eq!(lease.recv().await?, "go on");
///     for piece in pieces {
///         lease.send(*piece).await?;
///         assert_eq!(lease.recv().await?, "got it");
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Lease {
    pool: Arc<Shared>,
    foreign: Arc<ForeignEnd>,
    place: Place,
    number: u64,
    limit: Duration,
    handback: Handback,
    reading: Stopwatch,
    /// Apart from reading, because two tasks can share the two halves of a stream and sink.
    writing: Stopwatch,
    /// The stream has told of its error.
    is_over: bool,
}

/// Which way a step goes.
#[derive(Debug, Clone, Copy)]
enum Way {
    In,
    Out,
}

impl Lease {
    pub(crate) fn new(
        pool: Arc<Shared>,
        foreign: Arc<ForeignEnd>,
        place: Place,
        number: u64,
        limit: Duration,
    ) -> Self {
        let (reading, writing) = (Stopwatch::default(), Stopwatch::default());
        let (handback, is_over) = (Handback::Dropped, false);
        Self { pool, foreign, place, number, limit, handback, reading, writing, is_over }
    }

    /// Sends a frame; returns when the operating system has accepted all of it.
    ///
    /// # Errors
    /// [`LeaseError`]; its [`sent`](LeaseError::sent) tells whether the frame left.
    ///
    /// # Cancel safety
    /// Dropping the future may or may not prevent the frame. It counts as sent.
    pub async fn send(&mut self, frame: impl Into<Bytes>) -> Result<(), LeaseError> {
        let frame = frame.into();
        self.writing.reset();
        poll_fn(|cx| self.poll_room(cx)).await?;
        self.queue(frame)?;
        poll_fn(|cx| self.poll_flushed(cx)).await
    }

    /// The next frame.
    ///
    /// # Errors
    /// [`LeaseError`]. What arrived before the connection died is received first.
    ///
    /// # Cancel safety
    /// No frame is lost when the future is dropped.
    pub async fn recv(&mut self) -> Result<Bytes, LeaseError> {
        self.reading.reset();
        poll_fn(|cx| self.poll_frame(cx)).await
    }

    /// The time for each of the steps that follow. At first that of the [request](crate::LeaseRequest::timeout). More than
    /// 24 h counts as 24 h. [`send`](Self::send) takes two of them if it must wait both for frames before it to leave, so that
    /// there is room ([`Limits::queued_bytes`](crate::Limits::queued_bytes)), and for its own.
    ///
    /// Too little: a slow answer ends the conversation. Too much: a server that hangs is found out late.
    pub fn set_timeout(&mut self, limit: Duration) {
        self.limit = limit.min(LONGEST_CALL);
    }

    /// Which of the pool's connections this is, counted from 1.
    pub fn connection(&self) -> u64 {
        self.number
    }

    /// The conversation went wrong in a way that only its caller can see: the connection will not be used again.
    pub fn mark_broken(&mut self) {
        self.handback = Handback::Broken;
    }

    /// The conversation is over, though not each frame was answered by one: nothing more will come. The connection goes back
    /// to the pool, unless a frame was not read or not written, or [`mark_broken`](Self::mark_broken) was called.
    pub fn give_back(mut self) {
        if self.handback == Handback::Dropped {
            self.handback = Handback::GivenBack;
        }
    }

    fn queue(&mut self, frame: Bytes) -> Result<(), LeaseError> {
        let spoken = match self.foreign.speech.plain(frame) {
            Ok(spoken) => spoken,
            Err(error) => {
                let step = self.sending();
                return Err(self.error(step, LeaseCause::Unsendable(error)));
            }
        };
        let queued = self.with(|session| (session.send(&spoken), Tell::Owner));
        queued.map_err(|ended| self.failed(self.sending(), ended))
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LeaseError>> {
        let polled = self.poll_session(cx, Foreign::poll_room);
        self.step(cx, Way::Out, Self::sending, polled)
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LeaseError>> {
        let polled = self.poll_session(cx, Foreign::poll_flushed);
        self.step(cx, Way::Out, Self::flushing, polled)
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, LeaseError>> {
        let polled = self.poll_session(cx, Foreign::poll_frame);
        self.step(cx, Way::In, Self::receiving, polled)
    }

    fn poll_session<T>(
        &self,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut Foreign, &Waker) -> (Poll<Result<T, Ended>>, Option<Waker>),
    ) -> Poll<Result<T, Ended>> {
        let (polled, _waker_before) = self.with(|session| {
            let wanted_input = session.wants_input();
            let polled = poll(session, cx.waker());
            let reopened = session.wants_input() && !wanted_input;
            (polled, if reopened { Tell::Owner } else { Tell::Nobody })
        });
        polled
    }

    /// Ends a step that has come to its end, or to that of its time.
    fn step<T>(
        &mut self,
        cx: &mut Context<'_>,
        way: Way,
        step: impl FnOnce(&Self) -> Step,
        polled: Poll<Result<T, Ended>>,
    ) -> Poll<Result<T, LeaseError>> {
        let watch = match way {
            Way::In => &mut self.reading,
            Way::Out => &mut self.writing,
        };
        match polled {
            Poll::Ready(Ok(done)) => {
                watch.reset();
                Poll::Ready(Ok(done))
            }
            Poll::Ready(Err(ended)) => Poll::Ready(Err(self.failed(step(self), ended))),
            Poll::Pending if watch.poll_over(cx, self.limit) => {
                let cause = LeaseCause::TimedOut { limit: self.limit, scarcity: None };
                Poll::Ready(Err(self.error(step(self), cause)))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// The next frame to be sent.
    fn sending(&self) -> Step {
        Step::Send { frame: self.progress().queued + 1 }
    }

    /// The last frame that is being sent.
    fn flushing(&self) -> Step {
        Step::Send { frame: self.progress().queued }
    }

    fn receiving(&self) -> Step {
        Step::Receive { frame: self.progress().received + 1 }
    }

    fn progress(&self) -> Progress {
        self.with(|session| (session.progress(), Tell::Nobody))
    }

    fn failed(&self, step: Step, ended: Ended) -> LeaseError {
        let cause = match ended {
            Ended::Lost(loss) => LeaseCause::Lost(loss),
            Ended::Over => LeaseCause::Closed,
        };
        self.error(step, cause)
    }

    fn error(&self, step: Step, cause: LeaseCause) -> LeaseError {
        let Progress { sent, received, .. } = self.progress();
        LeaseError::new(step, cause, (sent, received), self.pool.board.endpoint().clone())
    }

    fn with<R>(&self, turn: impl FnOnce(&mut Foreign) -> (R, Tell)) -> R {
        self.foreign.connection.with(turn)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let handback = self.handback;
        let (condition, spent) = self.with(|session| (session.end(handback), Tell::Nobody));
        // A socket that was left to it, and that nobody has taken.
        drop(self.foreign.connection.take_parcel());
        hand_in(&self.pool.board, &self.foreign, self.place, condition);
        if let Some(mut lent) = spent {
            lent.take_wakers().for_each(discard);
        }
    }
}

/// Gives a connection back in this condition.
pub(super) fn hand_in(
    board: &Switchboard,
    foreign: &ForeignEnd,
    place: Place,
    condition: Condition,
) {
    match condition {
        Condition::Clean => {}
        Condition::Dead => board.distrust(place),
        Condition::Spoiled => spoil(board, foreign, place, Retirement::Lease),
        Condition::Unlendable => spoil(board, foreign, place, Retirement::Unlendable),
    }
    board.release(place);
}

fn spoil(board: &Switchboard, foreign: &ForeignEnd, place: Place, why: Retirement) {
    board.spoil(place, why);
    // After that, so that its channel knows why it ends.
    foreign.connection.with(|_| ((), Tell::Owner));
}
