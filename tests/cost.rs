//! What the reply cache costs, in allocations, which do not depend on the machine.

#![allow(clippy::unwrap_used)]

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use steadfast::{Bytes, Call, Pool, ReplyCache, Retry, Server};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CALLS: usize = 5000;

/// Allocations of both ends for so many calls, one after the other, when everything has warmed up.
fn allocations(cache: ReplyCache, retry: Retry) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = Server::builder().reply_cache(cache).bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        tokio::spawn(server.serve(|call: Call| async move { Ok(call.into_body()) }));
        let pool = Pool::builder(address).retry(retry).build().unwrap();
        let body = Bytes::from_static(&[7; 64]);
        for _ in 0..CALLS {
            pool.call(body.clone()).await.unwrap();
        }
        let region = Region::new(ALLOCATOR);
        for _ in 0..CALLS {
            pool.call(body.clone()).await.unwrap();
        }
        let change = region.change();
        change.allocations + change.reallocations
    })
}

#[test]
fn a_call_that_is_not_remembered_allocates_nothing_for_the_reply_cache() {
    let idempotent = || Retry::default().idempotent();
    let without = allocations(ReplyCache::off(), idempotent());
    let with = allocations(ReplyCache::default(), idempotent());
    // But for what a timer or a buffer does once in a while.
    assert!(with.abs_diff(without) <= CALLS / 100, "{with} and {without} for {CALLS} calls");

    let remembered = allocations(ReplyCache::default(), Retry::default());
    println!(
        "{CALLS} calls: {without} without a cache, {with} not remembered, {remembered} remembered"
    );
    // One to share the reply's buffer, and a list of old answers now and then; no answer is copied.
    assert!(remembered <= with + CALLS + CALLS / 5, "{remembered} and {with} for {CALLS} calls");
}
