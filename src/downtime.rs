//! The time during which a pool has no connection that takes calls: how it began, and what was tried since.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::error::connect::ConnectError;
use crate::error::outage::{Began, Outage};

#[derive(Debug)]
pub(crate) struct Downtime {
    since: Instant,
    began: Began,
    attempts: u32,
    last: Option<Arc<ConnectError>>,
    /// When the next attempt is made at the latest. `None` while one is under way.
    next: Option<Instant>,
    /// To where an attempt has connected, and waits for the handshake.
    connected: Option<SocketAddr>,
}

impl Downtime {
    pub(crate) fn new(now: Instant, began: Began) -> Self {
        Self { since: now, began, attempts: 0, last: None, next: None, connected: None }
    }

    /// It has become known how it began.
    pub(crate) fn because(&mut self, began: Began) {
        self.began = began;
    }

    /// An attempt is under way.
    pub(crate) fn dialing(&mut self) {
        (self.next, self.connected) = (None, None);
    }

    /// It has connected to there, and waits for the handshake; or, without an address, waits for that no more.
    pub(crate) fn greets(&mut self, address: Option<SocketAddr>) {
        self.connected = address;
    }

    /// The next attempt is made then at the latest.
    pub(crate) fn dials_at(&mut self, next: Instant) {
        self.next = self.next.into_iter().chain([next]).min();
    }

    /// An attempt failed. Returns the failure before, which can hold a user's error: to be dropped outside of locks.
    pub(crate) fn failed(&mut self, error: Arc<ConnectError>) -> Option<Arc<ConnectError>> {
        self.attempts += 1;
        self.connected = None;
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

    pub(crate) fn report(&self, now: Instant, endpoint: &Arc<str>) -> Arc<Outage> {
        Arc::new(Outage {
            endpoint: endpoint.clone(),
            lasted: now.saturating_duration_since(self.since),
            attempts: self.attempts,
            last: self.last.clone(),
            began: self.began.clone(),
            connected: self.connected,
            next_in: self.next.map(|next| next.saturating_duration_since(now)),
        })
    }
}
