//! The code of `docs/migrating.md`: it is here, the page shows it word by word, and it does what the page says.

#![allow(clippy::unwrap_used, missing_docs, missing_debug_implementations, unreachable_pub)]

mod framings;
mod new_blocking;
mod new_closing;
mod new_message;
mod new_news;
mod new_socket;
mod new_threads;
mod old_message;
mod old_socket;
mod old_threads;
mod shop;

use std::pin::pin;
use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use steadfast::{
    CallCause, Event, Framing, Loss, LossCause, Ordered, Outcome, Pool, Subscription, Violation,
};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};
use tokio_util::codec::Framed;

use shop::{Manner, Shop};

/// Much longer than anything here takes.
const BOUND: Duration = Duration::from_secs(20);
/// In which a client on loopback has most likely read what was sent to it.
const A_WHILE: Duration = Duration::from_millis(100);

#[test]
fn the_page_shows_the_code_that_is_tested_here() {
    let page = include_str!("../../docs/migrating.md");
    for code in [
        include_str!("old_message.rs"),
        include_str!("new_message.rs"),
        include_str!("new_closing.rs"),
        include_str!("new_blocking.rs"),
        include_str!("old_socket.rs"),
        include_str!("new_socket.rs"),
        include_str!("old_threads.rs"),
        include_str!("new_threads.rs"),
        include_str!("new_news.rs"),
    ] {
        assert!(page.contains(&format!("```rust\n{code}```\n")), "not on the page:\n{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_in_two_pieces_is_half_an_answer_to_the_old_code_and_a_whole_one_to_the_new() {
    let shop = Shop::open(Manner::Halves).await;
    let address = shop.address.to_string();
    let old = spawn_blocking({
        let address = address.clone();
        move || old_message::ask(&address, "price of apples")
    });
    assert_eq!(timeout(BOUND, old).await.unwrap().unwrap().unwrap(), "1.");
    // A shop of its own: the old client may not have been missed yet.
    let shop = Shop::open(Manner::Halves).await;
    let pool = new_message::connect(&shop.address.to_string()).unwrap();
    let mut new = pin!(new_message::ask(&pool, "price of apples"));
    let half = async { tokio::join!(shop.half_is_sent(), tokio::time::sleep(A_WHILE)) };
    tokio::select! {
        answer = &mut new => panic!("{answer:?} to half an answer"),
        halved = timeout(BOUND, half) => drop(halved.unwrap()),
    }
    shop.send_the_rest();
    assert_eq!(timeout(BOUND, new).await.unwrap().unwrap(), "1.20");
}

#[tokio::test]
async fn a_server_that_closes_after_each_answer_is_asked_again_without_delay() {
    let shop = Shop::open(Manner::Closing).await;
    let pool = new_closing::connect(&shop.address.to_string()).unwrap();
    let ask = || async { new_closing::ask(&pool, "price of apples").await };
    let began = Instant::now();
    for _ in 0..50 {
        assert_eq!(timeout(BOUND, ask()).await.unwrap().unwrap(), "1.20");
    }
    let at_once = futures::future::join_all((0..50).map(|_| ask()));
    for answer in timeout(BOUND, at_once).await.unwrap() {
        assert_eq!(answer.unwrap(), "1.20");
    }
    // Under the backoff it would be more than a minute.
    assert!(began.elapsed() < BOUND / 2, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_hook_logs_in_where_answers_come_in_order() {
    let shop = Shop::open(Manner::Plain).await;
    let pool = Pool::builder(shop.address.to_string())
        .protocol(Ordered::new(Framing::u32_le()))
        .on_connect(|mut conversation| async move {
            match &conversation.call("login alice").await?[..] {
                b"welcome" => Ok(()),
                _ => Err("alice is not welcome".into()),
            }
        })
        .build()
        .unwrap();
    assert_eq!(pool.call("price of apples").await.unwrap(), "1.20");
    assert_eq!(shop.logins(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_without_a_runtime_can_ask() {
    let shop = Shop::open(Manner::Plain).await;
    let address = shop.address.to_string();
    let asked = spawn_blocking(move || {
        std::thread::spawn(move || {
            let client = new_blocking::Client::connect(&address).unwrap();
            client.ask("price of apples").unwrap()
        })
        .join()
        .unwrap()
    });
    assert_eq!(asked.await.unwrap(), "1.20");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_socket_stays_dead_after_a_restart_and_the_pool_does_not() {
    let shop = Shop::open(Manner::Plain).await;
    let address = shop.address.to_string();
    let old = spawn_blocking({
        let address = address.clone();
        move || old_socket::Client::connect(&address).unwrap()
    });
    let old = std::sync::Arc::new(old.await.unwrap());
    let ask = |old: &std::sync::Arc<old_socket::Client>| {
        let old = old.clone();
        spawn_blocking(move || old.ask("price of apples"))
    };
    let pool = new_socket::connect(&address).unwrap();
    assert_eq!(ask(&old).await.unwrap().unwrap(), "1.20");
    assert_eq!(new_socket::price(&pool, "apples").await.unwrap(), "1.20");
    assert_eq!(new_socket::order(&pool, "apples").await.unwrap(), "ordered");

    let _shop = shop.close().await.open_again();

    for _ in 0..3 {
        assert!(ask(&old).await.unwrap().is_err());
        assert_eq!(new_socket::price(&pool, "apples").await.unwrap(), "1.20");
        assert_eq!(new_socket::order(&pool, "apples").await.unwrap(), "ordered");
    }
}

/// Nobody answers this; the connection dies instead.
const HARD: &str = "price of happiness";

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_whose_connection_died_waits_for_ever_in_the_old_code_and_is_told_in_the_new() {
    let shop = Shop::open(Manner::Ids).await;
    let address = shop.address.to_string();
    let connect = spawn_blocking({
        let address = address.clone();
        move || old_threads::Client::connect(&address).unwrap()
    });
    let (old, old_events) = connect.await.unwrap();
    let old = std::sync::Arc::new(old);
    let caller = old.clone();
    let asking = spawn_blocking(move || caller.ask("login alice"));
    assert_eq!(asking.await.unwrap(), "welcome");
    let event = spawn_blocking(move || (old_events.recv().unwrap(), old_events));
    assert_eq!(event.await.unwrap().0, "apples are in season");

    let (pool, mut events) = new_threads::connect(&address).unwrap();
    assert_eq!(pool.call("price of apples").await.unwrap(), "1.20");
    assert_eq!(events.next().await.unwrap(), "apples are in season");

    // Not one of the runtime's threads, which would wait for it.
    let caller = old.clone();
    let waiting = std::thread::spawn(move || caller.ask(HARD));
    // The shop ends the connections by itself on which it was asked.
    let error = timeout(BOUND, pool.call(HARD)).await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Indeterminate, "{error}");
    assert!(matches!(error.cause(), CallCause::Lost(_)), "{error}");
    spawn_blocking({
        let old = old.clone();
        move || {
            while !old.receiving.is_finished() {
                std::thread::yield_now()
            }
        }
    })
    .await
    .unwrap();
    // Nobody is left who could wake it.
    assert!(!waiting.is_finished());

    let _shop = shop.close().await.open_again();
    assert_eq!(pool.call("price of apples").await.unwrap(), "1.20");
    assert_eq!(events.next().await.unwrap(), "apples are in season");
}

#[tokio::test]
async fn a_greeting_ends_the_connection_where_nobody_hears_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let pool = Pool::builder(address).protocol(Ordered::new(Framing::u32_le())).build().unwrap();
    let mut events = pool.events();
    let (client, _) = listener.accept().await.unwrap();
    Framed::new(client, Framing::u32_le()).send("welcome to the shop".into()).await.unwrap();
    let loss = lost(&mut events).await;
    assert_eq!(loss.cause, LossCause::Violation(Violation::Unasked));
}

#[tokio::test]
async fn a_greeting_that_is_expected_is_heard_before_the_first_call() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let protocol = Ordered::new(Framing::u32_le()).greeting(2);
    let pool = Pool::builder(address).protocol(protocol).build().unwrap();
    let (client, _) = listener.accept().await.unwrap();
    let mut client = Framed::new(client, Framing::u32_le());
    client.send("welcome to the shop".into()).await.unwrap();
    assert_eq!(pool.status().ready, 0);
    client.send("apples are in season".into()).await.unwrap();
    let call = tokio::spawn(async move { pool.call("price of apples").await });
    assert_eq!(timeout(BOUND, client.next()).await.unwrap().unwrap().unwrap(), "price of apples");
    client.send("1.20".into()).await.unwrap();
    assert_eq!(call.await.unwrap().unwrap(), "1.20");
}

async fn lost(events: &mut Subscription<Event>) -> std::sync::Arc<Loss> {
    loop {
        if let Event::Lost { loss, .. } = timeout(BOUND, events.next()).await.unwrap().unwrap() {
            return loss;
        }
    }
}

#[tokio::test]
async fn the_news_end_with_the_pool() {
    let shop = Shop::open(Manner::Plain).await;
    let mut builder =
        Pool::builder(shop.address.to_string()).protocol(Ordered::new(Framing::u32_le()));
    let mut events = builder.events();
    let told = tokio::spawn(new_news::tell(builder.events()));
    let pool = builder.build().unwrap();
    pool.ready(BOUND).await.unwrap();
    shop.close().await;
    let loss = lost(&mut events).await;
    assert_eq!(loss.cause, LossCause::ClosedByPeer);
    drop(pool);
    timeout(BOUND, told).await.unwrap().unwrap();
}
