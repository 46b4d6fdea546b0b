//! What may go wrong at the calling end when several things happen in the same moment.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use steadfast::{
    Bytes, CallCause, Event, Heartbeat, Limits, LossCause, Outcome, Pool, Retry, Scarcity, Server,
    State,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use support::local::resident_bytes;
use support::news::lost;
use support::scripted::*;
use support::waits::{soon, until};

/// Some of these measure the memory of the process, so none runs beside another.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(500);

/// A pool, the far end of its connection, and where others would come.
async fn connected() -> (Pool, TcpStream, Script) {
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string()).build().unwrap();
    let stream = script.welcome().await;
    pool.ready(LONG).await.unwrap();
    (pool, stream, script)
}

fn assert_grown_by_less_than(limit: usize, before: usize) {
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < limit, "grown by {grown} bytes");
}

/// The calls that waited before there was any connection are no reason less to make more of them.
#[tokio::test]
async fn a_pool_grows_for_calls_that_waited_before_the_first_connection() {
    let _alone = ALONE.lock().await;
    let script = Script::bind().await;
    let limits = Limits::default().in_flight(1);
    let pool = Pool::builder(script.address.to_string())
        .connections(1..=3)
        .limits(limits)
        .call_timeout(LONG)
        .build()
        .unwrap();
    let calls: Vec<_> = (0..3)
        .map(|number: u8| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.call(vec![number]).await })
        })
        .collect();
    until("three waiting calls", || pool.status().waiting == 3).await;
    // No connection answers before each has a request.
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut stream = script.welcome().await;
        let request = expect(&mut stream, &[REQUEST]).await;
        streams.push((stream, request));
    }
    for (stream, request) in &mut streams {
        stream.write_all(&reply(request.id(), request.body())).await.unwrap();
    }
    for call in calls {
        soon("a reply", call).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_call_that_times_out_behind_others_says_how_many_hold_the_places() {
    let _alone = ALONE.lock().await;
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string())
        .limits(Limits::default().in_flight(2))
        .build()
        .unwrap();
    let mut stream = script.welcome().await;
    let calls: Vec<_> = (0..2)
        .map(|number: u8| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.call(vec![number]).await })
        })
        .collect();
    for _ in &calls {
        expect(&mut stream, &[REQUEST]).await;
    }
    let error = pool.request("third").timeout(Duration::from_millis(50)).send().await.unwrap_err();
    let CallCause::TimedOut { scarcity: Some(Scarcity::Full(full)), .. } = error.cause() else {
        panic!("{error}");
    };
    assert_eq!((full.in_flight, full.connections), (2, 1));
    assert!(error.to_string().contains("2 in use on 1 connection"), "{error}");
}

#[tokio::test]
async fn a_fail_fast_call_that_waits_for_room_fails_when_the_last_connection_is_lost() {
    let _alone = ALONE.lock().await;
    let script = Script::bind().await;
    let limits = Limits::default().in_flight(1);
    let pool = Pool::builder(script.address.to_string())
        .limits(limits)
        .call_timeout(LONG)
        .retry(Retry::never())
        .build()
        .unwrap();
    let first = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call("first").await }
    });
    let mut stream = script.welcome().await;
    expect(&mut stream, &[REQUEST]).await;
    let second = tokio::spawn({
        let pool = pool.clone();
        async move { pool.request("second").fail_fast().send().await }
    });
    until("a waiting call", || pool.status().waiting == 1).await;
    drop((stream, script));
    assert_eq!(
        soon("the first", first).await.unwrap().unwrap_err().outcome(),
        Outcome::Indeterminate
    );
    let error = soon("the second", second).await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent);
    assert!(matches!(error.cause(), CallCause::Unavailable(_)), "{error}");
}

