//! What is said on a connection before any call.

use std::time::{Duration, Instant};

use steadfast::{
    CallCause, ConnectCause, Event, Framing, Ordered, Outcome, Permanent, Phase, Timeouts,
    Violation,
};

use crate::server::{Played, next, ordered, pool, say};
use crate::support::log_in::{LogIn, Surprise};
use crate::support::news;
use crate::support::times::ms;

const LONG: Duration = Duration::from_secs(60);

fn log_in() -> LogIn {
    LogIn(ordered())
}

#[tokio::test]
async fn calls_begin_when_the_connection_was_opened() {
    let (server, address) = Played::start().await;
    let pool = pool(address).protocol(log_in()).build().unwrap();
    let call = pool.call("hello");
    let serving = async {
        let mut line = server.accept().await;
        assert_eq!(next(&mut line).await.unwrap(), "login");
        let early = tokio::time::timeout(ms(50), futures::StreamExt::next(&mut line)).await;
        assert!(early.is_err(), "{early:?}");
        say(&mut line, "welcome").await;
        assert_eq!(next(&mut line).await.unwrap(), "hello");
        say(&mut line, "done").await;
    };
    assert_eq!(futures::join!(call, serving).0.unwrap(), "done");
}

#[tokio::test]
async fn what_comes_right_behind_the_answer_to_the_log_in_is_not_lost() {
    let (server, address) = Played::start().await;
    let pool = pool(address).protocol(log_in()).build().unwrap();
    let mut events = pool.events();
    let mut line = server.accept().await;
    next(&mut line).await.unwrap();
    // Nobody asked for the second, and it was not overlooked.
    tokio::io::AsyncWriteExt::write_all(line.get_mut(), b"\x07\0\0\0welcome\x01\0\0\0!")
        .await
        .unwrap();
    let loss = news::lost(&mut events).await;
    assert_eq!(loss.cause, Violation::Unasked.into());
    assert_eq!(next(&mut line).await, None);
}

#[tokio::test]
async fn a_wrong_password_fails_calls_at_once_and_is_tried_again_beside() {
    let (server, address) = Played::start().await;
    let pool = pool(address).protocol(log_in()).build().unwrap();
    let mut events = pool.events();
    let began = Instant::now();
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.request("hello").timeout(LONG).send().await }
    });
    let mut line = server.accept().await;
    next(&mut line).await.unwrap();
    say(&mut line, "wrong password").await;
    let error = call.await.unwrap().unwrap_err();
    assert!(began.elapsed() < LONG / 2, "{error}");
    assert_eq!(error.outcome(), Outcome::NotSent);
    let CallCause::Unavailable(outage) = error.cause() else { panic!("{error}") };
    let last = outage.last.as_ref().unwrap();
    assert_eq!(last.phase, Phase::Handshake);
    let ConnectCause::Hook(hook) = &last.cause else { panic!("{error}") };
    assert!(hook.is_permanent() && hook.to_string() == "wrong password", "{error}");
    // Somebody has put it right.
    let mut line = server.accept().await;
    next(&mut line).await.unwrap();
    say(&mut line, "welcome").await;
    news::ready(&mut events).await;
}

#[tokio::test]
async fn calls_wait_for_a_server_that_is_full_and_for_one_that_says_something_odd() {
    for answer in ["full", "hm"] {
        let (server, address) = Played::start().await;
        let pool = pool(address).protocol(log_in()).build().unwrap();
        let mut events = pool.events();
        let call = tokio::spawn({
            let pool = pool.clone();
            async move { pool.request("hello").timeout(LONG).send().await }
        });
        let mut line = server.accept().await;
        next(&mut line).await.unwrap();
        say(&mut line, answer).await;
        let (error, _) = news::dial_failed(&mut events).await;
        match (answer, &error.cause) {
            ("full", ConnectCause::Busy(busy)) => assert_eq!(&*busy.text, "no room"),
            ("hm", ConnectCause::Hook(hook)) => {
                assert!(hook.as_error().downcast_ref::<Surprise>().is_some(), "{error}");
            }
            _ => panic!("{error}"),
        }
        let mut line = server.accept().await;
        next(&mut line).await.unwrap();
        say(&mut line, "welcome").await;
        assert_eq!(next(&mut line).await.unwrap(), "hello");
        say(&mut line, "done").await;
        assert_eq!(call.await.unwrap().unwrap(), "done");
    }
}

#[tokio::test]
async fn a_server_that_does_not_answer_the_log_in_is_given_up_after_the_time_of_the_handshake() {
    let (server, address) = Played::start().await;
    let timeouts = Timeouts::default().handshake(ms(1000));
    let mut builder = pool(address).protocol(log_in()).timeouts(timeouts);
    let mut events = builder.events();
    let _pool = builder.build().unwrap();
    let mut silent = server.accept().await;
    let (error, _) = news::dial_failed(&mut events).await;
    assert_eq!(error.phase, Phase::Handshake);
    assert_eq!(error.cause, ConnectCause::TimedOut { limit: ms(1000) });
    next(&mut silent).await.unwrap();
    assert_eq!(next(&mut silent).await, None, "it was closed");
    let mut line = server.accept().await;
    next(&mut line).await.unwrap();
    say(&mut line, "welcome").await;
    news::ready(&mut events).await;
}

