//! The time during which a pool has no connection that takes calls: how it began, and what was tried since.

use std::sync::Arc;
use std::time::Instant;

use crate::error::connect::ConnectError;
use crate::error::outage::{Began, Outage};
use crate::prospects::Outlook;

#[derive(Debug)]
pub(crate) struct Downtime {
    since: Instant,
    began: Began,
    attempts: u32,
    last: Option<Arc<ConnectError>>,
}

impl Downtime {
    pub(crate) fn new(now: Instant, began: Began) -> Self {
        Self { since: now, began, attempts: 0, last: None }
    }

    /// It has become known how it began.
    pub(crate) fn because(&mut self, began: Began) {
        self.began = began;
    }

    /// An attempt failed. Returns the failure before, which can hold a user's error: to be dropped outside of locks.
    pub(crate) fn failed(&mut self, error: Arc<ConnectError>) -> Option<Arc<ConnectError>> {
        self.attempts += 1;
        self.last.replace(error)
    }

    /// Whether an attempt has failed in it.
    pub(crate) fn was_tried(&self) -> bool {
        self.attempts > 0
    }

    /// Whether the last attempt that failed was the first.
    pub(crate) fn was_tried_once(&self) -> bool {
        self.attempts == 1
    }

    /// Whether there never was a connection.
    pub(crate) fn is_first(&self) -> bool {
        self.began == Began::NeverConnected
    }

    /// Whether waiting cannot end it.
    pub(crate) fn is_permanent(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.is_permanent())
    }

    pub(crate) fn report(
        &self,
        now: Instant,
        endpoint: &Arc<str>,
        Outlook { connected, next }: Outlook,
    ) -> Arc<Outage> {
        Arc::new(Outage {
            endpoint: endpoint.clone(),
            lasted: now.saturating_duration_since(self.since),
            attempts: self.attempts,
            last: self.last.clone(),
            began: self.began.clone(),
            connected,
            next_in: next.map(|next| next.saturating_duration_since(now)),
        })
    }
}
