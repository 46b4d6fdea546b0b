//! Calls that a server turned away: because their time was up, or because it is going away.

use std::time::Duration;

use steadfast::{
    Began, CallCause, Outcome, Pool, Refusal, ReplyCache, Retry, Scarcity, Server, Stage,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::journal::{Deed, Served, body};
use crate::series::REQUEST;
use crate::support::proxy::{Cut, Dam, Direction, Proxy, Way};
use crate::support::scripted::{REFUSED, expect, join, request};
use crate::support::times::ms;
use crate::support::waits::{soon, until};

/// The call that keeps the only handler busy.
const BUSY: u64 = 1;
const CALLS: std::ops::RangeInclusive<u64> = 2..=9;
/// Of a body.
const LENGTH: usize = 40;
/// In milliseconds: in which calls reach the server, also on a busy machine.
const LIMIT: u32 = 1000;

/// A server whose one handler is busy until it is let go.
async fn busy(cache: ReplyCache) -> (Served, tokio::task::JoinHandle<()>) {
    let server = Served::start(Server::builder().handlers(1).reply_cache(cache)).await;
    let pool = Pool::builder(server.address.to_string()).build().unwrap();
    let call = tokio::spawn(async move {
        pool.call(body(BUSY, Deed::Stay, LENGTH, LENGTH)).await.unwrap();
    });
    until("a busy handler", || server.journal.runs(BUSY) == 1).await;
    (server, call)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_time_is_up_before_its_turn_never_runs() {
    for cache in [ReplyCache::default(), ReplyCache::off()] {
        let (server, busy) = busy(cache).await;
        // So that the server does not learn from its client that nobody waits.
        let proxy = Proxy::to(server.address).await;
        let pool = Pool::builder(proxy.address()).build().unwrap();
        pool.ready(Duration::from_secs(10)).await.unwrap();
        let cost = (REQUEST + LENGTH) as u64 * CALLS.count() as u64;
        drop(proxy.cut(Cut { direction: Direction::Requests, after: cost, way: Way::Silence }));
        let calls = CALLS.map(|key| {
            let call = pool.request(body(key, Deed::Answer, LENGTH, LENGTH));
            call.timeout(ms(LIMIT.into())).send()
        });
        for result in futures::future::join_all(calls).await {
            let error = result.unwrap_err();
            // It has left, so for all that is known here it may have run.
            assert_eq!(error.outcome(), Outcome::Indeterminate, "{error}");
            let CallCause::TimedOut { stage, .. } = error.cause() else { panic!("{error}") };
            assert_eq!(*stage, Stage::Reply);
        }
        assert_eq!(proxy.cuts(), 1, "all of them have reached the server");
        // Their time on the server began when they came there, which may have been later than it began here. That of one which
        // comes now is up later still.
        let mut last = join(server.address).await;
        let body = body(*CALLS.end() + 1, Deed::Answer, LENGTH, LENGTH);
        last.write_all(&request(1, LIMIT, &body)).await.unwrap();
        assert_eq!(expect(&mut last, &[REFUSED]).await.code(), Refusal::EXPIRED);
        drop(last);
        server.journal.let_one_leave();
        soon("the end of the busy call", busy).await.unwrap();
        let journal = server.end().await;
        assert_eq!(CALLS.map(|key| journal.runs(key)).sum::<u32>(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_refuses_what_has_expired_and_does_not_run_it() {
    for cache in [ReplyCache::default(), ReplyCache::off()] {
        let (server, busy) = busy(cache).await;
        let mut client = join(server.address).await;
        for key in CALLS {
            let request = request(key, 20, &body(key, Deed::Answer, LENGTH, LENGTH));
            client.write_all(&request).await.unwrap();
        }
        for _ in CALLS {
            assert_eq!(expect(&mut client, &[REFUSED]).await.code(), Refusal::EXPIRED);
        }
        server.journal.let_one_leave();
        soon("the end of the busy call", busy).await.unwrap();
        drop(client);
        let journal = server.end().await;
        assert_eq!(CALLS.map(|key| journal.runs(key)).sum::<u32>(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_behind_the_goodbye_of_a_draining_server_are_refused_and_never_run() {
    let server = Served::start(Server::builder()).await;
    let proxy = Proxy::to(server.address).await;
    let pool = Pool::builder(proxy.address()).retry(Retry::never()).build().unwrap();
    let accepted = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call(body(BUSY, Deed::Stay, LENGTH, LENGTH)).await }
    });
    until("a busy handler", || server.journal.runs(BUSY) == 1).await;

    // The client learns only later that the server goes away.
    proxy.dam(Dam::Shut);
    server.handle.shutdown(Duration::from_secs(10));
    until("the goodbye", || proxy.dammed() > 0).await;
    let before = proxy.passed(Direction::Requests);
    let calls: Vec<_> = CALLS
        .map(|key| {
            let pool = pool.clone();
            let body = body(key, Deed::Answer, LENGTH, LENGTH);
            tokio::spawn(async move { pool.request(body).timeout(ms(3000)).send().await })
        })
        .collect();
    let cost = (REQUEST + LENGTH) as u64 * CALLS.count() as u64;
    until("the calls", || proxy.passed(Direction::Requests) == before + cost).await;
    proxy.dam(Dam::Open);
    for call in calls {
        // Sent away, it would go to the next server, if there were one.
        let error = soon("the end of its time", call).await.unwrap().unwrap_err();
        let CallCause::TimedOut { scarcity: Some(Scarcity::Outage(outage)), .. } = error.cause()
        else {
            panic!("{error}");
        };
        assert!(matches!(outage.began, Began::SentAway(_)), "{error}");
        assert!(error.attempts() > 0 && error.is_safe_to_retry(), "{error}");
    }
    server.journal.let_one_leave();
    soon("the accepted call", accepted).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err(), "it does not listen any more");
    let journal = server.end().await;
    assert_eq!(journal.runs(BUSY), 1);
    assert_eq!(CALLS.map(|key| journal.runs(key)).sum::<u32>(), 0);
}
