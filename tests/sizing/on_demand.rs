//! Connections that are made when a call needs them: none too early, none too many, and by the pool, not by the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use steadfast::{
    Began, CallCause, Connect, Connecting, Connections, Endpoint, Event, Limits, Pool, ReadyError,
    Reconnect, Scarcity, State,
};
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, HOUR, SECOND, call_at_once, state};
use crate::support::news;
use crate::support::peer::Peer;
use crate::support::pipes::{Pipes, pipes, refused};
use crate::support::times::ms;
use crate::support::waits::within;

const AT_ONCE: Duration = Duration::ZERO;

/// A call is refused, but it has asked; and again when there is no room and there may be more.
#[tokio::test(start_paused = true)]
async fn connections_are_made_also_for_calls_that_are_not_let_into_the_line() {
    let bench = Bench::new(ms(50), AT_ONCE);
    let limits = Limits::default().waiting(0).in_flight(1);
    let pool = bench.pool().connections(0..=2).limits(limits).build().unwrap();
    for connections in [1, 2] {
        let (first, second) = tokio::join!(pool.call("one"), pool.call("two"));
        let answered = usize::from(first.is_ok()) + usize::from(second.is_ok());
        assert_eq!(answered, connections - 1);
        sleep(SECOND).await;
        assert_eq!((bench.dials(), pool.status().ready), (connections, connections));
    }
    sleep(HOUR).await;
    assert_eq!(bench.dials(), 2, "nobody asks");
}

