//! What steadfast takes and what it leaves behind: memory that a peer claims or makes it hold, tasks, sockets.
//!
//! All of it is counted for the whole process, so these tests have a binary of their own and take turns.

// How much a kernel takes off a program is the kernel's own affair: the counts are for one family of them.
#![cfg(unix)]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::alloc::System;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use steadfast::{
    Bytes, Call, Connect, Connecting, Endpoint, ErrorReply, Event, Handler, Pool, PushError,
    Pusher, Server, ServerBuilder, SocketOptions,
};
use support::local::{pool, start};
use support::scripted::{
    CHUNK, ERROR, GOAWAY, NOTIFY, PUSH, REFUSED, REPLY, REQUEST, Script, expect, expect_fin, frame,
    hello, join, long_request, message, request, welcome,
};
use support::waits::{soon, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Runs a test while no other runs, from the making of its runtime (which has a socket of its own) to its end.
fn alone(test: impl Future<Output = ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

const MS: Duration = Duration::from_millis(1);
const MIB: usize = 1 << 20;

/// Calls in the background.
fn call(pool: &Pool) -> tokio::task::JoinHandle<Result<Bytes, steadfast::CallError>> {
    let pool = pool.clone();
    tokio::spawn(async move { pool.call("hello").await })
}

// What a peer claims.

/// Fails if so much was allocated since, all in all, freed or not, that what a peer claimed can be among it.
fn assert_frugal(since: &Region<'_, System>, what: &str) {
    let allocated = since.change().bytes_allocated;
    println!("{what}: {allocated} bytes");
    assert!(allocated < MIB, "{what}: {allocated} bytes were allocated");
}

const FOUR_GIB: [u8; 4] = [0xff; 4];
const CLAIM: u32 = 16 << 20;

#[test]
fn the_server_allocates_nothing_of_what_a_client_claims() {
    alone(async {
        let address =
            start(Server::builder(), |call: Call| async move { Ok(call.into_body()) }).await;
        join(address).await;

        let since = Region::new(ALLOCATOR);
        let mut stream = join(address).await;
        stream.write_all(&FOUR_GIB).await.unwrap();
        expect(&mut stream, &[GOAWAY]).await;
        expect_fin(&mut stream).await;
        assert_frugal(&since, "a frame of 4 GiB");

        let since = Region::new(ALLOCATOR);
        let mut stream = join(address).await;
        for id in 1..=16 {
            stream.write_all(&long_request(id, CLAIM, b"begins")).await.unwrap();
            let goes_on = frame(CHUNK, &[&[0], &id.to_be_bytes(), b"goes on"]);
            stream.write_all(&goes_on).await.unwrap();
        }
        stream.write_all(&request(99, 0, b"small")).await.unwrap();
        expect(&mut stream, &[REPLY]).await;
        assert_frugal(&since, "16 requests of 16 MiB");

        let since = Region::new(ALLOCATOR);
        let mut stream = support::scripted::connect(address).await;
        stream.write_all(&[&FOUR_GIB[..], &hello(0)].concat()).await.unwrap();
        expect_fin(&mut stream).await;
        assert_frugal(&since, "a HELLO of 4 GiB");
    });
}

#[test]
fn the_client_allocates_nothing_of_what_a_server_claims() {
    alone(async {
        for (what, bytes) in [
            ("a frame of 4 GiB", FOUR_GIB.to_vec()),
            (
                "a reply of 16 MiB",
                frame(REPLY, &[&[1], &1u64.to_be_bytes(), &CLAIM.to_be_bytes(), b"x"]),
            ),
            ("16 pushes of 16 MiB", (1..=16u64).flat_map(claimed_push).collect()),
        ] {
            let script = Script::bind().await;
            let pool = pool(script.address);
            let call = call(&pool);
            let mut stream = script.accept().await;
            stream.write_all(&welcome(1, CLAIM, 9)).await.unwrap();
            expect(&mut stream, &[REQUEST]).await;

            let since = Region::new(ALLOCATOR);
            stream.write_all(&bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            assert!(soon("the call's end", call).await.unwrap().is_err());
            assert_frugal(&since, what);
        }
        let script = Script::bind().await;
        let pool = pool(script.address);
        let mut events = pool.events();
        let mut stream = script.accept().await;
        let since = Region::new(ALLOCATOR);
        stream.write_all(&FOUR_GIB).await.unwrap();
        soon("the failed dial", async {
            while !matches!(events.next().await, Some(Event::DialFailed { .. })) {}
        })
        .await;
        assert_frugal(&since, "a WELCOME of 4 GiB");
    });
}

fn claimed_push(number: u64) -> Vec<u8> {
    let id = ((1 << 63) + number).to_be_bytes();
    frame(PUSH, &[&[1], &id, &CLAIM.to_be_bytes(), b"begins"])
}

// What a peer makes a server hold.

/// Tells its caller's pusher.
#[derive(Clone, Default)]
struct Lender(Arc<Mutex<Option<Pusher>>>);

impl Handler for Lender {
    async fn call(&self, call: Call) -> Result<Bytes, ErrorReply> {
        *self.0.lock().unwrap() = Some(call.pusher());
        Ok(Bytes::new())
    }
}

/// A connection of a client that has little room for what comes in.
async fn join_narrowly(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket2::SockRef::from(&socket).set_tcp_mss(1460).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.set_send_buffer_size(16 * 1024).unwrap();
    let mut stream = soon("a connection", socket.connect(address)).await.unwrap();
    stream.write_all(&hello(0)).await.unwrap();
    expect(&mut stream, &[support::scripted::WELCOME]).await;
    stream
}

/// Writes these frames again and again, with growing ids, until nothing more is taken. Says how many were written.
async fn write_until_stuck(stream: &mut TcpStream, frame: impl Fn(u64) -> Vec<u8>) -> u64 {
    let mut written = 0;
    loop {
        let frame = frame(written + 1);
        // Within too short a time less is taken than may be.
        match timeout(2000 * MS, stream.write_all(&frame)).await {
            Ok(result) => result.unwrap(),
            Err(_) => return written,
        }
        written += 1;
        assert!(written < 10_000, "it is never stuck");
    }
}

const PIECE: usize = 16 * 1024;
const HELD: usize = 512 * 1024;

fn frugal() -> ServerBuilder {
    let socket = SocketOptions::default().send_buffer(16 * 1024).receive_buffer(16 * 1024);
    Server::builder().held_bytes(HELD).socket(socket)
}

#[test]
fn a_client_that_does_not_read_its_replies_does_not_make_the_server_hold_more() {
    alone(async {
        let handled = Arc::new(AtomicUsize::new(0));
        let counter = handled.clone();
        let address = start(frugal(), move |call: Call| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move { Ok(call.into_body()) }
        })
        .await;
        let mut stream = join_narrowly(address).await;
        let written = write_until_stuck(&mut stream, |id| request(id, 0, &[1; PIECE])).await;
        // The answers that wait, what was read at once when there was still room, and what the kernel and the driver hold.
        let most = HELD + 64 * 1024 + 512 * 1024;
        let answered = handled.load(Ordering::SeqCst);
        assert!(answered * PIECE <= most, "{answered} answers of {PIECE} bytes are held");
        assert!(answered * PIECE >= HELD, "{answered} answers are fewer than allowed");
        let other = pool(address);
        assert_eq!(soon("another client's answer", other.call("hello")).await.unwrap(), "hello");
        // Once it reads, it gets them all. (The last frame was not written to its end.)
        for _ in 0..written {
            let reply = expect(&mut stream, &[REPLY, ERROR, REFUSED]).await;
            assert_eq!((reply.kind, reply.body().len()), (REPLY, PIECE));
        }
    });
}

#[test]
fn notifications_that_nobody_takes_do_not_make_the_server_hold_more() {
    alone(async {
        struct Stuck(Arc<Semaphore>, Arc<AtomicUsize>);
        impl Handler for Stuck {
            async fn call(&self, call: Call) -> Result<Bytes, ErrorReply> {
                Ok(call.into_body())
            }
            async fn notified(&self, _: Call) {
                self.0.acquire().await.unwrap().forget();
                self.1.fetch_add(1, Ordering::SeqCst);
            }
        }
        let (open, taken) = (Arc::new(Semaphore::new(0)), Arc::<AtomicUsize>::default());
        let address = start(frugal(), Stuck(open.clone(), taken.clone())).await;
        let mut stream = join_narrowly(address).await;
        let written =
            write_until_stuck(&mut stream, |id| message(NOTIFY, id, &[1; PIECE])).await as usize;
        assert!(written * PIECE <= HELD + 64 * 1024 + 512 * 1024, "{written} notifications");
        open.add_permits(written);
        until("all of them", || taken.load(Ordering::SeqCst) == written).await;
    });
}

#[test]
fn a_client_that_does_not_read_is_not_pushed_to_without_end() {
    alone(async {
        let lender = Lender::default();
        let address = start(frugal(), lender.clone()).await;
        let mut stream = join_narrowly(address).await;
        stream.write_all(&request(1, 0, b"hello")).await.unwrap();
        expect(&mut stream, &[REPLY]).await;
        let pusher = lender.0.lock().unwrap().clone().unwrap();
        let mut pushed = 0;
        until("the queue to be full and stay so", || {
            let full = (0..100).all(|_| {
                let result = pusher.push(vec![0; PIECE]);
                pushed += usize::from(result.is_ok());
                result == Err(PushError::Full)
            });
            assert!(pushed < 1000, "no bound");
            full
        })
        .await;
        for _ in 0..pushed {
            assert_eq!(expect(&mut stream, &[PUSH]).await.body().len(), PIECE);
        }
    });
}

// What is left when a pool is gone.

/// Tasks of this runtime and sockets of this process.
fn footprint() -> (usize, usize) {
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let is_socket = |fd: std::io::Result<std::fs::DirEntry>| {
        let target = std::fs::read_link(fd.ok()?.path()).ok()?;
        target.to_string_lossy().starts_with("socket:").then_some(())
    };
    let sockets = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(is_socket).count();
    (tasks, sockets)
}

async fn back_to(before: (usize, usize)) {
    until("tasks and sockets to be gone", || footprint() == before).await;
}

#[cfg(target_os = "linux")]
#[test]
fn dropping_the_last_handle_of_an_idle_pool_leaves_no_task_and_no_socket() {
    alone(async {
        let script = Script::bind().await;
        let before = footprint();
        let pool = Pool::builder(script.address.to_string()).connections(3).build().unwrap();
        let mut streams = [script.welcome().await, script.welcome().await, script.welcome().await];
        until("all to be ready", || pool.status().ready == 3).await;
        let last = pool.clone();
        drop(pool);
        assert_eq!(last.status().ready, 3, "not before the last handle");
        assert!(footprint() > before);
        drop(last);
        for stream in &mut streams {
            expect_fin(stream).await;
        }
        drop(streams);
        back_to(before).await;
    });
}

#[cfg(target_os = "linux")]
#[test]
fn dropping_a_pool_in_the_middle_of_calls_leaves_no_task_and_no_socket() {
    alone(async {
        let script = Script::bind().await;
        let before = footprint();
        let pool = pool(script.address);
        let calls: Vec<_> = (0..10).map(|_| call(&pool)).collect();
        let big = {
            let pool = pool.clone();
            tokio::spawn(async move { pool.call(vec![0; 16 * MIB]).await })
        };
        let mut stream = script.accept().await;
        stream.write_all(&welcome(1, CLAIM, 99)).await.unwrap();
        expect(&mut stream, &[CHUNK]).await;
        drop(pool);
        for call in calls.into_iter().chain([big]) {
            call.abort();
        }
        // What was said before still comes, and then the end.
        let _ = soon("the end", stream.read_to_end(&mut Vec::new())).await;
        drop(stream);
        back_to(before).await;
    });
}

/// Never connects.
struct Nowhere;

impl Connect for Nowhere {
    fn connect<'a>(&'a self, _: &'a Endpoint) -> Connecting<'a> {
        Box::pin(pending())
    }
}

#[cfg(target_os = "linux")]
#[test]
fn dropping_a_pool_while_it_dials_leaves_no_task_and_no_socket() {
    alone(async {
        let script = Script::bind().await;
        let before = footprint();

        let connecting = Pool::builder("nowhere:1").connector(Nowhere).build().unwrap();
        let mut events = connecting.events();
        assert!(matches!(soon("the dial", events.next()).await, Some(Event::Dialing { .. })));
        drop(connecting);
        assert_eq!(soon("the stream's end", events.next()).await, None);
        back_to(before).await;

        let greeting = pool(script.address);
        let mut stream = script.accept().await;
        drop(greeting);
        expect_fin(&mut stream).await;
        drop(stream);
        back_to(before).await;

        // In the pause after a failed attempt.
        let dead = TcpSocket::new_v4().unwrap();
        dead.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let between = pool(dead.local_addr().unwrap());
        let mut events = between.events();
        soon("the failed dial", async {
            while !matches!(events.next().await, Some(Event::DialFailed { .. })) {}
        })
        .await;
        drop((between, dead));
        back_to(before).await;
    });
}

#[cfg(target_os = "linux")]
#[test]
fn dropping_a_pool_while_its_hook_runs_leaves_no_task_and_no_socket() {
    alone(async {
        let script = Script::bind().await;
        let before = footprint();
        let pool = Pool::builder(script.address.to_string())
            .on_connect(|mut conversation| async move {
                conversation.call("log in").await?;
                Ok(())
            })
            .build()
            .unwrap();
        let mut stream = script.welcome().await;
        assert_eq!(expect(&mut stream, &[REQUEST]).await.body(), b"log in");
        drop(pool);
        expect_fin(&mut stream).await;
        drop(stream);
        back_to(before).await;
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_closed_pool_and_a_shut_down_server_leave_no_task_and_no_socket() {
    alone(async {
        let before = footprint();
        let server = Server::bind("127.0.0.1:0").await.unwrap();
        let (address, handle) = (server.local_addr().unwrap(), server.handle());
        let serving = tokio::spawn(server.serve(|call: Call| async move { Ok(call.into_body()) }));
        let pool = pool(address);
        assert_eq!(soon("an answer", call(&pool)).await.unwrap().unwrap(), "hello");
        soon("the close", pool.close(9000 * MS)).await.unwrap();
        handle.shutdown(9000 * MS);
        soon("the server's end", serving).await.unwrap().unwrap();
        back_to(before).await;
        drop(pool);
    });
}
