//! The user's code that panics where more than its own call or connection would be lost by it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;

/// Runs it. `None` if it panicked, which the panic hook has reported.
pub(crate) fn caught<R>(run: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(run)).ok()
}

/// Drops it; a panic in its drop goes no further. One value of the user's at a time: a second panic in the same drop would end the
/// process.
pub(crate) fn discard<T>(value: T) {
    caught(|| drop(value));
}

/// A future of the user's own that panics, when it is polled or when it is dropped, and takes nothing with it. Gives `None` if it
/// panicked when it was polled.
pub(crate) struct Contained<'a, T>(Option<BoxFuture<'a, T>>);

impl<'a, T> Contained<'a, T> {
    /// Where the user's code makes the future, that call belongs into `future`, too.
    pub(crate) fn new(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self(Some(Box::pin(future)))
    }
}

impl<T> Future for Contained<'_, T> {
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.0.as_mut().and_then(|future| caught(|| future.as_mut().poll(cx)));
        let output = match polled {
            Some(Poll::Pending) => return Poll::Pending,
            Some(Poll::Ready(output)) => Some(output),
            None => None,
        };
        discard(self.0.take());
        Poll::Ready(output)
    }
}

impl<T> Drop for Contained<'_, T> {
    fn drop(&mut self) {
        discard(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;

    use futures::FutureExt as _;

    use super::*;

    /// Counted by those that are left.
    struct Bomb(Arc<()>);

    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "a bug of the user's");
        }
    }

    #[test]
    fn what_panics_when_it_is_polled_gives_nothing() {
        let left = Arc::new(());
        let bomb = Bomb(left.clone());
        let future = poll_fn(move |_| -> Poll<()> { panic!("{}", Arc::strong_count(&bomb.0)) });
        assert_eq!(Contained::new(future).now_or_never(), Some(None));
        assert_eq!(Arc::strong_count(&left), 1);
    }

    #[test]
    fn what_panics_when_it_is_dropped_gives_what_it_had() {
        let left = Arc::new(());
        let bomb = Bomb(left.clone());
        let future = poll_fn(move |_| Poll::Ready(Arc::strong_count(&bomb.0)));
        assert_eq!(Contained::new(future).now_or_never(), Some(Some(2)));
        let bomb = Bomb(left.clone());
        let future = poll_fn(move |_| {
            assert_eq!(Arc::strong_count(&bomb.0), 2);
            Poll::<()>::Pending
        });
        assert_eq!(Contained::new(future).now_or_never(), None);
        assert_eq!(Arc::strong_count(&left), 1);
    }
}
