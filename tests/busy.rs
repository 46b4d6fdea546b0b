//! What is promised holds when a thousand callers keep one connection as busy as they can: fair shares, cancellation, limits.
//!
//! Load as in `benches/peers`: each caller has one call at a time, of 64 bytes, and makes the next when it has the reply.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::{Either, join_all, select};
use steadfast::{Bytes, Call, CallCause, Limits, Outcome, Overload, Pool, Server};
use support::local::start;
use tokio::task::yield_now;
use tokio::time::Instant;

const CALLERS: u64 = 1024;

/// A server, with what a call costs there.
async fn server<F: Future<Output = ()> + Send>(
    work: impl Fn() -> F + Send + Sync + Clone + 'static,
) -> String {
    let handler = move |call: Call| {
        let work = work.clone();
        async move {
            work().await;
            Ok(call.into_body())
        }
    };
    start(Server::builder(), handler).await.to_string()
}

async fn ready(pool: &Pool) {
    pool.ready(Duration::from_secs(10)).await.unwrap();
}

/// 64 bytes that nobody else sends.
fn body(caller: u64, turn: u64) -> Bytes {
    Bytes::from_iter([caller, turn].repeat(4).into_iter().flat_map(u64::to_be_bytes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_get_the_same_share_within_a_factor_of_two() {
    let pool = Pool::builder(server(async || ()).await).build().unwrap();
    ready(&pool).await;
    let begin = Arc::new(tokio::sync::Barrier::new(CALLERS as usize));
    // Of so many calls each, a share can be told. On a slow machine that takes longer than the usual three seconds.
    const ENOUGH: u64 = 21;
    let too_few = Arc::new(AtomicUsize::new(CALLERS as usize));
    let callers = (0..CALLERS).map(|caller| {
        let (pool, begin, too_few) = (pool.clone(), begin.clone(), too_few.clone());
        tokio::spawn(async move {
            begin.wait().await;
            let (start, mut done) = (Instant::now(), 0);
            let goes_on = || match too_few.load(Ordering::SeqCst) {
                0 => start.elapsed() < Duration::from_secs(3),
                _ => start.elapsed() < Duration::from_secs(60),
            };
            while goes_on() {
                assert_eq!(pool.call(body(caller, done)).await.unwrap(), body(caller, done));
                done += 1;
                if done == ENOUGH {
                    too_few.fetch_sub(1, Ordering::SeqCst);
                }
            }
            done
        })
    });
    let done: Vec<_> = join_all(callers).await.into_iter().map(Result::unwrap).collect();
    let (least, most) = (*done.iter().min().unwrap(), *done.iter().max().unwrap());
    assert!(least >= ENOUGH, "too few to tell: {least}");
    assert!(most <= 2 * least, "between {least} and {most} calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_callers_who_cancel_a_third_of_their_calls_get_their_own_replies_and_leave_nothing()
 {
    let pool = Pool::builder(server(async || ()).await).build().unwrap();
    ready(&pool).await;
    let cancelled = Arc::new(AtomicUsize::new(0));
    let callers = (0..CALLERS).map(|caller| {
        let (pool, cancelled) = (pool.clone(), cancelled.clone());
        tokio::spawn(async move {
            let mut random = fastrand::Rng::with_seed(caller);
            for turn in 0..60 {
                let call = Box::pin(pool.call(body(caller, turn)));
                let polls = if random.u8(..3) == 0 { random.u8(1..4) } else { u8::MAX };
                let patience = Box::pin(async move {
                    for _ in 1..polls {
                        yield_now().await;
                    }
                });
                match (polls, select(call, patience).await) {
                    (_, Either::Left((reply, _))) => assert_eq!(reply.unwrap(), body(caller, turn)),
                    (u8::MAX, Either::Right(((), call))) => {
                        assert_eq!(call.await.unwrap(), body(caller, turn));
                    }
                    (_, Either::Right(((), call))) => {
                        drop(call);
                        cancelled.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        })
    });
    join_all(callers).await.into_iter().for_each(Result::unwrap);
    let cancelled = cancelled.load(Ordering::Relaxed);
    assert!(cancelled > 60 * CALLERS as usize / 20, "only {cancelled} were cancelled in time");
    let status = pool.status();
    assert_eq!((status.in_flight, status.waiting), (0, 0));
    assert_eq!(pool.call("still here").await.unwrap(), "still here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_thousand_callers_the_limits_hold_and_what_is_beyond_them_fails_at_once_and_unsent()
{
    const IN_FLIGHT: usize = 64;
    const WAITING: usize = 128;
    let (running, most, ran) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
    let (now, peak, all) = (running.clone(), most.clone(), ran.clone());
    let work = move || {
        let (now, peak, all) = (now.clone(), peak.clone(), all.clone());
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Others get their turn, so that as many run at a time as may.
            yield_now().await;
            now.fetch_sub(1, Ordering::SeqCst);
            all.fetch_add(1, Ordering::SeqCst);
        }
    };
    let limits = Limits::default().in_flight(IN_FLIGHT).waiting(WAITING);
    let pool = Pool::builder(server(work).await).limits(limits).build().unwrap();
    ready(&pool).await;
    let callers = (0..CALLERS).map(|caller| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let (mut ok, mut beyond) = (0, 0);
            for turn in 0..50 {
                match pool.call(body(caller, turn)).await {
                    Ok(reply) => {
                        assert_eq!(reply, body(caller, turn));
                        ok += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.outcome(), Outcome::NotSent, "{error}");
                        let limit = Overload::Waiting { limit: WAITING };
                        assert!(
                            matches!(error.cause(), CallCause::Overloaded(hit) if *hit == limit),
                            "{error}"
                        );
                        beyond += 1;
                        yield_now().await;
                    }
                }
                let status = pool.status();
                assert!(status.in_flight <= IN_FLIGHT && status.waiting <= WAITING, "{status:?}");
            }
            (ok, beyond)
        })
    });
    let (mut ok, mut beyond) = (0, 0);
    for caller in join_all(callers).await {
        let (answered, turned_away) = caller.unwrap();
        (ok, beyond) = (ok + answered, beyond + turned_away);
    }
    assert!(ok > 0 && beyond > 0, "{ok} and {beyond}");
    assert_eq!(ran.load(Ordering::SeqCst), ok, "what failed for a limit never ran");
    let most = most.load(Ordering::SeqCst);
    assert!((2..=IN_FLIGHT).contains(&most), "{most} at a time");
}
