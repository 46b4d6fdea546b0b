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

use futures::{FutureExt as _, StreamExt as _, poll};
use steadfast::{Bytes, Call, CallCause, ErrorReply, Handler, Pool, ReplyCache, Server};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use support::local::start;
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

#[tokio::test]
async fn a_call_between_two_attempts_whose_waker_panics_does_not_spoil_the_close() {
    let Desk { pool, mut stream, .. } = Desk::new().await;
    let mut orphan = Box::pin(pool.call("refused"));
    assert!(poll!(&mut orphan).is_pending());
    let request = expect(&mut stream, &[REQUEST]).await;
    // Not before the end of its time.
    stream.write_all(&refused_for(request.id(), 1, 9000)).await.unwrap();
    until("it is refused", || {
        poll_orphaned(orphan.as_mut());
        pool.status().in_flight == 0
    })
    .await;
    tokio::spawn(async move { while let Ok(Some(_)) = read_frame(&mut stream).await {} });
    soon("the close", pool.close(Duration::from_secs(10))).await.unwrap();
    let error = soon("the orphan's own", orphan).await.unwrap_err();
    assert!(matches!(error.cause(), CallCause::Closed), "{error}");
}

#[tokio::test]
async fn one_who_closes_a_pool_and_whose_waker_panics_keeps_no_other_who_closes_it_waiting() {
    let echo = |call: Call| async move { Ok(call.into_body()) };
    let address = start(Server::builder(), echo).await;
    let pool = Pool::builder(address.to_string()).build().unwrap();
    pool.ready(Duration::from_secs(20)).await.unwrap();
    let mut orphan = Box::pin(pool.close(Duration::from_secs(60)));
    poll_orphaned(orphan.as_mut());
    // As a task, which nobody polls that does not wake it; and far less than its limit.
    let other = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close(Duration::from_secs(60)).await }
    });
    soon("the other's close", other).await.unwrap().unwrap();
}

/// Handlers that wait for the end of their call's cancellation; that of a call `bad` with a waker that panics.
struct Waiting {
    begun: Arc<AtomicUsize>,
    told: Arc<AtomicUsize>,
}

impl Handler for Waiting {
    async fn call(&self, call: Call) -> Result<Bytes, ErrorReply> {
        if call.body() == "echo" {
            return Ok(call.into_body());
        }
        let mut gone = Box::pin(call.cancelled());
        let is_bad = call.body() == "bad";
        if is_bad {
            poll_orphaned(gone.as_mut());
        }
        self.begun.fetch_add(1, Ordering::SeqCst);
        if is_bad {
            std::future::pending::<()>().await;
        }
        gone.await;
        self.told.fetch_add(1, Ordering::SeqCst);
        Ok(Bytes::new())
    }
}

#[tokio::test]
async fn a_handler_whose_waker_panics_keeps_no_other_from_hearing_that_the_client_has_gone() {
    let (begun, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let address =
        start(Server::builder(), Waiting { begun: begun.clone(), told: told.clone() }).await;
    for replaced in [false, true] {
        begun.store(0, Ordering::SeqCst);
        told.store(0, Ordering::SeqCst);
        let coming = Coming { client: 1000 + u64::from(replaced), ..Coming::default() };
        let mut stream = connect(address).await;
        stream.write_all(&hello_of(coming, 0)).await.unwrap();
        expect(&mut stream, &[WELCOME]).await;
        for id in 1..=16 {
            let body: &[u8] = if id <= 8 { b"bad" } else { b"good" };
            stream.write_all(&repeatable(id, body)).await.unwrap();
        }
        until("the handlers", || begun.load(Ordering::SeqCst) == 16).await;
        let mut next = connect(address).await;
        let coming = Coming { connection: 2, replaces: 1, next_id: 17, ..coming };
        match replaced {
            true => next.write_all(&hello_of(coming, 0)).await.unwrap(),
            false => drop(stream),
        }
        until("the others hear of it", || told.load(Ordering::SeqCst) == 8).await;
    }
}

#[tokio::test]
async fn a_handler_whose_waker_panics_does_not_end_the_server_when_its_client_is_forgotten() {
    let (begun, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let cache = ReplyCache::default().age(Duration::from_millis(50));
    let waiting = Waiting { begun: begun.clone(), told: told.clone() };
    let address = start(Server::builder().reply_cache(cache), waiting).await;
    let mut stream = join(address).await;
    let both = [request(1, 0, b"bad"), request(2, 0, b"good")].concat();
    stream.write_all(&both).await.unwrap();
    until("the handlers", || begun.load(Ordering::SeqCst) == 2).await;
    drop(stream);
    until("the other hears of it", || told.load(Ordering::SeqCst) == 1).await;
    let mut stream = join(address).await;
    stream.write_all(&request(1, 0, b"echo")).await.unwrap();
    expect(&mut stream, &[REPLY]).await;
}
