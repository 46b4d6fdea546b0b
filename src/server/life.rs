//! One connection's life as a handler knows it: it is over when the connection has ended and the handlers of all that came over it
//! have begun. Then what a handler remembers under the connection's number can go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::panics::caught;
use crate::server::call::Handler;
use crate::server::shared::Shared;

/// Held by the connection, and by what came over it until its handler has begun. Whoever drops it last tells the handler.
#[derive(Debug)]
pub(crate) struct Life<H: Handler> {
    shared: Arc<Shared<H>>,
    number: u64,
    is_welcomed: AtomicBool,
}

impl<H: Handler> Life<H> {
    pub(crate) fn new(shared: Arc<Shared<H>>, number: u64) -> Self {
        Self { shared, number, is_welcomed: AtomicBool::new(false) }
    }

    /// From now on calls can come: the handler is to be told of the end.
    pub(crate) fn welcomed(&self) {
        self.is_welcomed.store(true, Ordering::Relaxed);
    }
}

impl<H: Handler> Drop for Life<H> {
    fn drop(&mut self) {
        if *self.is_welcomed.get_mut() {
            caught(|| self.shared.handler.disconnected(self.number));
        }
    }
}
