//! What a check-out of an idle connection and its return cost: no allocation, no system call, no timer. What they take in
//! time is measured in `benches/peers`.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

use std::alloc::System;
use std::path::Path;
use std::process::Command;

use futures::FutureExt as _;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use steadfast::Pool;
use tokio::runtime::Runtime;

use support::loopback::listen;
use support::news::ready;
use support::plain::{echo_all, ordered};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A pool of 8 idle connections. The runtime is that of its tasks.
fn pool() -> (Pool, Runtime) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let pool = runtime.block_on(async {
        let (listener, address) = listen().await;
        tokio::spawn(echo_all(listener));
        let mut builder = Pool::builder(address).protocol(ordered().heartbeat("?")).connections(8);
        let mut events = builder.events();
        let pool = builder.build().unwrap();
        // Whoever looks for it again and again makes system calls, more of them the slower the machine.
        for _ in 0..8 {
            ready(&mut events).await;
        }
        pool
    });
    (pool, runtime)
}

/// Outside of the runtime, where a timer cannot be made: that would panic.
fn check_out_and_return(pool: &Pool, times: usize) {
    for _ in 0..times {
        let lease = pool.lease().into_future().now_or_never();
        drop(lease.expect("nobody is waited for").unwrap());
    }
}

/// Both in one test, because they count what the whole process does.
#[test]
fn a_check_out_and_return_costs_no_allocation_no_timer_and_no_system_call() {
    let (pool, _runtime) = pool();
    check_out_and_return(&pool, 100);
    let allocations = (0..5).map(|_| {
        let region = Region::new(ALLOCATOR);
        check_out_and_return(&pool, 10_000);
        let change = region.change();
        (change.allocations, change.reallocations, change.deallocations)
    });
    // What check-outs cost they cost each time; what the test's own process does besides, once.
    assert_eq!(allocations.min(), Some((0, 0, 0)));

    let Some(few) = system_calls(10_000) else { return };
    let many = system_calls(110_000).unwrap();
    println!("{few} system calls in a process that leases 10,000 times, {many} with 110,000");
    // A start is never the same twice: a thread more or less in a futex.
    assert!(many <= few + 100, "{few} and {many}");
}

/// System calls of a process that does so many check-outs, and what it takes to begin. `None`, with a word about it, where
/// they cannot be counted.
fn system_calls(checkouts: usize) -> Option<u64> {
    let folder = tempfile::tempdir().unwrap();
    let summary = folder.path().join("summary");
    let output = Command::new("strace")
        .args(["-f", "-c", "-o"])
        .arg(&summary)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_process", "--test-threads=1"])
        .env("STEADFAST_CHECKOUTS", checkouts.to_string())
        .output();
    let why = match output {
        Ok(output) if output.status.success() => return Some(total(&summary)),
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    support::skipping::skip_unless_demanded(&format!("needs strace: {why}"));
    None
}

/// The number of calls in the last line, `100.00 <seconds> <microseconds a call> <calls> <errors> total`.
fn total(summary: &Path) -> u64 {
    let text = std::fs::read_to_string(summary).unwrap();
    let line = text.lines().find(|line| line.ends_with("total")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap()
}

/// Not a test: what runs under `strace`.
#[test]
fn child_process() {
    if let Some(checkouts) = support::process::setting("STEADFAST_CHECKOUTS") {
        let (pool, _runtime) = pool();
        check_out_and_return(&pool, checkouts.parse().unwrap());
    }
}
