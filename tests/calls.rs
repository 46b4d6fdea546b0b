//! Calls that end in every way at once, big messages beside small ones, and pipes that hold next to nothing.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use steadfast::{
    Bytes, Call, CallCause, Event, Heartbeat, Limits, Outcome, Pool, Server, SocketOptions, Stage,
};
use support::local::start;
use support::scripted::{
    CANCEL, PING, PONG, REQUEST, Script, ping, pong, read_frame, reply, welcome,
};
use support::slow_pipe::{Piped, SOCKET_BUFFER};
use support::waits::{soon, until, within};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};

const MIB: usize = 1 << 20;
/// For what keeps both cores busy for seconds, of a machine that has nothing else to do.
const MINUTES: Duration = Duration::from_secs(120);

/// Held by tests that measure times or keep both cores busy: one at a time.
static QUIET: Mutex<()> = Mutex::const_new(());

// A hundred thousand calls against a server that answers late, twice and out of order.

const CALLS: u64 = 100_000;
const CALLERS: u64 = 64;
/// Fewer than there are callers, so that some wait for a place, and give up there.
const PLACES: u32 = 48;

/// How often a call ended how.
#[derive(Default)]
struct Tally {
    replied: AtomicU64,
    timed_out: AtomicU64,
    dropped: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_cancelled_and_timed_out_calls_get_no_wrong_reply_and_leave_nothing() {
    let _quiet = QUIET.lock().await;
    let script = Script::bind().await;
    let pool = Pool::builder(script.address.to_string()).build().unwrap();
    let mut events = pool.events();
    let mut stream = script.accept().await;
    stream.write_all(&welcome(1, 16 << 20, PLACES)).await.unwrap();
    let server = tokio::spawn(answer_badly(stream));
    let (tally, next) = (Arc::new(Tally::default()), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..CALLERS)
        .map(|seed| tokio::spawn(call_badly(pool.clone(), tally.clone(), next.clone(), seed)))
        .collect();
    for caller in callers {
        within(MINUTES, "the calls' ends", caller).await.expect("no caller got a wrong reply");
    }
    let status = pool.status();
    assert_eq!((status.in_flight, status.waiting), (0, 0));
    let seen =
        [&tally.replied, &tally.timed_out, &tally.dropped].map(|n| n.load(Ordering::Relaxed));
    println!("replied, timed out, dropped: {seen:?}");
    assert_eq!(seen.iter().sum::<u64>(), CALLS);
    assert!(seen.iter().all(|count| *count > CALLS / 20), "each kind of end is well represented");
    while let Some(event) = events.try_next() {
        assert!(!matches!(event, Event::Lost { .. }), "{event:?}");
    }
    // The connection has lived through it all and is as good as new.
    assert_eq!(soon("an answer", pool.call("the last")).await.unwrap(), "the last");
    drop(pool);
    let (cancelled, doubled) = soon("the end of the server", server).await.unwrap();
    assert!(cancelled > CALLS / 50 && doubled > CALLS / 50, "{cancelled} {doubled}");
}

/// Calls until the numbers run out, and has a different way to end each.
async fn call_badly(pool: Pool, tally: Arc<Tally>, next: Arc<AtomicU64>, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= CALLS {
            return;
        }
        let length = if rng.u16(..) < 60 { 70_000 } else { rng.usize(8..40) };
        let body = body(number, length);
        let patience = Duration::from_micros(rng.u64(20..1000));
        let result = match rng.u8(..) {
            0..100 => Some(pool.call(body.clone()).await),
            100..160 => Some(pool.request(body.clone()).timeout(patience).send().await),
            160..210 => poll_a_few_times(pool.call(body.clone()), rng.u32(0..4)).await,
            _ => tokio::time::timeout(patience, pool.call(body.clone())).await.ok(),
        };
        match result {
            None => count(&tally.dropped),
            Some(Ok(reply)) => {
                assert_eq!(reply, body, "a wrong reply");
                count(&tally.replied);
            }
            Some(Err(error)) => {
                assert!(
                    matches!(
                        (error.outcome(), error.cause()),
                        (Outcome::NotSent | Outcome::Indeterminate, CallCause::TimedOut { .. })
                    ),
                    "{error}"
                );
                count(&tally.timed_out);
            }
        }
    }
}

