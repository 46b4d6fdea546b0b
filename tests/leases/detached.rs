//! Sockets that are taken out of their pool.

use std::future::IntoFuture as _;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use steadfast::{Conversation, LeaseCause, Pool, Step};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};

use crate::endings::piped;
use crate::support::layer::Layered;
use crate::support::news::connected;
use crate::support::pipes::pipes;
use crate::support::plain::ordered;
use crate::support::tampered::{Below, Tamper};
use crate::support::times::ms;
use crate::support::waits::soon;

#[tokio::test(start_paused = true)]
async fn a_socket_is_taken_over_with_all_that_has_come() {
    let (pool, mut switch, mut peers) = piped(1).await;
    let mut peer = peers.remove(0);
    let mut lease = pool.lease().await.unwrap();
    lease.send("go over to something else").await.unwrap();
    peer.next().await.unwrap().unwrap();
    peer.send("yes".into()).await.unwrap();
    peer.send("one more".into()).await.unwrap();
    peer.get_mut().write_all(b"\x00\x00\x00\x09half").await.unwrap();
    assert_eq!(lease.recv().await.unwrap(), "yes");
    tokio::time::sleep(ms(10)).await;
    let mut taken = lease.detach().await.unwrap();
    assert_eq!(taken.frames, ["one more"]);
    assert_eq!(taken.bytes, &b"\x00\x00\x00\x09half"[..]);
    let mut stream = peer.into_inner();
    // From here on it is anybody's.
    taken.transport.write_all(b"raw").await.unwrap();
    let mut raw = [0; 3];
    stream.read_exact(&mut raw).await.unwrap();
    stream.write_all(&raw).await.unwrap();
    taken.transport.read_exact(&mut raw).await.unwrap();
    assert_eq!(&raw, b"raw");
    // The pool has made another, and holds nothing of this one.
    let _next = switch.accept().await;
    soon("the next", connected(&pool, 1)).await;
    assert_eq!(pool.status().in_flight, 0);
    assert_eq!(pool.lease().await.unwrap().connection(), 2);
    drop(taken);
    assert_eq!(stream.read(&mut raw).await.unwrap(), 0);
}

