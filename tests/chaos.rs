//! Everything at once: calls of all kinds, given up after any number of polls, over lines that are cut at any byte, to a
//! server that writes down what it ran.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use steadfast::{
    Bytes, Call, ErrorReply, Handler, Heartbeat, Limits, Outcome, Pool, Reconnect, Retry, Server,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use support::seed;
use support::truth::Told;
use support::waits::{soon, until};

#[derive(Clone, Default)]
struct Journal(Arc<Mutex<HashMap<u64, u32>>>);

impl Journal {
    fn note(&self, body: &[u8]) {
        let key = u64::from_be_bytes(body[..8].try_into().unwrap());
        *self.0.lock().unwrap().entry(key).or_default() += 1;
    }

    fn runs(&self, key: u64) -> u32 {
        self.0.lock().unwrap().get(&key).copied().unwrap_or_default()
    }
}

impl Handler for Journal {
    async fn call(&self, call: Call) -> Result<Bytes, ErrorReply> {
        self.note(call.body());
        match call.body()[7] % 8 {
            0 => tokio::time::sleep(Duration::from_millis(3)).await,
            1 => return Err(ErrorReply::new(7, "no")),
            2 => call.cancelled().await,
            3 => tokio::task::yield_now().await,
            4 => _ = call.pusher().push(call.body().clone()),
            _ => {}
        }
        Ok(call.into_body())
    }

    async fn notified(&self, call: Call) {
        self.note(call.body());
    }
}

/// Passes bytes on, and cuts each connection after so many, in some way.
async fn proxy(to: std::net::SocketAddr, mut rng: fastrand::Rng) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (near, _) = listener.accept().await.unwrap();
            let Ok(far) = TcpStream::connect(to).await else { continue };
            let (most, reset) = ([200, 5_000, 200_000, 3_000_000][rng.usize(..4)], rng.bool());
            tokio::spawn(pass(near, far, rng.usize(64..most), reset));
        }
    });
    address
}

#[allow(deprecated)]
async fn pass(mut near: TcpStream, mut far: TcpStream, mut left: usize, reset: bool) {
    let (mut up, mut down) = (vec![0; 8192], vec![0; 8192]);
    while left > 0 {
        let most = left.min(8192);
        let (count, to, from) = tokio::select! {
            Ok(count) = near.read(&mut up[..most]) => (count, &mut far, &up),
            Ok(count) = far.read(&mut down[..most]) => (count, &mut near, &down),
            else => return,
        };
        if count == 0 || to.write_all(&from[..count]).await.is_err() {
            return;
        }
        left -= count;
    }
    if reset {
        let _ = near.set_linger(Some(Duration::ZERO));
        let _ = far.set_linger(Some(Duration::ZERO));
    }
}

/// Polls so many times, then drops.
async fn polled<F: Future>(times: usize, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        if left == 0 { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}

/// Returns the calls that were reported as not run, and how many of the others succeeded.
async fn caller(
    pool: Pool,
    journal: Journal,
    mut rng: fastrand::Rng,
    keys: std::ops::Range<u64>,
) -> (Vec<u64>, usize) {
    let (mut unrun, mut succeeded) = (Vec::new(), 0);
    for key in keys {
        let length = [8, 9, 100, 16_384, 65_536, 65_537, 200_000][rng.usize(..7)];
        let mut body = key.to_be_bytes().to_vec();
        body.resize(length, key as u8);
        let body = Bytes::from(body);
        let mut request = pool.request(body.clone()).timeout(Duration::from_millis(rng.u64(1..60)));
        let mut most = 1;
        if rng.u8(..4) == 0 {
            request = request.idempotent();
            most = u32::MAX;
        }
        if rng.u8(..6) == 0 {
            request = request.fail_fast();
        }
        let times = if rng.bool() { usize::MAX } else { rng.usize(..6) };
        if rng.u8(..8) == 0 {
            if let Some(Err(error)) = polled(times, request.notify()).await {
                if error.outcome() == Outcome::NotSent {
                    unrun.push(key);
                }
            }
            assert!(journal.runs(key) <= 1);
            continue;
        }
        let result = polled(times, request.send()).await;
        let (told, runs) = (result.as_ref().map_or(Told::Unknown, Told::of), journal.runs(key));
        assert!(told.is_true(runs, most), "{key} ran {runs} times: {result:?}");
        if told == Told::NotRun {
            unrun.push(key);
        }
        if let Some(Ok(reply)) = result {
            assert_eq!(reply, body);
            succeeded += 1;
        }
    }
    (unrun, succeeded)
}

async fn chaos(seed: u64, limits: Limits, connections: std::ops::RangeInclusive<usize>) {
    seed::tell(seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    let journal = Journal::default();
    let server = Server::builder().in_flight(5).handlers(7).bind("127.0.0.1:0").await.unwrap();
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
    let serving = tokio::spawn(server.serve(journal.clone()));
    let front = proxy(address, rng.fork()).await;
    let pools: Vec<_> = (0..2)
        .map(|_| {
            let ms = Duration::from_millis;
            Pool::builder(front.to_string())
                .connections(connections.clone())
                .heartbeat(Heartbeat::every(ms(200)))
                .reconnect(Reconnect::exponential(ms(1), ms(5)).stable_after(ms(0)))
                .retry(Retry::attempts(5).budget(1.0).floor(1000.0).backoff(ms(1), ms(3)))
                .on_connect(|mut conversation| async move {
                    conversation.call([0xff; 8].to_vec()).await?;
                    Ok(())
                })
                .limits(limits)
                .build()
                .unwrap()
        })
        .collect();
    let mut callers = Vec::new();
    for number in 0..16 {
        let keys = number * 1000..number * 1000 + 150;
        let pool = pools[number as usize % 2].clone();
        callers.push(tokio::spawn(caller(pool, journal.clone(), rng.fork(), keys)));
    }
    let (mut unrun, mut succeeded) = (Vec::new(), 0);
    for caller in callers {
        let (more, replies) =
            tokio::time::timeout(Duration::from_secs(60), caller).await.unwrap().unwrap();
        unrun.extend(more);
        succeeded += replies;
    }
    for pool in &pools {
        until("all places are free", || {
            let status = pool.status();
            (status.in_flight, status.waiting) == (0, 0)
        })
        .await;
    }
    // What was not sent never arrives later either: nobody runs twice, also in the end.
    for pool in pools {
        soon("close", pool.close(Duration::from_secs(10))).await.unwrap();
        assert_eq!(pool.status().in_flight, 0);
    }
    handle.shutdown(Duration::from_secs(10));
    soon("the end of the server", serving).await.unwrap().unwrap();
    for key in &unrun {
        assert_eq!(journal.runs(*key), 0, "{key} was reported as not run");
    }
    println!("{succeeded} replies, {} not run", unrun.len());
    assert!(!unrun.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_lies_and_nothing_is_left_behind() {
    for seed in seed::several(4) {
        chaos(seed, Limits::default().in_flight(3).waiting(6), 1..=3).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_lies_with_limits_of_one() {
    for seed in seed::several(2) {
        chaos(seed, Limits::default().in_flight(1).waiting(0), 1..=1).await;
        chaos(seed, Limits::default().in_flight(1).waiting(1), 2..=3).await;
    }
}

#[tokio::test]
async fn nothing_lies_on_one_thread() {
    for seed in seed::several(3) {
        chaos(seed, Limits::default().in_flight(2).waiting(20), 1..=2).await;
    }
}
