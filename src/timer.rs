//! One timer for everything that a connection's owner waits for, and a limit to what a caller waits for.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::clock::now;

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

/// Measures how long something waits. What does not wait costs neither a timer nor a look at the clock.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    timer: Timer,
    began: Option<Instant>,
}

impl Stopwatch {
    /// What is waited for next begins then.
    pub(crate) fn reset(&mut self) {
        self.began = None;
    }

    /// It has to wait, and this is how long it may, from the first time that this is asked. True if that is over; else the
    /// task will be woken when it is.
    pub(crate) fn is_over(&mut self, cx: &mut Context<'_>, limit: Duration) -> bool {
        let deadline = *self.began.get_or_insert_with(now) + limit;
        while self.timer.poll(cx, deadline) {
            if now() >= deadline {
                self.reset();
                return true;
            }
        }
        false
    }
}
