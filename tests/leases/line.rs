//! Waiting for a connection: who is served, how many are made, and who makes them.

use std::future::IntoFuture as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use steadfast::{Connect, Connecting, Endpoint, LeaseCause, Pool, Scarcity, Step};
use tokio::time::{Instant, sleep, sleep_until};

use crate::endings::piped;
use crate::support::news;
use crate::support::pipes::{Pipes, Switch, pipes};
use crate::support::plain::{echo, ordered};
use crate::support::times::ms;

const LONG: Duration = Duration::from_secs(60);

/// Pipes that take their time.
struct Slow(Pipes, Duration);

impl Connect for Slow {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            sleep(self.1).await;
            self.0.connect(endpoint).await
        })
    }
}

/// A pool of connections on demand that take so long to be made, each served by an echo.
fn on_demand(dial: Duration) -> (Pool, Arc<AtomicUsize>) {
    let (connector, mut switch): (Pipes, Switch) = pipes(4096);
    let pool = Pool::builder("peer:1")
        .connector(Slow(connector, dial))
        .protocol(ordered())
        .connections(0..=64)
        .call_timeout(LONG)
        .build()
        .unwrap();
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    tokio::spawn(async move {
        loop {
            let stream = switch.accept().await;
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(echo(stream));
        }
    });
    (pool, made)
}

#[tokio::test(start_paused = true)]
async fn a_rush_on_a_cold_pool_makes_a_few_connections_and_no_herd() {
    let (pool, made) = on_demand(ms(50));
    let leases = (0..200).map(|number| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut lease = pool.lease().await.unwrap();
            lease.send(format!("{number}")).await.unwrap();
            // The server takes a moment.
            sleep(ms(1)).await;
            assert_eq!(lease.recv().await.unwrap(), format!("{number}"));
        })
    });
    futures::future::try_join_all(leases.collect::<Vec<_>>()).await.unwrap();
    let made = made.load(Ordering::Relaxed);
    assert!((1..=8).contains(&made), "{made} connections");
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_gives_up_does_not_kill_the_attempt_that_serves_the_next() {
    let (pool, made) = on_demand(ms(100));
    let mut events = pool.events();
    let began = Instant::now();
    let error = pool.lease().timeout(ms(40)).await.unwrap_err();
    assert_eq!(error.step(), Step::CheckOut);
    let LeaseCause::TimedOut { limit, scarcity: Some(Scarcity::Outage(_)) } = error.cause() else {
        panic!("{error}");
    };
    assert_eq!(*limit, ms(40));
    // Nobody asks when it is ready.
    news::ready(&mut events).await;
    assert!(began.elapsed() <= ms(110), "{:?}", began.elapsed());
    for _ in 0..10 {
        pool.lease().timeout(ms(40)).await.unwrap();
    }
    assert_eq!(made.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn leases_are_lent_in_the_order_in_which_they_were_asked_for() {
    let (connector, mut switch) = pipes(4096);
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .protocol(ordered())
        .call_timeout(LONG)
        .build()
        .unwrap();
    tokio::spawn(echo(switch.accept().await));
    let lease = pool.lease().await.unwrap();
    let (order, start) = (Arc::new(std::sync::Mutex::new(Vec::new())), Instant::now());
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let (pool, order) = (pool.clone(), order.clone());
            tokio::spawn(async move {
                sleep_until(start + ms(number)).await;
                // Every third gives up.
                let limit = if number % 3 == 2 { ms(50) } else { LONG };
                match pool.lease().timeout(limit).await {
                    Ok(_lease) => order.lock().unwrap().push(number),
                    Err(error) => assert!(number % 3 == 2, "{error}"),
                }
            })
        })
        .collect();
    sleep_until(start + ms(200)).await;
    drop(lease);
    for task in tasks {
        task.await.unwrap();
    }
    let expected: Vec<u64> = (0..20).filter(|number| number % 3 != 2).collect();
    assert_eq!(*order.lock().unwrap(), expected);
}

