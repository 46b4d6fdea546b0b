//! The server's memory of its clients' calls, and the fence, against clients that follow a script.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use steadfast::{Bytes, Call, ErrorReply, ReplyCache, Server, ServerBuilder};
use support::local::start;
use support::scripted::{
    CHUNK, Coming, ERROR, REFUSED, REPLY, WELCOME, cancel, connect, expect, expect_fin, frame,
    hello_of, long_request, repeatable, request,
};
use support::waits::{soon, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

const EVICTED: u32 = 0xffff_0003;

/// Counts what runs. Answers with so many bytes as the body says, "wait N" only when it is let.
#[derive(Clone)]
struct Counter {
    ran: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

impl Counter {
    fn ran(&self) -> usize {
        self.ran.load(Ordering::SeqCst)
    }

    async fn run(self, call: Call) -> Result<Bytes, ErrorReply> {
        let number = self.ran.fetch_add(1, Ordering::SeqCst) + 1;
        let body = std::str::from_utf8(call.body()).unwrap();
        let (wait, length) = match body.strip_prefix("wait ") {
            Some(length) => (true, length),
            None => (false, body),
        };
        if wait {
            self.gate.acquire().await.unwrap().forget();
        }
        match length.parse() {
            Ok(length) => Ok(format!("{number:0>length$}").into()),
            Err(_) => Err(ErrorReply::new(number as u32, "not a number")),
        }
    }
}

async fn server(builder: ServerBuilder) -> (SocketAddr, Counter) {
    let counter = Counter { ran: Arc::default(), gate: Arc::new(Semaphore::new(0)) };
    let handler = counter.clone();
    let address = start(builder, move |call: Call| handler.clone().run(call)).await;
    (address, counter)
}

fn cache(cache: ReplyCache) -> ServerBuilder {
    Server::builder().reply_cache(cache)
}

/// A connection of the client, after the handshake.
async fn join(to: SocketAddr, coming: Coming) -> TcpStream {
    let mut stream = connect(to).await;
    stream.write_all(&hello_of(coming, 0)).await.unwrap();
    expect(&mut stream, &[WELCOME]).await;
    stream
}

fn connection(number: u64) -> Coming {
    Coming { connection: number, ..Coming::default() }
}

/// A request that says that all calls below `oldest` are settled.
fn after(oldest: u64, id: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = request(id, 0, body);
    bytes[18..26].copy_from_slice(&oldest.to_be_bytes());
    bytes
}

async fn asks(stream: &mut TcpStream, bytes: &[u8]) -> (u8, Vec<u8>) {
    stream.write_all(bytes).await.unwrap();
    let frame = expect(stream, &[REPLY, ERROR, REFUSED]).await;
    (frame.kind, frame.rest.to_vec())
}

/// The code of an `ERROR`.
fn code((kind, rest): &(u8, Vec<u8>)) -> u32 {
    assert_eq!(*kind, ERROR);
    u32::from_be_bytes(rest[8..12].try_into().unwrap())
}

#[tokio::test]
async fn a_call_that_comes_again_gets_its_answer_and_is_not_run_again() {
    let (address, counter) = server(Server::builder()).await;
    let mut first = join(address, connection(1)).await;
    let reply = asks(&mut first, &request(1, 0, b"5")).await;
    let error = asks(&mut first, &request(2, 0, b"nonsense")).await;
    assert_eq!((reply.0, error.0), (REPLY, ERROR));
    // On the same connection, on another one, and after the end of all.
    assert_eq!(asks(&mut first, &request(1, 0, b"5")).await, reply);
    let mut second = join(address, connection(2)).await;
    assert_eq!(asks(&mut second, &request(1, 0, b"5")).await, reply);
    drop((first, second));
    let mut third = join(address, connection(3)).await;
    assert_eq!(asks(&mut third, &request(1, 0, b"5")).await, reply);
    assert_eq!(asks(&mut third, &request(2, 0, b"nonsense")).await, error);
    assert_eq!(counter.ran(), 2);
}

#[tokio::test]
async fn a_call_of_the_same_id_from_another_client_is_another_call() {
    let (address, counter) = server(Server::builder()).await;
    for client in 1..=3 {
        let mut stream = join(address, Coming { client, ..connection(1) }).await;
        assert_eq!(asks(&mut stream, &request(1, 0, b"1")).await.0, REPLY);
    }
    assert_eq!(counter.ran(), 3);
}

#[tokio::test]
async fn a_running_call_is_joined_and_answered_on_every_connection_that_asks() {
    let (address, counter) = server(Server::builder()).await;
    let mut lost = join(address, connection(1)).await;
    lost.write_all(&request(7, 0, b"wait 3")).await.unwrap();
    until("it to run", || counter.ran() == 1).await;
    drop(lost);
    let mut asking = Vec::new();
    for number in 2..5 {
        let mut stream = join(address, connection(number)).await;
        // What is answered behind it shows that it has been looked at.
        stream.write_all(&request(7, 0, b"wait 3")).await.unwrap();
        assert_eq!(asks(&mut stream, &request(100 + number, 0, b"1")).await.0, REPLY);
        asking.push(stream);
    }
    counter.gate.add_permits(1);
    for stream in &mut asking {
        let frame = expect(stream, &[REPLY]).await;
        assert_eq!((frame.id(), frame.body()), (7, &b"001"[..]));
    }
    assert_eq!(counter.ran(), 4);
}

#[tokio::test]
async fn a_call_that_waits_for_its_turn_when_its_connection_dies_is_new_when_it_comes_again() {
    let (address, counter) = server(Server::builder().handlers(1)).await;
    let mut busy = join(address, Coming { client: 1, ..connection(1) }).await;
    busy.write_all(&request(1, 0, b"wait 1")).await.unwrap();
    until("it to run", || counter.ran() == 1).await;
    let mut lost = join(address, Coming { client: 2, ..connection(1) }).await;
    lost.write_all(&request(1, 0, b"2")).await.unwrap();
    drop(lost);
    let coming = Coming { client: 2, replaces: 1, next_id: 2, ..connection(2) };
    let mut back = join(address, coming).await;
    back.write_all(&request(1, 0, b"2")).await.unwrap();
    counter.gate.add_permits(1);
    let frame = expect(&mut back, &[REPLY]).await;
    assert_eq!((frame.id(), frame.body()), (1, &b"02"[..]));
    assert_eq!(counter.ran(), 2);
}

#[tokio::test]
async fn an_answer_too_long_to_be_kept_is_reported_as_lost() {
    let (address, counter) = server(cache(ReplyCache::default().bytes(1000))).await;
    let mut stream = join(address, connection(1)).await;
    assert_eq!(asks(&mut stream, &request(1, 0, b"2000")).await.0, REPLY);
    assert_eq!(code(&asks(&mut stream, &request(1, 0, b"2000")).await), ErrorReply::REPLY_LOST);
    assert_eq!(counter.ran(), 1);
}

#[tokio::test]
async fn what_was_evicted_is_not_run_again() {
    let (address, counter) = server(cache(ReplyCache::default().calls(2))).await;
    let mut stream = join(address, connection(1)).await;
    for id in 1..=3 {
        assert_eq!(asks(&mut stream, &request(id, 0, b"1")).await.0, REPLY);
    }
    assert_eq!(code(&asks(&mut stream, &request(1, 0, b"1")).await), EVICTED);
    // And what the client has settled itself.
    assert_eq!(asks(&mut stream, &after(3, 4, b"1")).await.0, REPLY);
    assert_eq!(code(&asks(&mut stream, &request(2, 0, b"1")).await), EVICTED);
    assert_eq!(counter.ran(), 4);
}

#[tokio::test]
async fn a_client_that_was_forgotten_is_told_that_its_old_calls_may_have_run() {
    let age = Duration::from_millis(50);
    let (address, counter) = server(cache(ReplyCache::default().age(age))).await;
    let mut stream = join(address, connection(1)).await;
    assert_eq!(asks(&mut stream, &request(5, 0, b"1")).await.0, REPLY);
    stream.shutdown().await.unwrap();
    expect_fin(&mut stream).await;
    let mut ask = 1;
    let forgotten = async {
        loop {
            ask += 1;
            let mut back = join(address, Coming { next_id: 6, ..connection(ask) }).await;
            let answer = asks(&mut back, &request(5, 0, b"1")).await;
            drop(back);
            if answer.0 == ERROR {
                return answer;
            }
            tokio::time::sleep(4 * age).await;
        }
    };
    assert_eq!(code(&soon("it is forgotten", forgotten).await), EVICTED);
    let mut back = join(address, Coming { next_id: 6, ..connection(99) }).await;
    assert_eq!(asks(&mut back, &request(6, 0, b"1")).await.0, REPLY);
    assert_eq!(counter.ran(), 2);
}

#[tokio::test]
async fn a_call_that_may_be_run_twice_and_one_to_a_server_without_a_cache_are_run_twice() {
    let (address, counter) = server(Server::builder()).await;
    let mut stream = join(address, connection(1)).await;
    for _ in 0..2 {
        assert_eq!(asks(&mut stream, &repeatable(1, b"1")).await.0, REPLY);
    }
    assert_eq!(counter.ran(), 2);

    let (address, counter) = server(cache(ReplyCache::off())).await;
    let mut stream = join(address, connection(1)).await;
    for _ in 0..2 {
        assert_eq!(asks(&mut stream, &request(1, 0, b"1")).await.0, REPLY);
    }
    assert_eq!(counter.ran(), 2);
}

#[tokio::test]
async fn a_call_that_was_refused_because_its_time_was_up_stays_refused() {
    let (address, counter) = server(Server::builder().handlers(1)).await;
    let mut busy = join(address, Coming { client: 1, ..connection(1) }).await;
    busy.write_all(&request(1, 0, b"wait 1")).await.unwrap();
    until("it to run", || counter.ran() == 1).await;
    let mut stream = join(address, Coming { client: 2, ..connection(1) }).await;
    let refused = asks(&mut stream, &request(1, 20, b"1")).await;
    assert_eq!(refused.0, REFUSED);
    counter.gate.add_permits(1);
    expect(&mut busy, &[REPLY]).await;
    assert_eq!(asks(&mut stream, &request(1, 5000, b"1")).await, refused);
    assert_eq!(counter.ran(), 1);
}

#[tokio::test]
async fn a_call_that_its_caller_has_settled_elsewhere_is_told_so() {
    let (begun, cancelled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counters = (begun.clone(), cancelled.clone());
    let handler = move |call: Call| {
        let (begun, cancelled) = counters.clone();
        async move {
            if call.body() == "wait" {
                begun.fetch_add(1, Ordering::SeqCst);
                call.cancelled().await;
                cancelled.fetch_add(1, Ordering::SeqCst);
            }
            Ok(Bytes::new())
        }
    };
    let address = start(Server::builder(), handler).await;
    // By CANCEL, and by what the next request says after a loss.
    let mut stream = join(address, connection(1)).await;
    stream.write_all(&request(1, 0, b"wait")).await.unwrap();
    until("the first to begin", || begun.load(Ordering::SeqCst) == 1).await;
    stream.write_all(&cancel(1)).await.unwrap();
    until("the first to be cancelled", || cancelled.load(Ordering::SeqCst) == 1).await;
    stream.write_all(&request(2, 0, b"wait")).await.unwrap();
    until("the second to begin", || begun.load(Ordering::SeqCst) == 2).await;
    assert_eq!(asks(&mut stream, &request(3, 0, b"go on")).await.0, REPLY);
    drop(stream);
    let mut back = join(address, Coming { replaces: 1, next_id: 4, ..connection(2) }).await;
    assert_eq!(asks(&mut back, &after(4, 4, b"go on")).await.0, REPLY);
    until("the second to be cancelled", || cancelled.load(Ordering::SeqCst) == 2).await;
}

#[tokio::test]
async fn a_connection_that_was_replaced_is_not_served_any_more() {
    let (address, counter) = server(Server::builder()).await;
    let mut old = join(address, connection(1)).await;
    assert_eq!(asks(&mut old, &request(1, 0, b"1")).await.0, REPLY);
    // Half of it before, half of it after the client has come back.
    let late = repeatable(2, b"1");
    let (begin, end) = late.split_at(9);
    old.write_all(begin).await.unwrap();
    let mut new = join(address, Coming { replaces: 1, next_id: 3, ..connection(2) }).await;
    let _ = old.write_all(end).await;
    let _ = old.write_all(&repeatable(3, b"1")).await;
    let ended = async {
        let mut rest = Vec::new();
        // A reset, because what it sent is not read any more.
        let _ = old.read_to_end(&mut rest).await;
        rest
    };
    assert_eq!(soon("its end", ended).await, b"");
    assert_eq!(asks(&mut new, &request(4, 0, b"1")).await.0, REPLY);
    assert_eq!(counter.ran(), 2);
}

#[tokio::test]
async fn a_connection_that_replaces_none_leaves_the_others_alone() {
    let (address, counter) = server(Server::builder()).await;
    let mut one = join(address, connection(1)).await;
    let mut two = join(address, connection(2)).await;
    let mut other = join(address, Coming { client: 5, replaces: 1, ..connection(2) }).await;
    for (id, stream) in [(1, &mut one), (2, &mut two), (3, &mut other)] {
        assert_eq!(asks(stream, &request(id, 0, b"1")).await.0, REPLY);
    }
    assert_eq!(counter.ran(), 3);
}

#[tokio::test]
async fn a_long_request_that_takes_its_time_to_come_is_not_taken_for_one_that_was_forgotten() {
    let (address, counter) = server(cache(ReplyCache::default().calls(2))).await;
    let mut stream = join(address, connection(1)).await;
    let body = vec![b'0'; 100_000];
    stream.write_all(&long_request(1, 100_000, &body[..50_000])).await.unwrap();
    for id in 2..40 {
        assert_eq!(asks(&mut stream, &request(id, 0, b"1")).await.0, REPLY);
    }
    let rest = frame(CHUNK, &[&[1], &1u64.to_be_bytes(), &body[50_000..]]);
    let answer = asks(&mut stream, &rest).await;
    assert_eq!((answer.0, counter.ran()), (REPLY, 39));
}
