//! Many leases at once, cut off anywhere.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use steadfast::{BoxError, Bytes, Dialect, Frames, Framing, Matching, Meaning, Pool, Protocol};
use steadfast::{Reconnect, Unsendable, Violation};
use tokio::net::TcpListener;

use crate::support::loopback::listen;
use crate::support::news::connected;
use crate::support::plain::{self, ordered};
use crate::support::times::ms;
use crate::support::waits::{soon, until};

const LONG: Duration = Duration::from_secs(60);

async fn pool(connections: usize) -> Pool {
    let (listener, address) = listen().await;
    tokio::spawn(plain::echo_all(listener));
    let pool = Pool::builder(address)
        .protocol(ordered())
        .connections(connections)
        .call_timeout(LONG)
        .reconnect(Reconnect::exponential(ms(1), ms(10)))
        .build()
        .unwrap();
    soon("connections", connected(&pool, connections)).await;
    pool
}

/// A conversation of some frames, each of which is its own alone, short or long.
async fn converse(pool: &Pool, name: u64) {
    let mut lease = pool.lease().await.unwrap();
    let mut rng = fastrand::Rng::with_seed(name);
    for step in 0..rng.u32(1..4) {
        let mut frame = format!("{name} {step} ").into_bytes();
        let padding = if rng.u8(..) < 8 { 300_000 } else { rng.usize(..64) };
        frame.resize(frame.len() + padding, b'x');
        let frame = Bytes::from(frame);
        lease.send(frame.clone()).await.unwrap();
        let answer = lease.recv().await.unwrap();
        // Not with `assert_eq`, whose message could be long.
        assert!(answer == frame, "{:?} got {:?}", &frame[..20.min(frame.len())], answer.get(..20));
    }
}

/// Takes every one of its connections at once, and talks on each.
async fn assert_whole(pool: &Pool, connections: usize) {
    let mut leases = Vec::new();
    for _ in 0..connections {
        leases.push(soon("a lease", pool.lease().into_future()).await.unwrap());
    }
    assert_eq!(pool.status().in_flight, connections);
    for (number, lease) in leases.iter_mut().enumerate() {
        let frame = Bytes::from(format!("in the end, {number}"));
        lease.send(frame.clone()).await.unwrap();
        assert_eq!(soon("an answer", lease.recv()).await.unwrap(), frame);
    }
    drop(leases);
    let status = pool.status();
    assert_eq!((status.in_flight, status.waiting), (0, 0));
}

