//! memcached is killed with SIGKILL in mid-traffic, and started again on the same port.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use steadfast::CallError;

use crate::client::Client;
use crate::traffic::Answer;
use crate::{lives, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_10_times_under_16_callers_none_fails_and_none_gets_anothers_value() {
    let Some(mut server) = server::start(&[]).await else { return };
    let pool = lives::pool(crate::builder(&server));
    let (client, hits) = (Client::new(pool.clone()), Arc::new(AtomicUsize::new(0)));
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
    lives::no_call_fails_and_none_gets_anothers_answer(pool, &mut server, &hits, call).await;
}
