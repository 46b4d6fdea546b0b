//! Code of the user's that panics when it is dropped: where there is more than one of it, where something is still to be done
//! behind it, and where it concerns a connection that another is beside.

use std::future::{Future, IntoFuture as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bytes::BytesMut;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use steadfast::{
    BoxError, Bytes, Call, CloseError, Connections, Dialect, ErrorReply, Event, Frames, Framing,
    Matching, Meaning, Ordered, Pool, Protocol, Reconnect, ReplyCache, Server, Unsendable,
    Violation,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::{sleep, timeout};

use crate::bomb::{Bomb, bomb};
use crate::memory::in_memory;
use crate::support::news;
use crate::support::peer::Peer;
use crate::support::pipes::pipes;
use crate::support::plain;
use crate::support::scripted::*;
use crate::support::times::ms;
use crate::support::waits::{soon, until};

const SECOND: Duration = Duration::from_secs(1);

/// Server: an answer in the reply cache whose drop panics, when it is too old.
#[tokio::test(start_paused = true)]
async fn a_kept_answer_whose_drop_panics_does_not_end_the_server() {
    let (line, listener) = in_memory();
    let server = Server::builder()
        .reply_cache(ReplyCache::default().age(10 * SECOND))
        .listen_on(listener)
        .unwrap();
    let served = tokio::spawn(server.serve(|call: Call| async move {
        Ok::<_, ErrorReply>(if call.body() == "bomb" { bomb(20_000) } else { call.into_body() })
    }));
    let mut one = line.dial(1 << 20);
    one.write_all(&hello(0)).await.unwrap();
    expect(&mut one, &[WELCOME]).await;
    one.write_all(&request(1, 0, b"bomb")).await.unwrap();
    assert_eq!(expect(&mut one, &[REPLY]).await.body().len(), 20_000);
    sleep(30 * SECOND).await;
    assert!(!served.is_finished(), "the server has ended: {:?}", served.await);
    let mut other = line.dial(1 << 20);
    other.write_all(&hello(0)).await.unwrap();
    expect(&mut other, &[WELCOME]).await;
    other.write_all(&request(1, 0, b"hello")).await.unwrap();
    assert_eq!(expect(&mut other, &[REPLY]).await.body(), b"hello");
}

/// The same, at the end of the server: `forget_all`.
#[tokio::test(start_paused = true)]
async fn a_kept_answer_whose_drop_panics_does_not_spoil_the_shutdown() {
    let (line, listener) = in_memory();
    let server = Server::builder().listen_on(listener).unwrap();
    let handle = server.handle();
    let served =
        tokio::spawn(server.serve(|_: Call| async move { Ok::<_, ErrorReply>(bomb(20_000)) }));
    let mut one = line.dial(1 << 20);
    one.write_all(&hello(0)).await.unwrap();
    expect(&mut one, &[WELCOME]).await;
    one.write_all(&request(1, 0, b"bomb")).await.unwrap();
    assert_eq!(expect(&mut one, &[REPLY]).await.body().len(), 20_000);
    drop(one);
    sleep(SECOND).await;
    handle.shutdown(SECOND);
    assert!(matches!(soon("the end", served).await, Ok(Ok(()))), "the shutdown panicked");
}

/// Server: two answers that a client that has left does not take any more. Aborts the process.
#[tokio::test(start_paused = true)]
async fn two_answers_whose_drops_panic_cost_their_connection_only() {
    let (line, listener) = in_memory();
    let server = Server::builder().reply_cache(ReplyCache::off()).listen_on(listener).unwrap();
    let served = tokio::spawn(server.serve(|call: Call| async move {
        Ok::<_, ErrorReply>(if call.body() == "bomb" { bomb(3 << 20) } else { call.into_body() })
    }));
    let mut one = line.dial(1024);
    one.write_all(&hello(0)).await.unwrap();
    expect(&mut one, &[WELCOME]).await;
    one.write_all(&request(1, 0, b"bomb")).await.unwrap();
    one.write_all(&request(2, 0, b"bomb")).await.unwrap();
    sleep(ms(10)).await;
    drop(one);
    let mut other = line.dial(1 << 20);
    other.write_all(&hello(0)).await.unwrap();
    expect(&mut other, &[WELCOME]).await;
    other.write_all(&request(1, 0, b"hello")).await.unwrap();
    assert_eq!(expect(&mut other, &[REPLY]).await.body(), b"hello");
    assert!(!served.is_finished());
}

/// A hook's error.
#[derive(Debug)]
struct Explosive {
    _bomb: Bomb,
}

impl std::fmt::Display for Explosive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("not yet")
    }
}

impl std::error::Error for Explosive {}

