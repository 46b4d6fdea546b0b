//! Calls whose callers have gone and may come back: what becomes of them when the server shuts down, and what their handlers know of
//! the connection.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use steadfast::{Bytes, Call, ErrorReply, Handler, Server};
use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use support::local::start;
use support::scripted::*;
use support::waits::{soon, until};

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_orphan_is_told_that_nobody_comes_back_to_a_server_that_shuts_down() {
    let begun = Arc::new(AtomicUsize::new(0));
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
    let counter = begun.clone();
    let serving = tokio::spawn(server.serve(move |call: Call| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move {
            call.cancelled().await;
            Ok(Bytes::new())
        }
    }));
    let mut stream = join(address).await;
    stream.write_all(&request(1, 0, b"long poll")).await.unwrap();
    until("it to run", || begun.load(Ordering::SeqCst) == 1).await;
    stream.shutdown().await.unwrap();
    expect_fin(&mut stream).await;
    let began = Instant::now();
    handle.shutdown(LONG);
    soon("the end", serving).await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_orphan_that_is_cut_off_counts_among_the_calls_that_were() {
    let begun = Arc::new(AtomicUsize::new(0));
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
    let counter = begun.clone();
    let serving = tokio::spawn(server.serve(move |_: Call| {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::pending()
    }));
    let mut stream = join(address).await;
    stream.write_all(&request(1, 0, b"order")).await.unwrap();
    until("it to run", || begun.load(Ordering::SeqCst) == 1).await;
    stream.shutdown().await.unwrap();
    expect_fin(&mut stream).await;
    handle.shutdown(Duration::from_millis(50));
    let error = soon("the end", serving).await.unwrap().unwrap_err();
    assert_eq!(error.unfinished, 1);
}

/// What it remembers of a connection is there for all that came over it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_handler_begins_when_it_has_been_told_that_its_connection_has_ended() {
    #[derive(Clone, Default)]
    struct Rooms {
        ended: Arc<Mutex<HashSet<u64>>>,
        begun: Arc<AtomicUsize>,
        late: Arc<AtomicUsize>,
    }
    impl Rooms {
        fn begin(&self, call: &Call) {
            self.begun.fetch_add(1, Ordering::SeqCst);
            if self.ended.lock().unwrap().contains(&call.connection()) {
                self.late.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
    impl Handler for Rooms {
        async fn call(&self, call: Call) -> Result<Bytes, ErrorReply> {
            self.begin(&call);
            Ok(call.into_body())
        }

        async fn notified(&self, notification: Call) {
            self.begin(&notification);
        }

        fn disconnected(&self, connection: u64) {
            self.ended.lock().unwrap().insert(connection);
        }
    }
    const ROUNDS: usize = 200;
    let rooms = Rooms::default();
    let address = start(Server::builder().handlers(8), rooms.clone()).await;
    for _ in 0..ROUNDS {
        let mut stream = join(address).await;
        let calls =
            (1..=25).flat_map(|id| [request(2 * id, 0, b"x"), message(NOTIFY, 2 * id + 1, b"y")]);
        stream.write_all(&calls.flatten().collect::<Vec<_>>()).await.unwrap();
    }
    until("all ends", || rooms.ended.lock().unwrap().len() == ROUNDS).await;
    assert!(rooms.begun.load(Ordering::SeqCst) > 0);
    assert_eq!(rooms.late.load(Ordering::SeqCst), 0);
}
