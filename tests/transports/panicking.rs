//! A transport that panics, or claims what cannot be, ends its connection, and nothing else; and so does other code of the user's
//! that panics on a connection's way.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use steadfast::{
    Began, Bytes, Call, CallCause, CallError, Connect, ConnectCause, Connecting, Connections,
    Endpoint, Heartbeat, LossCause, OsError, Outcome, Phase, Pool, Server, State,
};
use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use crate::bomb::{body_with, bomb};
use crate::memory::in_memory;
use crate::support::layer::Layered;
use crate::support::news;
use crate::support::peer::Peer;
use crate::support::pipes::{Pipes, Switch, pipes};
use crate::support::scripted::*;
use crate::support::tampered::{Below, Tamper};
use crate::support::times::ms;
use crate::support::waits::{soon, until};

/// Panics in what is asked of it next, once it is set.
#[derive(Debug, Clone, Default)]
struct Fuse(Arc<AtomicBool>);

impl Fuse {
    fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// What makes the like of it for each transport.
    fn copies(&self) -> impl Fn() -> Self + use<> {
        let fuse = self.clone();
        move || fuse.clone()
    }
}

impl Tamper for Fuse {
    fn asked(&mut self) {
        assert!(!self.0.swap(false, Ordering::SeqCst), "a transport's own bug");
    }
}

/// Panics when it is dropped, while it is set; once.
#[derive(Debug, Clone, Default)]
struct Bomb(Arc<AtomicBool>);

impl Bomb {
    fn set() -> Self {
        let bomb = Self::default();
        bomb.0.store(true, Ordering::SeqCst);
        bomb
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(!self.0.swap(false, Ordering::SeqCst), "a bug of the user's, in a drop");
    }
}

/// A transport whose drop is a bomb.
struct Dropped {
    _bomb: Bomb,
}

impl Tamper for Dropped {}

/// Claims, once it is set, to have written more than it was given. What it was given has left.
struct Boaster(Arc<AtomicBool>);

impl Tamper for Boaster {
    fn poll_write(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let extra = if self.0.swap(false, Ordering::SeqCst) { 7 } else { 0 };
        Pin::new(below).poll_write(cx, bytes).map_ok(|count| count + extra)
    }
}

