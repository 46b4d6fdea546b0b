//! Peers that break the protocol, in both directions: each violation of `docs/protocol-vectors.json`, frames cut off in
//! the middle, garbage. A clear error each, the connection closed, everything else lives on, nothing panics.
//!
//! That nothing is allocated of what a hostile length claims is shown in `footprint.rs`.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::io::Write as _;
use std::net::Shutdown;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::Deserialize;
use steadfast::{
    Call, CallCause, ConnectCause, Event, Limits, LossCause, Outcome, Phase, Pool, Server,
    Subscription, Violation,
};
use support::local::start;
use support::scripted::{
    ERROR, GOAWAY, MAX_MESSAGE, PONG, REFUSED, REJECT, REPLY, REQUEST, Script, connect, expect,
    expect_fin, frame, hello, join, long_request, message, reply, request, welcome,
};
use support::waits::{soon, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[derive(Deserialize)]
struct Vectors {
    violations: Vec<Vector>,
}

/// What a peer sends, and the text of the violation that it is.
#[derive(Deserialize)]
struct Vector {
    name: String,
    to: String,
    after_handshake: bool,
    hex: String,
    text: String,
}

impl Vector {
    fn bytes(&self) -> Vec<u8> {
        let digits = |at| u8::from_str_radix(&self.hex[at..at + 2], 16).unwrap();
        (0..self.hex.len()).step_by(2).map(digits).collect()
    }
}

fn vectors(to: &str) -> Vec<Vector> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol-vectors.json");
    let Vectors { violations } =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let chosen: Vec<_> = violations.into_iter().filter(|vector| vector.to == to).collect();
    assert!(chosen.len() > 40, "the file has violations towards the {to}");
    chosen
}

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// From now on panics are counted, also those on tasks that nobody joins.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            before(panic);
        }));
    });
}

fn assert_no_panic() {
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "panics, see above");
}

/// An echo server with the limits of the vectors; ends with its runtime.
async fn echo() -> std::net::SocketAddr {
    let server = Server::builder().message(MAX_MESSAGE as usize);
    start(server, |call: Call| async move { Ok(call.into_body()) }).await
}

fn pool(script: &Script) -> (Pool, Subscription<Event>) {
    let limits = Limits::default().message(MAX_MESSAGE as usize);
    let pool = Pool::builder(script.address.to_string()).limits(limits).build().unwrap();
    // These tests have one thread: nothing has happened yet.
    let events = pool.events();
    (pool, events)
}

