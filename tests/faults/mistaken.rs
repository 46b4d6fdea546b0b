//! What is not death: a big message on a slow line, a client that was itself asleep, a runtime that was busy.

use std::time::{Duration, Instant};

use steadfast::{Call, Heartbeat, Pool, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::support::loopback::{listen, own_loopback};
use crate::support::news;
use crate::support::peer::{Peer, accept};
use crate::support::pipes::pipes;
use crate::support::process::{Process, can_freeze};
use crate::support::scripted::{CHUNK, PONG, REPLY, frame, pong};
use crate::support::times::ms;
use crate::support::waits::within;

const EVERY: Duration = ms(100);
const GIVE_UP_AFTER: Duration = ms(200);
const BOUND: Duration = ms(300);
const BIG: usize = 2 << 20;

fn heartbeat() -> Heartbeat {
    Heartbeat::every(EVERY).give_up_after(GIVE_UP_AFTER)
}

/// A line between a client and a server that carries one direction slowly.
struct SlowLine {
    listener: TcpListener,
    server: String,
    slow: Direction,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToServer,
    ToClient,
}

impl SlowLine {
    async fn carry(self) {
        let (from_client, to_client) = accept(&self.listener).await.into_split();
        let (from_server, to_server) = TcpStream::connect(&self.server).await.unwrap().into_split();
        let pace = |direction| if self.slow == direction { ms(20) } else { Duration::ZERO };
        tokio::join!(
            pump(from_client, to_server, pace(Direction::ToServer)),
            pump(from_server, to_client, pace(Direction::ToClient)),
        );
    }
}

/// At most 40 KiB at a time, in order: whatever comes behind a big message waits for it.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, pace: Duration) {
    let mut buffer = vec![0; 40 << 10];
    while let Ok(1..) = from.peek(&mut [0]).await {
        let Ok(bytes) = from.read(&mut buffer).await else { return };
        if to.write_all(&buffer[..bytes]).await.is_err() {
            return;
        }
        tokio::time::sleep(pace).await;
    }
}

/// Moves a big message along a slow line: no connection may be lost over it.
async fn move_slowly(slow: Direction) {
    let server = Server::bind((own_loopback(), 0)).await.unwrap();
    let address = server.local_addr().unwrap().to_string();
    tokio::spawn(server.serve(move |call: Call| async move {
        let length = if slow == Direction::ToClient { BIG } else { call.body().len() };
        Ok(vec![7; length].into())
    }));
    let (listener, line) = listen().await;
    tokio::spawn(SlowLine { listener, server: address, slow }.carry());
    let pool = Pool::builder(line).heartbeat(heartbeat()).build().unwrap();
    let mut events = pool.events();
    news::ready(&mut events).await;
    let began = Instant::now();
    let body = if slow == Direction::ToServer { vec![7; BIG] } else { vec![7] };
    let reply = within(ms(20_000), "the message", pool.request(body).send()).await.unwrap();
    assert!(reply.len() == BIG && reply.iter().all(|byte| *byte == 7));
    assert!(began.elapsed() >= 3 * BOUND, "too fast to show anything: {:?}", began.elapsed());
    assert_eq!(events.try_next(), None);
}

#[tokio::test]
async fn a_big_reply_on_a_slow_line_is_not_taken_for_death() {
    move_slowly(Direction::ToClient).await;
}

#[tokio::test]
async fn a_big_request_on_a_slow_line_is_not_taken_for_death() {
    move_slowly(Direction::ToServer).await;
}

#[tokio::test(start_paused = true)]
async fn bytes_are_life_even_if_a_single_frame_takes_longer_than_the_bound() {
    let (connector, mut switch) = pipes(4096);
    let pool = Pool::builder("peer:1").connector(connector).heartbeat(heartbeat()).build().unwrap();
    let mut events = pool.events();
    let call = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call("something big").await }
    });
    let mut peer = Peer::greet(switch.accept().await).await;
    news::ready(&mut events).await;
    let request = peer.request().await.unwrap();
    let (id, part, total) = (request.id.to_be_bytes(), [7; 60_000], 120_000u32.to_be_bytes());
    let first = frame(REPLY, &[&[1], &id, &total, &part]);
    let frames = [first, frame(CHUNK, &[&[1], &id, &part])].concat();
    // Pings go unanswered all the while: the answers would stand behind these bytes.
    for piece in frames.chunks(1000) {
        peer.say(piece).await;
        tokio::time::sleep(ms(20)).await;
    }
    assert_eq!(call.await.unwrap().unwrap().len(), 120_000);
    assert_eq!(events.try_next(), None);
}

