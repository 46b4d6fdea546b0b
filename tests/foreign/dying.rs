//! Foreign servers that hang, die, and come back.

use std::time::{Duration, Instant};

use futures::StreamExt as _;
use steadfast::{
    CallCause, Event, Heartbeat, LossCause, Outcome, Retry, Stage, State, Stopped, Violation,
};

use crate::server::{ById, Played, echo, next, ordered, pool, say};
use crate::support::news;
use crate::support::times::ms;
use crate::support::waits::{until, within};

const LONG: Duration = Duration::from_secs(60);
/// What is sent before its time is up must have left by then, also on a busy machine.
const SHORT: Duration = ms(500);
/// A while longer than that.
const BOUND: Duration = ms(900);

fn heartbeat() -> Heartbeat {
    Heartbeat::every(ms(300)).give_up_after(ms(600))
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_when_nobody_waits_any_more_and_calls_go_on() {
    for protocol in [ordered(), ordered().heartbeat("ping")] {
        let (server, address) = Played::start().await;
        let mut builder = pool(address).protocol(protocol).heartbeat(heartbeat());
        let mut events = builder.events();
        let pool = builder.build().unwrap();
        let mut hanging = server.accept().await;
        let called = Instant::now();
        let error = pool.request("first").timeout(SHORT).send().await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Indeterminate);
        assert!(
            matches!(error.cause(), CallCause::TimedOut { stage: Stage::Reply, .. }),
            "{error}"
        );
        // It waits for the place of the first, which it gets on another connection.
        let second = tokio::spawn({
            let pool = pool.clone();
            async move { pool.request("second").timeout(LONG).send().await }
        });
        let loss = news::lost(&mut events).await;
        assert!(called.elapsed() >= BOUND, "{:?}", called.elapsed());
        let LossCause::Unanswered { calls: 1, silent_for } = loss.cause else { panic!("{loss}") };
        assert!(silent_for >= BOUND && silent_for < 2 * BOUND, "{loss}");
        assert_eq!(next(&mut hanging).await.unwrap(), "first");
        assert_eq!(next(&mut hanging).await, None, "nothing else was sent");
        echo_on(server);
        assert_eq!(second.await.unwrap().unwrap(), "second");
        until("all places are left", || pool.status().in_flight == 0).await;
    }
}

/// Serves all connections from now on.
fn echo_on(server: Played) {
    tokio::spawn(async move {
        loop {
            tokio::spawn(echo(server.accept().await));
        }
    });
}

#[tokio::test]
async fn a_frozen_server_is_noticed_by_a_heartbeat_frame_without_being_used() {
    let (server, address) = Played::start().await;
    let protocol = ordered().heartbeat("ping");
    let mut builder = pool(address).protocol(protocol).heartbeat(heartbeat());
    let mut events = builder.events();
    let _pool = builder.build().unwrap();
    let mut line = server.accept().await;
    for _ in 0..3 {
        assert_eq!(next(&mut line).await.unwrap(), "ping");
        say(&mut line, "pong").await;
    }
    let answered = Instant::now();
    let loss = news::lost(&mut events).await;
    assert!(matches!(loss.cause, LossCause::Silent { .. }), "{loss}");
    let noticed = answered.elapsed();
    assert!(noticed >= BOUND - ms(20) && noticed < 2 * BOUND, "{noticed:?}");
}

#[tokio::test]
async fn what_may_have_run_is_called_again_only_if_it_is_idempotent() {
    let (server, address) = Played::start().await;
    let pool =
        pool(address).protocol(ordered().pipeline(2)).retry(Retry::attempts(3)).build().unwrap();
    let call = |body: &'static str| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let request = pool.request(body).timeout(LONG);
            let request = if body == "again" { request.idempotent() } else { request };
            request.send().await
        })
    };
    let (once, again) = (call("once"), call("again"));
    let mut first = server.accept().await;
    let mut seen = [next(&mut first).await.unwrap(), next(&mut first).await.unwrap()];
    seen.sort();
    assert_eq!(seen, ["again", "once"]);
    drop(first);
    let error = once.await.unwrap().unwrap_err();
    assert_eq!(
        (error.outcome(), error.stopped()),
        (Outcome::Indeterminate, Stopped::NotIdempotent)
    );
    assert!(matches!(error.cause(), CallCause::Lost(_)), "{error}");
    let mut second = server.accept().await;
    assert_eq!(next(&mut second).await.unwrap(), "again");
    say(&mut second, "done").await;
    assert_eq!(again.await.unwrap().unwrap(), "done");
    drop(pool);
    assert_eq!(next(&mut second).await, None, "the other one is never seen again");
}