fn panicked() -> OsError {
    io::Error::other("the transport panicked").into()
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_panics_in_the_handshake_is_a_failed_attempt() {
    let (connector, mut switch) = pipes(4096);
    let fuse = Fuse::default();
    fuse.set();
    let pool =
        Pool::builder("peer:1").connector(Layered(connector, fuse.copies())).build().unwrap();
    let mut events = pool.events();
    let (error, _) = news::dial_failed(&mut events).await;
    assert_eq!((error.phase, &error.cause), (Phase::Handshake, &ConnectCause::Os(panicked())));
    let mut next = loop {
        // The first is gone.
        let mut stream = switch.accept().await;
        if read_frame(&mut stream).await.unwrap().is_some() {
            break stream;
        }
    };
    next.write_all(&welcome(1, MAX_MESSAGE, 10)).await.unwrap();
    news::connected(&pool, 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_panics_later_costs_its_connection_only() {
    let (connector, mut switch) = pipes(4096);
    let fuse = Fuse::default();
    let pool =
        Pool::builder("peer:1").connector(Layered(connector, fuse.copies())).build().unwrap();
    let mut events = pool.events();
    let mut calls = Vec::new();
    for round in 1..=3 {
        let _peer = Peer::greet(switch.accept().await).await;
        assert_eq!(news::ready(&mut events).await, round);
        fuse.set();
        let pool = pool.clone();
        calls.push(tokio::spawn(async move { pool.request("hello").idempotent().send().await }));
        let loss = news::lost(&mut events).await;
        assert_eq!(loss.cause, LossCause::Os(panicked()));
    }
    let mut peer = Peer::greet(switch.accept().await).await;
    for _ in &calls {
        let request = peer.request().await.unwrap();
        peer.say(reply(request.id, b"done")).await;
    }
    for call in calls {
        assert_eq!(soon("an answer", call).await.unwrap().unwrap(), "done");
    }
}

#[tokio::test(start_paused = true)]
async fn a_servers_transport_that_panics_costs_its_connection_only() {
    let (line, listener) = in_memory();
    let fuse = Fuse::default();
    let server = Server::builder().listen_on(Layered(listener, fuse.copies())).unwrap();
    let handle = server.handle();
    let served = tokio::spawn(server.serve(|call: Call| async move { Ok(call.into_body()) }));
    let join = async || {
        let mut peer = line.dial(4096);
        peer.write_all(&hello(0)).await.unwrap();
        expect(&mut peer, &[WELCOME]).await;
        peer
    };
    let (mut first, mut second) = (join().await, join().await);
    fuse.set();
    first.write_all(&request(1, 0, b"hello")).await.unwrap();
    expect_fin(&mut first).await;
    second.write_all(&request(1, 0, b"hello")).await.unwrap();
    assert_eq!(expect(&mut second, &[REPLY]).await.body(), b"hello");
    drop((first, second));
    handle.shutdown(ms(1000));
    soon("the server's end", served).await.unwrap().unwrap();
}

fn call(pool: &Pool, body: impl Into<Bytes>) -> JoinHandle<Result<Bytes, CallError>> {
    let (pool, body) = (pool.clone(), body.into());
    tokio::spawn(async move { pool.call(body).await })
}

/// Behind the loss of its one connection, or a failed attempt, the pool has another, which is used.
async fn goes_on(pool: &Pool, switch: &mut Switch) {
    let mut peer = loop {
        // Some were given up.
        let mut peer = Peer::new(switch.accept().await);
        if peer.frame().await.is_some() {
            break peer;
        }
    };
    peer.say(welcome(1, MAX_MESSAGE, 10)).await;
    let call = call(pool, "hello");
    // Behind what was not sent before.
    let request = loop {
        let request = peer.request().await.unwrap();
        if request.body == "hello" {
            break request;
        }
    };
    peer.say(reply(request.id, b"done")).await;
    assert_eq!(soon("an answer", call).await.unwrap().unwrap(), "done");
}

#[tokio::test(start_paused = true)]
async fn a_transport_whose_drop_panics_costs_its_connection_only() {
    let (connector, mut switch) = pipes(4096);
    let bomb = Bomb::default();
    let set = bomb.0.clone();
    let pool = Pool::builder("peer:1")
        .connector(Layered(connector, move || Dropped { _bomb: bomb.clone() }))
        .build()
        .unwrap();
    let mut events = pool.events();
    for _ in 0..3 {
        // At the end of a connection, and in a handshake.
        let peer = Peer::greet(switch.accept().await).await;
        news::ready(&mut events).await;
        set.store(true, Ordering::SeqCst);
        drop(peer);
        assert_eq!(news::lost(&mut events).await.cause, LossCause::ClosedByPeer);
        let stranger = switch.accept().await;
        set.store(true, Ordering::SeqCst);
        drop(stranger);
        assert_eq!(news::dial_failed(&mut events).await.0.phase, Phase::Handshake);
    }
    goes_on(&pool, &mut switch).await;
}

#[tokio::test(start_paused = true)]
async fn of_what_a_transport_claims_to_have_written_too_much_everything_counts_as_written() {
    let (connector, mut switch) = pipes(4096);
    let boasts = Arc::new(AtomicBool::new(true));
    let boast = boasts.clone();
    let pool = Pool::builder("peer:1")
        .connector(Layered(connector, move || Boaster(boast.clone())))
        .build()
        .unwrap();
    let why = io::Error::other("the transport claims to have written more than it was given");
    let why = OsError::from(why);
    let mut events = pool.events();
    let (error, _) = news::dial_failed(&mut events).await;
    assert_eq!(
        (error.phase, error.cause.clone()),
        (Phase::Handshake, ConnectCause::Os(why.clone()))
    );
    // The one that failed.
    switch.accept().await;
    let _peer = Peer::greet(switch.accept().await).await;
    news::ready(&mut events).await;
    boasts.store(true, Ordering::SeqCst);
    let error = soon("an error", pool.call("hello")).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Indeterminate, "{error}");
    assert_eq!(news::lost(&mut events).await.cause, LossCause::Os(why));
    goes_on(&pool, &mut switch).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_drop_panics_costs_its_connection_only() {
    let (connector, mut switch) = pipes(4096);
    let pool = Pool::builder("peer:1").connector(connector).build().unwrap();
    let mut events = pool.events();
    let mut peer = Peer::greet(switch.accept().await).await;
    news::ready(&mut events).await;
    // Its last owner is the connection.
    let body = body_with(100_000, Bomb::set());
    let others = ["one", "two"].map(|body| call(&pool, body));
    let asking = pool.clone();
    let huge = tokio::spawn(async move { asking.request(body).timeout(ms(100)).send().await });
    for _ in &others {
        peer.request().await.unwrap();
    }
    // It has begun to leave, and its caller has gone.
    peer.frame().await.unwrap();
    soon("its end", huge).await.unwrap().unwrap_err();
    drop(peer);
    let loss = news::lost(&mut events).await;
    for call in others {
        let error = soon("an error", call).await.unwrap().unwrap_err();
        assert_eq!(error.outcome(), Outcome::Indeterminate, "{error}");
        assert!(
            matches!(error.cause(), CallCause::Lost(told) if told.cause == loss.cause),
            "{error}"
        );
    }
    goes_on(&pool, &mut switch).await;
}

/// Some are on their way, some wait, some are withdrawn, some are not.
#[tokio::test(start_paused = true)]
async fn many_bodies_whose_drops_panic_cost_no_more_than_one() {
    let (connector, mut switch) = pipes(4096);
    let pool = Pool::builder("peer:1").connector(connector).build().unwrap();
    let mut events = pool.events();
    let mut peer = Peer::greet(switch.accept().await).await;
    news::ready(&mut events).await;
    let lengths = [20_000, 70_000, 20_000, 300_000, 20_000, 300_000, 20_000, 70_000];
    for (number, length) in lengths.into_iter().chain([300_000; 20]).enumerate() {
        let body = bomb(length);
        let limit = if number % 2 == 0 || number > 8 { ms(100) } else { ms(60_000) };
        let pool = pool.clone();
        tokio::spawn(async move { pool.request(body).timeout(limit).send().await });
    }
    // Their callers keep nothing.
    for _ in 0..8 {
        let body = bomb(300_000);
        let pool = pool.clone();
        tokio::spawn(async move { pool.notify(body).await });
    }
    peer.frame().await.unwrap();
    tokio::time::sleep(ms(200)).await;
    drop(peer);
    news::lost(&mut events).await;
    goes_on(&pool, &mut switch).await;
}

/// Never comes to anything the first time, and its drop panics then.
async fn hangs_once(bomb: &Bomb) {
    if bomb.0.load(Ordering::SeqCst) {
        let _bomb = bomb.clone();
        std::future::pending().await
    }
}

struct SlowLine(Pipes, Bomb);

impl Connect for SlowLine {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async {
            hangs_once(&self.1).await;
            self.0.connect(endpoint).await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn what_panics_when_its_time_is_over_costs_that_attempt_only() {
    let (connector, mut switch) = pipes(4096);
    let slow = Pool::builder("peer:1").connector(SlowLine(connector, Bomb::set())).build().unwrap();
    let (error, _) = news::dial_failed(&mut slow.events()).await;
    assert!(matches!(error.cause, ConnectCause::TimedOut { .. }), "{error}");
    assert_eq!(error.phase, Phase::Connect);
    goes_on(&slow, &mut switch).await;

    let (connector, mut switch) = pipes(4096);
    let bomb = Bomb::set();
    let hooked = Pool::builder("peer:1")
        .connector(connector)
        .on_connect(move |_| {
            let bomb = bomb.clone();
            async move {
                hangs_once(&bomb).await;
                Ok(())
            }
        })
        .build()
        .unwrap();
    let mut events = hooked.events();
    let _peer = Peer::greet(switch.accept().await).await;
    let (error, _) = news::dial_failed(&mut events).await;
    assert!(matches!(error.cause, ConnectCause::TimedOut { .. }), "{error}");
    assert_eq!(error.phase, Phase::Hook);
    goes_on(&hooked, &mut switch).await;
}

/// Its attempt is under way when the pool is closed.
#[tokio::test(start_paused = true)]
async fn what_panics_when_its_pool_is_closed_is_no_matter() {
    let (connector, _switch) = pipes(4096);
    let bomb = Bomb::set();
    let is_set = bomb.0.clone();
    let pool = Pool::builder("peer:1").connector(SlowLine(connector, bomb)).build().unwrap();
    // Besides this one and the connector's.
    until("the attempt to have a bomb", || Arc::strong_count(&is_set) > 2).await;
    assert_eq!(pool.close(ms(1000)).await, Ok(()));
    assert!(!is_set.load(Ordering::SeqCst), "its drop has panicked");
}

/// A hook's error that can neither be shown nor dropped.
#[derive(Debug)]
struct Unspeakable;

impl std::fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        panic!("a bug of the user's, in a text");
    }
}

impl std::error::Error for Unspeakable {}

impl Drop for Unspeakable {
    fn drop(&mut self) {
        panic!("a bug of the user's, in an error's drop");
    }
}

/// The error is that of the attempts to replace a connection that is in use.
#[tokio::test(start_paused = true)]
async fn an_error_that_cannot_be_shown_or_dropped_costs_its_attempt_only() {
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
    let _default = tracing::subscriber::set_default(subscriber.with_writer(io::sink).finish());
    let (connector, mut switch) = pipes(4096);
    let fails = Arc::new(AtomicBool::new(false));
    let failing = fails.clone();
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .connections(Connections::from(1).lifetime(ms(100_000)))
        .on_connect(move |_| {
            let fails = failing.load(Ordering::SeqCst);
            async move { if fails { Err(Unspeakable.into()) } else { Ok(()) } }
        })
        .heartbeat(Heartbeat::every(ms(1_000_000)))
        .build()
        .unwrap();
    let mut events = pool.events();
    let mut peer = Peer::greet(switch.accept().await).await;
    news::ready(&mut events).await;
    let asking = pool.clone();
    let call = async move { asking.request("hello").timeout(ms(1_000_000)).send().await };
    let call = tokio::spawn(call);
    let request = peer.request().await.unwrap();
    fails.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let _next = Peer::greet(switch.accept().await).await;
        let (error, _) = news::dial_failed(&mut events).await;
        assert_eq!(error.phase, Phase::Hook);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(error)));
    }
    // With nobody else who has it.
    drop(events);
    for _ in 0..3 {
        let mut next = Peer::greet(switch.accept().await).await;
        assert_eq!(next.frame().await, None);
    }
    let mut events = pool.events();
    fails.store(false, Ordering::SeqCst);
    peer.say(reply(request.id, b"done")).await;
    assert_eq!(soon("an answer", call).await.unwrap().unwrap(), "done");
    let _next = Peer::greet(switch.accept().await).await;
    assert!(news::ready(&mut events).await > 1);
}

/// Panics over so many spans.
struct Subscriber(AtomicUsize);

impl tracing::Subscriber for Subscriber {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        assert!(left.is_err(), "a subscriber's own bug");
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {}

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn behind_a_panic_that_nothing_catches_a_slot_begins_again() {
    let _default = tracing::subscriber::set_default(Subscriber(AtomicUsize::new(3)));
    let (connector, mut switch) = pipes(4096);
    let pool = Pool::builder("peer:1").connector(connector).build().unwrap();
    for _ in 0..3 {
        let mut peer = Peer::greet(switch.accept().await).await;
        assert_eq!(peer.frame().await, None);
        let status = pool.status();
        let outage = status.outage.unwrap();
        assert_eq!((status.state, outage.began), (State::Connecting, Began::NeverConnected));
        assert!(outage.next_in.is_some());
    }
    goes_on(&pool, &mut switch).await;
}
