//! What becomes of a connection when its lease ends, and of what comes between two leases.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use steadfast::{Event, LeaseCause, LossCause, Pool, Retirement, Retry, Step, Subscription};
use tokio::io::{AsyncWriteExt as _, DuplexStream};

use crate::support::news::{self, connected};
use crate::support::pipes::{Switch, pipes};
use crate::support::plain::{Frames, frames, ordered};
use crate::support::times::ms;
use crate::support::waits::soon;

pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A pool of so many connections over pipes, and the far ends.
pub(crate) async fn piped(count: usize) -> (Pool, Switch, Vec<Frames<DuplexStream>>) {
    let (connector, mut switch) = pipes(256);
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .protocol(ordered().heartbeat("ping"))
        .connections(count)
        .retry(Retry::never())
        .call_timeout(LONG)
        .build()
        .unwrap();
    let mut peers = Vec::new();
    for _ in 0..count {
        peers.push(frames(switch.accept().await));
    }
    soon("connections", connected(&pool, count)).await;
    (pool, switch, peers)
}

async fn retired(events: &mut Subscription<Event>) -> Retirement {
    news::event(events, "a connection is let go", |event| match event {
        Event::Retired { why, .. } => Some(why),
        _ => None,
    })
    .await
}

/// The peer does not answer the FIN: it is busy with what nobody waits for any more.
#[tokio::test(start_paused = true)]
async fn what_a_lease_leaves_behind_is_closed_and_another_is_made_at_once() {
    let (pool, mut switch, mut peers) = piped(1).await;
    let mut events = pool.events();
    let began = tokio::time::Instant::now();
    for round in 1..20 {
        let mut lease = pool.lease().await.unwrap();
        assert_eq!(lease.connection(), round);
        lease.send("a question").await.unwrap();
        drop(lease);
        assert_eq!(retired(&mut events).await, Retirement::Lease);
        peers.push(frames(switch.accept().await));
        let peer = &mut peers[round as usize - 1];
        assert_eq!(peer.next().await.unwrap().unwrap(), "a question");
        assert!(peer.next().await.is_none(), "a FIN");
    }
    assert!(began.elapsed() < ms(1000), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_unasked_frame_between_two_leases_ends_the_connection_and_reaches_nobody() {
    for whole in [true, false] {
        let (pool, mut switch, mut peers) = piped(1).await;
        let mut events = pool.events();
        let mut peer = peers.remove(0);
        let mut lease = pool.lease().await.unwrap();
        lease.send("question").await.unwrap();
        peer.next().await.unwrap().unwrap();
        peer.send("answer".into()).await.unwrap();
        assert_eq!(lease.recv().await.unwrap(), "answer");
        drop(lease);
        let bytes = if whole { &b"\x00\x00\x00\x01X"[..] } else { &b"\x00\x00"[..] };
        peer.get_mut().write_all(bytes).await.unwrap();
        let loss = news::lost(&mut events).await;
        assert!(matches!(loss.cause, LossCause::Violation(_)), "{loss}");
        let mut next = frames(switch.accept().await);
        let mut lease = pool.lease().await.unwrap();
        assert_eq!(lease.connection(), 2);
        lease.send("another").await.unwrap();
        next.next().await.unwrap().unwrap();
        next.send("its answer".into()).await.unwrap();
        assert_eq!(lease.recv().await.unwrap(), "its answer");
    }
}

/// A connection whose peer has closed is not lent, though nobody used it.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_that_the_peer_closed_is_not_lent() {
    let (pool, mut switch, mut peers) = piped(2).await;
    let mut events = pool.events();
    peers.remove(0);
    news::lost(&mut events).await;
    let lease = pool.lease().await.unwrap();
    assert_eq!(lease.connection(), 2);
    let _third = switch.accept().await;
    assert_eq!(pool.lease().await.unwrap().connection(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_lent_is_asked_for_signs_of_life_when_it_is_back() {
    let (pool, _switch, mut peers) = piped(1).await;
    let mut events = pool.events();
    let lease = pool.lease().await.unwrap();
    tokio::time::sleep(ms(100_000)).await;
    drop(lease);
    let returned = tokio::time::Instant::now();
    assert_eq!(peers[0].next().await.unwrap().unwrap(), "ping");
    peers[0].send("pong".into()).await.unwrap();
    assert_eq!(peers[0].next().await.unwrap().unwrap(), "ping");
    let answered = tokio::time::Instant::now();
    assert!(answered - returned <= ms(10_010), "{:?}", answered - returned);
    let loss = news::lost(&mut events).await;
    assert!(matches!(loss.cause, LossCause::Silent { .. }), "{loss}");
    assert!(answered.elapsed() <= ms(10_010), "{:?}", answered.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_ping_that_is_out_when_the_connection_is_lent_is_answered_to_nobody() {
    let (pool, _switch, mut peers) = piped(1).await;
    assert_eq!(peers[0].next().await.unwrap().unwrap(), "ping");
    let mut lease = pool.lease().await.unwrap();
    // Nothing is sent behind it before it is answered.
    {
        let mut sending = Box::pin(lease.send("question"));
        assert!(futures::poll!(&mut sending).is_pending());
        peers[0].send("pong".into()).await.unwrap();
        sending.await.unwrap();
    }
    assert_eq!(peers[0].next().await.unwrap().unwrap(), "question");
    peers[0].send("answer".into()).await.unwrap();
    assert_eq!(lease.recv().await.unwrap(), "answer");
    drop(lease);
    assert_eq!(pool.lease().await.unwrap().connection(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_knows_better_gives_back_what_a_drop_would_close_and_the_other_way_round() {
    let (pool, mut switch, _peers) = piped(1).await;
    let mut lease = pool.lease().await.unwrap();
    lease.send("no answer to this").await.unwrap();
    lease.give_back();
    let mut lease = pool.lease().await.unwrap();
    assert_eq!(lease.connection(), 1);
    lease.mark_broken();
    lease.give_back();
    let _next = switch.accept().await;
    assert_eq!(pool.lease().await.unwrap().connection(), 2);
}

#[tokio::test]
async fn a_pool_of_shared_connections_says_at_once_that_it_has_no_leases() {
    // Nobody listens, and nobody is waited for.
    let pool = Pool::builder("127.0.0.1:1").call_timeout(LONG).build().unwrap();
    let error = soon("the error", pool.lease().into_future()).await.unwrap_err();
    assert_eq!((error.cause(), error.step()), (&LeaseCause::NotLent, Step::CheckOut));
    assert_eq!(
        error.to_string(),
        "127.0.0.1:1: getting a connection failed: the connections of this protocol are shared: it has no leases"
    );
}
