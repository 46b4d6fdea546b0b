//! Leases that are used in ways that hardly anybody uses them.

use std::future::IntoFuture as _;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use steadfast::Pool;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::endings::piped;
use crate::support::pipes::pipes;
use crate::support::plain::ordered;
use crate::support::times::ms;

/// Whoever wished for the lease may keep the future that has failed, for example in a pinned variable.
#[tokio::test(start_paused = true)]
async fn a_wish_that_has_failed_stands_in_no_line() {
    let (pool, _switch, _peers) = piped(1).await;
    let lease = pool.lease().await.unwrap();
    let mut failed = Box::pin(pool.lease().timeout(ms(50)).into_future());
    assert!(failed.as_mut().await.is_err());
    assert_eq!(pool.status().waiting, 0);
    drop(lease);
    let next = pool.lease().timeout(ms(500)).await;
    assert!(next.is_ok(), "{next:?}");
    drop(failed);
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_ping_that_is_out_does_not_come_with_a_socket_that_is_taken_over() {
    let (pool, _switch, mut peers) = piped(1).await;
    let mut peer = peers.remove(0);
    assert_eq!(peer.next().await.unwrap().unwrap(), "ping");
    let lease = pool.lease().await.unwrap();
    let (taken, ()) = tokio::join!(lease.detach(), async {
        tokio::time::sleep(ms(10)).await;
        peer.send("pong".into()).await.unwrap();
    });
    let mut taken = taken.unwrap();
    assert!(taken.frames.is_empty() && taken.bytes.is_empty(), "{:?}", taken.frames);
    peer.get_mut().write_all(b"raw").await.unwrap();
    let mut raw = [0; 3];
    taken.transport.read_exact(&mut raw).await.unwrap();
    assert_eq!(&raw, b"raw");
}

/// `sent` says that the server may have got these frames and no others.
#[tokio::test(start_paused = true)]
async fn a_frame_that_was_reported_as_not_sent_does_not_leave_behind_its_lease() {
    let (pool, _switch, mut peers) = piped(1).await;
    let mut lease = pool.lease().timeout(ms(50)).await.unwrap();
    let error = lease.send(vec![7; 1000]).await.unwrap_err();
    assert_eq!(error.sent(), 0);
    drop(lease);
    tokio::time::sleep(ms(10)).await;
    let came = peers[0].next().await;
    assert!(!matches!(came, Some(Ok(_))), "the whole frame came");
}

/// A hook leaves a request unanswered on each connection, so none can be lent before the answer has come.
#[tokio::test(start_paused = true)]
async fn connections_that_cannot_be_lent_are_not_made_without_end() {
    let (connector, mut switch) = pipes(256);
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .protocol(ordered())
        .on_connect(|mut conversation| async move {
            let _ = tokio::time::timeout(ms(1), conversation.call("subscribe")).await;
            Ok(())
        })
        .build()
        .unwrap();
    let leasing = pool.lease().timeout(Duration::from_secs(10)).into_future();
    let serving = async {
        let mut ends = Vec::new();
        loop {
            ends.push(switch.accept().await);
        }
    };
    tokio::select! {
        _ = leasing => {}
        () = serving => {}
    }
    assert!(switch.dials() < 30, "{} in 10 s", switch.dials());
}
