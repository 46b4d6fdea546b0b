//! A total outage under constant traffic: how often calls that may be repeated are repeated.
//!
//! On pipes and a clock that is paused, so that a minute of it is exact and takes a second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use steadfast::{Outcome, Pool, Reconnect, Retry, Stopped};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::support::peer::{Peer, Request};
use crate::support::pipes::{Switch, pipes};
use crate::support::scripted::reply;
use crate::support::times::ms;

/// Calls a second, over how long, and how many succeed before.
const RATE: u32 = 50;
const OUTAGE: Duration = Duration::from_secs(60);
const BEFORE: usize = 500;
/// The policy's share of the successes, and its floor in retries a second, of which 10 s are saved up.
const SHARE: f64 = 0.1;
const FLOOR: f64 = 1.0;
const SAVED: f64 = 10.0 * FLOOR;

/// Requests that came whole, by their bodies.
#[derive(Debug, Clone, Default)]
struct Seen(Arc<Mutex<HashMap<Vec<u8>, usize>>>);

impl Seen {
    fn note(&self, request: &Request) {
        *self.0.lock().unwrap().entry(request.body.to_vec()).or_default() += 1;
    }

    /// How many came, and how many of them had come before.
    fn attempts_and_retries(&self) -> (usize, usize) {
        let seen = self.0.lock().unwrap();
        let attempts = seen.values().sum();
        (attempts, attempts - seen.len())
    }
}

/// Answers so many requests, then reads what comes on each connection and closes it without an answer.
async fn server_that_fails(mut switch: Switch, healthy: Arc<AtomicUsize>, seen: Seen) {
    loop {
        let mut peer = Peer::greet(switch.accept().await).await;
        let (healthy, seen) = (healthy.clone(), seen.clone());
        tokio::spawn(async move {
            while let Some(request) = peer.request().await {
                if healthy.load(Ordering::Relaxed) > 0 {
                    healthy.fetch_sub(1, Ordering::Relaxed);
                    peer.say(reply(request.id, b"")).await;
                    continue;
                }
                seen.note(&request);
                // What was sent together came together.
                while let Ok(Some(request)) = timeout(ms(1), peer.request()).await {
                    seen.note(&request);
                }
                return;
            }
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_total_outage_is_answered_with_no_more_retries_than_the_budget_has() {
    let (connector, switch) = pipes(1 << 20);
    let (healthy, seen) = (Arc::new(AtomicUsize::new(BEFORE)), Seen::default());
    tokio::spawn(server_that_fails(switch, healthy.clone(), seen.clone()));
    let pool = Pool::builder("peer:1")
        .connector(connector)
        .reconnect(Reconnect::exponential(ms(10), ms(200)))
        .retry(Retry::attempts(5).budget(SHARE).floor(FLOOR))
        .build()
        .unwrap();
    for _ in 0..BEFORE {
        pool.call("fine").await.unwrap();
    }

    let began = Instant::now();
    let calls = RATE * OUTAGE.as_secs() as u32;
    let mut callers = JoinSet::new();
    for number in 0..calls {
        sleep_until(began + number * Duration::from_secs(1) / RATE).await;
        let pool = pool.clone();
        callers.spawn(async move {
            let body = number.to_be_bytes().to_vec();
            pool.request(body).idempotent().timeout(Duration::from_secs(3)).send().await
        });
    }
    let mut budget_spent = 0;
    while let Some(result) = callers.join_next().await {
        let error = result.unwrap().unwrap_err();
        budget_spent += usize::from(error.stopped() == Stopped::BudgetSpent);
        assert!(matches!(error.outcome(), Outcome::Indeterminate | Outcome::NotSent), "{error}");
    }
    let seconds = began.elapsed().as_secs_f64();

    let (attempts, retries) = seen.attempts_and_retries();
    let budget = SHARE * BEFORE as f64 + SAVED + FLOOR * seconds;
    println!(
        "{attempts} attempts, {retries} retries, a budget of {budget}, {budget_spent} stopped"
    );
    assert!(retries as f64 <= budget, "{retries} retries, a budget of {budget}");
    // It is the budget that stopped them, and nothing else before.
    assert!(retries as f64 > 0.9 * budget && budget_spent > 1000, "{retries}, {budget_spent}");
    assert!(attempts <= calls as usize + budget as usize);
    assert_eq!(healthy.load(Ordering::Relaxed), 0);
}
