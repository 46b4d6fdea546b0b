//! Lengths at their bounds, as many long messages as may be under way, and a runtime that goes away.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use steadfast::{Call, CallCause, Outcome, Pool, Server};

use support::local::start;
use support::waits::{soon, until};

const LONG: Duration = Duration::from_secs(60);

async fn echo() -> SocketAddr {
    let handler = |call: Call| async move {
        let _ = call.pusher().push(call.body().clone());
        Ok(call.into_body())
    };
    start(Server::builder(), handler).await
}

#[tokio::test]
async fn bodies_at_the_bounds_of_frames_and_messages_pass() {
    let pool = Pool::builder(echo().await.to_string()).call_timeout(LONG).build().unwrap();
    let mut pushes = pool.pushes();
    let max = 16 << 20;
    for length in [0, 1, 16_383, 16_384, 65_535, 65_536, 65_537, 131_072, 131_073, max - 1, max] {
        let body = vec![length as u8; length];
        assert!(soon("a reply", pool.call(body.clone())).await.unwrap() == body, "{length}");
        assert!(soon("a push", pushes.next()).await.unwrap() == body, "{length}");
    }
    let error = pool.call(vec![0; max + 1]).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent);
    assert!(matches!(error.cause(), CallCause::TooLong { .. }));
}

#[tokio::test]
async fn sixteen_seventeen_and_forty_long_messages_at_once_pass_in_both_directions() {
    let pool = Pool::builder(echo().await.to_string()).call_timeout(LONG).build().unwrap();
    let mut events = pool.events();
    pool.ready(LONG).await.unwrap();
    while events.try_next().is_some() {}
    for count in [16u8, 17, 40] {
        // Every third is given up half-way.
        let calls = (0..count).map(|number| {
            let (pool, body) = (&pool, vec![number; 300_000 + 65_536 * usize::from(number)]);
            async move {
                let limit = if number % 3 == 0 { Duration::from_millis(2) } else { LONG };
                let reply = pool.request(body.clone()).timeout(limit).send().await;
                assert!(number % 3 == 0 || reply.unwrap() == body);
            }
        });
        soon("all replies", join_all(calls)).await;
    }
    let event = events.try_next();
    assert!(event.is_none(), "{event:?}");
}

#[test]
fn calls_end_when_the_pools_runtime_is_shut_down() {
    let (own, other) = (
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap(),
        tokio::runtime::Runtime::new().unwrap(),
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let pool = {
        let _inside = own.enter();
        let address = listener.local_addr().unwrap();
        Pool::builder(address.to_string()).call_timeout(LONG).build().unwrap()
    };
    other.block_on(async {
        let call = tokio::spawn({
            let pool = pool.clone();
            async move { pool.call("x").await }
        });
        until("it waits", || pool.status().waiting == 1).await;
        own.shutdown_background();
        let error = soon("the call's end", call).await.unwrap().unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent);
        assert_eq!(error.cause(), &CallCause::Closed);
        assert!(matches!(soon("another's", pool.call("y")).await, Err(error) if *error.cause() == CallCause::Closed));
        soon("close", pool.close(LONG)).await.unwrap();
    });
}
