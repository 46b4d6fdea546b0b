//! Calls that may have run and are sent again: over which connection, in whose place, and what is told of those that could not be.

#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use futures::poll;
use steadfast::{
    Bytes, CallCause, CallError, Limits, Pool, PoolBuilder, Reconnect, Scarcity, Stage,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use support::scripted::*;
use support::times::ms;
use support::waits::{soon, until};

/// A connection of a server that takes so many calls at a time and remembers this client.
async fn welcomed(script: &Script, in_flight: u32) -> TcpStream {
    let mut stream = script.accept().await;
    stream.write_all(&welcome_remembering_few(1, in_flight)).await.unwrap();
    stream
}

fn builder(script: &Script) -> PoolBuilder {
    let reconnect = Reconnect::exponential(ms(10), ms(20));
    Pool::builder(script.address.to_string()).reconnect(reconnect)
}

fn spawn(pool: &Pool, body: &'static str, limit: Duration) -> JoinHandle<Result<Bytes, CallError>> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.request(body).timeout(limit).send().await })
}

#[tokio::test]
async fn one_that_was_refused_goes_to_another_connection_to_its_process() {
    let script = Script::bind().await;
    let pool = builder(&script).connections(2).build().unwrap();
    let mut first = welcomed(&script, 100).await;
    let mut second = welcomed(&script, 100).await;
    until("both", || pool.status().ready == 2).await;
    let calls = ["one", "two"].map(|body| spawn(&pool, body, ms(20_000)));
    expect(&mut first, &[REQUEST]).await;
    let lost = expect(&mut second, &[REQUEST]).await;
    drop(second);
    // It comes again over the other one, and meanwhile there is a third.
    let again = expect(&mut first, &[REQUEST]).await;
    assert_eq!(again.id(), lost.id());
    let mut third = welcomed(&script, 100).await;
    until("both", || pool.status().ready == 2).await;
    first.write_all(&refused(again.id(), 1)).await.unwrap();
    tokio::select! {
        biased;
        frame = expect(&mut first, &[REQUEST]) => panic!("to the one that has refused it: {frame:?}"),
        frame = expect(&mut third, &[REQUEST]) => assert_eq!(frame.id(), lost.id()),
    }
    calls.into_iter().for_each(|call| call.abort());
}

#[tokio::test]
async fn one_that_finds_no_room_in_time_says_so_and_one_that_finds_no_connection_too() {
    let script = Script::bind().await;
    let limits = Limits::default().in_flight(2);
    let pool = builder(&script).limits(limits).build().unwrap();
    let mut stream = welcomed(&script, 2).await;
    let calls = ["one", "two"].map(|body| spawn(&pool, body, ms(2000)));
    for _ in &calls {
        expect(&mut stream, &[REQUEST]).await;
    }
    drop(stream);
    // The next one takes one at a time, and answers none.
    let mut stream = welcomed(&script, 1).await;
    expect(&mut stream, &[REQUEST]).await;
    let mut full = 0;
    for call in calls {
        let error = soon("its end", call).await.unwrap().unwrap_err();
        let CallCause::TimedOut { stage, scarcity, .. } = error.cause() else { panic!("{error}") };
        full += usize::from(*stage == Stage::Connection);
        let is_full = matches!(scarcity, Some(Scarcity::Full(full)) if full.in_flight == 1);
        assert_eq!(is_full, *stage == Stage::Connection, "{error}");
    }
    assert_eq!(full, 1);
}

#[tokio::test]
async fn one_whose_process_is_not_reached_though_another_connection_is_ready_says_so() {
    let script = Script::bind().await;
    let pool = builder(&script).connections(2).build().unwrap();
    let mut lines = Vec::new();
    // Behind a proxy: two processes.
    for instance in [1, 2] {
        let mut stream = script.accept().await;
        stream.write_all(&welcome_remembering(instance)).await.unwrap();
        lines.push(stream);
    }
    until("both", || pool.status().ready == 2).await;
    let calls = ["one", "two"].map(|body| spawn(&pool, body, ms(2000)));
    for line in &mut lines {
        expect(line, &[REQUEST]).await;
    }
    // The slot's next connection is not welcomed.
    drop(lines.pop());
    let _silent = script.accept().await;
    let mut lost = 0;
    for call in calls {
        let error = soon("its end", call).await.unwrap().unwrap_err();
        let CallCause::TimedOut { scarcity, .. } = error.cause() else { panic!("{error}") };
        lost += usize::from(matches!(scarcity, Some(Scarcity::OutOfReach)));
    }
    assert_eq!(lost, 1);
}

/// Who waits in the line and does not look is shown out of it when their time is over.
#[tokio::test]
async fn one_that_nobody_polls_has_no_place_kept_for_it_beyond_its_time() {
    let script = Script::bind().await;
    let pool = builder(&script).build().unwrap();
    let mut stream = welcomed(&script, 1).await;
    pool.ready(ms(20_000)).await.unwrap();
    let mut kept = Box::pin(pool.request("kept").timeout(ms(2000)).send());
    assert!(poll!(&mut kept).is_pending());
    expect(&mut stream, &[REQUEST]).await;
    drop(stream);
    let mut stream = script.accept().await;
    assert!(poll!(&mut kept).is_pending());
    assert_eq!(pool.status().waiting, 1, "to be sent again");
    stream.write_all(&welcome_remembering_few(1, 1)).await.unwrap();
    // From here on nobody polls it.
    let other = spawn(&pool, "other", ms(20_000));
    let request = expect(&mut stream, &[REQUEST]).await;
    assert_eq!(request.body(), b"other");
    stream.write_all(&reply(request.id(), b"served")).await.unwrap();
    assert_eq!(soon("the other", other).await.unwrap().unwrap(), "served");
    drop(kept);
}
