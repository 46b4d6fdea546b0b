//! Calls that come together: their handlers are begun one after the other, and still none has to wait for another.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use steadfast::{Bytes, Call, ErrorReply, Handler, Server};
use support::local::start;
use support::scripted::{ERROR, REPLY, expect, join, request};
use support::waits::soon;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// A client that has sent these bodies with one write.
async fn client(handler: impl Handler, bodies: &[&str]) -> TcpStream {
    let address = start(Server::builder(), handler).await;
    let mut stream = join(address).await;
    let requests = bodies.iter().zip(1..).flat_map(|(body, id)| request(id, 0, body.as_bytes()));
    stream.write_all(&requests.collect::<Vec<_>>()).await.unwrap();
    stream
}

/// The next so many answers by their ids, an error's text included.
async fn answers(stream: &mut TcpStream, count: usize) -> BTreeMap<u64, String> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        let answer = soon("an answer", expect(stream, &[REPLY, ERROR])).await;
        answers.insert(answer.id(), String::from_utf8_lossy(answer.body()).into());
    }
    answers
}

fn by_id<const N: usize>(answers: [(u64, &str); N]) -> BTreeMap<u64, String> {
    answers.map(|(id, text)| (id, text.into())).into()
}

#[tokio::test]
async fn one_that_waits_holds_up_nobody_who_came_with_it() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = gate.clone();
    let handler = move |call: Call| {
        let gate = waits.clone();
        async move {
            if call.body() == "waits" {
                gate.acquire().await.unwrap().forget();
            }
            Ok(call.into_body())
        }
    };
    let mut stream = client(handler, &["a", "waits", "b"]).await;
    assert_eq!(answers(&mut stream, 2).await, by_id([(1, "a"), (3, "b")]));
    gate.add_permits(1);
    assert_eq!(answers(&mut stream, 1).await, by_id([(2, "waits")]));
}

#[tokio::test]
async fn one_that_panics_takes_nobody_along_who_came_with_it() {
    let handler = |call: Call| {
        // Before there is a future, and in it.
        assert_ne!(call.body(), "panics");
        async move {
            assert_ne!(call.body(), "panics later");
            Ok(call.into_body())
        }
    };
    let mut stream = client(handler, &["a", "panics", "b", "panics later", "c"]).await;
    let panicked = "the handler panicked";
    let expected = [(1, "a"), (2, panicked), (3, "b"), (4, panicked), (5, "c")];
    assert_eq!(answers(&mut stream, 5).await, by_id(expected));
}

/// The first keeps its thread for a while. Each of the others keeps its own until there are two of them.
struct Blocking {
    inside: Mutex<usize>,
    met: Condvar,
}

impl Handler for Blocking {
    async fn call(&self, call: Call) -> Result<Bytes, ErrorReply> {
        if call.body() == "first" {
            std::thread::sleep(Duration::from_millis(20));
            return Ok("kept its thread".into());
        }
        let mut inside = self.inside.lock().unwrap();
        *inside += 1;
        self.met.notify_all();
        let (_inside, waited) =
            self.met.wait_timeout_while(inside, 20 * SECOND, |inside| *inside < 2).unwrap();
        Ok(if waited.timed_out() { "alone" } else { "met another" }.into())
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn behind_one_that_keeps_its_thread_the_others_run_on_other_threads() {
    let handler = Blocking { inside: Mutex::new(0), met: Condvar::new() };
    let mut stream = client(handler, &["first", "second", "third"]).await;
    let met = "met another";
    let expected = by_id([(1, "kept its thread"), (2, met), (3, met)]);
    assert_eq!(answers(&mut stream, 3).await, expected);
}
