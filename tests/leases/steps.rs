//! The steps of a conversation, and at which of them it breaks.

use futures::{SinkExt as _, StreamExt as _};
use steadfast::{LeaseCause, LossCause, Pool, Step};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::endings::{LONG, piped};
use crate::support::news::connected;
use crate::support::plain::{frames, ordered};
use crate::support::process::resets_look_like_ends;
use crate::support::times::ms;
use crate::support::waits::soon;

#[tokio::test(start_paused = true)]
async fn each_step_has_its_time_and_an_error_names_the_step() {
    let (pool, _switch, mut peers) = piped(1).await;
    let mut lease = pool.lease().timeout(ms(300)).await.unwrap();
    for (send, answer) in [("one", "1"), ("two", "2")] {
        lease.send(send).await.unwrap();
        peers[0].next().await.unwrap().unwrap();
        tokio::time::sleep(ms(200)).await;
        peers[0].send(answer.into()).await.unwrap();
        assert_eq!(lease.recv().await.unwrap(), answer);
    }
    let began = Instant::now();
    let error = lease.recv().await.unwrap_err();
    assert!(began.elapsed() >= ms(300) && began.elapsed() < ms(310), "{:?}", began.elapsed());
    assert_eq!(error.step(), Step::Receive { frame: 3 });
    assert!(matches!(error.cause(), LeaseCause::TimedOut { scarcity: None, .. }));
    assert_eq!(
        error.to_string(),
        "peer:1: receiving frame 3 failed: not done within 300 ms; 2 frames sent, 2 received"
    );
    // The conversation can go on.
    lease.set_timeout(ms(50));
    peers[0].send("late".into()).await.unwrap();
    assert_eq!(lease.recv().await.unwrap(), "late");
    // The pipe holds 256 bytes, and the peer does not read.
    let began = Instant::now();
    lease.send(vec![0; 100]).await.unwrap();
    let error = lease.send(vec![0; 1000]).await.unwrap_err();
    assert!(began.elapsed() >= ms(50) && began.elapsed() < ms(60), "{:?}", began.elapsed());
    assert_eq!((error.step(), error.sent(), error.received()), (Step::Send { frame: 4 }, 3, 3));
    assert_eq!(
        error.to_string(),
        "peer:1: sending frame 4 failed: not done within 50 ms; 3 frames sent, 3 received"
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_closes_is_named_at_the_step_that_met_it() {
    let (pool, _switch, mut peers) = piped(1).await;
    let mut lease = pool.lease().await.unwrap();
    lease.send("question").await.unwrap();
    let mut peer = peers.remove(0);
    peer.next().await.unwrap().unwrap();
    // What it said before is received.
    peer.send("answer".into()).await.unwrap();
    peer.send("one more".into()).await.unwrap();
    peer.get_mut().write_all(b"\x00\x00\x00\x09half").await.unwrap();
    drop(peer);
    tokio::time::sleep(ms(10)).await;
    assert_eq!(lease.recv().await.unwrap(), "answer");
    assert_eq!(lease.recv().await.unwrap(), "one more");
    let error = lease.recv().await.unwrap_err();
    let LeaseCause::Lost(loss) = error.cause() else { panic!("{error}") };
    assert_eq!((&loss.cause, loss.cut_off), (&LossCause::ClosedByPeer, true));
    assert_eq!(error.step(), Step::Receive { frame: 3 });
    let text = error.to_string();
    assert!(text.starts_with("receiving frame 3 failed: "), "{text}");
    assert!(text.ends_with("; 1 frame sent, 2 received"), "{text}");
    assert!(!text.contains('\n') && text.contains("peer:1"), "{text}");
    let error = lease.send("on").await.unwrap_err();
    assert_eq!((error.step(), error.sent()), (Step::Send { frame: 2 }, 1));
}

/// With a reset, which takes what the kernel has not delivered.
#[tokio::test]
async fn what_arrived_before_a_reset_is_received_before_the_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let pool = Pool::builder(address).protocol(ordered()).call_timeout(LONG).build().unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    soon("the connection", connected(&pool, 1)).await;
    let mut lease = pool.lease().await.unwrap();
    lease.send("question").await.unwrap();
    let mut peer = frames(stream);
    assert_eq!(peer.next().await.unwrap().unwrap(), "question");
    for number in 0..100 {
        peer.feed(format!("answer {number}").into()).await.unwrap();
    }
    peer.flush().await.unwrap();
    // It is in the client's hands.
    assert_eq!(soon("an answer", lease.recv()).await.unwrap(), "answer 0");
    peer.get_ref().set_zero_linger().unwrap();
    drop(peer);
    for number in 1..100 {
        let answer = soon("an answer", lease.recv()).await.unwrap();
        assert_eq!(answer, format!("answer {number}"));
    }
    let error = soon("the error", lease.recv()).await.unwrap_err();
    let LeaseCause::Lost(loss) = error.cause() else { panic!("{error}") };
    if resets_look_like_ends() && loss.cause == LossCause::ClosedByPeer {
        return;
    }
    let LossCause::Os(error) = &loss.cause else { panic!("{loss}") };
    assert_eq!(error.name(), Some("ECONNRESET"));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_cannot_be_made_ends_nothing() {
    let (pool, _switch, mut peers) = piped(1).await;
    let mut lease = pool.lease().await.unwrap();
    let error = lease.send(vec![0; 17 << 20]).await.unwrap_err();
    assert!(matches!(error.cause(), LeaseCause::Unsendable(_)), "{error}");
    assert_eq!((error.step(), error.sent()), (Step::Send { frame: 1 }, 0));
    assert!(!error.to_string().contains('\n'), "{error}");
    lease.send("shorter").await.unwrap();
    assert_eq!(peers[0].next().await.unwrap().unwrap(), "shorter");
    peers[0].send("fine".into()).await.unwrap();
    assert_eq!(lease.recv().await.unwrap(), "fine");
    drop(lease);
    assert_eq!(pool.lease().await.unwrap().connection(), 1);
}

/// A `recv` that is dropped loses no frame; a `send` that is dropped counts as sent.
#[tokio::test(start_paused = true)]
async fn steps_that_are_dropped_lose_nothing() {
    let (pool, _switch, mut peers) = piped(1).await;
    let mut lease = pool.lease().await.unwrap();
    {
        let mut send = Box::pin(lease.send(vec![7; 1000]));
        assert!(futures::poll!(&mut send).is_pending());
    }
    for _ in 0..10 {
        let mut receive = Box::pin(lease.recv());
        assert!(futures::poll!(&mut receive).is_pending());
    }
    assert_eq!(peers[0].next().await.unwrap().unwrap(), vec![7; 1000]);
    peers[0].send("answer".into()).await.unwrap();
    assert_eq!(lease.recv().await.unwrap(), "answer");
    drop(lease);
    assert_eq!(pool.lease().await.unwrap().connection(), 1);
}