/// One connection drains while its successor is up already.
#[tokio::test]
async fn close_counts_the_calls_of_a_connection_that_drains() {
    let _alone = ALONE.lock().await;
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string()).call_timeout(LONG).build().unwrap();
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call("never answered").await }
    });
    let mut old = script.welcome().await;
    expect(&mut old, &[REQUEST]).await;
    let mut events = pool.events();
    old.write_all(&go_away(0, 1, 0, "")).await.unwrap();
    let _new = script.welcome().await;
    soon("the successor", async {
        while !matches!(events.next().await, Some(Event::Ready { .. })) {}
    })
    .await;
    let closed = pool.close(Duration::from_millis(20)).await;
    assert_eq!(call.await.unwrap().unwrap_err().outcome(), Outcome::Indeterminate);
    assert_eq!(closed.map_err(|error| error.unfinished), Err(1));
}

/// Dropped at its first await, the closing goes on to its end.
#[tokio::test]
async fn a_pool_whose_close_was_dropped_is_closed_in_the_end() {
    let _alone = ALONE.lock().await;
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string()).build().unwrap();
    let mut stream = script.welcome().await;
    pool.ready(LONG).await.unwrap();
    let mut events = pool.events();
    let mut state = pool.watch();
    {
        let mut close = Box::pin(pool.close(LONG));
        assert!(futures::poll!(&mut close).is_pending());
    }
    expect_fin(&mut stream).await;
    drop(stream);
    soon("the end of the events", async { while events.next().await.is_some() {} }).await;
    soon("the state", state.wait_for(|state| state == State::Closed)).await.unwrap();
}

/// Whoever looks at the state holds nothing up by it.
#[tokio::test]
async fn a_pool_can_be_closed_for_the_sake_of_its_state() {
    let _alone = ALONE.lock().await;
    let (pool, stream, _script) = connected().await;
    drop(stream);
    match pool.watch().wait_for(|state| state == State::Down).await.unwrap() {
        State::Down => soon("the end", pool.close(LONG)).await.unwrap(),
        state => panic!("{state:?}"),
    }
    assert_eq!(pool.watch().current(), State::Closed);
}

/// A health check may ask whether the pool is ready as often as it likes.
#[tokio::test]
async fn asking_whether_it_is_ready_leaves_nothing_behind() {
    let _alone = ALONE.lock().await;
    let (pool, _stream, _script) = connected().await;
    let before = resident_bytes();
    for _ in 0..20_000 {
        pool.ready(LONG).await.unwrap();
    }
    assert_grown_by_less_than(4 << 20, before);
}

#[tokio::test]
async fn a_subscription_that_is_dropped_leaves_nothing_behind() {
    let _alone = ALONE.lock().await;
    let (pool, _stream, _script) = connected().await;
    let before = resident_bytes();
    for _ in 0..20_000 {
        drop(pool.pushes());
    }
    assert_grown_by_less_than(4 << 20, before);
}

/// A server that asks without end and takes no answers.
#[tokio::test]
async fn pings_that_nobody_hears_answered_are_not_answered_in_memory() {
    let _alone = ALONE.lock().await;
    let script = Script::bind().await;
    let heartbeat =
        Heartbeat::every(Duration::from_secs(3600)).give_up_after(Duration::from_secs(3600));
    let options = steadfast::SocketOptions::default().send_buffer(4096).without_user_timeout();
    let pool = Pool::builder(script.address.to_string())
        .heartbeat(heartbeat)
        .socket(options)
        .build()
        .unwrap();
    let mut stream = script.welcome().await;
    pool.ready(LONG).await.unwrap();
    let ping = frame(PING, &[&7u64.to_be_bytes()]);
    let many = ping.repeat(80_000);
    let before = resident_bytes();
    // 64 MiB of pings; a client that stops reading is fine, too.
    let flood = async {
        for _ in 0..64 {
            stream.write_all(&many).await.unwrap();
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(10), flood).await;
    assert_grown_by_less_than(16 << 20, before);
}

/// Bytes behind `WELCOME` in the same segment are bytes of the connection, too.
#[tokio::test]
async fn a_loss_counts_the_bytes_that_came_with_the_welcome() {
    let _alone = ALONE.lock().await;
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string()).build().unwrap();
    let mut events = pool.events();
    let mut stream = script.accept().await;
    let ping = frame(PING, &[&7u64.to_be_bytes()]);
    let both = [welcome(1, MAX_MESSAGE, 1000), ping.clone()].concat();
    stream.write_all(&both).await.unwrap();
    expect(&mut stream, &[PONG]).await;
    drop(stream);
    let loss = lost(&mut events).await;
    assert_eq!(loss.cause, LossCause::ClosedByPeer);
    assert_eq!((loss.bytes_in, loss.bytes_out), (13, 13));
}

