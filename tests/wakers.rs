//! Wakers are the user's: what runs when one is dropped may call into the pool, so none is dropped under its locks; and one that
//! panics is nobody else's trouble.

#![allow(clippy::unwrap_used)]

mod support;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use steadfast::{CallCause, Pool};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use support::scripted::*;
use support::waits::{soon, until};

/// A waker that calls into the pool when it is dropped, in every way in which a caller takes a lock.
struct Nosy {
    pool: Pool,
    dropped: Arc<AtomicUsize>,
}

impl Wake for Nosy {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Nosy {
    fn drop(&mut self) {
        let _ = self.pool.status();
        drop((self.pool.events(), self.pool.pushes()));
        let _ = self.pool.request("from a drop").fail_fast().send().now_or_never();
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// A pool, its connection, and a count of the wakers that were dropped.
struct Desk {
    pool: Pool,
    stream: TcpStream,
    dropped: Arc<AtomicUsize>,
}

impl Desk {
    async fn new() -> Self {
        let script = Script::bind().await;
        let pool = Pool::builder(script.address.to_string()).build().unwrap();
        let stream = script.welcome().await;
        pool.ready(Duration::from_secs(20)).await.unwrap();
        Self { pool, stream, dropped: Arc::default() }
    }

    /// Polls with a waker of which nobody else has a copy.
    fn poll<F: Future + ?Sized>(&self, future: &mut Pin<Box<F>>) -> Poll<F::Output> {
        let waker =
            Waker::from(Arc::new(Nosy { pool: self.pool.clone(), dropped: self.dropped.clone() }));
        future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }
}

/// Runs it on a thread of its own, which stays behind if it hangs.
fn without_a_deadlock<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test());
        done.send(()).unwrap();
    });
    finished.recv_timeout(Duration::from_secs(30)).expect("neither a deadlock nor a failure");
}

#[test]
fn a_call_in_flight_drops_no_waker_under_a_lock() {
    without_a_deadlock(|| async {
        let desk = Desk::new().await;
        let pool = desk.pool.clone();
        let mut call = Box::pin(pool.call("never answered"));
        assert!(desk.poll(&mut call).is_pending());
        assert!(desk.poll(&mut call).is_pending());
        assert_eq!(desk.dropped(), 1, "the one that was replaced");
        drop(call);
        assert_eq!(desk.dropped(), 2, "the one of the call that gave up");
    });
}

/// tokio leaves the waker of a reader that is gone in its queue, or did until 1.45 at least.
#[test]
fn a_reader_that_goes_leaves_no_waker_to_be_dropped_under_a_lock() {
    without_a_deadlock(|| async {
        let mut desk = Desk::new().await;
        let mut reader = desk.pool.pushes();
        let pool = desk.pool.clone();
        {
            let waker = Waker::from(Arc::new(Nosy { pool, dropped: desk.dropped.clone() }));
            let polled = reader.poll_next_unpin(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        drop(reader);
        let mut other = desk.pool.pushes();
        desk.stream.write_all(&message(PUSH, (1 << 63) + 1, b"news")).await.unwrap();
        assert_eq!(soon("the push", other.next()).await.unwrap(), "news");
        assert_eq!(desk.dropped(), 1);
    });
}

/// As that of an executor whose queue is gone: `sender.send(task).expect("the executor runs")`.
struct Orphan;

impl Wake for Orphan {
    fn wake(self: Arc<Self>) {
        panic!("the executor is gone");
    }
}

fn poll_orphaned<F: Future>(future: Pin<&mut F>) {
    assert!(future.poll(&mut Context::from_waker(&Waker::from(Arc::new(Orphan)))).is_pending());
}

#[tokio::test]
async fn one_who_waits_and_whose_waker_panics_takes_the_time_limit_from_nobody_else() {
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string()).build().unwrap();
    let short = Duration::from_millis(100);
    let mut orphan = Box::pin(pool.request("first").timeout(short).send());
    poll_orphaned(orphan.as_mut());
    let second = pool.request("second").timeout(3 * short).send();
    let error = soon("the second caller's time-out", second).await.unwrap_err();
    assert!(matches!(error.cause(), CallCause::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn a_call_whose_waker_panics_takes_the_connection_from_nobody_else() {
    let Desk { pool, mut stream, .. } = Desk::new().await;
    let mut orphan = Box::pin(pool.call("first"));
    poll_orphaned(orphan.as_mut());
    let first = expect(&mut stream, &[REQUEST]).await;
    let second = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call("second").await }
    });
    let other = expect(&mut stream, &[REQUEST]).await;
    // Both are woken in one turn, the orphan first.
    let replies = [reply(first.id(), b"one"), reply(other.id(), b"two")].concat();
    stream.write_all(&replies).await.unwrap();
    assert_eq!(soon("the second reply", second).await.unwrap().unwrap(), "two");
    assert_eq!(soon("the orphan's own", orphan).await.unwrap(), "one");
}

#[tokio::test]
async fn a_reader_whose_waker_panics_takes_the_connection_and_the_news_from_nobody_else() {
    let Desk { pool, mut stream, .. } = Desk::new().await;
    let (mut orphan, mut state, mut other) = (pool.pushes(), pool.watch(), pool.pushes());
    poll_orphaned(Box::pin(orphan.next()).as_mut());
    let mut changed = Box::pin(state.changed());
    poll_orphaned(changed.as_mut());
    let in_flight = pool.clone();
    let call = tokio::spawn(async move { in_flight.call("in flight").await });
    let request = expect(&mut stream, &[REQUEST]).await;
    let both = [message(PUSH, (1 << 63) + 1, b"news"), reply(request.id(), b"done")].concat();
    stream.write_all(&both).await.unwrap();
    assert_eq!(soon("the push", other.next()).await.unwrap(), "news");
    assert_eq!(soon("the reply", call).await.unwrap().unwrap(), "done");
    assert_eq!(soon("the orphan's own", orphan.next()).await.unwrap(), "news");
    drop(stream);
    soon("the change", changed).await.unwrap();
}

#[tokio::test]
async fn a_call_that_waits_to_be_sent_again_and_whose_waker_panics_keeps_no_other_waiting() {
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string()).build().unwrap();
    let mut stream = script.accept().await;
    stream.write_all(&welcome_remembering(1)).await.unwrap();
    let mut orphan = Box::pin(pool.call("first"));
    pool.ready(Duration::from_secs(20)).await.unwrap();
    poll_orphaned(orphan.as_mut());
    let second = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call("second").await }
    });
    expect(&mut stream, &[REQUEST]).await;
    expect(&mut stream, &[REQUEST]).await;
    drop(stream);
    let mut stream = script.accept().await;
    until("the second waits", || pool.status().waiting == 1).await;
    // It gives its place back, whereupon the other looks again and waits behind it: they are woken in this order.
    poll_orphaned(orphan.as_mut());
    assert_eq!(pool.status().waiting, 2);
    stream.write_all(&welcome_remembering(1)).await.unwrap();
    let again = expect(&mut stream, &[REQUEST]).await;
    assert_eq!(again.body(), b"second");
    stream.write_all(&reply(again.id(), b"two")).await.unwrap();
    assert_eq!(soon("the second reply", second).await.unwrap().unwrap(), "two");
}
