//! unbound takes no more connections when it has too many, and closes those that are idle.

use steadfast::{Connections, LossCause};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::resolver::Resolver;
use crate::server::{self, Server};
use crate::support::news;
use crate::support::times::ms;
use crate::support::waits::within;
use crate::traffic::Answer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_wait_while_unbound_has_too_many_connections_and_go_on_when_it_has_room() {
    let Some(server) = server::start("incoming-num-tcp: 2").await else { return };
    // Again if a machine that was busy kept the others from asking for so long that unbound took them for idle.
    for _ in 0..3 {
        if one_waits_until_another_leaves(&server).await {
            return;
        }
    }
    panic!("there is room");
}

/// False if there was room before.
async fn one_waits_until_another_leaves(server: &Server) -> bool {
    let mut others = Vec::new();
    for _ in 0..2 {
        let (pool, resolver) = crate::pool(server);
        assert_eq!(crate::lookup(resolver.clone(), 1).await.unwrap(), Answer::Right);
        // unbound would close it to make room, if it were idle.
        others.push(tokio::spawn(async move {
            let _held = pool;
            while crate::lookup(resolver.clone(), 1).await.is_ok() {}
        }));
    }
    let (_pool, resolver) = crate::pool(server);
    let mut waiting = tokio::spawn(crate::lookup(resolver, 7));
    // The kernel accepts the connection, and the question; unbound does not.
    if timeout(ms(500), &mut waiting).await.is_ok() {
        others.iter().for_each(JoinHandle::abort);
        return false;
    }
    others[0].abort();
    let answer = within(ms(5000), "there is room", waiting).await.unwrap();
    assert_eq!(answer.unwrap(), Answer::Right);
    assert!(!others[1].is_finished(), "it was not disturbed");
    others[1].abort();
    true
}

#[tokio::test]
async fn an_idle_connection_that_unbound_closes_is_seen_at_once_and_made_again_when_it_is_needed() {
    let Some(server) = server::start("tcp-idle-timeout: 1000").await else { return };
    let pool = crate::builder(&server).connections(Connections::between(0..=1)).build().unwrap();
    let resolver = Resolver::new(pool.clone());
    assert_eq!(crate::lookup(resolver.clone(), 1).await.unwrap(), Answer::Right);
    let mut events = pool.events();
    let loss = news::lost(&mut events).await;
    assert_eq!(loss.cause, LossCause::ClosedByPeer, "{loss}");
    assert!(loss.silent_for >= ms(900), "{loss}");
    // Longer than the first attempt is ever put off.
    assert!(timeout(ms(300), events.next()).await.is_err(), "nobody needs one");
    assert_eq!(crate::lookup(resolver, 2).await.unwrap(), Answer::Right);
    news::ready(&mut events).await;
}
