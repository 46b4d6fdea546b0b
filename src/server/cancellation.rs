//! Whether nobody waits for a call any more: said once by whoever learns of it, heard by the call's handler.
//!
//! Less than a `CancellationToken` of tokio-util, which has parents and children, and takes a lock for each copy that is made or
//! dropped: each call has one of these.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::panics::caught;

/// Cheap to clone: all copies are of one call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cancellation(Arc<Flag>);

#[derive(Debug, Default)]
struct Flag {
    is_set: AtomicBool,
    set: Notify,
}

impl Cancellation {
    /// Nobody waits any more.
    pub(crate) fn cancel(&self) {
        self.0.is_set.store(true, Ordering::SeqCst);
        // Wakes the handler, whose waker is the user's. Who says this has others to tell.
        caught(|| self.0.set.notify_waiters());
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.is_set.load(Ordering::SeqCst)
    }

    /// Returns when nobody waits any more, at once if that was so before.
    ///
    /// # Cancel safety
    /// Dropping the future does nothing.
    pub(crate) async fn cancelled(&self) {
        // From here on none is missed: `notify_waiters` reaches also who has not been polled yet.
        let set = self.0.set.notified();
        if !self.is_cancelled() {
            set.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn a_cancellation_is_heard_by_those_who_wait_and_by_those_who_ask_later() {
        let (call, mut cx) = (Cancellation::default(), Context::from_waker(Waker::noop()));
        let (mut polled, mut unpolled) = (pin!(call.cancelled()), pin!(call.cancelled()));
        assert!(polled.as_mut().poll(&mut cx).is_pending());
        assert!(!call.is_cancelled());
        call.clone().cancel();
        assert!(call.is_cancelled());
        assert!(polled.poll(&mut cx).is_ready());
        assert!(unpolled.as_mut().poll(&mut cx).is_ready());
        assert!(pin!(call.cancelled()).poll(&mut cx).is_ready());
    }
}
