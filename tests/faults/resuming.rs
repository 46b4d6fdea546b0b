//! Calls that may have run, and a server that would know them again: where they go, and what is said of those that have
//! nowhere to go. Against servers that follow a script.

use std::time::Duration;

use steadfast::{
    Bytes, CallCause, CallError, ErrorReply, LossCause, Outcome, Pool, Reconnect, Refusal, Retry,
    Scarcity, Stopped,
};
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::support::news;
use crate::support::peer::Peer;
use crate::support::pipes::{Switch, pipes, pool_over};
use crate::support::scripted::{error, go_away, refused, reply};
use crate::support::times::ms;

type Answer = Result<Bytes, CallError>;

fn pool(connections: usize, retry: Retry) -> (Pool, Switch) {
    pool_over(65_536, connections, retry)
}

fn call(pool: &Pool, body: &'static str) -> JoinHandle<Answer> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.call(body).await })
}

async fn peer(switch: &mut Switch, instance: u8) -> Peer<DuplexStream> {
    Peer::greet_remembering(switch.accept().await, instance).await.0
}

/// A pool with one call that has left on the connection that is returned, to the instance 1.
async fn in_flight(retry: Retry) -> (Pool, Switch, Peer<DuplexStream>, JoinHandle<Answer>, u64) {
    let (pool, mut switch) = pool(1, retry);
    let mut first = peer(&mut switch, 1).await;
    let call = call(&pool, "order");
    let id = first.request().await.unwrap().id;
    (pool, switch, first, call, id)
}

