//! What this process holds when everybody rests: both pools and one of the servers are in it.

use std::alloc::System;
use std::fmt;
use std::time::{Duration, Instant};

use stats_alloc::StatsAlloc;
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::ends::Ends;

/// Tables keep the size that they once needed, within their bounds. A leak of two bytes a call shows within a minute.
const TOLERATED: usize = 256 * 1024;
/// So long after the last call nothing is in a cache any more, and memory that is kept to be used again is given back.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than any answer is remembered, or any dead connection not given up.
const REST: Duration = Duration::from_millis(2500);

/// All of it must be no more later than it was at first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// On the heap, and in use.
    bytes: usize,
    descriptors: usize,
    tasks: usize,
    /// Calls in the pools' tables.
    calls: usize,
}

impl Footprint {
    fn now(runtime: &Handle, allocator: &StatsAlloc<System>, ends: &Ends) -> Self {
        let heap = allocator.stats();
        let in_use = |pool: &steadfast::Pool| pool.status().in_flight + pool.status().waiting;
        Self {
            bytes: heap.bytes_allocated.saturating_sub(heap.bytes_deallocated),
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            tasks: runtime.metrics().num_alive_tasks(),
            calls: ends.pools.iter().map(in_use).sum(),
        }
    }

    fn is_no_more_than(&self, other: &Self) -> bool {
        self.bytes <= other.bytes + TOLERATED
            && self.descriptors <= other.descriptors
            && self.tasks <= other.tasks
            && self.calls <= other.calls
    }

    pub(crate) fn assert_no_more_than(&self, first: &Self) {
        assert!(self.is_no_more_than(first), "at first: {first}\nand now:  {self}");
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, descriptors, tasks, calls } = self;
        let bytes = bytes / 1024;
        write!(f, "{bytes} KiB, {descriptors} descriptors, {tasks} tasks, {calls} calls")
    }
}

/// When it has not become less for [`REST`]: connections that are dead are given up, answers forgotten.
pub(crate) async fn at_rest(
    runtime: &Handle,
    allocator: &StatsAlloc<System>,
    ends: &Ends,
) -> Footprint {
    let began = Instant::now();
    let mut least = Footprint::now(runtime, allocator, ends);
    let mut since = Instant::now();
    while since.elapsed() < REST {
        assert!(began.elapsed() < PATIENCE, "it does not come to rest: {least}");
        sleep(Duration::from_millis(50)).await;
        let now = Footprint::now(runtime, allocator, ends);
        let is_less = now.bytes + 4096 < least.bytes
            || now.descriptors < least.descriptors
            || now.tasks < least.tasks;
        if is_less {
            (least, since) = (now, Instant::now());
        }
    }
    least
}