async fn loss(events: &mut Subscription<Event>) -> LossCause {
    soon("the loss", async {
        loop {
            if let Event::Lost { loss, .. } = events.next().await.expect("the pool lives") {
                return loss.cause.clone();
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_server_answers_every_violation_with_its_text_and_fin_and_lives_on() {
    count_panics();
    let address = echo().await;
    for vector in vectors("server") {
        println!("{}", vector.name);
        let (mut stream, last_word) = if vector.after_handshake {
            (join(address).await, GOAWAY)
        } else {
            (connect(address).await, REJECT)
        };
        stream.write_all(&vector.bytes()).await.unwrap();
        let answer = expect(&mut stream, &[GOAWAY, REJECT]).await;
        assert_eq!((answer.kind, answer.code()), (last_word, 2), "{}", vector.name);
        assert_eq!(answer.text(), vector.text, "{}", vector.name);
        expect_fin(&mut stream).await;
    }
    let pool = Pool::builder(address.to_string()).build().unwrap();
    assert_eq!(soon("an answer", pool.call("still there?")).await.unwrap(), "still there?");
    assert_no_panic();
}

#[tokio::test]
async fn the_client_reports_every_violation_of_a_server_with_its_text() {
    count_panics();
    for vector in vectors("client").iter().filter(|vector| vector.after_handshake) {
        println!("{}", vector.name);
        let script = Script::bind().await;
        let (pool, mut events) = pool(&script);
        let calls = [pool.clone(), pool.clone()]
            .map(|pool| tokio::spawn(async move { pool.call("one pound").await }));
        let mut stream = script.welcome().await;
        for _ in 0..2 {
            expect(&mut stream, &[REQUEST]).await;
        }
        stream.write_all(&vector.bytes()).await.unwrap();
        let goodbye = expect(&mut stream, &[GOAWAY]).await;
        assert_eq!((goodbye.code(), goodbye.text()), (2, &*vector.text), "{}", vector.name);
        expect_fin(&mut stream).await;
        drop(stream);
        let LossCause::Violation(violation) = loss(&mut events).await else {
            panic!("{} is no violation", vector.name);
        };
        assert_eq!(violation.to_string(), vector.text, "{}", vector.name);
        for call in calls {
            let error = soon("the call's end", call).await.unwrap().unwrap_err();
            assert_eq!(error.outcome(), Outcome::Indeterminate, "{}: {error}", vector.name);
            assert!(matches!(error.cause(), CallCause::Lost(_)), "{}: {error}", vector.name);
        }
    }
    assert_no_panic();
}

#[tokio::test]
async fn a_violation_in_the_handshake_is_the_cause_of_a_failed_dial_and_of_waiting_calls() {
    count_panics();
    for vector in vectors("client").iter().filter(|vector| !vector.after_handshake) {
        println!("{}", vector.name);
        let script = Script::bind().await;
        let (pool, mut events) = pool(&script);
        let call = tokio::spawn({
            let pool = pool.clone();
            async move { pool.call("one pound").await }
        });
        let mut stream = script.accept().await;
        stream.write_all(&vector.bytes()).await.unwrap();
        let error = soon("the failed dial", async {
            loop {
                match events.next().await.expect("the pool lives") {
                    Event::DialFailed { error, .. } => return error,
                    Event::Dialing { .. } => {}
                    other => panic!("{}: {other:?}", vector.name),
                }
            }
        })
        .await;
        assert_eq!(error.phase, Phase::Handshake, "{}", vector.name);
        let ConnectCause::Violation { violation, .. } = &error.cause else {
            panic!("{} is no violation: {error}", vector.name);
        };
        assert_eq!(violation.to_string(), vector.text, "{}", vector.name);
        let error = soon("the call's end", call).await.unwrap().unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotSent, "{}", vector.name);
        assert!(matches!(error.cause(), CallCause::Unavailable(_)), "{}: {error}", vector.name);
    }
    assert_no_panic();
}

#[tokio::test]
async fn a_version_that_was_not_offered_is_refused() {
    let script = Script::bind().await;
    let (_pool, mut events) = pool(&script);
    let mut stream = script.accept().await;
    let mut answer = welcome(1, MAX_MESSAGE, 1);
    answer[6] = 9;
    stream.write_all(&answer).await.unwrap();
    expect_fin(&mut stream).await;
    let error = soon("the failed dial", async {
        loop {
            if let Some(Event::DialFailed { error, .. }) = events.next().await {
                return error;
            }
        }
    })
    .await;
    let ConnectCause::Violation { violation, .. } = &error.cause else { panic!("{error}") };
    assert_eq!(*violation, Violation::VersionNotOffered { version: 9 });
}

#[tokio::test]
async fn a_frame_cut_off_in_the_middle_is_a_loss_and_the_call_may_have_run() {
    let whole = reply(1, b"an answer that is never complete");
    for length in 0..whole.len() {
        let script = Script::bind().await;
        let (pool, mut events) = pool(&script);
        let call = tokio::spawn(async move { pool.call("one pound").await });
        let mut stream = script.welcome().await;
        expect(&mut stream, &[REQUEST]).await;
        stream.write_all(&whole[..length]).await.unwrap();
        drop(stream);
        assert_eq!(loss(&mut events).await, LossCause::ClosedByPeer, "after {length} bytes");
        let error = soon("the call's end", call).await.unwrap().unwrap_err();
        assert_eq!(error.outcome(), Outcome::Indeterminate, "after {length} bytes");
    }
}

#[tokio::test]
async fn a_long_reply_cut_off_between_its_chunks_is_a_loss_too() {
    let script = Script::bind().await;
    let (pool, mut events) = pool(&script);
    let call = tokio::spawn(async move { pool.call("one pound").await });
    let mut stream = script.welcome().await;
    expect(&mut stream, &[REQUEST]).await;
    let whole = message(REPLY, 1, &vec![b'x'; 200_000]);
    stream.write_all(&whole[..140_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(loss(&mut events).await, LossCause::ClosedByPeer);
    let error = soon("the call's end", call).await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Indeterminate);
}

#[tokio::test]
async fn the_server_outlives_clients_that_leave_in_the_middle_of_a_frame() {
    count_panics();
    let address = echo().await;
    let first = [hello(0), request(1, 0, b"one pound")].concat();
    for length in 0..first.len() {
        let mut stream = connect(address).await;
        stream.write_all(&first[..length]).await.unwrap();
        stream.shutdown().await.unwrap();
        expect_fin(&mut stream).await;
    }
    let mut stream = join(address).await;
    stream.write_all(&request(1, 0, b"still there?")).await.unwrap();
    assert_eq!(expect(&mut stream, &[REPLY]).await.body(), b"still there?");
    assert_no_panic();
}

#[tokio::test]
async fn garbage_closes_the_connection_and_nothing_else() {
    count_panics();
    let address = echo().await;
    let bystander = Pool::builder(address.to_string()).build().unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..100 {
        let garbage = garbage(&mut rng);
        let mut stream = match round % 2 {
            0 => connect(address).await,
            _ => join(address).await,
        };
        let _ = stream.write_all(&garbage).await;
        let _ = stream.shutdown().await;
        soon("the server's end", read_to_the_end(stream)).await;
    }
    assert_eq!(soon("an answer", bystander.call("unhurt?")).await.unwrap(), "unhurt?");
    for round in 0..100 {
        let script = Script::bind().await;
        let (pool, mut events) = pool(&script);
        let mut stream = match round % 2 {
            0 => script.accept().await,
            _ => script.welcome().await,
        };
        let _ = stream.write_all(&garbage(&mut rng)).await;
        let _ = stream.shutdown().await;
        soon("the end of this connection", async {
            loop {
                match events.next().await.expect("the pool lives") {
                    Event::DialFailed { .. } | Event::Lost { .. } => return,
                    _ => {}
                }
            }
        })
        .await;
        drop(pool);
        soon("the client's end", read_to_the_end(stream)).await;
    }
    assert_no_panic();
}

/// Random bytes, half of the time in frames of kinds that exist, so that more than the first length is looked at.
fn garbage(rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut noise = |most| (0..rng.usize(1..most)).map(|_| rng.u8(..)).collect::<Vec<u8>>();
    if noise(3)[0] % 2 == 0 {
        return noise(2000);
    }
    let kinds =
        [1, 2, 3, 4, 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x20, 0x21, 0x22, 0x90];
    let mut bytes = Vec::new();
    for _ in 0..20 {
        let kind = kinds[usize::from(noise(3)[0]) % kinds.len()];
        // Small ids and totals meet each other.
        let mut fields = noise(80);
        fields.iter_mut().for_each(|byte| *byte &= 0x03);
        bytes.extend(frame(kind, &[&fields]));
    }
    bytes
}

async fn read_to_the_end(mut stream: TcpStream) {
    // An RST is as good an end here: what this peer sent late deserves no better.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn what_looks_wrong_but_is_allowed_is_borne() {
    let script = Script::bind().await;
    let (pool, mut events) = pool(&script);
    let call = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.call("one pound").await })
    };
    let mut stream = script.welcome().await;
    let first = expect(&mut stream, &[REQUEST]).await;
    let allowed = [
        frame(0x80, &[b"an addition of version 2"]),
        frame(PONG, &[&99u64.to_be_bytes()]),
        reply(first.id(), b"the answer"),
        // Twice, and then as an error, and a rest of it.
        reply(first.id(), b"another answer"),
        frame(ERROR, &[&first.id().to_be_bytes(), &[0; 4], b"too late"]),
        frame(REFUSED, &[&first.id().to_be_bytes(), &[0; 8]]),
        message(REPLY, first.id(), &vec![0; 100_000]),
    ];
    stream.write_all(&allowed.concat()).await.unwrap();
    assert_eq!(soon("the answer", call).await.unwrap().unwrap(), "the answer");
    let again = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.call("one more").await })
    };
    let second = expect(&mut stream, &[REQUEST]).await;
    stream.write_all(&reply(second.id(), b"on the same connection")).await.unwrap();
    assert_eq!(soon("the answer", again).await.unwrap().unwrap(), "on the same connection");
    while let Some(event) = events.try_next() {
        assert!(!matches!(event, Event::Lost { .. }), "{event:?}");
    }
}