#[tokio::test]
async fn a_call_that_waits_for_its_turn_when_the_server_dies_did_not_run_and_goes_elsewhere() {
    let (server, address) = Played::start().await;
    let pool = pool(address).protocol(ordered()).retry(Retry::never()).build().unwrap();
    let call = |body: &'static str| {
        let pool = pool.clone();
        tokio::spawn(async move { pool.request(body).timeout(LONG).send().await })
    };
    let first = call("first");
    let mut line = server.accept().await;
    assert_eq!(next(&mut line).await.unwrap(), "first");
    let second = call("second");
    until("the second waits", || pool.status().waiting == 1).await;
    drop(line);
    assert_eq!(first.await.unwrap().unwrap_err().outcome(), Outcome::Indeterminate);
    echo_on(server);
    assert_eq!(second.await.unwrap().unwrap(), "second");
}

#[tokio::test]
async fn a_pool_whose_server_is_gone_is_down_and_not_still_connecting() {
    let (server, address) = Played::start().await;
    let pool = pool(address).protocol(ordered()).build().unwrap();
    assert_eq!(pool.status().state, State::Connecting);
    let line = server.accept().await;
    pool.ready(LONG).await.unwrap();
    drop((line, server));
    until("it is noticed", || pool.status().ready == 0).await;
    assert_eq!(pool.status().state, State::Down);
}

#[tokio::test]
async fn what_an_idle_server_says_unasked_is_no_later_calls_answer() {
    let (server, address) = Played::start().await;
    let mut builder = pool(address).protocol(ordered());
    let mut events = builder.events();
    let pool = builder.build().unwrap();
    news::ready(&mut events).await;
    let mut line = server.accept().await;
    say(&mut line, "surprise").await;
    let loss = news::lost(&mut events).await;
    assert_eq!(loss.cause, LossCause::Violation(Violation::Unasked));
    echo_on(server);
    assert_eq!(pool.call("hello").await.unwrap(), "hello");
}

#[tokio::test]
async fn the_post_mortem_counts_the_frames_of_the_protocol() {
    let (server, address) = Played::start().await;
    let mut builder = pool(address).protocol(ordered());
    let mut events = builder.events();
    let pool = builder.build().unwrap();
    let mut line = server.accept().await;
    for body in ["one", "two", "three"] {
        let call = tokio::spawn({
            let pool = pool.clone();
            async move { pool.call(body).await }
        });
        assert_eq!(next(&mut line).await.unwrap(), body);
        say(&mut line, body).await;
        assert_eq!(call.await.unwrap().unwrap(), body);
    }
    drop(line);
    let loss = news::lost(&mut events).await;
    assert_eq!((loss.frames_in, loss.frames_out, loss.cut_off), (3, 3, false), "{loss:?}");
}

#[tokio::test]
async fn answers_by_id_that_are_missing_cost_no_more_than_their_places_for_a_while() {
    let (server, address) = Played::start().await;
    let limits = steadfast::Limits::default().in_flight(1);
    let mut builder =
        pool(address).protocol(ById { max: 100 }).heartbeat(heartbeat()).limits(limits);
    let mut events = builder.events();
    let pool = builder.build().unwrap();
    let mut line = server.accept().await;
    pool.request("forgotten").timeout(SHORT).send().await.unwrap_err();
    let missing = line.next().await.unwrap().unwrap();
    // The only place is free again after the bound, on the same connection.
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.request("next").timeout(LONG).send().await }
    });
    let request = within(LONG, "the place is free", line.next()).await.unwrap().unwrap();
    assert_ne!(request[..4], missing[..4], "another id");
    futures::SinkExt::send(&mut line, missing).await.unwrap();
    futures::SinkExt::send(&mut line, request).await.unwrap();
    assert_eq!(call.await.unwrap().unwrap(), "next");
    drop(pool);
    while let Some(event) = events.next().await {
        assert!(!matches!(event, Event::Lost { .. }), "{event:?}");
    }
}