/// What is out of its range is refused at the door, not by a panic before it.
#[tokio::test]
async fn absurd_times_are_configuration_errors() {
    let _alone = ALONE.lock().await;
    for times in [Duration::MAX, Duration::ZERO] {
        let built = Pool::builder("localhost:1").heartbeat(Heartbeat::every(times)).build();
        assert!(built.is_err());
        assert!(
            Server::builder().heartbeat(Heartbeat::every(times)).bind("127.0.0.1:0").await.is_err()
        );
        let heartbeat = Heartbeat::default().give_up_after(times);
        assert!(Pool::builder("localhost:1").heartbeat(heartbeat).build().is_err());
        assert!(Pool::builder("localhost:1").call_timeout(times).build().is_err());
        let retry = Retry::attempts(2).backoff(times, times);
        assert!(Pool::builder("localhost:1").retry(retry).build().is_err());
    }
}

/// The mistake is found where it is made, and neither panics nor waits for a connection.
#[tokio::test]
async fn a_request_with_an_absurd_policy_of_its_own_fails_and_says_so() {
    let _alone = ALONE.lock().await;
    let pool = Pool::builder("127.0.0.1:1").call_timeout(LONG).build().unwrap();
    for (retry, text) in [
        (Retry::attempts(0), "retry attempts is 0, must be at least 1 and at most 100"),
        (
            Retry::attempts(3).budget(f64::NAN),
            "retry budget is NaN, must be at least 0 and at most 1",
        ),
    ] {
        let call = pool.request("x").retry(retry.clone()).send();
        let error = soon("the error", call).await.unwrap_err();
        assert!(matches!(error.cause(), CallCause::Config(_)), "{error}");
        assert_eq!((error.outcome(), error.attempts()), (Outcome::NotSent, 0));
        assert!(error.to_string().contains(text), "{error}");
        assert!(pool.request("x").retry(retry).notify().await.is_err());
    }
}

/// As many as can wait do wait; one that had its place and lost it with the connection is not turned away for that.
#[tokio::test]
async fn a_place_that_dies_before_it_is_taken_costs_its_owner_nothing() {
    let _alone = ALONE.lock().await;
    let script = Script::bind().await;
    let limits = Limits::default().in_flight(1).waiting(1);
    let pool = Pool::builder(script.address.to_string())
        .limits(limits)
        .call_timeout(LONG)
        .retry(Retry::never())
        .build()
        .unwrap();
    let mut first = Box::pin(pool.call("first"));
    assert!(futures::poll!(&mut first).is_pending());
    let mut stream = script.welcome().await;
    until("the first has a place", || pool.status().waiting == 0).await;
    // It takes its place, and the second waits for it.
    assert!(futures::poll!(&mut first).is_pending());
    expect(&mut stream, &[REQUEST]).await;
    let mut second = Box::pin(pool.call("second"));
    assert!(futures::poll!(&mut second).is_pending());
    // Handed over, not taken: and then the connection dies.
    drop(first);
    until("the hand-over", || pool.status().waiting == 0).await;
    let mut events = pool.events();
    drop(stream);
    lost(&mut events).await;
    assert_eq!(pool.status().in_flight, 0);
    // Somebody else wants to wait. The second was there before.
    let mut third = Box::pin(pool.call("third"));
    assert!(futures::poll!(&mut third).is_ready(), "one may wait, and one does");
    assert!(futures::poll!(&mut second).is_pending(), "turned away out of the line");
    let mut stream = script.welcome().await;
    let serve = async {
        let request = expect(&mut stream, &[REQUEST]).await;
        assert_eq!(request.body(), b"second");
        stream.write_all(&reply(request.id(), b"yes")).await.unwrap();
    };
    let (answer, ()) = soon("the second's reply", async { tokio::join!(second, serve) }).await;
    assert_eq!(answer.unwrap(), "yes");
    assert_eq!((pool.status().in_flight, pool.status().waiting), (0, 0));
}

