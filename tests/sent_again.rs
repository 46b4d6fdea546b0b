//! Calls that may have run, and where they are sent again: over real sockets, to servers that follow a script, and to real ones
//! that soon forget their clients.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use steadfast::{
    Bytes, Call, CallCause, CallError, Limits, Outcome, Pool, Reconnect, ReplyCache, Server,
    Timeouts,
};
use support::local::start;
use support::scripted::{Frame, REQUEST, Script, expect, reply, welcome_remembering};
use support::truth::Told;
use support::waits::{soon, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const MS: Duration = Duration::from_millis(1);

type Answer = Result<Bytes, CallError>;

/// Whether a call waits while nothing is ready.
#[derive(Clone, Copy)]
enum Waiting {
    Patient,
    FailsFast,
}

/// A call in the background, with much time.
fn spawn(pool: Pool, body: &'static str, waiting: Waiting) -> JoinHandle<Answer> {
    tokio::spawn(async move {
        let request = pool.request(body).timeout(Duration::from_secs(60));
        match waiting {
            Waiting::Patient => request.send().await,
            Waiting::FailsFast => request.fail_fast().send().await,
        }
    })
}

/// Both connections of a pool, ready and to the same process, which remembers.
async fn welcomed(script: &Script, pool: &Pool) -> [TcpStream; 2] {
    let mut lines = [script.accept().await, script.accept().await];
    for line in &mut lines {
        line.write_all(&welcome_remembering(1)).await.unwrap();
    }
    until("both connections", || pool.status().ready == 2).await;
    lines
}

/// Two calls, `one` and another, are in flight, one on each of these. Returns the requests and the calls in the order of the lines.
async fn one_each(
    lines: &mut [TcpStream; 2],
    [one, other]: [JoinHandle<Answer>; 2],
) -> ([Frame; 2], [JoinHandle<Answer>; 2]) {
    let [first, second] = lines;
    let asked = [expect(first, &[REQUEST]).await, expect(second, &[REQUEST]).await];
    let calls = if asked[0].body() == b"one" { [one, other] } else { [other, one] };
    (asked, calls)
}

/// Passes bytes on until `cut`, and swallows the server's once `deaf` is set. Then closes both sides.
async fn pass(near: TcpStream, to: SocketAddr, deaf: Arc<AtomicBool>, cut: Arc<Notify>) {
    let far = TcpStream::connect(to).await.unwrap();
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) =
        (near.into_split(), far.into_split());
    let up = async { tokio::io::copy(&mut near_in, &mut far_out).await };
    let down = async {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = far_in.read(&mut piece).await {
            if !deaf.load(Ordering::SeqCst) {
                near_out.write_all(&piece[..count]).await.unwrap();
            }
        }
    };
    tokio::select! {
        () = cut.notified() => {}
        _ = async { tokio::join!(up, down) } => {}
    }
}

/// `HELLO` of a second connection is a long time on its way: what it says of the ids that were used is old when it comes.
/// Meanwhile the server has forgotten the client.
#[tokio::test]
async fn a_call_that_has_run_is_not_run_again_over_a_connection_whose_hello_is_older_than_it() {
    let ran = Arc::new(AtomicUsize::new(0));
    let counter = ran.clone();
    let age = Duration::from_millis(100);
    let server = Server::builder()
        .handshake(Duration::from_secs(60))
        .reply_cache(ReplyCache::default().age(age));
    let handler = move |call: Call| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move { Ok(call.into_body()) }
    };
    let to = start(server, handler).await;

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pool = Pool::builder(listener.local_addr().unwrap().to_string())
        .connections(2)
        .timeouts(Timeouts::default().handshake(Duration::from_secs(60)))
        .build()
        .unwrap();
    let (deaf, cut) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()));
    let (first, _) = soon("the first connection", listener.accept()).await.unwrap();
    let (second, _) = soon("the second connection", listener.accept()).await.unwrap();
    // Its HELLO has left, and is on its way.
    let mut byte = [0];
    soon("HELLO", second.peek(&mut byte)).await.unwrap();
    tokio::spawn(pass(first, to, deaf.clone(), cut.clone()));
    soon("a connection", pool.ready(Duration::from_secs(20))).await.unwrap();

    deaf.store(true, Ordering::SeqCst);
    let caller = pool.clone();
    let call = tokio::spawn(async move {
        caller.request("3 apples").timeout(Duration::from_secs(20)).send().await
    });
    until("the call to have run", || ran.load(Ordering::SeqCst) == 1).await;
    cut.notify_one();
    until("the loss", || pool.status().ready == 0).await;
    // The server forgets the client, which has no connection.
    sleep(20 * age).await;
    tokio::spawn(pass(second, to, Arc::default(), Arc::default()));
    let result = soon("the call", call).await.unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 1, "it was not marked idempotent: {result:?}");
    let error = result.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Indeterminate, "{error}");
}

