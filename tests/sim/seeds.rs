//! Which seeds are run, over all processors, and which one failed.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::books::Seen;

/// Without `STEADFAST_SEED` and `STEADFAST_SEQUENCES` so many, from 0.
pub(crate) fn run(usually: u64, simulate: impl Fn(u64) -> Seen + Sync) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let seeds: Range<u64> = match (number("STEADFAST_SEED"), number("STEADFAST_SEQUENCES")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(usually),
    };
    let (next, seen) = (AtomicU64::new(seeds.start), Mutex::new(Seen::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let Ok(run) = catch_unwind(AssertUnwindSafe(|| simulate(seed))) else {
                eprintln!("to see it again: STEADFAST_SEED={seed}");
                // The others need not go on.
                next.store(seeds.end, Ordering::Relaxed);
                panic!("seed {seed} failed");
            };
            *seen.lock().unwrap() += run;
        }
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(work);
        }
    });
    let seen = seen.into_inner().unwrap();
    eprintln!("{} seeds: {seen:?}", seeds.end - seeds.start);
    seen.check(seeds.end - seeds.start);
}
