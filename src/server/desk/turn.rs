//! A turn among the handlers, and the line of those who wait for one.

use std::pin::pin;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, SemaphorePermit};

use crate::server::call::{Call, Handler};
use crate::server::desk::{Cached, Desk, Job};

/// A turn among the handlers, or a place in the line of those who wait for one.
#[derive(Debug)]
pub(super) enum Admission {
    Turn(OwnedSemaphorePermit),
    Waiting(OwnedSemaphorePermit),
}

/// What the wait for a turn came to.
#[derive(Debug)]
pub(super) enum Turn {
    Run(OwnedSemaphorePermit),
    /// The caller has gone, or its time is up.
    Late,
    /// Its connection has ended. Should it come again, it is new.
    Withdrawn,
}

impl<H: Handler> Desk<H> {
    /// `None` if too many wait already, over all connections.
    pub(super) fn admit(&self) -> Option<Admission> {
        let turn = self.shared.handlers.clone().try_acquire_owned();
        let waiting = || self.shared.waiting.clone().try_acquire_owned().map(Admission::Waiting);
        turn.map(Admission::Turn).or_else(|_| waiting()).ok()
    }

    /// Waits for a turn among the handlers, in its place in the line. Who has gone must not stay there: a client could fill
    /// it with calls that it cancels.
    pub(super) async fn turn(&self, job: Job, call: &Call, _place: OwnedSemaphorePermit) -> Turn {
        // The semaphore is never closed.
        let run = |permit: Result<_, AcquireError>| permit.map_or(Turn::Late, Turn::Run);
        let mut permit = pin!(self.shared.handlers.clone().acquire_owned());
        tokio::select! {
            biased;
            permit = &mut permit => return run(permit),
            () = call.cancelled() => return Turn::Late,
            () = self.ended.cancelled() => {}
        }
        if job.cached == Cached::Yes && self.membership.withdraw(job.id) {
            return Turn::Withdrawn;
        }
        tokio::select! {
            biased;
            permit = permit => run(permit),
            () = call.cancelled() => Turn::Late,
        }
    }

    /// Who says a last word and closes is heard, too. But what waits is bounded by its connection only as long as that lives;
    /// then it needs a place in the line of all.
    pub(super) async fn turn_of_notification(&self) -> Option<SemaphorePermit<'_>> {
        let mut permit = pin!(self.shared.handlers.acquire());
        tokio::select! {
            biased;
            permit = &mut permit => return permit.ok(),
            () = self.ended.cancelled() => {}
        }
        let _place = self.shared.waiting.try_acquire().ok()?;
        permit.await.ok()
    }
}
