//! Whether a call's caller has gone: said once by whoever learns of it, heard by the call's handler.
//!
//! Less than a `CancellationToken` of tokio-util, which has parents and children, and takes a lock for each copy that is made or
//! dropped: each call has one of these.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Cheap to clone: all copies are of one caller.
#[derive(Debug, Clone, Default)]
pub(crate) struct Departure(Arc<Caller>);

#[derive(Debug, Default)]
struct Caller {
    has_gone: AtomicBool,
    goes: Notify,
}

impl Departure {
    /// The caller has gone.
    pub(crate) fn announce(&self) {
        self.0.has_gone.store(true, Ordering::SeqCst);
        self.0.goes.notify_waiters();
    }

    pub(crate) fn has_come(&self) -> bool {
        self.0.has_gone.load(Ordering::SeqCst)
    }

    /// Returns when the caller has gone, at once if that was before.
    ///
    /// # Cancel safety
    /// Dropping the future does nothing.
    pub(crate) async fn comes(&self) {
        // From here on no announcement is missed: `notify_waiters` reaches also who has not been polled yet.
        let announced = self.0.goes.notified();
        if !self.has_come() {
            announced.await;
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
    fn a_departure_is_heard_by_those_who_wait_and_by_those_who_ask_later() {
        let (departure, mut cx) = (Departure::default(), Context::from_waker(Waker::noop()));
        let (mut polled, mut unpolled) = (pin!(departure.comes()), pin!(departure.comes()));
        assert!(polled.as_mut().poll(&mut cx).is_pending());
        assert!(!departure.has_come());
        departure.clone().announce();
        assert!(departure.has_come());
        assert!(polled.poll(&mut cx).is_ready());
        assert!(unpolled.as_mut().poll(&mut cx).is_ready());
        assert!(pin!(departure.comes()).poll(&mut cx).is_ready());
    }
}
