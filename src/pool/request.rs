//! One call from the caller's side: deadline, attempts, and the error that tells what became of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::{sleep, timeout_at};

use crate::clock::now;
use crate::conversation::{failure, refused_here};
use crate::error::call::{CallCause, CallError, Outcome, Refusal, Stage};
use crate::exchange::Exchange;
use crate::placing::Placing;
use crate::policy::Retry;
use crate::pool::shared::Shared;
use crate::proto::calls::Answer;
use crate::proto::client::{Kind, NotTaken, Start};
use crate::proto::ledger::Place;
use crate::proto::retry::{Attempts, Failure, Next};
use crate::switchboard::{NoPlace, Switchboard, Taken, Wish};

/// A request that has not been sent yet. Made by [`Pool::request`](crate::Pool::request).
#[derive(Debug)]
#[must_use = "nothing is sent before `send`"]
pub struct Request<'a> {
    pool: &'a Shared,
    body: Bytes,
    limit: Duration,
    retry: Retry,
    idempotent: bool,
    fail_fast: bool,
}

impl<'a> Request<'a> {
    pub(crate) fn new(pool: &'a Shared, body: Bytes) -> Self {
        let (limit, retry) = (pool.call_timeout, pool.retry);
        Self { pool, body, limit, retry, idempotent: false, fail_fast: false }
    }

    /// Running it twice is harmless. Then it is tried again, within the [`Retry`] policy and its budget, also when it may
    /// have run. A call that has to be safe although it is not harmless can carry a key of yours in its body, under which
    /// the server remembers what it has done.
    pub fn idempotent(self) -> Self {
        Self { idempotent: true, ..self }
    }

    /// The time for everything: waiting for a connection, sending, waiting for the reply, over all attempts.
    /// Default: the pool's [`call_timeout`](crate::Builder::call_timeout). More than 24 h counts as 24 h.
    pub fn timeout(self, limit: Duration) -> Self {
        Self { limit: limit.min(Duration::from_secs(24 * 3600)), ..self }
    }

    /// Fails at once, with the outage as its cause, if no connection is ready, instead of waiting for one.
    pub fn fail_fast(self) -> Self {
        Self { fail_fast: true, ..self }
    }

    /// Another retry policy than the pool's, for this request. Its budget stays the pool's.
    ///
    /// # Panics
    /// If the policy is out of its documented range.
    pub fn retry(self, retry: Retry) -> Self {
        if let Err(error) = retry.check() {
            panic!("{error}");
        }
        Self { retry, ..self }
    }

    /// Sends it and waits for the reply.
    ///
    /// # Errors
    /// [`CallError`] says whether the request may have run.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call: a request that has not left never leaves; otherwise the server is told
    /// that nobody waits any more.
    pub async fn send(self) -> Result<Bytes, CallError> {
        match self.run(true).await? {
            Answer::Reply(reply) => Ok(reply),
            // A request is settled by a reply or by a failure.
            _ => Ok(Bytes::new()),
        }
    }

    /// Sends it as a notification; see [`Pool::notify`](crate::Pool::notify).
    ///
    /// # Errors
    /// As [`Pool::notify`](crate::Pool::notify).
    ///
    /// # Cancel safety
    /// Dropping the future may or may not prevent the message.
    pub async fn notify(self) -> Result<(), CallError> {
        self.run(false).await.map(drop)
    }

    async fn run(self, answered: bool) -> Result<Answer, CallError> {
        let started = now();
        let mut call = Call {
            board: &self.pool.board,
            deadline: started + self.limit,
            limit: self.limit,
            idempotent: self.idempotent,
            issued: None,
            place: None,
            avoid: None,
            sent_before: false,
            tries: 0,
        };
        let mut attempts = Attempts::new(self.retry);
        let (stopped, failed) = loop {
            let failed = match call.attempt(&self.body, self.fail_fast, answered).await {
                Ok(answer) => {
                    call.succeeded();
                    return Ok(answer);
                }
                Err(failed) => failed,
            };
            let now = now();
            let class = self.classify(&failed, call.avoid, answered);
            let next = self.pool.board.with_budget(|budget| {
                attempts.next(now, call.deadline, class, budget, self.pool.seed())
            });
            match next {
                Next::Stop(stopped) => break (stopped, failed),
                Next::Again { after } if after.is_zero() => {}
                Next::Again { after } => sleep(after).await,
            }
        };
        let (outcome, cause) = failed;
        // An earlier attempt may have run, whatever became of the last.
        let failed = match outcome {
            Outcome::NotSent | Outcome::Refused if call.sent_before => {
                (Outcome::Indeterminate, cause)
            }
            _ => (outcome, cause),
        };
        let elapsed = now().saturating_duration_since(started);
        let endpoint = self.pool.board.endpoint().clone();
        Err(CallError::new(failed, stopped, call.tries, elapsed, endpoint))
    }

