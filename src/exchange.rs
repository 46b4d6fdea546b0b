//! One call on one connection: a future that starts it, waits for the answer, and takes everything back when dropped.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;

use crate::clock::now;
use crate::connection::{Connection, Tell};
use crate::error::call::{CallCause, ErrorReply, Outcome, Overload};
use crate::proto::calling::{Calling, NotTaken, Start};
use crate::proto::calls::Answer;
use crate::proto::course::Failed;

/// The future of one attempt.
///
/// # Cancel safety
/// Dropping it frees the call's place at once; a request that has not left never leaves, and the server is told to
/// stop one that has.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    connection: &'a Connection<dyn Calling>,
    start: Start<'a>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    InFlight,
    Done,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(connection: &'a Connection<dyn Calling>, start: Start<'a>) -> Self {
        Self { connection, start, state: State::New }
    }
}

impl Future for Exchange<'_> {
    type Output = Result<Answer, NotTaken>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { connection, start, state } = &mut *self;
        match state {
            State::New => {
                let now = now();
                let taken = connection.with(|client| match client.start(now, start, cx.waker()) {
                    Ok(()) => (Ok(()), Tell::Owner),
                    Err(not_taken) => (Err(not_taken), Tell::Nobody),
                });
                match taken {
                    Ok(()) => {
                        *state = State::InFlight;
                        Poll::Pending
                    }
                    Err(not_taken) => {
                        *state = State::Done;
                        Poll::Ready(Err(not_taken))
                    }
                }
            }
            State::InFlight => {
                let (answer, _waker_before) =
                    connection.with(|client| (client.poll(start.id, cx.waker()), Tell::Nobody));
                answer.map(|answer| {
                    *state = State::Done;
                    Ok(answer)
                })
            }
            // A future must not be polled after `Ready`.
            State::Done => Poll::Pending,
        }
    }
}

impl Drop for Exchange<'_> {
    fn drop(&mut self) {
        if self.state == State::InFlight {
            let _waker = self.connection.with(|client| {
                let waker = client.abandon(self.start.id);
                let tell = if waker.is_some() { Tell::Owner } else { Tell::Nobody };
                (waker, tell)
            });
        }
    }
}

/// Separates what succeeded from what did not, with outcome and cause. `limit` is the call's time-out.
pub(crate) fn result_of(answer: Answer, limit: Duration) -> Result<Answer, Failed> {
    let unless = |sent| {
        if sent { Outcome::Indeterminate } else { Outcome::NotSent }
    };
    Err(match answer {
        Answer::Reply(_) | Answer::Written => return Ok(answer),
        Answer::Error(error) if error.code() == ErrorReply::EVICTED => {
            (Outcome::Indeterminate, CallCause::Evicted)
        }
        Answer::Error(error) => (Outcome::Remote, CallCause::Remote(error)),
        Answer::Refused(refusal) => (Outcome::Refused, CallCause::Refused(refusal)),
        Answer::SentAway { goodbye, sent } => {
            let outcome = if sent { Outcome::Refused } else { Outcome::NotSent };
            (outcome, CallCause::SentAway(goodbye))
        }
        Answer::Expired { sent, stage } => {
            (unless(sent), CallCause::TimedOut { limit, stage, outage: None, full: None })
        }
        Answer::Lost { sent, loss } => (unless(sent), CallCause::Lost(loss)),
    })
}

/// The reply, of what succeeded. A notification has none.
pub(crate) fn reply_of(answer: Answer) -> Bytes {
    match answer {
        Answer::Reply(reply) => reply,
        _ => Bytes::new(),
    }
}

/// Why a connection did not take a call of so many bytes.
pub(crate) fn refused_here(not_taken: NotTaken, length: usize) -> CallCause {
    match not_taken {
        NotTaken::TooLong { limit } => CallCause::TooLong { length, limit },
        NotTaken::Full { limit } => CallCause::Overloaded(Overload::Bytes { limit }),
        NotTaken::Gone(Some(loss)) => CallCause::Lost(loss),
        NotTaken::Gone(None) => CallCause::Closed,
    }
}
