//! A server with as many connections as it takes, and a client whose own dead one is among them.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use steadfast::{Call, Heartbeat, Pool, Server};
use tokio::io::AsyncWriteExt as _;

use support::local::start;
use support::proxy::{Cut, Direction, Proxy, Way};
use support::scripted::*;
use support::waits::soon;

/// The server would find out by itself after this.
const LONG: Duration = Duration::from_secs(60);

/// With one place, and how many calls it has run.
async fn full_with_one() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let runs = Arc::<AtomicUsize>::default();
    let count = runs.clone();
    let builder = Server::builder().connections(1).heartbeat(Heartbeat::every(LONG));
    let address = start(builder, move |call: Call| {
        count.fetch_add(1, Ordering::SeqCst);
        async move { Ok(call.into_body()) }
    });
    (address.await, runs)
}

/// As behind a firewall that has forgotten the flow: the client is told, the server is not.
#[tokio::test]
async fn a_client_that_comes_back_has_its_own_place_and_the_answer_that_was_lost() {
    let (address, runs) = full_with_one().await;
    let proxy = Proxy::to(address).await;
    let pool = Pool::builder(proxy.address()).build().unwrap();
    let held = proxy.cut_any(Cut { direction: Direction::Replies, after: 0, way: Way::Hold });
    assert_eq!(soon("an answer", pool.call("once")).await.unwrap(), "once");
    assert_eq!((runs.load(Ordering::SeqCst), proxy.cuts()), (1, 1));
    drop(held);
}

#[tokio::test]
async fn who_comes_back_has_its_own_place_and_nobody_elses() {
    let (address, _) = full_with_one().await;
    let [first, second] = [(1, 0), (2, 1)].map(|(connection, replaces)| Coming {
        client: 5,
        connection,
        replaces,
        next_id: 1,
    });
    let say = async |coming| {
        let mut stream = connect(address).await;
        stream.write_all(&hello_of(coming, 0)).await.unwrap();
        stream
    };
    let mut served = say(first).await;
    expect(&mut served, &[WELCOME]).await;
    for stranger in [Coming { client: 6, ..second }, Coming { replaces: 0, ..second }] {
        expect(&mut say(stranger).await, &[BUSY]).await;
        served.write_all(&ping(1)).await.unwrap();
        expect(&mut served, &[PONG]).await;
    }
    expect(&mut say(second).await, &[WELCOME]).await;
    expect_fin(&mut served).await;
}
