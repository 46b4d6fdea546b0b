//! `docs/protocol.md` suffices to write a peer: the one in `tests/peer/steadfast_peer.py` was written from it alone, in
//! Python with nothing but its standard library. It is called, killed and started again, and it calls.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use steadfast::{
    Bytes, Call, CallCause, ErrorReply, Event, Outcome, Pool, Refusal, Server, Subscription,
};
use support::skipping::skip_unless_demanded;
use support::waits::soon;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peer/steadfast_peer.py");
const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol-vectors.json");

/// The peer with these arguments, to be killed when dropped; `None`, and a word about it, where there is no Python.
fn peer(arguments: &[&str]) -> Option<Command> {
    let version = std::process::Command::new("python3").arg("--version").output();
    if !version.is_ok_and(|output| output.status.success()) {
        skip_unless_demanded("needs python3");
        return None;
    }
    let mut command = Command::new("python3");
    command.arg(PEER).args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    Some(command)
}

/// A serving peer and the address that it listens on.
async fn serve(address: &str) -> Option<(Child, String)> {
    Some(started(peer(&["serve", "--listen", address])?).await)
}

/// Once it listens.
async fn started(mut serving: Command) -> (Child, String) {
    let mut child = serving.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = soon("its first line", lines.next_line()).await.unwrap().expect("a line");
    let address = line.strip_prefix("listening on ").expect("where it listens").to_owned();
    (child, address)
}

/// What a peer prints until it ends, and how it ends.
async fn output(mut command: Command) -> (ExitStatus, String) {
    let output = soon("the end of the peer", command.stderr(Stdio::inherit()).output()).await;
    let output = output.unwrap();
    (output.status, String::from_utf8(output.stdout).unwrap())
}

async fn next_event(events: &mut Subscription<Event>, wanted: impl Fn(&Event) -> bool) {
    soon("the event", async { while !wanted(&events.next().await.expect("the pool lives")) {} })
        .await;
}

#[tokio::test]
async fn the_peer_is_called_killed_and_called_again() {
    let Some((mut child, address)) = serve("127.0.0.1:0").await else { return };
    let pool = Pool::builder(&address).build().unwrap();
    let (mut events, mut pushes) = (pool.events(), pool.pushes());
    all_kinds_of_calls(&pool, &mut pushes).await;

    // SIGKILL in the middle of nothing: noticed without a call.
    child.start_kill().unwrap();
    soon("its death", child.wait()).await.unwrap();
    next_event(&mut events, |event| matches!(event, Event::Lost { .. })).await;
    let waiting = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.call("sent while it was away").await })
    };
    let Some((mut child, again)) = serve(&address).await else { return };
    assert_eq!(again, address);
    assert_eq!(soon("the answer", waiting).await.unwrap().unwrap(), "sent while it was away");
    next_event(&mut events, |event| matches!(event, Event::InstanceChanged { .. })).await;
    all_kinds_of_calls(&pool, &mut pushes).await;

    // SIGTERM: it says goodbye, and its port is free for the next.
    let pid = child.id().expect("it runs").to_string();
    let killed = Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]).status();
    assert!(soon("kill", killed).await.unwrap().success());
    next_event(&mut events, |event| matches!(event, Event::GoingAway { .. })).await;
    assert!(soon("its end", child.wait()).await.unwrap().success());
    let Some((_child, _)) = serve(&address).await else { return };
    assert_eq!(soon("the answer", pool.call("a third one")).await.unwrap(), "a third one");
    soon("the close", pool.close(Duration::from_secs(5))).await.unwrap();
}