#[tokio::test]
async fn a_server_that_closes_during_the_log_in_is_told_as_such() {
    let (server, address) = Played::start().await;
    let mut builder = pool(address).protocol(log_in());
    let mut events = builder.events();
    let _pool = builder.build().unwrap();
    let mut line = server.accept().await;
    next(&mut line).await.unwrap();
    drop(line);
    let (error, _) = news::dial_failed(&mut events).await;
    assert_eq!((error.phase, &error.cause), (Phase::Handshake, &ConnectCause::ClosedByPeer));
}

#[tokio::test]
async fn something_that_is_no_frame_is_shown_and_fails_calls_at_once() {
    let (server, address) = Played::start().await;
    let framing = Framing::u32_le().limit(1000);
    let mut builder = pool(address).protocol(LogIn(Ordered::new(framing)));
    let mut events = builder.events();
    let pool = builder.build().unwrap();
    let mut line = server.accept().await;
    let nonsense = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(line.get_mut(), nonsense).await.unwrap();
    let (error, _) = news::dial_failed(&mut events).await;
    let ConnectCause::Violation { opening, .. } = &error.cause else { panic!("{error}") };
    assert_eq!(opening.to_string(), "\"HTTP/1.1 400 Bad\", as HTTP does");
    let error = pool.request("hello").timeout(LONG).send().await.unwrap_err();
    assert!(matches!(error.cause(), CallCause::Unavailable(_)), "{error}");
}

/// A hook talks in the protocol's own words.
#[tokio::test]
async fn an_on_connect_hook_calls_over_a_foreign_protocol() {
    let (server, address) = Played::start().await;
    let mut builder = pool(address).protocol(ordered()).on_connect(|mut conversation| async move {
        match &*conversation.call("login").await? {
            b"welcome" => Ok(()),
            _ => Err(Permanent::new("wrong password").into()),
        }
    });
    let mut events = builder.events();
    let pool = builder.build().unwrap();
    let mut line = server.accept().await;
    assert_eq!(next(&mut line).await.unwrap(), "login");
    say(&mut line, "no").await;
    let (error, _) = news::dial_failed(&mut events).await;
    assert_eq!(error.phase, Phase::Hook);
    let error = pool.request("hello").timeout(LONG).send().await.unwrap_err();
    assert!(matches!(error.cause(), CallCause::Unavailable(_)), "{error}");
    let mut line = server.accept().await;
    next(&mut line).await.unwrap();
    say(&mut line, "welcome").await;
    let Event::Ready { .. } = news::event(&mut events, "ready", |event| match event {
        Event::Ready { .. } => Some(event),
        _ => None,
    })
    .await
    else {
        unreachable!()
    };
    tokio::spawn(crate::server::echo(line));
    assert_eq!(pool.call("hello").await.unwrap(), "hello");
}

/// What the hook has left unanswered has its turn, and a server for one request at a time still sees one.
#[tokio::test]
async fn calls_wait_for_the_answer_to_what_a_hook_has_left_behind() {
    let (server, address) = Played::start().await;
    let mut builder = pool(address).protocol(ordered()).on_connect(|mut conversation| async move {
        let _ = tokio::time::timeout(ms(500), conversation.call("impatient")).await;
        Ok(())
    });
    let mut events = builder.events();
    let pool = builder.build().unwrap();
    let mut line = server.accept().await;
    assert_eq!(next(&mut line).await.unwrap(), "impatient");
    news::ready(&mut events).await;
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call("hello").await }
    });
    let early = tokio::time::timeout(ms(50), futures::StreamExt::next(&mut line)).await;
    assert!(early.is_err(), "{early:?}");
    say(&mut line, "for the hook").await;
    assert_eq!(next(&mut line).await.unwrap(), "hello");
    say(&mut line, "for the call").await;
    assert_eq!(call.await.unwrap().unwrap(), "for the call");
}

#[tokio::test]
async fn a_call_that_failed_in_a_hook_does_not_say_of_the_one_that_waits_whether_it_ran() {
    let (server, address) = Played::start().await;
    let pool = pool(address)
        .protocol(ordered())
        .on_connect(|mut conversation| async move {
            conversation.call("login").await?;
            Ok(())
        })
        .build()
        .unwrap();
    let call = tokio::spawn(async move { pool.request("hello").timeout(ms(300)).send().await });
    let hangs_up = async {
        loop {
            let mut line = server.accept().await;
            // None: the call is over, and its pool with it.
            if let Some(word) = next(&mut line).await {
                assert_eq!(word, "login");
            }
        }
    };
    let error = tokio::select! {
        () = hangs_up => unreachable!(),
        error = call => error.unwrap().unwrap_err(),
    };
    assert_eq!(error.outcome(), Outcome::NotSent);
    assert!(!error.to_string().contains("may have run"), "{error}");
}

#[tokio::test]
async fn a_word_that_is_no_frame_is_waited_out() {
    let (server, address) = Played::start().await;
    let mut builder = pool(address).protocol(LogIn(ordered()));
    let mut events = builder.events();
    let pool = builder.build().unwrap();
    let call = tokio::spawn(async move { pool.request("hello").timeout(LONG).send().await });
    tokio::io::AsyncWriteExt::write_all(server.accept().await.get_mut(), b"FULL!").await.unwrap();
    let (error, _) = news::dial_failed(&mut events).await;
    assert!(
        matches!(&error.cause, ConnectCause::NoFrame { opening, .. } if opening.as_bytes() == b"FULL!")
    );
    let mut line = server.accept().await;
    assert_eq!(next(&mut line).await.unwrap(), "login");
    say(&mut line, "welcome").await;
    tokio::spawn(crate::server::echo(line));
    assert_eq!(call.await.unwrap().unwrap(), "hello");
}
