//! A server that turns its clients away: closes at once, is too busy, or is not there. No storm comes of it.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use steadfast::{
    Busy, CallCause, CallError, Connect, ConnectCause, Connected, Connecting, Endpoint, OsError,
    Outcome, Phase, Pool, Reconnect,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::loopback::{dead_port, listen};
use crate::support::news;
use crate::support::peer::Peer;
use crate::support::pipes::{Switch, pipes};
use crate::support::scripted::busy;
use crate::support::times::{ms, percentile};
use crate::support::waits::within;

/// When a server closes a connection that it has accepted.
#[derive(Debug, Clone, Copy)]
enum Closes {
    BeforeTheHandshake,
    AfterTheHandshake,
}

/// Whether calls wait for a connection meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Callers {
    None,
    Waiting,
}

/// Callers that call again and again, with all the time in the world.
fn callers(pool: &Pool, callers: Callers) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if callers == Callers::Waiting {
        for _ in 0..10 {
            let pool = pool.clone();
            tasks.spawn(async move {
                loop {
                    let call = pool.request("hello").idempotent().timeout(ms(600_000));
                    call.send().await.expect_err("nobody answers");
                }
            });
        }
    }
    tasks
}

async fn accept_and_close(listener: TcpListener, closes: Closes, accepts: &AtomicUsize) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        accepts.fetch_add(1, Ordering::Relaxed);
        if let Closes::AfterTheHandshake = closes {
            Peer::greet(stream).await;
        }
    }
}

/// The connections that such a server gets in two seconds.
async fn accepts(closes: Closes, waiting: Callers) -> usize {
    let (listener, address) = listen().await;
    let reconnect = Reconnect::exponential(ms(1000), ms(1000));
    let pool = Pool::builder(address).reconnect(reconnect).build().unwrap();
    let _callers = callers(&pool, waiting);
    let accepts = AtomicUsize::new(0);
    let closing = accept_and_close(listener, closes, &accepts);
    let _ = tokio::time::timeout(ms(2000), closing).await;
    accepts.into_inner()
}

#[tokio::test]
async fn a_server_that_accepts_and_closes_is_dialed_at_the_configured_rate() {
    let counts = tokio::join!(
        accepts(Closes::BeforeTheHandshake, Callers::None),
        accepts(Closes::BeforeTheHandshake, Callers::Waiting),
        accepts(Closes::AfterTheHandshake, Callers::None),
        accepts(Closes::AfterTheHandshake, Callers::Waiting),
    );
    // A random time of at most a second between two: 5 on average, and never (1 in 100,000 times) more than 12.
    let (a, b, c, d) = counts;
    assert!([a, b, c, d].iter().all(|count| (1..=12).contains(count)), "{counts:?}");
}

async fn close_all(switch: &mut Switch, closes: Closes) {
    loop {
        let end = switch.accept().await;
        if let Closes::AfterTheHandshake = closes {
            Peer::greet(end).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_rate_does_not_rise_however_long_it_lasts() {
    use {Callers::*, Closes::*};
    for (closes, waiting) in [
        (BeforeTheHandshake, None),
        (BeforeTheHandshake, Waiting),
        (AfterTheHandshake, None),
        (AfterTheHandshake, Waiting),
    ] {
        let (connector, mut switch) = pipes(4096);
        let reconnect = Reconnect::exponential(ms(30_000), ms(30_000));
        let pool = Pool::builder("peer:1").connector(connector).reconnect(reconnect).build();
        let pool = pool.unwrap();
        let _callers = callers(&pool, waiting);
        // Two minutes, then ten.
        let mut bounds = vec![];
        for span in [ms(120_000), ms(600_000)] {
            let before = switch.dials();
            let _ = tokio::time::timeout(span, close_all(&mut switch, closes)).await;
            bounds.push(switch.dials() - before);
        }
        // One in 15 s on average.
        let [first, then] = bounds[..] else { panic!() };
        let is_fair = (2..=22).contains(&first) && (20..=80).contains(&then);
        assert!(is_fair, "{closes:?} with callers {waiting:?}: {first} dials, then {then}");
    }
}

/// TCP that counts its attempts.
struct Counting(Arc<AtomicUsize>);

impl Connect for Counting {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
            Ok(Connected { transport: Box::new(stream), address: None })
        })
    }
}

