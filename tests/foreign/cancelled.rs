//! Callers that go away at any moment, while their answers are on the way.

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::future::poll_fn;
use steadfast::{CallCause, Outcome, Pool, Protocol, Stage};
use tokio::task::JoinSet;

use crate::server::{Answers, ById, Erratic, Played, Random, next, ordered, pool, say};
use crate::support::times::ms;
use crate::support::waits::{until, within};

const CALLS: usize = 100_000;
const CONNECTIONS: usize = 4;
const LONG: Duration = Duration::from_secs(60);

/// What became of the calls.
#[derive(Debug, Default)]
struct Tally {
    answered: AtomicUsize,
    dropped: AtomicUsize,
    timed_out: AtomicUsize,
}

/// One call, which may be dropped when it was polled so often, or time out at once.
async fn call(pool: &Pool, body: String, random: &mut Random, tally: &Tally) {
    let timeout = match random.below(4) {
        0 => Duration::from_micros(random.below(2000) + 1),
        _ => LONG,
    };
    // A call that goes away is looked at all the time until then.
    let (mut polls, goes_away) = match random.below(2) {
        0 => (random.below(100), true),
        _ => (u64::MAX, false),
    };
    let mut call = pin!(pool.request(body.clone()).timeout(timeout).send());
    let answer = poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        match call.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending => {
                if goes_away {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            }
        }
    })
    .await;
    match answer {
        None => _ = tally.dropped.fetch_add(1, Ordering::Relaxed),
        Some(Ok(answer)) => {
            assert_eq!(answer, body, "another's answer");
            tally.answered.fetch_add(1, Ordering::Relaxed);
        }
        Some(Err(error)) => {
            assert!(matches!(error.cause(), CallCause::TimedOut { .. }), "{error}");
            tally.timed_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Many callers, most of whom do not wait for their answers. Then nothing must be missing.
async fn storm(protocol: impl Protocol, answers: Answers, places: usize) {
    let (server, address) = Erratic::start(answers).await;
    let limits = steadfast::Limits::default().in_flight(places);
    let pool = pool(address).connections(CONNECTIONS).limits(limits).protocol(protocol);
    let pool = pool.build().unwrap();
    let mut events = pool.events();
    let tally = Arc::new(Tally::default());
    let mut callers = JoinSet::new();
    let many = 2 * CONNECTIONS * places;
    for caller in 0..many {
        let (pool, tally) = (pool.clone(), tally.clone());
        callers.spawn(async move {
            let mut random = Random(caller as u64);
            for number in 0..CALLS / many {
                call(&pool, format!("{caller}/{number}"), &mut random, &tally).await;
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    until("all places are left", || pool.status().in_flight == 0).await;
    let most = server.most.load(Ordering::SeqCst);
    assert!(most <= places, "{most} requests outstanding on a connection for {places}");
    let served = server.served.load(Ordering::SeqCst);
    let [answered, dropped, timed_out] = [&tally.answered, &tally.dropped, &tally.timed_out]
        .map(|count| count.load(Ordering::Relaxed));
    assert!(served > answered + 1000, "many answers were nobody's: {served} of {answered}");
    assert!(dropped > CALLS / 10 && timed_out > 100 && answered > CALLS / 10, "{tally:?}");

    // The capacity is whole: so many calls run at a time.
    server.holding.send_replace(true);
    let mut calls = JoinSet::new();
    for number in 0..CONNECTIONS * places {
        let pool = pool.clone();
        calls.spawn(async move {
            let body = format!("last {number}");
            assert_eq!(pool.request(body.clone()).timeout(LONG).send().await.unwrap(), body);
        });
    }
    until("all at a time", || server.owed.load(Ordering::SeqCst) == CONNECTIONS * places).await;
    server.holding.send_replace(false);
    while let Some(ended) = calls.join_next().await {
        ended.unwrap();
    }
    drop(pool);
    while let Some(event) = events.next().await {
        assert!(!matches!(event, steadfast::Event::Lost { .. }), "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_ordered_calls_one_at_a_time_cancelled_anywhere() {
    storm(ordered(), Answers::InOrder, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_ordered_calls_in_pipelines_cancelled_anywhere() {
    storm(ordered().pipeline(8), Answers::InOrder, 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_calls_by_few_ids_cancelled_anywhere() {
    storm(ById { max: 7 }, Answers::Crosswise, 7).await;
}

#[tokio::test]
async fn a_call_that_timed_out_keeps_the_only_place_until_its_answer_has_come() {
    let (server, address) = Played::start().await;
    let pool = pool(address).protocol(ordered()).build().unwrap();
    let mut line = server.accept().await;
    let error = pool.request("first").timeout(ms(500)).send().await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Indeterminate);
    assert!(matches!(error.cause(), CallCause::TimedOut { stage: Stage::Reply, .. }), "{error}");
    assert_eq!(next(&mut line).await.unwrap(), "first");
    assert_eq!(pool.status().in_flight, 1, "its place is taken");

    let second = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call("second").await }
    });
    until("the second waits", || pool.status().waiting == 1).await;
    let nothing = tokio::time::timeout(ms(100), futures::StreamExt::next(&mut line)).await;
    assert!(nothing.is_err(), "{nothing:?}");
    say(&mut line, "answer to the first").await;
    assert_eq!(next(&mut line).await.unwrap(), "second");
    say(&mut line, "answer to the second").await;
    let answer = within(LONG, "the second is answered", second).await;
    assert_eq!(answer.unwrap().unwrap(), "answer to the second");
    until("both places are left", || pool.status().in_flight == 0).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_unsent_never_goes_out_and_leaves_its_place_at_once() {
    let (server, address) = Played::start().await;
    let pool = pool(address).protocol(ordered()).build().unwrap();
    let mut line = server.accept().await;
    pool.ready(LONG).await.unwrap();
    {
        // Queued, but the connection's owner has had no turn to write it.
        let mut call = pin!(pool.call("never"));
        assert!(futures::poll!(&mut call).is_pending());
        assert_eq!(pool.status().in_flight, 1);
    }
    assert_eq!(pool.status().in_flight, 0);
    let call = pool.call("sent");
    let answering = async {
        assert_eq!(next(&mut line).await.unwrap(), "sent");
        say(&mut line, "done").await;
    };
    assert_eq!(futures::join!(call, answering).0.unwrap(), "done");
}
