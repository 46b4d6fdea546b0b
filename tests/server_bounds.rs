//! What a client can do to a server without breaking the protocol.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use steadfast::{Bytes, Call, ErrorReply, Handler, Pool, Pusher, ReplyCache, Server};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use support::local::{resident_bytes, start};
use support::scripted::*;
use support::waits::{soon, until};

/// Some of these measure the memory of the process, so none runs beside another.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const LONG: Duration = Duration::from_secs(60);

/// Begins everything and ends nothing before it may.
#[derive(Clone)]
struct Slow {
    begun: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

impl Slow {
    fn new() -> Self {
        Self { begun: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
    }

    async fn work(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let _ = self.gate.acquire().await;
    }
}

impl Handler for Slow {
    async fn call(&self, call: Call) -> Result<Bytes, ErrorReply> {
        self.work().await;
        Ok(call.into_body())
    }

    async fn notified(&self, _: Call) {
        self.work().await;
    }
}

/// Writes what the server takes, until it takes no more for a while or all is written.
async fn flood(
    stream: &mut tokio::net::TcpStream,
    mut bytes: impl FnMut(u64) -> Vec<u8>,
    count: u64,
) -> u64 {
    for number in 0..count {
        let bytes = bytes(number);
        let write = stream.write_all(&bytes);
        match tokio::time::timeout(Duration::from_secs(2), write).await {
            Ok(Ok(())) => {}
            _ => return number,
        }
    }
    count
}

#[tokio::test]
async fn notifications_that_nobody_works_off_are_bounded() {
    let _alone = ALONE.lock().await;
    let slow = Slow::new();
    let address = start(Server::builder().in_flight(100).held_bytes(1 << 20), slow.clone()).await;
    let mut stream = join(address).await;
    let body = vec![7; 1000];
    let before = resident_bytes();
    let taken = flood(&mut stream, |number| message(NOTIFY, number + 1, &body), 100_000).await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(
        slow.begun.load(Ordering::SeqCst) <= 200,
        "{} at work",
        slow.begun.load(Ordering::SeqCst)
    );
    assert!(taken < 100_000, "100 MB taken, grown by {} MiB", grown >> 20);
}

#[tokio::test]
async fn calls_that_are_cancelled_but_still_worked_on_are_bounded() {
    let _alone = ALONE.lock().await;
    let slow = Slow::new();
    let address = start(Server::builder().in_flight(100).held_bytes(1 << 20), slow.clone()).await;
    let mut stream = join(address).await;
    for id in 1..300 {
        // What is cancelled before it began does not begin.
        stream.write_all(&request(id, 0, b"x")).await.unwrap();
        stream.write_all(&frame(PING, &[&[9; 8]])).await.unwrap();
        expect(&mut stream, &[PONG]).await;
        stream.write_all(&cancel(id)).await.unwrap();
    }
    let begun = slow.begun.load(Ordering::SeqCst);
    assert!(begun <= 100, "{begun} of at most 100 at work");
}

#[tokio::test]
async fn a_server_that_holds_all_it_may_reads_no_more() {
    let _alone = ALONE.lock().await;
    let slow = Slow::new();
    let address = start(Server::builder().held_bytes(1 << 20), slow.clone()).await;
    let mut stream = join(address).await;
    let body = vec![7; 60_000];
    let taken = flood(&mut stream, |number| request(number + 1, 0, &body), 1000).await;
    assert!(taken < 1000, "60 MB taken where 1 MiB may be held");
    assert!(slow.begun.load(Ordering::SeqCst) <= 20);
    // And it goes on where it stopped.
    slow.gate.add_permits(100_000);
    for _ in 0..taken {
        expect(&mut stream, &[REPLY]).await;
    }
}

/// A cancelled request that still waits for a handler's turn does not wait any longer.
#[tokio::test]
async fn a_cancelled_request_that_waits_for_its_turn_is_forgotten() {
    let _alone = ALONE.lock().await;
    let slow = Slow::new();
    let address = start(Server::builder().handlers(1).in_flight(2000), slow.clone()).await;
    let mut stream = join(address).await;
    stream.write_all(&request(1, 0, b"works")).await.unwrap();
    until("the first at work", || slow.begun.load(Ordering::SeqCst) == 1).await;
    for id in 2..1000 {
        stream.write_all(&request(id, 0, b"x")).await.unwrap();
        stream.write_all(&cancel(id)).await.unwrap();
    }
    stream.write_all(&request(1000, 0, b"last")).await.unwrap();
    stream.write_all(&frame(PING, &[&[9; 8]])).await.unwrap();
    expect(&mut stream, &[PONG]).await;
    slow.gate.add_permits(100);
    let ids = [
        expect(&mut stream, &[REPLY, REFUSED]).await,
        expect(&mut stream, &[REPLY, REFUSED]).await,
    ];
    assert_eq!(ids.map(|frame| (frame.kind, frame.id())), [(REPLY, 1), (REPLY, 1000)]);
    assert_eq!(slow.begun.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_client_that_never_says_hello_does_not_hold_up_the_shutdown() {
    let _alone = ALONE.lock().await;
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
    let serving = tokio::spawn(server.serve(Slow::new()));
    let _silent = connect(address).await;
    // Accepted in turn: the silent one is in, too.
    let pool = Pool::builder(address.to_string()).build().unwrap();
    pool.ready(LONG).await.unwrap();
    pool.close(LONG).await.unwrap();
    let began = Instant::now();
    handle.shutdown(LONG);
    soon("the end", serving).await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

struct Owned(Arc<AtomicUsize>);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        b"owned"
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_reply_to_a_client_that_has_gone_is_dropped_though_somebody_keeps_its_pusher() {
    let _alone = ALONE.lock().await;
    let dropped = Arc::new(AtomicUsize::new(0));
    let (pushers, mut kept) = mpsc::unbounded_channel::<Pusher>();
    // With one, the client might come back for the reply.
    let no_cache = Server::builder().reply_cache(ReplyCache::off());
    let server = no_cache.bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let counter = dropped.clone();
    tokio::spawn(server.serve(move |call: Call| {
        let (pushers, counter) = (pushers.clone(), counter.clone());
        async move {
            pushers.send(call.pusher()).unwrap();
            call.cancelled().await;
            Ok(Bytes::from_owner(Owned(counter)))
        }
    }));
    let mut stream = join(address).await;
    stream.write_all(&request(1, 0, b"x")).await.unwrap();
    let pusher = soon("the pusher", kept.recv()).await.unwrap();
    drop(stream);
    until("the reply is dropped", || dropped.load(Ordering::SeqCst) == 1).await;
    drop(pusher);
}

/// What is held is what is counted: a byte of a request must not hold the 64 KiB that came with it.
#[tokio::test]
async fn small_requests_do_not_hold_the_bytes_that_came_with_them() {
    let _alone = ALONE.lock().await;
    let slow = Slow::new();
    let address = start(Server::builder().held_bytes(1 << 20), slow.clone()).await;
    let mut stream = join(address).await;
    let ignored = frame(0x80, &[&vec![0; 65_000]]);
    let before = resident_bytes();
    let both = |number| [request(number + 1, 0, b"x"), ignored.clone()].concat();
    flood(&mut stream, both, 2000).await;
    until("all at work", || slow.begun.load(Ordering::SeqCst) == 2000).await;
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "2000 bytes held in {} MiB", grown >> 20);
}

#[tokio::test]
async fn shutting_down_twice_and_with_no_time_at_all_ends_once_and_says_what_was_cut_off() {
    let _alone = ALONE.lock().await;
    let slow = Slow::new();
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
    let serving = tokio::spawn(server.serve(slow.clone()));
    let pool = Pool::builder(address.to_string()).build().unwrap();
    let call = tokio::spawn(async move { pool.call("x").await });
    until("at work", || slow.begun.load(Ordering::SeqCst) == 1).await;
    handle.shutdown(Duration::ZERO);
    handle.shutdown(Duration::MAX);
    let error = soon("the end", serving).await.unwrap().unwrap_err();
    assert_eq!(error.unfinished, 1);
    let error = soon("the call", call).await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), steadfast::Outcome::Indeterminate);
    tokio::net::TcpListener::bind(address).await.unwrap();
}

/// Whoever they come from.
#[tokio::test]
async fn requests_that_wait_for_a_turn_are_bounded_over_all_connections() {
    let _alone = ALONE.lock().await;
    let builder = Server::builder().handlers(1).waiting(2);
    for builder in [builder.clone(), builder.reply_cache(ReplyCache::off())] {
        let slow = Slow::new();
        let address = start(builder, slow.clone()).await;
        let [mut one, mut other] = [join(address).await, join(address).await];
        one.write_all(&request(1, 0, b"works")).await.unwrap();
        until("the first at work", || slow.begun.load(Ordering::SeqCst) == 1).await;
        one.write_all(&request(2, 0, b"waits")).await.unwrap();
        taken(&mut one).await;
        other.write_all(&request(3, 0, b"waits, too")).await.unwrap();
        taken(&mut other).await;
        for (stream, id) in [(&mut one, 4), (&mut other, 5)] {
            stream.write_all(&request(id, 0, b"one too many")).await.unwrap();
            let refused = expect(stream, &[REPLY, REFUSED]).await;
            assert_eq!((refused.kind, refused.id(), refused.code()), (REFUSED, id, 1));
        }
        // Whoever gives up makes room, and what was refused is as good as never sent.
        one.write_all(&cancel(2)).await.unwrap();
        taken(&mut one).await;
        one.write_all(&request(4, 0, b"again")).await.unwrap();
        taken(&mut one).await;
        slow.gate.add_permits(100);
        for (stream, ids) in [(&mut one, vec![1, 4]), (&mut other, vec![3])] {
            for id in ids {
                let reply = expect(stream, &[REPLY, REFUSED]).await;
                assert_eq!((reply.kind, reply.id()), (REPLY, id));
            }
        }
        assert_eq!(slow.begun.load(Ordering::SeqCst), 3);
    }
}

/// Returns when the server has taken in all that was written.
async fn taken(stream: &mut tokio::net::TcpStream) {
    stream.write_all(&ping(1)).await.unwrap();
    expect(stream, &[PONG]).await;
}

/// Silent ones beyond the bound are sent away, those that have been silent longest first.
#[tokio::test]
async fn clients_that_never_say_hello_do_not_keep_out_those_who_do() {
    let _alone = ALONE.lock().await;
    let builder = Server::builder().connections(2).half_open(20).handshake(LONG);
    let address = start(builder, Slow::new()).await;
    let mut silent = Vec::new();
    // No more than are told why they are sent away.
    for _ in 0..60 {
        silent.push(connect(address).await);
    }
    let mut newest = silent.pop().unwrap();
    // With many more of them than there are places in all, clients that speak find theirs.
    let _served = [join(address).await, {
        newest.write_all(&hello(0)).await.unwrap();
        expect(&mut newest, &[WELCOME]).await;
        newest
    }];
    let mut oldest = silent.remove(0);
    let busy = expect(&mut oldest, &[BUSY]).await;
    assert_eq!((busy.code(), busy.text()), (1, "too many connections that have not said HELLO"));
    expect_fin(&mut oldest).await;
    // Those within the bound are not sent away, and the bound on those who are served is one on its own.
    let mut patient = silent.pop().unwrap();
    patient.write_all(&hello(0)).await.unwrap();
    let busy = expect(&mut patient, &[BUSY]).await;
    assert_eq!((busy.code(), busy.text()), (1, "too many connections"));
}

/// They outlive their connection, because a client may say its last word and close.
#[tokio::test]
async fn notifications_that_wait_are_bounded_over_all_connections_that_have_been() {
    let _alone = ALONE.lock().await;
    let slow = Slow::new();
    let address =
        start(Server::builder().handlers(1).waiting(50).in_flight(100), slow.clone()).await;
    let mut busy = join(address).await;
    busy.write_all(&request(1, 0, b"works")).await.unwrap();
    until("the first at work", || slow.begun.load(Ordering::SeqCst) == 1).await;
    for _ in 0..20 {
        let mut stream = join(address).await;
        for id in 1..=90 {
            stream.write_all(&message(NOTIFY, id, b"x")).await.unwrap();
        }
        taken(&mut stream).await;
        stream.shutdown().await.unwrap();
        expect_fin(&mut stream).await;
    }
    slow.gate.add_permits(100_000);
    expect(&mut busy, &[REPLY]).await;
    // First in, first out: behind this one nothing waits that was before it.
    busy.write_all(&request(2, 0, b"last")).await.unwrap();
    expect(&mut busy, &[REPLY]).await;
    let begun = slow.begun.load(Ordering::SeqCst);
    assert!((52..=152).contains(&begun), "{begun} of at most 50 that wait");
}

/// As those who are told that there is no room.
#[tokio::test]
async fn clients_that_are_turned_away_for_what_they_said_are_bounded() {
    let _alone = ALONE.lock().await;
    let address = start(Server::builder().half_open(20), Slow::new()).await;
    let mut other_version = hello(0);
    other_version[13..17].copy_from_slice(&[0, 9, 0, 9]);
    for wrong in [frame(HELLO, &[b"GET / HTTP/1.1"]), other_version] {
        let mut told = 0;
        let mut streams = Vec::new();
        let began = Instant::now();
        for _ in 0..300 {
            let mut stream = connect(address).await;
            stream.write_all(&wrong).await.unwrap();
            streams.push(stream);
        }
        for stream in &mut streams {
            if let Ok(Some(frame)) = soon("its end", read_frame(stream)).await {
                assert_eq!(frame.kind, REJECT);
                told += 1;
            }
        }
        // It waits for each of them for a second, and then there is room for another.
        let took = began.elapsed();
        let most = (64 + 20) * (1 + took.as_secs());
        assert!((1..=most).contains(&told), "{told} in {took:?} with 84 kept at a time");
    }
}

#[tokio::test]
async fn a_shutdown_that_runs_out_of_time_counts_exactly_the_answers_that_did_not_arrive() {
    const CALLS: u64 = 60;
    let _alone = ALONE.lock().await;
    let (slow, (told, mut pushers)) = (Slow::new(), mpsc::unbounded_channel::<Pusher>());
    let server = Server::builder().bind("127.0.0.1:0").await.unwrap();
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
    let gate = slow.gate.clone();
    let serving = tokio::spawn(server.serve(move |call: Call| {
        let (gate, told) = (gate.clone(), told.clone());
        async move {
            told.send(call.pusher()).unwrap();
            let _ = gate.acquire().await;
            Ok(vec![7; 1 << 20].into())
        }
    }));
    // It reads nothing, and that from the first answer on.
    let mut stream = join(address).await;
    for id in 1..=CALLS {
        stream.write_all(&request(id, 0, b"x")).await.unwrap();
    }
    for _ in 0..CALLS {
        let pusher = soon("a call", pushers.recv()).await.unwrap();
        pusher.push("not an answer").unwrap();
    }
    slow.gate.add_permits(1000);
    handle.shutdown(Duration::from_millis(300));
    let error = soon("the end", serving).await.unwrap().unwrap_err();

    let mut arrived = 0;
    while let Ok(Some(frame)) = soon("what has left", read_frame(&mut stream)).await {
        arrived += usize::from(frame.kind == CHUNK && frame.is_flagged());
    }
    assert_eq!(error.unfinished, CALLS as usize - arrived);
    assert!(error.unfinished >= 20, "nobody read: {error}");
}
