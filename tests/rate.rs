//! Whatever a server or a user does over and over: a server sees no more attempts than the backoff allows.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use steadfast::{Pool, Reconnect};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

use support::peer::{Peer, accept};
use support::scripted::*;
use support::times::ms;
use support::waits::until;

/// How often a pool comes within two seconds, with a call that waits, to a server that says this goodbye to whoever comes.
async fn dials(code: u32) -> usize {
    let script = Script::bind().await;
    let reconnect = Reconnect::exponential(ms(1000), ms(5000));
    let pool = Pool::builder(script.address.to_string()).reconnect(reconnect).build().unwrap();
    let call = tokio::spawn(async move { pool.request("x").timeout(ms(20_000)).send().await });
    let (mut streams, end) = (Vec::new(), Instant::now() + ms(2000));
    while let Ok(mut stream) = tokio::time::timeout_at(end, script.welcome()).await {
        stream.write_all(&go_away(code, 0, 0, "")).await.unwrap();
        streams.push(stream);
    }
    call.abort();
    streams.len()
}

#[tokio::test]
async fn a_server_that_calls_new_connections_idle_and_sends_them_away_is_not_hurried_after() {
    let (closing, idle) = tokio::join!(dials(0), dials(1));
    assert!(closing <= 10 && idle <= 10, "{closing} and {idle} attempts");
}

#[tokio::test]
async fn who_resizes_a_pool_over_and_over_dials_no_faster_than_the_backoff() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let dials = Arc::new(AtomicUsize::new(0));
    let count = dials.clone();
    tokio::spawn(async move {
        loop {
            let stream = accept(&listener).await;
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move { Peer::greet(stream).await.echo().await });
        }
    });
    let reconnect = Reconnect::exponential(ms(1000), ms(5000));
    let pool = Pool::builder(address.to_string()).reconnect(reconnect).build().unwrap();
    pool.ready(ms(20_000)).await.unwrap();
    let began = Instant::now();
    while began.elapsed() < ms(2000) {
        for size in [2, 1] {
            pool.resize(size).unwrap();
            let _ = timeout(ms(50), until("the size", || pool.status().ready == size)).await;
        }
    }
    let dials = dials.load(Ordering::SeqCst);
    assert!(dials <= 10, "{dials} attempts in 2 s");
}
