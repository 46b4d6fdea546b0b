//! What calls and leases cost: the codec alone; all of the library, but over a transport of memory; over loopback.
//! `cargo bench`.
//!
//! `benches/peers` compares with other libraries, over sockets and from another process.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod mirror;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use futures::future::{join_all, try_join_all};
use steadfast::{Bytes, Call, Framing, Ordered, Pool, Server};
use tokio::runtime::{Builder, Runtime};
use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Decoder as _, Encoder as _};

use mirror::Mirrors;

const SMALL: usize = 64;
const PAGE: usize = 4096;

fn body(length: usize) -> Bytes {
    Bytes::from(vec![7; length])
}

/// Frames with a length in front, of which the codec of tokio-util and the pool share the code.
fn frames(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame");
    for length in [SMALL, PAGE] {
        let (mut framing, body) = (Framing::u32_be(), body(length));
        let mut out = BytesMut::with_capacity(2 * length);
        group.bench_function(format!("encode {length} bytes"), |b| {
            b.iter(|| {
                out.clear();
                framing.encode(body.clone(), &mut out).expect("it is short enough");
                black_box(&out);
            });
        });
        let frame = out.clone().freeze();
        group.bench_function(format!("decode {length} bytes"), |b| {
            b.iter(|| {
                let mut input = BytesMut::from(&frame[..]);
                black_box(framing.decode(&mut input).expect("it is a frame"))
            });
        });
    }
    group.finish();
}

/// Calls of `Native`, from the pool through the session and back, without a system call.
fn calls_in_memory(c: &mut Criterion) {
    let runtime = one_thread();
    let pool = runtime.block_on(async {
        let pool = Pool::builder("mirror:1").connector(Mirrors::Native).build();
        pool.expect("the address is well-formed")
    });
    let mut group = c.benchmark_group("call in memory");
    for (length, callers) in [(SMALL, 1), (SMALL, 64), (PAGE, 64)] {
        calls(&mut group, &runtime, &pool, length, callers);
    }
    group.finish();
}

/// Over loopback and back, both ends in this process.
fn calls_over_loopback(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime can be made");
    let pool = runtime.block_on(async {
        let server = Server::bind("127.0.0.1:0").await.expect("loopback can be bound");
        let address = server.local_addr().expect("a bound socket has an address").to_string();
        tokio::spawn(server.serve(|call: Call| async move { Ok(call.into_body()) }));
        Pool::builder(address).build().expect("the address is well-formed")
    });
    let mut group = c.benchmark_group("call over loopback");
    for callers in [1, 64] {
        calls(&mut group, &runtime, &pool, SMALL, callers);
    }
    group.finish();
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn calls(group: &mut Group<'_>, runtime: &Runtime, pool: &Pool, length: usize, callers: usize) {
    let body = body(length);
    group.throughput(Throughput::Elements(callers as u64));
    group.bench_function(format!("{callers} of {length} bytes"), |b| {
        b.to_async(runtime).iter(|| {
            let calls = (0..callers).map(|_| pool.call(body.clone()));
            async { black_box(try_join_all(calls).await.expect("it answers")) }
        });
    });
}

/// A check-out and a return: alone, and in a line of callers for one connection, which hold it over one yield.
fn leases(c: &mut Criterion) {
    let runtime = one_thread();
    let pool = runtime.block_on(async {
        let pool = Pool::builder("mirror:1").connector(Mirrors::Frames);
        let pool = pool.protocol(Ordered::new(Framing::u32_be())).build();
        pool.expect("the settings are good")
    });
    let lease = || async {
        let lease = pool.lease().await.expect("there is a connection");
        tokio::task::yield_now().await;
        drop(lease);
    };
    let mut group = c.benchmark_group("lease");
    group.bench_function("check-out and return", |b| {
        b.to_async(&runtime).iter(|| async { drop(black_box(pool.lease().await)) });
    });
    const LINE: u64 = 64;
    group.throughput(Throughput::Elements(LINE));
    group.bench_function(format!("{LINE} in a line"), |b| {
        b.to_async(&runtime).iter(|| join_all((0..LINE).map(|_| lease())));
    });
    group.finish();
}

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

criterion_group!(benches, frames, calls_in_memory, leases, calls_over_loopback);
criterion_main!(benches);
