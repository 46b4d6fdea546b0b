//! One timer for everything that a connection's owner waits for, and a limit to what a caller waits for.

use std::future::Future as _;
use std::pin::Pin;
use std::task::Context;
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use crate::clock::now;

/// One timer for everything. While it runs it is moved only to an earlier time: what is put off over and over, as a
/// heartbeat is by every byte, costs nothing until the time at which it was due first.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// It runs.
    armed: bool,
}

impl Timer {
    /// True if the deadline has come. The timer that was set for an earlier one, since put off, is set anew without a word.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> bool {
        let sleep =
            self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        loop {
            if !self.armed || deadline < sleep.deadline().into_std() {
                sleep.as_mut().reset(deadline.into());
                self.armed = true;
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
            self.armed = false;
            if sleep.deadline().into_std() == deadline {
                return true;
            }
        }
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
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>, limit: Duration) -> bool {
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

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_was_put_off_is_not_said_to_have_come_before_it_has() {
        let (mut timer, start) = (Timer::default(), now());
        let mut said = async |deadline| poll_fn(|cx| Poll::Ready(timer.poll(cx, deadline))).await;
        assert!(!said(start + SECOND).await);
        tokio::time::advance(2 * SECOND).await;
        assert!(!said(start + 3 * SECOND).await, "it was due at the first second, and put off");
        tokio::time::advance(SECOND).await;
        assert!(said(start + 3 * SECOND).await);
    }
}
