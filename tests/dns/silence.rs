//! unbound is frozen: only its heartbeat, a question that it answers by itself, can tell.

use std::time::Instant;

use steadfast::{Heartbeat, LossCause};

use crate::resolver::Resolver;
use crate::server;
use crate::support::news;
use crate::support::process::{freeze, thaw};
use crate::support::times::{best_of_three, ms};
use crate::support::waits::within;
use crate::traffic::Answer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_unbound_is_noticed_within_the_bound_and_used_again_when_it_thaws() {
    let Some(server) = server::start("").await else { return };
    let heartbeat = Heartbeat::every(ms(300)).give_up_after(ms(700));
    let pool = crate::builder(&server).heartbeat(heartbeat).build().unwrap();
    // The promise, with a tenth more for the machine.
    best_of_three(ms(1100), async || {
        news::connected(&pool, 1).await;
        let mut events = pool.events();
        freeze(server.daemon.id());
        let frozen = Instant::now();
        let loss = news::lost(&mut events).await;
        let took = frozen.elapsed();
        assert!(matches!(loss.cause, LossCause::Silent { .. }), "{loss}");
        thaw(server.daemon.id());
        let again = crate::lookup(Resolver::new(pool.clone()), 7);
        assert_eq!(within(ms(5000), "it is used again", again).await.unwrap(), Answer::Right);
        took
    })
    .await;
}