async fn all_kinds_of_calls(pool: &Pool, pushes: &mut Subscription<Bytes>) {
    assert_eq!(soon("an answer", pool.call("small")).await.unwrap(), "small");
    let long: Bytes = (0..300_000u32).map(|n| n as u8).collect();
    assert_eq!(soon("an answer", pool.call(long.clone())).await.unwrap(), long);
    let many = futures::future::join_all((0..200).map(|n| pool.call(n.to_string())));
    for (n, reply) in soon("answers", many).await.into_iter().enumerate() {
        assert_eq!(reply.unwrap(), n.to_string());
    }
    let error = soon("an answer", pool.call("error 404 no apples")).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Remote);
    assert_eq!(error.cause(), &CallCause::Remote(ErrorReply::new(404, "no apples")));
    let error = soon("an answer", pool.call("refuse 4 0")).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Refused);
    assert!(matches!(error.cause(), CallCause::Refused(r) if r.code == Refusal::UNKNOWN));
    soon("an answer", pool.call("push some news")).await.unwrap();
    assert_eq!(soon("a push", pushes.next()).await.unwrap(), "some news");
    soon("a notification", pool.notify("by the way")).await.unwrap();
    let too_long = pool.call(vec![0; 1_048_577]).await.unwrap_err();
    assert!(matches!(too_long.cause(), CallCause::TooLong { limit: 1_048_576, .. }));
}

/// Its next memory of a client that it has forgotten takes all ids for new, so only the number tells that it is another.
#[tokio::test]
async fn the_peer_knows_a_call_again_and_tells_that_it_has_forgotten_one() {
    let caching = ["serve", "--listen", "127.0.0.1:0", "--cached-calls", "100"];
    let Some(serving) = peer(&caching) else { return };
    let (_child, address) = started(serving).await;
    let pool = Pool::builder(&address).build().unwrap();
    let many = futures::future::join_all((0..200).map(|n| pool.call(n.to_string())));
    for (n, reply) in soon("answers", many).await.into_iter().enumerate() {
        assert_eq!(reply.unwrap(), n.to_string());
    }
    // Were it run again, the connection would end again.
    assert_eq!(soon("the answer", pool.call("lose this")).await.unwrap(), "lose this");
    let error = soon("an end", pool.call("forget this")).await.unwrap_err();
    assert_eq!((error.outcome(), error.cause()), (Outcome::Indeterminate, &CallCause::Evicted));
    assert_eq!(soon("the answer", pool.call("and another")).await.unwrap(), "and another");
    soon("the close", pool.close(Duration::from_secs(5))).await.unwrap();
}

#[tokio::test]
async fn the_peer_calls_us() {
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap().to_string();
    let handle = server.handle();
    let serving = tokio::spawn(server.serve(|call: Call| async move {
        match &call.body()[..] {
            b"bad" => Err(ErrorReply::new(7, "as you like")),
            _ => Ok(call.into_body()),
        }
    }));

    let Some(one) = peer(&["call", "--to", &address, "hello, Rust"]) else { return };
    let (status, printed) = output(one).await;
    assert!(status.success());
    assert_eq!(printed, "hello, Rust\n");

    let many = ["call", "--to", &address, "--count", "40", "--size", "200000", "long and many "];
    let (status, printed) = output(peer(&many).expect("Python")).await;
    assert!(status.success());
    // `reply ID SIZE SHA256`: all alike but for their ids, of which each came once.
    let mut replies: Vec<Vec<_>> = printed.lines().map(|line| line.split(' ').collect()).collect();
    assert!(replies.iter().all(|r| r[0] == "reply" && r[2..] == replies[0][2..]), "{printed}");
    assert_eq!(replies[0][2], "200000");
    replies.sort();
    replies.dedup();
    assert_eq!(replies.len(), 40);

    let (status, printed) = output(peer(&["call", "--to", &address, "bad"]).expect("Python")).await;
    assert!(status.success());
    assert_eq!(printed, "error 7 as you like\n");

    handle.shutdown(Duration::from_secs(5));
    assert_eq!(soon("the server's end", serving).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn the_peer_agrees_with_the_test_vectors_and_makes_the_same() {
    let Some(check) = peer(&["check-vectors", VECTORS]) else { return };
    let (status, printed) = output(check).await;
    assert!(status.success(), "{printed}");
    let (status, made) = output(peer(&["vectors"]).expect("Python")).await;
    assert!(status.success());
    assert_eq!(
        made,
        std::fs::read_to_string(VECTORS).unwrap(),
        "docs/protocol-vectors.json is stale"
    );
}
