//! memcached is frozen: only its heartbeat, NOOP, can tell; and what it answers when it is thawed reaches nobody who has
//! gone.

use std::time::Instant;

use futures::future::join_all;
use steadfast::{Event, Heartbeat, LossCause, Outcome, Reconnect, Timeouts};

use crate::client::Client;
use crate::packet;
use crate::server;
use crate::support::news;
use crate::support::process::{freeze, thaw};
use crate::support::times::{best_of_three, ms};
use crate::support::waits::within;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_memcached_is_noticed_within_the_bound_and_used_again_when_it_thaws() {
    let Some(server) = server::start(&[]).await else { return };
    let (every, give_up_after) = (ms(300), ms(700));
    let pool = crate::builder(&server)
        .heartbeat(Heartbeat::every(every).give_up_after(give_up_after))
        .reconnect(Reconnect::exponential(ms(20), ms(100)))
        .timeouts(Timeouts::default().handshake(ms(200)))
        .build()
        .unwrap();
    let client = Client::new(pool.clone());
    // The promise, with a tenth more for the machine.
    best_of_three(ms(1100), async || {
        news::connected(&pool, 1).await;
        let mut events = pool.events();
        freeze(server.id());
        let frozen = Instant::now();
        let loss = news::lost(&mut events).await;
        let took = frozen.elapsed();
        assert!(matches!(loss.cause, LossCause::Silent { .. }), "{loss}");
        thaw(server.id());
        within(ms(5000), "it is used again", client.set("apples", b"1.20")).await.unwrap();
        took
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_answers_to_calls_that_timed_out_reach_nobody() {
    let Some(server) = server::start(&[]).await else { return };
    let (pool, client) = crate::pool(&server);
    let keys: Vec<_> = (0..100).map(|number| format!("key-{number}")).collect();
    for key in &keys {
        client.set(key, &crate::value(key)).await.unwrap();
    }
    let mut events = pool.events();
    freeze(server.id());
    let timed_out = keys[..50].iter().map(|key| {
        let get = packet::request(packet::GET, &[], key, &[]);
        pool.request(get).timeout(ms(1000)).send()
    });
    for result in join_all(timed_out).await {
        assert_eq!(result.unwrap_err().outcome(), Outcome::Indeterminate);
    }
    // These are asked before the late answers have come.
    let asked = join_all(keys[50..].iter().map(|key| client.get(key)));
    let thawing = async { thaw(server.id()) };
    let (answers, ()) = tokio::join!(asked, thawing);
    for (key, answer) in keys[50..].iter().zip(answers) {
        assert_eq!(answer.unwrap().unwrap(), crate::value(key));
    }
    pool.close(ms(5000)).await.unwrap();
    while let Some(event) = events.next().await {
        assert!(!matches!(event, Event::Lost { .. }), "{event}");
    }
}
