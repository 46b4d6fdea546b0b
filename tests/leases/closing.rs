//! Pools that end, shrink or renew themselves while a connection is lent.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use steadfast::{Connections, LeaseCause, LossCause, Pool, State};

use crate::endings::{LONG, piped};
use crate::support::pipes::pipes;
use crate::support::plain::{frames, ordered};
use crate::support::times::ms;
use crate::support::waits::soon;

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_closed_lets_its_leases_finish() {
    let (pool, _switch, mut peers) = piped(1).await;
    let mut lease = pool.lease().await.unwrap();
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close(ms(5000)).await }
    });
    pool.watch().wait_for(|state| state == State::Closing).await.unwrap();
    let error = pool.lease().await.unwrap_err();
    assert_eq!(error.cause(), &LeaseCause::Closed);
    for _ in 0..3 {
        lease.send("question").await.unwrap();
        assert_eq!(peers[0].next().await.unwrap().unwrap(), "question");
        tokio::time::sleep(ms(1000)).await;
        peers[0].send("answer".into()).await.unwrap();
        assert_eq!(lease.recv().await.unwrap(), "answer");
    }
    assert!(!closing.is_finished());
    drop(lease);
    assert!(peers[0].next().await.is_none(), "a FIN");
    drop(peers);
    closing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_does_not_finish_in_time_is_cut_off_and_counted() {
    let (pool, _switch, _peers) = piped(2).await;
    let mut lease = pool.lease().await.unwrap();
    let (closed, received) = tokio::join!(pool.close(ms(500)), lease.recv());
    assert_eq!(closed.map_err(|error| error.unfinished), Err(1));
    let error = received.unwrap_err();
    let LeaseCause::Lost(loss) = error.cause() else { panic!("{error}") };
    assert_eq!(loss.cause, LossCause::ClosedHere);
}

#[tokio::test(start_paused = true)]
async fn a_lease_keeps_its_pool_alive_and_no_longer() {
    let (pool, _switch, mut peers) = piped(2).await;
    let mut lease = pool.lease().await.unwrap();
    let mut state = pool.watch();
    drop(pool);
    lease.send("question").await.unwrap();
    assert_eq!(peers[0].next().await.unwrap().unwrap(), "question");
    peers[0].send("answer".into()).await.unwrap();
    assert_eq!(lease.recv().await.unwrap(), "answer");
    drop(lease);
    soon("the end", state.wait_for(|state| state == State::Closed)).await.unwrap();
    for mut peer in peers {
        assert!(soon("the end", peer.next()).await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_becomes_smaller_lets_a_lease_finish() {
    let (pool, _switch, mut peers) = piped(2).await;
    let mut leases = [pool.lease().await.unwrap(), pool.lease().await.unwrap()];
    pool.resize(1).unwrap();
    for (lease, peer) in leases.iter_mut().zip(&mut peers) {
        tokio::time::sleep(ms(1000)).await;
        lease.send("question").await.unwrap();
        assert_eq!(peer.next().await.unwrap().unwrap(), "question");
        peer.send("answer".into()).await.unwrap();
        assert_eq!(lease.recv().await.unwrap(), "answer");
    }
    drop(leases);
    assert!(peers[1].next().await.is_none(), "a FIN");
    assert_eq!(pool.status().in_flight, 0);
    assert_eq!(pool.lease().await.unwrap().connection(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_old_enough_is_replaced_under_its_lease() {
    let (connector, mut switch) = pipes(4096);
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .protocol(ordered())
        .connections(Connections::from(1).lifetime(Duration::from_secs(10)))
        .call_timeout(LONG)
        .build()
        .unwrap();
    let mut old = frames(switch.accept().await);
    let mut lease = pool.lease().await.unwrap();
    let _new = switch.accept().await;
    // The old one's lease goes on, and the new one can be had beside it.
    assert_eq!(pool.lease().await.unwrap().connection(), 2);
    lease.send("question").await.unwrap();
    assert_eq!(old.next().await.unwrap().unwrap(), "question");
    old.send("answer".into()).await.unwrap();
    assert_eq!(lease.recv().await.unwrap(), "answer");
    drop(lease);
    assert!(old.next().await.is_none(), "a FIN");
}