/// `fail_fast`: "Where one is ready and has no room it waits for its turn all the same".
#[tokio::test]
async fn a_fail_fast_call_that_is_sent_again_waits_for_its_turn_where_a_connection_is_ready() {
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string())
        .connections(2)
        .limits(Limits::default().in_flight(1))
        .build()
        .unwrap();
    let mut lines = welcomed(&script, &pool).await;
    let calls = ["one", "two"].map(|body| spawn(pool.clone(), body, Waiting::FailsFast));
    let (asked, [lost, other]) = one_each(&mut lines, calls).await;
    let [first, mut second] = lines;
    // The first dies with its call; the second is to the same process, ready, and busy.
    drop(first);
    let waits = || pool.status().ready == 1 && pool.status().waiting == 1;
    until("the call to wait or to fail", || waits() || lost.is_finished()).await;
    assert!(!lost.is_finished(), "it did not wait for its turn: {:?}", lost.await.unwrap());
    second.write_all(&reply(asked[1].id(), b"done")).await.unwrap();
    assert_eq!(soon("the other", other).await.unwrap().unwrap(), "done");
    let again = expect(&mut second, &[REQUEST]).await;
    assert_eq!(again.id(), asked[0].id());
    second.write_all(&reply(again.id(), b"done, too")).await.unwrap();
    match soon("the call", lost).await.unwrap() {
        Ok(answer) => assert_eq!(answer, "done, too"),
        Err(error) => panic!("{error} ({})", matches!(error.cause(), CallCause::Lost(_))),
    }
}

/// A place that had been handed to somebody who leaves is free: whoever waits to be sent again, and can go nowhere else, takes it.
#[tokio::test]
async fn a_place_that_is_handed_over_and_left_goes_to_the_call_that_is_sent_again() {
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string())
        .connections(2)
        .limits(Limits::default().in_flight(1))
        .timeouts(Timeouts::default().handshake(Duration::from_secs(300)))
        .build()
        .unwrap();
    let mut lines = welcomed(&script, &pool).await;
    let calls = ["one", "two"].map(|body| spawn(pool.clone(), body, Waiting::Patient));
    let (asked, [lost, other]) = one_each(&mut lines, calls).await;
    let [first, mut second] = lines;
    // Somebody waits, is handed the second one's place, and does not look.
    let mut waiter = Box::pin(pool.request("three").timeout(Duration::from_secs(60)).send());
    assert!(futures::poll!(&mut waiter).is_pending());
    second.write_all(&reply(asked[1].id(), b"done")).await.unwrap();
    soon("the other", other).await.unwrap().unwrap();
    until("the hand-over", || pool.status().waiting == 0).await;
    // The first connection dies; its call can go nowhere but to the second, whose place is taken.
    drop(first);
    until("the loss", || pool.status().ready == 1 && pool.status().waiting == 1).await;
    drop(waiter);
    // Now it is free, and nobody else wants it.
    assert_eq!(pool.status().in_flight, 0);
    let again = timeout(Duration::from_secs(5), expect(&mut second, &[REQUEST])).await;
    let again = again.unwrap_or_else(|_| {
        panic!("a ready connection is idle, and a call waits for it: {:?}", pool.status())
    });
    second.write_all(&reply(again.id(), b"done, too")).await.unwrap();
    assert_eq!(soon("the call", lost).await.unwrap().unwrap(), "done, too");
}

/// A pool that is made smaller gives up the slot whose next connection was to tell who answers there now.
#[tokio::test]
async fn a_call_that_waits_for_a_slot_which_is_given_up_hears_that_its_server_was_replaced() {
    let script = Script::bind().await;
    let mut builder = Pool::builder(script.address.to_string())
        .connections(2)
        .limits(Limits::default().in_flight(1))
        .timeouts(Timeouts::default().handshake(Duration::from_secs(300)));
    let mut events = builder.events();
    let pool = builder.build().unwrap();
    let mut lines = Vec::new();
    for instance in [1u8, 2] {
        let mut line = script.accept().await;
        line.write_all(&welcome_remembering(instance)).await.unwrap();
        lines.push(line);
        until("it to be ready", || pool.status().ready == usize::from(instance)).await;
    }
    // Which of them is in the second slot.
    let mut slots = Vec::new();
    while slots.len() < 2 {
        if let steadfast::Event::Ready { slot, .. } = soon("news", events.next()).await.unwrap() {
            slots.push(slot);
        }
    }
    let at = slots.iter().position(|slot| *slot == 1).unwrap();
    let mut lines = [lines.remove(at), lines.remove(0)];
    let calls = ["one", "two"].map(|body| spawn(pool.clone(), body, Waiting::Patient));
    let (asked, [lost, other]) = one_each(&mut lines, calls).await;
    let [upper, mut lower] = lines;
    lower.write_all(&reply(asked[1].id(), b"done")).await.unwrap();
    soon("the other", other).await.unwrap().unwrap();
    drop(upper);
    until("the loss", || pool.status().ready == 1 && pool.status().waiting == 1).await;
    pool.resize(1).unwrap();
    let error = timeout(Duration::from_secs(5), lost).await;
    let error = error.unwrap_or_else(|_| panic!("it waits for a slot that is gone"));
    let error = error.unwrap().unwrap_err();
    assert!(matches!(error.cause(), CallCause::Replaced { .. }), "{error}");
}