/// A client process, and the serving end of its one connection.
async fn client_process() -> (Process, Peer<TcpStream>) {
    let (listener, address) = listen().await;
    let settings = [("TO", &*address), ("EVERY", "200"), ("GIVE_UP", "600")];
    let mut client = Process::start(&[], "client", &settings);
    let peer = Peer::greet(accept(&listener).await).await;
    client.says("ready 1").await;
    (client, peer)
}

/// Freezes the client when it has asked for a sign of life; says when that was.
///
/// The first ping may be one that only shows that the client lives; the one that asks follows at once.
async fn freeze_when_it_has_asked(client: &mut Process, peer: &mut Peer<TcpStream>) -> Instant {
    peer.ping().await.expect("it pings");
    let asked = Instant::now();
    skip_pings(client, peer, asked + ms(50)).await;
    client.freeze();
    asked
}

/// Reads until then, without an answer.
async fn skip_pings(client: &mut Process, peer: &mut Peer<TcpStream>, until: Instant) {
    let skipping = async { while peer.ping().await.is_some() {} };
    if tokio::time::timeout_at(until.into(), skipping).await.is_ok() {
        panic!("the client closed: {}", client.says("lost").await.1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_suspended_asks_again_before_it_judges() {
    if !can_freeze() {
        return;
    }
    let (mut client, mut peer) = client_process().await;
    let asked = freeze_when_it_has_asked(&mut client, &mut peer).await;
    // It sleeps through the whole time of the answer, for twice the bound.
    skip_pings(&mut client, &mut peer, asked + ms(1600)).await;
    client.thaw();
    let ping = peer.ping().await.expect("it asks again");
    // It gives the answer its time.
    skip_pings(&mut client, &mut peer, Instant::now() + ms(50)).await;
    peer.say(pong(&ping)).await;
    tokio::spawn(peer.echo());
    client.tell("call");
    assert_eq!(client.says("").await.1, "answered", "and nothing before it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_suspended_reads_what_has_arrived_before_it_judges() {
    if !can_freeze() {
        return;
    }
    let (mut client, mut peer) = client_process().await;
    for _ in 0..2 {
        let asked = freeze_when_it_has_asked(&mut client, &mut peer).await;
        peer.say(frame(PONG, &[&[0; 8]])).await;
        // A little after the verdict was due: too little to be excused as having slept.
        skip_pings(&mut client, &mut peer, asked + ms(630)).await;
        client.thaw();
    }
    tokio::spawn(peer.echo());
    client.tell("call");
    assert_eq!(client.says("").await.1, "answered", "and nothing before it");
}

#[tokio::test]
async fn a_runtime_that_was_busy_reads_what_has_arrived_before_it_judges() {
    let (asks, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let (busy, is_busy) = std::sync::mpsc::channel();
    let (answers, answered) = std::sync::mpsc::channel();
    let (listener, address) = listen().await;
    let listener = listener.into_std().unwrap();
    // The peer has a thread and a runtime of its own: that of the client will be held up.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener).unwrap();
            let mut peer = Peer::greet(accept(&listener).await).await;
            while let Some(ping) = peer.ping().await {
                asks.send(Instant::now()).unwrap();
                // The answer comes when nobody reads.
                if is_busy.recv().is_err() {
                    return;
                }
                peer.say(pong(&ping)).await;
                let _ = answers.send(());
            }
        });
    });
    let pool = Pool::builder(address).heartbeat(heartbeat()).build().unwrap();
    let mut events = pool.events();
    for round in 0..5 {
        let asked = within(ms(5000), "it pings", asked.recv()).await;
        let asked = asked.unwrap_or_else(|| panic!("it closed in round {round}"));
        busy.send(()).unwrap();
        std::thread::sleep(
            (asked + GIVE_UP_AFTER + ms(20)).saturating_duration_since(Instant::now()),
        );
        // The peer's thread may have been kept from running.
        answered.recv_timeout(ms(20_000)).expect("it answers");
    }
    // It is given the time to judge: it asks again instead.
    within(ms(5000), "it pings", asked.recv()).await.expect("it lives");
    assert_eq!(news::ready(&mut events).await, 1);
    assert_eq!(events.try_next(), None);
}