/// What was queued is written first, however slowly.
#[tokio::test(start_paused = true)]
async fn a_socket_is_taken_over_behind_the_last_frame() {
    let (pool, _switch, mut peers) = piped(1).await;
    let mut lease = pool.lease().await.unwrap();
    for _ in 0..10 {
        lease.feed(vec![7; 200].into()).await.unwrap();
    }
    let (taken, read) = tokio::join!(lease.detach(), async {
        for _ in 0..10 {
            assert_eq!(peers[0].next().await.unwrap().unwrap(), vec![7; 200]);
        }
    });
    let () = read;
    taken.unwrap().transport.write_all(b"\x00\x00\x00\x03raw").await.unwrap();
    assert_eq!(peers[0].next().await.unwrap().unwrap(), "raw");
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_cannot_be_taken_over_says_why() {
    let (pool, mut switch, peers) = piped(1).await;
    let mut lease = pool.lease().timeout(ms(100)).await.unwrap();
    lease.feed(vec![7; 1000].into()).await.unwrap();
    let error = lease.detach().await.unwrap_err();
    assert_eq!((error.step(), error.sent()), (Step::Detach, 0));
    assert!(matches!(error.cause(), LeaseCause::TimedOut { .. }), "{error}");
    let next = switch.accept().await;
    drop(peers);
    let mut lease = soon("a lease", pool.lease().into_future()).await.unwrap();
    drop(next);
    assert!(lease.recv().await.is_err());
    let error = lease.detach().await.unwrap_err();
    assert!(matches!(error.cause(), LeaseCause::Lost(_)), "{error}");
    assert_eq!(error.step(), Step::Detach);
}

/// Detaches behind so many queued frames, polls that at most so often, each time with so many turns of everybody else behind it,
/// and drops it. Whether the hook has kept its conversation, by which the connection lives on, makes no difference.
async fn a_detach_that_is_dropped(polls: usize, turns: usize, queued: usize, keep: bool) {
    let what = format!("{polls} polls, {turns} turns, {queued} frames, kept: {keep}");
    let kept = Arc::<Mutex<Vec<Conversation>>>::default();
    let keeping = kept.clone();
    let (connector, mut switch) = pipes(256);
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .protocol(ordered())
        .on_connect(move |conversation| {
            keeping.lock().unwrap().extend(keep.then_some(conversation));
            async { Ok(()) }
        })
        .build()
        .unwrap();
    let mut peer = switch.accept().await;
    let mut lease = soon("a lease", pool.lease().into_future()).await.unwrap();
    for _ in 0..queued {
        lease.feed(vec![7; 100].into()).await.unwrap();
    }
    let mut detached = Box::pin(lease.detach());
    let mut is_over = false;
    for _ in 0..polls {
        is_over = is_over || (&mut detached).now_or_never().is_some();
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
    drop(detached);
    let mut rest = Vec::new();
    soon(&what, peer.read_to_end(&mut rest)).await.unwrap();
    drop(peer);
    let _next = switch.accept().await;
    soon(&what, connected(&pool, 1)).await;
    assert_eq!(pool.status().in_flight, 0, "{what}");
    drop(soon("a lease", pool.lease().into_future()).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_detach_that_is_dropped_anywhere_closes_the_socket() {
    for queued in [0, 1, 3, 10] {
        for turns in 0..6 {
            for polls in 0..5 {
                for keep in [false, true] {
                    a_detach_that_is_dropped(polls, turns, queued, keep).await;
                }
            }
        }
    }
}

/// Fails to flush, once it is set.
struct Leaky(Arc<AtomicBool>);

impl Tamper for Leaky {
    fn poll_write(
        &mut self,
        _: &mut Below,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Held back until it is flushed, as TLS may.
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(&mut self, _: &mut Below, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.0.load(Ordering::SeqCst) {
            true => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            false => Poll::Ready(Ok(())),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_socket_whose_last_bytes_were_not_seen_off_is_not_handed_over_as_if_they_were() {
    let (connector, mut switch) = pipes(4096);
    let broken = Arc::new(AtomicBool::new(false));
    let leaky = broken.clone();
    let pool = Pool::builder("peer:1")
        .connector(Layered(connector, move || Leaky(leaky.clone())))
        .protocol(ordered())
        .build()
        .unwrap();
    let _peer = switch.accept().await;
    connected(&pool, 1).await;
    let mut lease = pool.lease().await.unwrap();
    broken.store(true, Ordering::SeqCst);
    lease.feed("upgrade".into()).await.unwrap();
    let error =
        lease.detach().await.expect_err("the frame has not left, and the connection is broken");
    assert!(matches!(error.cause(), LeaseCause::Lost(_)), "{error}");
}

/// A reset that is told once, as the kernel does; then the end of file.
struct Reset(Arc<AtomicUsize>);

impl Tamper for Reset {
    fn poll_read(
        &mut self,
        below: &mut Below,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.0.load(Ordering::SeqCst) {
            0 => Pin::new(below).poll_read(cx, buffer),
            1 => {
                self.0.store(2, Ordering::SeqCst);
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            _ => Poll::Ready(Ok(())),
        }
    }
}

/// The reset has arrived when the socket is to be handed over, and its owner reads it.
#[tokio::test(start_paused = true)]
async fn a_socket_that_was_reset_is_not_handed_over_as_one_that_the_peer_has_closed() {
    let (connector, mut switch) = pipes(4096);
    let reset = Arc::<AtomicUsize>::default();
    let resetting = reset.clone();
    let pool = Pool::builder("peer:1")
        .connector(Layered(connector, move || Reset(resetting.clone())))
        .protocol(ordered())
        .build()
        .unwrap();
    let _peer = switch.accept().await;
    connected(&pool, 1).await;
    let lease = pool.lease().await.unwrap();
    reset.store(1, Ordering::SeqCst);
    match lease.detach().await {
        Err(error) => assert!(matches!(error.cause(), LeaseCause::Lost(_)), "{error}"),
        Ok(mut taken) => {
            let mut rest = Vec::new();
            let read = taken.transport.read_to_end(&mut rest).await;
            assert!(read.is_err(), "the reset has been read, and told to nobody: {read:?}");
        }
    }
}
