//! How many calls a close or a shutdown that ran out of time has cut off: as many as have callers who are told of an error for it.

#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;

use steadfast::{
    Bytes, Call, CloseError, ErrorReply, Framing, Handler, Ordered, Pool, Retry, Server,
    ServerHandle,
};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use support::scripted::*;
use support::times::ms;
use support::waits::soon;

type Serving = JoinHandle<Result<(), CloseError>>;

async fn serve(handler: impl Handler) -> (SocketAddr, ServerHandle, Serving) {
    let server = Server::builder().handlers(1).bind("127.0.0.1:0").await.unwrap();
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
    (address, handle, tokio::spawn(server.serve(handler)))
}

fn unfinished(ended: Result<(), CloseError>) -> usize {
    ended.map_or_else(|error| error.unfinished, |()| 0)
}

#[test]
fn a_call_whose_handler_keeps_its_thread_beyond_the_limit_is_cut_off() {
    // The server has its threads to itself, of which one is blocked.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().build().unwrap();
    let (begun, begins) = mpsc::channel();
    let (go_on, gate) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let handler = Arc::new(move || {
        begun.send(()).unwrap();
        let _ = gate.lock().unwrap().recv();
    });
    let (address, handle, serving) = runtime.block_on(serve(move |call: Call| {
        let blocks = handler.clone();
        async move {
            blocks();
            Ok(call.into_body())
        }
    }));
    let mut client = std::net::TcpStream::connect(address).unwrap();
    std::io::Write::write_all(&mut client, &[hello(0), request(1, 0, b"x")].concat()).unwrap();
    begins.recv_timeout(ms(20_000)).unwrap();
    handle.shutdown(ms(50));
    // To the connection's end.
    let mut answer = Vec::new();
    let _ = std::io::Read::read_to_end(&mut client, &mut answer);
    go_on.send(()).unwrap();
    assert_eq!(unfinished(runtime.block_on(serving).unwrap()), 1);
}

#[tokio::test]
async fn a_call_whose_handler_ends_because_it_is_cut_off_is_cut_off() {
    let begun = Arc::new(Notify::new());
    let begins = begun.clone();
    let (address, handle, serving) = serve(move |call: Call| {
        let begun = begun.clone();
        async move {
            begun.notify_one();
            call.cancelled().await;
            Err::<Bytes, _>(ErrorReply::new(499, "the caller has gone"))
        }
    })
    .await;
    let pool = Pool::builder(address.to_string()).retry(Retry::never()).build().unwrap();
    let call = tokio::spawn(async move { pool.request("x").idempotent().send().await });
    soon("the handler", begins.notified()).await;
    handle.shutdown(ms(50));
    assert_eq!(unfinished(soon("the end", serving).await.unwrap()), 1);
    assert!(soon("the call", call).await.unwrap().is_err());
}

#[tokio::test]
async fn calls_that_wait_for_a_turn_are_cut_off() {
    let (address, handle, serving) = serve(|_: Call| std::future::pending()).await;
    let mut stream = join(address).await;
    for id in 1..=5 {
        stream.write_all(&request(id, 0, b"accepted")).await.unwrap();
    }
    stream.write_all(&ping(1)).await.unwrap();
    expect(&mut stream, &[PONG]).await;
    handle.shutdown(ms(50));
    let goodbye = expect(&mut stream, &[GOAWAY]).await;
    assert_eq!(goodbye.rest[4..12], 5u64.to_be_bytes(), "it has accepted five");
    assert_eq!(unfinished(soon("the end", serving).await.unwrap()), 5);
}

#[tokio::test]
async fn a_pool_that_is_closed_has_cut_off_no_call_that_was_settled_before() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let protocol = Ordered::new(Framing::u32_le()).pipeline(4);
    let address = listener.local_addr().unwrap().to_string();
    let pool = Pool::builder(address).protocol(protocol).build().unwrap();
    // It answers nothing, and so owes an answer to whoever has given up.
    let (_stream, _) = soon("a connection", listener.accept()).await.unwrap();
    let gives_up = pool.request("gives up").timeout(ms(500)).send();
    gives_up.await.unwrap_err();
    let waits = tokio::spawn({
        let pool = pool.clone();
        async move { pool.request("waits").timeout(ms(20_000)).send().await }
    });
    support::waits::until("both to have places", || pool.status().in_flight == 2).await;
    assert_eq!(unfinished(soon("the close", pool.close(ms(50))).await), 1);
    assert!(soon("the call", waits).await.unwrap().is_err());
}

/// Nobody has looked at its answer yet.
#[tokio::test]
async fn a_pool_that_is_closed_has_cut_off_no_call_that_was_answered_before() {
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string()).build().unwrap();
    let mut stream = script.welcome().await;
    pool.ready(ms(20_000)).await.unwrap();
    let mut answered = Box::pin(pool.call("answered"));
    assert!(futures::poll!(&mut answered).is_pending());
    let request = expect(&mut stream, &[REQUEST]).await;
    let waits = tokio::spawn({
        let pool = pool.clone();
        async move { pool.call("waits").await }
    });
    expect(&mut stream, &[REQUEST]).await;
    // What came behind the answer is answered when that has been read.
    stream.write_all(&[reply(request.id(), b"done"), ping(1)].concat()).await.unwrap();
    expect(&mut stream, &[PONG]).await;
    assert_eq!(unfinished(soon("the close", pool.close(ms(50))).await), 1);
    assert_eq!(answered.await.unwrap(), "done");
    assert!(soon("the call", waits).await.unwrap().is_err());
}