#[tokio::test(start_paused = true)]
async fn a_hooks_error_whose_drop_panics_leaves_no_call_waiting_for_ever() {
    let (connector, mut switch) = pipes(4096);
    let left = AtomicUsize::new(1);
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .reconnect(Reconnect::exponential(ms(100), ms(1000)))
        .on_connect(move |_| {
            let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            async move { fails.map(|_| Err(Explosive { _bomb: Bomb }.into())).unwrap_or(Ok(())) }
        })
        .build()
        .unwrap();
    tokio::spawn(async move {
        loop {
            tokio::spawn(Peer::greet(switch.accept().await).then(Peer::echo));
        }
    });
    // It is never woken, and when its own time is over neither: but then the usher spins, and this test would hang.
    let call = pool.request("hello").timeout(60 * SECOND).send();
    let told = timeout(20 * SECOND, call).await;
    assert!(told.is_ok(), "connected, and neither an answer nor an error in 20 s");
    assert_eq!(told.unwrap().unwrap(), "hello");
}

/// The server has sent the connection away, and finishes a call on it. The hooks of the next two attempts fail.
#[tokio::test(start_paused = true)]
async fn a_failed_attempt_whose_error_panics_does_not_cost_the_connection_that_drains() {
    let (connector, mut switch) = pipes(4096);
    let left = AtomicUsize::new(0);
    let (left, failing) = {
        let left = Arc::new(left);
        (left.clone(), left)
    };
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .reconnect(Reconnect::exponential(ms(100), ms(100)))
        .on_connect(move |_| {
            let fails =
                failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
            async move { fails.map(|_| Err(Explosive { _bomb: Bomb }.into())).unwrap_or(Ok(())) }
        })
        .build()
        .unwrap();
    let mut first = Peer::greet(switch.accept().await).await;
    news::connected(&pool, 1).await;
    left.store(2, Ordering::SeqCst);
    let asking = pool.clone();
    let call =
        tokio::spawn(async move { asking.request("slow").timeout(10 * SECOND).send().await });
    let request = first.request().await.unwrap();
    first.say(go_away(1, 1, 0, "restart")).await;
    tokio::spawn(async move {
        loop {
            let end = switch.accept().await;
            tokio::spawn(async { Peer::greet(end).await.echo().await });
        }
    });
    sleep(3 * SECOND).await;
    first.say(reply(request.id, b"done")).await;
    assert_eq!(soon("its end", call).await.unwrap().unwrap(), "done");
}

/// Slot 1 is gone while its attempt is in the hook, which has something to write.
#[tokio::test(start_paused = true)]
async fn what_panics_when_a_slot_goes_is_all_that_panics() {
    let said = Arc::<Mutex<Vec<String>>>::default();
    let saying = said.clone();
    std::panic::set_hook(Box::new(move |info| saying.lock().unwrap().push(info.to_string())));
    let (connector, mut switch) = pipes(1024);
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .connections(1)
        .on_connect(|mut conversation| async move {
            if conversation.connection() == 2 {
                conversation.notify(bomb(100_000)).await?;
            }
            Ok(())
        })
        .build()
        .unwrap();
    let first = Peer::greet(switch.accept().await).await;
    tokio::spawn(first.echo());
    news::connected(&pool, 1).await;
    pool.resize(2).unwrap();
    let _second = Peer::greet(switch.accept().await).await;
    sleep(ms(100)).await;
    pool.resize(1).unwrap();
    sleep(SECOND).await;
    let _ = std::panic::take_hook();
    assert_eq!(soon("an answer", pool.call("hello")).await.unwrap(), "hello");
    let said = said.lock().unwrap();
    assert!(said.iter().all(|said| said.contains("a bug of the user's")), "{said:#?}");
}

/// What `CloseError` counts.
#[tokio::test(start_paused = true)]
async fn a_handler_that_is_cut_off_and_panics_in_its_drop_counts_as_cut_off() {
    let (line, listener) = in_memory();
    let server = Server::builder().listen_on(listener).unwrap();
    let handle = server.handle();
    let served = tokio::spawn(server.serve(|call: Call| async move {
        let _bomb = (call.body() == "bomb").then(|| Bomb);
        std::future::pending::<()>().await;
        Ok::<_, ErrorReply>(Bytes::new())
    }));
    let mut one = line.dial(1 << 20);
    one.write_all(&hello(0)).await.unwrap();
    expect(&mut one, &[WELCOME]).await;
    one.write_all(&request(1, 0, b"bomb")).await.unwrap();
    one.write_all(&request(2, 0, b"none")).await.unwrap();
    sleep(ms(10)).await;
    drop(one);
    sleep(ms(10)).await;
    handle.shutdown(ms(100));
    let ended = soon("the end", served).await.unwrap();
    assert!(matches!(&ended, Err(CloseError { unfinished: 2, .. })), "{ended:?}");
}

