//! Whole calls over loopback. `cargo bench`.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use steadfast::{Bytes, Call, Pool, Server};
use tokio::runtime::Runtime;

/// One caller, then 64, over loopback and back, both ends in this process.
fn calls(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime can be made");
    let pool = runtime.block_on(async {
        let server = Server::bind("127.0.0.1:0").await.expect("loopback can be bound");
        let address = server.local_addr().expect("a bound socket has an address").to_string();
        tokio::spawn(server.serve(|call: Call| async move { Ok(call.into_body()) }));
        Pool::builder(address).build().expect("the address is well-formed")
    });
    let body = Bytes::from_static(&[7; 64]);
    let mut group = c.benchmark_group("call of 64 bytes");
    for callers in [1, 64] {
        group.throughput(Throughput::Elements(callers));
        group.bench_function(format!("{callers} at a time"), |b| {
            b.to_async(&runtime).iter(|| {
                let calls = (0..callers).map(|_| pool.call(body.clone()));
                async { black_box(futures::future::try_join_all(calls).await.expect("it answers")) }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, calls);
criterion_main!(benches);