#[tokio::test(start_paused = true)]
async fn a_call_that_may_have_run_goes_to_the_same_process_again_under_its_id() {
    let (_pool, mut switch, first, call, id) = in_flight(Retry::default()).await;
    drop(first);
    let (mut second, number, replaces) = Peer::greet_remembering(switch.accept().await, 1).await;
    assert_eq!((number, replaces), (2, 1));
    let again = second.request().await.unwrap();
    assert_eq!((again.id, again.resent, again.repeatable), (id, true, false));
    second.say(reply(id, b"done")).await;
    assert_eq!(call.await.unwrap().unwrap(), "done");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_not_sent_to_another_process_and_the_error_names_both() {
    let (pool, mut switch, first, call, _) = in_flight(Retry::default()).await;
    drop(first);
    let mut second = peer(&mut switch, 2).await;
    let failed = call.await.unwrap().unwrap_err();
    assert_eq!(
        (failed.outcome(), failed.stopped(), failed.attempts()),
        (Outcome::Indeterminate, Stopped::InstanceChanged, 1)
    );
    let CallCause::Replaced { previous, current, .. } = failed.cause() else {
        panic!("{failed}");
    };
    assert_eq!((previous.as_bytes(), current.as_bytes()), (&[1; 16], &[2; 16]));
    let text = failed.to_string();
    assert!(text.contains(&"01".repeat(16)) && text.contains(&"02".repeat(16)), "{text}");
    // Nothing of it came, and what comes is another call.
    let next = self::call(&pool, "next");
    let request = second.request().await.unwrap();
    assert_eq!((&request.body[..], request.resent), (&b"next"[..], false));
    second.say(reply(request.id, b"done")).await;
    assert_eq!(next.await.unwrap().unwrap(), "done");
}

#[tokio::test(start_paused = true)]
async fn without_a_reply_cache_a_call_that_may_have_run_fails_at_once() {
    let (pool, mut switch) = pool(1, Retry::default());
    let mut first = Peer::greet(switch.accept().await).await;
    let call = call(&pool, "order");
    first.request().await.unwrap();
    drop(first);
    let failed = call.await.unwrap().unwrap_err();
    assert_eq!(failed.stopped(), Stopped::NotIdempotent);
    assert_eq!(failed.outcome(), Outcome::Indeterminate);
}

#[tokio::test(start_paused = true)]
async fn another_connection_to_the_same_process_takes_the_call_at_once() {
    let (pool, mut switch) = pool(2, Retry::default());
    let mut events = pool.events();
    let mut peers = [peer(&mut switch, 1).await, peer(&mut switch, 1).await];
    for _ in 0..2 {
        news::ready(&mut events).await;
    }
    let call = call(&pool, "order");
    let [one, other] = &mut peers;
    let (id, survivor) = tokio::select! {
        request = one.request() => (request.unwrap().id, 1),
        request = other.request() => (request.unwrap().id, 0),
    };
    let [one, other] = peers;
    let mut survivor = if survivor == 1 {
        drop(one);
        other
    } else {
        drop(other);
        one
    };
    let again = survivor.request().await.unwrap();
    assert_eq!((again.id, again.resent), (id, true));
    survivor.say(reply(id, b"done")).await;
    assert_eq!(call.await.unwrap().unwrap(), "done");
}

/// Each waits to hear from its own slot, because with a proxy in between the other one may lead to another process.
#[tokio::test(start_paused = true)]
async fn all_calls_of_a_process_that_is_gone_are_told_soon_after_its_successor_is_there() {
    const OUTAGE: Duration = ms(10_000);
    let (connector, mut switch) = pipes(65_536);
    let pool = Pool::builder("peer:1")
        .connector(connector.closed_between(ms(1), OUTAGE))
        .connections(2)
        .reconnect(Reconnect::exponential(ms(100), ms(3_600_000)))
        .call_timeout(ms(60_000))
        .build()
        .unwrap();
    let began = Instant::now();
    let mut peers = [peer(&mut switch, 1).await, peer(&mut switch, 1).await];
    let calls = ["order", "another"].map(|body| call(&pool, body));
    for peer in &mut peers {
        peer.request().await.unwrap();
    }
    drop(peers);
    let _successors = [peer(&mut switch, 2).await, peer(&mut switch, 2).await];
    for call in calls {
        let failed = call.await.unwrap().unwrap_err();
        assert_eq!(failed.stopped(), Stopped::InstanceChanged, "{failed}");
    }
    // At most a tenth of the outage, and a quarter of that for jitter.
    let longest = OUTAGE + OUTAGE.mul_f64(1.25 / 10.0) + ms(100);
    assert!(began.elapsed() <= longest, "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_connection_to_another_process_does_not_take_the_call() {
    let (pool, mut switch) = pool(2, Retry::default());
    let mut events = pool.events();
    let mut peers = [peer(&mut switch, 1).await, peer(&mut switch, 2).await];
    for _ in 0..2 {
        news::ready(&mut events).await;
    }
    let call = call(&pool, "order");
    let [one, other] = &mut peers;
    let (id, instance) = tokio::select! {
        request = one.request() => (request.unwrap().id, 1),
        request = other.request() => (request.unwrap().id, 2),
    };
    let [one, other] = peers;
    let mut bystander = if instance == 1 {
        drop(one);
        other
    } else {
        drop(other);
        one
    };
    let mut back = peer(&mut switch, instance).await;
    let again = tokio::select! {
        again = back.request() => again.unwrap(),
        stray = bystander.request() => panic!("{stray:?}"),
    };
    assert_eq!((again.id, again.resent), (id, true));
    back.say(reply(id, b"done")).await;
    assert_eq!(call.await.unwrap().unwrap(), "done");
}

#[tokio::test(start_paused = true)]
async fn a_call_resent_once_too_often_and_one_that_may_not_be_at_all_are_indeterminate() {
    for (retry, attempts) in [(Retry::attempts(2), 2), (Retry::never(), 1)] {
        let (_pool, mut switch, first, call, _) = in_flight(retry).await;
        drop(first);
        if attempts == 2 {
            let mut second = peer(&mut switch, 1).await;
            second.request().await.unwrap();
        }
        let failed = call.await.unwrap().unwrap_err();
        assert_eq!(
            (failed.outcome(), failed.stopped(), failed.attempts()),
            (Outcome::Indeterminate, Stopped::AttemptsSpent, attempts)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_server_says_of_a_call_that_it_does_not_know_any_more_is_reported() {
    for (code, outcome) in
        [(ErrorReply::REPLY_LOST, Outcome::Remote), (0xffff_0003, Outcome::Indeterminate)]
    {
        let (_pool, mut switch, first, call, id) = in_flight(Retry::default()).await;
        drop(first);
        let mut second = peer(&mut switch, 1).await;
        second.request().await.unwrap();
        second.say(error(id, code, "sorry")).await;
        let failed = call.await.unwrap().unwrap_err();
        assert_eq!(failed.outcome(), outcome, "{failed}");
        assert_eq!(failed.attempts(), 2);
        match outcome {
            Outcome::Remote => assert!(
                matches!(failed.cause(), CallCause::Remote(error) if error.code() == code),
                "{failed}"
            ),
            _ => assert_eq!(failed.cause(), &CallCause::Evicted),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_second_copy_does_not_make_the_first_one_unrun() {
    let (_pool, mut switch, first, call, id) = in_flight(Retry::default()).await;
    drop(first);
    let mut second = peer(&mut switch, 1).await;
    for code in [Refusal::OVERLOADED, Refusal::UNKNOWN] {
        let again = second.request().await.unwrap();
        assert_eq!((again.id, again.resent), (id, true));
        second.say(refused(id, code)).await;
    }
    let failed = call.await.unwrap().unwrap_err();
    assert_eq!(failed.outcome(), Outcome::Indeterminate, "{failed}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_to_be_sent_again_ends_at_its_deadline_with_the_outage_as_cause() {
    let (pool, mut switch) = pool(1, Retry::default());
    let mut first = peer(&mut switch, 1).await;
    let began = Instant::now();
    let call = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.request("order").timeout(ms(700)).send().await })
    };
    first.request().await.unwrap();
    drop(first);
    drop(switch);
    let failed = call.await.unwrap().unwrap_err();
    assert_eq!(failed.outcome(), Outcome::Indeterminate);
    let CallCause::TimedOut { scarcity: Some(Scarcity::Outage(outage)), .. } = failed.cause()
    else {
        panic!("{failed}");
    };
    assert!(outage.attempts > 0, "{failed}");
    let earlier = failed.earlier().expect("the connection on which it may have run");
    assert_eq!((earlier.connection, &earlier.cause), (1, &LossCause::ClosedByPeer));
    let line = failed.to_string();
    assert!(line.contains(&format!("so it may have run: {earlier}")), "{line}");
    assert!((ms(700)..=ms(702)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(pool.status().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_fails_fast_does_not_wait_to_be_sent_again() {
    let (pool, mut switch) = pool(1, Retry::default());
    let mut first = peer(&mut switch, 1).await;
    let call = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.request("order").fail_fast().send().await })
    };
    first.request().await.unwrap();
    drop(first);
    let failed = call.await.unwrap().unwrap_err();
    assert_eq!(failed.outcome(), Outcome::Indeterminate);
    assert!(failed.elapsed() < ms(5), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_to_be_sent_again_are_counted_and_leave_when_they_are_dropped_or_the_pool_is_closed()
 {
    let (pool, mut switch, first, call, _) = in_flight(Retry::default()).await;
    let second = self::call(&pool, "another");
    let mut first = first;
    first.request().await.unwrap();
    let mut watch = pool.watch();
    drop(first);
    watch.wait_for(|state| state == steadfast::State::Down).await.unwrap();
    while pool.status().waiting < 2 {
        tokio::task::yield_now().await;
    }
    call.abort();
    let _ = call.await;
    assert_eq!(pool.status().waiting, 1);
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close(ms(1000)).await }
    });
    let failed = second.await.unwrap().unwrap_err();
    assert_eq!((failed.outcome(), failed.cause()), (Outcome::Indeterminate, &CallCause::Closed));
    assert_eq!(pool.status().waiting, 0);
    closing.await.unwrap().unwrap();
    drop(switch.accept());
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_accepted_by_a_server_that_goes_away_and_dies_asks_the_next_process() {
    let (_pool, mut switch, mut first, call, _) = in_flight(Retry::default()).await;
    first.say(go_away(0, 1, 0, "restart")).await;
    let _second = peer(&mut switch, 2).await;
    drop(first);
    let failed = call.await.unwrap().unwrap_err();
    assert_eq!(failed.stopped(), Stopped::InstanceChanged, "{failed}");
}

#[tokio::test(start_paused = true)]
async fn what_the_policys_predicate_declines_is_not_sent_again() {
    let retry = Retry::default().only_if(|error| error.outcome() != Outcome::Indeterminate);
    let (_pool, _switch, first, call, _) = in_flight(retry).await;
    drop(first);
    let failed = call.await.unwrap().unwrap_err();
    assert_eq!((failed.outcome(), failed.stopped()), (Outcome::Indeterminate, Stopped::Declined));
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_calls_are_all_idempotent_sends_them_to_any_process() {
    let (_pool, mut switch, first, call, id) = in_flight(Retry::default().idempotent()).await;
    drop(first);
    let mut second = peer(&mut switch, 2).await;
    let again = second.request().await.unwrap();
    assert_eq!((again.id, again.resent, again.repeatable), (id, true, true));
    second.say(reply(id, b"done")).await;
    assert_eq!(call.await.unwrap().unwrap(), "done");
}