/// Whatever is given up while the peer does not read makes room at once.
#[tokio::test]
async fn small_calls_that_are_given_up_make_room_for_others() {
    let _alone = ALONE.lock().await;
    let script = Script::bind().await;
    let limits = Limits::default().message(4 << 20).queued_bytes(4 << 20);
    let pool = Pool::builder(script.address.to_string())
        .limits(limits)
        .call_timeout(LONG)
        .build()
        .unwrap();
    let _deaf = script.welcome().await;
    pool.ready(LONG).await.unwrap();
    let body = vec![7; 15_000];
    let mut calls = Vec::new();
    // Until no more fit.
    loop {
        let mut call = Box::pin(pool.call(body.clone()));
        match futures::poll!(&mut call) {
            std::task::Poll::Pending => calls.push(call),
            std::task::Poll::Ready(result) => {
                assert!(matches!(result.unwrap_err().cause(), CallCause::Overloaded(_)));
                // What the kernel takes has made room by now, or it takes no more.
                tokio::task::yield_now().await;
                let mut call = Box::pin(pool.call(body.clone()));
                if futures::poll!(&mut call).is_ready() {
                    break;
                }
                calls.push(call);
            }
        }
    }
    calls.clear();
    for _ in 0..100 {
        let mut call = Box::pin(pool.call(body.clone()));
        assert!(futures::poll!(&mut call).is_pending(), "the given up still take the room");
        calls.push(call);
    }
}

/// Those who wait for a place must not keep out for ever who has had one and lost it.
#[tokio::test]
async fn a_call_that_is_sent_again_gets_its_turn_among_those_that_wait() {
    let _alone = ALONE.lock().await;
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string())
        .limits(Limits::default().in_flight(1))
        .call_timeout(LONG)
        .build()
        .unwrap();
    let welcome = || async {
        let mut stream = script.accept().await;
        stream.write_all(&welcome_remembering(1)).await.unwrap();
        stream
    };
    let first = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call("first").await }
    });
    let mut stream = welcome().await;
    expect(&mut stream, &[REQUEST]).await;
    let others: Vec<_> = (0..4)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { while pool.call("another").await.is_ok() {} })
        })
        .collect();
    until("the others to wait", || pool.status().waiting == 4).await;
    drop(stream);
    let mut stream = welcome().await;
    let mut before = 0;
    loop {
        let request = expect(&mut stream, &[REQUEST]).await;
        stream.write_all(&reply(request.id(), request.body())).await.unwrap();
        if request.body() == b"first" {
            break;
        }
        before += 1;
        assert!(before < 100, "{before} others went before it");
    }
    assert_eq!(soon("the reply", first).await.unwrap().unwrap(), "first");
    others.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_notification_that_was_sent_by_half_in_its_time_tells_of_no_attempt_before() {
    let _alone = ALONE.lock().await;
    let (pool, _reads_nothing, _script) = connected().await;
    let body = Bytes::from(vec![0; 60_000]);
    let notifications = (0..300).map(|_| pool.request(body.clone()).timeout(SHORT).notify());
    let results = futures::future::join_all(notifications).await;
    let begun = results
        .into_iter()
        .filter_map(Result::err)
        .filter(|error| error.outcome() == Outcome::Indeterminate);
    let begun: Vec<_> = begun.collect();
    assert!(!begun.is_empty());
    for error in begun {
        assert_eq!((error.attempts(), error.earlier()), (1, None));
        assert!(!error.to_string().contains("an earlier attempt"), "{error}");
    }
}
