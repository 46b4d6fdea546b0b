//! memcached is killed with SIGKILL in mid-traffic, and started again on the same port.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use steadfast::{CallError, Event, Reconnect, Retry};

use crate::client::Client;
use crate::server;
use crate::support::news::ms;
use crate::support::scripted::until;
use crate::traffic::{self, Answer};

const KILLS: usize = 10;
/// The values that each life of the server gives before it is killed.
const HITS: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_10_times_under_16_callers_none_fails_and_none_gets_anothers_value() {
    let Some(mut server) = server::start(&[]).await else { return };
    let pool = crate::builder(&server)
        .call_timeout(ms(5000))
        // Lives are short here; the backoff is not what this is about.
        .reconnect(Reconnect::exponential(ms(20), ms(200)).stable_after(ms(50)))
        .retry(Retry::attempts(10))
        .build()
        .unwrap();
    let (client, mut events) = (Client::new(pool.clone()), pool.events());
    let hits = Arc::new(AtomicUsize::new(0));

    let counted = hits.clone();
    let call = move |number: usize| {
        let (client, hits, key) =
            (client.clone(), counted.clone(), format!("key-{}", number % 100));
        async move {
            let Some(found) = client.get(&key).await? else {
                // It has forgotten everything. Whoever is first tells it again; that may fail, as nobody may repeat it.
                let _ = client.set(&key, &crate::value(&key)).await;
                return Ok(Answer::Right);
            };
            hits.fetch_add(1, Ordering::Relaxed);
            Ok::<_, CallError>(Answer::check(found, crate::value(&key).into()))
        }
    };
    let kills = async {
        for _ in 0..KILLS {
            let before = hits.load(Ordering::Relaxed);
            until("hits", || hits.load(Ordering::Relaxed) >= before + HITS).await;
            server.kill().unwrap();
            server.restart().await.unwrap();
        }
        let before = hits.load(Ordering::Relaxed);
        until("hits", || hits.load(Ordering::Relaxed) >= before + HITS).await;
    };
    let ((), account) = traffic::during(kills, 16, call).await;

    assert!(account.is_clean(), "{account}: {:?}", account.failed);
    assert!(account.longest < ms(5000), "{account}");
    pool.close(ms(5000)).await.unwrap();
    let mut losses = 0;
    while let Some(event) = events.next().await {
        losses += usize::from(matches!(event, Event::Lost { .. }));
    }
    assert_eq!(losses, KILLS);
}
