//! The same program with an allocator that counts. A binary of its own, so that counting slows down nobody whose time is
//! measured: it would cost those most who allocate most.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() -> std::process::ExitCode {
    peers::run(|| {
        let so_far = ALLOCATOR.stats();
        Some((so_far.allocations + so_far.reallocations) as u64)
    })
}
