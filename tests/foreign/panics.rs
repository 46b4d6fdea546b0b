//! Users' code that panics costs what it was called for, and no capacity.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use steadfast::{
    BoxError, Bytes, CallCause, ConnectCause, Dialect, Frames, Framing, LossCause, Matching,
    Meaning, Ordered, Outcome, Phase, Protocol, Unsendable, Violation,
};
use tokio::task::JoinSet;

use crate::server::{Answers, Erratic, ordered, pool};
use crate::support::news;
use crate::support::waits::until;

const LONG: Duration = Duration::from_secs(60);

/// Where it panics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Clone,
    Open,
    Framing,
    Matching,
    Ping,
    Request,
    Received,
}

/// Plain frames; panics some times in one place when it is armed.
#[derive(Debug)]
struct Fragile {
    plain: Ordered,
    place: Place,
    left: Arc<AtomicU32>,
}

impl Fragile {
    fn pass(&self, place: Place) {
        let armed = |left: u32| left.checked_sub(1);
        if place == self.place
            && self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, armed).is_ok()
        {
            panic!("a test in {place:?}");
        }
    }
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        self.pass(Place::Clone);
        Self { plain: self.plain.clone(), place: self.place, left: self.left.clone() }
    }
}

impl Dialect for Fragile {
    fn framing(&self) -> Framing {
        self.pass(Place::Framing);
        self.plain.framing()
    }

    fn matching(&self) -> Matching {
        self.pass(Place::Matching);
        self.plain.matching()
    }

    fn request(&self, id: u64, body: Bytes, head: &mut BytesMut) -> Result<Bytes, Unsendable> {
        self.pass(Place::Request);
        self.plain.request(id, body, head)
    }

    fn received(&self, frame: Bytes) -> Result<Meaning, Violation> {
        self.pass(Place::Received);
        self.plain.received(frame)
    }

    fn ping(&self, id: u64) -> Option<Bytes> {
        self.pass(Place::Ping);
        self.plain.ping(id)
    }
}

impl Protocol for Fragile {
    async fn open(&mut self, _: &mut Frames<'_>) -> Result<(), BoxError> {
        self.pass(Place::Open);
        Ok(())
    }
}

/// So many calls run at the same time: nothing is lost.
async fn assert_whole(pool: &steadfast::Pool, server: &Erratic, places: usize) {
    until("all places are left", || pool.status().in_flight == 0).await;
    server.holding.send_replace(true);
    let mut calls = JoinSet::new();
    for number in 0..places {
        let pool = pool.clone();
        calls.spawn(async move {
            let body = number.to_string();
            assert_eq!(pool.request(body.clone()).timeout(LONG).send().await.unwrap(), body);
        });
    }
    until("all at a time", || server.owed.load(Ordering::SeqCst) == places).await;
    server.holding.send_replace(false);
    while let Some(ended) = calls.join_next().await {
        ended.unwrap();
    }
}

/// A pool whose protocol panics in the next so many calls of a method, after it was built.
async fn fragile(place: Place, times: u32) -> (Erratic, steadfast::Pool, Arc<AtomicU32>) {
    let (server, address) = Erratic::start(Answers::InOrder).await;
    let left = Arc::new(AtomicU32::new(0));
    let protocol = Fragile { plain: ordered().pipeline(4), place, left: left.clone() };
    let builder = pool(address).connections(2).protocol(protocol);
    // Nothing runs between these two: the runtime has one thread.
    let pool = builder.build().unwrap();
    left.store(times, Ordering::SeqCst);
    (server, pool, left)
}

#[tokio::test]
async fn a_panic_while_a_connection_is_opened_costs_that_attempt_only() {
    for place in [Place::Open, Place::Clone, Place::Framing, Place::Matching, Place::Ping] {
        let (server, pool, left) = fragile(place, 5).await;
        let mut events = pool.events();
        for _ in 0..5 {
            let (error, _) = news::dial_failed(&mut events).await;
            assert_eq!(
                (error.phase, &error.cause),
                (Phase::Handshake, &ConnectCause::ProtocolPanicked),
                "{place:?}"
            );
        }
        assert_eq!(left.load(Ordering::SeqCst), 0);
        news::connected(&pool, 2).await;
        assert_whole(&pool, &server, 8).await;
    }
}

#[tokio::test]
async fn a_panic_over_a_frame_costs_that_connection_only() {
    let (server, pool, left) = fragile(Place::Received, 0).await;
    let mut events = pool.events();
    news::connected(&pool, 2).await;
    for _ in 0..3 {
        left.store(1, Ordering::SeqCst);
        let error = pool.call("hello").await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Indeterminate);
        let CallCause::Lost(loss) = error.cause() else { panic!("{error}") };
        assert_eq!(loss.cause, LossCause::DialectPanicked);
        assert_eq!(news::lost(&mut events).await.cause, loss.cause);
    }
    news::connected(&pool, 2).await;
    assert_whole(&pool, &server, 8).await;
}

#[tokio::test]
async fn a_panic_over_a_body_is_its_callers_only() {
    let (server, pool, left) = fragile(Place::Request, 0).await;
    let mut events = pool.events();
    news::connected(&pool, 2).await;
    left.store(20, Ordering::SeqCst);
    for _ in 0..20 {
        let pool = pool.clone();
        let call = tokio::spawn(async move { pool.call("hello").await });
        assert!(call.await.unwrap_err().is_panic());
    }
    assert_whole(&pool, &server, 8).await;
    drop(pool);
    while let Some(event) = events.next().await {
        assert!(!matches!(event, steadfast::Event::Lost { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn a_panic_in_the_hook_costs_that_attempt_only() {
    let (server, address) = Erratic::start(Answers::InOrder).await;
    let left = Arc::new(AtomicU32::new(5));
    let hooked = left.clone();
    let mut builder = pool(address).connections(2).protocol(ordered().pipeline(4)).on_connect(
        move |mut conversation| {
            let left = hooked.clone();
            async move {
                conversation.call("hello").await?;
                let armed = |left: u32| left.checked_sub(1);
                let armed = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, armed);
                assert!(armed.is_err(), "a test");
                Ok(())
            }
        },
    );
    let mut events = builder.events();
    let pool = builder.build().unwrap();
    for _ in 0..5 {
        let (error, _) = news::dial_failed(&mut events).await;
        assert_eq!((error.phase, &error.cause), (Phase::Hook, &ConnectCause::HookPanicked));
    }
    news::connected(&pool, 2).await;
    assert_whole(&pool, &server, 8).await;
}
