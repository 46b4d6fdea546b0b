//! What unbound answers, in any order: to each caller its own, also when the callers of others have gone.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use steadfast::Event;

use crate::configuration::address_of;
use crate::support::news;
use crate::support::times::ms;
use crate::support::waits::{until, within};
use crate::{server, traffic};

#[tokio::test]
async fn names_have_addresses_or_none() {
    let Some(server) = server::start("").await else { return };
    let (pool, resolver) = crate::pool(&server);
    assert_eq!(resolver.lookup("7.example.test").await.unwrap(), [Ipv4Addr::new(10, 0, 0, 7)]);
    assert!(resolver.lookup("no.example.test").await.unwrap().is_empty());
    pool.close(ms(5000)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_64_callers_on_one_connection_each_gets_the_answers_to_its_own_questions() {
    let Some(server) = server::start("").await else { return };
    let (pool, resolver, events) = crate::watched_pool(&server);
    let [answered, most] = [0; 2].map(AtomicUsize::new).map(Arc::new);
    let call = {
        let (pool, answered, most) = (pool.clone(), answered.clone(), most.clone());
        move |number| {
            answered.fetch_add(1, Ordering::Relaxed);
            most.fetch_max(pool.status().in_flight, Ordering::Relaxed);
            crate::lookup(resolver.clone(), number)
        }
    };
    let enough = until("many answers", || answered.load(Ordering::Relaxed) > 10_000);
    let ((), account) = traffic::during(enough, 64, call).await;
    assert!(account.is_clean(), "{account}: {:?}", account.failed);
    assert!(account.right > 10_000, "{account}");
    // They shared the line, they did not take turns.
    assert!(most.load(Ordering::Relaxed) >= 16, "{most:?}");
    pool.close(ms(5000)).await.unwrap();
    assert_eq!(news::all_ready(events).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_answer_is_overtaken_by_others_on_its_connection() {
    let Some(server) = server::start("").await else { return };
    let (pool, resolver, events) = crate::watched_pool(&server);
    let slow = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.lookup("1.slow.test").await }
    });
    within(ms(5000), "unbound asks", server.slow.asked("1.slow.test")).await;
    for number in 0..100 {
        let answer = crate::lookup(resolver.clone(), number).await.unwrap();
        assert_eq!(answer, traffic::Answer::Right);
    }
    assert!(!slow.is_finished(), "nobody has answered it");
    assert_eq!(pool.status().in_flight, 1);
    server.slow.open();
    assert_eq!(slow.await.unwrap().unwrap(), [address_of(1)]);
    pool.close(ms(5000)).await.unwrap();
    assert_eq!(news::all_ready(events).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_answers_to_questions_whose_callers_have_gone_reach_nobody() {
    let Some(server) = server::start("").await else { return };
    let (pool, resolver) = crate::pool(&server);
    let mut events = pool.events();
    let name = |number: usize| format!("{number}.slow.test");
    let ask = |number: usize| {
        let resolver = resolver.clone();
        tokio::spawn(async move { resolver.lookup(&name(number)).await })
    };
    let gone: Vec<_> = (0..20).map(ask).collect();
    let others: Vec<_> = (20..40).map(ask).collect();
    for number in 0..40 {
        within(ms(5000), "unbound asks", server.slow.asked(&name(number))).await;
    }
    for call in gone {
        call.abort();
        assert!(call.await.unwrap_err().is_cancelled());
    }
    // These are asked before the late answers come.
    let behind: Vec<_> = (40..60).map(ask).collect();
    server.slow.open();
    for (number, call) in (20..).zip(others.into_iter().chain(behind)) {
        assert_eq!(call.await.unwrap().unwrap(), [address_of(number)]);
    }
    // The places of those that have gone are free when their answers have come, and not because the line died.
    until("their answers", || pool.status().in_flight == 0).await;
    pool.close(ms(5000)).await.unwrap();
    while let Some(event) = events.next().await {
        assert!(!matches!(event, Event::Lost { .. }), "{event}");
    }
}
