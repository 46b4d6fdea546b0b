//! A lease as a stream of frames and a sink for them.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::stream::iter;
use futures::{SinkExt as _, StreamExt as _};
use steadfast::{Bytes, LeaseCause, Limits, Pool, Retry, Step};

use crate::endings::{LONG, piped};
use crate::support::news::connected;
use crate::support::pipes::pipes;
use crate::support::plain::{echo, frames, ordered};
use crate::support::times::ms;
use crate::support::waits::soon;

fn numbered(count: usize) -> impl Iterator<Item = Bytes> {
    (0..count).map(|number| Bytes::from(format!("{number:0>200}")))
}

#[tokio::test(start_paused = true)]
async fn both_halves_carry_more_than_any_buffer_holds() {
    let (pool, _switch, mut peers) = piped(1).await;
    tokio::spawn(echo(peers.remove(0).into_inner()));
    let lease = pool.lease().await.unwrap();
    let (sink, stream) = lease.split();
    let sending = tokio::spawn(iter(numbered(2000)).map(Ok).forward(sink));
    let received: Vec<_> = stream.take(2000).map(Result::unwrap).collect().await;
    assert!(received.into_iter().eq(numbered(2000)));
    sending.await.unwrap().unwrap();
    // And so the connection is clean.
    assert_eq!(pool.lease().await.unwrap().connection(), 1);
}

#[tokio::test(start_paused = true)]
async fn send_all_returns_when_all_is_written() {
    let (pool, _switch, mut peers) = piped(1).await;
    let mut peer = peers.remove(0);
    let reading = tokio::spawn(async move {
        let frames = peer.by_ref().take(100).map(Result::unwrap).collect::<Vec<_>>().await;
        (frames, peer)
    });
    let mut lease = pool.lease().await.unwrap();
    lease.send_all(&mut iter(numbered(100)).map(Ok)).await.unwrap();
    let (received, _peer) = reading.await.unwrap();
    assert!(received.into_iter().eq(numbered(100)));
    lease.give_back();
    assert_eq!(pool.lease().await.unwrap().connection(), 1);
}

/// The time of a step is that of one direction, whatever the other does.
#[tokio::test(start_paused = true)]
async fn a_half_that_is_at_work_does_not_prolong_the_time_of_the_other() {
    let (pool, _switch, mut peers) = piped(1).await;
    let mut peer = peers.remove(0);
    let reading = tokio::spawn(async move { while peer.next().await.is_some() {} });
    let lease = pool.lease().timeout(ms(1000)).await.unwrap();
    let (mut sink, mut stream) = lease.split();
    let sending = tokio::spawn(async move {
        loop {
            // More than the pipe takes at once.
            if sink.send(vec![0; 1000].into()).await.is_err() {
                return;
            }
            tokio::time::sleep(ms(100)).await;
        }
    });
    let began = tokio::time::Instant::now();
    let error = stream.next().await.unwrap().unwrap_err();
    assert_eq!(error.step(), Step::Receive { frame: 1 });
    assert!(matches!(error.cause(), LeaseCause::TimedOut { .. }), "{error}");
    assert_eq!(began.elapsed().as_millis() / 10, 100);
    assert!(stream.next().await.is_none(), "it ends after its first error");
    sending.abort();
    reading.abort();
}

/// A caller that waits long for an answer has all its time for the next frame that it sends.
#[tokio::test(start_paused = true)]
async fn a_half_that_waits_does_not_shorten_the_time_of_the_other() {
    let (pool, _switch, mut peers) = piped(1).await;
    let lease = pool.lease().timeout(ms(1000)).await.unwrap();
    let (mut sink, mut stream) = lease.split();
    let waiting = tokio::spawn(async move { stream.next().await.unwrap() });
    tokio::time::sleep(ms(900)).await;
    let sending = tokio::spawn(async move { sink.send(vec![0; 1000].into()).await });
    tokio::time::sleep(ms(200)).await;
    assert!(waiting.await.unwrap().is_err());
    peers[0].next().await.unwrap().unwrap();
    sending.await.unwrap().unwrap();
}

/// A caller that does not read: the socket is not read either, and the peer feels it.
#[tokio::test(start_paused = true)]
async fn a_caller_that_does_not_read_holds_the_peer_up() {
    let (connector, mut switch) = pipes(256);
    let limits = Limits::default().message(64 << 10).queued_bytes(64 << 10);
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .protocol(ordered())
        .limits(limits)
        .retry(Retry::never())
        .call_timeout(LONG)
        .build()
        .unwrap();
    let mut peer = frames(switch.accept().await);
    soon("the connection", connected(&pool, 1)).await;
    let mut lease = pool.lease().await.unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let sent = count.clone();
    let sending = tokio::spawn(async move {
        for length in [1000, 0] {
            for _ in 0..20_000 {
                peer.send(vec![7; length].into()).await.unwrap();
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
        peer
    });
    let sent = || count.load(Ordering::Relaxed);
    // Until it stands still.
    tokio::time::sleep(ms(10_000)).await;
    assert!((60..80).contains(&sent()), "{} frames of 1000 bytes", sent());
    for _ in 0..20_000 {
        assert_eq!(lease.recv().await.unwrap().len(), 1000);
    }
    tokio::time::sleep(ms(10_000)).await;
    assert!((21_000..25_000).contains(&sent()), "{} frames more without any", sent());
    for _ in 0..20_000 {
        assert_eq!(lease.recv().await.unwrap().len(), 0);
    }
    // The other way: of what the peer does not read, so much is taken.
    let mut peer = sending.await.unwrap();
    let mut queued = 0;
    while futures::poll!(poll_fn(|cx| lease.poll_ready_unpin(cx))).is_ready() {
        lease.start_send_unpin(vec![0; 1000].into()).unwrap();
        queued += 1;
        tokio::task::yield_now().await;
    }
    assert!((60..400).contains(&queued), "{queued} frames of 1000 bytes");
    let read = peer.by_ref().take(queued).count();
    let (flushed, read) = tokio::join!(lease.flush(), read);
    flushed.unwrap();
    assert_eq!(read, queued);
}
