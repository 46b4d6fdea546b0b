//! unbound is killed with SIGKILL in mid-traffic, and started again on the same port.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt as _;
use steadfast::{Event, Reconnect, Retry};

use crate::resolver::Resolver;
use crate::support::news::ms;
use crate::support::scripted::until;
use crate::{server, traffic};

const KILLS: usize = 10;
/// The answers that each life of the server gives before it is killed.
const ANSWERS: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_10_times_under_16_callers_none_fails_and_none_gets_anothers_answer() {
    let Some(mut server) = server::start("").await else { return };
    let pool = crate::builder(&server)
        .call_timeout(ms(5000))
        // Lives are short here; the backoff is not what this is about.
        .reconnect(Reconnect::exponential(ms(20), ms(200)).stable_after(ms(50)))
        .retry(Retry::attempts(10))
        .build()
        .unwrap();
    let (resolver, mut events) = (Resolver::new(pool.clone()), pool.events());
    let answers = Arc::new(AtomicUsize::new(0));
    let counted = answers.clone();
    let call = move |number| {
        let counted = counted.clone();
        crate::lookup(resolver.clone(), number)
            .inspect(move |_| _ = counted.fetch_add(1, Ordering::Relaxed))
    };
    let more = async || {
        let before = answers.load(Ordering::Relaxed);
        until("answers", || answers.load(Ordering::Relaxed) >= before + ANSWERS).await;
    };
    let kills = async {
        for _ in 0..KILLS {
            more().await;
            server.daemon.kill().unwrap();
            server.daemon.restart().await.unwrap();
        }
        more().await;
    };
    let ((), account) = traffic::during(kills, 16, call).await;

    assert!(account.is_clean(), "{account}: {:?}", account.failed);
    assert!(account.longest < ms(5000), "{account}");
    pool.close(ms(5000)).await.unwrap();
    let mut losses = Vec::new();
    while let Some(event) = events.next().await {
        if let Event::Lost { .. } = event {
            losses.push(event.to_string());
        }
    }
    assert_eq!(losses.len(), KILLS, "{losses:#?}");
}
