//! Sets that nobody may repeat, over lines that are reset in the middle of anything: what their callers were told, beside
//! what memcached has.

use std::net::SocketAddr;

use fastrand::Rng;
use socket2::SockRef;
use steadfast::{Bytes, CallError, Outcome, Pool, Reconnect};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::packet;
use crate::server;
use crate::support::loopback::own_loopback;
use crate::support::times::ms;
use crate::support::waits::soon;

const CALLERS: usize = 16;
/// Of each caller.
const SETS: usize = 250;
/// A set of this test has some 60 bytes, its answer has 24.
const LONGEST_LIFE: usize = 10_000;

/// A way to the server on which every line is reset, on both sides, after a random number of bytes.
async fn resetting(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind((own_loopback(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut rng = Rng::with_seed(7);
        while let Ok((near, _)) = listener.accept().await {
            let far = TcpStream::connect(server).await.unwrap();
            let (requests, answers) = (rng.usize(..LONGEST_LIFE), rng.usize(..LONGEST_LIFE));
            tokio::spawn(line(near, far, requests, answers));
        }
    });
    address
}

async fn line(mut near: TcpStream, mut far: TcpStream, requests: usize, answers: usize) {
    for stream in [&near, &far] {
        SockRef::from(stream).set_linger(Some(ms(0))).unwrap();
    }
    let (near_in, near_out) = near.split();
    let (far_in, far_out) = far.split();
    tokio::select! {
        () = pass(near_in, far_out, requests) => {}
        () = pass(far_in, near_out, answers) => {}
    }
}

/// Returns when so many bytes have passed, or no more come.
async fn pass(
    mut from: tokio::net::tcp::ReadHalf<'_>,
    mut to: tokio::net::tcp::WriteHalf<'_>,
    mut left: usize,
) {
    let mut buffer = [0; 4096];
    while left > 0 {
        let most = left.min(buffer.len());
        match from.read(&mut buffer[..most]).await {
            Ok(read @ 1..) if to.write_all(&buffer[..read]).await.is_ok() => left -= read,
            _ => break,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_was_not_sent_is_never_seen_and_none_runs_twice() {
    let Some(server) = server::start(&[]).await else { return };
    let pool = crate::builder_to(resetting(server.address()).await)
        .reconnect(Reconnect::exponential(ms(1), ms(5)).stable_after(ms(0)))
        .build()
        .unwrap();
    pool.ready(ms(5000)).await.unwrap();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(set(pool.clone(), caller));
    }
    let told = soon("all sets", callers.join_all()).await.into_iter().flatten().collect();
    pool.close(ms(5000)).await.unwrap();
    let (_pool, direct) = crate::pool(&server);
    // What came before a reset is read after it.
    soon("the end of all other connections", async {
        while direct.stats().await.unwrap()["curr_connections"] != "1" {}
    })
    .await;
    compare(told, &direct).await;
}

/// Every other caller does not wait for a connection: many of its sets are not sent.
async fn set(pool: Pool, caller: usize) -> Vec<(Result<Bytes, CallError>, String)> {
    let mut told = Vec::new();
    for number in 0..SETS {
        let key = format!("{caller}-{number}");
        let set = pool.request(packet::request(packet::SET, &[0; 8], &key, &crate::value(&key)));
        let set = if caller % 2 == 0 { set } else { set.fail_fast() };
        let result = set.send().await;
        if result.is_err() {
            pool.ready(ms(5000)).await.unwrap();
        }
        told.push((result, key));
    }
    told
}

async fn compare(told: Vec<(Result<Bytes, CallError>, String)>, direct: &Client) {
    let (mut seen, mut not_sent, mut indeterminate) = (0, 0, 0);
    for (result, key) in told {
        let found = direct.get(&key).await.unwrap();
        assert!(found.as_deref().is_none_or(|found| found == crate::value(&key)), "{key}");
        seen += u64::from(found.is_some());
        match result.map_err(|error| (error.outcome(), error)) {
            Ok(_) => assert!(found.is_some(), "{key} was set"),
            Err((Outcome::NotSent, error)) => {
                not_sent += 1;
                assert_eq!(found, None, "{key}: {error}");
            }
            Err((Outcome::Indeterminate, _)) => indeterminate += 1,
            Err((_, error)) => panic!("{key}: {error}"),
        }
    }
    assert!(not_sent > 0 && indeterminate > 0, "{not_sent} not sent, {indeterminate} perhaps");
    // Every set has a key of its own, so one that ran twice counts twice.
    assert_eq!(direct.stats().await.unwrap()["cmd_set"], seen.to_string());
}
