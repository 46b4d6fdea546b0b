//! When a lost connection is dialed again: at once after a stable life, early while calls wait, one attempt at a time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use steadfast::{Connect, Connecting, Endpoint, Event, Pool, Reconnect};
use tokio::time::Instant;

use crate::support::news;
use crate::support::peer::Peer;
use crate::support::pipes::{Pipes, pipes};
use crate::support::times::ms;
use crate::support::waits::within;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn waiting_calls_find_a_server_that_is_back_long_before_the_backoff_would() {
    const OUTAGE: Duration = ms(10_000);
    let (connector, mut switch) = pipes(4096);
    let pool = Pool::builder("peer:1")
        .connector(connector.closed_for(OUTAGE))
        .reconnect(Reconnect::exponential(HOUR, HOUR))
        .call_timeout(ms(60_000))
        .build()
        .unwrap();
    let began = Instant::now();
    let call = tokio::spawn(async move { pool.call("patient").await });
    let stream = switch.accept().await;
    tokio::spawn(Peer::greet(stream).await.echo());
    assert_eq!(call.await.unwrap().unwrap(), "patient");
    // At most a tenth of the outage later, and a quarter of that for jitter.
    let longest = OUTAGE + OUTAGE.mul_f64(1.25 / 10.0) + ms(100);
    assert!(began.elapsed() <= longest, "{:?}", began.elapsed());
    // Every 30 to 37.5 ms, 8 to 10 times, and from 0.3 s on every tenth of the time, another 30 to 37 times: no storm either.
    assert!((38..=48).contains(&switch.dials()), "{}", switch.dials());
}

#[tokio::test(start_paused = true)]
async fn after_a_stable_life_the_next_attempt_comes_at_once() {
    let (connector, mut switch) = pipes(4096);
    let pool = Pool::builder("peer:1")
        .connector(connector.closed_for(ms(100)))
        .reconnect(Reconnect::exponential(ms(10_000), HOUR).stable_after(ms(1000)))
        .build()
        .unwrap();
    let mut events = pool.events();
    // Some failures to begin with, so that the backoff has grown.
    let mut peer = Peer::greet(switch.accept().await).await;
    news::ready(&mut events).await;
    assert!(switch.dials() > 1);
    for (life, longest) in [(ms(1000), ms(10)), (ms(5000), ms(10))] {
        tokio::time::sleep(life).await;
        drop(peer);
        news::lost(&mut events).await;
        let lost = Instant::now();
        peer = Peer::greet(switch.accept().await).await;
        assert!(lost.elapsed() <= longest + ms(1), "{:?}", lost.elapsed());
        news::ready(&mut events).await;
    }
}

/// Pipes whose first attempt hangs for ever.
struct FirstHangs {
    pipes: Pipes,
    attempts: AtomicUsize,
}

impl Connect for FirstHangs {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        match self.attempts.fetch_add(1, Ordering::Relaxed) {
            0 => Box::pin(std::future::pending()),
            _ => self.pipes.connect(endpoint),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hung_attempt_does_not_hold_up_the_other_connections() {
    let (pipes, mut switch) = pipes(4096);
    let connector = FirstHangs { pipes, attempts: AtomicUsize::new(0) };
    let pool = Pool::builder("peer:1").connector(connector).connections(3).build().unwrap();
    for _ in 0..2 {
        tokio::spawn(Peer::greet(switch.accept().await).await.echo());
    }
    assert_eq!(pool.call("hello").await.unwrap(), "hello");
    assert_eq!(pool.status().ready, 2);
    let closing = within(ms(1000), "it can be closed", pool.close(ms(500)));
    closing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_are_settled_before_anything_is_dialed_again() {
    let (connector, mut switch) = pipes(4096);
    let pool = Pool::builder("peer:1").connector(connector).build().unwrap();
    let mut events = pool.events();
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call("once").await }
    });
    let mut peer = Peer::greet(switch.accept().await).await;
    peer.request().await.unwrap();
    news::ready(&mut events).await;
    drop(peer);
    news::event(&mut events, "a loss", |event| match event {
        Event::Dialing { .. } => panic!("dialed before the loss was told"),
        Event::Lost { .. } => Some(()),
        _ => None,
    })
    .await;
    call.await.unwrap().unwrap_err();
    assert_eq!(switch.dials(), 1);
}
