//! A future that seldom has something to say, beside one in the same task that often has: it is polled when it was woken itself,
//! not whenever the task is.
//!
//! ```text
//!  whoever wakes it ─► Bell: rung, and wakes the task ─► poll: rung? ── yes ─► the future is polled
//!                                                              └──── no ──► nothing
//! ```
//!
//! The owner of a socket is woken for each call; what ends a connection, once. Asking for each of its possible ends each time would be
//! a good part of what a call costs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;

#[derive(Debug)]
pub(crate) struct Dormant<F> {
    future: F,
    bell: Arc<Bell>,
}

#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl<F> Dormant<F> {
    pub(crate) fn new(future: F) -> Self {
        let bell = Bell { rung: AtomicBool::new(true), task: AtomicWaker::new() };
        Self { future, bell: Arc::new(bell) }
    }
}

impl<F: Future + Unpin> Future for Dormant<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Before it is asked: who rings in between wakes the task.
        self.bell.task.register(cx.waker());
        if !self.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let waker = Waker::from(self.bell.clone());
        Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn it_is_polled_once_for_each_time_that_it_was_woken_itself() {
        let (mut polls, mut inner) = (0, None);
        let mut dormant = Dormant::new(poll_fn(|cx| {
            polls += 1;
            inner = Some(cx.waker().clone());
            if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
        }));
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        for _ in 0..3 {
            assert!(Pin::new(&mut dormant).poll(&mut cx).is_pending());
        }
        assert_eq!(woken.0.load(Ordering::SeqCst), 0);
        // The bell of the future, not the waker of the task.
        Waker::from(dormant.bell.clone()).wake();
        assert_eq!(woken.0.load(Ordering::SeqCst), 1);
        assert!(Pin::new(&mut dormant).poll(&mut cx).is_ready());
        drop(dormant);
        assert_eq!(polls, 2);
        assert!(inner.is_some_and(|inner| !inner.will_wake(&waker)));
    }

    #[test]
    fn it_wakes_the_task_that_polled_it_last() {
        let mut dormant = Dormant::new(std::future::pending::<()>());
        let tasks = [(); 2].map(|()| Arc::new(Woken::default()));
        for task in &tasks {
            let waker = Waker::from(task.clone());
            assert!(Pin::new(&mut dormant).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        Waker::from(dormant.bell.clone()).wake();
        assert_eq!(tasks.map(|task| task.0.load(Ordering::SeqCst)), [0, 1]);
    }
}