/// A waker whose drop panics.
struct Fragile(AtomicBool);

impl Wake for Fragile {
    fn wake(self: Arc<Self>) {}
}

impl Drop for Fragile {
    fn drop(&mut self) {
        if self.0.swap(false, Ordering::SeqCst) {
            panic!("a bug of the user's, in a waker's drop");
        }
    }
}

/// Polls it with a waker of which it keeps the last copy.
fn poll_fragile<F: Future + ?Sized>(future: Pin<&mut F>) -> bool {
    let waker = Waker::from(Arc::new(Fragile(AtomicBool::new(true))));
    let is_ready = future.poll(&mut Context::from_waker(&waker)).is_ready();
    let _ = catch_unwind(AssertUnwindSafe(|| drop(waker)));
    is_ready
}

/// One who wants a connection alone holds up others, and gives up.
#[tokio::test(start_paused = true)]
async fn one_whose_waker_panics_in_its_drop_leaves_the_line_to_others() {
    let (connector, mut switch) = pipes(4096);
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .protocol(plain::ordered().pipeline(4))
        .build()
        .unwrap();
    let mut peer = plain::frames(switch.accept().await);
    news::connected(&pool, 1).await;
    // One is in flight.
    let mut first = Box::pin(pool.request("first").timeout(SECOND * 100).send());
    assert!((&mut first).now_or_never().is_none());
    assert_eq!(peer.next().await.unwrap().unwrap(), "first");
    let mut lease = Box::pin(pool.lease().into_future());
    assert!(!poll_fragile(lease.as_mut()));
    let asking = pool.clone();
    let second =
        tokio::spawn(async move { asking.request("second").timeout(60 * SECOND).send().await });
    sleep(ms(10)).await;
    let _ = catch_unwind(AssertUnwindSafe(|| drop(lease)));
    let frame = timeout(20 * SECOND, peer.next()).await;
    assert!(frame.is_ok(), "second is never sent, nor told: {}", second.is_finished());
    let _ = peer.send("x".into()).await;
}

/// It waits for a frame, and is dropped.
#[tokio::test(start_paused = true)]
async fn a_lease_whose_waker_panics_in_its_drop_gives_its_place_back() {
    let (connector, mut switch) = pipes(4096);
    let pool =
        Pool::builder("peer:1").connector(connector).protocol(plain::ordered()).build().unwrap();
    let _peer = plain::frames(switch.accept().await);
    let mut lease = pool.lease().await.unwrap();
    lease.set_timeout(ms(10));
    assert!(!poll_fragile(Box::pin(lease.recv()).as_mut()));
    // The timer has gone off, and has its copy no more.
    sleep(ms(20)).await;
    let _ = catch_unwind(AssertUnwindSafe(|| drop(lease)));
    let next = timeout(20 * SECOND, pool.lease()).await;
    assert!(next.expect("the only connection is free").is_ok());
}

#[derive(Debug, Clone)]
struct Bombed(Ordered, Arc<AtomicBool>);

impl Drop for Bombed {
    fn drop(&mut self) {
        assert!(!self.1.swap(false, Ordering::SeqCst), "a dialect's own bug");
    }
}

impl Dialect for Bombed {
    fn framing(&self) -> Framing {
        self.0.framing()
    }

    fn matching(&self) -> Matching {
        self.0.matching()
    }

    fn request(&self, id: u64, body: Bytes, head: &mut BytesMut) -> Result<Bytes, Unsendable> {
        self.0.request(id, body, head)
    }

    fn received(&self, frame: Bytes) -> Result<Meaning, Violation> {
        self.0.received(frame)
    }
}