/// The number of failed attempts that an error tells of, if it is the right one.
fn attempts_told(error: &CallError) -> u32 {
    assert_eq!(error.outcome(), Outcome::NotSent);
    let source = error.source().and_then(|source| source.downcast_ref::<OsError>());
    assert_eq!(source.expect("the code").name(), Some("ECONNREFUSED"), "{error}");
    let code = if cfg!(windows) { 10061 } else { 111 };
    assert_eq!(source.and_then(OsError::code), Some(code), "{error}");
    let CallCause::Unavailable(outage) = error.cause() else { panic!("{error}") };
    assert_eq!(outage.last.as_ref().map(|last| last.phase), Some(Phase::Connect));
    outage.attempts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_tasks_that_fail_fast_cause_few_dials_and_get_the_cause_at_once() {
    let (_port, address) = dead_port();
    let dials = Arc::new(AtomicUsize::new(0));
    let connector = Counting(dials.clone());
    let pool = Pool::builder(address.to_string()).connector(connector).build().unwrap();
    // Before the first attempt has failed there is no cause to be told.
    let first = within(ms(5000), "an attempt", async {
        while pool.status().outage.is_none_or(|outage| outage.attempts == 0) {
            tokio::task::yield_now().await;
        }
    });
    first.await;
    let until = Instant::now() + ms(2000);
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let pool = pool.clone();
        tasks.spawn(async move {
            let (mut times, mut told) = (Vec::new(), 0);
            while Instant::now() < until {
                let called = Instant::now();
                let error = pool.request("hello").fail_fast().send().await.unwrap_err();
                times.push(called.elapsed());
                told = attempts_told(&error);
                tokio::time::sleep(ms(1)).await;
            }
            (times, told)
        });
    }
    let (mut times, mut most_told) = (Vec::new(), 0);
    while let Some(task) = tasks.join_next().await {
        let (some, told) = task.unwrap();
        times.extend(some);
        most_told = most_told.max(told);
    }
    let dials = dials.load(Ordering::Relaxed);
    assert!(dials <= 10, "{dials} dials");
    assert!((dials - 1..=dials).contains(&(most_told as usize)), "{most_told} of {dials} told");
    let [half, most] = [50, 90].map(|percent| percentile(&mut times, percent));
    assert!(half < ms(1) && most < ms(1), "{half:?} {most:?} over {} calls", times.len());
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_is_left_alone_for_as_long_as_it_says() {
    let (connector, mut switch) = pipes(4096);
    let pool = Pool::builder("peer:1").connector(connector).build().unwrap();
    let mut events = pool.events();
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call("patient").await }
    });
    let mut peer = Peer::new(switch.accept().await);
    peer.hello().await;
    peer.say(busy(3000, "too many connections")).await;
    let turned_away = tokio::time::Instant::now();
    let (error, next_in) = news::dial_failed(&mut events).await;
    assert!((ms(3000)..=ms(3750)).contains(&next_in), "{next_in:?}");
    let ConnectCause::Busy(busy) = &error.cause else { panic!("{error}") };
    assert_eq!((busy.code, busy.retry_after), (Busy::TOO_MANY, Some(ms(3000))));
    assert_eq!((error.phase, &*busy.text), (Phase::Handshake, "too many connections"));
    // Waiting may mend it: the call waits on, and does not bring the attempt forward.
    let stream = switch.accept().await;
    let waited = turned_away.elapsed();
    assert!((ms(3000)..=ms(3751)).contains(&waited), "{waited:?}");
    tokio::spawn(Peer::greet(stream).await.echo());
    assert_eq!(call.await.unwrap().unwrap(), "patient");
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_that_names_no_time_is_left_to_the_backoff() {
    let (connector, mut switch) = pipes(4096);
    let reconnect = Reconnect::exponential(ms(30_000), ms(30_000));
    let pool = Pool::builder("peer:1").connector(connector).reconnect(reconnect).build().unwrap();
    let _callers = callers(&pool, Callers::Waiting);
    let turning_away = async {
        loop {
            let mut peer = Peer::new(switch.accept().await);
            peer.hello().await;
            peer.say(busy(0, "")).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(120), turning_away).await;
    assert!((2..=22).contains(&switch.dials()), "{}", switch.dials());
}
