//! Another size at run time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use steadfast::{ConfigError, Connections, Event, Limits, Pool, Retirement, State};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, HOUR, SECOND, call_at_once, state};
use crate::support::news;
use crate::support::scripted::{REQUEST, Script, expect, reply};
use crate::support::times::ms;
use crate::support::waits::{until, within};
use crate::tenure::Callers;

const AT_ONCE: Duration = Duration::ZERO;

#[tokio::test(start_paused = true)]
async fn under_load_it_grows_and_shrinks_and_no_call_notices() {
    let bench = Bench::new(ms(20), ms(3));
    let limits = Limits::default().in_flight(4);
    let pool = bench.pool().limits(limits).connections(2).build().unwrap();
    news::connected(&pool, 2).await;
    let callers = Callers::start(&pool, 32);
    for size in [8, 1, 5, 2, 9, 3, 1, 4] {
        pool.clone().resize(size).unwrap();
        until("the new size", || pool.status().ready == size).await;
        sleep(SECOND).await;
        assert_eq!((pool.status().ready, bench.came() - bench.went()), (size, size));
    }
    assert!(callers.stop().await > 1000);
    assert_eq!(bench.dials(), bench.came());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_too_many_finishes_its_call_and_is_closed_with_fin() {
    let bench = Bench::new(ms(1), 10 * SECOND);
    let pool = bench.pool().connections(2).build().unwrap();
    news::connected(&pool, 2).await;
    let mut events = pool.events();
    let calls = tokio::spawn({
        let pool = pool.clone();
        async move { call_at_once(&pool, 2).await }
    });
    until("both are busy", || pool.status().in_flight == 2).await;
    pool.resize(1).unwrap();
    let (slot, why) = news::event(&mut events, "it is let go", |event| match event {
        Event::Retired { slot, why, .. } => Some((slot, why)),
        event => panic!("{event}"),
    })
    .await;
    assert_eq!((slot, why), (1, Retirement::Resized));
    sleep(5 * SECOND).await;
    // It takes no calls any more, and has not gone.
    assert_eq!((pool.status().ready, pool.status().in_flight, bench.went()), (1, 2, 0));
    calls.await.unwrap();
    until("FIN", || bench.went() == 1).await;
    call_at_once(&pool, 3).await;
    assert_eq!(bench.dials(), 2);
}

/// A slot that comes back has a connection of its own, while the one before it still drains.
#[tokio::test(start_paused = true)]
async fn what_still_drains_holds_nothing_up() {
    let bench = Bench::new(ms(1), 100 * SECOND);
    let pool = bench.pool().connections(3).build().unwrap();
    news::connected(&pool, 3).await;
    let calls = tokio::spawn({
        let pool = pool.clone();
        async move { call_at_once(&pool, 3).await }
    });
    until("all are busy", || pool.status().in_flight == 3).await;
    pool.resize(1).unwrap();
    until("the new size", || pool.status().ready == 1).await;
    pool.resize(3).unwrap();
    within(SECOND, "the new connections", news::connected(&pool, 3)).await;
    assert_eq!((pool.status().in_flight, bench.came(), bench.went()), (3, 5, 0));
    calls.await.unwrap();
    until("FIN", || bench.went() == 2).await;
    assert_eq!((pool.status().ready, pool.status().in_flight), (3, 0));
    pool.close(SECOND).await.unwrap();
    assert_eq!(bench.dials(), 5);
}

#[tokio::test(start_paused = true)]
async fn attempts_for_what_is_not_wanted_any_more_are_given_up() {
    let bench = Bench::new(HOUR, AT_ONCE);
    let pool = bench.pool().connections(3).build().unwrap();
    until("attempts", || bench.dials_under_way() == 3).await;
    pool.resize(1).unwrap();
    until("one attempt", || bench.dials_under_way() == 1).await;
    pool.resize(2).unwrap();
    until("two attempts", || bench.dials_under_way() == 2).await;
    assert_eq!(bench.dials(), 4);
}

/// Who was not let into the line has more connections made, as far as there may be more.
#[tokio::test(start_paused = true)]
async fn who_was_turned_away_before_the_pool_became_smaller_asks_for_nothing_any_more() {
    let bench = Bench::new(ms(50), HOUR);
    let pool = bench
        .pool()
        .connections(Connections::between(0..=2).idle_limit(SECOND))
        .limits(Limits::default().waiting(0).in_flight(1))
        .build()
        .unwrap();
    pool.ready(SECOND).await.unwrap();
    let answered = tokio::spawn({
        let pool = pool.clone();
        async move { pool.request("first").timeout(10 * SECOND).send().await }
    });
    until("a call", || pool.status().in_flight == 1).await;
    pool.call("one too many").await.unwrap_err();
    until("another attempt", || bench.dials_under_way() == 1).await;
    pool.resize(0..=1).unwrap();
    until("no attempt", || bench.dials_under_way() == 0).await;
    answered.await.unwrap().unwrap_err();
    state(&pool, State::Idle).await;
    sleep(HOUR).await;
    assert_eq!((bench.dials(), pool.status().state), (2, State::Idle));
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_can_change_too() {
    let bench = Bench::new(ms(1), AT_ONCE);
    let connections = Connections::between(0..=4).idle_limit(10 * SECOND);
    let pool = bench.pool().connections(connections).build().unwrap();
    sleep(HOUR).await;
    assert_eq!((bench.dials(), pool.status().state), (0, State::Idle));
    pool.resize(2..=4).unwrap();
    within(SECOND, "two connections", news::connected(&pool, 2)).await;
    sleep(HOUR).await;
    assert_eq!(pool.status().ready, 2);
    // The idle limit, of which nothing is said, stays.
    call_at_once(&pool, 2).await;
    pool.resize(0..=4).unwrap();
    let began = Instant::now();
    state(&pool, State::Idle).await;
    assert!((8 * SECOND..=13 * SECOND).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(bench.dials(), 2);
    // A call without a place is reason enough for as many as there may be.
    pool.resize(Connections::between(0..=1).without_idle_limit()).unwrap();
    call_at_once(&pool, 3).await;
    sleep(HOUR).await;
    assert_eq!((pool.status().ready, bench.dials()), (1, 3));
}

/// The only one that is ready is one that is too many.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_too_many_stays_until_enough_others_are_ready() {
    let bench = Bench::new(ms(1), SECOND);
    let pool = bench.pool().connections(1..=2).build().unwrap();
    call_at_once(&pool, 2).await;
    bench.open(false);
    bench.cut();
    until("the loss", || pool.status().ready == 0).await;
    bench.open(true);
    // Slot 0 comes back, and slot 1 for a second call; then slot 0 alone is lost.
    call_at_once(&pool, 2).await;
    assert_eq!(pool.status().ready, 2);
    bench.open(false);
    bench.cut_one(2);
    until("the loss", || pool.status().ready == 1).await;
    pool.resize(1).unwrap();
    let callers = Callers::start(&pool, 1);
    sleep(100 * SECOND).await;
    assert_eq!((pool.status().ready, pool.status().outage), (1, None));
    bench.open(true);
    until("slot 1 goes", || bench.went() == 1).await;
    callers.stop().await;
    assert_eq!(pool.status().ready, 1);
}

#[tokio::test(start_paused = true)]
async fn a_size_out_of_its_range_changes_nothing() {
    let bench = Bench::new(ms(1), AT_ONCE);
    let pool = bench.pool().connections(2).build().unwrap();
    news::connected(&pool, 2).await;
    for wrong in [Connections::from(0), Connections::from(10_001), Connections::from(4..=10_001)] {
        assert!(matches!(pool.resize(wrong), Err(ConfigError::Number { .. })), "{wrong:?}");
    }
    let too_short = Connections::from(9).lifetime(ms(1));
    assert!(matches!(pool.resize(too_short), Err(ConfigError::Time { .. })));
    sleep(HOUR).await;
    assert_eq!((pool.status().ready, bench.dials()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_closed_stays_so() {
    let bench = Bench::new(ms(1), AT_ONCE);
    let pool = bench.pool().connections(2).build().unwrap();
    news::connected(&pool, 2).await;
    pool.close(SECOND).await.unwrap();
    pool.resize(8).unwrap();
    sleep(HOUR).await;
    assert_eq!((bench.dials(), pool.status().state), (2, State::Closed));
    pool.close(SECOND).await.unwrap();
}

#[test]
fn a_pool_whose_runtime_has_gone_is_closed_and_stays_so() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let pool = runtime.block_on(async { Bench::new(ms(1), AT_ONCE).pool().build().unwrap() });
    // From outside of any runtime.
    pool.resize(2).unwrap();
    runtime.block_on(news::connected(&pool, 2));
    drop(runtime);
    assert_eq!(pool.status().state, State::Closed);
    pool.resize(4).unwrap();
    assert_eq!(pool.status().state, State::Closed);
}

/// Whoever comes first: it is closed in the end, with all its tasks and connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_that_resize_and_one_that_closes_do_not_harm_each_other() {
    for round in 0..200 {
        let bench = Bench::new(AT_ONCE, AT_ONCE);
        let pool = bench.pool().connections(2).build().unwrap();
        let mut events = pool.events();
        let resizing = (0..4).map(|clone: usize| {
            let pool = pool.clone();
            tokio::spawn(async move {
                for step in 0..20 {
                    pool.resize((clone + step) % 3..=1 + (7 * clone + step) % 9)
                        .unwrap_or_default();
                    let _ = pool.request("x").timeout(ms(50)).send().await;
                }
            })
        });
        let resizing: Vec<_> = resizing.collect();
        sleep(Duration::from_micros(100 * (round % 50))).await;
        within(10 * SECOND, "the end", pool.close(5 * SECOND)).await.unwrap();
        for resizing in resizing {
            within(10 * SECOND, "the others' end", resizing).await.unwrap();
        }
        assert_eq!((pool.status().state, pool.status().in_flight), (State::Closed, 0));
        within(SECOND, "the last event", async { while events.next().await.is_some() {} }).await;
        until("no attempt", || bench.dials_under_way() == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sizes_that_several_choose_at_once_end_with_the_last() {
    let bench = Bench::new(AT_ONCE, AT_ONCE);
    let pool = bench.pool().connections(1).build().unwrap();
    news::connected(&pool, 1).await;
    let callers = Callers::start(&pool, 8);
    let turns = Arc::new(AtomicUsize::new(0));
    let resizing: Vec<_> = (0..4)
        .map(|clone: usize| {
            let (pool, turns): (Pool, _) = (pool.clone(), turns.clone());
            tokio::spawn(async move {
                for step in 0..200 {
                    pool.resize(1 + (5 * clone + step) % 9).unwrap();
                    turns.fetch_add(1, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for resizing in resizing {
        resizing.await.unwrap();
    }
    assert_eq!(turns.load(Ordering::SeqCst), 800);
    pool.resize(3).unwrap();
    until("three connections", || pool.status().ready == 3 && bench.came() - bench.went() == 3)
        .await;
    callers.stop().await;
    pool.close(SECOND).await.unwrap();
}

#[tokio::test]
async fn the_only_connection_that_is_ready_is_kept_whatever_its_number() {
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string()).build().unwrap();
    let first = script.welcome().await;
    pool.ready(20 * SECOND).await.unwrap();
    pool.resize(2).unwrap();
    let mut second = script.welcome().await;
    until("both", || pool.status().ready == 2).await;
    // The first slot's next connection hangs.
    drop(first);
    let _silent = script.accept().await;
    pool.resize(0..=1).unwrap();
    for _ in 0..3 {
        let call = tokio::spawn({
            let pool = pool.clone();
            async move { pool.call("x").await }
        });
        let request = expect(&mut second, &[REQUEST]).await;
        second.write_all(&reply(request.id(), b"served")).await.unwrap();
        assert_eq!(call.await.unwrap().unwrap(), "served");
    }
}
