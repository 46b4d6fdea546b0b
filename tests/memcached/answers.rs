//! What memcached answers: values of all lengths, misses, errors, statistics; and under load, to each caller its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fastrand::Rng;
use steadfast::{CallCause, Outcome};
use tokio::task::JoinSet;

use crate::client::Client;
use crate::server;
use crate::support::news;
use crate::support::times::ms;
use crate::support::waits::soon;

#[tokio::test]
async fn values_are_found_as_they_were_set_until_they_are_deleted() {
    let Some(server) = server::start(&[]).await else { return };
    let (pool, client) = crate::pool(&server);
    for length in [0, 1, 23, 24, 4096, 65_536, 1_000_000] {
        let (key, value) = (format!("of {length} bytes").replace(' ', "-"), vec![b'v'; length]);
        assert_eq!(client.get(&key).await.unwrap(), None);
        client.set(&key, &value).await.unwrap();
        assert_eq!(client.get(&key).await.unwrap().unwrap(), value);
        assert!(client.delete(&key).await.unwrap());
        assert!(!client.delete(&key).await.unwrap());
        assert_eq!(client.get(&key).await.unwrap(), None);
    }
    pool.close(ms(5000)).await.unwrap();
}

#[tokio::test]
async fn an_error_of_memcached_is_an_error_with_its_status_and_its_words_and_the_connection_goes_on()
 {
    let Some(server) = server::start(&[]).await else { return };
    let (pool, client) = crate::pool(&server);
    news::connected(&pool, 1).await;
    let mut events = pool.events();

    let error = client.set("too-large", &vec![0; 1 << 20]).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Remote);
    let CallCause::Remote(reply) = error.cause() else { panic!("{error}") };
    assert_eq!((reply.code(), reply.text()), (3, "Too large."));

    // memcached would close the connection, under all the others' calls.
    let error = client.get(&"k".repeat(251)).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent);
    assert!(matches!(error.cause(), CallCause::Unsendable(_)), "{error}");
    assert_eq!(client.get(&"k".repeat(250)).await.unwrap(), None);

    pool.close(ms(5000)).await.unwrap();
    assert!(events.next().await.is_none(), "the one connection did");
}

#[tokio::test]
async fn statistics_are_many_frames_and_one_answer() {
    let Some(server) = server::start(&[]).await else { return };
    let (_pool, client) = crate::pool(&server);
    client.set("apples", b"1.20").await.unwrap();
    client.get("apples").await.unwrap();
    let stats = client.stats().await.unwrap();
    let of = |name: &str| stats.get(name).map(String::as_str);
    assert_eq!(of("pid"), Some(&*server.id().to_string()));
    assert_eq!([of("cmd_set"), of("cmd_get"), of("get_misses")], [Some("1"), Some("1"), Some("0")]);
    // The last one: memcached sends some seventy.
    assert!(stats.contains_key("slabs_moved") || stats.len() > 50, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_64_callers_on_one_connection_each_gets_the_answers_to_its_own_calls() {
    let Some(server) = server::start(&[]).await else { return };
    let mut builder = crate::builder(&server);
    let events = builder.events();
    let pool = builder.build().unwrap();
    let (client, most) = (Client::new(pool.clone()), Arc::new(AtomicUsize::new(0)));
    let mut callers = JoinSet::new();
    for caller in 0..64 {
        let (pool, client, most) = (pool.clone(), client.clone(), most.clone());
        callers.spawn(async move {
            let mut rng = Rng::with_seed(caller);
            let mut model = HashMap::new();
            for _ in 0..200 {
                play(&client, caller, &mut rng, &mut model).await;
                most.fetch_max(pool.status().in_flight, Ordering::Relaxed);
            }
        });
    }
    soon("all calls", callers.join_all()).await;
    // They shared the line, they did not take turns.
    assert!(most.load(Ordering::Relaxed) >= 16, "{most:?}");
    pool.close(ms(5000)).await.unwrap();
    assert_eq!(news::all_ready(events).await, 1);
}

/// One random call on a key of the caller's own, whose answer the model knows.
async fn play(client: &Client, caller: u64, rng: &mut Rng, model: &mut HashMap<String, Vec<u8>>) {
    let key = format!("{caller}-{}", rng.u8(..8));
    match rng.u8(..20) {
        0..9 => {
            let value = format!("{key}-{}", "v".repeat(rng.usize(..2000))).into_bytes();
            client.set(&key, &value).await.unwrap();
            model.insert(key, value);
        }
        9..18 => {
            let found = client.get(&key).await.unwrap();
            assert_eq!(found.as_deref(), model.get(&key).map(Vec::as_slice), "{key}");
        }
        18 => assert_eq!(client.delete(&key).await.unwrap(), model.remove(&key).is_some(), "{key}"),
        // Its many frames come between those of the others.
        _ => assert!(client.stats().await.unwrap().contains_key("pid")),
    }
}
