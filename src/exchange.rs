//! One call on one connection: a future that starts it, waits for the answer, and takes everything back when dropped.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::clock::now;
use crate::connection::{Connection, Tell};
use crate::error::answer::ErrorReply;
use crate::error::call::{CallCause, Outcome, Overload};
use crate::error::unsendable::{Unframeable, Unsendable};
use crate::issued::Held;
use crate::proto::calling::{Calling, Kind, NotTaken, Start};
use crate::proto::calls::{Answer, Vacancy};
use crate::proto::course::Failed;
use crate::proto::speech::Speech;

/// The future of one attempt.
///
/// # Cancel safety
/// Dropping it frees the call's place at once; a request that has not left never leaves, and the server is told to
/// stop one that has. Where the protocol cannot say that, the place is free when the answer has come.
#[derive(Debug)]
pub(crate) struct Exchange<'a, 'p> {
    connection: &'a Connection<dyn Calling>,
    /// How the frame is made, where the protocol is a foreign one.
    speech: Option<&'a Speech>,
    /// When it was made, which is soon before it is polled.
    now: Instant,
    start: Start<'a>,
    held: Option<&'a mut Held<'p>>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    InFlight,
    Done,
}

impl<'a, 'p> Exchange<'a, 'p> {
    pub(crate) fn new(
        connection: &'a Connection<dyn Calling>,
        speech: Option<&'a Speech>,
        now: Instant,
        start: Start<'a>,
        held: Option<&'a mut Held<'p>>,
    ) -> Self {
        Self { connection, speech, now, start, held, state: State::New }
    }

    fn start(&mut self, waker: &Waker) -> Result<(), NotTaken> {
        let (now, connection) = (self.now, self.connection);
        let hand_over = |start: &Start<'_>| {
            connection.with(|calling| match calling.start(now, start, waker) {
                Ok(()) => (Ok(()), Tell::Owner),
                Err(not_taken) => (Err(not_taken), Tell::Nobody),
            })
        };
        let Some(speech) = self.speech else {
            return hand_over(&self.start);
        };
        loop {
            let name = speech.ids().name();
            self.start.id = name.0;
            let spoken = match self.start.kind {
                Kind::Notification => speech.notification(self.start.body.clone()),
                Kind::Request { .. } => speech.request(name, self.start.body.clone()),
            };
            let spoken = spoken.map_err(NotTaken::Unsendable)?;
            match hand_over(&Start { head: &spoken.head, body: &spoken.rest, ..self.start }) {
                Err(NotTaken::IdTaken) => {}
                result => return result,
            }
        }
    }

    fn settled(&mut self, answer: Answer) -> Answer {
        self.state = State::Done;
        if let Answer::Expired { vacancy, .. } = &answer {
            self.leave_place(*vacancy);
        }
        answer
    }

    fn leave_place(&mut self, vacancy: Vacancy) {
        if let (Vacancy::Later, Some(held)) = (vacancy, &mut self.held) {
            held.leave_to_connection();
        }
    }
}

impl Future for Exchange<'_, '_> {
    type Output = Result<Answer, NotTaken>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.state {
            State::New => match self.start(cx.waker()) {
                Ok(()) => {
                    self.state = State::InFlight;
                    Poll::Pending
                }
                Err(not_taken) => {
                    self.state = State::Done;
                    Poll::Ready(Err(not_taken))
                }
            },
            State::InFlight => {
                let id = self.start.id;
                let (answer, _waker_before) =
                    self.connection.with(|calling| (calling.poll(id, cx.waker()), Tell::Nobody));
                answer.map(|answer| Ok(self.settled(answer)))
            }
            // A future must not be polled after `Ready`.
            State::Done => Poll::Pending,
        }
    }
}

impl Drop for Exchange<'_, '_> {
    fn drop(&mut self) {
        if self.state != State::InFlight {
            return;
        }
        let now = now();
        let left = self.connection.with(|calling| {
            let left = calling.leave(now, self.start.id);
            let tell = if left.waker.is_some() { Tell::Owner } else { Tell::Nobody };
            (left, tell)
        });
        self.leave_place(left.vacancy);
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
        Answer::Expired { sent, stage, .. } => {
            (unless(sent), CallCause::TimedOut { limit, stage, scarcity: None })
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
        NotTaken::NoId { limit } => CallCause::Overloaded(Overload::Ids { limit }),
        NotTaken::Unsendable(Unsendable::Unframeable(Unframeable::TooLong { length, limit })) => {
            CallCause::TooLong { length: length as usize, limit: limit as usize }
        }
        NotTaken::Unsendable(unsendable) => CallCause::Unsendable(unsendable),
        NotTaken::Gone(Some(loss)) => CallCause::Lost(loss),
        // The latter is not reached: then another name was taken.
        NotTaken::Gone(None) | NotTaken::IdTaken => CallCause::Draining,
    }
}
