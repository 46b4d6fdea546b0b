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

use crate::clock;
use crate::dormant::Dormant;
use crate::error::call::{CallCause, Outcome};
use crate::error::loss::Loss;
use crate::exchange::{Exchange, refused_here, result_of};
use crate::issued::{Held, Issued};
use crate::placing::Placing;
use crate::proto::calling::{NotTaken, Start};
use crate::proto::calls::Answer;
use crate::proto::course::{Attempt, Course, Failed, Form};
use crate::proto::ledger::{Place, Share};
use crate::proto::resume::Resume;
use crate::proto::retry::Elsewhere;
use crate::roster::link::{Link, Taken};
use crate::roster::no_place::NoPlace;
use crate::roster::resuming::Resumed;
use crate::roster::wish::{Patience, Until, Wish};
use crate::switchboard::Switchboard;

/// A call under way. Whatever it holds is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Ongoing<'a> {
    board: &'a Arc<Switchboard>,
    patience: Patience,
    started: Instant,
    limit: Duration,
    course: Course,
    issued: Option<Issued<'a>>,
    attempts: u32,
}

impl<'a> Ongoing<'a> {
    pub(crate) fn new(
        board: &'a Arc<Switchboard>,
        form: Form,
        patience: Patience,
        started: Instant,
        limit: Duration,
    ) -> Self {
        let course = Course::new(form);
        Self { board, patience, started, limit, course, issued: None, attempts: 0 }
    }

    pub(crate) fn course(&self) -> &Course {
        &self.course
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.started + self.limit
    }

    pub(crate) fn elapsed(&self) -> Duration {
        clock::now().saturating_duration_since(self.started)
    }

    /// How often it was handed to a connection.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The slot of the last attempt.
    pub(crate) fn slot(&self) -> Option<usize> {
        self.course.last().map(|last| last.slot)
    }

    /// One attempt on one connection.
    pub(crate) async fn attempt(
        &mut self,
        mut now: Instant,
        body: &Bytes,
    ) -> Result<Answer, Failed> {
        let (length, limit) = (body.len(), self.board.longest);
        if length > limit {
            return Err((Outcome::NotSent, CallCause::TooLong { length, limit }));
        }
        let mut avoid = Vec::from_iter(self.slot());
        let mut full = Vec::new();
        loop {
            let Taken { place, link } = match self.course.resume() {
                Some((resume, loss)) => {
                    let taken = Box::pin(self.resume(resume, loss)).await?;
                    now = clock::now();
                    taken
                }
                None => self.find_place(length, &avoid, &mut now).await?,
            };
            let Link { connection, foreign, number, server } = &*link;
            let mut held = Held::new(self.board, place);
            let (id, oldest) = self.issue();
            let start = Start {
                id,
                kind: self.course.kind(),
                head: &[],
                body,
                deadline: self.deadline(),
                oldest,
                place: Some(place),
            };
            let speech = foreign.as_ref().map(|foreign| &*foreign.speech);
            match Exchange::new(connection, speech, now, start, Some(&mut held)).await {
                Ok(answer) => {
                    let (slot, connection, server) = (place.slot, *number, *server);
                    return self.answered(answer, held, Attempt { slot, connection, server });
                }
                Err(NotTaken::Gone(_)) => self.board.distrust(place),
                Err(NotTaken::Full { .. }) if self.may_go_elsewhere(place, &full) => {
                    full.push(place.slot);
                    avoid.push(place.slot);
                }
                Err(not_taken) => {
                    return Err((Outcome::NotSent, refused_here(not_taken, length)));
                }
            }
            self.renew_id();
        }
    }

    /// Whether another attempt could be made at once beside the last one.
    pub(crate) fn elsewhere(&self) -> Elsewhere {
        match self.course.resume() {
            Some((resume, _)) => self.board.elsewhere_to_resume(resume),
            None => self.board.elsewhere(self.slot()),
        }
    }