/// Each is polled a random number of times, and then dropped, wherever it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_that_are_cancelled_anywhere_cost_nobody_anything() {
    const TASKS: u64 = 64;
    let each = if cfg!(debug_assertions) { 20_000 / TASKS } else { 100_000 / TASKS + 1 };
    let pool = pool(8).await;
    let finished = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (pool, finished) = (pool.clone(), finished.clone());
            tokio::spawn(async move {
                let mut rng = fastrand::Rng::with_seed(task);
                for number in 0..each {
                    let mut left = rng.u32(..12);
                    let mut conversation = Box::pin(converse(&pool, task * each + number));
                    let cut = std::future::poll_fn(|cx| {
                        if conversation.as_mut().poll(cx).is_ready() {
                            finished.fetch_add(1, Ordering::Relaxed);
                            return std::task::Poll::Ready(());
                        }
                        left = left.saturating_sub(1);
                        if left == 0 {
                            std::task::Poll::Ready(())
                        } else {
                            std::task::Poll::Pending
                        }
                    });
                    soon("the end of a conversation", cut).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let (all, finished) = (TASKS * each, finished.load(Ordering::Relaxed));
    // Both happen often.
    assert!(finished > all / 20 && finished < all * 19 / 20, "{finished} of {all}");
    assert_whole(&pool, 8).await;
    pool.close(LONG).await.unwrap();
}

#[tokio::test]
async fn callers_that_panic_with_a_lease_in_hand_take_no_capacity_with_them() {
    let pool = pool(2).await;
    for number in 0..100 {
        let conversation = async {
            let mut lease = pool.lease().await.unwrap();
            if number % 2 == 0 {
                lease.send("half").await.unwrap();
            }
            std::panic::resume_unwind(Box::new("on purpose"));
        };
        assert!(AssertUnwindSafe(conversation).catch_unwind().await.is_err());
    }
    assert_whole(&pool, 2).await;
}

/// Panics in every other one of its connections' openings.
#[derive(Clone)]
struct Nervous(Arc<AtomicUsize>);

impl Dialect for Nervous {
    fn framing(&self) -> Framing {
        plain::framing()
    }

    fn matching(&self) -> Matching {
        Matching::InOrder { pipeline: 1 }
    }

    fn request(&self, _: u64, body: Bytes, _: &mut bytes::BytesMut) -> Result<Bytes, Unsendable> {
        Ok(body)
    }

    fn received(&self, _: Bytes) -> Result<Meaning, Violation> {
        Ok(Meaning::Nothing)
    }
}

impl Protocol for Nervous {
    async fn open(&mut self, _: &mut Frames<'_>) -> Result<(), BoxError> {
        if self.0.fetch_add(1, Ordering::Relaxed) % 2 == 0 {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        Ok(())
    }
}

#[tokio::test]
async fn panics_in_the_opening_and_in_hooks_lose_no_capacity() {
    let (listener, address) = listen().await;
    tokio::spawn(plain::echo_all(listener));
    let (opened, hooked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = hooked.clone();
    let pool = Pool::builder(address)
        .protocol(Nervous(opened.clone()))
        .connections(0..=3)
        .reconnect(Reconnect::exponential(ms(1), ms(10)))
        .call_timeout(LONG)
        .on_connect(move |_| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            async move {
                if number % 3 == 0 {
                    std::panic::resume_unwind(Box::new("on purpose"));
                }
                Ok(())
            }
        })
        .build()
        .unwrap();
    for _ in 0..10 {
        assert_whole(&pool, 3).await;
        // All of them have to be made again.
        let mut leases = Vec::new();
        for _ in 0..3 {
            let mut lease = pool.lease().await.unwrap();
            lease.mark_broken();
            leases.push(lease);
        }
    }
    assert!(opened.load(Ordering::Relaxed) > 40 && hooked.load(Ordering::Relaxed) > 20);
}

/// How many turns each of 64 tasks has on 4 connections: the least and the most of them.
async fn turns(pool: &Pool, time: Duration) -> (u32, u32) {
    let until = Instant::now() + time;
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move {
                let mut turns = 0u32;
                while Instant::now() < until {
                    let mut lease = pool.lease().await.unwrap();
                    lease.send("hello").await.unwrap();
                    lease.recv().await.unwrap();
                    turns += 1;
                }
                turns
            })
        })
        .collect();
    let turns = futures::future::try_join_all(tasks).await.unwrap();
    (*turns.iter().min().unwrap(), *turns.iter().max().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_gets_the_same_number_of_turns() {
    let pool = pool(4).await;
    let mut seen = Vec::new();
    // The best of three: a worker that a busy machine stops for long stops the task that it has in hand.
    for _ in 0..3 {
        let (least, most) = turns(&pool, Duration::from_secs(2)).await;
        seen.push((least, most));
        // One more or less is no injustice where there are few.
        if least > 0 && f64::from(most) <= f64::from(least) * 1.1 + 1.0 {
            return;
        }
    }
    panic!("from the least to the most: {seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_for_a_moment_costs_those_who_wait_nothing() {
    let (listener, address) = listen().await;
    let bound = listener.local_addr().unwrap();
    drop(listener);
    let pool = Pool::builder(address)
        .protocol(ordered())
        .connections(0..=2)
        .call_timeout(LONG)
        .reconnect(Reconnect::exponential(ms(1), ms(50)))
        .build()
        .unwrap();
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { converse(&pool, 1).await }
    });
    until("an attempt", || pool.status().outage.is_some_and(|outage| outage.attempts > 1)).await;
    tokio::spawn(plain::echo_all(TcpListener::bind(bound).await.unwrap()));
    soon("the conversation", waiting).await.unwrap();
}
