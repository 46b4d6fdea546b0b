//! Connections that nothing is wrong with, and that are let go all the same: nobody uses them, or they are old enough.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use steadfast::{Call, Connections, Event, Pool, Retirement, Server, State, Subscription};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, HOUR, SECOND, Said, Seen, call_at_once, state};
use crate::support::local::start;
use crate::support::news;
use crate::support::times::ms;
use crate::support::waits::within;

const AT_ONCE: Duration = Duration::ZERO;

/// Which connection is let go next, and why. Nothing may be lost.
async fn retired(events: &mut Subscription<Event>) -> (u64, Retirement) {
    let waiting = async {
        loop {
            match events.next().await.expect("the pool lives") {
                Event::Retired { connection, why, .. } => return (connection, why),
                Event::Lost { loss, .. } => panic!("{loss}"),
                _ => {}
            }
        }
    };
    within(HOUR, "a connection is let go", waiting).await
}

/// Calls one after the other until it is told to stop, and counts them. None may fail.
pub(crate) struct Callers(Vec<JoinHandle<u32>>, Arc<AtomicBool>);

impl Callers {
    pub(crate) fn start(pool: &Pool, callers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let caller = |_| {
            let (pool, stop) = (pool.clone(), stop.clone());
            tokio::spawn(async move {
                let mut calls = 0;
                while !stop.load(Ordering::Relaxed) {
                    // What is closed on purpose costs no call, nor a retry, nor its patience.
                    let call = pool.request("on").fail_fast().retry(steadfast::Retry::never());
                    call.send().await.unwrap();
                    calls += 1;
                    sleep(ms(10)).await;
                }
                calls
            })
        };
        Self((0..callers).map(caller).collect(), stop)
    }