#[tokio::test(start_paused = true)]
async fn where_none_is_kept_nothing_is_dialed_before_the_first_call() {
    let bench = Bench::new(ms(50), AT_ONCE);
    let pool = bench.pool().connections(0..=4).build().unwrap();
    assert_eq!(pool.status().state, State::Idle);
    sleep(HOUR).await;
    assert_eq!((bench.dials(), pool.status().state), (0, State::Idle));
    assert_eq!(pool.status().outage, None);
    let mut states = pool.watch();
    let (reply, ()) = tokio::join!(pool.call("hello"), async {
        assert_eq!(states.changed().await, Some(State::Connecting));
        assert_eq!(states.changed().await, Some(State::Ready));
    });
    assert_eq!(reply.unwrap(), "hello");
    assert_eq!((bench.dials(), pool.status().ready), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn callers_that_give_up_leave_the_attempt_to_those_who_come_after_them() {
    let bench = Bench::new(ms(100), AT_ONCE);
    let pool = bench.pool().connections(0..=4).build().unwrap();
    let impatient = || pool.request("now").timeout(ms(40)).send();
    let error = impatient().await.unwrap_err();
    let CallCause::TimedOut { scarcity: Some(Scarcity::Outage(outage)), .. } = error.cause() else {
        panic!("{error}");
    };
    assert_eq!((&outage.began, outage.attempts), (&Began::NeverConnected, 0));
    impatient().await.unwrap_err();
    assert_eq!(impatient().await.unwrap(), "now");
    for _ in 0..10 {
        sleep(ms(60)).await;
        assert_eq!(impatient().await.unwrap(), "now");
    }
    assert_eq!(bench.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rush_of_short_calls_on_a_cold_pool_makes_few_connections() {
    let bench = Bench::new(ms(50), ms(1));
    let pool = bench.pool().connections(0..=64).build().unwrap();
    call_at_once(&pool, 200).await;
    assert!(bench.came() <= 8, "{}", bench.came());
}

#[tokio::test(start_paused = true)]
async fn long_calls_get_a_connection_each_up_to_the_bound() {
    let bench = Bench::new(ms(10), SECOND);
    let pool = bench.pool().connections(0..=5).build().unwrap();
    let began = Instant::now();
    call_at_once(&pool, 8).await;
    assert_eq!(bench.dials(), 5);
    // Five, and then three.
    assert!(began.elapsed() < ms(2200), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_fail_fast_call_waits_for_the_first_attempt_and_no_longer() {
    let bench = Bench::new(ms(50), AT_ONCE);
    let pool = bench.pool().limits(Limits::default()).connections(0..=4).build().unwrap();
    let call = || pool.request("fast").fail_fast().send();
    let meanwhile = async {
        sleep(ms(20)).await;
        call().await
    };
    let (first, second) = tokio::join!(call(), meanwhile);
    assert_eq!((first.unwrap(), second.unwrap()), ("fast".into(), "fast".into()));

    bench.open(false);
    let mut events = pool.events();
    bench.cut();
    news::lost(&mut events).await;
    // That failed attempt is an outage, until another could be made.
    let began = Instant::now();
    let error = call().await.unwrap_err();
    // The connection died young: the backoff comes before the attempt, up to 100 ms of it.
    assert!((ms(50)..=ms(151)).contains(&began.elapsed()), "{:?}", began.elapsed());
    let CallCause::Unavailable(outage) = error.cause() else { panic!("{error}") };
    assert_eq!((&outage.began, outage.attempts), (&Began::Idle, 1));
    let (_, next_in) = news::dial_failed(&mut events).await;
    if !next_in.is_zero() {
        assert_eq!(pool.status().state, State::Down);
        let began = Instant::now();
        assert!(matches!(call().await.unwrap_err().cause(), CallCause::Unavailable(_)));
        assert_eq!(began.elapsed(), AT_ONCE);
    }
    assert_eq!(bench.dials(), 2);
    state(&pool, State::Idle).await;
    assert_eq!(pool.status().outage, None);
    bench.open(true);
    assert_eq!(call().await.unwrap(), "fast");
    assert_eq!(bench.dials(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_only_fails_fast_finds_a_server_that_is_back() {
    let bench = Bench::new(ms(1), AT_ONCE);
    let pool = bench.pool().connections(0..=4).build().unwrap();
    bench.open(false);
    let began = Instant::now();
    while began.elapsed() < 60 * SECOND {
        pool.request("fast").fail_fast().send().await.unwrap_err();
        sleep(ms(10)).await;
    }
    // At the cap of 5 s, full jitter makes an attempt every 2.5 s on average.
    assert!((10..60).contains(&bench.dials()), "{}", bench.dials());
    bench.open(true);
    let began = Instant::now();
    while pool.request("fast").fail_fast().send().await.is_err() {
        sleep(ms(10)).await;
    }
    assert!(began.elapsed() <= ms(5050), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_that_the_server_closes_is_no_outage_and_not_dialed_again() {
    let bench = Bench::new(ms(50), AT_ONCE);
    let pool = bench.pool().connections(0..=4).build().unwrap();
    pool.call("hello").await.unwrap();
    let mut events = pool.events();
    bench.cut();
    news::lost(&mut events).await;
    assert_eq!((pool.status().state, pool.status().outage), (State::Idle, None));
    sleep(HOUR).await;
    assert_eq!(bench.dials(), 1);
    assert_eq!(pool.request("fast").fail_fast().send().await.unwrap(), "fast");
    assert_eq!(bench.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn asking_whether_it_is_ready_makes_a_connection_where_none_is_kept() {
    let bench = Bench::new(ms(50), AT_ONCE);
    let pool = bench.pool().connections(0..=4).build().unwrap();
    pool.ready(SECOND).await.unwrap();
    assert_eq!((bench.dials(), pool.status().ready), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_dialed_for_those_who_have_given_up() {
    let bench = Bench::new(ms(50), AT_ONCE);
    bench.open(false);
    let pool = bench.pool().connections(0..=4).build().unwrap();
    // Not even one attempt is over.
    let ReadyError::Unavailable(outage) = pool.ready(ms(10)).await.unwrap_err() else { panic!() };
    assert_eq!((outage.attempts, &outage.began), (0, &Began::NeverConnected));
    let ReadyError::Unavailable(outage) = pool.ready(SECOND).await.unwrap_err() else { panic!() };
    assert!(outage.attempts > 1 && outage.last.is_some(), "{outage}");
    pool.request("patient").timeout(SECOND).send().await.unwrap_err();
    let dials = bench.dials();
    state(&pool, State::Idle).await;
    sleep(HOUR).await;
    assert!(bench.dials() <= dials + 1, "{dials}, {}", bench.dials());
}

/// It is kept, and nobody polls it.
#[tokio::test(start_paused = true)]
async fn who_asks_whether_it_is_ready_asks_for_no_longer_than_the_limit() {
    let bench = Bench::new(ms(50), AT_ONCE);
    let connections = Connections::between(0..=1).idle_limit(SECOND);
    let pool = bench.pool().connections(connections).build().unwrap();
    let mut ready = Box::pin(pool.ready(ms(10)));
    assert!(futures::poll!(&mut ready).is_pending());
    sleep(HOUR).await;
    assert_eq!((bench.dials(), pool.status().state), (1, State::Idle));
    ready.await.unwrap_err();
}

/// Another slot than the first has tried, so it is not its own affair that nobody asks any more.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_when_nobody_asks_any_more_is_no_outage_for_long() {
    let bench = Bench::new(SECOND, 2 * SECOND);
    let pool = bench.pool().connections(0..=4).build().unwrap();
    pool.ready(2 * SECOND).await.unwrap();
    let mut events = pool.events();
    let mut calls = Box::pin(call_at_once(&pool, 2));
    assert!(futures::poll!(&mut calls).is_pending());
    sleep(ms(500)).await;
    assert_eq!(bench.dials(), 2);
    drop(calls);
    bench.open(false);
    bench.cut();
    news::dial_failed(&mut events).await;
    within(SECOND, "nobody asks", state(&pool, State::Idle)).await;
    assert_eq!(pool.status().outage, None);
}

/// Each of 64 slots has a backoff of its own, and must not be asked in turn.
#[tokio::test(start_paused = true)]
async fn a_server_that_accepts_and_closes_sees_the_rate_of_one_slot() {
    let bench = Bench::new(ms(1), ms(1));
    let pool = bench.pool().connections(0..=64).build().unwrap();
    let mut events = pool.events();
    let cutting = async {
        loop {
            if let Event::Ready { .. } = events.next().await.unwrap() {
                bench.cut();
            }
        }
    };
    let calling = futures::future::join_all((0..20).map(|_| async {
        let _ = pool.request("patient").idempotent().timeout(60 * SECOND).send().await;
        sleep(60 * SECOND).await;
    }));
    tokio::select! {
        () = cutting => {}
        _ = calling => {}
        () = sleep(60 * SECOND) => {}
    }
    assert!((5..60).contains(&bench.dials()), "{}", bench.dials());
}

#[tokio::test(start_paused = true)]
async fn calls_one_after_the_other_stay_on_one_connection() {
    let bench = Bench::new(ms(10), SECOND);
    let connections = Connections::between(0..=4).idle_limit(10 * SECOND);
    let pool = bench.pool().connections(connections).build().unwrap();
    call_at_once(&pool, 4).await;
    assert_eq!(pool.status().ready, 4);
    // What is not needed gets no calls, so that its time can come.
    for _ in 0..15 {
        pool.call("alone").await.unwrap();
    }
    assert_eq!((pool.status().ready, bench.dials()), (1, 4));
}

/// Nobody listens while it is shut.
struct Gate {
    pipes: Pipes,
    is_open: Arc<AtomicBool>,
}

impl Connect for Gate {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async {
            if !self.is_open.load(Ordering::SeqCst) {
                return Err(refused());
            }
            self.pipes.connect(endpoint).await
        })
    }
}

/// Nobody calls for so long; then one does, and finds nobody there for 2 s: after how long it is answered. Before, there was no
/// connection, or one that was let go because it was idle.
async fn found_after(idle: Duration, was_there: bool) -> Duration {
    let (pipes, mut switch) = pipes(4096);
    let is_open = Arc::new(AtomicBool::new(was_there));
    let pool = Pool::builder("peer:1")
        .connector(Gate { pipes, is_open: is_open.clone() })
        .connections(Connections::between(0..=1).idle_limit(SECOND))
        .reconnect(Reconnect::exponential(5 * SECOND, 30 * SECOND))
        .build()
        .unwrap();
    tokio::spawn(async move {
        loop {
            tokio::spawn(Peer::greet(switch.accept().await).then(Peer::echo));
        }
    });
    if was_there {
        pool.call("first").await.unwrap();
        is_open.store(false, Ordering::SeqCst);
        sleep(10 * SECOND).await;
        assert_eq!(pool.status().ready, 0);
    }
    sleep(idle).await;
    let began = Instant::now();
    let asking = pool.clone();
    let call = tokio::spawn(async move { asking.request("x").timeout(120 * SECOND).send().await });
    sleep(2 * SECOND).await;
    is_open.store(true, Ordering::SeqCst);
    call.await.unwrap().unwrap();
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_call_after_a_quiet_time_bridges_a_restart_as_soon_as_any() {
    for was_there in [false, true] {
        for idle in [0, 60, 500] {
            for _ in 0..8 {
                let took = found_after(idle * SECOND, was_there).await;
                // An eighth of 2 s is 250 ms, with jitter 313.
                assert!(took < ms(2400), "was there: {was_there}, idle for {idle} s: {took:?}");
            }
        }
    }
}