    /// Whether there is another connection that has not said yet that it has no room for the bytes.
    fn may_go_elsewhere(&self, place: Place, full: &[usize]) -> bool {
        self.course.resume().is_none()
            && !full.contains(&place.slot)
            && self.board.elsewhere(Some(place.slot)) == Elsewhere::Room
    }

    /// The exchange is over, and the attempt with it.
    fn answered(
        &mut self,
        answer: Answer,
        held: Held<'a>,
        attempt: Attempt,
    ) -> Result<Answer, Failed> {
        self.attempts += 1;
        let result = result_of(answer, self.limit);
        match &result {
            Ok(_) => {
                if let Some(issued) = self.issued.take() {
                    issued.succeed(held);
                }
            }
            Err(failed) => {
                drop(held);
                self.course.failed(attempt, failed);
                self.renew_id();
            }
        }
        result
    }

    fn issue(&mut self) -> (u64, u64) {
        let issued = self.issued.get_or_insert_with(|| Issued::new(self.board));
        (issued.id, issued.oldest)
    }

    fn renew_id(&mut self) {
        if !self.course.may_have_run() {
            self.issued = None;
        }
    }

    /// Waits for a connection to the server process on which it may have run.
    async fn resume(&self, resume: Resume, loss: &Arc<Loss>) -> Result<Taken, Failed> {
        let _waiting = self.board.resuming(resume, self.deadline());
        loop {
            let mut changed = pin!(self.board.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            let cause = match self.board.resume(resume, self.patience) {
                Ok(Resumed::Taken(taken)) if clock::now() < self.deadline() => return Ok(taken),
                Ok(Resumed::Taken(taken)) => {
                    // It was asked for when it was of no use any more.
                    self.board.release(taken.place);
                    NoPlace::TimedOut(None).call_cause(self.limit)
                }
                Ok(Resumed::Replaced(current)) => {
                    let (previous, loss) = (resume.memory.instance, loss.clone());
                    CallCause::Replaced { loss, previous, current }
                }
                Ok(Resumed::Forgotten) => CallCause::Evicted,
                Ok(Resumed::Wait) if self.patience == Patience::FailFast => {
                    CallCause::Lost(loss.clone())
                }
                Ok(Resumed::Wait | Resumed::Full) => {
                    // All who wait are woken in a row, by tokio.
                    if timeout_at(self.deadline().into(), Dormant::new(changed)).await.is_ok() {
                        continue;
                    }
                    let why = self.board.why_not_resumed(resume);
                    NoPlace::TimedOut(Some(why)).call_cause(self.limit)
                }
                Err(no_place) => no_place.call_cause(self.limit),
            };
            return Err((Outcome::Indeterminate, cause));
        }
    }

    /// A place, and an id, if there is none yet. If that took time, `now` is brought forward.
    async fn find_place(
        &mut self,
        bytes: usize,
        avoid: &[usize],
        now: &mut Instant,
    ) -> Result<Taken, Failed> {
        let limit = self.limit;
        let not_sent = |no_place: NoPlace| (Outcome::NotSent, no_place.call_cause(limit));
        let wish = Wish { share: Share::One, bytes, patience: self.patience, avoid };
        // Mostly there is one, and nobody looks at the clock.
        if self.issued.is_some() {
            if let Some(taken) = self.board.try_place(wish).map_err(not_sent)? {
                return Ok(taken);
            }
        } else if let Some((taken, id)) = self.board.try_begin(wish).map_err(not_sent)? {
            self.issued = Some(Issued::of(self.board, id));
            return Ok(taken);
        }
        let placed = Placing::new(self.board, wish).until(Until::At(self.deadline())).await;
        *now = clock::now();
        let taken = placed.map_err(not_sent)?;
        if *now >= self.deadline() {
            // Handed over when it was of no use any more: all its time it has waited for a place.
            self.board.release(taken.place);
            return Err(not_sent(self.board.timed_out()));
        }
        Ok(taken)
    }
}