    pub(crate) async fn stop(self) -> u32 {
        self.1.store(true, Ordering::Relaxed);
        let mut calls = 0;
        for caller in self.0 {
            calls += caller.await.unwrap();
        }
        calls
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_nobody_uses_are_closed_and_those_to_be_kept_stay() {
    let bench = Bench::new(ms(1), SECOND);
    let connections = Connections::between(1..=4).idle_limit(100 * SECOND);
    let pool = bench.pool().connections(connections).build().unwrap();
    call_at_once(&pool, 4).await;
    assert_eq!(pool.status().ready, 4);
    let mut events = pool.events();
    let quiet_since = Instant::now();
    // One caller needs one connection, and the one that is kept is there.
    let caller = Callers::start(&pool, 1);
    let mut ages = Vec::new();
    for _ in 0..3 {
        let (connection, why) = retired(&mut events).await;
        assert!(connection > 1 && why == Retirement::Idle, "{connection}: {why}");
        ages.push(quiet_since.elapsed());
    }
    assert!(ages[0] >= 75 * SECOND && ages[2] <= 125 * SECOND, "{ages:?}");
    assert!(ages[0] < ages[1] && ages[1] < ages[2], "all at once: {ages:?}");
    sleep(HOUR).await;
    caller.stop().await;
    assert_eq!((pool.status().ready, bench.came(), bench.went()), (1, 4, 3));
}

#[tokio::test(start_paused = true)]
async fn where_none_is_kept_the_last_one_goes_too_and_a_call_brings_it_back() {
    let bench = Bench::new(ms(1), AT_ONCE);
    let connections = Connections::between(0..=4).idle_limit(100 * SECOND);
    let pool = bench.pool().connections(connections).build().unwrap();
    for round in 1..=3 {
        assert_eq!(pool.request("fast").fail_fast().send().await.unwrap(), "fast");
        state(&pool, State::Idle).await;
        assert_eq!(pool.status().outage, None);
        sleep(HOUR).await;
        assert_eq!((bench.dials(), bench.went()), (round, round));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_a_call_on_it_is_not_idle() {
    let bench = Bench::new(ms(1), 1000 * SECOND);
    let connections = Connections::between(0..=4).idle_limit(SECOND);
    let pool = bench.pool().connections(connections).build().unwrap();
    pool.call("long").await.unwrap();
    assert_eq!((bench.came(), bench.went()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn old_connections_are_replaced_before_they_go_and_no_call_notices() {
    let bench = Bench::new(SECOND, ms(5));
    let connections = Connections::from(2).lifetime(100 * SECOND);
    let pool = bench.pool().connections(connections).build().unwrap();
    news::connected(&pool, 2).await;
    let mut events = pool.events();
    let callers = Callers::start(&pool, 2);
    let began = Instant::now();
    for _ in 0..8 {
        assert_eq!(retired(&mut events).await.1, Retirement::Lifetime);
        assert_eq!(pool.status().ready, 2);
    }
    let lasted = began.elapsed();
    assert!(lasted >= 4 * 80 * SECOND && lasted <= 4 * 102 * SECOND, "{lasted:?}");
    sleep(SECOND).await;
    assert!(callers.stop().await > 20_000);
    let mut alive = 0;
    for (at, seen) in bench.seen() {
        match seen {
            Seen::Came(_) => alive += 1,
            Seen::Went(_) => alive -= 1,
        }
        assert!((2..=4).contains(&alive) || at <= began, "{alive} at {:?}", at - began);
    }
    assert_eq!((bench.came(), bench.went(), bench.dials()), (10, 8, 10));
}

#[tokio::test(start_paused = true)]
async fn while_it_cannot_be_replaced_an_old_connection_goes_on() {
    let bench = Bench::new(ms(10), ms(5));
    let connections = Connections::from(1).lifetime(100 * SECOND);
    let pool = bench.pool().connections(connections).build().unwrap();
    news::connected(&pool, 1).await;
    let mut events = pool.events();
    bench.open(false);
    let callers = Callers::start(&pool, 1);
    sleep(400 * SECOND).await;
    // 300 s of failures at the backoff's rate, 2.5 s on average at its cap.
    assert!((60..250).contains(&bench.dials()), "{}", bench.dials());
    assert_eq!((pool.status().ready, pool.status().outage, bench.went()), (1, None, 0));
    bench.open(true);
    // Events were missed meanwhile, perhaps, but not this one.
    assert_eq!(retired(&mut events).await, (1, Retirement::Lifetime));
    callers.stop().await;
    assert_eq!(bench.came(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_to_replace_a_connection_that_is_lost_is_the_next_one() {
    let bench = Bench::new(10 * SECOND, AT_ONCE);
    let connections = Connections::from(1).lifetime(100 * SECOND);
    let pool = bench.pool().connections(connections).build().unwrap();
    let mut events = pool.events();
    news::ready(&mut events).await;
    while bench.dials() == 1 {
        sleep(SECOND).await;
    }
    bench.cut();
    news::lost(&mut events).await;
    assert_eq!(pool.status().state, State::Down);
    assert_eq!(pool.call("hello").await.unwrap(), "hello");
    assert_eq!((bench.dials(), bench.came()), (2, 2));
    // Its own time begins when it is ready.
    let since = Instant::now();
    assert_eq!(retired(&mut events).await.1, Retirement::Lifetime);
    assert!(since.elapsed() >= 80 * SECOND, "{:?}", since.elapsed());
}

/// What a client names as replaced is cut off by the server.
#[tokio::test(start_paused = true)]
async fn the_server_is_told_to_replace_what_was_lost_and_not_what_still_serves() {
    let bench = Bench::new(ms(10), AT_ONCE);
    let connections = Connections::from(1).lifetime(100 * SECOND);
    let pool = bench.pool().connections(connections).build().unwrap();
    let mut events = pool.events();
    news::ready(&mut events).await;
    bench.cut();
    news::lost(&mut events).await;
    for _ in 0..2 {
        retired(&mut events).await;
    }
    let said = [(1, 0), (2, 1), (3, 0), (4, 0)];
    assert_eq!(bench.said(), said.map(|(connection, replaces)| Said { connection, replaces }));
}

#[tokio::test(start_paused = true)]
async fn an_old_connection_that_nobody_uses_and_that_is_not_kept_is_not_replaced() {
    let bench = Bench::new(ms(10), AT_ONCE);
    let connections = Connections::from(0..=4).without_idle_limit().lifetime(100 * SECOND);
    let pool = bench.pool().connections(connections).build().unwrap();
    let mut events = pool.events();
    pool.ready(SECOND).await.unwrap();
    assert_eq!(retired(&mut events).await, (1, Retirement::Lifetime));
    sleep(HOUR).await;
    assert_eq!((bench.dials(), bench.went(), pool.status().state), (1, 1, State::Idle));
}

#[tokio::test(start_paused = true)]
async fn connections_that_were_made_together_do_not_expire_together() {
    let bench = Bench::new(ms(1), AT_ONCE);
    let connections = Connections::from(50).lifetime(1000 * SECOND);
    let pool = bench.pool().connections(connections).build().unwrap();
    news::connected(&pool, 50).await;
    let mut events = pool.events();
    let began = Instant::now();
    let mut ages = Vec::new();
    for _ in 0..50 {
        retired(&mut events).await;
        ages.push(began.elapsed());
    }
    assert!(ages[0] >= 799 * SECOND && ages[49] <= 1001 * SECOND, "{ages:?}");
    // On average 5 in each tenth of the 200 s.
    let tenth = |age: &Duration| age.as_secs() / 20;
    let most = ages.chunk_by(|a, b| tenth(a) == tenth(b)).map(<[_]>::len).max().unwrap();
    assert!(most <= 15, "{most} in 20 s: {ages:?}");
}

/// The server's own word on it: it would count what is cut.
#[tokio::test]
async fn over_real_sockets_no_call_notices_that_connections_are_replaced() {
    let handler = |call: Call| async move {
        sleep(ms(3)).await;
        Ok(call.into_body())
    };
    let address = start(Server::builder(), handler).await;
    let connections = Connections::from(2).lifetime(SECOND);
    let pool = Pool::builder(address.to_string()).connections(connections).build().unwrap();
    news::connected(&pool, 2).await;
    let mut events = pool.events();
    let callers = Callers::start(&pool, 16);
    for _ in 0..6 {
        retired(&mut events).await;
    }
    assert!(callers.stop().await > 1000);
    pool.close(SECOND).await.unwrap();
}