impl Protocol for Bombed {
    async fn open(&mut self, _: &mut Frames<'_>) -> Result<(), BoxError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_whose_dialect_panics_in_its_drop_is_told_as_lost() {
    let (connector, mut switch) = pipes(4096);
    let armed = Arc::<AtomicBool>::default();
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .protocol(Bombed(plain::ordered(), armed.clone()))
        .build()
        .unwrap();
    let peer = switch.accept().await;
    news::connected(&pool, 1).await;
    let mut events = pool.events();
    armed.store(true, Ordering::SeqCst);
    drop(peer);
    let mut told = Vec::new();
    tokio::spawn(plain::echo(switch.accept().await));
    while let Ok(Some(event)) = timeout(SECOND * (2), events.next()).await {
        told.push(event);
    }
    assert!(!armed.load(Ordering::SeqCst));
    assert!(told.iter().any(|event| matches!(event, Event::Lost { .. })), "{told:#?}");
}

/// Another connection of the slot, sent away by its server, finishes a call meanwhile: it is its own connection that pays.
#[tokio::test(start_paused = true)]
async fn a_lease_that_goes_on_is_not_cut_off_by_another_connections_dialect() {
    let (connector, mut switch) = pipes(4096);
    let armed = Arc::<AtomicBool>::default();
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .connections(Connections::from(1).lifetime(SECOND * (10)))
        .protocol(Bombed(plain::ordered(), armed.clone()))
        .build()
        .unwrap();
    let mut first = plain::frames(switch.accept().await);
    news::connected(&pool, 1).await;
    let mut lease = pool.lease().await.unwrap();
    lease.send("question").await.unwrap();
    first.next().await.unwrap().unwrap();
    // Replaced for its age; the old one goes on for its lease.
    let second = switch.accept().await;
    sleep(ms(100)).await;
    armed.store(true, Ordering::SeqCst);
    drop(second);
    let _third = switch.accept().await;
    assert!(!armed.load(Ordering::SeqCst));
    first.send("answer".into()).await.unwrap();
    assert_eq!(lease.recv().await.unwrap(), "answer");
}

/// Slot 1 is gone, its old channel still drains a connection, and it is there again.
#[tokio::test(start_paused = true)]
async fn a_slot_has_one_channel() {
    let (connector, mut switch) = pipes(1024);
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .protocol(plain::ordered())
        .connections(2)
        .build()
        .unwrap();
    let mut ends = vec![switch.accept().await, switch.accept().await];
    news::connected(&pool, 2).await;
    let (one, two) = (pool.lease().await.unwrap(), pool.lease().await.unwrap());
    // That of slot 1 was made second.
    let (first, mut lease) = if one.connection() == 2 { (two, one) } else { (one, two) };
    drop(first);
    lease.feed(bomb(20_000)).await.unwrap();
    for _ in 0..30 {
        lease.feed(vec![7; 20_000].into()).await.unwrap();
    }
    lease.feed(bomb(20_000)).await.unwrap();
    let mut old = ends.pop().unwrap();
    pool.resize(1).unwrap();
    sleep(ms(100)).await;
    pool.resize(2).unwrap();
    ends.push(switch.accept().await);
    news::connected(&pool, 2).await;
    let alive = Arc::new(AtomicUsize::new(ends.len()));
    let watch = |mut end: DuplexStream| {
        let alive = alive.clone();
        tokio::spawn(async move {
            let _ = end.read_to_end(&mut Vec::new()).await;
            alive.fetch_sub(1, Ordering::SeqCst);
        });
    };
    ends.into_iter().for_each(watch);
    // What the old one has begun to write goes out.
    let _ = timeout(ms(100), old.read_exact(&mut vec![0; 25_000])).await;
    drop((old, lease));
    sleep(SECOND * (5)).await;
    let mut more = 0;
    while let Ok(end) = timeout(ms(100), switch.accept()).await {
        more += 1;
        alive.fetch_add(1, Ordering::SeqCst);
        watch(end);
        if more > 50 {
            break;
        }
    }
    sleep(SECOND * (5)).await;
    let alive = alive.load(Ordering::SeqCst);
    assert_eq!((alive, more), (2, 0), "of a pool of two");
}

/// A place on a connection is given back with it, whatever that dies of.
#[tokio::test]
async fn a_cancelled_call_has_no_place_any_more_when_its_connection_has_died_of_a_panic() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut builder = Pool::builder(address).protocol(Ordered::new(Framing::u32_be()));
    let mut events = builder.events();
    let pool = builder.build().unwrap();
    let (mut line, _) = soon("a connection", listener.accept()).await.unwrap();
    pool.ready(20 * SECOND).await.unwrap();
    let mut call = Box::pin(pool.call(bomb(8 << 20)));
    // It has begun to go out when the server has a byte of it.
    let mut bytes = vec![0; 1 << 16];
    tokio::select! {
        _ = &mut call => unreachable!(),
        count = line.read(&mut bytes) => assert!(count.unwrap() > 0),
    }
    // Nobody waits for it any more. The rest goes out all the same, and then the body is dropped.
    drop(call);
    assert_eq!(pool.status().in_flight, 1, "until its answer has come");
    tokio::spawn(async move { while let Ok(1..) = line.read(&mut bytes).await {} });
    soon("the loss", async { while !matches!(events.next().await, Some(Event::Lost { .. })) {} })
        .await;
    let (_next, _) = soon("the next connection", listener.accept()).await.unwrap();
    until("it to be ready", || pool.status().ready == 1).await;
    assert_eq!(pool.status().in_flight, 0, "there is no call: {:?}", pool.status());
}