    /// What a failed attempt on the slot `at` means for the next one.
    fn classify(
        &self,
        (outcome, cause): &(Outcome, CallCause),
        at: Option<usize>,
        answered: bool,
    ) -> Failure {
        match (outcome, cause) {
            (_, CallCause::TimedOut { .. }) => Failure::Expired,
            (Outcome::NotSent, CallCause::Lost(_) | CallCause::SentAway(_)) => Failure::NotSent,
            // The next connection, whichever it is, is another one.
            (Outcome::Refused, CallCause::SentAway(goodbye)) => {
                Failure::Refused { retry_after: goodbye.retry_after, elsewhere: true }
            }
            (Outcome::Refused, CallCause::Refused(refusal)) => match refusal.code {
                Refusal::EXPIRED | Refusal::UNKNOWN | Refusal::TOO_LONG => Failure::Final,
                _ => {
                    let elsewhere = self.pool.board.has_room_beside(at);
                    Failure::Refused { retry_after: refusal.retry_after, elsewhere }
                }
            },
            (Outcome::Indeterminate, CallCause::Lost(_)) => {
                Failure::Indeterminate { idempotent: self.idempotent && answered }
            }
            _ => Failure::Final,
        }
    }
}

/// A call under way. Whatever it holds is given back when it is dropped.
struct Call<'a> {
    board: &'a Arc<Switchboard>,
    deadline: Instant,
    limit: Duration,
    idempotent: bool,
    issued: Option<Issued>,
    place: Option<Place>,
    /// The slot that refused it last.
    avoid: Option<usize>,
    sent_before: bool,
    tries: u32,
}

#[derive(Clone, Copy)]
struct Issued {
    id: u64,
    oldest: u64,
}

impl Call<'_> {
    /// One attempt on one connection.
    async fn attempt(
        &mut self,
        body: &Bytes,
        fail_fast: bool,
        answered: bool,
    ) -> Result<Answer, (Outcome, CallCause)> {
        if body.len() > self.board.longest {
            let (length, limit) = (body.len(), self.board.longest);
            return Err((Outcome::NotSent, CallCause::TooLong { length, limit }));
        }
        loop {
            let wish = Wish { bytes: body.len(), fail_fast, avoid: self.avoid };
            let Taken { place, connection } = self.find_place(wish).await?;
            self.place = Some(place);
            let Issued { id, oldest } = self.issue();
            let kind = match answered {
                true => Kind::Request { repeatable: self.idempotent, resent: self.sent_before },
                false => Kind::Notification,
            };
            let start = Start { id, kind, body, deadline: self.deadline, oldest };
            let result = Exchange::new(&connection, start).await;
            match result {
                Ok(answer) => {
                    self.tries += 1;
                    let result = failure(answer, self.limit);
                    self.sent_before |= matches!(result, Err((Outcome::Indeterminate, _)));
                    self.avoid = result.is_err().then_some(place.slot);
                    self.give_back();
                    return result;
                }
                Err(NotTaken::Gone(_)) => {
                    self.board.distrust(place);
                    self.give_back();
                }
                Err(not_taken) => {
                    return Err((Outcome::NotSent, refused_here(not_taken, body.len())));
                }
            }
        }
    }

    async fn find_place(&mut self, wish: Wish) -> Result<Taken, (Outcome, CallCause)> {
        let not_sent = |no_place: NoPlace| (Outcome::NotSent, CallCause::from(no_place));
        // Mostly there is one, and no timer is needed.
        if let Some(taken) = self.board.try_place(wish).map_err(not_sent)? {
            return Ok(taken);
        }
        match timeout_at(self.deadline.into(), Placing::new(self.board, wish)).await {
            Ok(result) => result.map_err(not_sent),
            Err(_) => {
                let outage = self.board.outage();
                let (limit, stage) = (self.limit, Stage::Connection);
                Err((Outcome::NotSent, CallCause::TimedOut { limit, stage, outage }))
            }
        }
    }

    fn issue(&mut self) -> Issued {
        *self.issued.get_or_insert_with(|| {
            let (id, oldest) = self.board.issue();
            Issued { id, oldest }
        })
    }

    fn give_back(&mut self) {
        if let Some(place) = self.place.take() {
            self.board.release(place);
        }
    }

    fn succeeded(&mut self) {
        if let Some(Issued { id, .. }) = self.issued.take() {
            self.board.finish(id, true);
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.give_back();
        if let Some(Issued { id, .. }) = self.issued.take() {
            self.board.finish(id, false);
        }
    }
}
