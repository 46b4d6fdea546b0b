//! How it ends: a server that shuts down under load, a pool that is closed. Nothing that was accepted is lost, nothing
//! runs twice, and the last word on every connection is FIN, not RST.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use steadfast::{
    Bytes, Call, CallCause, CallError, CloseError, ErrorReply, Event, Limits, Outcome, Pool,
    Server, ServerHandle, State,
};
use support::local::start;
use support::scripted::{
    GOAWAY, NOTIFY, REPLY, REQUEST, Script, connect, expect, expect_fin, hello, join, long_request,
    message, read_frame, reply, request,
};
use support::waits::{soon, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// A server whose handlers wait until they are let go, and then answer with the call's own body.
struct Slow {
    address: SocketAddr,
    handle: ServerHandle,
    open: Arc<Semaphore>,
    serving: JoinHandle<Result<(), CloseError>>,
}

async fn slow() -> Slow {
    let server = Server::bind("127.0.0.1:0").await.unwrap();
    let (address, handle) = (server.local_addr().unwrap(), server.handle());
    let open = Arc::new(Semaphore::new(0));
    let gate = open.clone();
    let serving = tokio::spawn(server.serve(move |call: Call| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(call.into_body())
        }
    }));
    Slow { address, handle, open, serving }
}

/// Calls in the background.
fn call(pool: &Pool, body: &'static str) -> JoinHandle<Result<Bytes, CallError>> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.call(body).await })
}

async fn in_flight(pool: &Pool, calls: usize) {
    until("the calls to be under way", || pool.status().in_flight == calls).await;
}

// A server shuts down.

