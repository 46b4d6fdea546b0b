//! A call under way: its attempts on one connection after the other, and what it holds meanwhile.
//!
//! ```text
//!              place ──► exchange ──► answer
//!                ▲          │ lost, refused: a new id, any connection
//!                └──────────┤
//!   resume ◄────────────────┘ lost after it had left: the same id, and, unless running it twice is harmless,
//!      └──► exchange          only the same server process
//! ```

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::time::timeout_at;

use crate::error::call::{CallCause, Outcome, Stage};
use crate::error::loss::Loss;
use crate::exchange::{Exchange, failure, refused_here};
use crate::issued::{Held, Issued};
use crate::placing::Placing;
use crate::proto::calls::Answer;
use crate::proto::client::{Kind, NotTaken, Start};
use crate::roster::{NoPlace, Patience, Resume, Resumed, ServerMemory, ServerProcess, Taken, Wish};
use crate::switchboard::Switchboard;

/// An attempt that failed.
pub(crate) type Failed = (Outcome, CallCause);

/// Whether an answer is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Request,
    Notification,
}

/// A call under way. Whatever it holds is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    board: &'a Arc<Switchboard>,
    form: Form,
    repeatable: bool,
    patience: Patience,
    deadline: Instant,
    limit: Duration,
    issued: Option<Issued<'a>>,
    /// Where the last attempt was made.
    last: Option<Last>,
    /// The death of the connection on which it may have run.
    may_have_run: Option<Arc<Loss>>,
    attempts: u32,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    slot: usize,
    connection: u64,
    server: ServerProcess,
}

impl<'a> Call<'a> {
    pub(crate) fn new(
        board: &'a Arc<Switchboard>,
        form: Form,
        repeatable: bool,
        patience: Patience,
        deadline: Instant,
        limit: Duration,
    ) -> Self {
        let (issued, last, may_have_run) = (None, None, None);
        Self {
            board,
            form,
            repeatable,
            patience,
            deadline,
            limit,
            issued,
            last,
            may_have_run,
            attempts: 0,
        }
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// How often it was handed to a connection.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The slot of the last attempt.
    pub(crate) fn slot(&self) -> Option<usize> {
        self.last.map(|last| last.slot)
    }

    /// Whether the server of the last attempt would know the call again.
    pub(crate) fn last_server(&self) -> Option<ServerMemory> {
        self.last.map(|last| last.server.memory)
    }

    pub(crate) fn may_have_run(&self) -> bool {
        self.may_have_run.is_some()
    }

    /// One attempt on one connection.
    pub(crate) async fn attempt(&mut self, body: &Bytes) -> Result<Answer, Failed> {
        let (length, limit) = (body.len(), self.board.longest);
        if length > limit {
            return Err((Outcome::NotSent, CallCause::TooLong { length, limit }));
        }
        loop {
            let Taken { place, connection, number, server } = match self.resume_on() {
                Some((resume, loss)) => self.resume(resume, loss).await?,
                None => self.find_place(length).await?,
            };
            let held = Held::new(self.board, place);
            let (id, oldest) = self.issue();
            let start = Start { id, kind: self.kind(), body, deadline: self.deadline, oldest };
            match Exchange::new(&connection, start).await {
                Ok(answer) => {
                    self.attempts += 1;
                    self.last = Some(Last { slot: place.slot, connection: number, server });
                    drop(held);
                    return self.settled(failure(answer, self.limit));
                }
                Err(NotTaken::Gone(_)) => self.board.distrust(place),
                Err(not_taken) => {
                    return Err((Outcome::NotSent, refused_here(not_taken, length)));
                }
            }
            self.renew_id();
        }
    }

    fn settled(&mut self, result: Result<Answer, Failed>) -> Result<Answer, Failed> {
        match &result {
            Ok(_) => {
                if let Some(issued) = self.issued.take() {
                    issued.succeed();
                }
            }
            Err((Outcome::Indeterminate, CallCause::Lost(loss))) => {
                self.may_have_run = Some(loss.clone());
            }
            Err(_) => self.renew_id(),
        }
        result
    }

    fn kind(&self) -> Kind {
        match self.form {
            Form::Notification => Kind::Notification,
            Form::Request => {
                Kind::Request { repeatable: self.repeatable, resent: self.may_have_run() }
            }
        }
    }

    fn issue(&mut self) -> (u64, u64) {
        let issued = self.issued.get_or_insert_with(|| Issued::new(self.board));
        (issued.id, issued.oldest)
    }

    /// What has not run under its id gets another one: an id stands for a call that may run, once.
    fn renew_id(&mut self) {
        if !self.may_have_run() {
            self.issued = None;
        }
    }

    /// Where the call has to go because it may have run.
    fn resume_on(&self) -> Option<(Resume, Arc<Loss>)> {
        let (Some(last), Some(loss), false) = (self.last, &self.may_have_run, self.repeatable)
        else {
            return None;
        };
        let Last { slot, connection, server } = last;
        Some((Resume { instance: server.instance, slot, connection }, loss.clone()))
    }

    /// Waits for a connection to the server process on which it may have run.
    async fn resume(&self, resume: Resume, loss: Arc<Loss>) -> Result<Taken, Failed> {
        let _resuming = self.board.resuming();
        loop {
            let mut changed = pin!(self.board.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            match self.board.resume(resume, self.patience) {
                Ok(Resumed::Taken(taken)) => return Ok(taken),
                Ok(Resumed::Replaced(current)) => {
                    let previous = resume.instance;
                    let cause = CallCause::Replaced { loss, previous, current };
                    return Err((Outcome::Indeterminate, cause));
                }
                Ok(Resumed::Wait) if self.patience == Patience::FailFast => {
                    return Err((Outcome::Indeterminate, CallCause::Lost(loss)));
                }
                Ok(Resumed::Wait) => {}
                Err(no_place) => return Err((Outcome::Indeterminate, no_place.into())),
            }
            if timeout_at(self.deadline.into(), changed).await.is_err() {
                return Err((Outcome::Indeterminate, self.timed_out()));
            }
        }
    }

    async fn find_place(&self, bytes: usize) -> Result<Taken, Failed> {
        let not_sent = |no_place: NoPlace| (Outcome::NotSent, CallCause::from(no_place));
        let wish = Wish { bytes, patience: self.patience, avoid: self.slot() };
        // Mostly there is one, and no timer is needed.
        if let Some(taken) = self.board.try_place(wish).map_err(not_sent)? {
            return Ok(taken);
        }
        match timeout_at(self.deadline.into(), Placing::new(self.board, wish)).await {
            Ok(result) => result.map_err(not_sent),
            Err(_) => Err((Outcome::NotSent, self.timed_out())),
        }
    }

    /// Its time is up while it waits for a connection.
    fn timed_out(&self) -> CallCause {
        let outage = self.board.outage();
        CallCause::TimedOut { limit: self.limit, stage: Stage::Connection, outage }
    }
}