fn body(number: u64, length: usize) -> Bytes {
    let mut bytes = number.to_be_bytes().repeat(length / 8 + 1);
    bytes.truncate(length);
    bytes.into()
}

/// Gives a future so many chances and then drops it wherever it is.
async fn poll_a_few_times<F: Future>(future: F, times: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    for _ in 0..times {
        let result = std::future::poll_fn(|cx| {
            let polled = future.as_mut().poll(cx);
            // Whether it is ready or not, the others have a turn.
            cx.waker().wake_by_ref();
            std::task::Poll::Ready(polled)
        })
        .await;
        if let std::task::Poll::Ready(output) = result {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Answers each request with its own body: most of them soon, some much later, in any order, many twice, and some
/// although they were cancelled. Ends with the connection; says how many were cancelled and how many answered twice.
async fn answer_badly(stream: TcpStream) -> (u64, u64) {
    let (from, mut to) = stream.into_split();
    let (requests, mut inbox) = mpsc::unbounded_channel::<(u64, Vec<u8>)>();
    let reading = tokio::spawn(read_requests(BufReader::new(from), requests));
    let mut rng = fastrand::Rng::with_seed(99);
    let (mut soon, mut late, mut doubled) = (Vec::new(), Vec::new(), 0);
    let mut idle = tokio::time::interval(Duration::from_millis(2));
    loop {
        let mut out = Vec::new();
        tokio::select! {
            // Nothing more comes until something is answered.
            _ = idle.tick() => soon.append(&mut late),
            request = inbox.recv() => match request {
                Some(request) if rng.u8(..) < 40 => late.push(request),
                Some(request) => soon.push(request),
                None => break,
            },
        }
        while soon.len() > 8 || (!soon.is_empty() && inbox.is_empty() && rng.bool()) {
            let (id, body) = soon.swap_remove(rng.usize(..soon.len()));
            out.extend(reply(id, &body));
            if rng.u8(..) < 40 {
                doubled += 1;
                late.push((id, body));
            }
        }
        if to.write_all(&out).await.is_err() {
            break;
        }
    }
    (reading.await.unwrap(), doubled)
}

/// Puts requests together, long ones from their chunks. Counts the cancelled.
async fn read_requests(
    mut from: BufReader<tokio::net::tcp::OwnedReadHalf>,
    requests: mpsc::UnboundedSender<(u64, Vec<u8>)>,
) -> u64 {
    let mut unfinished = std::collections::HashMap::<u64, Vec<u8>>::new();
    let mut cancelled = 0;
    while let Ok(Some(frame)) = read_frame(&mut from).await {
        let whole = match frame.kind {
            REQUEST if frame.is_flagged() => {
                unfinished.insert(frame.id(), frame.body().to_vec());
                None
            }
            REQUEST => Some((frame.id(), frame.body().to_vec())),
            CANCEL => {
                unfinished.remove(&frame.id());
                cancelled += 1;
                None
            }
            kind => match unfinished.remove(&frame.id()) {
                Some(mut body) => {
                    body.extend(frame.body());
                    if frame.is_flagged() {
                        Some((frame.id(), body))
                    } else {
                        unfinished.insert(frame.id(), body);
                        None
                    }
                }
                None => panic!("unexpected kind {kind:#04x}"),
            },
        };
        if whole.is_some_and(|request| requests.send(request).is_err()) {
            break;
        }
    }
    cancelled
}

#[tokio::test]
async fn a_timed_out_call_says_what_it_was_waiting_for() {
    let script = Script::bind().await;
    let limits = Limits::default().in_flight(1);
    let pool = Pool::builder(script.address.to_string()).limits(limits).build().unwrap();
    let limit = Duration::from_millis(300);
    let stage = |result: Result<Bytes, steadfast::CallError>| match result {
        Err(error) => match error.cause() {
            CallCause::TimedOut { stage, .. } => (error.outcome(), *stage),
            other => panic!("{other}"),
        },
        Ok(reply) => panic!("{reply:?}"),
    };
    let call = pool.request("nobody answers the door").timeout(limit).send();
    assert_eq!(stage(call.await), (Outcome::NotSent, Stage::Connection));
    let _stream = script.welcome().await;
    soon("a connection", pool.ready(Duration::from_secs(9))).await.unwrap();
    let call = pool.request("nobody answers").timeout(limit).send();
    assert_eq!(stage(call.await), (Outcome::Indeterminate, Stage::Reply));
    let taken = pool.call("takes the only place");
    let waits = pool.request("waits behind it").timeout(limit).send();
    tokio::select! {
        biased;
        _ = taken => panic!("nobody answers"),
        result = waits => assert_eq!(stage(result), (Outcome::NotSent, Stage::Connection)),
    }
    let status = pool.status();
    assert_eq!((status.in_flight, status.waiting), (0, 0));
}

// Big messages beside small ones.

/// A server for what these tests need: a body that starts with `pull` is answered with so many bytes as follow.
async fn depot(heartbeat: Heartbeat) -> SocketAddr {
    let buffers = SOCKET_BUFFER;
    let socket = SocketOptions::default().send_buffer(buffers).receive_buffer(buffers);
    let builder = Server::builder().socket(socket).heartbeat(heartbeat);
    let handler = |call: Call| async move {
        let wanted = std::str::from_utf8(&call.body()[..call.body().len().min(20)]).unwrap_or("");
        Ok(match wanted.strip_prefix("pull ") {
            Some(bytes) => vec![b'p'; bytes.parse().unwrap()].into(),
            None if call.body().len() > 1000 => Bytes::copy_from_slice(&call.body()[..8]),
            None => call.into_body(),
        })
    };
    start(builder, handler).await
}

/// So many bytes a second pass the line, in each direction.
const RATE: u64 = 8 << 20;
/// What one chunk takes there.
const CHUNK_TIME: Duration = Duration::from_nanos(65_550 * 1_000_000_000 / RATE);
/// What a small call may have to wait for beside big messages in both directions: in each up to 5 chunks in the
/// connection's hands, 2 in the kernel's, and 1 in the pipe. Behind the whole messages it would be 320.
const A_FEW: u32 = 2 * (5 + 2 + 1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_mebibytes_each_way_delay_a_small_call_by_a_few_chunks_only() {
    let _quiet = QUIET.lock().await;
    // Shorter than the transfer, so that it is lived through only if both ends are heard meanwhile.
    let heartbeat = Heartbeat::every(Duration::from_millis(250));
    let address = depot(heartbeat).await;
    let line = Piped { size: 16 * 1024, rate: RATE, ..Piped::default() };
    let pool = Pool::builder(address.to_string())
        .connector(line.clone())
        .heartbeat(heartbeat)
        .build()
        .unwrap();
    soon("a connection", pool.ready(Duration::from_secs(9))).await.unwrap();
    // The best of three: a machine that is busy with other things delays some calls by more.
    let mut delayed = Vec::new();
    while delayed.len() < 3 {
        let began = Instant::now();
        let calls = soon("the big messages", measure(&pool, &line, ten_each_way(&pool))).await;
        let took = began.elapsed();
        assert!(took >= CHUNK_TIME * 160, "the line was as slow as it should be");
        assert!(calls.len() > 10, "{} small calls", calls.len());
        let (mut times, mut chunks): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
        times.sort_unstable();
        chunks.sort_unstable();
        // The worst ones are measured in what passed the line meanwhile, because that machine does not delay most of them.
        let (median, p99) = (times[times.len() / 2], chunks[chunks.len() * 99 / 100]);
        println!("{} small calls in {took:?}, median {median:?}, p99 {p99} chunks", times.len());
        if p99 <= A_FEW && median < CHUNK_TIME * A_FEW {
            return;
        }
        delayed.push((median, p99));
    }
    panic!("small calls are delayed by more than {A_FEW} chunks: {delayed:?}");
}

async fn ten_each_way(pool: &Pool) {
    let up = pool.call(vec![b'u'; 10 * MIB]);
    let down = pool.call(format!("pull {}", 10 * MIB));
    let (up, down) = tokio::join!(up, down);
    assert_eq!(up.unwrap(), "uuuuuuuu");
    assert_eq!(down.unwrap().len(), 10 * MIB);
}

/// Small calls, one after another until `meanwhile` is over: how long each took, and how many chunks passed the line
/// in that time, in the direction in which more did.
async fn measure(
    pool: &Pool,
    line: &Piped,
    meanwhile: impl Future<Output = ()>,
) -> Vec<(Duration, u32)> {
    let (mut calls, mut meanwhile) = (Vec::new(), pin!(meanwhile));
    let passed = || line.passed.each_ref().map(|bytes| bytes.load(Ordering::Relaxed));
    loop {
        let body = format!("small {}", calls.len());
        let (began, before) = (Instant::now(), passed());
        let mut call = pin!(pool.call(body.clone()));
        tokio::select! {
            reply = &mut call => assert_eq!(reply.unwrap(), body),
            () = &mut meanwhile => {
                assert_eq!(call.await.unwrap(), body);
                return calls;
            }
        }
        let after = passed();
        let bytes = (after[0] - before[0]).max(after[1] - before[1]);
        calls.push((began.elapsed(), bytes.div_ceil(65_550) as u32));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_go_out_while_a_big_message_goes_up_and_nothing_comes_down() {
    let _quiet = QUIET.lock().await;
    let script = Script::bind().await;
    let line = Piped { size: 16 * 1024, rate: RATE, ..Piped::default() };
    let pool = Pool::builder(script.address.to_string())
        .connector(line)
        .heartbeat(
            Heartbeat::every(Duration::from_millis(50)).give_up_after(Duration::from_secs(5)),
        )
        .build()
        .unwrap();
    let call = tokio::spawn(async move { pool.call(vec![b'u'; 10 * MIB]).await });
    let mut stream = script.accept().await;
    stream.write_all(&welcome(1, 16 << 20, 9)).await.unwrap();
    // A server that says nothing of its own accord but pings: what else the client hears are answers to its own.
    let (mut from, mut to) = stream.split();
    let (mut came, mut pings, mut asked, mut late) = (0, 0, None, Vec::new());
    let id = soon("the whole request", async {
        let mut from = BufReader::new(&mut from);
        loop {
            let frame = read_frame(&mut from).await.unwrap().expect("no loss");
            match frame.kind {
                PING => {
                    pings += usize::from(came > 0);
                    to.write_all(&pong(&frame)).await.unwrap();
                }
                PONG => late.extend(asked.take().map(|asked: Instant| asked.elapsed())),
                _ => came += frame.body().len(),
            }
            if came == 10 * MIB {
                return frame.id();
            }
            if asked.is_none() && late.len() < came / MIB {
                to.write_all(&ping(came as u64)).await.unwrap();
                asked = Some(Instant::now());
            }
        }
    })
    .await;
    late.sort();
    println!("{pings} pings between chunks, pongs after {late:?}");
    // A transfer of 1.25 s, a ping after every 50 ms of silence.
    assert!(pings >= 3, "{pings} pings between chunks");
    assert!(late.len() >= 5 && late[late.len() / 2] < CHUNK_TIME * A_FEW, "{late:?}");
    to.write_all(&reply(id, b"thanks")).await.unwrap();
    assert_eq!(soon("the reply", call).await.unwrap().unwrap(), "thanks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_mebibytes_each_way_through_pipes_of_256_bytes_do_not_deadlock() {
    let _quiet = QUIET.lock().await;
    let address = depot(Heartbeat::default()).await;
    let line = Piped { size: 256, ..Piped::default() };
    let pool = Pool::builder(address.to_string()).connector(line.clone()).build().unwrap();
    let calls = (0..2).map(|_| async {
        let (up, down) =
            tokio::join!(pool.call(vec![b'u'; 5 * MIB]), pool.call(format!("pull {}", 5 * MIB)));
        assert_eq!(up.unwrap(), "uuuuuuuu");
        assert_eq!(down.unwrap().len(), 5 * MIB);
    });
    let small = measure(&pool, &line, async { _ = futures::future::join_all(calls).await });
    let small = within(MINUTES, "all of it", small).await;
    assert!(small.len() > 10, "small calls get through meanwhile: {}", small.len());
    until("the end of all calls", || pool.status().in_flight == 0).await;
}