#[tokio::test]
async fn a_shutdown_answers_what_was_accepted_ignores_the_rest_and_ends_with_fin() {
    let Slow { address, handle, open, serving } = slow().await;
    let mut stream = join(address).await;
    let five: Vec<_> = (1..=5).flat_map(|id| request(id, 0, b"accepted")).collect();
    stream.write_all(&five).await.unwrap();
    stream.write_all(&long_request(6, 100, b"accepted, too, and still coming")).await.unwrap();
    stream.write_all(&support::scripted::ping(1)).await.unwrap();
    expect(&mut stream, &[support::scripted::PONG]).await;
    handle.shutdown(9 * SECOND);
    let goodbye = expect(&mut stream, &[GOAWAY]).await;
    assert_eq!((goodbye.code(), goodbye.rest[4..12].to_vec()), (0, 6u64.to_be_bytes().to_vec()));
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "it listens no more");

    // What comes too late gets no answer, and does not turn the FIN into an RST either.
    let late: Vec<_> = (7..500).flat_map(|id| request(id, 0, &[0; 100])).collect();
    stream.write_all(&late).await.unwrap();
    stream.write_all(&support::scripted::cancel(6)).await.unwrap();
    open.add_permits(5);
    let mut answered = Vec::new();
    for _ in 0..5 {
        answered.push(expect(&mut stream, &[REPLY]).await.id());
        stream.write_all(&message(NOTIFY, 1000, &[0; 5000])).await.unwrap();
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 2, 3, 4, 5]);
    stream.write_all(&message(NOTIFY, 1001, &[0; 50_000])).await.unwrap();
    assert_eq!(soon("the end", read_frame(&mut stream)).await.unwrap(), None, "FIN, and no RST");
    stream.write_all(&message(NOTIFY, 1002, &[0; 50_000])).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(soon("the server's end", serving).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_client_that_does_not_close_holds_a_shutdown_up_for_a_bounded_time_only() {
    let Slow { address, handle, serving, .. } = slow().await;
    let mut stays = join(address).await;
    handle.shutdown(60 * SECOND);
    expect(&mut stays, &[GOAWAY]).await;
    expect_fin(&mut stays).await;
    assert_eq!(soon("the server's end", serving).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_handler_that_outlives_the_limit_is_cut_off_and_counted() {
    let Slow { address, handle, open, serving } = slow().await;
    let pool = Pool::builder(address.to_string()).build().unwrap();
    let calls: Vec<_> = (0..3).map(|_| call(&pool, "too slow")).collect();
    in_flight(&pool, 3).await;
    // Until the server has them all: the first is answered.
    open.add_permits(1);
    in_flight(&pool, 2).await;
    let began = Instant::now();
    handle.shutdown(100 * MS);
    let error = soon("the server's end", serving).await.unwrap().unwrap_err();
    assert_eq!(error.unfinished, 2);
    assert!(began.elapsed() >= 100 * MS);
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(soon("the call's end", call).await.unwrap().map_err(|e| e.outcome()));
    }
    let lost = outcomes.iter().filter(|o| **o == Err(Outcome::Indeterminate)).count();
    assert_eq!((lost, outcomes.iter().filter(|o| o.is_ok()).count()), (2, 1), "{outcomes:?}");
}

#[tokio::test]
async fn dropping_the_server_ends_everything_at_once() {
    let Slow { address, open, serving, .. } = slow().await;
    let mut stream = join(address).await;
    stream.write_all(&request(1, 0, b"never answered")).await.unwrap();
    stream.write_all(&support::scripted::ping(1)).await.unwrap();
    expect(&mut stream, &[support::scripted::PONG]).await;
    serving.abort();
    let _ = soon("the end", stream.read_to_end(&mut Vec::new())).await;
    until("the handlers to be gone", || Arc::strong_count(&open) == 1).await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

/// How often each body was run, by all servers together.
type Runs = Arc<Mutex<HashMap<Bytes, u32>>>;

fn journal(runs: &Runs) -> impl Fn(Call) -> std::future::Ready<Result<Bytes, ErrorReply>> + use<> {
    let runs = runs.clone();
    move |call: Call| {
        *runs.lock().unwrap().entry(call.body().clone()).or_default() += 1;
        std::future::ready(Ok(call.into_body()))
    }
}

/// A new server on the address of one that has just stopped to listen.
async fn take_over(address: SocketAddr) -> Server {
    soon("the port", async {
        loop {
            match Server::bind(address).await {
                Ok(server) => return server,
                Err(_) => tokio::time::sleep(MS).await,
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_servers_take_over_from_each_other_under_load_no_call_fails_and_none_runs_twice() {
    let runs = Runs::default();
    let mut server = Server::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let limits = Limits::default().in_flight(40);
    let pool = Pool::builder(address.to_string()).connections(2).limits(limits).build().unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..32u64)
        .map(|caller| tokio::spawn(call_until(over.clone(), pool.clone(), caller)))
        .collect();
    let mut ends = Vec::new();
    for _ in 0..8 {
        let handle = server.handle();
        ends.push(tokio::spawn(server.serve(journal(&runs))));
        let enough = runs.lock().unwrap().len() + 300;
        until("some traffic", || runs.lock().unwrap().len() > enough).await;
        handle.shutdown(9 * SECOND);
        server = take_over(address).await;
    }
    let handle = server.handle();
    ends.push(tokio::spawn(server.serve(journal(&runs))));
    over.store(true, Ordering::Relaxed);
    let mut calls = 0;
    for caller in callers {
        calls += soon("the caller's end", caller).await.unwrap();
    }
    let runs: Vec<_> = runs.lock().unwrap().values().copied().collect();
    println!("{calls} calls succeeded, {} bodies ran", runs.len());
    assert!(runs.iter().all(|times| *times == 1), "something ran twice");
    assert!(runs.len() as u64 >= calls && calls > 2000);
    handle.shutdown(9 * SECOND);
    for end in ends {
        assert_eq!(soon("a server's end", end).await.unwrap(), Ok(()), "no handler was cut off");
    }
}

/// Calls that are not marked idempotent, small, long, and some given up at once. Says how many succeeded.
async fn call_until(over: Arc<AtomicBool>, pool: Pool, caller: u64) -> u64 {
    let mut rng = fastrand::Rng::with_seed(caller);
    let mut succeeded = 0;
    for number in 0.. {
        if over.load(Ordering::Relaxed) {
            break;
        }
        let length = if rng.u8(..) < 20 { rng.usize(20_000..200_000) } else { 0 };
        let mut body = format!("{caller} {number} ").into_bytes();
        body.resize(body.len() + length, b'x');
        let body = Bytes::from(body);
        let call = pool.call(body.clone());
        if rng.u8(..) < 40 {
            let _ = tokio::time::timeout(Duration::from_micros(rng.u64(..200)), call).await;
            continue;
        }
        match call.await {
            Ok(reply) => assert_eq!(reply, body),
            Err(error) => panic!("{error}"),
        }
        succeeded += 1;
    }
    succeeded
}

// A pool is closed.

#[tokio::test]
async fn close_lets_what_is_in_flight_finish_and_ends_with_fin_on_both_sides() {
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string()).build().unwrap();
    let mut events = pool.events();
    let long = Bytes::from(vec![b'x'; 900_000]);
    let calls = [call(&pool, "one"), call(&pool, "two")];
    let big = {
        let (pool, long) = (pool.clone(), long.clone());
        tokio::spawn(async move { pool.call(long).await })
    };
    let mut stream = script.welcome().await;
    in_flight(&pool, 3).await;
    let closing = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.close(9 * SECOND).await })
    };
    let mut state = pool.watch();
    soon("the closing", state.wait_for(|state| state == State::Closing)).await.unwrap();
    // All of it still goes out, and the answers still come in.
    let (mut came, mut ids) = (0, Vec::new());
    while came < long.len() {
        let frame = expect(&mut stream, &[REQUEST, support::scripted::CHUNK]).await;
        if frame.kind == REQUEST {
            ids.push(frame.id());
        }
        came += if frame.body().len() > 3 { frame.body().len() } else { 0 };
    }
    assert_eq!(ids.len(), 3);
    assert!(!closing.is_finished());
    for id in ids {
        stream.write_all(&reply(id, b"done")).await.unwrap();
    }
    expect_fin(&mut stream).await;
    // What is said after that is taken in, too: no RST.
    stream.write_all(&message(support::scripted::PUSH, (1 << 63) + 1, &[0; 50_000])).await.unwrap();
    assert!(!closing.is_finished(), "it waits for our FIN");
    stream.shutdown().await.unwrap();
    let mut one = [0];
    assert_eq!(soon("the end", stream.read(&mut one)).await.unwrap(), 0, "FIN, and no RST");
    assert_eq!(soon("the close", closing).await.unwrap(), Ok(()));
    for call in calls.into_iter().chain([big]) {
        assert_eq!(soon("the answer", call).await.unwrap().unwrap(), "done");
    }
    assert_eq!(pool.status().state, State::Closed);
    while let Some(event) = soon("the stream's end", events.next()).await {
        if let Event::Lost { loss, .. } = event {
            assert!(loss.is_intended(), "{loss}");
        }
    }
}

#[tokio::test]
async fn closing_an_idle_pool_ends_with_fin_on_both_sides_and_takes_no_time() {
    let Slow { address, handle, serving, .. } = slow().await;
    let pool = Pool::builder(address.to_string()).connections(3).build().unwrap();
    soon("connections", async {
        let mut events = pool.events();
        while pool.status().ready < 3 {
            events.next().await;
        }
    })
    .await;
    let began = Instant::now();
    pool.close(9 * SECOND).await.unwrap();
    pool.close(9 * SECOND).await.unwrap();
    assert!(began.elapsed() < SECOND, "the server's FIN came at once: {:?}", began.elapsed());
    handle.shutdown(9 * SECOND);
    assert_eq!(soon("the server's end", serving).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_close_that_runs_out_of_time_says_how_many_calls_it_cut_off() {
    let Slow { address, .. } = slow().await;
    let pool = Pool::builder(address.to_string()).build().unwrap();
    let calls: Vec<_> = (0..3).map(|_| call(&pool, "too slow")).collect();
    in_flight(&pool, 3).await;
    let began = Instant::now();
    let error = soon("the close", pool.close(50 * MS)).await.unwrap_err();
    assert_eq!(error.unfinished, 3);
    assert!(began.elapsed() >= 50 * MS && began.elapsed() < SECOND);
    for call in calls {
        let error = soon("the call's end", call).await.unwrap().unwrap_err();
        assert!(matches!(error.cause(), CallCause::Lost(loss) if loss.is_intended()), "{error}");
    }
}

#[tokio::test]
async fn waiting_calls_fail_at_the_close_and_later_ones_at_once() {
    let script = Script::bind().await;
    let limits = Limits::default().in_flight(1);
    let pool = Pool::builder(script.address.to_string()).limits(limits).build().unwrap();
    // One waits while nothing is connected, the others for the only place.
    let early = call(&pool, "takes the place");
    until("it to wait", || pool.status().waiting == 1).await;
    let mut stream = script.welcome().await;
    let taken = expect(&mut stream, &[REQUEST]).await;
    let waiting = [call(&pool, "waits"), call(&pool, "waits, too")];
    until("them to wait", || pool.status().waiting == 2).await;
    let closing = {
        let pool = pool.clone();
        tokio::spawn(async move { pool.close(9 * SECOND).await })
    };
    let assert_closed = |error: CallError| {
        assert_eq!((error.outcome(), error.cause()), (Outcome::NotSent, &CallCause::Closed));
    };
    for call in waiting {
        assert_closed(soon("the waiting call's end", call).await.unwrap().unwrap_err());
    }
    assert_closed(pool.call("too late").await.unwrap_err());
    assert_closed(pool.notify("too late").await.unwrap_err());
    assert_closed(pool.request("too late").idempotent().fail_fast().send().await.unwrap_err());
    assert!(!early.is_finished() && !closing.is_finished());
    stream.write_all(&reply(taken.id(), b"in time")).await.unwrap();
    assert_eq!(soon("the answer", early).await.unwrap().unwrap(), "in time");
    drop(stream);
    soon("the close", closing).await.unwrap().unwrap();
    assert_closed(pool.call("much too late").await.unwrap_err());
    assert!(soon("no readiness", pool.ready(SECOND)).await.is_err());
}

#[tokio::test]
async fn closing_ends_a_dial_that_is_under_way() {
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string()).build().unwrap();
    let mut stream = script.accept().await;
    let waits = call(&pool, "waits");
    until("it to wait", || pool.status().waiting == 1).await;
    let began = Instant::now();
    soon("the close", pool.close(9 * SECOND)).await.unwrap();
    assert!(began.elapsed() < SECOND);
    let error = soon("the waiting call's end", waits).await.unwrap().unwrap_err();
    assert_eq!((error.outcome(), error.cause()), (Outcome::NotSent, &CallCause::Closed));
    expect_fin(&mut stream).await;
}

#[tokio::test]
async fn a_client_that_comes_during_a_shutdown_is_told_to_go_elsewhere() {
    let Slow { address, handle, serving, .. } = slow().await;
    // Accepted before the shutdown, but its HELLO comes after.
    let mut late = connect(address).await;
    let mut other = join(address).await;
    handle.shutdown(9 * SECOND);
    expect(&mut other, &[GOAWAY]).await;
    drop(other);
    late.write_all(&hello(0)).await.unwrap();
    let busy = expect(&mut late, &[support::scripted::BUSY]).await;
    assert_eq!(busy.code(), 2);
    expect_fin(&mut late).await;
    drop(late);
    assert_eq!(soon("the server's end", serving).await.unwrap(), Ok(()));
}

/// One who has more patience than another that closes the same pool.
#[tokio::test]
async fn whoever_closes_a_pool_hears_of_the_calls_that_were_cut_off_meanwhile() {
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string()).build().unwrap();
    let mut line = script.welcome().await;
    let caller = pool.clone();
    let call = tokio::spawn(async move { caller.call("a long work").await });
    expect(&mut line, &[REQUEST]).await;
    let patient = pool.clone();
    let patient = tokio::spawn(async move { patient.close(60 * SECOND).await });
    until("the close", || pool.status().state == State::Closing).await;
    let hasty = pool.close(Duration::ZERO).await;
    assert_eq!(hasty.unwrap_err().unfinished, 1);
    let outcome = soon("the call", call).await.unwrap().unwrap_err().outcome();
    assert_eq!(outcome, Outcome::Indeterminate);
    let patient = soon("the first close", patient).await.unwrap();
    assert!(patient.is_err(), "its call was cut off, and it was told that all were finished");
}

/// Sooner than a connection proves stable.
#[tokio::test]
async fn a_server_that_closes_idle_connections_early_is_dialed_again_at_once() {
    let idle = Duration::from_millis(50);
    let address =
        start(Server::builder().idle_limit(idle), |call: Call| async { Ok(call.into_body()) })
            .await;
    let mut builder = Pool::builder(address.to_string());
    let mut events = builder.events();
    let pool = builder.build().unwrap();
    let mut took = Vec::new();
    while took.len() < 14 {
        let event = soon("an event", events.next()).await.unwrap();
        if let Event::GoingAway { .. } = event {
            let began = Instant::now();
            pool.request("price of apples").timeout(20 * SECOND).send().await.unwrap();
            took.push(began.elapsed());
        }
    }
    let longest = took.iter().max().unwrap();
    assert!(*longest < SECOND, "the server is there, and calls waited {took:?}");
}