/// One connection, calls and leases: neither starves the other.
#[tokio::test(start_paused = true)]
async fn calls_and_leases_stand_in_one_line() {
    let (connector, mut switch) = pipes(4096);
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .protocol(ordered().pipeline(16))
        .call_timeout(LONG)
        .build()
        .unwrap();
    tokio::spawn(echo(switch.accept().await));
    let until = Instant::now() + ms(2000);
    let [calls, leases] = [Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0))];
    let mut tasks = Vec::new();
    for number in 0..32 {
        let (pool, calls, leases) = (pool.clone(), calls.clone(), leases.clone());
        tasks.push(tokio::spawn(async move {
            while Instant::now() < until {
                if number % 2 == 0 {
                    assert_eq!(pool.call("call").await.unwrap(), "call");
                    calls.fetch_add(1, Ordering::Relaxed);
                } else {
                    let mut lease = pool.lease().await.unwrap();
                    lease.send("lease").await.unwrap();
                    assert_eq!(lease.recv().await.unwrap(), "lease");
                    leases.fetch_add(1, Ordering::Relaxed);
                }
                sleep(ms(1)).await;
            }
        }));
    }
    futures::future::try_join_all(tasks).await.unwrap();
    let [calls, leases] = [calls, leases].map(|count| count.load(Ordering::Relaxed));
    assert!(calls > 100 && leases > 100, "{calls} calls, {leases} leases");
    assert!(calls.abs_diff(leases) * 2 < calls + leases, "{calls} calls, {leases} leases");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_hears_of_the_outage_and_waits_for_its_turn() {
    let (connector, mut switch) = pipes(4096);
    let pool = Pool::builder("peer:1")
        .connector(connector.closed_for(ms(1000)))
        .protocol(ordered())
        .call_timeout(LONG)
        .build()
        .unwrap();
    let error = pool.lease().fail_fast().await.unwrap_err();
    assert!(matches!(error.cause(), LeaseCause::Unavailable(_)), "{error}");
    tokio::spawn(echo(switch.accept().await));
    let lease = pool.lease().await.unwrap();
    // It is ready, though not free: that is a line, not an outage.
    let mut second = Box::pin(pool.lease().fail_fast().into_future());
    assert!(futures::poll!(&mut second).is_pending());
    drop(lease);
    second.await.unwrap();
    // What it waited for is told.
    let _lease = pool.lease().await.unwrap();
    let error = pool.lease().timeout(ms(20)).await.unwrap_err();
    let LeaseCause::TimedOut { scarcity: Some(Scarcity::Full(full)), .. } = error.cause() else {
        panic!("{error}");
    };
    assert_eq!((full.in_flight, full.connections), (1, 1));
}

/// Who polls once and is busy with something else then: the place that it was handed meanwhile goes to the next at the end of
/// its time, and nobody looks after it again and again. (With the clock paused time would never go on: the watchdog has its own
/// thread.)
#[test]
fn a_place_that_nobody_comes_for_goes_to_the_next() {
    let (done, finished) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let (pool, _switch, mut peers) = piped(1).await;
            let mut first = pool.lease().await.unwrap();
            let mut second = Box::pin(pool.lease().timeout(ms(50)).into_future());
            assert!((&mut second).now_or_never().is_none());
            let mut third = Box::pin(pool.lease().timeout(ms(500)).into_future());
            assert!((&mut third).now_or_never().is_none());
            first.send("question").await.unwrap();
            peers[0].next().await.unwrap().unwrap();
            peers[0].send("answer".into()).await.unwrap();
            first.recv().await.unwrap();
            drop(first);
            sleep(ms(100)).await;
            assert!(third.now_or_never().expect("a place").is_ok());
            assert!(second.await.is_err());
        });
        done.send(()).unwrap();
    });
    finished.recv_timeout(Duration::from_secs(10)).expect("100 ms of paused time pass at once");
}
