//! Calls and their answers.

use std::sync::Arc;

use futures::{SinkExt as _, StreamExt as _};
use steadfast::{Bytes, CallCause, Conversation, Heartbeat, Outcome, Overload};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio_util::codec::Framed;

use crate::server::{ById, FRAMING, Played, echo, next, ordered, pool, say};
use crate::support::loopback::listen;
use crate::support::peer::accept;
use crate::support::times::ms;
use crate::support::waits::until;

#[tokio::test]
async fn a_server_that_answers_in_order_answers_calls() {
    let (listener, address) = listen().await;
    let pool = pool(address).protocol(ordered()).build().unwrap();
    tokio::spawn(async move {
        let mut frames = Framed::new(accept(&listener).await, FRAMING);
        while let Some(Ok(frame)) = frames.next().await {
            frames.send(Bytes::from(frame.to_ascii_uppercase())).await.unwrap();
        }
    });
    assert_eq!(pool.call("hello").await.unwrap(), "HELLO");
    let long = vec![b'x'; 1_000_000];
    assert_eq!(pool.call(long).await.unwrap(), vec![b'X'; 1_000_000]);
    pool.close(ms(5000)).await.unwrap();
}

#[tokio::test]
async fn a_server_that_answers_by_id_answers_calls() {
    let (server, address) = Played::start().await;
    let pool = pool(address).protocol(ById { max: 2 }).build().unwrap();
    tokio::spawn(async move { echo(server.accept().await).await });
    for number in 0..10 {
        let body = format!("call {number}");
        assert_eq!(pool.call(body.clone()).await.unwrap(), body);
    }
}

/// The early reply: the server says no to a long request before it has read it, and closes.
#[tokio::test]
async fn an_answer_that_comes_before_the_request_was_read_is_delivered() {
    let (server, address) = Played::start().await;
    let pool = pool(address).protocol(ordered()).build().unwrap();
    let call = pool.call(vec![b'x'; 10_000_000]);
    let answering = async {
        let mut line = server.accept().await;
        line.get_mut().read_u8().await.unwrap();
        say(&mut line, "too long").await;
        // Until the client has it; else the reset would destroy it.
        line
    };
    let (answer, _line) = futures::join!(call, answering);
    assert_eq!(answer.unwrap(), "too long");
}

#[tokio::test]
async fn a_body_that_does_not_fit_the_framing_fails_at_once_and_costs_nothing_else() {
    let (server, address) = Played::start().await;
    let framing = FRAMING.limit(10);
    let pool = pool(address).protocol(steadfast::Ordered::new(framing)).build().unwrap();
    tokio::spawn(async move { echo(server.accept().await).await });
    assert_eq!(pool.call("0123456789").await.unwrap(), "0123456789");
    let error = pool.call("0123456789x").await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent);
    assert_eq!(*error.cause(), CallCause::TooLong { length: 11, limit: 10 });
    assert_eq!(pool.status().in_flight, 0);
    assert_eq!(pool.call("again").await.unwrap(), "again");
}

#[tokio::test]
async fn a_protocol_without_notifications_says_so() {
    let (server, address) = Played::start().await;
    let pool = pool(address).protocol(ById { max: 7 }).build().unwrap();
    tokio::spawn(async move { echo(server.accept().await).await });
    let error = pool.notify("hello").await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent);
    assert!(matches!(error.cause(), CallCause::Unsendable(_)), "{error}");
    assert_eq!(pool.call("hello").await.unwrap(), "hello");
}

#[tokio::test]
async fn a_call_for_which_there_is_no_id_fails_at_once_and_says_so() {
    let (server, address) = Played::start().await;
    let heard = Arc::new(Notify::new());
    let hears = heard.clone();
    let leaves_three_unanswered = move |mut conversation: Conversation| {
        let heard = hears.clone();
        async move {
            for _ in 0..3 {
                tokio::select! {
                    answer = conversation.call("left") => drop(answer?),
                    () = heard.notified() => {}
                }
            }
            Ok(())
        }
    };
    let protocol = ById { max: 3 };
    let pool = pool(address).protocol(protocol).on_connect(leaves_three_unanswered);
    let pool = pool.build().unwrap();
    let mut line = server.accept().await;
    for _ in 0..3 {
        assert!(next(&mut line).await.unwrap().ends_with("left"));
        heard.notify_one();
    }
    let error = pool.call("hello").await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotSent);
    assert_eq!(*error.cause(), CallCause::Overloaded(Overload::Ids { limit: 3 }));
}

/// The wrong port: where nothing is said before the first call, its answer tells.
#[tokio::test]
async fn an_answer_of_another_protocol_is_shown() {
    let (server, address) = Played::start().await;
    let protocol = steadfast::Ordered::new(FRAMING.limit(1000));
    let pool = pool(address).protocol(protocol).build().unwrap();
    let call = pool.call("hello");
    let answering = async {
        let mut line = server.accept().await;
        next(&mut line).await.unwrap();
        line.get_mut().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        line
    };
    let (error, _line) = futures::join!(call, answering);
    let error = error.unwrap_err().to_string();
    assert!(error.contains(r#"it begins with "HTTP/1.1 400 Bad", as HTTP does"#), "{error}");
}

/// A server that was written for one request at a time never sees two, and the heartbeat is one.
#[tokio::test]
async fn a_call_waits_for_the_answer_to_the_heartbeat() {
    let (server, address) = Played::start().await;
    let pool = pool(address)
        .protocol(ordered().heartbeat("ping"))
        .heartbeat(Heartbeat::every(ms(100)).give_up_after(ms(10_000)))
        .build()
        .unwrap();
    let mut line = server.accept().await;
    assert_eq!(next(&mut line).await.unwrap(), "ping");
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call("call").await }
    });
    until("the call has its place", || pool.status().in_flight == 1).await;
    let early = tokio::time::timeout(ms(50), line.next()).await;
    assert!(early.is_err(), "{early:?}");
    say(&mut line, "pong").await;
    assert_eq!(next(&mut line).await.unwrap(), "call");
    say(&mut line, "done").await;
    assert_eq!(call.await.unwrap().unwrap(), "done");
}
