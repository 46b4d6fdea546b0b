//! One timer for everything that a connection's owner waits for.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::time::Instant;

use tokio::time::Sleep;

/// One timer for everything. It is moved only to an earlier time: too early a wake-up does nothing.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
}

impl Timer {
    /// True if the deadline, or an earlier one that was forgotten, has come.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        let sleep =
            self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        if self.armed.is_none_or(|armed| deadline < armed) {
            sleep.as_mut().reset(deadline.into());
            self.armed = Some(deadline);
        }
        let elapsed = sleep.as_mut().poll(cx).is_ready();
        if elapsed {
            self.armed = None;
        }
        elapsed
    }
}