#[tokio::test]
async fn a_request_longer_than_the_server_takes_is_refused_and_the_connection_lives() {
    let address = echo().await;
    let mut stream = join(address).await;
    let begun = long_request(1, MAX_MESSAGE + 1, b"begins");
    let rest = frame(0x14, &[&[0], &1u64.to_be_bytes(), b"goes on"]);
    stream.write_all(&[begun, rest, request(2, 0, b"short")].concat()).await.unwrap();
    let refused = expect(&mut stream, &[REFUSED, REPLY]).await;
    assert_eq!((refused.kind, refused.id(), refused.code()), (REFUSED, 1, 5));
    assert_eq!(expect(&mut stream, &[REPLY]).await.body(), b"short");
}

#[tokio::test]
async fn what_came_behind_the_handshake_is_judged_even_if_a_fin_came_with_it() {
    let address = echo().await;
    // In the kernel's hands before the server, which shares this thread, can look.
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(&[hello(0), frame(0x7f, &[])].concat()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    stream.set_nonblocking(true).unwrap();
    let mut stream = TcpStream::from_std(stream).unwrap();
    let goodbye = expect(&mut stream, &[GOAWAY]).await;
    assert_eq!((goodbye.code(), goodbye.text()), (2, "unknown kind 0x7f"));
    expect_fin(&mut stream).await;
}

#[tokio::test]
async fn a_client_without_a_hello_is_dropped_after_the_servers_bound() {
    let server = Server::builder().handshake(Duration::from_millis(50)).connections(1);
    let address = start(server, |call: Call| async move { Ok(call.into_body()) }).await;
    let mut silent = connect(address).await;
    expect_fin(&mut silent).await;
    // Its place is free again.
    let pool = Pool::builder(address.to_string()).build().unwrap();
    assert_eq!(soon("an answer", pool.call("my turn")).await.unwrap(), "my turn");
    until("the call to be over", || pool.status().in_flight == 0).await;
}