/// "More are made, one after the other, while calls wait because those that are ready have no room".
#[tokio::test]
async fn a_pool_grows_for_a_call_that_waits_to_be_sent_again_while_all_connections_are_full() {
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string())
        .connections(1..=2)
        .limits(Limits::default().in_flight(1))
        .build()
        .unwrap();
    let call = |body| spawn(pool.clone(), body, Waiting::Patient);
    let mut kept = script.accept().await;
    kept.write_all(&welcome_remembering(1)).await.unwrap();
    let long = call("a long work");
    expect(&mut kept, &[REQUEST]).await;
    // For the second, another connection is made.
    let second = call("3 apples");
    let mut spare = script.accept().await;
    spare.write_all(&welcome_remembering(1)).await.unwrap();
    let asked = expect(&mut spare, &[REQUEST]).await;
    drop(spare);
    until("the loss", || pool.status().ready == 1 && pool.status().waiting == 1).await;
    // It waits because the other has no room. There may be two.
    let again = timeout(Duration::from_secs(8), script.accept()).await;
    let mut again = again.unwrap_or_else(|_| {
        panic!("no connection is made for a call that waits: {:?}", pool.status())
    });
    again.write_all(&welcome_remembering(1)).await.unwrap();
    let request = expect(&mut again, &[REQUEST]).await;
    assert_eq!(request.id(), asked.id());
    again.write_all(&reply(request.id(), b"done")).await.unwrap();
    assert_eq!(soon("the call", second).await.unwrap().unwrap(), "done");
    long.abort();
}

/// Passes bytes on for a while. Now and then it takes long to get there.
async fn line(mut near: TcpStream, to: SocketAddr, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    sleep(MS * if rng.u8(0..4) == 0 { rng.u32(100..300) } else { rng.u32(0..40) }).await;
    let Ok(mut far) = TcpStream::connect(to).await else { return };
    let life = MS * rng.u32(5..150);
    let copy = tokio::io::copy_bidirectional(&mut near, &mut far);
    let ended = timeout(life, async {
        let _ = copy.await;
    })
    .await;
    if ended.is_err() && rng.bool() {
        // By RST.
        let _ = socket2::SockRef::from(&near).set_linger(Some(Duration::ZERO));
    }
}

/// Connections are cut, and long on their way, so that an old `HELLO` comes to a server that has forgotten the client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_runs_twice_on_a_server_that_soon_forgets_its_clients() {
    storm(10, 3).await;
}

/// `age` in milliseconds, and at most so many connections.
async fn storm(age: u32, most: usize) {
    let runs: Arc<Mutex<HashMap<Bytes, u32>>> = Arc::default();
    let journal = runs.clone();
    let handler = move |call: Call| {
        *journal.lock().unwrap().entry(call.body().clone()).or_default() += 1;
        async move {
            sleep(MS * fastrand::u32(0..15)).await;
            Ok(call.into_body())
        }
    };
    let cache = ReplyCache::default().age(MS * age);
    let to = start(Server::builder().reply_cache(cache), handler).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for seed in 0.. {
            let (near, _) = listener.accept().await.unwrap();
            tokio::spawn(line(near, to, seed));
        }
    });
    let pool = Pool::builder(address)
        .connections(1..=most)
        .limits(Limits::default().in_flight(2))
        .reconnect(Reconnect::exponential(MS, 20 * MS).stable_after(50 * MS))
        .build()
        .unwrap();
    let (numbers, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let end = Instant::now() + Duration::from_secs(8);
    let mut tasks = Vec::new();
    for caller in 0..12u64 {
        let (pool, numbers, answered) = (pool.clone(), numbers.clone(), answered.clone());
        let runs = runs.clone();
        tasks.push(tokio::spawn(async move {
            let mut rng = fastrand::Rng::with_seed(caller);
            while Instant::now() < end {
                let number = numbers.fetch_add(1, Ordering::Relaxed);
                let body = Bytes::from(format!("call {number}"));
                let limit = Duration::from_secs(8);
                let mut request = pool.request(body.clone()).timeout(limit);
                if rng.u8(0..4) == 0 {
                    request = request.fail_fast();
                }
                let began = Instant::now();
                if rng.u8(0..3) == 0 {
                    let _ = timeout(MS * rng.u32(0..20), request.send()).await;
                    continue;
                }
                let result = request.send().await;
                let took = began.elapsed();
                let ran = runs.lock().unwrap().get(&body).copied().unwrap_or_default();
                assert!(Told::of(&result).is_true(ran, 1), "{body:?} ran {ran} times: {result:?}");
                if let Ok(reply) = result {
                    assert_eq!(reply, body);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                assert!(took < Duration::from_secs(5), "{took:?}, while others get through");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let twice: Vec<_> =
        runs.lock().unwrap().iter().filter(|(_, ran)| **ran > 1).map(|(b, _)| b.clone()).collect();
    assert!(twice.is_empty(), "{} ran twice: {twice:?}", twice.len());
    let answered = answered.load(Ordering::Relaxed);
    eprintln!("{answered} of {} answered", numbers.load(Ordering::Relaxed));
    assert!(answered > 100);
}
