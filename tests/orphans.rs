//! Calls whose callers have gone and may come back: what becomes of them when the server shuts down.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use steadfast::{Bytes, Call, Server};
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use support::scripted::*;
use support::waits::{soon, until};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_orphan_is_told_that_nobody_comes_back_to_a_server_that_shuts_down() {
    let begun = Arc::new(AtomicUsize::new(0));
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
    let counter = begun.clone();
    let serving = tokio::spawn(server.serve(move |call: Call| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move {
            call.cancelled().await;
            Ok(Bytes::new())
        }
    }));
    let mut stream = join(address).await;
    stream.write_all(&request(1, 0, b"long poll")).await.unwrap();
    until("it to run", || begun.load(Ordering::SeqCst) == 1).await;
    stream.shutdown().await.unwrap();
    expect_fin(&mut stream).await;
    let began = Instant::now();
    handle.shutdown(LONG);
    soon("the end", serving).await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_orphan_that_is_cut_off_counts_among_the_calls_that_were() {
    let begun = Arc::new(AtomicUsize::new(0));
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
    let counter = begun.clone();
    let serving = tokio::spawn(server.serve(move |_: Call| {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::pending()
    }));
    let mut stream = join(address).await;
    stream.write_all(&request(1, 0, b"order")).await.unwrap();
    until("it to run", || begun.load(Ordering::SeqCst) == 1).await;
    stream.shutdown().await.unwrap();
    expect_fin(&mut stream).await;
    handle.shutdown(Duration::from_millis(50));
    let error = soon("the end", serving).await.unwrap().unwrap_err();
    assert_eq!(error.unfinished, 1);
}
