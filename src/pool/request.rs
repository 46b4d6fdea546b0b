//! A request as the caller makes it, and its attempts until it is settled.

use std::borrow::Cow;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use crate::clock;
use crate::dormant::Dormant;
use crate::error::call::{CallCause, CallError, Outcome, Stopped};
use crate::error::config::ConfigError;
use crate::exchange::reply_of;
use crate::policy::Retry;
use crate::pool::attempt::Ongoing;
use crate::pool::shared::{LONGEST_CALL, Shared};
use crate::proto::calls::Answer;
use crate::proto::course::{Failed, Form};
use crate::proto::retry::{Attempts, Failure, Next, classify};
use crate::roster::wish::Patience;

/// A request that has not been sent yet. Made by [`Pool::request`](crate::Pool::request).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use steadfast::{Outcome, Pool};
///
/// async fn order(pool: &Pool) {
///     let request = pool.request("3 apples").timeout(Duration::from_millis(500)).fail_fast();
///     match request.send().await.map_err(|error| (error.outcome(), error)) {
///         Ok(receipt) => println!("ordered: {receipt:?}"),
///         Err((Outcome::NotSent | Outcome::Refused, error)) => println!("not ordered: {error}"),
///         Err((Outcome::Remote, error)) => println!("the shop says: {error}"),
///         Err((Outcome::Indeterminate, error)) => println!("ask before ordering again: {error}"),
///     }
/// }
/// ```
#[derive(Debug)]
#[must_use = "nothing is sent before `send`"]
pub struct Request<'a> {
    pool: &'a Shared,
    body: Bytes,
    limit: Duration,
    /// The pool's, or its own.
    retry: Cow<'a, Retry>,
    idempotent: bool,
    patience: Patience,
}

impl<'a> Request<'a> {
    pub(crate) fn new(pool: &'a Shared, body: Bytes) -> Self {
        let (limit, retry) = (pool.call_timeout, Cow::Borrowed(&pool.retry));
        Self { pool, body, limit, retry, idempotent: false, patience: Patience::Wait }
    }

    /// Running it twice is harmless; by default it is taken not to be. Then it is tried again, within the [`Retry`] policy
    /// and its budget, also when it may have run.
    ///
    /// Two copies of it may run **at the same time**, on the same server: the first one may still be at work when its connection
    /// dies. A call that changes something is not made harmless by a key in its body that the server looks up, works, and then
    /// writes down; the key must be written in the same transaction as the effect, or before the work begins, where a second
    /// copy finds it. A call that is not marked needs nothing of this as long as the server process lives: the server's
    /// [`ReplyCache`](crate::ReplyCache) joins the copy to the call that runs.
    pub fn idempotent(self) -> Self {
        Self { idempotent: true, ..self }
    }

    /// The time for everything: waiting for a connection, sending, waiting for the reply, over all attempts.
    /// Default: the pool's [`call_timeout`](crate::PoolBuilder::call_timeout), which says what too little and too much do.
    /// More than 24 h counts as 24 h; 0 is over at once.
    pub fn timeout(self, limit: Duration) -> Self {
        Self { limit: limit.min(LONGEST_CALL), ..self }
    }

    /// Fails at once, with the outage as its cause, if no connection is ready. By default it waits for one. Where one is ready and
    /// has no room it waits for its turn all the same: bound that with [`timeout`](Self::timeout).
    ///
    /// Where none is kept ([`Connections`](crate::Connections) of 0 at least), that none was needed so far is no outage: it
    /// waits for the attempt that is made for it, and fails when that has failed.
    pub fn fail_fast(self) -> Self {
        Self { patience: Patience::FailFast, ..self }
    }

    /// Another retry policy than the pool's, for this request. Its budget stays the pool's. A policy that is out of its
    /// documented range makes [`send`](Self::send) fail, with [`CallCause::Config`] and nothing sent.
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry: Cow::Owned(retry), ..self }
    }

    /// Sends it and waits for the reply.
    ///
    /// # Errors
    /// [`CallError`] says whether the request may have run.
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call: a request that has not left never leaves; otherwise the server is told
    /// that nobody waits any more.
    // No `async fn`, which would keep what it takes by value twice, in a future that each caller has.
    pub fn send(self) -> impl Future<Output = Result<Bytes, CallError>> + Send + use<'a> {
        let form = match self.idempotent || self.retry.idempotent {
            true => Form::Repeatable,
            false => Form::Once,
        };
        async move { self.run(form).await.map(reply_of) }
    }

    /// Sends it as a notification; see [`Pool::notify`](crate::Pool::notify).
    ///
    /// # Errors
    /// As [`Pool::notify`](crate::Pool::notify).
    ///
    /// # Cancel safety
    /// Dropping the future may or may not prevent the message.
    pub async fn notify(self) -> Result<(), CallError> {
        self.run(Form::Notification).await.map(drop)
    }

    async fn run(&self, form: Form) -> Result<Answer, CallError> {
        let started = clock::now();
        let mut call = Ongoing::new(&self.pool.board, form, self.patience, started, self.limit);
        if let Err(error) = self.check() {
            let failed = (Outcome::NotSent, CallCause::Config(error));
            return Err(self.error(failed, Stopped::Final, &call));
        }
        match call.attempt(started, &self.body).await {
            Ok(answer) => Ok(answer),
            // On the heap, so that the future of a call that succeeds at once, as most do, is small.
            Err(failed) => Box::pin(self.try_again(call, failed)).await,
        }
    }

    /// Further attempts, as the policy has it, after one that failed.
    async fn try_again(
        &self,
        mut call: Ongoing<'_>,
        mut failed: Failed,
    ) -> Result<Answer, CallError> {
        let (board, deadline) = (&self.pool.board, call.deadline());
        let mut attempts = Attempts::new(&self.retry);
        let stopped = loop {
            let class = classify(&failed, call.course().repeat(), call.elsewhere());
            if !self.is_wanted(class, &failed, &call) {
                break Stopped::Declined;
            }
            let mut now = clock::now();
            let next = board.with_budget(|budget| {
                attempts.next(now, deadline, class, budget, self.pool.seed())
            });
            match next {
                Next::Stop(stopped) => break stopped,
                Next::Again { after } if after.is_zero() => {}
                Next::Again { after } => {
                    // Cut short when the pool is closed: then the next attempt finds it so.
                    let closing = pin!(self.pool.closing.cancelled());
                    tokio::select! { () = Dormant::new(closing) => {}, () = sleep(after) => {} }
                    now = clock::now();
                }
            }
            failed = match call.attempt(now, &self.body).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
        };
        Err(self.error(failed, stopped, &call))
    }

    /// The pool's policy was checked when the pool was built.
    fn check(&self) -> Result<(), ConfigError> {
        match &self.retry {
            Cow::Owned(own) => own.check(),
            Cow::Borrowed(_) => Ok(()),
        }
    }

    /// Whether the policy's own predicate lets it be tried again.
    fn is_wanted(&self, class: Failure, failed: &Failed, call: &Ongoing<'_>) -> bool {
        match (&self.retry.only_if, class) {
            (Some(only_if), Failure::Refused { .. } | Failure::Indeterminate(_)) => {
                only_if.holds(&self.error(failed.clone(), Stopped::Final, call))
            }
            _ => true,
        }
    }

    fn error(&self, (outcome, cause): Failed, stopped: Stopped, call: &Ongoing<'_>) -> CallError {
        let outcome = call.course().outcome(outcome);
        let endpoint = self.pool.board.endpoint().clone();
        CallError::new((outcome, cause), stopped, call.attempts(), call.elapsed(), endpoint)
            .after(call.course().loss())
    }
}
