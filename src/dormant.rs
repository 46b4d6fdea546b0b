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
#[cfg(not(steadfast_loom))]
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

#[cfg(not(steadfast_loom))]
use futures::task::AtomicWaker;
#[cfg(steadfast_loom)]
use loom::future::AtomicWaker;
#[cfg(steadfast_loom)]
use loom::sync::atomic::{AtomicBool, Ordering};

#[cfg(not(steadfast_loom))]
use crate::panics::caught;

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

impl<F> Dormant<F> {
    #[cfg(not(steadfast_loom))]
    fn register(&self, cx: &Context<'_>) {
        self.bell.task.register(cx.waker());
    }

    #[cfg(steadfast_loom)]
    fn register(&self, cx: &Context<'_>) {
        self.bell.task.register_by_ref(cx.waker());
    }
}

impl<F: Future + Unpin> Future for Dormant<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Before it is asked: who rings in between wakes the task.
        self.register(cx);
        if !self.bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        let waker = Waker::from(self.bell.clone());
        Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker))
    }
}

impl Bell {
    /// A waker that panics is its owner's trouble: who rings has others to wake.
    #[cfg(not(steadfast_loom))]
    fn wake_task(&self) {
        caught(|| self.task.wake());
    }

    #[cfg(steadfast_loom)]
    fn wake_task(&self) {
        self.task.wake();
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Not a store: what those who rang before have to show would not be seen with it.
        self.rung.swap(true, Ordering::AcqRel);
        self.wake_task();
    }
}

#[cfg(all(test, not(steadfast_loom)))]
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

/// Every interleaving, with loom: `.ci/models`.
#[cfg(all(test, steadfast_loom))]
mod models {
    use std::future::poll_fn;

    use loom::future::block_on;
    use loom::thread;

    use super::*;

    /// What ends a connection: two who may say so, and the waker of who listens.
    #[derive(Debug)]
    struct Ends {
        said: [AtomicBool; 2],
        listener: AtomicWaker,
    }

    impl Ends {
        fn say(&self, which: usize) {
            self.said[which].store(true, Ordering::Release);
            self.listener.wake();
        }

        fn poll_both(&self, cx: &Context<'_>) -> Poll<()> {
            self.listener.register_by_ref(cx.waker());
            match self.said.iter().all(|said| said.load(Ordering::Acquire)) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }
    }

    /// Loom finds the interleaving, if there is one, in which nobody is ever woken again.
    #[test]
    fn model_no_wake_up_is_lost() {
        loom::model(|| {
            let said = [AtomicBool::new(false), AtomicBool::new(false)];
            let ends = Arc::new(Ends { said, listener: AtomicWaker::new() });
            let others = [0, 1].map(|which| {
                let ends = ends.clone();
                thread::spawn(move || ends.say(which))
            });
            block_on(Dormant::new(poll_fn(|cx| ends.poll_both(cx))));
            others.into_iter().for_each(|other| other.join().unwrap());
        });
    }
}
