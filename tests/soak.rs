//! A soak: kills, cuts, delays, freezes and cancellations at random for as long as is asked. After each round everybody rests:
//! the books of both sides must agree, and memory, file descriptors, tasks and tables must be what they were.
//!
//! ```text
//! STEADFAST_SOAK_SECONDS=3600 cargo test --release --test soak -- --ignored --nocapture
//! ```
//!
//! `STEADFAST_SEED` repeats the choices of a run, though not its times.

// It reads /proc, and freezes processes.
#![cfg(target_os = "linux")]
// Real time is what this is about, and a failed `unwrap` is a failed test.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod support;

#[path = "lab/account.rs"]
mod account;
#[path = "lab/journal.rs"]
mod journal;
#[path = "lab/server.rs"]
mod server;

#[path = "soak/callers.rs"]
mod callers;
#[path = "soak/ends.rs"]
mod ends;
#[path = "soak/footprint.rs"]
mod footprint;
#[path = "soak/trouble.rs"]
mod trouble;

use std::alloc::System;
use std::time::{Duration, Instant};

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::runtime::Handle;

use callers::Callers;
use ends::Ends;
use footprint::Footprint;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Trouble and load last so long before everybody rests.
const ROUND: Duration = Duration::from_secs(5);
/// Rounds that only fill what stays: buffers that are used again, threads, tables at their working size.
const WARM_UP: usize = 2;
/// So many calls are under way at a time.
const CALLERS: usize = 64;

/// Not a test: what [`support::process::Process`] starts.
#[test]
fn child_process() {
    match support::process::setting("STEADFAST_ROLE").as_deref() {
        None => {}
        Some("lab server") => support::roles::run(server::serve),
        Some(role) => support::roles::play(role),
    }
}

#[test]
#[ignore = "takes as long as STEADFAST_SOAK_SECONDS says, a minute if it says nothing"]
fn under_kills_cuts_delays_and_cancellations_everything_stays_flat() {
    let seconds = support::process::setting("STEADFAST_SOAK_SECONDS");
    let seconds = seconds.map_or(60, |seconds| seconds.parse().unwrap());
    let seed = support::seed::any();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(soak(Duration::from_secs(seconds), seed));
}

async fn soak(time: Duration, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut ends = Ends::start().await;
    let (began, mut first, mut rounds) = (Instant::now(), None::<Footprint>, 0);
    while began.elapsed() < time || rounds <= WARM_UP {
        let callers = Callers::start(&ends, CALLERS, &mut random);
        let troubles = trouble::make(&mut ends, ROUND, &mut random).await;
        let tally = callers.rest().await;
        ends.rest().await;
        tally.check(&ends.executed());
        assert!(tally.answered() > 1000, "{tally}");
        // Its memory is not to be counted.
        let told = tally.to_string();
        drop(tally);

        let now = footprint::at_rest(&Handle::current(), ALLOCATOR, &ends).await;
        rounds += 1;
        println!("{:>4} s: {told}; {troubles}; {now}", began.elapsed().as_secs());
        match &first {
            None if rounds < WARM_UP => {}
            None => first = Some(now),
            Some(first) => now.assert_no_more_than(first),
        }
    }
    ends.close().await;
}
